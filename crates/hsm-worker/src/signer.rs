//! The threads that call the module: each has one session and the handles found in it.
//!
//! A PKCS#11 session does one operation at a time and is not for two threads (v3.1 §5.6); more
//! threads than the device has parallelism only lengthen the queue.

use crate::evidence::{At, BoundKey};
use crate::keys::{self, LoadedKey};
use crate::logs::lock;
use crate::run::Worker;
use crate::server::Answer;
use crate::spki::{digest_info, ecdsa_der};
use crate::token::{EpochSession, Token};
use countersign_core::failpoint;
use countersign_core::ports::evidence::DeviceChallenge;
use countersign_core::ports::hsm::Spent;
use countersign_core::{KeyAlgorithm, KeyId, SignatureScheme, TenantId};
use countersign_hsm_protocol::message::SignRequest;
use countersign_hsm_protocol::{ErrorClass, Reply, WorkerError};
use cryptoki::mechanism::Mechanism;
use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Most handles one session remembers; then it forgets all and finds them again.
const MAX_HANDLES: usize = 4096;

/// Work for a session.
#[derive(Debug)]
pub enum Work {
    /// A signature that the log has authorised: the leaf is checked and closed.
    Sign(SignRequest),
    /// A key pair.
    Generate {
        /// Whose.
        tenant: TenantId,
        /// Its id.
        key: KeyId,
        /// Its kind.
        algorithm: KeyAlgorithm,
    },
    /// The end of a key pair.
    Destroy {
        /// Whose.
        tenant: TenantId,
        /// Its id.
        key: KeyId,
    },
    /// What is there.
    Inventory {
        /// Of whose keys.
        tenant: TenantId,
    },
    /// How the device presents itself.
    Identify,
    /// The answer to a CA's challenge to it.
    Answer(DeviceChallenge),
    /// What the device certifies of a key.
    Certify {
        /// Whose.
        tenant: TenantId,
        /// Its id.
        key: KeyId,
        /// Goes into what is certified.
        nonce: Vec<u8>,
    },
}

impl Work {
    /// The trace of the request this is for.
    fn trace_id(&self) -> Option<String> {
        match self {
            Self::Sign(request) => request.trace.map(|t| t.trace.to_string()),
            _ => None,
        }
    }
}

/// Work, its deadline and who waits for it.
#[derive(Debug)]
pub struct Job {
    /// What.
    pub work: Work,
    /// Not begun after this moment.
    pub deadline: Instant,
    /// For whom.
    pub answer: Answer,
    /// Of which token.
    pub token: Arc<Token>,
    /// When it was checked and put into the queue.
    pub queued: Instant,
}

/// The bounded queue before the threads.
#[derive(Debug)]
pub struct Queue {
    state: Mutex<QueueState>,
    changed: Condvar,
    capacity: usize,
}

#[derive(Debug, Default)]
struct QueueState {
    jobs: VecDeque<Job>,
    reserved: usize,
    // Deadlines of what is in the module.
    running: Vec<Instant>,
    closed: bool,
}

/// A place in the queue, taken before an authorisation is used up.
#[derive(Debug)]
pub struct Place<'a>(Option<&'a Queue>);

