//! The logs: downloaded, audited elsewhere, tampered with in every way we can think of.

mod receipts;
mod rewound;
mod served;
mod tamper;

use crate::support::cli::Cli;
use crate::support::judges::{cms_request, copy_dir, leaves, verify_log_py};
use crate::support::{REPOSITORY, Stack, copy_exe, text, third_party_exe};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_core::HashAlgorithm;
use countersign_testkit::programs::wait_until;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A command line on another machine: nothing remembered, no service to ask.
fn elsewhere(stack: &Stack, name: &str) -> Cli {
    stack
        .cli(&format!("elsewhere-{name}"))
        .env("COUNTERSIGN_SERVER", "https://127.0.0.1:9")
        .env("COUNTERSIGN_CA_FILE", "/nonexistent")
}

/// A tenant that signed two files: its admin, the folder with the files, that with the logs, the key.
fn signed_tenant(stack: &Stack, tenant: &str) -> (Cli, Cli, PathBuf, PathBuf, String) {
    let admin = stack.tenant(tenant);
    let key = stack.signer(&admin, &format!("{tenant}/release"), "ec-p256");
    let files = stack.folder(&format!("{tenant}/files"));
    let job = stack.job(&format!("{tenant}-job"), REPOSITORY);
    let (a, b) = (
        copy_exe(&files, "a.exe", "t64.exe"),
        copy_exe(&files, "b.exe", "t32.exe"),
    );
    job.ok(&[
        "sign",
        "--signer",
        &format!("{tenant}/release"),
        &text(&a),
        &text(&b),
    ]);
    let logs = stack.path(&format!("{tenant}/logs"));
    settled(&admin, &key, 2);
    admin.ok(&["log", "download", "--all", "--out", &text(&logs)]);
    (admin, job, files, logs, key)
}

/// Waits until the outcomes of all authorisations are in the log: they follow the answer.
fn settled(admin: &Cli, key: &str, signatures: u64) {
    wait_until("outcomes", Duration::from_secs(20), || {
        let shown = admin.json(&["keys", "show", key]);
        // log-opened, the certificate request with its outcome, two for each signature.
        shown["log_size"].as_u64() == Some(3 + 2 * signatures)
    })
    .expect("the outcomes are written");
}

/// The folder of the tenant's own log among all that were downloaded.
fn tenant_log(logs: &Path, key: &str) -> PathBuf {
    std::fs::read_dir(logs)
        .expect("logs")
        .map(|e| e.expect("entry").path())
        .find(|p| !p.ends_with(key))
        .expect("the tenant's log")
}

fn line(file: &Path) -> String {
    std::fs::read_to_string(file)
        .expect("file")
        .trim()
        .to_owned()
}

