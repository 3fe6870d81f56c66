//! One request's way through the service, for those who look for where its time went.
//!
//! A [`Trace`] is handed along a request; each step opens a [`Span`] in it, which ends when it is
//! dropped. For a request that is not sampled both are empty and cost nothing to speak of. What a
//! span can say is the closed list [`Attribute`]: no tenant, key, digest, file name or claim has a
//! word in it, so none can leak into somebody's tracing system.

use crate::{RequestId, SignatureScheme};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

/// Most links one span carries; what is beyond is left out.
pub const MAX_LINKS: usize = 128;

/// A trace's id (W3C Trace Context §3.2.2.3). Not all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TraceId(pub [u8; 16]);

/// A span's id (W3C Trace Context §3.2.2.4). Not all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SpanId(pub [u8; 8]);

/// A span of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SpanRef {
    /// The trace.
    pub trace: TraceId,
    /// The span in it.
    pub span: SpanId,
}

fn hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|b| write!(f, "{b:02x}"))
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl SpanRef {
    /// Reads a `traceparent` header (W3C Trace Context §3.2). Only the two ids are taken: the
    /// caller's sampling flag decides nothing here, and `tracestate` is not read at all.
    #[must_use]
    pub fn from_traceparent(header: &str) -> Option<Self> {
        // §3.2.2: a later version may have more fields, after a further dash.
        let bytes = header.as_bytes();
        if !(55..=256).contains(&bytes.len()) {
            return None;
        }
        let mut fields = header.splitn(5, '-');
        let (version, trace, span, flags) = (
            fields.next()?,
            fields.next()?,
            fields.next()?,
            fields.next()?,
        );
        let lower_hex = |text: &str, len: usize| {
            text.len() == len
                && text
                    .bytes()
                    .all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'))
        };
        let known = lower_hex(version, 2) && version != "ff" && lower_hex(flags, 2);
        if !known || (version == "00" && bytes.len() != 55) {
            return None;
        }
        let found = Self {
            trace: TraceId(unhex(trace)?),
            span: SpanId(unhex(span)?),
        };
        (found.trace.0 != [0; 16] && found.span.0 != [0; 8]).then_some(found)
    }
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let mut out = [0; N];
    if text.len() != N.saturating_mul(2) {
        return None;
    }
    for (to, pair) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *to = (digit(*high)? << 4) | digit(*low)?;
    }
    Some(out)
}

crate::labels! {
    /// The steps.
    pub enum SpanName {
        /// The whole of an HTTP request, from its header to its answer.
        Request = "request",
        /// Signing: may this caller use this signer for this content?
        Decide = "decide",
        /// Waiting for the log's durable commit.
        Commit = "log.commit",
        /// One commit of everything that waited.
        Flush = "log.flush",
        /// A call to the token's worker, until its answer.
        Worker = "worker",
        /// In the worker: waiting for a session.
        WorkerQueue = "worker.queue",
        /// In the worker: the module's `C_Sign`.
        WorkerSign = "worker.sign",
        /// Verifying what came back against the stored public key.
        Verify = "verify",
        /// Making the answer: chain, receipt.
        Answer = "answer",
    }
}

/// Which side of a call a span is (OpenTelemetry `SpanKind`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// Answers somebody.
    Server,
    /// Asks another process.
    Client,
    /// Within.
    Internal,
}

/// What a span may say of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attribute {
    /// The request's id, as in the answer, the log and the leaf.
    RequestId(RequestId),
    /// A method of HTTP.
    Method(&'static str),
    /// The route's pattern, `/v1/tenants/{tenant}/…`: never the path.
    Route(Arc<str>),
    /// Status of the answer.
    Status(u16),
    /// Signature scheme.
    Scheme(SignatureScheme),
    /// Type of the content.
    Content(&'static str),
    /// Requests in one commit.
    Submissions(u64),
    /// Leaves in one commit.
    Leaves(u64),
    /// The answer given is one that was given before.
    Repeat,
}

/// A span that is over.
#[derive(Debug, Clone)]
pub struct FinishedSpan {
    /// Which.
    pub own: SpanRef,
    /// The span it is part of, if any.
    pub parent: Option<SpanId>,
    /// The parent is a caller's.
    pub parent_is_remote: bool,
    /// Side of a call.
    pub kind: SpanKind,
    /// Which step.
    pub name: SpanName,
    /// When it began.
    pub start: SystemTime,
    /// When it ended; never before `start`.
    pub end: SystemTime,
    /// What it says.
    pub attributes: Vec<Attribute>,
    /// Spans of other requests it has to do with.
    pub links: Vec<SpanRef>,
    /// A stable code, where it failed.
    pub error: Option<&'static str>,
}

/// The beginning of a request's trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begun {
    /// Its first span.
    pub here: SpanRef,
    /// The caller's span, where callers are believed that much.
    pub parent: Option<SpanId>,
    /// Whether its spans are wanted.
    pub wanted: bool,
}

