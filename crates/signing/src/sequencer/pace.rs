//! How long an authorisation may wait for company in a commit and nobody is later for it.
//!
//! Where more orders stand before a token than it works on at once, one more would only wait there.
//! So it may as well wait here for a part of that time: a slow token (RSA) then has one commit for
//! several authorisations instead of one each, and the processor that it spares. A token that keeps up
//! is never waited for.

use countersign_core::TenantId;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// At most this part of the time that the line before the token will take.
const PART: u32 = 4;
/// And never longer than this.
pub(super) const LONGEST: Duration = Duration::from_millis(8);
/// Shorter than this is not worth a timer.
const SHORTEST: Duration = Duration::from_millis(1);

/// The lines before the tokens, by tenant; those without an order are not kept.
#[derive(Debug, Default)]
pub(crate) struct Pace(Mutex<HashMap<TenantId, Line>>);

#[derive(Debug, Default)]
struct Line {
    orders: u32,
    /// By how much the line before a token moves on for each order in it, last seen. Zero where the
    /// token takes all at once.
    each: Duration,
}

/// An order's place in the line; given up when dropped.
pub(crate) struct Place<'a> {
    pace: &'a Pace,
    tenant: TenantId,
    ahead: u32,
}

impl Pace {
    /// An order goes to the tenant's token.
    pub(crate) fn join(&self, tenant: TenantId) -> Place<'_> {
        let mut lines = self.lock();
        let line = lines.entry(tenant).or_default();
        let ahead = line.orders;
        line.orders = line.orders.saturating_add(1);
        Place {
            pace: self,
            tenant,
            ahead,
        }
    }

    /// How long an authorisation of this tenant's may wait.
    pub(super) fn patience(&self, tenant: TenantId) -> Duration {
        let line = self
            .lock()
            .get(&tenant)
            .map_or(Duration::ZERO, |l| l.each.saturating_mul(l.orders));
        let part = (line / PART).min(LONGEST);
        if part < SHORTEST {
            Duration::ZERO
        } else {
            part
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TenantId, Line>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place<'_> {
    /// The order was served after it had waited so long before the token.
    pub(crate) fn served(self, queued: Duration) {
        if let Some(line) = self.pace.lock().get_mut(&self.tenant) {
            line.each = queued.checked_div(self.ahead).unwrap_or_default();
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut lines = self.pace.lock();
        if let Some(line) = lines.get_mut(&self.tenant) {
            line.orders = line.orders.saturating_sub(1);
            if line.orders == 0 {
                lines.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const ME: TenantId = TenantId(Uuid::from_u128(1));
    const OTHER: TenantId = TenantId(Uuid::from_u128(2));
    const MS: Duration = Duration::from_millis(1);

    /// A line of `orders`, of which the last served had waited `each` for each one before it.
    fn line(pace: &Pace, orders: usize, each: Duration) -> Vec<Place<'_>> {
        let mut all: Vec<_> = (0..=orders).map(|_| pace.join(ME)).collect();
        let last = all.pop().expect("a place");
        let ahead = last.ahead;
        last.served(each * ahead);
        all
    }

    #[test]
    fn a_token_that_keeps_up_is_not_waited_for() {
        let pace = Pace::default();
        assert_eq!(pace.patience(ME), Duration::ZERO);
        let _line = line(&pace, 60, Duration::ZERO);
        assert_eq!(pace.patience(ME), Duration::ZERO);
        // Sixteen orders that take a millisecond together: a P-256 key.
        let fast = Pace::default();
        let _line = line(&fast, 16, MS / 16);
        assert_eq!(fast.patience(ME), Duration::ZERO);
    }

    #[test]
    fn a_line_is_waited_for_a_quarter_of_what_is_left_of_it() {
        let pace = Pace::default();
        let mut all = line(&pace, 16, MS);
        assert_eq!(pace.patience(ME), 4 * MS);
        // Neighbours have lines of their own.
        assert_eq!(pace.patience(OTHER), Duration::ZERO);
        all.truncate(8);
        assert_eq!(pace.patience(ME), 2 * MS);
        all.truncate(3);
        assert_eq!(pace.patience(ME), Duration::ZERO, "not worth a timer");
    }

    #[test]
    fn never_for_long_and_nothing_is_kept_of_a_line_that_is_gone() {
        let pace = Pace::default();
        let all = line(&pace, 1000, 100 * MS);
        assert_eq!(pace.patience(ME), LONGEST);
        drop(all);
        assert_eq!(pace.patience(ME), Duration::ZERO);
        assert!(pace.lock().is_empty());
    }
}
