//! PINs: made at random, sealed at rest, never logged, and never tried twice when wrong.
//!
//! A wrong PIN counts in the device, and after a few the partition is locked for good. So before
//! each `C_Login` the file `login-attempt` is written; a success removes it. If the device says that
//! the PIN is wrong, locked or expired, the file becomes `pin-latched`, and no worker logs in
//! again until an operator removes that file: not on another node either, as it lies in the token
//! folder and logins are made under the token's lock. An attempt whose end nobody saw (the worker was killed
//! in it) counts too: the second such attempt latches.

use crate::state_dir::{StateDir, create_durably, read_bounded, sync_dir, write_durably};
use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use countersign_core::TenantId;
use countersign_hsm_protocol::WorkerError;
use secrecy::{ExposeSecret, SecretString};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use zeroize::Zeroizing;

/// Unfinished attempts that are still followed by another.
const UNFINISHED_ATTEMPTS: u32 = 1;
const SEALED: &str = "user-pin.sealed";
const ATTEMPT: &str = "login-attempt";
const LATCHED: &str = "pin-latched";
const SO_PIN: &str = "so-pin.for-the-safe";

/// Makes a PIN: 128 random bits as 32 hex digits.
///
/// # Errors
/// [`WorkerError::Internal`] if there is no randomness.
pub fn random_pin() -> Result<SecretString, WorkerError> {
    let mut bytes = Zeroizing::new([0_u8; 16]);
    aws_lc_rs::rand::fill(bytes.as_mut())
        .map_err(|_| WorkerError::Internal("no randomness".into()))?;
    Ok(SecretString::from(hex::encode(bytes.as_ref())))
}

/// Seals the user PIN under the key file, which is made if absent.
///
/// # Errors
/// [`WorkerError::StateBroken`] with the file.
pub fn seal(
    dir: &StateDir,
    key_file: &Path,
    tenant: TenantId,
    pin: &SecretString,
) -> Result<(), WorkerError> {
    make_key_file(key_file)?;
    let key = sealing_key(dir, key_file)?;
    let mut bytes = pin.expose_secret().as_bytes().to_vec();
    let nonce = key
        .seal_in_place_append_tag(aad(tenant), &mut bytes)
        .map_err(|_| WorkerError::Internal("sealing failed".into()))?;
    let mut out = nonce.as_ref().to_vec();
    out.extend_from_slice(&bytes);
    let path = dir.token_file(SEALED);
    write_durably(&path, &out).map_err(|e| broken(&path, &e))
}

/// Makes the key file, if absent.
///
/// # Errors
/// [`WorkerError::StateBroken`] with the file.
pub fn make_key_file(key_file: &Path) -> Result<(), WorkerError> {
    if key_file.exists() {
        return Ok(());
    }
    let mut fresh = Zeroizing::new([0_u8; 32]);
    aws_lc_rs::rand::fill(fresh.as_mut())
        .map_err(|_| WorkerError::Internal("no randomness".into()))?;
    if create_durably(key_file, fresh.as_ref()).map_err(|e| broken(key_file, &e))? {
        tracing::warn!(file = %key_file.display(),
            "made the key file that seals the token PINs: back it up apart from the state folder; \
             without it no key of these tokens can be used again");
    }
    Ok(())
}

/// Opens the sealed user PIN.
///
/// # Errors
/// [`WorkerError::StateBroken`] if a file is missing, open to others, or was changed.
pub fn unseal(
    dir: &StateDir,
    key_file: &Path,
    tenant: TenantId,
) -> Result<SecretString, WorkerError> {
    let path = dir.token_file(SEALED);
    let sealed = read_bounded(&path, 1024)
        .map_err(|e| broken(&path, &e))?
        .ok_or_else(|| broken(&path, &"is missing"))?;
    let key = sealing_key(dir, key_file)?;
    let (nonce, rest) = sealed
        .split_first_chunk::<12>()
        .ok_or_else(|| broken(&path, &"is too short"))?;
    let mut rest = Zeroizing::new(rest.to_vec());
    let opened = key
        .open_in_place(Nonce::assume_unique_for_key(*nonce), aad(tenant), &mut rest)
        .map_err(|_| broken(&path, &"does not open with the key file"))?;
    std::str::from_utf8(opened)
        .map(SecretString::from)
        .map_err(|_| broken(&path, &"holds no PIN"))
}

