//! What a worker can still do once it is confined, tried from inside; and who may speak to it.
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

mod common;

use common::{Bench, MODULE, OperatorsHsm, ServerLog, pins, profile};
use countersign_core::ports::hsm::{Hsm, HsmError, LogAdvance, SandboxMeasure, SignOrder};
use countersign_core::{HashAlgorithm, KeyAlgorithm, KeyId, SignatureScheme, TenantId};
use countersign_hsm::{Connect, ExistingToken, PoolConfig, WorkerPool};
use countersign_hsm_protocol::RequestBody;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const SCHEME: SignatureScheme = SignatureScheme::Ecdsa(HashAlgorithm::Sha256);

/// Runs `try-sandbox`: the measures, and whether each attempt was stopped.
fn try_sandbox(
    bench: &Bench,
    config: &Path,
    file: &Path,
) -> (Vec<SandboxMeasure>, BTreeMap<String, (bool, String)>) {
    let out = Command::new(env!("CARGO_BIN_EXE_countersign-hsm-worker"))
        .args(["try-sandbox", "--state"])
        .arg(bench.state("tried"))
        .arg("--config")
        .arg(config)
        .arg("--file")
        .arg(file)
        .output()
        .unwrap();
    assert!(out.status.success(), "{out:?}");
    let mut said: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let measures = serde_json::from_value(said["measures"].take()).unwrap();
    let attempts = said["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| {
            let text = |name: &str| a[name].as_str().unwrap().to_owned();
            let stopped = a["stopped"].as_bool().unwrap();
            (text("attempt"), (stopped, text("detail")))
        })
        .collect();
    (measures, attempts)
}

fn with_sandbox(config: &Path, mode: &str) {
    let text = std::fs::read_to_string(config).unwrap();
    std::fs::write(config, format!("sandbox = '{mode}'\n{text}")).unwrap();
}

fn enforced(measures: &[SandboxMeasure], name: &str) -> bool {
    measures.iter().any(|m| m.measure == name && m.enforced)
}

#[test]
fn from_inside_nothing_else_is_reached() {
    let bench = Bench::new();
    let config = bench.config(MODULE, &profile());
    // As a seal key or a database of the same user would lie there.
    let secret = bench.state("somebody-elses.key");
    std::fs::write(&secret, "secret").unwrap();

    // Without the sandbox all of it succeeds: so the test below can fail.
    with_sandbox(&config, "off");
    let (measures, attempts) = try_sandbox(&bench, &config, &secret);
    assert!(enforced(&measures, "no-core-dump"));
    assert!(!enforced(&measures, "files"));
    for (name, (stopped, detail)) in &attempts {
        assert!(!stopped, "{name}: {detail}");
    }
    let tried = attempts.len();

    let config = bench.config(MODULE, &profile());
    let (measures, attempts) = try_sandbox(&bench, &config, &secret);
    assert_eq!(attempts.len(), tried);
    let by_landlock = enforced(&measures, "files");
    if !by_landlock {
        eprintln!(
            "SKIPPED in part: this kernel has no Landlock, so files are not confined: {measures:?}"
        );
    }
    for (name, (stopped, detail)) in &attempts {
        let is_file = name.starts_with("read ") || name.starts_with("write ");
        assert!(*stopped || (is_file && !by_landlock), "{name}: {detail}");
    }
    for name in ["no-new-privileges", "network", "system-calls"] {
        assert!(enforced(&measures, name), "{name}: {measures:?}");
    }
    let (_, attempts) = try_sandbox(&bench, &config, Path::new("/etc/shadow"));
    assert!(attempts["read /etc/shadow"].0 || !by_landlock);

    // What is only reported stops nothing, and says so.
    with_sandbox(&config, "report");
    let (measures, attempts) = try_sandbox(&bench, &config, &secret);
    assert!(!attempts["trace"].0, "{attempts:?}");
    assert!(!enforced(&measures, "system-calls"));
}

#[test]
fn what_is_not_confined_is_said_in_the_hello() {
    let bench = Bench::new();
    let worker = bench.start("w");
    let names: Vec<_> = worker
        .client()
        .hello
        .sandbox
        .iter()
        .map(|m| m.measure.clone())
        .collect();
    assert_eq!(
        names,
        [
            "no-core-dump",
            "no-new-privileges",
            "files",
            "network",
            "system-calls"
        ]
    );
    worker.stop();

    // A profile that does not say what its module needs.
    let text = std::fs::read_to_string(profile()).unwrap();
    let (bare, _) = text.split_once("[sandbox]").unwrap();
    let path = bench.state("bare.toml");
    std::fs::write(&path, bare).unwrap();
    let worker = bench.start_with("w", &bench.config(MODULE, &path), &[]);
    let measures = worker.client().hello.sandbox;
    assert!(enforced(&measures, "no-new-privileges"));
    let files = measures.iter().find(|m| m.measure == "files").unwrap();
    assert!(!files.enforced);
    assert!(files.detail.contains("softhsm2"), "{files:?}");
    assert!(bench.log("w").contains("sandbox: not enforced"));
}

/// A worker that others started, with its socket where the server looks for it.
struct Unit(std::process::Child);

