//! Our own short tokens: a JWT signed with Ed25519 by the deployment's service-token key, for at
//! most five minutes, bound to one tenant and, if asked for, to some of its signers.
//!
//! The token carries what the ID token said (issuer, subject, plain claims, second factor), not
//! what the caller may do: roles and grants are read afresh with each request.

use super::SKEW_S;
use super::id_token::{TokenError, VerifiedToken};
use super::jws::{Parts, PublicKey};
use arc_swap::ArcSwap;
use countersign_core::ports::rows::IssuerKind;
use countersign_core::{Micros, SignerLabel, TenantId, TenantName};
use countersign_signing::ServiceTokenKey;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use uuid::Uuid;

/// Longest life of a service token.
pub const MAX_LIFE_S: i64 = 300;
/// Most bytes of claims carried over.
pub const MAX_CLAIMS: usize = 8 * 1024;
/// Most verified tokens remembered.
const MAX_CACHED: usize = 8192;
const TYP: &str = "countersign-service+jwt";
const AUDIENCE: &str = "countersign";

/// What a service token says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceClaims {
    /// The deployment's name.
    pub iss: String,
    /// Always `countersign`.
    pub aud: String,
    /// Seconds.
    pub iat: i64,
    /// Seconds.
    pub exp: i64,
    /// Unique.
    pub jti: Uuid,
    /// Whose.
    pub tenant: TenantId,
    /// By name.
    pub tenant_name: TenantName,
    /// The ID token's `iss`.
    pub idp: String,
    /// The ID token's `sub`.
    pub sub: String,
    /// A person or a pipeline.
    pub kind: IssuerKind,
    /// Plain claims of the ID token.
    pub claims: Map<String, Value>,
    /// Whether the ID token showed a second factor.
    pub mfa: bool,
    /// The signers it is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signers: Option<Vec<SignerLabel>>,
}

/// Why a service token is not accepted. Exchange an ID token again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ServiceTokenError {
    /// Not one of ours.
    #[error(
        "this is not a service token of this deployment; exchange an ID token at POST /v1/token"
    )]
    NotOurs,
    /// Past its five minutes.
    #[error("the service token expired; exchange an ID token again")]
    Expired,
    /// The signing key cannot be used: a fault of ours.
    #[error("no service token can be made now")]
    NoKey,
}

type Source = Box<dyn Fn() -> Arc<Vec<ServiceTokenKey>> + Send + Sync>;

/// Keys made ready for use.
struct Keys {
    /// What they were made of.
    of: Option<Arc<Vec<ServiceTokenKey>>>,
    signing: Option<(String, EncodingKey)>,
    verifying: HashMap<String, PublicKey>,
}

impl Keys {
    fn new(keys: &[ServiceTokenKey], of: Option<Arc<Vec<ServiceTokenKey>>>) -> Self {
        Self {
            of,
            signing: keys.first().map(|k| {
                let key = EncodingKey::from_ed_der(k.pkcs8.expose_secret());
                (k.kid.clone(), key)
            }),
            verifying: keys
                .iter()
                .map(|k| (k.kid.clone(), PublicKey::ed25519(k.public)))
                .collect(),
        }
    }
}

/// Makes and verifies service tokens.
pub struct ServiceTokens {
    name: String,
    source: Option<Source>,
    keys: ArcSwap<Keys>,
    seen: Mutex<HashMap<[u8; 32], Arc<ServiceClaims>>>,
}

