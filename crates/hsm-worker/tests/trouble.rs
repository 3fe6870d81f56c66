//! What goes wrong around a worker, and that it stays upright.
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

mod common;

use common::{Bench, ServerLog};
use countersign_core::{HashAlgorithm, KeyAlgorithm, KeyId, SignatureScheme, TenantId};
use countersign_hsm_protocol::{Reply, RequestBody, TokenState, WorkerError, frame};
use countersign_hsm_worker::pin;
use countersign_hsm_worker::state_dir::StateDir;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

const SCHEME: SignatureScheme = SignatureScheme::Ecdsa(HashAlgorithm::Sha256);

#[test]
fn a_clean_stop_keeps_the_log_and_a_kill_keeps_used_leaves_used() {
    let bench = Bench::new();
    let (worker, mut client, tenant) = bench.with_token("w");
    let key = KeyId::new();
    client.generate(key, KeyAlgorithm::EcP256).unwrap();
    let mut log = ServerLog::new(tenant, key);
    log.sign(&mut client, SCHEME, 1).unwrap();
    log.sign(&mut client, SCHEME, 2).unwrap();
    worker.stop();

    let worker = bench.start("w");
    let mut client = worker.client();
    assert_eq!(
        client.hello.token,
        TokenState::Ready {
            tenant: Some(tenant)
        }
    );
    assert_eq!(client.log_size(key), Ok(2));
    // Goes on without a resync.
    let (leaf, used) = log.authorise(SCHEME, 3);
    let advance = log.append(&[leaf]);
    client.call(advance).unwrap();
    client.sign(used.clone()).unwrap();
    worker.kill();

    let worker = bench.start("w");
    let mut client = worker.client();
    let size = client.log_size(key).unwrap();
    assert!(size <= 3);
    let (leaf, fresh) = log.authorise(SCHEME, 4);
    let _ = log.append(&[leaf]);
    client.call(log.resync(size)).unwrap();
    assert_eq!(client.sign(used), Err(WorkerError::LeafAlreadyUsed));
    client.sign(fresh).unwrap();
    // The right edge is written within about a second, without a stop.
    std::thread::sleep(Duration::from_millis(1600));
    worker.kill();
    let worker = bench.start("w");
    assert_eq!(worker.client().log_size(key), Ok(4));
}

#[test]
fn a_restored_old_database_is_refused() {
    let bench = Bench::new();
    let (_worker, mut client, tenant) = bench.with_token("w");
    let key = KeyId::new();
    client.generate(key, KeyAlgorithm::EcP256).unwrap();
    let mut log = ServerLog::new(tenant, key);
    let mut restored = ServerLog::new(tenant, key);
    log.sign(&mut client, SCHEME, 1).unwrap();
    log.sign(&mut client, SCHEME, 2).unwrap();
    assert_eq!(
        restored.sign(&mut client, SCHEME, 3),
        Err(WorkerError::StaleCheckpoint {
            seen: 2,
            offered: 1
        })
    );
    // Even when it has grown past what the worker has seen.
    let (leaf, _) = restored.authorise(SCHEME, 4);
    let _ = restored.append(&[leaf.clone(), leaf]);
    assert_eq!(
        client.call(restored.resync(2)),
        Err(WorkerError::CheckpointForked)
    );
}

#[test]
fn lost_log_state_is_refused_while_the_key_exists() {
    for file in ["json", "mark"] {
        let bench = Bench::new();
        let (worker, mut client, tenant) = bench.with_token("w");
        let key = KeyId::new();
        client.generate(key, KeyAlgorithm::EcP256).unwrap();
        let state = worker.state.clone();
        worker.stop();
        std::fs::remove_file(state.join(format!("logs/{key}.{file}"))).unwrap();
        let worker = bench.start("w");
        let mut client = worker.client();
        assert_eq!(client.log_size(key), Err(WorkerError::LogStateLost));
        let mut log = ServerLog::new(tenant, key);
        assert_eq!(
            log.sign(&mut client, SCHEME, 1),
            Err(WorkerError::LogStateLost)
        );
    }
}

