//! A flush: heads held, then everything in one transaction.

use super::commit::{self, Prepared};
use super::connections::{Bound, Connections, IN_THE_WAY, TRIES, Write};
use super::effects::stored;
use super::errors::{self, Stop};
use super::{rows_of, sql};
use crate::columns::Columns;
use crate::rows::head_row;
use async_trait::async_trait;
use countersign_core::ports::rows::LogHead;
use countersign_core::ports::store::{Commit, CommitError, FOLLOW, Flush, Moved, Read, Wanted};
use countersign_core::{LogId, Micros, NodeId, TenantId};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Says for whom the transaction acts, holds the node's row against being buried, then the heads in
/// the order of their ids. The references from one part to the next keep this order. No row: the
/// node has ended, or was never there.
const HOLD: &str = "WITH acting AS MATERIALIZED (\
        SELECT set_config('countersign.tenant', $1, true) AS tenants), \
    alive AS MATERIALIZED (\
        SELECT n.node_id FROM acting, nodes AS n \
        WHERE acting.tenants IS NOT NULL AND n.node_id = $2 AND n.ended IS NULL \
        FOR KEY SHARE OF n) \
    SELECT h.tenant_id, h.log_id, h.kind, h.origin, h.size, h.frontier, h.checkpoint, h.last_time, \
        h.writer_epoch, h.writer_node \
    FROM alive LEFT JOIN LATERAL (\
        SELECT l.tenant_id, l.log_id, l.kind, l.origin, l.size, l.frontier, l.checkpoint, \
            l.last_time, l.writer_epoch, l.writer_node \
        FROM logs AS l \
        WHERE alive.node_id IS NOT NULL AND l.tenant_id = ANY ($3) AND l.log_id = ANY ($4) \
        ORDER BY l.log_id FOR NO KEY UPDATE OF l) AS h ON true";

/// What others wrote, as leaf hashes. A statement of its own: only one that begins after the heads
/// are held sees all of it.
const FOLLOWED: &str = "SELECT w.log_id, (SELECT array_agg(l.hash ORDER BY l.idx) FROM leaves AS l \
        WHERE l.tenant_id = w.tenant_id AND l.log_id = w.log_id AND l.idx >= w.low AND l.idx < w.high) \
    FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[]) AS w (tenant_id, log_id, low, high)";

/// Begins one.
pub(super) async fn begin(
    connections: &Arc<Connections>,
    node: NodeId,
    tenants: Vec<TenantId>,
    wanted: Vec<Wanted>,
) -> Result<PostgresFlush, CommitError> {
    let hold = Hold {
        node,
        tenants,
        logs: wanted.iter().map(|w| (w.tenant, w.log)).collect(),
    };
    for _ in 0..TRIES {
        let mut write = Write::begin(connections, "flush").await?;
        match hold.moved(&mut write, &wanted).await {
            Ok((there, moved)) => {
                return Ok(PostgresFlush {
                    connections: Arc::clone(connections),
                    write,
                    hold,
                    there,
                    moved,
                });
            }
            Err(Stop::Failed(e)) if errors::again(&e) => {
                write.abandon().await;
            }
            Err(stop) => return write.finish(Err(stop)).await,
        }
    }
    Err(CommitError::Unavailable(IN_THE_WAY.to_owned()))
}

/// A flush under way. Dropping it closes its connection, and the server lets go of the heads.
pub(super) struct PostgresFlush {
    connections: Arc<Connections>,
    write: Write,
    hold: Hold,
    /// Logs that exist.
    there: HashSet<LogId>,
    moved: Vec<Moved>,
}

#[async_trait]
impl Flush for PostgresFlush {
    fn moved(&mut self) -> Vec<Moved> {
        std::mem::take(&mut self.moved)
    }

    async fn commit(self: Box<Self>, now: Micros, commit: Commit) -> Result<(), CommitError> {
        let Self {
            connections,
            mut write,
            hold,
            there,
            ..
        } = *self;
        let prepared = match Prepared::new(hold.node, commit, &there) {
            Ok(prepared) => prepared,
            Err(refusal) => return write.finish(Err(refusal)).await,
        };
        let mut result = commit::apply(&mut write, now, &prepared).await;
        for _ in 1..TRIES {
            match &result {
                Err(Stop::Failed(e)) if errors::again(e) => {}
                _ => break,
            }
            // Rolled back for another writer's sake, and the heads are free: hold them anew. If
            // they moved meanwhile, the comparison says so.
            write.abandon().await;
            write = Write::begin(&connections, "flush").await?;
            result = match hold.take(&mut write).await {
                Ok(_) => commit::apply(&mut write, now, &prepared).await,
                Err(stop) => Err(stop),
            };
        }
        write.finish(result).await
    }
}

