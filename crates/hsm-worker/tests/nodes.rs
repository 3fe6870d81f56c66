//! Workers of several nodes on one token: what they share, and what each keeps to itself.
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

mod common;

use common::{Bench, ServerLog, openssl_verifies, pins};
use countersign_core::{HashAlgorithm, KeyAlgorithm, KeyId, SignatureScheme, TenantId};
use countersign_hsm_protocol::{RequestBody, TokenState, WorkerError};

const SCHEME: SignatureScheme = SignatureScheme::Ecdsa(HashAlgorithm::Sha256);

#[test]
fn a_key_made_on_one_node_signs_on_the_other_without_a_restart() {
    let bench = Bench::new();
    let (a, b) = (bench.node("a"), bench.node("b"));
    let (mut at_a, mut at_b) = (a.client(), b.client());
    assert_eq!(at_b.hello.token, TokenState::Absent);
    let tenant = TenantId::new();
    let facts = at_a.init(tenant).unwrap();
    // The other node takes up the token that is there now.
    assert_eq!(at_b.init(tenant).unwrap(), facts);
    assert!(matches!(
        at_b.call(RequestBody::InitToken {
            tenant: TenantId::new(),
            label: "x".into(),
            pins: pins(),
        }),
        Err(WorkerError::TokenTaken(_))
    ));
    let key = KeyId::new();
    let (spki, _) = at_a.generate(key, KeyAlgorithm::EcP256).unwrap();
    // Asked for on both: the same key.
    assert_eq!(at_b.generate(key, KeyAlgorithm::EcP256).unwrap().0, spki);

    let mut log = ServerLog::new(tenant, key);
    let first = log.sign(&mut at_a, SCHEME, 1).unwrap();
    assert!(openssl_verifies(HashAlgorithm::Sha256, &spki, 1, &first));
    // It has a log of its own: it begins with an empty tree here, since the key was just made.
    assert_eq!(at_b.log_size(key), Ok(0));
    let (leaf, request) = log.authorise(SCHEME, 2);
    let _ = log.append(&[leaf]);
    let RequestBody::Resync {
        tenant,
        key,
        checkpoint,
        consistency_proof,
        base_size,
        base_frontier,
        leaf_hashes,
        ..
    } = log.resync(0)
    else {
        panic!()
    };
    at_b.call(RequestBody::Resync {
        tenant,
        key,
        checkpoint,
        consistency_proof,
        base_size,
        base_frontier,
        leaf_hashes,
        uses: vec![1],
    })
    .unwrap();
    let second = at_b.sign(request).unwrap();
    assert!(openssl_verifies(HashAlgorithm::Sha256, &spki, 2, &second));
    // Destroyed on one, it signs on none.
    at_a.call(RequestBody::DestroyKey { tenant, key }).unwrap();
    assert!(log.sign(&mut at_b, SCHEME, 3).is_err());
}

#[test]
fn what_the_other_node_uses_only_extends_the_tree_here() {
    let bench = Bench::new();
    let (a, b) = (bench.node("a"), bench.node("b"));
    let (mut at_a, mut at_b) = (a.client(), b.client());
    let tenant = TenantId::new();
    at_a.init(tenant).unwrap();
    at_b.init(tenant).unwrap();
    let key = KeyId::new();
    at_a.generate(key, KeyAlgorithm::EcP256).unwrap();
    let mut log = ServerLog::new(tenant, key);
    for seed in 0..20 {
        let (leaf, request) = log.authorise(SCHEME, seed);
        let mine = log.append(&[leaf]);
        let mut others = mine.clone();
        if let RequestBody::Advance { uses, .. } = &mut others {
            uses.clear();
        }
        let (user, other) = if seed % 2 == 0 {
            (&mut at_a, &mut at_b)
        } else {
            (&mut at_b, &mut at_a)
        };
        user.call(mine).unwrap();
        other.call(others).unwrap();
        // Used once by its own worker, and by no other.
        assert_eq!(
            other.sign(request.clone()),
            Err(WorkerError::LeafAlreadyUsed)
        );
        user.sign(request.clone()).unwrap();
        assert_eq!(user.sign(request), Err(WorkerError::LeafAlreadyUsed));
    }
    // Telling of it again, as one to use, does not help.
    let (leaf, request) = log.authorise(SCHEME, 99);
    let not_mine = log.elsewhere(leaf);
    at_a.call(not_mine).unwrap();
    let (leaf, _) = log.authorise(SCHEME, 100);
    let _ = log.append(&[leaf]);
    at_a.call(log.resync(21)).unwrap();
    assert_eq!(at_a.sign(request), Err(WorkerError::LeafAlreadyUsed));
}

#[test]
fn one_token_is_made_when_two_nodes_make_it_at_the_same_moment() {
    for _ in 0..3 {
        let bench = Bench::new();
        let (a, b) = (bench.node("a"), bench.node("b"));
        let tenant = TenantId::new();
        let (mut at_a, mut at_b) = (a.client(), b.client());
        let facts = std::thread::scope(|s| {
            let one = s.spawn(|| at_a.init(tenant));
            let other = s.spawn(|| at_b.init(tenant));
            [one.join().unwrap(), other.join().unwrap()]
        });
        assert_eq!(facts[0], facts[1]);
        assert!(
            facts[0].is_ok(),
            "{facts:?}\n{}\n{}",
            bench.log("a"),
            bench.log("b")
        );
        let key = KeyId::new();
        let made = at_b.generate(key, KeyAlgorithm::EcP256).unwrap();
        assert_eq!(at_a.generate(key, KeyAlgorithm::EcP256).unwrap(), made);
        assert_eq!(at_a.inventory().unwrap().keys, [key]);
        assert_eq!(at_a.inventory().unwrap().orphans, [""; 0]);
    }
}

