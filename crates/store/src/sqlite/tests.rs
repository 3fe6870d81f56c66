//! What only SQLite does: files, locks, plans, a disk that fails. What both databases promise is
//! in `tests/it/conformance.rs`.

use super::open::MIGRATOR;
use super::*;
use crate::sql;
use countersign_core::ports::rows::{
    LeafRow, LogKind, OPERATOR_REALM, OPERATOR_REALM_NAME, TenantPolicy, TenantRow,
};
use countersign_core::ports::store::{
    Commit, CommitError, Effect, LogStore, LogWrite, NodeStore, ServiceStore, StoreError,
    TenantStore, Wanted,
};
use countersign_core::{LogId, Micros, NodeId, TenantId};
use sqlx::{ConnectOptions, Row, SqliteConnection};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

const LEASE: Duration = Duration::from_secs(10);

struct Fresh {
    folder: tempfile::TempDir,
    store: SqliteStore,
}

async fn fresh() -> Fresh {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("db"), true)
        .await
        .unwrap();
    Fresh { folder, store }
}

async fn raw(path: &Path) -> SqliteConnection {
    sqlx::sqlite::SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .connect()
        .await
        .unwrap()
}

fn operator() -> Effect {
    Effect::CreateTenant(TenantRow {
        id: OPERATOR_REALM,
        name: OPERATOR_REALM_NAME.parse().unwrap(),
        policy: TenantPolicy::default(),
        version: 0,
        token: None,
        created: Micros(1),
    })
}

/// `count` leaves of `bytes` bytes each for the operator's log.
fn leaves(old_size: u64, count: u64, bytes: usize) -> Commit {
    Commit {
        writes: vec![LogWrite {
            tenant: OPERATOR_REALM,
            log: LogId::from(OPERATOR_REALM),
            kind: LogKind::Tenant,
            origin: "test/log".to_owned(),
            epoch: 1,
            old_size,
            new_size: old_size + count,
            frontier: vec![],
            checkpoint: String::new(),
            last_time: Micros(1),
            leaves: (0..count)
                .map(|_| LeafRow {
                    bytes: vec![7; bytes],
                    hash: [7; 32],
                    details: None,
                })
                .collect(),
            subtrees: vec![],
        }],
        ..Commit::default()
    }
}

async fn commit(store: &SqliteStore, node: NodeId, what: Commit) -> Result<(), CommitError> {
    // Refused if it joined before.
    let _ = store.join(node, "test", LEASE).await;
    let wanted = what.writes.iter().map(|w| Wanted {
        tenant: w.tenant,
        log: w.log,
        known: Some(w.old_size),
    });
    let flush = store.flush(node, what.tenants(), wanted.collect());
    flush.await?.commit(Micros(1), what).await
}

async fn size(store: &SqliteStore) -> u64 {
    let log = LogId::from(OPERATOR_REALM);
    store
        .head(OPERATOR_REALM, log)
        .await
        .unwrap()
        .map_or(0, |h| h.size)
}

/// Runs a statement on the store's own writing connection, to put it into trouble.
async fn on_writer(store: &SqliteStore, text: &'static str) {
    let mut write = store.writer.begin("test").await.unwrap();
    let done = write.execute(super::sql("SELECT 1")).await;
    write.finish(done).await.unwrap();
    let mut place = store.writer.connection().await;
    sqlx::query(text)
        .fetch_all(place.as_mut().unwrap())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_missing_file_is_made_only_on_purpose_and_only_for_us() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap().join("db");
    assert_eq!(
        SqliteStore::open(&path, false).await.unwrap_err(),
        OpenError::NotFound { path: path.clone() }
    );
    let store = SqliteStore::open(&path, true).await.unwrap();
    store.probe().await.unwrap();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", entry.file_name());
    }
    drop(store);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    drop(SqliteStore::open(&path, false).await.unwrap());
    let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
}

#[tokio::test]
async fn one_file_serves_one_process() {
    let Fresh { folder, store } = fresh().await;
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(store.path(), &link).unwrap();
    for path in [store.path(), &link] {
        assert_eq!(
            SqliteStore::open(path, true).await.unwrap_err(),
            OpenError::InUse {
                path: store.path().to_owned(),
                holder: format!("process {}", std::process::id()),
            }
        );
    }
    store.close().await;
    SqliteStore::open(&link, false).await.unwrap();
}

