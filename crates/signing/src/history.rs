//! One history (invariant 3): a database that is older than what the workers remember writes nothing.
//!
//! Workers remember the size of each key's log. At start, before anything is written, and again
//! before a key's first use, the database must have at least as many leaves. If not, it is an old
//! copy: whatever it wrote, to any log, would contradict checkpoints that are out in the world. So
//! all writes are refused until the newer database is back.

use crate::{Service, SigningError};
use countersign_core::ports::hsm::HsmError;
use countersign_core::{KeyId, KeyState, LogId, TenantId};
use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;

/// How long a start waits for the workers' word. A key whose worker says nothing by then is compared
/// before its first use.
const COMPARE_WITHIN: Duration = Duration::from_secs(5);
/// How long recovery waits for one worker before it goes on with the next log.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// Tenants read at once.
const PAGE: u32 = 256;

/// Keys compared in this run.
#[derive(Debug, Default)]
pub(crate) struct Compared(Mutex<HashSet<KeyId>>);

impl Compared {
    fn has(&self, key: KeyId) -> bool {
        self.lock().contains(&key)
    }

    fn add(&self, key: KeyId) {
        self.lock().insert(key);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<KeyId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service {
    /// At start: every key log with its worker's memory, and every token with the database. Never
    /// an error: what cannot be compared now is compared before its first use.
    pub(crate) async fn compare_all(&self) {
        let mut comparing = JoinSet::new();
        let mut after = None;
        loop {
            let tenants = match self.store().tenants(after.as_ref(), PAGE).await {
                Ok(tenants) => tenants,
                Err(e) => {
                    tracing::warn!(error = %e, "the tenants could not be read");
                    break;
                }
            };
            let Some(last) = tenants.last() else { break };
            after = Some(last.name.clone());
            for tenant in tenants {
                let service = self.clone();
                comparing.spawn(async move { service.compare_tenant(tenant.id).await });
            }
        }
        let all = async { while comparing.join_next().await.is_some() {} };
        if tokio::time::timeout(COMPARE_WITHIN, all).await.is_err() {
            tracing::warn!(
                "some workers have not answered yet: their keys are compared when they do"
            );
            comparing.detach_all();
        }
    }

    async fn compare_tenant(&self, tenant: TenantId) {
        let keys = match self.store().keys(tenant).await {
            Ok(keys) => keys,
            Err(e) => {
                tracing::warn!(%tenant, error = %e, "the keys could not be read");
                return;
            }
        };
        for key in keys.iter().filter(|k| k.state != KeyState::Destroyed) {
            match self.check_history(tenant, key.id).await {
                Ok(()) => {}
                // Said already; more of it says nothing new.
                Err(SigningError::HistoryRewound { .. }) => return,
                Err(e) => tracing::warn!(%tenant, key = %key.id, error = %e, "not compared yet"),
            }
        }
        if let Err(e) = self.compare_inventory(tenant).await {
            tracing::warn!(%tenant, error = %e, "the token's inventory could not be compared");
        }
    }

    /// Once per key and run: the worker must not remember more than the database has.
    pub(crate) async fn check_history(
        &self,
        tenant: TenantId,
        key: KeyId,
    ) -> Result<(), SigningError> {
        if self.compared().has(key) {
            return Ok(());
        }
        let log = LogId::from(key);
        let worker = self.hsm().open_log(tenant, key).await?;
        // Read after the worker's: our own head may move meanwhile, and only forward.
        let head = self
            .store()
            .head(tenant, log)
            .await?
            .ok_or(SigningError::NotFound)?;
        if worker > head.size {
            return Err(self.rewound(log, worker, head.size));
        }
        self.compared().add(key);
        Ok(())
    }

    /// Whether the authorisations of this log may be closed: not while its worker's word is missing.
    pub(crate) async fn may_close(&self, tenant: TenantId, log: LogId) -> Result<(), SigningError> {
        let key = KeyId(log.0);
        if self.compared().has(key) {
            return Ok(());
        }
        let asked = tokio::time::timeout(ANSWER_WITHIN, self.hsm().open_log(tenant, key));
        match asked.await.unwrap_or(Err(HsmError::Deadline)) {
            // A worker that has no memory of the log (any more) has nothing to say.
            Err(HsmError::NoSuchKey | HsmError::Refused { .. } | HsmError::ModuleMissing(_)) => {
                Ok(())
            }
            Err(e) => Err(e.into()),
            Ok(_) => self.check_history(tenant, key).await,
        }
    }

    /// The database is an old copy: says so, and lets nothing be written any more.
    pub(crate) fn rewound(&self, log: LogId, worker: u64, database: u64) -> SigningError {
        let error = SigningError::HistoryRewound {
            log,
            worker,
            database,
        };
        tracing::error!(
            %log, worker, database, behind = worker.saturating_sub(database),
            "the database is an old copy: nothing is written until the newer one is back"
        );
        self.sequencer().freeze(&error);
        error
    }
}
