//! The fuzz targets' corpus: seeds are up to date, and every file in it passes.

use crate::SHA256;
use crate::judge::{Key, Scene, succeeded};
use crate::tiny_pe::TinyPe;
use countersign_content::{authenticode, cms, digest_of};
use countersign_core::{Micros, SignatureScheme};
use countersign_formats::{Existing, Options};
use countersign_x509::crl::{CrlBuilder, Reason, RevokedCertificate, assemble_crl};
use countersign_x509::key::signature_algorithm_der;
use countersign_x509::name::ca_name;
use std::path::{Path, PathBuf};

#[path = "../../../../fuzz/src/targets.rs"]
mod targets;

type Target = fn(&[u8]);
const TARGETS: [(&str, Target); 4] = [
    ("pe_parse", targets::pe_parse),
    ("content_authenticode", targets::content_authenticode),
    ("content_cms", targets::content_cms),
    ("x509_crl", targets::x509_crl),
];

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/corpus")
        .join(target)
}

/// Seeds that are the same bytes each time.
fn fixed_seeds() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let digest = digest_of(SHA256, b"a program");
    let indirect = authenticode::pe_indirect_data(&digest);
    let time = Some(Micros::from_seconds(1_790_000_000));
    let authenticode = |options: &authenticode::Options<'_>| {
        let attributes = authenticode::signed_attributes(&indirect, SHA256, options).unwrap();
        let length = u16::try_from(attributes.len()).unwrap().to_le_bytes();
        [&length[..], &attributes, &indirect].concat()
    };
    let full = authenticode::Options {
        program_name: Some("Grüße"),
        url: Some("https://acme.example/"),
        signing_time: time,
        signing_certificate: None,
    };
    let scheme = Some(SignatureScheme::Ecdsa(SHA256));
    let mut installer = TinyPe::pe32();
    installer.overlay = b"payload".to_vec();
    vec![
        (
            "content_authenticode",
            "seed-plain",
            authenticode(&authenticode::Options::default()),
        ),
        ("content_authenticode", "seed-full", authenticode(&full)),
        (
            "content_cms",
            "seed-plain",
            cms::signed_attributes(&digest, None, None, None).unwrap(),
        ),
        (
            "content_cms",
            "seed-full",
            cms::signed_attributes(&digest, time, None, scheme).unwrap(),
        ),
        ("x509_crl", "seed-empty", revocation_list(&[])),
        (
            "x509_crl",
            "seed-entries",
            revocation_list(&[
                Reason::KeyCompromise,
                Reason::CertificateHold,
                Reason::Unspecified,
            ]),
        ),
        ("pe_parse", "seed-pe32", TinyPe::pe32().build()),
        ("pe_parse", "seed-pe32-plus", TinyPe::pe32_plus().build()),
        ("pe_parse", "seed-overlay", installer.build()),
    ]
}

/// A list with an entry for each reason. Its signature is none: whether it verifies is not the
/// parser's business.
fn revocation_list(reasons: &[Reason]) -> Vec<u8> {
    let algorithm = signature_algorithm_der(SignatureScheme::Ecdsa(SHA256));
    let at = Micros::from_seconds(1_790_000_000);
    let entry = |(n, reason): (u8, &Reason)| RevokedCertificate {
        serial: vec![0x80 + n, n],
        at,
        reason: *reason,
    };
    let tbs = CrlBuilder {
        issuer: ca_name("XX", "Seed", "Seed CA").unwrap(),
        authority_key_id: vec![7; 20],
        number: vec![1, 2],
        this_update: at,
        next_update: Micros::from_seconds(1_790_600_000),
        revoked: (0..).zip(reasons).map(entry).collect(),
        signature_algorithm: algorithm.clone(),
        more: Vec::new(),
    }
    .build();
    assemble_crl(&tbs, &algorithm, &[9; 70])
}

/// Signed executables: other bytes each time, so written once and kept.
fn signed_seeds() -> Vec<(&'static str, Vec<u8>)> {
    let scene = Scene::new(Key::P256);
    let path = scene.write("a.exe", &TinyPe::pe32().build());
    let once = scene.sign(&path, &Options::default());
    once.write().unwrap();
    let options = Options {
        existing: Existing::Append,
        ..Options::default()
    };
    let twice = scene.sign(&path, &options);
    scene.write("plain.exe", &TinyPe::pe32_plus().build());
    let args = "sign -certs other.pem -key other.key -h sha256 -in plain.exe -out theirs.exe";
    succeeded(args, &scene.run("osslsigncode", args));
    vec![
        ("seed-signed", once.bytes),
        ("seed-nested", twice.bytes),
        ("seed-osslsigncode", scene.read("theirs.exe")),
    ]
}

#[test]
fn seeds_are_up_to_date_and_the_corpus_passes() {
    if std::env::var_os("WRITE_SEEDS").is_some() {
        for (target, _) in TARGETS {
            std::fs::create_dir_all(corpus(target)).unwrap();
        }
        for (target, name, bytes) in fixed_seeds() {
            std::fs::write(corpus(target).join(name), bytes).unwrap();
        }
        for (name, bytes) in signed_seeds() {
            std::fs::write(corpus("pe_parse").join(name), bytes).unwrap();
        }
    }
    for (target, name, bytes) in fixed_seeds() {
        let kept = std::fs::read(corpus(target).join(name));
        assert_eq!(
            kept.ok(),
            Some(bytes),
            "{target}/{name} is stale: run with WRITE_SEEDS=1"
        );
    }
    for (target, run) in TARGETS {
        let mut count = 0;
        for entry in std::fs::read_dir(corpus(target)).unwrap() {
            let path = entry.unwrap().path();
            run(&std::fs::read(&path).unwrap());
            count += 1;
        }
        assert!(count >= 2, "the corpus of {target} is gone");
    }
}
