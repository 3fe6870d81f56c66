//! Start, stop and what the threads share.

use crate::config::{Config, Profile, read_profile};
use crate::evidence::{self, Adapter};
use crate::keys;
use crate::logs::{Logs, lock};
use crate::module::Module;
use crate::pin::{self, Latch};
use crate::sandbox;
use crate::server;
use crate::signer::{self, Queue};
use crate::softhsm;
use crate::state_dir::StateDir;
use crate::state_dir::TokenLock;
use crate::token::{TOKEN_LOCK_WAIT, Token};
use countersign_core::TenantId;
use countersign_core::ports::hsm::{LogPins, SandboxMeasure, TokenFacts};
use countersign_hsm_protocol::{EvidenceProblem, WorkerError};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

/// How long a new worker waits for its predecessor to end.
const LOCK_WAIT: Duration = Duration::from_secs(10);
/// How long a clean stop waits for work in the module.
const DRAIN: Duration = Duration::from_secs(5);

/// How long past its deadline a call may stay in the module.
const HUNG_AFTER: Duration = Duration::from_secs(3);

/// Why a worker cannot start. No retry helps before somebody acts, except with `Locked`.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A configuration file is missing or wrong.
    #[error("{}: {problem}", path.display())]
    Config {
        /// Which file.
        path: PathBuf,
        /// What is wrong, with the line.
        problem: String,
    },
    /// The state folder cannot be used.
    #[error("state folder {}: {problem}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// Another worker has the state folder. It may end; a retry can help.
    #[error("another worker has the state folder {}", path.display())]
    Locked {
        /// Which.
        path: PathBuf,
    },
    /// The system refused something.
    #[error("{what}: {error}")]
    System {
        /// What.
        what: &'static str,
        /// How.
        error: std::io::Error,
    },
}

impl StartError {
    /// The process's status, after sysexits: 78 configuration, 75 try again, 71 system.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Config { .. } | Self::Folder { .. } => 78,
            Self::Locked { .. } => 75,
            Self::System { .. } => 71,
        }
    }
}

/// What the threads share.
#[derive(Debug)]
pub struct Worker {
    /// The folder, locked.
    pub dir: Arc<StateDir>,
    /// The configuration.
    pub config: Config,
    /// The module's profile.
    pub profile: Profile,
    /// The key logs.
    pub logs: Logs,
    /// Work for the sessions.
    pub queue: Queue,
    /// How this process is confined.
    pub sandbox: Vec<SandboxMeasure>,
    /// The socket, and who may connect.
    pub door: Door,
    evidence: Result<Box<dyn Adapter>, EvidenceProblem>,
    token: RwLock<TokenSlot>,
    initialising: Mutex<()>,
    /// Held by the session that makes or destroys objects. Two at once, and SoftHSM 2.6.1 ends one of some
    /// hundred `C_GenerateKeyPair` with `CKR_GENERAL_ERROR`, which ends the worker.
    pub changing: Mutex<()>,
    stop: SyncSender<Stop>,
}

/// The token, as far as there is one.
#[derive(Debug)]
pub enum TokenSlot {
    /// The module is there, the token is not.
    Absent(Arc<Module>),
    /// Logged in.
    Ready(Arc<Token>),
    /// Unusable, for this reason.
    Failed(WorkerError),
}

/// Why the worker stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// SIGTERM or SIGINT.
    Signal,
    /// The supervisor is gone.
    ParentGone,
    /// The module said that it is of no more use.
    ModuleDied,
}

impl Worker {
    /// The token's state now.
    pub fn token(&self) -> RwLockReadGuard<'_, TokenSlot> {
        self.token.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What has the device speak for itself.
    ///
    /// # Errors
    /// [`EvidenceProblem::NoAdapter`] or [`EvidenceProblem::NotBuilt`].
    pub fn adapter(&self) -> Result<&dyn Adapter, EvidenceProblem> {
        self.evidence.as_deref().map_err(EvidenceProblem::clone)
    }

    /// Asks the worker to stop.
    pub fn stop(&self, why: Stop) {
        let _ = self.stop.try_send(why);
    }

