//! Signers and keys: birth, states, end. The transitions themselves are decided in one place,
//! `countersign_core::key_state`.

use crate::actor::Actor;
use crate::caller::Caller;
use crate::revocation::CertificateNews;
use crate::sequencer::{Draft, Submission};
use crate::tenants::{by, cut, tenant_draft, text};
use crate::{Service, SigningError};
use countersign_core::ports::hsm::HsmError;
use countersign_core::ports::rows::{CertificateRow, KeyRow, LogHead, OrderRow, SignerRow};
use countersign_core::ports::store::{Effect, Guard};
use countersign_core::{
    KeyAlgorithm, KeyEvent, KeyId, KeyState, RequestId, SignerName, TenantName,
};
use countersign_signing_log::commitment::HexHash;
use countersign_signing_log::leaf::{
    KeyGenerated, KeyStateChanged, LeafBody, LogOpened, LoggedKey, SignerCreated,
};
use countersign_x509::key::PublicKey;

/// How often a state change is tried again because the tenant changed under it.
const TRIES: usize = 8;

/// A key with what belongs to it.
#[derive(Debug, Clone)]
pub struct KeyView {
    /// The key.
    pub row: KeyRow,
    /// The certificate in use.
    pub certificate: Option<CertificateRow>,
    /// What is known of it.
    pub news: Option<CertificateNews>,
    /// Its orders, newest first.
    pub orders: Vec<OrderRow>,
    /// The head of its log.
    pub log: LogHead,
}

impl Service {
    /// Makes a signer.
    ///
    /// # Errors
    /// [`SigningError::Conflict`] if the name is taken.
    pub async fn create_signer(
        &self,
        caller: &Caller,
        name: &SignerName,
        algorithm: KeyAlgorithm,
        rid: &RequestId,
    ) -> Result<SignerRow, SigningError> {
        let tenant = self.admin(caller, &name.tenant, rid).await?;
        let row = SignerRow {
            tenant: tenant.id,
            label: name.signer.clone(),
            algorithm,
            created: self.clock().now(),
        };
        let body = SignerCreated {
            signer: name.signer.to_string(),
            algorithm: algorithm.to_string(),
        };
        let effect = Effect::CreateSigner(row.clone());
        self.change(
            caller,
            tenant.id,
            LeafBody::SignerCreated(body),
            effect,
            rid,
        )
        .await?;
        Ok(row)
    }

    /// The tenant's signers.
    ///
    /// # Errors
    /// [`SigningError::Forbidden`].
    pub async fn signers(
        &self,
        caller: &Caller,
        name: &TenantName,
    ) -> Result<Vec<SignerRow>, SigningError> {
        Ok(self.store().signers(self.reader(caller, name)?).await?)
    }

    /// One signer with its keys, newest first.
    ///
    /// # Errors
    /// [`SigningError::NotFound`].
    pub async fn signer(
        &self,
        caller: &Caller,
        name: &SignerName,
    ) -> Result<(SignerRow, Vec<KeyRow>), SigningError> {
        let tenant = self.reader(caller, &name.tenant)?;
        let row = self
            .store()
            .signer(tenant, &name.signer)
            .await?
            .ok_or(SigningError::NotFound)?;
        let keys = self.store().keys_of(tenant, &name.signer).await?;
        Ok((row, keys))
    }

