//! Tenants: the operator's realm and the subscribers. Each change is one commit of an effect and its
//! leaf.

mod grants;
mod identity;
mod members;
mod policy;

pub use members::IssuerSpec;
pub use policy::PolicyChange;

use crate::caller::Caller;
use crate::denials::Refusal;
use crate::sequencer::{DetailsDraft, Draft, Refused, Submission};
use crate::use_key::text_opening;
use crate::{Service, SigningError};
use countersign_core::ports::hsm::TokenFacts;
use countersign_core::ports::rows::{
    IssuerRow, MemberRow, OPERATOR_REALM, OPERATOR_REALM_NAME, Role, TenantPolicy, TenantRow,
};
use countersign_core::ports::store::{Effect, Guard};
use countersign_core::text::disguises;
use countersign_core::{RequestId, TenantId, TenantName};
use countersign_signing_log::leaf::{LeafBody, LogOpened, TenantCreated, TokenCreated};
use members::{draft_issuer, draft_member, issuer_row};
use policy::policy_set;
use sha2::{Digest as _, Sha256};

/// How often a change is tried again because the tenant changed under it.
const TRIES: usize = 8;
/// Longest text a person may put into a field.
const MAX_TEXT: usize = 1024;

/// A tenant as an operator makes it.
#[derive(Debug, Clone)]
pub struct NewTenant {
    /// Name.
    pub name: TenantName,
    /// First admin: issuer and subject.
    pub admin: Option<(String, String)>,
    /// First issuer.
    pub issuer: Option<IssuerSpec>,
    /// Rules.
    pub policy: TenantPolicy,
}

/// What became of a write under a guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    /// It is durable.
    Done,
    /// The tenant changed meanwhile: nothing was written.
    Stale,
}

impl Service {
    /// Offers a one-time credential for [`Service::bootstrap`]; `false` if the operator is registered.
    ///
    /// # Errors
    /// [`SigningError::Unavailable`] if the database cannot write.
    pub async fn offer_bootstrap(&self, credential: &str) -> Result<bool, SigningError> {
        Ok(self
            .store()
            .offer_bootstrap(Sha256::digest(credential.as_bytes()).into())
            .await?)
    }

    /// Registers the operator's issuer and subject, once.
    ///
    /// # Errors
    /// [`SigningError::NotFound`] for a wrong or used credential.
    pub async fn bootstrap(
        &self,
        credential: &str,
        issuer: IssuerSpec,
        subject: &str,
        require_mfa: bool,
        rid: &RequestId,
    ) -> Result<(), SigningError> {
        let given: [u8; 32] = Sha256::digest(credential.as_bytes()).into();
        let stored = self
            .store()
            .bootstrap()
            .await?
            .ok_or(SigningError::NotFound)?;
        if aws_lc_rs::constant_time::verify_slices_are_equal(&given, &stored).is_err() {
            return Err(SigningError::NotFound);
        }
        let subject = text("subject", subject)?;
        let row = issuer_row(OPERATOR_REALM, issuer, self.settings().loopback_issuers)?;
        let name: TenantName = OPERATOR_REALM_NAME
            .parse()
            .map_err(|e| SigningError::Internal(format!("operator realm: {e}")))?;
        let policy = TenantPolicy {
            allow_software: false,
            require_mfa,
            evidence: Vec::new(),
        };
        let member = MemberRow {
            tenant: OPERATOR_REALM,
            issuer: row.issuer.clone(),
            subject,
            role: Role::Operator,
        };
        let mut submission = Submission::default();
        self.draft_new_tenant(&mut submission, OPERATOR_REALM, &name, policy, None, rid);
        submission.effects.insert(0, Effect::UseBootstrap);
        draft_issuer(&mut submission, row, rid, None);
        draft_member(&mut submission, member, true, rid, None)?;
        self.sequencer().write(submission).await?;
        Ok(())
    }

