//! What can go wrong between us and the service.

use serde::Deserialize;
use serde_json::Value;
use std::fmt;

/// Result with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the client.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// The service answered with a problem document. [`ApiError::retryable`] says whether the same
    /// request may be sent again later.
    #[error("{0}")]
    Api(Box<ApiError>),
    /// No connection, or it broke. Retrying can help.
    #[error("{host} is not reachable: {message}")]
    Unreachable {
        /// Which host.
        host: String,
        /// What happened.
        message: String,
    },
    /// No answer in time. Retrying can help; a signature may have been made (repeat it under the
    /// same Idempotency-Key).
    #[error("{host} did not answer in time")]
    Timeout {
        /// Which host.
        host: String,
    },
    /// The certificate of the server was not accepted. Retrying cannot help; the CA file may.
    #[error("TLS with {host}: {message}")]
    Tls {
        /// Which host.
        host: String,
        /// What rustls said.
        message: String,
    },
    /// The answer is larger than we read. Retrying cannot help.
    #[error("the answer of {host} is larger than {limit} bytes")]
    TooLarge {
        /// Which host.
        host: String,
        /// The cap.
        limit: u64,
    },
    /// The answer is not what the API promises: another version, or something in between.
    #[error("the answer of {host} is not understood: {message}")]
    BadAnswer {
        /// Which host.
        host: String,
        /// Why.
        message: String,
    },
    /// An option or argument is wrong. Retrying cannot help.
    #[error("{field}: {message}")]
    Usage {
        /// Which.
        field: &'static str,
        /// Why.
        message: String,
    },
    /// An OpenID Connect issuer refused (RFC 6749 §5.2, RFC 8628 §3.5).
    #[error("the issuer refused: {code}{}", description.as_ref().map(|d| format!(": {d}")).unwrap_or_default())]
    Issuer {
        /// OAuth error code.
        code: String,
        /// Its own words.
        description: Option<String>,
    },
}

impl Error {
    /// Whether the same request may be sent again later with hope.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self {
            Self::Api(e) => e.retryable,
            Self::Unreachable { .. } | Self::Timeout { .. } => true,
            _ => false,
        }
    }

    /// The problem document, if the service sent one.
    #[must_use]
    pub fn api(&self) -> Option<&ApiError> {
        match self {
            Self::Api(e) => Some(e),
            _ => None,
        }
    }
}

/// A problem document (RFC 9457) as the service sends it. Branch on `code`; the texts are for
/// people and may change.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct ApiError {
    /// HTTP status.
    pub status: u16,
    /// Stable name.
    pub code: String,
    /// The same for every problem of this code.
    pub title: String,
    /// What happened here.
    pub detail: String,
    /// The field that is wrong.
    pub field: Option<String>,
    /// The exact rule that content broke.
    pub refusal: Option<String>,
    /// One entry each: grants claim by claim, findings, a CA's words.
    pub reasons: Vec<Value>,
    /// Whether the same request may be sent again later with hope.
    pub retryable: bool,
    /// Leads to the cause in the service's logs and leaves.
    #[serde(rename = "instance")]
    pub request_id: String,
    /// Seconds the service asks to wait.
    pub retry_after_s: Option<u64>,
}

impl ApiError {
    /// For an answer without a problem document: a proxy, or not our service at all.
    #[must_use]
    pub(crate) fn without_document(status: u16, request_id: String) -> Self {
        Self {
            status,
            code: format!("http-{status}"),
            title: format!("HTTP status {status}"),
            detail: "the answer is not one of Countersign's; is the server URL right?".to_owned(),
            // A gateway's ways of saying "not now" (RFC 9110 §15.6, RFC 6585 §4).
            retryable: matches!(status, 429 | 502 | 503 | 504),
            request_id,
            ..Self::default()
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.title)?;
        if !self.detail.is_empty() && self.detail != self.title {
            write!(f, ": {}", self.detail)?;
        }
        if let Some(field) = &self.field {
            write!(f, " (field {field})")?;
        }
        if !self.request_id.is_empty() {
            write!(f, " [request {}]", self.request_id)?;
        }
        Ok(())
    }
}