    /// Makes the token, or says that the one there is this one.
    ///
    /// # Errors
    /// [`WorkerError::TokenTaken`] for another tenant or other pins, or what went wrong.
    pub fn init_token(
        &self,
        tenant: TenantId,
        label: &str,
        pins: &LogPins,
    ) -> Result<TokenFacts, WorkerError> {
        let _one_at_a_time = lock(&self.initialising);
        let module = match &*self.token() {
            TokenSlot::Ready(token) => {
                token.admit(&self.dir, tenant, pins)?;
                return Ok(token.facts().clone());
            }
            TokenSlot::Failed(error) => return Err(error.clone()),
            TokenSlot::Absent(module) => Arc::clone(module),
        };
        let made = self.open_or_make(&module, tenant, label, pins);
        let (slot, result) = match made {
            Ok(token) => {
                let facts = token.facts().clone();
                tracing::info!(%tenant, serial = facts.serial, software = facts.software, "token made");
                (TokenSlot::Ready(Arc::new(token)), Ok(facts))
            }
            // Bad input leaves everything as it was; anything else may have left half a token,
            // which the next start moves aside.
            Err(error @ (WorkerError::BadRequest { .. } | WorkerError::TokenTaken(_))) => {
                return Err(error);
            }
            Err(error) => (TokenSlot::Failed(error.clone()), Err(error)),
        };
        *self.token.write().unwrap_or_else(PoisonError::into_inner) = slot;
        result
    }

    /// The token that another node has made meanwhile, or one made (or taken up) now.
    fn open_or_make(
        &self,
        module: &Arc<Module>,
        tenant: TenantId,
        label: &str,
        pins: &LogPins,
    ) -> Result<Token, WorkerError> {
        let _one_node_at_a_time = self.dir.lock_token(TOKEN_LOCK_WAIT)?;
        if let Some(token) = Token::open(module, &self.dir, &self.config)? {
            token.admit(&self.dir, tenant, pins)?;
            return Ok(token);
        }
        match &self.config.token {
            Some(wanted) => Token::adopt(
                module,
                &self.dir,
                &self.config,
                &self.profile,
                wanted,
                tenant,
                pins,
            ),
            None if self.profile.existing_only => Err(WorkerError::BadRequest {
                field: "token".into(),
                problem: format!(
                    "tokens of {} are made with the vendor's tools: name one in the configuration",
                    self.profile.name
                ),
            }),
            None => Token::init(
                module,
                &self.dir,
                &self.config,
                &self.profile,
                tenant,
                label,
                pins,
            ),
        }
    }
}

/// Where a worker works.
#[derive(Debug, Clone)]
pub struct Places {
    /// What belongs to the token; workers of other nodes may share it.
    pub token: PathBuf,
    /// What is this worker's alone.
    pub state: PathBuf,
    /// Its configuration.
    pub config: PathBuf,
    /// The socket, where it is not in the state folder.
    pub socket: Option<PathBuf>,
    /// A user beside our own that may connect.
    pub client_uid: Option<u32>,
}

/// The socket.
#[derive(Debug, Clone)]
pub struct Door {
    /// Where.
    pub path: PathBuf,
    /// Who may connect beside our own user.
    pub client_uid: Option<u32>,
}

impl Places {
    fn socket_folder(&self) -> Vec<PathBuf> {
        self.socket
            .iter()
            .filter_map(|s| s.parent())
            .map(Path::to_path_buf)
            .collect()
    }

    fn door(&self, dir: &StateDir) -> Door {
        Door {
            path: self
                .socket
                .clone()
                .unwrap_or_else(|| dir.file("worker.sock")),
            client_uid: self.client_uid,
        }
    }
}

