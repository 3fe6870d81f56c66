//! The worker's folder: nobody else reads it, one worker at a time has it, and what is written is
//! durable before we go on.

use crate::run::StartError;
use countersign_core::KeyId;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The folder, held by this process until it ends.
#[derive(Debug)]
pub struct StateDir {
    root: PathBuf,
    // The lock lives as long as the file is open.
    _lock: Option<File>,
}

impl StateDir {
    /// Makes the folder if absent, checks that it is ours alone, and locks it.
    ///
    /// # Errors
    /// [`StartError::Folder`] or [`StartError::Locked`]; the latter may pass when the other worker
    /// ends.
    pub fn open(root: &Path, wait: Duration) -> Result<Self, StartError> {
        make_private(root)?;
        let root = root.canonicalize().map_err(|e| folder(root, e))?;
        for sub in ["bindings", "logs", "destroyed"] {
            make_private(&root.join(sub))?;
        }
        let path = root.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|e| folder(&path, e))?;
        let started = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if started.elapsed() < wait => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(TryLockError::WouldBlock) => return Err(StartError::Locked { path: root }),
                Err(TryLockError::Error(e)) => return Err(folder(&path, e)),
            }
        }
        Ok(Self {
            root,
            _lock: Some(lock),
        })
    }

    /// A folder that a worker may hold, to read from only.
    #[must_use]
    pub fn look(root: &Path) -> Self {
        Self {
            root: root.to_path_buf(),
            _lock: None,
        }
    }

    /// The folder itself, absolute.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A file in it.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// A key's binding.
    #[must_use]
    pub fn binding(&self, key: KeyId) -> PathBuf {
        self.root.join("bindings").join(format!("{key}.json"))
    }

    /// Where the binding of a destroyed key goes.
    #[must_use]
    pub fn destroyed(&self, key: KeyId) -> PathBuf {
        self.root.join("destroyed").join(format!("{key}.json"))
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

    /// Keys that have a binding.
    ///
    /// # Errors
    /// The file system's.
    pub fn bound_keys(&self) -> io::Result<Vec<KeyId>> {
        let mut keys = Vec::new();
        for entry in std::fs::read_dir(self.root.join("bindings"))? {
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

/// Writes a file 0600, whole or not at all; durable when it returns.
///
/// # Errors
/// The file system's; the old content is then still there.
pub fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut temp = path.as_os_str().to_owned();
    temp.push(".new");
    let temp = PathBuf::from(temp);
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&temp)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temp, path)?;
    sync_dir(dir)
}

/// Writes a file 0600 unless it exists; durable when it returns. `false` if it existed.
///
/// # Errors
/// The file system's.
pub fn create_durably(path: &Path, bytes: &[u8]) -> io::Result<bool> {
    let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut temp = path.as_os_str().to_owned();
    temp.push(format!(".{}", std::process::id()));
    let temp = PathBuf::from(temp);
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&temp)?;
    file.write_all(bytes)?;
    file.sync_all()?;
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
            StateDir::open(&d, Duration::ZERO),
            Err(StartError::Folder { .. })
        ));
    }

    #[test]
    fn one_worker_at_a_time() {
        let t = tempfile::tempdir().unwrap();
        let d = t.path().join("s");
        let held = StateDir::open(&d, Duration::ZERO).unwrap();
        assert!(matches!(
            StateDir::open(&d, Duration::ZERO),
            Err(StartError::Locked { .. })
        ));
        drop(held);
        assert!(StateDir::open(&d, Duration::ZERO).is_ok());
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
