//! The run: files are hashed, asked for in batches, finished; all of it at once and bounded.
//!
//! ```text
//!   fresh ──workers: hash──► ready ──askers: a batch──► answered ──workers: timestamp, write──► outcome
//!     ▲                        ▲ │                         │
//!     └── other certificate ───┼─┴── retryable, later      │
//!     └────────────────────────┼───────────────────────────┘
//! ```
//!
//! Workers finish before they hash more, and hash no further ahead than the askers need. What stops
//! the run (Ctrl-C, a service that is away, a session that ended) stops it between two steps: what is
//! answered is still written.

use super::file::{Asked, Job, Need, OTHER_CERTIFICATE, Signed};
use super::journal::Journal;
use super::session::Session;
use super::timestamp::NO_TIMESTAMP;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use countersign_client::{ApiError, ItemResult, dto};
use serde_json::Value;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Batches asked for at once.
const IN_FLIGHT: usize = 3;
/// Longest a hashed file waits for its batch to fill.
const LINGER: Duration = Duration::from_millis(200);
/// How often the service is asked for one file while it says "later".
const TRIES: u32 = 5;
/// How often a file is hashed because the certificate changed.
const ROUNDS: u32 = 3;
/// Most bytes of one request; the service takes a mebibyte.
const MAX_BYTES: usize = 900 * 1024;
/// Files without a timestamp after which no more is asked for.
const MAX_UNSTAMPED: u32 = 3;
/// How often threads look whether the run is to stop.
const LOOK: Duration = Duration::from_millis(100);

/// What became of a file.
pub(super) enum Outcome {
    /// Signed now.
    Signed(Box<Signed>),
    /// Signed before this run was interrupted.
    Before(Value),
    /// Not signed.
    Failed(Failure),
    /// The run was interrupted before it.
    NotReached,
}

/// A run.
pub(super) struct Run<'a> {
    pub job: &'a Job,
    pub session: &'a Session<'a>,
    pub journal: &'a Journal,
    pub files: &'a [PathBuf],
    /// Files of one request.
    pub batch: usize,
    /// Threads that hash, stamp and write.
    pub jobs: usize,
    /// Set when the user wants it to stop.
    pub stop: &'a AtomicBool,
    /// Told of each file as it is done.
    pub report: &'a (dyn Fn(usize, &Outcome) + Sync),
}

/// A file on its way.
struct Item {
    file: usize,
    asked: Box<Asked>,
    bytes: usize,
    round: u32,
    tries: u32,
    since: Instant,
    not_before: Instant,
}

#[derive(Default)]
struct State {
    /// To be hashed: file, round.
    fresh: VecDeque<(usize, u32)>,
    ready: VecDeque<Item>,
    answered: VecDeque<(Item, dto::Signature)>,
    outcomes: Vec<Option<Outcome>>,
    hashing: usize,
    /// Tasks under way, hashing among them.
    busy: usize,
    unstamped: u32,
    /// Why nothing more is asked for.
    halted: Option<Failure>,
}

struct Board<'a> {
    run: &'a Run<'a>,
    state: Mutex<State>,
    change: Condvar,
}

enum Task {
    Hash(usize, u32),
    Finish(Box<(Item, dto::Signature)>),
}

impl Run<'_> {
    /// Signs the files; the outcomes are in their order.
    pub(super) fn go(&self) -> Vec<Outcome> {
        let board = Board {
            run: self,
            state: Mutex::new(State {
                fresh: (0..self.files.len()).map(|f| (f, 1)).collect(),
                outcomes: self.files.iter().map(|_| None).collect(),
                ..State::default()
            }),
            change: Condvar::new(),
        };
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.clamp(1, 64).min(self.files.len().max(1)) {
                scope.spawn(|| board.work());
            }
            for _ in 0..IN_FLIGHT.min(self.files.len().div_ceil(self.batch.max(1)).max(1)) {
                scope.spawn(|| board.ask());
            }
        });
        let lost = || {
            Outcome::Failed(Failure::new(
                Exit::Internal,
                "lost",
                "the file was not worked on",
            ))
        };
        board
            .state
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
            .outcomes
            .into_iter()
            .map(|o| o.unwrap_or_else(lost))
            .collect()
    }
}

