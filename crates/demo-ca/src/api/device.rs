//! The device steps over HTTP.

use super::{
    Ca, bad_request, blocking, down, internal, json_body, lock, problem, refused, unknown_order,
};
use crate::device::{Answered, Identified};
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use countersign_attestation::vendor::tpm2::identity::MAX_ENDORSEMENT;
use countersign_core::ports::evidence::DeviceIdentity;
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

/// Longest answer read: a digest of the longest hash a TPM has.
const MAX_SECRET: usize = 64;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Identify {
    endorsement: Vec<String>,
    attestation_key: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Secret {
    secret: String,
}

pub(super) async fn identify(
    State(ca): State<Arc<Ca>>,
    Path(id): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    if let Some(cannot) = down(&ca).or_else(|| no_steps(&ca)) {
        return cannot;
    }
    let request: Identify = match json_body(body) {
        Ok(r) => r,
        Err(response) => return *response,
    };
    if !(1..=MAX_ENDORSEMENT).contains(&request.endorsement.len()) {
        return bad_request("endorsement: 1 to 8 certificates");
    }
    let mut endorsement = Vec::new();
    for certificate in &request.endorsement {
        match STANDARD.decode(certificate) {
            Ok(der) => endorsement.push(der),
            Err(_) => return bad_request("endorsement: not base64"),
        }
    }
    let Ok(attestation_key) = STANDARD.decode(&request.attestation_key) else {
        return bad_request("attestation_key: not base64");
    };
    let device = DeviceIdentity {
        endorsement,
        attestation_key,
    };
    blocking(move || {
        let now = ca.now();
        let mut book = lock(&ca.book);
        let Some(order) = book.get(&id).cloned() else {
            return unknown_order();
        };
        let Some(roots) = &ca.counter.ek_roots else {
            return no_device_steps();
        };
        match ca.counter.identify(&mut book, &order, roots, &device, now) {
            Ok(Identified::Challenge(challenge, expires)) => axum::Json(json!({
                "id_object": STANDARD.encode(challenge.id_object),
                "encrypted_secret": STANDARD.encode(challenge.encrypted_secret),
                "expires": expires,
            }))
            .into_response(),
            Ok(Identified::Refused(checks)) => refused(&order, &checks),
            Err(e) => internal(&e),
        }
    })
    .await
}

pub(super) async fn answer(
    State(ca): State<Arc<Ca>>,
    Path(id): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    if let Some(cannot) = down(&ca).or_else(|| no_steps(&ca)) {
        return cannot;
    }
    let request: Secret = match json_body(body) {
        Ok(r) => r,
        Err(response) => return *response,
    };
    let secret = match STANDARD.decode(&request.secret) {
        Ok(secret) if secret.len() <= MAX_SECRET => secret,
        Ok(_) => return bad_request("secret: longer than 64 bytes"),
        Err(_) => return bad_request("secret: not base64"),
    };
    blocking(move || {
        let now = ca.now();
        let mut book = lock(&ca.book);
        let Some(order) = book.get(&id).cloned() else {
            return unknown_order();
        };
        match ca.counter.answer(&mut book, &order, &secret, now) {
            Ok(Answered::Certified(chain)) => {
                tracing::info!(order = %order.id, subscriber = %order.subscriber, "certified an attestation key");
                axum::Json(json!({ "chain": chain })).into_response()
            }
            Ok(Answered::Refused(checks)) => refused(&order, &checks),
            Err(e) => internal(&e),
        }
    })
    .await
}

fn no_steps(ca: &Ca) -> Option<Response> {
    ca.counter.ek_roots.is_none().then(no_device_steps)
}

fn no_device_steps() -> Response {
    problem(
        StatusCode::NOT_IMPLEMENTED,
        "no-device-steps",
        "this CA pins no endorsement root (--trust-ek-root), so it certifies no attestation keys",
    )
}
