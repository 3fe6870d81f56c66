//! What surrounds every handler, from the outside in: bodies that nobody read; the request id and the
//! one form of problems; panics; the door with its bounds; the time limit.

use crate::extract::identify;
use crate::measures::ApiMeasures;
use crate::problem::{Kind, Problem};
use crate::state::Api;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use countersign_core::RequestId;
use countersign_core::trace::{Attribute, Span, SpanRef, Trace, TraceId, Tracer};
use countersign_signing::traced;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use std::any::Any;
use std::collections::HashSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tracing::Instrument as _;
use utoipa::openapi::OpenApi;

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

/// Headers that decide who asks, for what, and where: of two of them a proxy before us may have read the
/// one and we the other (RFC 9110 §5.3: such a field stands in one line).
const ONCE: [HeaderName; 4] = [
    header::AUTHORIZATION,
    header::CONTENT_TYPE,
    HeaderName::from_static("idempotency-key"),
    header::HOST,
];

/// Refuses a head that can be read in two ways.
pub(crate) async fn unambiguous(request: Request, next: Next) -> Response {
    match ambiguity(request.version(), request.headers()) {
        None => next.run(request).await,
        Some(problem) => problem.into_response(),
    }
}

fn ambiguity(version: Version, headers: &HeaderMap) -> Option<Problem> {
    for name in &ONCE {
        let lines = headers.get_all(name).iter().count();
        // RFC 9112 §3.2: 400 for a request of HTTP/1.1 without a Host, and for one with two.
        let none = lines == 0 && *name == header::HOST && version == Version::HTTP_11;
        if none || lines > 1 {
            let title = name_of(name);
            let detail = format!("{title}: exactly one line of it, not {lines}");
            return Some(Problem::new(Kind::BadRequest, detail).field(title));
        }
    }
    None
}

/// As it is written.
fn name_of(name: &HeaderName) -> &'static str {
    match name.as_str() {
        "authorization" => "Authorization",
        "content-type" => "Content-Type",
        "host" => "Host",
        _ => "Idempotency-Key",
    }
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

/// The door: who is let in, in which order ([`crate::limits`]).
#[derive(Debug, Clone)]
pub(crate) struct Door {
    api: Api,
    /// Method and route of every operation: what else is asked is refused without a look at it.
    operations: Arc<HashSet<(Method, String)>>,
}

impl Door {
    /// A door to the operations of a description.
    pub(crate) fn new(api: Api, mut described: OpenApi) -> Self {
        let mut operations = HashSet::new();
        for (path, item) in &mut described.paths.paths {
            for (method, there) in [
                (Method::GET, item.get.is_some()),
                (Method::HEAD, item.get.is_some()),
                (Method::PUT, item.put.is_some()),
                (Method::POST, item.post.is_some()),
                (Method::DELETE, item.delete.is_some()),
                (Method::PATCH, item.patch.is_some()),
            ] {
                if there {
                    operations.insert((method, path.clone()));
                }
            }
        }
        Self {
            api,
            operations: Arc::new(operations),
        }
    }
}

/// Lets a request in: identity, rates, share, body, place; then holds it to its time. Each refusal
/// comes as early as it can.
pub(crate) async fn admit(State(door): State<Door>, request: Request, next: Next) -> Response {
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(String::new, |m| m.as_str().to_owned());
    let operation = (request.method().clone(), route);
    if !door.operations.contains(&operation) {
        // A 405, which the router itself makes.
        return next.run(request).await;
    }
    let anonymous = !request.headers().contains_key(header::AUTHORIZATION);
    let admitted = if crate::PUBLIC.contains(&operation.1.as_str()) {
        stranger(&door.api, request, next).await
    } else if operation.1 == crate::VERIFY && anonymous && door.api.gate().anyone_verifies() {
        anyone(&door.api, request, next).await
    } else {
        known(&door.api, request, next).await
    };
    admitted.unwrap_or_else(IntoResponse::into_response)
}

async fn stranger(api: &Api, request: Request, next: Next) -> Result<Response, Problem> {
    let gate = api.gate();
    let _body = gate.body()?;
    let request = with_body(request, crate::BODY_LIMIT, gate.limits.body_timeout).await?;
    let _place = gate.exchange().await?;
    within(gate.limits.timeout, next.run(request)).await
}

