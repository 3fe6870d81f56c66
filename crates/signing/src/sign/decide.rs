//! May this be signed, for this caller, now? On one version of the tenant, item by item.

use super::{Ask, SignItem, SignerCertificate};
use crate::caller::Caller;
use crate::denials::Refusal;
use crate::snapshot::SignerSnapshot;
use crate::{Service, SigningError};
use countersign_content::{ContentRefusal, Parsed};
use countersign_core::{RequestId, SignerLabel, SignerName};
use countersign_grants::GrantRequest;
use std::sync::Arc;
use std::time::Instant;

/// An item that may be signed.
pub(super) struct Judged {
    pub parsed: Parsed,
    /// It fits another certificate than the signer's present one: it may only be the repeat of
    /// something answered before that was replaced. If it is none, this is why it is refused.
    pub only_repeat: Option<SigningError>,
}

/// A version of the tenant, and what was decided on it.
pub(super) type Decision = (Arc<SignerSnapshot>, Decided);

/// Items with what was decided of each.
type Decided = Vec<(usize, Result<Judged, SigningError>)>;

impl Service {
    /// A service token may be bound to other signers: no item is looked at then.
    pub(super) fn token_for_signer(
        &self,
        ask: &Ask,
        snapshot: &SignerSnapshot,
    ) -> Result<(), SigningError> {
        let bound = ask.caller.signers.as_ref();
        if bound.is_none_or(|s| s.contains(&snapshot.signer.label)) {
            return Ok(());
        }
        let refused = SigningError::TokenNotForSigner;
        self.log_refusal(&ask.caller, &ask.signer.signer, &refused, &ask.rid);
        Err(refused)
    }

    /// Everything that can refuse an item, on one version of the tenant. A refusal on a copy is
    /// checked against the database before it is told, and then stands in the tenant's log.
    pub(super) async fn decide(
        &self,
        ask: &Ask,
        items: &[usize],
    ) -> Result<Decision, SigningError> {
        let began = Instant::now();
        let known = self.snapshot(ask.caller.tenant, &ask.signer.signer).await?;
        let mut decided = self.judge_all(&known, ask, items);
        let mut on = known;
        let doubtful = |r: &Result<Judged, SigningError>| matches!(r, Err(e) if !matches!(e, SigningError::ContentRefused { .. }));
        if decided.iter().any(|(_, r)| doubtful(r)) {
            let fresh = self
                .fresh_snapshot(ask.caller.tenant, &ask.signer.signer)
                .await?;
            // What is known of a certificate changes without a new version.
            decided = self.judge_all(&fresh, ask, items);
            on = fresh;
        }
        for refused in decided.iter().filter_map(|(_, r)| r.as_ref().err()) {
            self.log_refusal(&ask.caller, &ask.signer.signer, refused, &ask.rid);
        }
        self.measures().decide.observe(began.elapsed());
        Ok((on, decided))
    }

    fn judge_all(&self, snapshot: &SignerSnapshot, ask: &Ask, items: &[usize]) -> Decided {
        items
            .iter()
            .filter_map(|i| Some((*i, ask.items.get(*i)?)))
            .map(|(i, item)| {
                let repeats = ask.claims.is_some();
                (i, self.judge(snapshot, &ask.caller, item, repeats))
            })
            .collect()
    }

    /// Puts a refusal into the tenant's log (invariant 7).
    pub(super) fn log_refusal(
        &self,
        caller: &Caller,
        signer: &SignerLabel,
        refused: &SigningError,
        rid: &RequestId,
    ) {
        let (refusal, reason) = match refused {
            SigningError::ContentRefused { code, .. } => (Refusal::Content, code.clone()),
            SigningError::Denied { decision } => {
                let mismatch = decision
                    .closest()
                    .and_then(|r| r.steps.iter().find(|s| !s.outcome.holds()))
                    .map(|s| format!("grant-mismatch:{}", s.claim));
                (
                    Refusal::Denied,
                    mismatch.unwrap_or_else(|| "no-grant".to_owned()),
                )
            }
            SigningError::TokenNotForSigner => (Refusal::Denied, "token-not-for-signer".to_owned()),
            SigningError::KeyNotActive { state } => (Refusal::Denied, format!("key-{state}")),
            SigningError::NoKey => (Refusal::Denied, "no-key".to_owned()),
            SigningError::Appraisal { .. } => (Refusal::Denied, "software-key-policy".to_owned()),
            SigningError::CertificateOutsideValidity { .. } => {
                (Refusal::Denied, "certificate-outside-validity".to_owned())
            }
            SigningError::CertificateRevoked { .. } => {
                (Refusal::Denied, "certificate-revoked".to_owned())
            }
            SigningError::CertificateStatusUnknown { .. } => {
                (Refusal::Denied, "certificate-status-unknown".to_owned())
            }
            _ => return,
        };
        self.refused(caller, Some(signer), refusal, &reason, rid);
    }