/// Where spans go, and who decides which requests have any.
pub trait Tracer: fmt::Debug + Send + Sync + 'static {
    /// Begins a request. `caller`: what its `traceparent` said.
    fn begin(&self, caller: Option<SpanRef>) -> Begun;

    /// An id for one more span.
    fn span_id(&self) -> SpanId;

    /// Takes a span. Never blocks: what there is no room for is dropped and counted.
    fn ended(&self, span: FinishedSpan);
}

/// A place in a request's trace; empty where the request is not sampled.
#[derive(Debug, Clone, Default)]
pub struct Trace(Option<Arc<Place>>);

#[derive(Debug)]
struct Place {
    tracer: Arc<dyn Tracer>,
    here: SpanRef,
    /// One reading of both clocks: what follows is measured by the steady one.
    wall: SystemTime,
    steady: Instant,
}

impl Place {
    fn at(&self, moment: Instant) -> SystemTime {
        let moved = match moment.checked_duration_since(self.steady) {
            Some(later) => self.wall.checked_add(later),
            None => self
                .wall
                .checked_sub(self.steady.saturating_duration_since(moment)),
        };
        moved.unwrap_or(self.wall)
    }
}

impl Trace {
    /// No trace.
    #[must_use]
    pub const fn off() -> Self {
        Self(None)
    }

    /// Whether spans are kept.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// The span this is in.
    #[must_use]
    pub fn here(&self) -> Option<SpanRef> {
        self.0.as_ref().map(|p| p.here)
    }

    /// Begins a request. The second value is its trace id, which stands in log lines whether the
    /// request is sampled or not.
    #[must_use]
    pub fn request(tracer: &Arc<dyn Tracer>, caller: Option<SpanRef>) -> (Span, TraceId) {
        let Begun {
            here,
            parent,
            wanted,
        } = tracer.begin(caller);
        if !wanted {
            return (Span(None), here.trace);
        }
        let steady = Instant::now();
        let trace = Self(Some(Arc::new(Place {
            tracer: Arc::clone(tracer),
            here,
            wall: SystemTime::now(),
            steady,
        })));
        let mut span = Span::new(trace, SpanName::Request, SpanKind::Server, steady);
        if let Some(open) = &mut span.0 {
            open.parent = parent;
            open.parent_is_remote = parent.is_some();
        }
        (span, here.trace)
    }

    /// Opens a span in this one.
    #[must_use]
    pub fn span(&self, name: SpanName) -> Span {
        self.child(name, Instant::now())
    }

    /// Opens a span that has no part in this request alone: a trace of its own.
    #[must_use]
    pub fn apart(&self, name: SpanName) -> Span {
        let Some(place) = &self.0 else {
            return Span(None);
        };
        let here = place.tracer.begin(None).here;
        let steady = Instant::now();
        let trace = Self(Some(Arc::new(Place {
            tracer: Arc::clone(&place.tracer),
            here,
            wall: place.at(steady),
            steady,
        })));
        Span::new(trace, name, SpanKind::Internal, steady)
    }

    /// A span that is over already, for example one that another process measured.
    pub fn past(&self, name: SpanName, start: Instant, took: Duration) {
        let mut span = self.child(name, start);
        if let Some(open) = &mut span.0 {
            open.end = start.checked_add(took);
        }
    }

    fn child(&self, name: SpanName, start: Instant) -> Span {
        let Some(place) = &self.0 else {
            return Span(None);
        };
        let trace = Self(Some(Arc::new(Place {
            tracer: Arc::clone(&place.tracer),
            here: SpanRef {
                trace: place.here.trace,
                span: place.tracer.span_id(),
            },
            wall: place.wall,
            steady: place.steady,
        })));
        let kind = match name {
            SpanName::Worker => SpanKind::Client,
            _ => SpanKind::Internal,
        };
        let mut span = Span::new(trace, name, kind, start);
        if let Some(open) = &mut span.0 {
            open.parent = Some(place.here.span);
        }
        span
    }
}

