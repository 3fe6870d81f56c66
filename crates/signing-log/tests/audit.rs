//! The audit accepts a good log and names each fault of a bad one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{
    KEY, MemoryLog, ORIGIN, authorisation, bytes, key_log, keys, naive_root, signed, signing_key,
};
use countersign_signing_log::audit::{
    AuditReport, FindingKind, LogSource, MAX_FINDINGS_PER_KIND, Severity, Verdict,
};
use countersign_signing_log::commitment::HexHash;
use countersign_signing_log::leaf::*;
use countersign_signing_log::merkle::leaf_hash;
use countersign_signing_log::{Checkpoint, Leaf, SigningKey, TilePath, audit, audit_with};
use proptest::prelude::*;

fn run(log: &MemoryLog) -> AuditReport {
    audit(log, ORIGIN, &keys(), None)
}

/// The kinds found at `Undecided` or worse.
fn faults(report: &AuditReport) -> Vec<(Option<u64>, FindingKind)> {
    let weighty = report
        .findings
        .iter()
        .filter(|f| f.severity >= Severity::Undecided);
    weighty.map(|f| (f.index, f.kind.clone())).collect()
}

fn head(leaves: &[Leaf]) -> Checkpoint {
    let hashes: Vec<_> = bytes(leaves).iter().map(|b| leaf_hash(b)).collect();
    Checkpoint {
        origin: ORIGIN.into(),
        size: hashes.len() as u64,
        root: naive_root(&hashes),
    }
}

#[test]
fn a_good_log_is_good_at_every_size() {
    let (leaves, _) = key_log(300);
    for size in [0, 1, 2, 3, 255, 256, 257, 511, 512, 513, 601] {
        let report = run(&MemoryLog::new(&leaves[..size]));
        assert_eq!(faults(&report), [], "size {size}");
        assert_eq!(report.verdict, Verdict::Good);
        let counts = &report.counts;
        assert_eq!(counts.leaves, size as u64);
        let (authorisations, signed) = (size as u64 / 2, (size as u64).saturating_sub(1) / 2);
        assert_eq!(
            (counts.authorisations, counts.signed),
            (authorisations, signed)
        );
        assert_eq!(counts.open, authorisations - signed);
        assert_eq!(report.open.len() as u64, counts.open);
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["verdict"], "good");
        assert_eq!(json["checkpoint"]["size"], size);
    }
}

#[test]
fn each_leaf_is_shown_in_order() {
    let (leaves, _) = key_log(200);
    let mut seen = Vec::new();
    let log = MemoryLog::new(&leaves);
    audit_with(&log, ORIGIN, &keys(), &[], |l| {
        seen.push((l.index, l.leaf.cloned()))
    });
    let expected: Vec<_> = (0..).zip(leaves.into_iter().map(Some)).collect();
    assert_eq!(seen, expected);
}

#[test]
fn an_altered_leaf_is_found() {
    let (leaves, _) = key_log(200);
    let mut log = MemoryLog::new(&leaves);
    let path = "tile/entries/001.p/145";
    let text = String::from_utf8_lossy(&log.files[path]).into_owned();
    let at = text.find("\"signer\":\"release\"").unwrap();
    // Same length, so only the hash can tell.
    let bundle = log.files.get_mut(path).unwrap();
    let at = bundle
        .windows(7)
        .skip(at / 2)
        .position(|w| w == b"release")
        .unwrap()
        + at / 2;
    bundle[at] = b'R';
    let report = run(&log);
    assert_eq!(report.verdict, Verdict::Bad);
    let found = faults(&report);
    assert!(
        found
            .iter()
            .any(|(i, k)| *k == FindingKind::LeafAltered && i.is_some()),
        "{found:?}"
    );
    assert!(found.contains(&(None, FindingKind::RootMismatch)));
}

