//! A detached CMS beside any file: `NAME.p7s`, DER, checked with
//! `openssl cms -verify -binary -inform DER -in NAME.p7s -content NAME`.

use crate::{Existing, FormatError, files};
use countersign_content::{Submission, cms};
use countersign_core::{HashAlgorithm, Micros};
use std::path::{Path, PathBuf};

/// Where the signature of `path` goes: the same name with `.p7s` after it.
#[must_use]
pub fn signature_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".p7s");
    PathBuf::from(name)
}

/// Hashes the file (of any size) and builds the attributes. The signer's certificate is named inside,
/// so that a signature cannot be taken for that of another certificate with the same key (RFC 5035 §1).
pub(crate) fn submission(
    path: &Path,
    algorithm: HashAlgorithm,
    signer: &[u8],
    signing_time: Option<Micros>,
) -> Result<Submission, FormatError> {
    let digest = files::digest(path, algorithm)?;
    Ok(Submission::Cms {
        signed_attributes: cms::signed_attributes(&digest, signing_time, Some(signer), None)?,
    })
}

/// Asked before anything is signed, so that no signature is spent on output with no place to go.
pub(crate) fn check_target(target: &Path, existing: Existing) -> Result<(), FormatError> {
    let there = target
        .try_exists()
        .map_err(|e| FormatError::io("look for", target, &e))?;
    let path = target.to_path_buf();
    match existing {
        Existing::Refuse if there => Err(FormatError::SignatureExists { path }),
        Existing::Append if there => Err(FormatError::CannotAppend { path }),
        _ => Ok(()),
    }
}
