//! A stack on PostgreSQL, with one or several countersignd that share its database and its tokens.

use super::node::Node;
use super::proxy::Wire;
use super::{Stack, free_port, move_to_postgres, text};
use countersign_testkit::postgres::{Database, Postgres};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// The name of a server's socket in its folder.
const SOCKET: &str = ".s.PGSQL.5432";
/// The shortest lease there is, in seconds.
pub const LEASE_S: u64 = 3;

/// What all nodes of a cluster have in their configuration.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// How many.
    pub nodes: usize,
    /// A call that hangs in the token is found out after this.
    pub call_deadline_ms: u32,
}

impl Stack {
    /// One of a test's own with the demo CA, whose rows are in `database`. Its lease is the shortest.
    pub fn on_postgres(database: &Database, nodes: usize) -> Self {
        let (mut stack, service) = Self::initialised();
        move_to_postgres(&service, &database.url, &database.owner_url);
        let config = stack.config();
        let whole = std::fs::read_to_string(&config).expect("configuration");
        let single = nodes == 1;
        let database = format!("[database]\nsingle_node = {single}\n");
        let node = format!("[node]\nlease_s = {LEASE_S}\n\n[log]\n");
        let text = whole
            .replacen("[database]\n", &database, 1)
            .replacen("[log]\n", &node, 1);
        assert!(text.contains("single_node") && text.contains("lease_s"));
        write_private(&config, &text);
        stack.start_server(&[]);
        stack.bootstrap();
        stack.start_ca(&[]);
        stack
    }

    /// Stops the stack's own countersignd and makes nodes in its place, not running yet. The first
    /// listens where the stack did: command lines reach it.
    pub fn nodes(&mut self, server: &Postgres, database: &Database, shape: Shape) -> Vec<Node> {
        self.stop_server();
        let whole = std::fs::read_to_string(self.config()).expect("configuration");
        (0..shape.nodes)
            .map(|n| {
                let name = ["a", "b", "c", "d"][n];
                let port = if n == 0 { self.port() } else { free_port() };
                let folder = self.folder(&format!("pg-{name}"));
                let back = Wire::unix(&folder.join(SOCKET), &server.dir().join(SOCKET));
                let own = format!(
                    "token_dir = \"data/tokens\"\nstate_dir = \"workers-{name}\"\n\
                     call_deadline_ms = {}\n",
                    shape.call_deadline_ms
                );
                let mut text = whole
                    .replacen(
                        &format!("listen = \"127.0.0.1:{}\"", self.port()),
                        &format!("listen = \"127.0.0.1:{port}\""),
                        1,
                    )
                    .replacen(&database.url, &url(database, &folder), 1)
                    .replacen("[node]\n", &format!("[node]\nname = \"{name}\"\n"), 1);
                assert!(text.contains(&url(database, &folder)), "{text}");
                text = if shape.nodes > 1 {
                    text.replacen("[hsm]\n", &format!("[hsm]\n{own}"), 1)
                } else {
                    let deadline =
                        format!("[hsm]\ncall_deadline_ms = {}\n", shape.call_deadline_ms);
                    text.replacen("[hsm]\n", &deadline, 1)
                };
                let config = self.path(&format!("service/node-{name}.toml"));
                write_private(&config, &text);
                let mut node = Node::new(self, name, &config, port);
                node.back = Some(back);
                node
            })
            .collect()
    }
}

/// The URL of a database by a socket in another folder.
fn url(database: &Database, folder: &Path) -> String {
    let folder = text(folder).replace('/', "%2F");
    format!("postgres://{}@{folder}/{}", database.role, database.name)
}

fn write_private(path: &Path, text: &str) {
    std::fs::write(path, text).expect("configuration");
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(path, mode).expect("mode");
}