#[test]
fn workers_that_start_at_once_on_one_token_all_find_it() {
    let bench = Bench::new();
    let a = bench.node("a");
    let tenant = TenantId::new();
    let mut at_a = a.client();
    at_a.init(tenant).unwrap();
    let key = KeyId::new();
    at_a.generate(key, KeyAlgorithm::EcP256).unwrap();
    a.stop();
    for round in 0..4 {
        std::thread::scope(|s| {
            for name in ["a", "b", "c"] {
                let bench = &bench;
                s.spawn(move || {
                    let worker = bench.node(name);
                    let mut client = worker.client();
                    assert_eq!(
                        client.hello.token,
                        TokenState::Ready {
                            tenant: Some(tenant)
                        },
                        "{name}, round {round}: {}",
                        bench.log(name)
                    );
                    assert_eq!(client.inventory().unwrap().keys, [key]);
                    worker.stop();
                });
            }
        });
    }
}

#[test]
fn a_node_that_joins_begins_with_what_another_has_seen() {
    let bench = Bench::new();
    let a = bench.node("a");
    let tenant = TenantId::new();
    let mut at_a = a.client();
    at_a.init(tenant).unwrap();
    let key = KeyId::new();
    at_a.generate(key, KeyAlgorithm::EcP256).unwrap();
    let mut log = ServerLog::new(tenant, key);
    let (leaf, unused) = log.authorise(SCHEME, 1);
    let advance = log.append(&[leaf]);
    at_a.call(advance).unwrap();
    log.sign(&mut at_a, SCHEME, 2).unwrap();
    // Longer than a write is away: the stop finds nothing to write, and still much to leave behind.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    a.stop();

    let b = bench.node("b");
    let mut at_b = b.client();
    assert_eq!(at_b.log_size(key), Ok(2));
    // A log that forks before that is refused, and what was open on the other node is not open here.
    let mut fork = ServerLog::new(tenant, key);
    for seed in 3..6 {
        let (leaf, _) = fork.authorise(SCHEME, seed);
        let _ = fork.append(&[leaf]);
    }
    assert_eq!(
        at_b.call(fork.resync(2)),
        Err(WorkerError::CheckpointForked)
    );
    let (leaf, fresh) = log.authorise(SCHEME, 7);
    let _ = log.append(&[leaf]);
    at_b.call(log.resync(2)).unwrap();
    assert_eq!(at_b.sign(unused), Err(WorkerError::LeafAlreadyUsed));
    at_b.sign(fresh).unwrap();

    // Having met the key, it never begins anew.
    let state = b.state.clone();
    b.stop();
    std::fs::remove_file(state.join(format!("logs/{key}.json"))).unwrap();
    let b = bench.node("b");
    assert_eq!(b.client().log_size(key), Err(WorkerError::LogStateLost));
    b.stop();

    // And without any node's memory nobody begins at all.
    std::fs::remove_file(bench.state("shared-token").join(format!("logs/{key}.json"))).unwrap();
    let c = bench.node("c");
    assert_eq!(c.client().log_size(key), Err(WorkerError::LogStateLost));
}

#[test]
fn one_node_becomes_two_without_losing_its_memory() {
    let bench = Bench::new();
    // Alone: one folder for all.
    let alone = bench.start("shared-token");
    let mut client = alone.client();
    let tenant = TenantId::new();
    client.init(tenant).unwrap();
    let key = KeyId::new();
    client.generate(key, KeyAlgorithm::EcP256).unwrap();
    let mut log = ServerLog::new(tenant, key);
    for seed in 0..3 {
        log.sign(&mut client, SCHEME, seed).unwrap();
    }
    alone.stop();
    let (a, b) = (bench.node("a"), bench.node("b"));
    for worker in [&a, &b] {
        assert_eq!(worker.client().log_size(key), Ok(3));
    }
    log.sign(&mut a.client(), SCHEME, 9).unwrap();
}

#[test]
fn a_wrong_pin_is_tried_once_by_all_nodes_together() {
    let bench = Bench::new();
    let hsm = common::OperatorsHsm::new(bench.state("operator"));
    hsm.token("codesign");
    hsm.pin_file("wrong-1234");
    let config = hsm.config(&bench, "codesign", "");
    let token = bench.state("shared-token");
    let args = ["--token", token.to_str().unwrap()];
    std::thread::scope(|s| {
        for name in ["a", "b", "c"] {
            let (bench, config) = (&bench, &config);
            s.spawn(move || {
                let worker = bench.start_args(name, config, &[], &args);
                assert_eq!(
                    worker.client().hello.token,
                    TokenState::Latched {
                        reason: "CKR_PIN_INCORRECT".into()
                    }
                );
            });
        }
    });
    let tried = ["a", "b", "c"]
        .iter()
        .filter(|n| bench.log(n).contains("PIN latched"))
        .count();
    assert_eq!(tried, 1);
}