#[tokio::test]
async fn a_file_that_is_not_ours_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap().join("db");
    let mut connection = raw(&path).await;
    sqlx::query("CREATE TABLE somebody_elses (x)")
        .execute(&mut connection)
        .await
        .unwrap();
    drop(connection);
    let before = std::fs::read(&path).unwrap();
    let refused = OpenError::NotOurs { path: path.clone() };
    assert_eq!(SqliteStore::open(&path, true).await.unwrap_err(), refused);
    assert_eq!(std::fs::read(&path).unwrap(), before);

    std::fs::write(&path, vec![b'x'; 8192]).unwrap();
    assert_eq!(SqliteStore::open(&path, true).await.unwrap_err(), refused);
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_a_changed_one_too() {
    let Fresh { folder: _f, store } = fresh().await;
    let path = store.path().to_owned();
    store.close().await;
    let mut connection = raw(&path).await;
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'from the future', 1, x'00', 0)",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    let known = MIGRATOR.iter().map(|m| m.version).max().unwrap();
    assert_eq!(
        SqliteStore::open(&path, false).await.unwrap_err(),
        OpenError::NewerSchema {
            path: path.clone(),
            found: 9999,
            known
        }
    );
    for text in [
        "DELETE FROM _sqlx_migrations WHERE version = 9999",
        "UPDATE _sqlx_migrations SET checksum = x'00'",
    ] {
        sqlx::query(text).execute(&mut connection).await.unwrap();
    }
    assert!(matches!(
        SqliteStore::open(&path, false).await.unwrap_err(),
        OpenError::OtherSchema { .. }
    ));
}

#[tokio::test]
async fn connections_behave_as_promised() {
    let Fresh { folder: _f, store } = fresh().await;
    let pragma = async |text: &'static str| -> String {
        let mut place = store.writer.connection().await;
        let row = sqlx::query(text).fetch_one(place.as_mut().unwrap()).await;
        let row = row.unwrap();
        row.try_get::<i64, _>(0)
            .map_or_else(|_| row.get::<String, _>(0), |n| n.to_string())
    };
    store.probe().await.unwrap();
    assert_eq!(pragma("PRAGMA journal_mode").await, "wal");
    assert_eq!(pragma("PRAGMA synchronous").await, "2", "FULL");
    assert_eq!(pragma("PRAGMA foreign_keys").await, "1");
    assert_eq!(pragma("PRAGMA busy_timeout").await, "250");
    assert_eq!(pragma("PRAGMA integrity_check").await, "ok");
    let refused = sqlx::query("UPDATE probe SET count = 0")
        .execute(&store.readers)
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("readonly"), "{refused}");
    let strict = sqlx::query(
        "SELECT name FROM pragma_table_list WHERE schema = 'main' AND \
         strict = 0 AND name NOT LIKE 'sqlite_%' AND name NOT LIKE '_sqlx_%'",
    )
    .fetch_all(&store.readers)
    .await
    .unwrap();
    assert!(strict.is_empty(), "every table is STRICT");
}

/// A full disk refuses, says so, and leaves the writer fit for the time when there is room again.
#[tokio::test]
async fn a_full_disk_writes_nothing_and_does_not_wedge_the_writer() {
    let Fresh { folder: _f, store } = fresh().await;
    let node = NodeId::new();
    let begin = Commit {
        effects: vec![(0, operator())],
        ..leaves(0, 1, 100)
    };
    commit(&store, node, begin).await.unwrap();
    on_writer(&store, "PRAGMA max_page_count = 200").await;
    let full = commit(&store, node, leaves(1, 40, 60_000)).await;
    let Err(CommitError::Unavailable(said)) = full else {
        panic!("{full:?}")
    };
    assert!(said.starts_with("the disk is full"), "{said}");
    assert_eq!(size(&store).await, 1);
    // The connection that failed is gone, and with it the limit.
    commit(&store, node, leaves(1, 40, 60_000)).await.unwrap();
    assert_eq!(size(&store).await, 41);
}

#[tokio::test]
async fn a_read_only_or_busy_database_says_so() {
    let Fresh { folder: _f, store } = fresh().await;
    on_writer(&store, "PRAGMA query_only = ON").await;
    let Err(CommitError::Unavailable(said)) = store.probe().await else {
        panic!()
    };
    assert!(said.starts_with("it is read-only"), "{said}");
    store.probe().await.unwrap();

    // Somebody with sqlite3 in a shell holds the write lock.
    let mut shell = raw(store.path()).await;
    for text in ["BEGIN IMMEDIATE", "UPDATE probe SET count = 5"] {
        sqlx::query(text).execute(&mut shell).await.unwrap();
    }
    let Err(CommitError::Unavailable(said)) = store.probe().await else {
        panic!()
    };
    assert!(said.starts_with("it is busy"), "{said}");
    sqlx::query("ROLLBACK").execute(&mut shell).await.unwrap();
    store.probe().await.unwrap();
}

