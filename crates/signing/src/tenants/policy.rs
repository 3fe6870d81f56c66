//! A tenant's own rules.

use super::{TRIES, Written, by, tenant_draft};
use crate::caller::Caller;
use crate::enrolment::demands;
use crate::sequencer::Submission;
use crate::{Service, SigningError};
use countersign_core::ports::rows::{TenantPolicy, TenantRow};
use countersign_core::ports::store::Effect;
use countersign_core::{RequestId, TenantName};
use countersign_signing_log::leaf::{LeafBody, PolicySet};

/// New rules, as an administrator sets them.
#[derive(Debug, Clone)]
pub struct PolicyChange {
    /// Keys in software tokens may be certified and sign.
    pub allow_software: bool,
    /// Admin actions want MFA.
    pub require_mfa: bool,
    /// What an order's evidence must show beyond `origin`; `None` leaves it as it is.
    pub evidence: Option<Vec<String>>,
}

impl Service {
    /// Sets a tenant's rules.
    ///
    /// # Errors
    /// [`SigningError::Forbidden`], [`SigningError::MfaRequired`].
    pub async fn set_policy(
        &self,
        caller: &Caller,
        name: &TenantName,
        change: PolicyChange,
        rid: &RequestId,
    ) -> Result<TenantRow, SigningError> {
        let tenant = self.admin(caller, name, rid).await?;
        let evidence = change.evidence.map(demands).transpose()?;
        for _ in 0..TRIES {
            let current = self.still_admin(caller, tenant.id).await?;
            let guard = current.guard();
            let policy = TenantPolicy {
                allow_software: change.allow_software,
                require_mfa: change.require_mfa,
                evidence: evidence.clone().unwrap_or(current.policy.evidence),
            };
            let submission = Submission {
                drafts: vec![tenant_draft(
                    tenant.id,
                    policy_set(&policy),
                    by(caller, rid),
                )],
                effects: vec![Effect::SetPolicy(tenant.id, policy)],
                guard: Some(guard),
                ..Submission::default()
            };
            match self.commit_or_stale(tenant.id, submission).await? {
                Written::Done => {
                    return self
                        .store()
                        .tenant(tenant.id)
                        .await?
                        .ok_or(SigningError::NotFound);
                }
                Written::Stale => {}
            }
        }
        Err(SigningError::Unavailable(
            "the tenant is being changed at this moment".into(),
        ))
    }
}

/// The leaf that says a tenant's rules.
pub(super) fn policy_set(policy: &TenantPolicy) -> LeafBody {
    LeafBody::PolicySet(PolicySet {
        allow_software: policy.allow_software,
        require_mfa: policy.require_mfa,
        evidence: (!policy.evidence.is_empty()).then(|| policy.evidence.clone()),
    })
}
