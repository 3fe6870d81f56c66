//! The service statement: what Countersign, as a Signing Service, says to one CA about one key in
//! one order, signed.
//!
//! It is DER, strict both ways: a statement that does not encode back to the very bytes that came
//! is refused, so two different files never mean the same statement. The ASN.1 module and a worked
//! decode are in `docs/service-statement.md`.
//!
//! A statement is the word of the service, not of a device: it supports CSBR §6.2.7.4.2 method 7
//! (the subscriber uses a Signing Service) and never method 2 (key attestation by the module's
//! maker). What was read back from the token stands in it as claims.
//!
//! Making one takes three steps, so that the signing key can be anywhere:
//! [`StatementTbs::encode`] gives the bytes to sign, the holder of the key signs them with ECDSA
//! P-256 and SHA-256, [`StatementTbs::assemble`] makes the statement.

mod key;
mod wire;

pub use key::StatementKey;

use crate::oid::Oid;
use crate::time::UnixSeconds;
use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

/// Content octets of the statement's type,
/// `2.25.108418024523661256655688543902536148121`
/// (UUID 51908d4f-7cf7-4b76-8bb0-9b9898c9a499, drawn at random once; X.667 §6 lets anybody do so).
pub const SERVICE_STATEMENT_OID: [u8; 20] = [
    0x69, 0x81, 0xa3, 0x90, 0xc6, 0xd3, 0xef, 0xcf, 0xba, 0xad, 0xed, 0x8b, 0xd8, 0xa6, 0xf3, 0x89,
    0xc6, 0xa6, 0xc9, 0x19,
];

/// The same, dotted.
pub const SERVICE_STATEMENT_OID_TEXT: &str = "2.25.108418024523661256655688543902536148121";

/// Longest statement taken.
pub const MAX_STATEMENT: usize = 16 * 1024;

/// Most attributes read back that a statement may list.
pub const MAX_ATTRIBUTES: usize = 64;

/// Why a statement cannot be made, read or believed. Retrying helps with none of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    /// More bytes than [`MAX_STATEMENT`].
    #[error("the statement has {given} bytes; at most {MAX_STATEMENT} are read")]
    TooLarge {
        /// Bytes given.
        given: usize,
    },
    /// Not the ASN.1 of docs/service-statement.md: cut off, another shape, trailing bytes, or not DER.
    #[error("the statement is not well-formed DER of its ASN.1 module: {0}")]
    Malformed(der::ErrorKind),
    /// Decodes, but encoding it again gives other bytes.
    #[error("the statement is not in canonical form: encoding it again gives other bytes")]
    NotCanonical,
    /// A version this build does not know.
    #[error("statement version {0} is not known; this build reads version 1")]
    UnknownVersion(u8),
    /// Signed bytes of another type.
    #[error("the signed bytes name another type than a service statement")]
    WrongType,
    /// The signature algorithm is not ecdsa-with-SHA256 without parameters.
    #[error("the signature algorithm is not ecdsa-with-SHA256")]
    WrongAlgorithm,
    /// The signature is not a DER ECDSA-Sig-Value in a whole number of octets.
    #[error("the signature is not a DER ECDSA-Sig-Value")]
    MalformedSignature,
    /// A field out of its bounds.
    #[error("statement field {field}: {problem}")]
    Field {
        /// Which, by its name in the ASN.1 module.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The verifier pins no statement key at all: nothing can be decided.
    #[error("no statement key is pinned, so no statement can be verified")]
    NoPinnedKey,
    /// The statement names a key the verifier does not pin.
    #[error("the statement is signed by a key that is not pinned (SHA-256 {0})")]
    KeyNotPinned(String),
    /// The signature does not verify under the pinned key that the statement names.
    #[error("the statement's signature does not verify under the pinned key it names")]
    BadSignature,
    /// A public key that is not an ECDSA P-256 SubjectPublicKeyInfo.
    #[error("a statement key must be an ECDSA P-256 SubjectPublicKeyInfo in DER or PEM")]
    NotAStatementKey,
}

