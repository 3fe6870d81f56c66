//! What the pool must be told.

use std::path::PathBuf;
use std::time::Duration;

/// Settings of all workers.
#[derive(Debug, Clone)]
pub struct PoolConfig {
    /// The program `countersign-hsm-worker`.
    pub worker_binary: PathBuf,
    /// The PKCS#11 module.
    pub module: PathBuf,
    /// Its profile, from hsm-config/.
    pub profile: PathBuf,
    /// A folder for each tenant's worker is made in here.
    pub state_root: PathBuf,
    /// The file that seals the PINs; outside `state_root`, made by the first worker.
    pub key_file: PathBuf,
    /// Sessions of a worker; `None`: as many as there are cores.
    pub threads: Option<usize>,
    /// A signature takes no longer.
    pub call_deadline: Duration,
    /// Making a token or a key takes no longer.
    pub generate_deadline: Duration,
    /// A worker that does not say hello for so long is killed.
    pub start_deadline: Duration,
    /// Calls that may wait for one worker; one more is [`countersign_core::ports::hsm::HsmError::Busy`].
    pub queue: usize,
}

impl PoolConfig {
    /// With the deadlines and sizes that suit SoftHSM and a network HSM alike.
    #[must_use]
    pub fn new(
        worker_binary: PathBuf,
        module: PathBuf,
        profile: PathBuf,
        state_root: PathBuf,
        key_file: PathBuf,
    ) -> Self {
        Self {
            worker_binary,
            module,
            profile,
            state_root,
            key_file,
            threads: None,
            call_deadline: Duration::from_secs(10),
            generate_deadline: Duration::from_secs(60),
            start_deadline: Duration::from_secs(30),
            queue: 1024,
        }
    }
}

/// Why the pool cannot start.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// A folder or file. Correct it and start again.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The worker program is not there. Install it beside the server or say where it is.
    #[error("the worker program {} is missing", .0.display())]
    NoWorkerProgram(PathBuf),
}
