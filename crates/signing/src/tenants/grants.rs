//! Grants: who may use which signer for what.

use crate::caller::Caller;
use crate::{Service, SigningError};
use countersign_core::ports::rows::GrantRow;
use countersign_core::ports::store::Effect;
use countersign_core::{GrantId, HashAlgorithm, RequestId, SignerLabel, SignerName, TenantName};
use countersign_grants::{Decision, ExplainRequest, Grant};
use countersign_signing_log::commitment::HexHash;
use countersign_signing_log::leaf::{GrantAdded, GrantRemoved, LeafBody};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

impl Service {
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
        let tenant = self.admin(caller, name, rid).await?;
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
        let tenant = self.admin(caller, name, rid).await?;
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
}
