//! A CA that speaks ACME (RFC 8555) and takes a device's word for a key: the challenge
//! `device-attest-01` with a TPM's attestation (draft-ietf-acme-device-attest). Tested with step-ca.
//!
//! | step of the port | what is asked of the CA |
//! | --- | --- |
//! | `open` | an order for the device's permanent identifier; the nonce is the SHA-256 of the challenge's key authorisation |
//! | `identify`, `answer` | nothing: ACME has no such step, another CA certifies the attestation key (`attestation_ca`) |
//! | `submit` | the challenge is answered with what the device certified, the order finalised with the CSR |
//! | `poll` | the order; what `submit` did not come to: the challenge's answer, out of the CSR; the CSR again if the CA has only now judged the evidence; the certificate once it is there |
//!
//! The order's URL is its reference. With the account's file and the CSR, which the service keeps, that is
//! all a later poll needs, after a restart, days later, or on another node. What ACME has no place for, the statement and other evidence, is in the
//! CSR's attestation attribute; the CA may look at it or not.

mod account;
mod attestation;
mod transport;

pub use account::ExternalAccount;

use crate::{ConnectorError, MAX_CHAIN, http_client};
use account::Accounts;
use async_trait::async_trait;
use countersign_attestation::vendor::tpm2::certified::{self, Certified};
use countersign_attestation::vendor::tpm2::identity::identifier_of;
use countersign_core::ports::ca::{
    CaError, CertificateAuthority, CertificateRequest, NewOrder, OpenedOrder, OrderStep,
};
use countersign_core::ports::evidence::{DeviceEvidence, KeyCertification};
use instant_acme::{
    AuthorizationHandle, AuthorizationStatus, Authorizations, Challenge, ChallengeStatus,
    ChallengeType, DeviceAttestation, Identifier, Order, OrderStatus,
};
use reqwest::Url;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;
use transport::{Transport, is_not_ready, judged, refusal, said, watching_the_clock};

/// Longest URL of an order.
const MAX_REFERENCE: usize = 500;
/// How soon an order is asked after whose CA does not say.
const RETRY_AFTER_S: u32 = 30;
/// How often, and how far apart, a challenge is asked after that the CA looks at in its own time.
const ASKED: u32 = 3;
const APART: Duration = Duration::from_secs(1);

/// An ACME CA of the configuration.
#[derive(Debug)]
pub struct AcmeConfig {
    /// Name in the configuration.
    pub name: String,
    /// URL of its directory, https.
    pub directory: String,
    /// PEM roots for its TLS; the system's where `None`.
    pub ca_pem: Option<String>,
    /// May be given keys of software TPMs: in development only.
    pub takes_software_keys: bool,
    /// The account's file, made on first use.
    pub account_file: PathBuf,
    /// Whom the CA may write to, as `mailto:` URIs.
    pub contact: Vec<String>,
    /// Who the CA knows us by beforehand, where it wants that.
    pub external_account: Option<ExternalAccount>,
    /// The connector that certifies attestation keys for this CA.
    pub attestation_ca: Option<String>,
    /// The audience that statements name; the directory's URL where `None`.
    pub audience: Option<String>,
}

/// A CA that speaks ACME.
pub struct AcmeClient {
    name: String,
    takes_software_keys: bool,
    audience: String,
    attestation_ca: Option<String>,
    transport: Transport,
    accounts: Accounts,
}

impl std::fmt::Debug for AcmeClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AcmeClient")
            .field("name", &self.name)
            .field("directory", &self.transport.directory.as_str())
            .finish_non_exhaustive()
    }
}

impl AcmeClient {
    /// A connector. Nothing is connected yet, and no account made.
    ///
    /// # Errors
    /// [`ConnectorError`].
    pub fn new(config: AcmeConfig) -> Result<Self, ConnectorError> {
        let directory = Url::parse(&config.directory)
            .ok()
            .filter(|u| u.scheme() == "https" && u.username().is_empty() && u.password().is_none())
            .ok_or(ConnectorError::Url(config.directory))?;
        Ok(Self {
            name: config.name,
            takes_software_keys: config.takes_software_keys,
            audience: config.audience.unwrap_or_else(|| directory.to_string()),
            attestation_ca: config.attestation_ca,
            transport: Transport {
                client: http_client(config.ca_pem.as_deref())?,
                directory,
            },
            accounts: Accounts::new(config.account_file, config.contact, config.external_account)?,
        })
    }