impl Queue {
    /// Room for `capacity` waiting jobs.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            capacity,
        }
    }

    /// Takes a place.
    ///
    /// # Errors
    /// [`WorkerError::Busy`] or [`WorkerError::Stopping`]; nothing was done.
    pub fn place(&self) -> Result<Place<'_>, WorkerError> {
        let mut state = lock(&self.state);
        if state.closed {
            return Err(WorkerError::Stopping);
        }
        if state.jobs.len().saturating_add(state.reserved) >= self.capacity {
            return Err(WorkerError::Busy);
        }
        state.reserved = state.reserved.saturating_add(1);
        Ok(Place(Some(self)))
    }

    /// No more work; what waits is still done.
    pub fn close(&self) {
        lock(&self.state).closed = true;
        self.changed.notify_all();
    }

    /// Whether nothing waits or runs.
    #[must_use]
    pub fn idle(&self) -> bool {
        let state = lock(&self.state);
        state.jobs.is_empty() && state.running.is_empty() && state.reserved == 0
    }

    /// The next job; `None` once closed and empty.
    fn next(&self) -> Option<Job> {
        let mut state = lock(&self.state);
        loop {
            if let Some(job) = state.jobs.pop_front() {
                state.running.push(job.deadline);
                return Some(job);
            }
            if state.closed {
                return None;
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether something is in the module for `more` than its deadline.
    #[must_use]
    pub fn overdue(&self, more: Duration) -> bool {
        lock(&self.state)
            .running
            .iter()
            .any(|deadline| deadline.elapsed() > more)
    }

    fn done(&self, deadline: Instant) {
        let mut state = lock(&self.state);
        if let Some(n) = state.running.iter().position(|d| *d == deadline) {
            state.running.swap_remove(n);
        }
    }
}

impl Place<'_> {
    /// Puts the job there.
    pub fn fill(mut self, job: Job) {
        if let Some(queue) = self.0.take() {
            let mut state = lock(&queue.state);
            state.reserved = state.reserved.saturating_sub(1);
            state.jobs.push_back(job);
            drop(state);
            queue.changed.notify_one();
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(queue) = self.0.take() {
            let mut state = lock(&queue.state);
            state.reserved = state.reserved.saturating_sub(1);
        }
    }
}

/// One thread's life.
pub fn run(worker: &Worker) {
    let mut signer = Signer {
        worker,
        session: None,
    };
    while let Some(job) = worker.queue.next() {
        let Job {
            work,
            deadline,
            answer,
            token,
            queued,
        } = job;
        let waited = queued.elapsed();
        let result = if Instant::now() >= deadline {
            Err(WorkerError::Expired)
        } else {
            // A panic ends this job and its session, not the thread.
            catch_unwind(AssertUnwindSafe(|| signer.work(&token, &work, waited))).unwrap_or_else(
                |_| {
                    signer.session = None;
                    Err(WorkerError::Internal("a panic; see the log".into()))
                },
            )
        };
        let fatal = matches!(
            result,
            Err(WorkerError::Module {
                class: ErrorClass::Fatal,
                ..
            })
        );
        if let Err(error) = &result {
            let trace_id = work.trace_id();
            tracing::warn!(id = answer.id(), trace_id, %error, "request failed");
        }
        failpoint::hit("worker.before-answer");
        answer.send(result);
        worker.queue.done(deadline);
        if fatal {
            worker.stop(crate::run::Stop::ModuleDied);
        }
    }
}

struct Signer<'a> {
    worker: &'a Worker,
    session: Option<Cached>,
}

struct Cached {
    open: EpochSession,
    handles: HashMap<KeyId, LoadedKey>,
}

fn at<'a>(worker: &'a Worker, token: &'a Token, cached: &'a Cached) -> At<'a> {
    At {
        dir: &worker.dir,
        config: &worker.config,
        token,
        session: &cached.open.session,
    }
}

