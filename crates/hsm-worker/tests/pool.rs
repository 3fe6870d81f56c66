//! The server's side with real workers: started, watched, killed, started again.
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

mod common;

use common::{Bench, Client, MODULE, ServerLog, openssl_verifies, pins, profile};
use countersign_core::ports::evidence::DeviceChallenge;
use countersign_core::ports::hsm::{Hsm, HsmError, LogAdvance, LogResync, SignOrder};
use countersign_core::{HashAlgorithm, KeyAlgorithm, KeyId, SignatureScheme, TenantId, TenantName};
use countersign_hsm::{PoolConfig, PoolError, WorkerPool};
use countersign_hsm_protocol::RequestBody;
use countersign_hsm_protocol::message::SignRequest;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

const SCHEME: SignatureScheme = SignatureScheme::Ecdsa(HashAlgorithm::Sha256);

fn config(bench: &Bench) -> PoolConfig {
    let mut config = PoolConfig::new(
        PathBuf::from(env!("CARGO_BIN_EXE_countersign-hsm-worker")),
        PathBuf::from(MODULE),
        profile(),
        bench.state("hsm"),
        bench.key_file(),
    );
    config.threads = Some(2);
    config.call_deadline = Duration::from_secs(2);
    config
}

fn name() -> TenantName {
    "acme".parse().unwrap()
}

struct Setup {
    bench: Bench,
    pool: Arc<WorkerPool>,
    tenant: TenantId,
    spki: Vec<u8>,
    log: ServerLog,
}

async fn setup() -> Setup {
    let bench = Bench::new();
    let pool = Arc::new(WorkerPool::start(config(&bench)).unwrap());
    let tenant = TenantId::new();
    let facts = pool.create_token(tenant, &name(), &pins()).await.unwrap();
    assert!(facts.software);
    let key = KeyId::new();
    let made = pool
        .generate_key(tenant, key, KeyAlgorithm::EcP256)
        .await
        .unwrap();
    Setup {
        bench,
        pool,
        tenant,
        spki: made.spki,
        log: ServerLog::new(tenant, key),
    }
}

impl Setup {
    fn socket(&self) -> PathBuf {
        self.bench
            .state("hsm")
            .join(self.tenant.to_string())
            .join("worker.sock")
    }

    fn worker_pid(&self) -> u32 {
        Client::connect(&self.socket()).hello.pid
    }

    /// Authorises and hands the leaf over; the order to sign.
    fn authorise(&mut self, seed: u8) -> SignOrder {
        let (leaf, request) = self.log.authorise(SCHEME, seed);
        let RequestBody::Advance {
            key,
            checkpoint,
            from_size,
            leaf_hashes,
            uses,
            ..
        } = self.log.append(&[leaf])
        else {
            panic!()
        };
        self.pool.advance(
            self.tenant,
            LogAdvance {
                key,
                checkpoint: checkpoint.into(),
                from_size,
                leaf_hashes,
                uses,
            },
        );
        order(request)
    }

    async fn sign(&mut self, seed: u8) -> Result<Vec<u8>, HsmError> {
        let order = self.authorise(seed);
        let signed = self.pool.sign(self.tenant, order).await?;
        assert!(signed.spent.signing > std::time::Duration::ZERO);
        Ok(signed.signature)
    }

    async fn resync(&self) -> Result<(), HsmError> {
        let size = self.pool.open_log(self.tenant, self.log.key).await?;
        let RequestBody::Resync {
            key,
            checkpoint,
            consistency_proof,
            base_size,
            base_frontier,
            leaf_hashes,
            uses,
            ..
        } = self.log.resync(size)
        else {
            panic!()
        };
        self.pool
            .resync(
                self.tenant,
                LogResync {
                    key,
                    checkpoint: checkpoint.into(),
                    consistency_proof,
                    base_size,
                    base_frontier,
                    leaf_hashes,
                    uses,
                },
            )
            .await
    }

    /// As the service does: on `LogBehind` a resync, then the same order again.
    async fn sign_with_resync(&mut self, seed: u8) -> Result<Vec<u8>, HsmError> {
        let order = self.authorise(seed);
        match self.pool.sign(self.tenant, order.clone()).await {
            Err(HsmError::LogBehind { .. }) => {
                self.resync().await?;
                let signed = self.pool.sign(self.tenant, order).await?;
                Ok(signed.signature)
            }
            other => other.map(|signed| signed.signature),
        }
    }

    fn state(&self) -> String {
        self.pool.health()[0].state.clone()
    }
}

fn order(r: SignRequest) -> SignOrder {
    SignOrder {
        key: r.key,
        index: r.index,
        leaf: r.leaf,
        scheme: r.scheme,
        digest: r.digest,
        tbs_salt: r.tbs_salt,
        trace: None,
    }
}

fn signal(name: &str, pid: u32) {
    assert!(
        Command::new("kill")
            .args([name, &pid.to_string()])
            .status()
            .unwrap()
            .success()
    );
}

