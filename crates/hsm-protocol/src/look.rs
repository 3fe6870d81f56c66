//! What `countersign-hsm-worker look` prints: module and token as they are found without a login.

use crate::error::WorkerError;
use countersign_core::ports::hsm::SandboxMeasure;
use serde::{Deserialize, Serialize};

/// One look, as one JSON document on standard output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// How a worker is confined here.
    pub sandbox: Vec<SandboxMeasure>,
    /// The module's own words (`C_GetInfo`), or why it cannot be used.
    pub module: Result<String, WorkerError>,
    /// The token.
    pub token: Result<TokenSeen, WorkerError>,
}

/// What was seen of a token without a login.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TokenSeen {
    /// None was asked for, or none was made yet.
    None,
    /// It is there, and the PIN can be had. Whether it is the right one only a login says.
    There {
        /// `CK_TOKEN_INFO.label`.
        label: String,
        /// `CK_TOKEN_INFO.serialNumber`.
        serial: String,
        /// What the token says of its user PIN.
        pin: PinState,
    },
}

/// What a token says of its user PIN: its flags (PKCS#11 v3.1, `CK_TOKEN_INFO`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PinState {
    /// Nothing in particular.
    Good,
    /// `CKF_USER_PIN_COUNT_LOW`: a wrong one was tried since the last login.
    CountLow,
    /// `CKF_USER_PIN_FINAL_TRY`: one more wrong one locks it.
    FinalTry,
    /// `CKF_USER_PIN_LOCKED`.
    Locked,
    /// `CKF_USER_PIN_TO_BE_CHANGED`.
    ToBeChanged,
    /// `CKF_USER_PIN_INITIALIZED` is not set.
    NotSet,
}
