//! All key logs of the token, kept on disk.
//!
//! Two files for each key in `logs/`:
//!
//! - `<key>.json`: the right edge, written durably at most once a second and on a clean stop;
//! - `<key>.mark`: how many leaves were ever taken up. Written (not synced) before any of them can
//!   be used, so that a worker that is killed never accepts a leaf twice; after a power failure
//!   it may be as old as the right edge, and the last second's unused leaves could open again.
//!
//! Either file gone of a key that this worker has met: [`WorkerError::LogStateLost`], until an operator
//! acts.
//!
//! Where several nodes share the token folder, each has a memory of its own, and leaves a copy of the
//! right edge in the token folder's `logs/` when the key is made, now and then, and on a clean stop. A
//! worker that meets a key for the first time begins there: with a log that some node has seen, never
//! with an empty one, and nothing from before is open to it. So the token folder of a single node that
//! becomes one of several serves as it is.

use crate::binding::Binding;
use crate::key_log::KeyLog;
use crate::state_dir::{StateDir, create_durably, read_bounded, write_durably};
use crate::token::Token;
use countersign_core::{KeyId, TenantId, failpoint};
use countersign_hsm_protocol::WorkerError;
use countersign_signing_log::{Frontier, Hash};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A log's right edge is written at most this often.
const WRITE_EVERY: Duration = Duration::from_secs(1);
/// And left for nodes that join at most this often.
const PUBLISH_EVERY: Duration = Duration::from_secs(30);
/// How long another node may take to leave its own.
const PUBLISH_WAIT: Duration = Duration::from_secs(5);

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
    /// Whose key it is, as its binding says.
    pub tenant: TenantId,
    /// What is believed.
    pub log: KeyLog,
    mark: File,
    written_size: u64,
    written_at: Option<Instant>,
    /// What was last left for other nodes; zero if that is not known.
    published_size: u64,
    published_at: Instant,
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
        self.begin(tenant, key, &Frontier::empty(), 0)?;
        if self.dir.shared() {
            let path = self.dir.published_log(key);
            save(&path, tenant, key, &Frontier::empty())?;
        }
        Ok(())
    }

    /// The log of a tenant's key.
    ///
    /// # Errors
    /// [`WorkerError::NoSuchKey`], [`WorkerError::LogStateLost`] or [`WorkerError::StateBroken`].
    pub fn get(
        &self,
        token: &Token,
        tenant: TenantId,
        key: KeyId,
    ) -> Result<Arc<Mutex<OpenLog>>, WorkerError> {
        let known = lock(&self.open).get(&key).map(Arc::clone);
        let log = match known {
            Some(log) => log,
            None => {
                // Not under the lock: reading files. Two readers at once make the same thing; one
                // stays.
                Binding::read(token, &self.dir, tenant, key)?
                    .filter(|b| !b.destroying)
                    .ok_or(WorkerError::NoSuchKey)?;
                let log = Arc::new(Mutex::new(self.read(token, tenant, key)?));
                Arc::clone(lock(&self.open).entry(key).or_insert(log))
            }
        };
        if lock(&log).tenant == tenant {
            Ok(log)
        } else {
            Err(WorkerError::NoSuchKey)
        }
    }

    /// Forgets a log: its key is destroyed, or its memory must be read again.
    pub fn forget(&self, key: KeyId) {
        lock(&self.open).remove(&key);
    }

    /// Writes what changed: all of it, or only logs not written for a second.
    pub fn write(&self, all: bool) {
        let _one_writer = lock(&self.writing);
        let logs: Vec<_> = lock(&self.open)
            .iter()
            .map(|(k, l)| (*k, Arc::clone(l)))
            .collect();
        for (key, log) in logs {
            let (tenant, edge, write, publish) = {
                let log = lock(&log);
                let size = log.log.size();
                let due = all || log.written_at.is_none_or(|t| t.elapsed() >= WRITE_EVERY);
                let write = due && size != log.written_size;
                // Each by itself: at a clean stop the right edge may be on disk already, and not yet
                // left for the others.
                let publish = self.dir.shared()
                    && size != log.published_size
                    && (all || log.published_at.elapsed() >= PUBLISH_EVERY);
                if !write && !publish {
                    continue;
                }
                // The mark's pages reach the disk before the right edge does.
                if write && let Err(e) = log.mark.sync_data() {
                    tracing::error!(%key, error = %e, "cannot sync the log's mark");
                    continue;
                }
                (log.tenant, log.log.frontier().clone(), write, publish)
            };
            if write {
                failpoint::hit("worker.before-edge");
                match save(&self.dir.log(key), tenant, key, &edge) {
                    Ok(()) => {
                        let mut log = lock(&log);
                        log.written_size = edge.size();
                        log.written_at = Some(Instant::now());
                    }
                    // Signing goes on: the mark already keeps used leaves closed.
                    Err(error) => tracing::error!(%key, %error, "cannot save the log's right edge"),
                }
            }
            if publish {
                match self.publish(tenant, key, &edge) {
                    Ok(()) => {
                        let mut log = lock(&log);
                        log.published_size = edge.size();
                        log.published_at = Instant::now();
                    }
                    Err(error) => {
                        tracing::warn!(%key, %error, "cannot leave the log's right edge for other nodes");
                    }
                }
            }
        }
    }

    fn read(&self, token: &Token, tenant: TenantId, key: KeyId) -> Result<OpenLog, WorkerError> {
        let lost = |why: &dyn std::fmt::Display| {
            tracing::error!(%key, why = %why, "the memory of a key's log is gone");
            WorkerError::LogStateLost
        };
        let own = self.dir.log(key);
        if self.dir.shared() && !own.exists() && !self.dir.met(key).exists() {
            self.join(tenant, key).map_err(|e| lost(&e))?;
        }
        let frontier = saved(&own, tenant, key).map_err(|e| lost(&e))?;
        let mark = File::options()
            .read(true)
            .write(true)
            .mode(0o600)
            .open(self.dir.mark(key))
            .map_err(|e| lost(&e))?;
        let marked = marked(&mark).map_err(|e| lost(&e))?;
        let pins = token.pins();
        let log = KeyLog::restore(
            &pins.origin_prefix,
            &key,
            &pins.log_public_keys,
            frontier,
            marked,
        )?;
        Ok(OpenLog {
            tenant,
            written_size: log.size(),
            written_at: None,
            published_size: 0,
            published_at: Instant::now(),
            log,
            mark,
        })
    }

    /// Begins where some node was. Nothing from before is open here.
    fn join(&self, tenant: TenantId, key: KeyId) -> Result<(), String> {
        let edge = saved(&self.dir.published_log(key), tenant, key)?;
        let mark = match File::open(self.dir.published_mark(key)) {
            Ok(file) => marked(&file)?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => 0,
            Err(e) => return Err(e.to_string()),
        };
        let mark = mark.max(edge.size());
        self.begin(tenant, key, &edge, mark)
            .map_err(|e| e.to_string())?;
        tracing::warn!(%key, size = edge.size(), "this worker meets the key for the first time: \
            it begins with the log that another node has seen");
        Ok(())
    }

    fn begin(
        &self,
        tenant: TenantId,
        key: KeyId,
        edge: &Frontier,
        mark: u64,
    ) -> Result<(), WorkerError> {
        write_durably(&self.dir.mark(key), &mark_bytes(mark)).map_err(|e| broken(key, &e))?;
        save(&self.dir.log(key), tenant, key, edge)?;
        // Last: from here on the memory may not be missing.
        create_durably(&self.dir.met(key), b"")
            .map(|_| ())
            .map_err(|e| broken(key, &e))
    }

    /// Leaves a right edge for nodes that join, unless another node left a later one.
    fn publish(&self, tenant: TenantId, key: KeyId, edge: &Frontier) -> Result<(), WorkerError> {
        let _one_at_a_time = self.dir.lock_key(key, PUBLISH_WAIT)?;
        let path = self.dir.published_log(key);
        if saved(&path, tenant, key).is_ok_and(|there| there.size() >= edge.size()) {
            return Ok(());
        }
        save(&path, tenant, key, edge)
    }
}