    /// `repeats`: whether it may be the repeat of something under an earlier certificate.
    fn judge(
        &self,
        snapshot: &SignerSnapshot,
        caller: &Caller,
        item: &SignItem,
        repeats: bool,
    ) -> Result<Judged, SigningError> {
        // Typed content first: a request that is no code is refused as that, whatever the grants.
        let certificate = snapshot
            .active
            .as_ref()
            .and_then(|(_, c)| c.chain.first())
            .map(Vec::as_slice);
        let parse = |certificate| {
            countersign_content::parse(&item.submission, item.digest_algorithm, certificate)
        };
        let (parsed, only_repeat) = match parse(certificate) {
            Ok(parsed) => (parsed, None),
            Err(
                e @ (ContentRefusal::SigningCertificateMismatch
                | ContentRefusal::AlgorithmProtectionMismatch),
            ) if repeats => (parse(None).map_err(|e| content(&e))?, Some(content(&e))),
            Err(e) => return Err(content(&e)),
        };
        let now = self.clock().now();
        let decision = countersign_grants::decide(
            &snapshot.grants,
            &GrantRequest {
                issuer: &caller.issuer,
                claims: &caller.claims,
                signer: &snapshot.signer.label,
                content_type: parsed.content.as_str(),
                digest_algorithm: item.digest_algorithm,
                now,
            },
        );
        if !decision.allowed {
            return Err(SigningError::Denied {
                decision: Box::new(decision),
            });
        }
        let (Some((key, certificate)), Some(known)) = (&snapshot.active, &snapshot.known) else {
            return Err(no_active_key(snapshot));
        };
        crate::enrolment::software_allowed(key, &snapshot.tenant)?;
        self.certificate_good(certificate, known)?;
        Ok(Judged {
            parsed,
            only_repeat,
        })
    }

    /// The certificate a signature by this signer would carry. For callers some grant lets use the
    /// signer, and for people who may read.
    ///
    /// # Errors
    /// As signing: [`SigningError::NoKey`], [`SigningError::KeyNotActive`], [`SigningError::Denied`].
    pub async fn certificate_of(
        &self,
        caller: &Caller,
        signer: &SignerName,
        rid: &RequestId,
    ) -> Result<SignerCertificate, SigningError> {
        caller.of_tenant(&signer.tenant)?;
        let snapshot = self.fresh_snapshot(caller.tenant, &signer.signer).await?;
        let found = self.certificate_in(caller, &snapshot);
        if let Err(refused) = &found {
            self.log_refusal(caller, &signer.signer, refused, rid);
        }
        found
    }

    fn certificate_in(
        &self,
        caller: &Caller,
        snapshot: &SignerSnapshot,
    ) -> Result<SignerCertificate, SigningError> {
        if caller.may_read().is_err() {
            if caller
                .signers
                .as_ref()
                .is_some_and(|s| !s.contains(&snapshot.signer.label))
            {
                return Err(SigningError::TokenNotForSigner);
            }
            let decision = countersign_grants::explain(
                &snapshot.grants,
                &countersign_grants::ExplainRequest {
                    issuer: &caller.issuer,
                    claims: &caller.claims,
                    signer: &snapshot.signer.label,
                    content_type: None,
                    digest_algorithm: None,
                    now: self.clock().now(),
                },
            );
            if !decision.allowed {
                return Err(SigningError::Denied {
                    decision: Box::new(decision),
                });
            }
        }
        let Some((key, certificate)) = &snapshot.active else {
            return Err(no_active_key(snapshot));
        };
        Ok(SignerCertificate {
            chain: certificate.chain.clone(),
            key: key.id,
            algorithm: key.algorithm,
            warnings: snapshot
                .known
                .as_ref()
                .and_then(|k| self.news_of(k))
                .map(|n| n.warnings)
                .unwrap_or_default(),
        })
    }
}

/// Why a signer without an active key does not sign.
fn no_active_key(snapshot: &SignerSnapshot) -> SigningError {
    // A revocation has stopped the newest: that says more than the state it left the key in.
    let revoked = snapshot.known.as_ref().and_then(|k| k.revocation());
    match (revoked, snapshot.newest_state) {
        (Some(revoked), _) => revoked,
        (None, Some(state)) => SigningError::KeyNotActive { state },
        (None, None) => SigningError::NoKey,
    }
}

fn content(e: &ContentRefusal) -> SigningError {
    SigningError::ContentRefused {
        code: e.code().to_owned(),
        detail: e.to_string(),
    }
}
