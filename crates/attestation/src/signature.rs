//! Signatures over original bytes, by the algorithms that makers of devices use.
//!
//! Three oddities are tolerated, because genuine evidence has them: RSA algorithm parameters absent
//! instead of NULL (RFC 4055 §5 wants both read), ECDSA algorithm parameters NULL instead of absent,
//! and ECDSA integers without the leading zero (both in Luna certificates). SHA-1 is verified and said to be legacy; whoever asks decides.

use crate::der::{DerError, expect, tag};
use crate::key::{Curve, PublicKey, null_or_absent, unsigned, without_zeros, wrap};
use crate::oid::Oid;
use aws_lc_rs::signature::{
    self as lc, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

pub use crate::dsa::DsaKey;

/// A hash function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hash {
    /// SHA-1: legacy.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Hash {
    /// Its usual name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha1 => "SHA-1",
            Self::Sha256 => "SHA-256",
            Self::Sha384 => "SHA-384",
            Self::Sha512 => "SHA-512",
        }
    }

    /// The digest of `bytes`.
    #[must_use]
    pub fn of(self, bytes: &[u8]) -> Vec<u8> {
        use aws_lc_rs::digest::{
            SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA384, SHA512, digest as lc_digest,
        };
        let algorithm = match self {
            Self::Sha1 => &SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &SHA256,
            Self::Sha384 => &SHA384,
            Self::Sha512 => &SHA512,
        };
        lc_digest(algorithm, bytes).as_ref().to_vec()
    }
}

/// How a signature is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5.
    RsaPkcs1(Hash),
    /// RSASSA-PSS, MGF1 with the same hash, salt as long as the hash.
    RsaPss(Hash),
    /// ECDSA; the signature is an `ECDSA-Sig-Value` or, with [`verify_fixed`], `r || s`.
    Ecdsa(Hash),
    /// Ed25519.
    Ed25519,
}

