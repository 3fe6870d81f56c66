//! Everything that any client ever got, and what went wrong.

use crate::support::load::hex;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::time::Instant;

/// What must not happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loss {
    /// A request got no answer, however often it was sent again.
    Unanswered,
    /// An answer that says a retry cannot help, or one that is none.
    WrongAnswer,
    /// A signature, or its receipt, that does not hold.
    BadSignature,
    /// The first answer was not given again.
    OtherAnswer,
    /// A signature that the log does not know, or knows otherwise.
    NotInLog,
    /// One leaf for two signatures, or two signatures for one wish.
    Doubled,
    /// A checkpoint that the log does not lead to.
    Fork,
    /// An authorisation or a claim that does not end.
    StaysOpen,
    /// A log that a verifier refuses.
    BadLog,
    /// The service did not come back after a fault.
    NotBack,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unanswered => "unanswered",
            Self::WrongAnswer => "wrong answer",
            Self::BadSignature => "bad signature",
            Self::OtherAnswer => "another answer",
            Self::NotInLog => "not in the log",
            Self::Doubled => "doubled",
            Self::Fork => "fork",
            Self::StaysOpen => "stays open",
            Self::BadLog => "bad log",
            Self::NotBack => "not back",
        })
    }
}

/// A signature that reached a client.
#[derive(Debug, Clone)]
pub struct Answer {
    /// `sha-256:<hex>` of what was signed.
    pub tbs: String,
    pub signature_sha256: String,
    pub origin: String,
    pub index: u64,
    pub receipt: String,
    /// Which node gave it.
    pub node: usize,
    pub when: When,
}

/// A request's time, as its client saw it.
#[derive(Debug, Clone, Copy)]
pub struct When {
    pub asked: Instant,
    pub answered: Instant,
}

/// The head of a log that somebody was shown.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Head {
    pub origin: String,
    pub size: u64,
    /// base64, as in the note.
    pub root: String,
}

/// The book of a storm.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Things wished for.
    pub wishes: u64,
    /// Requests sent.
    pub requests: u64,
    /// Of these, again for what had no answer.
    pub retries: u64,
    /// Answers to what was answered already, byte for byte the same.
    pub repeats: u64,
    /// Signatures that reached a client, by what was signed; more than one only where each differs.
    pub answers: HashMap<String, Vec<Answer>>,
    /// Refusals by their code, and connections that broke.
    pub refusals: BTreeMap<String, u64>,
    /// Checkpoints seen, of both nodes and in receipts.
    pub heads: BTreeSet<Head>,
    /// Checkpoints fetched.
    pub looks: u64,
    /// What must not happen.
    pub losses: Vec<(Loss, String)>,
}

impl Ledger {
    pub fn lose(&mut self, loss: Loss, what: impl Into<String>) {
        let what = what.into();
        eprintln!("LOSS ({loss}): {what}");
        self.losses.push((loss, what));
    }

    pub fn refused(&mut self, code: &str) {
        *self.refusals.entry(code.to_owned()).or_default() += 1;
    }

    /// Keeps an answer.
    pub fn answered(&mut self, answer: Answer) {
        if let Some(head) = Head::of_receipt(&answer.receipt) {
            self.heads.insert(head);
        }
        let all = self.answers.entry(answer.tbs.clone()).or_default();
        let same = all
            .iter()
            .any(|a| a.signature_sha256 == answer.signature_sha256 && a.receipt == answer.receipt);
        if same {
            self.repeats += 1;
        } else {
            all.push(answer);
        }
    }

    /// All of them.
    pub fn released(&self) -> impl Iterator<Item = &Answer> {
        self.answers.values().flatten()
    }
}

impl Head {
    /// The first three lines of a checkpoint's note (C2SP tlog-checkpoint).
    pub fn of_note(note: &str) -> Option<Self> {
        let mut lines = note.lines();
        Some(Self {
            origin: lines.next()?.to_owned(),
            size: lines.next()?.parse().ok()?,
            root: lines.next().filter(|root| root.len() == 44)?.to_owned(),
        })
    }

    fn of_receipt(text: &str) -> Option<Self> {
        let receipt = countersign_signing_log::Receipt::parse(text).ok()?;
        Self::of_note(&receipt.checkpoint_note)
    }
}

/// SHA-256, as the details write it.
pub fn sha256(bytes: &[u8]) -> String {
    let digest = countersign_content::digest_of(countersign_core::HashAlgorithm::Sha256, bytes);
    hex(digest.as_bytes())
}