/// SIGSTOP, and waits until every thread has stopped: the signal takes effect some time after `kill`.
fn freeze(pid: u32) {
    signal("-STOP", pid);
    let began = Instant::now();
    let stopped = |stat: String| {
        let after_name = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .trim_start()
            .to_owned();
        after_name.starts_with('T')
    };
    loop {
        let all = std::fs::read_dir(format!("/proc/{pid}/task"))
            .unwrap()
            .filter_map(|t| std::fs::read_to_string(t.unwrap().path().join("stat")).ok())
            .all(stopped);
        if all {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(5));
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_callers_at_once() {
    let mut s = setup().await;
    let mut waiting = Vec::new();
    for seed in 0..200 {
        let order = s.authorise(seed);
        let (pool, tenant) = (Arc::clone(&s.pool), s.tenant);
        // Polled in order here: the leaves and the orders go out one after the other.
        waiting.push((
            seed,
            tokio::spawn(async move { pool.sign(tenant, order).await }),
        ));
    }
    for (seed, task) in waiting {
        let signature = task.await.unwrap().unwrap().signature;
        if seed % 50 == 0 {
            assert!(openssl_verifies(
                HashAlgorithm::Sha256,
                &s.spki,
                seed,
                &signature
            ));
        }
    }
    assert_eq!(s.state(), "up");
    s.pool.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_reach_the_service_by_name() {
    let mut s = setup().await;
    let mut order = s.authorise(1);
    order.tbs_salt = [0; 32];
    assert!(matches!(
        s.pool.sign(s.tenant, order).await,
        Err(HsmError::Refused { code, .. }) if code == "leaf-wrong-digest"
    ));
    assert_eq!(
        s.pool.open_log(s.tenant, KeyId::new()).await,
        Err(HsmError::NoSuchKey)
    );
    // A tenant without a token.
    assert_eq!(
        s.pool.open_log(TenantId::new(), s.log.key).await,
        Err(HsmError::NoSuchKey)
    );
    // Again for the same tenant: the same facts.
    let facts = s
        .pool
        .create_token(s.tenant, &name(), &pins())
        .await
        .unwrap();
    assert_eq!(facts.profile, "softhsm2");
    // An older database than the worker's memory.
    s.sign(2).await.unwrap();
    let mut restored = ServerLog::new(s.tenant, s.log.key);
    let (leaf, _) = restored.authorise(SCHEME, 9);
    let _ = restored.append(&[leaf]);
    std::mem::swap(&mut s.log, &mut restored);
    let RequestBody::Resync {
        checkpoint,
        leaf_hashes,
        ..
    } = s.log.resync(1)
    else {
        panic!()
    };
    assert_eq!(
        s.pool
            .resync(
                s.tenant,
                LogResync {
                    key: s.log.key,
                    checkpoint: checkpoint.into(),
                    consistency_proof: vec![],
                    base_size: 0,
                    base_frontier: vec![],
                    uses: vec![0],
                    leaf_hashes,
                }
            )
            .await,
        Err(HsmError::LogRewound {
            worker: 2,
            offered: 1
        })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_worker_is_killed_and_the_next_call_works() {
    let mut s = setup().await;
    s.sign(1).await.unwrap();
    let pid = s.worker_pid();
    freeze(pid);
    let began = Instant::now();
    let error = s.sign(2).await.unwrap_err();
    assert_eq!(error, HsmError::Deadline);
    assert!(error.retryable() && error.outcome_unknown());
    assert!(began.elapsed() < Duration::from_secs(5));
    let signature = s.sign_with_resync(3).await.unwrap();
    assert!(openssl_verifies(
        HashAlgorithm::Sha256,
        &s.spki,
        3,
        &signature
    ));
    assert_ne!(s.worker_pid(), pid);
    assert_eq!(s.state(), "up");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_in_mid_call_gives_a_retryable_error() {
    let mut s = setup().await;
    s.sign(1).await.unwrap();
    let pid = s.worker_pid();
    freeze(pid);
    let order = s.authorise(2);
    let used = order.clone();
    let (pool, tenant) = (Arc::clone(&s.pool), s.tenant);
    let call = tokio::spawn(async move { pool.sign(tenant, order).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    signal("-KILL", pid);
    let error = call.await.unwrap().unwrap_err();
    assert!(matches!(error, HsmError::Unavailable(_)), "{error:?}");
    assert!(error.retryable() && error.outcome_unknown());
    // A new authorisation signs; nothing was used twice.
    s.sign_with_resync(3).await.unwrap();
    let again = s.pool.sign(s.tenant, used).await;
    match again {
        // Never reached the worker before the kill: it may be used, once.
        Ok(_) => {}
        Err(HsmError::Refused { code, .. }) => assert_eq!(code, "leaf-already-used"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_stops_the_worker_twice_is_quarantined() {
    let mut s = setup().await;
    s.sign(1).await.unwrap();
    for _ in 0..2 {
        // As if this very digest made the module hang.
        freeze(s.worker_pid());
        assert_eq!(s.sign(66).await, Err(HsmError::Deadline));
        s.sign_with_resync(3).await.unwrap();
    }
    let error = s.sign(66).await.unwrap_err();
    assert_eq!(error, HsmError::Quarantined);
    assert!(!error.retryable());
    // Others go on.
    s.sign_with_resync(4).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_tenants_hang_is_not_anothers() {
    let mut s = setup().await;
    let other = TenantId::new();
    s.pool.create_token(other, &name(), &pins()).await.unwrap();
    let key = KeyId::new();
    s.pool
        .generate_key(other, key, KeyAlgorithm::EcP256)
        .await
        .unwrap();
    freeze(s.worker_pid());
    let order = s.authorise(1);
    let (pool, tenant) = (Arc::clone(&s.pool), s.tenant);
    let hanging = tokio::spawn(async move { pool.sign(tenant, order).await });
    let began = Instant::now();
    assert_eq!(s.pool.open_log(other, key).await, Ok(0));
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!(hanging.await.unwrap(), Err(HsmError::Deadline));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_pool_starts_again_where_it_was() {
    let mut s = setup().await;
    s.sign(1).await.unwrap();
    s.pool.stop().await;
    assert!(!s.socket().exists());
    assert!(matches!(
        s.pool.inventory(s.tenant).await,
        Err(HsmError::Unavailable(_))
    ));
    s.pool = Arc::new(WorkerPool::start(config(&s.bench)).unwrap());
    // Known tokens start without being asked, and the log goes on without a resync.
    s.sign(2).await.unwrap();
    let found = s.pool.inventory(s.tenant).await.unwrap();
    assert_eq!(found.keys, [s.log.key]);
    // A server that is killed takes its workers along.
    let pid = s.worker_pid();
    drop(s.pool);
    s.pool = Arc::new(WorkerPool::start(config(&s.bench)).unwrap());
    let began = Instant::now();
    while s.state() != "up" {
        assert!(began.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_ne!(s.worker_pid(), pid);
}

#[tokio::test(flavor = "multi_thread")]
async fn trouble_is_shown_with_its_reason() {
    let s = setup().await;
    s.pool.stop().await;
    let folder = s.bench.state("hsm").join(s.tenant.to_string());
    std::fs::write(folder.join("pin-latched"), "CKR_PIN_INCORRECT").unwrap();
    let pool = WorkerPool::start(config(&s.bench)).unwrap();
    let error = pool.inventory(s.tenant).await.unwrap_err();
    assert_eq!(error, HsmError::Latched("CKR_PIN_INCORRECT".into()));
    let health = &pool.health()[0];
    assert_eq!(health.state, "latched");
    assert_eq!(health.reason.as_deref(), Some("CKR_PIN_INCORRECT"));
    pool.stop().await;

    let mut without = config(&s.bench);
    without.module = "/nonexistent/libsofthsm2.so".into();
    std::fs::remove_file(folder.join("pin-latched")).unwrap();
    let pool = WorkerPool::start(without).unwrap();
    let Err(HsmError::ModuleMissing(text)) = pool.inventory(s.tenant).await else {
        panic!("no such error");
    };
    assert!(text.contains("apt-get install softhsm2"));
    assert_eq!(pool.health()[0].state, "down");
    pool.stop().await;

    // The operator's remedy works without more.
    let pool = WorkerPool::start(config(&s.bench)).unwrap();
    assert_eq!(pool.inventory(s.tenant).await.unwrap().keys, [s.log.key]);

    let mut no_worker = config(&s.bench);
    no_worker.worker_binary = "/nonexistent/worker".into();
    assert!(matches!(
        WorkerPool::start(no_worker),
        Err(PoolError::NoWorkerProgram(_))
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deep_folder_is_no_obstacle() {
    let bench = Bench::new();
    let mut deep = config(&bench);
    deep.state_root = bench.state(&"deep".repeat(40)).join("hsm");
    deep.token_root = deep.state_root.clone();
    std::fs::create_dir_all(deep.state_root.parent().unwrap()).unwrap();
    let pool = WorkerPool::start(deep).unwrap();
    pool.create_token(TenantId::new(), &name(), &pins())
        .await
        .unwrap();
    pool.stop().await;
}

#[tokio::test]
async fn a_device_that_says_nothing_of_itself_is_an_answer_of_its_own() {
    let s = setup().await;
    let none = HsmError::NoEvidence("profile softhsm2 has no evidence adapter".into());
    assert!(!none.retryable());
    assert_eq!(s.pool.identify_device(s.tenant).await, Err(none.clone()));
    let challenge = DeviceChallenge {
        id_object: vec![1],
        encrypted_secret: vec![1],
    };
    assert_eq!(
        s.pool.answer_challenge(s.tenant, challenge).await,
        Err(none.clone())
    );
    let nonce = vec![7; 32];
    assert_eq!(
        s.pool.certify_key(s.tenant, s.log.key, nonce.clone()).await,
        Err(none)
    );
    let stranger = TenantId::new();
    assert_eq!(
        s.pool.certify_key(stranger, s.log.key, nonce).await,
        Err(HsmError::NoSuchKey)
    );
    s.pool.stop().await;
}
