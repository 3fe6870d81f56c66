//! The gate: what a key must show before a request for it leaves. It is asked anew each time, of the
//! policy, the anchors and the moment that are now.

use crate::caller::Caller;
use crate::denials::Refusal;
use crate::{Service, SigningError};
use countersign_attestation::Anchors;
use countersign_attestation::hardware::appraise_hardware;
use countersign_attestation::result::{AttestationResult, Verdict};
use countersign_attestation::software::{
    SoftwareKey, appraise_software, appraise_software_with_evidence,
};
use countersign_attestation::statement::{AttributeClaim, Device};
use countersign_attestation::time::UnixSeconds;
use countersign_attestation::verify::{
    File, Policy, PolicyError, Question, Requirement, SubjectFile,
};
use countersign_core::RequestId;
use countersign_core::ports::rows::{EvidenceFile, KeyRow, TenantPolicy, TenantRow};
use std::sync::Arc;

/// Appraisals at once: hostile evidence costs hundreds of signature checks.
pub(crate) const AT_ONCE: usize = 2;

/// Most demands in a tenant's policy.
const MAX_DEMANDS: usize = 32;
/// Longest demand.
const MAX_DEMAND: usize = 256;

/// What a key is appraised by.
pub(crate) struct Appraised<'a> {
    pub policy: &'a TenantPolicy,
    pub row: &'a KeyRow,
    pub files: &'a [EvidenceFile],
    pub nonce: Option<&'a [u8]>,
}

/// Reads a tenant's demands: `origin`, tightened. Of serial numbers, formats, makers and certified
/// levels one of those named is enough; of everything else all must hold.
///
/// # Errors
/// The word that is none.
fn policy_of(words: &[String]) -> Result<Policy, PolicyError> {
    let mut policy = Policy::origin();
    for word in words {
        match word.parse()? {
            Requirement::Serial(s) => policy.serial.push(s),
            Requirement::Format(f) => policy.formats.push(f),
            Requirement::Vendor(v) => policy.vendors.push(v),
            Requirement::Certified(l) => policy.certified.push(l),
            other => policy = policy.require(other),
        }
    }
    if !words.is_empty() {
        policy.name = "the tenant's, on top of origin".to_owned();
    }
    Ok(policy)
}

/// Demands as an administrator gives them, checked.
///
/// # Errors
/// [`SigningError::Invalid`] names the word.
pub(crate) fn demands(words: Vec<String>) -> Result<Vec<String>, SigningError> {
    let invalid = |what: String| SigningError::invalid("evidence", what);
    if words.len() > MAX_DEMANDS || words.iter().any(|w| w.len() > MAX_DEMAND) {
        return Err(invalid(format!(
            "at most {MAX_DEMANDS} demands of at most {MAX_DEMAND} bytes"
        )));
    }
    if let Some(word) = words
        .iter()
        .find(|w| w.chars().any(countersign_core::text::disguises))
    {
        return Err(invalid(format!("{word:?} holds characters that disguise")));
    }
    policy_of(&words).map_err(|e| invalid(e.to_string()))?;
    let mut kept: Vec<String> = Vec::with_capacity(words.len());
    for word in words {
        if !kept.contains(&word) {
            kept.push(word);
        }
    }
    Ok(kept)
}

impl Service {
    /// Appraises a key, here and now. The verdict is the caller's to act on.
    pub(crate) async fn appraise_by(
        &self,
        a: Appraised<'_>,
    ) -> Result<AttestationResult, SigningError> {
        let internal = |e: String| SigningError::Internal(format!("appraisal: {e}"));
        // What stands in the database was checked when it was set.
        let policy = policy_of(&a.policy.evidence)
            .map_err(|e| internal(format!("the tenant's policy: {e}")))?;
        let job = Job {
            policy,
            demanding: !a.policy.evidence.is_empty(),
            allow_software: a.policy.allow_software,
            software: a.row.facts.software,
            spki: a.row.spki.clone(),
            device: device(a.row),
            attributes: attributes(a.row),
            files: a.files.to_vec(),
            nonce: a.nonce.map(<[u8]>::to_vec),
            at: self.seconds()?,
            anchors: Arc::clone(&self.settings().anchors),
        };
        let _place = self
            .appraisals()
            .acquire()
            .await
            .map_err(|e| internal(e.to_string()))?;
        tokio::task::spawn_blocking(move || job.appraise())
            .await
            .map_err(|e| internal(e.to_string()))
    }

    /// The same, but anything short of acceptance is an error that stands in the tenant's log
    /// (invariant 7).
    async fn accept(
        &self,
        caller: &Caller,
        a: Appraised<'_>,
        rid: &RequestId,
    ) -> Result<AttestationResult, SigningError> {
        let row = a.row;
        let result = self.appraise_by(a).await?;
        if result.verdict == Verdict::Accept {
            return Ok(result);
        }
        self.log_appraisal(caller, row, &failing(&result), rid);
        Err(refusal(&result))
    }

