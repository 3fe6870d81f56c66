//! The keys of issuers, kept: fetched by discovery (OpenID Connect Discovery §4), one fetch at a
//! time per issuer, at most once a minute, whatever key ids callers make up. A fetch has a deadline
//! of its own and runs in a task of its own: a caller who goes away stops it for nobody, and how
//! many may wait for one issuer, or for all of one tenant's, is bounded.

use super::fetch::{FetchError, FetchPolicy, Fetcher};
use super::jws::PublicKey;
use crate::limits::Shares;
use arc_swap::ArcSwapOption;
use countersign_core::ports::rows::IssuerRow;
use countersign_core::{Clock, Micros, TenantId};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Least time between two fetches for one issuer while its keys are known.
const REFETCH: Duration = Duration::from_secs(60);
/// Least time between two fetches while no keys are known (the issuer was away at the first).
const RETRY: Duration = Duration::from_secs(5);
/// Keys older than this are fetched anew in the background.
const FRESH: Duration = Duration::from_secs(3600);
/// Keys older than this are not used: an issuer that is away for a day is gone.
const HARD: Duration = Duration::from_secs(24 * 3600);
/// Most keys taken of one issuer.
const MAX_KEYS: usize = 100;
/// Longest a fetch may take, discovery and keys together.
const DEADLINE: Duration = Duration::from_secs(6);
/// Most issuers kept.
const MAX_ISSUERS: usize = 4096;

