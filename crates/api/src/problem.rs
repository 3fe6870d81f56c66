//! Problem documents (RFC 9457), by one table.
//!
//! Handlers return [`Problem`]; the outermost layer (`crate::middleware`) adds the request id and
//! writes the body, so that whatever refuses a request (a handler, an extractor, a limit, a panic)
//! answers in one form. Nothing outside this file chooses a status code for an error.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use countersign_core::RequestId;
use countersign_signing::SigningError;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::auth::AuthError;

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Stable name: `code`, and the end of the `type` URN.
    pub code: &'static str,
    /// HTTP status.
    pub status: StatusCode,
    /// Title, the same for every occurrence.
    pub title: &'static str,
    /// Whether the same request may be sent again with hope.
    pub retryable: bool,
}

macro_rules! table {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $status:ident, $retry:literal, $title:literal;)*) => {
        /// The kinds of problem: one row each. Clients branch on `code`, not on the status.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Kind { $($(#[$doc])* $name,)* }

        impl Kind {
            /// Every kind, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The row of this kind.
            #[must_use]
            pub const fn row(self) -> Row {
                match self {
                    $(Self::$name => Row {
                        code: $code, status: StatusCode::$status, title: $title, retryable: $retry,
                    },)*
                }
            }
        }
    };
}

