//! Certificates looked up in their CAs' lists: a revocation stops its key and nobody else's, news that
//! stay away too long stop signing, news that cannot be believed are no news, ends are warned of, and
//! orders end without anybody waiting.

mod hostile;
mod orders;

use crate::support::cli::Cli;
use crate::support::judges::cms_request;
use crate::support::leaves::of_type;
use crate::support::lists::{Answer, ListServer, TestCa, micros};
use crate::support::raw::{Raw, RawAnswer};
use crate::support::{REPOSITORY, SUBJECT, Stack, program, text};
use countersign_core::HashAlgorithm;
use countersign_testkit::programs::wait_until;
use countersign_x509::Certificate;
use countersign_x509::csr::ParsedCsr;
use serde_json::Value;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(40);

/// A stack that looks at lists every second.
fn stack(settings: &str) -> Stack {
    let mut stack = Stack::bare();
    configure(&stack, settings);
    stack.start_ca(&[]);
    stack
}

/// Puts `[revocation]` into the configuration, in place of what was there.
fn configure(stack: &Stack, settings: &str) {
    let old = std::fs::read_to_string(stack.config()).expect("configuration");
    let head = old
        .split("\n[revocation]")
        .next()
        .expect("a part")
        .to_owned();
    let new = format!("{head}\n[revocation]\npoll = \"1s\"\n{settings}\n");
    std::fs::write(stack.config(), new).expect("configuration");
}

fn sign(raw: &Raw, signer: &str, token: &str) -> RawAnswer {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let what = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let (tenant, label) = signer.split_once('/').expect("tenant/signer");
    let body = cms_request(&what, HashAlgorithm::Sha256);
    raw.sign(tenant, label, token, &body)
}

fn show(admin: &Cli, key: &str) -> Value {
    admin.json(&["keys", "show", key])
}

fn until(what: &str, holds: impl FnMut() -> bool) {
    wait_until(what, PATIENCE, holds).expect(what);
}

/// The demo CA's own command, beside the running CA.
fn ca_command(stack: &Stack, what: &str, serial: &str, more: &[&str]) {
    let out = Command::new(program("countersign-demo-ca"))
        .args([what, "--serial", serial, "--state"])
        .arg(stack.path("ca"))
        .args(more)
        .output()
        .expect("the demo CA's command runs");
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
}

fn serial(admin: &Cli, key: &str) -> String {
    show(admin, key)["certificate"]["serial"]
        .as_str()
        .expect("serial")
        .to_owned()
}

fn order(admin: &Cli, key: &str) {
    admin.ok(&[&["certificate", "order", key, "--ca", "demo"][..], &SUBJECT].concat());
}

/// A key of a signer, certified by a test CA from and to seconds from now. Key id and certificate.
fn certified(
    stack: &Stack,
    admin: &Cli,
    signer: &str,
    ca: &TestCa,
    to: i64,
) -> (String, Certificate) {
    let key = stack.key(admin, signer, "ec-p256");
    stack.grant(admin, signer, &["cms"]);
    let out = stack.path(&format!("{}-request", signer.replace('/', "-")));
    let mut args = vec!["csr", "export", &key, "--ca-audience", "test.ca"];
    let folder = text(&out);
    args.extend(["--out", &folder]);
    args.extend(SUBJECT);
    admin.ok(&args);
    let pem = std::fs::read_to_string(out.join("request.csr.pem")).expect("CSR");
    let leaf = ca.certify(&ParsedCsr::parse_pem(&pem).expect("a CSR"), -60, to);
    let chain = out.join("chain.pem");
    std::fs::write(&chain, ca.chain(&leaf)).expect("chain");
    admin.ok(&["certificate", "install", &key, "--chain", &text(&chain)]);
    (key, leaf)
}