#[test]
fn an_altered_leaf_with_its_tile_altered_too_is_found() {
    let (mut leaves, _) = key_log(200);
    let good = MemoryLog::new(&leaves);
    if let LeafBody::Authorisation(a) = &mut leaves[1].body {
        a.signer = "Release".into();
    }
    let mut forged = MemoryLog::new(&leaves);
    forged.checkpoint = good.checkpoint;
    assert_eq!(faults(&run(&forged)), [(None, FindingKind::RootMismatch)]);
}

#[test]
fn a_wrong_upper_tile_is_found() {
    let (leaves, _) = key_log(600);
    let mut log = MemoryLog::new(&leaves);
    log.files.get_mut("tile/1/000.p/4").unwrap()[40] ^= 1;
    let path = "tile/1/000.p/4".to_owned();
    assert_eq!(
        faults(&run(&log)),
        [(None, FindingKind::TileDiffers { path })]
    );
}

fn uses(bodies: Vec<LeafBody>) -> MemoryLog {
    let mut leaves = vec![common::opened()];
    leaves.extend((0..).zip(bodies).map(|(i, b)| Leaf::new(2_000 + i, b)));
    MemoryLog::new(&leaves)
}

#[test]
fn an_outcome_of_nothing_is_found() {
    let (a, _) = authorisation(0);
    for of in [0, 2, 3, 64, 1 << 40, u64::MAX] {
        let log = uses(vec![a.clone().into(), signed(of).into()]);
        let kind = FindingKind::OutcomeWithoutAuthorisation { of };
        assert_eq!(faults(&run(&log)), [(Some(2), kind)], "{of}");
    }
    // Of an outcome, and of an authorisation still to come.
    let log = uses(vec![
        a.clone().into(),
        signed(1).into(),
        signed(2).into(),
        signed(5).into(),
        a.into(),
    ]);
    let kind = |of| FindingKind::OutcomeWithoutAuthorisation { of };
    assert_eq!(faults(&run(&log)), [(Some(3), kind(2)), (Some(4), kind(5))]);
}

#[test]
fn a_doubled_outcome_is_found() {
    let (a, _) = authorisation(0);
    let log = uses(vec![a.into(), signed(1).into(), signed(1).into()]);
    assert_eq!(
        faults(&run(&log)),
        [(Some(3), FindingKind::OutcomeDoubled { of: 1 })]
    );
}

#[test]
fn a_repeat_is_allowed_after_failed_and_unknown_but_never_after_a_signature() {
    let (a, _) = authorisation(0);
    let outcome = |result| Outcome {
        of: 1,
        result,
        signature_sha256: (result == OutcomeResult::Signed).then_some(HexHash([7; 32])),
        reason: None,
    };
    let repeat = Authorisation {
        attempt: 2,
        repeats: Some(1),
        ..a.clone()
    };
    let log = |result| {
        uses(vec![
            a.clone().into(),
            outcome(result).into(),
            repeat.clone().into(),
        ])
    };
    let good = run(&log(OutcomeResult::Unknown));
    assert_eq!(faults(&good), []);
    assert_eq!((good.counts.unknown, good.counts.repeats), (1, 1));
    let kind = FindingKind::RepeatNotAllowed { of: 1 };
    assert_eq!(faults(&run(&log(OutcomeResult::Failed))), []);
    assert_eq!(faults(&run(&log(OutcomeResult::Signed))), [(Some(3), kind)]);
}

#[test]
fn time_going_backwards_is_found() {
    let (mut leaves, _) = key_log(3);
    leaves[4].time = leaves[3].time - 7;
    let found = faults(&run(&MemoryLog::new(&leaves)));
    assert_eq!(found, [(Some(4), FindingKind::TimeWentBack { micros: 7 })]);
}

