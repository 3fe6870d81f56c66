//! Token exchange (RFC 8693): one ID token, once, for one service token.

use super::id_token::by_its_own_words;
use super::keys::KeysError;
use super::service_token::{Binding, ServiceClaims, claims_for};
use super::{AuthError, SKEW_S};
use crate::state::Api;
use countersign_core::ports::rows::{IssuerKind, OPERATOR_REALM_NAME};
use countersign_core::{Micros, RequestId, SignerLabel, SignerName, TenantName};
use countersign_signing::{Caller, SigningError};
use sha2::{Digest as _, Sha256};

/// RFC 8693 §2.1.
pub const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// RFC 8693 §3.
pub const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
/// RFC 8693 §3.
pub const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
/// RFC 8693 §3.
pub const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
/// Most signers one service token may be bound to by name.
const MAX_SCOPE: usize = 64;

/// What is asked for.
#[derive(Debug)]
pub struct Exchange<'a> {
    /// The ID token.
    pub subject_token: &'a str,
    /// The tenant; `None` is the operator's realm.
    pub tenant: Option<&'a str>,
    /// Signers, separated by spaces; `None`: all that grants allow.
    pub scope: Option<&'a str>,
}

/// What is given.
#[derive(Debug)]
pub struct Exchanged {
    /// The service token.
    pub token: String,
    /// What it says.
    pub claims: ServiceClaims,
}

/// Exchanges an ID token.
///
/// What the token's own words say against it is told to whoever sends it. All that depends on what
/// a tenant has registered is one refusal, [`AuthError::AccessDenied`]: an issuer that many share
/// vouches for strangers too, and they learn of no tenant whether it is here, whom it trusts, and
/// which claims its grants want.
///
/// # Errors
/// [`AuthError`]; the ID token counts as used only if everything else about it was right.
pub async fn exchange(
    api: &Api,
    request: &Exchange<'_>,
    rid: &RequestId,
) -> Result<Exchanged, AuthError> {
    let now = api.clock().now();
    let issuer_name = by_its_own_words(request.subject_token, now)?;
    let tenant_name = tenant_name(request.tenant)?;
    let signers = request
        .scope
        .map(|s| scope(s, tenant_name.as_ref()))
        .transpose()?;
    let (tenant, issuer) = match api
        .service()
        .issuer_for(tenant_name.as_ref(), &issuer_name)
        .await
    {
        Ok(found) => found,
        Err(SigningError::NotFound) => return Err(denied("no such tenant or issuer")),
        Err(e) => return Err(e.into()),
    };
    let token = match api
        .verifier()
        .verify(&issuer, request.subject_token, now)
        .await
    {
        Ok(token) => token,
        Err(e @ (AuthError::IdToken(_) | AuthError::Keys(KeysError::UnknownKey))) => {
            return Err(denied(&e));
        }
        Err(e) => {
            tracing::info!(reason = %e, "an exchange failed");
            return Err(e);
        }
    };
    let binding = Binding {
        tenant: tenant.id,
        tenant_name: tenant.name.clone(),
        issuer: issuer.issuer.clone(),
        kind: issuer.kind,
        signers,
    };
    let claims = claims_for(api.tokens().name(), binding, &token, now)?;
    // Before anything is written: whom no role and no grant awaits costs the tenant no leaf, and
    // does not learn from later refusals what its grants want.
    let caller = caller(api, &claims).await?;
    if !api.service().awaits(&tenant, &caller, rid).await? {
        return Err(denied("no role and no grant"));
    }

    // Whoever is let in costs a leaf; strangers were not counted, or they would use the rate up.
    api.gate()
        .spend_exchange(tenant.id)
        .map_err(AuthError::Limited)?;

    // Remembered for the token's own remaining life and the skew, by what it says and by its id: a
    // token signed anew, with the same words or under the same `jti`, is the same token.
    let until = Micros::from_seconds(token.expires.saturating_add(SKEW_S.saturating_mul(2)));
    let mut marks = vec![token.sha256];
    marks.extend(
        token
            .jti
            .as_deref()
            .map(|jti| jti_mark(&issuer.issuer, jti)),
    );
    for mark in marks {
        if !api
            .service()
            .first_use(tenant.id, &issuer.issuer, mark, until)
            .await?
        {
            return Err(AuthError::Replayed);
        }
    }
    api.service().record_exchange(&caller, rid).await?;
    let token = api.tokens().mint(&claims)?;
    Ok(Exchanged { token, claims })
}

