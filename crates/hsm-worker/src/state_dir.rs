//! The worker's folders: nobody else reads them, and what is written is durable before we go on.
//!
//! - The *token folder* holds what belongs to the token: pins, sealed PIN, bindings, the PIN latch.
//!   Workers of several nodes may share it (a network HSM, or SoftHSM's files): each change of what
//!   they could both change is made under a file lock, files appear whole, and they are read when a
//!   key is first met.
//! - The *state folder* holds what this worker alone remembers: the key logs, its socket. One worker at
//!   a time has it.
//!
//! On one node they are one and the same folder.

use crate::run::StartError;
use countersign_core::{KeyId, TenantId};
use countersign_hsm_protocol::WorkerError;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The folders, the state folder held by this process until it ends.
#[derive(Debug)]
pub struct StateDir {
    token: PathBuf,
    root: PathBuf,
    // The lock lives as long as the file is open.
    _lock: Option<File>,
}

/// Held while something of the token is changed that another node could change too.
#[derive(Debug)]
pub struct TokenLock {
    // The lock lives as long as the file is open.
    _lock: Option<File>,
}

impl StateDir {
    /// Makes the folders if absent, checks that they are ours alone, and locks the state folder.
    ///
    /// # Errors
    /// [`StartError::Folder`] or [`StartError::Locked`]; the latter may pass when the other worker
    /// ends.
    pub fn open(token: &Path, root: &Path, wait: Duration) -> Result<Self, StartError> {
        for folder in [token, root] {
            make_private(folder)?;
        }
        let token = token.canonicalize().map_err(|e| folder(token, e))?;
        let root = root.canonicalize().map_err(|e| folder(root, e))?;
        for sub in ["bindings", "logs", "destroyed", "locks", "tenants"] {
            make_private(&token.join(sub))?;
        }
        for sub in ["logs", "met"] {
            make_private(&root.join(sub))?;
        }
        let path = root.join("lock");
        let lock = take_lock(&path, wait)
            .map_err(|e| folder(&path, e))?
            .ok_or_else(|| StartError::Locked { path: root.clone() })?;
        Ok(Self {
            token,
            root,
            _lock: Some(lock),
        })
    }

    /// A folder that a worker may hold, to read from only.
    #[must_use]
    pub fn look(token: &Path) -> Self {
        Self {
            token: token.to_path_buf(),
            root: token.to_path_buf(),
            _lock: None,
        }
    }

    /// A token's folder that a worker may hold, and a folder of our own in place of the worker's.
    ///
    /// # Errors
    /// [`StartError::Folder`] if one of them is not there.
    pub fn beside(token: &Path, own: &Path) -> Result<Self, StartError> {
        Ok(Self {
            token: token.canonicalize().map_err(|e| folder(token, e))?,
            root: own.canonicalize().map_err(|e| folder(own, e))?,
            _lock: None,
        })
    }

    /// The state folder, absolute.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The token folder, absolute.
    #[must_use]
    pub fn token_root(&self) -> &Path {
        &self.token
    }

    /// Whether other nodes may share the token folder.
    #[must_use]
    pub fn shared(&self) -> bool {
        self.token != self.root
    }

    /// A file of the state folder.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// A file of the token folder.
    #[must_use]
    pub fn token_file(&self, name: &str) -> PathBuf {
        self.token.join(name)
    }

    /// Holds the token against the workers of other nodes: they make it, open it and log in one after
    /// the other. Two processes that start at once on one SoftHSM token disturb each other, and a
    /// wrong PIN is tried once by all nodes together.
    ///
    /// # Errors
    /// [`WorkerError::StateBroken`] after `wait`; a later retry can help.
    pub fn lock_token(&self, wait: Duration) -> Result<TokenLock, WorkerError> {
        self.lock_file("token.lock", wait)
    }

