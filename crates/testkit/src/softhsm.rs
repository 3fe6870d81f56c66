//! Is SoftHSM2 here? Tests that need it say what to install instead of failing obscurely.

use crate::error::{Error, Result};
use std::path::PathBuf;

const MODULES: [&str; 5] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
];

/// Finds the PKCS#11 module; `SOFTHSM2_MODULE` overrides the usual places.
///
/// # Errors
/// [`Error::Missing`] with the command that installs it.
pub fn module() -> Result<PathBuf> {
    std::env::var_os("SOFTHSM2_MODULE")
        .map(PathBuf::from)
        .into_iter()
        .chain(MODULES.iter().map(PathBuf::from))
        .find(|p| p.exists())
        .ok_or(Error::Missing {
            tool: "SoftHSM2 (libsofthsm2.so)",
            install: "apt-get install softhsm2, or set SOFTHSM2_MODULE to its path",
        })
}
