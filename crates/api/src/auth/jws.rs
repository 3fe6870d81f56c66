//! JSON Web Signatures in compact form (RFC 7515) and the public keys that verify them (RFC 7517).
//!
//! Signatures and claims are `jsonwebtoken`'s. This file looks at a header before any key is known
//! (which issuer, which key id), and says *which* algorithms each key may be used with (RFC 8725
//! §3.1): the key's type decides, never the header. `none` and the HMAC family are in no list, so
//! no public key can be mistaken for a secret.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde_json::{Map, Value};

/// Longest token read at all.
pub const MAX_TOKEN: usize = 16 * 1024;

/// What RSA keys may do (RFC 7518 §3.3, §3.5).
const RSA: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];
/// What P-256 keys may do (RFC 7518 §3.4: the curve names the hash).
const P256: &[Algorithm] = &[Algorithm::ES256];
/// What P-384 keys may do.
const P384: &[Algorithm] = &[Algorithm::ES384];
/// What Ed25519 keys may do (RFC 8037 §3.1).
const ED25519: &[Algorithm] = &[Algorithm::EdDSA];

/// The header members that matter. `jku`, `x5u`, `jwk` and `x5c` are not used (RFC 8725 §3.10).
///
/// The library's own header type has no room for algorithms that it does not know, and so could not
/// name the one that is refused.
#[derive(Debug, Clone, Deserialize)]
pub struct Header {
    /// Algorithm, as written.
    pub alg: String,
    /// Key id.
    #[serde(default)]
    pub kid: Option<String>,
    /// Type.
    #[serde(default)]
    pub typ: Option<String>,
    /// Critical extensions: none is understood here.
    #[serde(default)]
    pub crit: Option<Value>,
}

impl Header {
    /// Whether `alg` is accepted with any key at all: what is not makes nobody look for one.
    #[must_use]
    pub fn algorithm_is_known(&self) -> bool {
        self.alg.parse().is_ok_and(|alg| {
            [RSA, P256, P384, ED25519]
                .iter()
                .any(|of_a_key| of_a_key.contains(&alg))
        })
    }
}

/// A token taken apart, not verified.
#[derive(Debug)]
pub struct Parts {
    /// Header.
    pub header: Header,
    /// Claims. Believe nothing of it before the signature is verified.
    pub claims: Map<String, Value>,
}

/// Why a token cannot be taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PartsError {
    /// Longer than [`MAX_TOKEN`].
    #[error("longer than {MAX_TOKEN} bytes")]
    TooLong,
    /// Not three base64url parts of JSON.
    #[error("not a signed JSON Web Token")]
    NotAJwt,
}

impl Parts {
    /// Takes a compact JWS apart (RFC 7515 §5.2 steps 1 to 7).
    ///
    /// # Errors
    /// [`PartsError`]; a retry cannot help.
    pub fn parse(token: &str) -> Result<Self, PartsError> {
        if token.len() > MAX_TOKEN {
            return Err(PartsError::TooLong);
        }
        let bad = PartsError::NotAJwt;
        let (signed, signature) = token.rsplit_once('.').ok_or(bad)?;
        let (header, claims) = signed.split_once('.').ok_or(bad)?;
        let decode = |s: &str| URL_SAFE_NO_PAD.decode(s).map_err(|_| bad);
        decode(signature)?;
        Ok(Self {
            header: serde_json::from_slice(&decode(header)?).map_err(|_| bad)?,
            claims: serde_json::from_slice(&decode(claims)?).map_err(|_| bad)?,
        })
    }
}

/// A public key of an issuer, and what it may be used with.
#[derive(Debug, Clone)]
pub struct PublicKey {
    key: DecodingKey,
    /// By the key's type; where the key has an `alg` of its own, that alone.
    algorithms: Vec<Algorithm>,
}

impl PublicKey {
    /// An Ed25519 key.
    #[must_use]
    pub fn ed25519(public: [u8; 32]) -> Self {
        Self {
            // "DER" in the library's name is the raw key of RFC 8032 for this family.
            key: DecodingKey::from_ed_der(&public),
            algorithms: ED25519.to_vec(),
        }
    }

    /// Reads one member of a JWK set: its key id and key; `None` for keys without an id, for other
    /// uses, of other types or sizes. An issuer may publish such; they are no error.
    #[must_use]
    pub fn from_jwk(jwk: &Value) -> Option<(String, Self)> {
        let jwk = Jwk::deserialize(jwk).ok()?;
        let common = &jwk.common;
        let kid = common
            .key_id
            .clone()
            .filter(|k| (1..=256).contains(&k.len()))?;
        if common
            .public_key_use
            .as_ref()
            .is_some_and(|u| *u != PublicKeyUse::Signature)
        {
            return None;
        }
        if common
            .key_operations
            .as_ref()
            .is_some_and(|ops| !ops.contains(&KeyOperations::Verify))
        {
            return None;
        }
        // The library checks no length: two coordinates of 31 and 33 octets would pass as a point.
        let long = |text: &str| URL_SAFE_NO_PAD.decode(text).ok().map(|b| b.len());
        let (fits, algorithms) = match &jwk.algorithm {
            AlgorithmParameters::RSA(k) => (
                long(&k.n).is_some_and(|n| (256..=1024).contains(&n))
                    && long(&k.e).is_some_and(|e| (1..=8).contains(&e)),
                RSA,
            ),
            AlgorithmParameters::EllipticCurve(k) => {
                let (length, algorithms) = match k.curve {
                    EllipticCurve::P256 => (32, P256),
                    EllipticCurve::P384 => (48, P384),
                    _ => return None,
                };
                let fits = [&k.x, &k.y].into_iter().all(|c| long(c) == Some(length));
                (fits, algorithms)
            }
            AlgorithmParameters::OctetKeyPair(k) => (
                k.curve == EllipticCurve::Ed25519 && long(&k.x) == Some(32),
                ED25519,
            ),
            _ => return None,
        };
        if !fits {
            return None;
        }
        let algorithms = match common.key_algorithm {
            None => algorithms.to_vec(),
            Some(only) => {
                let only = Algorithm::try_from(only).ok()?;
                algorithms.iter().copied().filter(|a| *a == only).collect()
            }
        };
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        Some((kid, Self { key, algorithms }))
    }

    /// The library's key.
    #[must_use]
    pub const fn decoding(&self) -> &DecodingKey {
        &self.key
    }

    /// Whether this key may be used with `alg` (RFC 8725 §3.1).
    #[must_use]
    pub fn allows(&self, alg: Algorithm) -> bool {
        self.algorithms.contains(&alg)
    }

    /// What a token must be to be verified with this key: one of the key's algorithms, and all of
    /// `exp`, `iss`, `aud` and `sub`, of this issuer and for this audience.
    #[must_use]
    pub fn validation(&self, issuer: &str, audience: &str, leeway: u64) -> Validation {
        let mut v = Validation::default();
        v.algorithms.clone_from(&self.algorithms);
        v.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        v.set_issuer(&[issuer]);
        v.set_audience(&[audience]);
        v.leeway = leeway;
        // The library asks the system's clock, with no way to give it another. Whoever verifies
        // compares the times by the clock of the service, which is the one that also decides on
        // age, on replay and on what was kept in memory.
        v.validate_exp = false;
        v.validate_nbf = false;
        v
    }
}
