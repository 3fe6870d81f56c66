//! The port to the database.
//!
//! Reads are small and take the tenant (invariant 4). All writes that matter go through a
//! [`Flush`]: leaves, heads, effects, claims and open authorisations of many requests in one
//! transaction, so that nothing is ever done without its leaf, and no leaf without its effect.
//!
//! Several countersignd may write to the same logs at any moment. A flush holds the heads of the
//! logs it writes for as long as it lasts, and sees what other nodes wrote since: so there is one
//! history without anybody owning a log. What has a lease is the *node* ([`NodeStore`]): one that
//! stalled past its lease is buried, and from then on nothing of it is ever written.

use super::devices::{DeviceStore, Sighting};
use super::hsm::TokenFacts;
use super::revocation::{CertificateStatus, StatusRow, StatusStore};
use super::rows::{
    CertificateRow, ClaimKey, ClaimRow, ClaimState, EvidenceRow, GrantRow, IssuerRow, KeyRow,
    LeafRow, LogHead, LogKind, MemberRow, NodeRow, OpenAuthorisation, OrderRow, Role,
    ServiceKeyRow, SignerRow, SubtreeRow, TenantPolicy, TenantRow,
};
use crate::{
    GrantId, KeyId, KeyState, LogId, Micros, NodeId, OrderId, SignerLabel, TenantId, TenantName,
};
use async_trait::async_trait;
use std::time::Duration;

/// New leaves of one log.
#[derive(Debug, Clone)]
pub struct LogWrite {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub log: LogId,
    /// Kind and origin, used when `old_size` is 0 and the log is created by this write.
    pub kind: LogKind,
    /// Origin.
    pub origin: String,
    /// Epoch of the head: grows by one each time another node writes.
    pub epoch: u64,
    /// Size before: the compare of the compare-and-swap.
    pub old_size: u64,
    /// Size after.
    pub new_size: u64,
    /// Right edge after.
    pub frontier: Vec<u8>,
    /// Signed checkpoint of the new size.
    pub checkpoint: String,
    /// Time of the last leaf.
    pub last_time: Micros,
    /// The leaves, in order.
    pub leaves: Vec<LeafRow>,
    /// Blocks completed by them.
    pub subtrees: Vec<SubtreeRow>,
}

/// A change of the database that is recorded by a leaf in the same commit. Those that change what may
/// be decided bump the version of the tenant they name ([`Effect::bumps`]).
#[derive(Debug, Clone)]
pub enum Effect {
    /// A new tenant (also the operator's realm).
    CreateTenant(TenantRow),
    /// New rules.
    SetPolicy(TenantId, TenantPolicy),
    /// The tenant's token was made.
    SetToken(TenantId, TokenFacts),
    /// Registers or replaces an issuer.
    PutIssuer(IssuerRow),
    /// Removes an issuer; none is a conflict.
    RemoveIssuer(TenantId, String),
    /// Adds a member; a member that exists already is a conflict.
    AddMember(MemberRow),
    /// Removes a member; none is a conflict.
    RemoveMember(MemberRow),
    /// A new signer.
    CreateSigner(SignerRow),
    /// A new key; a conflict if the tenant has `most` already that are not destroyed. They are counted
    /// where the row is written: two nodes that ask at one moment do not make one too many.
    CreateKey {
        /// The key.
        row: Box<KeyRow>,
        /// With this one.
        most: u32,
    },
    /// A key's state; a conflict if it is not `from` any more.
    SetKeyState {
        /// Whose.
        tenant: TenantId,
        /// Which.
        key: KeyId,
        /// The compare.
        from: KeyState,
        /// The swap.
        to: KeyState,
    },
    /// A key's appraisal, JSON.
    SetAppraisal(TenantId, KeyId, String),
    /// A key's evidence, in place of what was there; no such key is a conflict.
    PutEvidence(Box<EvidenceRow>),
    /// Evidence of a key named its device; no such key is a conflict. Bumps no version: it comes with the
    /// evidence, which does.
    SeeDevice(Sighting),
    /// A certificate for a key; the newest installed is the one used.
    InstallCertificate(CertificateRow),
    /// The certificate in use of a key is looked up in a list from now on; the issuing CA's certificate
    /// (DER) goes with it. Replaces what was known of the key's certificate before. Bumps no version:
    /// it comes with the installation, which does.
    FollowCertificate(Box<StatusRow>, Vec<u8>),
    /// What is known of the certificate in use; a conflict if another one is by now, or if its status
    /// is not `from` any more.
    SetCertificateStatus {
        /// The compare.
        from: CertificateStatus,
        /// The swap.
        row: Box<StatusRow>,
    },
    /// The tenant was told that this certificate ends soon; a conflict if it was before. Bumps no
    /// version.
    MarkEnding(TenantId, KeyId, [u8; 32]),
    /// A new grant.
    PutGrant(GrantRow),
    /// Removes a grant; none is a conflict.
    RemoveGrant(TenantId, GrantId),
    /// Creates or replaces an order. Bumps no version.
    PutOrder(Box<OrderRow>),
    /// Uses up the bootstrap credential; a conflict if it was used before.
    UseBootstrap,
}

