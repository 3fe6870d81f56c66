//! Who is asking: ID tokens of registered issuers, exchanged once for a short service token.
//!
//! The order of checks is that of the OIDC and JWT best practice (RFC 8725) for workload identity:
//! the issuer is looked up by its exact name in the tenant's own allow-list before anything is
//! fetched or believed ([`id_token`]); its keys come through a cache that cannot be made to hammer
//! or to follow ([`keys`], [`fetch`]); each token is exchanged once ([`exchange`]) for a token of
//! our own ([`service_token`]), which is all that the other routes accept.

pub mod exchange;
pub mod fetch;
pub mod id_token;
pub mod jws;
pub mod keys;
pub mod service_token;

use crate::problem::{Kind, Problem};
use countersign_signing::SigningError;

pub use fetch::FetchPolicy;
pub use id_token::{IdTokenVerifier, TokenError, VerifiedToken};
pub use keys::{IssuerKeys, KeysError};
pub use service_token::{ServiceTokenError, ServiceTokens};

/// Most that two clocks may differ (standards: skew ≤ 60 s).
pub const SKEW_S: i64 = 60;

/// Why a caller was not identified.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum AuthError {
    /// No `Authorization: Bearer` header. Exchange an ID token first.
    #[error("send a service token: Authorization: Bearer …, from POST /v1/token")]
    NoToken,
    /// The service token is not accepted. Exchange again, then retry.
    #[error(transparent)]
    ServiceToken(#[from] ServiceTokenError),
    /// The ID token is not accepted. A retry with the same token cannot help.
    #[error(transparent)]
    IdToken(#[from] TokenError),
    /// The issuer's keys are not to be had. A retry can help.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The ID token was exchanged before. A new token is needed.
    #[error("this ID token was exchanged before; each token counts once")]
    Replayed,
    /// Nobody here knows the caller: no such tenant, an issuer or audience it does not list, a
    /// signature that is not the issuer's, a token too old for it, no role and no grant. Which of
    /// these stands in our own log only. No retry.
    #[error(
        "this token opens nothing here: no tenant of this name, or none that lists the token's issuer and audience \
         and has a role or a grant for it; an administrator sees which with `countersign grants explain`"
    )]
    AccessDenied,
    /// The tenant's tokens come too fast. The token was not used up: send it again in a second.
    #[error("too many tokens of this tenant are exchanged")]
    Limited(Problem),
    /// A parameter of the token request is wrong. No retry.
    #[error("{parameter}: {detail}")]
    Request {
        /// Which.
        parameter: &'static str,
        /// What is wrong.
        detail: String,
    },
    /// The service behind failed.
    #[error(transparent)]
    Service(#[from] SigningError),
}

impl AuthError {
    /// The kind of problem: the table's left side for these errors.
    pub(crate) const fn kind(&self) -> Kind {
        match self {
            Self::NoToken => Kind::NoToken,
            Self::ServiceToken(_) => Kind::Unauthenticated,
            Self::IdToken(_) | Self::Keys(KeysError::UnknownKey) => Kind::TokenRefused,
            Self::Keys(_) => Kind::IssuerUnavailable,
            Self::Replayed => Kind::TokenReplayed,
            Self::AccessDenied => Kind::AccessDenied,
            Self::Request { .. } => Kind::TokenRequest,
            Self::Limited(_) => Kind::RateLimited,
            // Only reached for documentation: `Problem::from` hands the inner error on.
            Self::Service(_) => Kind::Internal,
        }
    }
}