/// Reads the PIN of a token that the operator's HSM already has: the file's one line.
///
/// # Errors
/// [`WorkerError::StateBroken`] if it is missing, open to others, empty or no text.
pub fn read_file(path: &Path) -> Result<SecretString, WorkerError> {
    private(path)?;
    let bytes = Zeroizing::new(
        read_bounded(path, 1024)
            .and_then(|b| b.ok_or_else(|| io::ErrorKind::NotFound.into()))
            .map_err(|e| broken(path, &e))?,
    );
    let text = std::str::from_utf8(&bytes).map_err(|_| broken(path, &"is not UTF-8"))?;
    // An editor ends the line; PKCS#11 PINs hold no line ends.
    let pin = text.strip_suffix('\n').unwrap_or(text);
    let pin = pin.strip_suffix('\r').unwrap_or(pin);
    if pin.is_empty() || pin.contains(['\n', '\r', '\0']) {
        return Err(broken(path, &"must hold the PIN in one line"));
    }
    Ok(SecretString::from(pin))
}

/// Writes the SO PIN for the operator's safe.
///
/// # Errors
/// [`WorkerError::StateBroken`].
pub fn leave_so_pin(dir: &StateDir, pin: &SecretString) -> Result<(), WorkerError> {
    let path = dir.token_file(SO_PIN);
    write_durably(&path, pin.expose_secret().as_bytes()).map_err(|e| broken(&path, &e))?;
    tracing::warn!(file = %path.display(),
        "the token's SO PIN is in this file, once: move it to the safe and delete the file");
    Ok(())
}

/// The latch around `C_Login`.
#[derive(Debug)]
pub struct Latch<'a> {
    dir: &'a StateDir,
}

impl<'a> Latch<'a> {
    /// Announces an attempt on disk.
    ///
    /// # Errors
    /// [`WorkerError::Latched`] if an operator must look first.
    pub fn attempt(dir: &'a StateDir) -> Result<Self, WorkerError> {
        if let Some(reason) = Self::reason(dir) {
            return Err(WorkerError::Latched(reason));
        }
        let path = dir.file(ATTEMPT);
        let unfinished = read_bounded(&path, 16)
            .map_err(|e| broken(&path, &e))?
            .map_or(0, |b| {
                // A torn or foreign file counts as one attempt.
                std::str::from_utf8(&b)
                    .ok()
                    .and_then(|s| s.trim().parse().ok())
                    .unwrap_or(1_u32)
            });
        let latch = Self { dir };
        if unfinished > UNFINISHED_ATTEMPTS {
            let reason = format!("{unfinished} logins were begun and never seen to end");
            latch.close(&reason);
            return Err(WorkerError::Latched(reason));
        }
        let count = unfinished.saturating_add(1).to_string();
        write_durably(&path, count.as_bytes()).map_err(|e| broken(&path, &e))?;
        Ok(latch)
    }

    /// The login succeeded, or failed for a reason that is not the PIN.
    pub fn release(self) {
        let path = self.dir.file(ATTEMPT);
        if std::fs::remove_file(&path)
            .and_then(|()| sync_dir(self.dir.root()))
            .is_err()
        {
            tracing::error!(file = %path.display(), "cannot remove");
        }
    }

    /// The device said that the PIN is in question.
    pub fn close(self, reason: &str) {
        let path = self.dir.token_file(LATCHED);
        if let Err(e) = write_durably(&path, reason.as_bytes()) {
            // The attempt file stays: the next start counts it.
            tracing::error!(file = %path.display(), error = %e, "cannot write the PIN latch");
            return;
        }
        let _ = std::fs::remove_file(self.dir.file(ATTEMPT));
        tracing::error!(file = %path.display(), reason,
            "PIN latched: nobody logs in to this token until an operator removes the file");
    }

    /// Why the latch is set, if it is.
    #[must_use]
    pub fn reason(dir: &StateDir) -> Option<String> {
        match read_bounded(&dir.token_file(LATCHED), 4096) {
            Ok(None) => None,
            Ok(Some(b)) => Some(String::from_utf8_lossy(&b).into_owned()),
            Err(e) => Some(format!("the latch file cannot be read: {e}")),
        }
    }
}

