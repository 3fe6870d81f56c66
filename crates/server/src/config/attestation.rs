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
}

impl Attestation {
    /// The makers' anchors, and those of the files.
    ///
    /// # Errors
    /// [`ServerError`] for a file that holds none.
    pub fn anchors(&self) -> Result<Anchors, ServerError> {
        let mut all = Anchors::pinned();
        for path in &self.trust_anchors {
            let bytes = files::read_bytes(path)?;
            // Results name the file, not where it lies.
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            all.add_file(&name, &bytes)
                .map_err(|e| ServerError::Content {
                    path: path.clone(),
                    problem: e.to_string(),
                })?;
        }
        Ok(all)
    }
}