table! {
    /// Absent, or another tenant's: never told apart (invariant 4).
    NotFound = "not-found", NOT_FOUND, false, "There is no such thing here, or it is not yours";
    /// A role is missing in one's own tenant.
    Forbidden = "forbidden", FORBIDDEN, false, "Your role does not allow this";
    /// A second factor is missing.
    MfaRequired = "mfa-required", FORBIDDEN, false, "This needs a login with a second factor";
    /// No grant allows it; `reasons` says why.
    Denied = "denied", FORBIDDEN, false, "No grant allows this";
    /// The service token is bound to other signers.
    TokenNotForSigner = "token-not-for-signer", FORBIDDEN, false, "The token is not for this signer";
    /// The content crate refused the bytes.
    ContentRefused = "content-refused", UNPROCESSABLE_ENTITY, false, "This content may not be signed";
    /// Not an active key.
    KeyNotActive = "key-not-active", CONFLICT, false, "The signer's key does not sign";
    /// No key at all.
    NoKey = "no-key", CONFLICT, false, "The signer has no key";
    /// Too early or too late for the certificate.
    CertificateOutsideValidity = "certificate-outside-validity", CONFLICT, false, "The certificate is not valid now";
    /// The CA revoked the certificate, or put it on hold.
    CertificateRevoked = "certificate-revoked", CONFLICT, false, "The certificate was revoked by its CA";
    /// The CA's revocation list could not be had for too long: fail closed.
    CertificateStatusUnknown = "certificate-status-unknown", SERVICE_UNAVAILABLE, true, "It is not known whether the certificate was revoked";
    /// The first request of this idempotency key is being worked on.
    IdempotencyInFlight = "idempotency-in-flight", CONFLICT, true, "The same request is being worked on";
    /// The idempotency key belongs to another request.
    IdempotencyMismatch = "idempotency-mismatch", UNPROCESSABLE_ENTITY, false, "The Idempotency-Key was used for another request";
    /// As many as the deployment allows a tenant; the operator may allow more.
    LimitReached = "limit-reached", CONFLICT, false, "There are as many of these as may be";
    /// Exists already, or is not in the state expected.
    Conflict = "conflict", CONFLICT, false, "This contradicts what is there";
    /// A field of the request is wrong.
    Invalid = "invalid-field", UNPROCESSABLE_ENTITY, false, "A field is wrong";
    /// The life cycle has no such step.
    Transition = "transition-refused", CONFLICT, false, "The key's life cycle has no such step";
    /// The appraisal does not meet the tenant's policy.
    Appraisal = "appraisal-refused", UNPROCESSABLE_ENTITY, false, "The key's appraisal does not allow this";
    /// The certificate that came back failed our checks.
    CertificateRejected = "certificate-rejected", UNPROCESSABLE_ENTITY, false, "The certificate was not accepted";
    /// The CA said no.
    CaRefused = "ca-refused", UNPROCESSABLE_ENTITY, false, "The CA refused";
    /// The CA is away.
    CaUnavailable = "ca-unavailable", BAD_GATEWAY, true, "The CA is not reachable";
    /// Too much is waiting.
    Busy = "busy", SERVICE_UNAVAILABLE, true, "Too much is waiting";
    /// A part is away.
    Unavailable = "unavailable", SERVICE_UNAVAILABLE, true, "A part of the service is away";
    /// The node stalled past its lease: others serve.
    NodeStalled = "node-stalled", SERVICE_UNAVAILABLE, true, "This node stalled and lets nothing out any more";
    /// The database is older than the last signature.
    HistoryRewound = "history-rewound", SERVICE_UNAVAILABLE, false, "The database is older than the last signature";
    /// The token is latched, or the request is quarantined.
    TokenRefuses = "token-refuses", SERVICE_UNAVAILABLE, false, "The token refuses until an operator acts";
    /// No service token.
    NoToken = "no-token", UNAUTHORIZED, false, "A service token is needed";
    /// A service token that is not ours, or an expired one.
    Unauthenticated = "unauthenticated", UNAUTHORIZED, false, "A valid service token is needed";
    /// The subject token was not accepted (RFC 8693 §2.2.2: status 400, `invalid_request`).
    TokenRefused = "token-refused", BAD_REQUEST, false, "The ID token was not accepted";
    /// The subject token was exchanged before.
    TokenReplayed = "token-replayed", BAD_REQUEST, false, "The ID token was used before";
    /// Nobody here knows the caller. One answer for an unknown tenant, issuer, audience, signature,
    /// role and grant: none of them can be probed.
    AccessDenied = "access-denied", BAD_REQUEST, false, "This token is not accepted here";
    /// The issuer's keys cannot be fetched.
    IssuerUnavailable = "issuer-unavailable", BAD_GATEWAY, true, "The issuer's keys cannot be fetched";
    /// An OAuth parameter is wrong.
    TokenRequest = "token-request", BAD_REQUEST, false, "The token request is wrong";
    /// Not JSON, or not the JSON that belongs here.
    BadJson = "bad-json", BAD_REQUEST, false, "The request body is not what belongs here";
    /// A header or query parameter is wrong.
    BadRequest = "bad-request", BAD_REQUEST, false, "The request is wrong";
    /// Larger than the limit.
    TooLarge = "too-large", PAYLOAD_TOO_LARGE, false, "The request body is too large";
    /// Not `application/json`.
    UnsupportedMediaType = "unsupported-media-type", UNSUPPORTED_MEDIA_TYPE, false, "The content type is not the one that belongs here";
    /// The path exists, the method does not.
    MethodNotAllowed = "method-not-allowed", METHOD_NOT_ALLOWED, false, "This method does not exist here";
    /// The handler took too long. What it began goes on; ask for its result.
    Timeout = "timeout", SERVICE_UNAVAILABLE, true, "The answer took too long";
    /// The body came too slowly.
    BodyTimeout = "body-timeout", REQUEST_TIMEOUT, true, "The request's body took too long";
    /// A caller or its tenant asks too much; `Retry-After` says when again.
    RateLimited = "rate-limited", TOO_MANY_REQUESTS, true, "Too many requests of this caller or tenant";
    /// Too many requests at once.
    Overloaded = "overloaded", SERVICE_UNAVAILABLE, true, "Too many requests at once";
    /// A bug or a broken database. The text stays in our logs.
    Internal = "internal", INTERNAL_SERVER_ERROR, false, "Something went wrong inside";
}

/// A problem on its way to the caller.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    kind: Kind,
    detail: String,
    extra: Box<Extra>,
    /// RFC 6749 §5.2 `error`, on the token endpoint.
    oauth: Option<&'static str>,
    retry_after_s: Option<u32>,
}

/// What only some problems have; apart, so that a `Result` stays small.
#[derive(Debug, Clone, Default, PartialEq)]
struct Extra {
    field: Option<String>,
    reasons: Vec<Value>,
    /// The more exact code of the content crate.
    refusal: Option<String>,
}