/// A step under way. It ends when it is dropped.
#[derive(Debug, Default)]
pub struct Span(Option<Box<Open>>);

#[derive(Debug)]
struct Open {
    trace: Trace,
    parent: Option<SpanId>,
    parent_is_remote: bool,
    kind: SpanKind,
    name: SpanName,
    start: Instant,
    end: Option<Instant>,
    attributes: Vec<Attribute>,
    links: Vec<SpanRef>,
    error: Option<&'static str>,
}

impl Span {
    fn new(trace: Trace, name: SpanName, kind: SpanKind, start: Instant) -> Self {
        Self(Some(Box::new(Open {
            trace,
            parent: None,
            parent_is_remote: false,
            kind,
            name,
            start,
            end: None,
            attributes: Vec::new(),
            links: Vec::new(),
            error: None,
        })))
    }

    /// The place in the trace for what is done within this step.
    #[must_use]
    pub fn trace(&self) -> Trace {
        self.0
            .as_ref()
            .map_or_else(Trace::off, |open| open.trace.clone())
    }

    /// Says something; made only where somebody listens.
    pub fn say(&mut self, attribute: impl FnOnce() -> Attribute) {
        if let Some(open) = &mut self.0 {
            open.attributes.push(attribute());
        }
    }

    /// It began earlier than it was opened.
    pub fn since(&mut self, began: Instant) {
        if let Some(open) = &mut self.0 {
            open.start = began;
        }
    }

    /// It failed, by a stable code.
    pub fn fail(&mut self, code: &'static str) {
        if let Some(open) = &mut self.0 {
            open.error = Some(code);
        }
    }

    /// It has to do with a span of another trace.
    pub fn link(&mut self, other: SpanRef) {
        if let Some(open) = &mut self.0
            && open.links.len() < MAX_LINKS
        {
            open.links.push(other);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let Some(place) = &self.trace.0 else { return };
        let end = self.end.unwrap_or_else(Instant::now);
        place.tracer.ended(FinishedSpan {
            own: place.here,
            parent: self.parent,
            parent_is_remote: self.parent_is_remote,
            kind: self.kind,
            name: self.name,
            start: place.at(self.start),
            end: place.at(end.max(self.start)),
            attributes: std::mem::take(&mut self.attributes),
            links: std::mem::take(&mut self.links),
            error: self.error,
        });
    }
}

/// What a submission to a shared step carries, so that the step and those who wait for it can name
/// each other.
#[derive(Debug, Clone, Default)]
pub struct Shared(Option<Arc<(Trace, OnceLock<SpanRef>)>>);

impl Shared {
    /// For this waiting span.
    #[must_use]
    pub fn by(waiting: &Span) -> Self {
        Self(
            waiting
                .0
                .as_ref()
                .map(|open| Arc::new((open.trace.clone(), OnceLock::new()))),
        )
    }

    /// The span of the step done for all who wait: in a trace of its own, linked to each of them.
    pub fn step<'a>(name: SpanName, waiting: impl Iterator<Item = &'a Self>) -> Span {
        let mut step = Span(None);
        for (trace, done_by) in waiting.filter_map(|w| w.0.as_deref()) {
            if step.0.is_none() {
                step = trace.apart(name);
            }
            if let Some(own) = step.trace().here() {
                let _ = done_by.set(own);
            }
            if let Some(their) = trace.here() {
                step.link(their);
            }
        }
        step
    }

