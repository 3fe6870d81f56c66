//! The module and the one token: found by serial number, logged in to once, bound to its tenant.
//!
//! PKCS#11 login is per process and token, shared by all sessions, and ends with the last session
//! (v3.1 §5.6.1): so one *guard session* stays open for ever, and nobody calls `C_Logout`.

use crate::config::{Config, Profile};
use crate::errors::{is_pin_trouble, module_error};
use crate::pin::{self, Latch};
use crate::raw_sign::RawSign;
use crate::state_dir::{StateDir, make_private, read_bounded, sync_dir, write_durably};
use countersign_core::TenantId;
use countersign_core::ports::hsm::{LogPins, TokenFacts};
use countersign_hsm_protocol::WorkerError;
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError};

const TOKEN_FILE: &str = "token.json";
/// `CKA_LABEL` and `CKA_ID` of the key that MACs bindings.
const MAC_KEY: &[u8] = b"countersign-binding-mac";

/// The loaded module. One per process, for ever (`C_Initialize` once, PKCS#11 v3.1 §5.4.1).
#[derive(Debug)]
pub struct Module {
    pkcs11: Pkcs11,
    raw: RawSign,
}

impl Module {
    /// Loads and initialises it.
    ///
    /// # Errors
    /// [`WorkerError::ModuleMissing`] with what to install, or the module's error.
    pub fn load(config: &Config, profile: &Profile) -> Result<Self, WorkerError> {
        let missing = |e: &dyn std::fmt::Display| {
            WorkerError::ModuleMissing(format!(
                "cannot load the PKCS#11 module {}: {e}; install it with: {}",
                config.module.display(),
                profile.install
            ))
        };
        if !config.module.exists() {
            return Err(missing(&"no such file"));
        }
        let pkcs11 = Pkcs11::new(&config.module).map_err(|e| missing(&e))?;
        let raw = RawSign::of_module(&config.module).map_err(|e| missing(&e))?;
        pkcs11
            .initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))
            .map_err(|e| module_error(&e))?;
        Ok(Self { pkcs11, raw })
    }

    /// Ends the use of the module; only when no thread is in it any more.
    pub fn finalize(&self) {
        if let Err(e) = self.pkcs11.clone().finalize() {
            tracing::warn!(error = %e, "C_Finalize");
        }
    }

    fn slot_of(&self, serial: &str) -> Result<Slot, WorkerError> {
        let mut found = None;
        for slot in self
            .pkcs11
            .get_slots_with_initialized_token()
            .map_err(|e| module_error(&e))?
        {
            let info = self
                .pkcs11
                .get_token_info(slot)
                .map_err(|e| module_error(&e))?;
            if info.serial_number().trim_end() == serial {
                if found.is_some() {
                    return Err(WorkerError::StateBroken(format!(
                        "two tokens have the serial number {serial}"
                    )));
                }
                found = Some(slot);
            }
        }
        found.ok_or_else(|| {
            WorkerError::StateBroken(format!("the module has no token with serial {serial}"))
        })
    }
}

/// What is pinned when the token is made, for ever (`token.json`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pinned {
    version: u32,
    tenant: TenantId,
    pins: LogPins,
    facts: TokenFacts,
    binding_mac: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenFile {
    pinned: Pinned,
    /// HMAC-SHA-256 over `pinned`, hex, by the key in the token.
    mac: Option<String>,
}

/// The token, logged in.
#[derive(Debug)]
pub struct Token {
    module: Arc<Module>,
    slot: Slot,
    pinned: Pinned,
    login: Mutex<Login>,
}

#[derive(Debug)]
struct Login {
    guard: Session,
    epoch: u64,
}

/// A session and the login it belongs to: handles found in it are void after another login.
#[derive(Debug)]
pub struct EpochSession {
    /// The session.
    pub session: Session,
    /// Of which login.
    pub epoch: u64,
}

impl Token {
    /// Opens the token named in `token.json`; `None` if there is no such file.
    ///
    /// # Errors
    /// [`WorkerError::Latched`], [`WorkerError::StateBroken`], or the module's.
    pub fn open(
        module: &Arc<Module>,
        dir: &StateDir,
        config: &Config,
    ) -> Result<Option<Self>, WorkerError> {
        let Some(file) = read_token_file(dir)? else {
            return Ok(None);
        };
        let slot = module.slot_of(&file.pinned.facts.serial)?;
        let guard = module
            .pkcs11
            .open_ro_session(slot)
            .map_err(|e| module_error(&e))?;
        let pin = pin::unseal(dir, &config.key_file, file.pinned.tenant)?;
        login(&guard, dir, &pin)?;
        let token = Self {
            module: Arc::clone(module),
            slot,
            pinned: file.pinned,
            login: Mutex::new(Login { guard, epoch: 1 }),
        };
        let session = token.session()?;
        let expected = token.mac(&session.session, &pinned_bytes(&token.pinned)?)?;
        if expected.map(hex::encode) != file.mac {
            return Err(WorkerError::StateBroken(
                "token.json was changed: its MAC does not verify".into(),
            ));
        }
        Ok(Some(token))
    }

