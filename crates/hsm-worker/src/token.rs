//! The one token: logged in to once, its pins and tenants.
//!
//! PKCS#11 login is per process and token, shared by all sessions, and ends with the last session
//! (v3.1 §5.6.1): so one *guard session* stays open for ever, and nobody calls `C_Logout`.
//!
//! It is made here ([`Token::init`], one tenant's alone), or is one that the operator's HSM already
//! has ([`Token::adopt`]): that one is never initialised, and its PIN never changed.

mod binding_key;
mod file;

use binding_key::{find_mac_keys, offers_mac};
pub(crate) use file::read_token_file;
use file::{Existing, Pinned, TOKEN_FILE, TokenFile, check_label, check_pins, pinned_bytes};

use crate::config::{Config, ExistingToken, Profile};
use crate::errors::{is_pin_trouble, module_error};
use crate::module::Module;
use crate::pin::{self, Latch};
use crate::raw_sign::RawSign;
use crate::state_dir::{StateDir, create_durably, write_durably};
use countersign_core::ports::hsm::{LogPins, TokenFacts};
use countersign_core::{IsolationClass, TenantId};
use countersign_hsm_protocol::WorkerError;
use cryptoki::error::{Error, RvError};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use secrecy::SecretString;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long a worker waits for another node's that makes, opens or logs in to the same token.
pub const TOKEN_LOCK_WAIT: Duration = Duration::from_secs(20);
/// Most tenants of a shared token.
const MAX_TENANTS: usize = 4096;

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
    /// Opens the token named in `token.json`; `None` if there is no such file. Call it under the
    /// token's lock, and before any session is open.
    ///
    /// # Errors
    /// [`WorkerError::Latched`], [`WorkerError::TokenMissing`], [`WorkerError::StateBroken`], or the
    /// module's.
    pub fn open(
        module: &Arc<Module>,
        dir: &StateDir,
        config: &Config,
    ) -> Result<Option<Self>, WorkerError> {
        let Some(file) = read_token_file(dir)? else {
            return Ok(None);
        };
        match (&file.pinned.existing, &config.token) {
            (None, None) => {}
            (Some(pinned), Some(configured)) if pinned.shared || !configured.shared => {}
            (Some(_), Some(_)) => {
                return Err(WorkerError::StateBroken(format!(
                    "the token is tenant {}'s alone, and its keys are recorded so: it cannot be shared now; \
                     give the other tenants another token",
                    file.pinned.tenant
                )));
            }
            _ => {
                return Err(WorkerError::StateBroken(
                    "the folder belongs to another kind of token (made here, or existing)".into(),
                ));
            }
        }
        let slot = module.find_patiently(|m| match &config.token {
            Some(wanted) => m.slot_of_existing(wanted),
            None => m.slot_of_serial(&file.pinned.facts.serial),
        })?;
        let guard = module
            .pkcs11()
            .open_ro_session(slot)
            .map_err(|e| module_error(&e))?;
        login(&guard, dir, &user_pin(dir, config, file.pinned.tenant)?)?;
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

    /// Takes up a token that the operator's HSM already has: binding key, pins. Call it under the
    /// token's lock, after [`Token::open`] found nothing, and before any session is open.
    ///
    /// # Errors
    /// [`WorkerError::TokenMissing`], [`WorkerError::Latched`], [`WorkerError::BadRequest`],
    /// [`WorkerError::StateBroken`], or the module's.
    pub fn adopt(
        module: &Arc<Module>,
        dir: &StateDir,
        config: &Config,
        profile: &Profile,
        wanted: &ExistingToken,
        tenant: TenantId,
        pins: &LogPins,
    ) -> Result<Self, WorkerError> {
        check_pins(pins)?;
        let slot = module.find_patiently(|m| m.slot_of_existing(wanted))?;
        let guard = module
            .pkcs11()
            .open_ro_session(slot)
            .map_err(|e| module_error(&e))?;
        login(&guard, dir, &user_pin(dir, config, tenant)?)?;
        let isolation = if wanted.shared {
            IsolationClass::SharedToken
        } else {
            IsolationClass::ExclusiveToken
        };
        let token = Self {
            module: Arc::clone(module),
            slot,
            pinned: Pinned {
                version: 1,
                tenant,
                pins: pins.clone(),
                facts: facts(module, slot, profile, isolation)?,
                binding_mac: offers_mac(module, slot, profile),
                existing: Some(Existing {
                    shared: wanted.shared,
                }),
            },
            login: Mutex::new(Login { guard, epoch: 1 }),
        };
        token.pin(dir)?;
        Ok(token)
    }

    /// Logs in to a token that the operator's HSM already has and out again: is the configuration
    /// right? Call it under the token's lock.
    ///
    /// # Errors
    /// As [`Token::adopt`].
    pub fn try_login(
        module: &Module,
        dir: &StateDir,
        wanted: &ExistingToken,
    ) -> Result<(), WorkerError> {
        let slot = module.find_patiently(|m| m.slot_of_existing(wanted))?;
        let session = module
            .pkcs11()
            .open_ro_session(slot)
            .map_err(|e| module_error(&e))?;
        // The login ends with this last session.
        login(&session, dir, &pin::read_file(&wanted.pin_file)?)
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
        check_label(label)?;
        check_pins(pins)?;
        let slot = module
            .pkcs11()
            .get_slots_with_token()
            .map_err(|e| module_error(&e))?
            .into_iter()
            .find(|s| {
                module
                    .pkcs11()
                    .get_token_info(*s)
                    .is_ok_and(|i| !i.token_initialized())
            })
            .ok_or_else(|| WorkerError::StateBroken("the module has no empty slot".into()))?;

        let so_pin = pin::random_pin()?;
        let user_pin = pin::random_pin()?;
        // Both are safe before the device knows them: a crash never leaves a token nobody can open.
        pin::leave_so_pin(dir, &so_pin)?;
        pin::seal(dir, key_file(config)?, tenant, &user_pin)?;
        module
            .pkcs11()
            .init_token(slot, &so_pin, label)
            .map_err(|e| module_error(&e))?;
        let so = module
            .pkcs11()
            .open_rw_session(slot)
            .map_err(|e| module_error(&e))?;
        so.login(UserType::So, Some(&so_pin))
            .and_then(|()| so.init_pin(&user_pin))
            .and_then(|()| so.logout())
            .and_then(|()| so.close())
            .map_err(|e| module_error(&e))?;

        let guard = module
            .pkcs11()
            .open_ro_session(slot)
            .map_err(|e| module_error(&e))?;
        login(&guard, dir, &user_pin)?;
        let token = Self {
            module: Arc::clone(module),
            slot,
            pinned: Pinned {
                version: 1,
                tenant,
                pins: pins.clone(),
                facts: TokenFacts {
                    label: label.to_owned(),
                    ..facts(module, slot, profile, profile.isolation)?
                },
                binding_mac: offers_mac(module, slot, profile),
                existing: None,
            },
            login: Mutex::new(Login { guard, epoch: 1 }),
        };
        token.pin(dir)?;
        Ok(token)
    }

    /// Makes the binding key, unless it is there, and writes `token.json`.
    fn pin(&self, dir: &StateDir) -> Result<(), WorkerError> {
        let session = self.session()?;
        if !self.pinned.binding_mac {
            tracing::warn!("the module has no HMAC: key bindings are not authenticated");
        } else if find_mac_keys(&session.session)?.is_empty() {
            self.make_mac_key()?;
        }
        let mac = self.mac(&session.session, &pinned_bytes(&self.pinned)?)?;
        let file = TokenFile {
            pinned: self.pinned.clone(),
            mac: mac.map(hex::encode),
        };
        let bytes = serde_json::to_vec(&file).map_err(|e| WorkerError::Internal(e.to_string()))?;
        let broken = |e: std::io::Error| WorkerError::StateBroken(format!("{TOKEN_FILE}: {e}"));
        if self.pinned.existing.is_some() {
            // Who looks for a tenant's token looks here; before the pins, so that it is never missed.
            self.add_tenant(dir, self.pinned.tenant)?;
        }
        write_durably(&dir.token_file(TOKEN_FILE), &bytes).map_err(broken)
    }

    /// Takes a tenant into this token: it must be free for it, and the pins the same.
    ///
    /// # Errors
    /// [`WorkerError::TokenTaken`] or [`WorkerError::StateBroken`].
    pub fn admit(
        &self,
        dir: &StateDir,
        tenant: TenantId,
        pins: &LogPins,
    ) -> Result<(), WorkerError> {
        if self.tenant().is_some_and(|t| t != tenant) {
            return Err(WorkerError::TokenTaken("of another tenant".into()));
        }
        if self.pins() != pins {
            return Err(WorkerError::TokenTaken("other log pins".into()));
        }
        if self.shared() && !dir.tenant(tenant).exists() {
            self.add_tenant(dir, tenant)?;
        }
        Ok(())
    }

    fn add_tenant(&self, dir: &StateDir, tenant: TenantId) -> Result<(), WorkerError> {
        let broken = |e: std::io::Error| WorkerError::StateBroken(format!("tenants: {e}"));
        let known = std::fs::read_dir(dir.token_file("tenants"))
            .map_err(broken)?
            .count();
        if known >= MAX_TENANTS {
            return Err(WorkerError::TokenTaken(format!("by {known} tenants")));
        }
        create_durably(&dir.tenant(tenant), b"")
            .map(|_| ())
            .map_err(broken)
    }

    /// Whose alone it is; `None` if several tenants share it.
    #[must_use]
    pub fn tenant(&self) -> Option<TenantId> {
        (!self.shared()).then_some(self.pinned.tenant)
    }

    /// Whether a tenant's keys may be made here.
    #[must_use]
    pub fn serves(&self, dir: &StateDir, tenant: TenantId) -> bool {
        match self.tenant() {
            Some(its) => its == tenant,
            None => dir.tenant(tenant).exists(),
        }
    }

    /// Whether it is one that the operator's HSM already had: there may be others' objects in it.
    #[must_use]
    pub const fn existing(&self) -> bool {
        self.pinned.existing.is_some()
    }

    fn shared(&self) -> bool {
        self.pinned.existing.is_some_and(|e| e.shared)
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

    /// The module it is in.
    #[must_use]
    pub fn module(&self) -> &Module {
        &self.module
    }

    /// The user PIN once more, for what a module derives from it.
    ///
    /// # Errors
    /// [`WorkerError::StateBroken`] with the file.
    pub fn user_pin(&self, dir: &StateDir, config: &Config) -> Result<SecretString, WorkerError> {
        user_pin(dir, config, self.pinned.tenant)
    }

    /// `C_Sign` in two calls.
    #[must_use]
    pub fn raw(&self) -> &RawSign {
        self.module.raw()
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
            .pkcs11()
            .get_token_info(self.slot)
            .map_err(|e| module_error(&e))?;
        if info.serial_number().trim_end() != self.pinned.facts.serial {
            return Err(WorkerError::StateBroken(
                "another token is in the slot".into(),
            ));
        }
        let session = if writable {
            self.module.pkcs11().open_rw_session(self.slot)
        } else {
            self.module.pkcs11().open_ro_session(self.slot)
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
        let _one_at_a_time = dir.lock_token(TOKEN_LOCK_WAIT)?;
        let guard = self
            .module
            .pkcs11()
            .open_ro_session(self.slot)
            .map_err(|e| module_error(&e))?;
        login(&guard, dir, &user_pin(dir, config, self.pinned.tenant)?)?;
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
    let pin = user_pin(&dir, config, file.pinned.tenant)?;
    Ok((file.pinned.facts.serial, pin))
}

/// The serial number of the token made here, and that its PIN opens; `None` if none was made.
///
/// # Errors
/// [`WorkerError::StateBroken`].
pub(crate) fn made_here(dir: &StateDir, config: &Config) -> Result<Option<String>, WorkerError> {
    let Some(file) = read_token_file(dir)? else {
        return Ok(None);
    };
    user_pin(dir, config, file.pinned.tenant)?;
    Ok(Some(file.pinned.facts.serial))
}

/// The user PIN: the operator's file, or the one that was made and sealed here.
fn user_pin(
    dir: &StateDir,
    config: &Config,
    tenant: TenantId,
) -> Result<SecretString, WorkerError> {
    match &config.token {
        Some(existing) => pin::read_file(&existing.pin_file),
        None => pin::unseal(dir, key_file(config)?, tenant),
    }
}

fn key_file(config: &Config) -> Result<&std::path::Path, WorkerError> {
    config
        .key_file
        .as_deref()
        .ok_or_else(|| WorkerError::StateBroken("the configuration names no key_file".into()))
}

fn facts(
    module: &Module,
    slot: Slot,
    profile: &Profile,
    isolation: IsolationClass,
) -> Result<TokenFacts, WorkerError> {
    let info = module
        .pkcs11()
        .get_token_info(slot)
        .map_err(|e| module_error(&e))?;
    let firmware = info.firmware_version();
    // PKCS#11 §3.2 pads with blanks. Some pad with NUL, or between their words.
    let plain = |text: &str| {
        let words: Vec<_> = text
            .split(|c: char| c.is_whitespace() || c == '\0')
            .filter(|w| !w.is_empty())
            .collect();
        words.join(" ")
    };
    let model = plain(info.model());
    Ok(TokenFacts {
        label: info.label().trim_end().to_owned(),
        manufacturer: plain(info.manufacturer_id()),
        serial: plain(info.serial_number()),
        firmware: format!("{}.{}", firmware.major(), firmware.minor()),
        software: profile.software || profile.software_models.contains(&model),
        model,
        isolation,
        profile: profile.name.clone(),
    })
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
