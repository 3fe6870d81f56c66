//! Row-level security, the second wall: what the service's role gets from statements that forgot
//! their `WHERE`. Everything is asked of every table that the schema has, so that a new table
//! without a policy fails here.

use crate::databases::{Empty, Postgres, server};
use crate::model::*;
use countersign_core::ports::store::*;
use countersign_core::{Micros, NodeId};

/// Tables that are nobody's, so that they have no wall.
const NOBODYS: [&str; 7] = [
    "_sqlx_migrations",
    "bootstrap",
    "devices",
    "nodes",
    "probe",
    "revocation_lists",
    "service_keys",
];

struct Two {
    db: Postgres,
    a: Everything,
    b: Everything,
    tables: Vec<String>,
}

impl Two {
    async fn new() -> Self {
        let db = Postgres::empty().await;
        let (a, b) = (Everything::named("acme"), Everything::named("bolt"));
        let node = NodeId::new();
        for (it, token) in [(&a, 1), (&b, 2)] {
            let s = &**db.store();
            let (_, mut log) = it.create(s, node).await;
            // Enough leaves for a subtree.
            let first = log.size();
            let flush = Commit {
                claims: vec![(0, ClaimWrite::First(it.claim("k", first)))],
                opens: vec![it.open(dead(), first)],
                ..writes([log.append(300)])
            };
            commit(s, node, flush).await.unwrap();
            let follow = crate::conformance_status::follow(&crate::conformance_status::status(
                it,
                &crate::conformance_status::list("a"),
                1000,
            ));
            let evidence = Effect::PutEvidence(Box::new(it.evidence(&["mine"])));
            let seen = Effect::SeeDevice(crate::conformance_devices::seen(it, 9, NOW));
            commit(s, node, effects([follow, evidence, seen]))
                .await
                .unwrap();
            assert!(
                s.first_use(it.id(), "iss", [token; 32], Micros(9))
                    .await
                    .unwrap()
            );
        }
        let tables = server()
            .psql(
                &db.database.name,
                "SELECT table_name FROM information_schema.tables t WHERE table_schema = 'public' \
                 AND EXISTS (SELECT FROM information_schema.columns c WHERE c.table_name = t.table_name \
                 AND c.column_name = 'tenant_id') ORDER BY 1",
            )
            .unwrap();
        Self {
            tables: tables.lines().map(str::to_owned).collect(),
            db,
            a,
            b,
        }
    }

    /// As the service's role, acting for `tenant`.
    fn acting(&self, tenant: &Everything, text: &str) -> Result<String, String> {
        self.within(
            &format!("SET LOCAL countersign.tenant = '{}'", tenant.id()),
            text,
        )
    }

    fn within(&self, setting: &str, text: &str) -> Result<String, String> {
        let text = format!("BEGIN; {setting}; {text}; COMMIT");
        server()
            .psql_as(&self.db.database.role, &self.db.database.name, &text)
            .map(|out| out.trim().to_owned())
            .map_err(|e| e.to_string())
    }

    fn bare(&self, text: &str) -> String {
        server()
            .psql_as(&self.db.database.role, &self.db.database.name, text)
            .unwrap()
            .trim()
            .to_owned()
    }

    /// As the superuser, whom no wall stops.
    fn truth(&self, text: &str) -> String {
        let out = server().psql(&self.db.database.name, text).unwrap();
        out.trim().to_owned()
    }
}

#[tokio::test]
async fn every_table_has_a_tenant_or_is_known_to_be_nobodys() {
    let two = Two::new().await;
    let others = two.truth(
        "SELECT table_name FROM information_schema.tables t WHERE table_schema = 'public' \
         AND NOT EXISTS (SELECT FROM information_schema.columns c WHERE c.table_name = t.table_name \
         AND c.column_name = 'tenant_id') ORDER BY table_name COLLATE \"C\"",
    );
    let others: Vec<_> = others.lines().collect();
    assert_eq!(others, NOBODYS);
    assert!(two.tables.len() >= 14, "{:?}", two.tables);
    for table in &two.tables {
        let guarded = two.truth(&format!(
            "SELECT relrowsecurity AND relforcerowsecurity FROM pg_class WHERE oid = '{table}'::regclass"
        ));
        assert_eq!(guarded, "t", "{table}");
    }
}

