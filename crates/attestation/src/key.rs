//! Public keys by their material: what evidence and request are bound by.
//!
//! The same key can be written in several ways (RSA parameters NULL or absent, a wrapped or a bare
//! point). Keys are compared by what they are: modulus and exponent, curve and point, the 32 bytes
//! of Ed25519 (RFC 8032). Any size is read here; whether a CA may certify it is another question.

use crate::der::{DerError, Walker, expect, tag};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{self as lc, UnparsedPublicKey};
use spki::ObjectIdentifier;

const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// Largest RSA modulus read, in bytes.
const MAX_MODULUS: usize = 1024;
/// Largest RSA exponent read, in bytes (FIPS 186-5 §5.1: below 2^256).
const MAX_EXPONENT: usize = 32;

/// Why a public key cannot be read. Retrying cannot help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not the DER of a SubjectPublicKeyInfo.
    #[error("public key: {0}")]
    Der(#[from] DerError),
    /// A kind of key no format here attests.
    #[error("public key algorithm {0} is not known here")]
    Algorithm(String),
    /// A curve no format here attests.
    #[error("curve {0} is not known here")]
    Curve(String),
    /// Not a point of its curve.
    #[error("the public key is no uncompressed point of its curve")]
    Point,
    /// A modulus or exponent of impossible size.
    #[error("the RSA modulus or exponent has a size that is not read")]
    RsaSize,
}

/// A named curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Curve {
    /// NIST P-256.
    P256,
    /// NIST P-384.
    P384,
    /// NIST P-521.
    P521,
    /// secp256k1 (SEC 2).
    Secp256k1,
}

impl Curve {
    const ALL: [Self; 4] = [Self::P256, Self::P384, Self::P521, Self::Secp256k1];

    /// The curve's object identifier.
    #[must_use]
    pub const fn oid(self) -> ObjectIdentifier {
        match self {
            Self::P256 => ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7"),
            Self::P384 => ObjectIdentifier::new_unwrap("1.3.132.0.34"),
            Self::P521 => ObjectIdentifier::new_unwrap("1.3.132.0.35"),
            Self::Secp256k1 => ObjectIdentifier::new_unwrap("1.3.132.0.10"),
        }
    }

    /// Bytes of one coordinate.
    #[must_use]
    pub const fn coordinate(self) -> usize {
        match self {
            Self::P256 | Self::Secp256k1 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }

    /// Its usual name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::P521 => "P-521",
            Self::Secp256k1 => "secp256k1",
        }
    }

    /// Any verification algorithm of the curve; parsing a key under it proves the point is valid.
    fn any_algorithm(self) -> &'static lc::EcdsaVerificationAlgorithm {
        match self {
            Self::P256 => &lc::ECDSA_P256_SHA256_ASN1,
            Self::P384 => &lc::ECDSA_P384_SHA384_ASN1,
            Self::P521 => &lc::ECDSA_P521_SHA512_ASN1,
            Self::Secp256k1 => &lc::ECDSA_P256K1_SHA256_ASN1,
        }
    }
}

/// A public key's material. Equality is the binding of evidence to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublicKey {
    /// RSA, both numbers big-endian without leading zeros.
    Rsa {
        /// The modulus.
        n: Vec<u8>,
        /// The public exponent.
        e: Vec<u8>,
    },
    /// A point, uncompressed: `04 || x || y`, checked to be on its curve.
    Ec {
        /// The curve.
        curve: Curve,
        /// The point.
        point: Vec<u8>,
    },
    /// Ed25519.
    Ed25519([u8; 32]),
}