    /// Holds one key's id against the workers of other nodes. Nothing to do where there are none.
    ///
    /// # Errors
    /// [`WorkerError::StateBroken`] after `wait`; a later retry can help.
    pub fn lock_key(&self, key: KeyId, wait: Duration) -> Result<TokenLock, WorkerError> {
        if !self.shared() {
            return Ok(TokenLock { _lock: None });
        }
        // 64 locks for all keys: the low bits of a UUIDv7 are random.
        let n = key.as_bytes().last().copied().unwrap_or_default() % 64;
        self.lock_file(&format!("locks/{n:02}"), wait)
    }

    fn lock_file(&self, name: &str, wait: Duration) -> Result<TokenLock, WorkerError> {
        let path = self.token.join(name);
        let broken = |e: &dyn std::fmt::Display| {
            WorkerError::StateBroken(format!("{}: {e}", path.display()))
        };
        take_lock(&path, wait)
            .map_err(|e| broken(&e))?
            .map(|lock| TokenLock { _lock: Some(lock) })
            .ok_or_else(|| broken(&"another node's worker holds the lock for too long"))
    }

    /// A key's binding.
    #[must_use]
    pub fn binding(&self, key: KeyId) -> PathBuf {
        self.token.join("bindings").join(format!("{key}.json"))
    }

    /// Where the binding of a destroyed key goes.
    #[must_use]
    pub fn destroyed(&self, key: KeyId) -> PathBuf {
        self.token.join("destroyed").join(format!("{key}.json"))
    }

    /// The worker's memory of a key's log.
    #[must_use]
    pub fn log(&self, key: KeyId) -> PathBuf {
        self.root.join("logs").join(format!("{key}.json"))
    }

    /// How far leaves of a key's log were taken up (see `logs`).
    #[must_use]
    pub fn mark(&self, key: KeyId) -> PathBuf {
        self.root.join("logs").join(format!("{key}.mark"))
    }

    /// A right edge of a key's log that some node left for those that join: see `logs`.
    #[must_use]
    pub fn published_log(&self, key: KeyId) -> PathBuf {
        self.token.join("logs").join(format!("{key}.json"))
    }

    /// The mark that belongs to it, where the token folder was once a state folder too.
    #[must_use]
    pub fn published_mark(&self, key: KeyId) -> PathBuf {
        self.token.join("logs").join(format!("{key}.mark"))
    }

    /// Says that this worker has met the key, so that its memory of the log cannot go unnoticed.
    #[must_use]
    pub fn met(&self, key: KeyId) -> PathBuf {
        self.root.join("met").join(key.to_string())
    }

    /// Says that a tenant has its keys in this token.
    #[must_use]
    pub fn tenant(&self, tenant: TenantId) -> PathBuf {
        self.token.join("tenants").join(tenant.to_string())
    }

    /// Keys that have a binding.
    ///
    /// # Errors
    /// The file system's.
    pub fn bound_keys(&self) -> io::Result<Vec<KeyId>> {
        let mut keys = Vec::new();
        for entry in std::fs::read_dir(self.token.join("bindings"))? {
            let name = entry?.file_name();
            if let Some(key) = name
                .to_str()
                .and_then(|n| n.strip_suffix(".json"))
                .and_then(|n| n.parse().ok())
            {
                keys.push(key);
            }
        }
        keys.sort_unstable();
        Ok(keys)
    }
}

/// An exclusive lock on a file, made if absent; `None` if it cannot be had within `wait`.
fn take_lock(path: &Path, wait: Duration) -> io::Result<Option<File>> {
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)?;
    let started = Instant::now();
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(Some(lock)),
            Err(TryLockError::WouldBlock) if started.elapsed() < wait => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(e)) => return Err(e),
        }
    }
}

/// Writes a file 0600, whole or not at all; durable when it returns.
///
/// # Errors
/// The file system's; the old content is then still there.
pub fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let temp = beside(path, ".new-", bytes)?;
    std::fs::rename(&temp, path)?;
    sync_dir(dir)
}

