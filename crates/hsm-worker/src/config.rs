//! The worker's configuration and its module's profile.
//!
//! ```toml
//! module = "/usr/lib/softhsm/libsofthsm2.so"
//! profile = "/etc/countersign/hsm-config/softhsm2/profile.toml"
//! key_file = "/var/lib/countersign-hsm/seal.key"   # outside the state folder
//! threads = 2                                      # the HSM's parallelism; SoftHSM: cores
//! ```
//!
//! No secret is ever a value here. Unknown keys are refused.

use crate::attributes::PRIVATE_KEY_ATTRIBUTES;
use crate::run::StartError;
use countersign_core::IsolationClass;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The configuration file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The vendor's shared library.
    pub module: PathBuf,
    /// The module's profile, from hsm-config/.
    pub profile: PathBuf,
    /// 32 random bytes, 0600, of the worker's user, that seal the PIN. Made at `InitToken` if
    /// absent. Must not lie in the state folder: a copy of that folder is then no use.
    pub key_file: PathBuf,
    /// Signing threads, one session each.
    #[serde(default = "default_threads")]
    pub threads: usize,
    /// Requests that may wait for a thread; one more is answered `busy`.
    #[serde(default = "default_queue")]
    pub queue: usize,
}

/// What a module can do, and what is asked of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Its name: recorded in each key's facts.
    pub name: String,
    /// A software token: its keys are marked so for ever.
    pub software: bool,
    /// How keys are kept from neighbours.
    pub isolation: IsolationClass,
    /// The module keeps its tokens in a folder of the worker (SoftHSM): the worker writes
    /// `softhsm2.conf` and `tokens/` in its state folder and nothing else is visible to it.
    #[serde(default)]
    pub softhsm_directory: bool,
    /// What to install if the module is missing.
    pub install: String,
    /// Attributes of a private key: each one that we know must be listed.
    pub attributes: BTreeMap<String, AttributeRule>,
}

/// What is asked of one attribute.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttributeRule {
    /// How much it matters.
    pub level: Level,
    /// Must be given for `unsupported`.
    pub why: Option<String>,
}

/// How much an attribute matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Set, read back; a key that differs is destroyed.
    Required,
    /// Set, read back; what was read is a fact of the key.
    Supported,
    /// Neither set nor expected; a stated fact of the key.
    Unsupported,
}

impl Config {
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

impl Profile {
    /// Reads a profile: every attribute we know is listed, and none that we do not know.
    ///
    /// # Errors
    /// [`StartError::Config`] with the file and what is wrong in it.
    pub fn read(path: &Path) -> Result<Self, StartError> {
        let profile: Self = read_toml(path)?;
        profile.check().map_err(|problem| StartError::Config {
            path: path.to_path_buf(),
            problem,
        })?;
        Ok(profile)
    }

    fn check(&self) -> Result<(), String> {
        for known in PRIVATE_KEY_ATTRIBUTES {
            if !self.attributes.contains_key(known.name) {
                return Err(format!("attributes: {} is not listed", known.name));
            }
        }
        for (name, rule) in &self.attributes {
            if !PRIVATE_KEY_ATTRIBUTES.iter().any(|a| a.name == name) {
                return Err(format!("attributes: {name} is not one we know"));
            }
            if rule.level == Level::Unsupported && rule.why.is_none() {
                return Err(format!("attributes.{name}: unsupported needs a `why`"));
            }
        }
        Ok(())
    }

    /// What is asked of `attribute`.
    #[must_use]
    pub fn level(&self, attribute: &str) -> Level {
        self.attributes
            .get(attribute)
            .map_or(Level::Required, |r| r.level)
    }
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

    fn shipped() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../hsm-config/softhsm2/profile.toml")
    }

    #[test]
    fn the_shipped_profile_is_read() {
        let p = Profile::read(&shipped()).unwrap();
        assert!(p.software);
        assert_eq!(p.level("CKA_EXTRACTABLE"), Level::Required);
    }

    #[test]
    fn a_profile_that_forgets_an_attribute_is_refused() {
        let text = std::fs::read_to_string(shipped()).unwrap();
        let cut: String = text
            .lines()
            .filter(|l| !l.starts_with("CKA_SENSITIVE"))
            .map(|l| format!("{l}\n"))
            .collect();
        let p: Profile = toml::from_str(&cut).unwrap();
        assert_eq!(
            p.check(),
            Err("attributes: CKA_SENSITIVE is not listed".to_owned())
        );
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
