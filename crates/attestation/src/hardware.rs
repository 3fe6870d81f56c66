//! The service's own appraisal of keys in hardware: by vendors' evidence alone. What the token's module
//! says of a key is a claim, and proves nothing.

use crate::key_checks;
use crate::result::{AttestationResult, Verdict};
use crate::verify::{Question, verify};
use countersign_x509::key::PublicKey;

/// Appraises a key in hardware: [`verify`], and that the key is one a subscriber may have.
#[must_use]
pub fn appraise_hardware(spki: &[u8], question: &Question<'_>) -> AttestationResult {
    let mut result = verify(question);
    match PublicKey::from_spki_der(spki) {
        Ok(public) => result.checks.extend(key_checks::check(&public)),
        Err(e) => result.checks.push(key_checks::refused(&e)),
    }
    result.verdict = Verdict::over(&result.checks);
    if result.verdict == Verdict::Reject {
        result.supports_methods.clear();
    }
    result
}
