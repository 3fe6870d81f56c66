//! Starting and ending a worker process.

use crate::config::{Connect, ExistingToken, PoolConfig, PoolError};
use countersign_core::TenantId;
use countersign_hsm_protocol::profile::Profile;
use countersign_hsm_protocol::{ClientHello, VERSION, WorkerHello, frame};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

/// How long a worker may drain after its standard input closed.
const STOP_WITHIN: Duration = Duration::from_secs(8);

/// A worker that said hello.
pub(crate) struct Running {
    /// `None`: it is not ours to end.
    pub(crate) child: Option<Child>,
    pub(crate) stream: UnixStream,
    pub(crate) hello: WorkerHello,
}

/// Which worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Which {
    /// Of the token made for this tenant.
    Own(TenantId),
    /// Of a token that was there: the index in the configuration.
    Existing(usize),
}

impl Which {
    /// The name of its folders and its socket.
    pub(crate) fn folder(&self, config: &PoolConfig) -> String {
        match self {
            Self::Own(tenant) => tenant.to_string(),
            Self::Existing(n) => config
                .existing
                .get(*n)
                .map(ExistingToken::folder)
                .unwrap_or_default(),
        }
    }
}

#[derive(Serialize)]
struct WorkerConfig<'a> {
    module: PathBuf,
    profile: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    threads: Option<usize>,
    sandbox: &'static str,
    // Tables after values: TOML.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    environment: BTreeMap<&'a str, &'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<TokenConfig<'a>>,
}

#[derive(Serialize)]
struct TokenConfig<'a> {
    label: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    serial: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slot: Option<u64>,
    pin_file: PathBuf,
    #[serde(skip_serializing_if = "<[PathBuf]>::is_empty")]
    files: &'a [PathBuf],
    shared: bool,
}

/// Whether a token was made for the tenant, here or on another node.
pub(crate) fn has_own(config: &PoolConfig, tenant: TenantId) -> bool {
    let folder = tenant.to_string();
    match &config.connect {
        Some(connect) => socket_of(connect, &folder).exists(),
        None => config.token_root.join(folder).is_dir(),
    }
}

/// Makes the folders that hold the workers' folders, and writes the workers' configurations. The tenants
/// with a token of their own.
pub(crate) fn prepare(config: &PoolConfig) -> Result<Vec<TenantId>, PoolError> {
    if config.connect.is_some() {
        return known(config);
    }
    if !config.worker_binary.is_file() {
        return Err(PoolError::NoWorkerProgram(config.worker_binary.clone()));
    }
    for root in [&config.token_root, &config.state_root] {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(root)
            .map_err(file(root))?;
    }
    write_worker_config(config, None, &config_path(config, None))?;
    for existing in &config.existing {
        let path = config_path(config, Some(&existing.folder()));
        write_worker_config(config, Some(existing), &path)?;
    }
    known(config)
}

/// The tenants with a token of their own.
pub(crate) fn known(config: &PoolConfig) -> Result<Vec<TenantId>, PoolError> {
    match &config.connect {
        Some(connect) => tenants_in(&connect.socket_dir, ".sock"),
        // Before the first start there is no folder.
        None if !config.token_root.exists() => Ok(Vec::new()),
        None => tenants_in(&config.token_root, ""),
    }
}

/// Writes the configuration of the workers of tokens made here, or of an existing one's.
pub(crate) fn write_worker_config(
    config: &PoolConfig,
    existing: Option<&ExistingToken>,
    path: &Path,
) -> Result<(), PoolError> {
    let absolute = |p: &Path| std::path::absolute(p).map_err(file(p));
    // The name of a profile that comes with the worker is no path.
    let profile = |p: &Path| match p.to_str().and_then(Profile::shipped) {
        Some(_) => Ok(p.to_path_buf()),
        None => absolute(p),
    };
    let sandbox = config.sandbox.as_str();
    let worker = match existing {
        None => WorkerConfig {
            module: absolute(&config.module)?,
            profile: profile(&config.profile)?,
            key_file: Some(absolute(&config.key_file)?),
            threads: config.threads,
            sandbox,
            environment: BTreeMap::new(),
            token: None,
        },
        Some(existing) => WorkerConfig {
            module: absolute(&existing.module)?,
            profile: profile(&existing.profile)?,
            key_file: None,
            threads: existing.threads.or(config.threads),
            sandbox,
            environment: existing
                .environment
                .iter()
                .map(|(k, v)| (k.as_str(), v.as_str()))
                .collect(),
            token: Some(TokenConfig {
                label: &existing.label,
                serial: existing.serial.as_deref(),
                slot: existing.slot,
                pin_file: absolute(&existing.pin_file)?,
                files: &existing.files,
                shared: existing.tenants.len() > 1,
            }),
        },
    };
    write_config(path, &worker)
}

