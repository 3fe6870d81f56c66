//! What surrounds every handler, from the outside in: the request id and the one form of problems;
//! panics; admission; the time limit.

use crate::measures::ApiMeasures;
use crate::problem::{Kind, Problem};
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use countersign_core::RequestId;
use countersign_core::trace::{Attribute, Span, SpanRef, Trace, TraceId, Tracer};
use countersign_signing::traced;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tracing::Instrument as _;

/// The request id's header.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// W3C Trace Context §3.2.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Asked every few seconds by supervisors, and the same each time: not traced.
const UNTRACED: [&str; 3] = ["/healthz", "/readyz", "/openapi.json"];

/// Where token exchanges are asked for.
const EXCHANGE: &str = "/v1/token";

/// What watches the requests.
#[derive(Debug, Clone)]
pub(crate) struct Watch {
    /// Counts.
    pub(crate) measures: Arc<ApiMeasures>,
    /// Spans.
    pub(crate) tracer: Option<Arc<dyn Tracer>>,
}

impl Watch {
    /// The request's span, and its trace's id for our log.
    fn begin(&self, route: &str, headers: &HeaderMap) -> (Span, Option<TraceId>) {
        let Some(tracer) = self.tracer.as_ref().filter(|_| !UNTRACED.contains(&route)) else {
            return (Span::default(), None);
        };
        let caller = headers
            .get(TRACEPARENT)
            .and_then(|v| v.to_str().ok())
            .and_then(SpanRef::from_traceparent);
        let (span, trace) = Trace::request(tracer, caller);
        (span, Some(trace))
    }
}

/// A method by its name; what is none of HTTP's own has no name here (it would be the caller's text).
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        _ => "_OTHER",
    }
}

