//! `[attestation]`: whom to trust for device evidence.

use crate::ServerError;
use crate::files;
use countersign_attestation::Anchors;
use serde::Deserialize;
use std::path::PathBuf;

/// `[attestation]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Attestation {
    /// Certificates or public keys, PEM or DER, trusted beside the makers' that are built in: an
    /// attestation CA of one's own, a maker's root that is newer than this release.
    pub trust_anchors: Vec<PathBuf>,
    /// The same for CAs that certify TPMs' attestation keys, and for nothing else: an attestation key
    /// can sign what another maker's device would.
    pub attestation_key_cas: Vec<PathBuf>,
    /// How often a second evidence is appraised (`POST /v1/attestations/verify`) for callers without a
    /// service token, all together; 0: never.
    pub anyone_per_s: u32,
}

impl Attestation {
    /// All files named.
    pub(super) fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let attestation_keys = &mut self.attestation_key_cas;
        self.trust_anchors.iter_mut().chain(attestation_keys)
    }

    /// The makers' anchors, and those of the files.
    ///
    /// # Errors
    /// [`ServerError`] for a file that holds none.
    pub fn anchors(&self) -> Result<Anchors, ServerError> {
        let mut all = Anchors::pinned();
        let of_any_maker = self.trust_anchors.iter().map(|p| (p, false));
        let of_attestation_keys = self.attestation_key_cas.iter().map(|p| (p, true));
        for (path, attestation_keys_only) in of_any_maker.chain(of_attestation_keys) {
            let bytes = files::read_bytes(path)?;
            // Results name the file, not where it lies.
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if attestation_keys_only {
                all.add_attestation_key_cas(&name, &bytes)
            } else {
                all.add_file(&name, &bytes)
            }
            .map_err(|e| ServerError::Content {
                path: path.clone(),
                problem: e.to_string(),
            })?;
        }
        Ok(all)
    }
}
