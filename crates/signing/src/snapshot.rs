//! What a signing request needs to know of its signer, read once and kept: the tenant's version is
//! the guard of the commit, so a copy that is too old is found out there, before any authorisation
//! exists.

use crate::revocation::Known;
use crate::{Service, SigningError};
use countersign_core::ports::rows::{CertificateRow, GrantRow, KeyRow, SignerRow, TenantRow};
use countersign_core::ports::store::Guard;
use countersign_core::{KeyId, KeyState, SignerLabel, TenantId};
use countersign_grants::Grant;
use countersign_x509::key::{KeyError, PublicKey};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Signers kept; beyond it the cache is emptied.
const CACHED: usize = 10_000;
/// Grants kept for the token exchange, of all tenants together.
const CACHED_GRANTS: usize = 100_000;

/// A signer as of one version of its tenant.
#[derive(Debug)]
pub(crate) struct SignerSnapshot {
    pub guard: Guard,
    pub tenant: TenantRow,
    pub signer: SignerRow,
    /// The key that signs, with its certificate.
    pub active: Option<(KeyRow, Arc<CertificateRow>)>,
    /// What is known of that certificate; without an active key, of the newest key's.
    pub known: Option<Known>,
    /// Where there is no active key: the state of the newest.
    pub newest_state: Option<KeyState>,
    pub grants: Vec<Grant>,
}

/// A key with its certificate, and what is known of that.
type BestKey = (Option<(KeyRow, Arc<CertificateRow>)>, Option<Known>);
/// All grants of a tenant, and the tenant's version they were read under.
type GrantsAt = (u64, Arc<Vec<Grant>>);

/// The copies, by tenant so that a change drops just that tenant's.
#[derive(Debug, Default)]
pub(crate) struct Snapshots {
    signers: Mutex<HashMap<TenantId, HashMap<SignerLabel, Arc<SignerSnapshot>>>>,
    /// Public keys whose numbers were judged: a key pair's never change, and judging costs more
    /// than the rest of a decision.
    public: Mutex<HashMap<KeyId, Arc<PublicKey>>>,
    /// All grants of a tenant as of a version: what the token exchange asks.
    grants: Mutex<HashMap<TenantId, GrantsAt>>,
}

impl Snapshots {
    /// The key's public key, judged.
    pub(crate) fn public_key(&self, key: &KeyRow) -> Result<Arc<PublicKey>, KeyError> {
        let known = self
            .public
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key.id)
            .filter(|k| k.spki_der() == key.spki)
            .cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let judged = Arc::new(PublicKey::from_spki_der(&key.spki)?);
        let mut all = self.public.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= CACHED {
            all.clear();
        }
        all.insert(key.id, judged.clone());
        Ok(judged)
    }

    pub(crate) fn forget(&self, tenant: TenantId) {
        self.signers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&tenant);
    }

    fn get(&self, tenant: TenantId, signer: &SignerLabel) -> Option<Arc<SignerSnapshot>> {
        self.signers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&tenant)?
            .get(signer)
            .cloned()
    }

    fn put(&self, snapshot: Arc<SignerSnapshot>) {
        let mut all = self.signers.lock().unwrap_or_else(PoisonError::into_inner);
        if all.values().map(HashMap::len).sum::<usize>() >= CACHED {
            all.clear();
        }
        all.entry(snapshot.guard.tenant)
            .or_default()
            .insert(snapshot.signer.label.clone(), snapshot);
    }
}

fn parsed(rows: Vec<GrantRow>) -> Result<Vec<Grant>, SigningError> {
    rows.into_iter()
        .map(|g| {
            serde_json::from_str(&g.json)
                .map_err(|e| SigningError::Internal(format!("grant {} cannot be read: {e}", g.id)))
        })
        .collect()
}

