//! The whole verifier, with whatever files.

use super::pieces;
use countersign_attestation::anchors::Anchors;
use countersign_attestation::verify::parts::MAX_FILES;
use countersign_attestation::verify::{File, Policy, Question, SubjectFile, inspect, verify};
use countersign_attestation::{Known, Outcome, UnixSeconds, Verdict};
use std::sync::OnceLock;

/// A byte that says how to ask, a subject, an anchor, then evidence. Bit 0: the subject is a
/// request; bit 1: the anchor is trusted. Only with it may anything be accepted: no real
/// evidence is in the corpus.
pub fn attestation_verify(bytes: &[u8]) {
    static PINNED: OnceLock<Anchors> = OnceLock::new();
    let Some((how, rest)) = bytes.split_first() else {
        return;
    };
    let [subject, anchor, ref evidence @ ..] = pieces(rest)[..] else {
        return;
    };
    let mut anchors = PINNED.get_or_init(Anchors::pinned).clone();
    let trusting = how & 2 != 0 && anchors.add_file("anchor", anchor).is_ok();
    let subject = file(subject);
    let evidence: Vec<File<'_>> = evidence.iter().map(|bytes| file(bytes)).collect();
    let policy = Policy::origin();
    let question = Question {
        subject: if how & 1 != 0 {
            SubjectFile::Csr(subject)
        } else {
            SubjectFile::PublicKey(subject)
        },
        evidence: &evidence,
        // 2026-11-22T00:00:00Z.
        at: UnixSeconds::new(1_795_305_600).expect("a time"),
        nonce: None,
        policy: &policy,
        anchors: &anchors,
    };
    let result = verify(&question);
    let failed = result.checks.iter().any(|c| c.outcome == Outcome::Fail);
    match result.verdict {
        Verdict::Accept => {
            assert!(trusting, "accepted without a test anchor");
            assert!(!failed && result.facts.genuine == Known::Yes);
        }
        Verdict::Reject => assert!(failed),
        Verdict::Unverifiable => assert!(!failed),
    }
    assert_eq!(
        verify(&question),
        result,
        "the same question, another answer"
    );
}

/// Files: every part, and what each format says of it.
pub fn attestation_inspect(bytes: &[u8]) {
    let files: Vec<File<'_>> = pieces(bytes).into_iter().map(file).collect();
    let said = inspect(&files);
    assert!(files.len() <= MAX_FILES || !said.problems.is_empty());
    assert_eq!(inspect(&files), said);
}

fn file(bytes: &[u8]) -> File<'_> {
    File {
        name: "file",
        bytes,
    }
}
