//! A real worker over its real socket, and the server's side of a key log.
#![allow(dead_code)]

use countersign_core::ports::hsm::{Inventory, LogPins, TokenFacts};
use countersign_core::{
    Digest, HashAlgorithm, KeyAlgorithm, KeyFacts, KeyId, SignatureScheme, TenantId,
};
use countersign_hsm_protocol::message::SignRequest;
use countersign_hsm_protocol::{
    ClientHello, Reply, Request, RequestBody, Response, TokenState, VERSION, WorkerError,
    WorkerHello, frame,
};
use countersign_signing_log::commitment::{LABEL_CALLER, LABEL_TBS, commit, digest_text};
use countersign_signing_log::leaf::{
    Asserted, Authorisation, ContentKind, Outcome, OutcomeResult, Purpose,
};
use countersign_signing_log::note::SigningKey;
use countersign_signing_log::{Checkpoint, Frontier, Hash, Leaf, Salt, merkle};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
pub const PREFIX: &str = "test.example/log";
pub const LOG_SEED: [u8; 32] = [42; 32];

pub fn profile() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../hsm-config/softhsm2/profile.toml")
}

pub fn pins() -> LogPins {
    let key = SigningKey::from_seed(&LOG_SEED, PREFIX).unwrap();
    LogPins {
        origin_prefix: PREFIX.into(),
        log_public_keys: vec![*key.verifier().public_key()],
    }
}

/// A SoftHSM folder that the operator already has, with a configuration of the operator's own.
pub struct OperatorsHsm {
    pub dir: PathBuf,
}

impl OperatorsHsm {
    pub const PIN: &'static str = "operators-pin-1234";

    pub fn new(dir: PathBuf) -> Self {
        std::fs::create_dir_all(dir.join("tokens")).unwrap();
        std::fs::write(
            dir.join("softhsm2.conf"),
            format!("directories.tokendir = {}/tokens\n", dir.display()),
        )
        .unwrap();
        let hsm = Self { dir };
        hsm.pin_file(Self::PIN);
        hsm
    }

    /// Makes a token with the vendor's tool; its serial number.
    pub fn token(&self, label: &str) {
        let out = Command::new("softhsm2-util")
            .args(["--init-token", "--free", "--label", label])
            .args(["--so-pin", "so-pin-5678", "--pin", Self::PIN])
            .env("SOFTHSM2_CONF", self.dir.join("softhsm2.conf"))
            .output()
            .unwrap();
        assert!(out.status.success(), "{out:?}");
    }

