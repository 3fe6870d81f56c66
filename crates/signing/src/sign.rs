//! The signing path (ARCHITECTURE.md): load → parse the typed content → grants → idempotency claim
//! and authorisation leaf in one commit → token → verify → answer. What the API does before
//! (admission, identity) and the worker after (the leaf's proof) is theirs.

use crate::caller::Caller;
use crate::denials::Refusal;
use crate::sequencer::Refused;
use crate::snapshot::SignerSnapshot;
use crate::use_key::{ClaimUse, KeyUse};
use crate::{Service, SigningError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_content::{ContentType, Parsed, Submission};
use countersign_core::ports::rows::{CertificateRow, ClaimKey, ClaimRow, ClaimState, KeyRow};
use countersign_core::{
    HashAlgorithm, KeyAlgorithm, KeyId, LogId, RequestId, SignatureScheme, SignerLabel, SignerName,
    TenantId,
};
use countersign_grants::GrantRequest;
use countersign_signing_log::leaf::{ContentKind, Leaf, LeafBody, Purpose};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::time::Duration;

/// How often a decision is made anew because the tenant changed under it.
const DECISIONS: usize = 4;
/// How long an idempotency key is remembered.
const REMEMBER: Duration = Duration::from_secs(24 * 3600);
/// Longest idempotency key.
pub const MAX_IDEMPOTENCY_KEY: usize = 255;

/// What is asked.
#[derive(Debug, Clone)]
pub struct SignRequest {
    /// The typed content.
    pub submission: Submission,
    /// The digest algorithm of content and signature.
    pub digest_algorithm: HashAlgorithm,
}

/// A signature with everything needed to use it and to prove it was logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignatureAnswer {
    /// Base64; ECDSA as DER.
    pub signature: String,
    /// Scheme.
    pub scheme: SignatureScheme,
    /// Which key.
    pub key: KeyId,
    /// Base64 DER, leaf first, without the root.
    pub certificate_chain: Vec<String>,
    /// A C2SP tlog-proof of the authorisation.
    pub receipt: String,
    /// The log the receipt is from.
    pub log: LogReference,
    /// The request's id, as in the leaf.
    pub request: String,
}

/// Names a log and its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogReference {
    /// Origin.
    pub origin: String,
    /// C2SP verifier key.
    pub vkey: String,
}

/// What a client needs before it hashes.
#[derive(Debug, Clone)]
pub struct SignerCertificate {
    /// DER, leaf first, without the root.
    pub chain: Vec<Vec<u8>>,
    /// The key that will sign.
    pub key: KeyId,
    /// Its algorithm.
    pub algorithm: KeyAlgorithm,
}

/// What became of an idempotency key.
enum Idempotency {
    Go(Option<ClaimUse>),
    Answered(Box<SignatureAnswer>),
}

impl Service {
    /// Signs once.
    ///
    /// # Errors
    /// Any of [`SigningError`]; with an idempotency key a retry of a retryable one is safe.
    pub async fn sign(
        &self,
        caller: &Caller,
        signer: &SignerName,
        request: SignRequest,
        idempotency_key: Option<String>,
        rid: &RequestId,
    ) -> Result<SignatureAnswer, SigningError> {
        caller.of_tenant(&signer.tenant)?;
        // From here a client's disconnect cancels nothing: the work has a task of its own.
        let (service, caller, signer, rid) =
            (self.clone(), caller.clone(), signer.clone(), rid.clone());
        let task = self.tasks().spawn(async move {
            service
                .sign_in_task(&caller, &signer, &request, idempotency_key, &rid)
                .await
        });
        task.await
            .map_err(|e| SigningError::Internal(format!("the signing task: {e}")))?
    }

