//! The database of a configuration: a SQLite file, or a PostgreSQL server.

use crate::ServerError;
use crate::config::Config;
use crate::files;
use countersign_core::ports::store::Store;
use countersign_store::postgres::Settings;
use countersign_store::{PostgresStore, SqliteStore};
use secrecy::SecretString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where it is.
#[derive(Debug, Clone)]
#[allow(
    clippy::large_enum_variant,
    reason = "there is one, and it lives until the database is open"
)]
pub enum Place {
    /// A file.
    Sqlite(PathBuf),
    /// A server.
    Postgres(Settings),
}

impl Place {
    /// That of a configuration; reads the password's file.
    ///
    /// # Errors
    /// [`ServerError::Content`] for a URL that is none, and what reading a secret says.
    pub fn of(config: &Config) -> Result<Self, ServerError> {
        let database = &config.database;
        match &database.url {
            Some(url) if is_postgres(url) => {
                let mut settings = settings(url, database.password_file.as_deref())?;
                settings.single_node = database.single_node;
                settings.max_connections = database.max_connections;
                Ok(Self::Postgres(settings))
            }
            _ => Ok(Self::Sqlite(config.database_file())),
        }
    }

    /// For people.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Sqlite(path) => path.display().to_string(),
            Self::Postgres(settings) => settings.place(),
        }
    }
}

/// Whether a URL leads to PostgreSQL.
#[must_use]
pub fn is_postgres(url: &str) -> bool {
    url.starts_with("postgres:") || url.starts_with("postgresql:")
}

/// How to reach a PostgreSQL server as the role of a URL.
///
/// # Errors
/// [`ServerError::Content`] for a URL that is none, and what reading a secret says.
pub fn settings(url: &str, password_file: Option<&Path>) -> Result<Settings, ServerError> {
    let settings = Settings::new(url).map_err(|e| ServerError::Url(e.to_string()))?;
    let Some(file) = password_file else {
        return Ok(settings);
    };
    let bytes = files::read_secret(file)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| ServerError::Content {
        path: file.to_owned(),
        problem: "a password is text".into(),
    })?;
    let password = text.strip_suffix('\n').unwrap_or(text);
    if password.is_empty() || password.contains('\n') {
        return Err(ServerError::Content {
            path: file.to_owned(),
            problem: "it holds one line, the password".into(),
        });
    }
    Ok(settings.password(&SecretString::from(password)))
}

/// An open database.
#[derive(Debug)]
pub enum Database {
    /// A file.
    Sqlite(Arc<SqliteStore>),
    /// A server.
    Postgres(Arc<PostgresStore>),
}

impl Database {
    /// Opens the one of a configuration. It must be there.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn open(config: &Config) -> Result<Self, ServerError> {
        Ok(match Place::of(config)? {
            Place::Sqlite(path) => Self::Sqlite(Arc::new(SqliteStore::open(&path, false).await?)),
            Place::Postgres(settings) => {
                Self::Postgres(Arc::new(PostgresStore::open(settings).await?))
            }
        })
    }

    /// The ports.
    #[must_use]
    pub fn store(&self) -> Arc<dyn Store> {
        match self {
            Self::Sqlite(store) => Arc::clone(store) as _,
            Self::Postgres(store) => Arc::clone(store) as _,
        }
    }

    /// Closes it, once nobody else holds it.
    pub async fn close(self) {
        match self {
            Self::Sqlite(store) => {
                if let Some(store) = Arc::into_inner(store) {
                    store.close().await;
                }
            }
            Self::Postgres(store) => store.close(),
        }
    }
}
