//! Opening: whose file it is, which schema it has, how its connections behave.

use super::SqliteStore;
use super::errors::{is_not_a_database, words};
use super::writer::Writer;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection, SqlitePool};
use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// The schema this release writes, and all before it.
pub(super) static MIGRATOR: Migrator = sqlx::migrate!("../../migrations/sqlite");

/// `CSGN`, set by the first migration.
const APPLICATION_ID: i64 = 0x4353_474e;

/// Short: nobody else writes to the file, so waiting long would only hide a mistake.
const BUSY_TIMEOUT: Duration = Duration::from_millis(250);

/// Connections for reading. Each is a thread; more than a few only take cache from each other.
const READERS: u32 = 4;

/// Pages in the write-ahead log before a commit folds them into the file (16 MiB): rare enough
/// to stay out of the 99th percentile of commits, small enough to recover in a moment.
const CHECKPOINT_PAGES: &str = "4000";

/// Why the database file was not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// There is no such file and it was not asked to be made. A database is never made silently:
    /// an empty one in place of a lost one would fork every log.
    #[error("{} does not exist; a new deployment makes it once, on purpose", .path.display())]
    NotFound {
        /// Which.
        path: PathBuf,
    },
    /// Another process owns the file. Retrying helps once that process has ended.
    #[error("{} is in use by another countersignd ({holder}); one SQLite file serves one process", .path.display())]
    InUse {
        /// Which.
        path: PathBuf,
        /// What the owner wrote into the lock file.
        holder: String,
    },
    /// The file is not a Countersign database. Retrying cannot help.
    #[error("{} is not a Countersign database; nothing was changed in it", .path.display())]
    NotOurs {
        /// Which.
        path: PathBuf,
    },
    /// The schema is newer than this release knows. Retrying cannot help; a newer release can.
    #[error("{} has schema {found}, this release knows up to {known}; run a newer release", .path.display())]
    NewerSchema {
        /// Which.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// A migration that was applied is not the one of this release. Retrying cannot help.
    #[error("{}: the schema was made by other migrations than this release has: {detail}", .path.display())]
    OtherSchema {
        /// Which.
        path: PathBuf,
        /// What differs.
        detail: String,
    },
    /// The file system refused. Retrying can help once it is put right.
    #[error("{}: {what}: {detail}", .path.display())]
    Files {
        /// Which.
        path: PathBuf,
        /// While doing what.
        what: &'static str,
        /// What the system said.
        detail: String,
    },
    /// SQLite refused. Retrying can help if the disk was full or the file busy.
    #[error("{}: {detail}", .path.display())]
    Database {
        /// Which.
        path: PathBuf,
        /// What it said.
        detail: String,
    },
}

impl SqliteStore {
    /// Opens the database file, and makes it (mode 0600) if it is missing and `create` says so.
    /// Takes the lock file beside it (`<file>.lock`) for as long as the store lives, and brings the
    /// schema up to this release.
    ///
    /// # Errors
    /// [`OpenError`]; its variants say whether a retry can help.
    pub async fn open(path: &Path, create: bool) -> Result<Self, OpenError> {
        let path = real_path(path)?;
        let exists = path
            .try_exists()
            .map_err(|e| files(&path, "looking for it", &e))?;
        if !exists && !create {
            return Err(OpenError::NotFound { path });
        }
        let owned = own(&path)?;
        make_private(&path, !exists)?;

        let writing = options(&path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
            .pragma("journal_size_limit", "67108864")
            // Enough for the right edges of many logs. No more: after a commit that split a page of
            // an index SQLite walks all of its cache (balance_nonroot rekeys over the lock page).
            .pragma("cache_size", "-16384")
            // Erased details are overwritten, not only unlinked.
            .pragma("secure_delete", "ON")
            .thread_name(|_| "store-writer".to_owned());
        bring_up_to_date(&path, &writing).await?;

        let readers = readers(&path).await?;
        let rows_read = Arc::new(AtomicU64::new(0));
        Ok(Self {
            writer: Writer::new(writing, rows_read.clone()).into(),
            path,
            readers,
            rows_read,
            _owned: Some(owned),
        })
    }
}

/// Connections for reading.
pub(super) async fn readers(path: &Path) -> Result<SqlitePool, OpenError> {
    pool(path, options(path).pragma("query_only", "ON")).await
}

/// Some connections that never write.
pub(super) async fn pool(
    path: &Path,
    options: SqliteConnectOptions,
) -> Result<SqlitePool, OpenError> {
    let reading = options
        .pragma("cache_size", "-8192")
        .thread_name(|n| format!("store-reader-{n}"));
    SqlitePoolOptions::new()
        .max_connections(READERS)
        .acquire_timeout(Duration::from_secs(5))
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .connect_with(reading)
        .await
        .map_err(|e| database(path, &e))
}

/// Without any setting: not even the journal mode of a foreign file changes.
pub(super) fn looking(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .busy_timeout(BUSY_TIMEOUT)
}

/// The schema this release writes.
pub(super) fn known() -> i64 {
    MIGRATOR.iter().map(|m| m.version).max().unwrap_or(0)
}

/// Checks that the file is ours and not newer than we are; its schema, if it has one.
pub(super) async fn schema(
    path: &Path,
    connection: &mut SqliteConnection,
) -> Result<Option<i64>, OpenError> {
    let id: i64 = number(path, connection, "PRAGMA application_id").await?;
    let tables = number(
        path,
        connection,
        "SELECT count(*) FROM sqlite_schema WHERE type = 'table'",
    )
    .await?;
    if tables == 0 {
        return Ok(None);
    }
    if id != APPLICATION_ID {
        return Err(OpenError::NotOurs {
            path: path.to_owned(),
        });
    }
    let found = number(
        path,
        connection,
        "SELECT coalesce(max(version), 0) FROM _sqlx_migrations",
    )
    .await?;
    if found > known() {
        return Err(OpenError::NewerSchema {
            path: path.to_owned(),
            found,
            known: known(),
        });
    }
    Ok(Some(found))
}

/// What all connections share.
fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .statement_cache_capacity(256)
        .row_buffer_size(512)
        .disable_statement_logging()
}

