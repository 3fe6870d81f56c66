//! Traces: spans of the service's closed list become OpenTelemetry spans and leave by OTLP.
//!
//! The bridge from `tracing` is not used on purpose: it would export the fields of log lines, and
//! those name tenants and keys. Here a span says what [`Attribute`] can say and nothing else.
//!
//! Spans wait in a bounded queue; a thread of its own sends them. What there is no room for, and
//! what the collector did not take, is dropped and counted: no request ever waits for it.

use crate::ServerError;
use crate::config::Telemetry;
use crate::files;
use countersign_core::labels;
use countersign_core::measure::{Counter, Counters, Label as _, Report, Sink};
use countersign_core::trace::{
    Attribute, Begun, FinishedSpan, SpanId, SpanKind, SpanRef, TraceId, Tracer,
};
use opentelemetry::trace::{
    Link, SpanContext, SpanKind as OtelKind, Status, TraceFlags, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{Protocol, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, IdGenerator as _, RandomIdGenerator, SpanData,
    SpanExporter, SpanLinks, SpanProcessor as _,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// Spans that may wait: some thousand requests.
const QUEUE: usize = 16_384;
/// Spans in one message.
const MESSAGE: usize = 1_024;
/// How long a span waits at most for company.
const EVERY: Duration = Duration::from_secs(1);
/// Longest a collector may take for a message.
const SEND: Duration = Duration::from_secs(5);
/// Longest the last spans may take when the service stops.
const LAST: Duration = Duration::from_secs(3);

labels! {
    /// Why a span was dropped.
    pub enum Dropped {
        /// The queue was full.
        QueueFull = "queue-full",
        /// The collector is away, or refused.
        ExportFailed = "export-failed",
    }
}

/// What became of the spans.
#[derive(Debug, Default)]
pub struct SpanCounts {
    waiting: AtomicUsize,
    failing: AtomicBool,
    exported: Counter,
    dropped: Counters<Dropped>,
}

impl Report for SpanCounts {
    fn report(&self, to: &mut dyn Sink) {
        to.counter(
            "countersign_spans_exported_total",
            "Spans the collector took.",
            &self.exported,
        );
        to.counters(
            "countersign_spans_dropped_total",
            "Spans that were dropped, by reason; signing goes on without them.",
            "reason",
            &self.dropped,
        );
    }
}

/// Makes ids, decides who is sampled, and hands spans to the thread that sends them.
#[derive(Debug)]
pub struct Spans {
    ids: RandomIdGenerator,
    /// A request is sampled if a random number is below it.
    below: u64,
    accept: bool,
    processor: BatchSpanProcessor,
    scope: InstrumentationScope,
    counts: Arc<SpanCounts>,
}

impl Spans {
    /// Starts the sending thread. `None`: no endpoint is configured. `node`: names this run.
    ///
    /// # Errors
    /// [`ServerError`]: a file, or the configuration.
    pub fn start(
        config: &Telemetry,
        node: &str,
        counts: &Arc<SpanCounts>,
    ) -> Result<Option<Self>, ServerError> {
        let Some(url) = config.traces_url() else {
            return Ok(None);
        };
        let headers = match &config.headers_file {
            Some(path) => headers(path)?,
            None => HashMap::new(),
        };
        let roots = match &config.otlp_ca_file {
            Some(path) => Some(roots(path)?),
            None => None,
        };
        let resource = Resource::builder_empty()
            .with_attributes([
                KeyValue::new("service.name", "countersignd"),
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                KeyValue::new("service.instance.id", node.to_owned()),
            ])
            .build();
        let counted = Arc::clone(counts);
        // The blocking client has a runtime of its own: it is made, used and dropped outside ours.
        let made = std::thread::spawn(move || processor(url, headers, roots, resource, counted))
            .join()
            .map_err(|_| ServerError::Internal("the exporter's thread panicked".into()))??;
        Ok(Some(Self {
            ids: RandomIdGenerator::default(),
            below: threshold(config.sample_ratio),
            accept: config.accept_traceparent,
            processor: made,
            scope: InstrumentationScope::builder("countersign").build(),
            counts: Arc::clone(counts),
        }))
    }

    /// Sends what waits. Blocks for a few seconds at most: not for a thread of the runtime.
    pub fn stop(&self) {
        if let Err(e) = self.processor.shutdown_with_timeout(LAST) {
            tracing::warn!(error = %e, "the last spans were not sent");
        }
    }

    fn context(own: SpanRef, remote: bool) -> SpanContext {
        SpanContext::new(
            opentelemetry::TraceId::from_bytes(own.trace.0),
            opentelemetry::SpanId::from_bytes(own.span.0),
            TraceFlags::SAMPLED,
            remote,
            TraceState::NONE,
        )
    }
}

impl Tracer for Spans {
    fn begin(&self, caller: Option<SpanRef>) -> Begun {
        let caller = caller.filter(|_| self.accept);
        let trace = match caller {
            Some(caller) => caller.trace,
            None => TraceId(self.ids.new_trace_id().to_bytes()),
        };
        // A number of our own: a caller who chooses its trace id does not choose to be sampled.
        let drawn = u64::from_be_bytes(self.ids.new_span_id().to_bytes());
        Begun {
            here: SpanRef {
                trace,
                span: self.span_id(),
            },
            parent: caller.map(|c| c.span),
            wanted: self.below == u64::MAX || drawn < self.below,
        }
    }

    fn span_id(&self) -> SpanId {
        SpanId(self.ids.new_span_id().to_bytes())
    }

    fn ended(&self, span: FinishedSpan) {
        // The SDK's own queue is as long, so that what is dropped is dropped and counted here.
        let before = self.counts.waiting.fetch_add(1, Ordering::Relaxed);
        if before >= QUEUE {
            self.counts.waiting.fetch_sub(1, Ordering::Relaxed);
            self.counts.dropped.inc(Dropped::QueueFull);
            return;
        }
        self.processor.on_end(data(span, self.scope.clone()));
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "the ratio is checked to lie in 0 to 1; a share of 2^64 need not be exact"
)]
fn threshold(ratio: f64) -> u64 {
    (ratio * u64::MAX as f64) as u64
}

fn data(span: FinishedSpan, scope: InstrumentationScope) -> SpanData {
    let mut links = SpanLinks::default();
    links.links = span
        .links
        .iter()
        .map(|l| Link::new(Spans::context(*l, false), Vec::new(), 0))
        .collect();
    let mut attributes: Vec<_> = span.attributes.into_iter().map(key_value).collect();
    let status = match span.error {
        Some(code) => {
            attributes.push(KeyValue::new("error.type", code));
            Status::error(code)
        }
        None => Status::Unset,
    };
    SpanData {
        span_context: Spans::context(span.own, false),
        parent_span_id: span.parent.map_or(opentelemetry::SpanId::INVALID, |p| {
            opentelemetry::SpanId::from_bytes(p.0)
        }),
        parent_span_is_remote: span.parent_is_remote,
        span_kind: match span.kind {
            SpanKind::Server => OtelKind::Server,
            SpanKind::Client => OtelKind::Client,
            SpanKind::Internal => OtelKind::Internal,
        },
        name: span.name.label().into(),
        start_time: span.start,
        end_time: span.end,
        attributes,
        dropped_attributes_count: 0,
        events: opentelemetry_sdk::trace::SpanEvents::default(),
        links,
        status,
        instrumentation_scope: scope,
    }
}

/// Names by OpenTelemetry's semantic conventions where there is one.
fn key_value(attribute: Attribute) -> KeyValue {
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    match attribute {
        Attribute::RequestId(id) => {
            KeyValue::new("http.request.header.x-request-id", id.to_string())
        }
        Attribute::Method(method) => KeyValue::new("http.request.method", method),
        Attribute::Route(route) => KeyValue::new("http.route", route.to_string()),
        Attribute::Status(status) => KeyValue::new("http.response.status_code", i64::from(status)),
        Attribute::Scheme(scheme) => KeyValue::new("countersign.algorithm", scheme.as_str()),
        Attribute::Content(content) => KeyValue::new("countersign.content", content),
        Attribute::Submissions(n) => KeyValue::new("countersign.commit.requests", count(n)),
        Attribute::Leaves(n) => KeyValue::new("countersign.commit.leaves", count(n)),
        Attribute::Repeat => KeyValue::new("countersign.idempotent_repeat", true),
    }
}

/// Counts what became of each message.
#[derive(Debug)]
struct Counted {
    inner: opentelemetry_otlp::SpanExporter,
    counts: Arc<SpanCounts>,
}

impl SpanExporter for Counted {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        self.counts.waiting.fetch_sub(spans, Ordering::Relaxed);
        let result = self.inner.export(batch).await;
        match &result {
            Ok(()) => {
                self.counts.exported.add(spans as u64);
                if self.counts.failing.swap(false, Ordering::Relaxed) {
                    tracing::info!("spans are sent again");
                }
            }
            Err(e) => {
                self.counts.dropped.add(Dropped::ExportFailed, spans as u64);
                // Once, not every second.
                if !self.counts.failing.swap(true, Ordering::Relaxed) {
                    tracing::warn!(error = %e, "spans are not taken: they are dropped until they are");
                }
            }
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

fn processor(
    url: String,
    headers: HashMap<String, String>,
    roots: Option<rustls::RootCertStore>,
    resource: Resource,
    counts: Arc<SpanCounts>,
) -> Result<BatchSpanProcessor, ServerError> {
    let failed = |e: &dyn std::fmt::Display| ServerError::Internal(format!("[telemetry] {e}"));
    let mut client = reqwest::blocking::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(SEND)
        .user_agent(concat!("countersignd/", env!("CARGO_PKG_VERSION")));
    if let Some(roots) = roots {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| failed(&e))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        client = client.tls_backend_preconfigured(tls);
    } else {
        // For the system's roots the HTTP library asks for the process's provider. A second
        // installation changes nothing and is no error.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    }
    let mut exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_http_client(client.build().map_err(|e| failed(&e))?)
        .with_protocol(Protocol::HttpBinary)
        .with_timeout(SEND)
        .with_headers(headers)
        .with_endpoint(url)
        .build()
        .map_err(|e| failed(&e))?;
    exporter.set_resource(&resource);
    Ok(BatchSpanProcessor::builder(Counted {
        inner: exporter,
        counts,
    })
    .with_batch_config(
        BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE)
            .with_max_export_batch_size(MESSAGE)
            .with_scheduled_delay(EVERY)
            .build(),
    )
    .build())
}

/// `Name: value` lines of a secret file; empty lines and `#` lines are skipped.
///
/// # Errors
/// [`ServerError`]; its text names the line and shows nothing of it.
pub(crate) fn headers(path: &Path) -> Result<HashMap<String, String>, ServerError> {
    let content = |problem: String| ServerError::Content {
        path: path.to_owned(),
        problem,
    };
    let bytes = files::read_secret(path)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| content("not UTF-8".into()))?;
    let mut found = HashMap::new();
    for (n, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        // The line itself is a secret: its number must do.
        let (name, value) = line
            .split_once(':')
            .map(|(n, v)| (n.trim(), v.trim()))
            .filter(|(n, v)| !n.is_empty() && !v.is_empty())
            .ok_or_else(|| content(format!("line {n}: a header is \"Name: value\"")))?;
        let token = name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        if !token || !value.bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
            return Err(content(format!(
                "line {n}: not a header of visible ASCII characters"
            )));
        }
        found.insert(name.to_owned(), value.to_owned());
    }
    if found.is_empty() {
        return Err(content("holds no header".into()));
    }
    Ok(found)
}

fn roots(path: &Path) -> Result<rustls::RootCertStore, ServerError> {
    let content = |problem: String| ServerError::Content {
        path: path.to_owned(),
        problem,
    };
    let pem = files::read_text(path)?;
    let mut roots = rustls::RootCertStore::empty();
    for cert in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let cert = cert.map_err(|e| content(e.to_string()))?;
        roots.add(cert).map_err(|e| content(e.to_string()))?;
    }
    if roots.is_empty() {
        return Err(content("holds no certificate (PEM)".into()));
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_core::measure::Type;
    use countersign_core::trace::{SpanName, Trace};
    use std::time::Instant;

    fn config(endpoint: &str) -> Telemetry {
        Telemetry {
            otlp_endpoint: Some(endpoint.to_owned()),
            ..Telemetry::default()
        }
    }

    fn spans(config: &Telemetry) -> (Arc<Spans>, Arc<SpanCounts>) {
        let counts = Arc::default();
        let spans = Spans::start(config, "test", &counts).unwrap().unwrap();
        (Arc::new(spans), counts)
    }

    #[test]
    fn a_full_queue_and_a_dead_collector_drop_and_count_every_span() {
        // Nobody listens on port 1 of loopback.
        let (spans, counts) = spans(&config("http://127.0.0.1:1"));
        let tracer: Arc<dyn Tracer> = Arc::clone(&spans) as _;
        let requests = QUEUE * 2;
        let began = Instant::now();
        for _ in 0..requests {
            let (request, _) = Trace::request(&tracer, None);
            drop(request);
        }
        let each = began.elapsed() / u32::try_from(requests).unwrap();
        println!("one span, made and handed over: {each:?}");
        assert!(
            each < Duration::from_millis(1),
            "a span held its request up"
        );
        spans.stop();
        // A slow machine does not give up as many within the time of a stop.
        let until = Instant::now() + Duration::from_secs(60);
        let all = || {
            let queue_full = counts.dropped.get(Dropped::QueueFull);
            queue_full + counts.dropped.get(Dropped::ExportFailed)
        };
        while all() < requests as u64 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(all(), requests as u64);
        assert!(counts.dropped.get(Dropped::ExportFailed) > 0);
        assert_eq!(counts.exported.get(), 0);
    }

    #[test]
    fn the_ratio_is_kept_and_a_caller_does_not_choose_it() {
        let mut config = config("http://127.0.0.1:1");
        config.sample_ratio = 0.25;
        let (spans, _) = spans(&config);
        let caller = SpanRef {
            trace: TraceId([1; 16]),
            span: SpanId([2; 8]),
        };
        let wanted = (0..8000)
            .filter(|_| spans.begin(Some(caller)).wanted)
            .count();
        assert!((1700..2300).contains(&wanted), "{wanted} of 8000");
        config.sample_ratio = 0.0;
        let (spans, _) = self::spans(&config);
        assert!((0..1000).all(|_| !spans.begin(Some(caller)).wanted));
    }

    #[test]
    fn a_caller_is_believed_its_ids_unless_switched_off() {
        let mut config = config("http://127.0.0.1:1");
        let caller = SpanRef {
            trace: TraceId([1; 16]),
            span: SpanId([2; 8]),
        };
        let (believing, _) = spans(&config);
        let begun = believing.begin(Some(caller));
        assert_eq!(
            (begun.here.trace, begun.parent),
            (caller.trace, Some(caller.span))
        );
        assert_ne!(begun.here.span, caller.span);
        config.accept_traceparent = false;
        let (strict, _) = spans(&config);
        let begun = strict.begin(Some(caller));
        assert_ne!(begun.here.trace, caller.trace);
        assert_eq!(begun.parent, None);
    }

    #[test]
    fn headers_are_a_secret_file_of_lines() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("headers");
        let write = |text: &str, mode| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            headers(&path)
        };
        let read = write(
            "# collector\n\nAuthorization: Bearer a:b\nX-Scope: one\n",
            0o600,
        )
        .unwrap();
        assert_eq!(read["Authorization"], "Bearer a:b");
        assert_eq!(read.len(), 2);
        assert!(matches!(
            write("A: b", 0o640),
            Err(ServerError::NotPrivate { .. })
        ));
        for bad in ["secret", ": x", "A b: c", "A:", "", "A: b\u{7f}"] {
            let e = write(bad, 0o600).unwrap_err().to_string();
            assert!(!e.contains("secret"), "{e}");
        }
    }

    #[test]
    fn counts_are_reported() {
        struct Names(Vec<&'static str>);
        impl Sink for Names {
            fn metric(&mut self, name: &'static str, _: Type, _: &'static str) {
                self.0.push(name);
            }
            fn value(&mut self, _: &[countersign_core::measure::Pair], _: f64) {}
            fn distribution(
                &mut self,
                _: &[countersign_core::measure::Pair],
                _: &countersign_core::measure::Distribution,
            ) {
            }
        }
        let mut names = Names(Vec::new());
        SpanCounts::default().report(&mut names);
        assert_eq!(names.0.len(), 2);
        assert_eq!(SpanName::ALL.len(), 9);
    }
}
