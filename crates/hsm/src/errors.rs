//! The worker's errors in the words of the port.

use countersign_core::ports::hsm::HsmError;
use countersign_hsm_protocol::{ErrorClass, EvidenceProblem, WorkerError};

/// One table, no default branch: a new error of the worker must be placed here.
pub(crate) fn to_port(error: WorkerError) -> HsmError {
    let refused = |error: &WorkerError| HsmError::Refused {
        code: error.code().to_owned(),
        detail: error.to_string(),
    };
    match error {
        WorkerError::LogBehind { size } => HsmError::LogBehind { size },
        WorkerError::StaleCheckpoint { seen, offered } => HsmError::LogRewound {
            worker: seen,
            offered,
        },
        WorkerError::NoSuchKey => HsmError::NoSuchKey,
        // Expired: the leaf is used up, but no signature was made.
        WorkerError::Busy
        | WorkerError::Expired
        | WorkerError::Evidence(EvidenceProblem::StoreBusy) => HsmError::Busy,
        WorkerError::Stopping => HsmError::Unavailable("the worker is stopping".into()),
        WorkerError::Latched(reason) => HsmError::Latched(reason),
        WorkerError::ModuleMissing(text) => HsmError::ModuleMissing(text),
        WorkerError::Module {
            class,
            signature_possible,
            ..
        } => match class {
            ErrorClass::Caller => refused(&error),
            ErrorClass::Capacity if !signature_possible => HsmError::Busy,
            ErrorClass::NeverRetry => HsmError::Latched(error.to_string()),
            ErrorClass::DeviceGone | ErrorClass::Fatal => HsmError::Unavailable(error.to_string()),
            ErrorClass::Capacity
            | ErrorClass::StaleHandle
            | ErrorClass::SessionGone
            | ErrorClass::LoginGone => HsmError::Module(error.to_string()),
        },
        WorkerError::Evidence(
            EvidenceProblem::NoAdapter { .. } | EvidenceProblem::NotBuilt { .. },
        ) => HsmError::NoEvidence(error.to_string()),
        WorkerError::Evidence(_) => refused(&error),
        WorkerError::Internal(text) => HsmError::Module(text),
        WorkerError::CheckpointForked
        | WorkerError::CheckpointUnsigned
        | WorkerError::CheckpointWrongOrigin { .. }
        | WorkerError::LogStateLost
        | WorkerError::LeafNotInLog
        | WorkerError::LeafAlreadyUsed
        | WorkerError::LeafMalformed(_)
        | WorkerError::NotAnAuthorisation
        | WorkerError::LeafWrongTenant
        | WorkerError::LeafWrongKey
        | WorkerError::LeafWrongScheme
        | WorkerError::LeafWrongDigest
        | WorkerError::DigestNotOfScheme
        | WorkerError::SchemeNotOfKey
        | WorkerError::BindingBroken(_)
        | WorkerError::KeyIdTaken(_)
        | WorkerError::AttributeMismatch { .. }
        | WorkerError::TokenAbsent
        | WorkerError::TokenMissing(_)
        | WorkerError::TokenTaken(_)
        | WorkerError::StateBroken(_)
        | WorkerError::BadRequest { .. } => refused(&error),
    }
}
