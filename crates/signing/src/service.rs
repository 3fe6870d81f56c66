//! The service object: ports, settings, background work, shutdown.

use crate::caps::Caps;
use crate::claims::Met;
use crate::denials::Denials;
use crate::history::Compared;
use crate::measures::Measures;
use crate::revocation::{CertificateHealth, Freshness, RevocationSettings, Told};
use crate::sequencer::{Draft, Says, Sequencer, SequencerConfig, Submission};
use crate::service_keys::{ServiceSecrets, ServiceTokenKey};
use crate::snapshot::Snapshots;
use crate::standing::{Standing, boot_time};
use crate::use_key::Answers;
use crate::{SealingKey, SigningError};
use countersign_attestation::Anchors;
use countersign_core::ports::ca::CertificateAuthority;
use countersign_core::ports::hsm::{Hsm, LogPins, TokenHealth};
use countersign_core::ports::revocation::ListSource;
use countersign_core::ports::store::{CommitError, Store};
use countersign_core::{Clock, NodeId};
use countersign_signing_log::note::VerifierKey;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

/// What the operator decides.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The service's public name, in statements: for example `sign.example.com`.
    pub service_name: String,
    /// Prefix of log origins, for example `sign.example.com/log`. Fixed for the deployment's life.
    pub origin_prefix: String,
    /// This node's name, for people: its host's, for example.
    pub node_name: String,
    /// How long this node's lease lasts without a renewal. Where several nodes share the database,
    /// what a dead one left open is closed after this time.
    pub lease: Duration,
    /// How often refusals and key-log checkpoints are written into tenant logs.
    pub bookkeeping: Duration,
    /// Issuers at `http://` on loopback may be registered: development only.
    pub loopback_issuers: bool,
    /// How certificates are followed.
    pub revocation: RevocationSettings,
    /// How much one tenant may have.
    pub caps: Caps,
    /// Whom to trust for device evidence.
    pub anchors: Arc<Anchors>,
}

/// What the service is wired to.
pub struct Ports {
    /// Database.
    pub store: Arc<dyn Store>,
    /// Tokens.
    pub hsm: Arc<dyn Hsm>,
    /// CAs with a connector.
    pub cas: Vec<Arc<dyn CertificateAuthority>>,
    /// Revocation lists.
    pub lists: Arc<dyn ListSource>,
    /// Clock.
    pub clock: Arc<dyn Clock>,
}

/// The public halves that others pin.
#[derive(Debug, Clone)]
pub struct ServiceKeys {
    /// Name of the service.
    pub service: String,
    /// SubjectPublicKeyInfo of the service-statement key.
    pub statement_spki: Vec<u8>,
    /// Ed25519 public key of the log key.
    pub log_public_key: [u8; 32],
}

/// Whether the parts answer.
#[derive(Debug, Clone)]
pub struct Readiness {
    /// The database's error, if any.
    pub database: Result<(), String>,
    /// Why nothing is written: the database is an old copy (invariant 3).
    pub rewound: Option<String>,
    /// Why nothing leaves: the node's lease ran out, it was declared dead, or its clock is off.
    pub standing: Result<(), String>,
    /// Tokens known to this node.
    pub tokens: Vec<TokenHealth>,
    /// Whether the service is draining.
    pub stopping: bool,
}

/// The service. Cloning is cheap.
#[derive(Clone)]
pub struct Service(Arc<Inner>);

struct Inner {
    settings: Settings,
    ports: Ports,
    node: NodeId,
    secrets: ServiceSecrets,
    sequencer: Sequencer,
    snapshots: Snapshots,
    denials: Denials,
    compared: Compared,
    answers: Answers,
    met: Met,
    standing: Standing,
    measures: Arc<Measures>,
    freshness: Freshness,
    told: Told,
    appraisals: Semaphore,
    verifications: crate::verification::Places,
    certificate_health: std::sync::Mutex<CertificateHealth>,
    tasks: TaskTracker,
    stopping: AtomicBool,
    /// When the database was probed last, and what it said.
    probed: tokio::sync::Mutex<Option<(std::time::Instant, Result<(), String>)>>,
}

/// Registers this run, and buries those that are surely dead.
async fn join(settings: &Settings, ports: &Ports, node: NodeId) -> Result<Standing, SigningError> {
    let asked = boot_time();
    let database = ports
        .store
        .join(node, &settings.node_name, settings.lease)
        .await?;
    let standing = if ports.store.shared() {
        Standing::leased(asked, settings.lease)
    } else {
        Standing::alone()
    };
    standing.skewed(ports.clock.now(), database);
    for dead in ports.store.bury(node).await? {
        tracing::info!(node = %dead.node, name = %dead.name, "an earlier run did not end cleanly");
    }
    Ok(standing)
}

/// Longest a stopping service tries to write its counts and its goodbye, whatever time is left.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Between two tries of a stopping service to write them.
const AGAIN: Duration = Duration::from_millis(250);

