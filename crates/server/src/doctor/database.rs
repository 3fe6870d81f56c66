//! The database: reachable, of this release's schema, durable; what lies in it opens and is in time.

use super::{Check, spell};
use crate::config::Config;
use crate::database::Place;
use crate::files;
use countersign_core::ports::revocation::ListRow;
use countersign_core::ports::store::Store;
use countersign_core::{Clock as _, Micros, SystemClock};
use countersign_signing::{MAX_SKEW, SealingKey};
use countersign_store::postgres::{self, Settings};
use countersign_store::{OpenError, PostgresStore, SqliteStore};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Connections of a look: few, so that a service at its limit is not refused its own.
const CONNECTIONS: u32 = 6;
/// Off by more than this, a clock is not kept by anybody.
const NOTABLE_SKEW: Duration = Duration::from_secs(5);
/// Certificates that are told of one by one.
const TOLD: u32 = 20;
/// Lists looked at.
const LISTS: u32 = 10_000;

/// What needs an open database.
const NEED_IT: [&str; 6] = [
    "schema",
    "durability",
    "clock",
    "sealing-key",
    "certificates",
    "revocation",
];

/// All checks of the database.
pub(super) async fn look(config: &Config) -> Vec<Check> {
    let (mut checks, store) = match Place::of(config) {
        Ok(Place::Sqlite(path)) => sqlite(config, &path).await,
        Ok(Place::Postgres(settings)) => postgres(settings).await,
        Err(e) => (
            vec![Check::fail("database", e.to_string()).advice("correct [database]")],
            None,
        ),
    };
    if let Some(store) = store {
        checks.push(sealing_key(config, &*store).await);
        checks.push(certificates(config, &*store).await);
        checks.push(revocation(config, &*store).await);
    }
    for name in NEED_IT {
        if !checks.iter().any(|c| c.name == name) {
            checks.push(Check::unknown(name, "the database cannot be read"));
        }
    }
    checks
}

type Found = (Vec<Check>, Option<Arc<dyn Store>>);

async fn sqlite(config: &Config, path: &Path) -> Found {
    let (look, store) = match SqliteStore::look(path).await {
        Ok(found) => found,
        Err(e) => {
            let advice = match &e {
                OpenError::NotFound { .. } => {
                    "restore it (docs/operators/backup.md); only a new deployment makes one: countersignd create-database"
                }
                OpenError::NewerSchema { .. } => "run the newer release again",
                OpenError::NotOurs { .. } | OpenError::OtherSchema { .. } => {
                    "is [database] url the right one?"
                }
                _ => "repair the file system; look into its log",
            };
            return (
                vec![Check::fail("database", e.to_string()).advice(advice)],
                None,
            );
        }
    };
    let mut checks = vec![
        Check::ok("database", path.display().to_string()),
        schema(look.found, look.known),
        durable_file(config, path, &look.journal),
    ];
    let store = store.map(|s| Arc::new(s) as Arc<dyn Store>);
    if let Some(store) = &store {
        checks.push(clock_of_the_past(&**store).await);
    }
    (checks, store)
}

async fn postgres(mut settings: Settings) -> Found {
    let place = settings.place();
    let single_node = settings.single_node;
    settings.max_connections = CONNECTIONS;
    let (look, store) = match PostgresStore::look(settings).await {
        Ok(found) => found,
        Err(e) => return (refused(&place, &e), None),
    };
    let ours = SystemClock.now();
    let checks = vec![
        Check::ok("database", format!("{place}, PostgreSQL {}", look.version)),
        schema(look.found, look.known),
        durable_server(&look, single_node),
        clock(ours, look.clock),
    ];
    let store = store.map(|s| Arc::new(s) as Arc<dyn Store>);
    (checks, store)
}