/// How the key is kept apart from other tenants' keys; the names are those of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// A token of the tenant's own, with a worker process of its own.
    ExclusiveToken,
    /// The device itself asks for an authorisation of this very key.
    PerKeyAuthorisation,
    /// A token shared with other tenants: isolation is a look-up table in the worker.
    SharedToken,
}

impl Isolation {
    /// The stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ExclusiveToken => "exclusive-token",
            Self::PerKeyAuthorisation => "per-key-authorisation",
            Self::SharedToken => "shared-token",
        }
    }
}

impl std::str::FromStr for Isolation {
    type Err = StatementError;
    fn from_str(s: &str) -> Result<Self, StatementError> {
        [
            Self::ExclusiveToken,
            Self::PerKeyAuthorisation,
            Self::SharedToken,
        ]
        .into_iter()
        .find(|i| i.as_str() == s)
        .ok_or(StatementError::Field {
            field: "key.isolation",
            problem: "is none of exclusive-token, per-key-authorisation, shared-token",
        })
    }
}

/// The CA's order that the statement answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The order's name, as the CA gave it: 1 to 256 bytes.
    pub id: String,
    /// The CA's nonce, 8 to 64 bytes.
    pub nonce: Vec<u8>,
}

/// One attribute as the token reported it after generation: a claim of the module. One name is no
/// attribute of the token but the service's own word: `device-under-other-subscribers`
/// (docs/service-statement.md).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AttributeClaim {
    /// PKCS#11 name, for example `CKA_NEVER_EXTRACTABLE`; or the one of the service's own.
    pub attribute: String,
    /// What was read: `true`, `false`, `unsupported` or another value as text.
    pub seen: String,
}

/// The key, as the service knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyStatement {
    /// The service's id of the key (a UUID).
    pub id: [u8; 16],
    /// SHA-256 of the SubjectPublicKeyInfo.
    pub spki_hash: [u8; 32],
    /// Isolation from neighbours.
    pub isolation: Isolation,
    /// How the pair was made, for example `CKM_EC_KEY_PAIR_GEN`.
    pub mechanism: String,
    /// What was read back. Encoded in ascending order of name; a name stands once.
    pub attributes: Vec<AttributeClaim>,
}

/// The device, as its module describes it: claims, not proof.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// A software token (SoftHSM). True for the whole life of the key.
    pub software: bool,
    /// `CK_TOKEN_INFO.manufacturerID`.
    pub manufacturer: String,
    /// `CK_TOKEN_INFO.model`.
    pub model: String,
    /// `CK_TOKEN_INFO.serialNumber`.
    pub serial: String,
    /// `CK_TOKEN_INFO.firmwareVersion`.
    pub firmware: String,
}

/// The log in which each use of the key stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogAnchor {
    /// The log's origin line.
    pub origin: String,
    /// Its verifier key, a C2SP signed-note `vkey`.
    pub verifier_key: String,
    /// Size of the first checkpoint the subscriber and the CA can hold the service to.
    pub size: u64,
    /// Root of that checkpoint.
    pub root: [u8; 32],
}

/// The conformity audit that covers the service (CSBR §8.4.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// For example `WebTrust CS BR 3.1 + NetSec 1.7`.
    pub scheme: String,
    /// Start of the audit period.
    pub from: UnixSeconds,
    /// End of the audit period.
    pub to: UnixSeconds,
}