/// What became of a service's work when it was asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Authorisations whose outcome is not in the log. Another run closes them as `unknown`.
    pub open: u64,
    /// Whether all else was written: refusals counted, checkpoints copied, the goodbye.
    pub rest: bool,
}

/// How old a probe's answer may be.
const PROBE_EVERY: Duration = Duration::from_secs(1);

impl Service {
    /// Starts the service: loads or makes the service keys, starts the log writer, closes what a
    /// stopped run left open, begins the bookkeeping.
    ///
    /// # Errors
    /// [`SigningError::Internal`] if the sealing key is not the database's; [`SigningError::Unavailable`]
    /// if the database is away.
    pub async fn start(
        settings: Settings,
        ports: Ports,
        sealing: &SealingKey,
    ) -> Result<Self, SigningError> {
        let secrets = ServiceSecrets::load(&*ports.store, sealing, &*ports.clock).await?;
        let node = NodeId::new();
        let standing = join(&settings, &ports, node).await?;
        let measures = Arc::new(Measures::default());
        let sequencer = Sequencer::start(
            SequencerConfig {
                origin_prefix: settings.origin_prefix.clone(),
                node,
            },
            ports.store.clone(),
            ports.hsm.clone(),
            ports.clock.clone(),
            *secrets.log_seed(),
            measures.clone(),
        );
        let service = Self(Arc::new(Inner {
            settings,
            ports,
            node,
            secrets,
            sequencer,
            snapshots: Snapshots::default(),
            denials: Denials::default(),
            compared: Compared::default(),
            answers: Answers::default(),
            met: Met::default(),
            standing,
            measures,
            freshness: Freshness::default(),
            told: Told::default(),
            appraisals: Semaphore::new(crate::enrolment::AT_ONCE),
            verifications: crate::verification::Places::default(),
            certificate_health: std::sync::Mutex::default(),
            tasks: TaskTracker::new(),
            stopping: AtomicBool::new(false),
            probed: tokio::sync::Mutex::default(),
        }));
        // Before anything is written: an old copy of the database writes nothing.
        service.compare_all().await;
        let recovered = service.recover().await?;
        if recovered.closed > 0 {
            tracing::warn!(
                closed = recovered.closed,
                "authorisations left open by an earlier run were closed as unknown"
            );
        }
        if recovered.left > 0 {
            tokio::spawn(service.clone().recover_the_rest());
        }
        if service.store().shared() {
            tokio::spawn(service.clone().keep_standing());
        }
        tokio::spawn(service.clone().keep_token_keys());
        tokio::spawn(service.clone().keep_books());
        tokio::spawn(service.clone().follow_lists());
        tokio::spawn(service.clone().follow_ends());
        tokio::spawn(service.clone().follow_orders());
        Ok(service)
    }

    /// Stops taking work, waits for what is under way, writes what is counted; what is not done
    /// within `deadline` is left, and told.
    pub async fn drain(&self, deadline: Duration) -> Drained {
        self.0.stopping.store(true, Ordering::Release);
        self.0.tasks.close();
        let until = tokio::time::Instant::now() + deadline;
        let done = tokio::time::timeout_at(until, self.0.tasks.wait())
            .await
            .is_ok();
        let open = u64::try_from(self.measures().open.get()).unwrap_or(0);
        let rest = async {
            // Where nothing is ever written again in this run, trying again does not help.
            while !(self.flush_denials().await & self.copy_checkpoints().await)
                && self.sequencer().frozen().is_none()
            {
                tokio::time::sleep(AGAIN).await;
            }
            self.0.sequencer.stop().await;
            // A node that leaves work open does not say goodbye: its lease says when it is dead.
            if !done || open > 0 {
                return false;
            }
            loop {
                match self.store().leave(self.node()).await {
                    Ok(()) => return true,
                    Err(CommitError::Buried) => return false,
                    Err(e) => tracing::warn!(error = %e, "the goodbye waits for the database"),
                }
                tokio::time::sleep(AGAIN).await;
            }
        };
        let until = until.max(tokio::time::Instant::now() + LAST_WORDS);
        let rest = tokio::time::timeout_at(until, rest).await == Ok(true);
        Drained { open, rest }
    }

    /// What is counted.
    #[must_use]
    pub fn measures(&self) -> &Arc<Measures> {
        &self.0.measures
    }

    /// What others pin.
    #[must_use]
    pub fn service_keys(&self) -> ServiceKeys {
        ServiceKeys {
            service: self.0.settings.service_name.clone(),
            statement_spki: self.0.secrets.statement_spki().to_vec(),
            log_public_key: self.0.secrets.log_public(),
        }
    }

    /// Keys of service tokens, the signing one first. They change: ask each time.
    #[must_use]
    pub fn token_keys(&self) -> Arc<Vec<ServiceTokenKey>> {
        self.0.secrets.token_keys()
    }

