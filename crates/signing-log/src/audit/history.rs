//! What the leaves say, checked against each other. Memory: four bits for each leaf, and one entry
//! for each key.

use super::findings::FindingKind;
use crate::Checkpoint;
use crate::leaf::{Asserted, Authorisation, Leaf, LeafBody, LogOpened, Outcome, OutcomeResult};
use serde::Serialize;
use std::collections::BTreeMap;

/// How many of what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Leaves read and understood.
    pub leaves: u64,
    /// Authorisations.
    pub authorisations: u64,
    /// Of these, with a signature.
    pub signed: u64,
    /// Of these, without.
    pub failed: u64,
    /// Of these, hidden by a crash.
    pub unknown: u64,
    /// Of these, without outcome.
    pub open: u64,
    /// Authorisations that repeat one whose outcome is failed or unknown.
    pub repeats: u64,
    /// Authorisations over a bare digest.
    pub digest_only: u64,
    /// Leaves by type.
    pub by_type: BTreeMap<&'static str, u64>,
}

/// The state of the check; fed with every leaf in order.
#[derive(Debug, Default)]
pub(super) struct History {
    pub counts: Counts,
    pub opened: Option<LogOpened>,
    pub first_time: Option<i64>,
    pub last_time: Option<i64>,
    pub key_checkpoints: BTreeMap<String, Checkpoint>,
    authorisations: Bits,
    closed: Bits,
    /// Authorisations that a retry may repeat: their outcome is not a signature.
    repeatable: Bits,
    /// Leaves that could not be read: what refers to them is not judged.
    unread: Bits,
}

impl History {
    /// Checks one leaf against all before it.
    pub fn leaf(&mut self, index: u64, leaf: &Leaf, mut found: impl FnMut(FindingKind)) {
        self.counts.leaves += 1;
        *self
            .counts
            .by_type
            .entry(leaf.body.type_name())
            .or_default() += 1;
        if let Some(last) = self.last_time
            && leaf.time < last
        {
            found(FindingKind::TimeWentBack {
                micros: last.saturating_sub(leaf.time),
            });
        }
        self.first_time.get_or_insert(leaf.time);
        self.last_time = Some(self.last_time.map_or(leaf.time, |last| last.max(leaf.time)));

        let is_opening = matches!(leaf.body, LeafBody::LogOpened(_));
        if index == 0 && !is_opening {
            found(FindingKind::NotOpened);
        } else if index > 0 && is_opening {
            found(FindingKind::OpenedAgain);
        }
        if let Some(opened) = &self.opened {
            let in_place = if opened.key.is_some() {
                leaf.body.belongs_to_key_log()
            } else {
                leaf.body.belongs_to_tenant_log()
            };
            if !in_place {
                found(FindingKind::OutOfPlace {
                    type_name: leaf.body.type_name().to_owned(),
                });
            }
        }
        match &leaf.body {
            LeafBody::LogOpened(opened) if index == 0 => self.log_opened(opened, &mut found),
            LeafBody::Authorisation(a) => self.authorisation(index, a, &mut found),
            LeafBody::Outcome(o) => self.outcome(index, o, &mut found),
            LeafBody::KeyCheckpoint(c) => {
                let now = Checkpoint {
                    origin: c.origin.clone(),
                    size: c.size,
                    root: c.root.0,
                };
                if let Some(known) = self.key_checkpoints.get(&c.key) {
                    let same = known.size == now.size && known.root == now.root;
                    if known.origin == now.origin && !same && known.size >= now.size {
                        found(FindingKind::KeyLogContradicted {
                            key: c.key.clone(),
                            known: known.size,
                            now: now.size,
                        });
                        return;
                    }
                }
                self.key_checkpoints.insert(c.key.clone(), now);
            }
            _ => {}
        }
    }

    /// Notes that a leaf could not be read. Why is a finding already.
    pub fn unread(&mut self, index: u64) {
        self.unread.set(index);
    }

