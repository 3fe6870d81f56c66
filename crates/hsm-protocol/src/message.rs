//! What is asked and answered.

use crate::error::WorkerError;
use countersign_core::ports::evidence::{DeviceChallenge, DeviceIdentity, KeyCertification};
use countersign_core::ports::hsm::{Inventory, LogPins, SandboxMeasure, Spent, TokenFacts};
use countersign_core::trace::SpanRef;
use countersign_core::{Digest, KeyAlgorithm, KeyFacts, KeyId, SignatureScheme, TenantId};
use serde::{Deserialize, Serialize};

/// Version of this protocol. Server and worker are released together; another version is refused.
pub const VERSION: u16 = 3;

/// The server's first frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientHello {
    /// [`VERSION`].
    pub version: u16,
}

/// The worker's first frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerHello {
    /// [`VERSION`].
    pub version: u16,
    /// The worker's process id, so that its supervisor and an operator speak of the same one.
    pub pid: u32,
    /// The token.
    pub token: TokenState,
    /// How the worker is confined.
    pub sandbox: Vec<SandboxMeasure>,
}

/// State of the worker's token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TokenState {
    /// There is none yet: only `InitToken` and `Ping` are answered.
    Absent,
    /// Logged in.
    Ready {
        /// Whose alone; `None` if several tenants share it.
        tenant: Option<TenantId>,
    },
    /// The PIN latch is set: nobody logs in until an operator removes it.
    Latched {
        /// What was met.
        reason: String,
    },
    /// The token cannot be used for another reason.
    Failed {
        /// Which.
        error: WorkerError,
    },
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The client's; comes back in the answer.
    pub id: u64,
    /// Milliseconds from arrival after which the worker does not begin the work any more.
    pub deadline_ms: u32,
    /// What is asked.
    pub body: RequestBody,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// The request's id.
    pub id: u64,
    /// What came of it.
    pub result: Result<Reply, WorkerError>,
}

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RequestBody {
    /// Is the worker there?
    Ping,
    /// Makes the token, its PINs and its binding key, and pins tenant and log keys for ever. Again with
    /// the same content, here or on another node: the same facts.
    InitToken {
        /// Whose token.
        tenant: TenantId,
        /// `CK_TOKEN_INFO.label`, at most 32 bytes.
        label: String,
        /// What checkpoints are believed.
        pins: LogPins,
    },
    /// Has this tenant its keys here?
    Serves {
        /// Who.
        tenant: TenantId,
    },
    /// Makes a key pair. Again with the same content: the same key.
    GenerateKey {
        /// Whose it will be.
        tenant: TenantId,
        /// Chosen beforehand; its bytes are the `CKA_ID`.
        key: KeyId,
        /// Which kind.
        algorithm: KeyAlgorithm,
    },
    /// How much of the key's log does the worker remember?
    OpenLog {
        /// Whose key.
        tenant: TenantId,
        /// Which key's log.
        key: KeyId,
    },
    /// New leaves of a key's log.
    Advance {
        /// Whose key.
        tenant: TenantId,
        /// Which key's log.
        key: KeyId,
        /// A signed note.
        checkpoint: String,
        /// Equal to the worker's size.
        from_size: u64,
        /// From there to the checkpoint's size; at most [`crate::frame::MAX_LEAF_HASHES`].
        leaf_hashes: Vec<[u8; 32]>,
        /// Indices of those leaves that this server will name in a `Sign`. The others only
        /// extend the worker's right edge: it will never use them.
        uses: Vec<u64>,
    },
    /// A later checkpoint with the proof that it extends the worker's.
    Resync {
        /// Whose key.
        tenant: TenantId,
        /// Which key's log.
        key: KeyId,
        /// A signed note.
        checkpoint: String,
        /// RFC 6962 §2.1.2, from the worker's size.
        consistency_proof: Vec<[u8; 32]>,
        /// Size of the tree of `base_frontier`.
        base_size: u64,
        /// Right edge, largest subtree first.
        base_frontier: Vec<[u8; 32]>,
        /// From `base_size` to the checkpoint's size; at most [`crate::frame::MAX_LEAF_HASHES`].
        leaf_hashes: Vec<[u8; 32]>,
        /// Indices of those leaves that this server will name in a `Sign`. The others only
        /// extend the worker's right edge: it will never use them.
        uses: Vec<u64>,
    },
    /// One use of a key.
    Sign(SignRequest),
    /// Deletes a key pair. Again: nothing more happens.
    DestroyKey {
        /// Whose.
        tenant: TenantId,
        /// Which.
        key: KeyId,
    },
    /// What has the tenant in the token?
    Inventory {
        /// Whose keys.
        tenant: TenantId,
    },
    /// How does the token's device present itself?
    IdentifyDevice {
        /// Who asks: a tenant with its keys here.
        tenant: TenantId,
    },
    /// Reads the secret in a CA's challenge to the device.
    AnswerChallenge {
        /// Who asks: a tenant with its keys here.
        tenant: TenantId,
        /// At most [`MAX_CHALLENGE`] bytes in each part.
        challenge: DeviceChallenge,
    },
    /// Has the device certify a key.
    CertifyKey {
        /// Whose key.
        tenant: TenantId,
        /// Which.
        key: KeyId,
        /// 1 to [`MAX_NONCE`] bytes, from whoever will judge.
        nonce: Vec<u8>,
    },
}

