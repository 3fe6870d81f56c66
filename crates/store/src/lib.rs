//! The database: what `countersign_core::ports::store` promises, kept by SQLite.
//!
//! One machine, one file, one `countersignd`: [`SqliteStore`]. The PostgreSQL twin of the schema is
//! in `migrations/postgres`, and the conformance suite in `tests/it` is written against the traits
//! alone, so that both databases pass the same tests.
//!
//! What to know before changing anything here:
//!
//! - **One door for writing.** [`SqliteStore`] has exactly one writing connection. Each write is
//!   `BEGIN IMMEDIATE` … `COMMIT` under a name, and its connection is thrown away whenever
//!   anything about it is in doubt. Readers have connections of their own, which cannot write.
//! - **Durable means durable.** WAL with `synchronous=FULL`: when a write returns `Ok` it survives a
//!   power cut. A disk that fails in the middle of a `COMMIT` gives
//!   [`CommitError::Unknown`](countersign_core::ports::store::CommitError::Unknown), never a guess.
//! - **No neighbour.** Each statement names the tenant, except for recovery, forgetting and the
//!   operator's list, which say so where they are written (`sql/`).
//! - **The past costs nothing.** Appending and starting read one row per log. Tests count rows
//!   read ([`SqliteStore::rows_read`]) and look at the plan of each statement.
//!
//! `docs/data-model.md` tells the story of the tables.
#![forbid(unsafe_code)]

mod sql;
pub mod sqlite;

pub use sqlite::{OpenError, SqliteStore};
