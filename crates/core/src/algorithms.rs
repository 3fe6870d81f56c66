//! Key, hash and signature algorithms a subscriber's key may use.
//!
//! The lists are closed on purpose: CSBR §6.1.5.2 allows RSA of 3072 bits and more and ECDSA on
//! the NIST curves; SHA-1 is refused everywhere (CSBR §7.1.3.2).

use serde::{Deserialize, Serialize};
use std::fmt;

/// What kind of key pair is generated in the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum KeyAlgorithm {
    /// ECDSA on P-256 (secp256r1).
    #[serde(rename = "ec-p256")]
    EcP256,
    /// ECDSA on P-384 (secp384r1).
    #[serde(rename = "ec-p384")]
    EcP384,
    /// RSA, 3072-bit modulus, exponent 65537.
    #[serde(rename = "rsa-3072")]
    Rsa3072,
    /// RSA, 4096-bit modulus, exponent 65537.
    #[serde(rename = "rsa-4096")]
    Rsa4096,
}

impl KeyAlgorithm {
    /// All of them, in the order help texts show them.
    pub const ALL: [Self; 4] = [Self::EcP256, Self::EcP384, Self::Rsa3072, Self::Rsa4096];

    /// The stable name used in the API, leaves and the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EcP256 => "ec-p256",
            Self::EcP384 => "ec-p384",
            Self::Rsa3072 => "rsa-3072",
            Self::Rsa4096 => "rsa-4096",
        }
    }

    /// Whether this is an RSA key.
    #[must_use]
    pub const fn is_rsa(self) -> bool {
        matches!(self, Self::Rsa3072 | Self::Rsa4096)
    }

    /// The signature scheme this key uses with `hash`.
    #[must_use]
    pub const fn scheme(self, hash: HashAlgorithm) -> SignatureScheme {
        if self.is_rsa() {
            SignatureScheme::RsaPkcs1(hash)
        } else {
            SignatureScheme::Ecdsa(hash)
        }
    }

    /// The hash used where nobody chose one (certificate requests).
    #[must_use]
    pub const fn natural_hash(self) -> HashAlgorithm {
        match self {
            Self::EcP384 => HashAlgorithm::Sha384,
            _ => HashAlgorithm::Sha256,
        }
    }
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for KeyAlgorithm {
    type Err = UnknownAlgorithm;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|a| a.as_str() == s)
            .ok_or_else(|| {
                UnknownAlgorithm::new("key algorithm", s, "ec-p256, ec-p384, rsa-3072, rsa-4096")
            })
    }
}

/// A hash for content and signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum HashAlgorithm {
    /// SHA-256 (FIPS 180-4).
    #[serde(rename = "sha-256")]
    Sha256,
    /// SHA-384.
    #[serde(rename = "sha-384")]
    Sha384,
    /// SHA-512.
    #[serde(rename = "sha-512")]
    Sha512,
}

impl HashAlgorithm {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Sha256, Self::Sha384, Self::Sha512];

    /// The stable name used in the API, leaves and the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha-256",
            Self::Sha384 => "sha-384",
            Self::Sha512 => "sha-512",
        }
    }

    /// Length of a digest in bytes.
    #[must_use]
    pub const fn digest_len(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

impl fmt::Display for HashAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for HashAlgorithm {
    type Err = UnknownAlgorithm;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|a| a.as_str() == s)
            .ok_or_else(|| {
                UnknownAlgorithm::new("digest algorithm", s, "sha-256, sha-384, sha-512")
            })
    }
}

/// A signature scheme over a digest made beforehand (standards: PKCS#11 `CKM_RSA_PKCS` with a
/// `DigestInfo` built by the worker, `CKM_ECDSA`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum SignatureScheme {
    /// RSASSA-PKCS1-v1_5 (RFC 8017 §8.2).
    RsaPkcs1(HashAlgorithm),
    /// ECDSA (FIPS 186-5), signature as DER `ECDSA-Sig-Value` outside the worker.
    Ecdsa(HashAlgorithm),
}

impl SignatureScheme {
    /// The hash inside the scheme.
    #[must_use]
    pub const fn hash(self) -> HashAlgorithm {
        match self {
            Self::RsaPkcs1(h) | Self::Ecdsa(h) => h,
        }
    }

    /// The stable name used in leaves.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RsaPkcs1(HashAlgorithm::Sha256) => "rsa-pkcs1-sha-256",
            Self::RsaPkcs1(HashAlgorithm::Sha384) => "rsa-pkcs1-sha-384",
            Self::RsaPkcs1(HashAlgorithm::Sha512) => "rsa-pkcs1-sha-512",
            Self::Ecdsa(HashAlgorithm::Sha256) => "ecdsa-sha-256",
            Self::Ecdsa(HashAlgorithm::Sha384) => "ecdsa-sha-384",
            Self::Ecdsa(HashAlgorithm::Sha512) => "ecdsa-sha-512",
        }
    }
}

impl fmt::Display for SignatureScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for SignatureScheme {
    type Err = UnknownAlgorithm;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        HashAlgorithm::ALL
            .into_iter()
            .flat_map(|h| [Self::RsaPkcs1(h), Self::Ecdsa(h)])
            .find(|a| a.as_str() == s)
            .ok_or_else(|| {
                UnknownAlgorithm::new("signature scheme", s, "rsa-pkcs1-sha-…, ecdsa-sha-…")
            })
    }
}

impl From<SignatureScheme> for String {
    fn from(s: SignatureScheme) -> Self {
        s.as_str().to_owned()
    }
}

impl TryFrom<String> for SignatureScheme {
    type Error = UnknownAlgorithm;
    fn try_from(s: String) -> Result<Self, Self::Error> {
        s.parse()
    }
}

/// A name that is not in one of the closed lists above. Retrying cannot help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} \"{given}\": expected one of {expected}")]
pub struct UnknownAlgorithm {
    /// Which list was consulted.
    pub what: &'static str,
    /// What was given, cut to 64 characters.
    pub given: String,
    /// What would have been accepted.
    pub expected: &'static str,
}

impl UnknownAlgorithm {
    fn new(what: &'static str, given: &str, expected: &'static str) -> Self {
        Self {
            what,
            given: given.chars().take(64).collect(),
            expected,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_parses_back_to_itself() {
        for a in KeyAlgorithm::ALL {
            assert_eq!(a.as_str().parse::<KeyAlgorithm>(), Ok(a));
            for h in HashAlgorithm::ALL {
                assert_eq!(h.as_str().parse::<HashAlgorithm>(), Ok(h));
                let s = a.scheme(h);
                assert_eq!(s.as_str().parse::<SignatureScheme>(), Ok(s));
            }
        }
    }

    #[test]
    fn sha1_is_not_a_hash_we_know() {
        assert!("sha-1".parse::<HashAlgorithm>().is_err());
    }
}
