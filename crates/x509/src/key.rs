//! A subscriber's public key.
//!
//! There is exactly one encoding of each key in this service: the `SubjectPublicKeyInfo` that
//! [`PublicKey`] writes. The log, the statement to the CA and the database all speak of its
//! SHA-256, so a second encoding of the same key would be a second name for it. Hence
//! [`PublicKey::from_spki_der`] accepts the canonical bytes only, while the two constructors for
//! what HSMs return ([`PublicKey::from_rsa_parts`], [`PublicKey::from_ec_point`]) are lenient about
//! the form and strict about the value.
//!
//! The values are judged by the key types of `p256`, `p384` and `rsa`, and written anew from them.
//! No private key is ever made of these types, and signatures are verified by aws-lc-rs: the RSA
//! timing fault RUSTSEC-2023-0071 concerns private keys alone.

use crate::asn1::{self, Asn1Error, BIT_STRING, Cursor, OCTET_STRING, Problem, SEQUENCE};
use crate::verify::{AnyPublicKey, Mechanism, Padding};
use crate::{hash, oid};
use countersign_core::{Digest, HashAlgorithm, KeyAlgorithm, SignatureScheme};
use der::asn1::ObjectIdentifier;
use p256::elliptic_curve::sec1::ToSec1Point as _;
use rsa::traits::PublicKeyParts as _;
use rsa::{BoxedUint, RsaPublicKey};
use std::fmt;

/// A public key of one of the four kinds a subscriber may have, validated.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    algorithm: KeyAlgorithm,
    spki: Vec<u8>,
    parts: Parts,
}

/// The numbers of a public key.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Parts {
    /// Uncompressed point (SEC 1 §2.3.3).
    Ec(Vec<u8>),
    /// Modulus and exponent, big-endian, no leading zeros.
    Rsa { n: Vec<u8>, e: Vec<u8> },
}

/// A public key that is not acceptable. Retrying with the same key cannot help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not the DER of a `SubjectPublicKeyInfo`.
    #[error("public key: {0}")]
    Asn1(#[from] Asn1Error),
    /// Neither RSA nor ECDSA (CSBR §6.1.5.2 allows no other here).
    #[error("public key algorithm {0} is not one this service knows")]
    UnknownAlgorithm(ObjectIdentifier),
    /// A curve other than P-256 and P-384.
    #[error("curve {0} is not one this service knows")]
    UnknownCurve(ObjectIdentifier),
    /// The bytes decode, but are not the one canonical encoding of the key.
    #[error("public key is not in its canonical encoding")]
    NotCanonical,
    /// Not a point on the curve (SP 800-56A §5.6.2.3.3), or not an uncompressed one.
    #[error("{0}: not an uncompressed point on the curve")]
    PointNotOnCurve(KeyAlgorithm),
    /// An RSA modulus whose length is neither 3072 nor 4096 bits (CSBR §6.1.5.2).
    #[error("RSA modulus has {bits} bits: this service knows 3072 and 4096")]
    ModulusSize {
        /// Its length.
        bits: usize,
    },
    /// An even RSA modulus (CSBR §6.1.6).
    #[error("RSA modulus is even")]
    ModulusEven,
    /// An RSA exponent that is even or below 3 (CSBR §6.1.6), or above 2^33−1: no library that this
    /// service uses works with larger ones, since each verification would cost its verifier dear.
    #[error("RSA exponent is even, below 3 or above 2^33-1")]
    Exponent,
    /// [`PublicKey::from_ec_point`] was called for an RSA key.
    #[error("{0} is not an elliptic-curve algorithm")]
    NotEc(KeyAlgorithm),
}

/// A signature that does not verify, or whose scheme does not fit the key. Retrying cannot help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not verify with this public key")]
pub struct SignatureInvalid;

impl PublicKey {
    /// Reads the canonical `SubjectPublicKeyInfo` (RFC 5280 §4.1.2.7, RFC 5480, RFC 8017).
    ///
    /// # Errors
    /// [`KeyError`], for any other kind, size, form or value of key.
    pub fn from_spki_der(spki: &[u8]) -> Result<Self, KeyError> {
        let key = match AnyPublicKey::parts_of(spki)? {
            SpkiParts::Rsa { n, e } => Self::from_rsa_parts(n, e)?,
            SpkiParts::Ec { curve, point } => {
                let algorithm = match curve {
                    oid::P256 => KeyAlgorithm::EcP256,
                    oid::P384 => KeyAlgorithm::EcP384,
                    other => return Err(KeyError::UnknownCurve(other)),
                };
                Self::from_raw_point(algorithm, point)?
            }
        };
        if key.spki == spki {
            Ok(key)
        } else {
            Err(KeyError::NotCanonical)
        }
    }

