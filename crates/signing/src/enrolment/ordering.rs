//! Orders placed at a CA with a connector: opened, evidence made for them where the device can, handed
//! over, and followed until the certificate is there.

use super::device::{DeviceFailure, Opened};
use super::waiting::FIRST;
use super::{Destination, software_allowed};
use crate::actor::Actor;
use crate::caller::Caller;
use crate::{Service, SigningError};
use countersign_core::ports::ca::{CertificateAuthority, CertificateSubject, NewOrder, OrderStep};
use countersign_core::ports::rows::{OrderRow, OrderState};
use countersign_core::{KeyId, OrderId, RequestId, TenantName};
use countersign_signing_log::commitment::HexHash;
use std::sync::Arc;
use std::time::Duration;

impl Service {
    /// Orders a certificate at a CA with a connector and installs what comes back, if it passes.
    ///
    /// # Errors
    /// [`SigningError::CaRefused`] with the CA's reasons, [`SigningError::CertificateRejected`] with
    /// ours, [`SigningError::CaUnavailable`]: the order is kept in each case.
    /// [`SigningError::Appraisal`]: no request has left, and nothing is ordered.
    pub async fn order_certificate(
        &self,
        caller: &Caller,
        name: &TenantName,
        key: KeyId,
        ca: &str,
        mut subject: CertificateSubject,
        rid: &RequestId,
    ) -> Result<OrderRow, SigningError> {
        let tenant = self.admin(caller, name, rid).await?;
        let connector = self.connector(ca)?;
        let mut row = self.enrollable_key(&tenant, key).await?;
        let by_kept_evidence = |trouble| self.without_device(caller, &tenant, key, rid, trouble);
        let device = match self.device(tenant.id).await {
            Ok(Some(device)) => {
                if let Err(e) = software_allowed(&row, &tenant) {
                    self.log_appraisal(caller, &row, "software-key-policy", rid);
                    return Err(e);
                }
                Some(device)
            }
            Ok(None) => {
                row = self.appraised_key(caller, &tenant, key, rid).await?;
                None
            }
            Err(e) => {
                row = by_kept_evidence(e).await?;
                None
            }
        };
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
            next_poll: None,
        };
        let actor = Actor::Person(caller, rid);
        let new = NewOrder {
            order: order.id,
            subscriber: tenant.name.as_str(),
            device: device.as_ref(),
        };
        let opened = match connector.open(new).await {
            Ok(o) => o,
            Err(e) => return Err(self.failed(actor, &mut order, e).await),
        };
        order.reference = Some(opened.reference.clone());
        let certified = match &device {
            None => None,
            Some(device) => {
                let at = Opened {
                    caller,
                    rid,
                    tenant: &tenant,
                    row: &row,
                    ca: &connector,
                    order: order.id,
                    opened: &opened,
                };
                match self.device_evidence(&at, device).await {
                    Ok(made) => {
                        if let Some(made) = &made {
                            self.still_kept(&tenant, key, made).await?;
                        }
                        row = self.appraised_key(caller, &tenant, key, rid).await?;
                        made
                    }
                    Err(DeviceFailure::Ca(e)) => {
                        return Err(self.failed(actor, &mut order, e).await);
                    }
                    Err(DeviceFailure::Ours(e)) => {
                        row = by_kept_evidence(e).await?;
                        None
                    }
                }
            }
        };
        if let Some(common_name) = opened.common_name {
            subject.common_name = common_name;
        }
        let to = Destination {
            audience: opened.audience,
            order: opened.reference.clone(),
            nonce: opened.nonce,
        };
        let mut made = self
            .make_request(caller, &tenant, &row, &subject, &to, rid)
            .await?;
        if let Some(certified) = certified {
            if !made.evidence.contains(&HexHash(certified.sha256)) {
                return Err(replaced());
            }
            made.request.device = Some(certified.evidence);
        }
        self.record_request(caller, &mut order, &made, OrderState::Submitted, rid)
            .await?;
        let step = match connector.submit(&opened.reference, &made.request).await {
            Ok(s) => s,
            Err(e) => {
                // Nobody hands it over any more: whoever comes first asks how it stands.
                order.next_poll = Some(self.clock().now().plus(FIRST));
                return Err(self.failed(actor, &mut order, e).await);
            }
        };
        match step {
            // Asked after in the background from here on, whoever waits or does not.
            OrderStep::Waiting { retry_after_s } => {
                let wait = Duration::from_secs(u64::from(retry_after_s));
                self.wait_on(&order, wait, None).await?;
                Ok(order)
            }
            OrderStep::Issued { chain } => {
                self.finish(actor, &mut order, chain).await?;
                Ok(order)
            }
        }
    }

    /// A CA of the configuration.
    pub(super) fn connector(
        &self,
        name: &str,
    ) -> Result<Arc<dyn CertificateAuthority>, SigningError> {
        self.cas()
            .iter()
            .find(|c| c.name() == name)
            .cloned()
            .ok_or_else(|| SigningError::invalid("ca", "no connector of that name is configured"))
    }
}

/// Two orders of one key at once: the evidence of the later one took the place of ours.
pub(super) fn replaced() -> SigningError {
    SigningError::Conflict {
        what: "evidence of this key was added while it was being ordered for; order again".into(),
    }
}
