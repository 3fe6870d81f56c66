//! Evidence in requests: it belongs to one order of one subscriber.

use super::tpm::{Device, request, request_by, stated, strict};
use super::*;
use countersign_attestation::request::AcceptedMethods;
use countersign_testkit_evidence::endorsement::Endorsement;
use countersign_testkit_evidence::tpm2::Tpm2;
use countersign_testkit_evidence::{Key, Kind};

#[tokio::test]
async fn a_key_whose_origin_is_proved_gets_a_certificate_and_a_report() {
    let mut scene = strict();
    scene.policy.methods = AcceptedMethods::unrestricted()
        .and(7, UnixSeconds::new(START + 86_400).unwrap())
        .unwrap();
    let ca = scene.ca();
    let device = Device::new();
    let order = open(&ca).await;
    let chain = device.certified(&ca, &order).await;
    let body = request(
        &scene,
        &device,
        &order,
        Some(device.evidence(&order)),
        &chain,
    );
    let answer = submit(&ca, &order, &body).await;
    assert_eq!(answer.0, StatusCode::OK, "{:#}", answer.1);
    let leaf = &chain_of(&answer.1)[0];
    assert_eq!(leaf.spki_der(), device.tpm.key.spki());

    let path = format!("/orders/{}", order["order"].as_str().unwrap());
    let (_, shown) = call(&ca, "GET", &path, "").await;
    let result = &shown["appraisal"];
    assert_eq!(result["verdict"], "accept");
    assert_eq!(result["freshness"], "pass");
    assert_eq!(result["supports_methods"], json!([7]));
    for fact in ["genuine", "generated_in_device", "sign_only"] {
        assert_eq!(result["facts"][fact], "yes", "{fact}");
    }
    assert_eq!(result["facts"]["exportable"], "never");
    let ak_hash = hex::encode(sha256(&chain[0]));
    assert_eq!(result["facts"]["attestation_key_certificate"], ak_hash);
    // Which TPM it is concerns the CA, not whoever knows the order.
    let ek_hash = hex::encode(sha256(device.ek.spki()));
    assert!(!shown.to_string().contains(&ek_hash));

    let report = scene.dir.path().join("reports").join(leaf.serial_hex());
    let read = |name: &str| std::fs::read(report.join(name)).unwrap();
    let json = |name: &str| serde_json::from_slice::<Value>(&read(name)).unwrap();
    assert_eq!(&json("result.json"), result);
    let record = json("record.json");
    assert_eq!(record["subscriber"], "acme");
    assert_eq!(record["lint"]["findings"], json!([]));
    assert_eq!(record["attestation_key"]["endorsement_key_sha256"], ek_hash);
    let page = String::from_utf8(read("report.html")).unwrap();
    for wanted in ["ACCEPT", "tpm-ak-chain", &ak_hash, "NPCT75x"] {
        assert!(page.contains(wanted), "{wanted}");
    }
    let decoded = |name: &str| STANDARD.decode(body[name].as_str().unwrap()).unwrap();
    assert_eq!(read("request.csr"), decoded("csr"));
    assert_eq!(read("statement.der"), decoded("statement"));
    assert_eq!(read("certificate.der"), leaf.der());
}

#[tokio::test]
async fn another_subscriber_s_request_and_evidence_are_refused() {
    let scene = strict();
    let ca = scene.ca();
    let device = Device::new();
    let first = open_for(&ca, "acme").await;
    let chain = device.certified(&ca, &first).await;
    let body = request(
        &scene,
        &device,
        &first,
        Some(device.evidence(&first)),
        &chain,
    );
    // Before the first is issued, and after it.
    let second = open_for(&ca, "rival").await;
    refused_for(
        &submit(&ca, &second, &body).await,
        &["order-matches", "freshness", "attestation-key-of-order"],
    );
    assert_eq!(submit(&ca, &first, &body).await.0, StatusCode::OK);
    refused_for(
        &submit(&ca, &second, &body).await,
        &[
            "order-matches",
            "order-unused",
            "freshness",
            "attestation-key-of-order",
        ],
    );
    // The rival's service states the same key for the rival's order: the evidence stays another's.
    let own = stated(&scene, &device, &second);
    let restated = request_by(&scene, &own, &device, Some(device.evidence(&first)), &chain);
    refused_for(
        &submit(&ca, &second, &restated).await,
        &["freshness", "attestation-key-of-order"],
    );
    // A TPM of the rival's own, and the first subscriber's evidence.
    let own_device = Device::new();
    let own_chain = own_device.certified(&ca, &second).await;
    let mut both = chain.clone();
    both.extend(own_chain);
    let mixed = request_by(&scene, &own, &device, Some(device.evidence(&first)), &both);
    refused_for(
        &submit(&ca, &second, &mixed).await,
        &["freshness", "attestation-key-of-order"],
    );
}

