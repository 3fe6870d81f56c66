//! The keys that are not subscribers' keys (ARCHITECTURE.md, "Keys"): log key, service-statement
//! key and service-token key, wrapped in the database under the deployment's sealing key.

use crate::{Service, SigningError};
use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use countersign_core::ports::rows::ServiceKeyRow;
use countersign_core::ports::store::ServiceStore;
use countersign_core::{Clock, Micros};
use secrecy::{ExposeSecret, SecretBox};
use std::sync::Arc;
use zeroize::Zeroizing;

/// Log checkpoints, Ed25519.
const LOG: &str = "log";
/// Service statements, ECDSA P-256.
const STATEMENT: &str = "statement";
/// Service tokens, Ed25519.
const TOKEN: &str = "token";
/// Names in the device register, HMAC-SHA-256 (`crate::devices`).
const DEVICES: &str = "devices";
/// A service-token key signs for this long; tokens live five minutes, so one predecessor is enough.
const TOKEN_KEY_LIFE: std::time::Duration = std::time::Duration::from_secs(12 * 3600);

/// Token keys that verify: the signing one, its successor, its predecessor.
const TOKEN_KEYS: usize = 3;
/// How often each node looks for token keys of others.
pub(crate) const LOOK: std::time::Duration = std::time::Duration::from_secs(20);
/// How old a token key is before it signs: each node has looked by then.
const LEARN: std::time::Duration = std::time::Duration::from_secs(60);

/// The deployment's sealing key, from the operator's key file. Never in the database or its backup.
pub struct SealingKey(SecretBox<[u8; 32]>);

impl SealingKey {
    /// Takes the 32 bytes of the key file.
    #[must_use]
    pub fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(SecretBox::new(Box::new(*bytes)))
    }

    fn aead(&self) -> Result<LessSafeKey, SigningError> {
        UnboundKey::new(&AES_256_GCM, self.0.expose_secret())
            .map(LessSafeKey::new)
            .map_err(|_| SigningError::Internal("the sealing key is unusable".into()))
    }

    /// nonce ‖ ciphertext ‖ tag, with the purpose as associated data.
    fn wrap(&self, purpose: &str, secret: &[u8]) -> Result<Vec<u8>, SigningError> {
        let mut nonce = [0u8; NONCE_LEN];
        random(&mut nonce)?;
        let mut sealed = secret.to_vec();
        self.aead()?
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(purpose.as_bytes()),
                &mut sealed,
            )
            .map_err(|_| SigningError::Internal("wrapping a service key failed".into()))?;
        let mut out = nonce.to_vec();
        out.append(&mut sealed);
        Ok(out)
    }

    /// Whether it opens every key in the database; how many there are. Nothing is made or changed.
    ///
    /// # Errors
    /// [`SigningError::Internal`] if it is not the one that they were wrapped under.
    pub async fn opens(&self, store: &dyn ServiceStore) -> Result<usize, SigningError> {
        let mut count: usize = 0;
        for purpose in [LOG, STATEMENT, TOKEN, DEVICES] {
            for row in store.service_keys(purpose).await? {
                self.unwrap(purpose, &row.wrapped)?;
                count = count.saturating_add(1);
            }
        }
        Ok(count)
    }

    fn unwrap(&self, purpose: &str, wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, SigningError> {
        let bad = || {
            SigningError::Internal(format!(
                "the {purpose} key in the database was not wrapped under this sealing key: is sealing_key_file the \
                 one this database was made with?"
            ))
        };
        let (nonce, sealed) = wrapped.split_at_checked(NONCE_LEN).ok_or_else(bad)?;
        let mut sealed = Zeroizing::new(sealed.to_vec());
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| bad())?;
        let n = self
            .aead()?
            .open_in_place(nonce, Aad::from(purpose.as_bytes()), &mut sealed)
            .map_err(|_| bad())?
            .len();
        sealed.truncate(n);
        Ok(sealed)
    }
}

impl Clone for SealingKey {
    fn clone(&self) -> Self {
        Self(SecretBox::new(Box::new(*self.0.expose_secret())))
    }
}

impl std::fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealingKey(…)")
    }
}

/// A key that signs service tokens.
pub struct ServiceTokenKey {
    /// Key id: the first 8 bytes of SHA-256 of the public key, hex.
    pub kid: String,
    /// Ed25519 public key.
    pub public: [u8; 32],
    /// PKCS#8.
    pub pkcs8: SecretBox<Vec<u8>>,
}

/// The unwrapped service keys of a running process.
pub struct ServiceSecrets {
    log_seed: SecretBox<[u8; 32]>,
    log_public: [u8; 32],
    statement: EcdsaKeyPair,
    statement_spki: Vec<u8>,
    device_key: SecretBox<[u8; 32]>,
    token_keys: ArcSwap<Vec<ServiceTokenKey>>,
    /// Unwraps token keys that other nodes made.
    sealing: SealingKey,
}