    /// Makes a tenant with its token, its log, its first admin and issuer.
    ///
    /// # Errors
    /// [`SigningError::Conflict`] if the name is taken; [`SigningError::TokenRefuses`] if no token can
    /// be made (the text says what to install).
    pub async fn create_tenant(
        &self,
        caller: &Caller,
        new: NewTenant,
        rid: &RequestId,
    ) -> Result<TenantRow, SigningError> {
        self.operator(caller).await?;
        if new.name.as_str() == OPERATOR_REALM_NAME {
            return Err(SigningError::invalid(
                "name",
                "this name is the operator's own",
            ));
        }
        if self.store().tenant_by_name(&new.name).await?.is_some() {
            return Err(SigningError::conflict(format!(
                "a tenant named {} exists",
                new.name
            )));
        }
        let id = TenantId::new();
        let issuer = match (new.issuer, &new.admin) {
            (Some(spec), _) => Some(issuer_row(id, spec, self.settings().loopback_issuers)?),
            // An admin whom the operator's own identity provider knows: its settings hold here too.
            // Without an issuer nobody could ever log in to the tenant.
            (None, Some((iss, _))) => {
                let known = self.store().issuer(OPERATOR_REALM, iss).await?;
                let row = known.ok_or_else(|| {
                    SigningError::invalid(
                        "issuer",
                        "needed: the operator's realm does not have the admin's issuer",
                    )
                })?;
                Some(IssuerRow { tenant: id, ..row })
            }
            (None, None) => None,
        };
        let member = match new.admin {
            Some((iss, sub)) => Some(MemberRow {
                tenant: id,
                issuer: text("admin.issuer", &iss)?,
                subject: text("admin.subject", &sub)?,
                role: Role::Admin,
            }),
            None => None,
        };
        // The token first: a tenant without one could do nothing. If the commit fails, an empty
        // token that nobody names is left behind.
        let token = self.hsm().create_token(id, &new.name, &self.pins()).await?;
        let mut submission = Submission::default();
        self.draft_new_tenant(&mut submission, id, &new.name, new.policy, Some(token), rid);
        if let Some(row) = issuer {
            draft_issuer(&mut submission, row, rid, None);
        }
        if let Some(row) = member {
            draft_member(&mut submission, row, true, rid, None)?;
        }
        self.sequencer().write(submission).await?;
        self.store()
            .tenant(id)
            .await?
            .ok_or_else(|| SigningError::Internal("the new tenant is gone".into()))
    }

    /// The operator's list.
    ///
    /// # Errors
    /// [`SigningError::Forbidden`] without the role.
    pub async fn tenants(&self, caller: &Caller) -> Result<Vec<TenantRow>, SigningError> {
        self.operator(caller).await?;
        let mut all: Vec<TenantRow> = Vec::new();
        loop {
            let after = all.last().map(|t| t.name.clone());
            let page = self.store().tenants(after.as_ref(), 500).await?;
            let last = page.len() < 500;
            all.extend(page);
            if last {
                return Ok(all);
            }
        }
    }

    /// One tenant: its own people, and the operator.
    ///
    /// # Errors
    /// [`SigningError::NotFound`] for anybody else's.
    pub async fn tenant(
        &self,
        caller: &Caller,
        name: &TenantName,
    ) -> Result<TenantRow, SigningError> {
        if caller.tenant == OPERATOR_REALM {
            self.operator(caller).await?;
        } else {
            caller.of_tenant(name)?;
            caller.may_read()?;
        }
        self.store()
            .tenant_by_name(name)
            .await?
            .ok_or(SigningError::NotFound)
    }

    /// The caller's own tenant, for reading.
    pub(crate) fn reader(
        &self,
        caller: &Caller,
        name: &TenantName,
    ) -> Result<TenantId, SigningError> {
        let tenant = caller.of_tenant(name)?;
        caller.may_read()?;
        Ok(tenant)
    }

    /// The caller's own tenant, for changing.
    pub(crate) async fn admin(
        &self,
        caller: &Caller,
        name: &TenantName,
        rid: &RequestId,
    ) -> Result<TenantRow, SigningError> {
        let id = caller.of_tenant(name)?;
        let tenant = self
            .store()
            .tenant(id)
            .await?
            .ok_or(SigningError::NotFound)?;
        if let Err(e) = caller.may_change(tenant.policy.require_mfa) {
            // Somebody with a session tried to change things: the tenant shall see it (invariant 7).
            let reason = match &e {
                SigningError::MfaRequired => "mfa-required",
                _ => "role-missing",
            };
            self.refused(caller, None, Refusal::Denied, reason, rid);
            return Err(e);
        }
        Ok(tenant)
    }

    /// Whether the caller may operate the service.
    pub(crate) async fn operator(&self, caller: &Caller) -> Result<(), SigningError> {
        let realm = self
            .store()
            .tenant(OPERATOR_REALM)
            .await?
            .ok_or(SigningError::NotFound)?;
        caller.may_operate(realm.policy.require_mfa)
    }

