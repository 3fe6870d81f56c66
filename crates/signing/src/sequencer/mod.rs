//! One writer for all logs of this node: takes everything that waits, plans it, signs one
//! checkpoint per log touched, commits once, then lets everybody go on. Other nodes do the same: a
//! flush holds the heads it plans on, and brings what others wrote since (docs/adr/0007).
//!
//! Order of durability: leaves, heads, effects and claims are one transaction; only after it does a
//! caller see its place in the log, and only then is the worker told. A commit whose result is not
//! known makes this node forget its copy of the heads; authorisations it may have written are looked
//! for and closed as `unknown`.

mod heads;
mod plan;

use crate::SigningError;
use crate::measures::{CommitLabel, Measures, RefusalReason, current_trace};
use countersign_core::measure::Label as _;
use countersign_core::ports::hsm::{Hsm, LogAdvance};
use countersign_core::ports::rows::{ClaimKey, ClaimState, LogKind};
use countersign_core::ports::store::{CommitError, Effect, Flush, Guard, Store, Wanted};
use countersign_core::trace::{Attribute, Shared, SpanName};
use countersign_core::{Clock, KeyId, LogId, Micros, NodeId, TenantId};
use countersign_signing_log::Hash;
use countersign_signing_log::leaf::LeafBody;
use heads::Heads;
pub(crate) use plan::DetailsDraft;
use plan::Plan;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Messages that may wait (a batch is one): beyond it callers get [`SigningError::Busy`].
const QUEUE: usize = 8192;
/// Submissions in one commit.
const FLUSH: usize = 512;
/// How long a patient submission waits for company. Without it the outcome of one signature and
/// the authorisation of the caller's next one would be two commits, one after the other.
const LINGER: Duration = Duration::from_millis(2);
/// How often commits of unknown result are looked at while nothing else happens.
const SUSPECTS_AGAIN: Duration = Duration::from_millis(250);
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
    pub body: LeafBody,
    /// Openings of its commitments.
    pub details: Option<DetailsDraft>,
    /// It is an authorisation: remember it as open until an outcome closes it.
    pub opens: bool,
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
    /// Nobody waits for it: it may stay for [`LINGER`], to share a commit with what somebody does
    /// wait for.
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
    fn is_patient(&self) -> bool {
        matches!(self, Self::Write(all) if all.iter().all(|(s, _)| s.patient))
    }
}

/// The last checkpoint of each key log that moved since it was last copied into its tenant's log.
pub(crate) type Moved = Arc<Mutex<HashMap<KeyId, (TenantId, String, u64, Hash)>>>;

/// The callers' end.
#[derive(Debug, Clone)]
pub(crate) struct Sequencer {
    tx: mpsc::Sender<Message>,
    moved: Moved,
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
        let frozen = Arc::<OnceLock<SigningError>>::default();
        let heads = Heads::new(config, log_seed);
        let task = Writer {
            store,
            hsm,
            clock,
            heads,
            moved: moved.clone(),
            measures: measures.clone(),
            suspects: Vec::new(),
            frozen: Arc::clone(&frozen),
        };
        tokio::spawn(task.run(rx));
        Self {
            tx,
            moved,
            measures,
            frozen,
        }
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
    pub(crate) fn take_moved(&self) -> HashMap<KeyId, (TenantId, String, u64, Hash)> {
        std::mem::take(
            &mut *self
                .moved
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        )
    }

    /// Puts one back that could not be copied, unless the log moved again meanwhile.
    pub(crate) fn moved_still(&self, key: KeyId, head: (TenantId, String, u64, Hash)) {
        self.moved
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .entry(key)
            .or_insert(head);
    }

    /// Waits until everything queued before is written.
    pub(crate) async fn stop(&self) {
        let (tx, rx) = oneshot::channel();
        if self.tx.send(Message::Stop(tx)).await.is_ok() {
            let _ = rx.await;
        }
    }
}

struct Writer {
    store: Arc<dyn Store>,
    hsm: Arc<dyn Hsm>,
    clock: Arc<dyn Clock>,
    heads: Heads,
    moved: Moved,
    measures: Arc<Measures>,
    /// Authorisations of a commit whose result is not known.
    suspects: Vec<plan::Suspect>,
    frozen: Arc<OnceLock<SigningError>>,
}

