//! Entrust nShield: the bundle, the warrant, and the messages that a module signs.

use super::is_within;
use countersign_attestation::vendor::nshield::{Bundle, KeyGeneration, ModuleState, Warrant};

/// A bundle: the suite is a plain word, its messages are those that were signed.
pub fn attestation_nshield_bundle(bytes: &[u8]) {
    let Ok(b) = Bundle::parse(bytes) else {
        return;
    };
    assert!(b.suite.bytes().all(|c| c.is_ascii_alphanumeric()));
    let generation = KeyGeneration::decode(&b.generation.bytes);
    assert_eq!(generation.as_ref(), Ok(&b.generation.message));
    let state = ModuleState::decode(&b.state.bytes);
    assert_eq!(state.as_ref(), Ok(&b.state.message));
    let _ = (b.key.describe(), Warrant::decode(&b.warrant).is_ok());
}

/// A warrant: payloads and signatures are pieces of it.
pub fn attestation_nshield_warrant(bytes: &[u8]) {
    let Ok(w) = Warrant::decode(bytes) else {
        return;
    };
    assert!(!w.certificates.is_empty());
    for c in &w.certificates {
        assert!(is_within(c.payload, bytes) && is_within(c.signature, bytes));
    }
    assert!(w.module.fips.len() <= w.module.approvals.len());
}

/// What a module says of a key's generation, or of itself: never both.
pub fn attestation_nshield_messages(bytes: &[u8]) {
    let generation = KeyGeneration::decode(bytes);
    let state = ModuleState::decode(bytes);
    assert!(generation.is_err() || state.is_err());
}
