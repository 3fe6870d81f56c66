//! What can go wrong in the service. The API turns each variant into a problem document by one
//! table; nothing here knows HTTP.

use countersign_core::key_state::TransitionRefused;
use countersign_core::ports::ca::CaError;
use countersign_core::ports::hsm::HsmError;
use countersign_core::ports::rows::Role;
use countersign_core::ports::store::{CommitError, StoreError};
use countersign_core::{KeyState, LogId, Micros};
use countersign_grants::Decision;

/// Why a request was not done. Unless the variant says otherwise nothing was changed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SigningError {
    /// Absent, or another tenant's: the caller cannot tell which (invariant 4). No retry.
    #[error("there is no such thing here")]
    NotFound,
    /// The caller's role in its own tenant does not allow this. No retry.
    #[error("this needs the role {}", need.as_str())]
    Forbidden {
        /// A role that would do.
        need: Role,
    },
    /// The tenant wants MFA for admin actions and the caller's token does not show it. Log in again
    /// with a second factor, then retry.
    #[error("this needs a login with a second factor: the token has no accepted amr or acr value")]
    MfaRequired,
    /// No grant allows it; the decision says why, claim by claim. No retry.
    #[error("no grant allows this")]
    Denied {
        /// Reasons.
        decision: Box<Decision>,
    },
    /// The service token was bound to other signers. Exchange again with the right scope.
    #[error("the token is not for this signer")]
    TokenNotForSigner,
    /// What was sent is not a content that may be signed. No retry.
    #[error("this content may not be signed: {detail}")]
    ContentRefused {
        /// Stable code of the content crate.
        code: String,
        /// For people.
        detail: String,
    },
    /// The signer has no key that signs; the best of its keys is in this state. No retry.
    #[error("the signer's key is {state}: only an active key signs")]
    KeyNotActive {
        /// State.
        state: KeyState,
    },
    /// The signer has no key at all. No retry.
    #[error("the signer has no key")]
    NoKey,
    /// The certificate is not valid at this time. No retry.
    #[error("the certificate is valid from {} to {} (Unix seconds)", not_before.seconds(), not_after.seconds())]
    CertificateOutsideValidity {
        /// From.
        not_before: Micros,
        /// To.
        not_after: Micros,
    },
    /// The CA revoked the certificate, or holds it. No retry, except that a hold may be lifted.
    #[error(
        "the CA {} the certificate as of {} ({reason})",
        if *on_hold { "put on hold" } else { "revoked" },
        crate::revocation::moment(*since)
    )]
    CertificateRevoked {
        /// The CA's date.
        since: Micros,
        /// The CA's reason, by its name in RFC 5280 §5.3.1.
        reason: String,
        /// It may come back.
        on_hold: bool,
    },
    /// Nobody knows whether the certificate is still good: its CA's list could not be had for too
    /// long. A retry can help once it can.
    #[error(
        "whether the certificate was revoked is not known since {}: {why}",
        crate::revocation::moment(*since)
    )]
    CertificateStatusUnknown {
        /// Since when.
        since: Micros,
        /// Why the last look came to nothing.
        why: String,
    },
    /// The same request is being worked on: ask again in a second.
    #[error("a request with this idempotency key is in flight")]
    IdempotencyInFlight,
    /// The idempotency key was used for something else. Use another.
    #[error("this idempotency key was used for another request")]
    IdempotencyMismatch,
    /// As many of these as the deployment allows. Remove one, or ask the operator for more.
    #[error("{most} {what} for each {of} are as many as this deployment allows")]
    Limit {
        /// Of what, in the plural.
        what: &'static str,
        /// Whose: `tenant` or `signer`.
        of: &'static str,
        /// How many.
        most: u32,
    },
    /// Something by that name exists, or is not in the state expected. No retry.
    #[error("{what}")]
    Conflict {
        /// For people.
        what: String,
    },
    /// A field is wrong. No retry.
    #[error("{field}: {detail}")]
    Invalid {
        /// Which field.
        field: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The life cycle has no such step. No retry.
    #[error(transparent)]
    Transition(#[from] TransitionRefused),
    /// The appraisal does not meet the tenant's policy: no CSR leaves. No retry.
    #[error("the key's appraisal does not allow this")]
    Appraisal {
        /// Reasons.
        reasons: Vec<String>,
    },
    /// The certificate that came back is not what was ordered. It was not installed.
    #[error("the certificate was not accepted")]
    CertificateRejected {
        /// One line per finding, with its rule.
        findings: Vec<String>,
    },
    /// The CA refused. The order is kept with its reasons. No retry of the same request.
    #[error("the CA refused: {detail}")]
    CaRefused {
        /// The CA's words.
        detail: String,
        /// Its reasons.
        reasons: Vec<String>,
    },
    /// The CA is not reachable. The order is kept; a retry can help.
    #[error("{0}")]
    CaUnavailable(String),
    /// Too much is waiting. A retry can help.
    #[error("too much is waiting")]
    Busy,
    /// A part is away for now. A retry can help; with an idempotency key it is safe.
    #[error("{0}")]
    Unavailable(String),
    /// The token's worker has seen more of the log than the database has: the database is an old
    /// copy. Nothing is signed until an operator acts (invariant 3).
    #[error(
        "the database is older than the last signature: the worker has seen {worker} leaves of log {log}, \
         the database has {database}"
    )]
    HistoryRewound {
        /// Which log.
        log: LogId,
        /// The worker's size.
        worker: u64,
        /// Ours.
        database: u64,
    },
    /// This node stalled past its lease and another node declared it dead: it writes nothing and
    /// lets nothing out any more. A retry at another node can help; with an idempotency key it is
    /// safe.
    #[error("this node stalled and was declared dead: ask again")]
    Buried,
    /// The token is latched or the request quarantined: an operator must act.
    #[error("{0}")]
    TokenRefuses(String),
    /// A bug or a broken database. The text stays in our logs.
    #[error("internal: {0}")]
    Internal(String),
}

