//! The pool: the port of the tokens.

use crate::config::{ExistingToken, PoolConfig, PoolError};
use crate::connection::Call;
use crate::process::{self, Which};
use crate::quarantine::Content;
use crate::supervise::{Health, Watched, supervise};
use async_trait::async_trait;
use countersign_core::ports::evidence::{DeviceChallenge, DeviceIdentity, KeyCertification};
use countersign_core::ports::hsm::{
    GeneratedKey, Hsm, HsmError, Inventory, LogAdvance, LogPins, LogResync, SignOrder, Signed,
    TokenFacts, TokenHealth,
};
use countersign_core::{IsolationClass, KeyAlgorithm, KeyId, TenantId, TenantName};
use countersign_hsm_protocol::message::SignRequest;
use countersign_hsm_protocol::{Reply, RequestBody};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// All workers of this server.
#[derive(Debug)]
pub struct WorkerPool {
    config: Arc<PoolConfig>,
    workers: RwLock<HashMap<String, Handle>>,
    // Where each tenant's keys are, once known: it never changes.
    routes: RwLock<HashMap<TenantId, Handle>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

#[derive(Debug, Clone)]
struct Handle {
    calls: mpsc::Sender<Call>,
    watched: Arc<Watched>,
}

impl WorkerPool {
    /// Starts a worker for each token known; must be called within a tokio runtime. It does not
    /// wait for them: see [`Hsm::health`].
    ///
    /// # Errors
    /// [`PoolError`]: a folder or the worker program.
    pub fn start(config: PoolConfig) -> Result<Self, PoolError> {
        let known = process::prepare(&config)?;
        let existing = config.existing.len();
        let pool = Self {
            config: Arc::new(config),
            workers: RwLock::default(),
            routes: RwLock::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        };
        for n in 0..existing {
            pool.worker_or_start(Which::Existing(n));
        }
        for tenant in known {
            // Routed at once: leaves that are told before the first call of this run must arrive.
            let worker = pool.worker_or_start(Which::Own(tenant));
            pool.route(tenant, &worker);
        }
        Ok(pool)
    }

    /// Tells whether a tenant that exists already may stand in the configuration of a `[[token]]`.
    ///
    /// # Errors
    /// [`PoolError::TenantElsewhere`].
    pub fn check_tenant(&self, tenant: TenantId, name: &TenantName) -> Result<(), PoolError> {
        match self.named(name) {
            Some((_, token)) if process::has_own(&self.config, tenant) => {
                Err(PoolError::TenantElsewhere {
                    tenant: name.clone(),
                    token: token.name.clone(),
                })
            }
            _ => Ok(()),
        }
    }

    /// Stops all workers cleanly: what is in flight is finished, state is written.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn named(&self, name: &TenantName) -> Option<(usize, &ExistingToken)> {
        self.config
            .existing
            .iter()
            .enumerate()
            .find(|(_, t)| t.tenants.contains(name))
    }

