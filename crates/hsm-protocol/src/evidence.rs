//! Why a device gave no evidence of itself or of a key.

use serde::{Deserialize, Serialize};

/// What is in the way. The text is for operators; nothing secret is in it. No retry helps before
/// something is changed, but with `StoreBusy`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum EvidenceProblem {
    /// The module's profile names no adapter.
    #[error("profile {profile} has no evidence adapter")]
    NoAdapter {
        /// The profile's name.
        profile: String,
    },
    /// The program lacks the adapter that the profile names.
    #[error("this worker was built without the {adapter} adapter")]
    NotBuilt {
        /// For example `TPM`.
        adapter: String,
    },
    /// The token's environment does not say how the adapter reaches the device, or its store.
    #[error("{variable} in the token's environment: {problem}")]
    Unconfigured {
        /// Which variable.
        variable: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The adapter reads what is private to a module, so it knows one version of one module.
    #[error("the adapter knows {known}; the module here is {seen}")]
    UnknownModule {
        /// What it was written for.
        known: String,
        /// What the module says of itself.
        seen: String,
    },
    /// The module's store of keys is not as the adapter knows it.
    #[error("the module's store: {problem}")]
    Store {
        /// How it differs.
        problem: String,
    },
    /// The module's store was being changed. Nothing was done; a retry can help.
    #[error("the module's store was being changed while it was read")]
    StoreBusy,
    /// The device has no certificate of its maker where one is kept.
    #[error("the TPM has no endorsement certificate at {indices}")]
    NoEndorsementCertificate {
        /// Where it was looked for.
        indices: String,
    },
    /// The certificate in the device is no DER certificate, or not its endorsement key's.
    #[error("the TPM's endorsement certificate: {problem}")]
    EndorsementCertificate {
        /// What is wrong.
        problem: String,
    },
    /// The attestation key that was kept is of no use any more.
    #[error("the attestation key in {file}: {problem}")]
    AttestationKey {
        /// Where it was kept.
        file: String,
        /// Why not.
        problem: String,
    },
    /// The challenge was made for another device or another attestation key, or was changed.
    #[error(
        "the TPM does not open the challenge: it is for another TPM or attestation key ({code})"
    )]
    ChallengeRefused {
        /// The TPM's code.
        code: String,
    },
    /// What the module holds under this id is not the key that was bound.
    #[error("the module holds another key under this id: {problem}")]
    OtherKey {
        /// How it differs.
        problem: String,
    },
}

impl EvidenceProblem {
    /// A stable code, for logs and refusals.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoAdapter { .. } => "evidence-no-adapter",
            Self::NotBuilt { .. } => "evidence-not-built",
            Self::Unconfigured { .. } => "evidence-unconfigured",
            Self::UnknownModule { .. } => "evidence-unknown-module",
            Self::Store { .. } => "evidence-store",
            Self::StoreBusy => "evidence-store-busy",
            Self::NoEndorsementCertificate { .. } => "evidence-no-endorsement-certificate",
            Self::EndorsementCertificate { .. } => "evidence-endorsement-certificate",
            Self::AttestationKey { .. } => "evidence-attestation-key",
            Self::ChallengeRefused { .. } => "evidence-challenge-refused",
            Self::OtherKey { .. } => "evidence-other-key",
        }
    }
}
