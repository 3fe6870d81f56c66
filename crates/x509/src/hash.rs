//! Digests by aws-lc, as `countersign-core` types.

use aws_lc_rs::digest as lc;
use countersign_core::{Digest, HashAlgorithm};

/// The digest of `bytes`.
#[must_use]
pub fn digest(algorithm: HashAlgorithm, bytes: &[u8]) -> Digest {
    match algorithm {
        HashAlgorithm::Sha256 => Digest::from(array::<32>(&lc::SHA256, bytes)),
        HashAlgorithm::Sha384 => Digest::from(array::<48>(&lc::SHA384, bytes)),
        HashAlgorithm::Sha512 => Digest::from(array::<64>(&lc::SHA512, bytes)),
    }
}

/// SHA-256.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    array(&lc::SHA256, bytes)
}

/// SHA-1, for identifiers that standards fix to it (key identifiers, ESSCertID, Debian's list).
/// Never a signature.
pub(crate) fn sha1(bytes: &[u8]) -> [u8; 20] {
    array(&lc::SHA1_FOR_LEGACY_USE_ONLY, bytes)
}

fn array<const N: usize>(algorithm: &'static lc::Algorithm, bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    for (o, b) in out.iter_mut().zip(lc::digest(algorithm, bytes).as_ref()) {
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
