//! The files that a configuration names: each there, and as private as it must be.

use super::{Config, WorkerMode, token};
use crate::ServerError;
use crate::files;
use countersign_hsm_protocol::profile::Profile;
use std::path::Path;

impl Config {
    /// What each file that is named is like, and what it is for.
    #[must_use]
    pub fn files(&self) -> Vec<(FileOf, Result<(), ServerError>)> {
        let mut all = vec![
            (
                FileOf::Secret,
                files::read_key(&self.sealing_key_file).map(drop),
            ),
            (
                FileOf::Tls,
                files::read_secret(&self.tls.key_file).map(drop),
            ),
            (FileOf::Tls, files::read_text(&self.tls.cert_file).map(drop)),
        ];
        if let Some(file) = &self.database.password_file {
            all.push((FileOf::Secret, files::read_secret(file).map(drop)));
        }
        let roots = self.cas.iter().filter_map(|c| c.ca_file.as_deref());
        all.extend(roots.map(|file| (FileOf::Settings, files::read_text(file).map(drop))));
        for ca in &self.cas {
            if let Some(file) = &ca.external_account_key_file {
                all.push((FileOf::Secret, files::read_secret(file).map(drop)));
            }
            // Made on first use.
            if let Some(file) = ca.account_file.as_deref().filter(|f| f.exists()) {
                all.push((FileOf::Secret, files::secret_is_private(file)));
            }
        }
        all.push((FileOf::Settings, self.telemetry.check_files()));
        all.push((FileOf::Settings, self.revocation.mirrors().map(drop)));
        all.push((FileOf::Settings, self.attestation.anchors().map(drop)));
        if self.hsm.mode == WorkerMode::Connect {
            // What belongs to the workers is theirs to check: their user's files.
            return all;
        }
        let key = &self.hsm.worker_key_file;
        all.push((FileOf::Secret, files::read_key(key).map(drop)));
        all.push((FileOf::Module, check_profile(&self.hsm.profile)));
        for token in &self.token {
            all.push((FileOf::Module, check_profile(token.profile.get_ref())));
            all.push((FileOf::Module, module_present(&token.module)));
            if let Some(file) = &token.pin_file {
                all.push((FileOf::Secret, files::secret_is_private(file)));
            }
        }
        if key.starts_with(self.token_dir()) {
            let beside = ServerError::Content {
                path: key.clone(),
                problem: "the key that seals the PINs may not lie beside them".into(),
            };
            all.push((FileOf::Secret, Err(beside)));
        }
        all.push((FileOf::Module, module_present(&self.hsm.module)));
        all
    }
}

/// What a file that the configuration names is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileOf {
    /// A key, a password, a PIN.
    Secret,
    /// The service's own certificate and its key.
    Tls,
    /// A CA's roots, trust anchors, telemetry, revocation lists.
    Settings,
    /// A PKCS#11 module or its profile.
    Module,
}

fn check_profile(profile: &Path) -> Result<(), ServerError> {
    if token::is_shipped(profile) {
        return Ok(());
    }
    let text = files::read_text(profile)?;
    Profile::parse(&text)
        .map(|_| ())
        .map_err(|problem| ServerError::Content {
            path: profile.to_owned(),
            problem,
        })
}

/// Whether the PKCS#11 module is there; if not, what to install.
///
/// # Errors
/// [`ServerError::ModuleMissing`].
pub fn module_present(module: &Path) -> Result<(), ServerError> {
    if module.is_file() {
        return Ok(());
    }
    let text = module.display().to_string();
    let advice = if text.contains("softhsm") {
        "run: apt-get install softhsm2"
    } else {
        "install the vendor's client software, or correct `module`"
    };
    Err(ServerError::ModuleMissing {
        module: text,
        advice,
    })
}
