//! This node's copy of the right edges. Everything appending needs is here: the log itself is never
//! read, and what other nodes wrote comes with the flush that meets it.

use super::SequencerConfig;
use crate::SigningError;
use countersign_core::ports::rows::LogKind;
use countersign_core::ports::store::Moved;
use countersign_core::{LogId, Micros, NodeId, TenantId};
use countersign_signing_log::Hash;
use countersign_signing_log::frontier::Frontier;
use countersign_signing_log::note::SigningKey;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use zeroize::Zeroizing;

/// Heads kept; beyond it the cache is emptied (a head is one row to read again).
const CACHED: usize = 50_000;

/// One log as this node last saw it.
#[derive(Clone)]
pub(super) struct Head {
    pub tenant: TenantId,
    pub kind: LogKind,
    pub origin: Arc<str>,
    pub frontier: Frontier,
    pub checkpoint: Arc<str>,
    pub last_time: Micros,
    /// The epoch this node writes under: one more than the last if another node wrote it.
    pub epoch: u64,
    /// The log key under this log's name.
    pub key: Arc<SigningKey>,
}

/// What a worker has to be told of a log, besides what is written now.
#[derive(Default)]
struct Telling {
    /// Leaves the worker was told of, as far as we know.
    told: u64,
    /// Leaf hashes from there on, written by other nodes.
    untold: Vec<Hash>,
}

pub(super) struct Heads {
    config: SequencerConfig,
    seed: Zeroizing<[u8; 32]>,
    heads: HashMap<LogId, Head>,
    telling: HashMap<LogId, Telling>,
    /// Authorisations this node wrote that have no outcome yet: what its workers may perform.
    uses: HashMap<LogId, BTreeSet<u64>>,
}

impl Heads {
    pub(super) fn new(config: SequencerConfig, seed: [u8; 32]) -> Self {
        Self {
            config,
            seed: Zeroizing::new(seed),
            heads: HashMap::new(),
            telling: HashMap::new(),
            uses: HashMap::new(),
        }
    }

    pub(super) fn get(&self, log: LogId) -> Option<&Head> {
        self.heads.get(&log)
    }

    /// Leaves, as far as this node knows.
    pub(super) fn known(&self, log: LogId) -> Option<u64> {
        self.heads
            .get(&log)
            .map(|h| h.frontier.size())
            .filter(|size| *size > 0)
    }

    pub(super) const fn node(&self) -> NodeId {
        self.config.node
    }

    /// Takes up a head that a flush found moved.
    pub(super) fn take_up(&mut self, moved: Moved) -> Result<(), SigningError> {
        let row = moved.head;
        let frontier = Frontier::from_bytes(&row.frontier)
            .map_err(|e| SigningError::Internal(format!("log {}: {e}", row.log)))?;
        if frontier.size() != row.size {
            return Err(SigningError::Internal(format!(
                "log {}: the right edge is of size {}, the head of {}",
                row.log,
                frontier.size(),
                row.size
            )));
        }
        let known = self.known(row.log);
        let epoch = if row.writer == self.config.node {
            row.epoch
        } else {
            row.epoch.saturating_add(1)
        };
        let head = Head {
            tenant: row.tenant,
            kind: row.kind,
            key: self.key(&row.origin)?,
            origin: row.origin.into(),
            frontier,
            checkpoint: row.checkpoint.into(),
            last_time: row.last_time,
            epoch,
        };
        if head.kind == LogKind::Key {
            let telling = self.telling.entry(row.log).or_default();
            match known {
                // The worker's gap closes with the next announcement.
                Some(size) if size + moved.leaf_hashes.len() as u64 == row.size => {
                    telling.untold.extend(moved.leaf_hashes);
                }
                // Too far, or never seen here: the worker says itself where it is.
                _ => {
                    telling.told = row.size;
                    telling.untold.clear();
                }
            }
        }
        self.heads.insert(row.log, head);
        Ok(())
    }

    /// A log that is about to be opened.
    pub(super) fn unborn(
        &mut self,
        tenant: TenantId,
        log: LogId,
        kind: LogKind,
    ) -> Result<(), SigningError> {
        let origin = format!("{}/{log}", self.config.origin_prefix);
        let head = Head {
            tenant,
            kind,
            key: self.key(&origin)?,
            origin: origin.into(),
            frontier: Frontier::empty(),
            checkpoint: "".into(),
            last_time: Micros(0),
            epoch: 1,
        };
        self.heads.insert(log, head);
        Ok(())
    }

    /// After a commit: the head moves. What its worker must be told: from which size on, and all
    /// leaf hashes from there.
    pub(super) fn moved(
        &mut self,
        log: LogId,
        frontier: Frontier,
        checkpoint: Arc<str>,
        last_time: Micros,
        new: Vec<Hash>,
    ) -> (u64, Vec<Hash>) {
        let size = frontier.size();
        if let Some(head) = self.heads.get_mut(&log) {
            head.frontier = frontier;
            head.checkpoint = checkpoint;
            head.last_time = last_time;
        }
        let telling = self.telling.entry(log).or_default();
        let from = telling.told;
        let mut hashes = std::mem::take(&mut telling.untold);
        hashes.extend(new);
        telling.told = size;
        (from, hashes)
    }

    /// The worker was told of everything up to `size` by other means.
    pub(super) fn told(&mut self, log: LogId, size: u64) {
        let known = self.known(log);
        if known == Some(size) {
            let telling = self.telling.entry(log).or_default();
            telling.told = size;
            telling.untold.clear();
        } else if known.is_some_and(|k| k < size) {
            // Other nodes wrote on: the next flush brings the head anew.
            self.heads.remove(&log);
        }
    }

    /// Remembers an authorisation of this node's as open.
    pub(super) fn opened(&mut self, log: LogId, index: u64) {
        self.uses.entry(log).or_default().insert(index);
    }

    /// It has its outcome.
    pub(super) fn closed(&mut self, log: LogId, index: u64) {
        if let Some(open) = self.uses.get_mut(&log) {
            open.remove(&index);
            if open.is_empty() {
                self.uses.remove(&log);
            }
        }
    }

    /// Authorisations of this node's in a log from `from` on that have no outcome yet.
    pub(super) fn uses(&self, log: LogId, from: u64) -> Vec<u64> {
        self.uses
            .get(&log)
            .map(|open| open.range(from..).copied().collect())
            .unwrap_or_default()
    }

    /// Empties the cache if it is full. Before a plan, never within one.
    pub(super) fn make_room(&mut self) {
        if self.heads.len() >= CACHED {
            self.forget_all();
        }
    }

    pub(super) fn forget(&mut self, log: LogId) {
        self.heads.remove(&log);
    }

    /// Logs that were planned and not created: they do not exist.
    pub(super) fn forget_unborn(&mut self) {
        self.heads.retain(|_, h| h.frontier.size() > 0);
    }

    pub(super) fn forget_all(&mut self) {
        self.heads.clear();
        self.telling.clear();
    }

    fn key(&self, origin: &str) -> Result<Arc<SigningKey>, SigningError> {
        SigningKey::from_seed(&self.seed, origin)
            .map(Arc::new)
            .map_err(|e| SigningError::Internal(format!("log key for {origin}: {e}")))
    }
}
