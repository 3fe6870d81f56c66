//! The ports for certificate status: revocation lists from CAs, and what the database keeps of them.
//!
//! A status *of a certificate* changes by an [`Effect`](super::store::Effect) with its leaf, and moves
//! the tenant's version: decisions in flight are void. That a list *was looked at* is kept beside it,
//! in [`ListRow`], without a leaf: it happens every few minutes and changes no decision but by its age.

use super::rows::OrderRow;
use super::store::{CommitError, Read};
use crate::{KeyId, Micros, OrderId, TenantId};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

/// What is known of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CertificateStatus {
    /// Not looked up yet.
    Unknown,
    /// Not on its CA's list.
    Good,
    /// On the list, for now: it may come back.
    OnHold,
    /// Revoked, for ever.
    Revoked,
}

impl CertificateStatus {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Unknown, Self::Good, Self::OnHold, Self::Revoked];

    /// The stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Good => "good",
            Self::OnHold => "on-hold",
            Self::Revoked => "revoked",
        }
    }
}

/// Names a revocation list: where a certificate says it lies, and whose it must be.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ListId {
    /// SHA-256 of the certificate of the CA that issued, and must have signed the list.
    pub issuer: [u8; 32],
    /// The URLs of the certificate's distribution points, one a line.
    pub urls: String,
}

/// A revocation list that certificates here are looked up in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListRow {
    /// Which.
    pub id: ListId,
    /// The issuing CA's certificate, DER.
    pub certificate: Vec<u8>,
    /// When some node shall fetch it next; also the claim of the node that fetches it now.
    pub next_poll: Micros,
    /// When a good list was last fetched *and* every certificate here was looked up in it.
    pub good: Option<Micros>,
    /// `thisUpdate` of that list: an older one is refused.
    pub this_update: Option<Micros>,
    /// Its `cRLNumber`, big endian.
    pub number: Option<Vec<u8>>,
    /// Why the last try came to nothing; none if it did not.
    pub problem: Option<String>,
}

/// What became of a look at a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListPolled {
    /// A good list, in which all were looked up.
    Good {
        /// When it was fetched.
        at: Micros,
        /// Its `thisUpdate`.
        this_update: Micros,
        /// Its `cRLNumber`.
        number: Option<Vec<u8>>,
        /// When to fetch it again.
        next_poll: Micros,
    },
    /// No news, for this reason.
    Problem {
        /// For people.
        why: String,
        /// When to try again.
        next_poll: Micros,
    },
}

/// The certificate in use of a key, and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusRow {
    /// Whose.
    pub tenant: TenantId,
    /// For which key.
    pub key: KeyId,
    /// SHA-256 of the certificate.
    pub sha256: [u8; 32],
    /// Its serial number, hex.
    pub serial: String,
    /// Its end.
    pub not_after: Micros,
    /// Where it is looked up; `None` for one installed before statuses were kept.
    pub list: Option<ListId>,
    /// What is known.
    pub status: CertificateStatus,
    /// When the service learned this; for [`CertificateStatus::Unknown`] when it was installed.
    pub since: Micros,
    /// The list's time by which it became known.
    pub checked: Option<Micros>,
    /// The CA's revocation date.
    pub revoked_at: Option<Micros>,
    /// The CA's reason, by its name in RFC 5280 §5.3.1.
    pub reason: Option<String>,
    /// Whether the tenant's log says that it ends soon.
    pub warned: bool,
}

/// A place in a walk over statuses: the last row seen.
pub type StatusPlace = (Micros, KeyId);

/// Statuses of certificates, lists, and orders that wait for their CA.
///
/// Calls without a tenant cross tenants: they are the housekeeping of the service itself, never
/// asked for by a caller, and what they find is changed under its own tenant.
#[async_trait]
pub trait StatusStore: Send + Sync + 'static {
    /// What is known of the certificate in use of a key.
    async fn certificate_status(&self, tenant: TenantId, key: KeyId) -> Read<Option<StatusRow>>;
    /// The same for all keys of a tenant.
    async fn certificate_statuses(&self, tenant: TenantId) -> Read<Vec<StatusRow>>;
    /// One list.
    async fn revocation_list(&self, id: &ListId) -> Read<Option<ListRow>>;
    /// Lists whose time has come, longest waiting first.
    async fn lists_due(&self, now: Micros, limit: u32) -> Read<Vec<ListRow>>;
    /// Takes a list on until `until`: `true` for one node alone, as long as `next_poll` is what was
    /// seen.
    async fn claim_list(
        &self,
        id: &ListId,
        seen: Micros,
        until: Micros,
    ) -> Result<bool, CommitError>;
    /// Keeps what became of it. Durable when it returns. A good list older than the one kept changes
    /// nothing.
    async fn list_polled(&self, id: &ListId, polled: &ListPolled) -> Result<(), CommitError>;
    /// Certificates in use by keys that sign or are suspended, and not ended by `now`, that are looked
    /// up in a list; in the order of their ends, after `after`.
    async fn listed(
        &self,
        id: &ListId,
        now: Micros,
        after: Option<StatusPlace>,
        limit: u32,
    ) -> Read<Vec<StatusRow>>;
    /// Certificates in use whose list is not known yet.
    async fn unlisted(&self, limit: u32) -> Read<Vec<StatusRow>>;
    /// Certificates in use by keys that sign or are suspended, ending from `from` up to `until`; in the
    /// order of their ends, after `after`.
    async fn ending(
        &self,
        from: Micros,
        until: Micros,
        after: Option<StatusPlace>,
        limit: u32,
    ) -> Read<Vec<StatusRow>>;
    /// Submitted orders whose CA is to be asked.
    async fn orders_due(&self, now: Micros, limit: u32) -> Read<Vec<OrderRow>>;
    /// Takes an order on, as [`StatusStore::claim_list`].
    async fn claim_order(
        &self,
        tenant: TenantId,
        order: OrderId,
        seen: Micros,
        until: Micros,
    ) -> Result<bool, CommitError>;
    /// The CA was asked and has not decided, or did not answer. Changes nothing unless the order is
    /// still submitted. `None`: not asked any more.
    async fn order_waits(
        &self,
        tenant: TenantId,
        order: OrderId,
        next_poll: Option<Micros>,
        problem: Option<String>,
    ) -> Result<(), CommitError>;
}

/// Why a list was not had. A retry can help in each case.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListFetchError {
    /// The URL is not one that is fetched (scheme, address).
    #[error("{0}")]
    Url(&'static str),
    /// No connection, no answer in time, or an answer cut short.
    #[error("the server of the list {0}")]
    Transport(&'static str),
    /// Another status than 200.
    #[error("the server of the list answered {0}")]
    Status(u16),
    /// A redirect too many.
    #[error("the server of the list redirects in a circle or too often")]
    Redirects,
    /// Larger than a list may be.
    #[error("the list is larger than {0} bytes")]
    TooLarge(usize),
}

/// Where revocation lists come from.
#[async_trait]
pub trait ListSource: Send + Sync + 'static {
    /// Fetches one, at most `max` bytes. Nothing in it is believed yet.
    async fn fetch(&self, url: &str, max: usize) -> Result<Vec<u8>, ListFetchError>;
}
