//! Evidence of a key, from the command line to the log: appraised before it counts, and demanded.
//!
//! The keys are SoftHSM's and say so for ever; the evidence is written for them under a test root that
//! the operator trusts. What hardware keys need is tested in crates/signing, with a token that says it
//! is hardware.

use super::{export, reasons, scene, state};
use crate::support::cli::Cli;
use crate::support::leaves::of_type;
use crate::support::{SUBJECT, Stack, text};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_testkit_evidence::yubihsm2::YubiHsm2;
use countersign_x509::hash::sha256;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Makes a service trust the test root: for a configuration file.
pub fn trusted(folder: &Path) -> String {
    let root = folder.join("test-root.der");
    std::fs::write(&root, YubiHsm2::default().root()).expect("written");
    format!("\n[attestation]\ntrust_anchors = [{root:?}]\n")
}

/// Evidence as a YubiHSM 2 writes it, for a key by its SubjectPublicKeyInfo.
pub fn evidence_for(spki: &[u8]) -> Vec<Vec<u8>> {
    let device = YubiHsm2::default();
    let mut attestation = device.leaf();
    attestation.spki = spki.to_vec();
    let attestation = attestation.sign(&device.device_key);
    vec![attestation, device.device(), device.ca()]
}

/// A key's SubjectPublicKeyInfo.
pub fn spki(admin: &Cli, key: &str) -> Vec<u8> {
    let shown = admin.json(&["keys", "show", key]);
    let spki = shown["spki"].as_str().expect("spki");
    STANDARD.decode(spki).expect("base64")
}

