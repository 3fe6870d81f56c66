//! What all orders share: exported for a CA without connector, or placed at one with (`ordering`), they
//! end in the same check of the certificate that comes back.

use super::waiting::CLAIM;
use super::{Destination, ExportedRequest, MadeRequest, software_allowed};
use crate::actor::Actor;
use crate::caller::Caller;
use crate::revocation::follow;
use crate::sequencer::Submission;
use crate::service_keys::random;
use crate::tenants::{cut, tenant_draft, text};
use crate::{Service, SigningError};
use countersign_core::ports::ca::{CaError, CertificateSubject, OrderStep};
use countersign_core::ports::rows::{CertificateRow, KeyRow, OrderRow, OrderState};
use countersign_core::ports::store::Effect;
use countersign_core::{KeyEvent, KeyId, OrderId, RequestId, TenantId, TenantName};
use countersign_signing_log::commitment::HexHash;
use countersign_signing_log::leaf::{
    CertificateInstalled, CertificateRefused, CertificateRequested, LeafBody, OrderFailed,
};
use countersign_x509::cert::Certificate;
use countersign_x509::chain::{Purpose, verify_chain};
use countersign_x509::profile::check_issued;
use sha2::{Digest as _, Sha256};

/// Certificates in a chain that is installed.
const MAX_CHAIN: usize = 6;

impl Service {
    /// Makes CSR and statement for a CA that has no connector. `reference` and `nonce` are the CA's,
    /// where it gave some.
    ///
    /// # Errors
    /// [`SigningError::Appraisal`]: without an appraisal that meets the policy no CSR leaves.
    #[allow(clippy::too_many_arguments, reason = "what a CA's order form asks for")]
    pub async fn export_csr(
        &self,
        caller: &Caller,
        name: &TenantName,
        key: KeyId,
        audience: &str,
        reference: Option<String>,
        nonce: Option<Vec<u8>>,
        subject: CertificateSubject,
        rid: &RequestId,
    ) -> Result<ExportedRequest, SigningError> {
        let tenant = self.admin(caller, name, rid).await?;
        let audience = text("ca_audience", audience)?;
        let row = self.appraised_key(caller, &tenant, key, rid).await?;
        let order = OrderId::new();
        let nonce = match nonce {
            Some(n) if (8..=64).contains(&n.len()) => n,
            Some(_) => return Err(SigningError::invalid("nonce", "8 to 64 bytes")),
            None => {
                let mut n = vec![0; 16];
                random(&mut n)?;
                n
            }
        };
        let to = Destination {
            audience: audience.clone(),
            order: match reference {
                Some(r) => text("reference", &r)?,
                None => order.to_string(),
            },
            nonce,
        };
        let made = self
            .make_request(caller, &tenant, &row, &subject, &to, rid)
            .await?;
        let now = self.clock().now();
        let mut order_row = OrderRow {
            tenant: tenant.id,
            id: order,
            key,
            ca: audience,
            reference: Some(to.order),
            state: OrderState::Exported,
            csr: None,
            statement: None,
            problem: None,
            created: now,
            updated: now,
            next_poll: None,
        };
        self.record_request(caller, &mut order_row, &made, OrderState::Exported, rid)
            .await?;
        Ok(ExportedRequest {
            order,
            request: made.request,
            expires: made.expires,
        })
    }

    /// One order; if the CA had not finished, it is asked again.
    ///
    /// # Errors
    /// As of [`Service::order_certificate`].
    pub async fn order(
        &self,
        caller: &Caller,
        name: &TenantName,
        order: OrderId,
        rid: &RequestId,
    ) -> Result<OrderRow, SigningError> {
        let tenant = self.reader(caller, name)?;
        let require_mfa = self
            .store()
            .tenant(tenant)
            .await?
            .ok_or(SigningError::NotFound)?
            .policy
            .require_mfa;
        let mut row = self
            .store()
            .order(tenant, order)
            .await?
            .ok_or(SigningError::NotFound)?;
        let connector = self.cas().iter().find(|c| c.name() == row.ca).cloned();
        if row.state == OrderState::Submitted
            && caller.may_change(require_mfa).is_ok()
            && let (Some(connector), Some(reference)) = (connector, row.reference.clone())
        {
            match connector
                .poll(&reference, row.csr.as_deref().unwrap_or_default())
                .await
            {
                Ok(OrderStep::Waiting { .. }) => {}
                Ok(OrderStep::Issued { chain }) => {
                    self.finish(Actor::Person(caller, rid), &mut row, chain)
                        .await?;
                }
                Err(e) => {
                    return Err(self.failed(Actor::Person(caller, rid), &mut row, e).await);
                }
            }
        }
        Ok(row)
    }