    /// From `CKA_MODULUS` and `CKA_PUBLIC_EXPONENT` (big-endian; leading zeros are allowed,
    /// PKCS#11 §2.1 calls both "Big integer").
    ///
    /// # Errors
    /// [`KeyError::ModulusSize`], [`KeyError::ModulusEven`], [`KeyError::Exponent`].
    pub fn from_rsa_parts(n: &[u8], e: &[u8]) -> Result<Self, KeyError> {
        let (n, e) = (asn1::strip_zeros(n), asn1::strip_zeros(e));
        let bits = bit_length(n);
        let algorithm = match bits {
            3072 => KeyAlgorithm::Rsa3072,
            4096 => KeyAlgorithm::Rsa4096,
            bits => return Err(KeyError::ModulusSize { bits }),
        };
        let modulus = uint(n).ok_or(KeyError::ModulusSize { bits })?;
        // What is longer than a word is above the bound, and larger foreign numbers are not made.
        let exponent = Some(e).filter(|e| e.len() <= 8).and_then(uint);
        let exponent = exponent.ok_or(KeyError::Exponent)?;
        let key = RsaPublicKey::new_with_size_limits(modulus, exponent, bits..=bits).map_err(
            |e| match e {
                rsa::Error::InvalidModulus => KeyError::ModulusEven,
                rsa::Error::ModulusTooSmall | rsa::Error::ModulusTooLarge => {
                    KeyError::ModulusSize { bits }
                }
                _ => KeyError::Exponent,
            },
        )?;
        let (n, e) = (key.n_bytes().into_vec(), key.e_bytes().into_vec());
        Ok(Self {
            algorithm,
            spki: rsa_spki(&n, &e),
            parts: Parts::Rsa { n, e },
        })
    }

    /// From `CKA_EC_POINT`: the uncompressed point, wrapped in a DER OCTET STRING as PKCS#11
    /// §2.3.3 wants it, or raw as some modules return it. Which one is told by the length.
    ///
    /// # Errors
    /// [`KeyError::NotEc`], [`KeyError::PointNotOnCurve`].
    pub fn from_ec_point(curve: KeyAlgorithm, point: &[u8]) -> Result<Self, KeyError> {
        let raw_len = match curve {
            KeyAlgorithm::EcP256 => 65,
            KeyAlgorithm::EcP384 => 97,
            other => return Err(KeyError::NotEc(other)),
        };
        if point.len() == raw_len {
            return Self::from_raw_point(curve, point);
        }
        let wrapped = Cursor::single(point, OCTET_STRING, "CKA_EC_POINT")
            .map_err(|_| KeyError::PointNotOnCurve(curve))?;
        Self::from_raw_point(curve, wrapped.value)
    }

    fn from_raw_point(curve: KeyAlgorithm, point: &[u8]) -> Result<Self, KeyError> {
        // Full public key validation (SP 800-56A §5.6.2.3.3; the cofactor of both curves is 1).
        let (named, written) = match curve {
            KeyAlgorithm::EcP256 => (
                oid::P256,
                p256::PublicKey::from_sec1_bytes(point)
                    .map(|k| k.to_sec1_point(false).as_bytes().to_vec()),
            ),
            KeyAlgorithm::EcP384 => (
                oid::P384,
                p384::PublicKey::from_sec1_bytes(point)
                    .map(|k| k.to_sec1_point(false).as_bytes().to_vec()),
            ),
            other => return Err(KeyError::NotEc(other)),
        };
        // Compressed and hybrid forms (SEC 1 §2.3.3) would be second encodings.
        let point = written
            .ok()
            .filter(|written| written == point)
            .ok_or(KeyError::PointNotOnCurve(curve))?;
        let algorithm = asn1::sequence(&[&asn1::oid(&oid::EC_PUBLIC_KEY), &asn1::oid(&named)]);
        Ok(Self {
            algorithm: curve,
            spki: asn1::sequence(&[&algorithm, &asn1::bit_string(&point)]),
            parts: Parts::Ec(point),
        })
    }

    /// Which of the four kinds.
    #[must_use]
    pub const fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// The canonical `SubjectPublicKeyInfo`.
    #[must_use]
    pub fn spki_der(&self) -> &[u8] {
        &self.spki
    }