impl Effect {
    /// The tenant whose version this bumps.
    #[must_use]
    pub fn bumps(&self) -> Option<TenantId> {
        Some(match self {
            Self::CreateTenant(row) => row.id,
            Self::SetPolicy(tenant, _)
            | Self::SetToken(tenant, _)
            | Self::SetAppraisal(tenant, _, _)
            | Self::RemoveGrant(tenant, _)
            | Self::RemoveIssuer(tenant, _)
            | Self::SetKeyState { tenant, .. } => *tenant,
            Self::PutIssuer(row) => row.tenant,
            Self::AddMember(row) | Self::RemoveMember(row) => row.tenant,
            Self::CreateSigner(row) => row.tenant,
            Self::CreateKey { row, .. } => row.tenant,
            Self::PutEvidence(row) => row.tenant,
            Self::InstallCertificate(row) => row.tenant,
            Self::SetCertificateStatus { row, .. } => row.tenant,
            Self::PutGrant(row) => row.tenant,
            Self::PutOrder(_)
            | Self::UseBootstrap
            | Self::FollowCertificate(..)
            | Self::SeeDevice(_)
            | Self::MarkEnding(..) => return None,
        })
    }
}

impl Effect {
    /// The tenant whose rows this touches; `None` for what is nobody's.
    #[must_use]
    pub fn tenant(&self) -> Option<TenantId> {
        match self {
            Self::PutOrder(row) => Some(row.tenant),
            Self::FollowCertificate(row, _) => Some(row.tenant),
            Self::SeeDevice(row) => Some(row.tenant),
            Self::MarkEnding(tenant, ..) => Some(*tenant),
            other => other.bumps(),
        }
    }
}

/// A decision was made on this version of the tenant: if it has moved, the decision is void.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Guard {
    /// Whose.
    pub tenant: TenantId,
    /// Version seen.
    pub version: u64,
}

impl TenantRow {
    /// The guard of a decision made on this row.
    #[must_use]
    pub const fn guard(&self) -> Guard {
        Guard {
            tenant: self.id,
            version: self.version,
        }
    }
}

/// A claim as part of a commit.
#[derive(Debug, Clone)]
pub enum ClaimWrite {
    /// First attempt: insert; taken if the row exists.
    First(ClaimRow),
    /// Another attempt after [`ClaimState::Unanswered`]: taken unless the row is unanswered with
    /// `attempt - 1`.
    Again(ClaimRow),
    /// The outcome. Ignored unless the row names this very authorisation (another attempt may have
    /// replaced it meanwhile).
    Settle {
        /// Which.
        key: ClaimKey,
        /// Log of the authorisation.
        log: LogId,
        /// Index of the authorisation leaf.
        index: u64,
        /// What became of it.
        state: ClaimState,
    },
}

/// Everything of one flush. `item` numbers say whose part failed, so that the caller can leave
/// that one out and commit the others.
#[derive(Debug, Clone, Default)]
pub struct Commit {
    /// Leaves, one entry per log.
    pub writes: Vec<LogWrite>,
    /// Versions that must still hold.
    pub guards: Vec<Guard>,
    /// Effects, in order, each with the number of its item.
    pub effects: Vec<(usize, Effect)>,
    /// Claims, each with the number of its item.
    pub claims: Vec<(usize, ClaimWrite)>,
    /// Authorisations opened.
    pub opens: Vec<OpenAuthorisation>,
    /// Authorisations closed by an outcome leaf.
    pub closes: Vec<(LogId, u64)>,
}

