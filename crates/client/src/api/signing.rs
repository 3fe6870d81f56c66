//! Identity, signatures and logs.

use super::{Client, MAX_JSON, Repeat, of, to_json};
use crate::dto;
use crate::error::{ApiError, Error, Result};
use crate::oidc::form_body;
use countersign_core::{LogId, SignerLabel, TenantName};
use serde::Serialize;
use serde_json::Value;
use std::time::Duration;

/// 256 entries of 65,535 bytes, each with its length (tlog-tiles).
const MAX_TILE: u64 = 256 * (65_535 + 2);
/// One page of details.
const MAX_DETAILS: u64 = 64 * 1024 * 1024;

/// A batch may wait its turn (the service lets it for 20 s), and takes as long as its token.
const BATCH_PATIENCE: Duration = Duration::from_secs(60);
/// Most items of one request for signatures.
pub const MAX_ITEMS: usize = 100;

/// What became of one item.
pub type ItemResult = std::result::Result<dto::Signature, Box<ApiError>>;

impl Client {
    /// Exchanges an ID token for a service token (RFC 8693), bound to a tenant and signers. An ID
    /// token is good for one exchange: this is not repeated once it may have arrived.
    ///
    /// # Errors
    /// [`Error::Api`] with `token-refused`, `token-replayed`, `access-denied`, `denied` …
    pub fn exchange(
        &self,
        id_token: &str,
        tenant: Option<&TenantName>,
        signers: &[SignerLabel],
    ) -> Result<dto::Token> {
        let scope = signers
            .iter()
            .map(SignerLabel::as_str)
            .collect::<Vec<_>>()
            .join(" ");
        let mut form = vec![
            (
                "grant_type",
                "urn:ietf:params:oauth:grant-type:token-exchange",
            ),
            ("subject_token", id_token),
            (
                "subject_token_type",
                "urn:ietf:params:oauth:token-type:id_token",
            ),
        ];
        form.extend(tenant.map(|t| ("tenant", t.as_str())));
        if !scope.is_empty() {
            form.push(("scope", &scope));
        }
        let body = form_body(&form);
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        self.request(
            "POST",
            "/v1/token",
            &headers,
            Some(body.as_bytes()),
            MAX_JSON,
            Repeat::Never,
        )?
        .json()
    }

    /// Who the service thinks we are.
    ///
    /// # Errors
    /// As all calls.
    pub fn whoami(&self) -> Result<Value> {
        self.get("/v1/whoami")
    }

    /// The service's own keys (no token needed).
    ///
    /// # Errors
    /// As all calls.
    pub fn service_keys(&self) -> Result<dto::ServiceKeys> {
        self.get("/v1/service/keys")
    }

    /// The certificate a signer signs with now.
    ///
    /// # Errors
    /// As all calls.
    pub fn signer_certificate(
        &self,
        tenant: &TenantName,
        signer: &SignerLabel,
    ) -> Result<dto::SignerCertificate> {
        self.get(&of(tenant, &format!("/signers/{signer}/certificate")))
    }

    /// Asks for signatures of 1 to [`MAX_ITEMS`] items; the results are in their order. The
    /// Idempotency-Key makes repeating it safe, item by item: whatever happens to the connection, the
    /// same key, item id and bytes give the first answer, not a second signature.
    ///
    /// # Errors
    /// What concerns the whole request: [`Error::Api`] with `not-found`, `token-not-for-signer` … An
    /// item that is refused (`denied` with its reasons, `content-refused`, `key-not-active` …) or must
    /// be asked for again has its own result.
    pub fn sign(
        &self,
        tenant: &TenantName,
        signer: &SignerLabel,
        items: &[dto::SignatureItem],
        idempotency_key: &str,
    ) -> Result<Vec<ItemResult>> {
        #[derive(Serialize)]
        struct Batch<'a> {
            items: &'a [dto::SignatureItem],
        }
        let body = to_json(&Batch { items })?;
        let headers = [
            ("content-type", "application/json"),
            ("idempotency-key", idempotency_key),
        ];
        let path = of(tenant, &format!("/signers/{signer}/signatures"));
        let answer = self.patient(BATCH_PATIENCE).request(
            "POST",
            &path,
            &headers,
            Some(&body),
            MAX_JSON,
            Repeat::Safe,
        )?;
        let bad = |message: &str| Error::BadAnswer {
            host: answer.host.clone(),
            message: message.to_owned(),
        };
        let signatures: dto::Signatures = answer.json()?;
        if signatures.results.len() != items.len() {
            return Err(bad("it has not one result for each item"));
        }
        items
            .iter()
            .zip(signatures.results)
            .map(|(item, result)| {
                if result.id != item.id {
                    return Err(bad("its results are not in the items' order"));
                }
                match (result.signed, result.problem) {
                    (Some(signed), None) => signatures
                        .signed_by
                        .iter()
                        .find(|by| by.certificate_sha256 == signed.certificate_sha256)
                        .map(|by| Ok(dto::Signature::of(signed, by)))
                        .ok_or_else(|| bad("it names a certificate that it does not hold")),
                    (None, Some(problem)) => Ok(Err(Box::new(problem))),
                    _ => Err(bad("an item is neither signed nor refused")),
                }
            })
            .collect()
    }

    /// A fresh Idempotency-Key.
    #[must_use]
    pub fn idempotency_key() -> String {
        uuid::Uuid::new_v4().to_string()
    }

    /// The logs the caller may read.
    ///
    /// # Errors
    /// As all calls.
    pub fn logs(&self, tenant: &TenantName) -> Result<Vec<dto::Log>> {
        self.get(&of(tenant, "/logs"))
    }

    /// A log's signed checkpoint.
    ///
    /// # Errors
    /// As all calls.
    pub fn checkpoint(&self, log: LogId) -> Result<String> {
        let path = format!("/log/{log}/checkpoint");
        self.request("GET", &path, &[], None, 64 * 1024, Repeat::Safe)?
            .text()
    }

    /// A tile or entry bundle by its tlog-tiles path (`tile/0/000`, `tile/entries/000.p/7`).
    ///
    /// # Errors
    /// As all calls; `not-found` where no checkpoint ever had this tile.
    pub fn tile(&self, log: LogId, path: &str) -> Result<Vec<u8>> {
        let path = format!("/log/{log}/{path}");
        Ok(self
            .request("GET", &path, &[], None, MAX_TILE, Repeat::Safe)?
            .body)
    }

    /// Details (NDJSON) of leaves from index `from` on, at most `limit` lines.
    ///
    /// # Errors
    /// As all calls.
    pub fn details(
        &self,
        tenant: &TenantName,
        log: LogId,
        from: u64,
        limit: u64,
    ) -> Result<String> {
        let path = of(
            tenant,
            &format!("/logs/{log}/details?from={from}&limit={limit}"),
        );
        self.request("GET", &path, &[], None, MAX_DETAILS, Repeat::Safe)?
            .text()
    }
}
