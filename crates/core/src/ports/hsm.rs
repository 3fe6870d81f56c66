//! The port to the tokens: what the service asks of the worker processes.

use crate::ports::evidence::{DeviceChallenge, DeviceIdentity, KeyCertification};
use crate::trace::SpanRef;
use crate::{
    Digest, IsolationClass, KeyAlgorithm, KeyFacts, KeyId, SignatureScheme, TenantId, TenantName,
};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// What a worker pins when a token is made, for ever: it believes only checkpoints of logs named
/// `<origin_prefix>/<key id>` signed by one of these keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPins {
    /// For example `sign.example.com/log`.
    pub origin_prefix: String,
    /// Ed25519 public keys.
    pub log_public_keys: Vec<[u8; 32]>,
}

/// What is known of a tenant's token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenFacts {
    /// Token label.
    pub label: String,
    /// `CK_TOKEN_INFO.manufacturerID`.
    pub manufacturer: String,
    /// `CK_TOKEN_INFO.model`.
    pub model: String,
    /// `CK_TOKEN_INFO.serialNumber`.
    pub serial: String,
    /// `CK_TOKEN_INFO.firmwareVersion`.
    pub firmware: String,
    /// A software token says so for ever.
    pub software: bool,
    /// Isolation of its keys.
    pub isolation: IsolationClass,
    /// The profile in hsm-config/ that it is run under.
    pub profile: String,
}

/// A key pair just made, read back and bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GeneratedKey {
    /// SubjectPublicKeyInfo, DER.
    pub spki: Vec<u8>,
    /// What the token said of it.
    pub facts: KeyFacts,
}

/// New leaves of a key's log, with the checkpoint that covers them. The worker appends the leaf
/// hashes to its own right edge: if that does not give the checkpoint's root, it believes nothing.
#[derive(Debug, Clone)]
pub struct LogAdvance {
    /// Whose log.
    pub key: KeyId,
    /// Tree size before these leaves.
    pub from_size: u64,
    /// The signed checkpoint (a C2SP signed note).
    pub checkpoint: Arc<str>,
    /// Leaf hashes from `from_size` up to the checkpoint's size.
    pub leaf_hashes: Vec<[u8; 32]>,
    /// Indices of the authorisations among them that this node may perform. The others are other
    /// nodes', or no authorisations.
    pub uses: Vec<u64>,
}

/// Brings a worker that fell behind (restart, gap) to a later checkpoint, with a proof that it
/// extends the one the worker remembers.
#[derive(Debug, Clone)]
pub struct LogResync {
    /// Whose log.
    pub key: KeyId,
    /// The signed checkpoint.
    pub checkpoint: Arc<str>,
    /// RFC 6962 consistency proof from the worker's size to the checkpoint's size.
    pub consistency_proof: Vec<[u8; 32]>,
    /// Size of the tree whose right edge follows.
    pub base_size: u64,
    /// Right edge at `base_size`, largest subtree first.
    pub base_frontier: Vec<[u8; 32]>,
    /// Leaf hashes from `base_size` up to the checkpoint's size.
    pub leaf_hashes: Vec<[u8; 32]>,
    /// Indices of the authorisations among the leaves the worker has not seen that this node may
    /// perform.
    pub uses: Vec<u64>,
}

/// One use of a key. It names the authorisation leaf that is already in the key's log.
#[derive(Debug, Clone)]
pub struct SignOrder {
    /// Which key.
    pub key: KeyId,
    /// Index of the authorisation leaf in the key's log.
    pub index: u64,
    /// The leaf's exact bytes.
    pub leaf: Vec<u8>,
    /// The scheme, equal to the leaf's.
    pub scheme: SignatureScheme,
    /// What is signed; the leaf's `tbs` commitment opens to it.
    pub digest: Digest,
    /// Salt of that commitment.
    pub tbs_salt: [u8; 32],
    /// The span that asks, for the worker's log lines; it decides nothing.
    pub trace: Option<SpanRef>,
}

/// A signature and what it took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// ECDSA as DER.
    pub signature: Vec<u8>,
    /// Where its time went.
    pub spent: Spent,
}

/// Where a signature's time went in the worker, by the worker's own clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// Waiting for a session.
    pub queued: Duration,
    /// In the module's `C_Sign`.
    pub signing: Duration,
}

/// What a worker found in its token.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// Keys bound and present.
    pub keys: Vec<KeyId>,
    /// Objects nobody knows: `CKA_ID` as hex. Left by a crash during generation, or somebody
    /// else's doing.
    pub orphans: Vec<String>,
    /// Keys with a binding and no object.
    pub lost: Vec<KeyId>,
}

/// Health of one token, for `/readyz` and operators.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenHealth {
    /// The tenant's id for a token of its own, else the name in `[[token]]`.
    pub token: String,
    /// Whose alone, where that is known.
    pub tenant: Option<TenantId>,
    /// `up`, `starting`, `down` or `latched`.
    pub state: String,
    /// Why, where it is not `up`.
    pub reason: Option<String>,
    /// How its worker is confined, where it is `up`.
    pub sandbox: Vec<SandboxMeasure>,
}

/// One measure of a worker's sandbox, and what became of it on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxMeasure {
    /// `no-new-privileges`, `no-core-dump`, `files`, `network` or `system-calls`.
    pub measure: String,
    /// Whether it holds.
    pub enforced: bool,
    /// How, or what the kernel or the configuration lacks.
    pub detail: String,
}

