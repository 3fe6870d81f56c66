//! The database: what `countersign_core::ports::store` promises, kept by SQLite and by PostgreSQL.
//!
//! One machine, one file, one `countersignd`: [`SqliteStore`]. One or several `countersignd` on one
//! server: [`PostgresStore`]. The conformance suite in `tests/it` is written against the traits
//! alone and runs on both.
//!
//! What to know before changing anything here:
//!
//! - **Durable means durable.** SQLite: WAL with `synchronous=FULL`. PostgreSQL: `synchronous_commit`,
//!   and a server without `fsync` is refused. When a write returns `Ok` it survives a power cut. A
//!   disk, server or network that fails in the middle of a `COMMIT` gives
//!   [`CommitError::Unknown`](countersign_core::ports::store::CommitError::Unknown), never a guess.
//! - **Connections in doubt are thrown away.** A connection is taken out of its place while it is
//!   used; whoever fails or is dropped in the middle leaves the place empty.
//! - **No neighbour.** Each statement names the tenant, except for recovery, forgetting and the
//!   operator's list, which say so where they are written (`sql/`). On PostgreSQL row-level security
//!   is a second wall behind that.
//! - **The past costs nothing.** Appending and starting read one row per log. Tests count rows
//!   read and look at the plan of each statement.
//!
//! `docs/data-model.md` tells the story of the tables.
#![forbid(unsafe_code)]

mod columns;
mod consistent;
pub mod postgres;
mod rows;
mod sql;
pub mod sqlite;

pub use postgres::PostgresStore;
pub use sqlite::{OpenError, SqliteStore};