impl Problem {
    /// A problem of this kind.
    #[must_use]
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        let retry_after_s = match kind.row().status {
            StatusCode::SERVICE_UNAVAILABLE if kind.row().retryable => Some(1),
            _ => None,
        };
        Self {
            kind,
            detail: detail.into(),
            extra: Box::default(),
            oauth: None,
            retry_after_s,
        }
    }

    /// The one answer for everything absent or another tenant's.
    #[must_use]
    pub fn not_found() -> Self {
        Self::new(Kind::NotFound, "nothing is here for you under this path")
    }

    /// A field of the request is wrong.
    #[must_use]
    pub fn invalid(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, detail).field(field)
    }

    /// Names the field.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.extra.field = Some(field.into());
        self
    }

    /// Adds the OAuth error code.
    #[must_use]
    pub const fn oauth(mut self, error: &'static str) -> Self {
        self.oauth = Some(error);
        self
    }

    /// Says when to come again.
    #[must_use]
    pub const fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// Adds reasons.
    #[must_use]
    pub fn reasons(mut self, reasons: impl IntoIterator<Item = Value>) -> Self {
        self.extra.reasons = reasons.into_iter().collect();
        self
    }

    /// The kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The body as the caller gets it.
    #[must_use]
    pub fn document(self, request: &RequestId) -> ProblemDocument {
        let row = self.kind.row();
        ProblemDocument {
            r#type: format!("urn:countersign:problem:{}", row.code),
            title: row.title.to_owned(),
            status: row.status.as_u16(),
            detail: self.detail.clone(),
            instance: request.to_string(),
            code: row.code.to_owned(),
            retryable: row.retryable,
            retry_after_s: self.retry_after_s,
            field: self.extra.field,
            refusal: self.extra.refusal,
            reasons: self.extra.reasons,
            error: self.oauth.map(str::to_owned),
            error_description: self.oauth.map(|_| self.detail),
        }
    }

    /// The whole answer.
    #[must_use]
    pub(crate) fn response(self, request: &RequestId) -> Response {
        let row = self.kind.row();
        let retry = self.retry_after_s;
        let no_token = self.kind == Kind::NoToken;
        let body = serde_json::to_vec(&self.document(request)).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = row.status;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(s) = retry {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(s));
        }
        if row.status == StatusCode::UNAUTHORIZED {
            // RFC 6750 §3.1: no error code where no token came.
            let challenge = if no_token {
                "Bearer"
            } else {
                "Bearer error=\"invalid_token\""
            };
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static(challenge),
            );
        }
        response
    }
}

/// Carried as an extension to the outermost layer, which knows the request id.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.kind.row().status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// A problem document (RFC 9457). `code` is stable; `title` and `detail` are for people.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ProblemDocument {
    /// `urn:countersign:problem:<code>`.
    pub r#type: String,
    /// The same for every problem of this code.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What happened here.
    pub detail: String,
    /// The request id, as in `X-Request-Id`, our logs and leaves.
    pub instance: String,
    /// Stable name of the problem.
    pub code: String,
    /// Whether the same request may be sent again with hope.
    pub retryable: bool,
    /// Seconds to wait before that: as `Retry-After`, for items that have no header of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u32>,
    /// The field that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The exact rule that content broke.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    /// Reasons, one entry each: grants claim by claim, findings of a certificate, a CA's words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Value>,
    /// OAuth error code, on `/v1/token` (RFC 6749 §5.2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// OAuth error text, on `/v1/token`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_description: Option<String>,
}

/// The table's left side for the service's errors. No wildcard: a new variant does not compile
/// until it has its row.
const fn kind_of(error: &SigningError) -> Kind {
    match error {
        SigningError::NotFound => Kind::NotFound,
        SigningError::Forbidden { .. } => Kind::Forbidden,
        SigningError::MfaRequired => Kind::MfaRequired,
        SigningError::Denied { .. } => Kind::Denied,
        SigningError::TokenNotForSigner => Kind::TokenNotForSigner,
        SigningError::ContentRefused { .. } => Kind::ContentRefused,
        SigningError::KeyNotActive { .. } => Kind::KeyNotActive,
        SigningError::NoKey => Kind::NoKey,
        SigningError::CertificateOutsideValidity { .. } => Kind::CertificateOutsideValidity,
        SigningError::CertificateRevoked { .. } => Kind::CertificateRevoked,
        SigningError::CertificateStatusUnknown { .. } => Kind::CertificateStatusUnknown,
        SigningError::IdempotencyInFlight => Kind::IdempotencyInFlight,
        SigningError::IdempotencyMismatch => Kind::IdempotencyMismatch,
        SigningError::Limit { .. } => Kind::LimitReached,
        SigningError::Conflict { .. } => Kind::Conflict,
        SigningError::Invalid { .. } => Kind::Invalid,
        SigningError::Transition(_) => Kind::Transition,
        SigningError::Appraisal { .. } => Kind::Appraisal,
        SigningError::CertificateRejected { .. } => Kind::CertificateRejected,
        SigningError::CaRefused { .. } => Kind::CaRefused,
        SigningError::CaUnavailable(_) => Kind::CaUnavailable,
        SigningError::Busy => Kind::Busy,
        SigningError::Unavailable(_) => Kind::Unavailable,
        SigningError::HistoryRewound { .. } => Kind::HistoryRewound,
        SigningError::Buried => Kind::NodeStalled,
        SigningError::TokenRefuses(_) => Kind::TokenRefuses,
        SigningError::Internal(_) => Kind::Internal,
    }
}

