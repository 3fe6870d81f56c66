//! From a key to its certificate: appraisal → service statement → CSR → CA → checked certificate.
//!
//! No evidence, no CSR; no naked CSR (invariant 5): the only function that makes a CSR is
//! [`Service::make_request`], it demands an appraised key, and what it returns carries statement and
//! evidence in the same type.

mod appraisal;
mod device;
mod evidence;
mod ordering;
mod orders;
mod placing;
#[cfg(test)]
mod tests;
mod waiting;

pub(crate) use appraisal::{AT_ONCE, demands};
pub use evidence::{EvidenceView, MAX_EVIDENCE_BYTES, MAX_EVIDENCE_FILES, NewEvidence};

use crate::actor::Actor;
use crate::caller::Caller;
use crate::use_key::KeyUse;
use crate::{Service, SigningError};
use appraisal::{attributes, device};
use countersign_attestation::bundle::ID_AA_ATTESTATION;
use countersign_attestation::result::AttestationResult;
use countersign_attestation::statement::{Isolation, KeyStatement, LogAnchor, Order, StatementTbs};
use countersign_attestation::time::UnixSeconds;
use countersign_core::ports::ca::{CertificateRequest, CertificateSubject};
use countersign_core::ports::rows::{KeyRow, TenantRow};
use countersign_core::ports::store::Effect;
use countersign_core::{
    IsolationClass, KeyEvent, KeyId, KeyState, Micros, OrderId, RequestId, TenantName,
};
use countersign_signing_log::checkpoint::Checkpoint;
use countersign_signing_log::commitment::HexHash;
use countersign_signing_log::leaf::{ContentKind, KeyAppraised, LeafBody, Purpose};
use countersign_signing_log::merkle;
use countersign_x509::asn1::Attribute;
use countersign_x509::csr::CsrBuilder;
use countersign_x509::key::PublicKey;
use countersign_x509::name::Subject;
use placing::place;
use sha2::{Digest as _, Sha256};

/// How long a statement is good for: long enough for a person at the CA.
const STATEMENT_LIFE_S: u64 = 7 * 24 * 3600;

/// A request made for a CA without a connector.
#[derive(Debug, Clone)]
pub struct ExportedRequest {
    /// Our order.
    pub order: OrderId,
    /// CSR, statement, evidence.
    pub request: CertificateRequest,
    /// When the statement ends.
    pub expires: Micros,
}

/// Who the request is for.
pub(crate) struct Destination {
    pub audience: String,
    pub order: String,
    pub nonce: Vec<u8>,
}

/// A request, and the hashes of the evidence in it and beside it.
pub(crate) struct MadeRequest {
    pub request: CertificateRequest,
    pub evidence: Vec<HexHash>,
    /// When its statement ends: as it stands in the statement, not by another look at the clock.
    pub expires: Micros,
}

impl Service {
    /// Appraises a key, by the evidence kept for it. For a key in a software token without any, that is
    /// the tenant's policy and the key checks; a key in hardware needs vendor evidence.
    ///
    /// # Errors
    /// [`SigningError::Appraisal`] with reasons; the key stays `generated`.
    pub async fn appraise(
        &self,
        caller: &Caller,
        name: &TenantName,
        key: KeyId,
        rid: &RequestId,
    ) -> Result<serde_json::Value, SigningError> {
        let tenant = self.admin(caller, name, rid).await?;
        let row = self
            .store()
            .key(tenant.id, key)
            .await?
            .ok_or(SigningError::NotFound)?;
        let result = self.appraise_row(caller, &tenant, &row, rid).await?;
        serde_json::to_value(result).map_err(|e| SigningError::Internal(e.to_string()))
    }

    async fn appraise_row(
        &self,
        caller: &Caller,
        tenant: &TenantRow,
        row: &KeyRow,
        rid: &RequestId,
    ) -> Result<AttestationResult, SigningError> {
        let (result, files) = self.appraise_kept(caller, tenant, row, None, rid).await?;
        if row.state == KeyState::Generated {
            let json = result_json(&result)?;
            let mut evidence = vec![HexHash(Sha256::digest(&row.spki).into())];
            evidence.extend(files.iter().map(|f| HexHash(f.sha256)));
            let leaf = KeyAppraised {
                key: row.id.to_string(),
                result: "accept".into(),
                evidence,
                statement: None,
            };
            self.move_key(
                Actor::Person(caller, rid),
                tenant.id,
                row.id,
                KeyEvent::Appraised,
                None,
                vec![Effect::SetAppraisal(tenant.id, row.id, json)],
                vec![LeafBody::KeyAppraised(leaf)],
            )
            .await?;
        }
        Ok(result)
    }