/// The tokens: one for each tenant, or one that several share. Every call names the tenant, and the
/// worker checks again whose key it is.
#[async_trait]
pub trait Hsm: Send + Sync + 'static {
    /// Makes a token for the tenant. When it returns the token exists, its PIN is sealed with the
    /// worker and the pins are on the worker's disk. Calling it again for a tenant that has a
    /// token returns that token's facts.
    /// Where the configuration names the tenant for a token that is there already, nothing is
    /// made: the tenant's keys will be in that one.
    async fn create_token(
        &self,
        tenant: TenantId,
        name: &TenantName,
        pins: &LogPins,
    ) -> Result<TokenFacts, HsmError>;

    /// Makes a key pair under an id chosen beforehand. When it returns, the attributes were read
    /// back and the binding (tenant, key, SPKI) is on disk.
    async fn generate_key(
        &self,
        tenant: TenantId,
        key: KeyId,
        algorithm: KeyAlgorithm,
    ) -> Result<GeneratedKey, HsmError>;

    /// The tree size the worker remembers of the key's log.
    async fn open_log(&self, tenant: TenantId, key: KeyId) -> Result<u64, HsmError>;

    /// Hands new leaves to the worker, in order, without waiting. What goes wrong shows in the
    /// next [`Hsm::sign`] as [`HsmError::LogBehind`].
    fn advance(&self, tenant: TenantId, advance: LogAdvance);

    /// Brings the worker up to date.
    async fn resync(&self, tenant: TenantId, resync: LogResync) -> Result<(), HsmError>;

    /// Uses the key once, for the authorisation named. ECDSA signatures come as DER.
    async fn sign(&self, tenant: TenantId, order: SignOrder) -> Result<Signed, HsmError>;

    /// Deletes the key pair from the token.
    async fn destroy_key(&self, tenant: TenantId, key: KeyId) -> Result<(), HsmError>;

    /// What is in the token.
    async fn inventory(&self, tenant: TenantId) -> Result<Inventory, HsmError>;

    /// How the device that holds the tenant's token presents itself: its endorsement, and the
    /// attestation key that it certifies keys with. Again: the same.
    async fn identify_device(&self, tenant: TenantId) -> Result<DeviceIdentity, HsmError>;

    /// The secret in a CA's challenge to that device. Only the device that was named, and only with
    /// the attestation key that was named, can read it.
    async fn answer_challenge(
        &self,
        tenant: TenantId,
        challenge: DeviceChallenge,
    ) -> Result<Vec<u8>, HsmError>;

    /// What the device certifies of a key, with a CA's nonce (1 to 64 bytes) in it.
    async fn certify_key(
        &self,
        tenant: TenantId,
        key: KeyId,
        nonce: Vec<u8>,
    ) -> Result<KeyCertification, HsmError>;

    /// Health of all tokens known.
    fn health(&self) -> Vec<TokenHealth>;
}

/// Why a token did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HsmError {
    /// The worker is starting, restarting or gone. Nothing is known of the call. A retry can help.
    #[error("the token's worker is not available: {0}")]
    Unavailable(String),
    /// The call took longer than its deadline; the worker was killed. Whether a signature was made
    /// is unknown. A retry (a new authorisation) can help.
    #[error("the token did not answer in time")]
    Deadline,
    /// Too many calls are waiting. Nothing was done. Retry later.
    #[error("the token has too many calls waiting")]
    Busy,
    /// The worker remembers another size of the log. Nothing was signed. Resync, then retry.
    #[error("the worker's log is at {size}")]
    LogBehind {
        /// The worker's size.
        size: u64,
    },
    /// The worker remembers more than the database has: the database is older than the last
    /// signature. Refused until the operator acts (invariant 3).
    #[error("the worker has seen {worker} leaves of this log, the database offers {offered}")]
    LogRewound {
        /// What the worker has seen.
        worker: u64,
        /// What was offered.
        offered: u64,
    },
    /// The worker checked the authorisation and refused it. Retrying cannot help.
    #[error("the worker refused: {code}: {detail}")]
    Refused {
        /// Stable code, for example `leaf-wrong-digest`.
        code: String,
        /// For people.
        detail: String,
    },
    /// The token has no such key. Retrying cannot help.
    #[error("the token has no such key")]
    NoSuchKey,
    /// The token's device says nothing of its keys while we wait: its profile names no adapter, or the
    /// worker was built without it. Retrying cannot help.
    #[error("the device gives no evidence by itself: {0}")]
    NoEvidence(String),
    /// A wrong PIN was met once; nobody tries again until the operator acts.
    #[error("the token's PIN latch is set: {0}")]
    Latched(String),
    /// This very request killed the worker twice.
    #[error("this request is quarantined: it stopped the worker twice")]
    Quarantined,
    /// The PKCS#11 module cannot be loaded; the text says what to install.
    #[error("{0}")]
    ModuleMissing(String),
    /// The module answered with an error that is not the caller's fault.
    #[error("the module failed: {0}")]
    Module(String),
}

impl HsmError {
    /// Whether the same request may be sent again later with hope.
    #[must_use]
    pub const fn retryable(&self) -> bool {
        matches!(
            self,
            Self::Unavailable(_) | Self::Deadline | Self::Busy | Self::LogBehind { .. }
        )
    }

    /// Whether a signature may exist although none was returned.
    #[must_use]
    pub const fn outcome_unknown(&self) -> bool {
        matches!(
            self,
            Self::Unavailable(_) | Self::Deadline | Self::Module(_)
        )
    }
}
