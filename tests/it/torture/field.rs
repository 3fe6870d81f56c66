//! A deployment to be tortured: one or two nodes, their database, wires between all of them.

use crate::support::cluster::Shape;
use crate::support::disk::SmallDisk;
use crate::support::load::Signing;
use crate::support::node::{Node, children, signal_if_there};
use crate::support::{Stack, cli::Cli, text};
use countersign_testkit::postgres::Postgres;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Which deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One node on a SQLite file.
    Sqlite,
    /// One node on PostgreSQL, configured as the only one.
    Postgres,
    /// Two nodes on PostgreSQL and one folder of tokens.
    TwoNodes,
}

/// The running whole. Its parts are apart, so that faults change nodes while callers read the rest.
/// They end in this order: the nodes, then what they need.
pub struct Field {
    pub nodes: Vec<Node>,
    pub people: People,
    pub database: Database,
}

/// Those who ask, and what they have.
pub struct People {
    pub admin: Cli,
    pub signers: Vec<Signing>,
    pub stack: Stack,
    /// The logs that there are before the storm.
    pub origins: Vec<String>,
}

/// Where the rows are.
pub struct Database {
    rows: Rows,
    /// A disk that can be full, where this user may mount one.
    pub disk: Option<SmallDisk>,
    // They go in this order: the server, its disk, the folder that this was mounted in.
    _folder: Option<TempDir>,
}

enum Rows {
    Sqlite { data: PathBuf, copies: PathBuf },
    Postgres { server: Box<Postgres>, name: String },
}

/// The tenant whose signers are used.
pub const TENANT: &str = "torture";

/// A call that hangs is found out after this.
const CALL_DEADLINE_MS: u32 = 1500;
/// What the disk of a SQLite file holds.
const SMALL_MIB: u32 = 192;
/// What PostgreSQL's disk holds: its write-ahead log may grow to 1 GiB.
const LARGE_MIB: u32 = 1600;

impl Kind {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::Sqlite, Self::Postgres, Self::TwoNodes];

    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite, one node",
            Self::Postgres => "PostgreSQL, one node",
            Self::TwoNodes => "PostgreSQL, two nodes",
        }
    }
}

impl Field {
    /// Makes one, with signers that are ready; its nodes run.
    pub fn new(kind: Kind) -> Self {
        match kind {
            Kind::Sqlite => Self::on_sqlite(),
            Kind::Postgres => Self::on_postgres(1),
            Kind::TwoNodes => Self::on_postgres(2),
        }
    }

    fn on_sqlite() -> Self {
        let mut people = People::of(Stack::start());
        let stack = &mut people.stack;
        stack.stop_server();
        let config = stack.config();
        let whole = std::fs::read_to_string(&config).expect("configuration");
        let deadline = format!("[hsm]\ncall_deadline_ms = {CALL_DEADLINE_MS}\n");
        std::fs::write(&config, whole.replacen("[hsm]\n", &deadline, 1)).expect("configuration");
        let data = stack.path("service/data");
        let database = Database {
            disk: SmallDisk::under(&data, SMALL_MIB),
            rows: Rows::Sqlite {
                copies: stack.folder("copies"),
                data,
            },
            _folder: None,
        };
        let nodes = vec![Node::new(stack, "a", &config, stack.port())];
        Self::begun(nodes, people, database)
    }

    fn on_postgres(nodes: usize) -> Self {
        let folder = countersign_testkit::tempdir().expect("a folder");
        let place = folder.path().join("pg");
        std::fs::create_dir(&place).expect("a folder");
        // PostgreSQL's own user goes through.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folder.path(), open).expect("mode");
        let disk = SmallDisk::under(&place, LARGE_MIB);
        let server = Postgres::serve(&place).expect("PostgreSQL (scripts/need.sh test)");
        let rows = server.database().expect("a database");
        let mut people = People::of(Stack::on_postgres(&rows, nodes));
        let shape = Shape {
            nodes,
            call_deadline_ms: CALL_DEADLINE_MS,
        };
        let nodes = people.stack.nodes(&server, &rows, shape);
        let database = Database {
            rows: Rows::Postgres {
                server: Box::new(server),
                name: rows.name,
            },
            disk,
            _folder: Some(folder),
        };
        Self::begun(nodes, people, database)
    }