    /// A key that may be enrolled, as far as its state goes.
    pub(crate) async fn enrollable_key(
        &self,
        tenant: &TenantRow,
        key: KeyId,
    ) -> Result<KeyRow, SigningError> {
        let row = self
            .store()
            .key(tenant.id, key)
            .await?
            .ok_or(SigningError::NotFound)?;
        match row.state {
            KeyState::Generated | KeyState::Appraised | KeyState::Active => Ok(row),
            state => Err(SigningError::KeyNotActive { state }),
        }
    }

    /// The appraised key, appraising it first if that was not done yet. The appraisal is made anew
    /// each time: policy may have changed since.
    pub(crate) async fn appraised_key(
        &self,
        caller: &Caller,
        tenant: &TenantRow,
        key: KeyId,
        rid: &RequestId,
    ) -> Result<KeyRow, SigningError> {
        let row = self.enrollable_key(tenant, key).await?;
        self.appraise_row(caller, tenant, &row, rid).await?;
        self.store()
            .key(tenant.id, key)
            .await?
            .ok_or(SigningError::NotFound)
    }

    /// Makes CSR and statement. The CSR's own signature is a use of the key with a leaf of its own.
    ///
    /// This is the gate that nothing goes round: the key is appraised here, for this order, and what
    /// was appraised is what goes out. All is decided on one version of the tenant, which the leaf's
    /// guard compares.
    pub(crate) async fn make_request(
        &self,
        caller: &Caller,
        tenant: &TenantRow,
        row: &KeyRow,
        subject: &CertificateSubject,
        to: &Destination,
        rid: &RequestId,
    ) -> Result<MadeRequest, SigningError> {
        let internal = |what: &str, e: String| SigningError::Internal(format!("{what}: {e}"));
        self.check_history(tenant.id, row.id).await?;
        // The tenant as it is now, after whatever the CA took its time for: still an admin, still a
        // policy that lets this key have a certificate. The version first: whatever changes while we
        // read makes the guard fail.
        let tenant = self.still_admin(caller, tenant.id).await?;
        let guard = tenant.guard();
        let row = self
            .store()
            .key(tenant.id, row.id)
            .await?
            .ok_or(SigningError::NotFound)?;
        if !matches!(row.state, KeyState::Appraised | KeyState::Active) {
            return Err(SigningError::KeyNotActive { state: row.state });
        }
        let (_, files) = self
            .appraise_kept(caller, &tenant, &row, Some(&to.nonce), rid)
            .await?;

        let public_key = PublicKey::from_spki_der(&row.spki)
            .map_err(|e| internal("public key", e.to_string()))?;
        let builder = |attributes| CsrBuilder {
            subject: Subject {
                common_name: subject.common_name.clone(),
                organization: subject.organization.clone(),
                country: subject.country.clone(),
                locality: subject.locality.clone(),
                state: subject.state.clone(),
            },
            public_key: public_key.clone(),
            attributes,
        };
        let bare = builder(Vec::new())
            .build()
            .map_err(|e| SigningError::invalid("subject", e.to_string()))?;
        let issued_at = self.seconds()?;
        let expires = issued_at.plus(STATEMENT_LIFE_S);
        let statement = self
            .make_statement(
                &tenant,
                &row,
                &public_key,
                &bare.info_der,
                to,
                issued_at..expires,
            )
            .await?;
        let placed = place(&statement, &files)
            .map_err(|e| internal("attestation attribute", e.to_string()))?;
        let csr = builder(vec![Attribute::single(ID_AA_ATTESTATION, placed.value)])
            .build()
            .map_err(|e| internal("certificate request", e.to_string()))?;
        let authorised = self
            .authorise(KeyUse {
                key: &row,
                guard,
                purpose: Purpose::CertificateRequest,
                content: ContentKind::CertificateRequest,
                scheme: csr.scheme,
                tbs: csr.digest(),
                artifact: None,
                caller,
                request: rid,
                claim: None,
            })
            .await?;
        let performed = self.perform(authorised).await?;
        let der = csr
            .finish(&performed.signature)
            .map_err(|e| internal("certificate request", e.to_string()))?;
        self.settle(performed, None)?;
        Ok(MadeRequest {
            request: CertificateRequest {
                csr: der,
                statement,
                evidence: placed.beside,
                device: None,
            },
            evidence: files.iter().map(|f| HexHash(f.sha256)).collect(),
            expires: Micros::from_seconds(i64::try_from(expires.get()).unwrap_or(i64::MAX)),
        })
    }