#[test]
fn a_wrong_pin_is_tried_once_and_latched_across_restarts() {
    let bench = Bench::new();
    let (worker, _client, tenant) = bench.with_token("w");
    let state = worker.state.clone();
    worker.stop();
    seal_another_pin(&bench, &state, tenant);
    for _ in 0..3 {
        let worker = bench.start("w");
        let mut client = worker.client();
        assert_eq!(
            client.hello.token,
            TokenState::Latched {
                reason: "CKR_PIN_INCORRECT".into()
            }
        );
        assert_eq!(
            client.call(RequestBody::Inventory {
                tenant: client.tenant
            }),
            Err(WorkerError::Latched("CKR_PIN_INCORRECT".into()))
        );
        assert_eq!(
            client.init(tenant),
            Err(WorkerError::Latched("CKR_PIN_INCORRECT".into()))
        );
        worker.stop();
    }
    // One attempt only: the latch is written once.
    assert_eq!(bench.log("w").matches("PIN latched").count(), 1);
    // An operator acts: removes the latch; the PIN is still wrong, so it latches once more.
    std::fs::remove_file(state.join("pin-latched")).unwrap();
    bench.start("w").stop();
    assert_eq!(bench.log("w").matches("PIN latched").count(), 2);
}

/// Seals another PIN in place of the right one, as a mixed-up backup would.
fn seal_another_pin(bench: &Bench, state: &std::path::Path, tenant: TenantId) {
    let dir = StateDir::open(state, state, Duration::ZERO).unwrap();
    let wrong = pin::random_pin().unwrap();
    pin::seal(&dir, &bench.key_file(), tenant, &wrong).unwrap();
}

#[test]
fn a_tampered_binding_is_refused() {
    let bench = Bench::new();
    let (worker, mut client, tenant) = bench.with_token("w");
    let (mine, other) = (KeyId::new(), KeyId::new());
    client.generate(mine, KeyAlgorithm::EcP256).unwrap();
    client.generate(other, KeyAlgorithm::EcP256).unwrap();
    let path = |k: KeyId| worker.state.join(format!("bindings/{k}.json"));
    let read = |k: KeyId| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(path(k)).unwrap()).unwrap()
    };
    let original = read(mine);
    let write = |v: &serde_json::Value| std::fs::write(path(mine), v.to_string()).unwrap();
    let mut log = ServerLog::new(tenant, mine);
    let mut try_it = |what: &str| {
        let seed = log.edge.size() as u8;
        let result = log.sign(&mut client, SCHEME, seed);
        assert!(
            matches!(result, Err(WorkerError::BindingBroken(_))),
            "{what}: {result:?}"
        );
        client.call(RequestBody::Ping).unwrap();
    };
    let mut v = original.clone();
    v["spki"] = read(other)["spki"].clone();
    write(&v);
    try_it("another key's SPKI");
    v["mac"] = read(other)["mac"].clone();
    write(&v);
    try_it("another key's SPKI and MAC");
    let mut v = original.clone();
    v["mac"] = serde_json::Value::Null;
    write(&v);
    try_it("no MAC");
    let mut v = original.clone();
    v["tenant"] = TenantId::new().to_string().into();
    write(&v);
    worker_restart_refuses(&bench, worker, mine);
}

fn worker_restart_refuses(bench: &Bench, worker: common::Worker, key: KeyId) {
    worker.stop();
    let worker = bench.start("w");
    assert!(matches!(
        worker.client().log_size(key),
        Err(WorkerError::BindingBroken(_))
    ));
}

#[test]
fn changed_pins_are_refused() {
    let bench = Bench::new();
    let (worker, _client, _) = bench.with_token("w");
    let path = worker.state.join("token.json");
    worker.stop();
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace(common::PREFIX, "evil.example/log")).unwrap();
    let worker = bench.start("w");
    assert!(matches!(
        worker.client().hello.token,
        TokenState::Failed {
            error: WorkerError::StateBroken(_)
        }
    ));
    worker.stop();
    // Gone altogether, with a key bound: no new token is made in its place.
    std::fs::write(&path, text).unwrap();
    let worker = bench.start("w");
    let key = KeyId::new();
    worker.client().generate(key, KeyAlgorithm::EcP256).unwrap();
    worker.stop();
    std::fs::remove_file(&path).unwrap();
    let worker = bench.start("w");
    assert!(matches!(
        worker.client().init(TenantId::new()),
        Err(WorkerError::StateBroken(_))
    ));
}

