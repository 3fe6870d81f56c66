//! What all handlers share.

use crate::auth::{FetchPolicy, IdTokenVerifier, IssuerKeys, ServiceTokens};
use crate::limits::{Gate, Limits};
use crate::measures::ApiMeasures;
use crate::middleware::Watch;
use crate::problem::{Kind, Problem};
use countersign_core::trace::Tracer;
use countersign_core::{Clock, LogId};
use countersign_signing::{Service, current_trace, traced};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

/// Longest a batch waits for its turn.
const TURN: Duration = Duration::from_secs(20);

/// What the API is told by the configuration.
#[derive(Debug, Clone)]
pub struct ApiConfig {
    /// The deployment's name: `iss` of its service tokens.
    pub name: String,
    /// Prefix of log origins, for example `sign.example.com/log`: the same as the service's.
    pub origin_prefix: String,
    /// What may be fetched from issuers.
    pub fetch: FetchPolicy,
    /// Most signatures made at once, by all requests together: a batch takes a place for each of its
    /// items and waits its turn. At least the items of one batch.
    pub signatures: usize,
    /// Where spans go; `None`: nowhere.
    pub tracer: Option<Arc<dyn Tracer>>,
    /// How much at once, and how fast.
    pub limits: Limits,
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self {
            name: "localhost".to_owned(),
            origin_prefix: "localhost/log".to_owned(),
            fetch: FetchPolicy::default(),
            signatures: 1024,
            tracer: None,
            limits: Limits::default(),
        }
    }
}

/// The API's state. Cheap to clone.
#[derive(Clone)]
pub struct Api(Arc<Inner>);

struct Inner {
    service: Service,
    clock: Arc<dyn Clock>,
    verifier: IdTokenVerifier,
    tokens: ServiceTokens,
    tasks: TaskTracker,
    /// A place for each signature under way.
    signatures: Arc<Semaphore>,
    watch: Watch,
    gate: Gate,
    origin_prefix: String,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Api(…)")
    }
}

impl Api {
    /// An API on a service.
    #[must_use]
    pub fn new(service: Service, clock: Arc<dyn Clock>, config: &ApiConfig) -> Self {
        let tokens = ServiceTokens::from_source(config.name.clone(), {
            let service = service.clone();
            move || service.token_keys()
        });
        // Half of the exchanges may wait for one issuer.
        let waiting = (config.limits.exchanges / 2).max(1);
        let keys = Arc::new(IssuerKeys::new(config.fetch, Arc::clone(&clock), waiting));
        Self(Arc::new(Inner {
            service,
            clock,
            verifier: IdTokenVerifier::new(keys),
            tokens,
            tasks: TaskTracker::new(),
            signatures: Arc::new(Semaphore::new(
                config.signatures.max(countersign_signing::MAX_ITEMS),
            )),
            watch: Watch {
                measures: Arc::default(),
                tracer: config.tracer.clone(),
            },
            gate: Gate::new(config.limits.clone()),
            origin_prefix: config.origin_prefix.clone(),
        }))
    }

    pub(crate) fn service(&self) -> &Service {
        &self.0.service
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.0.clock
    }

    pub(crate) fn verifier(&self) -> &IdTokenVerifier {
        &self.0.verifier
    }

    pub(crate) fn tokens(&self) -> &ServiceTokens {
        &self.0.tokens
    }

    /// Origin of a log of this deployment.
    pub(crate) fn log_origin(&self, log: LogId) -> String {
        format!("{}/{log}", self.0.origin_prefix)
    }

    /// What is counted.
    #[must_use]
    pub fn measures(&self) -> &Arc<ApiMeasures> {
        &self.0.watch.measures
    }

    pub(crate) fn watch(&self) -> Watch {
        self.0.watch.clone()
    }

    /// The bounds.
    pub(crate) fn gate(&self) -> &Gate {
        &self.0.gate
    }

    /// Places for so many signatures, in the order of asking. What waits longer than [`TURN`] is told
    /// to come again: nothing was begun.
    pub(crate) async fn places_to_sign(
        &self,
        count: usize,
    ) -> Result<OwnedSemaphorePermit, Problem> {
        let full = || {
            Problem::new(
                Kind::Overloaded,
                "the service makes as many signatures at once as it can",
            )
        };
        let count = u32::try_from(count).map_err(|_| full())?;
        let turn = Arc::clone(&self.0.signatures).acquire_many_owned(count);
        match tokio::time::timeout(TURN, turn).await {
            Ok(Ok(places)) => Ok(places),
            _ => Err(full()),
        }
    }

    /// Runs work in its own task: neither a caller who hangs up nor a time-out stops it half-way.
    pub(crate) async fn run<T, E, F>(&self, work: F) -> Result<T, Problem>
    where
        T: Send + 'static,
        E: Into<Problem> + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        use tracing::Instrument as _;
        let work = traced(current_trace(), work.in_current_span());
        match self.0.tasks.spawn(work).await {
            Ok(result) => result.map_err(Into::into),
            Err(e) => {
                tracing::error!(panicked = e.is_panic(), "a request's task did not end");
                Err(Problem::internal())
            }
        }
    }

    /// Waits until all work begun has ended. Call it when no more requests come in.
    pub async fn drain(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }
}
