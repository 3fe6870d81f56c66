//! The account at an ACME CA: a key of its own, in a file that is made on first use.

use super::transport::{Transport, said};
use crate::ConnectorError;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use countersign_core::OrderId;
use countersign_core::ports::ca::CaError;
use instant_acme::{Account, ExternalAccountKey, NewAccount};
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use tokio::sync::OnceCell;
use zeroize::{Zeroize as _, Zeroizing};

const MAX_FILE: u64 = 16 * 1024;

/// Who the CA knows us by beforehand (RFC 8555 §7.3.4).
pub struct ExternalAccount {
    /// The CA's name of the key.
    pub key_id: String,
    /// The MAC key, base64url as CAs hand it out.
    pub key: Zeroizing<String>,
}

impl std::fmt::Debug for ExternalAccount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExternalAccount")
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

/// The file. Whoever has it can order in our name, for devices that prove themselves.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    version: u8,
    /// The directory it is an account of.
    directory: String,
    /// The account's URL.
    account: String,
    /// PKCS#8, base64.
    key: String,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

/// The account, opened when it is first needed: a service starts without its CA.
pub(super) struct Accounts {
    file: PathBuf,
    contact: Vec<String>,
    external: Option<(String, Zeroizing<Vec<u8>>)>,
    opened: OnceCell<Account>,
}

impl Accounts {
    pub(super) fn new(
        file: PathBuf,
        contact: Vec<String>,
        external: Option<ExternalAccount>,
    ) -> Result<Self, ConnectorError> {
        let external = external
            .map(|e| {
                let text = e.key.trim().trim_end_matches('=');
                let key = URL_SAFE_NO_PAD
                    .decode(text)
                    .map_err(|_| ConnectorError::ExternalAccountKey)?;
                Ok((e.key_id, Zeroizing::new(key)))
            })
            .transpose()?;
        Ok(Self {
            file,
            contact,
            external,
            opened: OnceCell::new(),
        })
    }

    pub(super) async fn get(&self, transport: &Transport) -> Result<&Account, CaError> {
        self.opened
            .get_or_try_init(|| async {
                match self.read(transport)? {
                    Some(kept) => self.open(&kept, transport).await,
                    None => self.make(transport).await,
                }
            })
            .await
    }

    async fn open(&self, kept: &Kept, transport: &Transport) -> Result<Account, CaError> {
        let key = STANDARD
            .decode(kept.key.as_bytes())
            .map(Zeroizing::new)
            .map_err(|_| self.broken("holds a key that is not base64"))?;
        Account::builder_with_http(Box::new(transport.clone()))
            .from_parts(
                kept.account.clone(),
                PrivatePkcs8KeyDer::from(key.as_slice()),
                kept.directory.clone(),
            )
            .await
            .map_err(said)
    }

    async fn make(&self, transport: &Transport) -> Result<Account, CaError> {
        let contact: Vec<&str> = self.contact.iter().map(String::as_str).collect();
        let wanted = NewAccount {
            contact: &contact,
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let external = self
            .external
            .as_ref()
            .map(|(id, key)| ExternalAccountKey::new(id.clone(), key));
        let directory = transport.directory.to_string();
        // First of all: an account that cannot be kept would be left behind at the CA at each attempt.
        let unwritable = |e: std::io::Error| self.broken(&e.to_string());
        let room = Room::beside(&self.file).map_err(unwritable)?;
        let (account, credentials) = Account::builder_with_http(Box::new(transport.clone()))
            .create(&wanted, directory.clone(), external.as_ref())
            .await
            .map_err(said)?;
        let key = STANDARD.encode(credentials.private_key().secret_pkcs8_der());
        let kept = Kept {
            version: 1,
            directory,
            account: account.id().to_owned(),
            key,
        };
        let json = serde_json::to_vec(&kept).map_err(|e| self.broken(&e.to_string()))?;
        let json = Zeroizing::new(json);
        if room.keep(&json).map_err(unwritable)? {
            tracing::info!(file = %self.file.display(), account = account.id(), "made an ACME account");
            return Ok(account);
        }
        // Another node was first: its account is the one.
        let kept = self
            .read(transport)?
            .ok_or_else(|| self.broken("is gone"))?;
        self.open(&kept, transport).await
    }

    /// Reads the file; `None` where there is none yet.
    fn read(&self, transport: &Transport) -> Result<Option<Kept>, CaError> {
        let metadata = match std::fs::metadata(&self.file) {
            Ok(metadata) => metadata,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(self.broken(&e.to_string())),
        };
        if metadata.permissions().mode() & 0o077 != 0 {
            return Err(
                self.broken("others than its owner may read or write it (mode 0600 is needed)")
            );
        }
        if metadata.len() > MAX_FILE {
            return Err(self.broken("is larger than 16 KiB"));
        }
        let bytes = std::fs::read(&self.file).map_err(|e| self.broken(&e.to_string()))?;
        let bytes = Zeroizing::new(bytes);
        let kept: Kept =
            serde_json::from_slice(&bytes).map_err(|_| self.broken("is not as it was written"))?;
        if kept.version != 1 {
            return Err(self.broken("is of a version that is not known"));
        }
        if kept.directory != transport.directory.as_str() {
            return Err(self.broken(&format!("is an account at {}", kept.directory)));
        }
        transport.own(&kept.account)?;
        Ok(Some(kept))
    }

    /// The file's trouble stops orders until somebody looks at it; it is no answer of the CA. Where the
    /// file is stands in the operator's log alone.
    fn broken(&self, problem: &str) -> CaError {
        tracing::error!(file = %self.file.display(), problem, "an ACME account cannot be used");
        CaError::Unavailable(format!("account_file: {problem}"))
    }
}

/// An empty file of mode 0600 beside the one that is to be; gone again when it is dropped.
struct Room<'a> {
    path: &'a Path,
    temporary: PathBuf,
    file: File,
}

impl<'a> Room<'a> {
    fn beside(path: &'a Path) -> std::io::Result<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // Nodes in containers have the same process ids.
        let temporary = path.with_file_name(format!(".{name}.{}", OrderId::new()));
        let mut options = File::options();
        let file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)?;
        Ok(Self {
            path,
            temporary,
            file,
        })
    }

    /// Writes the file whole and durably, unless there is one: `false`.
    fn keep(mut self, bytes: &[u8]) -> std::io::Result<bool> {
        self.file.write_all(bytes)?;
        self.file.sync_all()?;
        // Fails where there is one: two nodes make one account file.
        match std::fs::hard_link(&self.temporary, self.path) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => return Ok(false),
            Err(e) => return Err(e),
        }
        let folder = self.path.parent().filter(|p| !p.as_os_str().is_empty());
        File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()?;
        Ok(true)
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.temporary);
    }
}
