//! `TPM2_MakeCredential` in software: a secret that only the TPM with one endorsement key can
//! read, and only while it holds the object of one Name (TPM 2.0 Library Part 1 §24, Part 3 §12.6).
//!
//! The CA's half of the challenge. It needs no TPM: the endorsement key comes from its certificate,
//! the Name from the attestation key's public area.

use crate::key::{Curve, PublicKey};
use aws_lc_rs::agreement::{self, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral};
use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::digest::{self, SHA256, SHA384};
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey};

/// Longest Name: an algorithm and a SHA-512 digest.
const MAX_NAME: usize = 2 + 64;

/// A secret for one TPM and one object in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// `TPMS_ID_OBJECT`: the HMAC as a `TPM2B`, then the encrypted secret. No size in front.
    pub id_object: Vec<u8>,
    /// The encrypted seed: RSA ciphertext, or a `TPMS_ECC_POINT`. No size in front.
    pub encrypted_secret: Vec<u8>,
}

/// Why no credential was made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// An endorsement key of a kind whose parameters are not known. Retrying cannot help.
    #[error("endorsement key: {0} is not supported; RSA-2048, P-256 and P-384 are")]
    EndorsementKey(String),
    /// No Name, or one longer than any TPM makes. Retrying cannot help.
    #[error("name: {0} bytes, 1 to 66 are possible")]
    Name(usize),
    /// Part 3 §12.6: no longer than a digest of the endorsement key's hash. Retrying cannot help.
    #[error("secret: {size} bytes, 1 to {max} are possible")]
    Secret {
        /// Its size.
        size: usize,
        /// The largest.
        max: usize,
    },
    /// The key or the random source refused. A retry may help.
    #[error("cryptography: {0}")]
    Crypto(&'static str),
}

/// What the templates of the TCG EK Credential Profile (§B.3, §B.4: L-1, L-2, H-1, H-2, H-3) say of
/// an endorsement key beyond its kind.
struct Parameters {
    /// nameAlg: the hash of everything below.
    hash: hmac::Algorithm,
    digest: &'static digest::Algorithm,
    /// The symmetric algorithm, in mode CFB.
    aes: &'static aws_lc_rs::cipher::Algorithm,
    aes_bytes: usize,
}

/// Whether a challenge can be made for this endorsement key.
#[must_use]
pub fn supports(ek: &PublicKey) -> bool {
    parameters(ek).is_ok()
}

fn parameters(ek: &PublicKey) -> Result<Parameters, CredentialError> {
    let sha256 = Parameters {
        hash: hmac::HMAC_SHA256,
        digest: &SHA256,
        aes: &AES_128,
        aes_bytes: 16,
    };
    match ek {
        PublicKey::Rsa { n, .. } if n.len() == 256 && n.first().is_some_and(|b| b & 0x80 != 0) => {
            Ok(sha256)
        }
        PublicKey::Ec {
            curve: Curve::P256, ..
        } => Ok(sha256),
        PublicKey::Ec {
            curve: Curve::P384, ..
        } => Ok(Parameters {
            hash: hmac::HMAC_SHA384,
            digest: &SHA384,
            aes: &AES_256,
            aes_bytes: 32,
        }),
        other => Err(CredentialError::EndorsementKey(other.kind())),
    }
}

/// Makes the credential. `ek` is the key of a verified endorsement certificate, `name` the Name of
/// the attestation key ([`super::public::Public::name`]).
///
/// # Errors
/// [`CredentialError`].
pub fn make_credential(
    ek: &PublicKey,
    name: &[u8],
    secret: &[u8],
) -> Result<Credential, CredentialError> {
    let p = parameters(ek)?;
    if !(1..=MAX_NAME).contains(&name.len()) {
        return Err(CredentialError::Name(name.len()));
    }
    let max = p.digest.output_len();
    if !(1..=max).contains(&secret.len()) {
        return Err(CredentialError::Secret {
            size: secret.len(),
            max,
        });
    }
    let (seed, encrypted_secret) = seed(ek, &p)?;
    // Part 1 §24.4: encIdentity = CFB(KDFa(seed, "STORAGE", Name), IV 0, TPM2B(secret)).
    let key = kdfa(p.hash, &seed, b"STORAGE", name, p.aes_bytes);
    let mut identity = sized(secret);
    let aes = UnboundCipherKey::new(p.aes, &key)
        .and_then(EncryptingKey::cfb128)
        .map_err(|_| CredentialError::Crypto("no AES key could be made"))?;
    // The key is used for this one message, so the zero IV that the specification sets repeats none.
    aes.less_safe_encrypt(
        &mut identity,
        EncryptionContext::Iv128(FixedLength::from([0; 16])),
    )
    .map_err(|_| CredentialError::Crypto("AES refused"))?;
    // Part 1 §24.5: outerHMAC = HMAC(KDFa(seed, "INTEGRITY"), encIdentity || Name).
    let key = kdfa(p.hash, &seed, b"INTEGRITY", &[], max);
    let mut mac = hmac::Context::with_key(&hmac::Key::new(p.hash, &key));
    mac.update(&identity);
    mac.update(name);
    let mut id_object = sized(mac.sign().as_ref());
    id_object.extend(identity);
    Ok(Credential {
        id_object,
        encrypted_secret,
    })
}