impl Board<'_> {
    fn work(&self) {
        while let Some(task) = self.next_task() {
            match task {
                Task::Hash(file, round) => self.hash(file, round),
                Task::Finish(both) => self.finish(&both.0, &both.1),
            }
        }
    }

    fn next_task(&self) -> Option<Task> {
        let ahead = self.run.batch.saturating_mul(IN_FLIGHT + 1);
        let mut state = self.lock();
        loop {
            self.halt_if_asked(&mut state);
            if let Some((item, answer)) = state.answered.pop_front() {
                state.busy += 1;
                return Some(Task::Finish(Box::new((item, answer))));
            }
            if state.ready.len() < ahead
                && let Some((file, round)) = state.fresh.pop_front()
            {
                state.busy += 1;
                state.hashing += 1;
                return Some(Task::Hash(file, round));
            }
            if state.idle() {
                self.change.notify_all();
                return None;
            }
            state = self.wait(state, LOOK);
        }
    }

    fn hash(&self, file: usize, round: u32) {
        let need = match self.run.files.get(file) {
            Some(path) => self.run.job.prepare(path, self.run.journal),
            None => Err(Failure::usage("no such file")),
        };
        let mut state = self.lock();
        state.busy -= 1;
        state.hashing -= 1;
        match need {
            Ok(Need::Signature(asked)) => {
                let now = Instant::now();
                let bytes = serde_json::to_vec(&asked.item).map_or(0, |b| b.len());
                state.ready.push_back(Item {
                    file,
                    asked,
                    bytes,
                    round,
                    tries: 0,
                    since: now,
                    not_before: now,
                });
            }
            Ok(Need::Nothing(line)) => self.done(&mut state, file, Outcome::Before(line)),
            Err(f) => self.done(&mut state, file, Outcome::Failed(f)),
        }
        self.change.notify_all();
    }

    fn finish(&self, item: &Item, answer: &dto::Signature) {
        let file = item.file;
        let result = match self.run.files.get(file) {
            Some(path) => self
                .run
                .job
                .finish(path, &item.asked, answer, self.run.journal),
            None => Err(Failure::usage("no such file")),
        };
        let again = match &result {
            Err(f) if f.code == OTHER_CERTIFICATE => self.other_certificate(item),
            _ => None,
        };
        let mut state = self.lock();
        state.busy -= 1;
        match (result, again) {
            (_, Some(Ok(()))) => state.fresh.push_front((file, item.round.saturating_add(1))),
            (_, Some(Err(f))) | (Err(f), None) => {
                if f.code == NO_TIMESTAMP {
                    state.unstamped = state.unstamped.saturating_add(1);
                    if state.unstamped >= MAX_UNSTAMPED {
                        state.halted.get_or_insert_with(|| f.clone());
                    }
                }
                self.done(&mut state, file, Outcome::Failed(f));
            }
            (Ok(signed), None) => {
                self.done(&mut state, file, Outcome::Signed(Box::new(signed)));
            }
        }
        self.change.notify_all();
    }

    fn ask(&self) {
        while let Some(batch) = self.next_batch() {
            let items: Vec<_> = batch.iter().map(|i| i.asked.item.clone()).collect();
            let results = self.send(&items);
            // Asked without the lock: it goes over the network.
            let renewals: Vec<_> = match &results {
                Ok(results) => batch
                    .iter()
                    .zip(results)
                    .map(|(item, r)| match r {
                        Err(e) if names_other_certificate(e) => self.other_certificate(item),
                        _ => None,
                    })
                    .collect(),
                Err(_) => Vec::new(),
            };
            let mut state = self.lock();
            state.busy -= 1;
            match results {
                Ok(results) => {
                    for ((item, result), renewed) in batch.into_iter().zip(results).zip(renewals) {
                        self.sort(&mut state, item, result, renewed);
                    }
                }
                Err(f) => self.failed(&mut state, batch, f),
            }
            self.change.notify_all();
        }
    }

    /// What one item's answer leads to.
    fn sort(
        &self,
        state: &mut State,
        mut item: Item,
        result: ItemResult,
        renewed: Option<Result<()>>,
    ) {
        match (result, renewed) {
            (Ok(answer), _) => state.answered.push_back((item, answer)),
            (Err(_), Some(Ok(()))) => state
                .fresh
                .push_front((item.file, item.round.saturating_add(1))),
            (Err(e), None) if e.retryable && item.tries.saturating_add(1) < TRIES => {
                item.tries = item.tries.saturating_add(1);
                let pause = Duration::from_millis(250 << item.tries.min(5));
                let asked = Duration::from_secs(e.retry_after_s.unwrap_or(0).min(30));
                item.not_before = Instant::now() + pause.max(asked);
                state.ready.push_back(item);
            }
            (Err(e), None) => {
                self.done(state, item.file, Outcome::Failed(Failure::from(*e)));
            }
            (Err(_), Some(Err(f))) => self.done(state, item.file, Outcome::Failed(f)),
        }
    }

    /// A whole request failed, although the client repeated it: once more after a while where that
    /// can help; then the run stops, since every other request would meet the same.
    fn failed(&self, state: &mut State, batch: Vec<Item>, f: Failure) {
        let again = f.exit == Exit::Unavailable && f.code != "session-ended";
        for mut item in batch {
            if again && item.tries == 0 {
                item.tries = 1;
                item.not_before = Instant::now() + Duration::from_secs(2);
                state.ready.push_back(item);
            } else {
                self.done(state, item.file, Outcome::Failed(f.clone()));
                state.halted.get_or_insert_with(|| f.clone());
            }
        }
    }

    /// One request, with a session that is renewed once where the service does not know it.
    fn send(&self, items: &[dto::SignatureItem]) -> Result<Vec<ItemResult>> {
        let (job, key) = (self.run.job, self.run.journal.key.as_str());
        let (client, which) = self.run.session.client()?;
        match client.sign(&job.tenant, &job.signer, items, key) {
            Err(e) if e.api().is_some_and(|a| a.code == "unauthenticated") => {
                let (client, _) = self.run.session.renew(which)?;
                Ok(client.sign(&job.tenant, &job.signer, items, key)?)
            }
            other => Ok(other?),
        }
    }

    /// The next items for a request: enough of them, or all that will come soon.
    fn next_batch(&self) -> Option<Vec<Item>> {
        let mut state = self.lock();
        loop {
            self.halt_if_asked(&mut state);
            if let Some(batch) = state.take(self.run.batch) {
                state.busy += 1;
                self.change.notify_all();
                return Some(batch);
            }
            if state.idle() {
                self.change.notify_all();
                return None;
            }
            state = self.wait(state, LOOK / 5);
        }
    }

    /// Fetches the certificate anew; `None` where that was done often enough.
    fn other_certificate(&self, item: &Item) -> Option<Result<()>> {
        (item.round < ROUNDS).then(|| {
            let (client, _) = self.run.session.client()?;
            self.run.job.forget(&item.asked);
            self.run
                .job
                .renew_certificate(&client, &item.asked.certificate)
        })
    }

    /// Nothing more is begun once the run is to stop.
    fn halt_if_asked(&self, state: &mut State) {
        let interrupted = self.run.stop.load(Ordering::Relaxed);
        if !interrupted && state.halted.is_none() {
            return;
        }
        let fresh = std::mem::take(&mut state.fresh);
        let ready = std::mem::take(&mut state.ready);
        let waiting: Vec<usize> = fresh
            .into_iter()
            .map(|(file, _)| file)
            .chain(ready.into_iter().map(|i| i.file))
            .collect();
        for file in waiting {
            let outcome = match &state.halted {
                Some(f) => Outcome::Failed(f.clone()),
                None => Outcome::NotReached,
            };
            self.done(state, file, outcome);
        }
        // Without timestamps the answers there are lead nowhere; asked again they come again.
        if state
            .halted
            .as_ref()
            .is_some_and(|f| f.code == NO_TIMESTAMP)
        {
            for (item, _) in std::mem::take(&mut state.answered) {
                if let Some(f) = state.halted.clone() {
                    self.done(state, item.file, Outcome::Failed(f));
                }
            }
        }
    }

    fn done(&self, state: &mut State, file: usize, outcome: Outcome) {
        (self.run.report)(file, &outcome);
        if let Some(slot) = state.outcomes.get_mut(file) {
            *slot = Some(outcome);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'s>(&self, state: MutexGuard<'s, State>, most: Duration) -> MutexGuard<'s, State> {
        self.change
            .wait_timeout(state, most)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }
}

