//! SoftHSM's folder: a configuration and a token directory of its own for each token, so that the
//! process can see no other.

use crate::state_dir::{StateDir, make_private, sync_dir, write_durably};
use crate::token::read_token_file;
use countersign_hsm_protocol::WorkerError;

/// Prepares the folder, under the token's lock. A half-made token (no `token.json`) is moved aside, never deleted.
///
/// # Errors
/// [`WorkerError::StateBroken`], for instance if `token.json` is gone although keys are bound.
pub fn prepare(dir: &StateDir) -> Result<std::path::PathBuf, WorkerError> {
    let broken = |e: &dyn std::fmt::Display| WorkerError::StateBroken(e.to_string());
    let tokens = dir.token_file("tokens");
    if read_token_file(dir)?.is_none() {
        if !dir.bound_keys().map_err(|e| broken(&e))?.is_empty() {
            return Err(broken(
                &"token.json is gone although keys are bound: restore it, do not make a new token",
            ));
        }
        let used = std::fs::read_dir(&tokens).is_ok_and(|mut d| d.next().is_some());
        if used {
            let aside = (0..10_000_u32)
                .map(|n| dir.token_file(&format!("tokens.abandoned-{n}")))
                .find(|p| !p.exists())
                .ok_or_else(|| broken(&"too many abandoned tokens"))?;
            std::fs::rename(&tokens, &aside).map_err(|e| broken(&e))?;
            sync_dir(dir.token_root()).map_err(|e| broken(&e))?;
            tracing::warn!(folder = %aside.display(), "moved a half-made token aside");
        }
    }
    make_private(&tokens).map_err(|e| broken(&e))?;
    configure(dir)
}

/// Writes the configuration that leads to the token's folder alone.
///
/// # Errors
/// [`WorkerError::StateBroken`].
pub fn configure(dir: &StateDir) -> Result<std::path::PathBuf, WorkerError> {
    let broken = |e: &dyn std::fmt::Display| WorkerError::StateBroken(e.to_string());
    let tokens = dir.token_file("tokens");
    let conf = dir.file("softhsm2.conf");
    let text = format!(
        "# Written by countersign-hsm-worker.\ndirectories.tokendir = {}\nobjectstore.backend = file\n\
         log.level = ERROR\nslots.removable = false\n",
        tokens.display()
    );
    write_durably(&conf, text.as_bytes()).map_err(|e| broken(&e))?;
    Ok(conf)
}
