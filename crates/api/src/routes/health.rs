//! For supervisors and load balancers, without a token: alive, ready, and the API's description.

use crate::extract::Json;
use crate::middleware::Meant;
use crate::state::Api;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use std::collections::BTreeMap;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(healthz))
        .routes(routes!(readyz))
        .routes(routes!(openapi_json))
}

/// The process runs.
#[utoipa::path(get, path = "/healthz", tag = "health", responses((status = 200, body = String)))]
async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether requests can be served now.
#[derive(Debug, Serialize, ToSchema)]
pub struct Ready {
    /// Whether all parts are there.
    pub ready: bool,
    /// `ok`, or what is wrong.
    pub database: String,
    /// `ok`, or `stalled`: this node's lease ran out or its clock is off; others serve.
    pub node: String,
    /// How many tokens are in which state. Tenants are not named here.
    pub tokens: BTreeMap<String, usize>,
    /// How many tokens' workers lack which measure of the sandbox; none where all are confined as they
    /// should be.
    pub sandbox_gaps: BTreeMap<String, usize>,
}

/// The database takes writes. A token that is down is counted, and does not make the service
/// unready: other tenants' tokens work.
#[utoipa::path(get, path = "/readyz", tag = "health",
    responses((status = 200, body = Ready), (status = 503, body = Ready)))]
async fn readyz(State(api): State<Api>) -> Response {
    let state = api.service().readiness().await;
    let mut tokens = BTreeMap::new();
    let mut sandbox_gaps = BTreeMap::new();
    for t in state.tokens {
        for gap in t.sandbox.into_iter().filter(|m| !m.enforced) {
            let n: &mut usize = sandbox_gaps.entry(gap.measure).or_default();
            *n = n.saturating_add(1);
        }
        let n: &mut usize = tokens.entry(t.state).or_default();
        *n = n.saturating_add(1);
    }
    let ready = state.database.is_ok() && state.rewound.is_none() && state.standing.is_ok();
    let database = match (&state.rewound, &state.database) {
        (Some(_), _) => "older than the last signature",
        (None, Err(_)) => "cannot be written",
        (None, Ok(())) => "ok",
    };
    let body = Ready {
        ready,
        database: database.to_owned(),
        node: if state.standing.is_ok() {
            "ok"
        } else {
            "stalled"
        }
        .to_owned(),
        tokens,
        sandbox_gaps,
    };
    if let Some(why) = state.rewound {
        tracing::warn!(error = %why, "not ready");
    }
    if let Err(why) = state.standing {
        tracing::warn!(error = %why, "not ready");
    }
    if let Err(e) = state.database {
        tracing::warn!(error = %e, "not ready");
    }
    if ready {
        Json(body).into_response()
    } else {
        let mut response = (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response();
        response.extensions_mut().insert(Meant);
        response
    }
}

/// This description (OpenAPI 3.1).
#[utoipa::path(get, path = "/openapi.json", tag = "health", responses((status = 200, body = Object)))]
async fn openapi_json() -> Response {
    let mut response = crate::openapi_text().into_response();
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}
