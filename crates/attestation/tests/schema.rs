//! The published JSON Schemas, against what the verifier really says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
mod json_schema;

use common::Ask;
use countersign_attestation::verify::Policy;
use countersign_testkit_evidence::yubihsm2::YubiHsm2;
use json_schema::problems;
use serde_json::{Value, json};

fn schema(name: &str) -> Value {
    let path = format!("{}/../../docs/ca/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Results of every verdict and of most members.
fn results() -> Vec<Value> {
    let good = YubiHsm2::default();
    let weak = YubiHsm2 {
        firmware: [2, 1, 2],
        device_firmware: None,
        fips: Some(5),
        ..YubiHsm2::default()
    };
    let wrapped = YubiHsm2 {
        capabilities: 1 << 16,
        ..YubiHsm2::default()
    };
    let mut out = Vec::new();
    for e in [&good, &weak, &wrapped] {
        let mut ask = Ask::key(e.key.spki(), e.root());
        let mut files = e.files();
        files.push(b"unused".to_vec());
        out.push(ask.about(&files));
        out.push(ask.about(&files[..1]));
        ask.require = vec!["sign-only", "fips=140-2:2", "method=2", "serial=1", "fresh"];
        ask.nonce = Some(vec![7; 8]);
        out.push(ask.about(&files));
        ask.subject = b"no key".to_vec();
        out.push(ask.about(&files));
    }
    let values = out.iter().map(|r| serde_json::to_value(r).unwrap());
    values.collect()
}

#[test]
fn results_are_as_the_schema_says() {
    let schema = schema("attestation-result.schema.json");
    let results = results();
    for verdict in ["accept", "reject", "unverifiable"] {
        assert!(results.iter().any(|r| r["verdict"] == verdict), "{verdict}");
    }
    for result in &results {
        assert_eq!(
            problems(&schema, result),
            Vec::<String>::new(),
            "{result:#}"
        );
    }
}

#[test]
fn a_result_that_is_not_as_the_schema_says_is_seen() {
    let schema = schema("attestation-result.schema.json");
    let good = results().remove(0);
    let spoil = |change: &dyn Fn(&mut Value)| {
        let mut bad = good.clone();
        change(&mut bad);
        problems(&schema, &bad)
    };
    let changes: [&dyn Fn(&mut Value); 8] = [
        &|r| r["verdict"] = json!("maybe"),
        &|r| r["version"] = json!(2),
        &|r| r["facts"]["genuine"] = json!(true),
        &|r| r["facts"]["serial"]["value"] = json!(7),
        &|r| r["inputs"][0]["sha256"] = json!("00"),
        &|r| r["appraised_at"] = json!("now"),
        &|r| r["more"] = json!(1),
        &|r| {
            r.as_object_mut().unwrap().remove("checks");
        },
    ];
    for (i, change) in changes.iter().enumerate() {
        assert!(!spoil(change).is_empty(), "change {i} is not seen");
    }
}

#[test]
fn policies_are_as_the_schema_says() {
    let schema = schema("attestation-policy.schema.json");
    let default = serde_json::to_value(Policy::origin()).unwrap();
    assert_eq!(problems(&schema, &default), Vec::<String>::new());
    let full = json!({
        "version": 1, "name": "all", "generated-in-device": false, "exportable": ["never", "wrapped"],
        "sign-only": true, "serial": ["1"], "formats": ["yubihsm2"], "vendors": ["Yubico"], "certified": ["140-3:2", "cc:4"],
        "methods": [2], "fresh": true, "max-age-s": 86400, "refuse-weaknesses": ["CVE-2024-45678"],
    });
    assert_eq!(problems(&schema, &full), Vec::<String>::new());
    let policy = Policy::from_json(&full.to_string()).unwrap();
    assert_eq!(serde_json::to_value(&policy).unwrap(), full);
    // What the schema refuses, the reader refuses.
    for (member, value) in [
        ("exportable", json!(["unknown"])),
        ("certified", json!(["140-4:2"])),
        ("methods", json!([8])),
        ("version", json!(2)),
        ("max-age-s", json!(0)),
        ("sign_only", json!(true)),
    ] {
        let mut bad = full.clone();
        bad[member] = value;
        assert!(!problems(&schema, &bad).is_empty(), "{member}");
        assert!(Policy::from_json(&bad.to_string()).is_err(), "{member}");
    }
}