impl Writer {
    async fn run(mut self, mut rx: mpsc::Receiver<Message>) {
        let mut inbox = Vec::with_capacity(FLUSH);
        loop {
            inbox.clear();
            // Flush when idle, batch only while a commit is in flight: whatever has come meanwhile.
            let received = rx.recv_many(&mut inbox, FLUSH);
            let received = if self.suspects.is_empty() {
                Some(received.await)
            } else {
                tokio::time::timeout(SUSPECTS_AGAIN, received).await.ok()
            };
            match received {
                Some(0) => return,
                Some(_) => {}
                // Nobody asks for anything, and a retry at another node must not meet a claim that
                // nobody settles.
                None => {
                    self.close_suspects().await;
                    continue;
                }
            }
            let until = tokio::time::Instant::now() + LINGER;
            while inbox.len() < FLUSH && inbox.iter().all(Message::is_patient) {
                let room = FLUSH - inbox.len();
                // Cancel safe: what is not in the inbox is still in the queue.
                match tokio::time::timeout_at(until, rx.recv_many(&mut inbox, room)).await {
                    Ok(n) if n > 0 => {}
                    _ => break,
                }
            }
            let mut batch = Vec::with_capacity(inbox.len());
            let mut stops = Vec::new();
            let mut tells = Vec::new();
            let mut asked = Vec::new();
            for message in inbox.drain(..) {
                match message {
                    Message::Write(all) => batch.extend(all),
                    Message::Tell {
                        tenant,
                        key,
                        worker_size,
                        reply,
                    } => tells.push((tenant, key, worker_size, reply)),
                    Message::Uses { log, from, reply } => asked.push((log, from, reply)),
                    Message::Stop(r) => stops.push(r),
                }
            }
            self.close_suspects().await;
            // A message may bring many.
            while !batch.is_empty() {
                let rest = batch.split_off(batch.len().min(FLUSH));
                self.flush(std::mem::replace(&mut batch, rest)).await;
            }
            for (tenant, key, size, reply) in tells {
                let _ = reply.send(self.tell(tenant, key, size).await);
            }
            for (log, from, reply) in asked {
                let _ = reply.send(self.heads.uses(log, from));
            }
            for stop in stops {
                let _ = stop.send(());
            }
        }
    }

    /// Commits the batch; items that cannot be part of it are answered and left out.
    async fn flush(&mut self, mut batch: Vec<(Submission, Reply)>) {
        while !batch.is_empty() {
            let began = Instant::now();
            let Some((flush, plan)) = self.plan(&mut batch).await else {
                continue;
            };
            let commit = plan.commit.clone();
            countersign_core::failpoint::hit("server.before-commit");
            let mut span = Shared::step(SpanName::Flush, batch.iter().map(|(s, _)| &s.waiting));
            span.since(began);
            span.say(|| Attribute::Submissions(batch.len() as u64));
            let result = flush.commit(self.clock.now(), commit).await;
            self.measures.commit.observe(began.elapsed());
            self.measures.commit_size.observe_value(batch.len() as u64);
            match &result {
                Ok(()) => self.measures.committed(),
                Err(e) => {
                    let label = CommitLabel::from(e);
                    self.measures.commits.inc(label);
                    span.fail(label.label());
                    self.heads.forget_unborn();
                }
            }
            drop(span);
            match result {
                Ok(()) => {
                    countersign_core::failpoint::hit("server.after-commit");
                    self.done(plan, batch);
                    return;
                }
                Err(CommitError::Guard(g)) => {
                    refuse(&mut batch, |s| s.guard == Some(g), &Refused::Stale)
                }
                Err(CommitError::ClaimTaken { item }) => {
                    // A batch that comes again mostly has all its claims: they look together, not
                    // one after each try.
                    let taken = batch.get(item).map_or(0, |(s, _)| s.batch);
                    if taken == 0 {
                        refuse_item(&mut batch, item, Refused::ClaimTaken);
                    } else {
                        refuse(&mut batch, |s| s.batch == taken, &Refused::ClaimTaken);
                    }
                }
                Err(CommitError::Conflict { item, what }) => {
                    refuse_item(
                        &mut batch,
                        item,
                        Refused::Error(SigningError::Conflict { what }),
                    );
                }
                Err(CommitError::NotOpen { log, index }) => {
                    refuse(
                        &mut batch,
                        |s| s.closes.contains(&(log, index)),
                        &Refused::Closed,
                    );
                }
                Err(CommitError::HeadMoved { log }) => {
                    // What was made on the old head is dropped with the plan: no checkpoint signed
                    // here was shown to anybody.
                    tracing::warn!(%log, "a log's head was not where it was planned: dropping our copy");
                    self.heads.forget(log);
                    let e = Refused::Error(SigningError::Unavailable(
                        "the log was written by another node at the same moment".into(),
                    ));
                    refuse(&mut batch, |s| s.drafts.iter().any(|d| d.log == log), &e);
                }
                Err(CommitError::Buried) => self.buried(&mut batch),
                Err(e @ CommitError::Unavailable(_)) => {
                    refuse(&mut batch, |_| true, &Refused::Error(SigningError::from(e)));
                }
                Err(e @ CommitError::Unknown(_)) => {
                    tracing::error!(error = %e, "commit result unknown: reloading heads");
                    self.suspects.extend(plan.suspects());
                    self.heads.forget_all();
                    refuse(&mut batch, |_| true, &Refused::Error(SigningError::from(e)));
                }
            }
        }
    }

