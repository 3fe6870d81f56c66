//! The API: the client itself here, its calls in the files below.

mod keys;
mod signing;
mod tenants;

pub use signing::{ItemResult, MAX_ITEMS};

use crate::error::{Error, Result};
use crate::oidc::encode;
use crate::web::{Answer, Web};
use countersign_core::TenantName;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::time::Duration;

/// JSON answers: a hundred signatures with their receipts are some 500 KiB.
const MAX_JSON: u64 = 4 * 1024 * 1024;
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
    /// Instead of the time for one request.
    patience: Option<Duration>,
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
            patience: None,
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

    /// The same client, waiting longer for its answers.
    fn patient(&self, patience: Duration) -> Self {
        Self {
            patience: Some(patience),
            ..self.clone()
        }
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
                .send_within(self.patience, method, &url, &all, body, limit)
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
