//! All key logs of the token, kept on disk.
//!
//! Two files for each key in `logs/`:
//!
//! - `<key>.json`: the right edge, written durably at most once a second and on a clean stop;
//! - `<key>.mark`: how many leaves were ever taken up. Written (not synced) before any of them can
//!   be used, so that a worker that is killed never accepts a leaf twice; after a power failure
//!   it may be as old as the right edge, and the last second's unused leaves could open again.
//!
//! Either file gone while the key is bound: [`WorkerError::LogStateLost`], until an operator acts.

use crate::binding::Binding;
use crate::key_log::KeyLog;
use crate::state_dir::{StateDir, read_bounded, write_durably};
use crate::token::Token;
use countersign_core::{KeyId, TenantId, failpoint};
use countersign_hsm_protocol::WorkerError;
use countersign_signing_log::{Frontier, Hash};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A log's right edge is written at most this often.
const WRITE_EVERY: Duration = Duration::from_secs(1);

/// The logs in use.
#[derive(Debug)]
pub struct Logs {
    dir: Arc<StateDir>,
    open: Mutex<HashMap<KeyId, Arc<Mutex<OpenLog>>>>,
    // One writer at a time, so that an older right edge never overwrites a newer one.
    writing: Mutex<()>,
}

/// One log in use.
#[derive(Debug)]
pub struct OpenLog {
    /// What is believed.
    pub log: KeyLog,
    mark: File,
    written_size: u64,
    written_at: Option<Instant>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    version: u32,
    tenant: TenantId,
    key: KeyId,
    size: u64,
    frontier: Vec<String>,
}

impl Logs {
    /// The logs of a state folder; each is read when first asked for.
    #[must_use]
    pub fn new(dir: Arc<StateDir>) -> Self {
        Self {
            dir,
            open: Mutex::default(),
            writing: Mutex::default(),
        }
    }

    /// Makes the memory of a new key's log. Durable when it returns.
    ///
    /// # Errors
    /// [`WorkerError::StateBroken`].
    pub fn create(&self, tenant: TenantId, key: KeyId) -> Result<(), WorkerError> {
        write_durably(&self.dir.mark(key), &mark_bytes(0)).map_err(|e| broken(key, &e))?;
        self.save(tenant, key, &Frontier::empty())
    }

    /// A key's log.
    ///
    /// # Errors
    /// [`WorkerError::NoSuchKey`], [`WorkerError::LogStateLost`] or [`WorkerError::StateBroken`].
    pub fn get(&self, token: &Token, key: KeyId) -> Result<Arc<Mutex<OpenLog>>, WorkerError> {
        if let Some(log) = lock(&self.open).get(&key) {
            return Ok(Arc::clone(log));
        }
        // Not under the lock: reading files. Two readers at once make the same thing; one stays.
        Binding::read(&self.dir, token.tenant(), key)?
            .filter(|b| !b.destroying)
            .ok_or(WorkerError::NoSuchKey)?;
        let log = Arc::new(Mutex::new(self.read(token, key)?));
        Ok(Arc::clone(lock(&self.open).entry(key).or_insert(log)))
    }

    /// Forgets a log: its key is destroyed, or its memory must be read again.
    pub fn forget(&self, key: KeyId) {
        lock(&self.open).remove(&key);
    }

    /// Writes what changed: all of it, or only logs not written for a second.
    pub fn write(&self, tenant: TenantId, all: bool) {
        let _one_writer = lock(&self.writing);
        let logs: Vec<_> = lock(&self.open)
            .iter()
            .map(|(k, l)| (*k, Arc::clone(l)))
            .collect();
        for (key, log) in logs {
            let edge = {
                let log = lock(&log);
                let due = all || log.written_at.is_none_or(|t| t.elapsed() >= WRITE_EVERY);
                if log.log.size() == log.written_size || !due {
                    continue;
                }
                // The mark's pages reach the disk before the right edge does.
                if let Err(e) = log.mark.sync_data() {
                    tracing::error!(%key, error = %e, "cannot sync the log's mark");
                    continue;
                }
                log.log.frontier().clone()
            };
            failpoint::hit("worker.before-edge");
            match self.save(tenant, key, &edge) {
                Ok(()) => {
                    let mut log = lock(&log);
                    log.written_size = edge.size();
                    log.written_at = Some(Instant::now());
                }
                // Signing goes on: the mark already keeps used leaves closed.
                Err(error) => tracing::error!(%key, %error, "cannot save the log's right edge"),
            }
        }
    }

