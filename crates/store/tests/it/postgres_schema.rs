//! The PostgreSQL schema, on a real PostgreSQL: it loads, it says the same as SQLite's, and its
//! row-level security hides a neighbour even from a statement that forgot its WHERE.
//!
//! Where no PostgreSQL is installed the test says so and passes; on Debian: `apt-get install
//! postgresql`.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const SCHEMA: &str = include_str!("../../../../migrations/postgres/0001_schema.sql");

/// A server of this test's own: a temporary folder, a socket in it, no network.
struct Postgres {
    folder: tempfile::TempDir,
    programs: PathBuf,
    user: Option<(u32, u32)>,
}

impl Postgres {
    fn start() -> Option<Self> {
        let programs = programs()?;
        // PostgreSQL refuses to run as root.
        let root = fs::metadata("/proc/self").ok()?.uid() == 0;
        let user = if root { Some(unprivileged()?) } else { None };
        let folder = tempfile::tempdir().unwrap();
        if let Some((uid, gid)) = user {
            chown(folder.path(), Some(uid), Some(gid)).unwrap();
        }
        let this = Self {
            folder,
            programs,
            user,
        };
        let data = this.folder.path().join("data");
        this.run(
            this.command("initdb")
                .args([
                    "--auth=trust",
                    "--username=postgres",
                    "--no-sync",
                    "-E",
                    "UTF8",
                ])
                .arg(&data),
        );
        let options = format!(
            "-c listen_addresses='' -c fsync=off -c unix_socket_directories={}",
            this.folder.path().display()
        );
        this.run(
            this.command("pg_ctl")
                .args(["start", "-w", "-o", &options, "-l"])
                .arg(this.folder.path().join("log"))
                .arg("-D")
                .arg(&data),
        );
        Some(this)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(self.folder.path()).env("LC_ALL", "C");
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }

    fn run(&self, command: &mut Command) -> String {
        let Output {
            status,
            stdout,
            stderr,
        } = command.output().unwrap();
        let said = String::from_utf8_lossy(&stderr);
        assert!(status.success(), "{command:?}: {said}");
        String::from_utf8(stdout).unwrap()
    }

    /// Runs SQL as a role; the rows it gave, columns separated by `|`.
    fn sql(&self, role: &str, text: &str) -> String {
        let mut psql = self.psql(role, text);
        self.run(&mut psql)
    }

    fn refused(&self, role: &str, text: &str) -> String {
        let output = self.psql(role, text).output().unwrap();
        assert!(!output.status.success(), "{text}");
        String::from_utf8(output.stderr).unwrap()
    }

    fn psql(&self, role: &str, text: &str) -> Command {
        let mut psql = self.command("psql");
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h"])
            .arg(self.folder.path())
            .args(["-U", role, "-d", "postgres", "-c", text]);
        psql
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let data = self.folder.path().join("data");
        let mut stop = self.command("pg_ctl");
        let stopped = stop
            .args(["stop", "-m", "immediate", "-D"])
            .arg(data)
            .output();
        if !stopped.is_ok_and(|o| o.status.success()) {
            eprintln!("the test's PostgreSQL did not stop");
        }
    }
}

fn programs() -> Option<PathBuf> {
    let named = std::env::var_os("COUNTERSIGN_TEST_POSTGRES_BIN").map(PathBuf::from);
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let debian = debian.flatten().map(|version| version.path().join("bin"));
    named
        .into_iter()
        .chain(debian)
        .chain([PathBuf::from("/usr/local/bin"), PathBuf::from("/usr/bin")])
        .find(|folder| folder.join("initdb").is_file() && folder.join("psql").is_file())
}

fn unprivileged() -> Option<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    ["postgres", "nobody"].into_iter().find_map(|wanted| {
        let line = users
            .lines()
            .find(|l| l.split(':').next() == Some(wanted))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    })
}

#[test]
fn the_schema_loads_means_the_same_and_hides_neighbours() {
    let Some(server) = Postgres::start() else {
        eprintln!(
            "SKIPPED: no PostgreSQL found, so the PostgreSQL schema was not tested. Install one \
             (Debian: apt-get install postgresql) or name its programs in \
             COUNTERSIGN_TEST_POSTGRES_BIN."
        );
        return;
    };
    server.sql("postgres", SCHEMA);
    same_meaning(&server);
    every_tenant_table_is_guarded(&server);
    hides_neighbours(&server);
    only_grows(&server);
}

/// Table, column, nullability, place in the primary key, for every table.
fn same_meaning(server: &Postgres) {
    let postgres = server.sql(
        "postgres",
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

fn every_tenant_table_is_guarded(server: &Postgres) {
    let bare = server.sql(
        "postgres",
        "SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid \
         WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace \
         AND a.attname = 'tenant_id' AND NOT (c.relrowsecurity AND c.relforcerowsecurity)",
    );
    assert_eq!(bare, "");
}

const A: &str = "00000000-0000-0000-0000-00000000000a";
const B: &str = "00000000-0000-0000-0000-00000000000b";

fn hides_neighbours(server: &Postgres) {
    server.sql(
        "postgres",
        "CREATE ROLE app LOGIN; \
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO app",
    );
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
    server.sql("app", &both);
    let within = |setting: &str, text: &str| {
        let text = format!("BEGIN; {setting}; {text}; COMMIT");
        server.sql("app", &text)
    };
    let counts = "SELECT (SELECT count(*) FROM tenants), (SELECT count(*) FROM logs), \
        (SELECT count(*) FROM leaves), (SELECT count(*) FROM claims)";
    let of_a = format!("SET LOCAL countersign.tenant = '{A}'");
    assert_eq!(within(&of_a, counts), "1|1|1|1\n");
    // A transaction that says nothing sees nothing, also on a connection that said something before.
    assert_eq!(server.sql("app", counts), "0|0|0|0\n");
    let before = format!("BEGIN; {of_a}; COMMIT; {counts}");
    assert_eq!(server.sql("app", &before), "0|0|0|0\n");
    // Not to be written either, by a statement that forgot its WHERE or names another's id.
    within(&of_a, "UPDATE logs SET size = 7; DELETE FROM claims");
    let of_b = format!("SET LOCAL countersign.tenant = '{B}'");
    assert_eq!(within(&of_b, "SELECT size FROM logs"), "1\n");
    assert_eq!(within(&of_b, counts), "1|1|1|1\n");
    let theirs = format!(
        "BEGIN; {of_a}; INSERT INTO signers VALUES ('{B}', 'release', 'ec-p256', 1); COMMIT"
    );
    let said = server.refused("app", &theirs);
    assert!(said.contains("row-level security"), "{said}");
    // What crosses tenants says so, and gets no more than it needs.
    let directory = "SET LOCAL countersign.scope = 'directory'";
    assert_eq!(within(directory, counts), "2|0|0|0\n");
    let housekeeping = "SET LOCAL countersign.scope = 'housekeeping'";
    assert_eq!(within(housekeeping, counts), "0|0|0|1\n");
    within(housekeeping, "DELETE FROM claims WHERE expires < 9");
    assert_eq!(within(&of_b, counts), "1|1|1|0\n");
}

fn only_grows(server: &Postgres) {
    for text in [
        "UPDATE leaves SET bytes = 'y'",
        "DELETE FROM leaves",
        "TRUNCATE leaves CASCADE",
        "UPDATE logs SET size = 0",
        "UPDATE logs SET origin = 'other'",
        "DELETE FROM logs",
    ] {
        let said = server.refused("postgres", text);
        assert!(said.contains("a log only grows"), "{text}: {said}");
    }
}
