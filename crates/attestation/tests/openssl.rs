//! Chain results held against openssl's: for what testkit writes, and for real evidence (`openssl/real.rs`).
//!
//! What openssl cannot judge is listed with the reason, and the list is checked where a sample is at hand:
//! if openssl learns to follow such a chain, it fails and the chain is to be compared.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "openssl/real.rs"]
mod real;

use common::Ask;
use countersign_attestation::Outcome;
use countersign_testkit_evidence::crypto4a::Crypto4A;
use countersign_testkit_evidence::fortanix::Fortanix;
use countersign_testkit_evidence::marvell::Marvell;
use countersign_testkit_evidence::pkix::Pkix;
use countersign_testkit_evidence::securosys::Securosys;
use countersign_testkit_evidence::text::pem;
use countersign_testkit_evidence::thales_luna::ThalesLuna;
use countersign_testkit_evidence::tpm2::Tpm2;
use countersign_testkit_evidence::yubihsm2::YubiHsm2;
use countersign_testkit_evidence::yubikey_piv::YubiKeyPiv;
use countersign_testkit_evidence::{Key, Kind};
use std::path::Path;
use std::process::Command;

/// What openssl is not asked about, or not whole, and why.
const NOT_COMPARED: [(&str, &str); 7] = [
    (
        "yubikey-piv",
        "firmware 4.3.x: the f9 certificate issues and is no CA; the old U2F root has a path length of 0 \
         above f9, which is below a CA: both are genuine, openssl refuses them",
    ),
    (
        "marvell-liquidsecurity",
        "the maker's side below the card: a version 1 certificate issues; compared from the card up",
    ),
    ("nshield", "warrants are no X.509 certificates"),
    (
        "crypto4a",
        "real roots sign with HSS, which openssl 3.0 cannot verify; compared with test roots",
    ),
    (
        "fortanix-dsm",
        "the authority issues statements and is no CA; compared from the authority up",
    ),
    (
        "thales-luna-pkc",
        "EC: the issuers are no CAs, and signatures have INTEGERs that look negative; compared for RSA",
    ),
    (
        "thales-luna-pkc",
        "RSA of testkit: the root has no basicConstraints; compared up to the CA below it",
    ),
];

/// Whether openssl follows `leaf` over `between` to `root` at `at`.
fn openssl(leaf: &[u8], between: &[Vec<u8>], root: &[u8], at: i64) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, all: &[Vec<u8>]| {
        let text: String = all.iter().map(|c| pem("CERTIFICATE", c)).collect();
        std::fs::write(folder.path().join(name), text).unwrap();
    };
    write("leaf", &[leaf.to_vec()]);
    // An empty file is none to openssl; the leaf leads nowhere new.
    write("between", &[between, &[leaf.to_vec()]].concat());
    write("root", &[root.to_vec()]);
    verify(folder.path(), at)
}

/// Whether openssl follows the certificate in `leaf` over those in `between` to one in `root`, all files
/// of `folder`. An intermediate may be trusted (`-partial_chain`), as it is by whoever pins it.
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
        "-partial_chain",
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
    match out.status.code() {
        Some(0) => true,
        // A chain that does not hold; anything else is a question openssl did not understand.
        Some(2) => false,
        _ => panic!("{}", String::from_utf8_lossy(&out.stderr)),
    }
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
fn yubihsm2_chains_agree() {
    let h = YubiHsm2::default();
    let other = YubiHsm2 {
        root_key: Key::named(Kind::Rsa2048, "openssl stranger"),
        ..YubiHsm2::default()
    };
    let c = Compared {
        ask: Ask::key(h.key.spki(), h.root()),
        check: "yubihsm2-chain",
        files: h.files(),
        leaf: h.files()[0].clone(),
        between: h.files()[1..].to_vec(),
        root: h.root(),
    };
    compare(c, other.root(), false);
}

#[test]
fn yubikey_piv_chains_agree() {
    let p = YubiKeyPiv::default();
    let other = YubiKeyPiv {
        root_key: Key::named(Kind::Rsa2048, "openssl stranger"),
        ..YubiKeyPiv::default()
    };
    let c = Compared {
        ask: Ask::key(p.key.spki(), p.root()),
        check: "yubikey-piv-chain",
        files: p.files(),
        leaf: p.files()[0].clone(),
        between: p.files()[1..].to_vec(),
        root: p.root(),
    };
    compare(c, other.root(), false);
}

#[test]
fn luna_chains_of_rsa_keys_agree_below_the_root() {
    let l = ThalesLuna::rsa();
    let mut other = ThalesLuna::rsa();
    *other.above.last_mut().unwrap() = Key::named(Kind::Rsa2048, "openssl stranger");
    let all = l.certificates();
    let mut c = Compared {
        ask: Ask::key(l.key.spki(), l.root()),
        check: "luna-pkc-chain",
        files: vec![l.pkc()],
        leaf: all[0].clone(),
        between: all[1..3].to_vec(),
        root: all[3].clone(),
    };
    c.both_say(true);
    // The CA below the root has the same name and another key: neither follows the chain to it.
    let mut forged = ThalesLuna::rsa();
    forged.above[2] = Key::named(Kind::Rsa2048, "openssl stranger");
    c.root = forged.signed(3);
    c.ask.anchors = vec![other.root()];
    c.both_say(false);
}

#[test]
fn owners_chains_of_marvell_agree() {
    let m = Marvell::default();
    let other = Marvell {
        owner_key: Key::named(Kind::Rsa2048, "openssl stranger"),
        ..Marvell::default()
    };
    let ask = |owner: Vec<u8>| {
        let mut ask = Ask::key(m.key.spki(), m.maker());
        ask.anchors.push(owner);
        ask
    };
    let mut c = Compared {
        ask: ask(m.owner()),
        check: "marvell-owner-chain",
        files: m.files(),
        leaf: m.certificates()[2].clone(),
        between: vec![],
        root: m.owner(),
    };
    c.both_say(true);
    c.ask = ask(other.owner());
    c.root = other.owner();
    c.both_say(false);
    // The maker's side, from the card up.
    let mut c = Compared {
        ask: ask(m.owner()),
        check: "marvell-maker-chain",
        files: m.files(),
        leaf: m.certificates()[1].clone(),
        between: vec![],
        root: m.maker(),
    };
    c.both_say(true);
    c.root = m.owner();
    c.ask = Ask::key(m.key.spki(), m.owner());
    c.both_say(false);
}

#[test]
fn fortanix_chains_agree_from_the_authority_up() {
    let f = Fortanix::default();
    let other = Fortanix {
        root_key: Key::named(Kind::Rsa2048, "openssl stranger"),
        ..Fortanix::default()
    };
    let c = Compared {
        ask: Ask::key(f.key.spki(), f.root()),
        check: "fortanix-chain",
        files: vec![f.json()],
        leaf: f.authority(),
        between: vec![f.ca()],
        root: f.root(),
    };
    // The chain is looked at as of the statement, not as of today.
    compare(c, other.root(), false);
}

#[test]
fn crypto4a_chains_agree_under_test_roots() {
    let m = Crypto4A::default();
    let other = Crypto4A {
        root_key: Key::named(Kind::P384, "openssl stranger"),
        ..Crypto4A::default()
    };
    let spki = m.signer_key.spki().to_vec();
    let c = Compared {
        ask: Ask::key(m.key.spki(), m.root()),
        check: "crypto4a-chain",
        files: vec![m.message()],
        leaf: m
            .signer("Test Assertion Authority EC", spki)
            .sign(&m.ca_key),
        between: vec![m.ca()],
        root: m.root(),
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