    fn read(&self, token: &Token, key: KeyId) -> Result<OpenLog, WorkerError> {
        let lost = |why: &dyn std::fmt::Display| {
            tracing::error!(%key, why = %why, "the memory of a key's log is gone");
            WorkerError::LogStateLost
        };
        let bytes = read_bounded(&self.dir.log(key), 64 * 1024)
            .map_err(|e| lost(&e))?
            .ok_or_else(|| lost(&"no file"))?;
        let saved: Saved = serde_json::from_slice(&bytes).map_err(|e| lost(&e))?;
        if saved.key != key || saved.tenant != token.tenant() || saved.version != 1 {
            return Err(lost(&"of another key"));
        }
        let nodes = saved
            .frontier
            .iter()
            .map(|h| {
                hex::decode(h)
                    .ok()
                    .and_then(|b| Hash::try_from(b.as_slice()).ok())
            })
            .collect::<Option<Vec<Hash>>>()
            .ok_or_else(|| lost(&"not hashes"))?;
        let frontier = Frontier::from_parts(saved.size, nodes).map_err(|e| lost(&e))?;
        let mark = File::options()
            .read(true)
            .write(true)
            .mode(0o600)
            .open(self.dir.mark(key))
            .map_err(|e| lost(&e))?;
        let mut bytes = [0; 16];
        mark.read_exact_at(&mut bytes, 0).map_err(|e| lost(&e))?;
        let marked = mark_value(bytes).ok_or_else(|| lost(&"the mark is torn"))?;
        let pins = token.pins();
        let log = KeyLog::restore(
            &pins.origin_prefix,
            &key,
            &pins.log_public_keys,
            frontier,
            marked,
        )?;
        Ok(OpenLog {
            written_size: log.size(),
            written_at: None,
            log,
            mark,
        })
    }

    fn save(&self, tenant: TenantId, key: KeyId, edge: &Frontier) -> Result<(), WorkerError> {
        let saved = Saved {
            version: 1,
            tenant,
            key,
            size: edge.size(),
            frontier: edge.nodes().iter().map(hex::encode).collect(),
        };
        let bytes = serde_json::to_vec(&saved).map_err(|e| broken(key, &e))?;
        write_durably(&self.dir.log(key), &bytes).map_err(|e| broken(key, &e))
    }
}

impl OpenLog {
    /// Writes the mark; call after each change of the log and before any leaf of it is used.
    ///
    /// # Errors
    /// [`WorkerError::StateBroken`]: [`Logs::forget`] the log then, what it opened must not be used.
    pub fn write_mark(&self, key: KeyId) -> Result<(), WorkerError> {
        self.mark
            .write_all_at(&mark_bytes(self.log.mark()), 0)
            .map_err(|e| broken(key, &e))
    }
}

/// Locks; a panic of another holder is no reason to stop, as changes are made whole or not at all.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The value and its complement: a torn write is seen.
fn mark_bytes(value: u64) -> [u8; 16] {
    let mut out = [0; 16];
    let (a, b) = out.split_at_mut(8);
    a.copy_from_slice(&value.to_be_bytes());
    b.copy_from_slice(&(!value).to_be_bytes());
    out
}

fn mark_value(bytes: [u8; 16]) -> Option<u64> {
    let (a, b) = bytes.split_first_chunk::<8>()?;
    let value = u64::from_be_bytes(*a);
    let check = u64::from_be_bytes(b.try_into().ok()?);
    (check == !value).then_some(value)
}

fn broken(key: KeyId, problem: &dyn std::fmt::Display) -> WorkerError {
    WorkerError::StateBroken(format!("log of {key}: {problem}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_mark_is_seen() {
        assert_eq!(mark_value(mark_bytes(77)), Some(77));
        let mut torn = mark_bytes(77);
        torn[7] = 78;
        assert_eq!(mark_value(torn), None);
    }
}
