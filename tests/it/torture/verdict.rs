//! The judgement: every log from its bytes, against every answer that any client got.

use super::ledger::{Answer, Head, Ledger, Loss};
use crate::support::cli::Cli;
use crate::support::judges::size_of;
use crate::support::load::Leaves;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_signing_log::Frontier;
use countersign_signing_log::merkle::leaf_hash;
use countersign_signing_log::tile::{EntryBundle, TilePath};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

/// Receipts that the judges outside get as files, for each log; the rest was verified when it came.
const RECEIPTS: usize = 300;

/// The exit code of a node that was declared dead.
pub const BURIED: i32 = 5;
/// Longest a node that was declared dead is awake before it ends.
const AWAKE: Duration = Duration::from_secs(20);

/// A run of a node that ended.
#[derive(Debug, Clone, Copy)]
pub struct End {
    pub node: usize,
    pub at: Instant,
    /// Its exit code; 0 after SIGTERM: everything was settled before.
    pub code: Option<i32>,
}

/// A node that was frozen past its lease and woke.
#[derive(Debug, Clone, Copy)]
pub struct Stall {
    pub node: usize,
    pub woken: Instant,
}

/// What the logs say.
#[derive(Debug, Default)]
pub struct Verdict {
    pub logs: usize,
    pub leaves: usize,
    /// Outcomes by result.
    pub outcomes: BTreeMap<String, usize>,
    /// Signatures that reached a client and whose outcome is `unknown`: their node died between the
    /// answer and the outcome's commit.
    pub released_unknown: usize,
    /// Leaves that repeat an earlier attempt.
    pub attempts: usize,
    /// Checkpoints that were compared with the leaves.
    pub heads: usize,
}

/// Judges. Losses go into the ledger.
pub fn judge(
    admin: &Cli,
    logs: &[Leaves],
    ledger: &mut Ledger,
    ends: &[End],
    stalls: &[Stall],
    receipts: &Path,
) -> Verdict {
    let mut verdict = Verdict {
        logs: logs.len(),
        ..Verdict::default()
    };
    let mut book = Book::default();
    for log in logs {
        verdict.leaves += log.leaves.len();
        book.read(log, &mut verdict, ledger);
        heads(log, &mut verdict, ledger);
    }
    let answers: Vec<Answer> = ledger.released().cloned().collect();
    let mut used: HashMap<(&str, u64), &Answer> = HashMap::new();
    for answer in &answers {
        if let Some(other) = used.insert((&answer.origin, answer.index), answer) {
            let loss = if other.tbs == answer.tbs {
                Loss::OtherAnswer
            } else {
                Loss::Doubled
            };
            let what = format!(
                "leaf {} of {}: {} and {}",
                answer.index, answer.origin, other.tbs, answer.tbs
            );
            ledger.lose(loss, what);
        }
        book.match_answer(answer, ends, stalls, &mut verdict, ledger);
    }
    for (tbs, attempts) in &book.attempts {
        check_attempts(tbs, attempts, &book, ledger);
    }
    let mut of_log: HashMap<&str, usize> = HashMap::new();
    for answer in &answers {
        let count = of_log.entry(&answer.origin).or_default();
        *count += 1;
        if *count <= RECEIPTS {
            let name = answer.origin.rsplit('/').next().unwrap_or("log");
            let name = format!("{name}-{}.tlog-proof", answer.index);
            std::fs::write(receipts.join(name), &answer.receipt).expect("a receipt");
        }
    }
    for log in logs {
        let audited = catch_unwind(AssertUnwindSafe(|| log.audited(admin, receipts)));
        if let Err(why) = audited {
            let why = why.downcast_ref::<String>().map_or("", String::as_str);
            ledger.lose(Loss::BadLog, format!("{}: {why}", log.origin));
        }
    }
    verdict
}

/// The authorisations of all logs.
#[derive(Default)]
struct Book {
    /// By what was signed: (origin, index, leaf), in the order of the log.
    attempts: HashMap<String, Vec<(String, u64, Value)>>,
    /// Outcomes by origin and index.
    outcomes: HashMap<(String, u64), Value>,
}

impl Book {
    fn read(&mut self, log: &Leaves, verdict: &mut Verdict, ledger: &mut Ledger) {
        let mut closed = HashSet::new();
        for leaf in &log.leaves {
            let index = leaf["index"].as_u64().unwrap_or(u64::MAX);
            let body = &leaf["leaf"];
            if body["type"] == "outcome" {
                let of = body["of"].as_u64().unwrap_or(u64::MAX);
                if !closed.insert(of) {
                    let what = format!("leaf {of} of {} has two outcomes", log.origin);
                    ledger.lose(Loss::Doubled, what);
                }
                let result = body["result"].as_str().unwrap_or("?");
                let reason = body["reason"].as_str().unwrap_or_default();
                let name = match result {
                    "unknown" => {
                        format!("unknown: {}", reason.chars().take(40).collect::<String>())
                    }
                    _ => result.to_owned(),
                };
                *verdict.outcomes.entry(name).or_default() += 1;
                self.outcomes.insert((log.origin.clone(), of), body.clone());
            } else if body["type"] == "authorisation" && body["purpose"] == "signature" {
                let tbs = leaf["details"]["tbs"].as_str().unwrap_or("?").to_owned();
                verdict.attempts += usize::from(body["attempt"] != 1);
                let entry = (log.origin.clone(), index, body.clone());
                self.attempts.entry(tbs).or_default().push(entry);
            }
        }
    }