    pub fn pin_file(&self, pin: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.dir.join("pin");
        std::fs::write(&path, format!("{pin}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// A worker's configuration for one of its tokens.
    pub fn config(&self, bench: &Bench, label: &str, more: &str) -> PathBuf {
        let path = bench.dir.path().join("existing.toml");
        let dir = self.dir.display();
        std::fs::write(
            &path,
            format!(
                "module = '{MODULE}'\nprofile = 'softhsm2'\nthreads = 2\n\
                 [environment]\nSOFTHSM2_CONF = '{dir}/softhsm2.conf'\n\
                 [token]\nlabel = '{label}'\npin_file = '{dir}/pin'\nfiles = ['{dir}']\n{more}\n"
            ),
        )
        .unwrap();
        path
    }
}

/// A folder for workers, removed at the end.
pub struct Bench {
    pub dir: tempfile::TempDir,
}

impl Bench {
    pub fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub fn state(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn key_file(&self) -> PathBuf {
        self.dir.path().join("seal.key")
    }

    pub fn config(&self, module: &str, profile: &Path) -> PathBuf {
        let path = self.dir.path().join("worker.toml");
        let text = format!(
            "module = '{module}'\nprofile = '{}'\nkey_file = '{}'\nthreads = 2\n",
            profile.display(),
            self.key_file().display()
        );
        // Not while a worker reads it.
        if std::fs::read_to_string(&path).ok().as_ref() != Some(&text) {
            std::fs::write(&path, text).unwrap();
        }
        path
    }

    pub fn start(&self, name: &str) -> Worker {
        self.start_with(name, &self.config(MODULE, &profile()), &[])
    }

    /// One of several nodes' workers on one token.
    pub fn node(&self, name: &str) -> Worker {
        let token = self.state("shared-token");
        self.start_args(
            name,
            &self.config(MODULE, &profile()),
            &[],
            &["--token", token.to_str().unwrap()],
        )
    }

    pub fn start_with(&self, name: &str, config: &Path, env: &[(&str, &str)]) -> Worker {
        self.start_args(name, config, env, &[])
    }

    pub fn start_args(
        &self,
        name: &str,
        config: &Path,
        env: &[(&str, &str)],
        args: &[&str],
    ) -> Worker {
        let state = self.state(name);
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join(format!("{name}.log")))
            .unwrap();
        let _ = std::fs::remove_file(state.join("worker.sock"));
        let child = Command::new(env!("CARGO_BIN_EXE_countersign-hsm-worker"))
            .args(["serve", "--state"])
            .arg(&state)
            .arg("--config")
            .arg(config)
            .args(args)
            .envs(env.iter().copied())
            .env_remove("SOFTHSM2_CONF")
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut worker = Worker { child, state };
        let started = Instant::now();
        while !worker.socket().exists() {
            if let Some(status) = worker.child.try_wait().unwrap() {
                panic!("the worker ended: {status}\n{}", self.log(name));
            }
            assert!(started.elapsed() < Duration::from_secs(30), "no socket");
            std::thread::sleep(Duration::from_millis(5));
        }
        worker
    }

    pub fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(format!("{name}.log"))).unwrap_or_default()
    }

    /// A worker with a token of its own.
    pub fn with_token(&self, name: &str) -> (Worker, Client, TenantId) {
        let worker = self.start(name);
        let mut client = worker.client();
        assert_eq!(client.hello.token, TokenState::Absent);
        let tenant = TenantId::new();
        client.init(tenant).unwrap();
        (worker, client, tenant)
    }
}

pub struct Worker {
    child: Child,
    pub state: PathBuf,
}

impl Worker {
    pub fn socket(&self) -> PathBuf {
        self.state.join("worker.sock")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn client(&self) -> Client {
        Client::connect(&self.socket())
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([name, &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(status.success());
    }

    pub fn wait(&mut self) -> std::process::ExitStatus {
        self.child.wait().unwrap()
    }

    pub fn running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// SIGTERM, and the end.
    pub fn stop(mut self) {
        self.signal("-TERM");
        assert!(self.child.wait().unwrap().success());
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub struct Client {
    /// Whose keys are asked for.
    pub tenant: TenantId,
    pub stream: UnixStream,
    pub hello: WorkerHello,
    next: u64,
}

impl Client {
    pub fn connect(socket: &Path) -> Self {
        let started = Instant::now();
        let mut stream = loop {
            match UnixStream::connect(socket) {
                Ok(s) => break s,
                Err(e) => assert!(started.elapsed() < Duration::from_secs(5), "{e}"),
            }
        };
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        stream
            .write_all(&frame::encode(&ClientHello { version: VERSION }).unwrap())
            .unwrap();
        let hello: WorkerHello = read(&mut stream).unwrap();
        let tenant = match &hello.token {
            TokenState::Ready { tenant: Some(t) } => *t,
            _ => TenantId::new(),
        };
        Self {
            tenant,
            stream,
            hello,
            next: 0,
        }
    }

    pub fn send(&mut self, body: RequestBody) -> u64 {
        self.next += 1;
        let request = Request {
            id: self.next,
            deadline_ms: 60_000,
            body,
        };
        self.stream
            .write_all(&frame::encode(&request).unwrap())
            .unwrap();
        self.next
    }

    pub fn receive(&mut self) -> std::io::Result<Response> {
        read(&mut self.stream)
    }

    pub fn call(&mut self, body: RequestBody) -> Result<Reply, WorkerError> {
        let id = self.send(body);
        let response = self.receive().unwrap();
        assert_eq!(response.id, id);
        response.result
    }

    pub fn init(&mut self, tenant: TenantId) -> Result<TokenFacts, WorkerError> {
        self.tenant = tenant;
        match self.call(RequestBody::InitToken {
            tenant,
            label: "test".into(),
            pins: pins(),
        })? {
            Reply::Token(facts) => Ok(facts),
            other => panic!("{other:?}"),
        }
    }

    pub fn generate(
        &mut self,
        key: KeyId,
        algorithm: KeyAlgorithm,
    ) -> Result<(Vec<u8>, KeyFacts), WorkerError> {
        match self.call(RequestBody::GenerateKey {
            tenant: self.tenant,
            key,
            algorithm,
        })? {
            Reply::Key { spki, facts } => Ok((spki, facts)),
            other => panic!("{other:?}"),
        }
    }

    pub fn sign(&mut self, request: SignRequest) -> Result<Vec<u8>, WorkerError> {
        match self.call(RequestBody::Sign(request))? {
            Reply::Signed { signature, .. } => Ok(signature),
            other => panic!("{other:?}"),
        }
    }

    pub fn inventory(&mut self) -> Result<Inventory, WorkerError> {
        let tenant = self.tenant;
        match self.call(RequestBody::Inventory { tenant })? {
            Reply::Inventory(found) => Ok(found),
            other => panic!("{other:?}"),
        }
    }

    pub fn log_size(&mut self, key: KeyId) -> Result<u64, WorkerError> {
        match self.call(RequestBody::OpenLog {
            tenant: self.tenant,
            key,
        })? {
            Reply::Log { size } => Ok(size),
            other => panic!("{other:?}"),
        }
    }
}

fn read<T: serde::de::DeserializeOwned>(stream: &mut UnixStream) -> std::io::Result<T> {
    let mut prefix = [0; 4];
    stream.read_exact(&mut prefix)?;
    let mut payload = vec![0; frame::payload_length(prefix).unwrap()];
    stream.read_exact(&mut payload)?;
    Ok(frame::decode(&payload).unwrap())
}

/// The server's side of one key's log.
pub struct ServerLog {
    pub tenant: TenantId,
    pub key: KeyId,
    pub log_key: SigningKey,
    pub edge: Frontier,
    pub hashes: Vec<Hash>,
}

impl ServerLog {
    pub fn new(tenant: TenantId, key: KeyId) -> Self {
        let origin = format!("{PREFIX}/{key}");
        Self {
            tenant,
            key,
            log_key: SigningKey::from_seed(&LOG_SEED, &origin).unwrap(),
            edge: Frontier::empty(),
            hashes: Vec::new(),
        }
    }

    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            origin: format!("{PREFIX}/{}", self.key),
            size: self.edge.size(),
            root: self.edge.root(),
        }
    }

    pub fn note(&self) -> String {
        self.checkpoint().sign(&self.log_key).unwrap()
    }

    /// Appends leaves; what tells the worker of them.
    pub fn append(&mut self, leaves: &[Vec<u8>]) -> RequestBody {
        let from_size = self.edge.size();
        let mut leaf_hashes = Vec::new();
        for leaf in leaves {
            let hash = merkle::leaf_hash(leaf);
            self.edge.append(hash);
            self.hashes.push(hash);
            leaf_hashes.push(hash);
        }
        RequestBody::Advance {
            tenant: self.tenant,
            key: self.key,
            checkpoint: self.note(),
            from_size,
            leaf_hashes,
            uses: (from_size..self.edge.size()).collect(),
        }
    }

    /// A resync that gives all leaves: base is the empty tree.
    pub fn resync(&self, from: u64) -> RequestBody {
        let from = from as usize;
        RequestBody::Resync {
            tenant: self.tenant,
            key: self.key,
            checkpoint: self.note(),
            consistency_proof: consistency(&self.hashes, from),
            base_size: 0,
            base_frontier: vec![],
            leaf_hashes: self.hashes.clone(),
            uses: (0..self.edge.size()).collect(),
        }
    }

    /// An authorisation leaf and the request that uses it, at the log's next index.
    pub fn authorise(&self, scheme: SignatureScheme, seed: u8) -> (Vec<u8>, SignRequest) {
        let digest = digest(scheme.hash(), seed);
        let salt = [seed; 32];
        let text = digest_text(digest.algorithm().as_str(), digest.as_bytes());
        let leaf = Leaf::new(
            1_764_000_000_000_000,
            Authorisation {
                tenant: self.tenant.to_string(),
                signer: "release".into(),
                key: self.key.to_string(),
                request: "r-1".into(),
                attempt: 1,
                repeats: None,
                purpose: Purpose::Signature,
                scheme: scheme.as_str().into(),
                content: ContentKind::Authenticode,
                asserted: Asserted::Typed,
                tbs: commit(LABEL_TBS, &Salt(salt), text.as_bytes()),
                artifact: None,
                caller: commit(LABEL_CALLER, &Salt([0; 32]), b"somebody"),
                node: "n".into(),
                epoch: 1,
            },
        )
        .encode()
        .unwrap();
        let request = SignRequest {
            tenant: self.tenant,
            key: self.key,
            index: self.edge.size(),
            leaf: leaf.clone(),
            scheme,
            digest,
            tbs_salt: salt,
            trace: None,
        };
        (leaf, request)
    }

    pub fn outcome(&self, of: u64) -> Vec<u8> {
        Leaf::new(
            1_764_000_000_000_000,
            Outcome {
                of,
                result: OutcomeResult::Failed,
                signature_sha256: None,
                reason: Some("test".into()),
            },
        )
        .encode()
        .unwrap()
    }

    /// Appends a leaf that the worker is told of but may not use.
    pub fn elsewhere(&mut self, leaf: Vec<u8>) -> RequestBody {
        let mut advance = self.append(&[leaf]);
        if let RequestBody::Advance { uses, .. } = &mut advance {
            uses.clear();
        }
        advance
    }

    /// Authorises, advances and signs.
    pub fn sign(
        &mut self,
        client: &mut Client,
        scheme: SignatureScheme,
        seed: u8,
    ) -> Result<Vec<u8>, WorkerError> {
        let (leaf, request) = self.authorise(scheme, seed);
        let advance = self.append(&[leaf]);
        client.call(advance)?;
        client.sign(request)
    }
}

/// SHA-2 of the message `[seed; 100]`.
pub fn digest(hash: HashAlgorithm, seed: u8) -> Digest {
    let algorithm = match hash {
        HashAlgorithm::Sha256 => &aws_lc_rs::digest::SHA256,
        HashAlgorithm::Sha384 => &aws_lc_rs::digest::SHA384,
        HashAlgorithm::Sha512 => &aws_lc_rs::digest::SHA512,
    };
    let d = aws_lc_rs::digest::digest(algorithm, &message(seed));
    Digest::new(hash, d.as_ref()).unwrap()
}

pub fn message(seed: u8) -> Vec<u8> {
    vec![seed; 100]
}

/// Judged by openssl, from SPKI, message and signature in files.
pub fn openssl_verifies(hash: HashAlgorithm, spki: &[u8], seed: u8, signature: &[u8]) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let out = Command::new("openssl")
        .arg("dgst")
        .arg(format!("-{}", hash.as_str().replace('-', "")))
        .arg("-verify")
        .arg(file("spki", spki))
        .args(["-keyform", "DER", "-signature"])
        .arg(file("sig", signature))
        .arg(file("msg", &message(seed)))
        .output()
        .unwrap();
    out.status.success() && out.stdout.starts_with(b"Verified OK")
}

/// The naive recursion of RFC 6962 §2.1.2.
pub fn consistency(hashes: &[Hash], m: usize) -> Vec<Hash> {
    fn mth(d: &[Hash]) -> Hash {
        match d {
            [] => merkle::empty_root(),
            [one] => *one,
            _ => {
                let k = d.len().next_power_of_two() / 2;
                merkle::node_hash(&mth(&d[..k]), &mth(&d[k..]))
            }
        }
    }
    fn sub(m: usize, d: &[Hash], whole: bool) -> Vec<Hash> {
        if m == d.len() {
            return if whole { vec![] } else { vec![mth(d)] };
        }
        let k = d.len().next_power_of_two() / 2;
        let mut proof;
        if m <= k {
            proof = sub(m, &d[..k], whole);
            proof.push(mth(&d[k..]));
        } else {
            proof = sub(m - k, &d[k..], false);
            proof.push(mth(&d[..k]));
        }
        proof
    }
    if m == 0 {
        return vec![];
    }
    sub(m, hashes, true)
}
