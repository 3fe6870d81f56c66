//! Why a worker refused or failed.

use crate::evidence::EvidenceProblem;
use serde::{Deserialize, Serialize};

/// What a PKCS#11 return value means for those who wait (OASIS PKCS#11 v3.x §5 with our table in
/// ARCHITECTURE.md): it decides between failing the request, trying again and stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ErrorClass {
    /// The request cannot be done by this token. No retry.
    Caller,
    /// The object handle is void: found again and tried once more by the worker itself.
    StaleHandle,
    /// The session is void: opened again and tried once more by the worker itself.
    SessionGone,
    /// Nobody is logged in: one login for all threads, then tried once more by the worker itself.
    LoginGone,
    /// The device is away. A later retry can help.
    DeviceGone,
    /// The module is of no more use: the worker exits and is restarted.
    Fatal,
    /// The token is out of sessions or memory. A later retry can help.
    Capacity,
    /// PIN trouble: nobody tries again, or the token locks.
    NeverRetry,
}

/// Why a worker did not do what was asked. The text is for operators; nothing secret is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum WorkerError {
    // ---- the log and the authorisation leaf: exact refusals
    /// The worker remembers fewer leaves. Nothing was done: resync, then retry.
    #[error("the worker's log is at {size}")]
    LogBehind {
        /// The worker's size.
        size: u64,
    },
    /// The checkpoint is older than what the worker has seen. Retrying cannot help: the database
    /// is older than the worker's memory.
    #[error("the worker has seen {seen} leaves, the checkpoint has {offered}")]
    StaleCheckpoint {
        /// The worker's size.
        seen: u64,
        /// The checkpoint's.
        offered: u64,
    },
    /// The checkpoint contradicts what the worker has seen, or does not follow from the leaves
    /// given. Retrying cannot help: this is a fork.
    #[error("the checkpoint contradicts the log the worker has seen")]
    CheckpointForked,
    /// Not a note, or not signed by a log key pinned when the token was made. No retry.
    #[error("the checkpoint is not signed by a pinned log key")]
    CheckpointUnsigned,
    /// A checkpoint of another log. No retry.
    #[error("the checkpoint is of another log: expected {expected}")]
    CheckpointWrongOrigin {
        /// The origin pinned.
        expected: String,
    },
    /// The worker's memory of the key's log is gone although the key is there. Refused until an
    /// operator acts (docs of hsm-config/).
    #[error("the worker's memory of this key's log is gone")]
    LogStateLost,
    /// Another leaf, or none, is at that place of the log. No retry.
    #[error("the log has another leaf at that index")]
    LeafNotInLog,
    /// The leaf was used, or is from before this worker's memory of open authorisations, or was not
    /// among those that its own server announced to use. A new authorisation is needed.
    #[error("the leaf was used already, is no longer open, or is another node's")]
    LeafAlreadyUsed,
    /// Not a leaf this worker understands. No retry.
    #[error("the leaf cannot be read: {0}")]
    LeafMalformed(String),
    /// A leaf of another type. No retry.
    #[error("the leaf is not an authorisation")]
    NotAnAuthorisation,
    /// The leaf names another tenant. No retry.
    #[error("the leaf is of another tenant")]
    LeafWrongTenant,
    /// The leaf names another key. No retry.
    #[error("the leaf is of another key")]
    LeafWrongKey,
    /// The leaf names another signature scheme. No retry.
    #[error("the leaf is of another signature scheme")]
    LeafWrongScheme,
    /// The leaf's commitment does not open to this digest. No retry.
    #[error("the leaf is of another digest")]
    LeafWrongDigest,
    /// The digest is not of the scheme's hash. No retry.
    #[error("the digest's algorithm is not the scheme's")]
    DigestNotOfScheme,
    /// The scheme does not fit the key. No retry.
    #[error("the signature scheme does not fit the key")]
    SchemeNotOfKey,

    // ---- keys and tokens
    /// No such key. No retry.
    #[error("the token has no such key")]
    NoSuchKey,
    /// Binding and token disagree: (tenant, key, SPKI) is not what was bound at generation.
    /// Refused until an operator acts.
    #[error("the key's binding does not hold: {0}")]
    BindingBroken(String),
    /// The id is taken by an object without a binding, or by a key of another algorithm. Choose
    /// another id.
    #[error("the key id is taken: {0}")]
    KeyIdTaken(String),
    /// A required attribute read back wrong; the pair was destroyed. Retrying cannot help.
    #[error("required attribute {attribute} read back as {seen}, wanted {wanted}")]
    AttributeMismatch {
        /// PKCS#11 name.
        attribute: String,
        /// What the profile requires.
        wanted: String,
        /// What the token said.
        seen: String,
    },
    /// There is no token yet. `InitToken` first.
    #[error("there is no token yet")]
    TokenAbsent,
    /// The module does not have the token that is configured, or several that could be meant. Correct
    /// the configuration or put the device back.
    #[error("{0}")]
    TokenMissing(String),
    /// The token has another tenant or other pins. No retry.
    #[error("the token is somebody else's: {0}")]
    TokenTaken(String),
    /// Parts of the worker's state folder are gone or contradict the token. Refused until an
    /// operator acts.
    #[error("the worker's state folder: {0}")]
    StateBroken(String),
    /// The PIN latch is set. Refused until an operator acts.
    #[error("the PIN latch is set: {0}")]
    Latched(String),
    /// The module cannot be loaded; the text says what to install.
    #[error("{0}")]
    ModuleMissing(String),

    /// The device gave no evidence. No retry helps before something is changed.
    #[error(transparent)]
    Evidence(#[from] EvidenceProblem),

    // ---- the call
    /// A field of the request is out of bounds. No retry.
    #[error("{field}: {problem}")]
    BadRequest {
        /// Which.
        field: String,
        /// How.
        problem: String,
    },
    /// Too many requests wait. Nothing was done; retry later.
    #[error("the worker has too many requests waiting")]
    Busy,
    /// The deadline passed before the work began. The authorisation is used up, no signature was
    /// made.
    #[error("the deadline passed before the work began")]
    Expired,
    /// The worker stops. Nothing was done; a retry can help.
    #[error("the worker is stopping")]
    Stopping,
    /// PKCS#11 error.
    #[error("{function} gave {code} ({class:?})")]
    Module {
        /// What it means.
        class: ErrorClass,
        /// For example `C_Sign`.
        function: String,
        /// For example `CKR_DEVICE_ERROR`.
        code: String,
        /// Whether a signature may have been made although none is returned.
        signature_possible: bool,
    },
    /// The worker's own fault. A retry may help; tell us.
    #[error("internal: {0}")]
    Internal(String),
}

