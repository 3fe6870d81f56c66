//! The PostgreSQL schema, on a real PostgreSQL: it loads, it says the same as SQLite's, and its
//! row-level security hides a neighbour even from a statement that forgot its WHERE.

use crate::databases::server;
use countersign_testkit::postgres::Database;
use std::path::{Path, PathBuf};

const SCHEMA: &str = concat!(
    include_str!("../../../../migrations/postgres/0001_schema.sql"),
    include_str!("../../../../migrations/postgres/0002_evidence.sql"),
    include_str!("../../../../migrations/postgres/0003_devices.sql"),
);

/// An empty database with a superuser's and a service's view of it.
struct Schema(Database);

impl Schema {
    fn superuser(&self, text: &str) -> String {
        server().psql(&self.0.name, text).unwrap()
    }

    fn service(&self, text: &str) -> String {
        server().psql_as(&self.0.role, &self.0.name, text).unwrap()
    }

    fn refused(&self, role: &str, text: &str) -> String {
        let refused = server().psql_as(role, &self.0.name, text);
        refused.expect_err(text).to_string()
    }
}

#[test]
fn the_schema_loads_means_the_same_and_hides_neighbours() {
    let schema = Schema(server().database().unwrap());
    server()
        .psql_as(&schema.0.owner, &schema.0.name, SCHEMA)
        .unwrap();
    same_meaning(&schema);
    every_tenant_table_is_guarded(&schema);
    hides_neighbours(&schema);
    only_grows(&schema);
}

/// Table, column, nullability, place in the primary key, for every table.
fn same_meaning(schema: &Schema) {
    let postgres = schema.superuser(
        "SELECT c.table_name, c.column_name, c.is_nullable = 'NO', coalesce(k.ordinal_position, 0) \
         FROM information_schema.columns c \
         LEFT JOIN (information_schema.key_column_usage k JOIN information_schema.table_constraints t \
           ON t.constraint_name = k.constraint_name AND t.constraint_type = 'PRIMARY KEY') \
           ON k.table_name = c.table_name AND k.column_name = c.column_name \
         WHERE c.table_schema = 'public' ORDER BY c.table_name COLLATE \"C\", c.ordinal_position",
    );
    let sqlite = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(sqlite_columns());
    let postgres: Vec<_> = postgres.lines().collect();
    assert_eq!(postgres, sqlite);
    assert!(sqlite.len() > 100, "{}", sqlite.len());
}

async fn sqlite_columns() -> Vec<String> {
    use sqlx::{ConnectOptions, Row};
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("db");
    let store = countersign_store::SqliteStore::open(&path, true).await;
    store.unwrap().close().await;
    let mut connection = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(Path::new(&path))
        .connect()
        .await
        .unwrap();
    let rows = sqlx::query(
        "SELECT m.name, c.name, c.\"notnull\", c.pk FROM sqlite_schema m, pragma_table_info(m.name) c \
         WHERE m.type = 'table' AND m.name NOT LIKE '\\_%' ESCAPE '\\' ORDER BY m.name, c.cid",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    rows.iter()
        .map(|row| {
            let not_null = if row.get::<i64, _>(2) == 1 { "t" } else { "f" };
            format!(
                "{}|{}|{not_null}|{}",
                row.get::<String, _>(0),
                row.get::<String, _>(1),
                row.get::<i64, _>(3)
            )
        })
        .collect()
}

fn every_tenant_table_is_guarded(schema: &Schema) {
    let bare = schema.superuser(
        "SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid \
         WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace \
         AND a.attname = 'tenant_id' AND NOT (c.relrowsecurity AND c.relforcerowsecurity)",
    );
    assert_eq!(bare, "");
}

const A: &str = "00000000-0000-0000-0000-00000000000a";
const B: &str = "00000000-0000-0000-0000-00000000000b";

fn hides_neighbours(schema: &Schema) {
    let tenant = |id: &str, name: &str| {
        format!("INSERT INTO tenants VALUES ('{id}', '{name}', false, true, 0, NULL, 1);")
    };
    let log = |id: &str| {
        format!(
            "INSERT INTO logs VALUES ('{id}', '{id}', 'tenant', 'o/{id}', 1, '', '', 1, '{id}', 1); \
             INSERT INTO leaves VALUES ('{id}', '{id}', 0, sha256(''), 'x'); \
             INSERT INTO claims VALUES ('{id}', sha256('p'), 'k', sha256('b'), 'in-flight', NULL, 1, \
             '{id}', 0, 5);"
        )
    };
    // A flush for both.
    let both = format!(
        "BEGIN; SET LOCAL countersign.tenant = '{A},{B}'; {} {} {} {} COMMIT",
        tenant(A, "a"),
        tenant(B, "b"),
        log(A),
        log(B)
    );
    schema.service(&both);
    let within = |setting: &str, text: &str| {
        let text = format!("BEGIN; {setting}; {text}; COMMIT");
        schema.service(&text)
    };
    let counts = "SELECT (SELECT count(*) FROM tenants), (SELECT count(*) FROM logs), \
        (SELECT count(*) FROM leaves), (SELECT count(*) FROM claims)";
    let of_a = format!("SET LOCAL countersign.tenant = '{A}'");
    assert_eq!(within(&of_a, counts), "1|1|1|1\n");
    // A transaction that says nothing sees nothing, also on a connection that said something before.
    assert_eq!(schema.service(counts), "0|0|0|0\n");
    let before = format!("BEGIN; {of_a}; COMMIT; {counts}");
    assert_eq!(schema.service(&before), "0|0|0|0\n");
    // Not to be written either, by a statement that forgot its WHERE or names another's id.
    within(&of_a, "UPDATE logs SET size = 7; DELETE FROM claims");
    let of_b = format!("SET LOCAL countersign.tenant = '{B}'");
    assert_eq!(within(&of_b, "SELECT size FROM logs"), "1\n");
    assert_eq!(within(&of_b, counts), "1|1|1|1\n");
    let theirs = format!(
        "BEGIN; {of_a}; INSERT INTO signers VALUES ('{B}', 'release', 'ec-p256', 1); COMMIT"
    );
    let said = schema.refused(&schema.0.role, &theirs);
    assert!(said.contains("row-level security"), "{said}");
    // What crosses tenants says so, and gets no more than it needs.
    let directory = "SET LOCAL countersign.scope = 'directory'";
    assert_eq!(within(directory, counts), "2|0|0|0\n");
    let housekeeping = "SET LOCAL countersign.scope = 'housekeeping'";
    assert_eq!(within(housekeeping, counts), "0|0|0|1\n");
    within(housekeeping, "DELETE FROM claims WHERE expires < 9");
    assert_eq!(within(&of_b, counts), "1|1|1|0\n");
}

fn only_grows(schema: &Schema) {
    for text in [
        "UPDATE leaves SET bytes = 'y'",
        "DELETE FROM leaves",
        "TRUNCATE leaves CASCADE",
        "UPDATE logs SET size = 0",
        "UPDATE logs SET origin = 'other'",
        "DELETE FROM logs",
    ] {
        let said = schema.refused(countersign_testkit::postgres::SUPERUSER, text);
        assert!(said.contains("a log only grows"), "{text}: {said}");
    }
}