/// A server that is not taken.
fn refused(place: &str, e: &postgres::OpenError) -> Vec<Check> {
    let there = || Check::ok("database", place.to_owned());
    match e {
        postgres::OpenError::NotDurable { .. } => vec![
            there(),
            Check::fail("durability", e.to_string())
                .advice("docs/operators/postgresql.md; the service does not start on it"),
        ],
        postgres::OpenError::OlderSchema { .. }
        | postgres::OpenError::NewerSchema { .. }
        | postgres::OpenError::OtherSchema { .. }
        | postgres::OpenError::NotFound { .. } => {
            vec![
                there(),
                Check::fail("schema", e.to_string()).advice("docs/operators/upgrade.md"),
            ]
        }
        postgres::OpenError::Away { .. } => vec![Check::fail("database", e.to_string()).advice(
            "does the server run, does the network let us through, is the password right?",
        )],
        _ => vec![Check::fail("database", e.to_string()).advice("docs/operators/postgresql.md")],
    }
}

fn schema(found: i64, known: i64) -> Check {
    if found == known {
        Check::ok("schema", format!("{found}, this release's"))
    } else {
        Check::warn(
            "schema",
            format!("{found}, and this release's is {known}: what lies in it was not looked at"),
        )
        .advice("the next start brings it up to date; back it up before: docs/operators/upgrade.md")
    }
}

/// `f_type` of statfs(2): what forgets with the power, and what SQLite's shared memory does not work on
/// (<https://sqlite.org/wal.html>: all processes must be on the same host).
const FORGETFUL: [(u64, &str); 2] = [(0x0102_1994, "tmpfs"), (0x8584_58f6, "ramfs")];
const REMOTE: [(u64, &str); 5] = [
    (0x6969, "nfs"),
    (0xff53_4d42, "cifs"),
    (0xfe53_4d42, "smb2"),
    (0x0102_1997, "9p"),
    (0x00c3_6400, "ceph"),
];

