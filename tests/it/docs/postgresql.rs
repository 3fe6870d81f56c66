//! The commands of docs/operators/postgresql.md, against a server of their own: as its superuser,
//! with its programs, in one shell.

use super::markdown::Page;
use crate::support::{Stack, program, text};
use countersign_testkit::postgres::{Postgres, SUPERUSER};
use std::process::Command;

#[test]
fn the_page_about_postgresql_is_run_from_top_to_bottom() {
    let page = Page::read(&super::root(), "docs/operators/postgresql.md");
    let server = Postgres::start().expect("PostgreSQL starts (scripts/need.sh test)");
    let (stack, service) = Stack::initialised();
    // The reader's configuration, with the keys that the page shows.
    let folder = text(&service);
    let example = "postgres://countersign@db.example.com/countersign";
    let toml = page
        .blocks
        .iter()
        .find(|b| b.language == "toml" && b.text.contains(example))
        .expect("the keys");
    let real = |commands: &str| {
        let socket = server.dir().display().to_string().replace('/', "%2F");
        commands
            .replace("db.example.com", &socket)
            .replace("/etc/countersign", &folder)
            .replace("/media/", &format!("{}/", server.dir().display()))
    };
    let config = service.join("countersignd.toml");
    let ours = std::fs::read_to_string(&config).expect("configuration");
    let ours = ours.replacen("\n[log]\n", &format!("\n{}\n[log]\n", real(&toml.text)), 1);
    std::fs::write(&config, ours).expect("configuration");
    std::fs::remove_file(service.join("bootstrap-credential")).expect("the file's credential");
    let password = service.join("database.password");
    std::fs::write(&password, "not asked for on this socket\n").expect("the password");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&password, private).expect("its mode");

    let mut script = String::from("set -euo pipefail\n");
    let mut ran = 0;
    for block in page.blocks.iter().filter(|b| b.language == "sh") {
        assert_eq!(block.skip, None, "line {}", block.line);
        script.push_str(&format!(
            "echo \"### line {}\"\n{}",
            block.line,
            real(&block.text)
        ));
        ran += 1;
    }
    assert!(ran >= 6, "only {ran} blocks");
    let file = service.join("page.sh");
    std::fs::write(&file, script).expect("the script");
    // PostgreSQL's programs may refuse to be root; the shell finds them and ours.
    let psql = server.program("psql");
    let theirs = std::path::Path::new(psql.get_program())
        .parent()
        .expect("their folder")
        .to_owned();
    let ours = program("countersignd");
    let out = Command::new("bash")
        .arg(&file)
        .current_dir(&service)
        .env("PGHOST", server.dir())
        .env("PGUSER", SUPERUSER)
        .env(
            "PATH",
            format!(
                "{}:{}:{}",
                theirs.display(),
                ours.parent().expect("its folder").display(),
                std::env::var("PATH").unwrap_or_default()
            ),
        )
        .output()
        .expect("bash runs");
    let (said, complained) = (
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr),
    );
    assert!(out.status.success(), "{said}\n{complained}");
    println!("{said}");
    // The service's role saw nothing, and every tenant's table has its wall.
    assert!(said.contains("     0\n(1 row)"), "{said}");
    for table in ["leaves", "tenants", "claims", "open_authorisations"] {
        assert!(said.lines().any(|l| l == table), "{table}: {said}");
    }
    assert!(said.contains("backup successfully verified"), "{said}");

    // What the page made serves; and as the page says, not without synchronous commit.
    drop_standbys(&server);
    let mut stack = stack;
    stack.start_server(&[]);
    stack.bootstrap();
    stack.stop_server();
    let off = "ALTER ROLE countersign IN DATABASE countersign SET synchronous_commit = off";
    server.psql("postgres", off).expect("the setting");
    assert!(!stack.try_start_server(&[]));
    let log = stack.server_log();
    assert!(log.contains("synchronous_commit = off"), "{log}");
    let text = std::fs::read_to_string(&config).expect("configuration");
    let alone = text.replace("# single_node = true", "single_node = true");
    assert_ne!(alone, text);
    std::fs::write(&config, alone).expect("configuration");
    stack.start_server(&[]);
    stack.operator();
}

/// The page names standbys that this test has not.
fn drop_standbys(server: &Postgres) {
    for text in [
        "ALTER SYSTEM RESET synchronous_standby_names",
        "SELECT pg_reload_conf()",
    ] {
        server.psql("postgres", text).expect("no standbys");
    }
}
