//! Work and memory stay bounded, whatever is handed in.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::Ask;
use countersign_attestation::{Outcome, Verdict};
use countersign_testkit_evidence::cert::{Certificate, certs_only, cn};
use countersign_testkit_evidence::gzip::gzip;
use countersign_testkit_evidence::text::base64;
use countersign_testkit_evidence::yubihsm2::YubiHsm2;
use countersign_testkit_evidence::{Key, Kind, der};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;
use std::time::{Duration, Instant};

/// Debug builds on a busy machine; unbounded work takes minutes.
const LONGEST: Duration = Duration::from_secs(30);

/// Genuine evidence with these files beside it: an answer in time, and none of the limits hides.
#[track_caller]
fn bounded(files: Vec<Vec<u8>>) -> countersign_attestation::AttestationResult {
    let e = YubiHsm2::default();
    let mut all = e.files();
    all.extend(files);
    let start = Instant::now();
    let result = Ask::key(e.key.spki(), e.root()).about(&all);
    assert!(start.elapsed() < LONGEST, "{:?}", start.elapsed());
    result
}

#[track_caller]
fn refused_as_unreadable(files: Vec<Vec<u8>>, words: &str) {
    let r = bounded(files);
    assert_ne!(r.verdict, Verdict::Accept);
    let seen = &r.check("inputs-well-formed").unwrap().seen;
    assert!(seen.contains(words), "{seen}");
}

/// Compressed, as testkit's encoder does not.
fn squeezed(byte: u8, n: usize) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::best());
    out.write_all(&vec![byte; n]).unwrap();
    out.finish().unwrap()
}

#[test]
fn a_gzip_bomb_is_not_blown_up() {
    refused_as_unreadable(vec![squeezed(0, 3 << 20)], "2 MiB");
    // Each within its bound, together beyond the pool's.
    let many: Vec<_> = (0..8_u8).map(|i| squeezed(i, 2 << 20)).collect();
    refused_as_unreadable(many, "more than is read");
}

#[test]
fn wrappers_in_wrappers_end() {
    let mut file = vec![1, 2, 3, 4];
    for _ in 0..40 {
        file = base64(&file).into_bytes();
        if file.len() > 500_000 {
            break;
        }
    }
    refused_as_unreadable(vec![file], "wrapped more often");
    let mut file = vec![1, 2, 3, 4];
    for _ in 0..40 {
        file = gzip(&file);
    }
    refused_as_unreadable(vec![file], "wrapped more often");
}

#[test]
fn deep_nesting_is_read_or_refused_but_ends() {
    let mut nested = Vec::new();
    for _ in 0..2000 {
        nested = der::seq(&[nested]);
    }
    let json = |n: usize| ["[".repeat(n), "]".repeat(n)].concat().into_bytes();
    let xml = ["<a>".repeat(100_000), "</a>".repeat(100_000)].concat();
    let hostile = [
        nested,
        json(100_000),
        json(100),
        xml.into_bytes(),
        // CBOR: arrays in arrays; an array, a map and a string of 2^63 items.
        vec![0x81; 100_000],
        vec![0x9b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        vec![0xbb, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        vec![0x5b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        // DER lengths beyond everything.
        vec![0x30, 0x88, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        vec![0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
    ];
    for file in hostile {
        bounded(vec![file]);
    }
}

#[test]
fn many_certificates_of_one_name_buy_no_unbounded_work() {
    // All have the issuer's name, so each is tried as the issuer of each.
    let key = Key::named(Kind::P256, "hostile");
    let name = cn("Test YubiHSM Sub-CA");
    let forged = |n: u16| {
        let mut c = Certificate::new(name.clone(), &key, name.clone()).ca(None);
        c.serial = n.to_be_bytes().to_vec();
        c.serial.insert(0, 1);
        c.sign(&key)
    };
    let all: Vec<_> = (0..600).map(forged).collect();
    let sets: Vec<_> = all.chunks(60).map(certs_only).collect();
    let r = bounded(sets);
    // The bound on parts or on signatures is reached, and said.
    assert_ne!(r.verdict, Verdict::Accept);
    assert!(r.checks.iter().any(|c| c.outcome == Outcome::Fail));
}

#[test]
fn too_many_files_and_too_long_ones_are_refused() {
    let many: Vec<_> = (0..100_u8).map(|i| vec![i; 3]).collect();
    refused_as_unreadable(many, "more than 64 files");
    refused_as_unreadable(vec![vec![b'x'; (1 << 20) + 1]], "1 MiB");
}
