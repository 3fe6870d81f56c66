//! Profiles: what a PKCS#11 module can do, and what is asked of a subscriber's key in it.
//!
//! They are the files `hsm-config/*/profile.toml`, all of them [`SHIPPED`] with the programs; an operator's
//! own file has the same form. The server reads them to say what is wrong in a configuration, the
//! worker obeys them.

use countersign_core::IsolationClass;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Attributes of a subscriber's private key that every profile must place (PKCS#11 v3.1 §4.9, §4.14;
/// `CKA_DECAPSULATE` and `CKA_OBJECT_VALIDATION_FLAGS`: v3.2).
pub const PRIVATE_KEY_ATTRIBUTES: [&str; 23] = [
    "CKA_TOKEN",
    "CKA_PRIVATE",
    "CKA_SENSITIVE",
    "CKA_EXTRACTABLE",
    "CKA_ALWAYS_SENSITIVE",
    "CKA_NEVER_EXTRACTABLE",
    "CKA_LOCAL",
    "CKA_KEY_GEN_MECHANISM",
    "CKA_SIGN",
    "CKA_DECRYPT",
    "CKA_UNWRAP",
    "CKA_DERIVE",
    "CKA_SIGN_RECOVER",
    "CKA_DECAPSULATE",
    "CKA_ALLOWED_MECHANISMS",
    "CKA_MODIFIABLE",
    "CKA_COPYABLE",
    "CKA_DESTROYABLE",
    "CKA_WRAP_WITH_TRUSTED",
    "CKA_ALWAYS_AUTHENTICATE",
    "CKA_UNIQUE_ID",
    "CKA_PUBLIC_KEY_INFO",
    "CKA_OBJECT_VALIDATION_FLAGS",
];

/// Attributes of the public object's template that a profile may leave out.
pub const PUBLIC_KEY_ATTRIBUTES: [&str; 5] = [
    "CKA_PRIVATE",
    "CKA_VERIFY",
    "CKA_ENCRYPT",
    "CKA_WRAP",
    "CKA_VERIFY_RECOVER",
];

/// The profiles that come with the programs, by name.
pub const SHIPPED: &[(&str, &str)] = &[
    (
        "aws-cloudhsm",
        include_str!("../../../hsm-config/aws-cloudhsm/profile.toml"),
    ),
    (
        "entrust-nshield",
        include_str!("../../../hsm-config/entrust-nshield/profile.toml"),
    ),
    (
        "securosys-primus",
        include_str!("../../../hsm-config/securosys-primus/profile.toml"),
    ),
    (
        "softhsm2",
        include_str!("../../../hsm-config/softhsm2/profile.toml"),
    ),
    (
        "thales-luna",
        include_str!("../../../hsm-config/thales-luna/profile.toml"),
    ),
    ("tpm", include_str!("../../../hsm-config/tpm/profile.toml")),
    (
        "utimaco",
        include_str!("../../../hsm-config/utimaco/profile.toml"),
    ),
    (
        "yubihsm2",
        include_str!("../../../hsm-config/yubihsm2/profile.toml"),
    ),
];

/// What a module can do, and what is asked of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Its name: recorded in each key's facts.
    pub name: String,
    /// What it was tested with, for example `SoftHSM 2.6.1 (Debian 12)`. Left out: nobody has run it.
    #[serde(default)]
    pub tested: Option<String>,
    /// A software token: its keys are marked so for ever.
    pub software: bool,
    /// Models (`CK_TOKEN_INFO`) that are software whatever `software` says.
    #[serde(default)]
    pub software_models: Vec<String>,
    /// How keys are kept from neighbours in a token made here.
    pub isolation: IsolationClass,
    /// Tokens are made with the vendor's tools: only one that is there already can be used.
    #[serde(default)]
    pub existing_only: bool,
    /// The module keeps its tokens in a folder of the worker (SoftHSM): for a token made here the
    /// worker writes `softhsm2.conf` and `tokens/`, and nothing else is visible to it.
    #[serde(default)]
    pub softhsm_directory: bool,
    /// Why bindings have no MAC by a key in the token; left out where the module makes one.
    #[serde(default)]
    pub no_binding_mac: Option<String>,
    /// Most sessions that are of use; more only lengthen the queue, or are refused.
    #[serde(default)]
    pub most_sessions: Option<usize>,
    /// The TPM 2.0 public area is read beside the attributes, and must say what they should.
    #[serde(default)]
    pub tpm2_public_area: bool,
    /// The worker's adapter that has the device itself say what its keys are, while a CA waits. Left
    /// out: evidence, where the device has any, comes by hand.
    #[serde(default)]
    pub evidence: Option<EvidenceAdapter>,
    /// What to install if the module is missing.
    pub install: String,
    /// Attributes of a private key: each of [`PRIVATE_KEY_ATTRIBUTES`] must be listed.
    pub attributes: BTreeMap<String, AttributeRule>,
    /// Attributes left out of the public object's template, with the reason.
    #[serde(default)]
    pub public_omits: BTreeMap<String, String>,
    /// What the module needs of the system; without it the worker's sandbox cannot be enforced.
    #[serde(default)]
    pub sandbox: Option<Sandbox>,
}

