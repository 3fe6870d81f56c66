//! What a signing caller sends and gets.

use super::Base64;
use crate::error::ApiError;
use countersign_core::HashAlgorithm;
use serde::{Deserialize, Serialize};

/// A service token (RFC 8693 §2.2.1).
#[derive(Clone, Deserialize)]
pub struct Token {
    /// The bearer token.
    pub access_token: String,
    /// Seconds it lives.
    pub expires_in: u64,
}

/// What is to be signed: what will be signed itself, not its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Content {
    /// A Windows executable.
    Authenticode {
        /// DER of the signed attributes (SET OF).
        signed_attributes: Base64,
        /// DER of `SpcIndirectDataContent`.
        indirect_data: Base64,
    },
    /// Detached CMS.
    Cms {
        /// DER of the signed attributes (SET OF).
        signed_attributes: Base64,
    },
    /// A bare digest: needs a grant that says `raw-digest`.
    RawDigest {
        /// The digest.
        digest: Base64,
    },
}

/// One thing to be signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SignatureItem {
    /// Our word for it: 1 to 128 visible ASCII characters, unique in the request.
    pub id: String,
    /// What.
    pub content: Content,
    /// With which digest.
    pub digest_algorithm: HashAlgorithm,
}

/// A signature with everything that belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// RSA: the bytes; ECDSA: DER.
    pub signature: Base64,
    /// For example `ecdsa-sha-256`.
    pub scheme: String,
    /// Key id.
    pub key: String,
    /// Leaf, intermediates, no root; DER.
    pub certificate_chain: Vec<Base64>,
    /// tlog-proof text of the authorisation leaf.
    pub receipt: String,
    /// The key's log.
    pub log: LogRef,
    /// Request id, also in the leaf.
    pub request: String,
}

impl Signature {
    pub(crate) fn of(signed: Signed, by: &SignedBy) -> Self {
        Self {
            signature: signed.signature,
            scheme: signed.scheme,
            key: by.key.clone(),
            certificate_chain: by.certificate_chain.clone(),
            receipt: signed.receipt,
            log: by.log.clone(),
            request: signed.request,
        }
    }
}

/// The answer to a request for signatures.
#[derive(Debug, Deserialize)]
pub(crate) struct Signatures {
    pub signed_by: Vec<SignedBy>,
    pub results: Vec<ItemAnswer>,
}

/// What signatures by one certificate have in common.
#[derive(Debug, Deserialize)]
pub(crate) struct SignedBy {
    pub certificate_sha256: String,
    pub key: String,
    pub certificate_chain: Vec<Base64>,
    pub log: LogRef,
}

/// One item's answer: one of the two.
#[derive(Debug, Deserialize)]
pub(crate) struct ItemAnswer {
    pub id: String,
    #[serde(flatten)]
    pub signed: Option<Signed>,
    pub problem: Option<ApiError>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Signed {
    pub signature: Base64,
    pub scheme: String,
    pub certificate_sha256: String,
    pub receipt: String,
    pub request: String,
}

/// Names a log and the key that signs its checkpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRef {
    /// For example `sign.example/log/0190…`.
    pub origin: String,
    /// Verifier key (signed-note).
    pub vkey: String,
}

/// What must be known before hashing: the certificate goes into the signed attributes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SignerCertificate {
    /// Leaf, intermediates, no root; DER.
    pub certificate_chain: Vec<Base64>,
    /// Key id.
    pub key: String,
    /// Key algorithm.
    pub algorithm: String,
    /// What its owner should know now, in words.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// A log that the caller may read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// Id: the key's or the tenant's UUID.
    pub id: String,
    /// `key` or `tenant`.
    pub kind: String,
    /// Its name for ever.
    pub origin: String,
    /// Verifier key.
    pub vkey: String,
    /// Leaves.
    pub size: u64,
    /// The key whose uses it records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// The service's own public keys, to be pinned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceKeys {
    /// Signs service statements.
    pub statement: StatementKey,
    /// Signs checkpoints.
    pub log: LogKey,
    /// The service's name.
    pub service: String,
}

/// The statement key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatementKey {
    /// SubjectPublicKeyInfo, base64 DER.
    pub spki: String,
    /// Its SHA-256.
    pub sha256: String,
}

/// The log key: one for all logs of the deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogKey {
    /// Ed25519, base64 of 32 bytes.
    pub public_key: String,
}