/// Runs a worker until it is stopped.
///
/// # Errors
/// [`StartError`] before it serves. Trouble with module or token is not among them: the worker then
/// serves and says so, so that its supervisor can show the reason.
pub fn serve(places: &Places, exit_with_parent: bool) -> Result<ExitCode, StartError> {
    let system = |what| move |error| StartError::System { what, error };
    let config = Config::read(&places.config)?;
    let profile = read_profile(&config.profile)?;
    let dir = Arc::new(StateDir::open(&places.token, &places.state, LOCK_WAIT)?);

    let prepared = prepare(&dir, &config, &profile);
    if let Ok((environment, _)) = &prepared {
        begin_again_with(environment)?;
    }
    // One thread, and the module is not loaded yet.
    let sandbox = sandbox::enter(&config, &profile, &dir, &places.socket_folder());
    report_sandbox(&sandbox);
    let token = match prepared {
        // Still under the token's lock.
        Ok((_, _one_node_at_a_time)) => open_token(&dir, &config, &profile),
        Err(error) => TokenSlot::Failed(error),
    };
    if let TokenSlot::Failed(error) = &token {
        tracing::error!(%error, "the token cannot be used");
    }

    let (stop, stopped) = sync_channel(8);
    let threads = config
        .threads
        .min(profile.most_sessions.unwrap_or(usize::MAX));
    let worker = Arc::new(Worker {
        logs: Logs::new(Arc::clone(&dir)),
        queue: Queue::new(config.queue),
        door: places.door(&dir),
        sandbox,
        dir,
        config,
        evidence: evidence::adapter(&profile),
        profile,
        token: RwLock::new(token),
        initialising: Mutex::default(),
        changing: Mutex::default(),
        stop,
    });
    report_inventory(&worker);
    watch_signals(&worker).map_err(system("signals"))?;
    if exit_with_parent {
        watch_parent(&worker).map_err(system("thread"))?;
    }
    let mut sessions = Vec::with_capacity(threads);
    for n in 0..threads {
        sessions.push(
            spawn(&format!("session-{n}"), &worker, |w| signer::run(w))
                .map_err(system("thread"))?,
        );
    }
    spawn("log-writer", &worker, |w| write_logs(w)).map_err(system("thread"))?;
    let listener = server::listen(&worker).map_err(system("worker.sock"))?;
    spawn("accept", &worker, move |w| server::accept(w, &listener)).map_err(system("thread"))?;
    tracing::info!(pid = std::process::id(), threads, "serving");
    Ok(wait_and_stop(&worker, &stopped, sessions))
}

/// Confines this process as [`serve`] does and tries what must not succeed.
///
/// # Errors
/// [`StartError`].
pub fn try_sandbox(places: &Places, file: &Path) -> Result<String, StartError> {
    let config = Config::read(&places.config)?;
    let profile = read_profile(&config.profile)?;
    let dir = StateDir::open(&places.token, &places.state, Duration::ZERO)?;
    let report = sandbox::enter(&config, &profile, &dir, &places.socket_folder());
    let attempts = sandbox::probe::attempts(file);
    Ok(serde_json::json!({ "measures": report, "attempts": attempts }).to_string())
}

fn report_sandbox(measures: &[SandboxMeasure]) {
    for m in measures {
        if m.enforced {
            tracing::info!(measure = m.measure, detail = m.detail, "sandbox");
        } else {
            tracing::warn!(
                measure = m.measure,
                detail = m.detail,
                "sandbox: not enforced"
            );
        }
    }
}

/// The module reads the environment. Changing our own is unsound once threads may run, so this process
/// begins again with the right one; locks are released by close-on-exec.
pub(crate) fn begin_again_with(environment: &BTreeMap<String, OsString>) -> Result<(), StartError> {
    let system = |what| move |error| StartError::System { what, error };
    if environment
        .iter()
        .all(|(k, v)| std::env::var_os(k).as_deref() == Some(v.as_os_str()))
    {
        return Ok(());
    }
    let exe = std::env::current_exe().map_err(system("current_exe"))?;
    let error = std::process::Command::new(exe)
        .args(std::env::args_os().skip(1))
        .envs(environment)
        .exec();
    Err(system("exec")(error))
}

/// What the module needs before it is loaded: its environment, and the token's lock.
fn prepare(
    dir: &StateDir,
    config: &Config,
    profile: &Profile,
) -> Result<(BTreeMap<String, OsString>, TokenLock), WorkerError> {
    let lock = dir.lock_token(TOKEN_LOCK_WAIT)?;
    if let (None, Some(key_file)) = (&config.token, &config.key_file) {
        // Now: later only that file can be read, and none made in its folder.
        pin::make_key_file(key_file)?;
    }
    let mut environment = config.environment();
    // An existing token is where the operator's own configuration of the module says.
    if profile.softhsm_directory && config.token.is_none() {
        environment.insert("SOFTHSM2_CONF".into(), softhsm::prepare(dir)?.into());
    }
    Ok((environment, lock))
}