    async fn sign_in_task(
        &self,
        caller: &Caller,
        signer: &SignerName,
        request: &SignRequest,
        idempotency_key: Option<String>,
        rid: &RequestId,
    ) -> Result<SignatureAnswer, SigningError> {
        for _ in 0..DECISIONS {
            let (snapshot, parsed) = self.decide(caller, signer, request, rid).await?;
            let Some((key, certificate)) = &snapshot.active else {
                return Err(SigningError::Internal("a decision without a key".into()));
            };
            let claim = match self
                .idempotency(caller, signer, key.id, request, idempotency_key.as_deref())
                .await?
            {
                Idempotency::Answered(answer) => return Ok(*answer),
                Idempotency::Go(claim) => claim,
            };
            self.check_history(caller.tenant, key.id).await?;
            countersign_core::failpoint::hit("server.before-authorise");
            let authorised = self
                .authorise(KeyUse {
                    key,
                    guard: snapshot.guard,
                    purpose: Purpose::Signature,
                    content: content_kind(parsed.content),
                    scheme: key.algorithm.scheme(request.digest_algorithm),
                    tbs: parsed.tbs,
                    artifact: parsed.artifact,
                    caller,
                    request: rid,
                    claim,
                })
                .await;
            match authorised {
                Ok(authorised) => {
                    countersign_core::failpoint::hit("server.after-authorise");
                    let performed = self.perform(authorised).await?;
                    let answer = self.answer(key, certificate, request, &performed, rid)?;
                    let stored = match &idempotency_key {
                        Some(_) => Some(serde_json::to_string(&answer).map_err(internal)?),
                        None => None,
                    };
                    self.settle(performed, stored)?;
                    countersign_core::failpoint::hit("server.before-answer");
                    return Ok(answer);
                }
                // The tenant changed, or another request took the claim: look again.
                Err(Refused::Stale) => self.snapshots().forget(caller.tenant),
                Err(Refused::ClaimTaken) => {}
                Err(e @ (Refused::Closed | Refused::Error(_))) => return Err(e.into()),
            }
        }
        Err(SigningError::Unavailable(
            "the tenant is being changed at this moment".into(),
        ))
    }

    /// Everything that can refuse, on one version of the tenant. A refusal on a copy is checked
    /// against the database before it is told.
    async fn decide(
        &self,
        caller: &Caller,
        signer: &SignerName,
        request: &SignRequest,
        rid: &RequestId,
    ) -> Result<(std::sync::Arc<SignerSnapshot>, Parsed), SigningError> {
        let known = self.snapshot(caller.tenant, &signer.signer).await?;
        let refused = match self.judge(&known, caller, request) {
            Ok(parsed) => return Ok((known, parsed)),
            Err(e @ SigningError::ContentRefused { .. }) => e,
            Err(_) => {
                let fresh = self.fresh_snapshot(caller.tenant, &signer.signer).await?;
                match self.judge(&fresh, caller, request) {
                    Ok(parsed) => return Ok((fresh, parsed)),
                    Err(e) => e,
                }
            }
        };
        self.log_refusal(caller, &signer.signer, &refused, rid);
        Err(refused)
    }