    /// Evidence that was not taken: it stands in the tenant's log, and is told with its reasons.
    pub(super) fn evidence_refused(
        &self,
        caller: &Caller,
        row: &KeyRow,
        result: &AttestationResult,
        rid: &RequestId,
    ) -> SigningError {
        let reason = format!("evidence:{}", failing(result));
        self.refused(caller, Some(&row.signer), Refusal::Denied, &reason, rid);
        refusal(result)
    }

    /// Appraises a key by the evidence that is kept for it. `nonce`: of the order at hand, once there
    /// is one. Gives the evidence along with the result: what was appraised is what goes out.
    pub(super) async fn appraise_kept(
        &self,
        caller: &Caller,
        tenant: &TenantRow,
        row: &KeyRow,
        nonce: Option<&[u8]>,
        rid: &RequestId,
    ) -> Result<(AttestationResult, Vec<EvidenceFile>), SigningError> {
        let kept = self.store().evidence(tenant.id, row.id).await?;
        let (files, made_for) = kept.map_or((Vec::new(), None), |e| (e.files, e.nonce));
        let nonce = match (nonce, made_for.as_deref()) {
            // Before there is an order: fresh as far as anybody can say.
            (None, made_for) => made_for,
            (Some(order), Some(made_for)) if order == made_for => Some(order),
            // Made for another order, or for none. A policy that wants fresh evidence is told which
            // nonce it carries; one that does not takes it as what it is, evidence of no order.
            (Some(order), _) => tenant
                .policy
                .evidence
                .iter()
                .any(|w| w == "fresh")
                .then_some(order),
        };
        let result = self
            .accept(
                caller,
                Appraised {
                    policy: &tenant.policy,
                    row,
                    files: &files,
                    nonce,
                },
                rid,
            )
            .await?;
        Ok((result, files))
    }

    /// A key that may not be certified: the reason belongs into the tenant's log (invariant 7).
    pub(super) fn log_appraisal(
        &self,
        caller: &Caller,
        row: &KeyRow,
        checks: &str,
        rid: &RequestId,
    ) {
        let reason = format!("appraisal:{checks}");
        self.refused(caller, Some(&row.signer), Refusal::Denied, &reason, rid);
    }
}

/// The checks that stand in the way, by name.
fn failing(result: &AttestationResult) -> String {
    let mut names: Vec<_> = result.reasons().map(|c| c.name.as_ref()).collect();
    names.dedup();
    names.join(",")
}

/// What stands in the way, check by check.
fn refusal(result: &AttestationResult) -> SigningError {
    SigningError::Appraisal {
        reasons: result
            .reasons()
            .map(|c| format!("{}: {} — {}", c.name, c.seen, c.rule))
            .collect(),
    }
}

/// All that an appraisal needs, apart from the service.
struct Job {
    policy: Policy,
    demanding: bool,
    allow_software: bool,
    software: bool,
    spki: Vec<u8>,
    device: Device,
    attributes: Vec<AttributeClaim>,
    files: Vec<EvidenceFile>,
    nonce: Option<Vec<u8>>,
    at: UnixSeconds,
    anchors: Arc<Anchors>,
}

impl Job {
    fn appraise(&self) -> AttestationResult {
        let files: Vec<File<'_>> = self
            .files
            .iter()
            .map(|f| File {
                name: &f.name,
                bytes: &f.bytes,
            })
            .collect();
        let question = Question {
            subject: SubjectFile::PublicKey(File {
                name: "spki",
                bytes: &self.spki,
            }),
            evidence: &files,
            at: self.at,
            nonce: self.nonce.as_deref(),
            policy: &self.policy,
            anchors: &self.anchors,
        };
        if !self.software {
            // No evidence, no acceptance: a key in hardware is believed by its evidence alone.
            return appraise_hardware(&self.spki, &question);
        }
        let key = SoftwareKey {
            spki: &self.spki,
            device: &self.device,
            attributes: &self.attributes,
        };
        if self.demanding || !self.files.is_empty() {
            appraise_software_with_evidence(&key, self.allow_software, &question)
        } else {
            appraise_software(&key, self.allow_software, self.at)
        }
    }
}

pub(super) fn device(row: &KeyRow) -> Device {
    Device {
        software: row.facts.software,
        manufacturer: row.facts.manufacturer.clone(),
        model: row.facts.model.clone(),
        serial: row.facts.serial.clone(),
        firmware: row.facts.firmware.clone(),
    }
}

pub(super) fn attributes(row: &KeyRow) -> Vec<AttributeClaim> {
    row.facts
        .attributes
        .iter()
        .map(|a| AttributeClaim {
            attribute: a.attribute.clone(),
            seen: a.seen.clone(),
        })
        .collect()
}