#[tokio::test]
async fn evidence_from_another_order_is_refused() {
    let scene = strict();
    let ca = scene.ca();
    let device = Device::new();
    let first = open(&ca).await;
    device.certified(&ca, &first).await;
    let second = open(&ca).await;
    let chain = device.certified(&ca, &second).await;
    let stale = request(
        &scene,
        &device,
        &second,
        Some(device.evidence(&first)),
        &chain,
    );
    let answer = submit(&ca, &second, &stale).await;
    refused_for(&answer, &["freshness"]);
    let nonce = STANDARD.decode(second["nonce"].as_str().unwrap()).unwrap();
    let seen = answer.1["reasons"][0]["seen"].as_str().unwrap();
    assert!(
        seen.ends_with(&format!("{} given", hex::encode(nonce))),
        "{seen}"
    );
    // None at all is no proof either.
    let bare = request(&scene, &device, &second, None, &[]);
    refused_for(&submit(&ca, &second, &bare).await, &["device-evidence"]);
    let fresh = request(
        &scene,
        &device,
        &second,
        Some(device.evidence(&second)),
        &chain,
    );
    assert_eq!(submit(&ca, &second, &fresh).await.0, StatusCode::OK);
}

#[tokio::test]
async fn an_attestation_key_certificate_of_another_order_is_refused() {
    let scene = strict();
    let ca = scene.ca();
    let device = Device::new();
    let first = open_for(&ca, "acme").await;
    let first_chain = device.certified(&ca, &first).await;
    let second = open_for(&ca, "rival").await;
    // The same attestation key; the certificate is the first order's. Evidence is the second's.
    let evidence = || Some(device.evidence(&second));
    let borrowed = request(&scene, &device, &second, evidence(), &first_chain);
    refused_for(
        &submit(&ca, &second, &borrowed).await,
        &["attestation-key-of-order"],
    );
    // Also where the order has certified a key of its own: the one that signed counts.
    let other = Device {
        ek: Endorsement::new(Kind::P256),
        tpm: Tpm2 {
            ak: Key::named(Kind::P256, "other ak"),
            ..Tpm2::default()
        },
    };
    let other_chain = other.certified(&ca, &second).await;
    let mut both = first_chain.clone();
    both.extend(other_chain);
    let borrowed = request(&scene, &device, &second, evidence(), &both);
    refused_for(
        &submit(&ca, &second, &borrowed).await,
        &["attestation-key-of-order"],
    );
    // A certificate by an attestation CA that is nobody's here.
    let foreign = request(
        &scene,
        &device,
        &second,
        evidence(),
        &device.tpm.certificates(),
    );
    let (status, problem) = submit(&ca, &second, &foreign).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    let named = |check: &str| {
        let reasons = problem["reasons"].as_array().unwrap();
        reasons.iter().any(|r| r["check"] == check)
    };
    assert!(
        named("tpm-ak-chain") && named("policy-genuine"),
        "{problem:#}"
    );
}

#[tokio::test]
async fn a_statement_for_another_ca_is_refused_whatever_the_evidence() {
    let scene = strict();
    let ca = scene.ca();
    let device = Device::new();
    let order = open(&ca).await;
    let chain = device.certified(&ca, &order).await;
    let mut tbs = stated(&scene, &device, &order);
    tbs.audience = "real-ca".into();
    let body = request_by(&scene, &tbs, &device, Some(device.evidence(&order)), &chain);
    refused_for(&submit(&ca, &order, &body).await, &["statement-audience"]);
}

#[tokio::test]
async fn a_method_counts_until_its_last_day_is_over() {
    let mut scene = strict();
    let end = UnixSeconds::new(START - 1).unwrap();
    scene.policy.methods = AcceptedMethods::unrestricted()
        .and(7, end)
        .and_then(|m| m.and(2, UnixSeconds::new(START + 10).unwrap()))
        .unwrap();
    let ca = scene.ca();
    let device = Device::new();
    let order = open(&ca).await;
    let chain = device.certified(&ca, &order).await;
    let body = request(
        &scene,
        &device,
        &order,
        Some(device.evidence(&order)),
        &chain,
    );
    let answer = submit(&ca, &order, &body).await;
    refused_for(&answer, &["accepted-method"]);
    let seen = answer.1["reasons"][0]["seen"].as_str().unwrap();
    assert!(
        seen.starts_with(&format!("method 7 was accepted until {end}, now ")),
        "{seen}"
    );
}

#[tokio::test]
async fn a_software_key_passes_by_its_flag_and_by_no_method() {
    let mut scene = Scene::new();
    scene.policy.methods = AcceptedMethods::unrestricted()
        .and(2, UnixSeconds::new(START + 10).unwrap())
        .unwrap();
    let ca = scene.ca();
    let order = open(&ca).await;
    let body = scene.submission(&scene.statement(&order));
    assert_eq!(submit(&ca, &order, &body).await.0, StatusCode::OK);
    let path = format!("/orders/{}", order["order"].as_str().unwrap());
    let (_, shown) = call(&ca, "GET", &path, "").await;
    assert_eq!(shown["appraisal"]["supports_methods"], json!([]));
    // Where evidence is demanded, the flag is not enough.
    scene.policy.require_device_evidence = true;
    let ca = scene.ca();
    let order = open(&ca).await;
    let body = scene.submission(&scene.statement(&order));
    refused_for(&submit(&ca, &order, &body).await, &["device-evidence"]);
}
