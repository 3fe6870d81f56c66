//! `COUNTERSIGN_HOME`: what the command line remembers between runs.
//!
//! ```text
//! settings.json       server and CA file of the last login
//! tokens/<hash>       service tokens, mode 0600, minutes old at most
//! pins.json           the service's own public keys as first seen
//! checkpoints/<hash>  per log: the last head proved, and heads not proved yet
//! runs/<hashes>       what `sign` had done when it was interrupted; no secret
//! ```

use crate::failure::{Failure, Result};
use countersign_core::{Clock as _, SystemClock};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// A token this close to its end is not used any more.
const TOKEN_MARGIN_S: i64 = 15;

/// The directory.
#[derive(Debug, Clone)]
pub struct Home {
    dir: PathBuf,
}

/// What `login` leaves for the commands after it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Server URL.
    pub server: Option<String>,
    /// CA file.
    pub ca_file: Option<PathBuf>,
}

/// The service's own keys as first seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// Ed25519 key that signs all checkpoints, base64.
    pub log_public_key: String,
    /// SHA-256 of the key that signs service statements.
    pub statement_sha256: String,
    /// When pinned, Unix seconds.
    pub since: i64,
}

/// Whose token this is: any difference is another file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenKey {
    /// Server URL.
    pub server: String,
    /// Tenant, or empty for the operator's realm.
    pub tenant: String,
    /// Hash of the identity it was exchanged for.
    pub identity: String,
    /// Signers it is bound to; empty for all.
    pub scope: String,
}

#[derive(Serialize, Deserialize)]
struct StoredToken {
    access_token: String,
    expires: i64,
}

impl Home {
    /// `dir`, or `~/.countersign`.
    ///
    /// # Errors
    /// Usage, if there is no home directory either.
    pub fn at(dir: Option<PathBuf>) -> Result<Self> {
        let dir = match dir {
            Some(dir) => dir,
            None => std::env::home_dir()
                .filter(|h| !h.as_os_str().is_empty())
                .ok_or_else(|| Failure::usage("there is no home directory; set COUNTERSIGN_HOME"))?
                .join(".countersign"),
        };
        Ok(Self { dir })
    }

    /// Server and CA file of the last login.
    ///
    /// # Errors
    /// If the file is there and cannot be read.
    pub fn settings(&self) -> Result<Settings> {
        Ok(self.read("settings.json")?.unwrap_or_default())
    }