    /// Installs a certificate that a CA without connector issued.
    ///
    /// # Errors
    /// [`SigningError::CertificateRejected`] with every finding.
    pub async fn install_certificate(
        &self,
        caller: &Caller,
        name: &TenantName,
        key: KeyId,
        chain: Vec<Vec<u8>>,
        rid: &RequestId,
    ) -> Result<KeyRow, SigningError> {
        let tenant = self.admin(caller, name, rid).await?;
        let mut order = self
            .store()
            .orders_of(tenant.id, key)
            .await?
            .into_iter()
            .find(|o| o.state == OrderState::Exported);
        let actor = Actor::Person(caller, rid);
        self.install(actor, tenant.id, key, chain, order.as_mut())
            .await
    }

    /// Checks a chain and installs it; then its certificate is looked up in the CA's list at once, so
    /// that the key signs when this returns. A list that cannot be had keeps nobody from installing:
    /// the key signs as soon as it can.
    pub(super) async fn install(
        &self,
        actor: Actor<'_>,
        tenant: TenantId,
        key: KeyId,
        chain: Vec<Vec<u8>>,
        order: Option<&mut OrderRow>,
    ) -> Result<KeyRow, SigningError> {
        let row = self
            .store()
            .key(tenant, key)
            .await?
            .ok_or(SigningError::NotFound)?;
        software_allowed(&row, &self.still_allowed(actor, tenant).await?)?;
        let now = self.clock().now();
        let checked = match check(&row, &chain, now) {
            Ok(c) => c,
            Err(findings) => {
                let first = chain.first().map_or(&[][..], Vec::as_slice);
                let leaf = CertificateRefused {
                    key: key.to_string(),
                    certificate_sha256: HexHash(Sha256::digest(first).into()),
                    reason: cut(&findings.join("; ")),
                };
                let mut submission = Submission {
                    drafts: vec![tenant_draft(
                        tenant,
                        LeafBody::CertificateRefused(leaf),
                        actor.details(),
                    )],
                    ..Submission::default()
                };
                if let Some(order) = order {
                    // What came by hand may be the wrong file: an exported order waits on.
                    if order.state != OrderState::Exported {
                        order.state = OrderState::Refused;
                        order.next_poll = None;
                    }
                    order.problem = Some(cut(&findings.join("; ")));
                    order.updated = now;
                    submission
                        .effects
                        .push(Effect::PutOrder(Box::new(order.clone())));
                }
                self.commit(tenant, submission).await?;
                return Err(SigningError::CertificateRejected { findings });
            }
        };
        let leaf = checked.leaf();
        let body = CertificateInstalled {
            key: key.to_string(),
            certificate_sha256: HexHash(leaf.sha256()),
            serial: leaf.serial_hex(),
            not_before: u64::try_from(leaf.not_before().0).unwrap_or_default(),
            not_after: u64::try_from(leaf.not_after().0).unwrap_or_default(),
            issuer: cut(&leaf.issuer_text()),
        };
        let certificate = CertificateRow {
            tenant,
            key,
            sha256: leaf.sha256(),
            chain: checked.without_root(),
            not_before: leaf.not_before(),
            not_after: leaf.not_after(),
            serial: leaf.serial_hex(),
            installed: now,
        };
        let followed = follow(&certificate, checked.issuer());
        let mut effects = vec![Effect::InstallCertificate(certificate), followed];
        if let Some(order) = order {
            order.state = OrderState::Installed;
            order.problem = None;
            order.updated = now;
            order.next_poll = None;
            effects.push(Effect::PutOrder(Box::new(order.clone())));
        }
        let leaves = vec![LeafBody::CertificateInstalled(body)];
        let event = KeyEvent::Certified;
        self.move_key(actor, tenant, key, event, None, effects, leaves)
            .await?;
        self.look_up_now(tenant, key).await;
        // As it is now: the list may have said that the certificate is revoked.
        self.store()
            .key(tenant, key)
            .await?
            .ok_or(SigningError::NotFound)
    }

