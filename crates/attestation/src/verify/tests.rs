//! The frame: unpacking within bounds, policies, the service statement among device evidence.

use super::parts::{MAX_FILE, MAX_FILES};
use super::*;
use crate::result::{AttestationResult, Check, Known, Outcome, Verdict};
use crate::statement::StatementTbs;
use crate::testkit::{Pair, at, attribute, csr, csr_info, full_statement};
use crate::{Anchors, AttestationBundle};
use countersign_testkit_evidence::cert::{certs_only, root};
use countersign_testkit_evidence::gzip::gzip;
use countersign_testkit_evidence::text::{base64, pem};
use countersign_testkit_evidence::yubihsm2::YubiHsm2;
use countersign_testkit_evidence::{Key, Kind, cbor, der};
use proptest::prelude::*;

fn pool(files: &[Vec<u8>]) -> Pool {
    let files: Vec<File<'_>> = files
        .iter()
        .map(|bytes| File { name: "f", bytes })
        .collect();
    Pool::of(&files)
}

fn kinds(file: Vec<u8>) -> Vec<String> {
    pool(&[file]).parts().map(|(_, p)| p.what()).collect()
}

fn a_certificate() -> Vec<u8> {
    root("Some CA", &Key::named(Kind::P256, "some ca"))
}

#[test]
fn wrappers_come_off_until_something_is_recognised() {
    let certificate = a_certificate();
    let named = "certificate of \"CN=Some CA\"";
    assert_eq!(kinds(certificate.clone()), [named]);
    assert_eq!(kinds(pem("ANY LABEL", &certificate).into_bytes()), [named]);
    assert_eq!(
        kinds(base64(&gzip(pem("CERTIFICATE", &certificate).as_bytes())).into_bytes()),
        ["base64 text", "gzip file", named]
    );
    assert_eq!(
        kinds(certs_only(std::slice::from_ref(&certificate))),
        ["PKCS#7 SignedData", named]
    );
    assert_eq!(kinds(b" {\"a\": 1} ".to_vec()), ["JSON"]);
    assert_eq!(kinds(b"\xef\xbb\xbf<a/>".to_vec()), ["XML"]);
    assert_eq!(
        kinds(cbor::map(&[(cbor::text("fmt"), cbor::text("tpm"))])),
        ["CBOR"]
    );
    assert_eq!(kinds(der::seq(&[der::int(7)])), ["DER, 5 bytes"]);
    assert_eq!(kinds(b"Dear CA, see below!".to_vec()), ["text, 19 bytes"]);
    assert_eq!(kinds(vec![0xff, 0x54, 0x43, 0x47, 0]), ["5 bytes"]);
    let key = Key::named(Kind::P256, "some ca");
    assert_eq!(kinds(key.spki().to_vec()), ["public key, P-256"]);
}

#[test]
fn the_same_bytes_twice_are_one_part_of_both_files() {
    let certificate = a_certificate();
    let files = [
        certificate.clone(),
        pem("CERTIFICATE", &certificate).into_bytes(),
    ];
    let pool = pool(&files);
    assert_eq!(pool.parts().count(), 1);
    let id = pool.parts().next().unwrap().0;
    assert!(pool.unused(&[id], &[]).is_empty());
    assert_eq!(pool.unused(&[], &[]).len(), 2);
}

#[test]
fn what_cannot_be_read_is_said_with_its_file() {
    let problem = |file: Vec<u8>| pool(&[file]).problems().join("; ");
    let cut = |mut f: Vec<u8>| {
        f.truncate(f.len() - 3);
        f
    };
    assert!(problem(vec![]).contains("is empty"));
    assert!(problem(cut(gzip(b"abc"))).contains("no whole gzip file"));
    let certificate = a_certificate();
    assert!(problem(cut(pem("CERTIFICATE", &certificate).into_bytes())).contains("does not end"));
    let short = cut(certificate.clone());
    assert!(problem(pem("CERTIFICATE", &short).into_bytes()).contains("no DER element"));
    let other = pem("CERTIFICATE", &der::seq(&[der::int(1)]));
    assert!(problem(other.into_bytes()).contains("is no certificate"));
    // Trailing bytes after a gzip member are no part of it.
    let mut more = gzip(b"abc");
    more.push(0);
    assert!(problem(more).contains("no whole gzip file"));
}

#[test]
fn input_is_bounded_in_every_direction() {
    let problem = |files: &[Vec<u8>]| pool(files).problems().join("; ");
    assert!(problem(&[vec![0xff; MAX_FILE + 1]]).contains("longer than 1 MiB"));
    let many: Vec<Vec<u8>> = (0..=MAX_FILES).map(|i| vec![0xff, i as u8]).collect();
    assert!(problem(&many).contains("more than 64 files"));
    // A wrapper in a wrapper in a wrapper …
    let mut nested = b"core of it all".to_vec();
    for _ in 0..12 {
        nested = gzip(&nested);
    }
    assert!(problem(&[nested]).contains("wrapped more often"));
    // A bomb: flate2 packs 16 MiB of zeros into 16 KiB.
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut bomb, &vec![0; 16 << 20]).unwrap();
    assert!(problem(&[bomb.finish().unwrap()]).contains("more than 2 MiB"));
    // Many parts in few bytes.
    let blocks: String = (0..300u32)
        .map(|i| pem("X", &der::seq(&[der::int(u64::from(i))])))
        .collect();
    assert!(problem(&[blocks.into_bytes()]).contains("more than 256 PEM blocks"));
    let mut parts = Vec::new();
    for n in 0..40u64 {
        let certs: Vec<_> = (0..40).map(|i| der::seq(&[der::int(n * 64 + i)])).collect();
        parts.push(certs_only(&certs));
    }
    assert!(problem(&parts).contains("more parts than are read"));
}

