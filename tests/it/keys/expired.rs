//! Certificates that end while we look, by a CA no proper one would be.

use super::{micros, sign, state};
use crate::support::{REPOSITORY, SUBJECT, Stack, text};
use countersign_core::{HashAlgorithm, Micros, SignatureScheme};
use countersign_testkit::programs::wait_until;
use countersign_x509::build::{Profile, TbsBuilder, assemble};
use countersign_x509::csr::ParsedCsr;
use countersign_x509::key::signature_algorithm_der;
use countersign_x509::name::ca_name;
use countersign_x509::{Certificate, pem};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A CA in two files, on the openssl command line, for certificates no proper CA would issue.
struct TestCa {
    key: PathBuf,
    root: Certificate,
}

impl TestCa {
    fn new(dir: &Path) -> Self {
        let key = dir.join("ca.key");
        openssl(&[
            "genpkey",
            "-algorithm",
            "EC",
            "-pkeyopt",
            "ec_paramgen_curve:P-384",
            "-out",
            &text(&key),
        ]);
        let spki = openssl(&["pkey", "-in", &text(&key), "-pubout", "-outform", "DER"]);
        let name = ca_name("XX", "Short Lives", "Short Lives Root").expect("a name");
        let tbs = TbsBuilder {
            profile: Profile::Root,
            serial: vec![1; 16],
            issuer: name.clone(),
            issuer_spki: spki.clone(),
            subject: name,
            spki,
            not_before: Micros(micros() - 3_600_000_000),
            not_after: Micros(micros() + 86_400_000_000),
            signature_algorithm: algorithm(),
            crl_url: None,
            ca_issuers_url: None,
        };
        let root = sign_tbs(&key, &tbs);
        Self { key, root }
    }

    /// A certificate for a request, from and to seconds relative to now, with its chain as PEM.
    fn issue(&self, csr: &ParsedCsr, from: i64, to: i64) -> String {
        let tbs = TbsBuilder {
            profile: Profile::CodeSigning,
            serial: micros().to_be_bytes().repeat(2),
            issuer: self.root.subject_der().to_vec(),
            issuer_spki: self.root.spki_der().to_vec(),
            subject: csr.subject_der().to_vec(),
            spki: csr.public_key().spki_der().to_vec(),
            not_before: Micros(micros() + from * 1_000_000),
            not_after: Micros(micros() + to * 1_000_000),
            signature_algorithm: algorithm(),
            crl_url: Some("http://short.example/crl".into()),
            ca_issuers_url: Some("http://short.example/ca".into()),
        };
        let leaf = sign_tbs(&self.key, &tbs);
        [
            pem::encode("CERTIFICATE", leaf.der()),
            pem::encode("CERTIFICATE", self.root.der()),
        ]
        .concat()
    }
}

fn algorithm() -> Vec<u8> {
    signature_algorithm_der(SignatureScheme::Ecdsa(HashAlgorithm::Sha384))
}

fn sign_tbs(key: &Path, tbs: &TbsBuilder) -> Certificate {
    let bytes = tbs.build().expect("a TBSCertificate");
    let file = key.with_extension("tbs");
    std::fs::write(&file, &bytes).expect("file");
    let signature = openssl(&["dgst", "-sha384", "-sign", &text(key), &text(&file)]);
    assemble(&bytes, &algorithm(), &signature).expect("a certificate")
}

fn openssl(args: &[&str]) -> Vec<u8> {
    let out = Command::new("openssl")
        .args(args)
        .output()
        .expect("openssl runs");
    assert!(
        out.status.success(),
        "openssl {args:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    out.stdout
}

#[test]
fn an_expired_certificate_signs_nothing() {
    let stack = Stack::shared();
    let admin = stack.tenant("key-expired");
    let key = stack.key(&admin, "key-expired/release", "ec-p256");
    stack.grant(&admin, "key-expired/release", &["cms"]);
    let folder = stack.folder("key-expired");
    let ca = TestCa::new(&folder);
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