    async fn order(&self, reference: &str) -> Result<Order, CaError> {
        if reference.len() > MAX_REFERENCE {
            return Err(CaError::Protocol(format!(
                "an order's URL of more than {MAX_REFERENCE} bytes"
            )));
        }
        self.transport.own(reference)?;
        let account = self.accounts.get(&self.transport).await?;
        account.order(reference.to_owned()).await.map_err(said)
    }

    /// Answers the order's challenge, unless that was done, and waits a little for the CA to judge.
    async fn prove(&self, order: &mut Order, request: &CertificateRequest) -> Result<(), CaError> {
        let evidence = request.device.as_ref().ok_or_else(no_device)?;
        let object = attestation::object(evidence)
            .map_err(|problem| CaError::Protocol(format!("the device's evidence: {problem}")))?;
        self.answer_challenge(order, |_| Some(object)).await
    }

    /// The same for an order that nobody answered for: the service ended, or the CA was away, after the CSR
    /// was kept and before the challenge was answered. What the device certified is in the CSR.
    async fn prove_again(&self, order: &mut Order, csr: &[u8]) -> Result<(), CaError> {
        let name = &self.name;
        let from_request = |nonce: &[u8]| {
            let object = certified::in_request(csr, nonce)
                .map_err(|e| e.to_string())
                .and_then(|found| attestation::object(&evidence_of(found)));
            // Whoever submits may be at it this moment, with evidence that the CSR had no place for. If
            // nobody is, the CA lets the order expire.
            object
                .inspect_err(|problem| {
                    tracing::warn!(ca = %name, %problem, "an ACME order's challenge cannot be answered from its request");
                })
                .ok()
        };
        self.answer_challenge(order, from_request).await
    }

    /// Answers with the attestation object for the challenge's nonce, if there is one.
    async fn answer_challenge(
        &self,
        order: &mut Order,
        object: impl FnOnce(&[u8]) -> Option<Vec<u8>> + Send,
    ) -> Result<(), CaError> {
        let refused = {
            let mut all = one_authorization(order)?;
            let mut authorization = first(&mut all).await?;
            let mut challenge = device_challenge(&mut authorization)?;
            match challenge.status {
                ChallengeStatus::Pending => {
                    let nonce = challenge.key_authorization().digest();
                    let Some(object) = object(nonce.as_ref()) else {
                        return Ok(());
                    };
                    let payload = DeviceAttestation {
                        att_obj: Cow::Borrowed(&object),
                    };
                    let sent = challenge.send_device_attestation(&payload).await;
                    sent.map_err(judged).err()
                }
                ChallengeStatus::Invalid => return Err(why(&challenge)),
                ChallengeStatus::Processing | ChallengeStatus::Valid => return Ok(()),
            }
        };
        for n in 0..ASKED {
            if n > 0 {
                tokio::time::sleep(APART).await;
            }
            let status = order.refresh().await.map_err(said)?.status;
            // A challenge takes one answer (RFC 8555 §7.1.6): refused, it is final, unless somebody else's
            // was first and the CA has taken that one.
            if let Some(refused) = &refused
                && (status == OrderStatus::Invalid
                    || status == OrderStatus::Pending && !challenge_taken(order).await?)
            {
                return Err(refused.clone());
            }
            if status != OrderStatus::Pending {
                return Ok(());
            }
        }
        // It judges in its own time: `poll` goes on from here.
        Ok(())
    }

    /// Hands over the CSR if the CA waits for it. Somebody else may do so at the same moment: who submits,
    /// who asks in the background, on this node or another, and a person.
    async fn finalize(order: &mut Order, csr: &[u8]) -> Result<(), CaError> {
        if order.state().status != OrderStatus::Ready || csr.is_empty() {
            return Ok(());
        }
        match order.finalize_csr(csr).await {
            Ok(()) => Ok(()),
            // It has the CSR already (RFC 8555 §7.4): where the order stands now is the answer.
            Err(e) if is_not_ready(&e) => order.refresh().await.map(drop).map_err(said),
            Err(e) => Err(judged(e)),
        }
    }

