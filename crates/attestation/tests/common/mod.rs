//! Asks the verifier about evidence that testkit wrote.

#![allow(dead_code, reason = "each test file uses what it needs")]

use countersign_attestation::result::{AttestationResult, Outcome, Verdict};
use countersign_attestation::verify::{File, Policy, Question, SubjectFile, verify};
use countersign_attestation::{Anchors, UnixSeconds};

/// 2026-11-22T00:00:00Z.
pub const NOW: i64 = 1_795_305_600;

/// A question about testkit's evidence: the key, whom to trust, what to demand.
pub struct Ask {
    /// SubjectPublicKeyInfo or request.
    pub subject: Vec<u8>,
    /// Whether the subject is a request.
    pub is_csr: bool,
    /// Certificates or keys added to the pinned anchors.
    pub anchors: Vec<Vec<u8>>,
    /// As `--require` takes them.
    pub require: Vec<&'static str>,
    /// The nonce.
    pub nonce: Option<Vec<u8>>,
    /// Seconds since 1970.
    pub at: i64,
}

impl Ask {
    /// About a key, trusting `anchor` (empty: nobody but the pinned).
    pub fn key(spki: &[u8], anchor: Vec<u8>) -> Self {
        Self {
            subject: spki.to_vec(),
            is_csr: false,
            // Nothing: the pinned ones alone.
            anchors: [anchor].into_iter().filter(|a| !a.is_empty()).collect(),
            require: vec![],
            nonce: None,
            at: NOW,
        }
    }

    /// The answer for these files, named `file-0`, `file-1`, …
    pub fn about(&self, files: &[Vec<u8>]) -> AttestationResult {
        let names: Vec<String> = (0..files.len()).map(|i| format!("file-{i}")).collect();
        let evidence: Vec<File<'_>> = names
            .iter()
            .zip(files)
            .map(|(name, bytes)| File { name, bytes })
            .collect();
        let mut anchors = Anchors::pinned();
        for a in &self.anchors {
            anchors.add_file("test anchor", a).expect("anchor");
        }
        let mut policy = Policy::origin();
        for r in &self.require {
            policy = policy.require(r.parse().expect("requirement"));
        }
        let subject = File {
            name: "subject",
            bytes: &self.subject,
        };
        verify(&Question {
            subject: if self.is_csr {
                SubjectFile::Csr(subject)
            } else {
                SubjectFile::PublicKey(subject)
            },
            evidence: &evidence,
            at: UnixSeconds::new(self.at).expect("time"),
            nonce: self.nonce.as_deref(),
            policy: &policy,
            anchors: &anchors,
        })
    }

    /// Whether these files are accepted.
    pub fn accepts(&self, files: &[Vec<u8>]) -> bool {
        self.about(files).verdict == Verdict::Accept
    }
}

/// Asserts that the answer is reject, and that `check` is among the failed checks.
#[track_caller]
pub fn refused_by(result: &AttestationResult, check: &str) {
    assert_eq!(result.verdict, Verdict::Reject, "{}", why(result));
    let failed = result
        .checks
        .iter()
        .any(|c| c.name == check && c.outcome == Outcome::Fail);
    assert!(failed, "{check} did not fail: {}", why(result));
}

/// Asserts that nothing failed but `check` could not be decided.
#[track_caller]
pub fn undecided_by(result: &AttestationResult, check: &str) {
    assert_eq!(result.verdict, Verdict::Unverifiable, "{}", why(result));
    let open = result
        .checks
        .iter()
        .any(|c| c.name == check && c.outcome == Outcome::Unknown);
    assert!(open, "{check} is decided: {}", why(result));
}

/// Asserts that the answer is accept.
#[track_caller]
pub fn accepted(result: &AttestationResult) {
    assert_eq!(result.verdict, Verdict::Accept, "{}", why(result));
}

/// What stands in the way, in words.
pub fn why(result: &AttestationResult) -> String {
    let reasons: Vec<String> = result
        .reasons()
        .map(|c| format!("{} {:?}: {}", c.name, c.outcome, c.seen))
        .collect();
    format!("{:?}: {}", result.verdict, reasons.join(" | "))
}

/// A folder of the shared real evidence, beside the checkout; `None`, said loudly, where it is not.
pub fn shared(folder: &str) -> Option<std::path::PathBuf> {
    let manifest = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    // Worktrees lie one folder deeper than the checkout itself.
    for up in [
        "../../../shared/attestation",
        "../../../../shared/attestation",
    ] {
        let path = manifest.join(up).join(folder);
        if path.exists() {
            return Some(path);
        }
    }
    eprintln!("NOT CHECKED: ../shared/attestation/{folder} is absent");
    None
}
