//! What the pool tells of its workers: how many are in which state, and how often one was lost.

use crate::pool::WorkerPool;
use crate::supervise::Health;
use countersign_core::IsolationClass;
use countersign_core::labels;
use countersign_core::measure::{Label, Report, Sink, Type};
use countersign_core::ports::hsm::HsmError;

labels! {
    /// State of a worker.
    pub enum WorkerState {
        /// Not yet greeted.
        Starting = "starting",
        /// Works.
        Up = "up",
        /// Does not start, or was lost.
        Down = "down",
        /// A wrong PIN was met: nobody tries again.
        Latched = "latched",
    }
}

impl From<&Health> for WorkerState {
    fn from(health: &Health) -> Self {
        match health {
            Health::Starting => Self::Starting,
            Health::Up(_) => Self::Up,
            Health::Down(HsmError::Latched(_)) => Self::Latched,
            Health::Down(_) => Self::Down,
        }
    }
}

/// Classes of tokens, in the order of the report.
const CLASSES: [IsolationClass; 3] = [
    IsolationClass::ExclusiveToken,
    IsolationClass::PerKeyAuthorisation,
    IsolationClass::SharedToken,
];

impl Report for WorkerPool {
    #[allow(clippy::cast_precision_loss, reason = "exact up to 2^53")]
    fn report(&self, to: &mut dyn Sink) {
        let workers = self.watched();
        to.metric(
            "countersign_workers",
            Type::Gauge,
            "Workers, by the class of their token and their state.",
        );
        for class in CLASSES {
            for state in WorkerState::ALL {
                let n = workers
                    .iter()
                    .filter(|w| w.class() == class && WorkerState::from(&w.health()) == *state)
                    .count();
                to.value(
                    &[("class", class.as_str()), ("state", state.label())],
                    n as f64,
                );
            }
        }
        to.metric(
            "countersign_worker_restarts_total",
            Type::Counter,
            "How often a worker was lost or did not start, by the class of its token.",
        );
        for class in CLASSES {
            let n: u64 = workers
                .iter()
                .filter(|w| w.class() == class)
                .map(|w| w.lost.get())
                .sum();
            to.value(&[("class", class.as_str())], n as f64);
        }
    }
}
