//! A digest whose length fits its algorithm, by construction.

use crate::HashAlgorithm;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A digest. The length always equals `algorithm.digest_len()`.
///
/// Digests are customer content: `Debug` shows the algorithm only, so that none reaches a log.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub struct Digest {
    algorithm: HashAlgorithm,
    bytes: Vec<u8>,
}

impl Digest {
    /// Takes bytes as a digest of `algorithm`.
    ///
    /// # Errors
    /// [`WrongDigestLength`] if the length is not that of the algorithm; retrying cannot help.
    pub fn new(
        algorithm: HashAlgorithm,
        bytes: impl Into<Vec<u8>>,
    ) -> Result<Self, WrongDigestLength> {
        let bytes = bytes.into();
        if bytes.len() == algorithm.digest_len() {
            Ok(Self { algorithm, bytes })
        } else {
            Err(WrongDigestLength {
                algorithm,
                given: bytes.len(),
            })
        }
    }

    /// The algorithm.
    #[must_use]
    pub const fn algorithm(&self) -> HashAlgorithm {
        self.algorithm
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Lower-case hex, for people.
    #[must_use]
    pub fn to_hex(&self) -> String {
        hex::encode(&self.bytes)
    }
}

impl From<[u8; 32]> for Digest {
    /// A SHA-256 digest.
    fn from(bytes: [u8; 32]) -> Self {
        Self {
            algorithm: HashAlgorithm::Sha256,
            bytes: bytes.to_vec(),
        }
    }
}

impl From<[u8; 48]> for Digest {
    /// A SHA-384 digest.
    fn from(bytes: [u8; 48]) -> Self {
        Self {
            algorithm: HashAlgorithm::Sha384,
            bytes: bytes.to_vec(),
        }
    }
}

impl From<[u8; 64]> for Digest {
    /// A SHA-512 digest.
    fn from(bytes: [u8; 64]) -> Self {
        Self {
            algorithm: HashAlgorithm::Sha512,
            bytes: bytes.to_vec(),
        }
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({}, …)", self.algorithm)
    }
}

/// A digest of the wrong length. Retrying cannot help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a {algorithm} digest has {} bytes, {given} were given", algorithm.digest_len())]
pub struct WrongDigestLength {
    /// What it was said to be.
    pub algorithm: HashAlgorithm,
    /// How many bytes came.
    pub given: usize,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    algorithm: HashAlgorithm,
    bytes: Vec<u8>,
}

impl TryFrom<Wire> for Digest {
    type Error = WrongDigestLength;
    fn try_from(w: Wire) -> Result<Self, Self::Error> {
        Self::new(w.algorithm, w.bytes)
    }
}

impl From<Digest> for Wire {
    fn from(d: Digest) -> Self {
        Self {
            algorithm: d.algorithm,
            bytes: d.bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_digest_is_refused() {
        assert_eq!(
            Digest::new(HashAlgorithm::Sha256, vec![0; 20]),
            Err(WrongDigestLength {
                algorithm: HashAlgorithm::Sha256,
                given: 20
            })
        );
    }

    #[test]
    fn debug_shows_no_content() {
        let d = Digest::new(HashAlgorithm::Sha256, vec![0xab; 32]).map(|d| format!("{d:?}"));
        assert_eq!(d, Ok("Digest(sha-256, …)".to_owned()));
    }
}