/// Gives every request its id, every problem its body, every answer its headers, our log one line,
/// and the metrics and traces what they count. No path parameter, query or body reaches any of them.
pub(crate) async fn envelope(
    State(watch): State<Watch>,
    mut request: Request,
    next: Next,
) -> Response {
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
    let _under_way = watch.measures.came();
    let (mut traced_span, trace) = watch.begin(&route, request.headers());
    traced_span.say(|| Attribute::RequestId(id.clone()));
    traced_span.say(|| Attribute::Method(method_name(&method)));
    traced_span.say(|| Attribute::Route(route.as_str().into()));
    let span = tracing::info_span!(
        "request", request_id = %id, %method, %route, trace_id = tracing::field::Empty
    );
    if let Some(trace) = trace {
        span.record("trace_id", tracing::field::display(trace));
    }
    let work = next.run(request).instrument(span.clone());
    let mut response = traced(traced_span.trace(), work).await;

    let mut problem_kind = None;
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        problem_kind = Some(problem.kind());
        response = problem.response(&id);
    } else if response.status().is_client_error() || response.status().is_server_error() {
        // A library's own answer, unless a handler says that its body is meant (`Meant`).
        if response.extensions().get::<Meant>().is_none() {
            let allow = response.headers_mut().remove(header::ALLOW);
            let problem = Problem::from_status(response.status());
            problem_kind = Some(problem.kind());
            response = problem.response(&id);
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
    let took = began.elapsed();
    watch
        .measures
        .answered(status, problem_kind, route == EXCHANGE, took);
    traced_span.say(|| Attribute::Status(status));
    if let Some(kind) = problem_kind {
        traced_span.fail(kind.row().code);
    }
    let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
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

/// How many requests are worked on at once, and for how long each may keep its caller waiting.
#[derive(Debug, Clone)]
pub(crate) struct Admission {
    /// Places.
    pub(crate) places: Arc<Semaphore>,
    /// The time limit.
    pub(crate) timeout: Duration,
}

/// Admits a request if there is room and answers at once if not; then holds it to its time.
pub(crate) async fn admit(
    State(admission): State<Admission>,
    request: Request,
    next: Next,
) -> Response {
    let Ok(_place) = admission.places.try_acquire() else {
        return Problem::new(
            Kind::Overloaded,
            "the service works on as many requests as it can",
        )
        .into_response();
    };
    match tokio::time::timeout(admission.timeout, next.run(request)).await {
        Ok(response) => response,
        // Dropping the handler stops nothing that was begun: changes run in tasks of their own.
        Err(_) => Problem::new(
            Kind::Timeout,
            "what was begun goes on; ask again, with the same Idempotency-Key for a signature",
        )
        .into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::body::Body;
    use axum::middleware::from_fn_with_state;
    use axum::routing::get;
    use serde_json::Value;
    use tower::ServiceExt as _;
    use tower_http::catch_panic::CatchPanicLayer;

    /// The same layers in the same order as the service's router.
    fn app(places: Arc<Semaphore>) -> Router {
        let admission = Admission {
            places,
            timeout: Duration::from_millis(50),
        };
        let watch = Watch {
            measures: Arc::default(),
            tracer: None,
        };
        Router::new()
            .route("/ok", get(async || "ok"))
            .route("/slow", get(std::future::pending::<&str>))
            .route(
                "/panic",
                get(async || {
                    if true {
                        panic!("the secret of the handler");
                    }
                }),
            )
            .route("/plain", get(async || http::StatusCode::BAD_GATEWAY))
            .layer(from_fn_with_state(admission, admit))
            .layer(CatchPanicLayer::custom(panicked))
            .layer(from_fn_with_state(watch, envelope))
    }

    async fn ask(app: Router, path: &str) -> (u16, http::HeaderMap, Value) {
        let request = Request::get(path)
            .header("x-request-id", "r1")
            .body(Body::empty())
            .unwrap();
        let answer = app.oneshot(request).await.unwrap();
        let (parts, body) = answer.into_parts();
        let body = axum::body::to_bytes(body, 100_000).await.unwrap();
        let json = serde_json::from_slice(&body).unwrap_or_default();
        (parts.status.as_u16(), parts.headers, json)
    }

    #[tokio::test]
    async fn without_a_place_the_answer_is_503_at_once_with_retry_after() {
        let places = Arc::new(Semaphore::new(1));
        let taken = Arc::clone(&places).acquire_owned().await.unwrap();
        let (status, headers, body) = ask(app(Arc::clone(&places)), "/ok").await;
        assert_eq!((status, &body["code"]), (503, &Value::from("overloaded")));
        assert_eq!(headers["retry-after"], "1");
        assert_eq!(body["retryable"], true);
        drop(taken);
        assert_eq!(ask(app(Arc::clone(&places)), "/ok").await.0, 200);
        assert_eq!(places.available_permits(), 1);
    }

    #[tokio::test]
    async fn a_slow_handler_is_answered_for_and_gives_its_place_back() {
        let places = Arc::new(Semaphore::new(1));
        let (status, _, body) = ask(app(Arc::clone(&places)), "/slow").await;
        assert_eq!((status, &body["code"]), (503, &Value::from("timeout")));
        assert_eq!(places.available_permits(), 1);
    }

    #[tokio::test]
    async fn a_panic_is_a_plain_500_with_the_request_id() {
        let places = Arc::new(Semaphore::new(1));
        let (status, headers, body) = ask(app(Arc::clone(&places)), "/panic").await;
        assert_eq!((status, &body["code"]), (500, &Value::from("internal")));
        assert_eq!(
            (&body["instance"], headers["x-request-id"].to_str().unwrap()),
            (&Value::from("r1"), "r1")
        );
        assert!(!body.to_string().contains("secret"));
        assert_eq!(places.available_permits(), 1);
    }

    #[tokio::test]
    async fn a_bare_error_status_becomes_a_problem() {
        let (status, headers, body) = ask(app(Arc::new(Semaphore::new(1))), "/plain").await;
        assert_eq!((status, &body["code"]), (500, &Value::from("internal")));
        assert_eq!(headers["content-type"], "application/problem+json");
        let (status, _, body) = ask(app(Arc::new(Semaphore::new(1))), "/nowhere").await;
        assert_eq!((status, &body["code"]), (404, &Value::from("not-found")));
    }
}
