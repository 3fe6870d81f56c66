//! Orders: at a CA with a connector, or exported for one without. Both end in the same check of the
//! certificate that comes back.

use super::{Destination, ExportedRequest, software_allowed};
use crate::caller::Caller;
use crate::sequencer::Submission;
use crate::service_keys::random;
use crate::tenants::{by, cut, tenant_draft, text};
use crate::{Service, SigningError};
use countersign_core::ports::ca::{CaError, CertificateRequest, CertificateSubject, OrderStep};
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
use std::time::Duration;

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
        let request = self
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
        };
        self.record_request(caller, &mut order_row, &request, OrderState::Exported, rid)
            .await?;
        let expires = now.plus(Duration::from_secs(super::STATEMENT_LIFE_S));
        Ok(ExportedRequest {
            order,
            request,
            expires,
        })
    }

    /// Orders a certificate at a CA with a connector and installs what comes back, if it passes.
    ///
    /// # Errors
    /// [`SigningError::CaRefused`] with the CA's reasons, [`SigningError::CertificateRejected`] with
    /// ours, [`SigningError::CaUnavailable`]: the order is kept in each case.
    pub async fn order_certificate(
        &self,
        caller: &Caller,
        name: &TenantName,
        key: KeyId,
        ca: &str,
        subject: CertificateSubject,
        rid: &RequestId,
    ) -> Result<OrderRow, SigningError> {
        let tenant = self.admin(caller, name, rid).await?;
        let connector = self
            .cas()
            .iter()
            .find(|c| c.name() == ca)
            .cloned()
            .ok_or_else(|| {
                SigningError::invalid("ca", "no connector of that name is configured")
            })?;
        let row = self.appraised_key(caller, &tenant, key, rid).await?;
        if row.facts.software && !connector.takes_software_keys() {
            self.log_appraisal(caller, &row, "software-key", rid);
            return Err(SigningError::Appraisal {
                reasons: vec![format!(
                    "software-key: the CA {ca} is not configured to take keys of software tokens (ARCHITECTURE.md, \
                     invariant 1)"
                )],
            });
        }
        let now = self.clock().now();
        let mut order = OrderRow {
            tenant: tenant.id,
            id: OrderId::new(),
            key,
            ca: ca.to_owned(),
            reference: None,
            state: OrderState::Opened,
            csr: None,
            statement: None,
            problem: None,
            created: now,
            updated: now,
        };
        let opened = match connector.open(order.id, tenant.name.as_str()).await {
            Ok(o) => o,
            Err(e) => return Err(self.failed(caller, &mut order, e, rid).await),
        };
        order.reference = Some(opened.reference.clone());
        let to = Destination {
            audience: opened.audience,
            order: opened.reference.clone(),
            nonce: opened.nonce,
        };
        let request = self
            .make_request(caller, &tenant, &row, &subject, &to, rid)
            .await?;
        self.record_request(caller, &mut order, &request, OrderState::Submitted, rid)
            .await?;
        let step = match connector.submit(&opened.reference, &request).await {
            Ok(s) => s,
            Err(e) => return Err(self.failed(caller, &mut order, e, rid).await),
        };
        match step {
            OrderStep::Waiting { .. } => Ok(order),
            OrderStep::Issued { chain } => {
                self.install(caller, tenant.id, key, chain, Some(&mut order), rid)
                    .await?;
                Ok(order)
            }
        }
    }

    /// One order; if the CA had not finished, it is asked again.
    ///
    /// # Errors
    /// As [`Service::order_certificate`].
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
            match connector.poll(&reference).await {
                Ok(OrderStep::Waiting { .. }) => {}
                Ok(OrderStep::Issued { chain }) => {
                    self.install(caller, tenant, row.key, chain, Some(&mut row), rid)
                        .await?;
                }
                Err(e) => return Err(self.failed(caller, &mut row, e, rid).await),
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
        self.install(caller, tenant.id, key, chain, order.as_mut(), rid)
            .await
    }

    async fn install(
        &self,
        caller: &Caller,
        tenant: TenantId,
        key: KeyId,
        chain: Vec<Vec<u8>>,
        order: Option<&mut OrderRow>,
        rid: &RequestId,
    ) -> Result<KeyRow, SigningError> {
        let row = self
            .store()
            .key(tenant, key)
            .await?
            .ok_or(SigningError::NotFound)?;
        software_allowed(&row, &self.still_admin(caller, tenant).await?)?;
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
                        by(caller, rid),
                    )],
                    ..Submission::default()
                };
                if let Some(order) = order {
                    // What came by hand may be the wrong file: an exported order waits on.
                    if order.state != OrderState::Exported {
                        order.state = OrderState::Refused;
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
        let mut effects = vec![Effect::InstallCertificate(certificate)];
        if let Some(order) = order {
            order.state = OrderState::Installed;
            order.problem = None;
            order.updated = now;
            effects.push(Effect::PutOrder(Box::new(order.clone())));
        }
        let leaves = vec![LeafBody::CertificateInstalled(body)];
        self.move_key(
            caller,
            tenant,
            key,
            KeyEvent::Certified,
            None,
            effects,
            leaves,
            rid,
        )
        .await
    }

    async fn record_request(
        &self,
        caller: &Caller,
        order: &mut OrderRow,
        request: &CertificateRequest,
        state: OrderState,
        rid: &RequestId,
    ) -> Result<(), SigningError> {
        order.csr = Some(request.csr.clone());
        order.statement = Some(request.statement.clone());
        order.state = state;
        order.updated = self.clock().now();
        let leaf = CertificateRequested {
            key: order.key.to_string(),
            order: order.id.to_string(),
            ca: cut(&order.ca),
            csr_sha256: HexHash(Sha256::digest(&request.csr).into()),
            statement_sha256: HexHash(Sha256::digest(&request.statement).into()),
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
    async fn failed(
        &self,
        caller: &Caller,
        order: &mut OrderRow,
        error: CaError,
        rid: &RequestId,
    ) -> SigningError {
        order.updated = self.clock().now();
        order.problem = Some(cut(&error.to_string()));
        if let CaError::Refused { reasons, .. } = &error {
            order.state = OrderState::Refused;
            order.problem = Some(cut(&format!("{error}: {}", reasons.join("; "))));
        }
        let leaf = OrderFailed {
            key: order.key.to_string(),
            order: order.id.to_string(),
            ca: cut(&order.ca),
            reason: order.problem.clone().unwrap_or_default(),
        };
        let effect = Effect::PutOrder(Box::new(order.clone()));
        if let Err(e) = self
            .record(
                caller,
                order.tenant,
                LeafBody::OrderFailed(leaf),
                effect,
                rid,
            )
            .await
        {
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
