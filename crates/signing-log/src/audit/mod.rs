//! The offline audit of a downloaded log: no server, no I/O, no trust in whoever served the files.
//!
//! The tree is recomputed from the leaves' bytes; tiles are checked against it, not believed. Then
//! the leaves are checked against each other. Works as a stream: a million leaves need some 250 KB
//! of state.

mod findings;
mod history;
mod walk;

pub use findings::{Finding, FindingKind, Severity};
pub use history::Counts;

use crate::commitment::HexHash;
use crate::leaf::{Leaf, LogOpened};
use crate::note::{Note, VerifierKey};
use crate::tile::TilePath;
use crate::{Checkpoint, Hash};
use history::History;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::mem::Discriminant;

/// How many findings of one kind are kept; more are counted in [`AuditReport::suppressed`].
pub const MAX_FINDINGS_PER_KIND: u64 = 50;
/// How many open authorisations are listed.
pub const MAX_OPEN_LISTED: usize = 100;

/// Where the downloaded files are.
pub trait LogSource {
    /// What reading can fail with; shown in the report.
    type Error: fmt::Display;

    /// The signed checkpoint.
    ///
    /// # Errors
    /// If it cannot be read.
    fn checkpoint(&self) -> Result<String, Self::Error>;

    /// The bytes of a hash tile; `None` if there is no such file.
    ///
    /// # Errors
    /// If it is there and cannot be read.
    fn tile(&self, path: &TilePath) -> Result<Option<Vec<u8>>, Self::Error>;

    /// The bytes of an entry bundle; `None` if there is no such file.
    ///
    /// # Errors
    /// If it is there and cannot be read.
    fn bundle(&self, path: &TilePath) -> Result<Option<Vec<u8>>, Self::Error>;
}

/// The whole judgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Everything was checked and holds.
    Good,
    /// Nothing is proved wrong, but not everything could be checked.
    Undecided,
    /// The log is proved wrong.
    Bad,
}

/// Size and root of a log, as text for reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Head {
    /// Which log.
    pub origin: String,
    /// Number of leaves.
    pub size: u64,
    /// Root, lower-case hex.
    pub root: HexHash,
}

impl From<&Checkpoint> for Head {
    fn from(c: &Checkpoint) -> Self {
        Self {
            origin: c.origin.clone(),
            size: c.size,
            root: HexHash(c.root),
        }
    }
}

/// What an audit says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditReport {
    /// The judgement over all findings.
    pub verdict: Verdict,
    /// The log audited.
    pub origin: String,
    /// The head the log signed, if its signature holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Head>,
    /// Earlier heads that this log was proved to continue.
    pub consistent_with: Vec<Head>,
    /// Whose log it says it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opened: Option<LogOpened>,
    /// How many of what.
    pub counts: Counts,
    /// Time of the first leaf, microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_time: Option<i64>,
    /// Time of the last leaf, microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_time: Option<i64>,
    /// Authorisations without outcome, at most [`MAX_OPEN_LISTED`].
    pub open: Vec<u64>,
    /// In a tenant's log: the last head it vouches for, of each key's log.
    pub key_heads: BTreeMap<String, Head>,
    /// What was found, worst first, then in the order of the log.
    pub findings: Vec<Finding>,
    /// Findings beyond [`MAX_FINDINGS_PER_KIND`] of a kind.
    pub suppressed: u64,
}

/// Audits a log: `keys` are its verifier keys (named as its origin), `previous` the last head seen.
pub fn audit<S: LogSource>(
    source: &S,
    origin: &str,
    keys: &[VerifierKey],
    previous: Option<&Checkpoint>,
) -> AuditReport {
    audit_with(
        source,
        origin,
        keys,
        previous.map(std::slice::from_ref).unwrap_or_default(),
        |_| {},
    )
}

/// One leaf on its way through the audit.
#[derive(Debug)]
pub struct AuditedLeaf<'a> {
    /// Its index.
    pub index: u64,
    /// Its exact bytes.
    pub bytes: &'a [u8],
    /// Its leaf hash.
    pub hash: Hash,
    /// What it says, if it could be read.
    pub leaf: Option<&'a Leaf>,
}

