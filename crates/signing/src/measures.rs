//! What the service counts of itself, and the trace of the request under way.
//!
//! Nothing here says whose: labels are closed lists (`core::measure`), spans too (`core::trace`).

mod labels;

pub use labels::*;

use crate::SigningError;
use countersign_core::measure::{
    Counter, Counters, Counters2, Gauge, Histogram, Label, Report, Sink, Type,
};
use countersign_core::trace::Trace;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

tokio::task_local! {
    static TRACE: Trace;
}

/// Runs work as part of a request's trace.
pub fn traced<F: Future>(trace: Trace, work: F) -> impl Future<Output = F::Output> {
    TRACE.scope(trace, work)
}

/// The trace of the request this task works for; empty outside of one.
#[must_use]
pub fn current_trace() -> Trace {
    TRACE.try_with(Trace::clone).unwrap_or_default()
}

/// The service's instruments, of this node since it started.
#[derive(Debug)]
pub struct Measures {
    started: Instant,
    /// Authorisation leaves that became durable.
    pub authorisations: Counters<Content>,
    /// Signatures that were verified and answered.
    pub signatures: Counters2<SchemeLabel, Content>,
    /// Requests to sign, or items of a batch, that got no signature.
    pub refusals: Counters<RefusalReason>,
    /// Outcome leaves that became durable.
    pub outcomes: Counters<OutcomeLabel>,
    /// Answers given again for an idempotency key.
    pub repeats: Counter,
    /// Evidence that was kept and named a device which is known under other subscribers too.
    pub shared_devices: Counter,
    /// Items in a request to sign.
    pub batch: Histogram,
    /// Authorisations of this node without a durable outcome.
    pub open: Gauge,
    /// Deciding: content, grants, states.
    pub decide: Histogram,
    /// Waiting for the commit of a log entry, from handing it in to durable.
    pub commit_wait: Histogram,
    /// The database's commit itself.
    pub commit: Histogram,
    /// Requests in one commit.
    pub commit_size: Histogram,
    /// Commits, by what became of them.
    pub commits: Counters<CommitLabel>,
    /// Calls of a worker's `sign`, as seen from here.
    pub worker: Histogram,
    /// Of those, waiting for a session in the worker.
    pub worker_queue: Histogram,
    /// Of those, in the module's `C_Sign`.
    pub hsm: Histogram,
    /// The whole of a request to sign, from the service's door to its answer.
    pub sign: Histogram,
    /// This node's clock less the database's, in microseconds, at the last renewal of its lease.
    pub skew_us: Gauge,
    /// Certificates of active keys, set by whoever watches them.
    pub certificates: CertificateCounts,
    /// When the last commit became durable.
    last_commit: Moment,
    /// When the first key log moved that waits to be copied into its tenant's log.
    moved: Moment,
    /// The same, for what is being copied at this moment.
    copying: Moment,
}

/// How many certificates are near their end.
#[derive(Debug)]
pub struct CertificateCounts([Gauge; CertificateLabel::ALL.len()]);