#[test]
fn a_forked_or_shrunk_history_is_found() {
    let (leaves, _) = key_log(300);
    let log = MemoryLog::new(&leaves);
    for size in [0, 1, 200, 256, 257, 512, 601] {
        let good = head(&leaves[..size]);
        let report = audit(&log, ORIGIN, &keys(), Some(&good));
        assert_eq!(faults(&report), [], "{size}");
        assert_eq!(report.consistent_with.len(), 1);
        let mut other = leaves[..size].to_vec();
        if let Some(last) = other.last_mut() {
            last.time += 1;
            let report = audit(&log, ORIGIN, &keys(), Some(&head(&other)));
            let kind = FindingKind::HistoryRewritten { size: size as u64 };
            assert_eq!(faults(&report), [(None, kind)]);
            assert_eq!(report.verdict, Verdict::Bad);
        }
    }
    let short = MemoryLog::new(&leaves[..100]);
    let report = audit(&short, ORIGIN, &keys(), Some(&head(&leaves)));
    assert_eq!(
        faults(&report),
        [(
            None,
            FindingKind::LogShrank {
                known: 601,
                now: 100
            }
        )]
    );
    // Several known heads at once, in any order, one of them false.
    let mut known: Vec<_> = [400, 3, 3, 256].map(|n| head(&leaves[..n])).into();
    known.push(Checkpoint {
        root: [0; 32],
        ..head(&leaves[..300])
    });
    let report = audit_with(&log, ORIGIN, &keys(), &known, |_| {});
    assert_eq!(
        faults(&report),
        [(None, FindingKind::HistoryRewritten { size: 300 })]
    );
    assert_eq!(report.consistent_with.len(), 4);
    let elsewhere = Checkpoint {
        origin: "elsewhere".into(),
        ..head(&leaves[..3])
    };
    let report = audit(&log, ORIGIN, &keys(), Some(&elsewhere));
    assert_eq!(report.verdict, Verdict::Undecided);
}

#[test]
fn a_checkpoint_of_another_key_is_refused_and_vouches_for_nothing() {
    let (leaves, _) = key_log(3);
    let stranger = SigningKey::from_seed(&[8; 32], ORIGIN).unwrap();
    let log = MemoryLog::of_bytes(&bytes(&leaves), &stranger);
    let report = run(&log);
    assert_eq!(report.verdict, Verdict::Bad);
    assert!(matches!(
        faults(&report)[..],
        [(None, FindingKind::CheckpointRefused { .. })]
    ));
    assert_eq!(report.checkpoint, None);
    assert_eq!(report.counts.signed, 3, "the rest is still told");
    let good = MemoryLog::of_bytes(&bytes(&leaves), &signing_key());
    let report = audit(&good, "other/origin", &keys(), None);
    assert!(matches!(
        faults(&report)[..],
        [(None, FindingKind::CheckpointRefused { .. })]
    ));
    let damaged = MemoryLog {
        checkpoint: "nonsense".into(),
        ..good
    };
    assert_eq!(run(&damaged).verdict, Verdict::Bad);
}

#[test]
fn missing_files_leave_it_undecided() {
    let (leaves, _) = key_log(300);
    let good = MemoryLog::new(&leaves);
    let without = |path: &str| {
        let mut log = good.clone();
        assert!(log.files.remove(path).is_some(), "{path}");
        run(&log)
    };
    let report = without("tile/entries/001");
    assert_eq!(report.verdict, Verdict::Undecided);
    let missing = FindingKind::BundleMissing {
        path: "tile/entries/001".into(),
    };
    assert!(faults(&report).contains(&(None, missing)));
    assert!(
        !faults(&report).contains(&(None, FindingKind::RootMismatch)),
        "tiles stand in"
    );
    let report = without("tile/0/001");
    assert_eq!(report.verdict, Verdict::Undecided);
    let kind = FindingKind::TileMissing {
        path: "tile/0/001".into(),
    };
    assert_eq!(report.findings.first().map(|f| &f.kind), Some(&kind));
    let mut log = good.clone();
    log.files.remove("tile/entries/001");
    log.files.remove("tile/0/001");
    let report = run(&log);
    assert!(faults(&report).contains(&(None, FindingKind::RootNotChecked { from: 256 })));
    let mut log = good.clone();
    log.files.get_mut("tile/entries/002.p/89").unwrap().push(0);
    let path = "tile/entries/002.p/89".to_owned();
    assert!(faults(&run(&log)).contains(&(None, FindingKind::BundleDamaged { path })));
}

