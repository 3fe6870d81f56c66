//! All storage ports on one SQLite file, owned by one process.

mod claims;
mod commit;
mod decode;
mod devices;
mod errors;
mod keys;
mod log;
mod look;
mod many;
mod nodes;
mod open;
mod revocation;
mod service;
mod tenants;
#[cfg(test)]
mod tests;
mod writer;

pub use look::Look;
pub use open::OpenError;

use crate::columns::Columns;
use countersign_core::ports::store::Read;
use decode::SqliteCells;
use sqlx::SqlitePool;
use sqlx::query::Query;
use sqlx::sqlite::{Sqlite, SqliteArguments};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use writer::Writer;

/// A statement with its values.
type Bound = Query<'static, Sqlite, SqliteArguments>;

/// The database in one SQLite file.
///
/// Calls may be dropped before they are ready: a write is then made wholly or not at all, and
/// nobody knows which.
#[derive(Debug)]
pub struct SqliteStore {
    path: PathBuf,
    writer: Arc<Writer>,
    readers: SqlitePool,
    rows_read: Arc<AtomicU64>,
    /// Holds the lock that says this process owns the file; released when the store is dropped. A
    /// store that only reads has none.
    _owned: Option<File>,
}

impl SqliteStore {
    /// Rows fetched from the database since it was opened, by reads and inside writes. Tests use
    /// it to show that work does not grow with the log.
    #[must_use]
    pub fn rows_read(&self) -> u64 {
        self.rows_read.load(Ordering::Relaxed)
    }

    /// The database file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Closes all connections, which folds the write-ahead log into the file. Dropping the store
    /// without it loses nothing.
    pub async fn close(self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    /// Runs a read and decodes each row. `table` is named if a row is not what we wrote.
    async fn read<T>(
        &self,
        table: &'static str,
        query: Bound,
        decode: fn(&Columns<'_>) -> Read<T>,
    ) -> Read<Vec<T>> {
        let rows = match self.readers.acquire().await {
            Ok(mut connection) => query.fetch_all(&mut *connection).await,
            Err(e) => Err(e),
        }
        .map_err(|e| errors::read(table, &e))?;
        self.rows_read
            .fetch_add(rows.len() as u64, Ordering::Relaxed);
        rows.iter()
            .map(|row| decode(&Columns::new(table, &SqliteCells(row))))
            .collect()
    }

    /// Like [`Self::read`], for at most one row.
    async fn read_one<T>(
        &self,
        table: &'static str,
        query: Bound,
        decode: fn(&Columns<'_>) -> Read<T>,
    ) -> Read<Option<T>> {
        Ok(self.read(table, query, decode).await?.pop())
    }
}

/// A static statement, to bind values to.
fn sql(text: &'static str) -> Bound {
    sqlx::query(text)
}
