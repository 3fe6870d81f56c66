//! What a device says of itself and of a key, on its way from a worker to a CA. Bytes are the
//! device's own: nothing here judges them (the `attestation` crate does).

use serde::{Deserialize, Serialize};

/// How a TPM presents itself to a CA before the CA believes its attestation key.
///
/// Source: TCG TPM 2.0 Library part 1 §24 (credential protection), TCG EK Credential Profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceIdentity {
    /// The endorsement key's certificate, DER, then its issuers where the device keeps them.
    pub endorsement: Vec<Vec<u8>>,
    /// TPMT_PUBLIC of the attestation key.
    pub attestation_key: Vec<u8>,
}

/// A secret that only the device with the endorsement key can read, and only while it holds the
/// attestation key of that name (TPM2_MakeCredential, part 3 §12.6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceChallenge {
    /// TPMS_ID_OBJECT: integrity HMAC (TPM2B_DIGEST), then the encrypted credential; without the
    /// outer TPM2B size.
    pub id_object: Vec<u8>,
    /// The encrypted seed, without the outer TPM2B size.
    pub encrypted_secret: Vec<u8>,
}

/// What a TPM certified of one key (TPM2_Certify, part 3 §18.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyCertification {
    /// TPMS_ATTEST; its `extraData` is the order's nonce.
    pub attest: Vec<u8>,
    /// TPMT_SIGNATURE by the attestation key.
    pub signature: Vec<u8>,
    /// TPMT_PUBLIC of the certified key.
    pub public: Vec<u8>,
}

/// A key's certification, and the attestation key's certificate with those above it, DER.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceEvidence {
    /// What the device certified.
    pub certification: KeyCertification,
    /// The attestation key's certificate, then its issuers.
    pub chain: Vec<Vec<u8>>,
}
