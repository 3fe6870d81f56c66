//! The server dies, comes back, or does not answer: what was acknowledged is there, what is there is
//! whole, and the store goes on by itself.

use crate::databases::{open, with_schema};
use crate::model::*;
use countersign_core::NodeId;
use countersign_core::ports::store::*;
use countersign_store::PostgresStore;
use countersign_testkit::postgres::Postgres as Server;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Appends until told to stop; each failure is looked at as the sequencer does.
struct Writer {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<(u64, u64)>,
}

impl Writer {
    fn start(store: Arc<PostgresStore>, it: Everything, mut log: Log) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let acknowledged = Arc::new(AtomicU64::new(log.size()));
        let (stopped, size) = (stop.clone(), acknowledged.clone());
        let task = tokio::spawn(async move {
            let node = NodeId::new();
            let (mut unavailable, mut unknown) = (0, 0);
            while !stopped.load(Ordering::Relaxed) {
                let mut next = log.clone();
                let first = next.size();
                let flush = Commit {
                    opens: vec![it.open(dead(), first)],
                    claims: vec![(0, ClaimWrite::First(it.claim(&format!("k{first}"), first)))],
                    ..writes([next.append(1 + (first % 7) as usize)])
                };
                match commit(&*store, node, flush).await {
                    Ok(()) => {
                        size.store(next.size(), Ordering::Relaxed);
                        log = next;
                        continue;
                    }
                    Err(CommitError::Unavailable(_)) => unavailable += 1,
                    Err(CommitError::Unknown(_)) => unknown += 1,
                    // It did not join: the server was away.
                    Err(CommitError::Buried) => {}
                    Err(e) => panic!("{e:?}"),
                }
                // Where is the head? As often as it takes.
                while !stopped.load(Ordering::Relaxed) {
                    if let Ok(Some(head)) = store.head(it.id(), log.id).await {
                        let now = Log::at(&head);
                        assert!(now.size() == first || now.size() == next.size());
                        log = now;
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            (unavailable, unknown)
        });
        Self {
            stop,
            acknowledged,
            task,
        }
    }

    async fn more(&self, leaves: u64) {
        let from = self.acknowledged.load(Ordering::Relaxed);
        let began = std::time::Instant::now();
        while self.acknowledged.load(Ordering::Relaxed) < from + leaves {
            assert!(!self.task.is_finished(), "the writer ended");
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "nothing is written any more"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn end(self) -> (u64, u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        let (unavailable, unknown) = self.task.await.unwrap();
        (
            self.acknowledged.load(Ordering::Relaxed),
            unavailable,
            unknown,
        )
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_under_load_it_keeps_what_it_acknowledged() {
    let server = Server::start().unwrap();
    let db = with_schema(&server);
    let store = Arc::new(open(&db.url).await);
    let it = Everything::named("acme");
    let (_, log) = it.create(&*store, NodeId::new()).await;
    let writer = Writer::start(store.clone(), it.clone(), log.clone());
    for round in 0..6 {
        writer.more(20).await;
        tokio::time::sleep(Duration::from_millis(3 * round)).await;
        if round % 3 == 2 {
            server.stop().unwrap();
        } else {
            server.kill().unwrap();
        }
        server.resume().unwrap();
    }
    writer.more(20).await;
    let (acknowledged, unavailable, unknown) = writer.end().await;
    println!("{acknowledged} leaves, {unavailable} times unavailable, {unknown} times unknown");
    assert!(unavailable + unknown > 0);
    let heads = check_logs(&*store, it.id()).await;
    let size = heads.iter().find(|h| h.log == log.id).unwrap().size;
    assert!(size >= acknowledged, "{size} of {acknowledged}");
    // Each claim is of an authorisation that is open, and each that is open has its leaf.
    let open = store.open_authorisations(100_000).await.unwrap();
    for open in &open {
        let claim = it.claim(&format!("k{}", open.index), open.index);
        assert_eq!(store.claim(&claim.key).await.unwrap(), Some(claim));
        assert!(open.index < size);
    }
    assert!(open.len() > 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn away_it_says_so_soon_and_back_it_serves_at_once() {
    let server = Server::start().unwrap();
    let db = with_schema(&server);
    let store = Arc::new(open(&db.url).await);
    let it = Everything::named("acme");
    let (_, mut log) = it.create(&*store, NodeId::new()).await;
    let node = NodeId::new();
    commit(&*store, node, writes([log.append(1)]))
        .await
        .unwrap();
    // Many connections that will all be dead.
    let reads = (0..12).map(|_| {
        let (store, id) = (store.clone(), it.id());
        tokio::spawn(async move { store.tenant(id).await.unwrap() })
    });
    for read in reads.collect::<Vec<_>>() {
        read.await.unwrap();
    }
    server.stop().unwrap();
    let began = std::time::Instant::now();
    let read = store.tenant(it.id()).await;
    assert!(matches!(read, Err(StoreError::Unavailable(_))), "{read:?}");
    let write = commit(&*store, node, writes([log.clone().append(1)])).await;
    assert!(
        matches!(write, Err(CommitError::Unavailable(_))),
        "{write:?}"
    );
    assert!(matches!(
        store.probe().await,
        Err(CommitError::Unavailable(_))
    ));
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    server.resume().unwrap();
    // No request pays for the connections that died.
    store.tenant(it.id()).await.unwrap().unwrap();
    store.probe().await.unwrap();
    commit(&*store, node, writes([log.append(1)]))
        .await
        .unwrap();
    check_logs(&*store, it.id()).await;
}

/// All connections are thrown out by the operator while nothing happens; nobody notices.
#[tokio::test]
async fn terminated_connections_are_replaced_unnoticed() {
    let server = Server::start().unwrap();
    let db = with_schema(&server);
    let store = open(&db.url).await;
    let it = Everything::named("acme");
    let (_, mut log) = it.create(&store, NodeId::new()).await;
    let node = NodeId::new();
    for _ in 0..3 {
        store.tenant(it.id()).await.unwrap().unwrap();
        commit(&store, node, writes([log.append(1)])).await.unwrap();
        let terminate = format!(
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE usename = '{}'",
            db.role
        );
        server.psql("postgres", &terminate).unwrap();
    }
    store.tenant(it.id()).await.unwrap().unwrap();
    assert!(store.first_use(it.id(), "i", [1; 32], NOW).await.unwrap());
    commit(&store, node, writes([log.append(1)])).await.unwrap();
    check_logs(&store, it.id()).await;
}