/// Somebody without a service token has evidence appraised: at the rate of all such together, and in
/// few places of their own.
async fn anyone(api: &Api, request: Request, next: Next) -> Result<Response, Problem> {
    let gate = api.gate();
    gate.spend_anyone()?;
    let _place = gate.anyones_place()?;
    let request = with_body(request, crate::LARGEST_BODY, gate.limits.body_timeout).await?;
    within(gate.limits.timeout, next.run(request)).await
}

async fn known(api: &Api, request: Request, next: Next) -> Result<Response, Problem> {
    let gate = api.gate();
    let claims = identify(api, request.headers())?;
    gate.spend(&claims, 1)?;
    let _share = gate.share(claims.tenant)?;
    let mut request = with_body(request, crate::LARGEST_BODY, gate.limits.body_timeout).await?;
    request.extensions_mut().insert(claims);
    let _place = gate.place()?;
    within(gate.limits.timeout, next.run(request)).await
}

/// Takes the whole body in, within its time. What a route takes less of than `limit` it refuses
/// itself.
async fn with_body(request: Request, limit: usize, within: Duration) -> Result<Request, Problem> {
    let (parts, body) = request.into_parts();
    if body.is_end_stream() {
        return Ok(Request::from_parts(parts, body));
    }
    let too_large = || Problem::new(Kind::TooLarge, Kind::TooLarge.row().title);
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let bytes = match tokio::time::timeout(within, Limited::new(body, limit).collect()).await {
        Ok(Ok(all)) => all.to_bytes(),
        Ok(Err(e)) if e.is::<LengthLimitError>() => return Err(too_large()),
        Ok(Err(_)) => {
            return Err(Problem::new(
                Kind::BadRequest,
                "the request's body ended before its time",
            ));
        }
        Err(_) => {
            return Err(Problem::new(
                Kind::BodyTimeout,
                format!("the whole body has to come within {} s", within.as_secs()),
            ));
        }
    };
    Ok(Request::from_parts(parts, Body::from(bytes)))
}

/// Most of a body that is still read of a request that is answered without it.
const SWALLOWED: u64 = 4 * 1024 * 1024;

/// Takes in what nobody read of a body before the answer goes out: a caller in the middle of writing it
/// would else meet a closed connection instead of the answer (RFC 9112 §9.6). It surrounds everything,
/// so it holds for every refusal. It has the time of any body; beyond its bounds the answer goes out all the same, and the connection
/// (of HTTP/2: the stream, RFC 9113 §8.1) is closed.
pub(crate) async fn hear_out(State(api): State<Api>, request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let mut rest = Lent(Arc::new(Mutex::new(body)));
    let lent = Body::new(rest.clone());
    let response = next.run(Request::from_parts(parts, lent)).await;
    // Who did not send it in its time is not waited for again. What will not fit is not begun: a caller
    // that asked first (RFC 9110 §10.1.1, 100-continue) then need not send any of it.
    if response.status() != StatusCode::REQUEST_TIMEOUT && rest.size_hint().lower() <= SWALLOWED {
        let all = async {
            let mut read = 0_u64;
            while let Some(Ok(frame)) = rest.frame().await {
                let more = frame.data_ref().map_or(0, |d| d.len());
                read = read.saturating_add(more as u64);
                if read > SWALLOWED {
                    return;
                }
            }
        };
        // What comes of it changes nothing.
        let _ = tokio::time::timeout(api.gate().limits.body_timeout, all).await;
    }
    response
}

/// A body that can be read on by whoever lent it.
#[derive(Debug, Clone)]
struct Lent(Arc<Mutex<Body>>);

impl Lent {
    fn body(&self) -> MutexGuard<'_, Body> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut *self.body()).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body().size_hint()
    }
}

