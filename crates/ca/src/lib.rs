//! Connectors to certificate authorities: the port [`CertificateAuthority`] over the wire, and
//! [`ListFetcher`], which fetches their revocation lists.
//!
//! Two connectors: [`AcmeClient`] for CAs that speak ACME and take a device's word for a key, and
//! [`OrderClient`] for the JSON order protocol of the demo CA (docs/ca/demo-ca-protocol.md):
//!
//! | call | answer |
//! | --- | --- |
//! | `POST {url}/orders` `{"subscriber"}` | 201 `{"order", "nonce", "audience", …}` |
//! | `POST {url}/orders/{order}/device` `{"endorsement", "attestation_key"}` | 200 `{"id_object", "encrypted_secret"}`; 501, 405 or 404 where a CA has no such step |
//! | `POST {url}/orders/{order}/device/answer` `{"secret"}` | 200 `{"chain"}` |
//! | `POST {url}/orders/{order}/request` `{"csr", "statement", "evidence"}` | 200 `{"status": "issued", "chain"}` or 202 |
//! | `GET {url}/orders/{order}` | 200 `{"status": "open" \| "issued" \| "expired", "chain"?}` |
//!
//! Bytes are base64; refusals are problem documents with `reasons`. The CSR never leaves without
//! its statement and evidence: they are one type, [`CertificateRequest`].
#![forbid(unsafe_code)]

mod acme;
mod lists;
mod wire;

pub use acme::{AcmeClient, AcmeConfig, ExternalAccount};
pub use lists::{ListFetcher, ListFetcherConfig};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_core::ports::ca::{
    CaError, CertificateAuthority, CertificateRequest, NewOrder, OpenedOrder, OrderStep,
};
use countersign_core::ports::evidence::{DeviceChallenge, DeviceIdentity};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url, redirect};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;

/// Largest answer taken.
const MAX_ANSWER: usize = 256 * 1024;
/// Most certificates in a chain.
const MAX_CHAIN: usize = 8;
/// Longest parts of a challenge: an HMAC and a secret of at most 64 bytes each with their sizes, and
/// what an RSA-4096 key encrypts.
const MAX_ID_OBJECT: usize = 2 + 64 + 2 + 64;
const MAX_ENCRYPTED_SECRET: usize = 512;
/// Most reasons kept of a refusal, and the longest.
const MAX_REASONS: usize = 64;
const MAX_TEXT: usize = 1024;

/// A CA of the configuration.
#[derive(Debug, Clone)]
pub struct OrderClientConfig {
    /// Name in the configuration.
    pub name: String,
    /// Base URL, https.
    pub url: String,
    /// PEM roots for its TLS; the system's where `None`.
    pub ca_pem: Option<String>,
    /// May be given software keys. Production CAs never.
    pub takes_software_keys: bool,
}

/// Why a connector cannot be made. The configuration has to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectorError {
    /// Not an https URL.
    #[error("url: \"{0}\" is not an https URL")]
    Url(String),
    /// No certificate in the PEM.
    #[error("ca_file: holds no readable certificate")]
    CaFile,
    /// An ACME CA without a place for its account.
    #[error("account_file: an ACME CA needs one")]
    AccountFile,
    /// The external account's MAC key is not base64url.
    #[error("external_account_key_file: holds no key in base64url")]
    ExternalAccountKey,
    /// The TLS client cannot be made.
    #[error("TLS: {0}")]
    Tls(String),
}

/// A CA that speaks the JSON order protocol.
#[derive(Debug)]
pub struct OrderClient {
    name: String,
    base: String,
    takes_software_keys: bool,
    client: Client,
}

/// An HTTP client for a CA: https alone, no redirects, bounded in time. Trusts the given roots, or the
/// system's.
pub(crate) fn http_client(ca_pem: Option<&str>) -> Result<Client, ConnectorError> {
    let tls = |e: &dyn std::fmt::Display| ConnectorError::Tls(e.to_string());
    let mut builder = Client::builder()
        .https_only(true)
        .no_proxy()
        .redirect(redirect::Policy::none())
        .connect_timeout(Duration::from_secs(5))
        .timeout(Duration::from_secs(30))
        .user_agent(concat!("countersignd/", env!("CARGO_PKG_VERSION")));
    if let Some(pem) = ca_pem {
        let mut roots = rustls::RootCertStore::empty();
        for cert in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            roots
                .add(cert.map_err(|_| ConnectorError::CaFile)?)
                .map_err(|_| ConnectorError::CaFile)?;
        }
        if roots.is_empty() {
            return Err(ConnectorError::CaFile);
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| tls(&e))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        builder = builder.tls_backend_preconfigured(config);
    } else {
        // With the system's roots the HTTP library asks for the process's provider; a second
        // installation changes nothing.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    }
    builder.build().map_err(|e| tls(&e))
}