#[test]
fn a_revoked_certificate_stops_its_key_and_no_other() {
    let stack = stack("max_age = \"1h\"");
    let admin = stack.tenant("revoked");
    let key = stack.signer(&admin, "revoked/release", "ec-p256");
    let other = stack.signer(&admin, "revoked/other", "ec-p256");
    let (raw, token) = (stack.raw(), stack.service_token("revoked", REPOSITORY));
    let status = |key: &str| show(&admin, key)["certificate_status"].clone();
    assert_eq!(status(&key)["status"], "good");
    // Signatures go on while the CA revokes, and none is authorised after the service has seen it.
    let stop = AtomicBool::new(false);
    let signed = AtomicU32::new(0);
    std::thread::scope(|s| {
        for _ in 0..3 {
            s.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let answer = sign(&raw, "revoked/release", &token);
                    if answer.status == 200 {
                        signed.fetch_add(1, Ordering::Relaxed);
                    } else {
                        assert_eq!(answer.problem(), "certificate-revoked");
                    }
                }
            });
        }
        until("signatures", || signed.load(Ordering::Relaxed) > 5);
        ca_command(
            &stack,
            "revoke",
            &serial(&admin, &key),
            &["--reason", "superseded"],
        );
        until("the revocation is seen", || {
            status(&key)["status"] == "revoked"
        });
        stop.store(true, Ordering::Relaxed);
    });
    let shown = show(&admin, &key);
    assert_eq!(shown["state"], "suspended");
    assert_eq!(shown["certificate_status"]["reason"], "superseded");
    let refused = sign(&raw, "revoked/release", &token);
    assert_eq!(
        (refused.status, refused.problem()),
        (409, "certificate-revoked".into())
    );
    assert!(
        refused.json()["detail"]
            .as_str()
            .expect("detail")
            .contains("superseded"),
        "{refused:?}"
    );
    assert_eq!(sign(&raw, "revoked/other", &token).status, 200);

    let log = stack.path("revoked-log");
    let leaves = admin.tenant_leaves(&log);
    let of_key: Vec<_> = of_type(&leaves, "certificate-status")
        .into_iter()
        .filter(|l| l["key"] == key.as_str())
        .collect();
    let statuses: Vec<_> = of_key.iter().map(|l| l["status"].clone()).collect();
    assert_eq!(statuses, ["good", "revoked"], "{of_key:?}");
    assert_eq!(of_key[1]["reason"], "superseded");
    assert!(of_key[1]["crl_number"].is_string() && of_key[1]["revoked_at"].is_u64());
    let moved = of_type(&leaves, "key-state");
    let last = moved.last().expect("a state");
    assert_eq!(
        (&last["key"], &last["to"]),
        (&Value::from(key.as_str()), &Value::from("suspended"))
    );
    let seen = of_key[1]["time"].as_i64().expect("time");
    let uses = admin.key_leaves(&key, &stack.path("revoked-key-log"));
    for u in of_type(&uses, "authorisation") {
        assert!(u["time"].as_i64().expect("time") <= seen, "{u}");
    }
    let judged = Command::new("python3")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/verify_log.py"))
        .arg(&log)
        .output()
        .expect("python3 runs");
    assert!(
        judged.status.success(),
        "{}",
        String::from_utf8_lossy(&judged.stderr)
    );

    // Resuming the key does not bring its certificate back; a new one does.
    admin.ok(&["keys", "resume", &key, "--reason", "looked at it"]);
    assert_eq!(
        sign(&raw, "revoked/release", &token).problem(),
        "certificate-revoked"
    );
    order(&admin, &key);
    assert_eq!(sign(&raw, "revoked/release", &token).status, 200);

    // On hold: stopped while it lasts, and the key's state is its owner's.
    let held = serial(&admin, &other);
    ca_command(&stack, "revoke", &held, &["--reason", "certificateHold"]);
    until("the hold", || status(&other)["status"] == "on-hold");
    let refused = sign(&raw, "revoked/other", &token);
    assert_eq!(refused.problem(), "certificate-revoked");
    assert!(refused.json()["detail"].to_string().contains("put on hold"));
    assert_eq!(show(&admin, &other)["state"], "active");
    ca_command(&stack, "release", &held, &[]);
    until("the release", || status(&other)["status"] == "good");
    assert_eq!(sign(&raw, "revoked/other", &token).status, 200);

    // A key that the CA says is known to others never signs again.
    ca_command(&stack, "revoke", &held, &["--reason", "keyCompromise"]);
    until("the compromise", || {
        show(&admin, &other)["state"] == "compromised"
    });
    assert_eq!(
        sign(&raw, "revoked/other", &token).problem(),
        "certificate-revoked"
    );
    admin.ends(3, &["keys", "resume", &other, "--reason", "please"]);
    // Refusals stand in the tenant's log.
    admin.tenant_leaf(&log, "denied", |l| l["reason"] == "certificate-revoked");
}