    /// A key is born in the tenant's token. Its id is chosen first, so that a crash leaves an orphan
    /// that can be told from a key we know.
    ///
    /// # Errors
    /// [`SigningError::TokenRefuses`] if an attribute the profile requires reads back wrong: the pair
    /// was destroyed.
    pub async fn create_key(
        &self,
        caller: &Caller,
        name: &SignerName,
        rid: &RequestId,
    ) -> Result<KeyRow, SigningError> {
        let tenant = self.admin(caller, &name.tenant, rid).await?;
        let signer = self
            .store()
            .signer(tenant.id, &name.signer)
            .await?
            .ok_or(SigningError::NotFound)?;
        // Before the token works: making a pair takes seconds. What counts is the count of the commit.
        self.may_make_key(tenant.id).await?;
        let id = KeyId::new();
        let generated = self
            .hsm()
            .generate_key(tenant.id, id, signer.algorithm)
            .await?;
        countersign_core::failpoint::hit("server.after-generate");
        let public = PublicKey::from_spki_der(&generated.spki).map_err(|e| {
            SigningError::TokenRefuses(format!("the token made a key that is refused: {e}"))
        })?;
        if public.algorithm() != signer.algorithm {
            return Err(SigningError::TokenRefuses(format!(
                "the token made a {} key where {} was asked for",
                public.algorithm(),
                signer.algorithm
            )));
        }
        let spki_sha256 = HexHash(public.spki_sha256());
        let isolation = generated.facts.isolation.as_str().to_owned();
        let row = KeyRow {
            tenant: tenant.id,
            id,
            signer: name.signer.clone(),
            algorithm: signer.algorithm,
            state: KeyState::Generated,
            spki: generated.spki,
            facts: generated.facts,
            appraisal: None,
            created: self.clock().now(),
        };
        let opened = LogOpened {
            tenant: tenant.id.to_string(),
            key: Some(LoggedKey {
                id: id.to_string(),
                algorithm: signer.algorithm.to_string(),
                spki_sha256,
                software: row.facts.software,
                isolation: isolation.clone(),
            }),
            previous: None,
        };
        let born = KeyGenerated {
            key: id.to_string(),
            signer: name.signer.to_string(),
            algorithm: signer.algorithm.to_string(),
            spki_sha256,
            software: row.facts.software,
            isolation,
            log_origin: format!("{}/{id}", self.settings().origin_prefix),
        };
        let submission = Submission {
            drafts: vec![
                Draft {
                    tenant: tenant.id,
                    log: id.into(),
                    body: LeafBody::LogOpened(opened).into(),
                    details: by(caller, rid),
                    opens: false,
                },
                tenant_draft(tenant.id, LeafBody::KeyGenerated(born), by(caller, rid)),
            ],
            effects: vec![Effect::CreateKey {
                row: Box::new(row.clone()),
                most: self.settings().caps.keys,
            }],
            ..Submission::default()
        };
        match self.commit(tenant.id, submission).await {
            Ok(()) => Ok(row),
            // Nothing was written: the pair has no record, and goes. Others took the last place
            // meanwhile, or the reason is what the database said.
            Err(conflict @ SigningError::Conflict { .. }) => {
                if let Err(e) = self.hsm().destroy_key(tenant.id, id).await {
                    tracing::warn!(key = %id, error = %e, "a pair without a record is left in the token");
                }
                self.may_make_key(tenant.id).await?;
                Err(conflict)
            }
            Err(e) => Err(e),
        }
    }

    /// The tenant's keys, newest first, with what is known of the certificates of those that sign or are
    /// suspended.
    ///
    /// # Errors
    /// [`SigningError::Forbidden`].
    pub async fn keys(
        &self,
        caller: &Caller,
        name: &TenantName,
    ) -> Result<Vec<(KeyRow, Option<CertificateNews>)>, SigningError> {
        let tenant = self.reader(caller, name)?;
        let mut news = self.news_of_all(tenant).await?;
        let keys = self.store().keys(tenant).await?;
        Ok(keys
            .into_iter()
            .map(|row| {
                let used = matches!(row.state, KeyState::Active | KeyState::Suspended);
                let news = news.remove(&row.id).filter(|_| used);
                (row, news)
            })
            .collect())
    }

    /// One key.
    ///
    /// # Errors
    /// [`SigningError::NotFound`].
    pub async fn key(
        &self,
        caller: &Caller,
        name: &TenantName,
        key: KeyId,
    ) -> Result<KeyView, SigningError> {
        let tenant = self.reader(caller, name)?;
        let row = self
            .store()
            .key(tenant, key)
            .await?
            .ok_or(SigningError::NotFound)?;
        let known = self.known(tenant, key).await?;
        Ok(KeyView {
            news: self.news_of(&known),
            certificate: self.store().certificate(tenant, key).await?,
            orders: self.store().orders_of(tenant, key).await?,
            log: self
                .store()
                .head(tenant, key.into())
                .await?
                .ok_or(SigningError::NotFound)?,
            row,
        })
    }