    /// Makes the token: SO PIN, user PIN, binding key, pins. Again with the same tenant and pins:
    /// the token that is there (see the caller, which opens it first).
    ///
    /// # Errors
    /// [`WorkerError::BadRequest`], [`WorkerError::StateBroken`], or the module's. Until
    /// `token.json` is written nothing of it is used: a crash leaves an abandoned token, no key.
    pub fn init(
        module: &Arc<Module>,
        dir: &StateDir,
        config: &Config,
        profile: &Profile,
        tenant: TenantId,
        label: &str,
        pins: &LogPins,
    ) -> Result<Self, WorkerError> {
        check_pins(label, pins)?;
        let slot = module
            .pkcs11
            .get_slots_with_token()
            .map_err(|e| module_error(&e))?
            .into_iter()
            .find(|s| {
                module
                    .pkcs11
                    .get_token_info(*s)
                    .is_ok_and(|i| !i.token_initialized())
            })
            .ok_or_else(|| WorkerError::StateBroken("the module has no empty slot".into()))?;

        let so_pin = pin::random_pin()?;
        let user_pin = pin::random_pin()?;
        // Both are safe before the device knows them: a crash never leaves a token nobody can open.
        pin::leave_so_pin(dir, &so_pin)?;
        pin::seal(dir, &config.key_file, tenant, &user_pin)?;
        module
            .pkcs11
            .init_token(slot, &so_pin, label)
            .map_err(|e| module_error(&e))?;
        let so = module
            .pkcs11
            .open_rw_session(slot)
            .map_err(|e| module_error(&e))?;
        so.login(UserType::So, Some(&so_pin))
            .and_then(|()| so.init_pin(&user_pin))
            .and_then(|()| so.logout())
            .and_then(|()| so.close())
            .map_err(|e| module_error(&e))?;

        let info = module
            .pkcs11
            .get_token_info(slot)
            .map_err(|e| module_error(&e))?;
        let firmware = info.firmware_version();
        let facts = TokenFacts {
            label: label.to_owned(),
            manufacturer: info.manufacturer_id().trim_end().to_owned(),
            model: info.model().trim_end().to_owned(),
            serial: info.serial_number().trim_end().to_owned(),
            firmware: format!("{}.{}", firmware.major(), firmware.minor()),
            software: profile.software,
            isolation: profile.isolation,
            profile: profile.name.clone(),
        };
        let guard = module
            .pkcs11
            .open_ro_session(slot)
            .map_err(|e| module_error(&e))?;
        login(&guard, dir, &user_pin)?;
        let offers = |m| module.pkcs11.get_mechanism_info(slot, m).is_ok();
        let binding_mac =
            offers(MechanismType::SHA256_HMAC) && offers(MechanismType::GENERIC_SECRET_KEY_GEN);
        let token = Self {
            module: Arc::clone(module),
            slot,
            pinned: Pinned {
                version: 1,
                tenant,
                pins: pins.clone(),
                facts,
                binding_mac,
            },
            login: Mutex::new(Login { guard, epoch: 1 }),
        };
        if binding_mac {
            token.make_mac_key()?;
        } else {
            tracing::warn!("the module has no HMAC: key bindings are not authenticated");
        }
        let session = token.session()?;
        let mac = token.mac(&session.session, &pinned_bytes(&token.pinned)?)?;
        let file = TokenFile {
            pinned: token.pinned.clone(),
            mac: mac.map(hex::encode),
        };
        let bytes = serde_json::to_vec(&file).map_err(|e| WorkerError::Internal(e.to_string()))?;
        write_durably(&dir.file(TOKEN_FILE), &bytes)
            .map_err(|e| WorkerError::StateBroken(format!("{TOKEN_FILE}: {e}")))?;
        Ok(token)
    }

    /// Whose it is.
    #[must_use]
    pub const fn tenant(&self) -> TenantId {
        self.pinned.tenant
    }

    /// What is known of it.
    #[must_use]
    pub const fn facts(&self) -> &TokenFacts {
        &self.pinned.facts
    }

    /// Which checkpoints are believed.
    #[must_use]
    pub const fn pins(&self) -> &LogPins {
        &self.pinned.pins
    }

    /// Whether bindings carry a MAC.
    #[must_use]
    pub const fn binding_mac(&self) -> bool {
        self.pinned.binding_mac
    }

    /// `C_Sign` in two calls.
    #[must_use]
    pub fn raw(&self) -> &RawSign {
        &self.module.raw
    }

