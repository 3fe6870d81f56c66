//! What PostgreSQL and the network say, in the port's words.
//!
//! SQLSTATE codes: PostgreSQL manual, appendix A.

use countersign_core::ports::store::{CommitError, StoreError};

/// Why work inside a transaction stopped.
#[derive(Debug)]
pub(super) enum Stop {
    /// The work itself refuses.
    Refused(CommitError),
    /// The database failed.
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

/// A `COMMIT`, or a statement that is a transaction of its own, that failed. If the server itself
/// says why, it has rolled back; except when it was told to go away: a commit that waits for a
/// synchronous standby is already made then (manual, 27.2.8). A connection that broke tells
/// nothing.
pub(super) fn at_commit(e: &sqlx::Error) -> CommitError {
    match code(e) {
        Some(code) if !is_goodbye(&code) => CommitError::Unavailable(words(e)),
        _ => CommitError::Unknown(words(e)),
    }
}

/// A read that failed.
pub(super) fn read(table: &'static str, e: &sqlx::Error) -> StoreError {
    match code(e).as_deref() {
        // data_corrupted, index_corrupted
        Some("XX001" | "XX002") => StoreError::Corrupt {
            table,
            detail: words(e),
        },
        _ => StoreError::Unavailable(words(e)),
    }
}

/// Whether the same work may be done over: serialization_failure, deadlock_detected. PostgreSQL
/// has rolled everything back.
pub(super) fn again(e: &sqlx::Error) -> bool {
    matches!(code(e).as_deref(), Some("40001" | "40P01"))
}

/// Whether a row contradicts a constraint of the schema: somebody else was quicker, or the work is
/// about something that is not there.
pub(super) fn contradicts_schema(e: &sqlx::Error) -> bool {
    // foreign_key_violation, unique_violation
    matches!(code(e).as_deref(), Some("23503" | "23505"))
}

/// Whether the connection is of no more use.
pub(super) fn broken(e: &sqlx::Error) -> bool {
    match code(e) {
        Some(code) => is_goodbye(&code),
        None => !matches!(
            e,
            sqlx::Error::RowNotFound
                | sqlx::Error::ColumnDecode { .. }
                | sqlx::Error::ColumnIndexOutOfBounds { .. }
        ),
    }
}

/// Whether the server ends the connection with this.
fn is_goodbye(code: &str) -> bool {
    // connection exceptions; shutdown, crash of another backend, not yet started, database
    // dropped, idle session; idle in a transaction
    code.starts_with("08")
        || matches!(
            code,
            "57P01" | "57P02" | "57P03" | "57P04" | "57P05" | "25P03"
        )
}

/// The error for operators: what is wrong, then PostgreSQL's own words.
pub(super) fn words(e: &sqlx::Error) -> String {
    let code = code(e);
    let cause = match code.as_deref() {
        Some("57P03") => "it is starting or stopping",
        Some("25P03") => "a transaction stood still for too long",
        Some(code) if is_goodbye(code) => "it ended the connection",
        Some("57014") => "a statement took too long",
        Some("55P03") => "it is busy: a lock was not free in time",
        Some("40001" | "40P01") => "two writers got into each other's way",
        Some("25006") => "it is read-only (a standby?)",
        Some("53100") => "the disk is full",
        Some(code) if code.starts_with("53") => "it is out of resources",
        Some("58030") => "input/output error",
        Some("XX001" | "XX002") => "its files are damaged",
        Some("28000" | "28P01") => "it does not let this role in",
        Some("3D000") => "there is no such database",
        Some("42501") => "the role lacks a privilege",
        Some("42P01" | "42703" | "42883") => "the schema is not the one of this release",
        Some(code) if code.starts_with("23") => "a row contradicts the schema",
        Some(_) => "it reported an error",
        None => match e {
            sqlx::Error::Tls(_) => "the TLS connection failed",
            sqlx::Error::Configuration(_) => "the URL is wrong",
            sqlx::Error::Io(io) if io.kind() == std::io::ErrorKind::TimedOut => {
                "it did not answer in time"
            }
            _ => "it cannot be reached",
        },
    };
    match code {
        Some(code) => format!("{cause} ({e}; SQLSTATE {code})"),
        None => format!("{cause} ({e})"),
    }
}

/// PostgreSQL's code for what it said; `None` if it said nothing.
pub(super) fn code(e: &sqlx::Error) -> Option<String> {
    Some(e.as_database_error()?.code()?.into_owned())
}
