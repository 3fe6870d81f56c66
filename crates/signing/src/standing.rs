//! Whether this node may still let anything out (docs/adr/0007).
//!
//! A node has a lease in the database, by the database's clock, and renews it while it is well. One
//! that stalls past its lease is buried by another node, which closes what it left open as `unknown`.
//! When it wakes it may hold signatures: they must die with it. So before anything leaves, the node
//! asks its own clock whether its lease can still be good. That clock counts from *before* the
//! renewal was sent and does not stop while the machine is suspended, so it never says yes for longer
//! than the database does.

use crate::{Service, SigningError};
use countersign_core::Micros;
use countersign_core::ports::store::CommitError;
use rustix::time::{ClockId, clock_gettime};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// A clock this far from the database's writes no leaves: their times would contradict other nodes'.
pub const MAX_SKEW: Duration = Duration::from_secs(30);

/// The node's lease, as the node itself sees it.
#[derive(Debug)]
pub(crate) struct Standing {
    /// Until when, in nanoseconds of the clock that counts suspended time too; `i64::MAX` where no
    /// other node can be alive.
    until: AtomicI64,
    /// This node's clock less the database's, in microseconds.
    skew: AtomicI64,
}

impl Standing {
    /// Of a node that nobody can bury.
    pub(crate) fn alone() -> Self {
        Self {
            until: AtomicI64::new(i64::MAX),
            skew: AtomicI64::new(0),
        }
    }

    /// Of a node that joined: `asked` is what [`boot_time`] said before it asked.
    pub(crate) fn leased(asked: i64, lease: Duration) -> Self {
        let standing = Self::alone();
        standing.renewed(asked, lease);
        standing
    }

    fn renewed(&self, asked: i64, lease: Duration) {
        // A tenth is kept back: clocks drift, and an answer takes its time to leave.
        let lease = lease - lease / 10;
        let lease = i64::try_from(lease.as_nanos()).unwrap_or(i64::MAX);
        self.until
            .store(asked.saturating_add(lease), Ordering::Release);
    }

    pub(crate) fn skewed(&self, ours: Micros, database: Micros) {
        self.skew
            .store(ours.0.saturating_sub(database.0), Ordering::Release);
    }

    /// How far this node's clock is ahead of the database's, in microseconds.
    pub(crate) fn skew(&self) -> i64 {
        self.skew.load(Ordering::Acquire)
    }

    /// Whether the lease is surely good.
    pub(crate) fn good(&self) -> Result<(), SigningError> {
        let until = self.until.load(Ordering::Acquire);
        if until != i64::MAX && boot_time() >= until {
            return Err(SigningError::Unavailable(
                "this node's lease ran out: what it held was destroyed".into(),
            ));
        }
        let skew = self.skew();
        if Duration::from_micros(skew.unsigned_abs()) > MAX_SKEW {
            return Err(SigningError::Unavailable(format!(
                "this node's clock is {} s off the database's",
                skew / 1_000_000
            )));
        }
        Ok(())
    }
}

/// Nanoseconds since the machine started, suspended time included (`CLOCK_BOOTTIME`, clock_gettime(2)).
pub(crate) fn boot_time() -> i64 {
    let t = clock_gettime(ClockId::Boottime);
    t.tv_sec
        .saturating_mul(1_000_000_000)
        .saturating_add(t.tv_nsec)
}

impl Service {
    /// Whether an answer may still leave this node; asked when all of it is made.
    ///
    /// # Errors
    /// [`SigningError::Unavailable`]: the lease ran out meanwhile. What was to leave is destroyed by its
    /// holder; a retry at another node helps.
    pub fn may_let_out(&self) -> Result<(), SigningError> {
        self.standing().good()
    }

    /// Renews this node's lease and buries nodes whose own ended, until the service stops.
    pub(crate) async fn keep_standing(self) {
        let lease = self.settings().lease;
        let mut ticks = tokio::time::interval(lease / 4);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if self.stopping() {
                return;
            }
            let asked = boot_time();
            match self.store().renew(self.node(), lease).await {
                Ok(database) => {
                    self.standing().renewed(asked, lease);
                    self.standing().skewed(self.clock().now(), database);
                    self.measures().skew_us.set(self.standing().skew());
                }
                Err(CommitError::Buried) => {
                    self.sequencer().freeze(&SigningError::Buried);
                    tracing::error!("this node stalled past its lease and was declared dead");
                    return;
                }
                Err(e) => {
                    tracing::warn!(error = %e, "this node's lease could not be renewed");
                    continue;
                }
            }
            if let Err(e) = self.bury_the_dead().await {
                tracing::warn!(error = %e, "whether other nodes are alive could not be looked up");
            }
        }
    }

    /// Declares dead whose lease ended, and closes what they left open.
    async fn bury_the_dead(&self) -> Result<(), SigningError> {
        for dead in self.store().bury(self.node()).await? {
            tracing::warn!(node = %dead.node, name = %dead.name, "a node's lease ended: declared dead");
        }
        // Whoever buried a node may have died before it closed everything.
        let recovered = self.recover().await?;
        if recovered.closed > 0 {
            tracing::warn!(
                closed = recovered.closed,
                "authorisations left open by a dead node were closed as unknown"
            );
        }
        Ok(())
    }

    /// Ready once this node was declared dead: nothing is left for it but to end.
    pub async fn buried(&self) {
        let mut ticks = tokio::time::interval(Duration::from_millis(200));
        loop {
            ticks.tick().await;
            if matches!(self.sequencer().frozen(), Some(SigningError::Buried)) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_counts_from_before_it_was_asked_for() {
        let now = boot_time();
        let lease = Duration::from_secs(10);
        assert!(Standing::leased(now, lease).good().is_ok());
        // Asked eleven seconds ago, answered now: it may be over in the database.
        let late = Standing::leased(now - 11_000_000_000, lease);
        assert!(late.good().is_err());
        // The last tenth is not used.
        let nearly = Standing::leased(now - 9_500_000_000, lease);
        assert!(nearly.good().is_err());
        assert!(Standing::alone().good().is_ok());
    }

    #[test]
    fn a_clock_far_from_the_databases_lets_nothing_out() {
        let standing = Standing::alone();
        for (ours, good) in [
            (0, true),
            (29, true),
            (-29, true),
            (31, false),
            (-31, false),
        ] {
            standing.skewed(
                Micros::from_seconds(1000 + ours),
                Micros::from_seconds(1000),
            );
            assert_eq!(standing.good().is_ok(), good, "{ours} s");
        }
    }
}
