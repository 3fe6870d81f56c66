//! The pool: the port of the tokens.

use crate::config::{PoolConfig, PoolError};
use crate::connection::Call;
use crate::process;
use crate::quarantine::Content;
use crate::supervise::{Health, Watched, supervise};
use async_trait::async_trait;
use countersign_core::ports::hsm::{
    GeneratedKey, Hsm, HsmError, Inventory, LogAdvance, LogPins, LogResync, SignOrder, TokenFacts,
    TokenHealth,
};
use countersign_core::{KeyAlgorithm, KeyId, TenantId};
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
    workers: RwLock<HashMap<TenantId, Handle>>,
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
        let pool = Self {
            config: Arc::new(config),
            workers: RwLock::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        };
        for tenant in known {
            pool.worker_or_start(tenant);
        }
        Ok(pool)
    }

    /// Stops all workers cleanly: what is in flight is finished, state is written.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn worker(&self, tenant: TenantId) -> Option<Handle> {
        self.workers
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&tenant)
            .cloned()
    }

    fn worker_or_start(&self, tenant: TenantId) -> Handle {
        let mut workers = self.workers.write().unwrap_or_else(PoisonError::into_inner);
        workers
            .entry(tenant)
            .or_insert_with(|| {
                let (calls, receiver) = mpsc::channel(self.config.queue);
                let watched = Arc::new(Watched::new(tenant));
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

    /// Sends a call to the tenant's worker and waits for its answer.
    async fn call(
        &self,
        worker: Option<Handle>,
        body: RequestBody,
        deadline: Duration,
    ) -> Result<Reply, HsmError> {
        // A tenant without a token has no key either: the same answer as for an unknown key.
        let worker = worker.ok_or(HsmError::NoSuchKey)?;
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
    async fn create_token(&self, tenant: TenantId, pins: &LogPins) -> Result<TokenFacts, HsmError> {
        let worker = self.worker_or_start(tenant);
        let body = RequestBody::InitToken {
            tenant,
            // 32 characters: the whole of CK_TOKEN_INFO.label.
            label: tenant.0.simple().to_string(),
            pins: pins.clone(),
        };
        match self
            .call(Some(worker), body, self.config.generate_deadline)
            .await?
        {
            Reply::Token(facts) => Ok(facts),
            other => Err(unexpected(&other)),
        }
    }

    async fn generate_key(
        &self,
        tenant: TenantId,
        key: KeyId,
        algorithm: KeyAlgorithm,
    ) -> Result<GeneratedKey, HsmError> {
        let body = RequestBody::GenerateKey { key, algorithm };
        match self
            .call(self.worker(tenant), body, self.config.generate_deadline)
            .await?
        {
            Reply::Key { spki, facts } => Ok(GeneratedKey { spki, facts }),
            other => Err(unexpected(&other)),
        }
    }

    async fn open_log(&self, tenant: TenantId, key: KeyId) -> Result<u64, HsmError> {
        let body = RequestBody::OpenLog { key };
        match self
            .call(self.worker(tenant), body, self.config.call_deadline)
            .await?
        {
            Reply::Log { size } => Ok(size),
            other => Err(unexpected(&other)),
        }
    }

    fn advance(&self, tenant: TenantId, advance: LogAdvance) {
        let Some(worker) = self.worker(tenant) else {
            return;
        };
        let call = Call {
            body: RequestBody::Advance {
                key: advance.key,
                checkpoint: advance.checkpoint.to_string(),
                from_size: advance.from_size,
                leaf_hashes: advance.leaf_hashes,
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
            key: resync.key,
            checkpoint: resync.checkpoint.to_string(),
            consistency_proof: resync.consistency_proof,
            base_size: resync.base_size,
            base_frontier: resync.base_frontier,
            leaf_hashes: resync.leaf_hashes,
        };
        match self
            .call(self.worker(tenant), body, self.config.call_deadline)
            .await?
        {
            Reply::Log { .. } => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    async fn sign(&self, tenant: TenantId, order: SignOrder) -> Result<Vec<u8>, HsmError> {
        let body = RequestBody::Sign(SignRequest {
            key: order.key,
            index: order.index,
            leaf: order.leaf,
            scheme: order.scheme,
            digest: order.digest,
            tbs_salt: order.tbs_salt,
        });
        match self
            .call(self.worker(tenant), body, self.config.call_deadline)
            .await?
        {
            Reply::Signed { signature } => Ok(signature),
            other => Err(unexpected(&other)),
        }
    }

    async fn destroy_key(&self, tenant: TenantId, key: KeyId) -> Result<(), HsmError> {
        let body = RequestBody::DestroyKey { key };
        match self
            .call(self.worker(tenant), body, self.config.call_deadline)
            .await?
        {
            Reply::Destroyed => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    async fn inventory(&self, tenant: TenantId) -> Result<Inventory, HsmError> {
        match self
            .call(
                self.worker(tenant),
                RequestBody::Inventory,
                self.config.generate_deadline,
            )
            .await?
        {
            Reply::Inventory(found) => Ok(found),
            other => Err(unexpected(&other)),
        }
    }

    fn health(&self) -> Vec<TokenHealth> {
        let workers = self.workers.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = workers
            .values()
            .map(|w| {
                let (state, reason) = match w.watched.health() {
                    Health::Starting => ("starting", None),
                    Health::Up => ("up", None),
                    Health::Down(HsmError::Latched(reason)) => ("latched", Some(reason)),
                    Health::Down(error) => ("down", Some(error.to_string())),
                };
                TokenHealth {
                    tenant: w.watched.tenant,
                    state: state.to_owned(),
                    reason,
                }
            })
            .collect();
        all.sort_by_key(|h| h.tenant);
        all
    }
}

fn unexpected(reply: &Reply) -> HsmError {
    let kind = match reply {
        Reply::Pong => "pong",
        Reply::Token(_) => "token",
        Reply::Key { .. } => "key",
        Reply::Log { .. } => "log",
        Reply::Signed { .. } => "signed",
        Reply::Destroyed => "destroyed",
        Reply::Inventory(_) => "inventory",
    };
    HsmError::Module(format!("the worker gave another kind of answer: {kind}"))
}