    /// Opens a read-only session; enough to sign.
    ///
    /// # Errors
    /// The module's, or [`WorkerError::StateBroken`] if another token is in the slot.
    pub fn session(&self) -> Result<EpochSession, WorkerError> {
        self.open_session(false)
    }

    /// Opens a session that may make and destroy objects.
    ///
    /// # Errors
    /// As [`Token::session`].
    pub fn rw_session(&self) -> Result<EpochSession, WorkerError> {
        self.open_session(true)
    }

    fn open_session(&self, writable: bool) -> Result<EpochSession, WorkerError> {
        let epoch = self.lock().epoch;
        // After a device came back, another token may be in the slot: compare the serial number.
        let info = self
            .module
            .pkcs11
            .get_token_info(self.slot)
            .map_err(|e| module_error(&e))?;
        if info.serial_number().trim_end() != self.pinned.facts.serial {
            return Err(WorkerError::StateBroken(
                "another token is in the slot".into(),
            ));
        }
        let session = if writable {
            self.module.pkcs11.open_rw_session(self.slot)
        } else {
            self.module.pkcs11.open_ro_session(self.slot)
        }
        .map_err(|e| module_error(&e))?;
        Ok(EpochSession { session, epoch })
    }

    /// Logs in again, once for all who saw the login of `epoch` gone.
    ///
    /// # Errors
    /// [`WorkerError::Latched`], or the module's.
    pub fn login_again(
        &self,
        epoch: u64,
        dir: &StateDir,
        config: &Config,
    ) -> Result<(), WorkerError> {
        let mut login_state = self.lock();
        if login_state.epoch != epoch {
            return Ok(());
        }
        let guard = self
            .module
            .pkcs11
            .open_ro_session(self.slot)
            .map_err(|e| module_error(&e))?;
        let pin = pin::unseal(dir, &config.key_file, self.pinned.tenant)?;
        login(&guard, dir, &pin)?;
        tracing::warn!("logged in to the token again");
        login_state.guard = guard;
        login_state.epoch = epoch.wrapping_add(1);
        Ok(())
    }

    /// Closes the guard session and ends the use of the module; only when no thread is in it any
    /// more.
    pub fn finalize(self: Arc<Self>) {
        let module = Arc::clone(&self.module);
        drop(self);
        module.finalize();
    }

    /// HMAC-SHA-256 by the key in the token; `None` where the module has none.
    ///
    /// # Errors
    /// The module's, or [`WorkerError::StateBroken`] if the key is gone.
    pub fn mac(&self, session: &Session, message: &[u8]) -> Result<Option<Vec<u8>>, WorkerError> {
        if !self.pinned.binding_mac {
            return Ok(None);
        }
        let key = self.mac_key(session)?;
        session
            .sign(&Mechanism::Sha256Hmac, key, message)
            .map(Some)
            .map_err(|e| module_error(&e))
    }

    /// Whether an object is our own binding key.
    ///
    /// # Errors
    /// The module's.
    pub fn is_mac_key(&self, session: &Session, object: ObjectHandle) -> Result<bool, WorkerError> {
        Ok(find_mac_keys(session)?.contains(&object))
    }

    fn mac_key(&self, session: &Session) -> Result<ObjectHandle, WorkerError> {
        match find_mac_keys(session)?.as_slice() {
            [one] => Ok(*one),
            other => Err(WorkerError::StateBroken(format!(
                "the token has {} binding keys, expected one",
                other.len()
            ))),
        }
    }