impl SigningError {
    /// A field that is wrong.
    pub(crate) fn invalid(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Invalid {
            field: field.into(),
            detail: detail.into(),
        }
    }

    /// Something that contradicts the state of things.
    pub(crate) fn conflict(what: impl Into<String>) -> Self {
        Self::Conflict { what: what.into() }
    }
}

impl From<StoreError> for SigningError {
    fn from(e: StoreError) -> Self {
        match e {
            StoreError::Unavailable(_) => Self::Unavailable(e.to_string()),
            StoreError::Corrupt { .. } => Self::Internal(e.to_string()),
        }
    }
}

impl From<CommitError> for SigningError {
    fn from(e: CommitError) -> Self {
        match e {
            CommitError::Conflict { what, .. } => Self::Conflict { what },
            CommitError::Buried => Self::Buried,
            CommitError::Guard(_)
            | CommitError::ClaimTaken { .. }
            | CommitError::HeadMoved { .. }
            | CommitError::NotOpen { .. }
            | CommitError::Unavailable(_)
            | CommitError::Unknown(_) => Self::Unavailable(e.to_string()),
        }
    }
}

impl From<HsmError> for SigningError {
    fn from(e: HsmError) -> Self {
        match e {
            HsmError::Busy => Self::Busy,
            HsmError::Unavailable(_)
            | HsmError::Deadline
            | HsmError::LogBehind { .. }
            | HsmError::Module(_) => Self::Unavailable(e.to_string()),
            HsmError::Latched(_)
            | HsmError::Quarantined
            | HsmError::ModuleMissing(_)
            | HsmError::NoEvidence(_) => Self::TokenRefuses(e.to_string()),
            // The worker's folder or token is not what it was: an operator must act.
            HsmError::Refused { ref code, .. }
                if matches!(
                    code.as_str(),
                    "log-state-lost" | "state-broken" | "binding-broken" | "checkpoint-forked"
                ) || code.starts_with("evidence-") =>
            {
                Self::TokenRefuses(e.to_string())
            }
            // A leaf is asked for once. So the worker that took it up is gone, and its successor never
            // opens what came before it: nothing was signed, and another attempt gets a new leaf.
            HsmError::Refused { ref code, .. } if code == "leaf-already-used" => Self::Unavailable(
                "the token's worker was restarted between the record and the use".into(),
            ),
            // Asked only for keys of the database: the token has lost it.
            HsmError::NoSuchKey => Self::TokenRefuses(e.to_string()),
            HsmError::LogRewound { .. } | HsmError::Refused { .. } => Self::Internal(e.to_string()),
        }
    }
}

impl From<CaError> for SigningError {
    fn from(e: CaError) -> Self {
        match e {
            CaError::Refused { detail, reasons } => Self::CaRefused { detail, reasons },
            CaError::NoDeviceSteps => Self::CaRefused {
                detail: e.to_string(),
                reasons: Vec::new(),
            },
            CaError::Unavailable(_) | CaError::Protocol(_) => Self::CaUnavailable(e.to_string()),
        }
    }
}
