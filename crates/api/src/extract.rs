//! Extractors whose refusals are problem documents that name the field.

use crate::auth::service_token::ServiceClaims;
use crate::auth::{AuthError, exchange};
use crate::problem::{Kind, Problem};
use crate::state::Api;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::response::{IntoResponse, Response};
use countersign_core::RequestId;
use countersign_signing::Caller;
use http::request::Parts;
use http::{HeaderMap, StatusCode, header};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// A JSON body. In: `application/json`, no unknown fields, the field named where it is wrong.
#[derive(Debug, Clone, Copy)]
pub struct Json<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if !is_type(request.headers(), "application/json") {
            return Err(Problem::new(
                Kind::UnsupportedMediaType,
                "send the body as application/json",
            ));
        }
        let body = body(request, state).await?;
        from_json(&body).map(Self)
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

/// A form body (RFC 6749 §4), for the token endpoint.
#[derive(Debug, Clone, Copy)]
pub struct Form<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Form<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        axum::Form::from_request(request, state)
            .await
            .map(|axum::Form(t)| Self(t))
            .map_err(|e| {
                let kind = match e.status() {
                    StatusCode::UNSUPPORTED_MEDIA_TYPE => Kind::UnsupportedMediaType,
                    StatusCode::PAYLOAD_TOO_LARGE => Kind::TooLarge,
                    _ => Kind::TokenRequest,
                };
                Problem::new(kind, cut(&e.body_text())).oauth("invalid_request")
            })
    }
}

/// Path parameters. A name that cannot exist is answered like one that does not.
#[derive(Debug, Clone, Copy)]
pub struct PathOf<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for PathOf<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        axum::extract::Path::from_request_parts(parts, state)
            .await
            .map(|axum::extract::Path(t)| Self(t))
            .map_err(|_| Problem::not_found())
    }
}

/// Query parameters.
#[derive(Debug, Clone, Copy)]
pub struct QueryOf<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for QueryOf<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        axum::extract::Query::from_request_parts(parts, state)
            .await
            .map(|axum::extract::Query(t)| Self(t))
            .map_err(|e| Problem::new(Kind::BadRequest, cut(&e.body_text())))
    }
}

/// The request's id.
#[derive(Debug, Clone)]
pub struct Rid(pub RequestId);

impl<S: Send + Sync> FromRequestParts<S> for Rid {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(
            parts
                .extensions
                .get::<RequestId>()
                .cloned()
                .unwrap_or_default(),
        ))
    }
}

/// An identified caller, by a service token (RFC 6750 §2.1).
#[derive(Debug, Clone)]
pub struct Auth {
    /// Who.
    pub caller: Caller,
    /// What the service token says.
    pub claims: Arc<ServiceClaims>,
}

impl FromRequestParts<Api> for Auth {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let claims = match parts.extensions.get::<Arc<ServiceClaims>>() {
            Some(claims) => Arc::clone(claims),
            None => identify(api, &parts.headers)?,
        };
        let caller = exchange::caller(api, &claims).await?;
        Ok(Self { caller, claims })
    }
}

/// Whose service token a request carries. No look at the database.
pub(crate) fn identify(api: &Api, headers: &HeaderMap) -> Result<Arc<ServiceClaims>, AuthError> {
    let token = bearer(headers).ok_or(AuthError::NoToken)?;
    Ok(api.tokens().verify(token, api.clock().now())?)
}

/// The `Idempotency-Key` header, where there is one.
#[derive(Debug, Clone)]
pub struct IdempotencyKey(pub Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Some(value) = parts.headers.get("idempotency-key") else {
            return Ok(Self(None));
        };
        value
            .to_str()
            .ok()
            .filter(|v| (1..=255).contains(&v.len()) && v.bytes().all(|b| b.is_ascii_graphic()))
            .map(|v| Self(Some(v.to_owned())))
            .ok_or_else(|| {
                Problem::new(Kind::BadRequest, "use 1 to 255 visible ASCII characters")
                    .field("Idempotency-Key")
            })
    }
}

async fn body<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Problem> {
    Bytes::from_request(request, state).await.map_err(|e| {
        let kind = match e.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Kind::TooLarge,
            _ => Kind::BadRequest,
        };
        Problem::new(kind, kind.row().title)
    })
}

fn is_type(headers: &HeaderMap, wanted: &str) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.split(';').next())
        .is_some_and(|v| v.trim().eq_ignore_ascii_case(wanted))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

fn cut(text: &str) -> String {
    text.chars().take(400).collect()
}

fn from_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let read = serde_path_to_error::deserialize(&mut json).map_err(|e| {
        let path = e.path().to_string();
        bad_json(&path, e.inner())
    })?;
    // One value, and nothing after it.
    json.end().map_err(|e| bad_json(".", &e))?;
    Ok(read)
}

/// Names the member: the path as far as it was followed, and the field that is missing there.
fn bad_json(path: &str, e: &serde_json::Error) -> Problem {
    let text = e.to_string();
    let problem = Problem::new(Kind::BadJson, cut(&text));
    if !e.is_data() {
        return problem;
    }
    let path = if path == "." { "" } else { path };
    let missing = text
        .strip_prefix("missing field `")
        .and_then(|t| t.split_once('`'))
        .map(|(name, _)| name);
    let field = match missing {
        Some(name) if path.is_empty() => name.to_owned(),
        Some(name) => format!("{path}.{name}"),
        None => path.to_owned(),
    };
    if field.is_empty() {
        problem
    } else {
        problem.field(cut(&field))
    }
}

#[cfg(test)]
mod tests;