#[test]
fn an_unreadable_input_stands_in_the_way() {
    let e = YubiHsm2::default();
    let mut files = e.files();
    let result = ask(&e, &files, &Policy::origin());
    assert_eq!(result.verdict, Verdict::Accept);
    files.push(pem("CERTIFICATE", b"junk").into_bytes());
    let result = ask(&e, &files, &Policy::origin());
    assert_eq!(result.verdict, Verdict::Reject);
    assert_eq!(outcome(&result, "inputs-well-formed"), Outcome::Fail);
}

fn ask(e: &YubiHsm2, files: &[Vec<u8>], policy: &Policy) -> AttestationResult {
    let evidence: Vec<File<'_>> = files
        .iter()
        .map(|bytes| File { name: "f", bytes })
        .collect();
    let mut anchors = Anchors::none();
    anchors.add_file("root", &e.root()).unwrap();
    verify(&Question {
        subject: SubjectFile::PublicKey(File {
            name: "key",
            bytes: e.key.spki(),
        }),
        evidence: &evidence,
        at: at(1_795_305_600),
        nonce: None,
        policy,
        anchors: &anchors,
    })
}

#[track_caller]
fn outcome(r: &AttestationResult, name: &str) -> Outcome {
    r.check(name).unwrap_or_else(|| panic!("{name}")).outcome
}

#[test]
fn requirements_tighten_and_never_widen() {
    let e = YubiHsm2::default();
    let with = |list: &[&str]| {
        let requirements = list.iter().map(|r| r.parse().unwrap());
        let policy = requirements.fold(Policy::origin(), Policy::require);
        ask(&e, &e.files(), &policy).verdict
    };
    assert_eq!(with(&["serial=1234"]), Verdict::Accept);
    assert_eq!(with(&["serial=1234", "serial=1235"]), Verdict::Reject);
    assert_eq!(with(&["format=yubihsm2"]), Verdict::Accept);
    assert_eq!(with(&["format=yubihsm2", "format=tpm2"]), Verdict::Reject);
    assert_eq!(with(&["not-recoverable", "sign-only"]), Verdict::Accept);
    assert_eq!(with(&["fips=140-2:1"]), Verdict::Unverifiable);
    assert_eq!(with(&["fresh"]), Verdict::Unverifiable);
    assert_eq!(with(&["vendor=Yubico"]), Verdict::Accept);
    assert_eq!(with(&["vendor=yubico"]), Verdict::Reject);
    assert_eq!(with(&["vendor=Yubico", "vendor=Entrust"]), Verdict::Reject);
    // It carries no time, and no nonce was given: its age is not known.
    assert_eq!(with(&["max-age=36500d"]), Verdict::Unverifiable);
    for bad in [
        "",
        "sign-only=",
        "serial=",
        "method=0",
        "method=8",
        "fips=140-2",
        "fips=140-2:5",
        "vendor=",
        "max-age=",
        "max-age=d",
        "max-age=0d",
        "max-age=+1d",
        "max-age=1y",
        "max-age=36501d",
        "max-age=99999999999999999999s",
        "x",
    ] {
        assert!(bad.parse::<Requirement>().is_err(), "{bad}");
    }
}

#[test]
fn of_a_list_one_is_enough_and_of_two_ages_the_shorter_holds() {
    let e = YubiHsm2::default();
    let mut policy = Policy::origin();
    policy.vendors = vec!["Entrust".to_owned(), "Yubico".to_owned()];
    let r = ask(&e, &e.files(), &policy);
    assert_eq!(outcome(&r, "policy-vendors"), Outcome::Pass);
    // What is not proved is no maker.
    let r = ask(&e, &e.files()[..1], &policy);
    assert_eq!(outcome(&r, "policy-vendors"), Outcome::Unknown);
    let policy = ["max-age=2d", "max-age=90m", "max-age=1d"]
        .iter()
        .map(|r| r.parse().unwrap())
        .fold(policy, Policy::require);
    let said = ask(&e, &e.files(), &policy).policy.unwrap().demands;
    assert!(said.contains(&"max-age=90m".to_owned()), "{said:?}");
    assert!(
        said.contains(&"vendor=Entrust or Yubico".to_owned()),
        "{said:?}"
    );
}

