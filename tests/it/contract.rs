//! The contract: schemathesis asks every operation of openapi.json, with real tokens of every role,
//! real ids and whatever it makes up, and judges each answer by the document. No 500, no answer
//! outside the schema, and no operation that never succeeds (tests/contract/). The same seed asks the same.

use crate::enrolment::evidence;
use crate::support::judges::cms_request;
use crate::support::{JOB_AUDIENCE, PEOPLE_AUDIENCE, REPOSITORY, Stack, program, text};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_core::HashAlgorithm;
use serde_json::json;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

#[test]
fn schemathesis_finds_nothing_that_the_document_does_not_say() {
    let mut stack = Stack::start();
    stack.configure(&evidence::trusted(&stack.folder("anchors")));
    stack.configure("anyone_per_s = 100\n");
    stack.stop_server();
    stack.start_server(&[]);
    let admin = stack.tenant("acme");
    let other = stack.tenant("globex");
    drop(other);
    let key = stack.signer(&admin, "acme/release", "ec-p256");
    admin.ok(&["signers", "create", "acme/spare", "--algorithm", "ec-p256"]);
    let people = stack.people.url();
    admin.ok(&[
        "members",
        "add",
        "--issuer",
        people,
        "--subject",
        "acme-auditor",
        "--role",
        "auditor",
    ]);
    let shown = admin.json(&["keys", "show", &key]);
    let grants = admin.json(&["grants", "list"]);
    let (mut fresh, _) = Stack::initialised();
    fresh.start_server(&[]);
    let read = |path: &Path| std::fs::read_to_string(path).expect("a file");
    let folder = stack.folder("contract");
    let spki = evidence::spki(&admin, &key);
    let files: Vec<_> = evidence::evidence_for(&spki)
        .iter()
        .map(|f| json!({"name": "evidence.der", "content": STANDARD.encode(f)}))
        .collect();
    let counts = folder.join("counts.json");
    let table = folder.join("table.txt");
    let world = json!({
        "folder": folder, "counts": counts, "table": table,
        "url": stack.url(), "ca_file": stack.ca_file(),
        "testkit": program("countersign-testkit"),
        "people": people, "people_state": stack.path("people"), "people_audience": PEOPLE_AUDIENCE,
        "platform": stack.platform.url(), "platform_state": stack.path("platform"),
        "job_audience": JOB_AUDIENCE, "repository": REPOSITORY,
        "tenant": "acme", "signer": "release", "spare": "spare",
        "admin": "acme-admin", "auditor": "acme-auditor",
        "stranger": "globex-admin", "other_tenant": "globex",
        "grant": grants[0]["id"],
        "ids": {"tenant": "acme", "signer": "release", "key": key, "log": key, "path": "0/000.p/1",
            "order": shown["orders"][0]["id"], "grant": grants[0]["id"]},
        "evidence_body": {"files": files},
        "verification_body": {"public_key": STANDARD.encode(&spki), "evidence": files},
        "signature_body": cms_request(b"schemathesis", HashAlgorithm::Sha256),
        "ca": {"url": stack.ca_says("listening"), "ca_file": stack.ca_says("ca_file"), "audience": "demo-ca.test"},
        // A deployment that nobody has bootstrapped yet.
        "fresh": {"url": fresh.url(), "ca_file": fresh.ca_file(),
            "credential": read(&fresh.path("service/bootstrap-credential")).trim(),
            "issuer_ca": read(&stack.people.ca_file())},
    });
    let file = folder.join("world.json");
    std::fs::write(&file, world.to_string()).expect("world.json");

    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let installed = Command::new(root.join("scripts/schemathesis.sh"))
        .output()
        .expect("schemathesis.sh runs");
    assert!(
        installed.status.success(),
        "schemathesis cannot be installed: {}",
        String::from_utf8_lossy(&installed.stderr)
    );
    let python = root.join(String::from_utf8_lossy(&installed.stdout).trim());
    let out = Command::new(python)
        .arg(root.join("tests/contract/run.py"))
        .arg(text(&file))
        .output()
        .expect("python runs");
    // Cargo shows what schemathesis says with --nocapture (`make contract`), or where the test fails;
    // the table always, by going round its capture.
    println!(
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    let table = std::fs::read_to_string(&table).unwrap_or_default();
    let _ = writeln!(std::io::stderr(), "\n{table}");
    assert!(out.status.success(), "the contract is broken: see above");
    let log = stack.server_log();
    assert!(!log.contains("a handler panicked"), "a handler panicked");
}
