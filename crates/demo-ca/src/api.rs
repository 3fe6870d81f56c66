//! The order protocol over HTTP (docs/ca/demo-ca-protocol.md).

mod device;

use crate::crl::{self, Revocations};
use crate::error::Error;
use crate::issuance::{Answer, Counter};
use crate::misbehave::Misbehaviour;
use crate::orders::{Order, OrderBook};
use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use countersign_attestation::UnixSeconds;
use countersign_attestation::request::Submission;
use countersign_attestation::result::Check;
use countersign_core::Clock;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::{Arc, Mutex, PoisonError};

const MAX_BODY: usize = 1024 * 1024;
const MAX_EVIDENCE: usize = 16;

/// The running CA.
pub(crate) struct Ca {
    pub(crate) counter: Counter,
    pub(crate) book: Mutex<OrderBook>,
    pub(crate) revocations: Revocations,
    pub(crate) order_lifetime_s: u32,
    pub(crate) clock: Box<dyn Clock>,
}

impl Ca {
    pub(crate) fn now(&self) -> UnixSeconds {
        UnixSeconds::from_micros(self.clock.now().0).unwrap_or_default()
    }
}

/// Orders: to be served over HTTPS.
pub(crate) fn orders(ca: Arc<Ca>) -> Router {
    Router::new()
        .route("/orders", post(open_order))
        .route("/orders/{id}", get(show_order))
        .route("/orders/{id}/device", post(device::identify))
        .route("/orders/{id}/device/answer", post(device::answer))
        .route("/orders/{id}/request", post(submit_request))
        .route("/roots.pem", get(roots))
        .route("/healthz", get(|| async { "ok\n" }))
        .fallback(|| async { problem(StatusCode::NOT_FOUND, "not-found", "no such page") })
        .method_not_allowed_fallback(|| async {
            problem(
                StatusCode::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                "this page takes another method",
            )
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(ca)
}

/// CA certificates and CRLs: to be served over plain HTTP.
pub(crate) fn repository(ca: Arc<Ca>) -> Router {
    Router::new()
        .route("/root.cer", get(root_certificate))
        .route("/issuing.cer", get(issuing_certificate))
        .route("/attestation.cer", get(attestation_certificate))
        .route("/root.crl", get(root_crl))
        .route("/issuing.crl", get(issuing_crl))
        .with_state(ca)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OpenOrder {
    subscriber: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SubmitRequest {
    csr: String,
    #[serde(default)]
    statement: Option<String>,
    #[serde(default)]
    evidence: Vec<String>,
}

#[derive(Serialize)]
struct Reason<'a> {
    check: &'a str,
    seen: &'a str,
    rule: &'a str,
    source: &'a str,
}

async fn open_order(State(ca): State<Arc<Ca>>, body: Result<Bytes, BytesRejection>) -> Response {
    if let Some(down) = down(&ca) {
        return down;
    }
    let request: OpenOrder = match json_body(body) {
        Ok(r) => r,
        Err(response) => return *response,
    };
    let n = request.subscriber.len();
    if !(1..=256).contains(&n) || request.subscriber.chars().any(char::is_control) {
        return bad_request("subscriber: 1 to 256 bytes without control characters");
    }
    blocking(move || {
        let now = ca.now();
        let opened = lock(&ca.book).create(
            &request.subscriber,
            &ca.counter.audience,
            now,
            ca.order_lifetime_s,
        );
        match opened {
            Ok(Some(order)) => {
                (StatusCode::CREATED, axum::Json(order_json(&order, now))).into_response()
            }
            Ok(None) => problem(
                StatusCode::SERVICE_UNAVAILABLE,
                "too-many-orders",
                "too many orders are open; retry later",
            ),
            Err(e) => internal(&e),
        }
    })
    .await
}

async fn show_order(State(ca): State<Arc<Ca>>, Path(id): Path<String>) -> Response {
    if let Some(down) = down(&ca) {
        return down;
    }
    let now = ca.now();
    match lock(&ca.book).get(&id) {
        Some(order) => axum::Json(order_json(order, now)).into_response(),
        None => unknown_order(),
    }
}

async fn submit_request(
    State(ca): State<Arc<Ca>>,
    Path(id): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    if let Some(down) = down(&ca) {
        return down;
    }
    let request: SubmitRequest = match json_body(body) {
        Ok(r) => r,
        Err(response) => return *response,
    };
    if request.evidence.len() > MAX_EVIDENCE {
        return bad_request("evidence: more than 16 pieces");
    }
    let decoded = || -> Result<_, &'static str> {
        let csr = STANDARD
            .decode(&request.csr)
            .map_err(|_| "csr: not base64")?;
        let statement = match &request.statement {
            Some(s) => Some(STANDARD.decode(s).map_err(|_| "statement: not base64")?),
            None => None,
        };
        let mut evidence = Vec::new();
        for e in &request.evidence {
            evidence.push(STANDARD.decode(e).map_err(|_| "evidence: not base64")?);
        }
        Ok((csr, statement, evidence))
    };
    let (csr, statement, evidence) = match decoded() {
        Ok(parts) => parts,
        Err(problem) => return bad_request(problem),
    };
    blocking(move || {
        let now = ca.now();
        let mut book = lock(&ca.book);
        let Some(order) = book.get(&id).cloned() else {
            return unknown_order();
        };
        let submission = Submission {
            csr: &csr,
            statement: statement.as_deref(),
            evidence: &evidence,
        };
        match ca.counter.submit(&mut book, &order, &submission, now) {
            Ok(Answer::Issued(chain)) => {
                tracing::info!(order = %order.id, subscriber = %order.subscriber, "issued");
                axum::Json(json!({ "status": "issued", "chain": chain })).into_response()
            }
            Ok(Answer::Refused(checks)) => refused(&order, &checks),
            Err(e) => internal(&e),
        }
    })
    .await
}

async fn roots(State(ca): State<Arc<Ca>>) -> Response {
    let pem = ca.counter.authority.root.certificate().to_pem();
    ([(header::CONTENT_TYPE, "application/x-pem-file")], pem).into_response()
}

async fn root_certificate(State(ca): State<Arc<Ca>>) -> Response {
    certificate(ca.counter.authority.root.certificate().der())
}

async fn issuing_certificate(State(ca): State<Arc<Ca>>) -> Response {
    certificate(ca.counter.authority.issuing.certificate().der())
}

async fn attestation_certificate(State(ca): State<Arc<Ca>>) -> Response {
    certificate(ca.counter.authority.attestation.certificate().der())
}

async fn root_crl(State(ca): State<Arc<Ca>>) -> Response {
    revocations(crl::of_cas(&ca.counter.authority.root, ca.now()))
}

async fn issuing_crl(State(ca): State<Arc<Ca>>) -> Response {
    revocations(crl::of_subscribers(
        &ca.counter.authority.issuing,
        &ca.revocations,
        ca.now(),
    ))
}

fn certificate(der: &[u8]) -> Response {
    (
        [(header::CONTENT_TYPE, "application/pkix-cert")],
        der.to_vec(),
    )
        .into_response()
}

fn revocations(crl: Result<Vec<u8>, Error>) -> Response {
    match crl {
        Ok(der) => ([(header::CONTENT_TYPE, "application/pkix-crl")], der).into_response(),
        Err(e) => internal(&e),
    }
}

fn order_json(order: &Order, now: UnixSeconds) -> serde_json::Value {
    let mut out = json!({
        "order": order.id,
        "nonce": order.nonce,
        "subscriber": order.subscriber,
        "audience": order.audience,
        "expires": order.expires,
        "status": order.status(now),
    });
    if let Some(members) = out.as_object_mut() {
        if let Some(issued) = &order.issued {
            members.insert("chain".to_owned(), json!(issued.chain));
            members.insert("serial".to_owned(), json!(issued.serial));
        }
        if let Some(appraisal) = &order.appraisal {
            members.insert("appraisal".to_owned(), json!(appraisal));
        }
    }
    out
}

fn refused(order: &Order, checks: &[Check]) -> Response {
    let names: Vec<_> = checks.iter().map(|c| c.name.as_ref()).collect();
    tracing::info!(order = %order.id, subscriber = %order.subscriber, checks = %names.join(","), "refused");
    let reasons: Vec<_> = checks
        .iter()
        .map(|c| Reason {
            check: &c.name,
            seen: &c.seen,
            rule: &c.rule,
            source: &c.source,
        })
        .collect();
    respond(
        StatusCode::UNPROCESSABLE_ENTITY,
        "request-refused",
        &format!("the request fails {}", names.join(", ")),
        &json!(reasons),
    )
}

fn json_body<T: serde::de::DeserializeOwned>(
    body: Result<Bytes, BytesRejection>,
) -> Result<T, Box<Response>> {
    let body = body.map_err(|e| Box::new(problem(e.status(), "bad-request", &e.body_text())))?;
    serde_json::from_slice(&body).map_err(|e| Box::new(bad_request(&e.to_string())))
}

fn down(ca: &Ca) -> Option<Response> {
    (ca.counter.misbehave == Some(Misbehaviour::Down)).then(|| {
        problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "down",
            "this CA was told to be down (--test-misbehave down)",
        )
    })
}

fn bad_request(detail: &str) -> Response {
    problem(StatusCode::BAD_REQUEST, "bad-request", detail)
}

fn unknown_order() -> Response {
    problem(StatusCode::NOT_FOUND, "order-unknown", "no such order")
}

fn internal(e: &Error) -> Response {
    tracing::error!(error = %e, "internal error");
    problem(
        StatusCode::INTERNAL_SERVER_ERROR,
        "internal",
        "see the CA's log",
    )
}

fn problem(status: StatusCode, code: &str, detail: &str) -> Response {
    respond(status, code, detail, &json!([]))
}

/// RFC 9457.
fn respond(status: StatusCode, code: &str, detail: &str, reasons: &serde_json::Value) -> Response {
    let body = json!({
        "type": format!("urn:countersign-demo-ca:problem:{code}"),
        "title": status.canonical_reason().unwrap_or("refused"),
        "status": status.as_u16(),
        "detail": detail,
        "code": code,
        "reasons": reasons,
    });
    (
        status,
        [(header::CONTENT_TYPE, "application/problem+json")],
        body.to_string(),
    )
        .into_response()
}

/// Signing and fsync block: they run beside the reactor, not on it.
async fn blocking(work: impl FnOnce() -> Response + Send + 'static) -> Response {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| {
        problem(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "see the CA's log",
        )
    })
}

fn lock(book: &Mutex<OrderBook>) -> std::sync::MutexGuard<'_, OrderBook> {
    // The book changes in memory only after its file did: a panic elsewhere leaves it whole.
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