    fn make_mac_key(&self) -> Result<(), WorkerError> {
        let rw = self.rw_session()?;
        let template = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::GENERIC_SECRET),
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Modifiable(false),
            Attribute::Sign(true),
            Attribute::Verify(true),
            Attribute::Encrypt(false),
            Attribute::Decrypt(false),
            Attribute::Wrap(false),
            Attribute::Unwrap(false),
            Attribute::Derive(false),
            Attribute::ValueLen(32.into()),
            Attribute::Label(MAC_KEY.to_vec()),
            Attribute::Id(MAC_KEY.to_vec()),
        ];
        rw.session
            .generate_key(&Mechanism::GenericSecretKeyGen, &template)
            .map(|_| ())
            .map_err(|e| module_error(&e))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Login> {
        self.login.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serial number and user PIN of the token of a state folder, for the bench beside a running worker
/// (so without the folder's lock).
///
/// # Errors
/// [`WorkerError::Latched`], [`WorkerError::TokenAbsent`] or [`WorkerError::StateBroken`].
pub fn open_for_bench(
    state: &std::path::Path,
    config: &Config,
) -> Result<(String, SecretString), WorkerError> {
    let dir = StateDir::look(state);
    if let Some(reason) = Latch::reason(&dir) {
        return Err(WorkerError::Latched(reason));
    }
    let file = read_token_file(&dir)?.ok_or(WorkerError::TokenAbsent)?;
    let pin = pin::unseal(&dir, &config.key_file, file.pinned.tenant)?;
    Ok((file.pinned.facts.serial, pin))
}

/// Prepares a SoftHSM folder: its own configuration and token directory, so that this process can
/// see no other token. A half-made token (no `token.json`) is moved aside, never deleted.
///
/// # Errors
/// [`WorkerError::StateBroken`], for instance if `token.json` is gone although keys are bound.
pub fn prepare_softhsm(dir: &StateDir) -> Result<std::path::PathBuf, WorkerError> {
    let broken = |e: &dyn std::fmt::Display| WorkerError::StateBroken(e.to_string());
    let tokens = dir.file("tokens");
    if read_token_file(dir)?.is_none() {
        if !dir.bound_keys().map_err(|e| broken(&e))?.is_empty() {
            return Err(broken(
                &"token.json is gone although keys are bound: restore it, do not make a new token",
            ));
        }
        let used = std::fs::read_dir(&tokens).is_ok_and(|mut d| d.next().is_some());
        if used {
            let aside = (0..10_000_u32)
                .map(|n| dir.file(&format!("tokens.abandoned-{n}")))
                .find(|p| !p.exists())
                .ok_or_else(|| broken(&"too many abandoned tokens"))?;
            std::fs::rename(&tokens, &aside).map_err(|e| broken(&e))?;
            sync_dir(dir.root()).map_err(|e| broken(&e))?;
            tracing::warn!(folder = %aside.display(), "moved a half-made token aside");
        }
    }
    make_private(&tokens).map_err(|e| broken(&e))?;
    let conf = dir.file("softhsm2.conf");
    let text = format!(
        "# Written by countersign-hsm-worker.\ndirectories.tokendir = {}\nobjectstore.backend = file\n\
         log.level = ERROR\nslots.removable = false\n",
        tokens.display()
    );
    write_durably(&conf, text.as_bytes()).map_err(|e| broken(&e))?;
    Ok(conf)
}

fn login(session: &Session, dir: &StateDir, pin: &SecretString) -> Result<(), WorkerError> {
    let latch = Latch::attempt(dir)?;
    match session.login(UserType::User, Some(pin)) {
        // Only this process logs in, and only as the user: already logged in is success.
        Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {
            latch.release();
            Ok(())
        }
        Err(e) if is_pin_trouble(&e) => {
            let reason = match module_error(&e) {
                WorkerError::Module { code, .. } => code,
                other => other.to_string(),
            };
            latch.close(&reason);
            Err(WorkerError::Latched(reason))
        }
        Err(e) => {
            latch.release();
            Err(module_error(&e))
        }
    }
}

fn find_mac_keys(session: &Session) -> Result<Vec<ObjectHandle>, WorkerError> {
    session
        .find_objects(&[
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::Token(true),
            Attribute::Label(MAC_KEY.to_vec()),
            Attribute::Id(MAC_KEY.to_vec()),
        ])
        .map_err(|e| module_error(&e))
}

fn read_token_file(dir: &StateDir) -> Result<Option<TokenFile>, WorkerError> {
    let broken = |e: &dyn std::fmt::Display| WorkerError::StateBroken(format!("{TOKEN_FILE}: {e}"));
    match read_bounded(&dir.file(TOKEN_FILE), 64 * 1024).map_err(|e| broken(&e))? {
        None => Ok(None),
        Some(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|e| broken(&e)),
    }
}

fn pinned_bytes(pinned: &Pinned) -> Result<Vec<u8>, WorkerError> {
    let mut bytes = b"countersign/token/v1\0".to_vec();
    serde_json::to_writer(&mut bytes, pinned).map_err(|e| WorkerError::Internal(e.to_string()))?;
    Ok(bytes)
}

fn check_pins(label: &str, pins: &LogPins) -> Result<(), WorkerError> {
    let bad = |field: &str, problem: &str| WorkerError::BadRequest {
        field: field.to_owned(),
        problem: problem.to_owned(),
    };
    let printable = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_graphic());
    if !printable(label) || label.len() > 32 {
        return Err(bad("label", "1 to 32 printable ASCII characters"));
    }
    if !printable(&pins.origin_prefix)
        || pins.origin_prefix.len() > 200
        || pins.origin_prefix.contains('+')
        || pins.origin_prefix.ends_with('/')
    {
        return Err(bad(
            "origin_prefix",
            "1 to 200 printable ASCII characters, no '+', no '/' at the end",
        ));
    }
    if pins.log_public_keys.is_empty() || pins.log_public_keys.len() > 8 {
        return Err(bad("log_public_keys", "1 to 8 keys"));
    }
    Ok(())
}
