//! `token.json`: what is pinned of a token for ever, and what may be pinned.

use crate::state_dir::{StateDir, read_bounded};
use countersign_core::TenantId;
use countersign_core::ports::hsm::{LogPins, TokenFacts};
use countersign_hsm_protocol::WorkerError;
use serde::{Deserialize, Serialize};

pub(super) const TOKEN_FILE: &str = "token.json";

/// What is pinned when the token is made or adopted, for ever (`token.json`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pinned {
    pub(super) version: u32,
    /// Whose alone; of a shared token, who came first.
    pub(super) tenant: TenantId,
    pub(super) pins: LogPins,
    pub(super) facts: TokenFacts,
    pub(super) binding_mac: bool,
    /// Not made here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) existing: Option<Existing>,
}

/// What is pinned of a token that the operator's HSM already had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Existing {
    pub(super) shared: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenFile {
    pub(super) pinned: Pinned,
    /// HMAC-SHA-256 over `pinned`, hex, by the key in the token.
    pub(super) mac: Option<String>,
}

pub(crate) fn read_token_file(dir: &StateDir) -> Result<Option<TokenFile>, WorkerError> {
    let broken = |e: &dyn std::fmt::Display| WorkerError::StateBroken(format!("{TOKEN_FILE}: {e}"));
    match read_bounded(&dir.token_file(TOKEN_FILE), 64 * 1024).map_err(|e| broken(&e))? {
        None => Ok(None),
        Some(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|e| broken(&e)),
    }
}

pub(super) fn pinned_bytes(pinned: &Pinned) -> Result<Vec<u8>, WorkerError> {
    let mut bytes = b"countersign/token/v1\0".to_vec();
    serde_json::to_writer(&mut bytes, pinned).map_err(|e| WorkerError::Internal(e.to_string()))?;
    Ok(bytes)
}

pub(super) fn bad(field: &str, problem: &str) -> WorkerError {
    WorkerError::BadRequest {
        field: field.to_owned(),
        problem: problem.to_owned(),
    }
}

fn printable(s: &str) -> bool {
    !s.is_empty() && s.bytes().all(|b| b.is_ascii_graphic())
}

pub(super) fn check_label(label: &str) -> Result<(), WorkerError> {
    if printable(label) && label.len() <= 32 {
        Ok(())
    } else {
        Err(bad("label", "1 to 32 printable ASCII characters"))
    }
}

pub(super) fn check_pins(pins: &LogPins) -> Result<(), WorkerError> {
    if !printable(&pins.origin_prefix)
        || pins.origin_prefix.len() > 200
        || pins.origin_prefix.contains('+')
        || pins.origin_prefix.ends_with('/')
    {
        return Err(bad(
            "origin_prefix",
            "1 to 200 printable ASCII characters, no '+', no '/' at the end",
        ));
    }
    if pins.log_public_keys.is_empty() || pins.log_public_keys.len() > 8 {
        return Err(bad("log_public_keys", "1 to 8 keys"));
    }
    Ok(())
}