    /// Nothing of this node is written any more.
    fn buried(&mut self, batch: &mut Vec<(Submission, Reply)>) {
        if self.frozen.set(SigningError::Buried).is_ok() {
            tracing::error!("this node stalled past its lease and was declared dead");
        }
        refuse(batch, |_| true, &Refused::Error(SigningError::Buried));
    }

    /// Begins a flush and plans the batch on the heads it holds; items that cannot be part of it
    /// are answered and removed. `None`: plan again.
    async fn plan(
        &mut self,
        batch: &mut Vec<(Submission, Reply)>,
    ) -> Option<(Box<dyn Flush>, Plan)> {
        self.heads.make_room();
        let (tenants, wanted) = self.wanted(batch.iter().map(|(s, _)| s));
        let mut flush = match self.store.flush(self.heads.node(), tenants, wanted).await {
            Ok(flush) => flush,
            Err(CommitError::Buried) => {
                self.buried(batch);
                return None;
            }
            Err(e) => {
                refuse(batch, |_| true, &Refused::Error(SigningError::from(e)));
                return None;
            }
        };
        for moved in flush.moved() {
            let log = moved.head.log;
            if let Err(e) = self.heads.take_up(moved) {
                self.heads.forget(log);
                refuse(
                    batch,
                    |s| s.drafts.iter().any(|d| d.log == log),
                    &Refused::Error(e),
                );
                return None;
            }
        }
        for i in 0..batch.len() {
            let Some((submission, _)) = batch.get(i) else {
                break;
            };
            if let Err(e) = find_heads(&mut self.heads, submission) {
                refuse_item(batch, i, Refused::Error(e));
                return None;
            }
        }
        match Plan::build(&self.heads, batch.iter().map(|(s, _)| s), self.clock.now()) {
            Ok(plan) => Some((flush, plan)),
            Err((item, why)) => {
                refuse_item(batch, item, why);
                None
            }
        }
    }