    fn begun(mut nodes: Vec<Node>, people: People, database: Database) -> Self {
        for node in &mut nodes {
            assert!(node.start(&[]), "{} does not start", node.name);
        }
        Self {
            nodes,
            people,
            database,
        }
    }
}

impl People {
    fn of(stack: Stack) -> Self {
        let admin = stack.tenant(TENANT);
        let signers = ["hot", "other", "third"].map(|name| {
            let name = format!("{TENANT}/{name}");
            stack.signer(&admin, &name, "ec-p256");
            Signing::of(&stack, &name)
        });
        let origins = origins(&admin, &stack.path("first-logs"));
        Self {
            admin,
            signers: signers.into(),
            stack,
            origins,
        }
    }
}

/// The origins of all logs of the tenant.
fn origins(admin: &Cli, folder: &Path) -> Vec<String> {
    admin.ok(&["log", "download", "--all", "--out", &text(folder)]);
    let logs = std::fs::read_dir(folder).expect("logs");
    logs.map(|log| {
        let origin = log.expect("an entry").path().join("origin");
        let origin = std::fs::read_to_string(origin).expect("origin");
        origin.trim().to_owned()
    })
    .collect()
}

impl Database {
    /// Authorisations without outcome, as a stranger reads them; `None` if they cannot be read now.
    pub fn open(&self) -> Option<u64> {
        self.count("SELECT count(*) FROM open_authorisations")
    }

    /// Claims that nobody settled.
    pub fn claims_in_flight(&self) -> Option<u64> {
        self.count("SELECT count(*) FROM claims WHERE state = 'in-flight'")
    }

    /// The server, of one that has one.
    pub fn server(&self) -> Option<&Postgres> {
        match &self.rows {
            Rows::Sqlite { .. } => None,
            Rows::Postgres { server, .. } => Some(&**server),
        }
    }

    /// A server that is to go on serves again, whatever happened to it.
    pub fn restore(&self) -> bool {
        let Some(server) = self.server() else {
            return true;
        };
        self.signal("CONT");
        if server.pid().is_some() && self.open().is_some() {
            return true;
        }
        // It ended by itself (a full disk), or is not up yet: one more crash tells the same.
        server.kill().is_ok() && server.resume().is_ok()
    }

    /// To all processes of the server.
    pub fn signal(&self, how: &str) {
        if let Some(pid) = self.server().and_then(Postgres::pid) {
            signal_if_there(pid, how);
            for child in children(pid, None) {
                signal_if_there(child, how);
            }
        }
    }

    fn count(&self, query: &str) -> Option<u64> {
        match &self.rows {
            Rows::Postgres { server, name } => server.psql(name, query).ok()?.trim().parse().ok(),
            // From a copy: whoever opened the file itself would hold locks of it. Under writes a
            // copy may be torn; the next one is not.
            Rows::Sqlite { data, copies } => (0..3).find_map(|_| counted(data, copies, query)),
        }
    }
}

fn counted(data: &Path, copies: &Path, query: &str) -> Option<u64> {
    let _ = std::fs::remove_dir_all(copies);
    std::fs::create_dir_all(copies).expect("a folder");
    for end in ["", "-wal"] {
        let (from, to) = (format!("countersign.db{end}"), format!("copy.db{end}"));
        // There is no write-ahead log after a clean end.
        let _ = std::fs::copy(data.join(from), copies.join(to));
    }
    let script = "import sqlite3, sys\n\
                  print(sqlite3.connect(sys.argv[1]).execute(sys.argv[2]).fetchone()[0])";
    let out = Command::new("python3")
        .args(["-c", script])
        .arg(copies.join("copy.db"))
        .arg(query)
        .output()
        .expect("python3 runs");
    String::from_utf8_lossy(&out.stdout).trim().parse().ok()
}