impl CertificateCounts {
    /// Now it is so many.
    pub fn set(&self, which: CertificateLabel, count: usize) {
        if let Some(gauge) = self.0.get(which.index()) {
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}

/// A moment since the start, or none: nanoseconds, zero for none.
#[derive(Debug, Default)]
struct Moment(AtomicU64);

impl Moment {
    fn nanos(started: Instant) -> u64 {
        u64::try_from(started.elapsed().as_nanos())
            .unwrap_or(u64::MAX)
            .max(1)
    }

    fn now(&self, started: Instant) {
        self.0.store(Self::nanos(started), Ordering::Relaxed);
    }

    /// Sets it unless it is set.
    fn first(&self, started: Instant) {
        if self.0.load(Ordering::Relaxed) == 0 {
            let now = Self::nanos(started);
            let _ = self
                .0
                .compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    fn take(&self) -> u64 {
        self.0.swap(0, Ordering::Relaxed)
    }

    fn age(&self, started: Instant) -> Option<Duration> {
        let at = self.0.load(Ordering::Relaxed);
        (at != 0).then(|| Duration::from_nanos(Self::nanos(started).saturating_sub(at)))
    }
}

impl Default for Measures {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            authorisations: Counters::default(),
            signatures: Counters2::default(),
            refusals: Counters::default(),
            outcomes: Counters::default(),
            repeats: Counter::default(),
            shared_devices: Counter::default(),
            batch: Histogram::sizes(),
            open: Gauge::default(),
            decide: Histogram::seconds(),
            commit_wait: Histogram::seconds(),
            commit: Histogram::seconds(),
            commit_size: Histogram::sizes(),
            commits: Counters::default(),
            worker: Histogram::seconds(),
            worker_queue: Histogram::seconds(),
            hsm: Histogram::seconds(),
            sign: Histogram::seconds(),
            skew_us: Gauge::default(),
            certificates: CertificateCounts(std::array::from_fn(|_| Gauge::default())),
            last_commit: Moment::default(),
            moved: Moment::default(),
            copying: Moment::default(),
        }
    }
}

impl Measures {
    /// A request to sign is over, or one item of a batch.
    pub(crate) fn signed<T>(&self, began: Instant, result: &Result<T, SigningError>) {
        self.sign.observe(began.elapsed());
        if let Err(error) = result {
            self.refusals.inc(error.into());
        }
    }

    /// A commit is durable.
    pub(crate) fn committed(&self) {
        self.commits.inc(CommitLabel::Done);
        self.last_commit.now(self.started);
    }

    /// A key log moved; its head waits to be copied into the tenant's log.
    pub(crate) fn key_log_moved(&self) {
        self.moved.first(self.started);
    }

    /// What moved is being copied.
    pub(crate) fn copying(&self) {
        let oldest = self.moved.take();
        if oldest != 0 {
            // Something of an earlier round that could not be copied is older.
            let _ =
                self.copying
                    .0
                    .compare_exchange(0, oldest, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// All that moved before [`Self::copying`] is copied, or some of it is not.
    pub(crate) fn copied(&self, all: bool) {
        if all {
            self.copying.take();
        }
    }

    /// How long the oldest movement of a key log has waited to be copied into its tenant's log.
    #[must_use]
    pub fn log_age(&self) -> Duration {
        let ages = [&self.moved, &self.copying].map(|m| m.age(self.started));
        ages.into_iter().flatten().max().unwrap_or_default()
    }

    /// How long ago this node committed last; since its start, if never.
    #[must_use]
    pub fn commit_age(&self) -> Duration {
        self.last_commit
            .age(self.started)
            .unwrap_or_else(|| self.started.elapsed())
    }
}

impl Report for Measures {
    fn report(&self, to: &mut dyn Sink) {
        to.counters(
            "countersign_authorisations_total",
            "Authorisation leaves that became durable, by type of content.",
            "content",
            &self.authorisations,
        );
        to.counters2(
            "countersign_signatures_total",
            "Signatures made, verified and answered, by scheme and type of content.",
            ("algorithm", "content"),
            &self.signatures,
        );
        to.counters(
            "countersign_refusals_total",
            "Requests to sign (or items of a batch) that got no signature, by reason.",
            "reason",
            &self.refusals,
        );
        to.counters(
            "countersign_outcomes_total",
            "Outcome leaves that became durable, by result.",
            "result",
            &self.outcomes,
        );
        to.counter(
            "countersign_idempotent_repeats_total",
            "Answers given again for an Idempotency-Key, without a second signature.",
            &self.repeats,
        );
        to.counter(
            "countersign_shared_devices_total",
            "Evidence kept whose device is known under other subscribers too.",
            &self.shared_devices,
        );
        to.histogram(
            "countersign_batch_items",
            "Items in one request to sign.",
            &self.batch,
        );
        to.gauge(
            "countersign_open_authorisations",
            "Authorisations of this node that have no durable outcome yet.",
            &self.open,
        );
        let spans = [
            (
                "countersign_sign_seconds",
                "A request to sign (or an item of a batch), from the service's door to its answer or refusal.",
                &self.sign,
            ),
            (
                "countersign_decide_seconds",
                "Deciding: typed content, grants, states of key and certificate.",
                &self.decide,
            ),
            (
                "countersign_commit_wait_seconds",
                "Waiting for a log entry to become durable.",
                &self.commit_wait,
            ),
            (
                "countersign_commit_seconds",
                "One commit of the database, of everything that waited.",
                &self.commit,
            ),
            (
                "countersign_worker_seconds",
                "A signature asked of a token's worker, as seen from the server.",
                &self.worker,
            ),
            (
                "countersign_queue_seconds",
                "Waiting in the worker for a session of the token.",
                &self.worker_queue,
            ),
            ("countersign_hsm_seconds", "The module's C_Sign.", &self.hsm),
        ];
        for (name, help, histogram) in spans {
            to.histogram(name, help, histogram);
        }
        to.histogram(
            "countersign_commit_requests",
            "Requests that shared one commit.",
            &self.commit_size,
        );
        to.counters(
            "countersign_commits_total",
            "Commits, by what became of them.",
            "result",
            &self.commits,
        );
        to.gauge_value(
            "countersign_log_age_seconds",
            "How long the oldest movement of a key's log has waited to be copied into its tenant's log; 0 if none waits.",
            self.log_age().as_secs_f64(),
        );
        to.gauge_value(
            "countersign_last_commit_age_seconds",
            "How long ago this node committed last; since its start, if never.",
            self.commit_age().as_secs_f64(),
        );
        #[allow(clippy::cast_precision_loss, reason = "exact up to 2^53")]
        to.gauge_value(
            "countersign_clock_skew_seconds",
            "How far this node's clock is ahead of the database's; 0 where the node is alone.",
            self.skew_us.get() as f64 / 1e6,
        );
        to.metric(
            "countersign_certificates",
            Type::Gauge,
            "What needs attention: certificates near their end, revocation lists that cannot be had.",
        );
        for (which, gauge) in CertificateLabel::ALL.iter().zip(&self.certificates.0) {
            #[allow(clippy::cast_precision_loss, reason = "exact up to 2^53")]
            to.value(&[("state", which.label())], gauge.get() as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_core::{HashAlgorithm, SignatureScheme};

    #[test]
    fn each_scheme_has_its_place() {
        for (at, scheme) in SchemeLabel::ALL.iter().enumerate() {
            assert_eq!(scheme.index(), at);
        }
    }

    #[test]
    fn the_log_is_as_old_as_the_oldest_that_waits() {
        let m = Measures::default();
        assert_eq!(m.log_age(), Duration::ZERO);
        m.key_log_moved();
        std::thread::sleep(Duration::from_millis(2));
        m.copying();
        m.key_log_moved();
        // What is being copied is older than what moved since.
        assert!(m.log_age() >= Duration::from_millis(2));
        m.copied(false);
        assert!(m.log_age() >= Duration::from_millis(2));
        m.copying();
        m.copied(true);
        assert_eq!(m.log_age(), Duration::ZERO);
    }

    #[tokio::test]
    async fn a_task_without_a_request_has_no_trace() {
        assert!(!current_trace().is_on());
        traced(Trace::off(), async { assert!(!current_trace().is_on()) }).await;
    }

    /// What a signature pays for being counted. Prints; fails only if it is out of proportion.
    #[test]
    fn counting_costs_nanoseconds() {
        let m = Measures::default();
        let scheme = SchemeLabel(SignatureScheme::Ecdsa(HashAlgorithm::Sha256));
        let rounds = 100_000_u32;
        let began = Instant::now();
        for _ in 0..rounds {
            // All that one signature adds to.
            let at = Instant::now();
            m.authorisations.inc(Content::Cms);
            m.open.add(1);
            m.decide.observe(at.elapsed());
            m.commit_wait.observe(at.elapsed());
            m.worker.observe(at.elapsed());
            m.worker_queue.observe(Duration::from_micros(3));
            m.hsm.observe(Duration::from_micros(45));
            m.signatures.inc(scheme, Content::Cms);
            m.outcomes.inc(OutcomeLabel::Signed);
            m.open.add(-1);
            m.key_log_moved();
            m.signed::<()>(at, &Ok(()));
        }
        let each = began.elapsed() / rounds;
        println!("counting one signature: {each:?}");
        assert!(each < Duration::from_micros(50), "{each:?}");
    }
}
