//! What grows with what. A million leaves take some seconds to write and nothing to come back to.

use crate::databases::{Empty, on_both};
use crate::model::*;
use countersign_core::NodeId;
use countersign_core::ports::rows::{ClaimState, LeafRow};
use countersign_core::ports::store::*;
use countersign_signing_log::merkle;
use countersign_store::SqliteStore;
use std::path::Path;
use std::time::{Duration, Instant};

async fn open(folder: &tempfile::TempDir) -> SqliteStore {
    SqliteStore::open(&folder.path().join("db"), true)
        .await
        .unwrap()
}

fn leaf(bytes: Vec<u8>, details: Option<&str>) -> LeafRow {
    LeafRow {
        hash: merkle::leaf_hash(&bytes),
        bytes,
        details: details.map(str::to_owned),
    }
}

on_both! {
    many_leaves_are_appended_to_and_started_from_by_their_right_edge
}

async fn many_leaves_are_appended_to_and_started_from_by_their_right_edge<E: Empty>() {
    let many = E::MANY_LEAVES;
    let same = leaf(b"a leaf like all others".to_vec(), None);
    let db = E::empty().await;
    let (it, node) = (Everything::named("acme"), NodeId::new());
    let (_, mut log) = it.create(&**db.store(), node).await;
    let began = Instant::now();
    while log.size() < many {
        let count = (many - log.size()).min(8192);
        let rows = (0..count).map(|_| same.clone()).collect();
        commit(&**db.store(), node, writes([log.append_rows(rows)]))
            .await
            .unwrap();
    }
    println!("{many} leaves written in {:?}", began.elapsed());

    let began = Instant::now();
    let db = db.reopen().await;
    let store = &**db.store();
    let head = store.head(it.id(), log.id).await.unwrap().unwrap();
    assert_eq!(head.size, many);
    let mut log = Log::at(&head);
    let guard = Guard {
        tenant: it.id(),
        version: Everything::VERSION,
    };
    let authorise = Commit {
        guards: vec![guard],
        opens: vec![it.open(dead(), many)],
        claims: vec![(0, ClaimWrite::First(it.claim("a", many)))],
        ..writes([log.append(1)])
    };
    commit(store, node, authorise).await.unwrap();
    let rows = db.rows_read();
    println!(
        "opened and appended in {:?}, {rows} rows read",
        began.elapsed()
    );
    assert_eq!(rows, E::ROWS_READ.0);

    let outcome = Commit {
        closes: vec![(log.id, many)],
        ..writes([log.append(1)])
    };
    commit(store, node, outcome).await.unwrap();
    assert_eq!(db.rows_read(), E::ROWS_READ.1);
    // A proof of the newest leaf from the stored hashes: a few tiles' worth, not the log.
    for level in 0..=2 {
        let at = (log.size() >> (8 * level)) & !255;
        store
            .hashes(it.id(), log.id, level as u8, at, 256)
            .await
            .unwrap();
    }
    assert!(db.rows_read() < 3 * 256, "{}", db.rows_read());
    let last = store.leaves(it.id(), log.id, many - 1, 1).await.unwrap();
    assert_eq!(last, [same.bytes]);
}

/// Erasing a tenant's details, as docs/data-model.md says: the salts and values go, every proof
/// stays.
#[tokio::test]
async fn erasing_details_breaks_no_proof() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    let node = NodeId::new();
    let (it, other) = (Everything::named("acme"), Everything::named("other"));
    for it in [&it, &other] {
        let (mut log, _) = it.create(&store, node).await;
        let secret = format!("{{\"secret-of\":\"{}\"}}", it.tenant.name);
        let rows = (0_u32..600)
            .map(|i| leaf(i.to_be_bytes().to_vec(), Some(&secret)))
            .collect();
        let flush = Commit {
            claims: vec![(0, ClaimWrite::First(it.claim("a", 1)))],
            ..writes([log.append_rows(rows)])
        };
        commit(&store, node, flush).await.unwrap();
    }
    let before = check_logs(&store, it.id()).await;
    let path = store.path().to_owned();
    store.close().await;
    erase(&path, &it).await;
    let store = open(&folder).await;
    assert_eq!(check_logs(&store, it.id()).await, before);
    for head in &before {
        let details = store.details(it.id(), head.log, 0, 999).await.unwrap();
        assert!(details.is_empty());
    }
    assert_eq!(store.claim(&it.claim("a", 1).key).await.unwrap(), None);
    let theirs = store.details(other.id(), other.id().into(), 0, 999).await;
    assert_eq!(theirs.unwrap().len(), 605);
    store.close().await;
    let file = std::fs::read(&path).unwrap();
    let holds = |text: &[u8]| file.windows(text.len()).any(|w| w == text);
    assert!(holds(b"secret-of\":\"other"));
    assert!(!holds(b"secret-of\":\"acme"), "overwritten, not unlinked");
}

