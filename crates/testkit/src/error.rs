//! What can go wrong in the kit.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Result with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the kit. None of them is worth a retry but [`Error::NotReady`] on a slow machine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or socket.
    #[error("{what}: {source}")]
    Io {
        /// Which.
        what: String,
        /// Why.
        source: std::io::Error,
    },
    /// A file that is not what we wrote.
    #[error("{}: {message}", path.display())]
    State {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A certificate or TLS configuration could not be made.
    #[error("TLS: {0}")]
    Tls(String),
    /// A token could not be made.
    #[error("token: {0}")]
    Token(String),
    /// A tool that we run is missing.
    #[error("{tool} is not installed: {install}")]
    Missing {
        /// What.
        tool: &'static str,
        /// How to get it.
        install: &'static str,
    },
    /// A tool that we ran failed.
    #[error("{tool} failed: {message}")]
    Tool {
        /// What.
        tool: String,
        /// Its own words.
        message: String,
    },
    /// The service did not do what a load run asked of it.
    #[error("load: {0}")]
    Load(String),
    /// A program did not say in time that it is ready.
    #[error("{program} was not ready after {}s: {message}", after.as_secs())]
    NotReady {
        /// Which.
        program: String,
        /// How long we waited.
        after: Duration,
        /// What it said instead.
        message: String,
    },
    /// A program of ours has not been built.
    #[error("{name} is not in {}: build it first (cargo build -p {package})", dir.display())]
    NotBuilt {
        /// File name.
        name: String,
        /// Its package.
        package: String,
        /// Where we looked.
        dir: PathBuf,
    },
}

/// Names what an I/O error was about.
pub(crate) fn at(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
    let what = what.into();
    move |source| Error::Io { what, source }
}

/// The same for a path.
pub(crate) fn at_path(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    at(path.display().to_string())
}