#[tokio::test]
async fn who_says_nothing_sees_nothing_and_who_says_a_name_sees_its_own() {
    let two = Two::new().await;
    for table in &two.tables {
        let count = format!("SELECT count(*) FROM {table}");
        for it in [&two.a, &two.b] {
            let there = two.truth(&format!("{count} WHERE tenant_id = '{}'", it.id()));
            assert_ne!(
                there, "0",
                "{table} has a row of each, or this test shows nothing"
            );
            let of_others = format!("{count} WHERE tenant_id <> '{}'", it.id());
            assert_eq!(two.acting(it, &of_others), Ok("0".to_owned()), "{table}");
            assert_eq!(two.acting(it, &count), Ok(there), "{table}");
        }
        assert_eq!(two.bare(&count), "0", "{table}");
        // Nor on a connection that said something in an earlier transaction.
        let before = format!(
            "BEGIN; SET LOCAL countersign.tenant = '{}'; COMMIT; {count}",
            two.a.id()
        );
        assert_eq!(two.bare(&before), "0", "{table}");
        for empty in ["", ",", "nobody"] {
            let said = two.within(&format!("SET LOCAL countersign.tenant = '{empty}'"), &count);
            assert!(
                said.as_ref().is_err() || said == Ok("0".to_owned()),
                "{table}: {said:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_neighbours_rows_cannot_be_written() {
    let two = Two::new().await;
    let (a, b) = (&two.a, &two.b);
    let picture = |two: &Two| -> String {
        let tables = two.tables.iter();
        tables
            .map(|table| {
                two.truth(&format!(
                    "SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {table} t WHERE tenant_id = '{}'",
                    b.id()
                ))
            })
            .collect::<Vec<_>>()
            .join("\n")
    };
    let before = picture(&two);
    for table in &two.tables {
        for text in [
            format!(
                "UPDATE {table} SET tenant_id = tenant_id WHERE tenant_id = '{}' RETURNING 1",
                b.id()
            ),
            format!(
                "DELETE FROM {table} WHERE tenant_id = '{}' RETURNING 1",
                b.id()
            ),
            // Without a WHERE at all: nothing of b's; what happens to a's is taken back.
            format!(
                "WITH gone AS (DELETE FROM {table} RETURNING tenant_id) SELECT 1 FROM gone WHERE tenant_id = '{}'",
                b.id()
            ),
        ] {
            let done = two.acting(a, &format!("{text}; ROLLBACK"));
            // A log's rows cannot be changed by anybody, nor a row that others refer to deleted.
            let stopped = |e: &String| e.contains("a log only grows") || e.contains("foreign key");
            assert!(
                done == Ok(String::new()) || done.as_ref().is_err_and(stopped),
                "{text}: {done:?}"
            );
        }
        // A row of b's, to the last column, written by somebody who acts for a.
        let row = two.truth(&format!(
            "SELECT row_to_json(t) FROM {table} t WHERE tenant_id = '{}' LIMIT 1",
            b.id()
        ));
        let insert = format!(
            "INSERT INTO {table} OVERRIDING SYSTEM VALUE \
             SELECT (json_populate_record(NULL::{table}, $row${row}$row$)).*"
        );
        let e = two.acting(a, &insert).expect_err("should be refused");
        assert!(e.contains("row-level security"), "{table}: {e}");
        // Nor may a row of a's be given away.
        let give = format!("UPDATE {table} SET tenant_id = '{}'", b.id());
        let e = two.acting(a, &give).expect_err("should be refused");
        assert!(
            e.contains("row-level security") || e.contains("a log only grows"),
            "{table}: {e}"
        );
    }
    assert_eq!(picture(&two), before);
}

#[tokio::test]
async fn what_crosses_tenants_says_so_and_gets_no_more_than_it_needs() {
    let two = Two::new().await;
    for (scope, seen) in [
        ("directory", &["device_sightings", "tenants"][..]),
        (
            "housekeeping",
            &[
                "certificate_status",
                "claims",
                "keys",
                "open_authorisations",
                "orders",
                "seen_tokens",
            ][..],
        ),
        ("everything", &[]),
    ] {
        let setting = format!("SET LOCAL countersign.scope = '{scope}'");
        for table in &two.tables {
            let count = format!("SELECT count(DISTINCT tenant_id) FROM {table}");
            let expected = if seen.contains(&table.as_str()) {
                "2"
            } else {
                "0"
            };
            let got = two.within(&setting, &count);
            assert_eq!(got, Ok(expected.to_owned()), "{scope}: {table}");
            let update = format!("UPDATE {table} SET tenant_id = tenant_id RETURNING 1");
            let done = two.within(&setting, &update);
            assert_eq!(done, Ok(String::new()), "{scope}: {table}");
            if !matches!(table.as_str(), "claims" | "seen_tokens") {
                let delete = format!("DELETE FROM {table} RETURNING 1");
                let done = two.within(&setting, &delete);
                assert_eq!(done, Ok(String::new()), "{scope}: {table}");
            }
        }
    }
    for table in ["claims", "seen_tokens"] {
        let delete = format!("DELETE FROM {table} WHERE expires < 99000000");
        two.within("SET LOCAL countersign.scope = 'housekeeping'", &delete)
            .unwrap();
        assert_eq!(two.truth(&format!("SELECT count(*) FROM {table}")), "0");
    }
}