/// What came of asking for a worker's hello.
pub(crate) enum Greeting {
    /// Its own words.
    Hello(Box<WorkerHello>),
    /// Nobody listens there.
    Nobody(String),
    /// Somebody does, and says something else, or nothing to us.
    Other(String),
}

/// The hello of a worker that another process of ours started, if one runs.
pub(crate) async fn ask_own(config: &PoolConfig, folder: &str) -> Greeting {
    match connect(&config.state_root.join(folder)).await {
        Ok(stream) => hello_of(stream).await,
        Err(e) => Greeting::Nobody(e.to_string()),
    }
}

/// The hello of a worker that others started.
pub(crate) async fn ask_other(others: &Connect, folder: &str) -> Greeting {
    let socket = socket_of(others, folder);
    let named = |e: std::io::Error| format!("{}: {e}", socket.display());
    match UnixStream::connect(&socket).await {
        Ok(stream) => match served_by(&stream, others) {
            Ok(()) => hello_of(stream).await,
            Err(e) => Greeting::Other(named(e)),
        },
        Err(e) => Greeting::Nobody(named(e)),
    }
}

async fn hello_of(mut stream: UnixStream) -> Greeting {
    match greet(&mut stream).await {
        Ok(hello) => Greeting::Hello(Box::new(hello)),
        // So ends a connection of a user whom the worker does not hear.
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Greeting::Other(
            "the worker closed the connection: it hears the service's user alone".into(),
        ),
        Err(e) => Greeting::Other(e.to_string()),
    }
}

/// Who serves this socket is what the kernel says, not what its folder's permissions allow.
fn served_by(stream: &UnixStream, others: &Connect) -> std::io::Result<()> {
    let peer = stream.peer_cred()?.uid();
    if peer == others.worker_uid {
        return Ok(());
    }
    Err(std::io::Error::other(format!(
        "user {peer} serves it, not the workers' user {}",
        others.worker_uid
    )))
}

fn file(path: &Path) -> impl FnOnce(std::io::Error) -> PoolError + use<> {
    let path = path.to_path_buf();
    move |error| PoolError::File { path, error }
}

fn write_config(path: &Path, worker: &WorkerConfig<'_>) -> Result<(), PoolError> {
    let text = toml::to_string(worker).map_err(|e| PoolError::File {
        path: path.to_path_buf(),
        error: std::io::Error::other(e),
    })?;
    std::fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut f| std::io::Write::write_all(&mut f, text.as_bytes()))
        .map_err(file(path))
}

/// Tenants that entries of a folder are named for.
fn tenants_in(folder: &Path, suffix: &str) -> Result<Vec<TenantId>, PoolError> {
    let mut known = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(file(folder))? {
        let name = entry.map_err(file(folder))?.file_name();
        known.extend(
            name.to_str()
                .and_then(|n| n.strip_suffix(suffix))
                .and_then(|n| n.parse::<TenantId>().ok()),
        );
    }
    Ok(known)
}

/// Starts a worker, or connects to the one that others started, and exchanges hellos.
///
/// The error is for operators: the worker's own last words where it had any.
pub(crate) async fn start(config: &PoolConfig, which: &Which) -> Result<Running, String> {
    match &config.connect {
        Some(connect) => join(connect, &which.folder(config), config.start_deadline).await,
        None => spawn(config, which).await,
    }
}

async fn join(connect: &Connect, folder: &str, within: Duration) -> Result<Running, String> {
    let socket = socket_of(connect, folder);
    let greeting = async {
        let mut stream = UnixStream::connect(&socket).await?;
        served_by(&stream, connect)?;
        let hello = greet(&mut stream).await?;
        Ok::<_, std::io::Error>(Running {
            child: None,
            stream,
            hello,
        })
    };
    match tokio::time::timeout(within, greeting).await {
        Ok(Ok(running)) => Ok(running),
        Ok(Err(e)) => Err(format!("{}: {e}", socket.display())),
        Err(_) => Err(format!("{}: no hello in time", socket.display())),
    }
}

