//! Idempotency keys met in this run: what saves a look into the database for each new one.
//!
//! A key not met before is taken for new, and the claim goes with the authorisation: the commit
//! itself finds out if it was taken already (by an earlier run, by another node), writes nothing and
//! sends the request back to look. A key met before is looked up first, so that a caller who repeats
//! keys disturbs a commit once and not each time. Forgetting is harmless for the same reason.

use countersign_core::ports::rows::ClaimKey;
use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, PoisonError};

/// Keys in one generation; two are kept.
const GENERATION: usize = 65_536;

/// The keys, as hashes: two keys with one hash cost a needless look.
#[derive(Debug, Default)]
pub(crate) struct Met {
    hasher: RandomState,
    generations: Mutex<(HashSet<u64>, HashSet<u64>)>,
}

impl Met {
    /// Notes the key. `true` if it was not known.
    pub(crate) fn first_time(&self, key: &ClaimKey) -> bool {
        let hash = self.hasher.hash_one(key);
        let mut generations = self
            .generations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (young, old) = &mut *generations;
        if young.contains(&hash) || old.contains(&hash) {
            return false;
        }
        if young.len() >= GENERATION {
            std::mem::swap(young, old);
            young.clear();
        }
        young.insert(hash);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_core::TenantId;

    #[test]
    fn a_key_is_new_once_and_memory_is_bounded() {
        let met = Met::default();
        let key = |n: usize| ClaimKey {
            tenant: TenantId(uuid::Uuid::nil()),
            principal: [7; 32],
            key: n.to_string(),
        };
        assert!(met.first_time(&key(0)));
        assert!(!met.first_time(&key(0)));
        for n in 1..=GENERATION {
            met.first_time(&key(n));
        }
        assert!(!met.first_time(&key(0)), "the generation before");
        for n in GENERATION + 1..=2 * GENERATION {
            met.first_time(&key(n));
        }
        let (young, old) = &*met.generations.lock().unwrap();
        assert!(young.len() + old.len() <= 2 * GENERATION);
    }
}