#[test]
fn a_full_tile_stands_in_for_a_partial_one_that_is_gone() {
    let (leaves, _) = key_log(200);
    let mut log = MemoryLog::new(&leaves);
    log.checkpoint = head(&leaves[..200]).sign(&signing_key()).unwrap();
    log.files.remove("tile/1/000.p/1");
    let report = run(&log);
    assert_eq!(faults(&report), []);
    assert_eq!(report.counts.leaves, 200);
}

#[test]
fn leaves_of_another_tenant_key_or_kind_of_log_are_found() {
    let (a, _) = authorisation(0);
    let tenant = Authorisation {
        tenant: "t2".into(),
        ..a.clone()
    };
    let key = Authorisation {
        key: "k2".into(),
        ..a.clone()
    };
    let policy = PolicySet {
        allow_software: true,
        require_mfa: true,
        evidence: None,
    };
    let log = uses(vec![tenant.into(), key.into(), policy.clone().into()]);
    assert_eq!(
        faults(&run(&log)),
        [
            (
                Some(1),
                FindingKind::OtherTenant {
                    tenant: "t2".into()
                }
            ),
            (Some(2), FindingKind::OtherKey { key: "k2".into() }),
            (
                Some(3),
                FindingKind::OutOfPlace {
                    type_name: "policy-set".into()
                }
            ),
        ]
    );
    let tenant_log = Leaf::new(
        1,
        LogOpened {
            tenant: common::TENANT.into(),
            key: None,
            previous: None,
        },
    );
    let log = MemoryLog::new(&[tenant_log.clone(), Leaf::new(2, a), Leaf::new(3, policy)]);
    let kind = FindingKind::OutOfPlace {
        type_name: "authorisation".into(),
    };
    assert_eq!(faults(&run(&log)), [(Some(1), kind)]);
    let twice = MemoryLog::new(&[tenant_log.clone(), tenant_log]);
    assert_eq!(faults(&run(&twice)), [(Some(1), FindingKind::OpenedAgain)]);
    let (leaves, _) = key_log(1);
    let log = MemoryLog::new(&leaves[1..2]);
    assert_eq!(faults(&run(&log)), [(Some(0), FindingKind::NotOpened)]);
}

#[test]
fn unreadable_leaves_are_bad_and_unknown_ones_undecided() {
    let (leaves, _) = key_log(1);
    let mut entries = bytes(&leaves);
    entries.push(b"{\"v\":2,\"type\":\"outcome\"}".to_vec());
    let report = run(&MemoryLog::of_bytes(&entries, &signing_key()));
    assert_eq!(report.verdict, Verdict::Undecided);
    entries.push(b"{\"v\":1,\"type\":\"news\",\"time\":9000}".to_vec());
    let report = run(&MemoryLog::of_bytes(&entries, &signing_key()));
    assert_eq!(report.verdict, Verdict::Undecided);
    assert!(matches!(
        faults(&report)[1],
        (Some(4), FindingKind::LeafUnknown { .. })
    ));
    entries.push(b"not json".to_vec());
    let report = run(&MemoryLog::of_bytes(&entries, &signing_key()));
    assert_eq!(report.verdict, Verdict::Bad);
    assert!(matches!(
        faults(&report)[0],
        (Some(5), FindingKind::LeafUnreadable { .. })
    ));
}

#[test]
fn the_tenant_log_vouches_for_key_logs_and_may_not_contradict_itself() {
    let heads = |sizes: &[(u64, u8)]| {
        let mut leaves = vec![Leaf::new(
            0,
            LogOpened {
                tenant: "t".into(),
                key: None,
                previous: None,
            },
        )];
        leaves.extend(sizes.iter().map(|(size, root)| {
            Leaf::new(
                1,
                KeyCheckpoint {
                    key: KEY.into(),
                    origin: ORIGIN.into(),
                    size: *size,
                    root: HexHash([*root; 32]),
                },
            )
        }));
        run(&MemoryLog::new(&leaves))
    };
    let good = heads(&[(1, 1), (1, 1), (5, 2), (9, 3)]);
    assert_eq!(faults(&good), []);
    assert_eq!(good.key_heads[KEY].size, 9);
    let contradicted = |known, now| FindingKind::KeyLogContradicted {
        key: KEY.into(),
        known,
        now,
    };
    assert_eq!(
        faults(&heads(&[(5, 1), (5, 2)])),
        [(Some(2), contradicted(5, 5))]
    );
    assert_eq!(
        faults(&heads(&[(5, 1), (4, 1)])),
        [(Some(2), contradicted(5, 4))]
    );
}

