//! The words that leaf types share.

use super::LeafError;
use super::bounds::Bounded;
use crate::commitment::HexHash;
use serde::{Deserialize, Serialize};

/// The key whose log this is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoggedKey {
    /// The key's id.
    pub id: String,
    /// Its algorithm.
    pub algorithm: String,
    /// SHA-256 of its SubjectPublicKeyInfo.
    pub spki_sha256: HexHash,
    /// Whether the token is software.
    pub software: bool,
    /// How it is kept apart from neighbours.
    pub isolation: String,
}

impl Bounded for LoggedKey {
    fn bounded(&self, _: &'static str) -> Result<(), LeafError> {
        self.id.bounded("key.id")?;
        self.algorithm.bounded("key.algorithm")?;
        self.isolation.bounded("key.isolation")
    }
}

/// The log that a new log epoch continues (design: "the first leaf names the gap").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Predecessor {
    /// Its origin.
    pub origin: String,
    /// The last size of which everything is known.
    pub size: u64,
    /// Its root at that size.
    pub root: HexHash,
    /// How many leaves are known to have been signed for and are missing.
    pub missing: u64,
}

impl Bounded for Predecessor {
    fn bounded(&self, _: &'static str) -> Result<(), LeafError> {
        self.origin.bounded("previous.origin")
    }
}

/// What a use of a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// A subscriber's signature.
    Signature,
    /// The key's own certificate request, by the enrolment path alone.
    CertificateRequest,
}

/// What the service parsed before it authorised a use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContentKind {
    /// Authenticode signed attributes and indirect data.
    Authenticode,
    /// CMS signed attributes.
    Cms,
    /// A bare digest: the service does not know of what.
    RawDigest,
    /// A certification request made by the service.
    CertificateRequest,
}

/// Whether the service saw what is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Asserted {
    /// It parsed the content and computed the digest.
    Typed,
    /// The caller sent a digest, by a grant that says `raw-digest`.
    DigestOnly,
}

/// What became of an authorisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutcomeResult {
    /// A signature was made, and verified before it left.
    Signed,
    /// No signature was made.
    Failed,
    /// A crash or a timeout hides whether one was made; none was released.
    Unknown,
}

/// What a CA's list says of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CertificateStatus {
    /// It is not on the list.
    Good,
    /// It is, for now.
    OnHold,
    /// It is, for ever.
    Revoked,
}