    /// One effect with its leaf in the tenant's log.
    pub(crate) async fn change(
        &self,
        caller: &Caller,
        tenant: TenantId,
        body: LeafBody,
        effect: Effect,
        rid: &RequestId,
    ) -> Result<(), SigningError> {
        for _ in 0..TRIES {
            let version = self.still_admin(caller, tenant).await?.version;
            self.within_caps(&effect).await?;
            let submission = Submission {
                drafts: vec![tenant_draft(tenant, body.clone(), by(caller, rid))],
                effects: vec![effect.clone()],
                guard: Some(Guard { tenant, version }),
                ..Submission::default()
            };
            let result = self.sequencer().write(submission).await;
            self.snapshots().forget(tenant);
            match result {
                Ok(_) => return Ok(()),
                Err(Refused::Stale) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(SigningError::Unavailable(
            "the tenant is being changed at this moment".into(),
        ))
    }

    /// Records what has happened already, whoever is an admin by now.
    pub(crate) async fn record(
        &self,
        caller: &Caller,
        tenant: TenantId,
        body: LeafBody,
        effect: Effect,
        rid: &RequestId,
    ) -> Result<(), SigningError> {
        let submission = Submission {
            drafts: vec![tenant_draft(tenant, body, by(caller, rid))],
            effects: vec![effect],
            ..Submission::default()
        };
        self.commit(tenant, submission).await
    }

    /// The tenant as it is now, if the caller is its admin now: what a guard stands on.
    pub(crate) async fn still_admin(
        &self,
        caller: &Caller,
        tenant: TenantId,
    ) -> Result<TenantRow, SigningError> {
        // The version first: whatever changes while we read makes the guard fail.
        let row = self
            .store()
            .tenant(tenant)
            .await?
            .ok_or(SigningError::NotFound)?;
        let roles = self.roles(tenant, &caller.issuer, &caller.subject).await?;
        let now = Caller {
            roles,
            ..caller.clone()
        };
        now.may_change(row.policy.require_mfa)?;
        Ok(row)
    }

    /// Writes under a guard and drops what was known of the tenant: whether it was written, or must be
    /// decided again.
    pub(crate) async fn commit_or_stale(
        &self,
        tenant: TenantId,
        submission: Submission,
    ) -> Result<Written, SigningError> {
        let result = self.sequencer().write(submission).await;
        self.snapshots().forget(tenant);
        match result {
            Ok(_) => Ok(Written::Done),
            Err(Refused::Stale) => Ok(Written::Stale),
            Err(e) => Err(e.into()),
        }
    }

    /// Writes and drops what was known of the tenant.
    pub(crate) async fn commit(
        &self,
        tenant: TenantId,
        submission: Submission,
    ) -> Result<(), SigningError> {
        let result = self.sequencer().write(submission).await;
        self.snapshots().forget(tenant);
        result?;
        Ok(())
    }

    fn draft_new_tenant(
        &self,
        submission: &mut Submission,
        id: TenantId,
        name: &TenantName,
        policy: TenantPolicy,
        token: Option<TokenFacts>,
        rid: &RequestId,
    ) {
        let request = || {
            Some(DetailsDraft {
                request: Some(rid.to_string()),
                ..DetailsDraft::default()
            })
        };
        let opened = LogOpened {
            tenant: id.to_string(),
            key: None,
            previous: None,
        };
        submission
            .drafts
            .push(tenant_draft(id, LeafBody::LogOpened(opened), request()));
        let created = TenantCreated {
            tenant: id.to_string(),
            name: name.to_string(),
        };
        submission.drafts.push(tenant_draft(
            id,
            LeafBody::TenantCreated(created),
            request(),
        ));
        submission
            .drafts
            .push(tenant_draft(id, policy_set(&policy), request()));
        if let Some(t) = &token {
            let body = TokenCreated {
                token: t.label.clone(),
                manufacturer: t.manufacturer.clone(),
                model: t.model.clone(),
                serial: t.serial.clone(),
                software: t.software,
                isolation: t.isolation.as_str().to_owned(),
                log_vkey: hex::encode(self.secrets().log_public()),
            };
            submission
                .drafts
                .push(tenant_draft(id, LeafBody::TokenCreated(body), request()));
        }
        submission.effects.push(Effect::CreateTenant(TenantRow {
            id,
            name: name.clone(),
            policy,
            version: 1,
            token,
            created: self.clock().now(),
        }));
    }
}

/// A leaf of the tenant's log.
pub(crate) fn tenant_draft(
    tenant: TenantId,
    body: LeafBody,
    details: Option<DetailsDraft>,
) -> Draft {
    Draft {
        tenant,
        log: tenant.into(),
        body: body.into(),
        details,
        opens: false,
    }
}

/// Who did it and in which request, for a leaf of the tenant's log.
pub(crate) fn by(caller: &Caller, rid: &RequestId) -> Option<DetailsDraft> {
    let person =
        serde_json::json!({ "issuer": caller.issuer, "subject": caller.subject }).to_string();
    Some(DetailsDraft {
        request: Some(rid.to_string()),
        caller: text_opening(&person).ok(),
        ..DetailsDraft::default()
    })
}

/// A text field: not empty, not long, nothing that disguises it.
pub(crate) fn text(field: &str, value: &str) -> Result<String, SigningError> {
    if value.is_empty() || value.len() > MAX_TEXT || value.chars().any(disguises) {
        Err(SigningError::invalid(
            field,
            format!(
                "1 to {MAX_TEXT} bytes without control characters and marks that turn the direction of text"
            ),
        ))
    } else {
        Ok(value.to_owned())
    }
}

/// Cut to what a leaf holds.
pub(crate) fn cut(value: &str) -> String {
    value.chars().take(256).collect()
}