/// What is stated: the signed part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementTbs {
    /// SHA-256 of the SubjectPublicKeyInfo of the statement key that signs this.
    pub signer_key_hash: [u8; 32],
    /// The service, by the name in its practice statement.
    pub service: String,
    /// The service's id of the tenant (a UUID).
    pub tenant: [u8; 16],
    /// The subscriber, by the tenant's name.
    pub subscriber: String,
    /// The one CA this statement is for.
    pub audience: String,
    /// The order at that CA.
    pub order: Order,
    /// When it was signed.
    pub issued_at: UnixSeconds,
    /// The first second at which it is no longer good.
    pub expires_at: UnixSeconds,
    /// SHA-256 of the DER CertificationRequestInfo *without* the attestation attribute: the
    /// statement stands in that attribute and cannot cover itself.
    pub csr_info_hash: [u8; 32],
    /// The key.
    pub key: KeyStatement,
    /// The device.
    pub device: Device,
    /// The log.
    pub log: LogAnchor,
    /// SHA-256 of the practice statement in force, if there is one.
    pub practice_statement_hash: Option<[u8; 32]>,
    /// The audit in force, if there is one.
    pub audit: Option<Audit>,
}

impl StatementTbs {
    /// The bytes to sign: DER of `StatementTbs`.
    ///
    /// # Errors
    /// [`StatementError::Field`] names the field that is out of bounds; nothing is cut to fit.
    pub fn encode(&self) -> Result<Vec<u8>, StatementError> {
        wire::encode_tbs(self)
    }

    /// SHA-256 of [`StatementTbs::encode`], for a signer that takes digests.
    ///
    /// # Errors
    /// As [`StatementTbs::encode`].
    pub fn signing_digest(&self) -> Result<[u8; 32], StatementError> {
        Ok(sha256(&self.encode()?))
    }

    /// The statement: this and `signature`, a DER `ECDSA-Sig-Value` (RFC 3279 §2.2.3) over
    /// [`StatementTbs::encode`]. The signature is not verified here: use
    /// [`ServiceStatement::verify`] on the result.
    ///
    /// # Errors
    /// As [`StatementTbs::encode`], and [`StatementError::MalformedSignature`].
    pub fn assemble(&self, signature: &[u8]) -> Result<Vec<u8>, StatementError> {
        wire::assemble(self, signature)
    }

    /// What the token said of `attribute`, if the statement lists it.
    #[must_use]
    pub fn attribute(&self, attribute: &str) -> Option<&str> {
        self.key
            .attributes
            .iter()
            .find(|a| a.attribute == attribute)
            .map(|a| a.seen.as_str())
    }
}

/// A statement that was read; not yet believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceStatement {
    tbs: StatementTbs,
    tbs_der: Vec<u8>,
    signature: Vec<u8>,
}

impl ServiceStatement {
    /// Reads a statement, strictly. It says nothing of the signature.
    ///
    /// # Errors
    /// [`StatementError`] for anything but the exact DER of a version 1 statement within bounds.
    pub fn parse(der: &[u8]) -> Result<Self, StatementError> {
        wire::parse(der)
    }

    /// Verifies the signature under the pinned key that the statement names, and gives that key.
    /// There is no default anchor: a CA pins the keys it was given out of band.
    ///
    /// # Errors
    /// [`StatementError::NoPinnedKey`], [`StatementError::KeyNotPinned`] or
    /// [`StatementError::BadSignature`].
    pub fn verify<'k>(&self, keys: &'k [StatementKey]) -> Result<&'k StatementKey, StatementError> {
        if keys.is_empty() {
            return Err(StatementError::NoPinnedKey);
        }
        let key = keys
            .iter()
            .find(|k| k.sha256() == &self.tbs.signer_key_hash)
            .ok_or_else(|| StatementError::KeyNotPinned(hex::encode(self.tbs.signer_key_hash)))?;
        key.verify(&self.tbs_der, &self.signature)?;
        Ok(key)
    }

    /// What it states.
    #[must_use]
    pub const fn tbs(&self) -> &StatementTbs {
        &self.tbs
    }

    /// The signed bytes, as they came.
    #[must_use]
    pub fn tbs_der(&self) -> &[u8] {
        &self.tbs_der
    }
}

/// The statement's type as an [`Oid`].
#[must_use]
pub fn service_statement_oid() -> Oid {
    Oid::known(&SERVICE_STATEMENT_OID)
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

#[cfg(test)]
mod tests;
