//! One worker's life after life.

use crate::config::PoolConfig;
use crate::connection::{self, Call, End};
use crate::errors::to_port;
use crate::process::{self, Running, Which};
use crate::quarantine::Quarantine;
use countersign_core::IsolationClass;
use countersign_core::measure::Counter;
use countersign_core::ports::hsm::{HsmError, SandboxMeasure};
use countersign_hsm_protocol::TokenState;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Callers wait through pauses up to this one; in longer ones they are told why at once.
const SHORT_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// A worker that lived so long was a good one: the pauses begin anew.
const LIVED_WELL: Duration = Duration::from_secs(5);

/// How a worker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Health {
    Starting,
    /// And how it is confined.
    Up(Vec<SandboxMeasure>),
    /// Why, and what its callers are told.
    Down(HsmError),
}

/// Shared with the pool.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) which: Which,
    /// In health and logs.
    pub(crate) name: String,
    class: IsolationClass,
    pub(crate) quarantine: Arc<Quarantine>,
    /// How often the worker was lost, or did not start.
    pub(crate) lost: Counter,
    health: Mutex<Health>,
}

impl Watched {
    pub(crate) fn new(which: Which, name: String, class: IsolationClass) -> Self {
        Self {
            which,
            name,
            class,
            quarantine: Arc::default(),
            lost: Counter::default(),
            health: Mutex::new(Health::Starting),
        }
    }

    pub(crate) fn health(&self) -> Health {
        self.health
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The class of its token.
    pub(crate) const fn class(&self) -> IsolationClass {
        self.class
    }

    fn set(&self, health: Health) {
        *self.health.lock().unwrap_or_else(PoisonError::into_inner) = health;
    }
}

/// Keeps a worker running until `stop`.
pub(crate) async fn supervise(
    config: Arc<PoolConfig>,
    watched: Arc<Watched>,
    mut calls: mpsc::Receiver<Call>,
    stop: CancellationToken,
) {
    let token = &watched.name;
    let mut pause = FIRST_PAUSE;
    while !stop.is_cancelled() {
        let started = Instant::now();
        let outcome = tokio::select! {
            () = stop.cancelled() => return,
            outcome = process::start(&config, &watched.which) => outcome,
        };
        let why = match outcome {
            Err(reason) => HsmError::Unavailable(reason),
            Ok(running) => match usable(&watched.which, &running.hello.token) {
                Err(error) => {
                    process::stop(running.child).await;
                    error
                }
                Ok(()) => {
                    let Running {
                        child,
                        stream,
                        hello,
                    } = running;
                    for gap in hello.sandbox.iter().filter(|m| !m.enforced) {
                        tracing::warn!(
                            token,
                            measure = gap.measure,
                            detail = gap.detail,
                            "the worker is not confined in this"
                        );
                    }
                    watched.set(Health::Up(hello.sandbox));
                    let end =
                        connection::serve(&config, stream, &mut calls, &watched.quarantine, &stop)
                            .await;
                    if end == End::Asked {
                        process::stop(child).await;
                        return;
                    }
                    tracing::error!(token, ?end, "the worker is killed and started again");
                    process::kill(child).await;
                    HsmError::Unavailable("the worker is being restarted".into())
                }
            },
        };
        if started.elapsed() >= LIVED_WELL {
            pause = FIRST_PAUSE;
        }
        tracing::warn!(token, reason = %why, ?pause, "no worker");
        watched.lost.inc();
        watched.set(Health::Down(why.clone()));
        if pause <= SHORT_PAUSE && matches!(why, HsmError::Unavailable(_)) {
            // A death or two: who calls now waits for the next worker.
            tokio::time::sleep(pause).await;
        } else {
            refuse_for(pause, &why, &mut calls, &stop).await;
        }
        pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
        // What failed stays visible until a worker is up; only a plain restart shows as such.
        if matches!(&why, HsmError::Unavailable(_)) && started.elapsed() >= LIVED_WELL {
            watched.set(Health::Starting);
        }
    }
}

/// While there is no worker, callers are told why at once.
async fn refuse_for(
    pause: Duration,
    why: &HsmError,
    calls: &mut mpsc::Receiver<Call>,
    stop: &CancellationToken,
) {
    let sleep = tokio::time::sleep(pause);
    tokio::pin!(sleep);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = &mut sleep => return,
            call = calls.recv() => match call {
                Some(call) => {
                    if let Some(reply) = call.reply {
                        let _ = reply.send(Err(why.clone()));
                    }
                }
                None => return,
            },
        }
    }
}

fn usable(which: &Which, token: &TokenState) -> Result<(), HsmError> {
    match (token, which) {
        (TokenState::Absent | TokenState::Ready { .. }, Which::Existing(_))
        | (TokenState::Absent, Which::Own(_)) => Ok(()),
        (TokenState::Ready { tenant }, Which::Own(its)) if *tenant == Some(*its) => Ok(()),
        (TokenState::Ready { .. }, Which::Own(_)) => Err(HsmError::Refused {
            code: "token-taken".into(),
            detail: "the folder holds another tenant's token".into(),
        }),
        (TokenState::Latched { reason }, _) => Err(HsmError::Latched(reason.clone())),
        (TokenState::Failed { error }, _) => Err(to_port(error.clone())),
    }
}
