//! Certificates that end while we look, by a CA no proper one would be.

use super::{micros, sign, state};
use crate::support::lists::{Answer, ListServer, TestCa};
use crate::support::{REPOSITORY, SUBJECT, Stack, text};
use countersign_testkit::programs::wait_until;
use countersign_x509::csr::ParsedCsr;
use std::time::Duration;

#[test]
fn an_expired_certificate_signs_nothing() {
    let stack = Stack::shared();
    let admin = stack.tenant("key-expired");
    let key = stack.key(&admin, "key-expired/release", "ec-p256");
    stack.grant(&admin, "key-expired/release", &["cms"]);
    let folder = stack.folder("key-expired");
    let server = ListServer::start();
    let ca = TestCa::new(&folder, &server.url("short.crl"));
    server.set("short.crl", Answer::List(ca.sign(&ca.list(1))));
    let out = folder.join("request");
    admin.ok(&[
        &[
            "csr",
            "export",
            &key,
            "--ca-audience",
            "short.example",
            "--out",
            &text(&out),
        ][..],
        &SUBJECT,
    ]
    .concat());
    let csr = std::fs::read_to_string(out.join("request.csr.pem")).expect("CSR");
    let csr = ParsedCsr::parse_pem(&csr).expect("a CSR");
    let chain = folder.join("chain.pem");
    let raw = stack.raw();
    let token = stack.service_token("key-expired", REPOSITORY);
    let sign = || sign(&raw, "key-expired", "release", &token, b"x");
    let install = |code: i32| {
        admin.ends(
            code,
            &["certificate", "install", &key, "--chain", &text(&chain)],
        )
    };
    // One that has ended, or not begun, is not installed at all.
    for (from, to, says) in [(-100, -10, "expired"), (100, 200, "not valid yet")] {
        std::fs::write(&chain, ca.issue(&csr, from, to)).expect("chain");
        let out = install(3);
        assert!(out.says(says), "{says}: {out:?}");
        assert_eq!(sign().problem(), "key-not-active");
    }
    std::fs::write(&chain, ca.issue(&csr, -60, 8)).expect("chain");
    let end = micros() + 8_000_000;
    install(0);
    let first = sign();
    if micros() < end {
        assert_eq!(first.status, 200, "{first:?}");
    }
    wait_until("the certificate's end", Duration::from_secs(20), || {
        micros() > end + 1_100_000
    })
    .expect("time goes on");
    assert_eq!(sign().problem(), "certificate-outside-validity");
    assert_eq!(state(&admin, &key), "active");
    let exe = text(&folder.join("request/statement.der"));
    let out = stack
        .job("key-expired-job", REPOSITORY)
        .ends(3, &["sign", "--signer", "key-expired/release", &exe]);
    assert!(
        out.says("not valid now") || out.says("certificate"),
        "{out:?}"
    );
    // Renewed on the same key it signs again.
    std::fs::write(&chain, ca.issue(&csr, -60, 3600)).expect("chain");
    install(0);
    assert_eq!(sign().status, 200);
}