#[test]
fn without_news_signing_ends_at_the_maximum_age_and_comes_back_with_them() {
    let mut stack = stack("max_age = \"10s\"");
    let server = ListServer::start();
    let ca = TestCa::new(&stack.folder("age-ca"), &server.url("a.crl"));
    server.set("a.crl", Answer::List(ca.sign(&ca.list(1))));
    let admin = stack.tenant("age");
    let (key, _) = certified(&stack, &admin, "age/release", &ca, 86_400);
    let (raw, token) = (stack.raw(), stack.service_token("age", REPOSITORY));
    assert_eq!(sign(&raw, "age/release", &token).status, 200);
    until("a poll", || server.asked("a.crl") >= 3);
    // The server of the list goes away, and countersignd too: what it knew is in the database.
    server.set("a.crl", Answer::Nothing);
    let down = micros();
    stack.kill_server();
    stack.start_server(&[]);
    let raw = stack.raw();
    let token = stack.service_token("age", REPOSITORY);
    let mut signed_late = false;
    until("the maximum age", || {
        let before = micros();
        let answer = sign(&raw, "age/release", &token);
        if answer.status == 200 {
            // Ten seconds, and what the last good poll lay before the server went away.
            let after = before - down;
            assert!(
                after < 11_500_000,
                "signed {after} us after the list went away: {}",
                show(&admin, &key)
            );
            signed_late = true;
            return false;
        }
        assert_eq!(
            (answer.status, answer.problem()),
            (503, "certificate-status-unknown".into())
        );
        true
    });
    assert!(signed_late, "it signs on until then");
    assert!(micros() - down > 7_000_000, "and not shorter");
    let shown = show(&admin, &key);
    assert_eq!(shown["state"], "active");
    assert_eq!(shown["certificate_status"]["status"], "good");
    let problem = shown["certificate_status"]["problem"].to_string();
    assert!(problem.contains("the server of the list"), "{problem}");
    let list = admin.ok(&["keys", "list"]);
    assert!(
        list.says("whether the certificate was revoked is not known since"),
        "{list:?}"
    );
    // News again.
    server.set("a.crl", Answer::List(ca.sign(&ca.list(2))));
    until("signing comes back", || {
        sign(&raw, "age/release", &token).status == 200
    });
    let leaves = admin.tenant_leaves(&stack.path("age-log"));
    let statuses = of_type(&leaves, "certificate-status");
    assert_eq!(statuses.len(), 1, "no leaf a poll: {statuses:?}");
}

#[test]
fn an_end_that_is_near_is_told_once_a_day_and_stands_once_in_the_log() {
    let stack = stack("warn_before = \"30d\"");
    let server = ListServer::start();
    let ca = TestCa::new(&stack.folder("end-ca"), &server.url("a.crl"));
    server.set("a.crl", Answer::List(ca.sign(&ca.list(1))));
    let admin = stack.tenant("ending");
    let day = 86_400;
    let (soon, leaf) = certified(&stack, &admin, "ending/soon", &ca, 12 * day + 60);
    let (late, _) = certified(&stack, &admin, "ending/late", &ca, 40 * day);
    let says = "the certificate ends in 12 days";
    for args in [&["keys", "list"][..], &["keys", "show", &soon]] {
        let out = admin.ok(args);
        assert!(out.says(says), "{args:?}: {out:?}");
    }
    let certificate = admin.ok(&["certificate", "show", "ending/soon"]);
    assert!(certificate.says(says), "{certificate:?}");
    assert_eq!(
        show(&admin, &soon)["certificate_status"]["ends_in_days"],
        12
    );
    assert_eq!(show(&admin, &late)["warnings"], Value::Null);
    assert_eq!(
        show(&admin, &late)["certificate_status"]["ends_in_days"],
        39
    );
    let log = stack.path("ending-log");
    let told = admin.tenant_leaf(&log, "certificate-ending", |_| true);
    assert_eq!(told["key"], soon.as_str());
    assert_eq!(
        told["not_after"].as_i64(),
        Some(leaf.not_after().0),
        "{told}"
    );
    // Some polls later still once.
    let asked = server.asked("a.crl");
    until("polls", || server.asked("a.crl") > asked + 3);
    assert_eq!(
        of_type(&admin.tenant_leaves(&log), "certificate-ending").len(),
        1
    );
    let lines = stack
        .server_log()
        .lines()
        .filter(|l| l.contains("a certificate ends soon") && l.contains(&soon))
        .count();
    assert_eq!(lines, 1);
}
