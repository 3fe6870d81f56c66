//! Looking at a database file that another process may own.

use super::SqliteStore;
use super::open::{
    OpenError, close, connect, database, files, known, looking, pool, real_path, schema,
};
use super::writer::Writer;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// What a look at a database file found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// Its journal mode: `wal`, once a service has run on it.
    pub journal: String,
    /// Its schema.
    pub found: i64,
    /// That of this release.
    pub known: i64,
}

impl SqliteStore {
    /// Looks at the file beside the process that owns it, or without one, and changes nothing. The store
    /// only reads: each write of it is refused by SQLite. There is none where the schema is not yet
    /// this release's.
    ///
    /// # Errors
    /// As [`Self::open`], but for [`OpenError::InUse`].
    pub async fn look(path: &Path) -> Result<(Look, Option<Self>), OpenError> {
        let path = real_path(path)?;
        let exists = path
            .try_exists()
            .map_err(|e| files(&path, "looking for it", &e))?;
        if !exists {
            return Err(OpenError::NotFound { path });
        }
        let mut connection = connect(&path, &looking(&path)).await?;
        let found = schema(&path, &mut connection).await?;
        let journal: String = sqlx::query_scalar("PRAGMA journal_mode")
            .fetch_one(&mut connection)
            .await
            .map_err(|e| database(&path, &e))?;
        close(&path, connection).await?;
        let look = Look {
            journal,
            found: found.unwrap_or(0),
            known: known(),
        };
        if look.found != look.known {
            return Ok((look, None));
        }
        let rows_read = Arc::new(AtomicU64::new(0));
        let store = Self {
            writer: Writer::new(looking(&path), rows_read.clone()).into(),
            // Not even a checkpoint of the write-ahead log when they are closed.
            readers: pool(&path, looking(&path)).await?,
            path,
            rows_read,
            _owned: None,
        };
        Ok((look, Some(store)))
    }
}