impl Unit {
    fn start(bench: &Bench, config: &Path, sockets: &Path, uid: u32) -> Self {
        let socket = sockets.join("token-codesign.sock");
        let child = Command::new(env!("CARGO_BIN_EXE_countersign-hsm-worker"))
            .args(["serve", "--state"])
            .arg(bench.state("unit"))
            .arg("--config")
            .arg(config)
            .arg("--socket")
            .arg(&socket)
            .args(["--client-user", &uid.to_string()])
            .stdin(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn connecting(bench: &Bench, sockets: &Path, worker_uid: u32) -> PoolConfig {
    let mut config = PoolConfig::new(
        "/nonexistent/worker".into(),
        MODULE.into(),
        "softhsm2".into(),
        bench.state("hsm"),
        bench.key_file(),
    );
    config.connect = Some(Connect {
        socket_dir: sockets.to_path_buf(),
        worker_uid,
    });
    config.existing = vec![ExistingToken {
        name: "codesign".into(),
        module: MODULE.into(),
        profile: "softhsm2".into(),
        label: "codesign".into(),
        serial: None,
        slot: None,
        pin_file: PathBuf::new(),
        tenants: vec!["acme".parse().unwrap()],
        files: vec![],
        environment: BTreeMap::new(),
        threads: None,
    }];
    config.call_deadline = Duration::from_secs(5);
    config
}

async fn token(pool: &WorkerPool, tenant: TenantId) -> Result<(), HsmError> {
    let began = Instant::now();
    loop {
        let made = pool
            .create_token(tenant, &"acme".parse().unwrap(), &pins())
            .await;
        match made {
            Err(HsmError::Unavailable(_)) if began.elapsed() < Duration::from_secs(30) => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            other => return other.map(|_| ()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_others_started_is_only_connected_to() {
    let bench = Bench::new();
    let hsm = OperatorsHsm::new(bench.state("operator"));
    hsm.token("codesign");
    let config = hsm.config(&bench, "codesign", "");
    let sockets = bench.state("sockets");
    std::fs::create_dir(&sockets).unwrap();
    let uid = std::fs::metadata(&sockets).unwrap().uid();

    let unit = Unit::start(&bench, &config, &sockets, uid);
    let pool = WorkerPool::start(connecting(&bench, &sockets, uid)).unwrap();
    let tenant = TenantId::new();
    token(&pool, tenant).await.unwrap();
    let key = KeyId::new();
    pool.generate_key(tenant, key, KeyAlgorithm::EcP256)
        .await
        .unwrap();
    let mut log = ServerLog::new(tenant, key);
    let sign = async |log: &mut ServerLog, seed| {
        let (leaf, request) = log.authorise(SCHEME, seed);
        let RequestBody::Advance {
            checkpoint,
            from_size,
            leaf_hashes,
            uses,
            ..
        } = log.append(&[leaf])
        else {
            panic!()
        };
        pool.advance(
            tenant,
            LogAdvance {
                key,
                checkpoint: checkpoint.into(),
                from_size,
                leaf_hashes,
                uses,
            },
        );
        let order = SignOrder {
            key,
            index: request.index,
            leaf: request.leaf,
            scheme: request.scheme,
            digest: request.digest,
            tbs_salt: request.tbs_salt,
            trace: None,
        };
        pool.sign(tenant, order).await
    };
    sign(&mut log, 1).await.unwrap();
    let health = pool.health();
    assert_eq!(health[0].token, "codesign");
    assert_eq!(health[0].state, "up");
    assert!(enforced(&health[0].sandbox, "no-core-dump"));

    // Its service manager starts it again; the pool finds it by itself.
    drop(unit);
    assert!(pool.inventory(tenant).await.is_err());
    let _unit = Unit::start(&bench, &config, &sockets, uid);
    let began = Instant::now();
    let found = loop {
        match pool.inventory(tenant).await {
            Ok(found) => break found,
            Err(e) => assert!(began.elapsed() < Duration::from_secs(40), "{e}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(found.keys, [key]);
    pool.stop().await;

    // A socket that another user serves is not spoken to.
    let pool = WorkerPool::start(connecting(&bench, &sockets, uid + 1)).unwrap();
    let error = pool
        .create_token(tenant, &"acme".parse().unwrap(), &pins())
        .await
        .unwrap_err();
    assert!(
        matches!(&error, HsmError::Unavailable(why) if why.contains("serves it")),
        "{error:?}"
    );
}

#[test]
fn a_stranger_at_the_socket_is_not_heard() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    let bench = Bench::new();
    if std::fs::metadata(bench.dir.path()).unwrap().uid() != 0 {
        eprintln!("SKIPPED: only root can connect as another user");
        return;
    }
    // Folders that anybody may pass, a socket that anybody may open: the kernel's word on who connects
    // is what counts.
    std::fs::set_permissions(bench.dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let sockets = bench.state("sockets");
    std::fs::create_dir(&sockets).unwrap();
    std::fs::set_permissions(&sockets, std::fs::Permissions::from_mode(0o755)).unwrap();
    let config = bench.config(MODULE, &profile());
    let (known, stranger) = (65_533, 65_534);
    let _unit = Unit::start(&bench, &config, &sockets, known);
    let socket = sockets.join("token-codesign.sock");
    let began = Instant::now();
    while !socket.exists() {
        assert!(began.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(10));
    }
    // A hello, then the length of the answer: nothing for a stranger.
    let ask = "import socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.settimeout(20)\n\
        s.connect(sys.argv[1])\n\
        try: s.sendall(bytes([0,0,0,1,2])); print(len(s.recv(4)))\n\
        except OSError: print(0)\n";
    for (uid, heard) in [(known, "4"), (0, "4"), (stranger, "0")] {
        let out = Command::new("python3")
            .args(["-c", ask])
            .arg(&socket)
            .current_dir("/")
            .uid(uid)
            .gid(uid)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&out.stdout).trim().to_owned();
        assert_eq!(said, heard, "user {uid}: {out:?}");
    }
}