fn save(path: &Path, tenant: TenantId, key: KeyId, edge: &Frontier) -> Result<(), WorkerError> {
    let saved = Saved {
        version: 1,
        tenant,
        key,
        size: edge.size(),
        frontier: edge.nodes().iter().map(hex::encode).collect(),
    };
    let bytes = serde_json::to_vec(&saved).map_err(|e| broken(key, &e))?;
    write_durably(path, &bytes).map_err(|e| broken(key, &e))
}

fn saved(path: &Path, tenant: TenantId, key: KeyId) -> Result<Frontier, String> {
    let bytes = read_bounded(path, 64 * 1024)
        .map_err(|e| e.to_string())?
        .ok_or("no file")?;
    let saved: Saved = serde_json::from_slice(&bytes).map_err(|e| e.to_string())?;
    if saved.key != key || saved.tenant != tenant || saved.version != 1 {
        return Err("of another key".into());
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
        .ok_or("not hashes")?;
    Frontier::from_parts(saved.size, nodes).map_err(|e| e.to_string())
}

fn marked(file: &File) -> Result<u64, String> {
    let mut bytes = [0; 16];
    file.read_exact_at(&mut bytes, 0)
        .map_err(|e| e.to_string())?;
    mark_value(bytes).ok_or_else(|| "the mark is torn".into())
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