impl OrderClient {
    /// A connector. Nothing is connected yet.
    ///
    /// # Errors
    /// [`ConnectorError`].
    pub fn new(config: OrderClientConfig) -> Result<Self, ConnectorError> {
        let url = Url::parse(&config.url)
            .ok()
            .filter(|u| u.scheme() == "https");
        if url.is_none() {
            return Err(ConnectorError::Url(config.url));
        }
        Ok(Self {
            name: config.name,
            base: config.url.trim_end_matches('/').to_owned(),
            takes_software_keys: config.takes_software_keys,
            client: http_client(config.ca_pem.as_deref())?,
        })
    }

    async fn send(&self, request: RequestBuilder) -> Result<Answer, CaError> {
        let (status, answer) = self.exchange(request).await?;
        if status.is_success() {
            return Ok(answer);
        }
        Err(refusal(status, &answer.body))
    }

    /// As [`Self::send`], for the steps that a CA may not have.
    async fn device_step(&self, request: RequestBuilder) -> Result<Answer, CaError> {
        let (status, answer) = self.exchange(request).await?;
        if status.is_success() {
            return Ok(answer);
        }
        // 501 says it outright; a CA that never heard of the step has no such page. An order that
        // is not known has its own code, and is a refusal.
        let unknown_order = || wire::code(&answer.body).as_deref() == Some("order-unknown");
        match status {
            StatusCode::NOT_IMPLEMENTED | StatusCode::METHOD_NOT_ALLOWED => {
                Err(CaError::NoDeviceSteps)
            }
            StatusCode::NOT_FOUND if !unknown_order() => Err(CaError::NoDeviceSteps),
            _ => Err(refusal(status, &answer.body)),
        }
    }

    async fn exchange(&self, request: RequestBuilder) -> Result<(StatusCode, Answer), CaError> {
        let response = request
            .header("accept", "application/json, application/problem+json")
            .send()
            .await
            .map_err(|e| unavailable(&e))?;
        let status = response.status();
        let retry_after_s = response
            .headers()
            .get("retry-after")
            .and_then(|v| v.to_str().ok())
            .and_then(|v| v.parse().ok());
        let body = read(response).await?;
        let answer = Answer {
            body,
            retry_after_s,
        };
        Ok((status, answer))
    }

    fn order_url(&self, reference: &str) -> Result<String, CaError> {
        // The reference is the CA's own; it becomes one path segment, or nothing.
        let plain = (1..=200).contains(&reference.len())
            && reference
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        if plain {
            Ok(format!("{}/orders/{reference}", self.base))
        } else {
            Err(CaError::Protocol(
                "its order reference is not a plain word".into(),
            ))
        }
    }
}

#[async_trait]
impl CertificateAuthority for OrderClient {
    fn name(&self) -> &str {
        &self.name
    }

    fn takes_software_keys(&self) -> bool {
        self.takes_software_keys
    }

    async fn open(&self, new: NewOrder<'_>) -> Result<OpenedOrder, CaError> {
        tracing::debug!(ca = %self.name, order = %new.order, "opening an order");
        let request = self
            .client
            .post(format!("{}/orders", self.base))
            .json(&wire::Open {
                subscriber: new.subscriber,
            });
        let opened: wire::Opened = self.send(request).await?.parse()?;
        self.order_url(&opened.order)?;
        let nonce = bytes("nonce", &opened.nonce)?;
        if !(8..=64).contains(&nonce.len()) {
            return Err(CaError::Protocol("its nonce is not 8 to 64 bytes".into()));
        }
        if !(1..=MAX_TEXT).contains(&opened.audience.len()) {
            return Err(CaError::Protocol("it names no audience".into()));
        }
        Ok(OpenedOrder {
            reference: opened.order,
            nonce,
            audience: opened.audience,
            common_name: None,
        })
    }

    async fn identify(
        &self,
        reference: &str,
        device: &DeviceIdentity,
    ) -> Result<DeviceChallenge, CaError> {
        let body = wire::Identify {
            endorsement: device
                .endorsement
                .iter()
                .map(|c| STANDARD.encode(c))
                .collect(),
            attestation_key: STANDARD.encode(&device.attestation_key),
        };
        let url = format!("{}/device", self.order_url(reference)?);
        let answer = self.device_step(self.client.post(url).json(&body)).await?;
        let challenge: wire::Challenge = answer.parse()?;
        let bounded = |what, text: &str, max| {
            let bytes = bytes(what, text)?;
            if (1..=max).contains(&bytes.len()) {
                Ok(bytes)
            } else {
                Err(CaError::Protocol(format!(
                    "its {what} is not 1 to {max} bytes"
                )))
            }
        };
        Ok(DeviceChallenge {
            id_object: bounded("id_object", &challenge.id_object, MAX_ID_OBJECT)?,
            encrypted_secret: bounded(
                "encrypted_secret",
                &challenge.encrypted_secret,
                MAX_ENCRYPTED_SECRET,
            )?,
        })
    }