impl std::fmt::Debug for ServiceSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServiceSecrets(…)")
    }
}

impl ServiceSecrets {
    /// Loads the keys, making those that do not exist yet. Two nodes that start at once agree: the
    /// database takes one of them.
    ///
    /// # Errors
    /// [`SigningError::Internal`] if the sealing key is not the one the keys were wrapped under.
    pub async fn load(
        store: &dyn ServiceStore,
        sealing: &SealingKey,
        clock: &dyn Clock,
    ) -> Result<Self, SigningError> {
        let log = newest(store, sealing, clock, LOG, None).await?;
        let statement = newest(store, sealing, clock, STATEMENT, None).await?;
        let devices = newest(store, sealing, clock, DEVICES, None).await?;
        let token_keys = token_keys(store, sealing, clock).await?;

        let bad = |_| SigningError::Internal("a service key cannot be read".into());
        let seed: [u8; 32] = log
            .1
            .as_slice()
            .try_into()
            .map_err(|_| SigningError::Internal("the log key has a wrong length".into()))?;
        let log_public = public32(
            Ed25519KeyPair::from_seed_unchecked(&seed)
                .map_err(bad)?
                .public_key()
                .as_ref(),
        )?;
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &statement.1).map_err(bad)?;
        let point = pair.public_key().as_ref().to_vec();
        let statement_spki = countersign_x509::key::PublicKey::from_ec_point(
            countersign_core::KeyAlgorithm::EcP256,
            &point,
        )
        .map_err(|e| SigningError::Internal(format!("the statement key: {e}")))?
        .spki_der()
        .to_vec();

        let device_key: [u8; 32] = devices.1.as_slice().try_into().map_err(|_| {
            SigningError::Internal("the key of the device register has a wrong length".into())
        })?;
        Ok(Self {
            log_seed: SecretBox::new(Box::new(seed)),
            log_public,
            statement: pair,
            statement_spki,
            device_key: SecretBox::new(Box::new(device_key)),
            token_keys: ArcSwap::from_pointee(token_keys),
            sealing: sealing.clone(),
        })
    }

    /// Ed25519 seed of the log key.
    pub(crate) fn log_seed(&self) -> &[u8; 32] {
        self.log_seed.expose_secret()
    }

    /// Ed25519 public key of the log key: what workers and subscribers pin.
    #[must_use]
    pub const fn log_public(&self) -> [u8; 32] {
        self.log_public
    }

    /// SubjectPublicKeyInfo of the service-statement key: what CAs pin.
    #[must_use]
    pub fn statement_spki(&self) -> &[u8] {
        &self.statement_spki
    }

    /// Signs a statement's bytes: ECDSA P-256 with SHA-256, DER.
    pub(crate) fn sign_statement(&self, message: &[u8]) -> Result<Vec<u8>, SigningError> {
        self.statement
            .sign(&SystemRandom::new(), message)
            .map(|s| s.as_ref().to_vec())
            .map_err(|_| SigningError::Internal("signing the service statement failed".into()))
    }

    /// Key of the device register's hashes.
    pub(crate) fn device_key(&self) -> &[u8; 32] {
        self.device_key.expose_secret()
    }

    /// Service-token keys, the signing one first.
    #[must_use]
    pub fn token_keys(&self) -> Arc<Vec<ServiceTokenKey>> {
        self.token_keys.load_full()
    }

    /// Looks for token keys that other nodes made, and makes one where the newest is past its life.
    pub(crate) async fn renew_token_keys(
        &self,
        store: &dyn ServiceStore,
        clock: &dyn Clock,
    ) -> Result<(), SigningError> {
        let now = token_keys(store, &self.sealing, clock).await?;
        let known = self.token_keys.load();
        if !now.iter().map(|k| &k.kid).eq(known.iter().map(|k| &k.kid)) {
            self.token_keys.store(Arc::new(now));
        }
        Ok(())
    }
}

/// Fills `out` with random bytes.
pub(crate) fn random(out: &mut [u8]) -> Result<(), SigningError> {
    SystemRandom::new()
        .fill(out)
        .map_err(|_| SigningError::Internal("no random bytes".into()))
}

/// The token keys in use, the signing one first. A new key signs only once every node has had the
/// time to learn of it.
async fn token_keys(
    store: &dyn ServiceStore,
    sealing: &SealingKey,
    clock: &dyn Clock,
) -> Result<Vec<ServiceTokenKey>, SigningError> {
    newest(store, sealing, clock, TOKEN, Some(TOKEN_KEY_LIFE)).await?;
    let mut rows = store.service_keys(TOKEN).await?;
    rows.truncate(TOKEN_KEYS);
    let known = |row: &ServiceKeyRow| row.created.plus(LEARN) <= clock.now();
    if let Some(signs) = rows.iter().position(known) {
        rows.swap(0, signs);
    } else if let Some(oldest) = rows.len().checked_sub(1) {
        rows.swap(0, oldest);
    }
    rows.into_iter()
        .map(|row| {
            let pkcs8 = sealing.unwrap(TOKEN, &row.wrapped)?;
            let public = public32(&row.public)?;
            Ok(ServiceTokenKey {
                kid: kid(&public),
                public,
                pkcs8: SecretBox::new(Box::new(pkcs8.to_vec())),
            })
        })
        .collect()
}

