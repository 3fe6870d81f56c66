//! JSON Web Signatures in compact form (RFC 7515) and the public keys that verify them (RFC 7517).
//!
//! Verification is aws-lc's; this file decides only *which* algorithm may be used with which key
//! (RFC 8725 §3.1): the key's type says what is allowed, the header chooses among that. `none` and
//! the HMAC family are not in the list at all, so no key can be mistaken for a secret.

use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{self, EcdsaVerificationAlgorithm, RsaParameters, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value};

/// Longest token read at all.
pub const MAX_TOKEN: usize = 16 * 1024;

/// A signature algorithm of RFC 7518 / RFC 8037 that is accepted somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alg {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// … with SHA-384.
    Rs384,
    /// … with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// … with SHA-384.
    Ps384,
    /// … with SHA-512.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
}

impl Alg {
    /// By the name in the header; `None` for everything not accepted.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Self::Rs256,
            "RS384" => Self::Rs384,
            "RS512" => Self::Rs512,
            "PS256" => Self::Ps256,
            "PS384" => Self::Ps384,
            "PS512" => Self::Ps512,
            "ES256" => Self::Es256,
            "ES384" => Self::Es384,
            "EdDSA" => Self::EdDsa,
            _ => return None,
        })
    }
}

/// The header members that matter. `jku`, `x5u`, `jwk` and `x5c` are not read (RFC 8725 §3.10).
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

/// A token taken apart, not verified.
#[derive(Debug)]
pub struct Parts<'a> {
    /// Header.
    pub header: Header,
    /// Claims. Believe nothing of it before [`PublicKey::verify`].
    pub claims: Map<String, Value>,
    signed: &'a str,
    signature: Vec<u8>,
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

impl<'a> Parts<'a> {
    /// Takes a compact JWS apart (RFC 7515 §5.2 steps 1 to 7).
    ///
    /// # Errors
    /// [`PartsError`]; a retry cannot help.
    pub fn parse(token: &'a str) -> Result<Self, PartsError> {
        if token.len() > MAX_TOKEN {
            return Err(PartsError::TooLong);
        }
        let bad = PartsError::NotAJwt;
        let (signed, signature) = token.rsplit_once('.').ok_or(bad)?;
        let (header, claims) = signed.split_once('.').ok_or(bad)?;
        if claims.contains('.') {
            return Err(bad);
        }
        let decode = |s: &str| URL_SAFE_NO_PAD.decode(s).map_err(|_| bad);
        Ok(Self {
            header: serde_json::from_slice(&decode(header)?).map_err(|_| bad)?,
            claims: serde_json::from_slice(&decode(claims)?).map_err(|_| bad)?,
            signed,
            signature: decode(signature)?,
        })
    }

    /// Whether `key` made the signature by `alg`. `false` also if the key cannot do `alg`.
    #[must_use]
    pub fn verified_by(&self, key: &PublicKey, alg: Alg) -> bool {
        key.verify(alg, self.signed.as_bytes(), &self.signature)
    }
}

/// A public key of an issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    material: Material,
    /// The key's own `alg`, where it has one: then nothing else is accepted.
    only: Option<Alg>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Material {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

impl PublicKey {
    /// An Ed25519 key.
    #[must_use]
    pub fn ed25519(public: [u8; 32]) -> Self {
        Self {
            material: Material::Ed25519(public.to_vec()),
            only: Some(Alg::EdDsa),
        }
    }

    /// Reads one member of a JWK set: its key id and key; `None` for keys without an id, for other
    /// uses, of other types or sizes. An issuer may publish such; they are no error.
    #[must_use]
    pub fn from_jwk(jwk: &Value) -> Option<(String, Self)> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        let bytes = |name: &str| text(name).and_then(|s| URL_SAFE_NO_PAD.decode(s).ok());
        let kid = text("kid").filter(|k| (1..=256).contains(&k.len()))?;
        if jwk.get("use").is_some() && text("use") != Some("sig") {
            return None;
        }
        if let Some(ops) = jwk.get("key_ops")
            && !ops
                .as_array()
                .is_some_and(|a| a.iter().any(|o| o.as_str() == Some("verify")))
        {
            return None;
        }
        let material = match (text("kty")?, text("crv")) {
            ("RSA", _) => Material::Rsa {
                n: bytes("n").filter(|n| (256..=1024).contains(&n.len()))?,
                e: bytes("e").filter(|e| (1..=8).contains(&e.len()))?,
            },
            ("EC", Some("P-256")) => Material::P256(point(bytes("x")?, bytes("y")?, 32)?),
            ("EC", Some("P-384")) => Material::P384(point(bytes("x")?, bytes("y")?, 48)?),
            ("OKP", Some("Ed25519")) => Material::Ed25519(bytes("x").filter(|x| x.len() == 32)?),
            _ => return None,
        };
        let only = match jwk.get("alg") {
            None => None,
            Some(_) => Some(text("alg").and_then(Alg::parse)?),
        };
        Some((kid.to_owned(), Self { material, only }))
    }

    /// Whether this key may be used with `alg` (RFC 8725 §3.1).
    #[must_use]
    pub fn allows(&self, alg: Alg) -> bool {
        let fits = match self.material {
            Material::Rsa { .. } => matches!(
                alg,
                Alg::Rs256 | Alg::Rs384 | Alg::Rs512 | Alg::Ps256 | Alg::Ps384 | Alg::Ps512
            ),
            Material::P256(_) => alg == Alg::Es256,
            Material::P384(_) => alg == Alg::Es384,
            Material::Ed25519(_) => alg == Alg::EdDsa,
        };
        fits && self.only.is_none_or(|only| only == alg)
    }

    /// Verifies a signature; `false` also where the key does not allow `alg`.
    #[must_use]
    pub fn verify(&self, alg: Alg, message: &[u8], signature: &[u8]) -> bool {
        if !self.allows(alg) {
            return false;
        }
        match &self.material {
            Material::Rsa { n, e } => {
                let Some(parameters) = rsa_parameters(alg) else {
                    return false;
                };
                PublicKeyComponents { n, e }
                    .verify(parameters, message, signature)
                    .is_ok()
            }
            Material::P256(p) => ecdsa(&signature::ECDSA_P256_SHA256_FIXED, p, message, signature),
            Material::P384(p) => ecdsa(&signature::ECDSA_P384_SHA384_FIXED, p, message, signature),
            Material::Ed25519(p) => UnparsedPublicKey::new(&signature::ED25519, p)
                .verify(message, signature)
                .is_ok(),
        }
    }
}

fn point(x: Vec<u8>, y: Vec<u8>, len: usize) -> Option<Vec<u8>> {
    (x.len() == len && y.len() == len).then(|| [vec![4], x, y].concat())
}

const fn rsa_parameters(alg: Alg) -> Option<&'static RsaParameters> {
    Some(match alg {
        Alg::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        Alg::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        Alg::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        Alg::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
        Alg::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
        Alg::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
        Alg::Es256 | Alg::Es384 | Alg::EdDsa => return None,
    })
}

fn ecdsa(
    algorithm: &'static EcdsaVerificationAlgorithm,
    point: &[u8],
    message: &[u8],
    signature: &[u8],
) -> bool {
    UnparsedPublicKey::new(algorithm, point)
        .verify(message, signature)
        .is_ok()
}
