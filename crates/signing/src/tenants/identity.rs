//! What the API asks when it identifies a caller.

use super::{cut, tenant_draft};
use crate::caller::Caller;
use crate::denials::Refusal;
use crate::sequencer::{DetailsDraft, Submission};
use crate::use_key::text_opening;
use crate::{Service, SigningError};
use countersign_core::ports::rows::{
    IssuerKind, IssuerRow, OPERATOR_REALM, OPERATOR_REALM_NAME, Role, TenantRow,
};
use countersign_core::{Micros, RequestId, TenantId, TenantName};
use countersign_grants::ExplainRequest;
use countersign_signing_log::leaf::{LeafBody, TokenExchanged};

impl Service {
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

    /// Roles of a person, as long as the tenant takes tokens of that person's issuer: whoever logged
    /// in before the issuer was removed is nobody from that moment on.
    ///
    /// # Errors
    /// [`SigningError::Unavailable`].
    pub async fn roles(
        &self,
        tenant: TenantId,
        issuer: &str,
        subject: &str,
    ) -> Result<Vec<Role>, SigningError> {
        let registered = self.store().issuer(tenant, issuer).await?;
        if registered.is_none_or(|row| row.kind != IssuerKind::People) {
            return Ok(Vec::new());
        }
        Ok(self.store().roles(tenant, issuer, subject).await?)
    }

    /// Whether a caller has business here: a role, or a grant that its claims meet now for one of
    /// the signers it asks for. Nobody else gets a service token; their number (verified tokens of
    /// a registered issuer and audience, that is) comes into the tenant's log, seldom.
    ///
    /// # Errors
    /// [`SigningError::Unavailable`].
    pub async fn awaits(
        &self,
        tenant: &TenantRow,
        caller: &Caller,
        rid: &RequestId,
    ) -> Result<bool, SigningError> {
        if !caller.roles.is_empty() {
            return Ok(true);
        }
        let now = self.clock().now();
        let wanted = caller.signers.as_ref();
        for grant in self.grants_of(tenant).await?.iter() {
            if wanted.is_some_and(|s| !s.contains(&grant.signer)) {
                continue;
            }
            let request = ExplainRequest {
                issuer: &caller.issuer,
                claims: &caller.claims,
                signer: &grant.signer,
                content_type: None,
                digest_algorithm: None,
                now,
            };
            // The quick look first: most grants of a large tenant are for others.
            if grant.names(&caller.issuer, &caller.claims)
                && countersign_grants::explain(std::slice::from_ref(grant), &request).allowed
            {
                return Ok(true);
            }
        }
        self.refused(caller, None, Refusal::Stranger, "no-role-or-grant", rid);
        Ok(false)
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
}