    /// Where the order stands, as the port says it.
    async fn step(&self, mut order: Order, asked: Option<u32>) -> Result<OrderStep, CaError> {
        let status = order.state().status;
        match status {
            OrderStatus::Valid => {
                let pem = order.certificate().await.map_err(said)?;
                Ok(OrderStep::Issued {
                    chain: chain(pem.as_deref().unwrap_or_default())?,
                })
            }
            OrderStatus::Invalid => Err(why_invalid(&mut order).await),
            OrderStatus::Pending if challenge_failed(&mut order).await? => {
                Err(why_invalid(&mut order).await)
            }
            OrderStatus::Pending | OrderStatus::Ready | OrderStatus::Processing => {
                Ok(OrderStep::Waiting {
                    retry_after_s: asked.unwrap_or(RETRY_AFTER_S).clamp(1, 24 * 3600),
                })
            }
        }
    }
}

#[async_trait]
impl CertificateAuthority for AcmeClient {
    fn name(&self) -> &str {
        &self.name
    }

    fn takes_software_keys(&self) -> bool {
        self.takes_software_keys
    }

    fn attestation_ca(&self) -> Option<&str> {
        self.attestation_ca.as_deref()
    }

    async fn open(&self, new: NewOrder<'_>) -> Result<OpenedOrder, CaError> {
        tracing::debug!(ca = %self.name, order = %new.order, "opening an ACME order");
        let endorsement = new
            .device
            .and_then(|d| d.endorsement.first())
            .ok_or_else(no_device)?;
        let identifier = identifier_of(endorsement).map_err(|problem| {
            CaError::Protocol(format!("the device's endorsement certificate: {problem}"))
        })?;
        let account = self.accounts.get(&self.transport).await?;
        let wanted = [Identifier::PermanentIdentifier(identifier.clone())];
        let mut order = account
            .new_order(&instant_acme::NewOrder::new(&wanted))
            .await
            .map_err(said)?;
        let reference = order.url().to_owned();
        if reference.len() > MAX_REFERENCE {
            return Err(CaError::Protocol(format!(
                "its order's URL is longer than {MAX_REFERENCE} bytes"
            )));
        }
        self.transport.own(&reference)?;
        let mut all = one_authorization(&mut order)?;
        let mut authorization = first(&mut all).await?;
        // An authorisation that another order has earned would let this one pass without a nonce.
        if authorization.status != AuthorizationStatus::Pending {
            return Err(CaError::Protocol(
                "its order's authorisation is not pending: the device would prove nothing".into(),
            ));
        }
        let challenge = device_challenge(&mut authorization)?;
        // RFC 8555 §8.1: 128 bits at least, in base64url.
        if !(22..=512).contains(&challenge.token.len()) {
            return Err(CaError::Protocol(
                "its challenge's token is not 22 to 512 characters".into(),
            ));
        }
        let nonce = challenge.key_authorization().digest().as_ref().to_vec();
        Ok(OpenedOrder {
            reference,
            nonce,
            audience: self.audience.clone(),
            common_name: Some(identifier),
        })
    }

    /// Goes on from wherever the order stands, so that it can be repeated.
    async fn submit(
        &self,
        reference: &str,
        request: &CertificateRequest,
    ) -> Result<OrderStep, CaError> {
        let submitted = async {
            let mut order = self.order(reference).await?;
            if order.state().status == OrderStatus::Pending {
                self.prove(&mut order, request).await?;
            }
            Self::finalize(&mut order, &request.csr).await?;
            Ok(order)
        };
        let (order, asked) = watching_the_clock(submitted).await;
        self.step(order?, asked).await
    }

