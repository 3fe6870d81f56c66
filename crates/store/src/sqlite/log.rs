//! The logs: flushes and reads. Writing is in `commit`.

use super::errors::Stop;
use super::tenants::by_tenant;
use super::writer::Writer;
use super::{Bound, SqliteStore, claims, commit, nodes, sql};
use crate::rows::{claim_row, head_row, open_row, without_gap};
use crate::sql::log as text;
use async_trait::async_trait;
use countersign_core::ports::rows::{ClaimKey, ClaimRow, LogHead, OpenAuthorisation};
use countersign_core::ports::store::{Commit, CommitError, Flush, LogStore, Moved, Read, Wanted};
use countersign_core::{LogId, Micros, NodeId, TenantId};
use std::sync::Arc;

/// Rows forgotten per write: a flush that waits behind it waits a few milliseconds at most.
const FORGET_AT_ONCE: i64 = 500;

/// What the port allows in one read of leaves: a full tile.
const MAX_LEAVES: u32 = 256;

#[async_trait]
impl LogStore for SqliteStore {
    async fn flush(
        &self,
        node: NodeId,
        _tenants: Vec<TenantId>,
        wanted: Vec<Wanted>,
    ) -> Result<Box<dyn Flush>, CommitError> {
        // One process owns the file: nobody else moves a head that this process knows.
        let mut moved = Vec::new();
        for w in wanted {
            if w.known.is_none()
                && let Some(head) = self
                    .head(w.tenant, w.log)
                    .await
                    .map_err(|e| CommitError::Unavailable(e.to_string()))?
            {
                moved.push(Moved {
                    head,
                    leaf_hashes: Vec::new(),
                });
            }
        }
        Ok(Box::new(SqliteFlush {
            writer: self.writer.clone(),
            node,
            moved,
        }))
    }

    async fn head(&self, tenant: TenantId, log: LogId) -> Read<Option<LogHead>> {
        self.read_one("logs", by_log(text::HEAD, tenant, log), head_row)
            .await
    }

    async fn heads(&self, tenant: TenantId) -> Read<Vec<LogHead>> {
        self.read("logs", by_tenant(text::HEADS, tenant), head_row)
            .await
    }

    async fn leaves(
        &self,
        tenant: TenantId,
        log: LogId,
        from: u64,
        count: u32,
    ) -> Read<Vec<Vec<u8>>> {
        let Some(query) = range(text::LEAVES, tenant, log, from, count.min(MAX_LEAVES)) else {
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
            0 => ("leaves", text::LEAF_HASHES),
            _ => ("subtrees", text::SUBTREE_HASHES),
        };
        let Some(query) = range(text, tenant, log, from, count) else {
            return Ok(Vec::new());
        };
        let query = match level {
            0 => query,
            _ => query.bind(i64::from(level)),
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
        let Some(query) = range(text::DETAILS, tenant, log, from, count) else {
            return Ok(Vec::new());
        };
        self.read("leaf_details", query, |c| Ok((c.u64(0)?, c.text(1)?)))
            .await
    }

    async fn open_authorisations(&self, limit: u32) -> Read<Vec<OpenAuthorisation>> {
        let query = sql(text::OPEN_OF_THE_DEAD).bind(i64::from(limit));
        self.read("open_authorisations", query, open_row).await
    }

    async fn claim(&self, key: &ClaimKey) -> Read<Option<ClaimRow>> {
        self.read_one("claims", claims::by_key(text::CLAIM, key), claim_row)
            .await
    }

    async fn forget_expired(&self, now: Micros) -> Result<u64, CommitError> {
        let mut forgotten = 0;
        for text in [text::FORGET_CLAIMS, text::FORGET_SEEN_TOKENS] {
            loop {
                let mut write = self.writer.begin("forget").await?;
                let query = sql(text).bind(now.0).bind(FORGET_AT_ONCE);
                let rows = write.execute(query).await;
                let rows = write.finish(rows).await?;
                forgotten += rows;
                if rows == 0 {
                    break;
                }
            }
        }
        let mut write = self.writer.begin("forget").await?;
        let query = sql(crate::sql::nodes::FORGET_NODES).bind(nodes::now().minus(nodes::SHOWN).0);
        let rows = write.execute(query).await;
        forgotten += write.finish(rows).await?;
        Ok(forgotten)
    }
}

/// A flush; the one writing connection is taken only when it commits.
struct SqliteFlush {
    writer: Arc<Writer>,
    node: NodeId,
    moved: Vec<Moved>,
}

#[async_trait]
impl Flush for SqliteFlush {
    fn moved(&mut self) -> Vec<Moved> {
        std::mem::take(&mut self.moved)
    }

    async fn commit(self: Box<Self>, now: Micros, commit: Commit) -> Result<(), CommitError> {
        commit::commit(&self.writer, self.node, now, commit).await
    }
}

/// A statement whose first values are the tenant and the log.
pub(super) fn by_log(text: &'static str, tenant: TenantId, log: LogId) -> Bound {
    by_tenant(text, tenant).bind(log.as_bytes().to_vec())
}

/// A number as SQLite keeps it (63 bits). No log, epoch or version of ours gets there.
pub(super) fn stored(n: u64) -> Result<i64, Stop> {
    i64::try_from(n)
        .map_err(|_| Stop::Refused(CommitError::Unavailable(format!("it cannot hold {n}"))))
}

/// `None` where `from` lies beyond all that can be stored.
fn range(text: &'static str, tenant: TenantId, log: LogId, from: u64, count: u32) -> Option<Bound> {
    let from = i64::try_from(from).ok()?;
    Some(by_log(text, tenant, log).bind(from).bind(i64::from(count)))
}
