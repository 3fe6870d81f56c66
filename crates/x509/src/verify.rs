//! Signatures by keys that are not subscribers' keys: CAs and timestamp authorities.
//!
//! Their keys may be of kinds no subscriber may have here (RSA from 2048 bits, P-521), and their
//! signatures may use RSASSA-PSS. SHA-1 and MD5 are not known at all (CSBR §7.1.3.2).

use crate::asn1::{Asn1Error, Cursor, NULL, Problem, SEQUENCE, context};
use crate::key::{KeyError, SpkiParts, bit_length, rsa_public_key};
use crate::{hash, oid};
use aws_lc_rs::signature as lc;
use countersign_core::{Digest, HashAlgorithm, SignatureScheme};
use der::asn1::ObjectIdentifier;

/// A signature that does not verify, and why. Retrying cannot help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The `AlgorithmIdentifier` is malformed.
    #[error("signature algorithm: {0}")]
    Asn1(#[from] Asn1Error),
    /// The public key is malformed, too small or of an unknown kind.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A signature or hash algorithm this service does not accept (SHA-1 among them).
    #[error("signature algorithm {0} is not accepted")]
    UnknownAlgorithm(ObjectIdentifier),
    /// RSASSA-PSS with parameters other than one hash throughout and a salt of its length.
    #[error("RSASSA-PSS parameters are not the recommended ones")]
    PssParameters,
    /// An RSA signature algorithm with an EC key or the other way round.
    #[error("the signature algorithm does not fit the key")]
    AlgorithmMismatch,
    /// The signature is wrong.
    #[error("the signature does not verify")]
    Invalid,
}

/// Verifies `signature` over `message`, both algorithm and key given as DER.
///
/// # Errors
/// [`VerifyError`].
pub fn verify_signed(
    spki_der: &[u8],
    signature_algorithm_der: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), VerifyError> {
    let mechanism = Mechanism::from_der(signature_algorithm_der)?;
    AnyPublicKey::from_spki_der(spki_der)?.verify(mechanism, message, signature)
}

/// A public key of a kind whose signatures can be verified: RSA of 2048 to 8192 bits, P-256, P-384,
/// P-521.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnyPublicKey {
    /// The DER of an `RSAPublicKey`.
    Rsa(Vec<u8>),
    /// An uncompressed point.
    P256(Vec<u8>),
    /// An uncompressed point.
    P384(Vec<u8>),
    /// An uncompressed point.
    P521(Vec<u8>),
}

/// How a signature is made: the padding or family, and the hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mechanism {
    /// The family.
    pub padding: Padding,
    /// The hash over the message.
    pub hash: HashAlgorithm,
}

/// The family of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// RSASSA-PKCS1-v1_5.
    Pkcs1,
    /// RSASSA-PSS, MGF1 with the same hash, salt as long as the hash.
    Pss,
    /// ECDSA.
    Ecdsa,
}

impl Mechanism {
    /// Reads a signature `AlgorithmIdentifier`. RSA PKCS#1 parameters may be NULL or absent
    /// (RFC 4055 §5 wants both accepted); ECDSA has none (RFC 5758 §3.2).
    ///
    /// # Errors
    /// [`VerifyError::Asn1`], [`VerifyError::UnknownAlgorithm`], [`VerifyError::PssParameters`].
    pub fn from_der(algorithm: &[u8]) -> Result<Self, VerifyError> {
        const F: &str = "signatureAlgorithm";
        let mut c = Cursor::new(Cursor::single(algorithm, SEQUENCE, F)?.value);
        let id = c.oid(F)?;
        let (padding, hash) = match id {
            oid::SHA256_WITH_RSA => (Padding::Pkcs1, HashAlgorithm::Sha256),
            oid::SHA384_WITH_RSA => (Padding::Pkcs1, HashAlgorithm::Sha384),
            oid::SHA512_WITH_RSA => (Padding::Pkcs1, HashAlgorithm::Sha512),
            oid::ECDSA_SHA256 => (Padding::Ecdsa, HashAlgorithm::Sha256),
            oid::ECDSA_SHA384 => (Padding::Ecdsa, HashAlgorithm::Sha384),
            oid::ECDSA_SHA512 => (Padding::Ecdsa, HashAlgorithm::Sha512),
            oid::RSASSA_PSS => (Padding::Pss, pss_hash(&mut c)?),
            other => return Err(VerifyError::UnknownAlgorithm(other)),
        };
        if padding == Padding::Pkcs1 {
            null_or_absent(&mut c, F)?;
        }
        c.finish(F)?;
        Ok(Self { padding, hash })
    }

