//! Bounds on what callers may ask of this node: requests at once, requests a second, time for a
//! body. What may be stored is bounded by the service (`countersign_signing::Caps`).
//!
//! The order is that of trust. A caller without a service token gets a place of the small pools of
//! the token exchange and nothing else, so strangers with slow bodies, and issuers with slow
//! answers, keep nobody waiting who is known. A known caller is held to its own rate, then to its
//! tenant's, then to its tenant's share of the places; only a request that is wholly here takes a
//! place.
//!
//! Rates are of this node: with several nodes a tenant gets as many times the rate.

use crate::auth::service_token::ServiceClaims;
use crate::problem::{Kind, Problem};
use countersign_core::TenantId;
use governor::clock::{Clock as _, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The bounds, as the configuration gives them (`[limits]`).
#[derive(Debug, Clone)]
pub struct Limits {
    /// Most requests worked on at once; more are answered 503.
    pub concurrency: usize,
    /// Most of one tenant's requests under way at once, bodies that still come included; more are
    /// answered 429.
    pub tenant_concurrency: usize,
    /// Most token exchanges worked on at once.
    pub exchanges: usize,
    /// Longest an answer may take. What a handler began goes on.
    pub timeout: Duration,
    /// Longest a request's body may take to come.
    pub body_timeout: Duration,
    /// What one tenant may ask a second: a request counts 1, a request for signatures 1 for each
    /// item.
    pub tenant_per_s: NonZeroU32,
    /// What one caller (issuer and subject) may ask a second.
    pub principal_per_s: NonZeroU32,
    /// How many of one tenant's ID tokens are exchanged a second. Each is a leaf.
    pub exchanges_per_s: NonZeroU32,
    /// How often a second evidence is appraised for callers without a service token, all together;
    /// `None`: never.
    pub anyone_per_s: Option<NonZeroU32>,
}

impl Default for Limits {
    fn default() -> Self {
        // 10,000 signatures a second are what one machine does; the rates leave room above that
        // and stop what is no signing any more.
        Self {
            concurrency: 512,
            tenant_concurrency: 256,
            exchanges: 64,
            timeout: Duration::from_secs(90),
            body_timeout: Duration::from_secs(10),
            tenant_per_s: NonZeroU32::new(50_000).unwrap_or(NonZeroU32::MIN),
            principal_per_s: NonZeroU32::new(25_000).unwrap_or(NonZeroU32::MIN),
            exchanges_per_s: NonZeroU32::new(200).unwrap_or(NonZeroU32::MIN),
            anyone_per_s: None,
        }
    }
}

/// Bodies of strangers that may come at once: cheap each, and none comes for longer than
/// [`Limits::body_timeout`].
const STRANGERS_BODIES: usize = 1024;
/// Appraisals for strangers under way at once, bodies that still come included: each may hold a body of
/// the largest size.
const ANYONES_PLACES: usize = 16;
/// One tenant's appraisals of what it hands in that are under way at once. There are few places, in
/// turn: a tenant that asks without end does not fill the line.
const TENANTS_VERIFICATIONS: usize = 4;
/// Longest a token exchange waits for a place.
const EXCHANGE_WAIT: Duration = Duration::from_secs(5);
/// A second's worth beyond the rate may come at once.
const BURST_S: u32 = 2;
/// Least burst: a batch is asked for as a whole.
const LEAST_BURST: u32 = 100;
/// Tests of a rate between two removals of what is remembered of idle callers.
const SWEEP: u32 = 65_536;

type Rate<K> = RateLimiter<K, DashMapStateStore<K>, DefaultClock, NoOpMiddleware>;

/// The bounds at work.
pub(crate) struct Gate {
    pub(crate) limits: Limits,
    places: Arc<Semaphore>,
    bodies: Arc<Semaphore>,
    exchanges: Arc<Semaphore>,
    shares: Shares<TenantId>,
    tenants: Rate<TenantId>,
    principals: Rate<[u8; 32]>,
    exchanged: Rate<TenantId>,
    anyone: Option<DefaultDirectRateLimiter>,
    anyones: Arc<Semaphore>,
    verifications: Shares<TenantId>,
    tested: AtomicU32,
    clock: DefaultClock,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl Gate {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            places: Arc::new(Semaphore::new(limits.concurrency)),
            bodies: Arc::new(Semaphore::new(STRANGERS_BODIES)),
            exchanges: Arc::new(Semaphore::new(limits.exchanges)),
            shares: Shares::new(limits.tenant_concurrency),
            tenants: RateLimiter::dashmap(quota(limits.tenant_per_s)),
            principals: RateLimiter::dashmap(quota(limits.principal_per_s)),
            exchanged: RateLimiter::dashmap(quota(limits.exchanges_per_s)),
            // No burst beyond a second's worth: each costs up to hundreds of signature checks.
            anyone: limits
                .anyone_per_s
                .map(|n| RateLimiter::direct(Quota::per_second(n))),
            anyones: Arc::new(Semaphore::new(ANYONES_PLACES)),
            verifications: Shares::new(TENANTS_VERIFICATIONS),
            tested: AtomicU32::new(0),
            clock: DefaultClock::default(),
            limits,
        }
    }

    /// A place to work in, at once or not at all.
    pub(crate) fn place(&self) -> Result<OwnedSemaphorePermit, Problem> {
        Arc::clone(&self.places)
            .try_acquire_owned()
            .map_err(|_| overloaded("the service works on as many requests as it can"))
    }

    /// A stranger's body may come.
    pub(crate) fn body(&self) -> Result<OwnedSemaphorePermit, Problem> {
        Arc::clone(&self.bodies)
            .try_acquire_owned()
            .map_err(|_| overloaded("as many requests without a service token come as may"))
    }

    /// A place for a stranger's request, after a short wait at most: jobs that start at one moment
    /// are no attack.
    pub(crate) async fn exchange(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let place = Arc::clone(&self.exchanges).acquire_owned();
        match tokio::time::timeout(EXCHANGE_WAIT, place).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(overloaded("as many tokens are being exchanged as may")),
        }
    }

    /// The tenant's share of what is under way.
    pub(crate) fn share(&self, tenant: TenantId) -> Result<Share<TenantId>, Problem> {
        self.shares.take(tenant).ok_or_else(|| {
            limited(
                format!(
                    "{} requests of this tenant are under way, as many as may",
                    self.limits.tenant_concurrency
                ),
                1,
            )
        })
    }

    /// Counts `n` against the rates of the caller and its tenant.
    pub(crate) fn spend(&self, claims: &ServiceClaims, n: u32) -> Result<(), Problem> {
        let Some(n) = NonZeroU32::new(n) else {
            return Ok(());
        };
        self.sweep();
        let l = &self.limits;
        self.test(&self.principals, &principal(claims), n, || {
            format!("one caller may ask {} times a second", l.principal_per_s)
        })?;
        self.test(&self.tenants, &claims.tenant, n, || {
            format!("one tenant may ask {} times a second", l.tenant_per_s)
        })
    }

    /// Counts an exchange that is about to be written down.
    pub(crate) fn spend_exchange(&self, tenant: TenantId) -> Result<(), Problem> {
        self.sweep();
        self.test(&self.exchanged, &tenant, NonZeroU32::MIN, || {
            format!(
                "{} tokens of a tenant are exchanged a second; this one was not used up",
                self.limits.exchanges_per_s
            )
        })
    }

    /// Whether evidence is appraised for callers without a service token.
    pub(crate) fn anyone_verifies(&self) -> bool {
        self.anyone.is_some()
    }

    /// Counts an appraisal for somebody without a service token.
    pub(crate) fn spend_anyone(&self) -> Result<(), Problem> {
        let Some(rate) = &self.anyone else {
            return Ok(());
        };
        rate.check().map_err(|not_until| {
            let wait = not_until.wait_time_from(self.clock.now()).as_secs();
            let seconds = u32::try_from(wait.saturating_add(1)).unwrap_or(u32::MAX);
            let why = "as much evidence is appraised a second as may be without a service token";
            limited(why.to_owned(), seconds)
        })
    }

    /// A place for that, at once or not at all.
    pub(crate) fn anyones_place(&self) -> Result<OwnedSemaphorePermit, Problem> {
        Arc::clone(&self.anyones)
            .try_acquire_owned()
            .map_err(|_| overloaded("as much evidence of strangers is appraised as may"))
    }

    /// The tenant's share of the appraisals of what is handed in.
    pub(crate) fn verification(&self, tenant: TenantId) -> Result<Share<TenantId>, Problem> {
        self.verifications.take(tenant).ok_or_else(|| {
            let why = format!(
                "{TENANTS_VERIFICATIONS} appraisals of this tenant are under way, as many as may"
            );
            limited(why, 1)
        })
    }

    fn test<K: Hash + Eq + Clone>(
        &self,
        rate: &Rate<K>,
        key: &K,
        n: NonZeroU32,
        why: impl Fn() -> String,
    ) -> Result<(), Problem> {
        match rate.check_key_n(key, n) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(not_until)) => {
                let wait = not_until.wait_time_from(self.clock.now());
                let seconds = wait.as_secs().saturating_add(1);
                Err(limited(why(), u32::try_from(seconds).unwrap_or(u32::MAX)))
            }
            // Never: the burst is as large as a batch may be.
            Err(_) => Err(Problem::new(Kind::TooLarge, why())),
        }
    }

    /// Idle callers are forgotten now and then, or the tables would grow for ever.
    fn sweep(&self) {
        let n = self.tested.fetch_add(1, Ordering::Relaxed);
        if n % SWEEP == SWEEP - 1 {
            for rate in [&self.tenants, &self.exchanged] {
                rate.retain_recent();
                rate.shrink_to_fit();
            }
            self.principals.retain_recent();
            self.principals.shrink_to_fit();
        }
    }
}

