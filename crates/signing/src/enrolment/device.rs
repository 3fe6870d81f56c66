//! Evidence that the key's device makes for one order: the CA believes the device's attestation key by
//! a challenge that only this device can read, the device certifies the key with the order's nonce in
//! it, and what came of it is appraised like evidence that a person brings.
//!
//! ```text
//! worker: identify ──► CA: open (nonce), identify ──► worker: answer ──► CA: answer (AK certificate)
//!                                                                             │
//!        CA ◄── request with the evidence in it ◄── appraised, kept ◄── worker: certify (nonce)
//! ```

use super::evidence::Kept;
use super::ordering::replaced;
use crate::actor::Actor;
use crate::caller::Caller;
use crate::{Service, SigningError};
use countersign_attestation::bundle::{Attestation, AttestationBundle};
use countersign_core::ports::ca::{CaError, CertificateAuthority, NewOrder, OpenedOrder};
use countersign_core::ports::evidence::{DeviceEvidence, DeviceIdentity};
use countersign_core::ports::hsm::HsmError;
use countersign_core::ports::rows::{EvidenceFile, KeyRow, TenantRow};
use countersign_core::{KeyId, OrderId, RequestId, TenantId};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

/// Name of the evidence among a key's.
const FILE: &str = "tpm2-certify.der";

/// An order at a CA, as far as its device steps are concerned.
pub(super) struct Opened<'a> {
    pub caller: &'a Caller,
    pub rid: &'a RequestId,
    pub tenant: &'a TenantRow,
    pub row: &'a KeyRow,
    pub ca: &'a Arc<dyn CertificateAuthority>,
    pub order: OrderId,
    pub opened: &'a OpenedOrder,
}

