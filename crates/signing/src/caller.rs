//! Who is asking. The API identifies; here it is decided what the identity may do.

use crate::SigningError;
use countersign_core::ports::rows::{IssuerKind, OPERATOR_REALM, Role};
use countersign_core::{SignerLabel, TenantId, TenantName};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

/// An identified caller, of exactly one tenant (or the operator's realm).
#[derive(Debug, Clone)]
pub struct Caller {
    /// Whose.
    pub tenant: TenantId,
    /// By name.
    pub tenant_name: TenantName,
    /// Exact `iss`.
    pub issuer: String,
    /// Exact `sub`.
    pub subject: String,
    /// A person or a pipeline.
    pub kind: IssuerKind,
    /// Claims of the ID token that were carried over, for grants.
    pub claims: Map<String, Value>,
    /// Roles, read afresh for people; none for pipelines.
    pub roles: Vec<Role>,
    /// Whether the ID token showed a second factor.
    pub mfa: bool,
    /// Signers the service token is bound to; `None`: all that grants allow.
    pub signers: Option<Vec<SignerLabel>>,
}

impl Caller {
    /// SHA-256 over issuer and subject, each with its length: the principal of an idempotency claim.
    #[must_use]
    pub fn principal(&self) -> [u8; 32] {
        let mut h = Sha256::new();
        for part in [&self.issuer, &self.subject] {
            h.update((part.len() as u64).to_be_bytes());
            h.update(part.as_bytes());
        }
        h.finalize().into()
    }

    /// What a leaf commits to: issuer, subject and the claims a decision used.
    #[must_use]
    pub fn record(&self) -> String {
        // Personal data stays out of leaves (only its salted commitment stands there); the details
        // beside the leaf carry it for the tenant's own audit.
        serde_json::json!({
            "issuer": self.issuer,
            "subject": self.subject,
            "claims": self.claims,
        })
        .to_string()
    }

    /// The caller must be of this very tenant: another tenant's name is answered as if absent.
    pub(crate) fn of_tenant(&self, tenant: &TenantName) -> Result<TenantId, SigningError> {
        if self.tenant != OPERATOR_REALM && &self.tenant_name == tenant {
            Ok(self.tenant)
        } else {
            Err(SigningError::NotFound)
        }
    }

    pub(crate) fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// Reads of a tenant: admins and auditors.
    pub(crate) fn may_read(&self) -> Result<(), SigningError> {
        if self.has(Role::Admin) || self.has(Role::Auditor) {
            Ok(())
        } else {
            Err(SigningError::Forbidden {
                need: Role::Auditor,
            })
        }
    }

    /// Changes of a tenant: admins, with a second factor where the policy wants one.
    pub(crate) fn may_change(&self, require_mfa: bool) -> Result<(), SigningError> {
        if !self.has(Role::Admin) {
            Err(SigningError::Forbidden { need: Role::Admin })
        } else if require_mfa && !self.mfa {
            Err(SigningError::MfaRequired)
        } else {
            Ok(())
        }
    }

    /// Operator's actions, always with a second factor unless the realm's policy says otherwise.
    pub(crate) fn may_operate(&self, require_mfa: bool) -> Result<(), SigningError> {
        if self.tenant != OPERATOR_REALM {
            Err(SigningError::NotFound)
        } else if !self.has(Role::Operator) {
            Err(SigningError::Forbidden {
                need: Role::Operator,
            })
        } else if require_mfa && !self.mfa {
            Err(SigningError::MfaRequired)
        } else {
            Ok(())
        }
    }
}
