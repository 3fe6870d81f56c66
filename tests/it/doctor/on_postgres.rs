//! The same on PostgreSQL.

use super::Said;
use crate::support::{Stack, move_to_postgres};
use countersign_testkit::postgres::Postgres;

#[test]
fn a_server_that_is_away_or_forgets_is_found() {
    let server = Postgres::start().expect("PostgreSQL starts (scripts/need.sh test)");
    let database = server.database().expect("a database");
    let (mut stack, service) = Stack::initialised();
    move_to_postgres(&service, &database.url, &database.owner_url);
    stack.start_server(&[]);
    stack.bootstrap();
    stack.tenant("acme");
    let look = || Said::of(&stack.config());

    let said = look();
    said.only(&[]);
    said.is("database", "ok", "PostgreSQL");
    said.is("durability", "warn", "no synchronous standby");
    said.is("clock", "ok", "the database's");
    said.is("sealing-key", "ok", "opens all 4 keys");
    said.is("token", "ok", "logged in");
    said.is("service", "ok", "is ready");

    let role = database
        .url
        .split("//")
        .nth(1)
        .and_then(|u| u.split('@').next());
    let role = role.expect("a role").to_owned();
    let alter = |to: &str| {
        let text = format!("ALTER ROLE {role} SET synchronous_commit = {to}");
        server.psql("postgres", &text).expect("altered");
    };
    alter("off");
    let said = look();
    said.is("durability", "fail", "synchronous_commit = off");
    said.is("sealing-key", "unknown", "");
    said.only(&[
        "durability",
        "schema",
        "clock",
        "sealing-key",
        "certificates",
        "revocation",
    ]);
    alter("on");
    look().only(&[]);

    server.kill().expect("killed");
    // What the service says is a second old at most.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    let said = look();
    said.is("database", "fail", "");
    said.is("service", "fail", "cannot be written");
    said.is("token", "ok", "logged in");
    server.resume().expect("back");
}
