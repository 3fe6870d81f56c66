//! Which servers and roles are good enough, and what is said of the others.

use crate::databases::{open, server, with_schema};
use crate::model::*;
use countersign_core::NodeId;
use countersign_core::ports::store::*;
use countersign_store::PostgresStore;
use countersign_store::postgres::{OpenError, Settings};
use countersign_testkit::postgres::{Database, Postgres as Server, SUPERUSER};

fn settings(url: &str) -> Settings {
    Settings::new(url).unwrap()
}

fn single_node(url: &str) -> Settings {
    let mut settings = settings(url);
    settings.single_node = true;
    settings
}

async fn refused(settings: Settings) -> OpenError {
    PostgresStore::open(settings)
        .await
        .expect_err("should be refused")
}

#[tokio::test]
async fn a_role_that_row_level_security_does_not_bind_is_refused() {
    let db = with_schema(server());
    let superuser = refused(settings(&server().url(SUPERUSER, &db.name))).await;
    assert!(
        matches!(&superuser, OpenError::Privileged { role, what: "is a superuser", .. } if role == SUPERUSER),
        "{superuser}"
    );
    let alter = format!("ALTER ROLE {} BYPASSRLS", db.role);
    server().psql(&db.name, &alter).unwrap();
    let bypass = refused(settings(&db.url)).await;
    assert!(
        matches!(
            bypass,
            OpenError::Privileged {
                what: "has BYPASSRLS",
                ..
            }
        ),
        "{bypass}"
    );
    assert!(bypass.to_string().contains("NOBYPASSRLS"), "{bypass}");
    // The check that changes nothing says the same.
    assert_eq!(
        PostgresStore::check(&settings(&db.url)).await,
        Err(bypass.clone())
    );
}

#[tokio::test]
async fn without_synchronous_commit_one_node_alone_is_served() {
    for off in ["off", "local", "remote_write"] {
        let db = with_schema(server());
        let alter = format!("ALTER ROLE {} SET synchronous_commit = {off}", db.role);
        server().psql(&db.name, &alter).unwrap();
        let e = refused(settings(&db.url)).await;
        assert!(
            matches!(&e, OpenError::NotDurable { setting: "synchronous_commit", value, .. } if value == off),
            "{e}"
        );
        let said = e.to_string();
        assert!(said.contains("single_node = true"), "{said}");
        let store = PostgresStore::open(single_node(&db.url)).await.unwrap();
        store.probe().await.unwrap();
        assert!(!store.shared());
    }
    let db = with_schema(server());
    assert!(
        PostgresStore::open(settings(&db.url))
            .await
            .unwrap()
            .shared()
    );
}

#[tokio::test]
async fn a_server_that_loses_what_it_acknowledged_is_always_refused() {
    for setting in ["fsync", "full_page_writes"] {
        let server = Server::start_with(&[(setting, "off")]).unwrap();
        let db = server.database().unwrap();
        for settings in [settings(&db.owner_url), single_node(&db.owner_url)] {
            let e = PostgresStore::create(&settings).await.unwrap_err();
            assert!(
                matches!(&e, OpenError::NotDurable { setting: s, value, .. } if *s == setting && value == "off"),
                "{e}"
            );
            let e = refused(settings).await;
            assert!(matches!(e, OpenError::NotDurable { .. }), "{e}");
        }
    }
}

