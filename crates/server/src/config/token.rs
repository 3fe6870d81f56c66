//! `[[token]]`: tokens that the operator's HSM already has.

use countersign_core::TenantName;
use countersign_hsm_protocol::profile::{Profile, SHIPPED};
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use toml::Spanned;

/// One token. It is never initialised, and its PIN never changed.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Its label (`CK_TOKEN_INFO`).
    pub label: Spanned<String>,
    /// Its name here, in health, logs and folders; the label if left out. It must never change.
    #[serde(default)]
    pub name: Option<Spanned<String>>,
    /// Its serial number, where the module has several with one label.
    #[serde(default)]
    pub serial: Option<String>,
    /// Its slot, where that is not enough either.
    #[serde(default)]
    pub slot: Option<u64>,
    /// The PKCS#11 module.
    pub module: PathBuf,
    /// The module's profile: the name of one that comes with Countersign, or a file.
    pub profile: Spanned<PathBuf>,
    /// The user PIN: one line, 0600, of the worker's user, who alone reads it.
    #[serde(default)]
    pub pin_file: Option<PathBuf>,
    /// Tenants whose keys are made here. One: its keys are an `exclusive-token`'s; several: a
    /// `shared-token`'s.
    pub tenants: Spanned<Vec<Spanned<String>>>,
    /// Files, folders and devices that the module writes, beside what its profile says.
    #[serde(default)]
    pub files: Vec<PathBuf>,
    /// Environment that the module needs.
    #[serde(default)]
    pub environment: Option<Spanned<BTreeMap<String, String>>>,
    /// Sessions; as in `[hsm]` if left out.
    #[serde(default)]
    pub sessions: Option<Spanned<usize>>,
}

impl Token {
    /// Its name here.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_ref().unwrap_or(&self.label).get_ref()
    }

    /// Its tenants; checked when the configuration was read.
    #[must_use]
    pub fn tenants(&self) -> Vec<TenantName> {
        self.tenants
            .get_ref()
            .iter()
            .filter_map(|t| t.get_ref().parse().ok())
            .collect()
    }

    /// Paths of it, to start at the configuration's folder.
    pub(super) fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let profile = self.profile.get_mut();
        let profile = (!is_shipped(profile)).then_some(profile);
        std::iter::once(&mut self.module)
            .chain(profile)
            .chain(&mut self.pin_file)
            .chain(&mut self.files)
    }
}

/// Whether a profile comes with Countersign: then it is no path.
#[must_use]
pub fn is_shipped(profile: &Path) -> bool {
    profile.to_str().and_then(Profile::shipped).is_some()
}

/// What is wrong with the tokens, and where in the text.
pub(super) fn check(tokens: &[Token], spawned: bool) -> Result<(), (usize, String)> {
    let mut names = HashMap::new();
    let mut tenants = HashMap::new();
    for token in tokens {
        let named = token.name.as_ref().unwrap_or(&token.label);
        let at = named.span().start;
        let plain = |s: &str| !s.is_empty() && !s.chars().any(char::is_control);
        if !plain(named.get_ref()) || named.get_ref().len() > 64 {
            return Err((at, "name: 1 to 64 characters".into()));
        }
        if !plain(token.label.get_ref()) || token.label.get_ref().len() > 32 {
            // CK_TOKEN_INFO: 32 bytes, padded with blanks.
            let at = token.label.span().start;
            return Err((at, "label: 1 to 32 bytes, as PKCS#11 has them".into()));
        }
        if names.insert(named.get_ref().as_str(), ()).is_some() {
            return Err((
                at,
                format!(
                    "name: \"{}\" stands for two tokens: give one of them another `name`",
                    named.get_ref()
                ),
            ));
        }
        if token.tenants.get_ref().is_empty() {
            return Err((token.tenants.span().start, "tenants: at least one".into()));
        }
        for tenant in token.tenants.get_ref() {
            let (text, at) = (tenant.get_ref().as_str(), tenant.span().start);
            if let Err(e) = text.parse::<TenantName>() {
                return Err((at, format!("tenants: \"{text}\": {e}")));
            }
            if let Some(other) = tenants.insert(text, token.name()) {
                return Err((
                    at,
                    format!("tenants: \"{text}\" is named for token \"{other}\" already"),
                ));
            }
        }
        check_profile(&token.profile)?;
        if let Some(sessions) = &token.sessions
            && !(1..=1024).contains(sessions.get_ref())
        {
            let at = sessions.span().start;
            return Err((
                at,
                format!("sessions: 1 to 1024, not {}", sessions.get_ref()),
            ));
        }
        let environment = token.environment.iter();
        for (name, at) in environment.flat_map(|e| {
            let at = e.span().start;
            e.get_ref().keys().map(move |name| (name, at))
        }) {
            let good = !name.is_empty()
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
                && !name.starts_with("LD_");
            if !good {
                return Err((
                    at,
                    format!("environment: \"{name}\" is no variable for a module"),
                ));
            }
        }
        if spawned && token.pin_file.is_none() {
            return Err((token.label.span().start, "pin_file: needed".into()));
        }
    }
    Ok(())
}

fn check_profile(profile: &Spanned<PathBuf>) -> Result<(), (usize, String)> {
    let path = profile.get_ref();
    let is_name = path.components().count() == 1 && path.extension().is_none();
    if is_name && !is_shipped(path) {
        let known: Vec<_> = SHIPPED.iter().map(|(name, _)| *name).collect();
        return Err((
            profile.span().start,
            format!(
                "profile: \"{}\" is none of {}; a profile of your own is named by its path",
                path.display(),
                known.join(", ")
            ),
        ));
    }
    Ok(())
}
