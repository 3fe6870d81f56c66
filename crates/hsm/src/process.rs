//! Starting and ending a worker process.

use crate::config::{PoolConfig, PoolError};
use countersign_core::TenantId;
use countersign_hsm_protocol::{ClientHello, VERSION, WorkerHello, frame};
use serde::{Deserialize, Serialize};
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
    pub(crate) child: Child,
    pub(crate) stream: UnixStream,
    pub(crate) hello: WorkerHello,
}

#[derive(Serialize)]
struct WorkerConfig<'a> {
    module: &'a Path,
    profile: &'a Path,
    key_file: &'a Path,
    #[serde(skip_serializing_if = "Option::is_none")]
    threads: Option<usize>,
}

/// The worker's folder for a tenant.
pub(crate) fn state_dir(config: &PoolConfig, tenant: TenantId) -> PathBuf {
    config.state_root.join(tenant.to_string())
}

/// Makes the folder that holds the workers' folders.
pub(crate) fn prepare(config: &PoolConfig) -> Result<Vec<TenantId>, PoolError> {
    let file = |path: &Path| {
        let path = path.to_path_buf();
        move |error| PoolError::File { path, error }
    };
    if !config.worker_binary.is_file() {
        return Err(PoolError::NoWorkerProgram(config.worker_binary.clone()));
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&config.state_root)
        .map_err(file(&config.state_root))?;
    let absolute = |p: &Path| std::path::absolute(p).map_err(file(p));
    let worker = WorkerConfig {
        module: &absolute(&config.module)?,
        profile: &absolute(&config.profile)?,
        key_file: &absolute(&config.key_file)?,
        threads: config.threads,
    };
    let path = config_path(config);
    let text = toml::to_string(&worker).map_err(|e| PoolError::File {
        path: path.clone(),
        error: std::io::Error::other(e),
    })?;
    std::fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&path)
        .and_then(|mut f| std::io::Write::write_all(&mut f, text.as_bytes()))
        .map_err(file(&path))?;
    let mut known = Vec::new();
    for entry in std::fs::read_dir(&config.state_root).map_err(file(&config.state_root))? {
        let entry = entry.map_err(file(&config.state_root))?;
        let tenant = entry.file_name().to_str().and_then(|n| n.parse().ok());
        if let Some(tenant) = tenant
            && entry.path().is_dir()
        {
            known.push(tenant);
        }
    }
    Ok(known)
}

/// Starts a worker and exchanges hellos.
///
/// The error is for operators: the worker's own last words where it had any.
pub(crate) async fn start(config: &PoolConfig, tenant: TenantId) -> Result<Running, String> {
    let state = state_dir(config, tenant);
    let mut child = Command::new(&config.worker_binary)
        .args(["serve", "--exit-with-parent", "--state"])
        .arg(&state)
        .arg("--config")
        .arg(config_path(config))
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
                relay(tenant, &line, &last_words);
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
            child,
            stream,
            hello,
        }),
        Ok(Err(reason)) => {
            kill(child).await;
            Err(reason)
        }
        Err(_) => {
            kill(child).await;
            Err("the worker did not say hello in time".into())
        }
    }
}

/// Ends a worker that is of no more use, and waits until it is gone.
pub(crate) async fn kill(mut child: Child) {
    if let Err(e) = child.kill().await {
        tracing::warn!(error = %e, "killing a worker");
    }
}

/// Ends a worker cleanly: it finishes what it does and writes its state.
pub(crate) async fn stop(mut child: Child) {
    drop(child.stdin.take());
    if tokio::time::timeout(STOP_WITHIN, child.wait())
        .await
        .is_err()
    {
        tracing::warn!("a worker did not stop in time");
        kill(child).await;
    }
}

fn config_path(config: &PoolConfig) -> PathBuf {
    config.state_root.join("worker.toml")
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
fn relay(tenant: TenantId, line: &str, last_words: &Mutex<String>) {
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
        "ERROR" => tracing::error!(target: "hsm-worker", %tenant, worker = text),
        "WARN" => tracing::warn!(target: "hsm-worker", %tenant, worker = text),
        "INFO" => tracing::info!(target: "hsm-worker", %tenant, worker = text),
        _ => tracing::debug!(target: "hsm-worker", %tenant, worker = text),
    }
    if level != "INFO" {
        *last_words.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }
}