fn open_token(dir: &StateDir, config: &Config, profile: &Profile) -> TokenSlot {
    // Before the module is even loaded: a latched token is left alone.
    if let Some(reason) = Latch::reason(dir) {
        return TokenSlot::Failed(WorkerError::Latched(reason));
    }
    let module = match Module::load(config, profile) {
        Ok(module) => Arc::new(module),
        Err(error) => return TokenSlot::Failed(error),
    };
    match Token::open(&module, dir, config) {
        Ok(Some(token)) => TokenSlot::Ready(Arc::new(token)),
        Ok(None) => match dir.bound_keys() {
            Ok(keys) if keys.is_empty() => match &config.token {
                // Nobody has keys there yet; whether it is there and the PIN is right is said now.
                Some(wanted) => match Token::try_login(&module, dir, wanted) {
                    Ok(()) => TokenSlot::Absent(module),
                    Err(error) => TokenSlot::Failed(error),
                },
                None => TokenSlot::Absent(module),
            },
            Ok(_) => TokenSlot::Failed(WorkerError::StateBroken(
                "token.json is gone although keys are bound".into(),
            )),
            Err(e) => TokenSlot::Failed(WorkerError::StateBroken(e.to_string())),
        },
        Err(error) => TokenSlot::Failed(error),
    }
}

fn report_inventory(worker: &Worker) {
    let token = match &*worker.token() {
        TokenSlot::Ready(token) => Arc::clone(token),
        _ => return,
    };
    let found = token
        .session()
        .and_then(|s| keys::inventory(&token, &s.session, &worker.dir, None));
    match found {
        Ok(found) => {
            for id in &found.orphans {
                tracing::warn!(cka_id = %id, "orphan: an object in the token that no key is bound to");
            }
            for key in &found.lost {
                tracing::error!(%key, "lost: a bound key that the token does not hold");
            }
            tracing::info!(
                keys = found.keys.len(),
                orphans = found.orphans.len(),
                lost = found.lost.len(),
                "inventory"
            );
        }
        Err(error) => tracing::error!(%error, "the inventory failed"),
    }
}

fn watch_signals(worker: &Arc<Worker>) -> std::io::Result<()> {
    use std::io::Read as _;
    let (mut read, write) = std::os::unix::net::UnixStream::pair()?;
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::low_level::pipe::register(signal, write.try_clone()?)?;
    }
    spawn("signals", worker, move |w| {
        // The original end is kept open here, so that a read ends by a signal only.
        let _keep = write;
        if read.read(&mut [0]).is_ok() {
            w.stop(Stop::Signal);
        }
    })
    .map(|_| ())
}

fn watch_parent(worker: &Arc<Worker>) -> std::io::Result<()> {
    use std::io::Read as _;
    spawn("parent", worker, |w| {
        let mut buffer = [0; 64];
        while std::io::stdin().read(&mut buffer).is_ok_and(|n| n > 0) {}
        w.stop(Stop::ParentGone);
    })
    .map(|_| ())
}

fn write_logs(worker: &Worker) {
    loop {
        std::thread::sleep(Duration::from_millis(250));
        worker.logs.write(false);
        // Our supervisor kills us before; who runs without one ends here, to be started anew.
        if worker.queue.overdue(HUNG_AFTER) {
            tracing::error!("a call has been in the module for too long: this worker ends");
            std::process::exit(70);
        }
    }
}

fn wait_and_stop(
    worker: &Worker,
    stopped: &Receiver<Stop>,
    sessions: Vec<std::thread::JoinHandle<()>>,
) -> ExitCode {
    let why = stopped.recv().unwrap_or(Stop::Signal);
    tracing::info!(?why, "stopping");
    worker.queue.close();
    let limit = Instant::now().checked_add(DRAIN);
    while why != Stop::ModuleDied
        && !worker.queue.idle()
        && limit.is_some_and(|l| Instant::now() < l)
    {
        std::thread::sleep(Duration::from_millis(5));
    }
    worker.logs.write(true);
    let drained = why != Stop::ModuleDied && worker.queue.idle();
    if drained {
        // Threads end when the closed queue is empty; then nobody is in the module any more.
        for session in sessions {
            let _ = session.join();
        }
        let slot = std::mem::replace(
            &mut *worker.token.write().unwrap_or_else(PoisonError::into_inner),
            TokenSlot::Failed(WorkerError::Stopping),
        );
        match slot {
            TokenSlot::Ready(token) => token.finalize(),
            TokenSlot::Absent(module) => module.finalize(),
            TokenSlot::Failed(_) => {}
        }
    }
    let _ = std::fs::remove_file(&worker.door.path);
    if why == Stop::ModuleDied {
        ExitCode::from(70)
    } else {
        ExitCode::SUCCESS
    }
}

fn spawn(
    name: &str,
    worker: &Arc<Worker>,
    body: impl FnOnce(&Arc<Worker>) + Send + 'static,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    let worker = Arc::clone(worker);
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || body(&worker))
}
