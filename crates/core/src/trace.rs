//! One request's way through the service, for those who look for where its time went.
//!
//! A [`Trace`] is handed along a request; each step opens a [`Span`] in it, which ends when it is
//! dropped. For a request that is not sampled both are empty and cost nothing to speak of. What a
//! span can say is the closed list [`Attribute`]: no tenant, key, digest, file name or claim has a
//! word in it, so none can leak into somebody's tracing system.

mod ids;

pub use ids::{SpanId, SpanRef, TraceId};

use crate::{RequestId, SignatureScheme};
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

/// Most links one span carries; what is beyond is left out.
pub const MAX_LINKS: usize = 128;

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
mod tests;
