//! The one task that writes: takes what waits, plans it on the heads it holds, commits, tells.

use super::heads::Heads;
use super::plan::{self, After, Plan};
use super::{FLUSH, Message, Moved, NEAR, Pace, Refused, Reply, Says, Submission, pace};
use crate::SigningError;
use crate::measures::{CommitLabel, Measures};
use countersign_core::measure::Label as _;
use countersign_core::ports::hsm::{Hsm, LogAdvance};
use countersign_core::ports::rows::LogKind;
use countersign_core::ports::store::{CommitError, Effect, Flush, Store, Wanted};
use countersign_core::trace::{Attribute, Shared, SpanName};
use countersign_core::{Clock, KeyId, LogId, TenantId};
use countersign_signing_log::leaf::LeafBody;
use std::collections::HashSet;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// How often commits of unknown result are looked at while nothing else happens.
const SUSPECTS_AGAIN: Duration = Duration::from_millis(250);

pub(super) struct Writer {
    pub(super) store: Arc<dyn Store>,
    pub(super) hsm: Arc<dyn Hsm>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) heads: Heads,
    pub(super) moved: Moved,
    pub(super) pace: Arc<Pace>,
    pub(super) measures: Arc<Measures>,
    /// Authorisations of a commit whose result is not known.
    pub(super) suspects: Vec<plan::Suspect>,
    pub(super) frozen: Arc<OnceLock<SigningError>>,
}

impl Writer {
    pub(super) async fn run(mut self, mut rx: mpsc::Receiver<Message>) {
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
            self.wait_for_company(&mut rx, &mut inbox).await;
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

    /// Waits for more while all that came may wait.
    async fn wait_for_company(&self, rx: &mut mpsc::Receiver<Message>, inbox: &mut Vec<Message>) {
        let began = tokio::time::Instant::now();
        let mut patience = pace::LONGEST;
        let mut asked = 0;
        while inbox.len() < FLUSH {
            for message in inbox.iter().skip(asked) {
                patience = patience.min(message.patience(&self.pace));
            }
            asked = inbox.len();
            if patience.is_zero() {
                break;
            }
            let room = FLUSH - asked;
            // Cancel safe: what is not in the inbox is still in the queue.
            match tokio::time::timeout_at(began + patience, rx.recv_many(inbox, room)).await {
                Ok(n) if n > 0 => {}
                _ => break,
            }
        }
    }

    /// Commits the batch; items that cannot be part of it are answered and left out.
    async fn flush(&mut self, mut batch: Vec<(Submission, Reply)>) {
        while !batch.is_empty() {
            let began = Instant::now();
            let Some((flush, Plan { commit, after })) = self.plan(&mut batch).await else {
                continue;
            };
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
                    self.done(after, batch);
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
                    self.suspects.extend(after.suspects());
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
                // A head that is stated is held as one that is written: under the tenant log's own,
                // so that what nodes state of a key log never goes back.
                for log in std::iter::once(draft.log).chain(draft.body.states()) {
                    if logs.insert(log) {
                        wanted.push(Wanted {
                            tenant: draft.tenant,
                            log,
                            known: self.heads.known(log),
                        });
                    }
                }
            }
        }
        (tenants.into_iter().collect(), wanted)
    }

    /// After the commit: heads move, workers are told, callers go on. In this order, so that a
    /// caller's sign order always finds its leaf already announced to the worker.
    fn done(&mut self, after: After, batch: Vec<(Submission, Reply)>) {
        for (open, _) in &after.opens {
            self.heads.opened(open.log, open.index);
        }
        for (log, index) in &after.closes {
            self.heads.closed(*log, *index);
        }
        for log in after.logs {
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
                    .insert(key, log.tenant);
            }
        }
        countersign_core::failpoint::hit("server.after-announce");
        for ((_, reply), placed) in batch.into_iter().zip(after.placed) {
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
        // Another tenant's log is none here too.
        if let Some(log) = draft.body.states()
            && heads.get(log).is_none_or(|h| h.tenant != draft.tenant)
        {
            return Err(SigningError::NotFound);
        }
    }
    Ok(())
}

/// The kind and key facts of a leaf that opens a log.
fn opened_kind(body: &Says) -> Option<LogKind> {
    let Says::Leaf(body) = body else { return None };
    match &**body {
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