fn kid(public: &[u8; 32]) -> String {
    use sha2::Digest as _;
    hex::encode(sha2::Sha256::digest(public).get(..8).unwrap_or_default())
}

fn public32(bytes: &[u8]) -> Result<[u8; 32], SigningError> {
    bytes.try_into().map_err(|_| {
        SigningError::Internal("a service key's public half has a wrong length".into())
    })
}

impl Service {
    /// Keeps up with the token keys of all nodes, until the service stops.
    pub(crate) async fn keep_token_keys(self) {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            if self.stopping() {
                return;
            }
            let looked = self
                .secrets()
                .renew_token_keys(&**self.store(), self.clock())
                .await;
            if let Err(e) = looked {
                tracing::warn!(error = %e, "service-token keys could not be looked up");
            }
        }
    }
}

/// The newest key of a purpose, made if there is none (or the newest is past its life).
async fn newest(
    store: &dyn ServiceStore,
    sealing: &SealingKey,
    clock: &dyn Clock,
    purpose: &str,
    life: Option<std::time::Duration>,
) -> Result<(Vec<u8>, Zeroizing<Vec<u8>>), SigningError> {
    for _ in 0..4 {
        let rows = store.service_keys(purpose).await?;
        if let Some(row) = rows.first()
            && life.is_none_or(|l| clock.now() < row.created.plus(l))
        {
            return Ok((row.public.clone(), sealing.unwrap(purpose, &row.wrapped)?));
        }
        let (public, secret) = generate(purpose)?;
        let row = ServiceKeyRow {
            purpose: purpose.to_owned(),
            public,
            wrapped: sealing.wrap(purpose, &secret)?,
            created: clock.now(),
            retired: None,
        };
        // Another node may have made one meanwhile: then the loop reads that one.
        store
            .add_service_key(&row, rows.first().map(|r| r.public.as_slice()))
            .await?;
    }
    let never: Micros = clock.now();
    Err(SigningError::Internal(format!(
        "no {purpose} key could be made (at {})",
        never.seconds()
    )))
}

fn generate(purpose: &str) -> Result<(Vec<u8>, Zeroizing<Vec<u8>>), SigningError> {
    let failed = |_| SigningError::Internal("key generation failed".into());
    let rng = SystemRandom::new();
    Ok(match purpose {
        LOG => {
            let mut seed = Zeroizing::new([0u8; 32]);
            random(seed.as_mut())?;
            let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_ref())
                .map_err(|_| SigningError::Internal("key generation failed".into()))?;
            (
                pair.public_key().as_ref().to_vec(),
                Zeroizing::new(seed.to_vec()),
            )
        }
        STATEMENT => {
            let doc = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &rng)
                .map_err(failed)?;
            let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, doc.as_ref())
                .map_err(|_| SigningError::Internal("key generation failed".into()))?;
            (
                pair.public_key().as_ref().to_vec(),
                Zeroizing::new(doc.as_ref().to_vec()),
            )
        }
        DEVICES => {
            use sha2::Digest as _;
            let mut key = Zeroizing::new([0u8; 32]);
            random(key.as_mut())?;
            // It has no public half; the table wants a name for the row.
            let name = sha2::Sha256::digest(key.as_ref()).to_vec();
            (name, Zeroizing::new(key.to_vec()))
        }
        _ => {
            let doc = Ed25519KeyPair::generate_pkcs8(&rng).map_err(failed)?;
            let pair = Ed25519KeyPair::from_pkcs8(doc.as_ref())
                .map_err(|_| SigningError::Internal("key generation failed".into()))?;
            (
                pair.public_key().as_ref().to_vec(),
                Zeroizing::new(doc.as_ref().to_vec()),
            )
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrapped_key_opens_only_under_its_own_key_and_purpose() -> Result<(), SigningError> {
        let a = SealingKey::new(Zeroizing::new([1; 32]));
        let b = SealingKey::new(Zeroizing::new([2; 32]));
        let wrapped = a.wrap(LOG, b"secret")?;
        assert_eq!(a.unwrap(LOG, &wrapped)?.as_slice(), b"secret");
        assert!(a.unwrap(TOKEN, &wrapped).is_err());
        assert!(b.unwrap(LOG, &wrapped).is_err());
        for n in 0..wrapped.len() {
            assert!(a.unwrap(LOG, &wrapped[..n]).is_err());
        }
        Ok(())
    }
}