/// Callers disconnect in the middle; the next write finds a clean connection.
#[tokio::test]
async fn a_dropped_write_is_whole_or_nothing() {
    let Fresh { folder: _f, store } = fresh().await;
    let node = NodeId::new();
    let begin = Commit {
        effects: vec![(0, operator())],
        ..leaves(0, 1, 100)
    };
    commit(&store, node, begin).await.unwrap();
    for step in 0..60_u64 {
        let at = size(&store).await;
        let patience = Duration::from_micros(step * 40);
        let _ = tokio::time::timeout(patience, commit(&store, node, leaves(at, 300, 50))).await;
        let now = size(&store).await;
        assert!(now == at || now == at + 300, "{at} → {now}");
        let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM leaves")
            .fetch_one(&store.readers)
            .await
            .unwrap();
        // A COMMIT that was on its way when it was dropped may arrive now.
        let late = size(&store).await;
        assert!(
            rows as u64 == now || rows as u64 == late,
            "{rows} {now} {late}"
        );
    }
}

/// The first line of defence is the code; these triggers are the second.
#[tokio::test]
async fn the_schema_itself_refuses_to_rewrite_a_log() {
    let Fresh { folder: _f, store } = fresh().await;
    let begin = Commit {
        effects: vec![(0, operator())],
        ..leaves(0, 3, 100)
    };
    commit(&store, NodeId::new(), begin).await.unwrap();
    let mut shell = raw(store.path()).await;
    for text in [
        "UPDATE leaves SET bytes = x'00' WHERE idx = 1",
        "DELETE FROM leaves WHERE idx = 2",
        "UPDATE logs SET size = 2",
        "UPDATE logs SET origin = 'other'",
        "UPDATE logs SET writer_epoch = 0",
        "DELETE FROM logs",
        "INSERT INTO leaves (tenant_id, log_id, idx, hash, bytes) \
         SELECT randomblob(16), log_id, 9, hash, bytes FROM leaves WHERE idx = 0",
    ] {
        let refused = sqlx::query(text).execute(&mut shell).await.unwrap_err();
        let refused = refused.to_string();
        assert!(
            refused.contains("a log only grows") || refused.contains("FOREIGN KEY"),
            "{text}: {refused}"
        );
    }
}

#[tokio::test]
async fn a_row_we_did_not_write_is_named_not_guessed() {
    let Fresh { folder: _f, store } = fresh().await;
    let begin = Commit {
        effects: vec![(0, operator())],
        ..leaves(0, 3, 100)
    };
    commit(&store, NodeId::new(), begin).await.unwrap();
    let mut shell = raw(store.path()).await;
    for text in [
        "UPDATE tenants SET name = 'Not A Slug'",
        "UPDATE logs SET kind = 'diary'",
        "DROP TRIGGER leaves_stay",
        "DELETE FROM leaves WHERE idx = 1",
    ] {
        // Triggers guard kind as well, so it goes first.
        if text.contains("diary") {
            sqlx::query("DROP TRIGGER logs_only_grow")
                .execute(&mut shell)
                .await
                .unwrap();
        }
        sqlx::query(text).execute(&mut shell).await.unwrap();
    }
    let tenant = store.tenant(OPERATOR_REALM).await.unwrap_err();
    assert!(
        matches!(
            tenant,
            StoreError::Corrupt {
                table: "tenants",
                ..
            }
        ),
        "{tenant}"
    );
    let log = LogId::from(OPERATOR_REALM);
    let head = store.head(OPERATOR_REALM, log).await.unwrap_err();
    assert!(
        matches!(head, StoreError::Corrupt { table: "logs", .. }),
        "{head}"
    );
    let leaves = store.leaves(OPERATOR_REALM, log, 0, 9).await.unwrap_err();
    let gap = StoreError::Corrupt {
        table: "leaves",
        detail: "index 1 is missing".to_owned(),
    };
    assert_eq!(leaves, gap);
}

/// Every statement with its text and its request for a plan.
fn statements() -> Vec<(&'static str, &'static str, &'static str)> {
    [
        sql::tenants::ALL,
        sql::devices::ALL,
        sql::keys::ALL,
        sql::log::ALL,
        sql::nodes::ALL,
        sql::revocation::ALL,
        sql::service::ALL,
        &commit::all_many(),
        &claims::all_many(),
    ]
    .concat()
}

