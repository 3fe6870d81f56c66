//! Statements and their plans. What the store does is in `tests/it`.

use super::{PostgresStore, Settings, commit, devices, flush, keys, log, revocation, tenants};
use countersign_testkit::postgres::{Database, Postgres};

const SCHEMA: &str = concat!(
    include_str!("../../../../migrations/postgres/0001_schema.sql"),
    include_str!("../../../../migrations/postgres/0002_evidence.sql"),
    include_str!("../../../../migrations/postgres/0003_devices.sql"),
);

/// All that say themselves for whom they act.
fn acting() -> Vec<(&'static str, &'static str)> {
    [
        tenants::all_acting(),
        keys::all_acting(),
        log::all_acting(),
        revocation::all_acting(),
        devices::all_acting(),
        commit::all_acting(),
    ]
    .concat()
}

fn database() -> (&'static Postgres, Database) {
    let server = Postgres::shared().unwrap();
    let database = server.database().unwrap();
    server
        .psql_as(&database.owner, &database.name, SCHEMA)
        .unwrap();
    (server, database)
}

/// The plan for all values, as the service's role gets it, with the settings of its connections.
fn plan(server: &Postgres, database: &Database, text: &str) -> String {
    let count = (1..=99)
        .take_while(|n| text.contains(&format!("${n}")))
        .count();
    let values = match count {
        0 => String::new(),
        n => format!("({})", vec!["NULL"; n].join(", ")),
    };
    let ask = format!(
        "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET jit = off; \
         PREPARE s AS {text}; EXPLAIN (COSTS off) EXECUTE s{values}"
    );
    server
        .psql_as(&database.role, &database.name, &ask)
        .unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// The setting is made before any table is looked at. PostgreSQL's manual does not promise it, so
/// it is looked at for each statement; the wall's tests show that without it nothing is seen.
#[test]
fn who_is_acting_is_said_before_any_row_is_looked_at() {
    let (server, database) = database();
    for (name, text) in acting() {
        assert_eq!(text.matches("set_config").count(), 1, "{name}");
        let plan = plan(server, &database, text);
        let filter = plan.find("One-Time Filter").unwrap_or_else(|| {
            panic!("{name}: no one-time filter\n{plan}");
        });
        for scan in plan
            .match_indices(" Scan using ")
            .chain(plan.match_indices("Seq Scan on "))
        {
            assert!(filter < scan.0, "{name}\n{plan}");
        }
    }
}

/// Nothing may grow with the past: no plan walks through a table, but for the few that are as
/// small as what is going on.
#[test]
fn no_statement_walks_through_a_table() {
    let (server, database) = database();
    let mut all = acting();
    all.extend(flush::ALL);
    all.extend(revocation::NOBODYS);
    all.extend(devices::NOBODYS);
    all.extend(
        commit::all_texts()
            .into_iter()
            // Every part alone, and all together: parts do not change each other's plans.
            .filter(|(parts, _)| parts.count_ones() == 1 || *parts == u8::MAX)
            .map(|(_, text)| ("together", text)),
    );
    for (name, text) in all {
        let plan = plan(server, &database, text);
        for step in plan.lines().filter(|l| l.contains("Seq Scan on ")) {
            let small = ["open_authorisations", "nodes"];
            assert!(
                small.iter().any(|table| step.contains(table)),
                "{name}: {step}\n{plan}"
            );
        }
    }
}

#[test]
fn every_part_of_a_flush_is_sound_alone_and_with_all_others() {
    let (server, database) = database();
    for (parts, text) in commit::all_texts() {
        assert!(
            !text.contains('*') && !text.contains('{'),
            "{parts}: {text}"
        );
        if parts.count_ones() <= 2 || parts.count_zeros() <= 1 {
            plan(server, &database, text);
        }
    }
}

/// Where one node alone is served without synchronous commit, what it acknowledges is on the
/// server's disk all the same; elsewhere the server's own word is kept.
#[tokio::test]
async fn no_connection_of_ours_commits_without_waiting() {
    let server = Postgres::shared().unwrap();
    for (word, single_node, ours) in [
        ("off", true, "local"),
        ("remote_write", true, "remote_write"),
        ("on", false, "on"),
        ("remote_apply", false, "remote_apply"),
    ] {
        let database = server.database().unwrap();
        let set = format!(
            "ALTER ROLE {} SET synchronous_commit = {word}",
            database.owner
        );
        server.psql("postgres", &set).unwrap();
        let mut settings = Settings::new(&database.owner_url).unwrap();
        settings.single_node = single_node;
        PostgresStore::create(&settings).await.unwrap();
        let store = PostgresStore::open(settings).await.unwrap();
        for connections in [&store.callers, &store.own] {
            let query = super::sql("SELECT current_setting('synchronous_commit')");
            let rows = connections.read(query).await.unwrap();
            let found: String = sqlx::Row::get(&rows[0], 0);
            assert_eq!(found, ours, "{word}");
        }
    }
}
