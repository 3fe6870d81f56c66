//! Countersign's HTTP API.
//!
//! This room turns HTTP into calls of the `signing` service and back, and nothing else: it
//! identifies the caller ([`auth`]), translates bodies ([`routes`]) and alone knows status codes
//! ([`problem`]). What a caller may do is decided behind it. The description in
//! `openapi/openapi.json` is generated from the handlers ([`openapi`]); a test fails if it is stale.
#![forbid(unsafe_code)]

pub mod auth;
mod description;
pub mod extract;
pub mod limits;
mod measures;
pub mod metrics;
pub mod middleware;
pub mod problem;
pub mod routes;
mod state;
pub mod wire;

pub use description::{openapi, openapi_text};
pub use limits::Limits;
pub use measures::ApiMeasures;
pub use state::{Api, ApiConfig};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use problem::Problem;
use tower_http::catch_panic::CatchPanicLayer;

/// Largest request body, except where certificate chains and batches come.
const BODY_LIMIT: usize = 64 * 1024;
/// Largest request body of all.
const LARGEST_BODY: usize = 1024 * 1024;

/// Paths that take no service token.
const PUBLIC: [&str; 6] = [
    "/v1/bootstrap",
    "/v1/token",
    "/v1/service/keys",
    "/healthz",
    "/readyz",
    "/openapi.json",
];

/// Takes no service token where the operator allows it.
const VERIFY: &str = "/v1/attestations/verify";

/// The whole router. The request id and the form of problems surround everything; admission and
/// the time limit do not surround the health routes, so that they answer under load.
pub fn router(api: &Api) -> Router {
    use axum::middleware::{from_fn, from_fn_with_state};
    let (service, described) = routes::service().split_for_parts();
    let door = middleware::Door::new(api.clone(), described);
    let (health, _) = routes::health::routes().split_for_parts();
    service
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(from_fn_with_state(door, middleware::admit))
        .merge(health)
        .fallback(async || Problem::not_found())
        .layer(CatchPanicLayer::custom(middleware::panicked))
        .layer(from_fn(middleware::unambiguous))
        .layer(from_fn_with_state(api.watch(), middleware::envelope))
        .layer(from_fn_with_state(api.clone(), middleware::hear_out))
        .with_state(api.clone())
}

#[cfg(test)]
mod tests;
