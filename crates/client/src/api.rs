//! The API, call by call.

use crate::dto;
use crate::error::{Error, Result};
use crate::oidc::{encode, form_body};
use crate::web::{Answer, Web};
use countersign_core::{GrantId, KeyId, LogId, OrderId, SignerLabel, TenantName};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::time::Duration;

/// JSON answers: a signature with its chain and receipt is some 20 KiB.
const MAX_JSON: u64 = 4 * 1024 * 1024;
/// 256 entries of 65,535 bytes, each with its length (tlog-tiles).
const MAX_TILE: u64 = 256 * (65_535 + 2);
/// One page of details.
const MAX_DETAILS: u64 = 64 * 1024 * 1024;
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// How to reach the service.
#[derive(Debug, Clone)]
pub struct Options {
    /// `https://host[:port]`.
    pub server: String,
    /// Roots; the system's where absent.
    pub ca_file: Option<PathBuf>,
    /// Time for one request and its answer.
    pub timeout: Duration,
    /// How often a retryable request is sent in all.
    pub attempts: u32,
}

impl Options {
    /// Defaults for a server: system roots, 30 s, 5 attempts.
    #[must_use]
    pub fn new(server: impl Into<String>) -> Self {
        Self {
            server: server.into(),
            ca_file: None,
            timeout: Duration::from_secs(30),
            attempts: 5,
        }
    }
}

/// The client. Cloning is cheap and shares connections.
#[derive(Debug, Clone)]
pub struct Client {
    web: Web,
    base: String,
    attempts: u32,
    token: Option<SecretString>,
}

/// Whether a request may be sent again after it may have arrived.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repeat {
    Safe,
    Never,
}

impl Client {
    /// A client without a service token: it can exchange one.
    ///
    /// # Errors
    /// [`Error::Usage`] if the URL is not https or the CA file is unusable.
    pub fn new(options: &Options) -> Result<Self> {
        let base = options.server.trim_end_matches('/');
        if !base.starts_with("https://") {
            return Err(Error::Usage {
                field: "server",
                message: format!("\"{base}\": write it as https://host"),
            });
        }
        Ok(Self {
            web: Web::new(options.ca_file.as_deref(), options.timeout)?,
            base: base.to_owned(),
            attempts: options.attempts.max(1),
            token: None,
        })
    }

    /// The same client with a service token.
    #[must_use]
    pub fn with_token(&self, token: SecretString) -> Self {
        Self {
            token: Some(token),
            ..self.clone()
        }
    }

    /// Whether it has a service token.
    #[must_use]
    pub const fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Registers the operator; works once.
    ///
    /// # Errors
    /// As all calls here: [`Error::Api`] for a refusal, else what the connection did.
    pub fn bootstrap(&self, request: &dto::Bootstrap) -> Result<Value> {
        self.post("/v1/bootstrap", request)
    }

    /// Exchanges an ID token for a service token (RFC 8693), bound to a tenant and signers. An ID
    /// token is good for one exchange: this is not repeated once it may have arrived.
    ///
    /// # Errors
    /// [`Error::Api`] with `token-refused`, `token-replayed`, `issuer-unknown`, `denied` …
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

    /// Makes a tenant (operator).
    ///
    /// # Errors
    /// As all calls.
    pub fn create_tenant(&self, tenant: &dto::NewTenant) -> Result<Value> {
        self.post("/v1/tenants", tenant)
    }

    /// All tenants (operator).
    ///
    /// # Errors
    /// As all calls.
    pub fn tenants(&self) -> Result<Value> {
        self.get("/v1/tenants")
    }

    /// One tenant with its policy and log.
    ///
    /// # Errors
    /// As all calls.
    pub fn tenant(&self, tenant: &TenantName) -> Result<Value> {
        self.get(&of(tenant, ""))
    }

    /// Sets a tenant's policy.
    ///
    /// # Errors
    /// As all calls.
    pub fn set_policy(&self, tenant: &TenantName, policy: &dto::Policy) -> Result<Value> {
        self.json("PUT", &of(tenant, "/policy"), Some(policy), Repeat::Safe)
    }

    /// Registers an issuer.
    ///
    /// # Errors
    /// As all calls.
    pub fn add_issuer(&self, tenant: &TenantName, issuer: &dto::IssuerSpec) -> Result<Value> {
        self.post(&of(tenant, "/issuers"), issuer)
    }

    /// The tenant's issuers.
    ///
    /// # Errors
    /// As all calls.
    pub fn issuers(&self, tenant: &TenantName) -> Result<Value> {
        self.get(&of(tenant, "/issuers"))
    }

    /// Gives somebody a role.
    ///
    /// # Errors
    /// As all calls.
    pub fn add_member(&self, tenant: &TenantName, member: &dto::Member) -> Result<Value> {
        self.post(&of(tenant, "/members"), member)
    }

    /// Takes a role from somebody.
    ///
    /// # Errors
    /// As all calls.
    pub fn remove_member(&self, tenant: &TenantName, member: &dto::Member) -> Result<Value> {
        self.json(
            "DELETE",
            &of(tenant, "/members"),
            Some(member),
            Repeat::Safe,
        )
    }

