//! Verifying the signature over a `TPMS_ATTEST`, in the forms it comes in.

use super::signature::{Signature, SignatureValue};
use crate::key::PublicKey;
use crate::signature::{Algorithm, Hash, Work};

/// The algorithms tried for a bare signature that names none (the TCG statement's sample has a bare
/// RSA signature). Each is one an attestation key may use; SHA-1 last, it counts as a weakness.
const RSA: [Algorithm; 7] = [
    Algorithm::RsaPkcs1(Hash::Sha256),
    Algorithm::RsaPkcs1(Hash::Sha384),
    Algorithm::RsaPkcs1(Hash::Sha512),
    Algorithm::RsaPss(Hash::Sha256),
    Algorithm::RsaPss(Hash::Sha384),
    Algorithm::RsaPss(Hash::Sha512),
    Algorithm::RsaPkcs1(Hash::Sha1),
];
const EC: [Algorithm; 4] = [
    Algorithm::Ecdsa(Hash::Sha256),
    Algorithm::Ecdsa(Hash::Sha384),
    Algorithm::Ecdsa(Hash::Sha512),
    Algorithm::Ecdsa(Hash::Sha1),
];

/// Verifies `signature`, a `TPMT_SIGNATURE` or a bare one, over `attest`. `named` is the algorithm
/// that the container names.
///
/// # Errors
/// In words.
pub(super) fn verify(
    work: &Work,
    key: &PublicKey,
    named: Option<Algorithm>,
    attest: &[u8],
    signature: &[u8],
) -> Result<Algorithm, String> {
    if let Ok(s) = Signature::parse(signature) {
        let algorithm = algorithm_of(&s);
        if named.is_some_and(|n| n != algorithm) {
            return Err(format!(
                "the signature is {}, which is not what its container names",
                algorithm.name()
            ));
        }
        let outcome = match s.value {
            SignatureValue::RsaSsa(bytes) | SignatureValue::RsaPss(bytes) => {
                work.verify(key, algorithm, attest, bytes)
            }
            SignatureValue::Ecdsa { r, s: value } => {
                work.verify_fixed(key, s.hash, attest, r, value)
            }
        };
        return outcome.map(|()| algorithm).map_err(|e| e.to_string());
    }
    let tried: &[Algorithm] = match (&named, key) {
        (Some(algorithm), _) => std::slice::from_ref(algorithm),
        (None, PublicKey::Rsa { .. }) => &RSA,
        (None, PublicKey::Ec { .. }) => &EC,
        (None, PublicKey::Ed25519(_)) => &[],
    };
    let mut last = "no TPM signs with this kind of key".to_owned();
    for algorithm in tried {
        match work.verify(key, *algorithm, attest, signature) {
            Ok(()) => return Ok(*algorithm),
            Err(e) => last = e.to_string(),
        }
    }
    Err(last)
}

/// The algorithm that a `TPMT_SIGNATURE` names.
pub(super) const fn algorithm_of(signature: &Signature<'_>) -> Algorithm {
    match signature.value {
        SignatureValue::RsaSsa(_) => Algorithm::RsaPkcs1(signature.hash),
        SignatureValue::RsaPss(_) => Algorithm::RsaPss(signature.hash),
        SignatureValue::Ecdsa { .. } => Algorithm::Ecdsa(signature.hash),
    }
}
