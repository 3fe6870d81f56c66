//! Files of a deployment. A secret is a file that only its owner can read, or it is refused.

use crate::ServerError;
use std::fs::{DirBuilder, Metadata, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use zeroize::Zeroizing;

/// Largest file read by the configuration.
const MAX_FILE: u64 = 1024 * 1024;

/// Reads a file that need not be secret.
///
/// # Errors
/// [`ServerError::File`], [`ServerError::Content`].
pub fn read_text(path: &Path) -> Result<String, ServerError> {
    let file = std::fs::File::open(path).map_err(ServerError::file(path))?;
    let mut text = String::new();
    let read = file
        .take(MAX_FILE)
        .read_to_string(&mut text)
        .map_err(ServerError::file(path))?;
    if read as u64 == MAX_FILE {
        return Err(ServerError::Content {
            path: path.to_owned(),
            problem: "larger than 1 MiB".into(),
        });
    }
    Ok(text)
}

/// Reads a file that need not be secret, whatever it holds.
///
/// # Errors
/// As [`read_text`].
pub fn read_bytes(path: &Path) -> Result<Vec<u8>, ServerError> {
    let file = std::fs::File::open(path).map_err(ServerError::file(path))?;
    let mut bytes = Vec::new();
    let read = file
        .take(MAX_FILE)
        .read_to_end(&mut bytes)
        .map_err(ServerError::file(path))?;
    if read as u64 == MAX_FILE {
        return Err(ServerError::Content {
            path: path.to_owned(),
            problem: "larger than 1 MiB".into(),
        });
    }
    Ok(bytes)
}

/// Reads a secret; refused if anybody but the owner can read or change it.
///
/// # Errors
/// [`ServerError::NotPrivate`], [`ServerError::File`].
pub fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, ServerError> {
    let file = std::fs::File::open(path).map_err(ServerError::file(path))?;
    let meta = file.metadata().map_err(ServerError::file(path))?;
    private(path, &meta)?;
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(MAX_FILE)
        .read_to_end(&mut bytes)
        .map_err(ServerError::file(path))?;
    Ok(bytes)
}

/// Looks at a secret that another program reads: as [`read_secret`], without reading it.
///
/// # Errors
/// As [`read_secret`].
pub fn secret_is_private(path: &Path) -> Result<(), ServerError> {
    let meta = std::fs::metadata(path).map_err(ServerError::file(path))?;
    private(path, &meta)
}

fn private(path: &Path, meta: &Metadata) -> Result<(), ServerError> {
    let mode = meta.permissions().mode() & 0o7777;
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY");
    if seen_by_others(path, mode, credentials.as_deref().map(Path::new)) {
        return Err(ServerError::NotPrivate {
            path: path.to_owned(),
            mode,
        });
    }
    Ok(())
}

/// A user's number, from a number or from a name in /etc/passwd.
///
/// # Errors
/// What to write instead.
pub fn uid_of(user: &str) -> Result<u32, String> {
    if let Ok(uid) = user.parse() {
        return Ok(uid);
    }
    std::fs::read_to_string("/etc/passwd")
        .map_err(|e| format!("/etc/passwd: {e}"))?
        .lines()
        .find_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some(user))
                .then(|| fields.nth(1)?.parse().ok())
                .flatten()
        })
        .ok_or_else(|| format!("/etc/passwd has no user \"{user}\": give the number"))
}

/// Whether anybody but the owner can read or change a file of this mode. A service manager gives
/// a credential to the service's user by an access control list, whose mask is shown in place of
/// the group's bits (acl(5)); the folder it lies in is that user's alone (systemd.exec(5), `LoadCredential=`).
fn seen_by_others(path: &Path, mode: u32, credentials: Option<&Path>) -> bool {
    let mask = match credentials {
        Some(dir) if path.starts_with(dir) => 0o040,
        _ => 0,
    };
    mode & 0o077 & !mask != 0
}

/// Reads a key file of exactly 32 bytes.
///
/// # Errors
/// As [`read_secret`]; [`ServerError::Content`] for another length.
pub fn read_key(path: &Path) -> Result<Zeroizing<[u8; 32]>, ServerError> {
    let bytes = read_secret(path)?;
    let key: [u8; 32] = bytes
        .as_slice()
        .try_into()
        .map_err(|_| ServerError::Content {
            path: path.to_owned(),
            problem: format!(
                "a key file has exactly 32 bytes, this one has {}",
                bytes.len()
            ),
        })?;
    Ok(Zeroizing::new(key))
}

/// Makes a folder that only its owner can enter, with its parents.
///
/// # Errors
/// [`ServerError::File`].
pub fn make_private_dir(path: &Path) -> Result<(), ServerError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(ServerError::file(path))
}

/// Writes a new file, durably. An existing one is an error, never overwritten.
///
/// # Errors
/// [`ServerError::File`].
pub fn create(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), ServerError> {
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        match path.parent() {
            Some(dir) => std::fs::File::open(dir)?.sync_all(),
            None => Ok(()),
        }
    };
    write().map_err(ServerError::file(path))
}

/// 32 random bytes.
///
/// # Errors
/// [`ServerError::Internal`] if the machine has none.
pub fn random32() -> Result<Zeroizing<[u8; 32]>, ServerError> {
    let mut bytes = Zeroizing::new([0u8; 32]);
    aws_lc_rs::rand::fill(bytes.as_mut())
        .map_err(|_| ServerError::Internal("no random bytes".into()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        create(&path, 0o600, &[7; 32]).unwrap();
        assert_eq!(*read_key(&path).unwrap(), [7; 32]);
        for mode in [0o640, 0o604, 0o644, 0o660, 0o601] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert!(
                matches!(read_key(&path), Err(ServerError::NotPrivate { mode: m, .. }) if m == mode)
            );
        }
    }

    #[test]
    fn a_credential_of_the_service_manager_shows_its_mask_as_the_groups_bits() {
        let dir = Path::new("/run/credentials/countersignd.service");
        let key = dir.join("sealing.key");
        assert!(!seen_by_others(&key, 0o440, Some(dir)));
        assert!(seen_by_others(&key, 0o444, Some(dir)));
        assert!(seen_by_others(&key, 0o460, Some(dir)));
        assert!(seen_by_others(&key, 0o440, None));
        assert!(seen_by_others(
            Path::new("/etc/sealing.key"),
            0o440,
            Some(dir)
        ));
    }

    #[test]
    fn a_key_file_has_exactly_32_bytes() {
        let dir = tempfile::tempdir().unwrap();
        for n in [0, 31, 33] {
            let path = dir.path().join(n.to_string());
            create(&path, 0o600, &vec![7; n]).unwrap();
            assert!(matches!(read_key(&path), Err(ServerError::Content { .. })));
        }
    }

    #[test]
    fn nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        create(&path, 0o600, b"one").unwrap();
        assert!(create(&path, 0o600, b"two").is_err());
        assert_eq!(read_text(&path).unwrap(), "one");
    }
}
