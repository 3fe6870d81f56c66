//! What the pool must be told.

use countersign_core::TenantName;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Settings of all workers.
#[derive(Debug, Clone)]
pub struct PoolConfig {
    /// The program `countersign-hsm-worker`.
    pub worker_binary: PathBuf,
    /// The PKCS#11 module in which tokens are made.
    pub module: PathBuf,
    /// Its profile: the name of one in hsm-config/, or a file.
    pub profile: PathBuf,
    /// A folder for each token is made in here. Nodes may share it.
    pub token_root: PathBuf,
    /// A folder for each worker is made in here, of this node alone. The same as `token_root` where
    /// there is one node.
    pub state_root: PathBuf,
    /// The file that seals the PINs; outside both, made by the first worker.
    pub key_file: PathBuf,
    /// Sessions of a worker; `None`: as many as there are cores.
    pub threads: Option<usize>,
    /// How workers are confined.
    pub sandbox: Sandbox,
    /// Tokens that are there already.
    pub existing: Vec<ExistingToken>,
    /// The workers are started by others (each under a user of its own); we only connect.
    pub connect: Option<Connect>,
    /// A signature takes no longer.
    pub call_deadline: Duration,
    /// Making a token or a key takes no longer.
    pub generate_deadline: Duration,
    /// A worker that does not say hello for so long is killed.
    pub start_deadline: Duration,
    /// Calls that may wait for one worker; one more is [`countersign_core::ports::hsm::HsmError::Busy`].
    pub queue: usize,
}

/// A token that the operator's HSM already has.
#[derive(Debug, Clone)]
pub struct ExistingToken {
    /// Its name here: of its folder and its worker's socket, and in health and logs.
    pub name: String,
    /// The vendor's library.
    pub module: PathBuf,
    /// Its profile: the name of one in hsm-config/, or a file.
    pub profile: PathBuf,
    /// `CK_TOKEN_INFO.label`.
    pub label: String,
    /// `CK_TOKEN_INFO.serialNumber`, where the label is not enough.
    pub serial: Option<String>,
    /// `CK_SLOT_ID`, where neither is.
    pub slot: Option<u64>,
    /// The user PIN. Read by the worker alone.
    pub pin_file: PathBuf,
    /// Tenants whose keys are made here.
    pub tenants: Vec<TenantName>,
    /// Files, folders and devices that the module writes, beside what its profile says.
    pub files: Vec<PathBuf>,
    /// Environment that the module needs.
    pub environment: BTreeMap<String, String>,
    /// Sessions; `None`: as [`PoolConfig::threads`].
    pub threads: Option<usize>,
}

/// How a worker is confined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sandbox {
    /// Not at all.
    Off,
    /// System calls that would be refused are logged by the kernel.
    Report,
    /// As far as module's profile and kernel allow.
    Enforce,
}

impl Sandbox {
    /// As in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Report => "report",
            Self::Enforce => "enforce",
        }
    }
}

/// Workers started by others.
#[derive(Debug, Clone)]
pub struct Connect {
    /// Their sockets: `<tenant id>.sock` for a tenant's own token, `token-<name>.sock` for an existing
    /// one.
    pub socket_dir: PathBuf,
    /// The user they run as; a socket that another user serves is not spoken to.
    pub worker_uid: u32,
}

impl ExistingToken {
    /// The name of its folder and of its socket: what is not a plain character stands as `%XX`.
    #[must_use]
    pub fn folder(&self) -> String {
        let mut folder = String::from("token-");
        for byte in self.name.bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.') {
                folder.push(char::from(byte));
            } else {
                folder.push_str(&format!("%{byte:02X}"));
            }
        }
        folder
    }
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
            token_root: state_root.clone(),
            state_root,
            key_file,
            threads: None,
            sandbox: Sandbox::Enforce,
            existing: Vec::new(),
            connect: None,
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
    /// A tenant with keys in one token is named for another. Take it out of the configuration.
    #[error(
        "tenant `{tenant}` is named for token `{token}`, but has a token of its own already, and its keys \
         stay in that one: take it out of `tenants`"
    )]
    TenantElsewhere {
        /// Whom.
        tenant: TenantName,
        /// For which.
        token: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_names_are_never_one_folder() {
        let folder = |name: &str| {
            ExistingToken {
                name: name.into(),
                module: PathBuf::new(),
                profile: PathBuf::new(),
                label: String::new(),
                serial: None,
                slot: None,
                pin_file: PathBuf::new(),
                tenants: vec![],
                files: vec![],
                environment: BTreeMap::new(),
                threads: None,
            }
            .folder()
        };
        assert_eq!(folder("luna-a"), "token-luna-a");
        assert_eq!(folder("Code Sign/A"), "token-Code%20Sign%2FA");
        assert_eq!(folder("../x"), "token-..%2Fx");
        assert_ne!(folder("a b"), folder("a%20b"));
    }
}