/// Evidence that counts, and its hash among the key's evidence.
pub(super) struct Certified {
    pub evidence: DeviceEvidence,
    pub sha256: [u8; 32],
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum DeviceFailure {
    /// The CA said no, or could not be asked.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// We did.
    #[error(transparent)]
    Ours(#[from] SigningError),
}

impl From<HsmError> for DeviceFailure {
    fn from(e: HsmError) -> Self {
        Self::Ours(e.into())
    }
}

impl Service {
    /// The device that holds a tenant's keys, if its profile lets it speak for itself.
    pub(super) async fn device(
        &self,
        tenant: TenantId,
    ) -> Result<Option<DeviceIdentity>, SigningError> {
        match self.hsm().identify_device(tenant).await {
            Ok(device) => Ok(Some(device)),
            Err(HsmError::NoEvidence(_)) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// The device could not speak: it has no room (a TPM without a resource manager after its module made a
    /// key), no endorsement certificate, a module that is not known. The evidence that is kept may do; if
    /// it does not, the device's trouble is what stands in the way.
    pub(super) async fn without_device(
        &self,
        caller: &Caller,
        tenant: &TenantRow,
        key: KeyId,
        rid: &RequestId,
        trouble: SigningError,
    ) -> Result<KeyRow, SigningError> {
        if !matches!(trouble, SigningError::Busy | SigningError::TokenRefuses(_)) {
            return Err(trouble);
        }
        tracing::warn!(%key, %trouble, "the token's device does not speak for itself");
        match self.appraised_key(caller, tenant, key, rid).await {
            Err(SigningError::Appraisal { .. }) => Err(trouble),
            done => done,
        }
    }

    /// Whether what the device certified for an order is still the key's evidence.
    pub(super) async fn still_kept(
        &self,
        tenant: &TenantRow,
        key: KeyId,
        made: &Certified,
    ) -> Result<(), SigningError> {
        let kept = self.store().evidence(tenant.id, key).await?;
        let ours = |f: &EvidenceFile| f.sha256 == made.sha256;
        if kept.is_some_and(|row| row.files.iter().any(ours)) {
            Ok(())
        } else {
            Err(replaced())
        }
    }

    /// Has the device certify the key for an order and keeps that as the key's evidence. `None` where no
    /// CA certifies the device's attestation key: then the evidence that is kept must do.
    ///
    /// # Errors
    /// [`SigningError::Appraisal`] if what the device said is not accepted: nothing has changed then but
    /// the tenant's log.
    pub(super) async fn device_evidence(
        &self,
        at: &Opened<'_>,
        device: &DeviceIdentity,
    ) -> Result<Option<Certified>, DeviceFailure> {
        let Some(chain) = self.attestation_key_chain(at, device).await? else {
            return Ok(None);
        };
        let tenant = at.tenant.id;
        let nonce = at.opened.nonce.clone();
        let certification = self
            .hsm()
            .certify_key(tenant, at.row.id, nonce.clone())
            .await?;
        let malformed = |e: &dyn std::fmt::Display| {
            SigningError::Internal(format!("what the device certified: {e}"))
        };
        let statement = Attestation::tpm_certify(
            &certification.attest,
            &certification.signature,
            &certification.public,
        )
        .map_err(|e| malformed(&e))?;
        let bundle = AttestationBundle {
            attestations: vec![statement],
            certs: chain.clone(),
        };
        // The chain is the CA's: what is not DER, or too much of it, is its mistake.
        let bytes = bundle
            .encode()
            .map_err(|e| CaError::Protocol(format!("the attestation key's certificates: {e}")))?;
        let sha256: [u8; 32] = Sha256::digest(&bytes).into();
        let file = EvidenceFile {
            name: FILE.to_owned(),
            sha256,
            bytes,
        };
        let actor = Actor::Person(at.caller, at.rid);
        match self
            .keep_evidence(actor, at.tenant, at.row, vec![file], Some(nonce))
            .await?
        {
            Kept::Accepted(_) => Ok(Some(Certified {
                evidence: DeviceEvidence {
                    certification,
                    chain,
                },
                sha256,
            })),
            Kept::Refused(result) => Err(self
                .evidence_refused(at.caller, at.row, &result, at.rid)
                .into()),
        }
    }

    /// The attestation key's certificate and those above it, from the CA itself or from the one that
    /// does this for it.
    async fn attestation_key_chain(
        &self,
        at: &Opened<'_>,
        device: &DeviceIdentity,
    ) -> Result<Option<Vec<Vec<u8>>>, DeviceFailure> {
        let (ca, reference) = match at.ca.attestation_ca() {
            None => (Arc::clone(at.ca), at.opened.reference.clone()),
            Some(name) => {
                let ca = self.connector(name)?;
                let new = NewOrder {
                    order: at.order,
                    subscriber: at.tenant.name.as_str(),
                    device: Some(device),
                };
                let opened = ca.open(new).await.map_err(|e| named(at, e))?;
                (ca, opened.reference)
            }
        };
        let challenge = match ca.identify(&reference, device).await {
            Ok(challenge) => challenge,
            Err(CaError::NoDeviceSteps) => return Ok(None),
            Err(e) => return Err(named(at, e).into()),
        };
        let secret = self.hsm().answer_challenge(at.tenant.id, challenge).await?;
        let chain = ca.answer(&reference, &secret).await;
        Ok(Some(chain.map_err(|e| named(at, e))?))
    }
}

/// Who said it, where another CA than the order's did.
fn named(at: &Opened<'_>, error: CaError) -> CaError {
    let Some(name) = at.ca.attestation_ca() else {
        return error;
    };
    let by = |what: String| format!("{name}, which certifies attestation keys: {what}");
    match error {
        CaError::Unavailable(what) => CaError::Unavailable(by(what)),
        CaError::Protocol(what) => CaError::Protocol(by(what)),
        CaError::Refused { detail, reasons } => CaError::Refused {
            detail: by(detail),
            reasons,
        },
        CaError::NoDeviceSteps => error,
    }
}