/// The caller a service token stands for, with the roles of this moment.
///
/// # Errors
/// [`AuthError::Service`] if the database cannot be read.
pub async fn caller(api: &Api, claims: &ServiceClaims) -> Result<Caller, AuthError> {
    let roles = match claims.kind {
        IssuerKind::People => {
            api.service()
                .roles(claims.tenant, &claims.idp, &claims.sub)
                .await?
        }
        IssuerKind::Pipelines => Vec::new(),
    };
    Ok(Caller {
        tenant: claims.tenant,
        tenant_name: claims.tenant_name.clone(),
        issuer: claims.idp.clone(),
        subject: claims.sub.clone(),
        kind: claims.kind,
        claims: claims.claims.clone(),
        roles,
        mfa: claims.mfa,
        signers: claims.signers.clone(),
    })
}

/// The one refusal. The reason is for the operator's log, found by the request id.
fn denied(reason: &(impl std::fmt::Display + ?Sized)) -> AuthError {
    tracing::info!(%reason, "an exchange was refused");
    AuthError::AccessDenied
}

fn jti_mark(issuer: &str, jti: &str) -> [u8; 32] {
    let mut h = Sha256::new();
    h.update(b"countersign/jti/v1\0");
    h.update((issuer.len() as u64).to_be_bytes());
    h.update(issuer.as_bytes());
    h.update(jti.as_bytes());
    h.finalize().into()
}

fn tenant_name(given: Option<&str>) -> Result<Option<TenantName>, AuthError> {
    match given {
        None | Some("" | OPERATOR_REALM_NAME) => Ok(None),
        Some(name) => name
            .parse()
            .map(Some)
            .map_err(|e: countersign_core::names::BadName| AuthError::Request {
                parameter: "tenant",
                detail: e.to_string(),
            }),
    }
}

/// Signer names, each `release` or `acme/release`; a name of another tenant is an error.
fn scope(text: &str, tenant: Option<&TenantName>) -> Result<Vec<SignerLabel>, AuthError> {
    let refuse = |detail: String| AuthError::Request {
        parameter: "scope",
        detail,
    };
    let mut labels = Vec::new();
    for word in text.split(' ').filter(|w| !w.is_empty()) {
        let label = if word.contains('/') {
            let name: SignerName = word.parse().map_err(|e| refuse(format!("{e}")))?;
            if Some(&name.tenant) != tenant {
                return Err(refuse(format!(
                    "\"{word}\" is not a signer of the tenant asked for"
                )));
            }
            name.signer
        } else {
            word.parse().map_err(|e| refuse(format!("{e}")))?
        };
        if !labels.contains(&label) {
            labels.push(label);
        }
        if labels.len() > MAX_SCOPE {
            return Err(refuse(format!("name at most {MAX_SCOPE} signers")));
        }
    }
    if labels.is_empty() {
        return Err(refuse("name at least one signer, or leave it out".into()));
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_names_signers_of_the_tenant_alone() {
        let acme: TenantName = "acme".parse().unwrap();
        let labels = scope("release acme/nightly release", Some(&acme)).unwrap();
        assert_eq!(
            labels.iter().map(SignerLabel::as_str).collect::<Vec<_>>(),
            ["release", "nightly"]
        );
        for bad in ["globex/release", "../x", " ", "Release"] {
            assert!(scope(bad, Some(&acme)).is_err(), "{bad}");
        }
        assert!(scope("acme/release", None).is_err());
    }
}