    fn known(&self, tenant: TenantId) -> Option<Handle> {
        self.routes
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&tenant)
            .cloned()
    }

    /// All workers, for the report.
    pub(crate) fn watched(&self) -> Vec<Arc<Watched>> {
        let workers = self.workers.read().unwrap_or_else(PoisonError::into_inner);
        workers.values().map(|w| Arc::clone(&w.watched)).collect()
    }

    fn route(&self, tenant: TenantId, worker: &Handle) {
        self.routes
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(tenant, worker.clone());
    }

    /// The worker that has the tenant's keys. It may have been another node that made the token, so
    /// what is not known yet is looked for: in the folder of tokens, and by asking the workers of
    /// existing tokens.
    async fn worker(&self, tenant: TenantId) -> Result<Handle, HsmError> {
        if let Some(worker) = self.known(tenant) {
            return Ok(worker);
        }
        if process::has_own(&self.config, tenant) {
            let worker = self.worker_or_start(Which::Own(tenant));
            self.route(tenant, &worker);
            return Ok(worker);
        }
        let mut silent = None;
        for n in 0..self.config.existing.len() {
            let worker = self.worker_or_start(Which::Existing(n));
            let body = RequestBody::Serves { tenant };
            match self.call(&worker, body, self.config.call_deadline).await {
                Ok(Reply::Serves(true)) => {
                    self.route(tenant, &worker);
                    return Ok(worker);
                }
                Ok(_) => {}
                // Nobody has keys in a token that is not in use yet.
                Err(HsmError::Refused { code, .. }) if code == "token-absent" => {}
                Err(error) => silent = Some(error),
            }
        }
        // A tenant without a token has no key either: the same answer as for an unknown key.
        Err(silent.unwrap_or(HsmError::NoSuchKey))
    }

    fn worker_or_start(&self, which: Which) -> Handle {
        let folder = which.folder(&self.config);
        let mut workers = self.workers.write().unwrap_or_else(PoisonError::into_inner);
        workers
            .entry(folder)
            .or_insert_with(|| {
                let (calls, receiver) = mpsc::channel(self.config.queue);
                let name = match &which {
                    Which::Own(tenant) => tenant.to_string(),
                    Which::Existing(n) => self
                        .config
                        .existing
                        .get(*n)
                        .map(|t| t.name.clone())
                        .unwrap_or_default(),
                };
                let shared = match which {
                    Which::Own(_) => false,
                    Which::Existing(n) => self
                        .config
                        .existing
                        .get(n)
                        .is_some_and(|t| t.tenants.len() > 1),
                };
                let class = if shared {
                    IsolationClass::SharedToken
                } else {
                    IsolationClass::ExclusiveToken
                };
                let watched = Arc::new(Watched::new(which, name, class));
                self.tasks.spawn(supervise(
                    Arc::clone(&self.config),
                    Arc::clone(&watched),
                    receiver,
                    self.stop.clone(),
                ));
                Handle { calls, watched }
            })
            .clone()
    }

    /// Asks for evidence. A device that first makes a key of its own for it takes as long as for any.
    async fn ask_device(&self, tenant: TenantId, body: RequestBody) -> Result<Reply, HsmError> {
        let worker = self.worker(tenant).await?;
        self.call(&worker, body, self.config.generate_deadline)
            .await
    }

    /// Sends a call to a worker and waits for its answer.
    async fn call(
        &self,
        worker: &Handle,
        body: RequestBody,
        deadline: Duration,
    ) -> Result<Reply, HsmError> {
        if self.stop.is_cancelled() {
            return Err(HsmError::Unavailable("the service is stopping".into()));
        }
        if let Some(content) = Content::of(&body)
            && worker.watched.quarantine.holds(&content)
        {
            return Err(HsmError::Quarantined);
        }
        let (reply, answer) = oneshot::channel();
        let call = Call {
            body,
            deadline,
            reply: Some(reply),
        };
        worker.calls.try_send(call).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => HsmError::Busy,
            mpsc::error::TrySendError::Closed(_) => {
                HsmError::Unavailable("the service is stopping".into())
            }
        })?;
        // The connection keeps the deadline once the call is sent; this one is for a worker that
        // does not start. A call given up here is not sent any more.
        let limit = deadline
            .saturating_add(self.config.start_deadline)
            .saturating_add(Duration::from_secs(1));
        match tokio::time::timeout(limit, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(HsmError::Unavailable("the worker is gone".into())),
            Err(_) => Err(HsmError::Deadline),
        }
    }
}

