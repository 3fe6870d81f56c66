//! The public keys that sign statements: ECDSA P-256, pinned by whoever verifies.

use super::{StatementError, sha256};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use der::{Decode, Encode, pem};
use spki::{ObjectIdentifier, SubjectPublicKeyInfoOwned};

const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const PRIME256V1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");

/// A statement key somebody pins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementKey {
    spki: Vec<u8>,
    point: Vec<u8>,
    sha256: [u8; 32],
}

impl StatementKey {
    /// From DER SubjectPublicKeyInfo with the named curve P-256 and an uncompressed point.
    ///
    /// # Errors
    /// [`StatementError::NotAStatementKey`] for anything else; retrying cannot help.
    pub fn from_spki_der(spki: &[u8]) -> Result<Self, StatementError> {
        let bad = StatementError::NotAStatementKey;
        let info = SubjectPublicKeyInfoOwned::from_der(spki).map_err(|_| bad.clone())?;
        let curve = info
            .algorithm
            .parameters
            .as_ref()
            .and_then(|p| p.decode_as::<ObjectIdentifier>().ok());
        let point = info.subject_public_key.as_bytes().unwrap_or_default();
        if info.algorithm.oid != EC_PUBLIC_KEY
            || curve != Some(PRIME256V1)
            || point.len() != 65
            || point.first() != Some(&4)
            || info.to_der().ok().as_deref() != Some(spki)
        {
            return Err(bad);
        }
        let point = point.to_vec();
        // On the curve or not is aws-lc's to say.
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &point)
            .parse()
            .map_err(|_| bad)?;
        Ok(Self {
            spki: spki.to_vec(),
            point,
            sha256: sha256(spki),
        })
    }

    /// From one PEM block `PUBLIC KEY` (RFC 7468 §13).
    ///
    /// # Errors
    /// As [`StatementKey::from_spki_der`].
    pub fn from_pem(text: &[u8]) -> Result<Self, StatementError> {
        match pem::decode_vec(text) {
            Ok(("PUBLIC KEY", der)) => Self::from_spki_der(&der),
            _ => Err(StatementError::NotAStatementKey),
        }
    }

    /// The DER SubjectPublicKeyInfo.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// SHA-256 of the SubjectPublicKeyInfo: how statements name the key.
    #[must_use]
    pub const fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }

    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), StatementError> {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.point)
            .verify(message, signature)
            .map_err(|_| StatementError::BadSignature)
    }
}