    async fn poll(&self, reference: &str, csr: &[u8]) -> Result<OrderStep, CaError> {
        let asked_after = async {
            let mut order = self.order(reference).await?;
            if order.state().status == OrderStatus::Pending && !csr.is_empty() {
                self.prove_again(&mut order, csr).await?;
            }
            Self::finalize(&mut order, csr).await?;
            Ok(order)
        };
        let (order, asked) = watching_the_clock(asked_after).await;
        self.step(order?, asked).await
    }
}

fn evidence_of(found: Certified) -> DeviceEvidence {
    DeviceEvidence {
        certification: KeyCertification {
            attest: found.attest,
            signature: found.signature,
            public: found.public,
        },
        chain: found.chain,
    }
}

fn no_device() -> CaError {
    CaError::Refused {
        detail: "ACME's device-attest-01 needs a key in a device that certifies it; this key's \
                 token has no such device"
            .into(),
        reasons: Vec::new(),
    }
}

/// An order has one authorisation for each identifier: one.
fn one_authorization(order: &mut Order) -> Result<Authorizations<'_>, CaError> {
    if order.state().authorizations.len() == 1 {
        return Ok(order.authorizations());
    }
    Err(CaError::Protocol(
        "its order has not one authorisation".into(),
    ))
}

async fn first<'a>(all: &'a mut Authorizations<'_>) -> Result<AuthorizationHandle<'a>, CaError> {
    match all.next().await {
        Some(one) => one.map_err(said),
        None => Err(CaError::Protocol("its order has no authorisation".into())),
    }
}

fn device_challenge<'a>(
    authorization: &'a mut AuthorizationHandle<'a>,
) -> Result<instant_acme::ChallengeHandle<'a>, CaError> {
    authorization
        .challenge(ChallengeType::DeviceAttest01)
        .ok_or_else(|| CaError::Refused {
            detail: "the CA offers no device-attest-01 challenge for this order".into(),
            reasons: Vec::new(),
        })
}

/// Whether the order's challenge was refused. RFC 8555 §7.1.6 has the order be invalid then; at step-ca it
/// stays pending until it expires.
async fn challenge_failed(order: &mut Order) -> Result<bool, CaError> {
    let mut all = one_authorization(order)?;
    let authorization = first(&mut all).await?;
    let mut challenges = authorization.challenges.iter();
    Ok(challenges.any(|c| c.status == ChallengeStatus::Invalid))
}

/// Whether the CA has an answer to the order's challenge, and has not refused it.
async fn challenge_taken(order: &mut Order) -> Result<bool, CaError> {
    let mut all = one_authorization(order)?;
    let mut authorization = first(&mut all).await?;
    let challenge = device_challenge(&mut authorization)?;
    Ok(matches!(
        challenge.status,
        ChallengeStatus::Processing | ChallengeStatus::Valid
    ))
}

/// The reason stands in the order, or in the challenge that failed.
async fn why_invalid(order: &mut Order) -> CaError {
    if let Some(problem) = &order.state().error {
        return refusal(problem);
    }
    let Ok(mut all) = one_authorization(order) else {
        return invalid();
    };
    let Ok(authorization) = first(&mut all).await else {
        return invalid();
    };
    let mut challenges = authorization.challenges.iter();
    challenges
        .find(|c| c.error.is_some())
        .map_or_else(invalid, why)
}

fn why(challenge: &Challenge) -> CaError {
    challenge.error.as_ref().map_or_else(invalid, refusal)
}

fn invalid() -> CaError {
    CaError::Refused {
        detail: "the order is invalid at the CA: expired, or given up".into(),
        reasons: Vec::new(),
    }
}

/// PEM, the certificate first (RFC 8555 §9.1).
fn chain(pem: &str) -> Result<Vec<Vec<u8>>, CaError> {
    let mut chain = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate =
            certificate.map_err(|_| CaError::Protocol("its certificates are not PEM".into()))?;
        if chain.len() == MAX_CHAIN {
            return Err(CaError::Protocol(format!(
                "a chain of more than {MAX_CHAIN} certificates"
            )));
        }
        chain.push(certificate.to_vec());
    }
    if chain.is_empty() {
        return Err(CaError::Protocol("a chain of no certificates".into()));
    }
    Ok(chain)
}

#[cfg(test)]
mod tests;