fn durable_file(config: &Config, path: &Path, journal: &str) -> Check {
    let name = "durability";
    let kind = match rustix::fs::statfs(path) {
        // The type is a number of 32 bits, whatever the platform calls it.
        Ok(found) => u64::from(found.f_type.cast_unsigned() as u32),
        Err(e) => return Check::fail(name, format!("{}: {e}", path.display())),
    };
    let is = |all: &[(u64, &'static str)]| all.iter().find(|(n, _)| *n == kind).map(|(_, s)| *s);
    if let Some(kind) = is(&FORGETFUL) {
        let seen = format!("the file lies in a {kind}: a power cut loses all of it");
        let check = if config.development {
            Check::warn(name, seen)
        } else {
            Check::fail(name, seen)
        };
        return check.advice("move the database to a disk");
    }
    if let Some(kind) = is(&REMOTE) {
        return Check::fail(
            name,
            format!("the file lies on {kind}: SQLite's write-ahead log does not work there"),
        )
        .advice("use a disk of this machine, or PostgreSQL");
    }
    if journal != "wal" {
        return Check::warn(
            name,
            format!("journal_mode is {journal}: another program changed it"),
        )
        .advice("the next start sets it to wal; find out who opened the file");
    }
    Check::ok(
        name,
        "journal_mode wal; the service commits with synchronous=FULL",
    )
}

fn durable_server(look: &postgres::Look, single_node: bool) -> Check {
    let mut seen = format!(
        "fsync and full_page_writes on, synchronous_commit {}",
        look.synchronous_commit
    );
    if look.standbys.is_empty() && !single_node {
        seen.push_str("; no synchronous standby: what is acknowledged is on one machine alone");
        return Check::warn("durability", seen).advice(
            "synchronous_standby_names (docs/operators/postgresql.md), or single_node = true where that is meant",
        );
    }
    if !look.standbys.is_empty() {
        seen.push_str(&format!("; standbys {}", look.standbys));
    }
    Check::ok("durability", seen)
}

fn clock(ours: Micros, database: Micros) -> Check {
    let apart = ours.apart(database);
    let seen = format!(
        "this machine's clock is {:.1} s {} the database's",
        apart.as_secs_f64(),
        if ours < database {
            "behind"
        } else {
            "ahead of"
        }
    );
    if apart > MAX_SKEW {
        Check::fail("clock", format!("{seen}: this node signs nothing")).advice("mend NTP")
    } else if apart > NOTABLE_SKEW {
        Check::warn("clock", seen).advice("mend NTP")
    } else {
        Check::ok("clock", seen)
    }
}

/// A file has no clock of its own; but the past is in it.
async fn clock_of_the_past(store: &dyn Store) -> Check {
    let nodes = match store.nodes().await {
        Ok(nodes) => nodes,
        Err(e) => return Check::fail("clock", e.to_string()),
    };
    let now = SystemClock.now();
    let newest = nodes
        .iter()
        .map(|n| n.joined.max(n.ended.unwrap_or(n.joined)));
    match newest.max() {
        Some(newest) if newest > now.plus(NOTABLE_SKEW) => Check::fail(
            "clock",
            format!(
                "this machine's clock is {} behind what the service wrote last",
                spell(newest.apart(now))
            ),
        )
        .advice("mend NTP; leaves' times never decrease, so nothing is signed until then"),
        _ => Check::ok(
            "clock",
            "not before what the service wrote last; a file has no clock to compare with",
        ),
    }
}

async fn sealing_key(config: &Config, store: &dyn Store) -> Check {
    let name = "sealing-key";
    let key = match files::read_key(&config.sealing_key_file) {
        Ok(key) => SealingKey::new(key),
        Err(e) => {
            return Check::fail(name, e.to_string()).advice(
                "put it back from the safe: docs/operators/incident.md, \"Sealing key lost\"",
            );
        }
    };
    match key.opens(store).await {
        Ok(0) => Check::ok(name, "there; nothing is sealed under it before the first start"),
        Ok(n) => Check::ok(name, format!("opens all {n} keys in the database")),
        Err(e) => Check::fail(name, e.to_string())
            .advice("put the right one back from the safe: docs/operators/incident.md, \"Sealing key lost\""),
    }
}

async fn certificates(config: &Config, store: &dyn Store) -> Check {
    let name = "certificates";
    let now = SystemClock.now();
    let until = now.plus(config.revocation.warn_before);
    let rows = match store.ending(Micros(0), until, None, TOLD).await {
        Ok(rows) => rows,
        Err(e) => return Check::fail(name, e.to_string()),
    };
    if rows.is_empty() {
        return Check::ok(
            name,
            format!(
                "no tenant's certificate ends within {}",
                spell(config.revocation.warn_before)
            ),
        );
    }
    let ends: Vec<String> = rows
        .iter()
        .map(|r| {
            let far = spell(r.not_after.apart(now));
            let when = if r.not_after < now {
                format!("ended {far} ago")
            } else {
                format!("ends in {far}")
            };
            format!("tenant {} key {} {when}", r.tenant, r.key)
        })
        .collect();
    let more = if rows.len() < TOLD as usize {
        ""
    } else {
        "; and more"
    };
    Check::warn(name, format!("{}{more}", ends.join("; ")))
        .advice("their tenants order new ones: countersign certificate order")
}

async fn revocation(config: &Config, store: &dyn Store) -> Check {
    let name = "revocation";
    let lists = match store.lists_due(Micros(i64::MAX), LISTS).await {
        Ok(lists) => lists,
        Err(e) => return Check::fail(name, e.to_string()),
    };
    let now = SystemClock.now();
    let oldest = now.minus(config.revocation.max_age);
    // One that nobody has looked at yet came with a certificate a moment ago, or has a problem.
    let stale = |l: &&ListRow| l.good.is_some_and(|good| good < oldest);
    let failing = |l: &&ListRow| l.problem.is_some();
    let advice = "docs/operators/revocation.md";
    if let Some(list) = lists.iter().find(stale) {
        let n = lists.iter().filter(stale).count();
        let why = list.problem.as_deref().unwrap_or("is the service down?");
        return Check::fail(
            name,
            format!(
                "{n} of {} lists have no good look within {}: their certificates sign nothing ({why})",
                lists.len(),
                spell(config.revocation.max_age)
            ),
        )
        .advice(advice);
    }
    if let Some(list) = lists.iter().find(failing) {
        let n = lists.iter().filter(failing).count();
        let why = list.problem.as_deref().unwrap_or_default();
        return Check::warn(
            name,
            format!(
                "{n} of {} lists could not be had at the last try ({why})",
                lists.len()
            ),
        )
        .advice(advice);
    }
    Check::ok(name, format!("{} lists, none of them late", lists.len()))
}