/// What a flush holds.
struct Hold {
    node: NodeId,
    tenants: Vec<TenantId>,
    logs: Vec<(TenantId, LogId)>,
}

impl Hold {
    /// Holds it all; the heads as they are now.
    async fn take(&self, write: &mut Write) -> Result<Vec<LogHead>, Stop> {
        let tenants: Vec<_> = self.tenants.iter().map(TenantId::to_string).collect();
        let query = sql(HOLD)
            .bind(tenants.join(","))
            .bind(self.node.0)
            .bind(self.logs.iter().map(|(t, _)| t.0).collect::<Vec<_>>())
            .bind(self.logs.iter().map(|(_, l)| l.0).collect::<Vec<_>>());
        let rows = write.rows(query).await?;
        if rows.is_empty() {
            return Err(CommitError::Buried.into());
        }
        let heads = rows_of("logs", &rows, head_or_none)?;
        let wanted: HashSet<_> = self.logs.iter().collect();
        Ok(heads
            .into_iter()
            .flatten()
            .filter(|h| wanted.contains(&(h.tenant, h.log)))
            .collect())
    }

    /// Holds it all; the logs that exist, and the heads that are not as the caller knew them.
    async fn moved(
        &self,
        write: &mut Write,
        wanted: &[Wanted],
    ) -> Result<(HashSet<LogId>, Vec<Moved>), Stop> {
        let known: HashMap<LogId, Option<u64>> = wanted.iter().map(|w| (w.log, w.known)).collect();
        let heads = self.take(write).await?;
        let there = heads.iter().map(|h| h.log).collect();
        let (mut moved, mut behind) = (Vec::new(), Vec::new());
        for head in heads {
            let known = known.get(&head.log).copied().flatten();
            if known == Some(head.size) {
                continue;
            }
            if let Some(low) = known
                && low < head.size
                && head.size - low <= FOLLOW
            {
                behind.push((head.tenant, head.log, low, head.size));
            }
            moved.push(Moved {
                head,
                leaf_hashes: Vec::new(),
            });
        }
        if behind.is_empty() {
            return Ok((there, moved));
        }
        let mut hashes = followed(write, &behind).await?;
        for moved in &mut moved {
            moved.leaf_hashes = hashes.remove(&moved.head.log).unwrap_or_default();
        }
        Ok((there, moved))
    }
}

async fn followed(
    write: &mut Write,
    behind: &[(TenantId, LogId, u64, u64)],
) -> Result<HashMap<LogId, Vec<[u8; 32]>>, Stop> {
    let numbers = |of: fn(&(TenantId, LogId, u64, u64)) -> u64| {
        behind
            .iter()
            .map(|b| stored(of(b)))
            .collect::<Result<Vec<_>, _>>()
    };
    let query: Bound = sql(FOLLOWED)
        .bind(behind.iter().map(|b| b.0.0).collect::<Vec<_>>())
        .bind(behind.iter().map(|b| b.1.0).collect::<Vec<_>>())
        .bind(numbers(|b| b.2)?)
        .bind(numbers(|b| b.3)?);
    let rows = write.rows(query).await?;
    let found = rows_of("leaves", &rows, |c| {
        let hashes = c.chain(1)?.into_iter().map(|hash| {
            <[u8; 32]>::try_from(hash).map_err(|_| c.corrupt(1, "wrong number of bytes"))
        });
        Ok((LogId(c.uuid(0)?), hashes.collect::<Read<Vec<_>>>()?))
    })?;
    let found: HashMap<_, _> = found.into_iter().collect();
    for (_, log, low, high) in behind {
        let count = found.get(log).map_or(0, |h| h.len() as u64);
        if count != high - low {
            return Err(CommitError::Unavailable(format!(
                "log {log} has {count} leaves between {low} and {high}"
            ))
            .into());
        }
    }
    Ok(found)
}

/// A head, or the row without one that says that the node is alive.
fn head_or_none(c: &Columns<'_>) -> Read<Option<LogHead>> {
    Ok(match c.text_or_null(3)? {
        Some(_) => Some(head_row(c)?),
        None => None,
    })
}

/// Name and text of the statements.
#[cfg(test)]
pub(super) const ALL: [(&str, &str); 2] = [("HOLD", HOLD), ("FOLLOWED", FOLLOWED)];