    /// What a flush of these submissions is about.
    fn wanted<'a>(
        &self,
        submissions: impl Iterator<Item = &'a Submission>,
    ) -> (Vec<TenantId>, Vec<Wanted>) {
        let mut tenants = HashSet::new();
        let mut logs = HashSet::new();
        let mut wanted = Vec::new();
        for submission in submissions {
            tenants.extend(submission.guard.map(|g| g.tenant));
            tenants.extend(submission.effects.iter().filter_map(Effect::tenant));
            for draft in &submission.drafts {
                tenants.insert(draft.tenant);
                if logs.insert(draft.log) {
                    wanted.push(Wanted {
                        tenant: draft.tenant,
                        log: draft.log,
                        known: self.heads.known(draft.log),
                    });
                }
            }
        }
        (tenants.into_iter().collect(), wanted)
    }

    /// After the commit: heads move, workers are told, callers go on. In this order, so that a
    /// caller's sign order always finds its leaf already announced to the worker.
    fn done(&mut self, plan: Plan, batch: Vec<(Submission, Reply)>) {
        for open in &plan.commit.opens {
            self.heads.opened(open.log, open.index);
        }
        for (log, index) in &plan.commit.closes {
            self.heads.closed(*log, *index);
        }
        for log in plan.logs {
            let size = log.frontier.size();
            let (from_size, leaf_hashes) = self.heads.moved(
                log.log,
                log.frontier,
                log.checkpoint.clone(),
                log.last_time,
                log.leaf_hashes,
            );
            if log.kind == LogKind::Key {
                let key = KeyId(log.log.0);
                self.measures.key_log_moved();
                self.hsm.advance(
                    log.tenant,
                    LogAdvance {
                        key,
                        from_size,
                        checkpoint: log.checkpoint,
                        leaf_hashes,
                        uses: self.heads.uses(log.log, from_size),
                    },
                );
                self.moved
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner)
                    .insert(key, (log.tenant, log.origin.to_string(), size, log.root));
            }
        }
        countersign_core::failpoint::hit("server.after-announce");
        for ((_, reply), placed) in batch.into_iter().zip(plan.placed) {
            let _ = reply.send(Ok(placed));
        }
    }

    /// Hands the worker the leaf hashes from its size to the log's.
    async fn tell(
        &mut self,
        tenant: TenantId,
        key: KeyId,
        worker_size: u64,
    ) -> Result<(), SigningError> {
        let log = LogId::from(key);
        let head = self
            .store
            .head(tenant, log)
            .await?
            .ok_or(SigningError::NotFound)?;
        let size = head.size;
        if worker_size > size {
            return Err(SigningError::HistoryRewound {
                log,
                worker: worker_size,
                database: size,
            });
        }
        if worker_size == size {
            return Ok(());
        }
        let mut leaf_hashes = Vec::new();
        let mut from = worker_size;
        while from < size && size - worker_size <= NEAR {
            let count = u32::try_from((size - from).min(256)).unwrap_or(256);
            let part = self.store.hashes(tenant, log, 0, from, count).await?;
            if part.is_empty() {
                return Err(SigningError::Internal(format!(
                    "log {log} has no leaf hash {from}"
                )));
            }
            from += part.len() as u64;
            leaf_hashes.extend(part);
        }
        if from < size {
            return Err(SigningError::Unavailable("the worker is far behind".into()));
        }
        self.heads.told(log, size);
        self.hsm.advance(
            tenant,
            LogAdvance {
                key,
                from_size: worker_size,
                checkpoint: head.checkpoint.into(),
                leaf_hashes,
                uses: self.heads.uses(log, worker_size),
            },
        );
        Ok(())
    }

    /// Authorisations that a commit of unknown result may have written are closed as `unknown`. One
    /// that cannot be looked at or closed now is kept for the next round.
    async fn close_suspects(&mut self) {
        for suspect in std::mem::take(&mut self.suspects) {
            let done = match self.was_written(&suspect).await {
                Some(true) => {
                    let (reply, answer) = oneshot::channel();
                    let close =
                        crate::recovery::close_as_unknown(&suspect.open(), "commit-unknown");
                    self.flush(vec![(close, reply)]).await;
                    matches!(answer.await, Ok(Ok(_) | Err(Refused::Closed)))
                }
                Some(false) => true,
                None => false,
            };
            if !done {
                self.suspects.push(suspect);
            }
        }
    }

    /// Whether a commit of unknown result wrote this leaf; `None` if that cannot be found out now.
    ///
    /// A database server may still be at work on a commit whose connection broke: who looks too early
    /// sees nothing, and the leaf that came a moment later would stay open as long as this node
    /// lives. That commit holds the log's head until it has ended, so we look with the head in hand.
    async fn was_written(&mut self, suspect: &plan::Suspect) -> Option<bool> {
        let wanted = Wanted {
            tenant: suspect.tenant,
            log: suspect.log,
            known: None,
        };
        let held = self
            .store
            .flush(self.heads.node(), vec![suspect.tenant], vec![wanted])
            .await;
        let held = match held {
            Ok(held) => held,
            // Others close what this node left open.
            Err(CommitError::Buried) => return Some(false),
            Err(_) => return None,
        };
        let found = self
            .store
            .leaves(suspect.tenant, suspect.log, suspect.index, 1)
            .await;
        drop(held);
        Some(found.ok()?.first() == Some(&suspect.leaf))
    }
}

/// Makes sure that the head of each log written is here, or the log is about to be opened.
fn find_heads(heads: &mut Heads, submission: &Submission) -> Result<(), SigningError> {
    for draft in &submission.drafts {
        match heads.get(draft.log) {
            Some(head) if head.tenant == draft.tenant => {}
            Some(_) => return Err(SigningError::NotFound),
            None => {
                let kind = opened_kind(&draft.body).ok_or(SigningError::NotFound)?;
                heads.unborn(draft.tenant, draft.log, kind)?;
            }
        }
    }
    Ok(())
}

/// The kind and key facts of a leaf that opens a log.
fn opened_kind(body: &LeafBody) -> Option<LogKind> {
    match body {
        LeafBody::LogOpened(opened) if opened.key.is_some() => Some(LogKind::Key),
        LeafBody::LogOpened(_) => Some(LogKind::Tenant),
        _ => None,
    }
}

fn refuse(
    batch: &mut Vec<(Submission, Reply)>,
    which: impl Fn(&Submission) -> bool,
    why: &Refused,
) {
    for (submission, reply) in std::mem::take(batch) {
        if which(&submission) {
            let _ = reply.send(Err(why.clone()));
        } else {
            batch.push((submission, reply));
        }
    }
}

fn refuse_item(batch: &mut Vec<(Submission, Reply)>, item: usize, why: Refused) {
    if item < batch.len() {
        let (_, reply) = batch.remove(item);
        let _ = reply.send(Err(why));
    } else {
        // A store that names an item we did not send is broken: do not loop on it.
        refuse(
            batch,
            |_| true,
            &Refused::Error(SigningError::Internal(
                "the store named an unknown item".into(),
            )),
        );
    }
}