#[test]
fn a_policy_that_allows_wrapped_keys_still_hears_the_format() {
    // The format's own rule refuses the bit; a policy cannot switch a check off.
    let e = YubiHsm2 {
        capabilities: 1 << 7 | 1 << 16,
        ..YubiHsm2::default()
    };
    let loose = r#"{"version":1,"name":"loose","exportable":["never","wrapped"]}"#;
    let result = ask(&e, &e.files(), &Policy::from_json(loose).unwrap());
    assert_eq!(outcome(&result, "policy-exportable"), Outcome::Pass);
    assert_eq!(result.verdict, Verdict::Reject);
}

#[test]
fn a_weakness_refuses_where_the_policy_says_so() {
    let e = YubiHsm2 {
        firmware: [2, 2, 0],
        device_firmware: None,
        ..YubiHsm2::default()
    };
    assert_eq!(
        ask(&e, &e.files(), &Policy::origin()).verdict,
        Verdict::Accept
    );
    let strict = r#"{"version":1,"name":"strict","refuse-weaknesses":["CVE-2024-45678"]}"#;
    let strict = Policy::from_json(strict).unwrap();
    let result = ask(&e, &e.files(), &strict);
    assert_eq!(outcome(&result, "policy-weaknesses"), Outcome::Fail);
    // It does not concern an RSA key.
    let rsa = YubiHsm2 {
        key: Key::named(Kind::Rsa2048, "rsa subject"),
        capabilities: 1 << 5,
        ..e
    };
    let result = ask(&rsa, &rsa.files(), &strict);
    assert_eq!(result.verdict, Verdict::Accept);
    assert_eq!(result.weaknesses.len(), 1);
}

/// A request with our statement in it, for a key in hardware.
struct Ordered {
    signer: Pair,
    key: Pair,
    tbs: StatementTbs,
}

impl Ordered {
    fn new() -> Self {
        let (signer, key) = (Pair::new(), Pair::new());
        let mut tbs = full_statement(&signer);
        tbs.device.software = false;
        tbs.key.spki_hash = crate::statement::sha256(&key.spki);
        tbs.csr_info_hash = crate::statement::sha256(&csr_info(&key, "Acme", vec![]).info_der);
        Self { signer, key, tbs }
    }

    fn ask(&self, pinned: &Pair, seconds: i64) -> AttestationResult {
        let signature = self.signer.sign(&self.tbs.encode().unwrap());
        let statement = self.tbs.assemble(&signature).unwrap();
        let bundle = AttestationBundle::of_statement(&statement);
        let request = csr(&self.key, "Acme", vec![attribute(&bundle)]);
        let mut anchors = Anchors::pinned();
        anchors.add_file("statement key", &pinned.spki).unwrap();
        verify(&Question {
            subject: SubjectFile::Csr(File {
                name: "csr",
                bytes: &request,
            }),
            evidence: &[],
            at: at(seconds),
            nonce: None,
            policy: &Policy::origin(),
            anchors: &anchors,
        })
    }
}

const ISSUED: i64 = 1_795_294_775;

#[test]
fn our_statement_supports_method_7_and_proves_nothing_of_a_device() {
    let o = Ordered::new();
    let result = o.ask(&o.signer, ISSUED + 1);
    assert_eq!(
        result.verdict,
        Verdict::Unverifiable,
        "{:#?}",
        result.checks
    );
    assert_eq!(result.supports_methods, [7]);
    assert_eq!(result.facts.genuine, Known::Unknown);
    assert_eq!(result.formats, ["countersign-statement"]);
    // Under a key nobody pinned it counts for nothing.
    let result = o.ask(&Pair::new(), ISSUED + 1);
    assert_eq!(outcome(&result, "statement-signature"), Outcome::NotChecked);
    assert!(result.supports_methods.is_empty());
}

#[test]
fn a_statement_that_disagrees_stands_in_the_way() {
    let failing = |change: &dyn Fn(&mut Ordered), seconds: i64| {
        let mut o = Ordered::new();
        change(&mut o);
        let result = o.ask(&o.signer, seconds);
        assert_eq!(result.verdict, Verdict::Reject);
        assert!(result.supports_methods.is_empty());
        let failed = |c: &&Check| c.outcome == Outcome::Fail;
        let names: Vec<String> = result
            .checks
            .iter()
            .filter(failed)
            .map(|c| c.name.to_string())
            .collect();
        names
    };
    assert_eq!(
        failing(&|o| o.tbs.key.spki_hash = [9; 32], ISSUED + 1),
        ["key-bound"]
    );
    assert_eq!(
        failing(&|o| o.tbs.csr_info_hash = [9; 32], ISSUED + 1),
        ["statement-request"]
    );
    assert_eq!(failing(&|_| {}, ISSUED - 1), ["statement-unexpired"]);
    assert_eq!(failing(&|_| {}, ISSUED + 86_400), ["statement-unexpired"]);
}

proptest! {
    #[test]
    fn arbitrary_files_never_panic_and_are_never_accepted(
        files in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..4)
    ) {
        let e = YubiHsm2::default();
        prop_assert_ne!(ask(&e, &files, &Policy::origin()).verdict, Verdict::Accept);
        let named: Vec<File<'_>> = files.iter().map(|bytes| File { name: "f", bytes }).collect();
        let _ = inspect(&named);
    }
}
