//! Evidence of a key: appraised before it counts, kept, shown.

use super::appraisal::Appraised;
use super::result_json;
use crate::actor::Actor;
use crate::caller::Caller;
use crate::sequencer::{DetailsDraft, Submission};
use crate::tenants::{Written, cut, tenant_draft};
use crate::use_key::text_opening;
use crate::{Service, SigningError};
use countersign_attestation::result::AttestationResult;
use countersign_core::ports::rows::{EvidenceFile, EvidenceRow, KeyRow, TenantRow};
use countersign_core::ports::store::{Effect, Guard};
use countersign_core::text::disguises;
use countersign_core::{KeyId, KeyState, Micros, RequestId, TenantName};
use countersign_signing_log::commitment::{HexHash, LABEL_DETAIL};
use countersign_signing_log::leaf::{EvidenceAdded, LeafBody};
use sha2::{Digest as _, Sha256};

/// Most files of evidence for one key: as many as the verifier reads.
pub const MAX_EVIDENCE_FILES: usize = countersign_attestation::verify::parts::MAX_FILES;
/// Most bytes of them all. What vendors' tools write has some 100 KiB at most.
pub const MAX_EVIDENCE_BYTES: usize = 640 * 1024;
/// Longest name of a file.
const MAX_NAME: usize = 255;
/// How often evidence is written again because the tenant changed under it.
const TRIES: usize = 8;

/// Evidence as somebody hands it in.
#[derive(Debug, Clone)]
pub struct NewEvidence {
    /// Names and bytes.
    pub files: Vec<(String, Vec<u8>)>,
    /// The nonce it was made for, 8 to 64 bytes, if it was made for one.
    pub nonce: Option<Vec<u8>>,
}

/// Evidence as it is shown.
#[derive(Debug, Clone)]
pub struct EvidenceView {
    /// Name, size and SHA-256 of each file.
    pub files: Vec<(String, usize, [u8; 32])>,
    /// The nonce it was made for.
    pub nonce: Option<Vec<u8>>,
    /// The attestation result of its appraisal, and when that was.
    pub result: Option<(serde_json::Value, Micros)>,
}

impl NewEvidence {
    /// Within bounds, and hashed.
    fn checked(self) -> Result<(Vec<EvidenceFile>, Option<Vec<u8>>), SigningError> {
        if self.files.is_empty() || self.files.len() > MAX_EVIDENCE_FILES {
            return Err(SigningError::invalid(
                "files",
                format!("1 to {MAX_EVIDENCE_FILES} files"),
            ));
        }
        let mut all = 0_usize;
        let mut files = Vec::with_capacity(self.files.len());
        for (i, (name, bytes)) in self.files.into_iter().enumerate() {
            if name.is_empty() || name.len() > MAX_NAME || name.chars().any(disguises) {
                return Err(SigningError::invalid(
                    format!("files[{i}].name"),
                    format!(
                        "1 to {MAX_NAME} bytes without control characters and marks that turn the direction of \
                         text"
                    ),
                ));
            }
            all = all.saturating_add(bytes.len());
            if bytes.is_empty() || all > MAX_EVIDENCE_BYTES {
                return Err(SigningError::invalid(
                    format!("files[{i}].content"),
                    format!(
                        "not empty, and {MAX_EVIDENCE_BYTES} bytes at most in all files together"
                    ),
                ));
            }
            files.push(EvidenceFile {
                name,
                sha256: Sha256::digest(&bytes).into(),
                bytes,
            });
        }
        match &self.nonce {
            Some(n) if !(8..=64).contains(&n.len()) => {
                Err(SigningError::invalid("nonce", "8 to 64 bytes"))
            }
            _ => Ok((files, self.nonce)),
        }
    }
}

impl From<EvidenceRow> for EvidenceView {
    fn from(row: EvidenceRow) -> Self {
        let of = |f: EvidenceFile| (f.name, f.bytes.len(), f.sha256);
        Self {
            files: row.files.into_iter().map(of).collect(),
            nonce: row.nonce,
            result: serde_json::from_str(&row.result)
                .ok()
                .map(|result| (result, row.appraised)),
        }
    }
}

impl Service {
    /// Evidence that a vendor's tool made of a key: appraised by the tenant's policy before it counts.
    ///
    /// # Errors
    /// [`SigningError::Appraisal`] names each check that failed or could not be decided; nothing has
    /// changed then but the tenant's log, which counts the refusal.
    pub async fn add_evidence(
        &self,
        caller: &Caller,
        name: &TenantName,
        key: KeyId,
        evidence: NewEvidence,
        rid: &RequestId,
    ) -> Result<EvidenceView, SigningError> {
        let tenant = self.admin(caller, name, rid).await?;
        let row = self
            .store()
            .key(tenant.id, key)
            .await?
            .ok_or(SigningError::NotFound)?;
        // What is told of a key that is not the caller's is told above; of the body only below.
        let (files, nonce) = evidence.checked()?;
        let actor = Actor::Person(caller, rid);
        match self
            .keep_evidence(actor, &tenant, &row, files, nonce)
            .await?
        {
            Kept::Accepted(row) => Ok((*row).into()),
            Kept::Refused(result) => Err(self.evidence_refused(caller, &row, &result, rid)),
        }
    }

