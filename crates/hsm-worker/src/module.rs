//! The vendor's module: loaded once, initialised with patience, its tokens found.

use crate::config::{Config, ExistingToken, Profile};
use crate::errors::module_error;
use crate::raw_sign::RawSign;
use countersign_hsm_protocol::{ErrorClass, WorkerError};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::slot::{Slot, TokenInfo};
use std::time::Duration;

/// Tries of what fails when another process starts on the same token at the same moment.
const TRIES: u32 = 10;
const BETWEEN: Duration = Duration::from_millis(100);

/// The loaded module. One per process, for ever.
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
        let module = Self { pkcs11, raw };
        patiently(|| module.initialise())?;
        Ok(module)
    }

    /// The functions.
    #[must_use]
    pub const fn pkcs11(&self) -> &Pkcs11 {
        &self.pkcs11
    }

    /// `C_Sign` in two calls.
    #[must_use]
    pub const fn raw(&self) -> &RawSign {
        &self.raw
    }

    /// Ends the use of the module; only when no thread is in it any more.
    pub fn finalize(&self) {
        if let Err(e) = self.pkcs11.clone().finalize() {
            tracing::warn!(error = %e, "C_Finalize");
        }
    }

    /// The slot that `find` looks for. A module may see a token only from its next `C_Initialize` on
    /// (SoftHSM reads its folder then, and sees nothing or half of it while another process logs in),
    /// so a token that is not there is looked for again a few times. No session may be open.
    ///
    /// # Errors
    /// What `find` says in the end.
    pub fn find_patiently(
        &self,
        find: impl Fn(&Self) -> Result<Slot, WorkerError>,
    ) -> Result<Slot, WorkerError> {
        let mut first = true;
        patiently(|| {
            if !std::mem::take(&mut first) {
                self.finalize();
                self.initialise()?;
            }
            find(self)
        })
    }

    /// The slot whose token has this serial number.
    ///
    /// # Errors
    /// [`WorkerError::TokenMissing`], [`WorkerError::StateBroken`] if there are two, or the module's.
    pub fn slot_of_serial(&self, serial: &str) -> Result<Slot, WorkerError> {
        let found = self.slots_with(|_, info| info.serial_number().trim_end() == serial)?;
        match found.as_slice() {
            [one] => Ok(*one),
            [] => Err(WorkerError::TokenMissing(format!(
                "the module has no token with serial number {serial}"
            ))),
            _ => Err(WorkerError::StateBroken(format!(
                "two tokens have the serial number {serial}"
            ))),
        }
    }

    /// The slot of a token that the operator's HSM already has.
    ///
    /// # Errors
    /// [`WorkerError::TokenMissing`], also where the label alone is not enough; or the module's.
    pub fn slot_of_existing(&self, wanted: &ExistingToken) -> Result<Slot, WorkerError> {
        let found = self.slots_with(|slot, info| {
            info.label().trim_end() == wanted.label
                && wanted
                    .serial
                    .as_ref()
                    .is_none_or(|s| info.serial_number().trim_end() == s)
                && wanted.slot.is_none_or(|s| slot.id() == s)
        })?;
        match found.as_slice() {
            [one] => Ok(*one),
            [] => Err(WorkerError::TokenMissing(format!(
                "the module has no token {wanted}; it has {}",
                self.tokens()?
            ))),
            many => Err(WorkerError::TokenMissing(format!(
                "{} tokens are {wanted}: say which by `serial` or `slot`; the module has {}",
                many.len(),
                self.tokens()?
            ))),
        }
    }

    fn slots_with(
        &self,
        wanted: impl Fn(Slot, &TokenInfo) -> bool,
    ) -> Result<Vec<Slot>, WorkerError> {
        let mut found = Vec::new();
        for slot in self
            .pkcs11
            .get_slots_with_initialized_token()
            .map_err(|e| module_error(&e))?
        {
            let info = self
                .pkcs11
                .get_token_info(slot)
                .map_err(|e| module_error(&e))?;
            if wanted(slot, &info) {
                found.push(slot);
            }
        }
        Ok(found)
    }

    /// The tokens there are, for the operator who named another.
    fn tokens(&self) -> Result<String, WorkerError> {
        let all = std::cell::RefCell::new(Vec::new());
        self.slots_with(|slot, info| {
            all.borrow_mut().push(format!(
                "`{}` (serial {}, slot {})",
                info.label().trim_end(),
                info.serial_number().trim_end(),
                slot.id()
            ));
            false
        })?;
        let all = all.into_inner();
        Ok(if all.is_empty() {
            "none".to_owned()
        } else {
            all.join(", ")
        })
    }

    fn initialise(&self) -> Result<(), WorkerError> {
        self.pkcs11
            .initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))
            .map_err(|e| module_error(&e))
    }
}

/// Once more, some times, where another process may have been in the way. No login is in here.
fn patiently<T>(mut attempt: impl FnMut() -> Result<T, WorkerError>) -> Result<T, WorkerError> {
    let mut tries = 1;
    loop {
        match attempt() {
            Err(
                error @ (WorkerError::TokenMissing(_)
                | WorkerError::Module {
                    class: ErrorClass::Fatal | ErrorClass::DeviceGone,
                    ..
                }),
            ) if tries < TRIES => {
                tracing::warn!(%error, tries, "the module is asked again");
                tries = tries.saturating_add(1);
                std::thread::sleep(BETWEEN);
            }
            other => return other,
        }
    }
}
