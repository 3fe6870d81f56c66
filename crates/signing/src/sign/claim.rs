//! A retry is not a second signature (invariant 8): the claims of a batch's items.
//!
//! ```text
//!   none           sign, claiming it with the authorisation's own commit
//!   in flight      idempotency-in-flight: ask again
//!   done           the first answer
//!   unanswered     sign again, under a leaf that names the first attempt's
//! ```
//!
//! *Unanswered* is a claim whose last outcome is `unknown` (a crash hid whether there is a signature)
//! or `failed` (there is none): docs/adr/0009. Another body under a known name is
//! idempotency-mismatch, whatever its state.

use super::stored::StoredAnswer;
use super::{Ask, SignItem, SignedItem};
use crate::caller::Caller;
use crate::snapshot::SignerSnapshot;
use crate::use_key::ClaimUse;
use crate::{Service, SigningError};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_content::Submission;
use countersign_core::ports::rows::{ClaimKey, ClaimRow, ClaimState};
use countersign_core::{LogId, SignerName, TenantId};
use countersign_signing_log::leaf::{Leaf, LeafBody};
use futures::StreamExt as _;
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use std::time::Duration;

/// How long a claim is remembered.
const REMEMBER: Duration = Duration::from_secs(24 * 3600);
/// Longest idempotency key.
pub const MAX_IDEMPOTENCY_KEY: usize = 255;
/// Claims of one batch that are looked up at once.
const LOOK_UPS: usize = 8;

/// The names of one request's claims.
pub(super) struct Claims {
    tenant: TenantId,
    principal: [u8; 32],
    /// Of the Idempotency-Key.
    key: Sha256,
}

/// What an item's claim says.
pub(super) enum Claim {
    /// Sign, under this claim.
    Go(ClaimUse),
    /// It was answered before.
    Answered(Arc<SignedItem>),
}

impl Claims {
    pub(super) fn new(caller: &Caller, key: &str) -> Result<Self, SigningError> {
        let fits = (1..=MAX_IDEMPOTENCY_KEY).contains(&key.len());
        if !fits || !key.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(SigningError::invalid(
                "Idempotency-Key",
                format!("1 to {MAX_IDEMPOTENCY_KEY} visible ASCII characters"),
            ));
        }
        let mut h = Sha256::new();
        part(&mut h, key.as_bytes());
        Ok(Self {
            tenant: caller.tenant,
            principal: caller.principal(),
            key: h,
        })
    }

    /// Of key and item id, in one length: neither is kept (an id may be a file's name).
    fn name(&self, item: &SignItem) -> ClaimKey {
        let mut h = self.key.clone();
        part(&mut h, item.id.as_bytes());
        ClaimKey {
            tenant: self.tenant,
            principal: self.principal,
            key: URL_SAFE_NO_PAD.encode(h.finalize()),
        }
    }
}

impl Service {
    /// What the claims of these items say.
    pub(super) async fn claims_of(
        &self,
        ask: &Arc<Ask>,
        claims: &Claims,
        snapshot: &Arc<SignerSnapshot>,
        items: Vec<(usize, &SignItem)>,
    ) -> Vec<(usize, Result<Claim, SigningError>)> {
        let mut all = Vec::with_capacity(items.len());
        let mut unsure = Vec::new();
        for (i, item) in items {
            let name = claims.name(item);
            let body = body_hash(&ask.signer, item);
            match self.in_memory(&name, body) {
                Some(known) => all.push((i, known)),
                None => unsure.push((i, name, body)),
            }
        }
        let signs = snapshot.active.as_ref().map(|(key, _)| LogId::from(key.id));
        let looked_up = futures::stream::iter(unsure)
            .map(|(i, name, body)| async move { (i, self.look_up(name, body, signs).await) })
            .buffer_unordered(LOOK_UPS)
            .collect::<Vec<_>>()
            .await;
        all.extend(looked_up);
        all
    }

    /// What can be said without the database.
    fn in_memory(&self, name: &ClaimKey, body: [u8; 32]) -> Option<Result<Claim, SigningError>> {
        // First: what is no longer here is in the database.
        match self.answers().get(name) {
            Some((known, answer)) if known == body => Some(Ok(Claim::Answered(answer))),
            Some(_) => Some(Err(SigningError::IdempotencyMismatch)),
            // Not met before: the commit finds out if another run or node has met it.
            None => self
                .met()
                .first_time(name)
                .then(|| Ok(Claim::Go(self.first(name.clone(), body)))),
        }
    }

    async fn look_up(
        &self,
        name: ClaimKey,
        body: [u8; 32],
        signs: Option<LogId>,
    ) -> Result<Claim, SigningError> {
        let Some(row) = self.store().claim(&name).await? else {
            return Ok(Claim::Go(self.first(name, body)));
        };
        if row.body != body {
            return Err(SigningError::IdempotencyMismatch);
        }
        match &row.state {
            ClaimState::InFlight => Err(SigningError::IdempotencyInFlight),
            ClaimState::Done { answer } => {
                let stored = StoredAnswer::parse(answer)?;
                let tenant = name.tenant;
                Ok(Claim::Answered(
                    self.rebuilt(tenant, row.log, row.index, stored).await?,
                ))
            }
            ClaimState::Unanswered => {
                let attempt = row.attempt.saturating_add(1);
                let repeats = self.first_attempt(name.tenant, signs, &row).await?;
                Ok(Claim::Go(ClaimUse {
                    attempt,
                    repeats,
                    ..self.first(name, body)
                }))
            }
        }
    }

    fn first(&self, key: ClaimKey, body: [u8; 32]) -> ClaimUse {
        ClaimUse {
            key,
            body,
            attempt: 1,
            repeats: None,
            expires: self.clock().now().plus(REMEMBER),
        }
    }

    /// The leaf that a further attempt names: the first one under the same claim in this log. None
    /// if the last attempt was with another key: its index means nothing here.
    async fn first_attempt(
        &self,
        tenant: TenantId,
        log: Option<LogId>,
        last: &ClaimRow,
    ) -> Result<Option<u64>, SigningError> {
        let Some(log) = log.filter(|log| *log == last.log) else {
            return Ok(None);
        };
        let found = self.store().leaves(tenant, log, last.index, 1).await?;
        let leaf = found.first().and_then(|bytes| Leaf::decode(bytes).ok());
        match leaf.map(|l| l.body) {
            Some(LeafBody::Authorisation(a)) => Ok(Some(a.repeats.unwrap_or(last.index))),
            _ => Err(SigningError::Internal(format!(
                "claim of log {log}: leaf {} is no authorisation",
                last.index
            ))),
        }
    }
}

/// What a claim was made for: another signer, content or algorithm is another body.
fn body_hash(signer: &SignerName, item: &SignItem) -> [u8; 32] {
    let mut h = Sha256::new();
    part(&mut h, signer.to_string().as_bytes());
    part(&mut h, item.digest_algorithm.as_str().as_bytes());
    part(&mut h, item.submission.content_type().as_str().as_bytes());
    match &item.submission {
        Submission::Authenticode {
            signed_attributes,
            indirect_data,
        } => {
            part(&mut h, signed_attributes);
            part(&mut h, indirect_data);
        }
        Submission::Cms { signed_attributes } => part(&mut h, signed_attributes),
        Submission::RawDigest { digest } => part(&mut h, digest),
    }
    h.finalize().into()
}

/// A part with its length before it: no two lists of parts hash alike.
fn part(h: &mut Sha256, bytes: &[u8]) {
    h.update((bytes.len() as u64).to_be_bytes());
    h.update(bytes);
}
