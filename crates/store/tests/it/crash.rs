//! The process dies in the middle of committing, or its disk fails: what was acknowledged is
//! there, what is there is whole.

use crate::model::*;
use countersign_core::ports::rows::{ClaimState, TenantRow};
use countersign_core::ports::store::*;
use countersign_core::{LogId, NodeId, TenantId};
use countersign_store::SqliteStore;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

/// Names the database to the child; unset, the child's test has nothing to do.
const DATABASE: &str = "COUNTERSIGN_TEST_CRASH_DATABASE";

fn it() -> Everything {
    let mut it = Everything::named("acme");
    it.tenant.id = TenantId(uuid::Uuid::from_bytes([1; 16]));
    it.key.id = countersign_core::KeyId(uuid::Uuid::from_bytes([2; 16]));
    it.key.tenant = it.id();
    it.signer.tenant = it.id();
    it
}

fn log_id() -> LogId {
    it().key.id.into()
}

/// The child: one flush after the other, each opening an authorisation with a claim and closing
/// the one before, until it is killed or its disk fails. Says what was acknowledged.
#[tokio::test]
async fn child() {
    let Some(path) = std::env::var_os(DATABASE) else {
        return;
    };
    let store = SqliteStore::open(Path::new(&path), true).await.unwrap();
    let (it, node) = (it(), NodeId::new());
    let mut log = match store.head(it.id(), log_id()).await.unwrap() {
        Some(head) => Log {
            epoch: head.epoch + 1,
            ..Log::at(&head)
        },
        None => {
            let begin = [
                Effect::CreateTenant(TenantRow {
                    ..it.tenant.clone()
                }),
                Effect::CreateSigner(it.signer.clone()),
                create_key(it.key.clone()),
            ];
            // Killed after this and before the first leaf: it is there already.
            if store.tenant(it.id()).await.unwrap().is_none() {
                commit(&store, node, effects(begin)).await.unwrap();
            }
            Log::of_key(it.id(), it.key.id)
        }
    };
    println!("started");
    for round in 0.. {
        let first = log.size();
        let open = store.open_authorisations(9).await.unwrap();
        let mut flush = writes([log.append(1 + round % 40)]);
        let claim = it.claim(&format!("k{first}"), first);
        let mut opening = it.open(dead(), first);
        opening.claim = Some(claim.key.clone());
        flush.opens.push(opening);
        flush.claims.push((0, ClaimWrite::First(claim)));
        for before in open {
            flush.closes.push((before.log, before.index));
            flush.claims.push((
                1,
                ClaimWrite::Settle {
                    key: before.claim.unwrap(),
                    log: before.log,
                    index: before.index,
                    state: ClaimState::Unanswered,
                },
            ));
        }
        match commit(&store, node, flush).await {
            Ok(()) => println!("acknowledged {}", log.size()),
            Err(e) => {
                println!("failed {e:?}");
                // Reading still works, and shows the head as it was.
                let head = store.head(it.id(), log_id()).await.unwrap();
                assert_eq!(head.map_or(0, |h| h.size), first);
                return;
            }
        }
    }
}

struct Running {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

/// Starts this very test program for [`child`] alone, by way of `wrapper`.
fn start(database: &Path, wrapper: &[&str]) -> Running {
    let this = std::env::current_exe().unwrap();
    let mut command = match wrapper {
        [] => Command::new(&this),
        [program, arguments @ ..] => {
            let mut command = Command::new(program);
            command.args(arguments).arg(&this);
            command
        }
    };
    let mut child = command
        .args(["crash::child", "--exact", "--nocapture", "--test-threads=1"])
        .env(DATABASE, database)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.find(|l| l.as_ref().is_ok_and(|l| l.ends_with("started")));
    Running { child, lines }
}

/// The last size acknowledged, and the error that ended the child, if one did.
fn said(lines: impl Iterator<Item = std::io::Result<String>>) -> (u64, Option<String>) {
    let (mut size, mut failed) = (0, None);
    for line in lines.map_while(Result::ok) {
        if let Some(n) = line.strip_prefix("acknowledged ") {
            size = n.parse().unwrap();
        } else if let Some(e) = line.strip_prefix("failed ") {
            failed = Some(e.to_owned());
        }
    }
    (size, failed)
}

/// Opens what is left and checks every promise that spans tables. Returns the size.
async fn check(database: &Path, acknowledged: u64) -> u64 {
    let store = SqliteStore::open(database, false).await.unwrap();
    let it = it();
    let heads = check_logs(&store, it.id()).await;
    let size = heads.first().map_or(0, |h| h.size);
    assert!(
        size >= acknowledged,
        "{size} of {acknowledged} acknowledged"
    );
    let open = store.open_authorisations(99).await.unwrap();
    assert_eq!(
        open.len(),
        usize::from(size > 0),
        "opened and closed as one"
    );
    if let Some(open) = open.first() {
        let claim = store.claim(open.claim.as_ref().unwrap()).await.unwrap();
        let claim = claim.unwrap();
        assert_eq!((claim.log, claim.index), (open.log, open.index));
        assert_eq!(claim.state, ClaimState::InFlight);
        let last = store.details(it.id(), log_id(), size - 1, 9).await.unwrap();
        assert_eq!(last.len(), 1, "details come with their leaf");
    }
    store.close().await;
    size
}

#[tokio::test]
async fn killed_in_a_commit_loop() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("db");
    let mut size = 0;
    for round in 0..12_u64 {
        let mut running = start(&database, &[]);
        tokio::time::sleep(Duration::from_millis(7 + 23 * round)).await;
        // SIGKILL: nothing is flushed, closed or rolled back on the way out.
        running.child.kill().unwrap();
        running.child.wait().unwrap();
        let (acknowledged, failed) = said(running.lines);
        assert_eq!(failed, None);
        let now = check(&database, acknowledged.max(size)).await;
        size = now;
    }
    println!("{size} leaves through 12 kills");
    assert!(size > 100, "the child hardly wrote: {size}");
}

/// The disk fails in the middle of a COMMIT (here: no file may grow beyond a limit, which SQLite
/// meets as an I/O error). Nobody may say whether that commit was made; all before it was.
#[tokio::test]
async fn the_disk_fails_during_commit() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("db");
    // The limit counts blocks of 512 bytes; the signal that goes with it is ignored.
    let limited = [
        "sh",
        "-c",
        "trap '' XFSZ; ulimit -f 3000; exec \"$@\"",
        "sh",
    ];
    let mut running = start(&database, &limited);
    let (acknowledged, failed) = said(&mut running.lines);
    assert!(running.child.wait().unwrap().success());
    let failed = failed.unwrap();
    assert!(
        failed.starts_with("Unknown(\"input/output error"),
        "{failed}"
    );
    let size = check(&database, acknowledged).await;
    assert!(size > 10);
    // With a disk that works it goes on.
    let mut running = start(&database, &[]);
    tokio::time::sleep(Duration::from_millis(100)).await;
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    let (acknowledged, _) = said(running.lines);
    assert!(check(&database, acknowledged).await > size);
}