    /// Whether the parts answer.
    pub async fn readiness(&self) -> Readiness {
        // A probe is a durable write: asked by anybody, it is made once a second at most, by one.
        let mut last = self.0.probed.lock().await;
        let database = match &*last {
            Some((at, database)) if at.elapsed() < PROBE_EVERY => database.clone(),
            _ => {
                let database = self.store().probe().await.map_err(|e| e.to_string());
                *last = Some((std::time::Instant::now(), database.clone()));
                database
            }
        };
        drop(last);
        Readiness {
            database,
            rewound: match self.sequencer().frozen() {
                Some(SigningError::Buried) | None => None,
                Some(old_copy) => Some(old_copy.to_string()),
            },
            standing: match self.sequencer().frozen() {
                Some(SigningError::Buried) => Err(SigningError::Buried.to_string()),
                _ => self.standing().good().map_err(|e| e.to_string()),
            },
            tokens: self.hsm().health(),
            stopping: self.stopping(),
        }
    }

    /// The verifier key of a log.
    ///
    /// # Errors
    /// [`SigningError::Invalid`] if the origin cannot be a key name.
    pub fn vkey(&self, origin: &str) -> Result<String, SigningError> {
        VerifierKey::new(origin, self.0.secrets.log_public())
            .map(|k| k.to_string())
            .map_err(|e| SigningError::invalid("origin", e.to_string()))
    }

    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.0.ports.store
    }

    pub(crate) fn hsm(&self) -> &Arc<dyn Hsm> {
        &self.0.ports.hsm
    }

    pub(crate) fn cas(&self) -> &[Arc<dyn CertificateAuthority>] {
        &self.0.ports.cas
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.0.ports.clock
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.0.settings
    }

    pub(crate) fn secrets(&self) -> &ServiceSecrets {
        &self.0.secrets
    }

    pub(crate) fn sequencer(&self) -> &Sequencer {
        &self.0.sequencer
    }

    pub(crate) fn snapshots(&self) -> &Snapshots {
        &self.0.snapshots
    }

    pub(crate) fn denials(&self) -> &Denials {
        &self.0.denials
    }

    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.0.tasks
    }

    /// This run of this process.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.0.node
    }

    pub(crate) fn stopping(&self) -> bool {
        self.0.stopping.load(Ordering::Acquire)
    }

    /// Idempotency keys met in this run.
    pub(crate) fn met(&self) -> &Met {
        &self.0.met
    }

    pub(crate) fn answers(&self) -> &Answers {
        &self.0.answers
    }

    pub(crate) fn standing(&self) -> &Standing {
        &self.0.standing
    }

    pub(crate) fn lists(&self) -> &dyn ListSource {
        &*self.0.ports.lists
    }

    pub(crate) fn freshness(&self) -> &Freshness {
        &self.0.freshness
    }

    pub(crate) fn told(&self) -> &Told {
        &self.0.told
    }

    /// Places for appraisals of what is handed in for keys that need not be ours.
    pub(crate) fn verifications(&self) -> &crate::verification::Places {
        &self.0.verifications
    }

    /// Places for appraisals.
    pub(crate) fn appraisals(&self) -> &Semaphore {
        &self.0.appraisals
    }

    pub(crate) fn certificate_health_cell(&self) -> &std::sync::Mutex<CertificateHealth> {
        &self.0.certificate_health
    }

    pub(crate) fn compared(&self) -> &Compared {
        &self.0.compared
    }

    /// What a worker pins.
    pub(crate) fn pins(&self) -> LogPins {
        LogPins {
            origin_prefix: self.0.settings.origin_prefix.clone(),
            log_public_keys: vec![self.0.secrets.log_public()],
        }
    }

    async fn keep_books(self) {
        let mut ticks = tokio::time::interval(self.0.settings.bookkeeping);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut round: u32 = 0;
        loop {
            ticks.tick().await;
            if self.stopping() {
                return;
            }
            self.flush_denials().await;
            self.copy_checkpoints().await;
            round = round.wrapping_add(1);
            if round.is_multiple_of(60)
                && let Err(e) = self.store().forget_expired(self.clock().now()).await
            {
                tracing::warn!(error = %e, "expired rows could not be removed");
            }
        }
    }

    /// Key logs' checkpoints enter their tenant's log: a subscriber finds a key they were never told
    /// of. Never on the signing path. Whether all were copied.
    async fn copy_checkpoints(&self) -> bool {
        let mut all = true;
        self.measures().copying();
        for (key, tenant) in self.0.sequencer.take_moved() {
            let submission = Submission {
                drafts: vec![Draft {
                    tenant,
                    log: tenant.into(),
                    body: Says::KeyHead(key),
                    details: None,
                    opens: false,
                }],
                ..Submission::default()
            };
            if let Err(e) = self.sequencer().write_surely(submission).await {
                tracing::warn!(%tenant, %key, error = ?e, "a key log's checkpoint waits to be copied");
                self.0.sequencer.moved_still(key, tenant);
                all = false;
            }
        }
        self.measures().copied(all);
        all
    }
}