#[test]
fn what_an_owner_should_know_is_told() {
    let mut opened = common::opened();
    if let LeafBody::LogOpened(o) = &mut opened.body {
        o.key.as_mut().unwrap().software = true;
        let (origin, root) = ("old".into(), HexHash([0; 32]));
        o.previous = Some(Predecessor {
            origin,
            size: 5,
            root,
            missing: 2,
        });
    }
    let (a, _) = authorisation(0);
    let content = ContentKind::RawDigest;
    let raw = Authorisation {
        content,
        asserted: Asserted::DigestOnly,
        artifact: None,
        ..a
    };
    let report = run(&MemoryLog::new(&[opened, Leaf::new(2_000, raw)]));
    let kinds: Vec<_> = report.findings.iter().map(|f| f.kind.clone()).collect();
    assert_eq!(
        kinds,
        [
            FindingKind::SoftwareKey,
            FindingKind::Continues {
                origin: "old".into(),
                size: 5,
                missing: 2
            },
            FindingKind::OpenAuthorisations { count: 1 },
            FindingKind::DigestOnlyUses { count: 1 },
        ]
    );
    assert_eq!(report.verdict, Verdict::Good);
    assert_eq!(report.open, [1]);
    let json = serde_json::to_value(&report.findings[1]).unwrap();
    assert_eq!(json["finding"], "continues");
    assert_eq!(json["severity"], "warning");
    assert_eq!(
        report.findings[1].to_string(),
        "leaf 0: the log continues old after 5 leaves; 2 are missing"
    );
}

#[test]
fn findings_of_a_kind_are_bounded() {
    let log = uses((0..200).map(|_| signed(1 << 50).into()).collect());
    let report = run(&log);
    assert_eq!(report.findings.len() as u64, MAX_FINDINGS_PER_KIND);
    assert_eq!(report.suppressed, 200 - MAX_FINDINGS_PER_KIND);
}

/// A folder whose files cannot be read.
struct Broken;

impl LogSource for Broken {
    type Error = &'static str;
    fn checkpoint(&self) -> Result<String, &'static str> {
        let origin = ORIGIN.to_owned();
        let huge = Checkpoint {
            origin,
            size: i64::MAX as u64,
            root: [0; 32],
        };
        Ok(huge.sign(&signing_key()).unwrap())
    }
    fn tile(&self, _: &TilePath) -> Result<Option<Vec<u8>>, &'static str> {
        Err("input/output error")
    }
    fn bundle(&self, _: &TilePath) -> Result<Option<Vec<u8>>, &'static str> {
        Err("input/output error")
    }
}

#[test]
fn a_broken_disk_and_a_huge_size_end_soon_and_undecided() {
    let report = audit(&Broken, ORIGIN, &keys(), None);
    assert_eq!(report.verdict, Verdict::Undecided);
    assert!(report.findings.len() <= 3, "{:?}", report.findings);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn any_changed_byte_of_the_download_is_found(
        file: prop::sample::Index,
        at: prop::sample::Index,
        flip in 1..=255_u8,
    ) {
        let (leaves, _) = key_log(140);
        let mut log = MemoryLog::new(&leaves);
        let path = log.files.keys().nth(file.index(log.files.len())).unwrap().clone();
        let bytes = log.files.get_mut(&path).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        prop_assert_eq!(run(&log).verdict, Verdict::Bad, "{} byte {}", path, at);
    }
}