#[tokio::test]
async fn a_schema_is_made_on_purpose_once_and_only_in_an_empty_database() {
    let db = server().database().unwrap();
    let none = refused(settings(&db.url)).await;
    assert!(matches!(none, OpenError::NotFound { .. }), "{none}");
    assert!(none.to_string().contains("create-database"), "{none}");
    assert!(matches!(
        PostgresStore::migrate(&settings(&db.owner_url)).await,
        Err(OpenError::NotFound { .. })
    ));
    // Two at once: one makes it.
    let owner = settings(&db.owner_url);
    let (a, b) = tokio::join!(PostgresStore::create(&owner), PostgresStore::create(&owner));
    assert!(a.is_ok() != b.is_ok(), "{a:?} {b:?}");
    assert!(
        matches!(a.and(b), Err(OpenError::Exists { .. })),
        "one of them"
    );
    open(&db.url).await.probe().await.unwrap();

    let foreign = server().database().unwrap();
    server()
        .psql_as(&foreign.owner, &foreign.name, "CREATE TABLE theirs (x int)")
        .unwrap();
    for e in [
        PostgresStore::create(&settings(&foreign.owner_url))
            .await
            .unwrap_err(),
        refused(settings(&foreign.url)).await,
    ] {
        assert!(matches!(e, OpenError::NotOurs { .. }), "{e}");
    }
}

#[tokio::test]
async fn one_role_may_own_the_schema_and_use_it() {
    let db = server().database().unwrap();
    PostgresStore::create(&settings(&db.owner_url))
        .await
        .unwrap();
    let store = open(&db.owner_url).await;
    let it = Everything::named("acme");
    it.create(&store, NodeId::new()).await;
    check_logs(&store, it.id()).await;
}

#[tokio::test]
async fn another_schema_than_ours_is_refused_by_name() {
    let db = with_schema(server());
    let as_owner = |text: &str| server().psql_as(&db.owner, &db.name, text).unwrap();
    as_owner(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9999, 'from the future', true, '\\x00', 0)",
    );
    let newer = refused(settings(&db.url)).await;
    assert!(
        matches!(newer, OpenError::NewerSchema { found: 9999, known, .. } if known < 9999),
        "{newer}"
    );
    as_owner("DELETE FROM _sqlx_migrations WHERE version = 9999");
    as_owner("UPDATE _sqlx_migrations SET checksum = '\\x00'");
    let other = refused(settings(&db.url)).await;
    assert!(matches!(other, OpenError::OtherSchema { .. }), "{other}");
    // As if an earlier release had made it.
    as_owner("DELETE FROM _sqlx_migrations");
    let older = refused(settings(&db.url)).await;
    assert!(
        matches!(&older, OpenError::OlderSchema { found: 0, role, .. } if *role == db.role),
        "{older}"
    );
    assert!(older.to_string().contains("migrate-database"), "{older}");
}

#[tokio::test]
async fn tables_without_their_wall_or_privilege_are_refused_by_name() {
    let db = with_schema(server());
    let as_owner = |text: &str| server().psql_as(&db.owner, &db.name, text).unwrap();
    as_owner("ALTER TABLE claims NO FORCE ROW LEVEL SECURITY");
    let e = refused(settings(&db.url)).await;
    assert!(
        matches!(&e, OpenError::Unguarded { table, .. } if table == "claims"),
        "{e}"
    );
    as_owner("ALTER TABLE claims FORCE ROW LEVEL SECURITY");
    as_owner("ALTER TABLE leaves DISABLE ROW LEVEL SECURITY");
    let e = refused(settings(&db.url)).await;
    assert!(
        matches!(&e, OpenError::Unguarded { table, .. } if table == "leaves"),
        "{e}"
    );
    as_owner("ALTER TABLE leaves ENABLE ROW LEVEL SECURITY");
    as_owner(&format!("REVOKE INSERT ON nodes FROM {}", db.role));
    let e = refused(settings(&db.url)).await;
    assert!(
        matches!(&e, OpenError::Privilege { table, privilege: "INSERT into", .. } if table == "nodes"),
        "{e}"
    );
}