    async fn make_statement(
        &self,
        tenant: &TenantRow,
        row: &KeyRow,
        public_key: &PublicKey,
        bare_info: &[u8],
        to: &Destination,
        good: std::ops::Range<UnixSeconds>,
    ) -> Result<Vec<u8>, SigningError> {
        let (origin, size, root) = self.first_checkpoint(row).await?;
        let mut stated = attributes(row);
        stated.extend(self.device_claim(row).await?);
        let tbs = StatementTbs {
            signer_key_hash: Sha256::digest(self.secrets().statement_spki()).into(),
            service: self.settings().service_name.clone(),
            tenant: *tenant.id.as_bytes(),
            subscriber: tenant.name.to_string(),
            audience: to.audience.clone(),
            order: Order {
                id: to.order.clone(),
                nonce: to.nonce.clone(),
            },
            issued_at: good.start,
            expires_at: good.end,
            csr_info_hash: Sha256::digest(bare_info).into(),
            key: KeyStatement {
                id: *row.id.as_bytes(),
                spki_hash: public_key.spki_sha256(),
                isolation: match row.facts.isolation {
                    IsolationClass::ExclusiveToken => Isolation::ExclusiveToken,
                    IsolationClass::PerKeyAuthorisation => Isolation::PerKeyAuthorisation,
                    IsolationClass::SharedToken => Isolation::SharedToken,
                },
                mechanism: if row.algorithm.is_rsa() {
                    "CKM_RSA_PKCS_KEY_PAIR_GEN".into()
                } else {
                    "CKM_EC_KEY_PAIR_GEN".into()
                },
                attributes: stated,
            },
            device: device(row),
            log: LogAnchor {
                verifier_key: self.vkey(&origin)?,
                origin,
                size,
                root,
            },
            practice_statement_hash: None,
            audit: None,
        };
        let bytes = tbs
            .encode()
            .map_err(|e| SigningError::invalid("statement", e.to_string()))?;
        let signature = self.secrets().sign_statement(&bytes)?;
        tbs.assemble(&signature)
            .map_err(|e| SigningError::Internal(format!("statement: {e}")))
    }

    /// The checkpoint of size 1: the key's birth is the first leaf of its log.
    async fn first_checkpoint(
        &self,
        row: &KeyRow,
    ) -> Result<(String, u64, [u8; 32]), SigningError> {
        let head = self
            .store()
            .head(row.tenant, row.id.into())
            .await?
            .ok_or(SigningError::NotFound)?;
        let first = self.store().leaves(row.tenant, row.id.into(), 0, 1).await?;
        let first = first
            .first()
            .ok_or_else(|| SigningError::Internal("a key log without its first leaf".into()))?;
        let root = merkle::leaf_hash(first);
        let checkpoint = Checkpoint {
            origin: head.origin,
            size: 1,
            root,
        };
        Ok((checkpoint.origin, checkpoint.size, checkpoint.root))
    }

    fn seconds(&self) -> Result<UnixSeconds, SigningError> {
        UnixSeconds::from_micros(self.clock().now().0).ok_or_else(|| {
            SigningError::Internal("the clock is outside the years 1970 to 9999".into())
        })
    }
}

/// A key in a software token needs a tenant policy that says so (invariants 1 and 5), at each step.
pub(crate) fn software_allowed(row: &KeyRow, tenant: &TenantRow) -> Result<(), SigningError> {
    if row.facts.software && !tenant.policy.allow_software {
        return Err(SigningError::Appraisal {
            reasons: vec![
                "software-key-policy: the tenant's policy does not say allow-software (ARCHITECTURE.md, \
                 invariant 5)"
                    .into(),
            ],
        });
    }
    Ok(())
}

/// A result as it is kept and shown.
fn result_json(result: &AttestationResult) -> Result<String, SigningError> {
    serde_json::to_string(result).map_err(|e| SigningError::Internal(e.to_string()))
}
