//! Is the certificate still good? (CSBR §9.6.3(10): no use of the key after revocation.)
//!
//! Each certificate in use is looked up in its CA's revocation list, over and over. What is learned of
//! a certificate is an effect with a leaf in the tenant's log and moves the tenant's version, so that
//! decisions in flight are void: when the poll that saw a revocation has returned, no later
//! authorisation exists, on any node. *That* a list was fetched is kept without a leaf; a decision
//! compares its age with the greatest one allowed, and refuses when no news is too old (fail closed).
//!
//! - [`status`] — what a decision needs to know, and the decision;
//! - [`lists`] — fetching, judging and applying one list;
//! - [`ending`] — certificates that end soon.
//!
//! Nodes share the work: a list is claimed in the database before it is fetched, so that each is
//! fetched once, and what one node learns all decide by.

mod ending;
mod lists;
mod status;

pub(crate) use ending::Told;
pub(crate) use lists::follow;
pub use status::CertificateNews;
pub(crate) use status::{Freshness, Known, moment};

use crate::Service;
use crate::measures::CertificateLabel;
use countersign_core::Micros;
use std::collections::HashMap;
use std::time::Duration;
use tokio::task::JoinSet;

/// What the operator decides about certificate status.
#[derive(Debug, Clone)]
pub struct RevocationSettings {
    /// How often each list is fetched.
    pub poll: Duration,
    /// How old the last good look may be before signing is refused.
    pub max_age: Duration,
    /// How long before its end a certificate is warned of.
    pub warn_before: Duration,
    /// Where lists are fetched instead of where certificates say, by the SHA-256 of the issuing CA's
    /// certificate.
    pub mirrors: HashMap<[u8; 32], String>,
}

impl Default for RevocationSettings {
    fn default() -> Self {
        Self {
            poll: Duration::from_secs(15 * 60),
            max_age: Duration::from_secs(24 * 3600),
            warn_before: Duration::from_secs(30 * 86_400),
            mirrors: HashMap::new(),
        }
    }
}

/// How it stands with certificates, for metrics and people: numbers of this deployment, no tenant's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CertificateHealth {
    /// Lists that are polled.
    pub lists: u64,
    /// Of these, how many could not be had or judged at the last try.
    pub lists_failing: u64,
    /// When the list that was looked at the longest ago was last good; a list that never was counts
    /// as 1970. `None` without any list.
    pub oldest_good: Option<Micros>,
    /// Certificates that end within the warning time.
    pub ending: u64,
    /// When these numbers were taken.
    pub at: Micros,
}

impl Default for CertificateHealth {
    fn default() -> Self {
        Self {
            lists: 0,
            lists_failing: 0,
            oldest_good: None,
            ending: 0,
            at: Micros(0),
        }
    }
}

/// Lists fetched at once: one slow server holds up no other.
const AT_ONCE: u32 = 16;
/// Lists counted for [`CertificateHealth`].
const COUNTED: u32 = 10_000;

impl Service {
    /// How it stood with certificates a moment ago (at most one polling interval).
    #[must_use]
    pub fn certificate_health(&self) -> CertificateHealth {
        *self
            .certificate_health_cell()
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Looks at lists whose time has come, for as long as the service runs.
    pub(crate) async fn follow_lists(self) {
        let mut ticks = self.ticks();
        loop {
            ticks.tick().await;
            if self.stopping() {
                return;
            }
            if !self.may_take_on() {
                continue;
            }
            self.list_the_unlisted().await;
            match self.store().lists_due(self.clock().now(), AT_ONCE).await {
                Ok(due) => {
                    let mut polling = JoinSet::new();
                    for row in due {
                        let service = self.clone();
                        polling.spawn(async move { service.poll_list(row).await });
                    }
                    while polling.join_next().await.is_some() {}
                }
                Err(e) => tracing::warn!(error = %e, "revocation lists wait for the database"),
            }
        }
    }

    /// Warns of ends, and counts, once in a polling interval.
    pub(crate) async fn follow_ends(self) {
        let mut ticks = tokio::time::interval(self.revocation().poll);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if self.stopping() {
                return;
            }
            if !self.may_take_on() {
                continue;
            }
            match self.warn_of_ends().await {
                Ok(ending) => self.count(ending).await,
                Err(e) => {
                    tracing::warn!(error = %e, "certificates that end soon were not looked for")
                }
            }
        }
    }

    async fn count(&self, ending: u64) {
        let lists = match self.store().lists_due(Micros(i64::MAX), COUNTED).await {
            Ok(lists) => lists,
            Err(e) => {
                tracing::warn!(error = %e, "revocation lists were not counted");
                return;
            }
        };
        let health = CertificateHealth {
            lists: lists.len() as u64,
            lists_failing: lists.iter().filter(|l| l.problem.is_some()).count() as u64,
            oldest_good: lists.iter().map(|l| l.good.unwrap_or(Micros(0))).min(),
            ending,
            at: self.clock().now(),
        };
        let count = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let gauges = &self.measures().certificates;
        gauges.set(CertificateLabel::NearEnd, count(health.ending));
        gauges.set(CertificateLabel::ListFailing, count(health.lists_failing));
        *self
            .certificate_health_cell()
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = health;
    }

    /// Whether this node takes on work that nobody asked for: not if another node may have buried it,
    /// nor on a database that is an old copy.
    pub(crate) fn may_take_on(&self) -> bool {
        self.standing().good().is_ok() && self.sequencer().frozen().is_none()
    }

    /// Ticks fine enough for the polling interval.
    pub(crate) fn ticks(&self) -> tokio::time::Interval {
        let every =
            (self.revocation().poll / 4).clamp(Duration::from_millis(250), Duration::from_secs(5));
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        ticks
    }

    pub(crate) fn revocation(&self) -> &RevocationSettings {
        &self.settings().revocation
    }
}
