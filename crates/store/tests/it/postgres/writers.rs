//! Several nodes write to one database.

use crate::databases::{Empty, Postgres, open, server};
use crate::model::*;
use countersign_core::ports::rows::TenantPolicy;
use countersign_core::ports::store::*;
use countersign_core::{LogId, NodeId, TenantId};
use countersign_signing_log::Frontier;
use countersign_store::PostgresStore;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A node as the sequencer is one: it knows heads as far as it has seen them.
struct Node {
    store: Arc<PostgresStore>,
    id: NodeId,
    logs: Vec<Log>,
}

impl Node {
    async fn join(store: Arc<PostgresStore>, logs: &[Log]) -> Self {
        let id = NodeId::new();
        store.join(id, "test", LEASE).await.unwrap();
        Self {
            store,
            id,
            logs: logs.to_vec(),
        }
    }

    /// Appends to some of its logs whatever others did meanwhile; the index of each first leaf.
    async fn append(
        &mut self,
        which: &[usize],
        count: usize,
    ) -> Result<Vec<(LogId, u64)>, CommitError> {
        let wanted = which.iter().map(|i| Wanted {
            tenant: self.logs[*i].tenant,
            log: self.logs[*i].id,
            known: Some(self.logs[*i].size()),
        });
        let tenants: BTreeSet<TenantId> = which.iter().map(|i| self.logs[*i].tenant).collect();
        let tenants = tenants.into_iter().collect();
        let mut flush = self.store.flush(self.id, tenants, wanted.collect()).await?;
        for moved in flush.moved() {
            let log = self
                .logs
                .iter_mut()
                .find(|l| l.id == moved.head.log)
                .unwrap();
            // What others wrote leads from what we knew to what is there.
            let mut frontier = log.frontier.clone();
            frontier.append_batch(&moved.leaf_hashes);
            assert_eq!(frontier.to_bytes(), moved.head.frontier);
            log.frontier = Frontier::from_bytes(&moved.head.frontier).unwrap();
            log.epoch = moved.head.epoch + u64::from(moved.head.writer != self.id);
        }
        let mut planned = Vec::new();
        let mut commit = Commit::default();
        for i in which {
            let mut log = self.logs[*i].clone();
            commit.writes.push(log.append(count));
            planned.push((*i, log));
        }
        flush.commit(NOW, commit).await?;
        let mut first = Vec::new();
        for (i, log) in planned {
            first.push((log.id, self.logs[i].size()));
            self.logs[i] = log;
        }
        Ok(first)
    }
}

