//! The main job on PostgreSQL: a job signs, strangers' tools agree, the log verifies; countersignd and
//! the database may die in between.

use crate::enrolment::evidence;
use crate::support::{Database, REPOSITORY, Stack, copy_exe, program, text};
use countersign_testkit::postgres::Postgres;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

#[test]
fn a_job_signs_on_postgres_through_crashes_of_service_and_server() {
    let server = Postgres::start().expect("PostgreSQL starts (scripts/need.sh test)");
    let database = server.database().expect("a database");
    let (mut stack, service) = Stack::initialised();
    crate::support::move_to_postgres(&service, &database.url, &database.owner_url);
    stack.start_server(&[]);
    stack.bootstrap();
    stack.start_ca(&[]);
    let admin = stack.tenant("acme");
    let key = stack.signer(&admin, "acme/release", "ec-p256");
    let folder = stack.folder("files");
    let job = stack.job("job", REPOSITORY);
    let sign = |name: &str| {
        let file = copy_exe(&folder, name, "t64.exe");
        let out = job.run(&["sign", "--signer", "acme/release", &text(&file)]);
        (out.code == 0).then_some(file).ok_or(out)
    };
    let file = sign("first.exe").expect("signed");
    let said = stack.osslsigncode(&file).expect("a good signature");
    assert!(said.contains("Signature verification: ok"), "{said}");

    // The server dies; the service says so and goes on by itself.
    server.kill().expect("killed");
    let e = sign("away.exe").expect_err("nothing is signed without its record");
    assert!(e.code != 0, "{e:?}");
    server.resume().expect("back");
    let began = Instant::now();
    while sign("back.exe").is_err() {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "it does not go on"
        );
        std::thread::sleep(Duration::from_millis(200));
    }

    // The service dies; the next run buries it and goes on.
    stack.kill_server();
    stack.start_server(&[]);
    let job = stack.job("next-job", REPOSITORY);
    let file = copy_exe(&folder, "again.exe", "t64.exe");
    let began = Instant::now();
    while job
        .run(&["sign", "--signer", "acme/release", &text(&file)])
        .code
        != 0
    {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "it does not go on"
        );
        std::thread::sleep(Duration::from_millis(200));
    }
    let admin = stack.person("acme-admin", Some("acme"));
    let log = text(&stack.path("key-log"));
    admin.ok(&["log", "download", "--key", &key, "--out", &log]);
    admin.ok(&["log", "audit", &log]);
}

#[test]
fn a_stack_starts_on_either_database() {
    for database in [Database::Sqlite, Database::Postgres] {
        let stack = Stack::bare_on(database);
        let admin = stack.tenant("acme");
        let key = stack.key(&admin, "acme/release", "ec-p256");
        assert!(!key.is_empty(), "{database:?}");
    }
}

#[test]
fn evidence_is_kept_and_demanded_on_postgres() {
    let mut stack = Stack::on(Database::Postgres);
    let mut config = std::fs::read_to_string(stack.config()).expect("configuration");
    config.push_str(&evidence::trusted(&stack.folder("anchors")));
    std::fs::write(stack.config(), config).expect("configuration");
    stack.stop_server();
    stack.start_server(&[]);
    evidence::story(&stack, "pg-evidence");
}

/// One role for both jobs, as a newcomer has it: no schema made by hand, no file edited.
#[test]
fn init_makes_a_deployment_on_a_database_that_is_empty() {
    let server = Postgres::shared().expect("PostgreSQL starts (scripts/need.sh test)");
    let database = server.database().expect("a database");
    let dir = countersign_testkit::tempdir().expect("a temporary folder");
    let password = dir.path().join("password");
    std::fs::write(&password, "not asked for on a socket\n").expect("written");
    std::fs::set_permissions(&password, Permissions::from_mode(0o600)).expect("private");
    let init = |name: &str| {
        Command::new(program("countersignd"))
            .args(["init", "--dev", "--dir"])
            .arg(dir.path().join(name))
            .args(["--database-url", &database.owner_url])
            .arg("--database-password-file")
            .arg(&password)
            .output()
            .expect("countersignd runs")
    };
    let out = init("one");
    assert!(out.status.success(), "{out:?}");
    let config = dir.path().join("one/countersignd.toml");
    let written = std::fs::read_to_string(&config).expect("configuration");
    assert!(written.contains("password_file = "), "{written}");
    assert!(!dir.path().join("one/data/countersign.db").exists());
    let check = Command::new(program("countersignd"))
        .args(["check-config", "--config"])
        .arg(&config)
        .output()
        .expect("countersignd runs");
    assert!(check.status.success(), "{check:?}");
    let offered = server.psql(&database.name, "SELECT count(*) FROM bootstrap");
    assert_eq!(offered.expect("a table").trim(), "1");
    // What is there is never made anew.
    let again = init("two");
    let said = String::from_utf8_lossy(&again.stderr);
    assert_eq!(again.status.code(), Some(64), "{said}");
}