/// The statements of docs/data-model.md, in an operator's sqlite shell.
async fn erase(path: &Path, it: &Everything) {
    use sqlx::ConnectOptions;
    let page = include_str!("../../../../docs/data-model.md");
    let mut shell = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(path)
        .connect()
        .await
        .unwrap();
    for text in [
        "PRAGMA secure_delete = ON",
        "DELETE FROM leaf_details WHERE tenant_id = ?",
        "DELETE FROM claims WHERE tenant_id = ?",
        "PRAGMA wal_checkpoint(TRUNCATE)",
    ] {
        let shown = text.replace("tenant_id = ?", "tenant_id = x'…'");
        assert!(page.contains(&shown), "the page does not say: {shown}");
        let mut query = sqlx::query(text);
        if text.contains('?') {
            query = query.bind(it.id().as_bytes().to_vec());
        }
        query.execute(&mut shell).await.unwrap();
    }
}

/// Prints what docs/data-model.md states: rates, and bytes per signature. Run it with
/// `cargo test --release -p countersign-store --test it -- --ignored --nocapture measure`.
#[tokio::test]
#[ignore = "measurements, which judge nothing and need a release build; what they lead to is asserted by row counts in this file: cargo test --release -p countersign-store --test it -- --ignored --nocapture measure"]
async fn measure() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    let (it, node) = (Everything::named("acme"), NodeId::new());
    let (_, mut log) = it.create(&store, node).await;
    let id = it.id();
    // The shape of real leaves (signing-log, schema version 1).
    let hash = "ab".repeat(32);
    let authorisation = format!(
        "{{\"v\":1,\"type\":\"authorisation\",\"time\":1764000000000000,\"tenant\":\"{id}\",\
         \"signer\":\"release\",\"key\":\"{id}\",\"request\":\"{}\",\"attempt\":1,\
         \"purpose\":\"signature\",\"scheme\":\"ecdsa-sha-256\",\"content\":\"authenticode\",\
         \"asserted\":\"typed\",\"tbs\":\"{hash}\",\"artifact\":\"{hash}\",\"caller\":\"{hash}\",\
         \"node\":\"{id}\",\"epoch\":1}}",
        "0".repeat(32)
    );
    let salted = |value: usize| {
        let value = "A".repeat(value.div_ceil(3) * 4);
        format!("{{\"salt\":\"{}\",\"value\":\"{value}\"}}", "A".repeat(44))
    };
    let details = format!(
        "{{\"index\":1000000,\"tbs\":{},\"artifact\":{},\"caller\":{}}}",
        salted(72),
        salted(72),
        salted(400)
    );
    let outcome = format!(
        "{{\"v\":1,\"type\":\"outcome\",\"time\":1764000000000000,\"of\":1000000,\
         \"result\":\"signed\",\"signature_sha256\":\"{hash}\"}}"
    );
    println!(
        "authorisation {} B, details {} B, outcome {} B",
        authorisation.len(),
        details.len(),
        outcome.len()
    );
    // Without claims; with answers as they are kept of P-256 and RSA-3072; with whole answers.
    for (part, (claims, rounds, answer)) in [
        (false, 400_u64, 0),
        (true, 200, 300),
        (true, 200, 715),
        (true, 200, 6000),
    ]
    .into_iter()
    .enumerate()
    {
        let size_before = std::fs::metadata(store.path()).unwrap().len();
        let (mut cpu, began) = (Vec::new(), Instant::now());
        for round in 0..rounds {
            let first = log.size();
            let mut rows = Vec::new();
            for _ in 0..64 {
                rows.push(leaf(authorisation.clone().into_bytes(), Some(&details)));
                if round > 0 {
                    rows.push(leaf(outcome.clone().into_bytes(), None));
                }
            }
            let step = if round > 0 { 2 } else { 1 };
            let mut flush = writes([log.append_rows(rows)]);
            for i in 0..64 {
                let index = first + i * step;
                flush.opens.push(it.open(dead(), index));
                if claims {
                    let key = format!("{part}-{round:04}-{i:04}-{}", "c".repeat(31));
                    let claim = ClaimWrite::First(it.claim(&key, index));
                    flush.claims.push((0, claim));
                }
            }
            let open = store.open_authorisations(999).await.unwrap();
            if round > 0 {
                let own = open.iter().map(|o| (o.log, o.index));
                flush.closes.extend(own);
            }
            if claims && round > 0 {
                for i in 0..64 {
                    let before = format!("{part}-{:04}-{i:04}-{}", round - 1, "c".repeat(31));
                    let step = if round > 1 { 2 } else { 1 };
                    let start = first - 64 * step;
                    flush.claims.push((
                        0,
                        ClaimWrite::Settle {
                            key: it.claim(&before, 1).key,
                            log: log.id,
                            index: start + i * step,
                            state: ClaimState::Done {
                                answer: "a".repeat(answer),
                            },
                        },
                    ));
                }
            }
            let before = cpu_time();
            commit(&store, node, flush).await.unwrap();
            cpu.push(cpu_time() - before);
        }
        // Ends with every authorisation closed, for the next part to begin anew.
        let open = store.open_authorisations(999).await.unwrap();
        let rows = open
            .iter()
            .map(|_| leaf(outcome.clone().into_bytes(), None))
            .collect();
        let mut last = writes([log.append_rows(rows)]);
        last.closes = open.iter().map(|o| (o.log, o.index)).collect();
        commit(&store, node, last).await.unwrap();
        let took = began.elapsed();
        store.probe().await.unwrap();
        sqlite_checkpoint(store.path()).await;
        let bytes = std::fs::metadata(store.path()).unwrap().len() - size_before;
        let signatures = rounds * 64;
        cpu.sort_unstable();
        println!(
            "claims {claims}, answers of {answer} B: a flush of 64 + 64 takes {:?} CPU (fastest {:?}), {:?} in all; {:.0} \
             signatures/s, {} B of file per signature",
            cpu[cpu.len() / 2],
            cpu[0],
            took / u32::try_from(rounds).unwrap(),
            signatures as f64 / took.as_secs_f64(),
            bytes / signatures
        );
    }
    // The log alone: leaves of 290 bytes in flushes as large as 64 callers make them.
    for batch in [1_u64, 19, 128, 1024] {
        let (began, mut n) = (Instant::now(), 0);
        while began.elapsed() < Duration::from_secs(3) {
            let rows = (0..batch).map(|_| leaf(vec![b'x'; 290], None)).collect();
            commit(&store, node, writes([log.append_rows(rows)]))
                .await
                .unwrap();
            n += batch;
        }
        let rate = n as f64 / began.elapsed().as_secs_f64();
        println!("log alone, {batch} leaves of 290 B per flush: {rate:.0} leaves/s");
    }
}

async fn sqlite_checkpoint(path: &Path) {
    use sqlx::ConnectOptions;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
    let mut shell = options.connect().await.unwrap();
    sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
        .execute(&mut shell)
        .await
        .unwrap();
}

/// CPU time of this process, all threads, from /proc.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let of_main = stat.split(' ').next().and_then(|n| n.parse::<u64>().ok());
    let threads = std::fs::read_dir("/proc/self/task").map_or(0, |tasks| {
        tasks
            .flatten()
            .filter_map(|t| std::fs::read_to_string(t.path().join("schedstat")).ok())
            .filter_map(|s| s.split(' ').next().and_then(|n| n.parse::<u64>().ok()))
            .sum()
    });
    Duration::from_nanos(threads.max(of_main.unwrap_or(0)))
}
