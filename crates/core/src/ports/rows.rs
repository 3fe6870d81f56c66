//! What the database keeps, as the service sees it: one struct per table family.

use crate::ports::hsm::TokenFacts;
use crate::{
    GrantId, KeyAlgorithm, KeyFacts, KeyId, KeyState, LogId, Micros, NodeId, OrderId, SignerLabel,
    TenantId, TenantName,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The realm of the operator's own people: a tenant row like any other, with the nil UUID and the
/// reserved name `operator`. It owns no signers; its log records what operators do.
pub const OPERATOR_REALM: TenantId = TenantId(Uuid::nil());

/// The reserved name of [`OPERATOR_REALM`].
pub const OPERATOR_REALM_NAME: &str = "operator";

/// A tenant's own rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantPolicy {
    /// Keys in software tokens may be certified (by a CA that says so too) and sign.
    pub allow_software: bool,
    /// Admin actions want MFA in the token (`amr`/`acr`). On by default.
    pub require_mfa: bool,
    /// What an order's evidence must show beyond `origin`, in the words of the attestation crate's
    /// `Requirement`. Where any stands here, it is demanded of every key; else of keys in hardware.
    #[serde(default)]
    pub evidence: Vec<String>,
}

impl Default for TenantPolicy {
    fn default() -> Self {
        Self {
            allow_software: false,
            require_mfa: true,
            evidence: Vec::new(),
        }
    }
}

/// A subscriber.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantRow {
    /// Id.
    pub id: TenantId,
    /// Name.
    pub name: TenantName,
    /// Rules.
    pub policy: TenantPolicy,
    /// Grows by one with every effect on the tenant; the guard of every decision.
    pub version: u64,
    /// The token, once made.
    pub token: Option<TokenFacts>,
    /// When.
    pub created: Micros,
}

/// Whose tokens an issuer makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IssuerKind {
    /// People: roles come from the members table.
    People,
    /// Pipelines: what they may do comes from grants alone.
    Pipelines,
}

/// An OIDC issuer registered by a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuerRow {
    /// Whose allow-list.
    pub tenant: TenantId,
    /// Exact `iss`.
    pub issuer: String,
    /// Whose tokens.
    pub kind: IssuerKind,
    /// The one audience accepted.
    pub audience: String,
    /// Oldest token accepted, by `iat`, in seconds.
    pub max_token_age_s: u32,
    /// `amr` values that count as MFA.
    pub mfa_amr: Vec<String>,
    /// `acr` values that count as MFA.
    pub mfa_acr: Vec<String>,
    /// PEM roots for the issuer's TLS; the system's where empty.
    pub ca_pem: Option<String>,
    /// Public OAuth client id, for the device flow.
    pub client_id: Option<String>,
}

/// What a person may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Runs the deployment; only in the operator's realm.
    Operator,
    /// Signers, keys, certificates, grants, members of the tenant.
    Admin,
    /// Reads everything of the tenant, changes nothing.
    Auditor,
}

impl Role {
    /// The stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Admin => "admin",
            Self::Auditor => "auditor",
        }
    }
}

/// A person with a role.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MemberRow {
    /// Where.
    pub tenant: TenantId,
    /// Exact `iss`.
    pub issuer: String,
    /// Exact `sub`.
    pub subject: String,
    /// As what.
    pub role: Role,
}

/// A signer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignerRow {
    /// Whose.
    pub tenant: TenantId,
    /// Name within the tenant.
    pub label: SignerLabel,
    /// Algorithm of its keys.
    pub algorithm: KeyAlgorithm,
    /// When.
    pub created: Micros,
}

/// A key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRow {
    /// Whose.
    pub tenant: TenantId,
    /// Id, also its `CKA_ID` and its log's id.
    pub id: KeyId,
    /// For which signer.
    pub signer: SignerLabel,
    /// Algorithm.
    pub algorithm: KeyAlgorithm,
    /// Life cycle.
    pub state: KeyState,
    /// SubjectPublicKeyInfo, DER.
    pub spki: Vec<u8>,
    /// What the token said.
    pub facts: KeyFacts,
    /// The last appraisal, as the attestation crate's JSON.
    pub appraisal: Option<String>,
    /// When.
    pub created: Micros,
}

/// One file of a key's evidence, as its vendor's tool wrote it.
#[derive(Clone, PartialEq, Eq)]
pub struct EvidenceFile {
    /// Its name, for reports.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// SHA-256 of them.
    pub sha256: [u8; 32],
}

impl std::fmt::Debug for EvidenceFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EvidenceFile({}, {} bytes)", self.name, self.bytes.len())
    }
}

/// The evidence of a key that was accepted last. Older evidence is replaced: the tenant's log has the
/// hashes of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvidenceRow {
    /// Whose.
    pub tenant: TenantId,
    /// For which key.
    pub key: KeyId,
    /// The files, in the order given.
    pub files: Vec<EvidenceFile>,
    /// The nonce it was made for, if it was made for one.
    pub nonce: Option<Vec<u8>>,
    /// What the appraisal gave, as the attestation crate's JSON: the exact text that the log has the
    /// hash of.
    pub result: String,
    /// When it was appraised.
    pub appraised: Micros,
}