#[tokio::test]
async fn a_read_only_server_or_another_encoding_is_refused() {
    let db = with_schema(server());
    let alter = format!(
        "ALTER ROLE {} SET default_transaction_read_only = on",
        db.role
    );
    server().psql(&db.name, &alter).unwrap();
    let e = refused(settings(&db.url)).await;
    assert!(matches!(e, OpenError::ReadOnly { .. }), "{e}");

    let ascii = "CREATE DATABASE ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0";
    server().psql("postgres", ascii).unwrap();
    let url = server().url(&db.owner, "ascii");
    let e = PostgresStore::create(&settings(&url)).await.unwrap_err();
    assert!(
        matches!(&e, OpenError::Encoding { encoding, .. } if encoding == "SQL_ASCII"),
        "{e}"
    );
}

#[tokio::test]
async fn nothing_that_is_said_or_shown_holds_a_password() {
    use secrecy::SecretString;
    let db = with_schema(server());
    let secret = "correct horse battery staple";
    let settings = settings(&db.url).password(&SecretString::from(secret));
    assert!(!format!("{settings:?}").contains(secret));
    let store = PostgresStore::open(settings).await.unwrap();
    assert!(!format!("{store:?}").contains(secret));
    let nowhere = Settings::new("postgres://u@127.0.0.1:1/d")
        .unwrap()
        .password(&SecretString::from(secret));
    let e = refused(nowhere).await;
    assert!(matches!(e, OpenError::Away { .. }), "{e:?}");
    assert!(!format!("{e:?}{e}").contains(secret));
}

/// The password is asked for, and found where it was said to be.
#[tokio::test]
async fn a_password_is_used() {
    use secrecy::SecretString;
    let server = Server::start_with(&[("password_encryption", "scram-sha-256")]).unwrap();
    let db = with_schema(&server);
    let alter = format!("ALTER ROLE {} PASSWORD 'open sesame'", db.role);
    server.psql("postgres", &alter).unwrap();
    // From now on the role needs it.
    let hba = server.dir().join("data/pg_hba.conf");
    let all = std::fs::read_to_string(&hba).unwrap();
    std::fs::write(&hba, format!("local all {} scram-sha-256\n{all}", db.role)).unwrap();
    server.psql("postgres", "SELECT pg_reload_conf()").unwrap();
    wait_for_reload(&server, &db);
    let wrong = settings(&db.url).password(&SecretString::from("close sesame"));
    let e = refused(wrong).await;
    assert!(e.to_string().contains("does not let this role in"), "{e}");
    let right = settings(&db.url).password(&SecretString::from("open sesame"));
    let store = PostgresStore::open(right).await.unwrap();
    store.probe().await.unwrap();
}

#[tokio::test]
async fn a_look_reads_and_makes_nothing() {
    let db = server().database().unwrap();
    let none = PostgresStore::look(settings(&db.url)).await.unwrap_err();
    assert!(matches!(none, OpenError::NotFound { .. }), "{none}");
    PostgresStore::create(&settings(&db.owner_url))
        .await
        .unwrap();
    let (look, store) = PostgresStore::look(settings(&db.url)).await.unwrap();
    assert_eq!(
        (look.found, look.synchronous_commit.as_str()),
        (look.known, "on")
    );
    assert_eq!(store.unwrap().bootstrap().await.unwrap(), None);
    // An older schema stays as it is, even where the role could change it.
    let statement = format!(
        "DELETE FROM _sqlx_migrations WHERE version = {}",
        look.known
    );
    server().psql(&db.name, &statement).unwrap();
    let older = PostgresStore::look(settings(&db.owner_url)).await;
    assert!(
        matches!(&older, Ok((l, None)) if l.found < l.known),
        "{older:?}"
    );
    let role = PostgresStore::look(settings(&db.url)).await.unwrap_err();
    assert!(matches!(role, OpenError::OlderSchema { .. }), "{role}");
}

fn wait_for_reload(server: &Server, db: &Database) {
    countersign_testkit::programs::wait_until(
        "the reload",
        std::time::Duration::from_secs(10),
        || server.psql_as(&db.role, &db.name, "SELECT 1").is_err(),
    )
    .unwrap();
}
