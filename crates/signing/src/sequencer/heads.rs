//! This node's copy of the right edges. Everything appending needs is here: the log itself is never
//! read.

use super::SequencerConfig;
use crate::SigningError;
use countersign_core::ports::rows::LogKind;
use countersign_core::ports::store::{Lease, Store};
use countersign_core::{LogId, Micros, TenantId};
use countersign_signing_log::frontier::Frontier;
use countersign_signing_log::note::SigningKey;
use std::collections::HashMap;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Heads kept; beyond it the cache is emptied (a head is one row to read again).
const CACHED: usize = 50_000;

/// One log as this node last wrote it.
#[derive(Clone)]
pub(super) struct Head {
    pub tenant: TenantId,
    pub kind: LogKind,
    pub origin: Arc<str>,
    pub frontier: Frontier,
    pub checkpoint: Arc<str>,
    pub last_time: Micros,
    pub epoch: u64,
    pub until: Micros,
    /// The log key under this log's name.
    pub key: Arc<SigningKey>,
}

pub(super) struct Heads {
    config: SequencerConfig,
    seed: Zeroizing<[u8; 32]>,
    heads: HashMap<LogId, Head>,
}

impl Heads {
    pub(super) fn new(config: SequencerConfig, seed: [u8; 32]) -> Self {
        Self {
            config,
            seed: Zeroizing::new(seed),
            heads: HashMap::new(),
        }
    }

    pub(super) fn get(&self, log: LogId) -> Option<&Head> {
        self.heads.get(&log)
    }

    pub(super) fn checkpoint(&self, log: LogId) -> Option<(u64, Arc<str>)> {
        self.heads
            .get(&log)
            .map(|h| (h.frontier.size(), h.checkpoint.clone()))
    }

    pub(super) const fn node(&self) -> &SequencerConfig {
        &self.config
    }

    /// Makes sure the head is here and its lease is ours. `opened` says that the caller is about to
    /// open a log that does not exist yet.
    pub(super) async fn ensure(
        &mut self,
        store: &dyn Store,
        tenant: TenantId,
        log: LogId,
        opened: Option<LogKind>,
        now: Micros,
    ) -> Result<(), SigningError> {
        if let Some(head) = self.heads.get(&log) {
            if head.tenant != tenant {
                return Err(SigningError::NotFound);
            }
            if now < head.until {
                return Ok(());
            }
            // The lease ran out while this node slept: somebody else may have written since.
            self.heads.remove(&log);
        }
        let head = match store
            .lease(
                tenant,
                log,
                self.config.node,
                now,
                self.config.lease,
                self.config.alone,
            )
            .await?
        {
            Some(Lease::Held { epoch, until }) => {
                let row = store
                    .head(tenant, log)
                    .await?
                    .ok_or(SigningError::NotFound)?;
                let frontier = Frontier::from_bytes(&row.frontier)
                    .map_err(|e| SigningError::Internal(format!("log {log}: {e}")))?;
                if frontier.size() != row.size || row.epoch != epoch {
                    return Err(SigningError::Unavailable(format!(
                        "log {log} is being taken over"
                    )));
                }
                Head {
                    tenant,
                    kind: row.kind,
                    key: self.key(&row.origin)?,
                    origin: row.origin.into(),
                    frontier,
                    checkpoint: row.checkpoint.into(),
                    last_time: row.last_time,
                    epoch,
                    until,
                }
            }
            Some(Lease::Other { .. }) => {
                return Err(SigningError::Unavailable(
                    "the log is written by another node".into(),
                ));
            }
            None => {
                let Some(kind) = opened else {
                    return Err(SigningError::NotFound);
                };
                let origin = format!("{}/{log}", self.config.origin_prefix);
                Head {
                    tenant,
                    kind,
                    key: self.key(&origin)?,
                    origin: origin.into(),
                    frontier: Frontier::empty(),
                    checkpoint: "".into(),
                    last_time: Micros(0),
                    epoch: 1,
                    until: now.plus(self.config.lease),
                }
            }
        };
        self.heads.insert(log, head);
        Ok(())
    }

    pub(super) fn moved(
        &mut self,
        log: LogId,
        frontier: Frontier,
        checkpoint: Arc<str>,
        last_time: Micros,
        until: Micros,
    ) {
        if let Some(head) = self.heads.get_mut(&log) {
            head.frontier = frontier;
            head.checkpoint = checkpoint;
            head.last_time = last_time;
            head.until = until;
        }
    }

    /// Empties the cache if it is full. Before a plan, never within one.
    pub(super) fn make_room(&mut self) {
        if self.heads.len() >= CACHED {
            self.heads.clear();
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
    }

    fn key(&self, origin: &str) -> Result<Arc<SigningKey>, SigningError> {
        SigningKey::from_seed(&self.seed, origin)
            .map(Arc::new)
            .map_err(|e| SigningError::Internal(format!("log key for {origin}: {e}")))
    }
}