/// The adapters there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EvidenceAdapter {
    /// A TPM 2.0 below tpm2-pkcs11.
    Tpm2,
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

/// What a module needs of the system, beside its own library and the worker's folders.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sandbox {
    /// Files and folders to read.
    #[serde(default)]
    pub read: Vec<PathBuf>,
    /// Files, folders and devices to write.
    #[serde(default)]
    pub write: Vec<PathBuf>,
    /// Environment variables that name a file or folder to read.
    #[serde(default)]
    pub read_env: Vec<String>,
    /// Environment variables that name a file or folder to write.
    #[serde(default)]
    pub write_env: Vec<String>,
    /// It opens network connections.
    #[serde(default)]
    pub network: bool,
    /// Only the system calls that the worker and this module were seen to need are allowed. Else
    /// those that no module needs are refused.
    #[serde(default)]
    pub known_syscalls: bool,
}

impl Profile {
    /// Reads a profile: every attribute we know is placed, and none that we do not know.
    ///
    /// # Errors
    /// What is wrong, with its place in the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let profile: Self = toml::from_str(text).map_err(|e| e.to_string())?;
        profile.check()?;
        Ok(profile)
    }

    /// The text of a profile that comes with the programs.
    #[must_use]
    pub fn shipped(name: &str) -> Option<&'static str> {
        SHIPPED.iter().find(|(n, _)| *n == name).map(|(_, t)| *t)
    }

    /// What is asked of `attribute`.
    #[must_use]
    pub fn level(&self, attribute: &str) -> Level {
        self.attributes
            .get(attribute)
            .map_or(Level::Required, |r| r.level)
    }

    fn check(&self) -> Result<(), String> {
        for known in PRIVATE_KEY_ATTRIBUTES {
            if !self.attributes.contains_key(known) {
                return Err(format!("attributes: {known} is not listed"));
            }
        }
        for (name, rule) in &self.attributes {
            if !PRIVATE_KEY_ATTRIBUTES.contains(&name.as_str()) {
                return Err(format!("attributes: {name} is not one we know"));
            }
            if rule.level == Level::Unsupported && rule.why.is_none() {
                return Err(format!("attributes.{name}: unsupported needs a `why`"));
            }
        }
        for name in self.public_omits.keys() {
            if !PUBLIC_KEY_ATTRIBUTES.contains(&name.as_str()) {
                return Err(format!(
                    "public_omits: {name} is not one that may be left out"
                ));
            }
        }
        if self.most_sessions == Some(0) {
            return Err("most_sessions: 1 or more".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_profiles_are_read_under_their_own_names() {
        for (name, text) in SHIPPED.iter().copied() {
            let profile = Profile::parse(text).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(profile.name, name);
            // What no vendor may lack.
            for must in [
                "CKA_EXTRACTABLE",
                "CKA_SENSITIVE",
                "CKA_SIGN",
                "CKA_PRIVATE",
            ] {
                assert_eq!(profile.level(must), Level::Required, "{name}: {must}");
            }
            assert!(Profile::shipped(name).is_some());
        }
        assert!(Profile::shipped("no-such-module").is_none());
    }

    #[test]
    fn an_adapter_is_one_that_there_is() {
        let evidence =
            |name: &str| Profile::parse(Profile::shipped(name).unwrap()).map(|p| p.evidence);
        assert_eq!(evidence("tpm"), Ok(Some(EvidenceAdapter::Tpm2)));
        assert_eq!(evidence("softhsm2"), Ok(None));
        let text = Profile::shipped("tpm").unwrap();
        let other = text.replace("evidence = \"tpm2\"", "evidence = \"tpm3\"");
        assert_ne!(other, text);
        assert!(Profile::parse(&other).unwrap_err().contains("tpm3"));
    }

    #[test]
    fn a_profile_that_forgets_an_attribute_is_refused() {
        let text: String = Profile::shipped("softhsm2")
            .unwrap()
            .lines()
            .filter(|l| !l.starts_with("CKA_SENSITIVE"))
            .map(|l| format!("{l}\n"))
            .collect();
        assert_eq!(
            Profile::parse(&text).unwrap_err(),
            "attributes: CKA_SENSITIVE is not listed"
        );
    }

    #[test]
    fn unknown_attributes_and_missing_reasons_are_refused() {
        let text = Profile::shipped("softhsm2").unwrap();
        let more = format!("{text}CKA_MAGIC = {{ level = \"required\" }}\n");
        assert!(Profile::parse(&more).unwrap_err().contains("CKA_MAGIC"));
        let bare = text.replace(
            "CKA_SIGN_RECOVER = { level = \"required\" }",
            "CKA_SIGN_RECOVER = { level = \"unsupported\" }",
        );
        assert!(
            Profile::parse(&bare)
                .unwrap_err()
                .contains("CKA_SIGN_RECOVER")
        );
    }
}