    /// Links the waiting span to the step that was done for it.
    pub fn link(&self, waiting: &mut Span) {
        if let Some(step) = self.0.as_deref().and_then(|(_, done_by)| done_by.get()) {
            waiting.link(*step);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[derive(Debug, Default)]
    struct Kept(AtomicU64, Mutex<Vec<FinishedSpan>>);

    impl Tracer for Kept {
        fn begin(&self, caller: Option<SpanRef>) -> Begun {
            let n = self.0.fetch_add(1, Ordering::Relaxed) + 1;
            let trace = caller.map_or(TraceId(u128::from(n).to_be_bytes()), |c| c.trace);
            let span = self.span_id();
            Begun {
                here: SpanRef { trace, span },
                parent: caller.map(|c| c.span),
                wanted: true,
            }
        }

        fn span_id(&self) -> SpanId {
            SpanId((self.0.fetch_add(1, Ordering::Relaxed) + 1).to_be_bytes())
        }

        fn ended(&self, span: FinishedSpan) {
            self.1.lock().unwrap().push(span);
        }
    }

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_traceparent_gives_its_ids_and_nothing_else() {
        let parent = SpanRef::from_traceparent(PARENT).unwrap();
        assert_eq!(parent.trace.to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(parent.span.to_string(), "b7ad6b7169203331");
        // Another flag, a later version with more behind it: the same ids.
        for same in [
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-comes",
        ] {
            assert_eq!(SpanRef::from_traceparent(same), Some(parent), "{same}");
        }
    }

    #[test]
    fn what_is_no_traceparent_is_none() {
        let long = format!("01{}-{}", &PARENT[2..], "x".repeat(300));
        for bad in [
            "",
            "00",
            &PARENT[..54],
            &format!("{PARENT}-"),
            &PARENT.to_uppercase(),
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319cb-7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0é",
            &long,
        ] {
            assert_eq!(SpanRef::from_traceparent(bad), None, "{bad}");
        }
    }

    #[test]
    fn steps_hang_in_the_request_they_are_part_of() {
        let kept = Arc::new(Kept::default());
        let tracer: Arc<dyn Tracer> = Arc::clone(&kept) as _;
        let caller = SpanRef::from_traceparent(PARENT);
        let (request, id) = Trace::request(&tracer, caller);
        assert_eq!(Some(id), caller.map(|c| c.trace));
        let worker = request.trace().span(SpanName::Worker);
        worker.trace().past(
            SpanName::WorkerSign,
            Instant::now(),
            Duration::from_millis(3),
        );
        drop(worker);
        drop(request);
        let spans = kept.1.lock().unwrap();
        let [sign, worker, request] = spans.as_slice() else {
            panic!("{spans:?}")
        };
        assert_eq!(sign.parent, Some(worker.own.span));
        assert_eq!(worker.parent, Some(request.own.span));
        assert_eq!(request.parent, caller.map(|c| c.span));
        assert!(request.parent_is_remote && !worker.parent_is_remote);
        assert!(spans.iter().all(|s| s.own.trace == id && s.end >= s.start));
        assert_eq!(
            sign.end.duration_since(sign.start).unwrap(),
            Duration::from_millis(3)
        );
    }

    #[test]
    fn a_shared_step_and_those_who_wait_name_each_other() {
        let kept = Arc::new(Kept::default());
        let tracer: Arc<dyn Tracer> = Arc::clone(&kept) as _;
        let mut waiting: Vec<_> = (0..3)
            .map(|_| {
                let (request, _) = Trace::request(&tracer, None);
                let commit = request.trace().span(SpanName::Commit);
                let shared = Shared::by(&commit);
                (request, commit, shared)
            })
            .collect();
        let none = Shared::default();
        let all = waiting.iter().map(|w| &w.2).chain([&none]);
        let flush = Shared::step(SpanName::Flush, all);
        let flush_ref = flush.trace().here().unwrap();
        drop(flush);
        for (_, commit, shared) in &mut waiting {
            shared.link(commit);
        }
        drop(waiting);
        let spans = kept.1.lock().unwrap();
        let flush = spans.iter().find(|s| s.name == SpanName::Flush).unwrap();
        let commits: Vec<_> = spans
            .iter()
            .filter(|s| s.name == SpanName::Commit)
            .collect();
        assert_eq!((commits.len(), flush.links.len()), (3, 3));
        for commit in commits {
            assert_eq!(commit.links, [flush_ref]);
            assert!(flush.links.contains(&commit.own));
            assert_ne!(commit.own.trace, flush.own.trace);
        }
    }

    #[test]
    fn without_a_trace_nothing_is_made() {
        let mut span = Trace::off().span(SpanName::Decide);
        span.say(|| panic!("nobody listens"));
        assert!(!span.trace().is_on());
        assert!(
            Shared::step(SpanName::Flush, [Shared::by(&span)].iter())
                .0
                .is_none()
        );
    }
}
