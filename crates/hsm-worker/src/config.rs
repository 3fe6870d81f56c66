//! The worker's configuration and its module's profile.
//!
//! ```toml
//! module = "/usr/lib/softhsm/libsofthsm2.so"
//! profile = "softhsm2"                             # one that comes with the program, or a file
//! key_file = "/var/lib/countersign-hsm/seal.key"   # outside the state folder
//! threads = 2                                      # the HSM's parallelism; SoftHSM: cores
//! ```
//!
//! With a token that is there already, instead of `key_file`:
//!
//! ```toml
//! [token]
//! label = "codesign-a"
//! pin_file = "/etc/countersign-hsm/codesign-a.pin"
//! shared = true                                    # several tenants
//!
//! [environment]
//! ChrystokiConfigurationPath = "/etc/luna"
//! ```
//!
//! No secret is ever a value here. Unknown keys are refused.

use crate::run::StartError;
pub use countersign_hsm_protocol::profile::{Level, Profile};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The configuration file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The vendor's shared library.
    pub module: PathBuf,
    /// The module's profile: the name of one in hsm-config/, or a file.
    pub profile: PathBuf,
    /// 32 random bytes, 0600, of the worker's user, that seal the PIN. Made at `InitToken` if
    /// absent. Must not lie in the state folder: a copy of that folder is then no use. Needed for
    /// tokens made here.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
    /// Signing threads, one session each.
    #[serde(default = "default_threads")]
    pub threads: usize,
    /// Requests that may wait for a thread; one more is answered `busy`.
    #[serde(default = "default_queue")]
    pub queue: usize,
    /// How this process is confined.
    #[serde(default)]
    pub sandbox: SandboxMode,
    /// Environment that the module needs: the worker begins again with it before the module is
    /// loaded.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// A token that is there already; without it one is made in the module's empty slot.
    #[serde(default)]
    pub token: Option<ExistingToken>,
}

/// How the worker is confined.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SandboxMode {
    /// Not at all, beside that it leaves no core file.
    Off,
    /// The kernel logs system calls that would be refused.
    Report,
    /// As far as the module's profile and the kernel allow.
    #[default]
    Enforce,
}

/// `[token]`: one that the operator's HSM already has. It is never initialised, its PIN never changed.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExistingToken {
    /// `CK_TOKEN_INFO.label`.
    pub label: String,
    /// `CK_TOKEN_INFO.serialNumber`, where the label is not enough.
    #[serde(default)]
    pub serial: Option<String>,
    /// `CK_SLOT_ID`, where neither is.
    #[serde(default)]
    pub slot: Option<u64>,
    /// The user PIN, one line, 0600, of the worker's user.
    pub pin_file: PathBuf,
    /// Files, folders and devices that the module writes, beside what its profile says.
    #[serde(default)]
    pub files: Vec<PathBuf>,
    /// Several tenants have keys in it.
    #[serde(default)]
    pub shared: bool,
}

impl std::fmt::Display for ExistingToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "labelled `{}`", self.label)?;
        if let Some(serial) = &self.serial {
            write!(f, " with serial number {serial}")?;
        }
        if let Some(slot) = self.slot {
            write!(f, " in slot {slot}")?;
        }
        Ok(())
    }
}

impl Config {
    /// What the module needs in its environment.
    #[must_use]
    pub fn environment(&self) -> BTreeMap<String, OsString> {
        let entries = self.environment.iter();
        entries.map(|(k, v)| (k.clone(), v.into())).collect()
    }

    /// Reads the configuration.
    ///
    /// # Errors
    /// [`StartError::Config`] with the file and the place in it; correct it and start again.
    pub fn read(path: &Path) -> Result<Self, StartError> {
        let config: Self = read_toml(path)?;
        let bad = |problem: &str| StartError::Config {
            path: path.to_path_buf(),
            problem: problem.to_owned(),
        };
        if !(1..=256).contains(&config.threads) {
            return Err(bad("threads: 1 to 256"));
        }
        if !(1..=65_536).contains(&config.queue) {
            return Err(bad("queue: 1 to 65536"));
        }
        Ok(config)
    }
}

/// Reads the profile of a configuration: one that comes with the program, by name, or a file.
///
/// # Errors
/// [`StartError::Config`] with the file and what is wrong in it.
pub fn read_profile(name_or_path: &Path) -> Result<Profile, StartError> {
    let problem = |problem: String| StartError::Config {
        path: name_or_path.to_path_buf(),
        problem,
    };
    if let Some(text) = name_or_path.to_str().and_then(Profile::shipped) {
        return Profile::parse(text).map_err(problem);
    }
    let text = std::fs::read_to_string(name_or_path).map_err(|e| problem(e.to_string()))?;
    Profile::parse(&text).map_err(problem)
}

fn read_toml<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, StartError> {
    let problem = |problem: String| StartError::Config {
        path: path.to_path_buf(),
        problem,
    };
    let text = std::fs::read_to_string(path).map_err(|e| problem(e.to_string()))?;
    toml::from_str(&text).map_err(|e| problem(e.to_string()))
}

fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(2, std::num::NonZero::get)
}

const fn default_queue() -> usize {
    1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_a_name_or_a_file() {
        assert!(read_profile(Path::new("softhsm2")).unwrap().software);
        let file =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../hsm-config/softhsm2/profile.toml");
        assert_eq!(read_profile(&file).unwrap().name, "softhsm2");
        assert!(read_profile(Path::new("softhsm3")).is_err());
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(
            toml::from_str::<Config>("module='a'\nprofile='b'\nkey_file='c'\npin='never'\n")
                .unwrap_err()
                .to_string()
                .contains("unknown field `pin`")
        );
    }
}
