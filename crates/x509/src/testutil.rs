//! Keys, a small PKI and openssl, for the tests of this crate.

use crate::asn1::{Cursor, SEQUENCE};
use crate::build::{Profile, TbsBuilder, assemble};
use crate::cert::Certificate;
use crate::chain::Purpose;
use crate::key::{PublicKey, signature_algorithm_der};
use crate::name::{Subject, ca_name};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature as lc;
use aws_lc_rs::signature::KeyPair as _;
use countersign_core::{KeyAlgorithm, Micros, SignatureScheme};
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

/// 2026-11-21T00:00:00Z.
pub(crate) const NOW: Micros = Micros(1_795_219_200_000_000);
pub(crate) const DAY: i64 = 86_400_000_000;

pub(crate) fn days(n: i64) -> Micros {
    Micros(NOW.0 + n * DAY)
}

enum Pair {
    Ec(lc::EcdsaKeyPair),
    Rsa(lc::RsaKeyPair),
}

/// A private key for tests; the crate itself has none.
pub(crate) struct TestKey {
    pair: Pair,
    pub(crate) public: PublicKey,
}

impl TestKey {
    pub(crate) fn new(algorithm: KeyAlgorithm) -> Self {
        let (pair, public) = match algorithm {
            KeyAlgorithm::EcP256 | KeyAlgorithm::EcP384 => {
                let a = if algorithm == KeyAlgorithm::EcP256 {
                    &lc::ECDSA_P256_SHA256_ASN1_SIGNING
                } else {
                    &lc::ECDSA_P384_SHA384_ASN1_SIGNING
                };
                let pair = lc::EcdsaKeyPair::generate(a).unwrap();
                let public =
                    PublicKey::from_ec_point(algorithm, pair.public_key().as_ref()).unwrap();
                (Pair::Ec(pair), public)
            }
            KeyAlgorithm::Rsa3072 | KeyAlgorithm::Rsa4096 => {
                let size = if algorithm == KeyAlgorithm::Rsa3072 {
                    aws_lc_rs::rsa::KeySize::Rsa3072
                } else {
                    aws_lc_rs::rsa::KeySize::Rsa4096
                };
                let pair = lc::RsaKeyPair::generate(size).unwrap();
                let der = pair.public_key().as_ref();
                let mut c = Cursor::new(Cursor::single(der, SEQUENCE, "k").unwrap().value);
                let n = c.positive_integer("n").unwrap();
                let e = c.positive_integer("e").unwrap();
                let public = PublicKey::from_rsa_parts(n, e).unwrap();
                (Pair::Rsa(pair), public)
            }
        };
        Self { pair, public }
    }

    pub(crate) fn scheme(&self) -> SignatureScheme {
        let a = self.public.algorithm();
        a.scheme(a.natural_hash())
    }

    /// Signs with the key's natural scheme.
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let rng = SystemRandom::new();
        match &self.pair {
            Pair::Ec(p) => p.sign(&rng, message).unwrap().as_ref().to_vec(),
            Pair::Rsa(p) => {
                let mut out = vec![0; p.public_modulus_len()];
                p.sign(&lc::RSA_PKCS1_SHA256, &rng, message, &mut out)
                    .unwrap();
                out
            }
        }
    }
}

/// One key of each kind, made once: RSA keys take a while.
pub(crate) static KEYS: LazyLock<Vec<TestKey>> =
    LazyLock::new(|| KeyAlgorithm::ALL.into_iter().map(TestKey::new).collect());

pub(crate) fn key(algorithm: KeyAlgorithm) -> &'static TestKey {
    KEYS.iter()
        .find(|k| k.public.algorithm() == algorithm)
        .unwrap()
}

pub(crate) fn acme() -> Subject {
    Subject {
        common_name: "Acme GmbH".into(),
        organization: "Acme GmbH".into(),
        country: "DE".into(),
        locality: Some("Köln".into()),
        state: None,
    }
}

/// A root, an issuing CA and a leaf.
pub(crate) struct Pki {
    pub(crate) root_key: TestKey,
    pub(crate) root: Certificate,
    pub(crate) ca_key: TestKey,
    pub(crate) ca: Certificate,
    pub(crate) leaf: Certificate,
}

impl Pki {
    /// A good PKI over `subject_key`, for code signing or timestamping.
    pub(crate) fn new(subject_key: &TestKey, purpose: Purpose) -> Self {
        let root_key = TestKey::new(KeyAlgorithm::EcP384);
        let ca_key = TestKey::new(KeyAlgorithm::EcP256);
        let root = issue(&root_builder(&root_key), &root_key);
        let ca = issue(
            &ca_builder(&root, &ca_key, purpose, "Issuing CA"),
            &root_key,
        );
        let leaf = issue(&leaf_builder(&ca, subject_key, purpose), &ca_key);
        Self {
            root_key,
            root,
            ca_key,
            ca,
            leaf,
        }
    }
}

