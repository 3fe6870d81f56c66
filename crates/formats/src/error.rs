//! What can go wrong on the client's side.

use crate::pe::PeError;
use countersign_content::{ContentRefusal, ContentType};
use countersign_x509::asn1::Asn1Error;
use std::io;
use std::path::{Path, PathBuf};

/// Signing a file did not work. The file is as it was in every case.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Reading or writing a file failed. A retry may help, depending on the kind.
    #[error("cannot {action} {}: {kind}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        kind: io::ErrorKind,
    },
    /// Larger than this format allows. Retrying cannot help.
    #[error("{} is larger than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// Not a regular file (a folder, a pipe, a device). Retrying cannot help.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// What was given.
        path: PathBuf,
    },
    /// The file changed between hashing and writing the signature. Sign it again.
    #[error("{} changed while it was being signed", path.display())]
    ChangedMeanwhile {
        /// The file.
        path: PathBuf,
    },
    /// Not an executable that can be signed. Retrying cannot help.
    #[error(transparent)]
    Pe(#[from] PeError),
    /// The content that was built, or found in a signature, is not allowed. Retrying cannot help.
    #[error(transparent)]
    Content(#[from] ContentRefusal),
    /// A CMS or token is not readable. Retrying cannot help.
    #[error("not a readable CMS signature: {0}")]
    Cms(#[from] Asn1Error),
    /// The signature could not be assembled from the service's answer. Retrying cannot help.
    #[error("cannot assemble the signature: {reason}")]
    Assemble {
        /// What was wrong.
        reason: String,
    },
    /// The service signed with another certificate than the one that was prepared for, perhaps because
    /// it was renewed in between. Sign again.
    #[error("the service signed with another certificate than expected: sign again")]
    OtherCertificate,
    /// The service's signature is not valid over what was sent. Do not use it; retrying may help.
    #[error("the service's signature does not verify")]
    BadSignature,
    /// The timestamp token is not for this signature. Fetch another one.
    #[error("the timestamp is not for this signature: {reason}")]
    BadTimestamp {
        /// What was wrong.
        reason: String,
    },
    /// `NAME.p7s` is there already and replacing was not asked for.
    #[error("{} exists already: use --replace", path.display())]
    SignatureExists {
        /// The signature file.
        path: PathBuf,
    },
    /// A detached signature cannot be appended to; write another file instead.
    #[error("{} cannot be appended to: use --replace or --out", path.display())]
    CannotAppend {
        /// The signature file.
        path: PathBuf,
    },
    /// Content of this type is not a file, so no file has its digest. Retrying cannot help.
    #[error("{content} is not a file's content")]
    NoFileDigest {
        /// The type.
        content: ContentType,
    },
}

impl FormatError {
    pub(crate) fn io(action: &'static str, path: &Path, error: &io::Error) -> Self {
        Self::Io {
            action,
            path: path.to_path_buf(),
            kind: error.kind(),
        }
    }
}
