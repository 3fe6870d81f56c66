//! Verification of ID tokens, in the order of the workload-identity rules: registered issuer, its
//! keys, algorithm, signature, audience, times. Replay is the exchange's part ([`super::exchange`]).
//!
//! `jsonwebtoken` decides on algorithm, signature, issuer and audience. Beside it stand the checks
//! that it has not: it takes a token for several audiences, rounds times and reads them by the
//! system's clock, leaves out `iat`, and its refusals do not tell an absent claim from a malformed
//! one.

use super::jws::{Header, Parts, PartsError};
use super::keys::IssuerKeys;
use super::{AuthError, SKEW_S};
use countersign_core::Micros;
use countersign_core::ports::rows::IssuerRow;
use jsonwebtoken::errors::{Error as JwtError, ErrorKind};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

/// Longest `sub`.
const MAX_SUBJECT: usize = 1024;

/// Why an ID token is not accepted. A retry with the same token cannot help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a token at all.
    #[error("subject_token: {0}")]
    Parts(#[from] PartsError),
    /// `alg` is not accepted: `none` and HMAC never are (RFC 8725 §3.1, §3.2).
    #[error("the token's algorithm \"{alg}\" is not accepted")]
    Algorithm {
        /// As the header says, cut.
        alg: String,
    },
    /// The key is of another type than the algorithm.
    #[error("the token's algorithm \"{alg}\" does not fit the issuer's key")]
    AlgorithmForKey {
        /// As the header says.
        alg: String,
    },
    /// No `kid` in the header.
    #[error("the token names no key (kid)")]
    NoKeyId,
    /// `crit` names extensions; none is understood (RFC 7515 §4.1.11).
    #[error("the token has critical extensions that are not understood (crit)")]
    Critical,
    /// The signature is not by that key.
    #[error("the token's signature is not by the issuer's key")]
    Signature,
    /// A claim that must be there is absent.
    #[error("the token has no claim \"{0}\"")]
    Missing(&'static str),
    /// A claim is of the wrong type or too long.
    #[error("the token's claim \"{0}\" is not what it must be")]
    BadClaim(&'static str),
    /// Another issuer than the one looked up.
    #[error("the token's issuer is another")]
    Issuer,
    /// Another audience than the registered one.
    #[error("the token's audience is not \"{expected}\"")]
    Audience {
        /// What was registered.
        expected: String,
    },
    /// Several audiences: the token could be replayed from the others.
    #[error("the token has several audiences; only a token for one is accepted")]
    SeveralAudiences,
    /// Past `exp`.
    #[error("the token expired {ago} s ago")]
    Expired {
        /// How long ago.
        ago: i64,
    },
    /// Before `nbf`.
    #[error("the token is valid only in {ahead} s (nbf)")]
    NotYet {
        /// How long until then.
        ahead: i64,
    },
    /// `iat` lies ahead of our clock.
    #[error("the token was issued {ahead} s in the future (iat)")]
    FromTheFuture {
        /// How far.
        ahead: i64,
    },
    /// Older than the issuer's setting allows, whatever `exp` says.
    #[error("the token was issued {age} s ago; this issuer's tokens are accepted for {max} s")]
    TooOld {
        /// Its age.
        age: i64,
        /// The setting.
        max: u32,
    },
    /// The claims that would be carried over are too many.
    #[error("the token's claims are larger than {limit} bytes")]
    ClaimsTooLarge {
        /// The limit.
        limit: usize,
    },
}

/// A verified ID token.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifiedToken {
    /// `sub`.
    pub subject: String,
    /// `exp`, seconds.
    pub expires: i64,
    /// `jti`, where there is one.
    pub jti: Option<String>,
    /// Whether `amr` or `acr` shows a second factor by the issuer's settings.
    pub mfa: bool,
    /// All claims.
    pub claims: Map<String, Value>,
    /// SHA-256 of what is signed: header and claims. Not of the signature: whoever has seen a token makes
    /// another good signature of an ECDSA one, (r, n − s), without the key.
    pub sha256: [u8; 32],
}

/// Verifies ID tokens of registered issuers.
#[derive(Debug, Clone)]
pub struct IdTokenVerifier {
    keys: Arc<IssuerKeys>,
}

/// The `iss` of a token, unverified: good for the look-up in the allow-list and for nothing else.
///
/// # Errors
/// [`TokenError`] where there is none.
pub fn unverified_issuer(token: &str) -> Result<String, TokenError> {
    issuer_of(&Parts::parse(token)?.claims)
}

/// What can be said against a token by its own words and our clock alone, before anybody's
/// registration is looked at: its sender may be told, since it says nothing of any tenant. The
/// token's issuer, unverified.
///
/// # Errors
/// [`TokenError`]; the token would be refused whoever registered its issuer.
pub fn by_its_own_words(token: &str, now: Micros) -> Result<String, TokenError> {
    let parts = Parts::parse(token)?;
    check_header(&parts.header)?;
    let issuer = issuer_of(&parts.claims)?;
    let now = now.seconds();
    let words = OwnWords::of(&parts.claims, now)?;
    // The skew is for clocks; a service token lives within its ID token's own life.
    if words.expires <= now {
        return Err(TokenError::Expired {
            ago: now.saturating_sub(words.expires),
        });
    }
    super::service_token::carried(&parts.claims)?;
    Ok(issuer)
}

fn issuer_of(claims: &Map<String, Value>) -> Result<String, TokenError> {
    match claims.get("iss") {
        None => Err(TokenError::Missing("iss")),
        Some(Value::String(s)) if (1..=512).contains(&s.len()) => Ok(s.clone()),
        Some(_) => Err(TokenError::BadClaim("iss")),
    }
}

/// What can be refused by the header alone makes nobody look for a key. Its key id.
fn check_header(header: &Header) -> Result<&str, TokenError> {
    if !header.algorithm_is_known() {
        return Err(TokenError::Algorithm {
            alg: header.alg.chars().take(32).collect(),
        });
    }
    if header.crit.is_some() {
        return Err(TokenError::Critical);
    }
    header
        .kid
        .as_deref()
        .filter(|k| !k.is_empty())
        .ok_or(TokenError::NoKeyId)
}

impl IdTokenVerifier {
    /// A verifier on a cache of keys.
    #[must_use]
    pub const fn new(keys: Arc<IssuerKeys>) -> Self {
        Self { keys }
    }

    /// Verifies a token of a registered issuer.
    ///
    /// # Errors
    /// [`AuthError::IdToken`] or [`AuthError::Keys`].
    pub async fn verify(
        &self,
        issuer: &IssuerRow,
        token: &str,
        now: Micros,
    ) -> Result<VerifiedToken, AuthError> {
        let parts = Parts::parse(token).map_err(TokenError::from)?;
        let kid = check_header(&parts.header)?;
        let key = self.keys.key(issuer, kid).await?;
        let skew = SKEW_S.unsigned_abs();
        let validation = key.validation(&issuer.issuer, &issuer.audience, skew);
        let now = now.seconds();
        match jsonwebtoken::decode(token, key.decoding(), &validation) {
            Ok(verified) => Ok(check_claims(issuer, verified.claims, token, now)?),
            Err(e) => Err(refusal(&e, issuer, parts, token, now).into()),
        }
    }
}

/// The exact name of what `jsonwebtoken` refused: it looks at the algorithm, then at the signature,
/// then at the claims.
fn refusal(e: &JwtError, issuer: &IssuerRow, parts: Parts, token: &str, now: i64) -> TokenError {
    let missing = |name: &str| match name {
        "exp" => TokenError::Missing("exp"),
        "iss" => TokenError::Issuer,
        "aud" => TokenError::Missing("aud"),
        _ => TokenError::Missing("sub"),
    };
    let unnamed = match e.kind() {
        ErrorKind::InvalidAlgorithm => {
            let alg = parts.header.alg.chars().take(32).collect();
            return TokenError::AlgorithmForKey { alg };
        }
        // Header members or claims of the wrong type, or a claim that stands twice.
        ErrorKind::InvalidToken
        | ErrorKind::Base64(_)
        | ErrorKind::Json(_)
        | ErrorKind::Utf8(_) => return PartsError::NotAJwt.into(),
        ErrorKind::InvalidIssuer => TokenError::Issuer,
        ErrorKind::InvalidAudience => TokenError::Audience {
            expected: issuer.audience.clone(),
        },
        ErrorKind::MissingRequiredClaim(name) => missing(name),
        _ => return TokenError::Signature,
    };
    // The signature is right, so these are the issuer's claims: our own checks say more exactly
    // what is wrong with them. Whatever they say, the token is refused.
    check_claims(issuer, parts.claims, token, now)
        .err()
        .unwrap_or(unnamed)
}

fn check_claims(
    issuer: &IssuerRow,
    claims: Map<String, Value>,
    token: &str,
    now: i64,
) -> Result<VerifiedToken, TokenError> {
    if claims.get("iss").and_then(Value::as_str) != Some(issuer.issuer.as_str()) {
        return Err(TokenError::Issuer);
    }
    let words = OwnWords::of(&claims, now)?;
    if words.audience != issuer.audience {
        return Err(TokenError::Audience {
            expected: issuer.audience.clone(),
        });
    }
    let age = now.saturating_sub(words.issued);
    if age > i64::from(issuer.max_token_age_s) {
        return Err(TokenError::TooOld {
            age,
            max: issuer.max_token_age_s,
        });
    }
    let (signed, _) = token
        .rsplit_once('.')
        .ok_or(TokenError::Parts(PartsError::NotAJwt))?;
    Ok(VerifiedToken {
        subject: words.subject.to_owned(),
        expires: words.expires,
        jti: words.jti.map(str::to_owned),
        mfa: shows_mfa(issuer, &claims),
        claims,
        sha256: Sha256::digest(signed.as_bytes()).into(),
    })
}

/// The claims every token must have, each what it must be, the times right by our clock.
struct OwnWords<'a> {
    audience: &'a str,
    subject: &'a str,
    jti: Option<&'a str>,
    issued: i64,
    expires: i64,
}