/// A fresh seed, and the same for the endorsement key's holder alone.
fn seed(ek: &PublicKey, p: &Parameters) -> Result<(Vec<u8>, Vec<u8>), CredentialError> {
    match ek {
        PublicKey::Rsa { .. } => for_rsa(ek, p),
        PublicKey::Ec { curve, point } => for_ec(*curve, point, p),
        PublicKey::Ed25519(_) => Err(CredentialError::EndorsementKey(ek.kind())),
    }
}

/// Part 1 §B.10.4: OAEP by the endorsement key's nameAlg, with the label "IDENTITY" and its zero.
fn for_rsa(ek: &PublicKey, p: &Parameters) -> Result<(Vec<u8>, Vec<u8>), CredentialError> {
    let refused = |_| CredentialError::Crypto("the RSA endorsement key does not encrypt");
    let mut seed = vec![0; p.digest.output_len()];
    aws_lc_rs::rand::fill(&mut seed)
        .map_err(|_| CredentialError::Crypto("the system gives no random bytes"))?;
    let key = PublicEncryptingKey::from_der(&ek.to_spki())
        .map_err(|_| CredentialError::Crypto("the RSA endorsement key does not encrypt"))?;
    let key = OaepPublicEncryptingKey::new(key).map_err(refused)?;
    let mut out = vec![0; key.ciphertext_size()];
    let label = Some(b"IDENTITY\0".as_slice());
    let length = key
        .encrypt(&OAEP_SHA256_MGF1SHA256, &seed, &mut out, label)
        .map_err(refused)?
        .len();
    out.truncate(length);
    Ok((seed, out))
}

/// Part 1 §C.6.1: one-pass Diffie-Hellman; the seed is KDFe(Z, "IDENTITY", ephemeral.x, ek.x).
fn for_ec(
    curve: Curve,
    point: &[u8],
    p: &Parameters,
) -> Result<(Vec<u8>, Vec<u8>), CredentialError> {
    let refused = CredentialError::Crypto("the elliptic-curve endorsement key does not agree");
    let algorithm = if curve == Curve::P384 {
        &agreement::ECDH_P384
    } else {
        &agreement::ECDH_P256
    };
    let ephemeral = EphemeralPrivateKey::generate(algorithm, &SystemRandom::new())
        .map_err(|_| refused.clone())?;
    let own = ephemeral
        .compute_public_key()
        .map_err(|_| refused.clone())?;
    let halves = |point: &[u8]| {
        let body = point.get(1..)?;
        let (x, y) = body.split_at_checked(curve.coordinate())?;
        Some((x.to_vec(), y.to_vec()))
    };
    let (own_x, own_y) = halves(own.as_ref()).ok_or_else(|| refused.clone())?;
    let (ek_x, _) = halves(point).ok_or_else(|| refused.clone())?;
    let peer = UnparsedPublicKey::new(algorithm, point);
    let seed = agree_ephemeral(ephemeral, peer, refused, |z| {
        // Part 1 §11.4.10.3 (KDFe): one round, since the seed is one digest long.
        let mut h = digest::Context::new(p.digest);
        h.update(&1_u32.to_be_bytes());
        h.update(z);
        h.update(b"IDENTITY\0");
        h.update(&own_x);
        h.update(&ek_x);
        Ok(h.finish().as_ref().to_vec())
    })?;
    let mut out = sized(&own_x);
    out.extend(sized(&own_y));
    Ok((seed, out))
}

/// Part 1 §11.4.10.2 (SP 800-108, counter mode), for at most one digest of output.
fn kdfa(hash: hmac::Algorithm, key: &[u8], label: &[u8], context: &[u8], bytes: usize) -> Vec<u8> {
    let bits = u32::try_from(bytes.saturating_mul(8)).unwrap_or(u32::MAX);
    let mut mac = hmac::Context::with_key(&hmac::Key::new(hash, key));
    mac.update(&1_u32.to_be_bytes());
    mac.update(label);
    mac.update(&[0]);
    mac.update(context);
    mac.update(&bits.to_be_bytes());
    let mut out = mac.sign().as_ref().to_vec();
    out.truncate(bytes);
    out
}

/// A `TPM2B`. What is written here is at most 66 bytes long.
fn sized(bytes: &[u8]) -> Vec<u8> {
    let size = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    let mut out = size.to_be_bytes().to_vec();
    out.extend(bytes);
    out
}
