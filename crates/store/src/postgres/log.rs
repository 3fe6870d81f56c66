//! The logs: reads. Flushes are in `flush`.

use super::act::acting;
use super::connections::Bound;
use super::tenants::by_tenant;
use super::{PostgresStore, claims, flush, nodes, sql};
use crate::rows::{claim_row, head_row, open_row, without_gap};
use crate::sql::log as text;
use async_trait::async_trait;
use countersign_core::ports::rows::{ClaimKey, ClaimRow, LogHead, OpenAuthorisation};
use countersign_core::ports::store::{CommitError, Flush, LogStore, Read, Wanted};
use countersign_core::{LogId, Micros, NodeId, TenantId};

acting! {
    HEAD = for_tenant(text::HEAD);
    HEADS = for_tenant(text::HEADS);
    LEAVES = for_tenant(text::LEAVES);
    LEAF_HASHES = for_tenant(text::LEAF_HASHES);
    SUBTREE_HASHES = for_tenant(text::SUBTREE_HASHES);
    DETAILS = for_tenant(text::DETAILS);
    CLAIM = for_tenant(text::CLAIM);
    OPEN_OF_THE_DEAD = as_housekeeping(text::OPEN_OF_THE_DEAD);
    FORGET_CLAIMS = as_housekeeping(text::FORGET_CLAIMS);
    FORGET_SEEN_TOKENS = as_housekeeping(text::FORGET_SEEN_TOKENS);
}

/// Rows forgotten per write: what waits behind it waits a few milliseconds at most.
const FORGET_AT_ONCE: i64 = 500;

/// What the port allows in one read of leaves: a full tile.
const MAX_LEAVES: u32 = 256;

#[async_trait]
impl LogStore for PostgresStore {
    async fn flush(
        &self,
        node: NodeId,
        tenants: Vec<TenantId>,
        wanted: Vec<Wanted>,
    ) -> Result<Box<dyn Flush>, CommitError> {
        Ok(Box::new(
            flush::begin(&self.own, node, tenants, wanted).await?,
        ))
    }

    async fn head(&self, tenant: TenantId, log: LogId) -> Read<Option<LogHead>> {
        self.read_one("logs", by_log(&HEAD, tenant, log), head_row)
            .await
    }

    async fn heads(&self, tenant: TenantId) -> Read<Vec<LogHead>> {
        self.read("logs", by_tenant(&HEADS, tenant), head_row).await
    }

    async fn leaves(
        &self,
        tenant: TenantId,
        log: LogId,
        from: u64,
        count: u32,
    ) -> Read<Vec<Vec<u8>>> {
        let Some(query) = range(&LEAVES, tenant, log, from, count.min(MAX_LEAVES)) else {
            return Ok(Vec::new());
        };
        let rows = self
            .read("leaves", query, |c| Ok((c.u64(0)?, c.bytes(1)?)))
            .await?;
        without_gap("leaves", from, rows)
    }

    async fn hashes(
        &self,
        tenant: TenantId,
        log: LogId,
        level: u8,
        from: u64,
        count: u32,
    ) -> Read<Vec<[u8; 32]>> {
        let (table, text) = match level {
            0 => ("leaves", LEAF_HASHES.as_str()),
            _ => ("subtrees", SUBTREE_HASHES.as_str()),
        };
        let Some(query) = range(text, tenant, log, from, count) else {
            return Ok(Vec::new());
        };
        let query = match level {
            0 => query,
            _ => query.bind(i16::from(level)),
        };
        let rows = self
            .read(table, query, |c| Ok((c.u64(0)?, c.hash(1)?)))
            .await?;
        without_gap(table, from, rows)
    }

    async fn details(
        &self,
        tenant: TenantId,
        log: LogId,
        from: u64,
        count: u32,
    ) -> Read<Vec<(u64, String)>> {
        let Some(query) = range(&DETAILS, tenant, log, from, count) else {
            return Ok(Vec::new());
        };
        self.read("leaf_details", query, |c| Ok((c.u64(0)?, c.text(1)?)))
            .await
    }

    async fn open_authorisations(&self, limit: u32) -> Read<Vec<OpenAuthorisation>> {
        let query = sql(&OPEN_OF_THE_DEAD).bind(i64::from(limit));
        self.read("open_authorisations", query, open_row).await
    }

    async fn claim(&self, key: &ClaimKey) -> Read<Option<ClaimRow>> {
        self.read_one("claims", claims::by_key(&CLAIM, key), claim_row)
            .await
    }

    async fn forget_expired(&self, now: Micros) -> Result<u64, CommitError> {
        let mut forgotten = 0;
        for text in [FORGET_CLAIMS.as_str(), FORGET_SEEN_TOKENS.as_str()] {
            loop {
                let query = sql(text).bind(now.0).bind(FORGET_AT_ONCE);
                let rows = self.callers.write(query).await?;
                forgotten += rows;
                if rows == 0 {
                    break;
                }
            }
        }
        Ok(forgotten + nodes::forget(self).await?)
    }
}

/// A statement whose first values are the tenant and the log.
pub(super) fn by_log(text: &'static str, tenant: TenantId, log: LogId) -> Bound {
    by_tenant(text, tenant).bind(log.0)
}

/// `None` where `from` lies beyond all that can be stored.
fn range(text: &'static str, tenant: TenantId, log: LogId, from: u64, count: u32) -> Option<Bound> {
    let from = i64::try_from(from).ok()?;
    Some(by_log(text, tenant, log).bind(from).bind(i64::from(count)))
}