#[test]
fn orphans_and_lost_keys_are_reported() {
    let bench = Bench::new();
    let (worker, mut client, _) = bench.with_token("w");
    let (kept, orphan, lost) = (KeyId::new(), KeyId::new(), KeyId::new());
    for key in [kept, orphan, lost] {
        client.generate(key, KeyAlgorithm::EcP256).unwrap();
    }
    let state = worker.state.clone();
    worker.stop();
    std::fs::remove_file(state.join(format!("bindings/{orphan}.json"))).unwrap();
    // The lost one: another binding moved under a name the token never saw.
    let gone = KeyId::new();
    let text = std::fs::read_to_string(state.join(format!("bindings/{lost}.json"))).unwrap();
    std::fs::write(
        state.join(format!("bindings/{gone}.json")),
        text.replace(&lost.to_string(), &gone.to_string()),
    )
    .unwrap();
    let worker = bench.start("w");
    let mut client = worker.client();
    let Reply::Inventory(found) = client
        .call(RequestBody::Inventory {
            tenant: client.tenant,
        })
        .unwrap()
    else {
        panic!("no inventory");
    };
    assert_eq!(found.orphans, [hex::encode(orphan.as_bytes())]);
    assert_eq!(found.lost, [gone]);
    assert_eq!(found.keys, [kept, lost]);
    assert!(bench.log("w").contains("orphan: "));
    assert!(bench.log("w").contains("lost: "));
    assert!(matches!(
        client.generate(orphan, KeyAlgorithm::EcP256),
        Err(WorkerError::KeyIdTaken(_))
    ));
}

