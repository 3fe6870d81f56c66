//! What is known of a key by reading it back from its token. Facts are claims of the module, not
//! proof; proof is vendor evidence (the `attestation` crate).

use serde::{Deserialize, Serialize};

/// How a key is kept apart from other tenants' keys (ARCHITECTURE.md, "Processes").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IsolationClass {
    /// A token of the tenant's own, with a worker process of its own.
    ExclusiveToken,
    /// The device itself asks for an authorisation of this very key.
    PerKeyAuthorisation,
    /// A token shared with other tenants: isolation is a look-up table in the worker.
    SharedToken,
}

impl IsolationClass {
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

/// One attribute read back after generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadBack {
    /// PKCS#11 name, for example `CKA_SENSITIVE`.
    pub attribute: String,
    /// What the profile asks for, as text.
    pub wanted: String,
    /// What the token said, as text; `unsupported` where it has no such attribute.
    pub seen: String,
    /// Whether the profile requires it (a required one that differs destroys the key).
    pub required: bool,
}

/// The facts recorded with a key for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyFacts {
    /// `software` if the token is a software token (SoftHSM): for ever, everywhere (invariant 1).
    pub software: bool,
    /// Isolation from neighbours.
    pub isolation: IsolationClass,
    /// `CK_TOKEN_INFO.manufacturerID`, trimmed.
    pub manufacturer: String,
    /// `CK_TOKEN_INFO.model`, trimmed.
    pub model: String,
    /// `CK_TOKEN_INFO.serialNumber`, trimmed.
    pub serial: String,
    /// `CK_TOKEN_INFO.firmwareVersion`.
    pub firmware: String,
    /// The profile's name in hsm-config/.
    pub profile: String,
    /// Whether (tenant, key, SPKI) is bound by a MAC key inside the token.
    pub binding_mac: bool,
    /// Attributes read back.
    pub attributes: Vec<ReadBack>,
}
