//! A look at module and tokens for an operator, beside a pool of another process or without one.
//!
//! A worker that runs is asked for its hello and nothing else. Where none runs, the worker program looks
//! without a login: a login could count a wrong PIN.

use crate::config::{PoolConfig, PoolError};
use crate::process::{self, Greeting, Which};
use countersign_core::TenantId;
use countersign_hsm_protocol::WorkerHello;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

pub use countersign_hsm_protocol::look::{Look, PinState, TokenSeen};
pub use countersign_hsm_protocol::{TokenState, WorkerError};

/// A worker says hello at once, or it hangs.
const HELLO_WITHIN: Duration = Duration::from_secs(5);
/// Most that the worker program may print.
const MOST: u64 = 256 * 1024;
/// The end of what it prints that is shown.
const LAST: usize = 400;

/// One token, or the module in which tokens are made.
#[derive(Debug)]
pub struct Subject {
    /// The tenant's id, the name in `[[token]]`, or nothing for the module.
    pub token: Option<String>,
    /// Whose alone, where that is known.
    pub tenant: Option<TenantId>,
    /// The PKCS#11 module.
    pub module: PathBuf,
    /// What was found.
    pub found: Found,
}

/// What was found.
#[derive(Debug)]
pub enum Found {
    /// A worker runs: its own words.
    Running(WorkerHello),
    /// None runs: what is there without a login.
    Resting(Look),
    /// None runs, and others start them.
    Absent(String),
    /// Something is there and does not answer as it should.
    Silent(String),
}

/// Looks at each token of this node that is known, one after the other, and at the module if there is
/// none.
///
/// # Errors
/// [`PoolError`]: the worker program, or the folder of tokens.
pub async fn look(config: &PoolConfig) -> Result<Vec<Subject>, PoolError> {
    if config.connect.is_none() && !config.worker_binary.is_file() {
        return Err(PoolError::NoWorkerProgram(config.worker_binary.clone()));
    }
    let existing = (0..config.existing.len()).map(Which::Existing);
    let mut all: Vec<Which> = existing.collect();
    all.extend(process::known(config)?.into_iter().map(Which::Own));
    let mut subjects = Vec::with_capacity(all.len().saturating_add(1));
    for which in &all {
        let named = match which {
            Which::Own(_) => None,
            Which::Existing(n) => config.existing.get(*n),
        };
        subjects.push(Subject {
            token: Some(match which {
                Which::Own(tenant) => tenant.to_string(),
                Which::Existing(_) => named.map(|t| t.name.clone()).unwrap_or_default(),
            }),
            tenant: match which {
                Which::Own(tenant) => Some(*tenant),
                Which::Existing(_) => None,
            },
            module: named.map_or_else(|| config.module.clone(), |t| t.module.clone()),
            found: one(config, which).await,
        });
    }
    // The next tenant's token would be made in it.
    let unused = !all.iter().any(|w| matches!(w, Which::Own(_)));
    if unused && config.connect.is_none() {
        subjects.push(Subject {
            token: None,
            tenant: None,
            module: config.module.clone(),
            found: resting(config, None).await,
        });
    }
    Ok(subjects)
}

async fn one(config: &PoolConfig, which: &Which) -> Found {
    let folder = which.folder(config);
    let asked = async {
        match &config.connect {
            Some(others) => process::ask_other(others, &folder).await,
            None => process::ask_own(config, &folder).await,
        }
    };
    match tokio::time::timeout(HELLO_WITHIN, asked).await {
        Ok(Greeting::Hello(hello)) => Found::Running(*hello),
        Ok(Greeting::Nobody(why)) if config.connect.is_some() => Found::Absent(why),
        Ok(Greeting::Nobody(_)) => resting(config, Some(which)).await,
        Ok(Greeting::Other(why)) => Found::Silent(why),
        Err(_) => Found::Silent("a worker takes the connection and does not say hello".into()),
    }
}

/// What the worker program finds without a login.
async fn resting(config: &PoolConfig, which: Option<&Which>) -> Found {
    match try_resting(config, which).await {
        Ok(look) => Found::Resting(look),
        Err(why) => Found::Silent(why),
    }
}

async fn try_resting(config: &PoolConfig, which: Option<&Which>) -> Result<Look, String> {
    let said = |what: &'static str| move |e: std::io::Error| format!("{what}: {e}");
    // Not where running workers read theirs: the file may have changed since they started.
    let own = tempfile::Builder::new()
        .prefix("countersign-look-")
        .tempdir()
        .map_err(said("a temporary folder"))?;
    let file = own.path().join("worker.toml");
    let existing = match which {
        Some(Which::Existing(n)) => config.existing.get(*n),
        _ => None,
    };
    process::write_worker_config(config, existing, &file).map_err(|e| e.to_string())?;
    let scratch = own.path().join("scratch");
    std::fs::create_dir(&scratch).map_err(said("a temporary folder"))?;
    let mut command = Command::new(&config.worker_binary);
    command
        .args(["look", "--config"])
        .arg(&file)
        .arg("--scratch")
        .arg(&scratch);
    if let Some(which) = which {
        let token = config.token_root.join(which.folder(config));
        if token.is_dir() {
            command.arg("--token").arg(token);
        }
    }
    let mut child = command
        .env_remove("SOFTHSM2_CONF")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| format!("{}: {e}", config.worker_binary.display()))?;
    let (out, words) = (child.stdout.take(), child.stderr.take());
    let ended = async {
        let (out, words) = tokio::join!(all_of(out), all_of(words));
        (child.wait().await, out, words)
    };
    let Ok((status, out, words)) = tokio::time::timeout(config.start_deadline, ended).await else {
        return Err("the module did not answer in time".into());
    };
    serde_json::from_slice(&out).map_err(|_| {
        let words = String::from_utf8_lossy(&words);
        let last = words.lines().last().unwrap_or_default();
        let last: String = last.chars().take(LAST).collect();
        match status {
            Ok(status) => format!("the worker program ended ({status}): {last}"),
            Err(e) => format!("the worker program: {e}"),
        }
    })
}

async fn all_of(from: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        // What is cut short is no report.
        let _ = from.take(MOST).read_to_end(&mut bytes).await;
    }
    bytes
}
