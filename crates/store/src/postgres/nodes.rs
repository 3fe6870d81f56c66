//! Runs of countersignd. Every time is the server's.
//!
//! A flush holds its node's row `FOR KEY SHARE`, which lets the lease be renewed meanwhile. To bury a
//! node its row is locked `FOR UPDATE`, which waits for the flushes under way; those that come
//! after find that the node has ended.

use super::connections::{Bound, Write};
use super::errors::Stop;
use super::{PostgresStore, rows_of, sql};
use crate::columns::Columns;
use crate::rows::node_row;
use async_trait::async_trait;
use countersign_core::ports::rows::NodeRow;
use countersign_core::ports::store::{CommitError, NodeStore, Read};
use countersign_core::{Micros, NodeId};
use std::time::Duration;

/// The server's clock, in microseconds since 1970.
macro_rules! now {
    () => {
        "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
    };
}

const JOIN: &str = concat!(
    "WITH t AS MATERIALIZED (SELECT ",
    now!(),
    " AS now), joined AS (INSERT INTO nodes (node_id, name, joined, until, ended) \
     SELECT $1, $2, t.now, t.now + $3, NULL FROM t ON CONFLICT DO NOTHING) SELECT now FROM t"
);
const RENEW: &str = concat!(
    "UPDATE nodes SET until = t.now + $2 FROM (SELECT ",
    now!(),
    " AS now) AS t WHERE node_id = $1 AND ended IS NULL RETURNING t.now"
);
/// Waits for the flushes of those it finds, and looks once more whether their lease is over.
const LOCK_THE_DEAD: &str = concat!(
    "SELECT node_id FROM nodes WHERE ended IS NULL AND node_id <> $1 AND ($2 OR until < ",
    now!(),
    ") ORDER BY node_id FOR UPDATE"
);
const END: &str = concat!(
    "UPDATE nodes SET ended = ",
    now!(),
    " WHERE node_id = ANY ($1) AND ended IS NULL RETURNING node_id, name, joined, until, ended"
);
const LOCK: &str = "SELECT node_id FROM nodes WHERE node_id = $1 FOR UPDATE";
const NODES: &str = concat!(
    "SELECT node_id, name, joined, until, ended FROM nodes WHERE ended IS NULL OR ended > ",
    now!(),
    " - $1 ORDER BY joined, node_id"
);
/// A node that left something open stays until it is closed: recovery asks who is alive. Under the
/// scope `housekeeping` alone: without it nothing would seem to be open.
const FORGET: &str = concat!(
    "DELETE FROM nodes WHERE ended < ",
    now!(),
    " - $1 AND node_id NOT IN (SELECT node_id FROM open_authorisations)"
);
const AS_HOUSEKEEPING: &str = "SELECT set_config('countersign.scope', 'housekeeping', true)";

/// How long an ended node is shown.
const SHOWN: Duration = Duration::from_secs(24 * 3600);

#[async_trait]
impl NodeStore for PostgresStore {
    fn shared(&self) -> bool {
        !self.single_node
    }

    async fn join(&self, node: NodeId, name: &str, lease: Duration) -> Result<Micros, CommitError> {
        let query = sql(JOIN)
            .bind(node.0)
            .bind(name.to_owned())
            .bind(micros(lease));
        let (rows, _) = self.own.write_rows(query).await?;
        one(rows_of("nodes", &rows, time))
    }

    async fn renew(&self, node: NodeId, lease: Duration) -> Result<Micros, CommitError> {
        let query = sql(RENEW).bind(node.0).bind(micros(lease));
        let (rows, changed) = self.own.write_rows(query).await?;
        if changed == 0 {
            return Err(CommitError::Buried);
        }
        one(rows_of("nodes", &rows, time))
    }

    async fn bury(&self, node: NodeId) -> Result<Vec<NodeRow>, CommitError> {
        let query = sql(LOCK_THE_DEAD).bind(node.0).bind(self.single_node);
        let mut write = Write::begin(&self.own, "bury").await?;
        let result = end(&mut write, query).await;
        write.finish(result).await
    }

    async fn leave(&self, node: NodeId) -> Result<(), CommitError> {
        let mut write = Write::begin(&self.own, "leave").await?;
        let result = end(&mut write, sql(LOCK).bind(node.0)).await;
        write.finish(result).await.map(drop)
    }

    async fn nodes(&self) -> Read<Vec<NodeRow>> {
        self.read("nodes", sql(NODES).bind(micros(SHOWN)), node_row)
            .await
    }
}

/// Ends the nodes that `lock` locks.
async fn end(write: &mut Write, lock: Bound) -> Result<Vec<NodeRow>, Stop> {
    let dead = rows_of("nodes", &write.rows(lock).await?, |c| c.uuid(0))?;
    if dead.is_empty() {
        return Ok(Vec::new());
    }
    let rows = write.rows(sql(END).bind(dead)).await?;
    Ok(rows_of("nodes", &rows, node_row)?)
}

/// Forgets nodes that ended a while ago; how many.
pub(super) async fn forget(store: &PostgresStore) -> Result<u64, CommitError> {
    let mut write = Write::begin(&store.callers, "forget nodes").await?;
    let result = async {
        write.execute(sql(AS_HOUSEKEEPING)).await?;
        write.execute(sql(FORGET).bind(micros(SHOWN))).await
    }
    .await;
    write.finish(result).await
}

fn time(c: &Columns<'_>) -> Read<Micros> {
    c.micros(0)
}

fn one(rows: Read<Vec<Micros>>) -> Result<Micros, CommitError> {
    rows.map_err(|e| CommitError::Unknown(e.to_string()))?
        .pop()
        .ok_or_else(|| CommitError::Unknown("it did not say what time it is".to_owned()))
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX / 4)
}