impl Commit {
    /// All tenants it names, each once.
    #[must_use]
    pub fn tenants(&self) -> Vec<TenantId> {
        let writes = self.writes.iter().map(|w| w.tenant);
        let guards = self.guards.iter().map(|g| g.tenant);
        let effects = self.effects.iter().filter_map(|(_, e)| e.tenant());
        let claims = self.claims.iter().map(|(_, c)| c.key().tenant);
        let opens = self.opens.iter().map(|o| o.tenant);
        let mut all: Vec<_> = writes
            .chain(guards)
            .chain(effects)
            .chain(claims)
            .chain(opens)
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

impl ClaimWrite {
    /// Which claim.
    #[must_use]
    pub const fn key(&self) -> &ClaimKey {
        match self {
            Self::First(row) | Self::Again(row) => &row.key,
            Self::Settle { key, .. } => key,
        }
    }
}

/// Why a commit was not made. Except for [`CommitError::Unknown`] nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// A tenant's version moved: decide again.
    #[error("the tenant's state moved on")]
    Guard(Guard),
    /// The claim of this item exists already: look at it.
    #[error("the idempotency key is taken")]
    ClaimTaken {
        /// Item.
        item: usize,
    },
    /// An effect met a row it did not expect.
    #[error("{what}")]
    Conflict {
        /// Item.
        item: usize,
        /// For people, for example `a tenant named acme exists`.
        what: String,
    },
    /// The log's head is not where the commit says it is: another writer moved it, or the log is
    /// somebody else's. This node must drop its copy of the head and destroy what it made under it.
    #[error("the log's head was moved by another writer")]
    HeadMoved {
        /// Which.
        log: LogId,
    },
    /// This node's lease ended and another node declared it dead: nothing of it is ever written
    /// again, and what it holds must not leave it. A retry at another node can help.
    #[error("this node stalled past its lease and was declared dead")]
    Buried,
    /// The authorisation closed here is not open: it has its outcome already. Done, as far as the
    /// caller is concerned.
    #[error("authorisation {index} of log {log} is not open")]
    NotOpen {
        /// Which log.
        log: LogId,
        /// Index of the authorisation leaf.
        index: u64,
    },
    /// The database cannot write now (busy, full, read-only, away). A retry can help.
    #[error("the database cannot write: {0}")]
    Unavailable(String),
    /// It is not known whether the commit was made: reload heads before going on.
    #[error("the database did not say whether it wrote: {0}")]
    Unknown(String),
}

/// Why a read failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The database is away or busy. A retry can help.
    #[error("the database cannot be read: {0}")]
    Unavailable(String),
    /// A row is not what this release wrote. An operator must look.
    #[error("the database holds something unexpected in {table}: {detail}")]
    Corrupt {
        /// Where.
        table: &'static str,
        /// What.
        detail: String,
    },
}

/// Result of a read.
pub type Read<T> = Result<T, StoreError>;

/// Tenants, issuers, members, grants.
#[async_trait]
pub trait TenantStore: Send + Sync + 'static {
    /// By id.
    async fn tenant(&self, tenant: TenantId) -> Read<Option<TenantRow>>;
    /// By name.
    async fn tenant_by_name(&self, name: &TenantName) -> Read<Option<TenantRow>>;
    /// All but the operator's realm, by name, after `after`, at most `limit`: the operator's list.
    async fn tenants(&self, after: Option<&TenantName>, limit: u32) -> Read<Vec<TenantRow>>;
    /// One issuer of the tenant's allow-list.
    async fn issuer(&self, tenant: TenantId, issuer: &str) -> Read<Option<IssuerRow>>;
    /// The tenant's allow-list.
    async fn issuers(&self, tenant: TenantId) -> Read<Vec<IssuerRow>>;
    /// Roles of one person.
    async fn roles(&self, tenant: TenantId, issuer: &str, subject: &str) -> Read<Vec<Role>>;
    /// The tenant's members.
    async fn members(&self, tenant: TenantId) -> Read<Vec<MemberRow>>;
    /// Grants for a signer.
    async fn grants(&self, tenant: TenantId, signer: &SignerLabel) -> Read<Vec<GrantRow>>;
    /// All grants of the tenant.
    async fn all_grants(&self, tenant: TenantId) -> Read<Vec<GrantRow>>;
}