fn sealing_key(dir: &StateDir, path: &Path) -> Result<RandomizedNonceKey, WorkerError> {
    let inside = path
        .parent()
        .and_then(|p| p.canonicalize().ok())
        .is_some_and(|p| p.starts_with(dir.root()) || p.starts_with(dir.token_root()));
    if inside {
        return Err(broken(
            path,
            &"the key file must lie outside the state folder and the token folder",
        ));
    }
    private(path)?;
    let bytes = Zeroizing::new(
        read_bounded(path, 32)
            .and_then(|b| b.ok_or_else(|| io::ErrorKind::NotFound.into()))
            .map_err(|e| broken(path, &e))?,
    );
    RandomizedNonceKey::new(&AES_256_GCM, &bytes).map_err(|_| broken(path, &"is not 32 bytes"))
}

fn private(path: &Path) -> Result<(), WorkerError> {
    let meta = std::fs::metadata(path).map_err(|e| broken(path, &e))?;
    if meta.mode() & 0o077 != 0 || meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(broken(path, &"must be 0600 and of the worker's user"));
    }
    Ok(())
}

fn aad(tenant: TenantId) -> Aad<Vec<u8>> {
    let mut v = b"countersign/user-pin/v1\0".to_vec();
    v.extend_from_slice(tenant.as_bytes());
    Aad::from(v)
}

fn broken(path: &Path, problem: &dyn std::fmt::Display) -> WorkerError {
    WorkerError::StateBroken(format!("{}: {problem}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn folder() -> (tempfile::TempDir, StateDir) {
        let t = tempfile::tempdir().unwrap();
        let d = StateDir::open(
            &t.path().join("state"),
            &t.path().join("state"),
            Duration::ZERO,
        )
        .unwrap();
        (t, d)
    }

    #[test]
    fn a_pin_is_sealed_for_its_tenant() {
        let (t, d) = folder();
        let key = t.path().join("seal.key");
        let tenant = TenantId::new();
        let pin = random_pin().unwrap();
        assert_eq!(pin.expose_secret().len(), 32);
        seal(&d, &key, tenant, &pin).unwrap();
        assert_eq!(
            unseal(&d, &key, tenant).unwrap().expose_secret(),
            pin.expose_secret()
        );
        assert!(unseal(&d, &key, TenantId::new()).is_err());
        let sealed = std::fs::read(d.file(SEALED)).unwrap();
        assert!(
            !sealed
                .windows(8)
                .any(|w| pin.expose_secret().as_bytes().windows(8).any(|p| p == w))
        );
    }

    #[test]
    fn the_key_file_lies_elsewhere_and_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let (t, d) = folder();
        let pin = random_pin().unwrap();
        assert!(seal(&d, &d.file("seal.key"), TenantId::new(), &pin).is_err());
        let key = t.path().join("seal.key");
        std::fs::write(&key, [7; 32]).unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(seal(&d, &key, TenantId::new(), &pin).is_err());
    }

    #[test]
    fn the_operators_pin_file_holds_one_line_and_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let (t, _d) = folder();
        let file = t.path().join("pin");
        let chmod = |m| {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(m)).unwrap();
        };
        for (text, pin) in [
            ("1234", Some("1234")),
            ("12 34\n", Some("12 34")),
            ("1234\r\n", Some("1234")),
            ("", None),
            ("\n", None),
            ("12\n34\n", None),
        ] {
            std::fs::write(&file, text).unwrap();
            chmod(0o600);
            let read = read_file(&file);
            assert_eq!(
                read.as_ref().ok().map(|p| p.expose_secret()),
                pin,
                "{text:?}"
            );
        }
        std::fs::write(&file, "1234").unwrap();
        chmod(0o640);
        assert!(read_file(&file).unwrap_err().to_string().contains("0600"));
    }

    #[test]
    fn the_latch_holds_until_its_file_is_removed() {
        let (_t, d) = folder();
        Latch::attempt(&d).unwrap().release();
        Latch::attempt(&d).unwrap().close("CKR_PIN_INCORRECT");
        for _ in 0..2 {
            assert_eq!(
                Latch::attempt(&d).unwrap_err(),
                WorkerError::Latched("CKR_PIN_INCORRECT".into())
            );
        }
        std::fs::remove_file(d.token_file(LATCHED)).unwrap();
        assert!(Latch::attempt(&d).is_ok());
    }

    #[test]
    fn a_login_killed_twice_latches() {
        let (_t, d) = folder();
        let _killed = Latch::attempt(&d).unwrap();
        let _killed = Latch::attempt(&d).unwrap();
        assert!(matches!(Latch::attempt(&d), Err(WorkerError::Latched(_))));
        assert!(matches!(Latch::attempt(&d), Err(WorkerError::Latched(_))));
    }
}