impl std::fmt::Debug for ServiceTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServiceTokens")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl ServiceTokens {
    /// From the deployment's keys, the signing one first. `name` is the deployment's own name.
    #[must_use]
    pub fn new(name: impl Into<String>, keys: &[ServiceTokenKey]) -> Self {
        Self {
            name: name.into(),
            source: None,
            keys: ArcSwap::from_pointee(Keys::new(keys, None)),
            seen: Mutex::new(HashMap::new()),
        }
    }

    /// From keys that change while we run: they are asked for each time.
    #[must_use]
    pub fn from_source(
        name: impl Into<String>,
        source: impl Fn() -> Arc<Vec<ServiceTokenKey>> + Send + Sync + 'static,
    ) -> Self {
        let keys = source();
        Self {
            name: name.into(),
            keys: ArcSwap::from_pointee(Keys::new(&keys, Some(Arc::clone(&keys)))),
            source: Some(Box::new(source)),
            seen: Mutex::new(HashMap::new()),
        }
    }

    fn keys(&self) -> Arc<Keys> {
        let known = self.keys.load_full();
        let Some(source) = &self.source else {
            return known;
        };
        let now = source();
        if known.of.as_ref().is_some_and(|of| Arc::ptr_eq(of, &now)) {
            return known;
        }
        let keys = Arc::new(Keys::new(&now, Some(Arc::clone(&now))));
        self.keys.store(Arc::clone(&keys));
        keys
    }

    /// The deployment's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Signs claims.
    ///
    /// # Errors
    /// [`ServiceTokenError::NoKey`].
    pub fn mint(&self, claims: &ServiceClaims) -> Result<String, ServiceTokenError> {
        let keys = self.keys();
        let (kid, key) = keys.signing.as_ref().ok_or(ServiceTokenError::NoKey)?;
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(kid.clone());
        header.typ = Some(TYP.to_owned());
        jsonwebtoken::encode(&header, claims, key).map_err(|_| ServiceTokenError::NoKey)
    }

    /// Verifies a token; a token verified before is remembered until it expires.
    ///
    /// # Errors
    /// [`ServiceTokenError`].
    pub fn verify(
        &self,
        token: &str,
        now: Micros,
    ) -> Result<Arc<ServiceClaims>, ServiceTokenError> {
        let id: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let remembered = self.lock().get(&id).map(Arc::clone);
        let claims = match remembered {
            Some(c) => c,
            None => Arc::new(self.verify_anew(token)?),
        };
        // Our own clock made `exp`; other nodes' clocks are within the skew.
        if now.seconds() >= claims.exp {
            self.lock().remove(&id);
            return Err(ServiceTokenError::Expired);
        }
        if claims.iat > now.seconds().saturating_add(SKEW_S) {
            return Err(ServiceTokenError::NotOurs);
        }
        let mut seen = self.lock();
        if seen.len() >= MAX_CACHED && !seen.contains_key(&id) {
            seen.retain(|_, c| c.exp > now.seconds());
            if seen.len() >= MAX_CACHED {
                seen.clear();
            }
        }
        seen.insert(id, Arc::clone(&claims));
        Ok(claims)
    }

    fn verify_anew(&self, token: &str) -> Result<ServiceClaims, ServiceTokenError> {
        let not_ours = ServiceTokenError::NotOurs;
        let parts = Parts::parse(token).map_err(|_| not_ours)?;
        let header = &parts.header;
        // RFC 8725 §3.11: an ID token is no service token, whoever signed it. The library checks
        // neither the type nor `crit`.
        if header.typ.as_deref() != Some(TYP) || header.crit.is_some() {
            return Err(not_ours);
        }
        let keys = self.keys();
        let key = header
            .kid
            .as_ref()
            .and_then(|k| keys.verifying.get(k))
            .ok_or(not_ours)?;
        // No leeway: the times are compared in `verify`, each time anew.
        let validation = key.validation(&self.name, AUDIENCE, 0);
        let claims: ServiceClaims = jsonwebtoken::decode(token, key.decoding(), &validation)
            .map_err(|_| not_ours)?
            .claims;
        // The library also takes lists of issuers and audiences; `ServiceClaims` has no room for
        // them, so what it took is what stands here.
        Ok(claims)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; 32], Arc<ServiceClaims>>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whom a service token is for, beside what the ID token says.
#[derive(Debug, Clone)]
pub struct Binding {
    /// Whose.
    pub tenant: TenantId,
    /// By name.
    pub tenant_name: TenantName,
    /// The ID token's issuer.
    pub issuer: String,
    /// A person or a pipeline.
    pub kind: IssuerKind,
    /// Signers asked for.
    pub signers: Option<Vec<SignerLabel>>,
}

/// The claims of a service token for a verified ID token: at most five minutes, and never longer
/// than the ID token itself.
///
/// # Errors
/// [`TokenError::ClaimsTooLarge`], or [`TokenError::Expired`] for an ID token accepted only within
/// the skew: nothing of its life is left to give.
pub fn claims_for(
    name: &str,
    binding: Binding,
    token: &VerifiedToken,
    now: Micros,
) -> Result<ServiceClaims, TokenError> {
    let now = now.seconds();
    let exp = now.saturating_add(MAX_LIFE_S).min(token.expires);
    if exp <= now {
        return Err(TokenError::Expired {
            ago: now.saturating_sub(token.expires),
        });
    }
    let claims = carried(&token.claims)?;
    Ok(ServiceClaims {
        iss: name.to_owned(),
        aud: AUDIENCE.to_owned(),
        iat: now,
        exp,
        jti: Uuid::now_v7(),
        tenant: binding.tenant,
        tenant_name: binding.tenant_name,
        idp: binding.issuer,
        sub: token.subject.clone(),
        kind: binding.kind,
        claims,
        mfa: token.mfa,
        signers: binding.signers,
    })
}

/// The claims a service token carries over.
///
/// # Errors
/// [`TokenError::ClaimsTooLarge`].
pub(super) fn carried(claims: &Map<String, Value>) -> Result<Map<String, Value>, TokenError> {
    let claims = plain(claims, 4);
    let size = serde_json::to_vec(&claims).map_or(usize::MAX, |v| v.len());
    if size > MAX_CLAIMS {
        return Err(TokenError::ClaimsTooLarge { limit: MAX_CLAIMS });
    }
    Ok(claims)
}

/// Strings, numbers and truth values, also inside objects (grants name those by JSON pointer);
/// lists and nulls cannot be compared exactly and stay behind.
fn plain(claims: &Map<String, Value>, depth: u8) -> Map<String, Value> {
    claims
        .iter()
        .filter_map(|(name, value)| {
            let kept = match value {
                Value::String(_) | Value::Number(_) | Value::Bool(_) => value.clone(),
                Value::Object(inner) => {
                    let inner = plain(inner, depth.checked_sub(1)?);
                    if inner.is_empty() {
                        return None;
                    }
                    Value::Object(inner)
                }
                Value::Array(_) | Value::Null => return None,
            };
            Some((name.clone(), kept))
        })
        .collect()
}

#[cfg(test)]
mod tests;
