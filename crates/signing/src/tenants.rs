//! Tenants, issuers, members, grants. Each change is one commit of an effect and its leaf.

use crate::caller::Caller;
use crate::sequencer::{DetailsDraft, Draft, Submission};
use crate::use_key::text_opening;
use crate::{Service, SigningError};
use countersign_core::ports::rows::{
    GrantRow, IssuerKind, IssuerRow, MemberRow, OPERATOR_REALM, OPERATOR_REALM_NAME, Role,
    TenantPolicy, TenantRow,
};
use countersign_core::ports::store::Effect;
use countersign_core::{
    GrantId, HashAlgorithm, Micros, RequestId, SignerLabel, SignerName, TenantId, TenantName,
};
use countersign_grants::{Decision, ExplainRequest, Grant};
use countersign_signing_log::commitment::{HexHash, LABEL_SUBJECT};
use countersign_signing_log::leaf::{
    GrantAdded, GrantRemoved, IssuerRegistered, LeafBody, LogOpened, MemberAdded, MemberRemoved,
    PolicySet, TenantCreated, TokenCreated, TokenExchanged,
};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

/// Longest text a person may put into a field.
const MAX_TEXT: usize = 1024;
/// Oldest maximum token age that may be set, in seconds.
const MAX_TOKEN_AGE: u32 = 24 * 3600;