#[test]
fn a_log_is_copied_piece_by_piece_and_audited_on_another_machine() {
    let stack = Stack::shared();
    let (admin, job, files, logs, key) = signed_tenant(stack, "log-copy");
    let dir = logs.join(&key);
    let audit = |cli: &Cli, dir: &Path, more: &[&str], code: i32| -> Value {
        let dir = text(dir);
        let out = cli.ends(
            code,
            &[&["--json", "log", "audit", &dir][..], more].concat(),
        );
        serde_json::from_str(&out.stdout).expect("JSON")
    };
    let report = audit(
        &admin,
        &dir,
        &[
            "--receipts",
            &text(&files),
            "--files",
            &text(&files.join("a.exe")),
            &text(&files.join("b.exe")),
        ],
        0,
    );
    assert_eq!(report["trust"], "pinned");
    assert_eq!(report["log"]["counts"]["authorisations"], 3);
    assert_eq!(report["log"]["counts"]["signed"], 3);
    assert_eq!(
        report["receipts"]["paired"].as_array().map(Vec::len),
        Some(2)
    );
    assert_eq!(
        report["receipts"]["signed_without_receipt"],
        serde_json::json!([])
    );
    assert_eq!(report["files"].as_array().map(Vec::len), Some(2));
    assert_eq!(report["device_counter"], "no device counter");

    // What is new is fetched, and nothing else; the audit sees that the history goes on.
    let again = admin.json(&["log", "download", "--key", &key, "--out", &text(&dir)]);
    assert_eq!(again[0]["new_files"], 0);
    let c = copy_exe(&files, "c.exe", "w64.exe");
    job.ok(&["sign", "--signer", "log-copy/release", &text(&c)]);
    settled(&admin, &key, 3);
    let before = std::fs::read(dir.join("checkpoint")).expect("checkpoint");
    let more = admin.json(&["log", "download", "--key", &key, "--out", &text(&dir)]);
    assert_eq!(
        (&more[0]["new_files"], &more[0]["size"]),
        (&2.into(), &9.into())
    );
    let report = audit(&admin, &dir, &["--receipts", &text(&files)], 0);
    assert!(
        report["log"]["consistent_with"]
            .as_array()
            .is_some_and(|h| h.len() >= 2),
        "{report}"
    );
    // Another log does not go into this folder.
    admin.ends(64, &["log", "download", "--out", &text(&dir)]);

    // A copy, a machine that knows nothing, no service.
    let copy = stack.folder("log-copy/elsewhere");
    copy_dir(&dir, &copy);
    copy_dir(&files, &copy);
    let (dir, files) = (copy.join(&key), copy.join("files"));
    let vkey = line(&dir.join("vkey"));
    let cli = elsewhere(stack, "copy");
    let receipts = text(&files);
    let report = audit(
        &cli,
        &dir,
        &[
            "--vkey",
            &vkey,
            "--receipts",
            &receipts,
            "--files",
            &text(&files.join("c.exe")),
        ],
        0,
    );
    assert_eq!(report["trust"], "given");
    // Without a key of one's own the word is the folder's, and that is said.
    let out = elsewhere(stack, "copy-2").ok(&["log", "audit", &text(&dir)]);
    assert!(out.says("came with the folder"), "{out:?}");
    let old = copy.join("old-checkpoint");
    std::fs::write(&old, before).expect("file");
    audit(&cli, &dir, &["--vkey", &vkey, "--since", &text(&old)], 0);
    audit(
        &cli,
        &dir,
        &[
            "--vkey",
            &vkey,
            "--files",
            &text(&third_party_exe("t64-arm.exe")),
        ],
        1,
    );
    let (code, said) = verify_log_py(
        &dir,
        &[
            "--vkey",
            &vkey,
            "--previous",
            &text(&old),
            "--receipts",
            &receipts,
        ],
    );
    assert_eq!(code, 0, "{said}");
    // Another log's key says nothing about this one.
    let other = line(&tenant_log(&logs, &key).join("vkey"));
    let undecided =
        elsewhere(stack, "copy-3").run(&["log", "audit", &text(&dir), "--vkey", &other]);
    assert!([1, 2].contains(&undecided.code), "{undecided:?}");

    // The tenant's log vouches for the key's.
    let own = tenant_log(&logs, &key);
    wait_until("a key checkpoint", Duration::from_secs(20), || {
        admin.ok(&["log", "download", "--out", &text(&own)]);
        leaves(&own).iter().any(|l| matches!(&l.body, countersign_signing_log::LeafBody::KeyCheckpoint(c) if c.key == key && c.size >= 5))
    })
    .expect("key checkpoints reach the tenant's log");
    audit(&admin, &own, &[], 0);
    audit(&admin, &logs.join(&key), &["--tenant-log", &text(&own)], 0);
    assert_eq!(verify_log_py(&own, &[]).0, 0);
    let shown = admin.json(&["log", "show", &text(&dir), "--from", "3", "--limit", "2"]);
    assert_eq!(shown["leaves"].as_array().map(Vec::len), Some(2));
    assert_eq!(shown["leaves"][0]["leaf"]["type"], "authorisation");
    assert!(
        shown["leaves"][0]["details"]["artifact"]
            .as_str()
            .is_some_and(|a| a.starts_with("sha-256:")),
        "{shown}"
    );
}