fn hash(bytes: &[u8]) -> String {
    sha256(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// A folder with files of evidence.
fn folder_of(stack: &Stack, name: &str, files: &[Vec<u8>]) -> PathBuf {
    let folder = stack.folder(name);
    for (i, bytes) in files.iter().enumerate() {
        std::fs::write(folder.join(format!("{i}.der")), bytes).expect("written");
    }
    folder
}

/// A refusal by policy, and the names of the checks it gives.
fn refused(admin: &Cli, args: &[&str]) -> Vec<String> {
    let out = admin.ends(3, &[&["--json"], args].concat());
    let said: Value = serde_json::from_str(&out.stdout).expect("JSON");
    assert_eq!(said["error"]["code"], "appraisal-refused", "{said}");
    let name = |r: &&str| r.split(':').next().unwrap_or_default().to_owned();
    reasons(&said).iter().map(name).collect()
}

/// The whole story for one tenant.
pub fn story(stack: &Stack, tenant: &str) {
    let admin = stack.tenant(tenant);
    let key = stack.key(&admin, &format!("{tenant}/release"), "ec-p256");
    let other = stack.key(&admin, &format!("{tenant}/other"), "ec-p256");
    let own = evidence_for(&spki(&admin, &key));
    let at =
        |name: &str, files: &[Vec<u8>]| text(&folder_of(stack, &format!("{tenant}-{name}"), files));
    let none = json!({"key": key, "files": []});
    assert_eq!(admin.json(&["keys", "evidence", "show", &key]), none);

    // What is refused names the check and changes nothing.
    let mut altered = own.clone();
    *altered[0].last_mut().expect("a byte") ^= 1;
    for (name, files, check) in [
        ("garbage", vec![b"no evidence".to_vec()], "device-evidence"),
        ("other", evidence_for(&spki(&admin, &other)), "key-bound"),
        ("altered", altered, "yubihsm2-chain"),
        ("half", own[..1].to_vec(), "yubihsm2-chain"),
    ] {
        let folder = at(name, &files);
        let checks = refused(&admin, &["keys", "evidence", "add", &key, &folder]);
        assert!(checks.iter().any(|c| c == check), "{name}: {checks:?}");
        assert_eq!(admin.json(&["keys", "evidence", "show", &key]), none);
    }
    let missing = text(&stack.path("nothing-there"));
    admin.ends(64, &["keys", "evidence", "add", &key, &missing]);

    // Its own is taken, shown, and goes along.
    let folder = at("own", &own);
    let added = admin.json(&["keys", "evidence", "add", &key, &folder]);
    let kept = admin.json(&["keys", "evidence", "show", &key]);
    assert_eq!(added, kept);
    let hashes: Vec<_> = own.iter().map(|f| hash(f)).collect();
    let shown: Vec<_> = kept["files"].as_array().expect("files").iter().collect();
    let shown: Vec<_> = shown
        .iter()
        .map(|f| f["sha256"].as_str().expect("a hash"))
        .collect();
    assert_eq!(shown, hashes);
    assert_eq!(kept["result"]["verdict"], "accept");
    assert_eq!(kept["result"]["software"], "yes", "marked for ever");
    let said = admin.ok(&["keys", "evidence", "show", &key]);
    assert!(said.says("ACCEPT") && said.says(&hashes[0]), "{said:?}");
    let request = stack.path(&format!("{tenant}-request"));
    export(&admin, &key, &request, &[]);
    for (i, file) in own.iter().enumerate() {
        let out = std::fs::read(request.join(format!("evidence-{i}.bin"))).expect("evidence");
        assert_eq!(&out, file);
    }
    // Whoever holds the folder finds what the service found.
    let root = stack.path(&format!("{tenant}-root.der"));
    std::fs::write(&root, YubiHsm2::default().root()).expect("written");
    let (csr, root) = (text(&request.join("request.csr.pem")), text(&root));
    let evidence: Vec<_> = (0..3)
        .map(|i| text(&request.join(format!("evidence-{i}.bin"))))
        .collect();
    let mut verify = vec![
        "attestation",
        "verify",
        "--csr",
        &csr,
        "--trust-anchors",
        &root,
        "--evidence",
    ];
    verify.extend(evidence.iter().map(String::as_str));
    admin.ok(&verify);

    // A method is demanded: `allow_software` is on, and no request of a software key leaves.
    admin.ok(&["policy", "set", "--require", "method=1"]);
    assert_eq!(
        admin.json(&["policy", "show"])["evidence"],
        json!(["method=1"])
    );
    assert_eq!(state(&admin, &other), "generated");
    let order = [
        &["certificate", "order", &other, "--ca", "demo"][..],
        &SUBJECT,
    ]
    .concat();
    let nowhere = text(&stack.path(&format!("{tenant}-nowhere")));
    let by_hand = [
        "csr",
        "export",
        &other,
        "--out",
        &nowhere,
        "--ca-audience",
        "x",
    ];
    for args in [order.clone(), [&by_hand[..], &SUBJECT].concat()] {
        let checks = refused(&admin, &args);
        for check in ["software-key-methods", "policy-method", "device-evidence"] {
            assert!(checks.iter().any(|c| c == check), "{checks:?}");
        }
    }
    assert!(!Path::new(&nowhere).exists());
    assert_eq!(state(&admin, &other), "generated");
    // Another rule is changed: what was demanded stays.
    admin.ok(&["policy", "set", "--allow-software", "true"]);
    refused(&admin, &order);
    admin.ends(64, &["policy", "set", "--require", "sign-onyl"]);
    admin.ends(
        64,
        &["policy", "set", "--require", "origin", "--require", "fresh"],
    );
    admin.ok(&["policy", "set", "--require", "origin"]);
    assert_eq!(admin.json(&["policy", "show"])["evidence"], json!([]));
    admin.ok(&order);
    assert_eq!(state(&admin, &other), "active");

    // All of it stands in the tenant's log, and two judges read it.
    let log = stack.path(&format!("{tenant}-log"));
    let denied = |leaves: &[Value], what: &str, check: &str| {
        let all = of_type(leaves, "denied");
        all.iter().any(|l| {
            let reason = l["reason"].as_str().unwrap_or_default();
            reason.starts_with(what) && reason.contains(check)
        })
    };
    let leaves = admin.tenant_leaves_until(&log, "the refusals", |l| {
        denied(l, "evidence:", "key-bound") && denied(l, "appraisal:", "software-key-methods")
    });
    let added = of_type(&leaves, "evidence-added");
    assert_eq!(added.len(), 1, "what was refused is not there");
    assert_eq!(added[0]["formats"], json!(["yubihsm2"]));
    assert_eq!(
        added[0]["evidence"].as_array().expect("hashes")[1..],
        json!(hashes).as_array().expect("hashes")[..]
    );
    let requested = of_type(&leaves, "certificate-requested");
    assert_eq!(requested[0]["evidence"], json!(hashes));
    assert!(requested[1].get("evidence").is_none(), "{requested:?}");
    let set = of_type(&leaves, "policy-set");
    assert!(set.iter().any(|l| l["evidence"] == json!(["method=1"])));
    admin.ok(&["log", "audit", &text(&log)]);
    let judged = std::process::Command::new("python3")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("verify_log.py"))
        .arg(&log)
        .output()
        .expect("python runs");
    assert!(judged.status.success(), "{judged:?}");
}

#[test]
fn evidence_is_appraised_before_it_counts_and_demanded_where_the_policy_says_so() {
    story(&scene().stack, "enrol-evidence");
}
