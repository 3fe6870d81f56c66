//! The issuer's endpoints.

use super::{IssuerState, ServeOptions, TokenSpec};
use crate::error::Error;
use axum::extract::{Form, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

struct Served {
    state: IssuerState,
    url: String,
    options: ServeOptions,
    logins: Mutex<HashMap<String, Login>>,
}

/// A device login under way.
struct Login {
    user_code: String,
    audience: String,
    polls: u32,
}

type Shared = State<Arc<Served>>;

pub(super) fn router(state: IssuerState, url: String, options: ServeOptions) -> Router {
    Router::new()
        .route("/.well-known/openid-configuration", get(discovery))
        .route("/jwks", get(jwks))
        .route("/device_authorization", post(device_authorization))
        .route("/token", post(token))
        .route(
            "/device",
            get(|| async { "Approve with: countersign-testkit issuer approve\n" }),
        )
        .route("/actions/idtoken", get(actions_token))
        .with_state(Arc::new(Served {
            state,
            url,
            options,
            logins: Mutex::new(HashMap::new()),
        }))
}

async fn discovery(State(s): Shared) -> Json<Value> {
    let url = &s.url;
    Json(json!({
        "issuer": url,
        "jwks_uri": format!("{url}/jwks"),
        "token_endpoint": format!("{url}/token"),
        "device_authorization_endpoint": format!("{url}/device_authorization"),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256", "RS256"],
        "grant_types_supported": ["urn:ietf:params:oauth:grant-type:device_code"],
    }))
}

async fn jwks(State(s): Shared) -> Result<Json<Value>, Failure> {
    Ok(Json(s.state.jwks()?))
}

#[derive(Deserialize)]
struct DeviceRequest {
    client_id: String,
    /// Some issuers let a client name the audience of the ID token; by default it is the client.
    audience: Option<String>,
}

/// RFC 8628 §3.1, §3.2.
async fn device_authorization(State(s): Shared, Form(r): Form<DeviceRequest>) -> Json<Value> {
    let device_code = uuid::Uuid::new_v4().simple().to_string();
    let user_code = uuid::Uuid::new_v4().simple().to_string()[..8].to_uppercase();
    if let Ok(mut logins) = s.logins.lock() {
        let login = Login {
            user_code: user_code.clone(),
            audience: r.audience.unwrap_or(r.client_id),
            polls: 0,
        };
        logins.insert(device_code.clone(), login);
    }
    Json(json!({
        "device_code": device_code,
        "user_code": user_code,
        "verification_uri": format!("{}/device", s.url),
        "verification_uri_complete": format!("{}/device?user_code={user_code}", s.url),
        "expires_in": 300,
        "interval": 1,
    }))
}

#[derive(Deserialize)]
struct TokenRequest {
    grant_type: String,
    device_code: Option<String>,
}

/// RFC 8628 §3.4, §3.5.
async fn token(State(s): Shared, Form(r): Form<TokenRequest>) -> Result<Response, Failure> {
    if r.grant_type != "urn:ietf:params:oauth:grant-type:device_code" {
        return Ok(oauth_error("unsupported_grant_type"));
    }
    let code = r.device_code.unwrap_or_default();
    let (user_code, audience, polls) = {
        let Ok(mut logins) = s.logins.lock() else {
            return Ok(oauth_error("server_error"));
        };
        let Some(login) = logins.get_mut(&code) else {
            return Ok(oauth_error("expired_token"));
        };
        login.polls = login.polls.saturating_add(1);
        (login.user_code.clone(), login.audience.clone(), login.polls)
    };
    // The first poll always waits, so that every client proves that it can.
    let person: Option<TokenSpec> = s
        .state
        .approval(&user_code)
        .or_else(|| s.options.auto_approve.clone().filter(|_| polls > 1));
    let Some(mut person) = person else {
        return Ok(oauth_error("authorization_pending"));
    };
    if person.aud.is_empty() {
        person.aud = audience;
    }
    let id_token = s.state.mint(&person)?;
    if let Ok(mut logins) = s.logins.lock() {
        logins.remove(&code);
    }
    Ok(Json(json!({
        "access_token": uuid::Uuid::new_v4().simple().to_string(),
        "token_type": "Bearer",
        "expires_in": 300,
        "id_token": id_token,
    }))
    .into_response())
}

#[derive(Deserialize)]
struct ActionsRequest {
    audience: Option<String>,
}

/// What `ACTIONS_ID_TOKEN_REQUEST_URL` of a GitHub job answers.
async fn actions_token(
    State(s): Shared,
    Query(r): Query<ActionsRequest>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let job = headers
        .get("authorization")
        .and_then(|v| v.to_str().ok())
        .and_then(|v| {
            v.strip_prefix("Bearer ")
                .or_else(|| v.strip_prefix("bearer "))
        })
        .and_then(|bearer| s.state.job(bearer));
    let Some(mut job) = job else {
        return Ok(StatusCode::UNAUTHORIZED.into_response());
    };
    if let Some(audience) = r.audience {
        job.aud = audience;
    }
    let value = s.state.mint(&job)?;
    Ok(Json(json!({ "value": value })).into_response())
}

fn oauth_error(code: &str) -> Response {
    (StatusCode::BAD_REQUEST, Json(json!({ "error": code }))).into_response()
}

/// An error of the kit as a plain 500: whoever reads it is running a test.
struct Failure(Error);

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Self(e)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (StatusCode::INTERNAL_SERVER_ERROR, self.0.to_string()).into_response()
    }
}