    /// Remembers server and CA file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn set_settings(&self, settings: &Settings) -> Result<()> {
        self.write("settings.json", settings)
    }

    /// A cached service token that still lives.
    ///
    /// # Errors
    /// If the file is there and cannot be read.
    pub fn token(&self, key: &TokenKey) -> Result<Option<String>> {
        let stored: Option<StoredToken> = self.read(&key.file())?;
        let now = SystemClock.now().seconds();
        Ok(stored
            .filter(|t| t.expires.saturating_sub(TOKEN_MARGIN_S) > now)
            .map(|t| t.access_token))
    }

    /// Caches a service token and sweeps out dead ones.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn set_token(&self, key: &TokenKey, token: &str, expires_in_s: u64) -> Result<()> {
        self.sweep_tokens();
        let lives = i64::try_from(expires_in_s).unwrap_or(0);
        let stored = StoredToken {
            access_token: token.to_owned(),
            expires: SystemClock.now().seconds().saturating_add(lives),
        };
        self.write(&key.file(), &stored)
    }

    /// Forgets a token (the service did not know it any more).
    pub fn forget_token(&self, key: &TokenKey) {
        let _ = std::fs::remove_file(self.dir.join(key.file()));
    }

    /// The keys pinned for a server.
    ///
    /// # Errors
    /// If the file is there and cannot be read.
    pub fn pin(&self, server: &str) -> Result<Option<Pin>> {
        Ok(self.pins()?.remove(server))
    }

    /// Pins keys for a server.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn set_pin(&self, server: &str, pin: Pin) -> Result<()> {
        let _lock = self.lock()?;
        let mut pins = self.pins()?;
        pins.insert(server.to_owned(), pin);
        self.write("pins.json", &pins)
    }

    /// All pins, by server.
    ///
    /// # Errors
    /// If the file is there and cannot be read.
    pub fn pins(&self) -> Result<BTreeMap<String, Pin>> {
        Ok(self.read("pins.json")?.unwrap_or_default())
    }

    /// Reads a JSON file of the directory; `None` if it is not there.
    ///
    /// # Errors
    /// If it is there and cannot be read.
    pub fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let path = self.dir.join(name);
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| {
                Failure::new(
                    crate::exit::Exit::Internal,
                    "state",
                    format!("{}: {e}", path.display()),
                )
                .hint("remove the file if you do not need what it remembers")
            }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Failure::file(&path, &e)),
        }
    }

    /// Writes a JSON file of the directory: mode 0600, all of it or nothing.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, name: &str, value: &impl Serialize) -> Result<()> {
        let path = self.dir.join(name);
        let bytes = serde_json::to_vec_pretty(value)
            .map_err(|e| Failure::new(crate::exit::Exit::Internal, "state", e.to_string()))?;
        make_private_dir(path.parent().unwrap_or(&self.dir))?;
        write_atomically(&path, &bytes)
    }

    /// A folder of the directory, made if it is not there: mode 0700.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.dir.join(name);
        make_private_dir(&path)?;
        Ok(path)
    }

    /// Keeps other runs out while a file is read, changed and written. Released on drop.
    ///
    /// # Errors
    /// If the lock file cannot be opened.
    pub fn lock(&self) -> Result<File> {
        make_private_dir(&self.dir)?;
        let path = self.dir.join(".lock");
        let file = File::create(&path).map_err(|e| Failure::file(&path, &e))?;
        file.lock().map_err(|e| Failure::file(&path, &e))?;
        Ok(file)
    }

    fn sweep_tokens(&self) {
        let now = SystemClock.now().seconds();
        let Ok(entries) = std::fs::read_dir(self.dir.join("tokens")) else {
            return;
        };
        for path in entries.flatten().map(|e| e.path()) {
            let dead = std::fs::read(&path)
                .ok()
                .and_then(|b| serde_json::from_slice::<StoredToken>(&b).ok())
                .is_some_and(|t| t.expires < now);
            if dead {
                let _ = std::fs::remove_file(&path);
            }
        }
    }
}

impl TokenKey {
    fn file(&self) -> String {
        let parts = [&self.server, &self.tenant, &self.identity, &self.scope];
        let text = parts.map(String::as_str).join("\n");
        format!("tokens/{}", sha256_hex(text.as_bytes()))
    }
}

/// Lower-case hex of SHA-256.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Writes a file that only its owner reads: all of it or nothing.
///
/// # Errors
/// If it cannot be written.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = |e: &std::io::Error| Failure::file(path, e);
    let dir = path.parent().filter(|d| !d.as_os_str().is_empty());
    // NamedTempFile has mode 0600.
    let mut file =
        tempfile::NamedTempFile::new_in(dir.unwrap_or(Path::new("."))).map_err(|e| failed(&e))?;
    file.write_all(bytes).map_err(|e| failed(&e))?;
    file.persist(path).map(|_| ()).map_err(|e| failed(&e.error))
}

fn make_private_dir(dir: &Path) -> Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir).map_err(|e| Failure::file(dir, &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(identity: &str) -> TokenKey {
        TokenKey {
            server: "https://s".into(),
            tenant: "acme".into(),
            identity: identity.into(),
            scope: String::new(),
        }
    }

    #[test]
    fn tokens_are_private_keyed_and_forgotten_in_time() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(Some(dir.path().join("h"))).unwrap();
        assert_eq!(home.token(&key("a")).unwrap(), None);
        home.set_token(&key("a"), "secret", 300).unwrap();
        assert_eq!(home.token(&key("a")).unwrap().as_deref(), Some("secret"));
        assert_eq!(home.token(&key("b")).unwrap(), None, "another identity");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = |p: &str| {
                let path = dir.path().join("h").join(p);
                std::fs::metadata(path).unwrap().permissions().mode() & 0o777
            };
            assert_eq!(mode(&key("a").file()), 0o600);
            assert_eq!(mode("tokens"), 0o700);
        }
        home.set_token(&key("a"), "secret", 5).unwrap();
        assert_eq!(home.token(&key("a")).unwrap(), None, "too close to its end");
    }
}
