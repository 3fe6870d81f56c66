//! Chain results held against openssl's, where openssl can follow the chain.
//!
//! openssl cannot judge some makers' chains, by their shape: YubiHSM 2 and YubiKey's older hierarchy (an issuing
//! certificate without basicConstraints or keyCertSign), Marvell (version 1 card certificates that issue),
//! Entrust nShield (no X.509 at all), Crypto4A (roots sign with HSS). Those are listed here and not compared.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::Ask;
use countersign_attestation::Outcome;
use countersign_testkit_evidence::pkix::Pkix;
use countersign_testkit_evidence::securosys::Securosys;
use countersign_testkit_evidence::text::pem;
use countersign_testkit_evidence::tpm2::Tpm2;
use countersign_testkit_evidence::{Key, Kind};
use std::path::Path;
use std::process::Command;

/// Chains openssl is asked about, or why not.
const NOT_COMPARED: [(&str, &str); 5] = [
    (
        "yubihsm2",
        "a device certificate issues the attestation and is no CA",
    ),
    (
        "yubikey-piv",
        "the f9 certificate issues and, before 5.7, is no CA",
    ),
    (
        "marvell-liquidsecurity",
        "card and partition certificates issue and are no CA",
    ),
    ("nshield", "warrants are no X.509 certificates"),
    ("crypto4a", "HSS signatures are not verified by openssl 3.0"),
];

/// Whether openssl follows `leaf` over `between` to `root` at `at`.
fn openssl(leaf: &[u8], between: &[Vec<u8>], root: &[u8], at: i64) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, all: &[Vec<u8>]| {
        let text: String = all.iter().map(|c| pem("CERTIFICATE", c)).collect();
        std::fs::write(folder.path().join(name), text).unwrap();
    };
    write("leaf", &[leaf.to_vec()]);
    write("between", between);
    write("root", &[root.to_vec()]);
    verify(folder.path(), at)
}

fn verify(folder: &Path, at: i64) -> bool {
    let at = at.to_string();
    let args = [
        // Only this root: the machine's own store has no say.
        "verify",
        "-no-CAfile",
        "-no-CApath",
        "-no-CAstore",
        "-purpose",
        "any",
        "-attime",
        &at,
        // A critical extension of the TCG's is for the verifier of the format to judge.
        "-ignore_critical",
        "-trusted",
        "root",
        "-untrusted",
        "between",
        "leaf",
    ];
    let out = Command::new("openssl")
        .args(args)
        .current_dir(folder)
        .output();
    let out = out.expect("openssl is installed");
    out.status.success()
}

/// The same question to both, and the answer that both must give.
struct Compared<'a> {
    ask: Ask,
    check: &'a str,
    files: Vec<Vec<u8>>,
    leaf: Vec<u8>,
    between: Vec<Vec<u8>>,
    root: Vec<u8>,
}

impl Compared<'_> {
    #[track_caller]
    fn both_say(&self, good: bool) {
        let theirs = openssl(&self.leaf, &self.between, &self.root, self.ask.at);
        let result = self.ask.about(&self.files);
        let ours = result.check(self.check).unwrap().outcome == Outcome::Pass;
        assert_eq!((ours, theirs), (good, good), "{}", common::why(&result));
    }
}

/// Genuine, before and after its validity, and under a root of the same name with another key.
fn compare(mut c: Compared<'_>, stranger: Vec<u8>, looks_at_time: bool) {
    c.both_say(true);
    if looks_at_time {
        for at in [1_500_000_000, 2_600_000_000] {
            let now = std::mem::replace(&mut c.ask.at, at);
            c.both_say(false);
            c.ask.at = now;
        }
    }
    c.ask.anchors = vec![stranger.clone()];
    c.root = stranger;
    c.both_say(false);
}

#[test]
fn tpm_attestation_key_chains_agree() {
    let t = Tpm2::default();
    let other = Tpm2 {
        root_key: Key::named(Kind::Rsa2048, "openssl stranger"),
        ..Tpm2::default()
    };
    let chain = t.certificates();
    let c = Compared {
        ask: Ask::key(t.key.spki(), t.root()),
        check: "tpm-ak-chain",
        files: t.files(),
        leaf: chain[0].clone(),
        between: chain[1..].to_vec(),
        root: t.root(),
    };
    compare(c, other.root(), true);
}

#[test]
fn pkix_chains_agree() {
    let e = Pkix::default();
    let other = Pkix {
        root_key: Key::named(Kind::P256, "openssl stranger"),
        ..Pkix::default()
    };
    let c = Compared {
        ask: Ask::key(e.key.spki(), e.root()),
        check: "pkix-chain",
        files: vec![e.encode()],
        leaf: e.ak_certificate().sign(&e.ca_key),
        between: vec![e.ca()],
        root: e.root(),
    };
    compare(c, other.root(), true);
}

#[test]
fn securosys_chains_agree() {
    let s = Securosys::default();
    let other = Securosys {
        root_key: Key::named(Kind::Rsa2048, "openssl stranger"),
        ..Securosys::default()
    };
    let c = Compared {
        ask: Ask::key(s.key.spki(), s.root()),
        check: "securosys-chain",
        files: s.files(),
        leaf: s.files()[2].clone(),
        between: s.files()[3..].to_vec(),
        root: s.root(),
    };
    compare(c, other.root(), false);
}

#[test]
fn what_is_not_compared_is_listed() {
    for (format, why) in NOT_COMPARED {
        println!("not compared with openssl: {format}: {why}");
    }
    let known: Vec<&str> = countersign_attestation::vendor::FORMATS
        .iter()
        .map(|f| f.id())
        .collect();
    for (format, _) in NOT_COMPARED {
        assert!(known.contains(&format), "{format} is none of {known:?}");
    }
}