    async fn answer(&self, reference: &str, secret: &[u8]) -> Result<Vec<Vec<u8>>, CaError> {
        let body = wire::Secret {
            secret: STANDARD.encode(secret),
        };
        let url = format!("{}/device/answer", self.order_url(reference)?);
        let answer = self.device_step(self.client.post(url).json(&body)).await?;
        let certified: wire::Certified = answer.parse()?;
        chain(&certified.chain)
    }

    async fn submit(
        &self,
        reference: &str,
        request: &CertificateRequest,
    ) -> Result<OrderStep, CaError> {
        let body = wire::Submit {
            csr: STANDARD.encode(&request.csr),
            statement: STANDARD.encode(&request.statement),
            evidence: request
                .evidence
                .iter()
                .map(|e| STANDARD.encode(e))
                .collect(),
        };
        let url = format!("{}/request", self.order_url(reference)?);
        self.send(self.client.post(url).json(&body)).await?.step()
    }

    async fn poll(&self, reference: &str, _csr: &[u8]) -> Result<OrderStep, CaError> {
        let url = self.order_url(reference)?;
        self.send(self.client.get(url)).await?.step()
    }
}

struct Answer {
    body: Vec<u8>,
    retry_after_s: Option<u32>,
}

impl Answer {
    fn parse<T: DeserializeOwned>(&self) -> Result<T, CaError> {
        serde_json::from_slice(&self.body).map_err(|e| CaError::Protocol(e.to_string()))
    }

    fn step(&self) -> Result<OrderStep, CaError> {
        let answer: wire::Step = self.parse()?;
        match answer.status.as_str() {
            "issued" => Ok(OrderStep::Issued {
                chain: chain(&answer.chain)?,
            }),
            "open" | "waiting" | "processing" => Ok(OrderStep::Waiting {
                retry_after_s: self.retry_after_s.unwrap_or(5).clamp(1, 24 * 3600),
            }),
            "expired" => Err(CaError::Refused {
                detail: "the order expired at the CA".into(),
                reasons: Vec::new(),
            }),
            other => Err(CaError::Protocol(format!(
                "an order status \"{}\"",
                other.chars().take(64).collect::<String>()
            ))),
        }
    }
}

fn chain(certificates: &[String]) -> Result<Vec<Vec<u8>>, CaError> {
    if !(1..=MAX_CHAIN).contains(&certificates.len()) {
        return Err(CaError::Protocol(format!(
            "a chain of {} certificates",
            certificates.len()
        )));
    }
    certificates.iter().map(|c| bytes("chain", c)).collect()
}

fn bytes(what: &str, text: &str) -> Result<Vec<u8>, CaError> {
    STANDARD
        .decode(text)
        .map_err(|_| CaError::Protocol(format!("its {what} is not base64")))
}

fn unavailable(e: &reqwest::Error) -> CaError {
    use std::error::Error as _;
    let mut detail = e.to_string();
    let mut cause = e.source();
    while let Some(c) = cause {
        detail = c.to_string();
        cause = c.source();
    }
    CaError::Unavailable(detail)
}

async fn read(mut response: Response) -> Result<Vec<u8>, CaError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| unavailable(&e))? {
        if body.len().saturating_add(chunk.len()) > MAX_ANSWER {
            return Err(CaError::Protocol(
                "its answer is larger than 256 KiB".into(),
            ));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// A problem document is a refusal with its reasons; 5xx and 429 are troubles that may pass.
fn refusal(status: StatusCode, body: &[u8]) -> CaError {
    let problem: wire::Problem = serde_json::from_slice(body).unwrap_or_default();
    let detail: String = problem
        .detail
        .or(problem.title)
        .unwrap_or_else(|| format!("status {}", status.as_u16()))
        .chars()
        .take(MAX_TEXT)
        .collect();
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        return CaError::Unavailable(format!("{}: {detail}", status.as_u16()));
    }
    if !status.is_client_error() {
        return CaError::Protocol(format!("status {}", status.as_u16()));
    }
    CaError::Refused {
        detail,
        reasons: problem
            .reasons
            .iter()
            .take(MAX_REASONS)
            .map(|r| r.text().chars().take(MAX_TEXT).collect())
            .collect(),
    }
}

#[cfg(test)]
mod tests;