impl From<SigningError> for Problem {
    fn from(error: SigningError) -> Self {
        let kind = kind_of(&error);
        let texts = |v: Vec<String>| v.into_iter().map(Value::String);
        match error {
            SigningError::NotFound => Self::not_found(),
            SigningError::Internal(text) => {
                tracing::error!(error = %text, "internal error");
                Self::internal()
            }
            SigningError::Denied { decision } => {
                Self::new(kind, "no grant of this signer allows it").reasons(
                    decision
                        .reasons
                        .iter()
                        .map(|r| serde_json::to_value(r).unwrap_or_default()),
                )
            }
            SigningError::ContentRefused { code, detail } => {
                // The detail begins with the part's name: the field.
                let field = detail
                    .split_once(':')
                    .map(|(f, _)| f)
                    .filter(|f| matches!(*f, "signed_attributes" | "indirect_data" | "digest"))
                    .map(|f| format!("content.{f}"));
                let mut p = Self::new(kind, detail);
                p.extra.field = field;
                p.extra.refusal = Some(code);
                p
            }
            SigningError::Invalid { field, detail } => Self::new(kind, detail).field(field),
            SigningError::Appraisal { reasons } => {
                Self::new(kind, "the key's appraisal does not meet the policy")
                    .reasons(texts(reasons))
            }
            SigningError::CertificateRejected { findings } => Self::new(
                kind,
                "the certificate does not pass the checks; it was not installed",
            )
            .reasons(texts(findings)),
            SigningError::CaRefused { detail, reasons } => {
                Self::new(kind, detail).reasons(texts(reasons))
            }
            other => Self::new(kind, other.to_string()),
        }
    }
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        let kind = error.kind();
        match error {
            AuthError::Service(e) => Self::from(e),
            AuthError::Limited(p) => p.oauth("temporarily_unavailable"),
            AuthError::NoToken | AuthError::ServiceToken(_) => Self::new(kind, error.to_string()),
            AuthError::AccessDenied => Self::new(kind, error.to_string()).oauth("access_denied"),
            // The cause names addresses inside the operator's network: it is for our log.
            AuthError::Keys(_) => {
                Self::new(kind, "the keys of the token's issuer cannot be fetched now")
                    .oauth("temporarily_unavailable")
            }
            _ => Self::new(kind, error.to_string()).oauth("invalid_request"),
        }
    }
}

impl Problem {
    /// Nothing of the cause is shown; the request id leads to it in the logs.
    #[must_use]
    pub fn internal() -> Self {
        Self::new(
            Kind::Internal,
            "the request id leads to the cause in the service's logs",
        )
    }

    /// For an answer that a library made (a method that does not exist, a path that is not UTF-8).
    pub(crate) fn from_status(status: StatusCode) -> Self {
        let kind = match status {
            StatusCode::NOT_FOUND => return Self::not_found(),
            StatusCode::METHOD_NOT_ALLOWED => Kind::MethodNotAllowed,
            StatusCode::PAYLOAD_TOO_LARGE => Kind::TooLarge,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Kind::UnsupportedMediaType,
            StatusCode::UNAUTHORIZED => Kind::Unauthenticated,
            s if s.is_client_error() => Kind::BadRequest,
            _ => return Self::internal(),
        };
        Self::new(kind, kind.row().title)
    }
}

#[cfg(test)]
mod tests;
