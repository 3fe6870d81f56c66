//! Signers, keys and their certificates.

use super::{Client, of};
use crate::dto;
use crate::error::Result;
use countersign_core::{KeyId, OrderId, SignerLabel, TenantName};
use serde_json::{Value, json};

impl Client {
    /// Makes a signer.
    ///
    /// # Errors
    /// As all calls.
    pub fn create_signer(
        &self,
        tenant: &TenantName,
        signer: &SignerLabel,
        algorithm: &str,
    ) -> Result<Value> {
        let body = json!({"signer": signer, "algorithm": algorithm});
        self.post(&of(tenant, "/signers"), &body)
    }

    /// The tenant's signers.
    ///
    /// # Errors
    /// As all calls.
    pub fn signers(&self, tenant: &TenantName) -> Result<Value> {
        self.get(&of(tenant, "/signers"))
    }

    /// One signer.
    ///
    /// # Errors
    /// As all calls.
    pub fn signer(&self, tenant: &TenantName, signer: &SignerLabel) -> Result<Value> {
        self.get(&of(tenant, &format!("/signers/{signer}")))
    }

    /// Generates a key for a signer, in its token.
    ///
    /// # Errors
    /// As all calls.
    pub fn create_key(&self, tenant: &TenantName, signer: &SignerLabel) -> Result<Value> {
        self.post(&of(tenant, &format!("/signers/{signer}/keys")), &json!({}))
    }

    /// The tenant's keys.
    ///
    /// # Errors
    /// As all calls.
    pub fn keys(&self, tenant: &TenantName) -> Result<Value> {
        self.get(&of(tenant, "/keys"))
    }

    /// One key with its facts.
    ///
    /// # Errors
    /// As all calls.
    pub fn key(&self, tenant: &TenantName, key: KeyId) -> Result<Value> {
        self.get(&of(tenant, &format!("/keys/{key}")))
    }

    /// Suspends, resumes, retires, … a key.
    ///
    /// # Errors
    /// As all calls.
    pub fn key_event(
        &self,
        tenant: &TenantName,
        key: KeyId,
        event: &dto::KeyEvent,
    ) -> Result<Value> {
        self.post(&of(tenant, &format!("/keys/{key}/events")), event)
    }

    /// Appraises a key's evidence.
    ///
    /// # Errors
    /// As all calls.
    pub fn appraise_key(&self, tenant: &TenantName, key: KeyId) -> Result<Value> {
        self.post(&of(tenant, &format!("/keys/{key}/appraise")), &json!({}))
    }

    /// Adds a vendor's evidence to a key; it is appraised first.
    ///
    /// # Errors
    /// As all calls.
    pub fn add_evidence(
        &self,
        tenant: &TenantName,
        key: KeyId,
        evidence: &dto::Evidence,
    ) -> Result<Value> {
        self.post(&of(tenant, &format!("/keys/{key}/evidence")), evidence)
    }

    /// The evidence kept for a key.
    ///
    /// # Errors
    /// As all calls.
    pub fn evidence(&self, tenant: &TenantName, key: KeyId) -> Result<Value> {
        self.get(&of(tenant, &format!("/keys/{key}/evidence")))
    }

    /// A CSR with statement and evidence, for a CA without a connector.
    ///
    /// # Errors
    /// As all calls.
    pub fn export_csr(
        &self,
        tenant: &TenantName,
        key: KeyId,
        request: &dto::CsrRequest,
    ) -> Result<dto::ExportedCsr> {
        self.post(&of(tenant, &format!("/keys/{key}/csr")), request)
    }

    /// Orders a certificate from a CA with a connector.
    ///
    /// # Errors
    /// As all calls.
    pub fn order_certificate(
        &self,
        tenant: &TenantName,
        key: KeyId,
        ca: &str,
        subject: &dto::Subject,
    ) -> Result<Value> {
        let body = json!({"ca": ca, "subject": subject});
        self.post(&of(tenant, &format!("/keys/{key}/orders")), &body)
    }

    /// How an order stands.
    ///
    /// # Errors
    /// As all calls.
    pub fn order(&self, tenant: &TenantName, order: OrderId) -> Result<Value> {
        self.get(&of(tenant, &format!("/orders/{order}")))
    }

    /// Installs a certificate that came back by another way.
    ///
    /// # Errors
    /// As all calls.
    pub fn install_certificate(
        &self,
        tenant: &TenantName,
        key: KeyId,
        chain_pem: &str,
    ) -> Result<Value> {
        let body = json!({"chain_pem": chain_pem});
        self.post(&of(tenant, &format!("/keys/{key}/certificate")), &body)
    }
}