impl<'a> OwnWords<'a> {
    fn of(claims: &'a Map<String, Value>, now: i64) -> Result<Self, TokenError> {
        let audience = audience(claims)?;
        let expires = time(claims, "exp")?.ok_or(TokenError::Missing("exp"))?;
        let issued = time(claims, "iat")?.ok_or(TokenError::Missing("iat"))?;
        if now >= expires.saturating_add(SKEW_S) {
            return Err(TokenError::Expired {
                ago: now.saturating_sub(expires),
            });
        }
        if let Some(nbf) = time(claims, "nbf")?
            && nbf > now.saturating_add(SKEW_S)
        {
            return Err(TokenError::NotYet {
                ahead: nbf.saturating_sub(now),
            });
        }
        if issued > now.saturating_add(SKEW_S) {
            return Err(TokenError::FromTheFuture {
                ahead: issued.saturating_sub(now),
            });
        }
        let subject = match claims.get("sub") {
            None => return Err(TokenError::Missing("sub")),
            Some(Value::String(s)) if (1..=MAX_SUBJECT).contains(&s.len()) => s.as_str(),
            Some(_) => return Err(TokenError::BadClaim("sub")),
        };
        let jti = match claims.get("jti") {
            None => None,
            Some(Value::String(s)) => Some(s.as_str()),
            Some(_) => return Err(TokenError::BadClaim("jti")),
        };
        Ok(Self {
            audience,
            subject,
            jti,
            issued,
            expires,
        })
    }
}