async fn spawn(config: &PoolConfig, which: &Which) -> Result<Running, String> {
    let folder = which.folder(config);
    let state = config.state_root.join(&folder);
    let config_file = match which {
        Which::Own(_) => config_path(config, None),
        Which::Existing(_) => config_path(config, Some(&folder)),
    };
    let mut child = Command::new(&config.worker_binary)
        .args(["serve", "--exit-with-parent", "--state"])
        .arg(&state)
        .arg("--token")
        .arg(config.token_root.join(&folder))
        .arg("--config")
        .arg(config_file)
        .env_remove("SOFTHSM2_CONF")
        // Its other end is ours: a worker never outlives its server.
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        // Ctrl-C in a terminal is for the server, which then stops its workers in order.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| format!("{}: {e}", config.worker_binary.display()))?;
    let last_words = Arc::new(Mutex::new(String::new()));
    if let Some(stderr) = child.stderr.take() {
        let last_words = Arc::clone(&last_words);
        tokio::spawn(async move {
            let mut lines = BufReader::new(stderr).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                relay(&folder, &line, &last_words);
            }
        });
    }
    let pid = child.id();
    let greeting = async {
        loop {
            // A socket left by a dead worker refuses, or is answered by the new one only.
            if let Ok(mut stream) = connect(&state).await {
                match greet(&mut stream).await {
                    Ok(hello) if Some(hello.pid) == pid => return Ok((stream, hello)),
                    Ok(_) => {}
                    Err(e) => return Err(format!("hello: {e}")),
                }
            }
            if let Ok(Some(status)) = child.try_wait() {
                // Its last line may still be on the way.
                tokio::time::sleep(Duration::from_millis(20)).await;
                let words = last_words.lock().unwrap_or_else(PoisonError::into_inner);
                return Err(format!("the worker ended ({status}): {words}"));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    match tokio::time::timeout(config.start_deadline, greeting).await {
        Ok(Ok((stream, hello))) => Ok(Running {
            child: Some(child),
            stream,
            hello,
        }),
        Ok(Err(reason)) => {
            kill(Some(child)).await;
            Err(reason)
        }
        Err(_) => {
            kill(Some(child)).await;
            Err("the worker did not say hello in time".into())
        }
    }
}

/// Ends a worker that is of no more use, and waits until it is gone. One that others started ends
/// itself: it knows the deadlines too.
pub(crate) async fn kill(child: Option<Child>) {
    let Some(mut child) = child else {
        return;
    };
    if let Err(e) = child.kill().await {
        tracing::warn!(error = %e, "killing a worker");
    }
}

/// Ends a worker cleanly: it finishes what it does and writes its state.
pub(crate) async fn stop(child: Option<Child>) {
    let Some(mut child) = child else {
        return;
    };
    drop(child.stdin.take());
    if tokio::time::timeout(STOP_WITHIN, child.wait())
        .await
        .is_err()
    {
        tracing::warn!("a worker did not stop in time");
        kill(Some(child)).await;
    }
}

fn config_path(config: &PoolConfig, folder: Option<&str>) -> PathBuf {
    config
        .state_root
        .join(format!("{}.toml", folder.unwrap_or("worker")))
}

fn socket_of(connect: &Connect, folder: &str) -> PathBuf {
    connect.socket_dir.join(format!("{folder}.sock"))
}

/// A socket's path has at most 107 bytes (unix(7)); through the folder's descriptor it is short.
async fn connect(state: &Path) -> std::io::Result<UnixStream> {
    let folder = std::fs::File::open(state)?;
    UnixStream::connect(format!("/proc/self/fd/{}/worker.sock", folder.as_raw_fd())).await
}

async fn greet(stream: &mut UnixStream) -> std::io::Result<WorkerHello> {
    let hello = ClientHello { version: VERSION };
    stream
        .write_all(&frame::encode(&hello).map_err(std::io::Error::other)?)
        .await?;
    let mut prefix = [0; 4];
    stream.read_exact(&mut prefix).await?;
    let length = frame::payload_length(prefix).map_err(std::io::Error::other)?;
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await?;
    let hello: WorkerHello = frame::decode(&payload).map_err(std::io::Error::other)?;
    if hello.version == VERSION {
        Ok(hello)
    } else {
        Err(std::io::Error::other(format!(
            "the worker speaks version {}, we speak {VERSION}",
            hello.version
        )))
    }
}

/// The worker's log lines in ours, at their level.
fn relay(token: &str, line: &str, last_words: &Mutex<String>) {
    #[derive(Deserialize)]
    struct Line<'a> {
        level: &'a str,
        fields: serde_json::Value,
    }
    let (level, text) = match serde_json::from_str::<Line<'_>>(line) {
        Ok(l) => (l.level, l.fields.to_string()),
        Err(_) => ("WARN", line.to_owned()),
    };
    match level {
        "ERROR" => tracing::error!(target: "hsm-worker", token, worker = text),
        "WARN" => tracing::warn!(target: "hsm-worker", token, worker = text),
        "INFO" => tracing::info!(target: "hsm-worker", token, worker = text),
        _ => tracing::debug!(target: "hsm-worker", token, worker = text),
    }
    if level != "INFO" {
        *last_words.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }
}
