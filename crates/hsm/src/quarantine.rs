//! Requests that stop workers.
//!
//! When a worker dies, what it was working on is suspect: the oldest calls in flight, as many as it
//! has sessions (after a missed deadline: those that missed it). Content that was suspect twice is
//! refused for ten minutes, so that one poisonous request cannot keep a token down. A success in
//! between clears it.

use countersign_core::{Digest, KeyAlgorithm, KeyId, SignatureScheme};
use countersign_hsm_protocol::RequestBody;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const STRIKES: u32 = 2;
const HELD_FOR: Duration = Duration::from_secs(600);
const MOST: usize = 1024;

/// What a request is about, without what changes at each attempt (leaf, salt, index).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Content {
    /// A signature.
    Sign(KeyId, SignatureScheme, Digest),
    /// A key pair.
    Generate(KeyAlgorithm),
    /// The end of a key pair.
    Destroy(KeyId),
    /// An inventory.
    Inventory,
    /// The device's identity.
    Identify,
    /// An answer to a challenge.
    Answer,
    /// A certification of a key.
    Certify(KeyId),
}

impl Content {
    /// Of a request; `None` for those that never reach the module.
    #[must_use]
    pub fn of(body: &RequestBody) -> Option<Self> {
        match body {
            RequestBody::Sign(s) => Some(Self::Sign(s.key, s.scheme, s.digest.clone())),
            RequestBody::GenerateKey { algorithm, .. } => Some(Self::Generate(*algorithm)),
            RequestBody::DestroyKey { key, .. } => Some(Self::Destroy(*key)),
            RequestBody::Inventory { .. } => Some(Self::Inventory),
            RequestBody::IdentifyDevice { .. } => Some(Self::Identify),
            RequestBody::AnswerChallenge { .. } => Some(Self::Answer),
            RequestBody::CertifyKey { key, .. } => Some(Self::Certify(*key)),
            RequestBody::Ping
            | RequestBody::InitToken { .. }
            | RequestBody::Serves { .. }
            | RequestBody::OpenLog { .. }
            | RequestBody::Advance { .. }
            | RequestBody::Resync { .. } => None,
        }
    }
}

/// The suspects of one worker.
#[derive(Debug, Default)]
pub struct Quarantine {
    strikes: Mutex<HashMap<Content, (u32, Instant)>>,
}

impl Quarantine {
    /// Whether this content is refused.
    #[must_use]
    pub fn holds(&self, content: &Content) -> bool {
        self.lock()
            .get(content)
            .is_some_and(|(n, since)| *n >= STRIKES && since.elapsed() < HELD_FOR)
    }

    /// The worker died with this in its hands.
    pub fn strike(&self, content: Content) {
        let mut strikes = self.lock();
        if strikes.len() >= MOST {
            strikes.retain(|_, (_, since)| since.elapsed() < HELD_FOR);
        }
        if strikes.len() >= MOST {
            return;
        }
        let entry = strikes.entry(content).or_insert((0, Instant::now()));
        if entry.1.elapsed() >= HELD_FOR {
            entry.0 = 0;
        }
        *entry = (entry.0.saturating_add(1), Instant::now());
    }

    /// It went well.
    pub fn clear(&self, content: &Content) {
        let mut strikes = self.lock();
        if !strikes.is_empty() {
            strikes.remove(content);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Content, (u32, Instant)>> {
        self.strikes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_strikes_hold_and_a_success_clears() {
        let q = Quarantine::default();
        let c = Content::Generate(KeyAlgorithm::EcP256);
        q.strike(c.clone());
        assert!(!q.holds(&c));
        q.clear(&c);
        q.strike(c.clone());
        assert!(!q.holds(&c));
        q.strike(c.clone());
        assert!(q.holds(&c));
        assert!(!q.holds(&Content::Inventory));
    }
}
