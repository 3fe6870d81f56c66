//! Which key is whose: (tenant, key, algorithm, SPKI) with a MAC by a key that never leaves the
//! token. Checked whenever a handle is loaded, so a file changed behind our back is no use.

use crate::state_dir::{StateDir, read_bounded, write_durably};
use crate::token::Token;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_core::{KeyAlgorithm, KeyFacts, KeyId, TenantId};
use countersign_hsm_protocol::WorkerError;
use cryptoki::session::Session;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A key's binding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Binding {
    /// Whose.
    pub tenant: TenantId,
    /// Which: also the `CKA_ID`.
    pub key: KeyId,
    /// Which kind.
    pub algorithm: KeyAlgorithm,
    /// SubjectPublicKeyInfo, DER, base64.
    spki: String,
    /// What was read back.
    pub facts: KeyFacts,
    /// Destruction has begun: the key signs no more.
    #[serde(default)]
    pub destroying: bool,
    /// HMAC-SHA-256, hex; absent where the module has no MAC (the facts say so).
    mac: Option<String>,
}

impl Binding {
    /// Binds a key just made; durable when it returns.
    ///
    /// # Errors
    /// The module's, or [`WorkerError::StateBroken`].
    #[allow(
        clippy::too_many_arguments,
        reason = "where, and the five things bound"
    )]
    pub fn make(
        token: &Token,
        session: &Session,
        dir: &StateDir,
        tenant: TenantId,
        key: KeyId,
        algorithm: KeyAlgorithm,
        spki: &[u8],
        facts: KeyFacts,
    ) -> Result<Self, WorkerError> {
        let mut binding = Self {
            tenant,
            key,
            algorithm,
            spki: STANDARD.encode(spki),
            facts,
            destroying: false,
            mac: None,
        };
        binding.mac = token.mac(session, &binding.message())?.map(hex::encode);
        binding.write(dir)?;
        Ok(binding)
    }

    /// Reads the binding of a tenant's key; `None` if the tenant has no such key. The MAC is *not*
    /// checked yet.
    ///
    /// # Errors
    /// [`WorkerError::BindingBroken`] if it cannot be read, or is of another key, or of another tenant
    /// in a token that has one alone.
    pub fn read(
        token: &Token,
        dir: &StateDir,
        tenant: TenantId,
        key: KeyId,
    ) -> Result<Option<Self>, WorkerError> {
        match Self::read_any(dir, key)? {
            Some(binding) if binding.tenant == tenant => Ok(Some(binding)),
            Some(binding) if token.tenant().is_some_and(|t| t != binding.tenant) => Err(
                WorkerError::BindingBroken(format!("{key}: of another key or tenant")),
            ),
            // A neighbour's: the same answer as for none.
            _ => Ok(None),
        }
    }

    /// Reads a binding, whoever's it is.
    ///
    /// # Errors
    /// [`WorkerError::BindingBroken`] if it cannot be read or is of another key.
    pub fn read_any(dir: &StateDir, key: KeyId) -> Result<Option<Self>, WorkerError> {
        Self::read_from(&dir.binding(key), key)
    }

    /// Whether a key of this tenant's was destroyed here.
    ///
    /// # Errors
    /// [`WorkerError::BindingBroken`] if what was kept of it cannot be read.
    pub fn was_destroyed(
        dir: &StateDir,
        tenant: TenantId,
        key: KeyId,
    ) -> Result<bool, WorkerError> {
        let kept = Self::read_from(&dir.destroyed(key), key)?;
        Ok(kept.is_some_and(|b| b.tenant == tenant))
    }

    fn read_from(path: &Path, key: KeyId) -> Result<Option<Self>, WorkerError> {
        let broken = |why: String| WorkerError::BindingBroken(format!("{key}: {why}"));
        let Some(bytes) = read_bounded(path, 64 * 1024).map_err(|e| broken(e.to_string()))? else {
            return Ok(None);
        };
        let binding: Self =
            serde_json::from_slice(&bytes).map_err(|e| broken(format!("not a binding: {e}")))?;
        if binding.key != key {
            return Err(broken("of another key or tenant".into()));
        }
        Ok(Some(binding))
    }

    /// Checks the MAC inside the token.
    ///
    /// # Errors
    /// [`WorkerError::BindingBroken`], or the module's.
    pub fn verify(&self, token: &Token, session: &Session) -> Result<(), WorkerError> {
        let expected = token.mac(session, &self.message())?;
        let given = match &self.mac {
            Some(text) => hex::decode(text).ok(),
            None => None,
        };
        let good = match (&expected, &given) {
            (Some(e), Some(g)) => aws_lc_rs::constant_time::verify_slices_are_equal(e, g).is_ok(),
            // A module without a MAC: said in the key's facts.
            (None, None) => true,
            _ => false,
        };
        if good {
            Ok(())
        } else {
            Err(WorkerError::BindingBroken(format!(
                "{}: the MAC does not verify",
                self.key
            )))
        }
    }

    /// SubjectPublicKeyInfo, DER.
    ///
    /// # Errors
    /// [`WorkerError::BindingBroken`] if it is not base64.
    pub fn spki(&self) -> Result<Vec<u8>, WorkerError> {
        STANDARD.decode(&self.spki).map_err(|_| {
            WorkerError::BindingBroken(format!("{}: the SPKI is not base64", self.key))
        })
    }

    /// Writes it; durable when it returns.
    ///
    /// # Errors
    /// [`WorkerError::StateBroken`].
    pub fn write(&self, dir: &StateDir) -> Result<(), WorkerError> {
        let bytes = serde_json::to_vec(self).map_err(|e| WorkerError::Internal(e.to_string()))?;
        write_durably(&dir.binding(self.key), &bytes)
            .map_err(|e| WorkerError::StateBroken(format!("binding of {}: {e}", self.key)))
    }

    /// What is MACed: fixed-length fields first, then the SPKI to the end.
    fn message(&self) -> Vec<u8> {
        let mut m = b"countersign/binding/v1\0".to_vec();
        m.extend_from_slice(self.tenant.as_bytes());
        m.extend_from_slice(self.key.as_bytes());
        m.extend_from_slice(self.algorithm.as_str().as_bytes());
        m.push(0);
        m.extend_from_slice(self.spki.as_bytes());
        m
    }
}