/// Nothing may grow with the past: no plan walks through a table, but for the few that are as
/// small as what is going on.
#[tokio::test]
async fn no_statement_walks_through_a_table() {
    let Fresh { folder: _f, store } = fresh().await;
    let tables: Vec<String> =
        sqlx::query_scalar("SELECT name FROM sqlite_schema WHERE type = 'table'")
            .fetch_all(&store.readers)
            .await
            .unwrap();
    for (name, _, explain) in statements() {
        let plan = sqlx::query(explain)
            .fetch_all(&store.readers)
            .await
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        for step in plan {
            let step: String = step.get("detail");
            let walks = tables
                .iter()
                .any(|table| step.split(' ').take(2).eq(["SCAN", table]))
                && !(["OPEN_OF_THE_DEAD", "FORGET_NODES"].contains(&name)
                    && step == "SCAN open_authorisations")
                // As many rows as countersignd was started in the last day.
                && !step.starts_with("SCAN nodes");
            println!("{name}: {step}");
            assert!(!walks, "{name}: {step}");
        }
    }
}

#[test]
fn each_statement_names_its_columns_and_its_tenant() {
    // Service rows are nobody's; the others say in their comments why they cross tenants.
    let without_tenant = [
        "TENANT_BY_NAME",
        "OPEN_OF_THE_DEAD",
        "IS_ALIVE",
        "NODES",
        "JOIN",
        "RENEW",
        "END",
        "SERVICE_KEYS",
        "NEWEST_SERVICE_KEY",
        "INSERT_SERVICE_KEY",
        "BOOTSTRAP",
        "OFFER_BOOTSTRAP",
        "USE_BOOTSTRAP",
        "PROBE_WRITE",
        "PROBE_READ",
        "LIST",
        "LISTS_DUE",
        "FOLLOW_LIST",
        "CLAIM_LIST",
        "LIST_GOOD",
        "LIST_PROBLEM",
        "LISTED",
        "UNLISTED",
        "ENDING",
        "ORDERS_DUE",
        "SEE_DEVICE",
        "SHARED_DEVICES",
        "KEYS_IN_DEVICE",
    ];
    for (name, text, _) in statements() {
        assert!(!text.contains('*'), "{name}");
        let names_tenant = match text.split_once(" WHERE ") {
            Some((_, condition)) => condition.contains("tenant_id"),
            None => text.starts_with("INSERT INTO") && text.contains("tenant_id"),
        };
        let crosses = without_tenant.contains(&name) || name.starts_with("FORGET_");
        assert!(names_tenant || crosses, "{name} does not name the tenant");
    }
}

#[test]
fn a_chain_survives_packing_and_nothing_else_unpacks() {
    let chain = vec![vec![1, 2, 3], vec![], vec![9; 300]];
    let packed = keys::pack_chain(&chain);
    assert_eq!(keys::unpack_chain(&packed), Some(chain));
    assert_eq!(keys::unpack_chain(&[]), Some(vec![]));
    for cut in [1, 4, 6, 11, packed.len() - 1] {
        assert!(keys::unpack_chain(&packed[..cut]).is_none_or(|c| c.len() < 3));
    }
    assert_eq!(keys::unpack_chain(&[0xff; 4]), None);
    assert_eq!(TenantId(uuid::Uuid::nil()), OPERATOR_REALM);
}

#[tokio::test]
async fn a_look_beside_the_owner_reads_and_never_writes() {
    let t = fresh().await;
    let path = t.folder.path().join("db");
    assert!(t.store.offer_bootstrap([7; 32]).await.unwrap());
    let (look, store) = SqliteStore::look(&path).await.unwrap();
    assert_eq!((look.journal.as_str(), look.found), ("wal", look.known));
    let store = store.unwrap();
    assert_eq!(store.bootstrap().await.unwrap(), Some([7; 32]));
    let refused = store.offer_bootstrap([8; 32]).await.unwrap_err();
    assert!(refused.to_string().contains("readonly"), "{refused}");
    store.close().await;
    // The owner goes on, and still owns it.
    assert!(t.store.offer_bootstrap([9; 32]).await.unwrap());
    let second = SqliteStore::open(&path, false).await.unwrap_err();
    assert!(matches!(second, OpenError::InUse { .. }), "{second}");
}

#[tokio::test]
async fn a_look_makes_no_file_and_migrates_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    let none = SqliteStore::look(&path).await.unwrap_err();
    assert!(matches!(none, OpenError::NotFound { .. }), "{none}");
    assert!(!path.exists());
    let mut connection = raw(&path).await;
    MIGRATOR.run_to(1, &mut connection).await.unwrap();
    drop(connection);
    let (look, store) = SqliteStore::look(&path).await.unwrap();
    assert!(
        look.found == 1 && look.known > 1 && store.is_none(),
        "{look:?}"
    );
    let (again, _) = SqliteStore::look(&path).await.unwrap();
    assert_eq!(look, again);
}
