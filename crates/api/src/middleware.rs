//! What surrounds every handler, from the outside in: the request id and the one form of problems;
//! panics; admission; the time limit.

use crate::problem::{Kind, Problem};
use crate::state::Api;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use countersign_core::RequestId;
use http::{HeaderName, HeaderValue, header};
use std::any::Any;
use std::time::Instant;
use tracing::Instrument as _;

/// The request id's header.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Gives every request its id, every problem its body, every answer its headers, and our log one
/// line. No path parameter, query or body reaches the log.
pub(crate) async fn envelope(mut request: Request, next: Next) -> Response {
    let id = request
        .headers()
        .get(X_REQUEST_ID)
        .and_then(|v| v.to_str().ok())
        .and_then(RequestId::from_caller)
        .unwrap_or_default();
    let method = request.method().clone();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "-".to_owned(), |m| m.as_str().to_owned());
    request.extensions_mut().insert(id.clone());

    let began = Instant::now();
    let span = tracing::info_span!("request", request_id = %id, %method, %route);
    let mut response = next.run(request).instrument(span.clone()).await;

    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        response = problem.response(&id);
    } else if response.status().is_client_error() || response.status().is_server_error() {
        // A library's own answer, unless a handler says that its body is meant (`Meant`).
        if response.extensions().get::<Meant>().is_none() {
            let allow = response.headers_mut().remove(header::ALLOW);
            response = Problem::from_status(response.status()).response(&id);
            // RFC 9110 §15.5.6: a 405 says what is allowed.
            if let Some(allow) = allow {
                response.headers_mut().insert(header::ALLOW, allow);
            }
        }
    }
    let status = response.status().as_u16();
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        headers.insert(X_REQUEST_ID, value);
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    span.in_scope(|| tracing::info!(status, ms, "answered"));
    response
}

/// Marks an answer with an error status whose body is meant as it is (`/readyz`).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Meant;

/// A panic is a bug: a plain 500, the text in our logs.
pub(crate) fn panicked(cause: Box<dyn Any + Send + 'static>) -> Response {
    let text = cause
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| cause.downcast_ref::<&str>().copied())
        .unwrap_or("no text");
    tracing::error!(panic = text, "a handler panicked");
    Problem::internal().into_response()
}

/// Admits a request if there is room and answers at once if not; then holds it to its time.
pub(crate) async fn admit(State(api): State<Api>, request: Request, next: Next) -> Response {
    let Ok(_place) = api.admission().try_acquire_owned() else {
        return Problem::new(
            Kind::Overloaded,
            "the service works on as many requests as it can",
        )
        .into_response();
    };
    match tokio::time::timeout(api.timeout(), next.run(request)).await {
        Ok(response) => response,
        // Dropping the handler stops nothing that was begun: changes run in tasks of their own.
        Err(_) => Problem::new(
            Kind::Timeout,
            "what was begun goes on; ask again, with the same Idempotency-Key for a signature",
        )
        .into_response(),
    }
}