    fn outcome(&self, origin: &str, index: u64) -> &Value {
        let found = self.outcomes.get(&(origin.to_owned(), index));
        found.unwrap_or(&Value::Null)
    }

    /// A signature that reached a client: exactly one leaf, and `signed` with this very signature.
    fn match_answer(
        &self,
        answer: &Answer,
        ends: &[End],
        stalls: &[Stall],
        verdict: &mut Verdict,
        ledger: &mut Ledger,
    ) {
        let attempts = self.attempts.get(&answer.tbs).into_iter().flatten();
        let leaves = attempts.filter(|(o, i, _)| *o == answer.origin && *i == answer.index);
        let place = format!("leaf {} of {}", answer.index, answer.origin);
        if leaves.count() != 1 {
            return ledger.lose(Loss::NotInLog, format!("{place} is not of {}", answer.tbs));
        }
        let outcome = self.outcome(&answer.origin, answer.index);
        match outcome["result"].as_str() {
            Some("signed") if outcome["signature_sha256"] == answer.signature_sha256.as_str() => {}
            // Answered, and the node died before the outcome's commit: the log says that it does
            // not know. Nothing else may leave this behind.
            Some("unknown") if outcome["reason"] == "node-stopped" => {
                // The run that answered ended after it was asked: bytes that it had sent may come
                // to their reader after its end, and after the next run's begin.
                let mut own: Vec<_> = ends
                    .iter()
                    .filter(|e| e.node == answer.node && e.at >= answer.when.asked)
                    .collect();
                own.sort_by_key(|e| e.at);
                let next = own.iter().position(|e| e.at >= answer.when.answered);
                own.truncate(next.map_or(own.len(), |n| n + 1));
                let end = own.iter().find(|e| e.code != Some(0));
                let awake = end.is_some_and(|end| {
                    end.code == Some(BURIED)
                        && stalls.iter().any(|s| {
                            s.node == answer.node
                                && s.woken <= answer.when.answered
                                && end.at.duration_since(s.woken) < AWAKE
                        })
                });
                if end.is_none() {
                    let what =
                        format!("{place}: answered by a node that did not die, and {outcome}");
                    ledger.lose(Loss::NotInLog, what);
                } else if awake {
                    let what =
                        format!("{place}: answered by a node that had stalled, and {outcome}");
                    ledger.lose(Loss::NotInLog, what);
                } else {
                    verdict.released_unknown += 1;
                }
            }
            _ => ledger.lose(Loss::NotInLog, format!("{place}: answered, and {outcome}")),
        }
    }
}

/// Attempts at one thing: numbered, naming the first, signed at most once.
fn check_attempts(tbs: &str, attempts: &[(String, u64, Value)], book: &Book, ledger: &mut Ledger) {
    let first = attempts[0].1;
    let mut signed = 0;
    for (n, (origin, index, leaf)) in attempts.iter().enumerate() {
        let outcome = book.outcome(origin, *index);
        let place = format!("leaf {index} of {origin} ({tbs})");
        match outcome["result"].as_str() {
            Some("signed") => signed += 1,
            Some("unknown" | "failed") => {}
            _ => ledger.lose(Loss::StaysOpen, format!("{place}: {outcome}")),
        }
        if leaf["attempt"] != n + 1 || (n > 0 && leaf["repeats"] != first) {
            ledger.lose(
                Loss::Doubled,
                format!("{place}: attempt {} is {leaf}", n + 1),
            );
        }
    }
    if signed > 1 {
        ledger.lose(Loss::Doubled, format!("{tbs}: signed {signed} times"));
    }
}

/// Every checkpoint that anybody saw is of this tree, whichever node showed it.
fn heads(log: &Leaves, verdict: &mut Verdict, ledger: &mut Ledger) {
    let seen: Vec<Head> = ledger
        .heads
        .iter()
        .filter(|h| h.origin == log.origin)
        .cloned()
        .collect();
    let mut roots: HashMap<u64, Vec<String>> = HashMap::new();
    for head in seen {
        roots.entry(head.size).or_default().push(head.root);
    }
    verdict.heads += roots.values().map(Vec::len).sum::<usize>();
    let mut tree = Frontier::empty();
    for entry in entries(&log.folder) {
        tree.append(leaf_hash(&entry));
        let Some(shown) = roots.remove(&tree.size()) else {
            continue;
        };
        let root = STANDARD.encode(tree.root());
        for other in shown.iter().filter(|shown| **shown != root) {
            let what = format!(
                "{} at {}: shown {other}, the leaves give {root}",
                log.origin,
                tree.size()
            );
            ledger.lose(Loss::Fork, what);
        }
    }
    for (size, _) in roots {
        let what = format!(
            "{}: a checkpoint of {size} leaves was shown, there are {}",
            log.origin,
            tree.size()
        );
        ledger.lose(Loss::Fork, what);
    }
}

/// The bytes of all leaves of a downloaded log.
fn entries(folder: &Path) -> Vec<Vec<u8>> {
    let size = size_of(folder);
    let mut all = Vec::new();
    for bundle in 0..size.div_ceil(256) {
        let width = u16::try_from((size - bundle * 256).min(256)).expect("a width");
        let path = folder.join(TilePath::entries(bundle, width).to_string());
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        all.extend(
            EntryBundle::decode(&bytes, width)
                .expect("a bundle")
                .entries,
        );
    }
    all
}
