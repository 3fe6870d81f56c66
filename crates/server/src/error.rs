//! Why the program ends with an error. Each text says what to do.

use countersign_ca::ConnectorError;
use countersign_hsm::PoolError;
use countersign_signing::SigningError;
use countersign_store::{OpenError, postgres};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why `countersignd` does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The configuration is wrong: correct the file.
    #[error("{}", at(.file, *.line, .problem))]
    Config {
        /// The file.
        file: PathBuf,
        /// The line, where it is known.
        line: Option<usize>,
        /// What is wrong, with the key's name.
        problem: String,
    },
    /// A file cannot be read or written.
    #[error("{}: {error}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// A secret that others can read is no secret.
    #[error("{}: others can read this secret (mode {mode:04o}); run: chmod 600 {}", .path.display(), .path.display())]
    NotPrivate {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A file does not hold what it must.
    #[error("{}: {problem}", .path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// `init` was pointed at a folder that holds a deployment.
    #[error("{} exists: this folder holds a deployment already; nothing was changed", .0.display())]
    Exists(PathBuf),
    /// The PKCS#11 module is not there.
    #[error("the PKCS#11 module {module} is missing: {advice}")]
    ModuleMissing {
        /// Which.
        module: String,
        /// What to install.
        advice: &'static str,
    },
    /// The system lets this process open too few files for its connections.
    #[error(
        "connections: {connections} of them need {needed} open files, and the system allows {allowed}: \
        allow more (LimitNOFILE=, ulimit -Hn), or set [limits] connections lower"
    )]
    OpenFiles {
        /// As configured.
        connections: usize,
        /// Files, with those for everything else.
        needed: u64,
        /// The hard limit.
        allowed: u64,
    },
    /// The port is taken, or the address is not ours. Retry when it is free.
    #[error("cannot listen on {address}: {error}{}", taken(.error))]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        error: std::io::Error,
    },
    /// The database.
    #[error("database: {0}")]
    Database(#[from] OpenError),
    /// The database on a PostgreSQL server.
    #[error("database: {0}")]
    Postgres(#[from] postgres::OpenError),
    /// The URL of a PostgreSQL server on the command line.
    #[error("the URL is wrong: {0}")]
    Url(String),
    /// The token workers.
    #[error("token workers: {0}")]
    Workers(#[from] PoolError),
    /// A CA's connector.
    #[error("cas: \"{name}\": {error}")]
    Ca {
        /// Which.
        name: String,
        /// What is wrong.
        error: ConnectorError,
    },
    /// The service behind the API.
    #[error("{0}")]
    Service(#[from] SigningError),
    /// TLS.
    #[error("tls: {0}")]
    Tls(String),
    /// The HTTP server stopped by itself.
    #[error("the HTTP server stopped: {0}")]
    Http(std::io::Error),
    /// This node stalled past its lease. Starting it again is right: the new run begins clean.
    #[error("this node stalled past its lease and was declared dead by another: start it again")]
    Buried,
    /// Asked to stop, and what it had done could not all be written in time. Starting it again, or any
    /// other node, closes what is open as `unknown`.
    #[error(
        "stopped before all was written: {open} authorisations have no outcome in the log and will stand there as \
         unknown (node-stopped); was the database away?"
    )]
    Undrained {
        /// Authorisations without outcome.
        open: u64,
    },
    /// Something is broken in here.
    #[error("internal: {0}")]
    Internal(String),
}

impl ServerError {
    /// The exit code: 64 the configuration or the command, 5 a part is away (retry), 70 a bug.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Postgres(postgres::OpenError::Away { .. }) => 5,
            Self::Config { .. }
            | Self::File { .. }
            | Self::NotPrivate { .. }
            | Self::Content { .. }
            | Self::Exists(_)
            | Self::ModuleMissing { .. }
            | Self::OpenFiles { .. }
            | Self::Ca { .. }
            | Self::Workers(_)
            | Self::Postgres(_)
            | Self::Url(_)
            | Self::Tls(_) => 64,
            Self::Listen { .. }
            | Self::Database(_)
            | Self::Buried
            | Self::Undrained { .. }
            | Self::Service(SigningError::Unavailable(_) | SigningError::Busy) => 5,
            Self::Service(_) | Self::Http(_) | Self::Internal(_) => 70,
        }
    }

    /// For `map_err` on file operations.
    pub fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |error| Self::File { path, error }
    }
}

fn at(file: &std::path::Path, line: Option<usize>, problem: &str) -> String {
    match line {
        Some(line) => format!("{}, line {line}: {problem}", file.display()),
        None => format!("{}: {problem}", file.display()),
    }
}

fn taken(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            "; another program (perhaps another countersignd) listens there: stop it, or change `listen`"
        }
        std::io::ErrorKind::PermissionDenied => "; ports below 1024 need a privilege",
        std::io::ErrorKind::AddrNotAvailable => "; `listen` must be an address of this machine",
        _ => "",
    }
}
