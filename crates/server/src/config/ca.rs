//! `[[cas]]`: CAs with a connector.

use super::Config;
use crate::ServerError;
use crate::files;
use countersign_ca::{
    AcmeClient, AcmeConfig, ConnectorError, ExternalAccount, OrderClient, OrderClientConfig,
};
use countersign_core::ports::ca::CertificateAuthority;
use serde::Deserialize;
use std::path::{Component, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

/// What a CA speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CaKind {
    /// The order protocol of docs/ca/demo-ca-protocol.md.
    #[default]
    Orders,
    /// ACME with `device-attest-01`.
    Acme,
}

/// `[[cas]]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ca {
    /// Name, as in orders.
    pub name: String,
    /// What it speaks.
    #[serde(default)]
    pub kind: CaKind,
    /// Base URL, https; of an ACME CA its directory.
    pub url: String,
    /// PEM roots for its TLS; the system's if left out.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// May be given software keys: in development only.
    #[serde(default)]
    pub takes_software: bool,
    /// ACME: the account and its key, made on first use.
    #[serde(default)]
    pub account_file: Option<PathBuf>,
    /// ACME: whom the CA may write to, `mailto:` URIs.
    #[serde(default)]
    pub contact: Vec<String>,
    /// ACME: the name of another CA here, which certifies attestation keys for this one. Needed.
    #[serde(default)]
    pub attestation_ca: Option<String>,
    /// ACME: the audience that statements name; the URL if left out.
    #[serde(default)]
    pub audience: Option<String>,
    /// ACME: the key id of the external account, where the CA wants one.
    #[serde(default)]
    pub external_account_key_id: Option<String>,
    /// ACME: the file with its MAC key in base64url.
    #[serde(default)]
    pub external_account_key_file: Option<PathBuf>,
}

impl Ca {
    /// The files it names.
    pub(super) fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        self.ca_file
            .iter_mut()
            .chain(&mut self.account_file)
            .chain(&mut self.external_account_key_file)
    }

    /// The account's file as it is compared with others.
    fn account(&self) -> Option<PathBuf> {
        let parts = self.account_file.as_ref()?.components();
        Some(parts.filter(|p| *p != Component::CurDir).collect())
    }

    /// The connector. Nothing is connected yet.
    fn connector(&self) -> Result<Arc<dyn CertificateAuthority>, ServerError> {
        let wrong = |error| ServerError::Ca {
            name: self.name.clone(),
            error,
        };
        let ca_pem = self.ca_file.as_deref().map(files::read_text).transpose()?;
        match (self.kind, &self.account_file) {
            (CaKind::Acme, Some(account_file)) => {
                let config = AcmeConfig {
                    name: self.name.clone(),
                    directory: self.url.clone(),
                    ca_pem,
                    takes_software_keys: self.takes_software,
                    account_file: account_file.clone(),
                    contact: self.contact.clone(),
                    external_account: self.external_account()?,
                    attestation_ca: self.attestation_ca.clone(),
                    audience: self.audience.clone(),
                };
                Ok(Arc::new(AcmeClient::new(config).map_err(wrong)?))
            }
            (CaKind::Acme, None) => Err(wrong(ConnectorError::AccountFile)),
            (CaKind::Orders, _) => {
                let config = OrderClientConfig {
                    name: self.name.clone(),
                    url: self.url.clone(),
                    ca_pem,
                    takes_software_keys: self.takes_software,
                };
                Ok(Arc::new(OrderClient::new(config).map_err(wrong)?))
            }
        }
    }

    fn external_account(&self) -> Result<Option<ExternalAccount>, ServerError> {
        let both = self
            .external_account_key_id
            .as_ref()
            .zip(self.external_account_key_file.as_ref());
        both.map(|(key_id, file)| {
            let bytes = files::read_secret(file)?;
            let text = std::str::from_utf8(&bytes).map_err(|_| ServerError::Content {
                path: file.clone(),
                problem: "is not text".into(),
            })?;
            Ok(ExternalAccount {
                key_id: key_id.clone(),
                key: Zeroizing::new(text.to_owned()),
            })
        })
        .transpose()
    }

    /// What stands in it for another kind, or is missing for its own.
    fn misfit(&self) -> Option<(&'static str, &'static str)> {
        let given = [
            ("account_file", self.account_file.is_some()),
            ("contact", !self.contact.is_empty()),
            ("attestation_ca", self.attestation_ca.is_some()),
            ("audience", self.audience.is_some()),
            (
                "external_account_key_id",
                self.external_account_key_id.is_some(),
            ),
            (
                "external_account_key_file",
                self.external_account_key_file.is_some(),
            ),
        ];
        match self.kind {
            CaKind::Orders => given
                .into_iter()
                .find(|(_, there)| *there)
                .map(|(key, _)| (key, "is for CAs of kind = \"acme\"")),
            CaKind::Acme if self.account_file.is_none() => {
                Some(("account_file", "a CA of kind = \"acme\" needs one"))
            }
            CaKind::Acme if self.attestation_ca.is_none() => Some((
                "attestation_ca",
                "a CA of kind = \"acme\" needs one: no key can prove itself there without",
            )),
            CaKind::Acme => {
                let id = self.external_account_key_id.is_some();
                let file = self.external_account_key_file.is_some();
                (id != file).then_some((
                    "external_account_key_id",
                    "and external_account_key_file go together",
                ))
            }
        }
    }
}

impl Config {
    /// The connectors of all CAs.
    ///
    /// # Errors
    /// [`ServerError::Ca`], or of a file that is named.
    pub fn connectors(&self) -> Result<Vec<Arc<dyn CertificateAuthority>>, ServerError> {
        self.cas.iter().map(Ca::connector).collect()
    }

    pub(super) fn check_cas(&self) -> Result<(), (&'static str, String)> {
        for (n, ca) in self.cas.iter().enumerate() {
            let about = |what: &str| format!("CA \"{}\": {what}", ca.name);
            if ca.name.is_empty() || self.cas.iter().take(n).any(|c| c.name == ca.name) {
                return Err((
                    "name",
                    format!("\"{}\": each CA needs a name of its own", ca.name),
                ));
            }
            if ca.takes_software && !self.development {
                return Err((
                    "takes_software",
                    about("keys of software tokens go to CAs in development only"),
                ));
            }
            if let Some((key, problem)) = ca.misfit() {
                return Err((key, about(problem)));
            }
            let mut before = self.cas.iter().take(n).filter_map(Ca::account);
            if ca.account().is_some_and(|a| before.any(|b| a == b)) {
                return Err((
                    "account_file",
                    about("another CA has this file: each account needs one of its own"),
                ));
            }
            let certifies = |name: &String| {
                let mut named = self.cas.iter().filter(|c| c.name == *name);
                named.any(|c| c.kind == CaKind::Orders)
            };
            if ca.attestation_ca.as_ref().is_some_and(|n| !certifies(n)) {
                return Err((
                    "attestation_ca",
                    about("names no CA of kind = \"orders\" in this file"),
                ));
            }
        }
        Ok(())
    }
}
