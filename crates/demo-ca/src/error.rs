//! What can go wrong in the program itself. Refusals of requests are not errors: they are answers.

use std::path::PathBuf;

/// Why the program cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A file or folder could not be read or written. A retry helps once the cause is gone.
    #[error("{path}: {source}")]
    File {
        path: PathBuf,
        source: std::io::Error,
    },
    /// A file holds something else than it should. Retrying cannot help.
    #[error("{path}: {problem}")]
    Content { path: PathBuf, problem: String },
    /// An argument makes no sense. Retrying cannot help.
    #[error("--{argument}: {problem}")]
    Argument {
        argument: &'static str,
        problem: String,
    },
    /// An address could not be listened on. A retry helps once it is free.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        address: std::net::SocketAddr,
        source: std::io::Error,
    },
    /// Making a key or a signature failed.
    #[error("cryptography: {0}")]
    Crypto(&'static str),
    /// A certificate could not be built: a fault of this program.
    #[error("certificate: {0}")]
    Certificate(String),
    /// The server stopped unexpectedly.
    #[error("server: {0}")]
    Server(std::io::Error),
}

impl Error {
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }

    /// As the exit codes of `countersign`: 64 usage, 5 unavailable, 70 internal.
    pub(crate) const fn exit_code(&self) -> u8 {
        match self {
            Self::File { .. } | Self::Content { .. } | Self::Argument { .. } => 64,
            Self::Listen { .. } => 5,
            Self::Crypto(_) | Self::Certificate(_) | Self::Server(_) => 70,
        }
    }
}
