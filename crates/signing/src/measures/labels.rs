//! What is told apart in the counts: closed lists, and how our own words map to them.

use crate::SigningError;
use countersign_core::measure::Label;
use countersign_core::ports::store::CommitError;
use countersign_core::{HashAlgorithm, SignatureScheme, labels};
use countersign_signing_log::leaf::{ContentKind, OutcomeResult};

labels! {
    /// Why a request to sign, or one of its items, got no signature.
    pub enum RefusalReason {
        /// Absent, or another tenant's.
        NotFound = "not-found",
        /// A role is missing.
        Forbidden = "forbidden",
        /// A second factor is missing.
        MfaRequired = "mfa-required",
        /// No grant allows it.
        NoGrant = "no-grant",
        /// The token is bound to other signers.
        TokenNotForSigner = "token-not-for-signer",
        /// The content may not be signed.
        ContentRefused = "content-refused",
        /// The key is suspended, retired, ….
        KeyNotActive = "key-not-active",
        /// The signer has no key.
        NoKey = "no-key",
        /// The certificate is not valid now.
        CertificateOutsideValidity = "certificate-outside-validity",
        /// The certificate was revoked.
        CertificateRevoked = "certificate-revoked",
        /// Whether it was revoked is not known, recently enough.
        CertificateStatusUnknown = "certificate-status-unknown",
        /// The same request is under way.
        IdempotencyInFlight = "idempotency-in-flight",
        /// The idempotency key was another request's.
        IdempotencyMismatch = "idempotency-mismatch",
        /// Contradicts what is there.
        Conflict = "conflict",
        /// A tenant has as many as it may.
        Limit = "limit",
        /// A field is wrong.
        Invalid = "invalid",
        /// The life cycle has no such step.
        Transition = "transition",
        /// The appraisal does not allow it.
        Appraisal = "appraisal",
        /// A certificate was not accepted.
        CertificateRejected = "certificate-rejected",
        /// The CA refused.
        CaRefused = "ca-refused",
        /// The CA is away.
        CaUnavailable = "ca-unavailable",
        /// Too much waits.
        Busy = "busy",
        /// A part is away.
        Unavailable = "unavailable",
        /// The database is an old copy.
        HistoryRewound = "history-rewound",
        /// This node stalled and was declared dead.
        Buried = "buried",
        /// The token refuses until an operator acts.
        TokenRefuses = "token-refuses",
        /// A bug or a broken database.
        Internal = "internal",
    }
}

labels! {
    /// Type of what was signed, as in the leaf.
    pub enum Content {
        /// A Windows executable.
        Authenticode = "authenticode",
        /// Any file.
        Cms = "cms",
        /// A digest of something the service never saw.
        RawDigest = "raw-digest",
        /// Our own certificate requests.
        CertificateRequest = "certificate-request",
    }
}

labels! {
    /// What became of an authorisation.
    pub enum OutcomeLabel {
        /// A signature that was verified.
        Signed = "signed",
        /// None was made.
        Failed = "failed",
        /// One may have been made.
        Unknown = "unknown",
    }
}

labels! {
    /// What became of a commit.
    pub enum CommitLabel {
        /// Durable.
        Done = "done",
        /// Nothing was written: a guard, a claim or the state of things said no.
        Refused = "refused",
        /// Another node moved this log's head: planned anew.
        HeadMoved = "head-moved",
        /// This node stalled and was declared dead.
        Buried = "buried",
        /// The database is away; nothing was written.
        Unavailable = "unavailable",
        /// Nobody knows if it was written.
        Unknown = "unknown",
    }
}

labels! {
    /// How near a certificate of an active key is to its end.
    pub enum CertificateLabel {
        /// Ends soon.
        NearEnd = "near-end",
        /// Its list of revocations could not be had, or judged, at the last look.
        ListFailing = "list-failing",
    }
}

/// Signature schemes as label values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchemeLabel(pub SignatureScheme);

