//! What a device itself says of its keys, while somebody waits who gave a nonce.
//!
//! An adapter is one folder for each vendor, with what that vendor's device and module need. It runs in
//! the worker, as only the worker has the PIN. Bytes go out as the device made them: the worker judges
//! only that they are of the key that was asked for.
//!
//! | profile | adapter | built |
//! | --- | --- | --- |
//! | `evidence = "tpm2"` | `tpm2` | with feature `tpm`, which links libtss2 |

#[cfg(feature = "tpm")]
pub mod tpm2;

use crate::config::{Config, Profile};
use crate::state_dir::StateDir;
use crate::token::Token;
use countersign_core::ports::evidence::{DeviceChallenge, DeviceIdentity, KeyCertification};
use countersign_hsm_protocol::profile::EvidenceAdapter;
use countersign_hsm_protocol::{EvidenceProblem, WorkerError};
use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;
use zeroize::Zeroizing;

/// Where an adapter works: called from the thread that owns this session, so the module does nothing
/// beside it where it has one session alone.
#[derive(Debug, Clone, Copy)]
pub struct At<'a> {
    /// The folders.
    pub dir: &'a StateDir,
    /// The worker's configuration.
    pub config: &'a Config,
    /// The token, logged in.
    pub token: &'a Token,
    /// This thread's session.
    pub session: &'a Session,
}

/// A key whose binding was checked.
#[derive(Debug, Clone)]
pub struct BoundKey {
    /// The private object, in the session given.
    pub handle: ObjectHandle,
    /// The public key that was bound, DER.
    pub spki: Vec<u8>,
}

/// A device that speaks for itself.
pub trait Adapter: Send + Sync + std::fmt::Debug {
    /// How the device presents itself. Again: the same.
    ///
    /// # Errors
    /// [`WorkerError::Evidence`], or the device's.
    fn identify(&self, at: &At<'_>) -> Result<DeviceIdentity, WorkerError>;

    /// The secret in a challenge to it.
    ///
    /// # Errors
    /// As [`Adapter::identify`].
    fn answer(
        &self,
        at: &At<'_>,
        challenge: &DeviceChallenge,
    ) -> Result<Zeroizing<Vec<u8>>, WorkerError>;

    /// What it certifies of a key.
    ///
    /// # Errors
    /// As [`Adapter::identify`]; [`EvidenceProblem::OtherKey`] if the module holds another key there
    /// than the one bound; [`WorkerError::Latched`].
    fn certify(
        &self,
        at: &At<'_>,
        key: &BoundKey,
        nonce: &[u8],
    ) -> Result<KeyCertification, WorkerError>;
}

/// The adapter that a profile names.
///
/// # Errors
/// [`EvidenceProblem::NoAdapter`] or [`EvidenceProblem::NotBuilt`].
pub fn adapter(profile: &Profile) -> Result<Box<dyn Adapter>, EvidenceProblem> {
    match profile.evidence {
        None => Err(EvidenceProblem::NoAdapter {
            profile: profile.name.clone(),
        }),
        #[cfg(feature = "tpm")]
        Some(EvidenceAdapter::Tpm2) => Ok(Box::new(tpm2::Tpm2::default())),
        #[cfg(not(feature = "tpm"))]
        Some(EvidenceAdapter::Tpm2) => Err(EvidenceProblem::NotBuilt {
            adapter: "TPM".into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_without_an_adapter_says_so_by_name() {
        let profile = Profile::parse(Profile::shipped("softhsm2").unwrap()).unwrap();
        assert_eq!(
            adapter(&profile).unwrap_err().to_string(),
            "profile softhsm2 has no evidence adapter"
        );
        let profile = Profile::parse(Profile::shipped("tpm").unwrap()).unwrap();
        let built = adapter(&profile).map(drop);
        if cfg!(feature = "tpm") {
            assert_eq!(built, Ok(()));
        } else {
            let why = built.unwrap_err().to_string();
            assert_eq!(why, "this worker was built without the TPM adapter");
        }
    }
}