/// An issuer as an admin registers it.
#[derive(Debug, Clone)]
pub struct IssuerSpec {
    /// Exact `iss`, an https URL.
    pub issuer: String,
    /// Whose tokens.
    pub kind: IssuerKind,
    /// The one audience accepted.
    pub audience: String,
    /// Oldest token accepted, in seconds.
    pub max_token_age_s: u32,
    /// `amr` values that count as MFA.
    pub mfa_amr: Vec<String>,
    /// `acr` values that count as MFA.
    pub mfa_acr: Vec<String>,
    /// PEM roots for the issuer's TLS.
    pub ca_pem: Option<String>,
    /// Public OAuth client id.
    pub client_id: Option<String>,
}

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
        let row = issuer_row(OPERATOR_REALM, issuer)?;
        let name: TenantName = OPERATOR_REALM_NAME
            .parse()
            .map_err(|e| SigningError::Internal(format!("operator realm: {e}")))?;
        let policy = TenantPolicy {
            allow_software: false,
            require_mfa,
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

    /// The issuer of a tenant's allow-list (`None`: the operator's realm), for the API to verify a
    /// token with.
    ///
    /// # Errors
    /// [`SigningError::NotFound`] for an unknown tenant or issuer: nothing is fetched for those.
    pub async fn issuer_for(
        &self,
        tenant: Option<&TenantName>,
        issuer: &str,
    ) -> Result<(TenantRow, IssuerRow), SigningError> {
        let tenant = match tenant {
            Some(name) if name.as_str() != OPERATOR_REALM_NAME => {
                self.store().tenant_by_name(name).await?
            }
            _ => self.store().tenant(OPERATOR_REALM).await?,
        }
        .ok_or(SigningError::NotFound)?;
        let row = self
            .store()
            .issuer(tenant.id, issuer)
            .await?
            .ok_or(SigningError::NotFound)?;
        Ok((tenant, row))
    }

    /// Whether this token is exchanged for the first time; remembered durably until it expires.
    ///
    /// # Errors
    /// [`SigningError::Unavailable`] if the database cannot write: the token stays unused.
    pub async fn first_use(
        &self,
        tenant: TenantId,
        issuer: &str,
        token: [u8; 32],
        expires: Micros,
    ) -> Result<bool, SigningError> {
        Ok(self
            .store()
            .first_use(tenant, issuer, token, expires)
            .await?)
    }

    /// Roles of a person.
    ///
    /// # Errors
    /// [`SigningError::Unavailable`].
    pub async fn roles(
        &self,
        tenant: TenantId,
        issuer: &str,
        subject: &str,
    ) -> Result<Vec<Role>, SigningError> {
        Ok(self.store().roles(tenant, issuer, subject).await?)
    }

    /// Puts an exchange into the tenant's log.
    ///
    /// # Errors
    /// [`SigningError::Unavailable`]: then no service token is given.
    pub async fn record_exchange(
        &self,
        caller: &Caller,
        rid: &RequestId,
    ) -> Result<(), SigningError> {
        let opening = text_opening(&caller.record())?;
        let signers = caller
            .signers
            .iter()
            .flatten()
            .map(ToString::to_string)
            .collect();
        let body = TokenExchanged {
            issuer: cut(&caller.issuer),
            caller: opening.commitment(countersign_signing_log::commitment::LABEL_CALLER),
            signers,
        };
        let details = DetailsDraft {
            request: Some(rid.to_string()),
            caller: Some(opening),
            ..DetailsDraft::default()
        };
        let submission = Submission {
            drafts: vec![tenant_draft(
                caller.tenant,
                LeafBody::TokenExchanged(body),
                Some(details),
            )],
            ..Submission::default()
        };
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
        let issuer = new.issuer.map(|i| issuer_row(id, i)).transpose()?;
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
        let token = self.hsm().create_token(id, &self.pins()).await?;
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

    /// Sets a tenant's rules.
    ///
    /// # Errors
    /// [`SigningError::Forbidden`], [`SigningError::MfaRequired`].
    pub async fn set_policy(
        &self,
        caller: &Caller,
        name: &TenantName,
        policy: TenantPolicy,
        rid: &RequestId,
    ) -> Result<TenantRow, SigningError> {
        let tenant = self.admin(caller, name).await?;
        let body = PolicySet {
            allow_software: policy.allow_software,
            require_mfa: policy.require_mfa,
        };
        self.change(
            caller,
            tenant.id,
            LeafBody::PolicySet(body),
            Effect::SetPolicy(tenant.id, policy),
            rid,
        )
        .await?;
        self.store()
            .tenant(tenant.id)
            .await?
            .ok_or(SigningError::NotFound)
    }

    /// Registers or replaces an issuer.
    ///
    /// # Errors
    /// [`SigningError::Invalid`] names the field.
    pub async fn put_issuer(
        &self,
        caller: &Caller,
        name: &TenantName,
        spec: IssuerSpec,
        rid: &RequestId,
    ) -> Result<IssuerRow, SigningError> {
        let tenant = self.admin(caller, name).await?;
        let row = issuer_row(tenant.id, spec)?;
        let mut submission = Submission::default();
        draft_issuer(&mut submission, row.clone(), rid, Some(caller));
        self.commit(tenant.id, submission).await?;
        Ok(row)
    }

    /// The tenant's allow-list.
    ///
    /// # Errors
    /// [`SigningError::Forbidden`].
    pub async fn issuers(
        &self,
        caller: &Caller,
        name: &TenantName,
    ) -> Result<Vec<IssuerRow>, SigningError> {
        Ok(self.store().issuers(self.reader(caller, name)?).await?)
    }

    /// Gives a role.
    ///
    /// # Errors
    /// [`SigningError::Conflict`] if the member has it.
    pub async fn add_member(
        &self,
        caller: &Caller,
        name: &TenantName,
        issuer: &str,
        subject: &str,
        role: Role,
        rid: &RequestId,
    ) -> Result<(), SigningError> {
        self.member(caller, name, issuer, subject, role, true, rid)
            .await
    }

    /// Takes a role. The last admin cannot be removed.
    ///
    /// # Errors
    /// [`SigningError::Conflict`].
    pub async fn remove_member(
        &self,
        caller: &Caller,
        name: &TenantName,
        issuer: &str,
        subject: &str,
        role: Role,
        rid: &RequestId,
    ) -> Result<(), SigningError> {
        self.member(caller, name, issuer, subject, role, false, rid)
            .await
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "one place for adding and removing"
    )]
    async fn member(
        &self,
        caller: &Caller,
        name: &TenantName,
        issuer: &str,
        subject: &str,
        role: Role,
        add: bool,
        rid: &RequestId,
    ) -> Result<(), SigningError> {
        let tenant = self.admin(caller, name).await?;
        if role == Role::Operator {
            return Err(SigningError::invalid("role", "admin or auditor"));
        }
        let row = MemberRow {
            tenant: tenant.id,
            issuer: text("issuer", issuer)?,
            subject: text("subject", subject)?,
            role,
        };
        if !add && role == Role::Admin {
            let admins = self.store().members(tenant.id).await?;
            if admins
                .iter()
                .filter(|m| m.role == Role::Admin)
                .all(|m| *m == row)
            {
                return Err(SigningError::conflict("the last admin cannot be removed"));
            }
        }
        let mut submission = Submission::default();
        draft_member(&mut submission, row, add, rid, Some(caller))?;
        self.commit(tenant.id, submission).await
    }

    /// The tenant's members.
    ///
    /// # Errors
    /// [`SigningError::Forbidden`].
    pub async fn members(
        &self,
        caller: &Caller,
        name: &TenantName,
    ) -> Result<Vec<MemberRow>, SigningError> {
        Ok(self.store().members(self.reader(caller, name)?).await?)
    }

    /// Adds a grant; its id is given here.
    ///
    /// # Errors
    /// [`SigningError::Invalid`] names the field that makes the grant unsafe or meaningless.
    pub async fn add_grant(
        &self,
        caller: &Caller,
        name: &TenantName,
        mut grant: Grant,
        rid: &RequestId,
    ) -> Result<Grant, SigningError> {
        let tenant = self.admin(caller, name).await?;
        grant.id = GrantId::new();
        grant
            .validate()
            .map_err(|e| SigningError::invalid(e.field(), e.to_string()))?;
        if self
            .store()
            .signer(tenant.id, &grant.signer)
            .await?
            .is_none()
        {
            return Err(SigningError::invalid("signer", "there is no such signer"));
        }
        let json = grant
            .canonical_json()
            .map_err(|e| SigningError::Internal(e.to_string()))?;
        let body = GrantAdded {
            grant: grant.id.to_string(),
            signer: grant.signer.to_string(),
            grant_sha256: HexHash(Sha256::digest(&json).into()),
        };
        let row = GrantRow {
            tenant: tenant.id,
            id: grant.id,
            signer: grant.signer.clone(),
            json: String::from_utf8(json).map_err(|e| SigningError::Internal(e.to_string()))?,
            created: self.clock().now(),
        };
        self.change(
            caller,
            tenant.id,
            LeafBody::GrantAdded(body),
            Effect::PutGrant(row),
            rid,
        )
        .await?;
        Ok(grant)
    }

    /// The tenant's grants.
    ///
    /// # Errors
    /// [`SigningError::Forbidden`].
    pub async fn grants(
        &self,
        caller: &Caller,
        name: &TenantName,
    ) -> Result<Vec<Grant>, SigningError> {
        let rows = self.store().all_grants(self.reader(caller, name)?).await?;
        rows.iter()
            .map(|r| {
                serde_json::from_str(&r.json).map_err(|e| {
                    SigningError::Internal(format!("grant {} cannot be read: {e}", r.id))
                })
            })
            .collect()
    }

    /// Removes a grant. When it returns no later authorisation is made by it.
    ///
    /// # Errors
    /// [`SigningError::NotFound`].
    pub async fn remove_grant(
        &self,
        caller: &Caller,
        name: &TenantName,
        grant: GrantId,
        rid: &RequestId,
    ) -> Result<(), SigningError> {
        let tenant = self.admin(caller, name).await?;
        let row = self
            .store()
            .all_grants(tenant.id)
            .await?
            .into_iter()
            .find(|g| g.id == grant);
        let row = row.ok_or(SigningError::NotFound)?;
        let body = GrantRemoved {
            grant: grant.to_string(),
            signer: row.signer.to_string(),
        };
        self.change(
            caller,
            tenant.id,
            LeafBody::GrantRemoved(body),
            Effect::RemoveGrant(tenant.id, grant),
            rid,
        )
        .await
    }

    /// Why a token with these claims would be allowed or refused, claim by claim.
    ///
    /// # Errors
    /// [`SigningError::NotFound`] for an unknown signer.
    pub async fn explain(
        &self,
        caller: &Caller,
        signer: &SignerName,
        issuer: &str,
        claims: &Map<String, Value>,
        content: Option<&str>,
        digest_algorithm: Option<HashAlgorithm>,
    ) -> Result<Decision, SigningError> {
        let tenant = self.reader(caller, &signer.tenant)?;
        let snapshot = self.fresh_snapshot(tenant, &signer.signer).await?;
        Ok(countersign_grants::explain(
            &snapshot.grants,
            &ExplainRequest {
                issuer,
                claims,
                signer: &signer.signer,
                content_type: content,
                digest_algorithm,
                now: self.clock().now(),
            },
        ))
    }

    /// Signers that some grant would let this caller use, for `whoami`.
    ///
    /// # Errors
    /// [`SigningError::Unavailable`].
    pub async fn signers_for(&self, caller: &Caller) -> Result<Vec<SignerLabel>, SigningError> {
        let mut out = Vec::new();
        for row in self.store().signers(caller.tenant).await? {
            let bound = caller
                .signers
                .as_ref()
                .is_none_or(|s| s.contains(&row.label));
            let snapshot = self.snapshot(caller.tenant, &row.label).await?;
            let decision = countersign_grants::explain(
                &snapshot.grants,
                &ExplainRequest {
                    issuer: &caller.issuer,
                    claims: &caller.claims,
                    signer: &row.label,
                    content_type: None,
                    digest_algorithm: None,
                    now: self.clock().now(),
                },
            );
            if bound && decision.allowed {
                out.push(row.label);
            }
        }
        Ok(out)
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
    ) -> Result<TenantRow, SigningError> {
        let id = caller.of_tenant(name)?;
        let tenant = self
            .store()
            .tenant(id)
            .await?
            .ok_or(SigningError::NotFound)?;
        caller.may_change(tenant.policy.require_mfa)?;
        Ok(tenant)
    }

    async fn operator(&self, caller: &Caller) -> Result<(), SigningError> {
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
        let submission = Submission {
            drafts: vec![tenant_draft(tenant, body, by(caller, rid))],
            effects: vec![effect],
            ..Submission::default()
        };
        self.commit(tenant, submission).await
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
        token: Option<countersign_core::ports::hsm::TokenFacts>,
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
        let set = PolicySet {
            allow_software: policy.allow_software,
            require_mfa: policy.require_mfa,
        };
        submission
            .drafts
            .push(tenant_draft(id, LeafBody::PolicySet(set), request()));
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
        body,
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

fn draft_issuer(
    submission: &mut Submission,
    row: IssuerRow,
    rid: &RequestId,
    caller: Option<&Caller>,
) {
    let kind = match row.kind {
        IssuerKind::People => "people",
        IssuerKind::Pipelines => "pipelines",
    };
    let body = IssuerRegistered {
        issuer: row.issuer.clone(),
        kind: kind.to_owned(),
        audience: row.audience.clone(),
    };
    let details = caller.map_or_else(
        || {
            Some(DetailsDraft {
                request: Some(rid.to_string()),
                ..DetailsDraft::default()
            })
        },
        |c| by(c, rid),
    );
    submission.drafts.push(tenant_draft(
        row.tenant,
        LeafBody::IssuerRegistered(body),
        details,
    ));
    submission.effects.push(Effect::PutIssuer(row));
}

fn draft_member(
    submission: &mut Submission,
    row: MemberRow,
    add: bool,
    rid: &RequestId,
    caller: Option<&Caller>,
) -> Result<(), SigningError> {
    let subject = text_opening(&row.subject)?;
    let commitment = subject.commitment(LABEL_SUBJECT);
    let (issuer, role) = (row.issuer.clone(), row.role.as_str().to_owned());
    let body = if add {
        LeafBody::MemberAdded(MemberAdded {
            issuer,
            subject: commitment,
            role,
        })
    } else {
        LeafBody::MemberRemoved(MemberRemoved {
            issuer,
            subject: commitment,
            role,
        })
    };
    let mut details = caller.and_then(|c| by(c, rid)).unwrap_or_default();
    details.request = Some(rid.to_string());
    details.subject = Some(subject);
    submission
        .drafts
        .push(tenant_draft(row.tenant, body, Some(details)));
    submission.effects.push(if add {
        Effect::AddMember(row)
    } else {
        Effect::RemoveMember(row)
    });
    Ok(())
}

fn issuer_row(tenant: TenantId, spec: IssuerSpec) -> Result<IssuerRow, SigningError> {
    let issuer = text("issuer", &spec.issuer)?;
    if !issuer.starts_with("https://") && !issuer.starts_with("http://") {
        return Err(SigningError::invalid(
            "issuer",
            "an https URL, exactly as in the token's iss",
        ));
    }
    if !(1..=MAX_TOKEN_AGE).contains(&spec.max_token_age_s) {
        return Err(SigningError::invalid(
            "max_token_age_s",
            format!("1 to {MAX_TOKEN_AGE} seconds"),
        ));
    }
    for (field, values) in [("mfa_amr", &spec.mfa_amr), ("mfa_acr", &spec.mfa_acr)] {
        if values.len() > 16 || values.iter().any(|v| v.is_empty() || v.len() > 256) {
            return Err(SigningError::invalid(
                field,
                "at most 16 values of 1 to 256 characters",
            ));
        }
    }
    if spec.ca_pem.as_ref().is_some_and(|p| p.len() > 64 * 1024) {
        return Err(SigningError::invalid("ca_pem", "at most 64 KiB"));
    }
    Ok(IssuerRow {
        tenant,
        issuer,
        kind: spec.kind,
        audience: text("audience", &spec.audience)?,
        max_token_age_s: spec.max_token_age_s,
        mfa_amr: spec.mfa_amr,
        mfa_acr: spec.mfa_acr,
        ca_pem: spec.ca_pem,
        client_id: spec.client_id.map(|c| text("client_id", &c)).transpose()?,
    })
}

/// A text field: not empty, not long, no control characters.
pub(crate) fn text(field: &str, value: &str) -> Result<String, SigningError> {
    if value.is_empty() || value.len() > MAX_TEXT || value.chars().any(char::is_control) {
        Err(SigningError::invalid(
            field,
            format!("1 to {MAX_TEXT} bytes without control characters"),
        ))
    } else {
        Ok(value.to_owned())
    }
}

/// Cut to what a leaf holds.
pub(crate) fn cut(value: &str) -> String {
    value.chars().take(256).collect()
}