fn audience(claims: &Map<String, Value>) -> Result<&str, TokenError> {
    match claims.get("aud") {
        None => Err(TokenError::Missing("aud")),
        Some(Value::String(s)) => Ok(s),
        Some(Value::Array(all)) => match all.as_slice() {
            [Value::String(s)] => Ok(s),
            [] => Err(TokenError::Missing("aud")),
            [_] => Err(TokenError::BadClaim("aud")),
            _ => Err(TokenError::SeveralAudiences),
        },
        Some(_) => Err(TokenError::BadClaim("aud")),
    }
}

/// A NumericDate (RFC 7519 §2), rounded down; numbers beyond the year 9999 are no dates.
fn time(claims: &Map<String, Value>, name: &'static str) -> Result<Option<i64>, TokenError> {
    let bad = TokenError::BadClaim(name);
    let seconds = match claims.get(name) {
        None => return Ok(None),
        Some(Value::Number(n)) => match (n.as_i64(), n.as_f64()) {
            (Some(i), _) => i,
            #[allow(clippy::cast_possible_truncation)]
            (None, Some(f)) if (0.0..253_402_300_800.0).contains(&f) => f.floor() as i64,
            _ => return Err(bad),
        },
        Some(_) => return Err(bad),
    };
    if (0..253_402_300_800).contains(&seconds) {
        Ok(Some(seconds))
    } else {
        Err(bad)
    }
}

fn shows_mfa(issuer: &IssuerRow, claims: &Map<String, Value>) -> bool {
    let amr = claims
        .get("amr")
        .and_then(Value::as_array)
        .is_some_and(|all| {
            all.iter()
                .filter_map(Value::as_str)
                .any(|m| issuer.mfa_amr.iter().any(|w| w == m))
        });
    let acr = claims
        .get("acr")
        .and_then(Value::as_str)
        .is_some_and(|a| issuer.mfa_acr.iter().any(|w| w == a));
    amr || acr
}

#[cfg(test)]
mod tests;