impl WorkerError {
    /// A stable code, for logs and refusals.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::LogBehind { .. } => "log-behind",
            Self::StaleCheckpoint { .. } => "stale-checkpoint",
            Self::CheckpointForked => "checkpoint-forked",
            Self::CheckpointUnsigned => "checkpoint-unsigned",
            Self::CheckpointWrongOrigin { .. } => "checkpoint-wrong-origin",
            Self::LogStateLost => "log-state-lost",
            Self::LeafNotInLog => "leaf-not-in-log",
            Self::LeafAlreadyUsed => "leaf-already-used",
            Self::LeafMalformed(_) => "leaf-malformed",
            Self::NotAnAuthorisation => "not-an-authorisation",
            Self::LeafWrongTenant => "leaf-wrong-tenant",
            Self::LeafWrongKey => "leaf-wrong-key",
            Self::LeafWrongScheme => "leaf-wrong-scheme",
            Self::LeafWrongDigest => "leaf-wrong-digest",
            Self::DigestNotOfScheme => "digest-not-of-scheme",
            Self::SchemeNotOfKey => "scheme-not-of-key",
            Self::NoSuchKey => "no-such-key",
            Self::BindingBroken(_) => "binding-broken",
            Self::KeyIdTaken(_) => "key-id-taken",
            Self::AttributeMismatch { .. } => "attribute-mismatch",
            Self::TokenAbsent => "token-absent",
            Self::TokenMissing(_) => "token-missing",
            Self::TokenTaken(_) => "token-taken",
            Self::StateBroken(_) => "state-broken",
            Self::Latched(_) => "pin-latched",
            Self::ModuleMissing(_) => "module-missing",
            Self::Evidence(problem) => problem.code(),
            Self::BadRequest { .. } => "bad-request",
            Self::Busy => "busy",
            Self::Expired => "expired",
            Self::Stopping => "stopping",
            Self::Module { .. } => "module",
            Self::Internal(_) => "internal",
        }
    }
}