    /// As [`Mechanism::from_der`], for a CMS `SignerInfo`, where `rsaEncryption` with the digest
    /// algorithm beside it is usual (RFC 3370 §3.2).
    ///
    /// # Errors
    /// As [`Mechanism::from_der`]; [`VerifyError::AlgorithmMismatch`] if the algorithm names
    /// another hash than `digest`.
    pub fn from_cms(algorithm: &[u8], digest: HashAlgorithm) -> Result<Self, VerifyError> {
        const F: &str = "signatureAlgorithm";
        let mut c = Cursor::new(Cursor::single(algorithm, SEQUENCE, F)?.value);
        if c.oid(F)? == oid::RSA_ENCRYPTION {
            null_or_absent(&mut c, F)?;
            c.finish(F)?;
            return Ok(Self {
                padding: Padding::Pkcs1,
                hash: digest,
            });
        }
        let m = Self::from_der(algorithm)?;
        if m.hash == digest {
            Ok(m)
        } else {
            Err(VerifyError::AlgorithmMismatch)
        }
    }
}

impl From<SignatureScheme> for Mechanism {
    fn from(s: SignatureScheme) -> Self {
        let padding = match s {
            SignatureScheme::RsaPkcs1(_) => Padding::Pkcs1,
            SignatureScheme::Ecdsa(_) => Padding::Ecdsa,
        };
        Self {
            padding,
            hash: s.hash(),
        }
    }
}

impl AnyPublicKey {
    /// Reads a `SubjectPublicKeyInfo`.
    ///
    /// # Errors
    /// [`KeyError`], for other kinds and sizes, and for points off their curve.
    pub fn from_spki_der(spki: &[u8]) -> Result<Self, KeyError> {
        let key = match Self::parts_of(spki)? {
            SpkiParts::Rsa { n, e } => {
                let bits = bit_length(n);
                if !(2048..=8192).contains(&bits) {
                    return Err(KeyError::ModulusSize { bits });
                }
                Self::Rsa(rsa_public_key(n, e))
            }
            SpkiParts::Ec { curve, point } => match curve {
                oid::P256 => Self::P256(point.to_vec()),
                oid::P384 => Self::P384(point.to_vec()),
                oid::P521 => Self::P521(point.to_vec()),
                other => return Err(KeyError::UnknownCurve(other)),
            },
        };
        if key.is_valid() {
            Ok(key)
        } else {
            Err(KeyError::Asn1(Asn1Error::new(
                "subjectPublicKey",
                Problem::Value,
            )))
        }
    }

    /// Whether aws-lc accepts the numbers: for EC, an uncompressed point on the curve (full public
    /// key validation, the cofactor being 1); for RSA, an odd modulus and a usable exponent.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let (padding, bytes) = match self {
            Self::Rsa(k) => (Padding::Pkcs1, k),
            Self::P256(p) | Self::P384(p) | Self::P521(p) => {
                // SEC 1 §2.3.3: 04 is uncompressed. Compressed points would be a second encoding.
                if p.first() != Some(&0x04) {
                    return false;
                }
                (Padding::Ecdsa, p)
            }
        };
        let mechanism = Mechanism {
            padding,
            hash: HashAlgorithm::Sha256,
        };
        self.algorithm(mechanism)
            .is_some_and(|a| lc::ParsedPublicKey::new(a, bytes).is_ok())
    }

    /// Verifies `signature` over `message`.
    ///
    /// # Errors
    /// [`VerifyError::AlgorithmMismatch`], [`VerifyError::Invalid`].
    pub fn verify(
        &self,
        mechanism: Mechanism,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), VerifyError> {
        self.verify_digest(mechanism, &hash::digest(mechanism.hash, message), signature)
    }

    /// Verifies `signature` over a message whose digest is given.
    ///
    /// # Errors
    /// As [`AnyPublicKey::verify`].
    pub fn verify_digest(
        &self,
        mechanism: Mechanism,
        digest: &Digest,
        signature: &[u8],
    ) -> Result<(), VerifyError> {
        if digest.algorithm() != mechanism.hash {
            return Err(VerifyError::AlgorithmMismatch);
        }
        let algorithm = self
            .algorithm(mechanism)
            .ok_or(VerifyError::AlgorithmMismatch)?;
        let d = aws_lc_rs::digest::Digest::import_less_safe(
            digest.as_bytes(),
            hash::lc_algorithm(mechanism.hash),
        )
        .map_err(|_| VerifyError::AlgorithmMismatch)?;
        lc::UnparsedPublicKey::new(algorithm, self.bytes())
            .verify_digest(&d, signature)
            .map_err(|_| VerifyError::Invalid)
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Rsa(b) | Self::P256(b) | Self::P384(b) | Self::P521(b) => b,
        }
    }

    fn algorithm(&self, m: Mechanism) -> Option<&'static dyn lc::VerificationAlgorithm> {
        use HashAlgorithm::{Sha256, Sha384, Sha512};
        Some(match (self, m.padding, m.hash) {
            (Self::Rsa(_), Padding::Pkcs1, Sha256) => &lc::RSA_PKCS1_2048_8192_SHA256,
            (Self::Rsa(_), Padding::Pkcs1, Sha384) => &lc::RSA_PKCS1_2048_8192_SHA384,
            (Self::Rsa(_), Padding::Pkcs1, Sha512) => &lc::RSA_PKCS1_2048_8192_SHA512,
            (Self::Rsa(_), Padding::Pss, Sha256) => &lc::RSA_PSS_2048_8192_SHA256,
            (Self::Rsa(_), Padding::Pss, Sha384) => &lc::RSA_PSS_2048_8192_SHA384,
            (Self::Rsa(_), Padding::Pss, Sha512) => &lc::RSA_PSS_2048_8192_SHA512,
            (Self::P256(_), Padding::Ecdsa, Sha256) => &lc::ECDSA_P256_SHA256_ASN1,
            (Self::P256(_), Padding::Ecdsa, Sha384) => &lc::ECDSA_P256_SHA384_ASN1,
            (Self::P256(_), Padding::Ecdsa, Sha512) => &lc::ECDSA_P256_SHA512_ASN1,
            (Self::P384(_), Padding::Ecdsa, Sha256) => &lc::ECDSA_P384_SHA256_ASN1,
            (Self::P384(_), Padding::Ecdsa, Sha384) => &lc::ECDSA_P384_SHA384_ASN1,
            (Self::P384(_), Padding::Ecdsa, Sha512) => &lc::ECDSA_P384_SHA512_ASN1,
            (Self::P521(_), Padding::Ecdsa, Sha256) => &lc::ECDSA_P521_SHA256_ASN1,
            (Self::P521(_), Padding::Ecdsa, Sha384) => &lc::ECDSA_P521_SHA384_ASN1,
            (Self::P521(_), Padding::Ecdsa, Sha512) => &lc::ECDSA_P521_SHA512_ASN1,
            _ => return None,
        })
    }
}