/// Why a key is not to be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// The issuer has no key of that id (as far as we looked in the last minute). No retry.
    #[error("the issuer publishes no key with the token's key id")]
    UnknownKey,
    /// The issuer cannot be asked, and nothing is known of it. A retry can help.
    #[error("the issuer's keys cannot be fetched: {0}")]
    Fetch(#[from] FetchError),
    /// A fetch failed seconds ago. A retry can help later.
    #[error("the issuer's keys could not be fetched a moment ago: {0}")]
    FailedLately(String),
    /// As many wait for this issuer, or for this tenant's issuers, as may. A retry can help.
    #[error("too many callers wait for this issuer's keys")]
    Crowded,
    /// The fetch did not end in its time. A retry can help.
    #[error("the issuer did not answer within {} s", DEADLINE.as_secs())]
    Slow,
    /// The discovery document names another issuer (OIDC Discovery §4.3). No retry.
    #[error("the discovery document at {url} is not the issuer's: it says \"{says}\"")]
    NotTheIssuer {
        /// Where it was fetched.
        url: String,
        /// What it says.
        says: String,
    },
    /// The document lacks what must be there. No retry.
    #[error("{url}: {reason}")]
    Document {
        /// Where it was fetched.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// The cache.
pub struct IssuerKeys {
    policy: FetchPolicy,
    clock: Arc<dyn Clock>,
    /// By issuer and the CA certificates it was registered with: what one tenant trusts says
    /// nothing to another.
    entries: Mutex<HashMap<[u8; 32], Arc<Entry>>>,
    waiting_for: Shares<[u8; 32]>,
    waiting_of: Shares<TenantId>,
}

struct Entry {
    id: [u8; 32],
    issuer: String,
    ca_pem: Option<String>,
    known: ArcSwapOption<Known>,
    /// Holds the time of the last try and its failure; its lock is the single flight.
    flight: Arc<tokio::sync::Mutex<Flight>>,
}

#[derive(Default)]
struct Flight {
    /// When the last try *ended*: one that was cut off never was.
    last_try: Option<Micros>,
    failure: Option<String>,
    fetcher: Option<Fetcher>,
}

struct Known {
    keys: HashMap<String, PublicKey>,
    fetched: Micros,
    fresh_for: Duration,
}

impl std::fmt::Debug for IssuerKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IssuerKeys")
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

impl IssuerKeys {
    /// An empty cache. `waiting`: most callers that wait for the keys of one issuer, and most that
    /// wait for those of one tenant's issuers, so that slow issuers hold up few.
    #[must_use]
    pub fn new(policy: FetchPolicy, clock: Arc<dyn Clock>, waiting: usize) -> Self {
        Self {
            policy,
            clock,
            entries: Mutex::new(HashMap::new()),
            waiting_for: Shares::new(waiting),
            waiting_of: Shares::new(waiting),
        }
    }

    /// The issuer's key of this id, from memory or by one fetch.
    ///
    /// # Errors
    /// [`KeysError`].
    pub async fn key(&self, issuer: &IssuerRow, kid: &str) -> Result<PublicKey, KeysError> {
        let entry = self.entry(issuer);
        let now = self.clock.now();
        if let Some(known) = usable(&entry, now)
            && let Some(key) = known.keys.get(kid)
        {
            if now >= known.fetched.plus(known.fresh_for) {
                self.refresh_behind(&entry);
            }
            return Ok(key.clone());
        }
        let (Some(_for), Some(_of)) = (
            self.waiting_for.take(entry.id),
            self.waiting_of.take(issuer.tenant),
        ) else {
            return Err(KeysError::Crowded);
        };
        let mut flight = Arc::clone(&entry.flight).lock_owned().await;
        // Whoever held the lock may have fetched what we need.
        let now = self.clock.now();
        let known = usable(&entry, now);
        if let Some(key) = known.as_ref().and_then(|k| k.keys.get(kid)) {
            return Ok(key.clone());
        }
        let pause = if known.is_some() { REFETCH } else { RETRY };
        if let Some(last) = flight.last_try
            && now < last.plus(pause)
        {
            return Err(match (&known, &flight.failure) {
                (None, Some(why)) => KeysError::FailedLately(why.clone()),
                _ => KeysError::UnknownKey,
            });
        }
        let (policy, clock) = (self.policy, Arc::clone(&self.clock));
        let fetching =
            tokio::spawn(async move { fetch(policy, &entry, &mut flight, &*clock).await });
        match fetching.await {
            Ok(Ok(fresh)) => fresh.keys.get(kid).cloned().ok_or(KeysError::UnknownKey),
            // The old keys stay in use, and this id is not among them.
            Ok(Err(_)) | Err(_) if known.is_some() => Err(KeysError::UnknownKey),
            Ok(Err(e)) => Err(e),
            // A panic, or the end of the process.
            Err(_) => Err(KeysError::Slow),
        }
    }

    fn entry(&self, issuer: &IssuerRow) -> Arc<Entry> {
        let mut h = Sha256::new();
        h.update((issuer.issuer.len() as u64).to_be_bytes());
        h.update(issuer.issuer.as_bytes());
        h.update(issuer.ca_pem.as_deref().unwrap_or_default().as_bytes());
        let id: [u8; 32] = h.finalize().into();
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= MAX_ISSUERS && !entries.contains_key(&id) {
            // Only registered issuers come here; so many at once is no ordinary day. Forgetting
            // costs a fetch each.
            entries.clear();
        }
        Arc::clone(entries.entry(id).or_insert_with(|| {
            Arc::new(Entry {
                id,
                issuer: issuer.issuer.clone(),
                ca_pem: issuer.ca_pem.clone(),
                known: ArcSwapOption::empty(),
                flight: Arc::default(),
            })
        }))
    }

    fn refresh_behind(&self, entry: &Arc<Entry>) {
        let (policy, entry, clock) = (self.policy, Arc::clone(entry), Arc::clone(&self.clock));
        tokio::spawn(async move {
            let Ok(mut flight) = Arc::clone(&entry.flight).try_lock_owned() else {
                return;
            };
            let due = clock.now();
            if flight.last_try.is_none_or(|last| due >= last.plus(REFETCH)) {
                // A failure is noted in the flight and in our logs; the old keys stay.
                let _ = fetch(policy, &entry, &mut flight, &*clock).await;
            }
        });
    }
}

fn usable(entry: &Entry, now: Micros) -> Option<Arc<Known>> {
    entry
        .known
        .load_full()
        .filter(|k| now < k.fetched.plus(HARD))
}

async fn fetch(
    policy: FetchPolicy,
    entry: &Entry,
    flight: &mut Flight,
    clock: &dyn Clock,
) -> Result<Arc<Known>, KeysError> {
    let result = tokio::time::timeout(DEADLINE, fetch_known(policy, entry, flight, clock))
        .await
        .unwrap_or(Err(KeysError::Slow));
    flight.last_try = Some(clock.now());
    match result {
        Ok(known) => {
            let known = Arc::new(known);
            flight.failure = None;
            entry.known.store(Some(Arc::clone(&known)));
            Ok(known)
        }
        Err(e) => {
            tracing::warn!(issuer = %entry.issuer, error = %e, "an issuer's keys were not fetched");
            flight.failure = Some(e.to_string());
            Err(e)
        }
    }
}

async fn fetch_known(
    policy: FetchPolicy,
    entry: &Entry,
    flight: &mut Flight,
    clock: &dyn Clock,
) -> Result<Known, KeysError> {
    let fetcher = match &mut flight.fetcher {
        Some(f) => f,
        empty => empty.insert(Fetcher::new(entry.ca_pem.as_deref(), policy)?),
    };
    // OIDC Discovery §4: a terminating slash of the issuer is removed before the path is added.
    let url = format!(
        "{}/.well-known/openid-configuration",
        entry.issuer.strip_suffix('/').unwrap_or(&entry.issuer)
    );
    let discovery = fetcher.json(&url).await?.json;
    let says = discovery.get("issuer").and_then(Value::as_str);
    if says != Some(entry.issuer.as_str()) {
        return Err(KeysError::NotTheIssuer {
            url,
            says: says.unwrap_or("nothing").chars().take(200).collect(),
        });
    }
    let jwks_uri =
        discovery
            .get("jwks_uri")
            .and_then(Value::as_str)
            .ok_or(KeysError::Document {
                url,
                reason: "no jwks_uri",
            })?;
    let fetched = fetcher.json(jwks_uri).await?;
    let document = |reason| KeysError::Document {
        url: jwks_uri.to_owned(),
        reason,
    };
    let list = fetched
        .json
        .get("keys")
        .and_then(Value::as_array)
        .ok_or_else(|| document("no keys"))?;
    let keys: HashMap<_, _> = list
        .iter()
        .take(MAX_KEYS)
        .filter_map(PublicKey::from_jwk)
        .collect();
    if keys.is_empty() {
        return Err(document("no key that can verify a token"));
    }
    Ok(Known {
        keys,
        fetched: clock.now(),
        fresh_for: fetched.max_age.unwrap_or(FRESH).clamp(REFETCH, FRESH),
    })
}