impl Label for SchemeLabel {
    const ALL: &'static [Self] = &[
        Self(SignatureScheme::RsaPkcs1(HashAlgorithm::Sha256)),
        Self(SignatureScheme::RsaPkcs1(HashAlgorithm::Sha384)),
        Self(SignatureScheme::RsaPkcs1(HashAlgorithm::Sha512)),
        Self(SignatureScheme::Ecdsa(HashAlgorithm::Sha256)),
        Self(SignatureScheme::Ecdsa(HashAlgorithm::Sha384)),
        Self(SignatureScheme::Ecdsa(HashAlgorithm::Sha512)),
    ];

    fn label(self) -> &'static str {
        self.0.as_str()
    }

    fn index(self) -> usize {
        let hash = |h| match h {
            HashAlgorithm::Sha256 => 0,
            HashAlgorithm::Sha384 => 1,
            HashAlgorithm::Sha512 => 2,
        };
        match self.0 {
            SignatureScheme::RsaPkcs1(h) => hash(h),
            SignatureScheme::Ecdsa(h) => hash(h) + 3,
        }
    }
}

impl From<ContentKind> for Content {
    fn from(kind: ContentKind) -> Self {
        match kind {
            ContentKind::Authenticode => Self::Authenticode,
            ContentKind::Cms => Self::Cms,
            ContentKind::RawDigest => Self::RawDigest,
            ContentKind::CertificateRequest => Self::CertificateRequest,
        }
    }
}

impl From<OutcomeResult> for OutcomeLabel {
    fn from(result: OutcomeResult) -> Self {
        match result {
            OutcomeResult::Signed => Self::Signed,
            OutcomeResult::Failed => Self::Failed,
            OutcomeResult::Unknown => Self::Unknown,
        }
    }
}

impl From<&CommitError> for CommitLabel {
    fn from(error: &CommitError) -> Self {
        match error {
            CommitError::Guard(_)
            | CommitError::ClaimTaken { .. }
            | CommitError::Conflict { .. }
            | CommitError::NotOpen { .. } => Self::Refused,
            CommitError::HeadMoved { .. } => Self::HeadMoved,
            CommitError::Buried => Self::Buried,
            CommitError::Unavailable(_) => Self::Unavailable,
            CommitError::Unknown(_) => Self::Unknown,
        }
    }
}

/// No wildcard: a new error says here how it is counted.
impl From<&SigningError> for RefusalReason {
    fn from(error: &SigningError) -> Self {
        match error {
            SigningError::NotFound => Self::NotFound,
            SigningError::Forbidden { .. } => Self::Forbidden,
            SigningError::MfaRequired => Self::MfaRequired,
            SigningError::Denied { .. } => Self::NoGrant,
            SigningError::TokenNotForSigner => Self::TokenNotForSigner,
            SigningError::ContentRefused { .. } => Self::ContentRefused,
            SigningError::KeyNotActive { .. } => Self::KeyNotActive,
            SigningError::NoKey => Self::NoKey,
            SigningError::CertificateOutsideValidity { .. } => Self::CertificateOutsideValidity,
            SigningError::CertificateRevoked { .. } => Self::CertificateRevoked,
            SigningError::CertificateStatusUnknown { .. } => Self::CertificateStatusUnknown,
            SigningError::Limit { .. } => Self::Limit,
            SigningError::IdempotencyInFlight => Self::IdempotencyInFlight,
            SigningError::IdempotencyMismatch => Self::IdempotencyMismatch,
            SigningError::Conflict { .. } => Self::Conflict,
            SigningError::Invalid { .. } => Self::Invalid,
            SigningError::Transition(_) => Self::Transition,
            SigningError::Appraisal { .. } => Self::Appraisal,
            SigningError::CertificateRejected { .. } => Self::CertificateRejected,
            SigningError::CaRefused { .. } => Self::CaRefused,
            SigningError::CaUnavailable(_) => Self::CaUnavailable,
            SigningError::Busy => Self::Busy,
            SigningError::Unavailable(_) => Self::Unavailable,
            SigningError::HistoryRewound { .. } => Self::HistoryRewound,
            SigningError::Buried => Self::Buried,
            SigningError::TokenRefuses(_) => Self::TokenRefuses,
            SigningError::Internal(_) => Self::Internal,
        }
    }
}