async fn within(
    time: Duration,
    answer: impl Future<Output = Response>,
) -> Result<Response, Problem> {
    tokio::time::timeout(time, answer).await.map_err(|_| {
        // Dropping the handler stops nothing that was begun: changes run in tasks of their own.
        Problem::new(
            Kind::Timeout,
            "what was begun goes on; ask again, with the same Idempotency-Key for a signature",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::middleware::{from_fn, from_fn_with_state};
    use axum::routing::{get, post};
    use http_body_util::Full;
    use serde_json::Value;
    use std::convert::Infallible;
    use tower::ServiceExt as _;
    use tower_http::catch_panic::CatchPanicLayer;

    /// The same layers in the same order as the service's router, but for the door's identities.
    fn app() -> Router {
        let timed = async |request: Request, next: Next| {
            let request = match with_body(request, 100, Duration::from_millis(50)).await {
                Ok(r) => r,
                Err(p) => return p.into_response(),
            };
            match within(Duration::from_millis(50), next.run(request)).await {
                Ok(r) => r,
                Err(p) => p.into_response(),
            }
        };
        let watch = Watch {
            measures: Arc::default(),
            tracer: None,
        };
        Router::new()
            .route("/ok", get(async || "ok"))
            .route("/echo", post(async |body: Bytes| body))
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
            .layer(from_fn(timed))
            .layer(CatchPanicLayer::custom(panicked))
            .layer(from_fn_with_state(watch, envelope))
    }

    async fn ask(method: &str, path: &str, body: Body) -> (u16, http::HeaderMap, Value) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("x-request-id", "r1")
            .body(body)
            .unwrap();
        let answer = app().oneshot(request).await.unwrap();
        let (parts, body) = answer.into_parts();
        let body = axum::body::to_bytes(body, 100_000).await.unwrap();
        let json = serde_json::from_slice(&body).unwrap_or_default();
        (parts.status.as_u16(), parts.headers, json)
    }

    async fn get_code(path: &str) -> (u16, Value) {
        let (status, _, body) = ask("GET", path, Body::empty()).await;
        (status, body["code"].clone())
    }

    #[test]
    fn a_head_is_read_in_one_way() {
        let field = |version, lines: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(*name, HeaderValue::from_static(value));
            }
            ambiguity(version, &headers).map(|p| p.document(&RequestId::default()).field.unwrap())
        };
        let host = ("host", "a");
        assert_eq!(
            field(Version::HTTP_11, &[host, ("authorization", "x")]),
            None
        );
        assert_eq!(field(Version::HTTP_2, &[]), None);
        assert_eq!(field(Version::HTTP_10, &[]), None);
        assert_eq!(field(Version::HTTP_11, &[]).unwrap(), "Host");
        assert_eq!(field(Version::HTTP_11, &[host, host]).unwrap(), "Host");
        assert_eq!(field(Version::HTTP_2, &[host, host]).unwrap(), "Host");
        for (name, title) in [
            ("authorization", "Authorization"),
            ("content-type", "Content-Type"),
            ("idempotency-key", "Idempotency-Key"),
        ] {
            let found = field(Version::HTTP_11, &[host, (name, "x"), (name, "x")]);
            assert_eq!(found.unwrap(), title);
        }
    }

    #[tokio::test]
    async fn a_slow_handler_is_answered_for() {
        assert_eq!(get_code("/slow").await, (503, "timeout".into()));
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_is_not_waited_for() {
        let nothing = http_body_util::Empty::<Bytes>::new();
        let never = std::future::pending::<Option<Result<http::HeaderMap, Infallible>>>();
        let never = Body::new(nothing.with_trailers(never));
        let (status, _, body) = ask("POST", "/echo", never).await;
        assert_eq!((status, &body["code"]), (408, &Value::from("body-timeout")));
        assert_eq!(body["retryable"], true);
    }

    #[tokio::test]
    async fn a_body_is_taken_whole_up_to_the_limit() {
        let said = |n: usize| Body::from("1".repeat(n));
        // Without a length in its head.
        let unsaid = |n: usize| Body::new(Full::new(Bytes::from("1".repeat(n))).map_frame(|f| f));
        assert_eq!(ask("POST", "/echo", said(100)).await.0, 200);
        assert_eq!(ask("POST", "/echo", unsaid(100)).await.0, 200);
        for body in [said(101), unsaid(101)] {
            let (status, _, body) = ask("POST", "/echo", body).await;
            assert_eq!((status, &body["code"]), (413, &Value::from("too-large")));
        }
    }

    #[tokio::test]
    async fn a_panic_is_a_plain_500_with_the_request_id() {
        let (status, headers, body) = ask("GET", "/panic", Body::empty()).await;
        assert_eq!((status, &body["code"]), (500, &Value::from("internal")));
        assert_eq!(
            (&body["instance"], headers["x-request-id"].to_str().unwrap()),
            (&Value::from("r1"), "r1")
        );
        assert!(!body.to_string().contains("secret"));
    }

    #[tokio::test]
    async fn a_bare_error_status_becomes_a_problem() {
        let (status, headers, body) = ask("GET", "/plain", Body::empty()).await;
        assert_eq!((status, &body["code"]), (500, &Value::from("internal")));
        assert_eq!(headers["content-type"], "application/problem+json");
        assert_eq!(get_code("/nowhere").await, (404, "not-found".into()));
    }
}