    /// Indices of authorisations without outcome, first come first, at most `most`.
    pub fn open(&self, most: usize) -> Vec<u64> {
        self.authorisations
            .iter()
            .filter(|i| !self.closed.get(*i))
            .take(most)
            .collect()
    }

    /// What can only be said at the end.
    pub fn finish(&self, mut found: impl FnMut(FindingKind)) {
        let c = &self.counts;
        if self
            .opened
            .as_ref()
            .and_then(|o| o.key.as_ref())
            .is_some_and(|k| k.software)
        {
            found(FindingKind::SoftwareKey);
        }
        if c.open > 0 {
            found(FindingKind::OpenAuthorisations { count: c.open });
        }
        if c.unknown > 0 {
            found(FindingKind::UnknownOutcomes { count: c.unknown });
        }
        if c.digest_only > 0 {
            found(FindingKind::DigestOnlyUses {
                count: c.digest_only,
            });
        }
    }

    fn log_opened(&mut self, opened: &LogOpened, found: &mut impl FnMut(FindingKind)) {
        if let Some(previous) = &opened.previous {
            found(FindingKind::Continues {
                origin: previous.origin.clone(),
                size: previous.size,
                missing: previous.missing,
            });
        }
        self.opened = Some(opened.clone());
    }

    fn authorisation(
        &mut self,
        index: u64,
        a: &Authorisation,
        found: &mut impl FnMut(FindingKind),
    ) {
        self.counts.authorisations += 1;
        self.counts.open += 1;
        self.authorisations.set(index);
        if a.asserted == Asserted::DigestOnly {
            self.counts.digest_only += 1;
        }
        if let Some(of) = a.repeats {
            self.counts.repeats += 1;
            let hidden = self.unread.get(of) || (!self.closed.get(of) && !self.unread.is_empty());
            if !self.repeatable.get(of) && !hidden {
                found(FindingKind::RepeatNotAllowed { of });
            }
        }
        let Some(opened) = &self.opened else { return };
        if opened.tenant != a.tenant {
            found(FindingKind::OtherTenant {
                tenant: a.tenant.clone(),
            });
        }
        if opened.key.as_ref().is_some_and(|k| k.id != a.key) {
            found(FindingKind::OtherKey { key: a.key.clone() });
        }
    }

    fn outcome(&mut self, index: u64, o: &Outcome, found: &mut impl FnMut(FindingKind)) {
        if self.unread.get(o.of) {
            return;
        }
        if o.of >= index || !self.authorisations.get(o.of) {
            found(FindingKind::OutcomeWithoutAuthorisation { of: o.of });
            return;
        }
        if self.closed.get(o.of) {
            found(FindingKind::OutcomeDoubled { of: o.of });
            return;
        }
        self.closed.set(o.of);
        self.counts.open -= 1;
        match o.result {
            OutcomeResult::Signed => self.counts.signed += 1,
            OutcomeResult::Failed => {
                self.counts.failed += 1;
                self.repeatable.set(o.of);
            }
            OutcomeResult::Unknown => {
                self.counts.unknown += 1;
                self.repeatable.set(o.of);
            }
        }
    }
}

/// A set of leaf indices, one bit each. Grows only as far as leaves were actually read.
#[derive(Debug, Default)]
struct Bits(Vec<u64>);

impl Bits {
    fn set(&mut self, at: u64) {
        let Ok(word) = usize::try_from(at / 64) else {
            return;
        };
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        if let Some(bits) = self.0.get_mut(word) {
            *bits |= 1 << (at % 64);
        }
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn get(&self, at: u64) -> bool {
        let word = usize::try_from(at / 64).ok().and_then(|w| self.0.get(w));
        word.is_some_and(|bits| bits & (1 << (at % 64)) != 0)
    }

    fn iter(&self) -> impl Iterator<Item = u64> {
        self.0.iter().enumerate().flat_map(|(word, bits)| {
            (0..64_u64)
                .filter(move |b| bits & (1 << b) != 0)
                .map(move |b| word as u64 * 64 + b)
        })
    }
}