    pub(super) async fn record_request(
        &self,
        caller: &Caller,
        order: &mut OrderRow,
        made: &MadeRequest,
        state: OrderState,
        rid: &RequestId,
    ) -> Result<(), SigningError> {
        let request = &made.request;
        order.csr = Some(request.csr.clone());
        order.statement = Some(request.statement.clone());
        order.state = state;
        order.updated = self.clock().now();
        // Nobody else asks while it is being handed over.
        order.next_poll = (state == OrderState::Submitted).then(|| order.updated.plus(CLAIM));
        let leaf = CertificateRequested {
            key: order.key.to_string(),
            order: order.id.to_string(),
            ca: cut(&order.ca),
            csr_sha256: HexHash(Sha256::digest(&request.csr).into()),
            statement_sha256: HexHash(Sha256::digest(&request.statement).into()),
            evidence: (!made.evidence.is_empty()).then(|| made.evidence.clone()),
        };
        let effect = Effect::PutOrder(Box::new(order.clone()));
        self.record(
            caller,
            order.tenant,
            LeafBody::CertificateRequested(leaf),
            effect,
            rid,
        )
        .await
    }

    /// Keeps what the CA said. A CA that is away leaves the order as it was.
    pub(super) async fn failed(
        &self,
        actor: Actor<'_>,
        order: &mut OrderRow,
        error: CaError,
    ) -> SigningError {
        // Several may ask after one order: who comes late with a failure takes nothing back.
        if let Ok(Some(stored)) = self.store().order(order.tenant, order.id).await
            && stored.state == OrderState::Installed
        {
            *order = stored;
            return error.into();
        }
        order.updated = self.clock().now();
        order.problem = Some(cut(&error.to_string()));
        if let CaError::Refused { reasons, .. } = &error {
            order.state = OrderState::Refused;
            order.next_poll = None;
            order.problem = Some(cut(&format!("{error}: {}", reasons.join("; "))));
        }
        let leaf = OrderFailed {
            key: order.key.to_string(),
            order: order.id.to_string(),
            ca: cut(&order.ca),
            reason: order.problem.clone().unwrap_or_default(),
        };
        let submission = Submission {
            drafts: vec![tenant_draft(
                order.tenant,
                LeafBody::OrderFailed(leaf),
                actor.details(),
            )],
            effects: vec![Effect::PutOrder(Box::new(order.clone()))],
            ..Submission::default()
        };
        if let Err(e) = self.commit(order.tenant, submission).await {
            return e;
        }
        error.into()
    }
}

/// A chain that passed: leaf first, the highest certificate given last.
struct Checked {
    certs: Vec<Certificate>,
    leaf: Certificate,
}

impl Checked {
    const fn leaf(&self) -> &Certificate {
        &self.leaf
    }

    /// The CA that issued the leaf: it may be a root, which the installed chain leaves out.
    fn issuer(&self) -> &[u8] {
        self.certs.get(1).map_or(&[], Certificate::der)
    }

    fn without_root(&self) -> Vec<Vec<u8>> {
        self.certs
            .iter()
            .filter(|c| !c.is_self_issued())
            .map(|c| c.der().to_vec())
            .collect()
    }
}

/// Everything that is checked before a certificate is installed. The chain must hold up to the
/// highest certificate that came with it; whether that one is trusted is the relying parties'
/// decision, not ours.
fn check(
    row: &KeyRow,
    chain: &[Vec<u8>],
    now: countersign_core::Micros,
) -> Result<Checked, Vec<String>> {
    if chain.len() < 2 || chain.len() > MAX_CHAIN {
        return Err(vec![format!(
            "chain: the certificate and its issuers are needed, 2 to {MAX_CHAIN} certificates"
        )]);
    }
    let mut certs = Vec::new();
    for (i, der) in chain.iter().enumerate() {
        certs.push(Certificate::from_der(der).map_err(|e| vec![format!("chain[{i}]: {e}")])?);
    }
    let (Some(leaf), Some(top)) = (certs.first(), certs.last()) else {
        return Err(vec!["chain: empty".into()]);
    };
    let intermediates = certs.get(1..certs.len() - 1).unwrap_or_default();
    let mut findings = Vec::new();
    let verified = match verify_chain(
        leaf,
        intermediates,
        std::slice::from_ref(top),
        now,
        Purpose::CodeSigning,
    ) {
        Ok(v) => v.certs,
        Err(e) => {
            findings.push(format!("chain: {e} (RFC 5280 §6.1)"));
            certs.clone()
        }
    };
    if let Err(found) = check_issued(leaf, &verified, &row.spki, now) {
        findings.extend(found.iter().map(ToString::to_string));
    }
    if findings.is_empty() {
        Ok(Checked {
            leaf: leaf.clone(),
            certs: verified,
        })
    } else {
        Err(findings)
    }
}
