//! The main job on PostgreSQL: a job signs, strangers' tools agree, the log verifies; countersignd and
//! the database may die in between.

use crate::support::{Database, REPOSITORY, Stack, copy_exe, text};
use countersign_testkit::postgres::Postgres;
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