    /// The tenant's people.
    ///
    /// # Errors
    /// As all calls.
    pub fn members(&self, tenant: &TenantName) -> Result<Value> {
        self.get(&of(tenant, "/members"))
    }

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

    /// Adds a grant.
    ///
    /// # Errors
    /// As all calls.
    pub fn add_grant(&self, tenant: &TenantName, grant: &dto::NewGrant) -> Result<Value> {
        self.post(&of(tenant, "/grants"), grant)
    }

    /// The tenant's grants.
    ///
    /// # Errors
    /// As all calls.
    pub fn grants(&self, tenant: &TenantName) -> Result<Value> {
        self.get(&of(tenant, "/grants"))
    }

    /// Removes a grant.
    ///
    /// # Errors
    /// As all calls.
    pub fn remove_grant(&self, tenant: &TenantName, grant: GrantId) -> Result<Value> {
        self.json::<(), _>(
            "DELETE",
            &of(tenant, &format!("/grants/{grant}")),
            None,
            Repeat::Safe,
        )
    }

    /// Would this token be allowed, claim by claim?
    ///
    /// # Errors
    /// As all calls.
    pub fn explain_grants(&self, tenant: &TenantName, ask: &dto::ExplainGrant) -> Result<Value> {
        self.post(&of(tenant, "/grants/explain"), ask)
    }

    /// Asks for a signature. The Idempotency-Key makes repeating it safe: whatever happens to the
    /// connection, the same key and bytes give the first answer, not a second signature.
    ///
    /// # Errors
    /// [`Error::Api`] with `denied` (reasons inside), `content-refused`, `key-not-active` …
    pub fn sign(
        &self,
        tenant: &TenantName,
        signer: &SignerLabel,
        request: &dto::SignatureRequest,
        idempotency_key: &str,
    ) -> Result<dto::Signature> {
        let body = to_json(request)?;
        let headers = [
            ("content-type", "application/json"),
            ("idempotency-key", idempotency_key),
        ];
        let path = of(tenant, &format!("/signers/{signer}/signatures"));
        self.request("POST", &path, &headers, Some(&body), MAX_JSON, Repeat::Safe)?
            .json()
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

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.json::<(), T>("GET", path, None, Repeat::Safe)
    }

    fn post<B: Serialize, T: DeserializeOwned>(&self, path: &str, body: &B) -> Result<T> {
        self.json("POST", path, Some(body), Repeat::Never)
    }

    fn json<B: Serialize, T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Option<&B>,
        repeat: Repeat,
    ) -> Result<T> {
        let body = body.map(to_json).transpose()?;
        let headers: &[_] = match body {
            Some(_) => &[("content-type", "application/json")],
            None => &[],
        };
        let mut answer = self.request(method, path, headers, body.as_deref(), MAX_JSON, repeat)?;
        if answer.body.is_empty() {
            // 204: say "nothing" in JSON.
            answer.body = b"null".to_vec();
        }
        answer.json()
    }

    /// One request with retries. What may be repeated is repeated on any retryable trouble; what
    /// may not, only where the service itself said that nothing was done and a retry can help.
    fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
        limit: u64,
        repeat: Repeat,
    ) -> Result<Answer> {
        let url = format!("{}{path}", self.base);
        let bearer = self
            .token
            .as_ref()
            .map(|t| SecretString::from(format!("Bearer {}", t.expose_secret())));
        let mut all = headers.to_vec();
        if let Some(b) = &bearer {
            all.push(("authorization", b.expose_secret()));
        }
        let mut attempt = 1;
        loop {
            let result = self
                .web
                .send(method, &url, &all, body, limit)
                .and_then(Answer::success);
            let error = match result {
                Ok(answer) => return Ok(answer),
                Err(e) => e,
            };
            let again = match (&error, repeat) {
                (e, Repeat::Safe) => e.retryable(),
                // Turned away at the door: nothing was begun.
                (Error::Api(e), Repeat::Never) => {
                    e.retryable && matches!(e.code.as_str(), "busy" | "overloaded")
                }
                (_, Repeat::Never) => false,
            };
            if !again || attempt >= self.attempts {
                return Err(error);
            }
            std::thread::sleep(pause(attempt, error.api().and_then(|e| e.retry_after_s)));
            attempt += 1;
        }
    }
}

/// Full jitter over a doubling ceiling, but never less than the service asked for.
fn pause(attempt: u32, retry_after_s: Option<u64>) -> Duration {
    let ceiling = 100u64.saturating_mul(1 << attempt.min(6));
    let random = RandomState::new().hash_one(attempt);
    let jittered = Duration::from_millis(ceiling / 2 + random % (ceiling / 2).max(1));
    let asked = Duration::from_secs(retry_after_s.unwrap_or(0)).min(MAX_PAUSE);
    asked.saturating_add(jittered)
}

fn of(tenant: &TenantName, rest: &str) -> String {
    format!("/v1/tenants/{}{rest}", encode(tenant.as_str()))
}

fn to_json(body: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(body).map_err(|e| Error::Usage {
        field: "body",
        message: e.to_string(),
    })
}