impl State {
    fn idle(&self) -> bool {
        self.busy == 0 && self.fresh.is_empty() && self.ready.is_empty() && self.answered.is_empty()
    }

    fn take(&mut self, most: usize) -> Option<Vec<Item>> {
        let now = Instant::now();
        let mut due = 0_usize;
        let mut bytes = 0_usize;
        let mut waited = false;
        for item in self.ready.iter().filter(|i| i.not_before <= now) {
            if due >= most || bytes.saturating_add(item.bytes) > MAX_BYTES {
                break;
            }
            due += 1;
            bytes = bytes.saturating_add(item.bytes);
            waited |= now.duration_since(item.since) >= LINGER;
        }
        let more_comes = self.hashing > 0 || !self.fresh.is_empty();
        if due == 0 || (due < most && bytes < MAX_BYTES / 2 && more_comes && !waited) {
            return None;
        }
        let mut batch = Vec::with_capacity(due);
        let mut later = VecDeque::with_capacity(self.ready.len());
        for item in std::mem::take(&mut self.ready) {
            if batch.len() < due && item.not_before <= now {
                batch.push(item);
            } else {
                later.push_back(item);
            }
        }
        self.ready = later;
        Some(batch)
    }
}

/// The service signs with a newer certificate than the one that the attributes name.
fn names_other_certificate(e: &ApiError) -> bool {
    matches!(
        e.refusal.as_deref(),
        Some("content-signing-certificate-mismatch" | "content-algorithm-protection-mismatch")
    )
}