    /// SHA-256 of [`PublicKey::spki_der`]: the name of this key in logs and statements.
    #[must_use]
    pub fn spki_sha256(&self) -> [u8; 32] {
        hash::sha256(&self.spki)
    }

    /// RFC 5280 §4.2.1.2 method (1): SHA-1 of the BIT STRING's content.
    #[must_use]
    pub fn key_identifier(&self) -> [u8; 20] {
        match &self.parts {
            Parts::Ec(point) => hash::sha1(point),
            Parts::Rsa { n, e } => hash::sha1(&rsa_public_key(n, e)),
        }
    }

    /// The PEM block `PUBLIC KEY`.
    #[must_use]
    pub fn to_pem(&self) -> String {
        crate::pem::encode("PUBLIC KEY", &self.spki)
    }

    /// Whether `signature` over `digest` was made by this key with `scheme`. ECDSA signatures are
    /// DER `ECDSA-Sig-Value`.
    ///
    /// # Errors
    /// [`SignatureInvalid`], also if the scheme does not fit the key or the digest.
    pub fn verify_digest(
        &self,
        scheme: SignatureScheme,
        digest: &Digest,
        signature: &[u8],
    ) -> Result<(), SignatureInvalid> {
        if scheme.hash() != digest.algorithm() {
            return Err(SignatureInvalid);
        }
        self.any()
            .verify_digest(Mechanism::from(scheme), digest, signature)
            .map_err(|_| SignatureInvalid)
    }

    /// As [`PublicKey::verify_digest`], hashing `message` first.
    ///
    /// # Errors
    /// [`SignatureInvalid`].
    pub fn verify_message(
        &self,
        scheme: SignatureScheme,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), SignatureInvalid> {
        self.verify_digest(scheme, &hash::digest(scheme.hash(), message), signature)
    }

    pub(crate) const fn parts(&self) -> &Parts {
        &self.parts
    }

    fn any(&self) -> AnyPublicKey {
        match (&self.parts, self.algorithm) {
            (Parts::Rsa { n, e }, _) => AnyPublicKey::Rsa(rsa_public_key(n, e)),
            (Parts::Ec(point), KeyAlgorithm::EcP384) => AnyPublicKey::P384(point.clone()),
            (Parts::Ec(point), _) => AnyPublicKey::P256(point.clone()),
        }
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "PublicKey({}, {})",
            self.algorithm,
            hex::encode(self.spki_sha256())
        )
    }
}

/// The `AlgorithmIdentifier` of a signature by a subscriber's key in certificates and requests
/// (RFC 4055 §5: RSA with NULL parameters; RFC 5758 §3.2: ECDSA with none).
#[must_use]
pub fn signature_algorithm_der(scheme: SignatureScheme) -> Vec<u8> {
    match scheme {
        SignatureScheme::RsaPkcs1(h) => {
            let id = match h {
                HashAlgorithm::Sha256 => oid::SHA256_WITH_RSA,
                HashAlgorithm::Sha384 => oid::SHA384_WITH_RSA,
                HashAlgorithm::Sha512 => oid::SHA512_WITH_RSA,
            };
            asn1::sequence(&[&asn1::oid(&id), &asn1::null()])
        }
        SignatureScheme::Ecdsa(h) => {
            let id = match h {
                HashAlgorithm::Sha256 => oid::ECDSA_SHA256,
                HashAlgorithm::Sha384 => oid::ECDSA_SHA384,
                HashAlgorithm::Sha512 => oid::ECDSA_SHA512,
            };
            asn1::sequence(&[&asn1::oid(&id)])
        }
    }
}

/// The scheme of an `AlgorithmIdentifier`, if it is one of ours.
#[must_use]
pub fn scheme_of(algorithm_der: &[u8]) -> Option<SignatureScheme> {
    let m = Mechanism::from_der(algorithm_der).ok()?;
    match m.padding {
        Padding::Pkcs1 => Some(SignatureScheme::RsaPkcs1(m.hash)),
        Padding::Ecdsa => Some(SignatureScheme::Ecdsa(m.hash)),
        Padding::Pss => None,
    }
}

