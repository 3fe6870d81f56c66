//! Digests by aws-lc, as `countersign-core` types.

use aws_lc_rs::digest as lc;
use countersign_core::{Digest, HashAlgorithm};

/// The digest of `bytes`.
#[must_use]
pub fn digest(algorithm: HashAlgorithm, bytes: &[u8]) -> Digest {
    match Digest::new(algorithm, hash(algorithm, bytes)) {
        Ok(d) => d,
        // `hash` returns exactly the algorithm's length (FIPS 180-4), which is all `new` checks.
        Err(_) => unreachable!("a hash has its own length"),
    }
}

/// The bytes of a digest.
#[must_use]
pub fn hash(algorithm: HashAlgorithm, bytes: &[u8]) -> Vec<u8> {
    lc::digest(lc_algorithm(algorithm), bytes).as_ref().to_vec()
}

/// SHA-256.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    for (o, b) in out.iter_mut().zip(lc::digest(&lc::SHA256, bytes).as_ref()) {
        *o = *b;
    }
    out
}

/// SHA-1, for identifiers that standards fix to it (key identifiers, ESSCertID, Debian's list).
/// Never a signature.
pub(crate) fn sha1(bytes: &[u8]) -> [u8; 20] {
    let mut out = [0; 20];
    let d = lc::digest(&lc::SHA1_FOR_LEGACY_USE_ONLY, bytes);
    for (o, b) in out.iter_mut().zip(d.as_ref()) {
        *o = *b;
    }
    out
}

pub(crate) fn lc_algorithm(algorithm: HashAlgorithm) -> &'static lc::Algorithm {
    match algorithm {
        HashAlgorithm::Sha256 => &lc::SHA256,
        HashAlgorithm::Sha384 => &lc::SHA384,
        HashAlgorithm::Sha512 => &lc::SHA512,
    }
}
