//! One writer for all logs of this node: takes everything that waits, plans it, signs one
//! checkpoint per log touched, commits once, then lets everybody go on. Other nodes do the same: a
//! flush holds the heads it plans on, and brings what others wrote since (docs/adr/0007).
//!
//! Order of durability: leaves, heads, effects and claims are one transaction; only after it does a
//! caller see its place in the log, and only then is the worker told. A commit whose result is not
//! known makes this node forget its copy of the heads; authorisations it may have written are looked
//! for and closed as `unknown`.

mod heads;
mod pace;
mod plan;
mod writer;

use crate::SigningError;
use crate::measures::{Measures, RefusalReason, current_trace};
use countersign_core::measure::Label as _;
use countersign_core::ports::hsm::Hsm;
use countersign_core::ports::rows::{ClaimKey, ClaimState};
use countersign_core::ports::store::{Effect, Guard, Store};
use countersign_core::trace::{Shared, SpanName};
use countersign_core::{Clock, KeyId, LogId, Micros, NodeId, TenantId};
use countersign_signing_log::Hash;
use countersign_signing_log::leaf::LeafBody;
use heads::Heads;
pub(crate) use pace::Pace;
pub(crate) use plan::DetailsDraft;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use writer::Writer;

/// Messages that may wait (a batch is one): beyond it callers get [`SigningError::Busy`].
const QUEUE: usize = 8192;
/// Submissions in one commit.
const FLUSH: usize = 512;
/// How long a patient submission waits for company, at least. Without it the outcome of one signature and
/// the authorisation of the caller's next one would be two commits, one after the other.
const LINGER: Duration = Duration::from_millis(2);
/// How far the worker may be behind before it is brought up by a proof instead of leaf hashes.
pub(crate) const NEAR: u64 = 4096;

/// Where the sequencer's settings come from.
#[derive(Debug, Clone)]
pub(crate) struct SequencerConfig {
    /// `host/log`: a log's origin is `<origin_prefix>/<log id>`.
    pub origin_prefix: String,
    /// This run of this process.
    pub node: NodeId,
}

/// A leaf to be written.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    /// Whose.
    pub tenant: TenantId,
    /// Which log.
    pub log: LogId,
    /// The leaf without its time.
    pub body: Says,
    /// Openings of its commitments.
    pub details: Option<DetailsDraft>,
    /// It is an authorisation: remember it as open until an outcome closes it.
    pub opens: bool,
}

/// What a leaf will say.
#[derive(Debug, Clone)]
pub(crate) enum Says {
    /// This.
    Leaf(Box<LeafBody>),
    /// The head of a key's log as it stands when the leaf is written, not when it was asked for:
    /// two nodes' statements in one tenant's log never go back.
    KeyHead(KeyId),
}

impl Says {
    /// The log whose head it states.
    fn states(&self) -> Option<LogId> {
        match self {
            Self::Leaf(_) => None,
            Self::KeyHead(key) => Some((*key).into()),
        }
    }
}

impl From<LeafBody> for Says {
    fn from(body: LeafBody) -> Self {
        Self::Leaf(Box::new(body))
    }
}

/// A claim as the pipeline knows it: log and index are filled in here.
#[derive(Debug, Clone)]
pub(crate) enum ClaimDraft {
    /// First attempt.
    First {
        /// Which.
        key: ClaimKey,
        /// What was asked.
        body: [u8; 32],
        /// When it may be forgotten.
        expires: Micros,
    },
    /// Attempt `attempt`, after one that went unanswered.
    Again {
        /// Which.
        key: ClaimKey,
        /// What was asked.
        body: [u8; 32],
        /// This attempt's number.
        attempt: u32,
        /// When it may be forgotten.
        expires: Micros,
    },
    /// The outcome.
    Settle {
        /// Which.
        key: ClaimKey,
        /// Log of the authorisation.
        log: LogId,
        /// Index of the authorisation leaf.
        index: u64,
        /// What became of it.
        state: ClaimState,
    },
}

/// What one request wants written, all or nothing.
#[derive(Debug, Default)]
pub(crate) struct Submission {
    /// Leaves.
    pub drafts: Vec<Draft>,
    /// The version of the tenant on which it was decided.
    pub guard: Option<Guard>,
    /// Changes.
    pub effects: Vec<Effect>,
    /// Claim.
    pub claim: Option<ClaimDraft>,
    /// Those of one batch have one number; 0 stands alone.
    pub batch: u64,
    /// Authorisations closed by these leaves.
    pub closes: Vec<(LogId, u64)>,
    /// Nobody waits for it: it may stay for [`LINGER`], or for as long as authorisations may
    /// ([`Pace`]), to share a commit with what somebody does wait for.
    pub patient: bool,
    /// The span that waits, where there is one.
    pub waiting: Shared,
}