    /// Puts a refusal into the tenant's log (invariant 7).
    fn log_refusal(
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
            _ => return,
        };
        self.refused(caller, Some(signer), refusal, &reason, rid);
    }

    fn judge(
        &self,
        snapshot: &SignerSnapshot,
        caller: &Caller,
        request: &SignRequest,
    ) -> Result<Parsed, SigningError> {
        if caller
            .signers
            .as_ref()
            .is_some_and(|s| !s.contains(&snapshot.signer.label))
        {
            return Err(SigningError::TokenNotForSigner);
        }
        // Typed content first: a request that is no code is refused as that, whatever the grants.
        let certificate = snapshot
            .active
            .as_ref()
            .and_then(|(_, c)| c.chain.first())
            .map(Vec::as_slice);
        let parsed =
            countersign_content::parse(&request.submission, request.digest_algorithm, certificate)
                .map_err(|e| SigningError::ContentRefused {
                    code: e.code().to_owned(),
                    detail: e.to_string(),
                })?;
        let now = self.clock().now();
        let decision = countersign_grants::decide(
            &snapshot.grants,
            &GrantRequest {
                issuer: &caller.issuer,
                claims: &caller.claims,
                signer: &snapshot.signer.label,
                content_type: parsed.content.as_str(),
                digest_algorithm: request.digest_algorithm,
                now,
            },
        );
        if !decision.allowed {
            return Err(SigningError::Denied {
                decision: Box::new(decision),
            });
        }
        let Some((key, certificate)) = &snapshot.active else {
            return Err(match snapshot.newest_state {
                Some(state) => SigningError::KeyNotActive { state },
                None => SigningError::NoKey,
            });
        };
        crate::enrolment::software_allowed(key, &snapshot.tenant)?;
        // CSBR §9.6.3(10): no use of the key after the certificate's end.
        if now < certificate.not_before || now >= certificate.not_after {
            return Err(SigningError::CertificateOutsideValidity {
                not_before: certificate.not_before,
                not_after: certificate.not_after,
            });
        }
        Ok(parsed)
    }

    async fn idempotency(
        &self,
        caller: &Caller,
        signer: &SignerName,
        signs: KeyId,
        request: &SignRequest,
        key: Option<&str>,
    ) -> Result<Idempotency, SigningError> {
        let Some(key) = key else {
            return Ok(Idempotency::Go(None));
        };
        if key.is_empty()
            || key.len() > MAX_IDEMPOTENCY_KEY
            || !key.bytes().all(|b| b.is_ascii_graphic())
        {
            return Err(SigningError::invalid(
                "Idempotency-Key",
                format!("1 to {MAX_IDEMPOTENCY_KEY} visible ASCII characters"),
            ));
        }
        let body = body_hash(signer, request);
        let claim_key = ClaimKey {
            tenant: caller.tenant,
            principal: caller.principal(),
            key: key.to_owned(),
        };
        let expires = self.clock().now().plus(REMEMBER);
        let fresh = |attempt, repeats| ClaimUse {
            key: claim_key.clone(),
            body,
            attempt,
            repeats,
            expires,
        };
        let stored = |answer: &str| {
            serde_json::from_str(answer)
                .map(|a| Idempotency::Answered(Box::new(a)))
                .map_err(internal)
        };
        // First: what is no longer here is in the database.
        match self.answers().get(&claim_key) {
            Some((known, answer)) if known == body => return stored(&answer),
            Some(_) => return Err(SigningError::IdempotencyMismatch),
            None => {}
        }
        // Not met before: the commit finds out if another run or node has met it.
        if self.met().first_time(&claim_key) {
            return Ok(Idempotency::Go(Some(fresh(1, None))));
        }
        let Some(row) = self.store().claim(&claim_key).await? else {
            return Ok(Idempotency::Go(Some(fresh(1, None))));
        };
        if row.body != body {
            return Err(SigningError::IdempotencyMismatch);
        }
        match row.state {
            ClaimState::InFlight => Err(SigningError::IdempotencyInFlight),
            ClaimState::Done { answer } => stored(&answer),
            ClaimState::Unanswered => {
                let first = self
                    .first_attempt(caller.tenant, signs.into(), &row)
                    .await?;
                Ok(Idempotency::Go(Some(fresh(
                    row.attempt.saturating_add(1),
                    first,
                ))))
            }
        }
    }

    /// The leaf that a further attempt names: the first one under the same Idempotency-Key in this
    /// log. None if the last attempt was with another key: its index means nothing here.
    async fn first_attempt(
        &self,
        tenant: TenantId,
        log: LogId,
        last: &ClaimRow,
    ) -> Result<Option<u64>, SigningError> {
        if last.log != log {
            return Ok(None);
        }
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

    fn answer(
        &self,
        key: &KeyRow,
        certificate: &CertificateRow,
        request: &SignRequest,
        performed: &crate::use_key::Performed,
        rid: &RequestId,
    ) -> Result<SignatureAnswer, SigningError> {
        Ok(SignatureAnswer {
            signature: STANDARD.encode(&performed.signature),
            scheme: key.algorithm.scheme(request.digest_algorithm),
            key: key.id,
            certificate_chain: certificate
                .chain
                .iter()
                .map(|c| STANDARD.encode(c))
                .collect(),
            receipt: performed.receipt.clone(),
            log: LogReference {
                vkey: self.vkey(&performed.origin)?,
                origin: performed.origin.clone(),
            },
            request: rid.to_string(),
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
            return Err(match snapshot.newest_state {
                Some(state) => SigningError::KeyNotActive { state },
                None => SigningError::NoKey,
            });
        };
        Ok(SignerCertificate {
            chain: certificate.chain.clone(),
            key: key.id,
            algorithm: key.algorithm,
        })
    }
}

/// What an idempotency key was used for: another signer, content or algorithm is another body.
fn body_hash(signer: &SignerName, request: &SignRequest) -> [u8; 32] {
    let mut h = Sha256::new();
    let mut part = |bytes: &[u8]| {
        h.update((bytes.len() as u64).to_be_bytes());
        h.update(bytes);
    };
    part(signer.to_string().as_bytes());
    part(request.digest_algorithm.as_str().as_bytes());
    part(request.submission.content_type().as_str().as_bytes());
    match &request.submission {
        Submission::Authenticode {
            signed_attributes,
            indirect_data,
        } => {
            part(signed_attributes);
            part(indirect_data);
        }
        Submission::Cms { signed_attributes } => part(signed_attributes),
        Submission::RawDigest { digest } => part(digest),
    }
    h.finalize().into()
}

const fn content_kind(content: ContentType) -> ContentKind {
    match content {
        ContentType::Authenticode => ContentKind::Authenticode,
        ContentType::Cms => ContentKind::Cms,
        ContentType::RawDigest => ContentKind::RawDigest,
        ContentType::CertificateRequest => ContentKind::CertificateRequest,
    }
}

#[allow(clippy::needless_pass_by_value, reason = "used as a map_err function")]
fn internal(e: serde_json::Error) -> SigningError {
    SigningError::Internal(format!("stored answer: {e}"))
}
