//! Reading, hashing and replacing files.

use crate::FormatError;
use countersign_core::{Digest, HashAlgorithm};
use sha2::Digest as _;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// The whole file's digest, read in pieces: no limit on size.
///
/// # Errors
/// [`FormatError::Io`] or [`FormatError::NotAFile`].
pub fn digest(path: &Path, algorithm: HashAlgorithm) -> Result<Digest, FormatError> {
    let mut file = open(path)?;
    let mut hasher = Hasher::new(algorithm);
    let mut buffer = vec![0_u8; 64 * 1024];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(n) => hasher.update(buffer.get(..n).unwrap_or_default()),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(FormatError::io("read", path, &e)),
        }
    }
}

/// The first bytes of a file, at most `count`.
///
/// # Errors
/// [`FormatError::Io`] or [`FormatError::NotAFile`].
pub fn head(path: &Path, count: u64) -> Result<Vec<u8>, FormatError> {
    let mut bytes = Vec::new();
    open(path)?
        .take(count)
        .read_to_end(&mut bytes)
        .map_err(|e| FormatError::io("read", path, &e))?;
    Ok(bytes)
}

/// A whole file of at most `limit` bytes.
///
/// # Errors
/// [`FormatError::TooLarge`], [`FormatError::Io`] or [`FormatError::NotAFile`].
pub fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, FormatError> {
    // One byte more than allowed tells a file that is too large (or grows) from one that is not.
    let bytes = head(path, limit.saturating_add(1))?;
    if u64::try_from(bytes.len()).is_ok_and(|n| n <= limit) {
        Ok(bytes)
    } else {
        Err(FormatError::TooLarge {
            path: path.to_path_buf(),
            limit,
        })
    }
}

/// Puts `bytes` where `path` is, or nothing: they are written to a temporary file in the same folder,
/// flushed to disk, given the old file's permissions and renamed over it. A symbolic link is followed,
/// so that the link stays a link.
///
/// # Errors
/// [`FormatError::Io`] or [`FormatError::NotAFile`]; the old file is untouched.
pub fn atomic_replace(path: &Path, bytes: &[u8]) -> Result<(), FormatError> {
    write(path, bytes, &WriteMode::Fresh)
}

/// The permissions of a file that was not there before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WriteMode {
    /// What the umask leaves.
    Fresh,
    /// Those of this other file.
    Like(PathBuf),
}

pub(crate) fn write(path: &Path, bytes: &[u8], mode: &WriteMode) -> Result<(), FormatError> {
    let target = match fs::canonicalize(path) {
        Ok(p) => p,
        Err(e) if e.kind() == io::ErrorKind::NotFound => path.to_path_buf(),
        Err(e) => return Err(FormatError::io("find", path, &e)),
    };
    let fail = |e: &io::Error| FormatError::io("write", path, e);
    let old = fs::metadata(&target).ok();
    if old.as_ref().is_some_and(|m| !m.is_file()) {
        return Err(FormatError::NotAFile {
            path: path.to_path_buf(),
        });
    }
    let permissions = match (old, mode) {
        (Some(old), _) => Some(old.permissions()),
        (None, WriteMode::Like(other)) => fs::metadata(other).ok().map(|m| m.permissions()),
        (None, WriteMode::Fresh) => None,
    };
    let folder = match target.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".countersign-");
    // A new file gets what the umask leaves, not the private mode of temporary files.
    #[cfg(unix)]
    let mode = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o666);
    #[cfg(unix)]
    builder.permissions(mode);
    let mut temporary = builder.tempfile_in(folder).map_err(|e| fail(&e))?;
    temporary.write_all(bytes).map_err(|e| fail(&e))?;
    if let Some(permissions) = permissions {
        temporary
            .as_file()
            .set_permissions(permissions)
            .map_err(|e| fail(&e))?;
    }
    temporary.as_file().sync_all().map_err(|e| fail(&e))?;
    temporary.persist(&target).map_err(|e| fail(&e.error))?;
    // The rename is durable once the folder is; not every system can flush a folder.
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
    Ok(())
}

fn open(path: &Path) -> Result<File, FormatError> {
    // Asked before opening: opening a pipe would wait for its writer.
    let metadata = fs::metadata(path).map_err(|e| FormatError::io("read", path, &e))?;
    if !metadata.is_file() {
        return Err(FormatError::NotAFile {
            path: path.to_path_buf(),
        });
    }
    File::open(path).map_err(|e| FormatError::io("read", path, &e))
}

/// One of our hashes, fed in pieces.
pub(crate) enum Hasher {
    Sha256(sha2::Sha256),
    Sha384(sha2::Sha384),
    Sha512(sha2::Sha512),
}

impl Hasher {
    pub(crate) fn new(algorithm: HashAlgorithm) -> Self {
        match algorithm {
            HashAlgorithm::Sha256 => Self::Sha256(sha2::Sha256::new()),
            HashAlgorithm::Sha384 => Self::Sha384(sha2::Sha384::new()),
            HashAlgorithm::Sha512 => Self::Sha512(sha2::Sha512::new()),
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(h) => h.update(bytes),
            Self::Sha384(h) => h.update(bytes),
            Self::Sha512(h) => h.update(bytes),
        }
    }

    pub(crate) fn finish(self) -> Digest {
        match self {
            Self::Sha256(h) => <[u8; 32]>::from(h.finalize()).into(),
            Self::Sha384(h) => <[u8; 48]>::from(h.finalize()).into(),
            Self::Sha512(h) => <[u8; 64]>::from(h.finalize()).into(),
        }
    }
}