/// Where a leaf landed.
#[derive(Debug, Clone)]
pub(crate) struct Placed {
    /// Index in its log.
    pub index: u64,
    /// Exact bytes.
    pub leaf: Vec<u8>,
    /// The checkpoint that covers it.
    pub checkpoint: Arc<str>,
    /// Inclusion proof in that checkpoint's tree.
    pub proof: Vec<Hash>,
    /// The log's origin.
    pub origin: Arc<str>,
}

/// Why a submission was not written.
#[derive(Debug, Clone)]
pub(crate) enum Refused {
    /// Decide again on the tenant's present version.
    Stale,
    /// The idempotency key is taken: look at its row.
    ClaimTaken,
    /// The authorisation has its outcome already: nothing is left to do.
    Closed,
    /// Everything else.
    Error(SigningError),
}

impl Refused {
    /// For a span: which kind.
    fn code(&self) -> &'static str {
        match self {
            Self::Stale => "stale",
            Self::ClaimTaken => "claim-taken",
            Self::Closed => "closed",
            Self::Error(e) => RefusalReason::from(e).label(),
        }
    }
}

impl From<Refused> for SigningError {
    fn from(r: Refused) -> Self {
        match r {
            Refused::Stale => {
                Self::conflict("somebody else changed this tenant at the same moment: try again")
            }
            Refused::ClaimTaken => Self::IdempotencyInFlight,
            Refused::Closed => Self::conflict("the authorisation has its outcome already"),
            Refused::Error(e) => e,
        }
    }
}

type Reply = oneshot::Sender<Result<Vec<Placed>, Refused>>;

enum Message {
    Write(Vec<(Submission, Reply)>),
    /// Tell the worker of all leaves from its size on; it is not further behind than [`NEAR`].
    Tell {
        tenant: TenantId,
        key: KeyId,
        worker_size: u64,
        reply: oneshot::Sender<Result<(), SigningError>>,
    },
    /// Authorisations of this node's in a log, from an index on, that have no outcome yet.
    Uses {
        log: LogId,
        from: u64,
        reply: oneshot::Sender<Vec<u64>>,
    },
    /// Answered when everything queued before it is written.
    Stop(oneshot::Sender<()>),
}

impl Message {
    /// How long it may wait for others to share its commit.
    fn patience(&self, pace: &Pace) -> Duration {
        match self {
            Self::Write(all) => all.iter().map(|(s, _)| s.patience(pace)).min(),
            _ => None,
        }
        .unwrap_or_default()
    }
}

impl Submission {
    fn patience(&self, pace: &Pace) -> Duration {
        match self.drafts.first() {
            Some(draft) if self.patient => LINGER.max(pace.patience(draft.tenant)),
            Some(draft) if draft.opens => pace.patience(draft.tenant),
            _ => Duration::ZERO,
        }
    }
}

/// Key logs that moved since their head was last copied into their tenant's log.
pub(crate) type Moved = Arc<Mutex<HashMap<KeyId, TenantId>>>;

/// The callers' end.
#[derive(Debug, Clone)]
pub(crate) struct Sequencer {
    tx: mpsc::Sender<Message>,
    moved: Moved,
    pace: Arc<Pace>,
    measures: Arc<Measures>,
    frozen: Arc<OnceLock<SigningError>>,
}

impl Sequencer {
    /// Starts the one task that writes.
    pub(crate) fn start(
        config: SequencerConfig,
        store: Arc<dyn Store>,
        hsm: Arc<dyn Hsm>,
        clock: Arc<dyn Clock>,
        log_seed: [u8; 32],
        measures: Arc<Measures>,
    ) -> Self {
        let (tx, rx) = mpsc::channel(QUEUE);
        let moved = Moved::default();
        let pace = Arc::<Pace>::default();
        let frozen = Arc::<OnceLock<SigningError>>::default();
        let heads = Heads::new(config, log_seed);
        let task = Writer {
            store,
            hsm,
            clock,
            heads,
            moved: moved.clone(),
            pace: Arc::clone(&pace),
            measures: measures.clone(),
            suspects: Vec::new(),
            frozen: Arc::clone(&frozen),
        };
        tokio::spawn(task.run(rx));
        Self {
            tx,
            moved,
            pace,
            measures,
            frozen,
        }
    }

    /// The lines before the tokens.
    pub(crate) fn pace(&self) -> &Pace {
        &self.pace
    }

    /// From now on nothing is written in this run, for this reason.
    pub(crate) fn freeze(&self, why: &SigningError) {
        let _ = self.frozen.set(why.clone());
    }

    /// Why nothing is written, if so.
    pub(crate) fn frozen(&self) -> Option<&SigningError> {
        self.frozen.get()
    }

    fn open(&self) -> Result<(), Refused> {
        self.frozen()
            .map_or(Ok(()), |why| Err(Refused::Error(why.clone())))
    }