/// How much of something each key holds at this moment, up to a bound.
#[derive(Debug, Clone)]
pub(crate) struct Shares<K> {
    held: Arc<Mutex<HashMap<K, usize>>>,
    most: usize,
}

/// Given back when dropped.
#[derive(Debug)]
pub(crate) struct Share<K: Hash + Eq + Clone> {
    shares: Shares<K>,
    key: K,
}

impl<K: Hash + Eq + Clone> Shares<K> {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            held: Arc::default(),
            most,
        }
    }

    /// One more for this key, if it may have one.
    pub(crate) fn take(&self, key: K) -> Option<Share<K>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let n = held.entry(key.clone()).or_default();
        if *n >= self.most {
            return None;
        }
        *n += 1;
        drop(held);
        Some(Share {
            shares: self.clone(),
            key,
        })
    }
}

impl<K: Hash + Eq + Clone> Drop for Share<K> {
    fn drop(&mut self) {
        let mut held = self
            .shares
            .held
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(n) = held.get_mut(&self.key) {
            *n = n.saturating_sub(1);
            if *n == 0 {
                held.remove(&self.key);
            }
        }
    }
}

fn quota(per_s: NonZeroU32) -> Quota {
    let burst = per_s.get().saturating_mul(BURST_S).max(LEAST_BURST);
    Quota::per_second(per_s).allow_burst(NonZeroU32::new(burst).unwrap_or(per_s))
}

fn principal(claims: &ServiceClaims) -> [u8; 32] {
    let mut h = Sha256::new();
    h.update(claims.tenant.as_bytes());
    for part in [&claims.idp, &claims.sub] {
        h.update((part.len() as u64).to_be_bytes());
        h.update(part.as_bytes());
    }
    h.finalize().into()
}

fn overloaded(detail: &str) -> Problem {
    Problem::new(Kind::Overloaded, detail)
}

fn limited(detail: String, retry_after_s: u32) -> Problem {
    Problem::new(Kind::RateLimited, detail).retry_after(retry_after_s)
}