#[async_trait]
impl Hsm for WorkerPool {
    async fn create_token(
        &self,
        tenant: TenantId,
        name: &TenantName,
        pins: &LogPins,
    ) -> Result<TokenFacts, HsmError> {
        let worker = self.worker_or_start(match self.named(name) {
            Some((n, _)) => Which::Existing(n),
            None => Which::Own(tenant),
        });
        let body = RequestBody::InitToken {
            tenant,
            // 32 characters: the whole of CK_TOKEN_INFO.label.
            label: tenant.0.simple().to_string(),
            pins: pins.clone(),
        };
        match self
            .call(&worker, body, self.config.generate_deadline)
            .await?
        {
            Reply::Token(facts) => {
                self.route(tenant, &worker);
                Ok(facts)
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn generate_key(
        &self,
        tenant: TenantId,
        key: KeyId,
        algorithm: KeyAlgorithm,
    ) -> Result<GeneratedKey, HsmError> {
        let body = RequestBody::GenerateKey {
            tenant,
            key,
            algorithm,
        };
        match self
            .call(
                &self.worker(tenant).await?,
                body,
                self.config.generate_deadline,
            )
            .await?
        {
            Reply::Key { spki, facts } => Ok(GeneratedKey { spki, facts }),
            other => Err(unexpected(&other)),
        }
    }

    async fn open_log(&self, tenant: TenantId, key: KeyId) -> Result<u64, HsmError> {
        let body = RequestBody::OpenLog { tenant, key };
        match self
            .call(&self.worker(tenant).await?, body, self.config.call_deadline)
            .await?
        {
            Reply::Log { size } => Ok(size),
            other => Err(unexpected(&other)),
        }
    }

    fn advance(&self, tenant: TenantId, advance: LogAdvance) {
        // Not looked for here: a worker that was not told says so at the next signature.
        let Some(worker) = self.known(tenant) else {
            return;
        };
        let call = Call {
            body: RequestBody::Advance {
                tenant,
                key: advance.key,
                checkpoint: advance.checkpoint.to_string(),
                from_size: advance.from_size,
                leaf_hashes: advance.leaf_hashes,
                uses: advance.uses,
            },
            deadline: self.config.call_deadline,
            reply: None,
        };
        // What is lost here shows in the next signature as `LogBehind`.
        if worker.calls.try_send(call).is_err() {
            tracing::warn!(%tenant, key = %advance.key, "new leaves did not reach the worker");
        }
    }

    async fn resync(&self, tenant: TenantId, resync: LogResync) -> Result<(), HsmError> {
        let body = RequestBody::Resync {
            tenant,
            key: resync.key,
            checkpoint: resync.checkpoint.to_string(),
            consistency_proof: resync.consistency_proof,
            base_size: resync.base_size,
            base_frontier: resync.base_frontier,
            leaf_hashes: resync.leaf_hashes,
            uses: resync.uses,
        };
        match self
            .call(&self.worker(tenant).await?, body, self.config.call_deadline)
            .await?
        {
            Reply::Log { .. } => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    async fn sign(&self, tenant: TenantId, order: SignOrder) -> Result<Signed, HsmError> {
        let body = RequestBody::Sign(SignRequest {
            tenant,
            key: order.key,
            index: order.index,
            leaf: order.leaf,
            scheme: order.scheme,
            digest: order.digest,
            tbs_salt: order.tbs_salt,
            trace: order.trace,
        });
        match self
            .call(&self.worker(tenant).await?, body, self.config.call_deadline)
            .await?
        {
            Reply::Signed { signature, spent } => Ok(Signed { signature, spent }),
            other => Err(unexpected(&other)),
        }
    }

    async fn destroy_key(&self, tenant: TenantId, key: KeyId) -> Result<(), HsmError> {
        let body = RequestBody::DestroyKey { tenant, key };
        match self
            .call(&self.worker(tenant).await?, body, self.config.call_deadline)
            .await?
        {
            Reply::Destroyed => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    async fn inventory(&self, tenant: TenantId) -> Result<Inventory, HsmError> {
        match self
            .call(
                &self.worker(tenant).await?,
                RequestBody::Inventory { tenant },
                self.config.generate_deadline,
            )
            .await?
        {
            Reply::Inventory(found) => Ok(found),
            other => Err(unexpected(&other)),
        }
    }

    async fn identify_device(&self, tenant: TenantId) -> Result<DeviceIdentity, HsmError> {
        let body = RequestBody::IdentifyDevice { tenant };
        match self.ask_device(tenant, body).await? {
            Reply::Identity(identity) => Ok(identity),
            other => Err(unexpected(&other)),
        }
    }

    async fn answer_challenge(
        &self,
        tenant: TenantId,
        challenge: DeviceChallenge,
    ) -> Result<Vec<u8>, HsmError> {
        let body = RequestBody::AnswerChallenge { tenant, challenge };
        match self.ask_device(tenant, body).await? {
            Reply::Answer { secret } => Ok(secret),
            other => Err(unexpected(&other)),
        }
    }

    async fn certify_key(
        &self,
        tenant: TenantId,
        key: KeyId,
        nonce: Vec<u8>,
    ) -> Result<KeyCertification, HsmError> {
        let body = RequestBody::CertifyKey { tenant, key, nonce };
        match self.ask_device(tenant, body).await? {
            Reply::Certification(certification) => Ok(certification),
            other => Err(unexpected(&other)),
        }
    }

    fn health(&self) -> Vec<TokenHealth> {
        let workers = self.workers.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = workers
            .values()
            .map(|w| {
                let (state, reason, sandbox) = match w.watched.health() {
                    Health::Starting => ("starting", None, vec![]),
                    Health::Up(sandbox) => ("up", None, sandbox),
                    Health::Down(HsmError::Latched(reason)) => ("latched", Some(reason), vec![]),
                    Health::Down(error) => ("down", Some(error.to_string()), vec![]),
                };
                TokenHealth {
                    token: w.watched.name.clone(),
                    tenant: match w.watched.which {
                        Which::Own(tenant) => Some(tenant),
                        Which::Existing(_) => None,
                    },
                    state: state.to_owned(),
                    reason,
                    sandbox,
                }
            })
            .collect();
        all.sort_by(|a, b| a.token.cmp(&b.token));
        all
    }
}

fn unexpected(reply: &Reply) -> HsmError {
    let kind = match reply {
        Reply::Pong => "pong",
        Reply::Token(_) => "token",
        Reply::Serves(_) => "serves",
        Reply::Key { .. } => "key",
        Reply::Log { .. } => "log",
        Reply::Signed { .. } => "signed",
        Reply::Destroyed => "destroyed",
        Reply::Inventory(_) => "inventory",
        Reply::Identity(_) => "identity",
        Reply::Answer { .. } => "answer",
        Reply::Certification(_) => "certification",
    };
    HsmError::Module(format!("the worker gave another kind of answer: {kind}"))
}