impl PublicKey {
    /// From the DER of a SubjectPublicKeyInfo. RSA parameters may be NULL or absent: devices write
    /// both.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn from_spki(der: &[u8]) -> Result<Self, KeyError> {
        const F: &str = "SubjectPublicKeyInfo";
        let mut w = expect(der, tag::SEQUENCE, F)?.walk();
        let mut algorithm = w.expect(tag::SEQUENCE, "algorithm")?.walk();
        let key = w
            .expect(tag::BIT_STRING, "subjectPublicKey")?
            .whole_bits("subjectPublicKey")?;
        w.finish(F)?;
        let oid = algorithm.next("algorithm")?.oid("algorithm")?;
        let known = if oid == RSA_ENCRYPTION {
            null_or_absent(&mut algorithm)?;
            Self::from_rsa_public_key(key)?
        } else if oid == EC_PUBLIC_KEY {
            let curve = algorithm.next("namedCurve")?.oid("namedCurve")?;
            let curve = Curve::ALL
                .into_iter()
                .find(|c| curve == c.oid())
                .ok_or_else(|| KeyError::Curve(curve.to_string()))?;
            Self::from_point(curve, key)?
        } else if oid == ED25519 {
            Self::Ed25519(<[u8; 32]>::try_from(key).map_err(|_| KeyError::Point)?)
        } else {
            return Err(KeyError::Algorithm(oid.to_string()));
        };
        algorithm.finish("algorithm")?;
        Ok(known)
    }

    /// From the DER of an `RSAPublicKey` (RFC 8017 §A.1.1).
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn from_rsa_public_key(der: &[u8]) -> Result<Self, KeyError> {
        let mut w = expect(der, tag::SEQUENCE, "RSAPublicKey")?.walk();
        let n = w.next("modulus")?.unsigned("modulus")?;
        let e = w.next("publicExponent")?.unsigned("publicExponent")?;
        w.finish("RSAPublicKey")?;
        Self::from_rsa_parts(n, e)
    }

    /// From modulus and exponent, big-endian; leading zeros are dropped.
    ///
    /// # Errors
    /// [`KeyError::RsaSize`].
    pub fn from_rsa_parts(n: &[u8], e: &[u8]) -> Result<Self, KeyError> {
        let (n, e) = (without_zeros(n), without_zeros(e));
        if !(64..=MAX_MODULUS).contains(&n.len()) || !(1..=MAX_EXPONENT).contains(&e.len()) {
            return Err(KeyError::RsaSize);
        }
        Ok(Self::Rsa {
            n: n.to_vec(),
            e: e.to_vec(),
        })
    }

    /// From an uncompressed point.
    ///
    /// # Errors
    /// [`KeyError::Point`] if it is compressed, of another length, or not on the curve.
    pub fn from_point(curve: Curve, point: &[u8]) -> Result<Self, KeyError> {
        if point.len() != 1 + 2 * curve.coordinate() || point.first() != Some(&4) {
            return Err(KeyError::Point);
        }
        // On the curve or not is aws-lc's to say.
        UnparsedPublicKey::new(curve.any_algorithm(), point)
            .parse()
            .map_err(|_| KeyError::Point)?;
        Ok(Self::Ec {
            curve,
            point: point.to_vec(),
        })
    }

    /// From two coordinates, big-endian, of any length up to the curve's.
    ///
    /// # Errors
    /// [`KeyError::Point`].
    pub fn from_coordinates(curve: Curve, x: &[u8], y: &[u8]) -> Result<Self, KeyError> {
        let mut point = vec![4];
        for c in [x, y] {
            let c = without_zeros(c);
            let pad = curve
                .coordinate()
                .checked_sub(c.len())
                .ok_or(KeyError::Point)?;
            point.resize(point.len() + pad, 0);
            point.extend(c);
        }
        Self::from_point(curve, &point)
    }

    /// The canonical SubjectPublicKeyInfo (RFC 3279 §2.3, RFC 5480, RFC 8410).
    #[must_use]
    pub fn to_spki(&self) -> Vec<u8> {
        let (algorithm, key) = match self {
            Self::Rsa { n, e } => {
                let key = wrap(tag::SEQUENCE, &[unsigned(n), unsigned(e)].concat());
                let null = vec![tag::NULL, 0];
                ([oid(RSA_ENCRYPTION), null].concat(), key)
            }
            Self::Ec { curve, point } => (
                [oid(EC_PUBLIC_KEY), oid(curve.oid())].concat(),
                point.clone(),
            ),
            Self::Ed25519(key) => (oid(ED25519), key.to_vec()),
        };
        let mut bits = vec![0];
        bits.extend(key);
        let body = [
            wrap(tag::SEQUENCE, &algorithm),
            wrap(tag::BIT_STRING, &bits),
        ]
        .concat();
        wrap(tag::SEQUENCE, &body)
    }

    /// SHA-256 of the canonical SubjectPublicKeyInfo.
    #[must_use]
    pub fn spki_sha256(&self) -> [u8; 32] {
        let mut out = [0; 32];
        out.copy_from_slice(digest(&SHA256, &self.to_spki()).as_ref());
        out
    }

    /// `RSA-2048`, `P-256`, `Ed25519`.
    #[must_use]
    pub fn kind(&self) -> String {
        match self {
            Self::Rsa { n, .. } => {
                let zeros = n.first().map_or(0, |b| b.leading_zeros());
                let bits = n.len() * 8 - usize::try_from(zeros).unwrap_or(0);
                format!("RSA-{bits}")
            }
            Self::Ec { curve, .. } => curve.as_str().to_owned(),
            Self::Ed25519(_) => "Ed25519".to_owned(),
        }
    }
}

