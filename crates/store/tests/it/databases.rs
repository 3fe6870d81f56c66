//! The databases that the suite runs on, each empty at first.

use countersign_core::ports::store::Store;
use countersign_store::postgres::Settings;
use countersign_store::{PostgresStore, SqliteStore};
use countersign_testkit::postgres::{Database, Postgres as Server};
use std::sync::Arc;

/// A database that is empty at first.
pub trait Empty: Sized + Send + Sync {
    type Store: Store;
    /// Leaves that are many for a test.
    const MANY_LEAVES: u64;
    /// Rows that are read to open a log and append to it, and those with which it is closed as well:
    /// exactly these, whatever the size of the log.
    const ROWS_READ: (u64, u64);
    async fn empty() -> Self;
    /// Ends all connections and opens the same database anew.
    async fn reopen(self) -> Self;
    fn store(&self) -> &Arc<Self::Store>;
    /// Rows fetched since it was opened.
    fn rows_read(&self) -> u64;
}

/// Runs each behaviour on both.
macro_rules! on_both {
    ($($behaviour:ident)*) => {
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $behaviour() {
                    super::$behaviour::<$crate::databases::Sqlite>().await;
                }
            )*
        }
        mod postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $behaviour() {
                    super::$behaviour::<$crate::databases::Postgres>().await;
                }
            )*
        }
    };
}
pub(crate) use on_both;

/// A file.
pub struct Sqlite {
    folder: tempfile::TempDir,
    store: Arc<SqliteStore>,
}

impl Empty for Sqlite {
    type Store = SqliteStore;
    const MANY_LEAVES: u64 = 1_000_000;
    // The head, the tenant's version, that the node is alive; then that alone.
    const ROWS_READ: (u64, u64) = (3, 4);

    async fn empty() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("db"), true).await;
        Self {
            folder,
            store: Arc::new(store.unwrap()),
        }
    }

    async fn reopen(self) -> Self {
        Arc::into_inner(self.store).unwrap().close().await;
        let store = SqliteStore::open(&self.folder.path().join("db"), false).await;
        Self {
            folder: self.folder,
            store: Arc::new(store.unwrap()),
        }
    }

    fn store(&self) -> &Arc<SqliteStore> {
        &self.store
    }

    fn rows_read(&self) -> u64 {
        self.store.rows_read()
    }
}

/// A database on the server that these tests share. The store's role may read and write rows and
/// nothing else.
pub struct Postgres {
    pub database: Database,
    store: Arc<PostgresStore>,
}

impl Empty for Postgres {
    type Store = PostgresStore;
    const MANY_LEAVES: u64 = 200_000;
    // The head, and again when it is held; the version, the node, the time it was told, what was
    // done. Then the same but for the first look and the version, and the open authorisation.
    const ROWS_READ: (u64, u64) = (6, 10);

    async fn empty() -> Self {
        let database = with_schema(server());
        let store = Arc::new(open(&database.url).await);
        Self { database, store }
    }

    async fn reopen(self) -> Self {
        self.store.close();
        let store = Arc::new(open(&self.database.url).await);
        Self { store, ..self }
    }

    fn store(&self) -> &Arc<PostgresStore> {
        &self.store
    }

    fn rows_read(&self) -> u64 {
        self.store.rows_read()
    }
}

/// The server that these tests share.
pub fn server() -> &'static Server {
    Server::shared().expect("PostgreSQL starts")
}

/// A new database that has our schema.
pub fn with_schema(server: &Server) -> Database {
    server
        .database_like("countersign_template", |template| {
            let settings = Settings::new(&template.owner_url).unwrap();
            // Not on the thread of a test's runtime, which waits for us.
            std::thread::spawn(move || {
                tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap()
                    .block_on(PostgresStore::create(&settings))
                    .unwrap();
            })
            .join()
            .unwrap();
            Ok(())
        })
        .expect("a database with our schema")
}

pub async fn open(url: &str) -> PostgresStore {
    PostgresStore::open(Settings::new(url).unwrap())
        .await
        .unwrap()
}
