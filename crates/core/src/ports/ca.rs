//! The port to certificate authorities: an order with steps, not one call.

use super::evidence::{DeviceChallenge, DeviceEvidence, DeviceIdentity};
use crate::OrderId;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

/// Who the certificate is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateSubject {
    /// Legal name (CSBR §7.1.4.2.2).
    pub common_name: String,
    /// Organisation.
    pub organization: String,
    /// ISO 3166 two-letter country.
    pub country: String,
    /// Locality.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locality: Option<String>,
    /// State or province.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

/// What an order is opened with.
#[derive(Debug, Clone, Copy)]
pub struct NewOrder<'a> {
    /// Our order.
    pub order: OrderId,
    /// The subscriber's name with us.
    pub subscriber: &'a str,
    /// The device that holds the key, where it speaks for itself.
    pub device: Option<&'a DeviceIdentity>,
}

/// What a CA gives when an order is opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenedOrder {
    /// The CA's own id of the order.
    pub reference: String,
    /// Nonce to be bound into the statement (and vendor evidence that can carry one).
    pub nonce: Vec<u8>,
    /// The audience name the statement must carry.
    pub audience: String,
    /// The common name that the request has to carry, where the CA leaves no choice: an ACME CA takes
    /// none but the identifier of the order (RFC 8555 §7.4).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub common_name: Option<String>,
}

/// What is handed over: never a naked CSR (invariant 5), so these travel in one type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateRequest {
    /// PKCS#10, DER, with the attestation attribute.
    pub csr: Vec<u8>,
    /// Service statement, DER.
    pub statement: Vec<u8>,
    /// Vendor evidence, in the vendor's own encoding.
    pub evidence: Vec<Vec<u8>>,
    /// What the device certified for this very order. It is in the CSR's attribute as well; here for a
    /// CA that wants it in an envelope of its own.
    pub device: Option<DeviceEvidence>,
}

/// Where an order stands after a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderStep {
    /// Ask again later.
    Waiting {
        /// Seconds the CA asks us to wait.
        retry_after_s: u32,
    },
    /// Certificates, leaf first, DER.
    Issued {
        /// Leaf, then intermediates.
        chain: Vec<Vec<u8>>,
    },
}

/// A CA that has a connector.
#[async_trait]
pub trait CertificateAuthority: Send + Sync + 'static {
    /// Name in the configuration.
    fn name(&self) -> &str;
    /// Whether this connector may be given software keys. Production connectors never (invariant 1).
    fn takes_software_keys(&self) -> bool;
    /// The connector whose device steps certify attestation keys for this CA, by its name in the
    /// configuration; `None` where the CA does that itself, or not at all.
    fn attestation_ca(&self) -> Option<&str> {
        None
    }
    /// Opens an order.
    async fn open(&self, new: NewOrder<'_>) -> Result<OpenedOrder, CaError>;
    /// A step of its own for keys in a TPM, between opening and handing over: presents the device.
    /// The CA answers with a challenge for it.
    ///
    /// # Errors
    /// [`CaError::NoDeviceSteps`] where the CA, or the connector, has no such step;
    /// [`CaError::Refused`] with the CA's reasons against this device.
    async fn identify(
        &self,
        reference: &str,
        device: &DeviceIdentity,
    ) -> Result<DeviceChallenge, CaError> {
        let _ = (reference, device);
        Err(CaError::NoDeviceSteps)
    }
    /// Hands over the secret that the device read out of the challenge. A challenge takes one answer,
    /// right or wrong. The CA gives the attestation key's certificate and those above it, DER.
    ///
    /// # Errors
    /// As [`CertificateAuthority::identify`].
    async fn answer(&self, reference: &str, secret: &[u8]) -> Result<Vec<Vec<u8>>, CaError> {
        let _ = (reference, secret);
        Err(CaError::NoDeviceSteps)
    }
    /// Hands over request, statement and evidence.
    async fn submit(
        &self,
        reference: &str,
        request: &CertificateRequest,
    ) -> Result<OrderStep, CaError>;
    /// Asks how an order stands. `csr` is the request that was handed over, as it is kept with the order:
    /// a CA that judges the evidence first, and in its own time, is given it again when it is ready.
    async fn poll(&self, reference: &str, csr: &[u8]) -> Result<OrderStep, CaError>;
}

/// Why a CA did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CaError {
    /// No connection, a time-out or a 5xx. A retry can help; the order is kept.
    #[error("the CA is not reachable: {0}")]
    Unavailable(String),
    /// The CA refused and said why. Retrying the same request cannot help.
    #[error("the CA refused: {detail}")]
    Refused {
        /// The CA's own words.
        detail: String,
        /// Its reasons, one per check.
        reasons: Vec<String>,
    },
    /// The CA certifies no attestation keys: its orders have no steps for a device. The order itself
    /// is untouched and can go on without them. Retrying cannot help.
    #[error("the CA has no steps for a device: it certifies no attestation keys")]
    NoDeviceSteps,
    /// The CA's answer could not be understood.
    #[error("the CA's answer is not understood: {0}")]
    Protocol(String),
}