/// Writes a file 0600 unless it exists; durable when it returns. `false` if it existed.
///
/// # Errors
/// The file system's.
pub fn create_durably(path: &Path, bytes: &[u8]) -> io::Result<bool> {
    let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let temp = beside(path, ".", bytes)?;
    // A hard link appears whole and fails if the name is taken: two workers that start at once
    // agree on one file.
    let made = match std::fs::hard_link(&temp, path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(e),
    };
    std::fs::remove_file(&temp)?;
    sync_dir(dir)?;
    made
}

/// The bytes, durable, under a name of our own: another node may write the same file.
fn beside(path: &Path, mark: &str, bytes: &[u8]) -> io::Result<PathBuf> {
    let mut temp = path.as_os_str().to_owned();
    temp.push(format!("{mark}{}", std::process::id()));
    let temp = PathBuf::from(temp);
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&temp)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(temp)
}

/// Reads a file of at most `limit` bytes; `None` if there is none.
///
/// # Errors
/// The file system's, or `InvalidData` past the limit.
pub fn read_bounded(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(f) => f,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(Some(bytes))
}

/// Makes a rename or removal in `dir` durable.
///
/// # Errors
/// The file system's.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Makes a 0700 folder, or checks that the one there is ours alone.
///
/// # Errors
/// [`StartError::Folder`].
pub fn make_private(path: &Path) -> Result<(), StartError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|e| folder(path, e))?;
    let meta = std::fs::metadata(path).map_err(|e| folder(path, e))?;
    if meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(folder(path, "is not owned by the worker's user"));
    }
    if meta.mode() & 0o077 != 0 {
        return Err(folder(path, "is open to others: chmod 700"));
    }
    Ok(())
}

fn folder(path: &Path, problem: impl ToString) -> StartError {
    StartError::Folder {
        path: path.to_path_buf(),
        problem: problem.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_folder_open_to_others_is_refused() {
        let t = tempfile::tempdir().unwrap();
        let d = t.path().join("s");
        std::fs::create_dir(&d).unwrap();
        std::fs::set_permissions(&d, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(
            StateDir::open(&d, &d, Duration::ZERO),
            Err(StartError::Folder { .. })
        ));
    }

    #[test]
    fn one_worker_at_a_time() {
        let t = tempfile::tempdir().unwrap();
        let d = t.path().join("s");
        let held = StateDir::open(&d, &d, Duration::ZERO).unwrap();
        assert!(matches!(
            StateDir::open(&d, &d, Duration::ZERO),
            Err(StartError::Locked { .. })
        ));
        drop(held);
        assert!(StateDir::open(&d, &d, Duration::ZERO).is_ok());
    }

    #[test]
    fn two_nodes_share_the_token_folder_and_change_it_in_turn() {
        let t = tempfile::tempdir().unwrap();
        let token = t.path().join("token");
        let open = |node: &str| StateDir::open(&token, &t.path().join(node), Duration::ZERO);
        let (a, b) = (open("a").unwrap(), open("b").unwrap());
        assert!(a.shared());
        let held = a.lock_token(Duration::ZERO).unwrap();
        assert!(b.lock_token(Duration::ZERO).is_err());
        drop(held);
        assert!(b.lock_token(Duration::ZERO).is_ok());
        let key = KeyId::new();
        let held = a.lock_key(key, Duration::ZERO).unwrap();
        assert!(b.lock_key(key, Duration::ZERO).is_err());
        drop(held);
        // One folder: there is no other node.
        let one = StateDir::open(&t.path().join("c"), &t.path().join("c"), Duration::ZERO).unwrap();
        let _held = one.lock_key(key, Duration::ZERO).unwrap();
        assert!(one.lock_key(key, Duration::ZERO).is_ok());
    }

    #[test]
    fn the_first_of_two_creators_wins() {
        let t = tempfile::tempdir().unwrap();
        let f = t.path().join("k");
        assert!(create_durably(&f, b"one").unwrap());
        assert!(!create_durably(&f, b"two").unwrap());
        assert_eq!(read_bounded(&f, 3).unwrap().unwrap(), b"one");
        assert!(read_bounded(&f, 2).is_err());
    }
}