async fn two_stores() -> (Postgres, Arc<PostgresStore>, Arc<PostgresStore>) {
    let db = Postgres::empty().await;
    let one = db.store().clone();
    let other = Arc::new(open(&db.database.url).await);
    (db, one, other)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_flushes_of_two_nodes_make_one_history() {
    const ROUNDS: usize = 30;
    let (_db, one, other) = two_stores().await;
    let all: Vec<_> = (0..4)
        .map(|i| Everything::named(&format!("t{i}")))
        .collect();
    let mut logs = Vec::new();
    for it in &all {
        logs.push(it.create(&*one, NodeId::new()).await.1);
    }
    let mut tasks = Vec::new();
    for n in 0..8_usize {
        let store = if n % 2 == 0 { &one } else { &other };
        let mut node = Node::join(store.clone(), &logs).await;
        tasks.push(tokio::spawn(async move {
            let mut places = Vec::new();
            for round in 0..ROUNDS {
                // The hot log always, and another in an order that differs from node to node.
                let second = 1 + (n + round) % 3;
                let which = if n % 3 == 0 { [second, 0] } else { [0, second] };
                places.extend(node.append(&which, 2).await.unwrap());
            }
            places
        }));
    }
    let mut places = BTreeSet::new();
    for task in tasks {
        for place in task.await.unwrap() {
            assert!(places.insert(place), "{place:?} was given twice");
        }
    }
    let mut leaves = 0;
    for it in &all {
        for head in check_logs(&*one, it.id()).await {
            leaves += head.size;
        }
    }
    // What there was before, and two for each place.
    assert_eq!(leaves, 4 * 6 + 8 * ROUNDS as u64 * 2 * 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn burying_waits_for_a_flush_under_way_and_ends_what_comes_after() {
    let (_db, one, other) = two_stores().await;
    let it = Everything::named("acme");
    let (log, _) = it.create(&*one, NodeId::new()).await;
    let (stalled, well) = (NodeId::new(), NodeId::new());
    one.join(stalled, "stalled", Duration::ZERO).await.unwrap();
    other.join(well, "well", LEASE).await.unwrap();
    let wanted = vec![Wanted {
        tenant: it.id(),
        log: log.id,
        known: Some(log.size()),
    }];
    let flush = one
        .flush(stalled, vec![it.id()], wanted.clone())
        .await
        .unwrap();
    let began = Instant::now();
    let burying = tokio::spawn(async move { other.bury(well).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!burying.is_finished(), "it did not wait");
    flush
        .commit(NOW, writes([log.clone().append(1)]))
        .await
        .unwrap();
    let buried = burying.await.unwrap().unwrap();
    assert!(buried.iter().any(|b| b.node == stalled));
    println!("buried after {:?}", began.elapsed());
    let late = one.flush(stalled, vec![it.id()], wanted).await;
    assert_eq!(late.err(), Some(CommitError::Buried));
    assert_eq!(one.renew(stalled, LEASE).await, Err(CommitError::Buried));
    check_logs(&*one, it.id()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_is_renewed_while_flushes_run() {
    let db = Postgres::empty().await;
    let s = db.store();
    let it = Everything::named("acme");
    let (log, _) = it.create(&**s, NodeId::new()).await;
    let node = NodeId::new();
    s.join(node, "n", LEASE).await.unwrap();
    let wanted = vec![Wanted {
        tenant: it.id(),
        log: log.id,
        known: None,
    }];
    let flush = s.flush(node, vec![it.id()], wanted).await.unwrap();
    let began = Instant::now();
    s.renew(node, LEASE).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(2));
    drop(flush);
}

/// A node that is stopped in the middle of a flush (SIGSTOP) holds heads: not for longer than the
/// server lets a transaction stand still.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_node_lets_go_and_writes_nothing_when_it_wakes() {
    let (_db, one, other) = two_stores().await;
    let it = Everything::named("acme");
    let (log, _) = it.create(&*one, NodeId::new()).await;
    let mut well = Node::join(other, std::slice::from_ref(&log)).await;
    let frozen = NodeId::new();
    one.join(frozen, "frozen", LEASE).await.unwrap();
    let wanted = vec![Wanted {
        tenant: it.id(),
        log: log.id,
        known: Some(log.size()),
    }];
    let flush = one.flush(frozen, vec![it.id()], wanted).await.unwrap();
    let began = Instant::now();
    well.append(&[0], 3).await.unwrap();
    let waited = began.elapsed();
    assert!(
        waited > Duration::from_secs(3),
        "{waited:?}: it held nothing"
    );
    assert!(waited < Duration::from_secs(8), "{waited:?}");
    let woken = flush.commit(NOW, writes([log.clone().append(1)])).await;
    assert!(
        matches!(woken, Err(CommitError::Unavailable(_))),
        "{woken:?}"
    );
    let heads = check_logs(&*one, it.id()).await;
    assert!(heads.iter().any(|h| h.size == log.size() + 3));
    // It goes on, once it has looked.
    let mut again = Node {
        store: one,
        id: frozen,
        logs: vec![log],
    };
    again.append(&[0], 1).await.unwrap();
}

/// Decisions on a version and effects that move it, from two nodes, tenants crosswise: a decision
/// is either written before the version moved, or void. Nobody waits for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guards_and_effects_of_two_nodes_exclude_each_other() {
    let (_db, one, other) = two_stores().await;
    let all: Vec<_> = (0..3)
        .map(|i| Everything::named(&format!("t{i}")))
        .collect();
    let mut logs = Vec::new();
    for it in &all {
        logs.push(it.create(&*one, NodeId::new()).await.1);
    }
    let tenants: Vec<_> = all.iter().map(Everything::id).collect();
    let mut tasks = Vec::new();
    for n in 0..6_usize {
        let store = if n % 2 == 0 {
            one.clone()
        } else {
            other.clone()
        };
        let tenants = tenants.clone();
        tasks.push(tokio::spawn(async move {
            let node = NodeId::new();
            store.join(node, "n", LEASE).await.unwrap();
            let (mut done, mut void) = (0_u64, 0_u64);
            for round in 0..40 {
                let of = |i: usize| tenants[(n + round + i) % tenants.len()];
                let version = store.tenant(of(0)).await.unwrap().unwrap().version;
                let mut what = Commit {
                    guards: vec![Guard {
                        tenant: of(0),
                        version,
                    }],
                    ..Commit::default()
                };
                // Every other one changes two more tenants.
                if n % 2 == 0 {
                    for i in [1, 2] {
                        let effect = Effect::SetPolicy(of(i), TenantPolicy::default());
                        what.effects.push((i, effect));
                    }
                }
                let flush = store.flush(node, what.tenants(), Vec::new()).await.unwrap();
                match flush.commit(NOW, what).await {
                    Ok(()) => done += 1,
                    Err(CommitError::Guard(g)) => {
                        assert_eq!(g.version, version);
                        void += 1;
                    }
                    Err(e) => panic!("{e}"),
                }
            }
            (done, void, n % 2 == 0)
        }));
    }
    let mut moved = 0;
    for task in tasks {
        let (done, void, with_effects) = task.await.unwrap();
        println!("{done} done, {void} void, effects: {with_effects}");
        assert!(done > 0);
        if with_effects {
            moved += 2 * done;
        }
    }
    let mut versions = 0;
    for tenant in &tenants {
        versions += one.tenant(*tenant).await.unwrap().unwrap().version - Everything::VERSION;
    }
    assert_eq!(
        versions, moved,
        "each effect moved a version, and none twice"
    );
}

/// The version moves while a decision made on it is being written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_waits_for_an_effect_under_way_and_is_void() {
    let (db, one, other) = two_stores().await;
    let it = Everything::named("acme");
    let (_, log) = it.create(&*one, NodeId::new()).await;
    let node = NodeId::new();
    other.join(node, "n", LEASE).await.unwrap();
    // Somebody's effect, not committed yet.
    let text = format!(
        "BEGIN; SET LOCAL countersign.tenant = '{0}'; \
         UPDATE tenants SET version = version + 1 WHERE tenant_id = '{0}'; \
         SELECT pg_sleep(1); COMMIT",
        it.id()
    );
    let (role, name) = (db.database.role.clone(), db.database.name.clone());
    let effect = std::thread::spawn(move || server().psql_as(&role, &name, &text).unwrap());
    tokio::time::sleep(Duration::from_millis(400)).await;
    let guard = Guard {
        tenant: it.id(),
        version: Everything::VERSION,
    };
    let decided = Commit {
        guards: vec![guard],
        ..writes([log.clone().append(1)])
    };
    assert_eq!(
        commit(&*other, node, decided).await,
        Err(CommitError::Guard(guard))
    );
    effect.join().unwrap();
    assert_eq!(
        one.head(it.id(), log.id).await.unwrap().unwrap().size,
        log.size()
    );
}

/// Four round trips for a flush, however much is in it, and one for a read.
#[tokio::test]
async fn a_flush_is_four_round_trips_and_a_read_is_one() {
    let db = Postgres::empty().await;
    let s = db.store();
    let it = Everything::named("acme");
    let (mut log, mut key_log) = it.create(&**s, NodeId::new()).await;
    let node = NodeId::new();
    s.join(node, "n", LEASE).await.unwrap();
    let first = key_log.size();
    let all = Commit {
        guards: vec![Guard {
            tenant: it.id(),
            version: Everything::VERSION,
        }],
        claims: vec![(0, ClaimWrite::First(it.claim("a", first)))],
        opens: vec![it.open(dead(), first)],
        ..writes([log.append(500), key_log.append(300)])
    };
    let wanted = all.writes.iter().map(|w| Wanted {
        tenant: w.tenant,
        log: w.log,
        known: Some(w.old_size),
    });
    let before = s.round_trips();
    let flush = s
        .flush(node, all.tenants(), wanted.collect())
        .await
        .unwrap();
    flush.commit(NOW, all).await.unwrap();
    assert_eq!(s.round_trips() - before, 4);
    let before = s.round_trips();
    s.head(it.id(), log.id).await.unwrap().unwrap();
    s.tenant_by_name(&it.tenant.name).await.unwrap().unwrap();
    s.open_authorisations(9).await.unwrap();
    assert_eq!(s.round_trips() - before, 3);
}