/// The hash of a digest `AlgorithmIdentifier`; parameters NULL or absent (RFC 5754 §2).
pub(crate) fn digest_algorithm(algorithm: &[u8]) -> Result<HashAlgorithm, VerifyError> {
    const F: &str = "digestAlgorithm";
    let mut c = Cursor::new(Cursor::single(algorithm, SEQUENCE, F)?.value);
    let id = c.oid(F)?;
    null_or_absent(&mut c, F)?;
    c.finish(F)?;
    hash_of(&id).ok_or(VerifyError::UnknownAlgorithm(id))
}

pub(crate) fn hash_of(id: &ObjectIdentifier) -> Option<HashAlgorithm> {
    match *id {
        oid::SHA256 => Some(HashAlgorithm::Sha256),
        oid::SHA384 => Some(HashAlgorithm::Sha384),
        oid::SHA512 => Some(HashAlgorithm::Sha512),
        _ => None,
    }
}

pub(crate) const fn hash_oid(h: HashAlgorithm) -> ObjectIdentifier {
    match h {
        HashAlgorithm::Sha256 => oid::SHA256,
        HashAlgorithm::Sha384 => oid::SHA384,
        HashAlgorithm::Sha512 => oid::SHA512,
    }
}

fn null_or_absent(c: &mut Cursor<'_>, field: &'static str) -> Result<(), Asn1Error> {
    match c.optional(NULL, field)? {
        Some(t) if !t.value.is_empty() => Err(Asn1Error::new(field, Problem::Value)),
        _ => Ok(()),
    }
}

/// `RSASSA-PSS-params` (RFC 8017 §A.2.3). The defaults mean SHA-1, so hash and mask generation must
/// be stated; salt as long as the hash, trailer 1.
fn pss_hash(c: &mut Cursor<'_>) -> Result<HashAlgorithm, VerifyError> {
    const F: &str = "RSASSA-PSS-params";
    let mut p = c.enter(SEQUENCE, F)?;
    let outer = p
        .optional(context(0), F)?
        .ok_or(VerifyError::PssParameters)?;
    let hash = digest_algorithm(outer.value)?;
    let mgf = p
        .optional(context(1), F)?
        .ok_or(VerifyError::PssParameters)?;
    let mut m = Cursor::new(Cursor::single(mgf.value, SEQUENCE, F)?.value);
    if m.oid(F)? != oid::MGF1 || digest_algorithm(m.any(F)?.bytes)? != hash {
        return Err(VerifyError::PssParameters);
    }
    m.finish(F)?;
    let mut salt = Cursor::new(
        p.optional(context(2), F)?
            .ok_or(VerifyError::PssParameters)?
            .value,
    );
    if usize::try_from(salt.small_integer(F)?) != Ok(hash.digest_len()) {
        return Err(VerifyError::PssParameters);
    }
    salt.finish(F)?;
    if let Some(t) = p.optional(context(3), F)? {
        let mut t = Cursor::new(t.value);
        if t.small_integer(F)? != 1 {
            return Err(VerifyError::PssParameters);
        }
        t.finish(F)?;
    }
    p.finish(F)?;
    Ok(hash)
}
