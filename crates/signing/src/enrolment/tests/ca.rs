//! A CA that keeps what it is handed.

use super::scene::NONCE;
use super::token::{SECRET, challenge};
use async_trait::async_trait;
use countersign_core::ports::ca::{
    CaError, CertificateAuthority, CertificateRequest, NewOrder, OpenedOrder, OrderStep,
};
use countersign_core::ports::evidence::{DeviceChallenge, DeviceIdentity};
use countersign_testkit_evidence::tpm2::Tpm2;
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

type Meanwhile = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A CA that keeps what it is handed, and takes its time.
#[derive(Default)]
pub struct Ca {
    pub name: &'static str,
    /// The attestation key's certificates it gives; without any it has no device steps.
    pub certifies: Mutex<Vec<Vec<u8>>>,
    /// Orders whose device has answered its challenge.
    pub answered: Mutex<Vec<String>>,
    pub attestation_ca: Option<&'static str>,
    pub opened: AtomicUsize,
    pub submitted: Mutex<Vec<CertificateRequest>>,
    /// What happens elsewhere while it opens the next order.
    pub meanwhile: tokio::sync::Mutex<Option<Meanwhile>>,
}

#[async_trait]
impl CertificateAuthority for Ca {
    fn name(&self) -> &str {
        self.name
    }

    fn attestation_ca(&self) -> Option<&str> {
        self.attestation_ca
    }

    fn takes_software_keys(&self) -> bool {
        true
    }

    async fn open(&self, new: NewOrder<'_>) -> Result<OpenedOrder, CaError> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        if let Some(meanwhile) = self.meanwhile.lock().await.take() {
            meanwhile.await;
        }
        Ok(OpenedOrder {
            reference: new.order.to_string(),
            nonce: NONCE.to_vec(),
            audience: "ca.example".into(),
            common_name: None,
        })
    }

    async fn identify(&self, _: &str, device: &DeviceIdentity) -> Result<DeviceChallenge, CaError> {
        assert_eq!(device.attestation_key, Tpm2::default().ak_public());
        match self.certifies.lock().unwrap().is_empty() {
            true => Err(CaError::NoDeviceSteps),
            false => Ok(challenge()),
        }
    }

    async fn answer(&self, reference: &str, secret: &[u8]) -> Result<Vec<Vec<u8>>, CaError> {
        assert_eq!(secret, SECRET);
        self.answered.lock().unwrap().push(reference.to_owned());
        Ok(self.certifies.lock().unwrap().clone())
    }

    async fn submit(&self, _: &str, request: &CertificateRequest) -> Result<OrderStep, CaError> {
        self.submitted.lock().unwrap().push(request.clone());
        Ok(OrderStep::Waiting {
            retry_after_s: 3600,
        })
    }

    async fn poll(&self, _: &str, _: &[u8]) -> Result<OrderStep, CaError> {
        Ok(OrderStep::Waiting {
            retry_after_s: 3600,
        })
    }
}