#[test]
fn the_tenants_log_tells_everything_and_opens() {
    let stack = Stack::shared();
    let tenant = "log-tells";
    let admin = stack.tenant(tenant);
    let signer = format!("{tenant}/release");
    let key = stack.signer(&admin, &signer, "ec-p256");
    let member = [
        "--issuer",
        stack.people.url(),
        "--subject",
        "auntie",
        "--role",
        "auditor",
    ];
    admin.ok(&[&["members", "add"][..], &member].concat());
    admin.ok(&[&["members", "remove"][..], &member].concat());
    admin.ok(&[
        "policy",
        "set",
        "--allow-software",
        "true",
        "--require-mfa",
        "true",
    ]);
    let folder = stack.folder(tenant);
    let exe = copy_exe(&folder, "a.exe", "t64.exe");
    stack
        .job("log-tells-job", REPOSITORY)
        .ok(&["sign", "--signer", &signer, &text(&exe)]);
    let other = text(&copy_exe(&folder, "b.exe", "t64.exe"));
    stack
        .job("log-tells-thief", "666")
        .ends(3, &["sign", "--signer", &signer, &other]);
    // One who has business at another signer. The command line stops at the certificate; whoever asks for a signature directly is refused there.
    let raw = stack.raw();
    stack.let_in(&admin, tenant, "666");
    let thief = stack.service_token(tenant, "666");
    for _ in 0..3 {
        let body = cms_request(b"x", HashAlgorithm::Sha256);
        let answer = raw.sign(tenant, "release", &thief, &body);
        assert_eq!(answer.problem(), "denied");
    }
    let job = stack.service_token(tenant, REPOSITORY);
    let mut bad = cms_request(b"x", HashAlgorithm::Sha256);
    bad["items"][0]["content"]["signed_attributes"] = STANDARD.encode(b"\x31\x00").into();
    assert_eq!(
        raw.sign(tenant, "release", &job, &bad).problem(),
        "content-refused"
    );
    admin.ends(
        3,
        &["certificate", "install", &key, "--chain", &stack.ca_roots()],
    );
    let grants = admin.json(&["grants", "list"]);
    admin.ok(&[
        "grants",
        "remove",
        grants[0]["id"].as_str().expect("grant id"),
    ]);
    admin.ok(&["keys", "suspend", &key, "--reason", "a test of the log"]);

    let wanted: BTreeSet<&str> = [
        "log-opened",
        "tenant-created",
        "token-created",
        "issuer-registered",
        "member-added",
        "member-removed",
        "policy-set",
        "signer-created",
        "key-generated",
        "key-appraised",
        "key-state",
        "certificate-requested",
        "certificate-installed",
        "certificate-refused",
        "certificate-status",
        "grant-added",
        "grant-removed",
        "denied",
        "content-refused",
        "key-checkpoint",
        "token-exchanged",
    ]
    .into();
    let dir = stack.path("log-tells/log");
    let mut shown = Value::Null;
    let seen = |shown: &Value| -> BTreeSet<String> {
        let all = shown["leaves"].as_array().expect("leaves");
        all.iter()
            .map(|l| l["leaf"]["type"].as_str().expect("type").to_owned())
            .collect()
    };
    let complete = wait_until("all kinds of leaves", Duration::from_secs(20), || {
        admin.ok(&["log", "download", "--out", &text(&dir)]);
        shown = admin.json(&["log", "show", &text(&dir)]);
        wanted.iter().all(|w| seen(&shown).contains(*w))
    });
    assert!(
        complete.is_ok(),
        "{:?}",
        wanted
            .iter()
            .filter(|w| !seen(&shown).contains(**w))
            .collect::<Vec<_>>()
    );
    admin.ok(&["log", "audit", &text(&dir)]);
    let (code, said) = verify_log_py(&dir, &[]);
    assert_eq!(code, 0, "{said}");

    let of = |kind: &str| -> Vec<&Value> {
        shown["leaves"]
            .as_array()
            .expect("leaves")
            .iter()
            .filter(|l| l["leaf"]["type"] == kind)
            .collect()
    };
    // Every commitment in every leaf opens.
    for leaf in shown["leaves"].as_array().expect("leaves") {
        for label in ["subject", "caller", "by", "detail"] {
            let committed = leaf["leaf"][label].as_str().is_some_and(|v| v.len() == 64);
            let opened = if label == "by" { "caller" } else { label };
            // `worker-event` has a plain text of that name.
            if committed && leaf["leaf"]["type"] != "worker-event" {
                assert!(leaf["details"][opened].is_string(), "{label} of {leaf}");
            }
        }
    }
    assert_eq!(of("member-removed")[0]["details"]["subject"], "auntie");
    assert!(
        of("member-removed")[0]["details"]["caller"]
            .as_str()
            .is_some_and(|c| c.contains("log-tells-admin"))
    );
    assert!(
        of("key-state")
            .iter()
            .any(|l| l["leaf"]["to"] == "suspended" && l["leaf"]["reason"] == "a test of the log")
    );
    let denied: u64 = of("denied")
        .iter()
        .filter(|l| {
            l["leaf"]["reason"]
                .as_str()
                .is_some_and(|r| r.contains("repository_id"))
        })
        .map(|l| l["leaf"]["count"].as_u64().expect("count"))
        .sum();
    assert!(denied >= 3, "{denied}: {:?}", of("denied"));
    let detail: Value = serde_json::from_str(
        of("denied")[0]["details"]["detail"]
            .as_str()
            .expect("detail"),
    )
    .expect("JSON");
    assert_eq!(detail["issuer"], stack.platform.url());
    assert_eq!(of("token-created")[0]["leaf"]["software"], true);
    assert_eq!(of("key-checkpoint")[0]["leaf"]["key"], key.as_str());
    // Neither people nor files stand in a leaf.
    let leaves = serde_json::to_string(
        &shown["leaves"]
            .as_array()
            .expect("leaves")
            .iter()
            .map(|l| &l["leaf"])
            .collect::<Vec<_>>(),
    )
    .expect("JSON");
    // As a word: four digits stand in one of so many hashes by chance.
    let letter = |c: char| c.is_ascii_alphanumeric();
    for hidden in ["auntie", "log-tells-admin", "a.exe", REPOSITORY] {
        assert!(
            !leaves.match_indices(hidden).any(|(at, _)| {
                !leaves[..at].ends_with(letter) && !leaves[at + hidden.len()..].starts_with(letter)
            }),
            "{hidden}"
        );
    }
}