/// Signers, keys, evidence, certificates, orders.
#[async_trait]
pub trait KeyStore: Send + Sync + 'static {
    /// One signer.
    async fn signer(&self, tenant: TenantId, signer: &SignerLabel) -> Read<Option<SignerRow>>;
    /// How many signers.
    async fn count_signers(&self, tenant: TenantId) -> Read<u64> {
        Ok(self.signers(tenant).await?.len() as u64)
    }
    /// How many keys that are not destroyed.
    async fn count_keys(&self, tenant: TenantId) -> Read<u64> {
        let all = self.keys(tenant).await?;
        let there = all.iter().filter(|k| k.state != KeyState::Destroyed);
        Ok(there.count() as u64)
    }
    /// All signers.
    async fn signers(&self, tenant: TenantId) -> Read<Vec<SignerRow>>;
    /// One key.
    async fn key(&self, tenant: TenantId, key: KeyId) -> Read<Option<KeyRow>>;
    /// Keys of a signer, newest first.
    async fn keys_of(&self, tenant: TenantId, signer: &SignerLabel) -> Read<Vec<KeyRow>>;
    /// All keys, newest first.
    async fn keys(&self, tenant: TenantId) -> Read<Vec<KeyRow>>;
    /// The evidence accepted for a key.
    async fn evidence(&self, tenant: TenantId, key: KeyId) -> Read<Option<EvidenceRow>>;
    /// The newest certificate installed for a key.
    async fn certificate(&self, tenant: TenantId, key: KeyId) -> Read<Option<CertificateRow>>;
    /// The certificate installed for a key whose SHA-256 is this, replaced or not.
    async fn certificate_named(
        &self,
        tenant: TenantId,
        key: KeyId,
        sha256: [u8; 32],
    ) -> Read<Option<CertificateRow>>;
    /// One order.
    async fn order(&self, tenant: TenantId, order: OrderId) -> Read<Option<OrderRow>>;
    /// Orders of a key, newest first.
    async fn orders_of(&self, tenant: TenantId, key: KeyId) -> Read<Vec<OrderRow>>;
}

/// A log that a flush will write to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub log: LogId,
    /// Leaves, as far as this node knows; `None` if it has no copy of the head.
    pub known: Option<u64>,
}

/// How many leaf hashes a flush brings of what others wrote.
pub const FOLLOW: u64 = 4096;

/// A head that is not as the caller knew it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// As it is now.
    pub head: LogHead,
    /// Leaf hashes from the size known to the size now. Empty if no size was known, or it is more
    /// than [`FOLLOW`] behind.
    pub leaf_hashes: Vec<[u8; 32]>,
}

/// A flush under way: until it ends, nobody else moves the heads of its logs. It is meant to be
/// short: nothing but planning happens between its making and its end. Dropping it writes nothing.
#[async_trait]
pub trait Flush: Send {
    /// Heads that are not as the caller knew them; given once. A log that does not exist (or is
    /// another tenant's) is not among them.
    fn moved(&mut self) -> Vec<Moved>;

    /// Writes everything of `commit` in one transaction, or nothing. When it returns `Ok`, all of
    /// it survives a power cut (SQLite `synchronous=FULL`; PostgreSQL `synchronous_commit=on`).
    /// Each log's head moves by compare-and-swap on its size: a second writer fails with
    /// [`CommitError::HeadMoved`], never forks. A log whose `old_size` is 0 and that does not exist
    /// is created.
    async fn commit(self: Box<Self>, now: Micros, commit: Commit) -> Result<(), CommitError>;
}