#[test]
fn hostile_frames_close_the_connection_and_nothing_else() {
    let bench = Bench::new();
    let (mut worker, mut client, _) = bench.with_token("w");
    let hello = frame::encode(&countersign_hsm_protocol::ClientHello { version: 1 }).unwrap();
    let mut cases: Vec<Vec<u8>> = vec![
        vec![0xff; 64],
        u32::MAX.to_be_bytes().to_vec(),
        (frame::MAX_FRAME as u32 + 1).to_be_bytes().to_vec(),
        [hello.clone(), vec![0xff; 16]].concat(),
        [
            hello.clone(),
            vec![0, 0, 0, 5, 0xff, 0xff, 0xff, 0xff, 0xff],
        ]
        .concat(),
        [hello.clone(), vec![0, 0, 0, 0]].concat(),
        frame::encode(&countersign_hsm_protocol::ClientHello { version: 9 }).unwrap(),
    ];
    // A cut frame, and a megabyte of noise.
    cases.push([hello.clone(), vec![0, 0, 1, 0, 1]].concat());
    cases.push(
        [
            hello,
            (0..1_000_000_u32).flat_map(|n| n.to_be_bytes()).collect(),
        ]
        .concat(),
    );
    for (n, bytes) in cases.iter().enumerate() {
        let mut stream = UnixStream::connect(worker.socket()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut rest = Vec::new();
        // Closed by the worker: the end, or a reset, but no waiting.
        if let Err(e) = stream.read_to_end(&mut rest) {
            assert_ne!(e.kind(), std::io::ErrorKind::WouldBlock, "case {n}");
        }
    }
    assert!(worker.running());
    assert_eq!(client.call(RequestBody::Ping), Ok(Reply::Pong));
    assert!(client.generate(KeyId::new(), KeyAlgorithm::EcP256).is_ok());
}

#[test]
fn requests_out_of_bounds_name_the_field() {
    let bench = Bench::new();
    let worker = bench.start("w");
    let mut client = worker.client();
    assert_eq!(
        client.call(RequestBody::Inventory {
            tenant: client.tenant
        }),
        Err(WorkerError::TokenAbsent)
    );
    let mut pins = common::pins();
    pins.log_public_keys.clear();
    let result = client.call(RequestBody::InitToken {
        tenant: TenantId::new(),
        label: "x".into(),
        pins,
    });
    assert!(
        matches!(&result, Err(WorkerError::BadRequest { field, .. }) if field == "log_public_keys")
    );
    // Bad input spoils nothing.
    client.init(TenantId::new()).unwrap();
    let key = KeyId::new();
    client.generate(key, KeyAlgorithm::EcP256).unwrap();
    let result = client.call(RequestBody::Advance {
        tenant: client.tenant,
        uses: vec![],
        key,
        checkpoint: String::new(),
        from_size: 0,
        leaf_hashes: vec![[0; 32]; frame::MAX_LEAF_HASHES + 1],
    });
    assert!(
        matches!(&result, Err(WorkerError::BadRequest { field, .. }) if field == "leaf_hashes")
    );
}

#[test]
fn a_half_made_token_is_moved_aside() {
    let bench = Bench::new();
    let (worker, _client, _) = bench.with_token("w");
    let state = worker.state.clone();
    worker.stop();
    // As after a kill between C_InitToken and the end of InitToken.
    std::fs::remove_file(state.join("token.json")).unwrap();
    let worker = bench.start("w");
    let mut client = worker.client();
    assert_eq!(client.hello.token, TokenState::Absent);
    client.init(TenantId::new()).unwrap();
    assert!(state.join("tokens.abandoned-0").exists());
}

#[test]
fn the_deadline_is_kept_before_the_work_begins() {
    let bench = Bench::new();
    let (_worker, mut client, _) = bench.with_token("w");
    let request = countersign_hsm_protocol::Request {
        id: 1,
        deadline_ms: 0,
        // The token's own tenant: of a stranger's the answer needs no work.
        body: RequestBody::Inventory {
            tenant: client.tenant,
        },
    };
    client
        .stream
        .write_all(&frame::encode(&request).unwrap())
        .unwrap();
    assert_eq!(client.receive().unwrap().result, Err(WorkerError::Expired));
}

#[test]
fn a_worker_ends_with_its_parent() {
    let bench = Bench::new();
    let config = bench.config(common::MODULE, &common::profile());
    let mut child = Command::new(env!("CARGO_BIN_EXE_countersign-hsm-worker"))
        .args(["serve", "--exit-with-parent", "--state"])
        .arg(bench.state("w"))
        .arg("--config")
        .arg(config)
        .stdin(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    while !bench.state("w").join("worker.sock").exists() {
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_busy_worker_says_so_and_the_leaf_stays_good() {
    let bench = Bench::new();
    let config = bench.config(common::MODULE, &common::profile());
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(
        &config,
        text.replace("threads = 2", "threads = 1\nqueue = 1"),
    )
    .unwrap();
    let worker = bench.start_with("w", &config, &[]);
    let mut client = worker.client();
    let tenant = TenantId::new();
    client.init(tenant).unwrap();
    let key = KeyId::new();
    client.generate(key, KeyAlgorithm::EcP256).unwrap();
    let mut log = ServerLog::new(tenant, key);
    // One at work, at most one waiting: of four slow ones and a signature, somebody is refused. Who
    // it is depends on how fast primes are found, so the round is repeated until it is the signature.
    for _ in 0..20 {
        let (leaf, request) = log.authorise(SCHEME, 1);
        let advance = log.append(&[leaf]);
        client.call(advance).unwrap();
        for _ in 0..4 {
            client.send(RequestBody::GenerateKey {
                tenant,
                key: KeyId::new(),
                algorithm: KeyAlgorithm::Rsa4096,
            });
        }
        let sign = client.send(RequestBody::Sign(request.clone()));
        let mut results = std::collections::BTreeMap::new();
        for _ in 0..5 {
            let response = client.receive().unwrap();
            results.insert(response.id, response.result);
        }
        assert!(results.values().any(Result::is_ok));
        match &results[&sign] {
            Err(WorkerError::Busy) => {
                assert!(client.sign(request).is_ok(), "the leaf stays good");
                return;
            }
            other => assert!(other.is_ok(), "{other:?}"),
        }
    }
    panic!("in twenty rounds the signature was never the one refused");
}
