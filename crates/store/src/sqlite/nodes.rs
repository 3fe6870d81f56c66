//! Runs of countersignd. Here there is one at a time: it holds the lock of the file.

use super::errors::Stop;
use super::writer::Write;
use super::{SqliteStore, sql};
use crate::rows::node_row;
use crate::sql::nodes as text;
use async_trait::async_trait;
use countersign_core::ports::rows::NodeRow;
use countersign_core::ports::store::{CommitError, NodeStore, Read};
use countersign_core::{Micros, NodeId};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long an ended node is shown.
pub(super) const SHOWN: Duration = Duration::from_secs(24 * 3600);

#[async_trait]
impl NodeStore for SqliteStore {
    fn shared(&self) -> bool {
        false
    }

    async fn join(&self, node: NodeId, name: &str, lease: Duration) -> Result<Micros, CommitError> {
        let now = now();
        let mut write = self.writer.begin("join").await?;
        let query = sql(text::JOIN)
            .bind(node.as_bytes().to_vec())
            .bind(name.to_owned())
            .bind(now.0)
            .bind(now.plus(lease).0);
        let result = write.execute(query).await;
        write.finish(result).await?;
        Ok(now)
    }

    async fn renew(&self, node: NodeId, lease: Duration) -> Result<Micros, CommitError> {
        let now = now();
        let mut write = self.writer.begin("renew").await?;
        let query = sql(text::RENEW)
            .bind(node.as_bytes().to_vec())
            .bind(now.plus(lease).0);
        let result = match write.execute(query).await {
            Ok(0) => Err(CommitError::Buried.into()),
            other => other,
        };
        write.finish(result).await?;
        Ok(now)
    }

    async fn bury(&self, node: NodeId) -> Result<Vec<NodeRow>, CommitError> {
        let now = now();
        let mut write = self.writer.begin("bury").await?;
        let result = async {
            // Whoever else is registered is dead: this process owns the file.
            let all = write
                .rows("nodes", sql(text::NODES).bind(now.0), node_row)
                .await?;
            let mut buried = Vec::new();
            for row in all {
                if row.node == node || row.ended.is_some() {
                    continue;
                }
                end(&mut write, row.node, now).await?;
                buried.push(NodeRow {
                    ended: Some(now),
                    ..row
                });
            }
            Ok(buried)
        }
        .await;
        write.finish(result).await
    }

    async fn leave(&self, node: NodeId) -> Result<(), CommitError> {
        let mut write = self.writer.begin("leave").await?;
        let result = end(&mut write, node, now()).await;
        write.finish(result).await
    }

    async fn nodes(&self) -> Read<Vec<NodeRow>> {
        let since = now().minus(SHOWN);
        self.read("nodes", sql(text::NODES).bind(since.0), node_row)
            .await
    }
}

/// The database's clock is this machine's.
pub(super) fn now() -> Micros {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

async fn end(write: &mut Write<'_>, node: NodeId, now: Micros) -> Result<(), Stop> {
    let query = sql(text::END).bind(node.as_bytes().to_vec()).bind(now.0);
    write.execute(query).await.map(drop)
}

/// Nothing of a node that ended is written.
pub(super) async fn alive(write: &mut Write<'_>, node: NodeId) -> Result<(), Stop> {
    if write
        .exists(sql(text::IS_ALIVE).bind(node.as_bytes().to_vec()))
        .await?
    {
        Ok(())
    } else {
        Err(CommitError::Buried.into())
    }
}
