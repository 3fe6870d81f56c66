//! Orders that nobody waits for: a CA that takes days is asked in the background, across restarts, by
//! one node at a time, until the order is installed or refused.

use crate::actor::Actor;
use crate::{Service, SigningError};
use countersign_core::Micros;
use countersign_core::ports::ca::{CaError, OrderStep};
use countersign_core::ports::rows::{OrderRow, OrderState};
use std::time::Duration;
use tokio::task::JoinSet;

/// Orders asked after at once.
const AT_ONCE: u32 = 8;
/// How long a claim on an order lasts: longer than a CA may take to answer.
pub(super) const CLAIM: Duration = Duration::from_secs(120);
/// How soon an order is asked after that could not be handed over.
pub(super) const FIRST: Duration = Duration::from_secs(5);
/// Longest a CA may make us wait before it is asked again.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// After this an order is not asked after any more; `certificate wait` still does.
const GIVE_UP: Duration = Duration::from_secs(90 * 86_400);

impl Service {
    /// Asks after orders whose time has come, for as long as the service runs.
    pub(crate) async fn follow_orders(self) {
        let mut ticks = self.ticks();
        loop {
            ticks.tick().await;
            if self.stopping() {
                return;
            }
            if !self.may_take_on() {
                continue;
            }
            match self.store().orders_due(self.clock().now(), AT_ONCE).await {
                Ok(due) => {
                    let mut asking = JoinSet::new();
                    for order in due {
                        let service = self.clone();
                        asking.spawn(async move {
                            let id = order.id;
                            if let Err(e) = service.ask_after(order).await {
                                tracing::warn!(order = %id, error = %e, "an order waits");
                            }
                        });
                    }
                    while asking.join_next().await.is_some() {}
                }
                Err(e) => tracing::warn!(error = %e, "orders wait for the database"),
            }
        }
    }

    async fn ask_after(&self, mut order: OrderRow) -> Result<(), SigningError> {
        let now = self.clock().now();
        let Some(seen) = order.next_poll else {
            return Ok(());
        };
        let claimed = self
            .store()
            .claim_order(order.tenant, order.id, seen, now.plus(CLAIM))
            .await?;
        if !claimed {
            return Ok(());
        }
        let connector = self.cas().iter().find(|c| c.name() == order.ca).cloned();
        let (Some(connector), Some(reference)) = (connector, order.reference.clone()) else {
            // Another node, or tomorrow's configuration, may have the connector.
            let why = "this CA has no connector in the configuration".to_owned();
            return self
                .wait_on(&order, Duration::from_secs(3600), Some(why))
                .await;
        };
        let csr = order.csr.clone().unwrap_or_default();
        match connector.poll(&reference, &csr).await {
            Ok(OrderStep::Waiting { retry_after_s }) => {
                let wait = Duration::from_secs(u64::from(retry_after_s));
                self.wait_on(&order, wait, None).await
            }
            Ok(OrderStep::Issued { chain }) => self.finish(Actor::Service, &mut order, chain).await,
            Err(CaError::Refused { detail, reasons }) => {
                let refused = CaError::Refused { detail, reasons };
                self.failed(Actor::Service, &mut order, refused).await;
                Ok(())
            }
            // Away, or it says what we do not understand: the longer it lasts, the rarer we ask.
            Err(e @ (CaError::Unavailable(_) | CaError::Protocol(_) | CaError::NoDeviceSteps)) => {
                let wait = backoff(order.created, self.clock().now());
                self.wait_on(&order, wait, Some(e.to_string())).await
            }
        }
    }

    /// The CA has issued: checked, installed, looked up. Somebody who waits in the foreground may be
    /// first, which is as good.
    pub(super) async fn finish(
        &self,
        actor: Actor<'_>,
        order: &mut OrderRow,
        chain: Vec<Vec<u8>>,
    ) -> Result<(), SigningError> {
        let (tenant, key) = (order.tenant, order.key);
        let done = self.install(actor, tenant, key, chain, Some(order)).await;
        let error = match done {
            Ok(_) => return Ok(()),
            Err(e) => e,
        };
        let stored = self.store().order(tenant, order.id).await?;
        let state = stored.as_ref().map(|o| o.state);
        if let Some(stored) = stored {
            *order = stored;
        }
        match (error, state, actor) {
            (SigningError::Conflict { .. }, Some(OrderState::Installed), _) => Ok(()),
            // Kept with its findings already.
            (SigningError::CertificateRejected { .. }, _, Actor::Service) => Ok(()),
            (e, _, Actor::Service) => {
                let wait = backoff(order.created, self.clock().now());
                self.wait_on(order, wait, Some(e.to_string())).await
            }
            (e, _, Actor::Person(..)) => Err(e),
        }
    }

    pub(super) async fn wait_on(
        &self,
        order: &OrderRow,
        wait: Duration,
        problem: Option<String>,
    ) -> Result<(), SigningError> {
        let now = self.clock().now();
        let next = next_poll(order.created, now, wait);
        let problem = match next {
            Some(_) => problem.map(|p| crate::tenants::cut(&p)),
            None => Some("the CA has not finished in 90 days; it is not asked any more".to_owned()),
        };
        Ok(self
            .store()
            .order_waits(order.tenant, order.id, next, problem)
            .await?)
    }
}

/// When to ask again; `None` for an order that is too old.
fn next_poll(created: Micros, now: Micros, wait: Duration) -> Option<Micros> {
    (now < created.plus(GIVE_UP)).then(|| now.plus(wait.clamp(Duration::from_secs(1), LONGEST)))
}

/// A quarter of the order's age, from five seconds to an hour: doubles the distance about every third
/// time, and needs no counter that would have to survive restarts.
fn backoff(created: Micros, now: Micros) -> Duration {
    let age = u64::try_from(now.0.saturating_sub(created.0)).unwrap_or(0);
    Duration::from_micros(age / 4).clamp(FIRST, Duration::from_secs(3600))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    #[test]
    fn a_ca_that_is_away_is_asked_ever_more_rarely() {
        let at = |s| backoff(Micros(0), Micros(s * SECOND)).as_secs();
        assert_eq!([at(0), at(60), at(3600), at(86_400)], [5, 15, 900, 3600]);
        assert_eq!(backoff(Micros(9), Micros(0)), FIRST);
    }

    #[test]
    fn an_order_is_not_asked_after_for_ever() {
        let day = 86_400 * SECOND;
        let ask = |at, wait| next_poll(Micros(0), Micros(at), Duration::from_secs(wait));
        assert_eq!(ask(day, 30), Some(Micros(day + 30 * SECOND)));
        assert_eq!(ask(day, 0), Some(Micros(day + SECOND)));
        assert_eq!(ask(day, 9_999_999), Some(Micros(2 * day)));
        assert_eq!(ask(90 * day, 30), None);
    }
}
