//! All storage ports on PostgreSQL, for one or several countersignd.
//!
//! - A read is one statement and one round trip; it says itself for whom it acts ([`act`]).
//! - A flush is one transaction of four round trips, however much is in it: `BEGIN`; this node is
//!   alive and the heads are ours (`FOR UPDATE`, in the order of their ids, so that two flushes never
//!   wait for each other); everything that is to be written, in one statement; `COMMIT`. A fifth
//!   fetches what other nodes wrote, if they did.
//! - What PostgreSQL rolls back for another writer's sake (serialisation, deadlock) is done over here.

mod act;
mod claims;
mod commit;
mod connections;
mod decode;
mod devices;
mod effects;
mod errors;
mod flush;
mod keys;
mod log;
mod look;
mod nodes;
mod open;
mod revocation;
mod service;
mod settings;
mod tenants;
#[cfg(test)]
mod tests;

pub use look::Look;
pub use open::OpenError;
pub use settings::{Settings, UrlError};

use crate::columns::Columns;
use connections::{Bound, Connections};
use countersign_core::ports::store::Read;
use decode::PgCells;
use sqlx::postgres::PgRow;
use std::sync::Arc;

/// A PostgreSQL database.
///
/// Calls may be dropped before they are ready: a write is then made wholly or not at all, and
/// nobody knows which.
#[derive(Debug)]
pub struct PostgresStore {
    /// For what callers ask.
    callers: Arc<Connections>,
    /// For flushes and the node's lease.
    own: Arc<Connections>,
    single_node: bool,
}

impl PostgresStore {
    /// Rows fetched from the database since it was opened, by reads and inside writes. Tests use
    /// it to show that work does not grow with the log.
    #[must_use]
    pub fn rows_read(&self) -> u64 {
        self.callers.rows_read() + self.own.rows_read()
    }

    /// Statements sent and waited for since it was opened, but for those that open a connection.
    #[must_use]
    pub fn round_trips(&self) -> u64 {
        self.callers.round_trips() + self.own.round_trips()
    }

    /// Ends all connections. What is under way ends with an error.
    pub fn close(&self) {
        self.callers.close();
        self.own.close();
    }

    /// Runs a read and decodes each row. `table` is named if a row is not what we wrote.
    async fn read<T>(
        &self,
        table: &'static str,
        query: Bound,
        decode: fn(&Columns<'_>) -> Read<T>,
    ) -> Read<Vec<T>> {
        let rows = self
            .callers
            .read(query)
            .await
            .map_err(|e| errors::read(table, &e))?;
        rows_of(table, &rows, decode)
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

/// Decodes rows.
fn rows_of<T>(
    table: &'static str,
    rows: &[PgRow],
    decode: fn(&Columns<'_>) -> Read<T>,
) -> Read<Vec<T>> {
    rows.iter()
        .map(|row| decode(&Columns::new(table, &PgCells(row))))
        .collect()
}

/// A static statement, to bind values to.
fn sql(text: &'static str) -> Bound {
    Bound::new(text)
}