/// Turns the raw `r ‖ s` of PKCS#11's `CKM_ECDSA` into a DER `ECDSA-Sig-Value`.
///
/// # Errors
/// [`SignatureInvalid`] if the two halves are empty, unequal, longer than 66 bytes or zero.
pub fn ecdsa_raw_to_der(raw: &[u8]) -> Result<Vec<u8>, SignatureInvalid> {
    let half = raw.len() / 2;
    if raw.is_empty() || !raw.len().is_multiple_of(2) || half > 66 {
        return Err(SignatureInvalid);
    }
    let (r, s) = raw.split_at(half);
    if asn1::strip_zeros(r).is_empty() || asn1::strip_zeros(s).is_empty() {
        return Err(SignatureInvalid);
    }
    Ok(asn1::sequence(&[&asn1::unsigned(r), &asn1::unsigned(s)]))
}

/// What stands in a `SubjectPublicKeyInfo`, before any judgement of the numbers.
pub(crate) enum SpkiParts<'a> {
    Rsa {
        n: &'a [u8],
        e: &'a [u8],
    },
    Ec {
        curve: ObjectIdentifier,
        point: &'a [u8],
    },
}

impl AnyPublicKey {
    pub(crate) fn parts_of(spki: &[u8]) -> Result<SpkiParts<'_>, KeyError> {
        const F: &str = "subjectPublicKeyInfo";
        if spki.len() > MAX_SPKI {
            return Err(Asn1Error::new(F, Problem::TooLarge).into());
        }
        let mut c = Cursor::new(Cursor::single(spki, SEQUENCE, F)?.value);
        let mut algorithm = c.enter(SEQUENCE, "subjectPublicKeyInfo.algorithm")?;
        let id = algorithm.oid("subjectPublicKeyInfo.algorithm")?;
        let key = c.bit_string("subjectPublicKey")?;
        c.finish(F)?;
        match id {
            oid::RSA_ENCRYPTION => {
                // RFC 4055 §1.2: the parameters MUST be NULL.
                let p = algorithm.expect(asn1::NULL, "rsaEncryption parameters")?;
                algorithm.finish("rsaEncryption parameters")?;
                if !p.value.is_empty() {
                    return Err(Asn1Error::new("rsaEncryption parameters", Problem::Value).into());
                }
                let mut k = Cursor::new(Cursor::single(key, SEQUENCE, "RSAPublicKey")?.value);
                let n = k.positive_integer("modulus")?;
                let e = k.positive_integer("publicExponent")?;
                k.finish("RSAPublicKey")?;
                Ok(SpkiParts::Rsa { n, e })
            }
            oid::EC_PUBLIC_KEY => {
                // RFC 5480 §2.1.1: namedCurve only.
                let curve = algorithm.oid("namedCurve")?;
                algorithm.finish("namedCurve")?;
                Ok(SpkiParts::Ec { curve, point: key })
            }
            other => Err(KeyError::UnknownAlgorithm(other)),
        }
    }
}

/// A big-endian number.
fn uint(bytes: &[u8]) -> Option<BoxedUint> {
    let bits = u32::try_from(bytes.len()).ok()?.checked_mul(8)?;
    BoxedUint::from_be_slice(bytes, bits).ok()
}

/// `RSAPublicKey` (RFC 8017 §A.1.1).
pub(crate) fn rsa_public_key(n: &[u8], e: &[u8]) -> Vec<u8> {
    asn1::sequence(&[&asn1::unsigned(n), &asn1::unsigned(e)])
}

pub(crate) fn rsa_spki(n: &[u8], e: &[u8]) -> Vec<u8> {
    let algorithm = asn1::sequence(&[&asn1::oid(&oid::RSA_ENCRYPTION), &asn1::null()]);
    asn1::sequence(&[&algorithm, &asn1::bit_string(&rsa_public_key(n, e))])
}

/// Bits of a big-endian number without leading zero octets.
pub(crate) fn bit_length(n: &[u8]) -> usize {
    n.first().map_or(0, |first| {
        n.len() * 8 - usize::try_from(first.leading_zeros()).unwrap_or(0)
    })
}

/// The content of the BIT STRING of any `SubjectPublicKeyInfo`, for key identifiers.
pub(crate) fn subject_public_key(spki: &[u8]) -> Result<&[u8], Asn1Error> {
    let mut c = Cursor::new(Cursor::single(spki, SEQUENCE, "subjectPublicKeyInfo")?.value);
    c.expect(SEQUENCE, "subjectPublicKeyInfo.algorithm")?;
    match c.expect(BIT_STRING, "subjectPublicKey")?.value {
        [_, rest @ ..] => Ok(rest),
        [] => Err(Asn1Error::new("subjectPublicKey", Problem::Value)),
    }
}

/// RSA-8192 needs a little over one KiB.
const MAX_SPKI: usize = 4096;

#[cfg(test)]
mod tests;