pub(crate) fn root_builder(key: &TestKey) -> TbsBuilder {
    let name = ca_name("DE", "Test Trust", "Test Root").unwrap();
    TbsBuilder {
        profile: Profile::Root,
        serial: vec![0x81, 2, 3, 4, 5, 6, 7, 8, 9],
        issuer: name.clone(),
        issuer_spki: key.public.spki_der().to_vec(),
        subject: name,
        spki: key.public.spki_der().to_vec(),
        not_before: days(-1000),
        not_after: days(9000),
        signature_algorithm: signature_algorithm_der(key.scheme()),
        crl_url: None,
        ca_issuers_url: None,
    }
}

pub(crate) fn ca_builder(
    issuer: &Certificate,
    key: &TestKey,
    purpose: Purpose,
    name: &str,
) -> TbsBuilder {
    TbsBuilder {
        profile: Profile::Intermediate {
            purpose,
            path_len: 0,
        },
        serial: vec![0x11; 16],
        issuer: issuer.subject_der().to_vec(),
        issuer_spki: issuer.spki_der().to_vec(),
        subject: ca_name("DE", "Test Trust", name).unwrap(),
        spki: key.public.spki_der().to_vec(),
        not_before: days(-500),
        not_after: days(3000),
        // Our test issuers are P-384 roots and P-256 CAs.
        signature_algorithm: scheme_of_issuer(issuer),
        crl_url: Some("http://ca.test/root.crl".into()),
        ca_issuers_url: Some("http://ca.test/root.cer".into()),
    }
}

pub(crate) fn leaf_builder(issuer: &Certificate, key: &TestKey, purpose: Purpose) -> TbsBuilder {
    TbsBuilder {
        profile: match purpose {
            Purpose::CodeSigning => Profile::CodeSigning,
            Purpose::TimeStamping => Profile::TimeStamping,
        },
        serial: vec![0x22; 16],
        issuer: issuer.subject_der().to_vec(),
        issuer_spki: issuer.spki_der().to_vec(),
        subject: acme().to_der().unwrap(),
        spki: key.public.spki_der().to_vec(),
        not_before: days(-1),
        not_after: Micros(days(459).0 - 1_000_000),
        signature_algorithm: scheme_of_issuer(issuer),
        crl_url: Some("http://ca.test/ca.crl".into()),
        ca_issuers_url: Some("http://ca.test/ca.cer".into()),
    }
}

fn scheme_of_issuer(issuer: &Certificate) -> Vec<u8> {
    let a = PublicKey::from_spki_der(issuer.spki_der())
        .unwrap()
        .algorithm();
    signature_algorithm_der(a.scheme(a.natural_hash()))
}

pub(crate) fn issue(builder: &TbsBuilder, issuer_key: &TestKey) -> Certificate {
    issue_tbs(&builder.build().unwrap(), builder, issuer_key)
}

/// Issues with exactly these extensions.
pub(crate) fn issue_with(
    builder: &TbsBuilder,
    extensions: &[Vec<u8>],
    issuer_key: &TestKey,
) -> Certificate {
    issue_tbs(
        &builder.build_with(extensions).unwrap(),
        builder,
        issuer_key,
    )
}

fn issue_tbs(tbs: &[u8], builder: &TbsBuilder, issuer_key: &TestKey) -> Certificate {
    assemble(tbs, &builder.signature_algorithm, &issuer_key.sign(tbs)).unwrap()
}

/// Runs openssl in `dir`; its output when it succeeds.
pub(crate) fn openssl(dir: &Path, args: &str) -> String {
    let (ok, text) = try_openssl(dir, args);
    assert!(ok, "openssl {args}: {text}");
    text
}

/// Runs openssl in `dir`: whether it succeeded, and what it said.
pub(crate) fn try_openssl(dir: &Path, args: &str) -> (bool, String) {
    let out = Command::new("openssl")
        .args(args.split_whitespace())
        .current_dir(dir)
        .output()
        .unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    (out.status.success(), text)
}

pub(crate) fn read(dir: &Path, file: &str) -> Vec<u8> {
    std::fs::read(dir.join(file)).unwrap()
}

pub(crate) fn write(dir: &Path, file: &str, bytes: impl AsRef<[u8]>) {
    std::fs::write(dir.join(file), bytes).unwrap();
}