/// Longest part of a challenge: an RSA-4096 endorsement key's encrypted seed.
pub const MAX_CHALLENGE: usize = 512;
/// Longest nonce: `TPM2B_DATA` has room for the longest digest (TPM 2.0 Library part 2 §10.4.3).
pub const MAX_NONCE: usize = 64;

/// One use of a key, for the authorisation leaf named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignRequest {
    /// Whose key: equal to the leaf's and to the key's binding.
    pub tenant: TenantId,
    /// Which key.
    pub key: KeyId,
    /// Index of the authorisation leaf in the key's log.
    pub index: u64,
    /// The leaf's exact bytes.
    pub leaf: Vec<u8>,
    /// Equal to the leaf's.
    pub scheme: SignatureScheme,
    /// What is signed; the leaf's `tbs` commitment opens to it.
    pub digest: Digest,
    /// Salt of that commitment.
    pub tbs_salt: [u8; 32],
    /// The server's span, for log lines. Not part of what is checked: it decides nothing.
    pub trace: Option<SpanRef>,
}

/// Good answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// To `Ping`.
    Pong,
    /// To `InitToken`.
    Token(TokenFacts),
    /// To `Serves`.
    Serves(bool),
    /// To `GenerateKey`.
    Key {
        /// SubjectPublicKeyInfo, DER.
        spki: Vec<u8>,
        /// What was read back.
        facts: KeyFacts,
    },
    /// To `OpenLog`, `Advance` and `Resync`: the size the worker now remembers.
    Log {
        /// Leaves.
        size: u64,
    },
    /// To `Sign`: RSA as `k` bytes, ECDSA as DER `ECDSA-Sig-Value`.
    Signed {
        /// The signature.
        signature: Vec<u8>,
        /// Where its time went: the worker has no network to report it by.
        spent: Spent,
    },
    /// To `DestroyKey`.
    Destroyed,
    /// To `Inventory`; each list has at most [`MAX_INVENTORY`] entries.
    Inventory(Inventory),
    /// To `IdentifyDevice`.
    Identity(DeviceIdentity),
    /// To `AnswerChallenge`.
    Answer {
        /// What the challenge held, for the CA that made it.
        secret: Vec<u8>,
    },
    /// To `CertifyKey`.
    Certification(KeyCertification),
}

/// Most entries of one list of an inventory.
pub const MAX_INVENTORY: usize = 4096;