/// An installed certificate with its chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateRow {
    /// Whose.
    pub tenant: TenantId,
    /// For which key.
    pub key: KeyId,
    /// SHA-256 of the leaf.
    pub sha256: [u8; 32],
    /// Leaf, intermediates (no root), DER.
    pub chain: Vec<Vec<u8>>,
    /// Validity.
    pub not_before: Micros,
    /// Validity.
    pub not_after: Micros,
    /// Serial, hex.
    pub serial: String,
    /// When installed.
    pub installed: Micros,
}

/// Where a certificate order is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OrderState {
    /// Exported for a CA without a connector; waits for `certificate install`.
    Exported,
    /// Opened at the CA.
    Opened,
    /// CSR, statement and evidence handed over.
    Submitted,
    /// Certificate checked and installed.
    Installed,
    /// The CA refused, or what it returned did not pass our checks.
    Refused,
}

/// A certificate order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderRow {
    /// Whose.
    pub tenant: TenantId,
    /// Id.
    pub id: OrderId,
    /// For which key.
    pub key: KeyId,
    /// Connector name, or the audience of an export.
    pub ca: String,
    /// The CA's own reference.
    pub reference: Option<String>,
    /// Where it is.
    pub state: OrderState,
    /// CSR, DER.
    pub csr: Option<Vec<u8>>,
    /// Service statement, DER.
    pub statement: Option<Vec<u8>>,
    /// Why it was refused, or what stands in its way.
    pub problem: Option<String>,
    /// When.
    pub created: Micros,
    /// Last step.
    pub updated: Micros,
    /// When the CA is asked next without anybody waiting; only while submitted.
    pub next_poll: Option<Micros>,
}

/// A grant, its content as JSON of the grants crate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantRow {
    /// Whose.
    pub tenant: TenantId,
    /// Id.
    pub id: GrantId,
    /// For which signer.
    pub signer: SignerLabel,
    /// JSON.
    pub json: String,
    /// When.
    pub created: Micros,
}

/// Whose uses a log records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogKind {
    /// Uses of one key.
    Key,
    /// Everything else of one tenant.
    Tenant,
}

/// The head of a log: all that appending needs, in one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogHead {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub log: LogId,
    /// Kind.
    pub kind: LogKind,
    /// Fixed at creation, never reused.
    pub origin: String,
    /// Leaves.
    pub size: u64,
    /// Right edge, encoded by the signing-log crate.
    pub frontier: Vec<u8>,
    /// Last signed checkpoint; empty while size is 0.
    pub checkpoint: String,
    /// Time of the last leaf: the next is not earlier.
    pub last_time: Micros,
    /// The node that wrote last.
    pub writer: NodeId,
    /// Grows by one each time another node writes than before.
    pub epoch: u64,
}

/// One run of countersignd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRow {
    /// Which.
    pub node: NodeId,
    /// Its name in the configuration, for people.
    pub name: String,
    /// When it registered, by the database's clock.
    pub joined: Micros,
    /// When its lease ends unless it is renewed, by the database's clock.
    pub until: Micros,
    /// When it left or was declared dead.
    pub ended: Option<Micros>,
}

/// One leaf as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeafRow {
    /// Exact bytes.
    pub bytes: Vec<u8>,
    /// RFC 6962 leaf hash.
    pub hash: [u8; 32],
    /// Salts and values of its commitments, as the signing-log crate's JSON line.
    pub details: Option<String>,
}

/// The hash of a complete block of 256^level leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubtreeRow {
    /// Tile level, 1 and up.
    pub level: u8,
    /// Index of the block at that level.
    pub index: u64,
    /// Its hash.
    pub hash: [u8; 32],
}

/// An authorisation without outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenAuthorisation {
    /// Whose.
    pub tenant: TenantId,
    /// Key log.
    pub log: LogId,
    /// Index of the authorisation leaf.
    pub index: u64,
    /// Who opened it.
    pub node: NodeId,
    /// Under which epoch of the log's head.
    pub epoch: u64,
    /// Idempotency claim it belongs to.
    pub claim: Option<ClaimKey>,
}

/// Names an idempotency claim: same tenant, principal and key under one Idempotency-Key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClaimKey {
    /// Whose.
    pub tenant: TenantId,
    /// SHA-256 of issuer and subject and signer.
    pub principal: [u8; 32],
    /// Of what: the service's name for the caller's Idempotency-Key and the item under it.
    pub key: String,
}

/// What became of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimState {
    /// No outcome yet: a retry gets 409.
    InFlight,
    /// Answered: a retry gets the same answer.
    Done {
        /// The answer in the service's own words.
        answer: String,
    },
    /// No signature left the service, or nobody knows: a retry signs again under a new leaf that
    /// names the first.
    Unanswered,
}

/// An idempotency claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimRow {
    /// Which.
    pub key: ClaimKey,
    /// SHA-256 of what was asked; another body under the same key is a 422.
    pub body: [u8; 32],
    /// State.
    pub state: ClaimState,
    /// 1 for the first.
    pub attempt: u32,
    /// Log of the authorisation.
    pub log: LogId,
    /// Index of the authorisation leaf of this attempt.
    pub index: u64,
    /// When it may be forgotten.
    pub expires: Micros,
}

/// A secret of the service's own, wrapped under the deployment's sealing key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceKeyRow {
    /// `log`, `statement` or `token`.
    pub purpose: String,
    /// Public half.
    pub public: Vec<u8>,
    /// Wrapped secret half.
    pub wrapped: Vec<u8>,
    /// When made.
    pub created: Micros,
    /// When it stopped being used for new signatures.
    pub retired: Option<Micros>,
}