impl Signer<'_> {
    fn work(&mut self, token: &Token, work: &Work, waited: Duration) -> Result<Reply, WorkerError> {
        let dir = &self.worker.dir;
        match work {
            Work::Sign(request) => self.sign(token, request, waited),
            Work::Generate {
                tenant,
                key,
                algorithm,
            } => {
                let _one_at_a_time = lock(&self.worker.changing);
                let rw = token.rw_session()?;
                let new_log = || self.worker.logs.create(*tenant, *key);
                keys::generate(
                    token,
                    &rw.session,
                    dir,
                    &self.worker.profile,
                    *tenant,
                    *key,
                    *algorithm,
                    new_log,
                )
                .map(|(spki, facts)| Reply::Key { spki, facts })
            }
            Work::Destroy { tenant, key } => {
                let _one_at_a_time = lock(&self.worker.changing);
                let rw = token.rw_session()?;
                let result = keys::destroy(token, &rw.session, dir, *tenant, *key);
                // Another tenant's key is none: asking for its end must not cost its owner the memory
                // of its log.
                if !matches!(result, Err(WorkerError::NoSuchKey)) {
                    self.worker.logs.forget(*key);
                }
                result.map(|()| Reply::Destroyed)
            }
            Work::Inventory { tenant } => self
                .retrying(token, |cached| {
                    keys::inventory(token, &cached.open.session, dir, Some(*tenant))
                })
                .map(Reply::Inventory),
            // The adapter speaks to the device beside the module: from here, so that the module does not
            // at the same time.
            Work::Identify => {
                let (worker, adapter) = (self.worker, self.worker.adapter()?);
                self.retrying(token, |cached| adapter.identify(&at(worker, token, cached)))
                    .map(Reply::Identity)
            }
            Work::Answer(challenge) => {
                let (worker, adapter) = (self.worker, self.worker.adapter()?);
                self.retrying(token, |cached| {
                    adapter.answer(&at(worker, token, cached), challenge)
                })
                .map(|secret| Reply::Answer {
                    secret: secret.to_vec(),
                })
            }
            Work::Certify { tenant, key, nonce } => {
                let (worker, adapter) = (self.worker, self.worker.adapter()?);
                self.retrying(token, |cached| {
                    let session = &cached.open.session;
                    let loaded = keys::load(token, session, dir, *tenant, *key)?;
                    let bound = BoundKey {
                        handle: loaded.handle,
                        spki: keys::bound_spki(token, dir, *tenant, *key)?,
                    };
                    adapter.certify(&at(worker, token, cached), &bound, nonce)
                })
                .map(Reply::Certification)
            }
        }
    }

    fn sign(
        &mut self,
        token: &Token,
        request: &SignRequest,
        waited: Duration,
    ) -> Result<Reply, WorkerError> {
        let dir = Arc::clone(&self.worker.dir);
        let (signature, signing) = self.retrying(token, |cached| {
            let loaded = match cached.handles.get(&request.key) {
                Some(loaded) => *loaded,
                None => {
                    let session = &cached.open.session;
                    let loaded = keys::load(token, session, &dir, request.tenant, request.key)?;
                    if cached.handles.len() >= MAX_HANDLES {
                        cached.handles.clear();
                    }
                    cached.handles.insert(request.key, loaded);
                    loaded
                }
            };
            // The leaf's tenant is the request's; here it meets the binding that has a MAC.
            if loaded.tenant != request.tenant {
                return Err(WorkerError::NoSuchKey);
            }
            let digest = request.digest.as_bytes();
            let built;
            let (mechanism, data) = match (request.scheme, loaded.algorithm.is_rsa()) {
                (SignatureScheme::RsaPkcs1(hash), true) => {
                    built = digest_info(hash, digest);
                    (Mechanism::RsaPkcs, built.as_slice())
                }
                (SignatureScheme::Ecdsa(_), false) => (Mechanism::Ecdsa, digest),
                _ => return Err(WorkerError::SchemeNotOfKey),
            };
            failpoint::hit("worker.before-c-sign");
            let began = Instant::now();
            let raw = token
                .raw()
                .sign(&cached.open.session, &mechanism, loaded.handle, data)
                .map_err(|e| crate::errors::module_error(&e))?;
            let signing = began.elapsed();
            failpoint::hit("worker.after-c-sign");
            if loaded.algorithm.is_rsa() {
                Ok((raw, signing))
            } else {
                ecdsa_der(loaded.algorithm, &raw)
                    .map(|der| (der, signing))
                    .ok_or_else(|| {
                        WorkerError::Internal(
                            "the module's ECDSA signature has a wrong length".into(),
                        )
                    })
            }
        })?;
        Ok(Reply::Signed {
            signature,
            spent: Spent {
                queued: waited,
                signing,
            },
        })
    }

    /// Runs `f` in this thread's session, and once more where PKCS#11 says that only handle,
    /// session or login were stale: in those cases nothing was signed.
    fn retrying<T>(
        &mut self,
        token: &Token,
        f: impl Fn(&mut Cached) -> Result<T, WorkerError>,
    ) -> Result<T, WorkerError> {
        let mut again = true;
        loop {
            let (result, epoch) = match self.session.take() {
                Some(mut cached) => {
                    let epoch = cached.open.epoch;
                    let result = f(&mut cached);
                    // After any error of the module an operation may be left active: the session
                    // goes, and with it its handles.
                    if !matches!(result, Err(WorkerError::Module { .. })) {
                        self.session = Some(cached);
                    }
                    (result, epoch)
                }
                None => {
                    let open = token.session()?;
                    self.session = Some(Cached {
                        open,
                        handles: HashMap::new(),
                    });
                    continue;
                }
            };
            match &result {
                Err(WorkerError::Module { class, .. }) if again => match class {
                    ErrorClass::StaleHandle | ErrorClass::SessionGone => again = false,
                    ErrorClass::LoginGone => {
                        again = false;
                        token.login_again(epoch, &self.worker.dir, &self.worker.config)?;
                    }
                    _ => return result,
                },
                _ => return result,
            }
        }
    }
}
