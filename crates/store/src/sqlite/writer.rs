//! The one writing connection.
//!
//! sqlx's own `Transaction` is not used for it: when SQLite rolls back by itself (disk full, I/O
//! error), sqlx keeps counting an open transaction and the connection can never begin again.
//! Here `BEGIN`, `COMMIT` and `ROLLBACK` are plain statements, and the connection is *taken out* of
//! its place while a write runs: whoever fails, panics or is dropped in the middle leaves the
//! place empty, and the next write makes a new connection.

use super::Bound;
use super::decode::SqliteCells;
use super::errors::{self, Stop};
use super::sql;
use crate::columns::Columns;
use countersign_core::ports::store::{CommitError, Read};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, MutexGuard};

/// A write that takes longer is reported.
const SLOW: Duration = Duration::from_millis(500);

/// The place of the writing connection. Writes queue here, first come, first served.
#[derive(Debug)]
pub(super) struct Writer {
    options: SqliteConnectOptions,
    place: Mutex<Option<SqliteConnection>>,
    rows_read: Arc<AtomicU64>,
}

impl Writer {
    pub(super) fn new(options: SqliteConnectOptions, rows_read: Arc<AtomicU64>) -> Self {
        Self {
            options,
            place: Mutex::new(None),
            rows_read,
        }
    }

    /// Begins a write. `name` is for people who look for what is slow.
    pub(super) async fn begin(&self, name: &'static str) -> Result<Write<'_>, CommitError> {
        let mut place = self.place.lock().await;
        let started = Instant::now();
        let mut connection = match place.take() {
            Some(connection) => connection,
            None => self
                .options
                .connect()
                .await
                .map_err(|e| errors::before_commit(&e))?,
        };
        match sql("BEGIN IMMEDIATE").execute(&mut connection).await {
            Ok(_) => Ok(Write {
                name,
                started,
                place,
                connection,
                rows_read: &self.rows_read,
            }),
            // Dropping the connection, not putting it back.
            Err(e) => Err(errors::before_commit(&e)),
        }
    }

    /// The connection itself, for tests that put it into trouble.
    #[cfg(test)]
    pub(super) async fn connection(&self) -> MutexGuard<'_, Option<SqliteConnection>> {
        self.place.lock().await
    }

    pub(super) async fn close(&self) {
        if let Some(connection) = self.place.lock().await.take()
            && let Err(e) = connection.close().await
        {
            tracing::warn!(error = %e, "the database's writing connection did not close cleanly");
        }
    }
}

/// A write in progress. Dropping it without [`Write::finish`] writes nothing.
pub(super) struct Write<'a> {
    name: &'static str,
    started: Instant,
    place: MutexGuard<'a, Option<SqliteConnection>>,
    connection: SqliteConnection,
    rows_read: &'a AtomicU64,
}

impl Write<'_> {
    /// Executes a statement; the number of rows it changed.
    pub(super) async fn execute(&mut self, query: Bound) -> Result<u64, Stop> {
        Ok(query.execute(&mut self.connection).await?.rows_affected())
    }

    /// Reads rows within the write.
    pub(super) async fn rows<T>(
        &mut self,
        table: &'static str,
        query: Bound,
        decode: fn(&Columns<'_>) -> Read<T>,
    ) -> Result<Vec<T>, Stop> {
        let rows = query.fetch_all(&mut self.connection).await?;
        self.rows_read
            .fetch_add(rows.len() as u64, Ordering::Relaxed);
        let decoded: Read<Vec<T>> = rows
            .iter()
            .map(|row| decode(&Columns::new(table, &SqliteCells(row))))
            .collect();
        Ok(decoded?)
    }

    /// Like [`Self::rows`], for at most one row.
    pub(super) async fn row<T>(
        &mut self,
        table: &'static str,
        query: Bound,
        decode: fn(&Columns<'_>) -> Read<T>,
    ) -> Result<Option<T>, Stop> {
        Ok(self.rows(table, query, decode).await?.pop())
    }

    /// Whether the query finds a row.
    pub(super) async fn exists(&mut self, query: Bound) -> Result<bool, Stop> {
        Ok(self.row("", query, |_| Ok(())).await?.is_some())
    }

    /// Takes back what was written so far, to look at what was there before. Nobody else writes
    /// in between: the place is still ours.
    pub(super) async fn start_over(&mut self) -> Result<(), Stop> {
        self.execute(sql("ROLLBACK")).await?;
        self.execute(sql("BEGIN IMMEDIATE")).await?;
        Ok(())
    }

    /// Commits if `result` is `Ok`, else takes everything back. When it returns `Ok`, all of the
    /// write is on the disk.
    pub(super) async fn finish<T>(mut self, result: Result<T, Stop>) -> Result<T, CommitError> {
        let result = match result {
            Ok(value) => match sql("COMMIT").execute(&mut self.connection).await {
                Ok(_) => {
                    *self.place = Some(self.connection);
                    Ok(value)
                }
                Err(e) => {
                    discard(self.connection).await;
                    Err(errors::at_commit(&e))
                }
            },
            Err(Stop::Refused(refusal)) => {
                match sql("ROLLBACK").execute(&mut self.connection).await {
                    Ok(_) => *self.place = Some(self.connection),
                    Err(_) => discard(self.connection).await,
                }
                Err(refusal)
            }
            Err(Stop::Failed(e)) => {
                discard(self.connection).await;
                Err(errors::before_commit(&e))
            }
        };
        let took = self.started.elapsed();
        if took > SLOW {
            tracing::warn!(
                write = self.name,
                ms = took.as_millis(),
                "slow database write"
            );
        }
        if let Err(e @ (CommitError::Unavailable(_) | CommitError::Unknown(_))) = &result {
            tracing::warn!(write = self.name, error = %e, "database write failed");
        }
        result
    }
}

/// Closes a connection whose state is in doubt, which rolls back what it had begun.
async fn discard(connection: SqliteConnection) {
    if let Err(e) = connection.close().await {
        tracing::debug!(error = %e, "closing a failed database connection");
    }
}
