//! What SQLite and the disk say, in the port's words.

use countersign_core::ports::store::{CommitError, StoreError};

/// Why work inside a write stopped.
#[derive(Debug)]
pub(super) enum Stop {
    /// The work itself refuses. The connection is fine.
    Refused(CommitError),
    /// The database failed. The connection is thrown away.
    Failed(sqlx::Error),
}

impl From<CommitError> for Stop {
    fn from(e: CommitError) -> Self {
        Self::Refused(e)
    }
}

impl From<sqlx::Error> for Stop {
    fn from(e: sqlx::Error) -> Self {
        Self::Failed(e)
    }
}

impl From<StoreError> for Stop {
    fn from(e: StoreError) -> Self {
        Self::Refused(CommitError::Unavailable(e.to_string()))
    }
}

/// A write that failed before its `COMMIT`: nothing of it was written.
pub(super) fn before_commit(e: &sqlx::Error) -> CommitError {
    CommitError::Unavailable(words(e))
}

/// A `COMMIT` that failed. SQLite says BUSY, READONLY and FULL before the frame that commits is
/// complete in the write-ahead log, so nothing was written. After anything else (I/O errors above
/// all, of the final sync too) the frame may be on the disk and come back at the next start.
pub(super) fn at_commit(e: &sqlx::Error) -> CommitError {
    match primary_code(e) {
        Some(BUSY | LOCKED | READONLY | FULL) => CommitError::Unavailable(words(e)),
        _ => CommitError::Unknown(words(e)),
    }
}

/// A read that failed.
pub(super) fn read(table: &'static str, e: &sqlx::Error) -> StoreError {
    match primary_code(e) {
        Some(CORRUPT | NOT_A_DATABASE) => StoreError::Corrupt {
            table,
            detail: words(e),
        },
        _ => StoreError::Unavailable(words(e)),
    }
}

/// The error for operators: what is wrong, then SQLite's own words.
pub(super) fn words(e: &sqlx::Error) -> String {
    let cause = match primary_code(e) {
        Some(BUSY | LOCKED) => "it is busy",
        Some(READONLY) => "it is read-only",
        Some(FULL) => "the disk is full",
        Some(IO) => "input/output error",
        Some(CANNOT_OPEN) => "a file of it cannot be opened",
        Some(CORRUPT) => "the file is damaged",
        Some(NOT_A_DATABASE) => "the file is not a database",
        Some(OUT_OF_MEMORY) => "out of memory",
        Some(CONSTRAINT) => "a row contradicts the schema",
        Some(_) => "it reported an error",
        None => match e {
            sqlx::Error::PoolTimedOut => "it is busy",
            sqlx::Error::PoolClosed => "it is closed",
            sqlx::Error::WorkerCrashed => "its thread ended",
            _ => "it cannot be reached",
        },
    };
    format!("{cause} ({e})")
}

// Primary result codes, https://www.sqlite.org/rescode.html.
const BUSY: u32 = 5;
const LOCKED: u32 = 6;
const OUT_OF_MEMORY: u32 = 7;
const READONLY: u32 = 8;
const IO: u32 = 10;
const CORRUPT: u32 = 11;
const FULL: u32 = 13;
const CANNOT_OPEN: u32 = 14;
const CONSTRAINT: u32 = 19;
const NOT_A_DATABASE: u32 = 26;

/// The low byte of the extended result code.
fn primary_code(e: &sqlx::Error) -> Option<u32> {
    let extended: u32 = e.as_database_error()?.code()?.parse().ok()?;
    Some(extended & 0xff)
}

/// Whether the file is not an SQLite database at all.
pub(super) fn is_not_a_database(e: &sqlx::Error) -> bool {
    primary_code(e) == Some(NOT_A_DATABASE)
}