impl Service {
    /// All grants of a tenant, at least as new as this row of it.
    pub(crate) async fn grants_of(
        &self,
        tenant: &TenantRow,
    ) -> Result<Arc<Vec<Grant>>, SigningError> {
        let cache = &self.snapshots().grants;
        let known = cache
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&tenant.id)
            .filter(|(version, _)| *version == tenant.version)
            .map(|(_, grants)| Arc::clone(grants));
        if let Some(known) = known {
            return Ok(known);
        }
        // The version was read first: what changes meanwhile is found under the next version.
        let grants = Arc::new(parsed(self.store().all_grants(tenant.id).await?)?);
        let mut all = cache.lock().unwrap_or_else(PoisonError::into_inner);
        if all.values().map(|(_, g)| g.len().max(1)).sum::<usize>() >= CACHED_GRANTS {
            all.clear();
        }
        all.insert(tenant.id, (tenant.version, Arc::clone(&grants)));
        Ok(grants)
    }

    /// The signer as last seen, or read now.
    pub(crate) async fn snapshot(
        &self,
        tenant: TenantId,
        signer: &SignerLabel,
    ) -> Result<Arc<SignerSnapshot>, SigningError> {
        match self.snapshots().get(tenant, signer) {
            Some(s) => Ok(s),
            None => self.fresh_snapshot(tenant, signer).await,
        }
    }

    /// The signer read now. The version is read first: whatever changes while we read makes the
    /// guard fail, never the decision wrong.
    pub(crate) async fn fresh_snapshot(
        &self,
        tenant: TenantId,
        signer: &SignerLabel,
    ) -> Result<Arc<SignerSnapshot>, SigningError> {
        let store = self.store();
        let row = store.tenant(tenant).await?.ok_or(SigningError::NotFound)?;
        let signer = store
            .signer(tenant, signer)
            .await?
            .ok_or(SigningError::NotFound)?;
        let keys = store.keys_of(tenant, &signer.label).await?;
        let (active, known) = self.best_key(&keys).await?;
        let mut grants = parsed(store.grants(tenant, &signer.label).await?)?;
        // A grant for an issuer that was removed allows nothing, whoever still has a session.
        let issuers = store.issuers(tenant).await?;
        grants.retain(|g| issuers.iter().any(|i| i.issuer == g.issuer));
        let snapshot = Arc::new(SignerSnapshot {
            guard: Guard {
                tenant,
                version: row.version,
            },
            newest_state: keys.first().map(|k| k.state),
            tenant: row,
            signer,
            active,
            known,
            grants,
        });
        self.snapshots().put(snapshot.clone());
        Ok(snapshot)
    }

    /// The newest key that signs with a certificate known to be good; if none is, the newest that
    /// signs. With what is known of its certificate, or of the newest key's where none signs.
    async fn best_key(&self, keys: &[KeyRow]) -> Result<BestKey, SigningError> {
        let mut newest = None;
        for key in keys.iter().filter(|k| k.state.signs()) {
            let Some(certificate) = self.store().certificate(key.tenant, key.id).await? else {
                continue;
            };
            let known = self.known(key.tenant, key.id).await?;
            if self.certificate_good(&certificate, &known).is_ok() {
                return Ok((Some((key.clone(), Arc::new(certificate))), Some(known)));
            }
            newest = newest.or(Some((key.clone(), certificate, known)));
        }
        match (newest, keys.first()) {
            (Some((key, certificate, known)), _) => {
                Ok((Some((key, Arc::new(certificate))), Some(known)))
            }
            (None, Some(key)) => Ok((None, Some(self.known(key.tenant, key.id).await?))),
            (None, None) => Ok((None, None)),
        }
    }

    /// Whether a certificate may sign now: valid, and not revoked as far as is known, recently enough.
    pub(crate) fn certificate_good(
        &self,
        certificate: &CertificateRow,
        known: &Known,
    ) -> Result<(), SigningError> {
        let now = self.clock().now();
        // CSBR §9.6.3(10): no use of the key after the certificate's end, or its revocation.
        if now < certificate.not_before || now >= certificate.not_after {
            return Err(SigningError::CertificateOutsideValidity {
                not_before: certificate.not_before,
                not_after: certificate.not_after,
            });
        }
        known.judge(
            &certificate.sha256,
            certificate.installed,
            now,
            self.revocation().max_age,
        )
    }
}
