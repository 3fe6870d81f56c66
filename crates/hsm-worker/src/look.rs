//! Module and token as they are found without a login: for an operator who asks what is wrong while no
//! worker runs. A login could count a wrong PIN, so none is made here; a latched token is left alone.

use crate::config::{Config, Profile, read_profile};
use crate::module::Module;
use crate::pin::{self, Latch};
use crate::run::{StartError, begin_again_with};
use crate::sandbox;
use crate::softhsm;
use crate::state_dir::{StateDir, TokenLock, make_private};
use crate::token;
use countersign_hsm_protocol::WorkerError;
use countersign_hsm_protocol::look::{Look, PinState, TokenSeen};
use cryptoki::slot::TokenInfo;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

/// How long a worker that is just starting on the same token may hold it.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// Looks, confined as a worker is. The report is one line of JSON ([`Look`]).
///
/// # Errors
/// [`StartError`]: configuration, profile, folders. Trouble with module and token is in the report.
pub fn look(config: &Path, token: Option<&Path>, scratch: &Path) -> Result<String, StartError> {
    let config = Config::read(config)?;
    let profile = read_profile(&config.profile)?;
    let none = scratch.join("none");
    if token.is_none() {
        make_private(&none.join("tokens"))?;
    }
    let dir = StateDir::beside(token.unwrap_or(&none), scratch)?;
    let prepared = prepare(&dir, &config, &profile);
    if let Ok((environment, _)) = &prepared {
        begin_again_with(environment)?;
    }
    let sandbox = sandbox::enter(&config, &profile, &dir, &[]);
    // Still under the token's lock: SoftHSM disturbs another process that starts at the same moment.
    let (module, token) = match prepared.and_then(|(_, lock)| {
        let module = Module::load(&config, &profile)?;
        Ok((module, lock))
    }) {
        Ok((module, _lock)) => {
            let seen = seen(&module, &dir, &config, token.is_some());
            let info = describe(&module);
            module.finalize();
            (info, seen)
        }
        Err(error) => (Err(error.clone()), Err(error)),
    };
    let look = Look {
        sandbox,
        module,
        token,
    };
    serde_json::to_string(&look).map_err(|e| StartError::System {
        what: "the report",
        error: std::io::Error::other(e),
    })
}

/// What the module needs before it is loaded, as for a worker; nothing is made in the token's folder.
fn prepare(
    dir: &StateDir,
    config: &Config,
    profile: &Profile,
) -> Result<(BTreeMap<String, OsString>, TokenLock), WorkerError> {
    if let Some(reason) = Latch::reason(dir) {
        return Err(WorkerError::Latched(reason));
    }
    let lock = dir.lock_token(LOCK_WAIT)?;
    let mut environment = config.environment();
    if profile.softhsm_directory && config.token.is_none() {
        environment.insert("SOFTHSM2_CONF".into(), softhsm::configure(dir)?.into());
    }
    Ok((environment, lock))
}

fn describe(module: &Module) -> Result<String, WorkerError> {
    let info = module
        .pkcs11()
        .get_library_info()
        .map_err(|e| crate::errors::module_error(&e))?;
    let version = info.library_version();
    Ok(format!(
        "{} {}.{} ({})",
        info.library_description().trim_end(),
        version.major(),
        version.minor(),
        info.manufacturer_id().trim_end(),
    ))
}

fn seen(
    module: &Module,
    dir: &StateDir,
    config: &Config,
    named: bool,
) -> Result<TokenSeen, WorkerError> {
    let slot = match &config.token {
        Some(wanted) => {
            pin::read_file(&wanted.pin_file)?;
            module.find_patiently(|m| m.slot_of_existing(wanted))?
        }
        None if !named => return Ok(TokenSeen::None),
        None => match token::made_here(dir, config)? {
            Some(serial) => module.find_patiently(|m| m.slot_of_serial(&serial))?,
            None => return Ok(TokenSeen::None),
        },
    };
    let info = module
        .pkcs11()
        .get_token_info(slot)
        .map_err(|e| crate::errors::module_error(&e))?;
    Ok(TokenSeen::There {
        label: info.label().trim_end().to_owned(),
        serial: info.serial_number().trim_end().to_owned(),
        pin: pin_state(&info),
    })
}

/// PKCS#11 v3.1 §3.2, the flags of `CK_TOKEN_INFO`; the worst counts.
fn pin_state(info: &TokenInfo) -> PinState {
    if info.user_pin_locked() {
        PinState::Locked
    } else if !info.user_pin_initialized() {
        PinState::NotSet
    } else if info.user_pin_final_try() {
        PinState::FinalTry
    } else if info.user_pin_to_be_changed() {
        PinState::ToBeChanged
    } else if info.user_pin_count_low() {
        PinState::CountLow
    } else {
        PinState::Good
    }
}