    /// The evidence kept for a key.
    ///
    /// # Errors
    /// [`SigningError::NotFound`] if there is no such key; a key without evidence has an empty list.
    pub async fn evidence(
        &self,
        caller: &Caller,
        name: &TenantName,
        key: KeyId,
    ) -> Result<EvidenceView, SigningError> {
        let tenant = self.reader(caller, name)?;
        if self.store().key(tenant, key).await?.is_none() {
            return Err(SigningError::NotFound);
        }
        Ok(self.store().evidence(tenant, key).await?.map_or(
            EvidenceView {
                files: Vec::new(),
                nonce: None,
                result: None,
            },
            Into::into,
        ))
    }

    /// Appraises evidence and, where it is accepted, keeps it with its leaf, in place of what was
    /// there. For whoever brings it: a person, or the service itself with what a token made for an
    /// order's nonce.
    pub(crate) async fn keep_evidence(
        &self,
        actor: Actor<'_>,
        tenant: &TenantRow,
        row: &KeyRow,
        files: Vec<EvidenceFile>,
        nonce: Option<Vec<u8>>,
    ) -> Result<Kept, SigningError> {
        let key = row.id;
        for _ in 0..TRIES {
            // The policy as it is when the leaf is written.
            let current = self.still_allowed(actor, tenant.id).await?;
            let row = self
                .store()
                .key(tenant.id, key)
                .await?
                .ok_or(SigningError::NotFound)?;
            match row.state {
                KeyState::Generated
                | KeyState::Appraised
                | KeyState::Active
                | KeyState::Suspended => {}
                state => return Err(SigningError::KeyNotActive { state }),
            }
            let result = self
                .appraise_by(Appraised {
                    policy: &current.policy,
                    row: &row,
                    files: &files,
                    nonce: nonce.as_deref(),
                })
                .await?;
            if result.verdict != countersign_attestation::Verdict::Accept {
                return Ok(Kept::Refused(Box::new(result)));
            }
            let json = result_json(&result)?;
            let (body, details) = leaf(actor, &row, &files, &result, &json)?;
            let now = self.clock().now();
            let kept = EvidenceRow {
                tenant: tenant.id,
                key,
                files: files.clone(),
                nonce: nonce.clone(),
                result: json.clone(),
                appraised: now,
            };
            let mut effects = vec![
                Effect::PutEvidence(Box::new(kept.clone())),
                Effect::SetAppraisal(tenant.id, key, json),
            ];
            let sighting = self.sighting(&row, &result, now);
            effects.extend(sighting.clone().map(Effect::SeeDevice));
            let submission = Submission {
                drafts: vec![tenant_draft(tenant.id, body, details)],
                effects,
                guard: Some(Guard {
                    tenant: tenant.id,
                    version: current.version,
                }),
                ..Submission::default()
            };
            match self.commit_or_stale(tenant.id, submission).await? {
                Written::Done => {
                    if let Some(sighting) = &sighting {
                        self.tell_shared_device(sighting).await;
                    }
                    return Ok(Kept::Accepted(Box::new(kept)));
                }
                Written::Stale => {}
            }
        }
        Err(SigningError::Unavailable(
            "the tenant is being changed at this moment".into(),
        ))
    }
}

/// What became of evidence.
#[derive(Debug)]
pub(crate) enum Kept {
    /// It counts from now on.
    Accepted(Box<EvidenceRow>),
    /// It does not; nothing has changed.
    Refused(Box<AttestationResult>),
}

/// The leaf, and what opens its commitments: names of files are the customer's.
fn leaf(
    actor: Actor<'_>,
    row: &KeyRow,
    files: &[EvidenceFile],
    result: &AttestationResult,
    json: &str,
) -> Result<(LeafBody, Option<DetailsDraft>), SigningError> {
    let names: Vec<&str> = files.iter().map(|f| f.name.as_str()).collect();
    let names = text_opening(&serde_json::json!({ "files": names }).to_string())?;
    let mut evidence = vec![HexHash(Sha256::digest(&row.spki).into())];
    evidence.extend(files.iter().map(|f| HexHash(f.sha256)));
    let body = EvidenceAdded {
        key: row.id.to_string(),
        result: "accept".into(),
        formats: result.formats.iter().map(|f| cut(f)).collect(),
        evidence,
        result_sha256: HexHash(Sha256::digest(json).into()),
        detail: Some(names.commitment(LABEL_DETAIL)),
    };
    let mut details = actor.details().unwrap_or_default();
    details.detail = Some(names);
    Ok((LeafBody::EvidenceAdded(body), Some(details)))
}