/// The logs.
#[async_trait]
pub trait LogStore: Send + Sync + 'static {
    /// Begins a flush by `node` for the logs wanted, each named once. `tenants` are all that the
    /// commit will name: a database that keeps tenants apart by row-level security opens those rows
    /// and no others.
    async fn flush(
        &self,
        node: NodeId,
        tenants: Vec<TenantId>,
        wanted: Vec<Wanted>,
    ) -> Result<Box<dyn Flush>, CommitError>;

    /// The head: one row, whatever the size of the log.
    async fn head(&self, tenant: TenantId, log: LogId) -> Read<Option<LogHead>>;
    /// Heads of all logs of a tenant.
    async fn heads(&self, tenant: TenantId) -> Read<Vec<LogHead>>;
    /// Leaf bytes from `from`, at most `count` (≤ 256).
    async fn leaves(
        &self,
        tenant: TenantId,
        log: LogId,
        from: u64,
        count: u32,
    ) -> Read<Vec<Vec<u8>>>;
    /// Hashes at a tile level (0: leaves) from index `from`, at most `count`.
    async fn hashes(
        &self,
        tenant: TenantId,
        log: LogId,
        level: u8,
        from: u64,
        count: u32,
    ) -> Read<Vec<[u8; 32]>>;
    /// Details lines with their indices, from `from`, at most `count`.
    async fn details(
        &self,
        tenant: TenantId,
        log: LogId,
        from: u64,
        count: u32,
    ) -> Read<Vec<(u64, String)>>;
    /// Authorisations left open by nodes that are dead (buried, or not even registered), of every
    /// tenant, at most `limit`: the one read that crosses tenants, for recovery alone. Cost follows
    /// what is open, not the past.
    async fn open_authorisations(&self, limit: u32) -> Read<Vec<OpenAuthorisation>>;
    /// One claim.
    async fn claim(&self, key: &ClaimKey) -> Read<Option<ClaimRow>>;
    /// Forgets claims and seen tokens that expired before `now`, and nodes that ended a day before
    /// and left nothing open; returns how many.
    async fn forget_expired(&self, now: Micros) -> Result<u64, CommitError>;
}

/// Seen tokens, service keys, bootstrap.
#[async_trait]
pub trait ServiceStore: Send + Sync + 'static {
    /// Remembers that a caller's token was exchanged. `true` exactly once per (issuer, token) until
    /// `expires`; durable when it returns.
    async fn first_use(
        &self,
        tenant: TenantId,
        issuer: &str,
        token: [u8; 32],
        expires: Micros,
    ) -> Result<bool, CommitError>;
    /// Service keys of a purpose, newest first.
    async fn service_keys(&self, purpose: &str) -> Read<Vec<ServiceKeyRow>>;
    /// Adds one; `false` if one was made meanwhile by another node (compare on the newest known).
    async fn add_service_key(
        &self,
        row: &ServiceKeyRow,
        newest: Option<&[u8]>,
    ) -> Result<bool, CommitError>;
    /// Stores the hash of the one-time credential unless the operator is registered; `false` if so.
    async fn offer_bootstrap(&self, hash: [u8; 32]) -> Result<bool, CommitError>;
    /// The hash, while unused.
    async fn bootstrap(&self) -> Read<Option<[u8; 32]>>;
    /// A cheap write and read, for `/readyz`.
    async fn probe(&self) -> Result<(), CommitError>;
}

/// Runs of countersignd on this database. Every time is by the database's clock, so that nodes need
/// not agree on one.
#[async_trait]
pub trait NodeStore: Send + Sync + 'static {
    /// Whether several nodes may write to this database at once. Where not, whoever joins is the
    /// only one alive.
    fn shared(&self) -> bool;
    /// Registers a run of countersignd, under a name for people. The database's time.
    async fn join(&self, node: NodeId, name: &str, lease: Duration) -> Result<Micros, CommitError>;
    /// Renews its lease. The database's time.
    ///
    /// # Errors
    /// [`CommitError::Buried`] if the node was declared dead.
    async fn renew(&self, node: NodeId, lease: Duration) -> Result<Micros, CommitError>;
    /// Declares dead the nodes whose lease ended; where the database is not shared, all but
    /// `node`. Waits for their commits under way, if any. Those buried by this call.
    async fn bury(&self, node: NodeId) -> Result<Vec<NodeRow>, CommitError>;
    /// A clean end: the node buries itself.
    async fn leave(&self, node: NodeId) -> Result<(), CommitError>;
    /// Nodes that are alive or ended within a day, by the time they joined.
    async fn nodes(&self) -> Read<Vec<NodeRow>>;
}

/// All storage ports in one.
pub trait Store:
    TenantStore + KeyStore + LogStore + ServiceStore + NodeStore + StatusStore + DeviceStore
{
}
impl<T> Store for T where
    T: TenantStore + KeyStore + LogStore + ServiceStore + NodeStore + StatusStore + DeviceStore
{
}