/// The file's own name, so that a link to it does not lead past the lock.
pub(super) fn real_path(path: &Path) -> Result<PathBuf, OpenError> {
    if let Ok(real) = path.canonicalize() {
        return Ok(real);
    }
    let name = path.file_name().ok_or_else(|| OpenError::Files {
        path: path.to_owned(),
        what: "its name",
        detail: "this is not the name of a file".to_owned(),
    })?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    folder
        .canonicalize()
        .map(|folder| folder.join(name))
        .map_err(|e| files(path, "looking for its folder", &e))
}

/// Takes the lock file. It is never deleted: a lock on a deleted file would be no lock.
fn own(path: &Path) -> Result<File, OpenError> {
    let mut lock_name = path.as_os_str().to_owned();
    lock_name.push(".lock");
    let lock_path = PathBuf::from(lock_name);
    let mut lock = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&lock_path)
        .map_err(|e| files(&lock_path, "opening the lock file", &e))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Only words for people: whatever can be read of it.
            let _ = lock.take(64).read_to_string(&mut holder);
            let holder = match holder.trim() {
                "" => "process unknown".to_owned(),
                pid => format!("process {pid}"),
            };
            return Err(OpenError::InUse {
                path: path.to_owned(),
                holder,
            });
        }
        Err(TryLockError::Error(e)) => return Err(files(&lock_path, "locking the lock file", &e)),
    }
    lock.set_len(0)
        .and_then(|()| writeln!(lock, "{}", std::process::id()))
        .map_err(|e| files(&lock_path, "writing the lock file", &e))?;
    Ok(lock)
}

/// Mode 0600, before SQLite makes its companions, which get the same mode.
fn make_private(path: &Path, new: bool) -> Result<(), OpenError> {
    if new {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(|e| files(path, "making it", &e))?;
        if let Some(folder) = path.parent() {
            File::open(folder)
                .and_then(|folder| folder.sync_all())
                .map_err(|e| files(folder, "syncing the folder", &e))?;
        }
        return Ok(());
    }
    let mode = std::fs::metadata(path)
        .map_err(|e| files(path, "reading its mode", &e))?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        tracing::warn!(path = %path.display(), "others could read the database file; its mode is now 0600");
        std::fs::set_permissions(path, Permissions::from_mode(0o600))
            .map_err(|e| files(path, "setting its mode to 0600", &e))?;
    }
    Ok(())
}

/// Checks that the file is ours and not newer than we are, then migrates it.
async fn bring_up_to_date(path: &Path, options: &SqliteConnectOptions) -> Result<(), OpenError> {
    let mut connection = connect(path, &looking(path)).await?;
    schema(path, &mut connection).await?;
    close(path, connection).await?;

    let mut connection = connect(path, options).await?;
    MIGRATOR.run(&mut connection).await.map_err(|e| match &e {
        MigrateError::Execute(cause) | MigrateError::ExecuteMigration(cause, _) => {
            database(path, cause)
        }
        _ => OpenError::OtherSchema {
            path: path.to_owned(),
            detail: e.to_string(),
        },
    })?;
    close(path, connection).await
}

pub(super) async fn connect(
    path: &Path,
    options: &SqliteConnectOptions,
) -> Result<SqliteConnection, OpenError> {
    options.connect().await.map_err(|e| database(path, &e))
}

pub(super) async fn close(path: &Path, connection: SqliteConnection) -> Result<(), OpenError> {
    connection.close().await.map_err(|e| database(path, &e))
}

async fn number(
    path: &Path,
    connection: &mut SqliteConnection,
    query: &'static str,
) -> Result<i64, OpenError> {
    sqlx::query_scalar(query)
        .fetch_one(connection)
        .await
        .map_err(|e| database(path, &e))
}

pub(super) fn database(path: &Path, e: &sqlx::Error) -> OpenError {
    let path = path.to_owned();
    if is_not_a_database(e) {
        OpenError::NotOurs { path }
    } else {
        OpenError::Database {
            path,
            detail: words(e),
        }
    }
}

pub(super) fn files(path: &Path, what: &'static str, e: &io::Error) -> OpenError {
    OpenError::Files {
        path: path.to_owned(),
        what,
        detail: e.to_string(),
    }
}