    /// What a person does to a key. Suspending is instant: the commit moves the tenant's version, so
    /// every authorisation decided before it fails its guard.
    ///
    /// # Errors
    /// [`SigningError::Transition`] for a step the life cycle does not have.
    pub async fn key_event(
        &self,
        caller: &Caller,
        name: &TenantName,
        key: KeyId,
        event: KeyEvent,
        reason: &str,
        rid: &RequestId,
    ) -> Result<KeyRow, SigningError> {
        let tenant = self.admin(caller, name, rid).await?;
        let reason = text("reason", reason)?;
        match event {
            KeyEvent::Suspend | KeyEvent::Resume | KeyEvent::Retire | KeyEvent::Compromise => {}
            KeyEvent::Destroyed => {
                let row = self
                    .store()
                    .key(tenant.id, key)
                    .await?
                    .ok_or(SigningError::NotFound)?;
                // The record first, then the act: a crash between the two leaves an object that a
                // repeated call removes, never an act without a record.
                let row = if row.state == KeyState::Destroyed {
                    row
                } else {
                    let (none, nothing) = (Vec::new(), Vec::new());
                    let actor = Actor::Person(caller, rid);
                    self.move_key(actor, tenant.id, key, event, Some(reason), none, nothing)
                        .await?
                };
                return match self.hsm().destroy_key(tenant.id, key).await {
                    Ok(()) | Err(HsmError::NoSuchKey) => Ok(row),
                    Err(e) => Err(e.into()),
                };
            }
            KeyEvent::Appraised | KeyEvent::Certified | KeyEvent::Lost => {
                return Err(SigningError::invalid(
                    "event",
                    "suspend, resume, retire, compromise or destroy",
                ));
            }
        }
        self.move_key(
            Actor::Person(caller, rid),
            tenant.id,
            key,
            event,
            Some(reason),
            Vec::new(),
            Vec::new(),
        )
        .await
    }

    /// Moves a key along its life cycle, with further effects and leaves in the same commit.
    #[allow(clippy::too_many_arguments, reason = "one place that moves keys")]
    pub(crate) async fn move_key(
        &self,
        actor: Actor<'_>,
        tenant: countersign_core::TenantId,
        key: KeyId,
        event: KeyEvent,
        reason: Option<String>,
        effects: Vec<Effect>,
        leaves: Vec<LeafBody>,
    ) -> Result<KeyRow, SigningError> {
        for _ in 0..TRIES {
            let version = self.still_allowed(actor, tenant).await?.version;
            let row = self
                .store()
                .key(tenant, key)
                .await?
                .ok_or(SigningError::NotFound)?;
            let to = row.state.after(event)?;
            let mut drafts: Vec<Draft> = leaves
                .iter()
                .map(|l| tenant_draft(tenant, l.clone(), actor.details()))
                .collect();
            let mut all = effects.clone();
            if to != row.state {
                let body = KeyStateChanged {
                    key: key.to_string(),
                    from: row.state.to_string(),
                    to: to.to_string(),
                    reason: reason.as_deref().map(cut),
                };
                drafts.push(tenant_draft(
                    tenant,
                    LeafBody::KeyStateChanged(body),
                    actor.details(),
                ));
                all.push(Effect::SetKeyState {
                    tenant,
                    key,
                    from: row.state,
                    to,
                });
            }
            let submission = Submission {
                drafts,
                guard: Some(Guard { tenant, version }),
                effects: all,
                ..Submission::default()
            };
            let result = self.sequencer().write(submission).await;
            self.snapshots().forget(tenant);
            match result {
                Ok(_) => {
                    return self
                        .store()
                        .key(tenant, key)
                        .await?
                        .ok_or(SigningError::NotFound);
                }
                Err(crate::sequencer::Refused::Stale) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(SigningError::Unavailable(
            "the tenant is being changed at this moment".into(),
        ))
    }
}
