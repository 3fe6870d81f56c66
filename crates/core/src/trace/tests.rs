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