    /// Writes and waits until it is durable.
    pub(crate) async fn write(&self, mut submission: Submission) -> Result<Vec<Placed>, Refused> {
        self.open()?;
        let began = Instant::now();
        let mut span = current_trace().span(SpanName::Commit);
        submission.waiting = Shared::by(&span);
        let waiting = submission.waiting.clone();
        let (reply, answer) = oneshot::channel();
        self.tx
            .try_send(Message::Write(vec![(submission, reply)]))
            .map_err(|_| Refused::Error(SigningError::Busy))?;
        let written = answer.await.map_err(|_| {
            Refused::Error(SigningError::Unavailable(
                "the log writer has stopped".into(),
            ))
        })?;
        waiting.link(&mut span);
        match &written {
            Ok(_) => self.measures.commit_wait.observe(began.elapsed()),
            Err(refused) => span.fail(refused.code()),
        }
        written
    }

    /// As [`Self::write`] for several at once, each on its own feet: they reach the writer
    /// together, so that they share a commit. The answers are in order.
    pub(crate) async fn write_together(
        &self,
        mut submissions: Vec<Submission>,
    ) -> Vec<Result<Vec<Placed>, Refused>> {
        static BATCHES: AtomicU64 = AtomicU64::new(1);
        let count = submissions.len();
        if count == 0 {
            return Vec::new();
        }
        let all = |e: Refused| (0..count).map(|_| Err(e.clone())).collect();
        if let Err(e) = self.open() {
            return all(e);
        }
        let began = Instant::now();
        let mut span = current_trace().span(SpanName::Commit);
        let waiting = Shared::by(&span);
        for s in &mut submissions {
            s.waiting = waiting.clone();
        }
        if count > 1 {
            let batch = BATCHES.fetch_add(1, Ordering::Relaxed);
            for s in &mut submissions {
                s.batch = batch;
            }
        }
        let (messages, answers): (Vec<_>, Vec<_>) = submissions
            .into_iter()
            .map(|s| {
                let (reply, answer) = oneshot::channel();
                ((s, reply), answer)
            })
            .unzip();
        if self.tx.try_send(Message::Write(messages)).is_err() {
            return all(Refused::Error(SigningError::Busy));
        }
        let mut results = Vec::with_capacity(count);
        for answer in answers {
            results.push(answer.await.unwrap_or_else(|_| {
                Err(Refused::Error(SigningError::Unavailable(
                    "the log writer has stopped".into(),
                )))
            }));
        }
        waiting.link(&mut span);
        match results.iter().find_map(|r| r.as_ref().err()) {
            None => self.measures.commit_wait.observe(began.elapsed()),
            Some(refused) => span.fail(refused.code()),
        }
        results
    }

    /// As [`Self::write`], but waits for a place in the queue: for outcomes, which are never shed.
    pub(crate) async fn write_surely(
        &self,
        submission: Submission,
    ) -> Result<Vec<Placed>, Refused> {
        self.open()?;
        let (reply, answer) = oneshot::channel();
        let gone = || {
            Refused::Error(SigningError::Unavailable(
                "the log writer has stopped".into(),
            ))
        };
        self.tx
            .send(Message::Write(vec![(submission, reply)]))
            .await
            .map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Tells a worker of the leaves it has not seen, in order with the flushes.
    pub(crate) async fn tell_worker(
        &self,
        tenant: TenantId,
        key: KeyId,
        worker_size: u64,
    ) -> Result<(), SigningError> {
        let (reply, answer) = oneshot::channel();
        let gone = |()| SigningError::Unavailable("the log writer has stopped".into());
        self.tx
            .send(Message::Tell {
                tenant,
                key,
                worker_size,
                reply,
            })
            .await
            .map_err(|_| gone(()))?;
        answer.await.map_err(|_| gone(()))?
    }

    /// Authorisations of this node's in a log, from an index on, that a worker may perform.
    pub(crate) async fn uses(&self, log: LogId, from: u64) -> Result<Vec<u64>, SigningError> {
        let (reply, answer) = oneshot::channel();
        let gone = || SigningError::Unavailable("the log writer has stopped".into());
        self.tx
            .send(Message::Uses { log, from, reply })
            .await
            .map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }

    /// Key logs that moved since the last call.
    pub(crate) fn take_moved(&self) -> HashMap<KeyId, TenantId> {
        std::mem::take(
            &mut *self
                .moved
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        )
    }

    /// Puts one back that could not be copied.
    pub(crate) fn moved_still(&self, key: KeyId, tenant: TenantId) {
        self.moved
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .insert(key, tenant);
    }

    /// Waits until everything queued before is written.
    pub(crate) async fn stop(&self) {
        let (tx, rx) = oneshot::channel();
        if self.tx.send(Message::Stop(tx)).await.is_ok() {
            let _ = rx.await;
        }
    }
}