/// RSA `AlgorithmIdentifier` parameters: NULL by RFC 3279 §2.3.1; some YubiKey certificates leave
/// them out.
pub(crate) fn null_or_absent(w: &mut Walker<'_>) -> Result<(), DerError> {
    if let Some(null) = w.optional(tag::NULL, "parameters")?
        && !null.content().is_empty()
    {
        return Err(DerError::value("parameters", "is a NULL with content"));
    }
    Ok(())
}

pub(crate) fn without_zeros(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|b| **b == 0).count();
    bytes.get(zeros..).unwrap_or_default()
}

/// A DER INTEGER of a big-endian number without leading zeros.
pub(crate) fn unsigned(n: &[u8]) -> Vec<u8> {
    let pad = n.first().is_none_or(|b| b & 0x80 != 0);
    let mut content = if pad { vec![0] } else { Vec::new() };
    content.extend(n);
    wrap(tag::INTEGER, &content)
}

fn oid(oid: ObjectIdentifier) -> Vec<u8> {
    wrap(tag::OID, oid.as_bytes())
}

/// One DER element.
pub(crate) fn wrap(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let length = content.len().to_be_bytes();
    let digits = without_zeros(&length);
    match (content.len(), u8::try_from(digits.len())) {
        (n @ 0..=0x7f, _) => out.extend(u8::try_from(n)),
        (_, Ok(count)) => {
            out.push(0x80 | count);
            out.extend(digits);
        }
        _ => {}
    }
    out.extend(content);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const P256: &str = "3059301306072a8648ce3d020106082a8648ce3d0301070342000460fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb67903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299";

    #[test]
    fn a_key_is_its_material_whatever_its_wrapping() {
        let der = hex::decode(P256).unwrap();
        let key = PublicKey::from_spki(&der).unwrap();
        assert_eq!(key.to_spki(), der);
        assert_eq!(key.kind(), "P-256");
        let (x, y) = der[27..].split_at(32);
        assert_eq!(PublicKey::from_coordinates(Curve::P256, x, y), Ok(key));
        let n = [0xc5; 256];
        let rsa = PublicKey::from_rsa_parts(&n, &[0, 1, 0, 1]).unwrap();
        let canonical = rsa.to_spki();
        assert_eq!(PublicKey::from_spki(&canonical), Ok(rsa.clone()));
        assert_eq!(rsa.kind(), "RSA-2048");
        // Without the NULL: another encoding of the same key.
        let inner = canonical[4 + 15..].to_vec();
        let absent = wrap(
            tag::SEQUENCE,
            &[wrap(tag::SEQUENCE, &oid(RSA_ENCRYPTION)), inner].concat(),
        );
        assert_ne!(absent, canonical);
        assert_eq!(PublicKey::from_spki(&absent), Ok(rsa));
    }

    #[test]
    fn what_is_no_key_is_refused_by_name() {
        let mut off_curve = hex::decode(P256).unwrap();
        *off_curve.last_mut().unwrap() ^= 1;
        assert_eq!(PublicKey::from_spki(&off_curve), Err(KeyError::Point));
        assert!(matches!(
            PublicKey::from_spki(&[0x30, 0x00]),
            Err(KeyError::Der(_))
        ));
        assert_eq!(
            PublicKey::from_rsa_parts(&[1; 2000], &[3]),
            Err(KeyError::RsaSize)
        );
        let der = hex::decode(P256).unwrap();
        for n in 0..der.len() {
            assert!(PublicKey::from_spki(&der[..n]).is_err(), "{n}");
        }
    }
}