/// A signature that does not verify, and why. Retrying cannot help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The algorithm identifier or the signature value is malformed.
    #[error("signature: {0}")]
    Der(#[from] DerError),
    /// An algorithm that is not known here.
    #[error("signature algorithm {0} is not known here")]
    Algorithm(String),
    /// RSASSA-PSS with parameters other than one hash throughout and a salt of its length.
    #[error("RSASSA-PSS parameters are not the usual ones")]
    PssParameters,
    /// An algorithm of another family than the key.
    #[error("the signature algorithm does not fit the key")]
    Mismatch,
    /// A combination of curve and hash that no device here uses.
    #[error("{0} with {1} is not verified here")]
    Unsupported(String, &'static str),
    /// The signature is wrong.
    #[error("the signature does not verify")]
    Invalid,
    /// More signatures than one appraisal verifies.
    #[error("more than {MAX_SIGNATURES} signatures would have to be verified")]
    TooMany,
}

/// Most signatures verified in one appraisal: hostile input must not buy unbounded work.
pub const MAX_SIGNATURES: u32 = 256;

/// Verifies the signatures of one appraisal, and counts them. The same signature, asked for again on
/// another way through the same certificates, counts again and is computed once.
#[derive(Debug, Default)]
pub struct Work {
    asked: Cell<u32>,
    known: RefCell<BTreeMap<[u8; 32], Result<(), SignatureError>>>,
}

impl Work {
    /// How many were asked for so far.
    #[must_use]
    pub fn signatures(&self) -> u32 {
        self.asked.get()
    }

    /// Counts, and computes what was not computed before. `what` is all that the answer depends on.
    fn once(
        &self,
        what: &[&[u8]],
        compute: impl FnOnce() -> Result<(), SignatureError>,
    ) -> Result<(), SignatureError> {
        let n = self.asked.get().saturating_add(1);
        if n > MAX_SIGNATURES {
            return Err(SignatureError::TooMany);
        }
        self.asked.set(n);
        let id = identity(what);
        if let Some(known) = self.known.borrow().get(&id) {
            return known.clone();
        }
        let answer = compute();
        self.known.borrow_mut().insert(id, answer.clone());
        answer
    }

    /// Verifies and counts.
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn verify(
        &self,
        key: &PublicKey,
        algorithm: Algorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), SignatureError> {
        let (spki, name) = (key.to_spki(), algorithm.name());
        self.once(&[&spki, name.as_bytes(), message, signature], || {
            verify(key, algorithm, message, signature)
        })
    }

    /// Verifies a DSA signature, its numbers big-endian, and counts it.
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn verify_dsa_sha256(
        &self,
        key: DsaKey<'_>,
        message: &[u8],
        r: &[u8],
        s: &[u8],
    ) -> Result<(), SignatureError> {
        let what = [key.p, key.q, key.g, key.y, b"DSA", message, r, s];
        self.once(&what, || crate::dsa::verify_sha256(key, message, r, s))
    }

    /// As [`verify_fixed`], counted.
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn verify_fixed(
        &self,
        key: &PublicKey,
        hash: Hash,
        message: &[u8],
        r: &[u8],
        s: &[u8],
    ) -> Result<(), SignatureError> {
        let spki = key.to_spki();
        let what = [&spki, hash.as_str().as_bytes(), b"fixed", message, r, s];
        self.once(&what, || verify_fixed(key, hash, message, r, s))
    }
}

/// A hash that differs where any of the parts, their borders or their number differ.
fn identity(parts: &[&[u8]]) -> [u8; 32] {
    use aws_lc_rs::digest::{Context, SHA256};
    let mut hash = Context::new(&SHA256);
    for part in parts {
        hash.update(&(part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(hash.finish().as_ref());
    out
}

mod oid {
    use spki::ObjectIdentifier as O;
    pub(super) const SHA1_RSA: O = O::new_unwrap("1.2.840.113549.1.1.5");
    pub(super) const SHA256_RSA: O = O::new_unwrap("1.2.840.113549.1.1.11");
    pub(super) const SHA384_RSA: O = O::new_unwrap("1.2.840.113549.1.1.12");
    pub(super) const SHA512_RSA: O = O::new_unwrap("1.2.840.113549.1.1.13");
    pub(super) const PSS: O = O::new_unwrap("1.2.840.113549.1.1.10");
    pub(super) const MGF1: O = O::new_unwrap("1.2.840.113549.1.1.8");
    pub(super) const ECDSA_SHA1: O = O::new_unwrap("1.2.840.10045.4.1");
    pub(super) const ECDSA_SHA256: O = O::new_unwrap("1.2.840.10045.4.3.2");
    pub(super) const ECDSA_SHA384: O = O::new_unwrap("1.2.840.10045.4.3.3");
    pub(super) const ECDSA_SHA512: O = O::new_unwrap("1.2.840.10045.4.3.4");
    pub(super) const ED25519: O = O::new_unwrap("1.3.101.112");
    pub(super) const SHA256: O = O::new_unwrap("2.16.840.1.101.3.4.2.1");
    pub(super) const SHA384: O = O::new_unwrap("2.16.840.1.101.3.4.2.2");
    pub(super) const SHA512: O = O::new_unwrap("2.16.840.1.101.3.4.2.3");
}

impl Algorithm {
    /// Reads a signature `AlgorithmIdentifier`.
    ///
    /// # Errors
    /// [`SignatureError`] if it is malformed or not known.
    pub fn from_der(der: &[u8]) -> Result<Self, SignatureError> {
        const F: &str = "signatureAlgorithm";
        let mut w = expect(der, tag::SEQUENCE, F)?.walk();
        let id = w.next(F)?.oid(F)?;
        let table = [
            (oid::SHA1_RSA, Self::RsaPkcs1(Hash::Sha1)),
            (oid::SHA256_RSA, Self::RsaPkcs1(Hash::Sha256)),
            (oid::SHA384_RSA, Self::RsaPkcs1(Hash::Sha384)),
            (oid::SHA512_RSA, Self::RsaPkcs1(Hash::Sha512)),
            (oid::ECDSA_SHA1, Self::Ecdsa(Hash::Sha1)),
            (oid::ECDSA_SHA256, Self::Ecdsa(Hash::Sha256)),
            (oid::ECDSA_SHA384, Self::Ecdsa(Hash::Sha384)),
            (oid::ECDSA_SHA512, Self::Ecdsa(Hash::Sha512)),
            (oid::ED25519, Self::Ed25519),
        ];
        let known = match table.iter().find(|(o, _)| id == *o) {
            Some((_, a)) => *a,
            None if id == oid::PSS => Self::RsaPss(pss_hash(w.expect(tag::SEQUENCE, F)?.raw())?),
            None => return Err(SignatureError::Algorithm(id.to_string())),
        };
        // RFC 5758 §3.2 has no parameters with ECDSA; Luna's EC certificates write NULL. The field is
        // signed, and says nothing either way.
        if matches!(known, Self::RsaPkcs1(_) | Self::Ecdsa(_)) {
            null_or_absent(&mut w)?;
        }
        w.finish(F)?;
        Ok(known)
    }

    /// Whether it rests on SHA-1.
    #[must_use]
    pub const fn is_legacy(self) -> bool {
        matches!(
            self,
            Self::RsaPkcs1(Hash::Sha1) | Self::RsaPss(Hash::Sha1) | Self::Ecdsa(Hash::Sha1)
        )
    }

    /// For example `RSA PKCS#1 v1.5 with SHA-256`.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::RsaPkcs1(h) => format!("RSA PKCS#1 v1.5 with {}", h.as_str()),
            Self::RsaPss(h) => format!("RSA PSS with {}", h.as_str()),
            Self::Ecdsa(h) => format!("ECDSA with {}", h.as_str()),
            Self::Ed25519 => "Ed25519".to_owned(),
        }
    }
}

/// RFC 4055 §3.1: hash `[0]`, MGF1 with the same hash `[1]`, salt length `[2]` of that hash,
/// trailer `[3]` absent or 1.
fn pss_hash(params: &[u8]) -> Result<Hash, SignatureError> {
    const F: &str = "RSASSA-PSS-params";
    let mut w = expect(params, tag::SEQUENCE, F)?.walk();
    let bad = SignatureError::PssParameters;
    let named = |der: &[u8]| -> Result<Oid, SignatureError> {
        let mut w = expect(der, tag::SEQUENCE, F)?.walk();
        let id = w.next(F)?.oid(F)?;
        null_or_absent(&mut w)?;
        w.finish(F)?;
        Ok(id)
    };
    let id = named(
        w.optional(tag::context(0), F)?
            .ok_or(bad.clone())?
            .content(),
    )?;
    let hash = [
        (oid::SHA256, Hash::Sha256, 32),
        (oid::SHA384, Hash::Sha384, 48),
        (oid::SHA512, Hash::Sha512, 64),
    ];
    let (_, hash, salt) = hash
        .into_iter()
        .find(|(o, ..)| id == *o)
        .ok_or(bad.clone())?;
    let mut mgf = w
        .optional(tag::context(1), F)?
        .ok_or(bad.clone())?
        .inner(F)?
        .tagged(tag::SEQUENCE, F)?
        .walk();
    if mgf.next(F)?.oid(F)? != oid::MGF1 || named(mgf.next(F)?.raw())? != id {
        return Err(bad);
    }
    mgf.finish(F)?;
    if w.optional(tag::context(2), F)?
        .ok_or(bad.clone())?
        .inner(F)?
        .small(F)?
        != salt
    {
        return Err(bad);
    }
    if let Some(trailer) = w.optional(tag::context(3), F)?
        && trailer.inner(F)?.small(F)? != 1
    {
        return Err(bad);
    }
    w.finish(F)?;
    Ok(hash)
}

/// Verifies `signature` over `message`.
///
/// # Errors
/// [`SignatureError`].
pub fn verify(
    key: &PublicKey,
    algorithm: Algorithm,
    message: &[u8],
    signature: &[u8],
) -> Result<(), SignatureError> {
    match (key, algorithm) {
        (PublicKey::Rsa { n, e }, Algorithm::RsaPkcs1(h)) => {
            rsa(n, e, pkcs1(h), message, signature)
        }
        (PublicKey::Rsa { n, e }, Algorithm::RsaPss(h)) => {
            let params = match h {
                Hash::Sha256 => &lc::RSA_PSS_2048_8192_SHA256,
                Hash::Sha384 => &lc::RSA_PSS_2048_8192_SHA384,
                Hash::Sha512 => &lc::RSA_PSS_2048_8192_SHA512,
                Hash::Sha1 => return Err(SignatureError::PssParameters),
            };
            rsa(n, e, params, message, signature)
        }
        (PublicKey::Ec { .. }, Algorithm::Ecdsa(h)) => {
            const F: &str = "ECDSA-Sig-Value";
            let mut w = expect(signature, tag::SEQUENCE, F)?.walk();
            // Leading zeros are missing in the ECDSA leaves of Luna: read as unsigned.
            let r = w.next("r")?.unsigned_unpadded("r")?;
            let s = w.next("s")?.unsigned_unpadded("s")?;
            w.finish(F)?;
            verify_fixed(key, h, message, r, s)
        }
        (PublicKey::Ed25519(k), Algorithm::Ed25519) => raw(&lc::ED25519, k, message, signature),
        _ => Err(SignatureError::Mismatch),
    }
}

/// Verifies an ECDSA signature given as its two numbers, big-endian.
///
/// # Errors
/// [`SignatureError`].
pub fn verify_fixed(
    key: &PublicKey,
    hash: Hash,
    message: &[u8],
    r: &[u8],
    s: &[u8],
) -> Result<(), SignatureError> {
    let PublicKey::Ec { curve, point } = key else {
        return Err(SignatureError::Mismatch);
    };
    let (r, s) = (without_zeros(r), without_zeros(s));
    if r.len() > curve.coordinate() || s.len() > curve.coordinate() {
        return Err(SignatureError::Invalid);
    }
    let algorithm = match (curve, hash) {
        (Curve::P256, Hash::Sha1) => &lc::ECDSA_P256_SHA1_ASN1,
        (Curve::P256, Hash::Sha256) => &lc::ECDSA_P256_SHA256_ASN1,
        (Curve::P256, Hash::Sha384) => &lc::ECDSA_P256_SHA384_ASN1,
        (Curve::P256, Hash::Sha512) => &lc::ECDSA_P256_SHA512_ASN1,
        (Curve::P384, Hash::Sha256) => &lc::ECDSA_P384_SHA256_ASN1,
        (Curve::P384, Hash::Sha384) => &lc::ECDSA_P384_SHA384_ASN1,
        (Curve::P384, Hash::Sha512) => &lc::ECDSA_P384_SHA512_ASN1,
        (Curve::P521, Hash::Sha1) => &lc::ECDSA_P521_SHA1_ASN1,
        (Curve::P521, Hash::Sha256) => &lc::ECDSA_P521_SHA256_ASN1,
        (Curve::P521, Hash::Sha384) => &lc::ECDSA_P521_SHA384_ASN1,
        (Curve::P521, Hash::Sha512) => &lc::ECDSA_P521_SHA512_ASN1,
        (Curve::Secp256k1, Hash::Sha256) => &lc::ECDSA_P256K1_SHA256_ASN1,
        (c, h) => {
            return Err(SignatureError::Unsupported(
                c.as_str().to_owned(),
                h.as_str(),
            ));
        }
    };
    let value = wrap(tag::SEQUENCE, &[unsigned(r), unsigned(s)].concat());
    raw(algorithm, point, message, &value)
}

const fn pkcs1(hash: Hash) -> &'static RsaParameters {
    match hash {
        Hash::Sha1 => &lc::RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY,
        Hash::Sha256 => &lc::RSA_PKCS1_2048_8192_SHA256,
        Hash::Sha384 => &lc::RSA_PKCS1_2048_8192_SHA384,
        Hash::Sha512 => &lc::RSA_PKCS1_2048_8192_SHA512,
    }
}

fn rsa(
    n: &[u8],
    e: &[u8],
    params: &'static RsaParameters,
    message: &[u8],
    signature: &[u8],
) -> Result<(), SignatureError> {
    RsaPublicKeyComponents { n, e }
        .verify(params, message, signature)
        .map_err(|_| SignatureError::Invalid)
}

fn raw(
    algorithm: &'static dyn VerificationAlgorithm,
    key: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), SignatureError> {
    UnparsedPublicKey::new(algorithm, key)
        .verify(message, signature)
        .map_err(|_| SignatureError::Invalid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::Pair;

    #[test]
    fn what_was_computed_once_is_not_taken_for_something_else() {
        let (a, b) = (Pair::new(), Pair::new());
        let signature = a.sign(b"message");
        let (key, other) = [&a, &b]
            .map(|p| PublicKey::from_spki(&p.spki).unwrap())
            .into();
        let ecdsa = Algorithm::Ecdsa(Hash::Sha256);
        let work = Work::default();
        // Twice each: computed, then known.
        for _ in 0..2 {
            let ask = |k, a, m: &[u8], s: &[u8]| work.verify(k, a, m, s);
            assert_eq!(ask(&key, ecdsa, b"message", &signature), Ok(()));
            let wrong = Err(SignatureError::Invalid);
            assert_eq!(ask(&other, ecdsa, b"message", &signature), wrong);
            assert_eq!(ask(&key, ecdsa, b"messag", &signature), wrong);
            let sha384 = Algorithm::Ecdsa(Hash::Sha384);
            assert!(ask(&key, sha384, b"message", &signature).is_err());
            // The same bytes with the border elsewhere.
            let moved = [b"e", signature.as_slice()].concat();
            assert!(ask(&key, ecdsa, b"messag", &moved).is_err());
        }
        assert_eq!(work.signatures(), 10, "each asking counts");
    }

    #[test]
    fn asking_for_the_same_for_ever_is_bounded_too() {
        let pair = Pair::new();
        let key = PublicKey::from_spki(&pair.spki).unwrap();
        let (work, ecdsa) = (Work::default(), Algorithm::Ecdsa(Hash::Sha256));
        let signature = pair.sign(b"m");
        for _ in 0..MAX_SIGNATURES {
            assert_eq!(work.verify(&key, ecdsa, b"m", &signature), Ok(()));
        }
        assert_eq!(
            work.verify(&key, ecdsa, b"m", &signature),
            Err(SignatureError::TooMany)
        );
    }

    #[test]
    fn parts_are_told_apart_by_their_borders() {
        assert_ne!(identity(&[b"ab", b"c"]), identity(&[b"a", b"bc"]));
        assert_ne!(identity(&[b"ab"]), identity(&[b"ab", b""]));
    }
}