/// As [`audit`], against several earlier heads (one's own, those in receipts, those that the tenant
/// log vouches for), showing each leaf to `visit` in order (to pair it with receipts or details).
pub fn audit_with<S: LogSource>(
    source: &S,
    origin: &str,
    keys: &[VerifierKey],
    known: &[Checkpoint],
    visit: impl FnMut(&AuditedLeaf<'_>),
) -> AuditReport {
    let mut report = Report::default();
    let (checkpoint, authentic) = head(source, origin, keys, &mut report);
    let mut history = History::default();
    let mut consistent_with = Vec::new();
    if let Some(checkpoint) = &checkpoint {
        let known = usable_heads(origin, known, checkpoint, &mut report);
        consistent_with = walk::walk(source, checkpoint, &known, &mut report, &mut history, visit);
    }
    history.finish(|kind| report.add(None, kind));
    report
        .findings
        .sort_by_key(|f| (std::cmp::Reverse(f.severity), f.index));
    AuditReport {
        verdict: report.verdict(),
        origin: origin.to_owned(),
        checkpoint: checkpoint.filter(|_| authentic).as_ref().map(Head::from),
        consistent_with: if authentic {
            consistent_with
        } else {
            Vec::new()
        },
        open: history.open(MAX_OPEN_LISTED),
        opened: history.opened,
        counts: history.counts,
        first_time: history.first_time,
        last_time: history.last_time,
        key_heads: history
            .key_checkpoints
            .iter()
            .map(|(k, c)| (k.clone(), c.into()))
            .collect(),
        findings: report.findings,
        suppressed: report.suppressed,
    }
}

/// The head to check against, and whether the log's key vouches for it. An unauthentic head is still
/// walked, so that the report can say what else is wrong.
fn head<S: LogSource>(
    source: &S,
    origin: &str,
    keys: &[VerifierKey],
    report: &mut Report,
) -> (Option<Checkpoint>, bool) {
    let note = match source.checkpoint() {
        Ok(note) => note,
        Err(e) => {
            report.add(None, FindingKind::CheckpointMissing { why: e.to_string() });
            return (None, false);
        }
    };
    match Checkpoint::open(&note, origin, keys) {
        Ok(checkpoint) => (Some(checkpoint), true),
        Err(e) => {
            report.add(None, FindingKind::CheckpointRefused { why: e.to_string() });
            let claimed = Note::parse(&note).ok();
            (
                claimed.and_then(|n| Checkpoint::parse(n.unverified_text()).ok()),
                false,
            )
        }
    }
}

fn usable_heads<'a>(
    origin: &str,
    known: &'a [Checkpoint],
    now: &Checkpoint,
    report: &mut Report,
) -> Vec<&'a Checkpoint> {
    let mut usable: Vec<&Checkpoint> = Vec::new();
    for k in known {
        if k.origin != origin {
            report.add(
                None,
                FindingKind::KnownOfOtherLog {
                    origin: k.origin.clone(),
                },
            );
        } else if k.size > now.size {
            report.add(
                None,
                FindingKind::LogShrank {
                    known: k.size,
                    now: now.size,
                },
            );
        } else {
            usable.push(k);
        }
    }
    usable.sort_by_key(|k| k.size);
    usable
}

/// Findings as they come, bounded in number.
#[derive(Default)]
struct Report {
    findings: Vec<Finding>,
    per_kind: HashMap<Discriminant<FindingKind>, u64>,
    suppressed: u64,
    worst: Option<Severity>,
}

impl Report {
    fn add(&mut self, index: Option<u64>, kind: FindingKind) {
        let severity = kind.severity();
        self.worst = self.worst.max(Some(severity));
        let seen = self
            .per_kind
            .entry(std::mem::discriminant(&kind))
            .or_default();
        *seen += 1;
        if *seen > MAX_FINDINGS_PER_KIND {
            self.suppressed += 1;
        } else {
            self.findings.push(Finding {
                severity,
                index,
                kind,
            });
        }
    }

    const fn verdict(&self) -> Verdict {
        match self.worst {
            Some(Severity::Bad) => Verdict::Bad,
            Some(Severity::Undecided) => Verdict::Undecided,
            _ => Verdict::Good,
        }
    }
}
