//! One use of a key, in the only order there is: [`Service::authorise`] makes the leaf durable and
//! gives an [`Authorised`]; only an `Authorised` can be [`Service::perform`]ed, once, since it is
//! consumed. Nothing else in the service calls the token's `sign`.

use crate::caller::Caller;
use crate::measures::{Content, OutcomeLabel, RefusalReason, SchemeLabel, current_trace};
use crate::sequencer::{ClaimDraft, DetailsDraft, Draft, NEAR, Placed, Refused, Submission};
use crate::service_keys::random;
use crate::sign::SignedItem;
use crate::{Service, SigningError};
use countersign_core::failpoint;
use countersign_core::measure::Label as _;
use countersign_core::ports::hsm::{HsmError, LogResync, SignOrder, Spent};
use countersign_core::ports::rows::{ClaimKey, ClaimState, KeyRow};
use countersign_core::ports::store::Guard;
use countersign_core::trace::{Attribute, SpanName, Trace};
use countersign_core::{Digest, KeyId, LogId, RequestId, SignatureScheme, TenantId};
use countersign_signing_log::commitment::{
    LABEL_ARTIFACT, LABEL_CALLER, LABEL_TBS, Opening, Salt, digest_text,
};
use countersign_signing_log::leaf::{
    Asserted, Authorisation, ContentKind, LeafBody, Outcome, OutcomeResult, Purpose,
};
use countersign_signing_log::receipt::Receipt;
use countersign_x509::key::PublicKey;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// How often a worker that fell behind is brought up before we give up.
const SYNC_ROUNDS: usize = 8;
/// Longest pause between two tries to write an outcome.
const LONGEST_WAIT: std::time::Duration = std::time::Duration::from_secs(5);
/// The same while the service stops: there is little time.
const STOPPING_WAIT: std::time::Duration = std::time::Duration::from_millis(250);

/// What is to be authorised.
pub(crate) struct KeyUse<'a> {
    pub key: &'a KeyRow,
    pub guard: Guard,
    pub purpose: Purpose,
    pub content: ContentKind,
    pub scheme: SignatureScheme,
    pub tbs: Digest,
    pub artifact: Option<Digest>,
    pub caller: &'a Caller,
    pub request: &'a RequestId,
    pub claim: Option<ClaimUse>,
}

/// The idempotency claim a use stands under.
#[derive(Clone)]
pub(crate) struct ClaimUse {
    pub key: ClaimKey,
    pub body: [u8; 32],
    pub attempt: u32,
    /// Index of the first attempt's leaf, for a further attempt in the same log.
    pub repeats: Option<u64>,
    pub expires: countersign_core::Micros,
}

/// Answers that went out and whose outcome is not written yet, by claim.
#[derive(Debug, Default)]
pub(crate) struct Answers(Mutex<HashMap<ClaimKey, Known>>);

/// Body and answer.
type Known = ([u8; 32], Arc<SignedItem>);

impl Answers {
    fn add(&self, claim: &ClaimUse, answer: Arc<SignedItem>) {
        self.lock().insert(claim.key.clone(), (claim.body, answer));
    }

    fn remove(&self, key: &ClaimKey) {
        self.lock().remove(key);
    }

    /// Body and answer.
    pub(crate) fn get(&self, key: &ClaimKey) -> Option<Known> {
        self.lock().get(key).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ClaimKey, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A use whose leaf is durable. Consumed by [`Service::perform`].
pub(crate) struct Authorised {
    placed: Placed,
    asked: Asked,
}

/// A use as it was asked for.
struct Asked {
    tenant: TenantId,
    key: KeyId,
    public: Arc<PublicKey>,
    scheme: SignatureScheme,
    content: ContentKind,
    digest: Digest,
    tbs: Opening,
    artifact: Option<Opening>,
    claim: Option<ClaimUse>,
}

/// A signature that was verified before it left.
pub(crate) struct Performed {
    /// DER for ECDSA.
    pub signature: Vec<u8>,
    /// Proof of the authorisation.
    pub receipt: String,
    /// Origin of the key's log.
    pub origin: String,
    /// The signed checkpoint that the proof leads to.
    pub checkpoint: Arc<str>,
    /// Under which scheme.
    pub scheme: SignatureScheme,
    /// What it is counted under.
    counts: (SchemeLabel, Content),
    close: Close,
}

/// What the outcome leaf needs.
struct Close {
    tenant: TenantId,
    log: LogId,
    index: u64,
    claim: Option<ClaimUse>,
}

impl Service {
    /// Writes the authorisation leaf. When it returns the leaf is durable and covered by a signed
    /// checkpoint.
    pub(crate) async fn authorise(&self, u: KeyUse<'_>) -> Result<Authorised, Refused> {
        let one = self.authorise_together(vec![u]).await.pop();
        one.unwrap_or_else(|| {
            Err(Refused::Error(SigningError::Internal(
                "the writer gave no answer".into(),
            )))
        })
    }

    /// As [`Service::authorise`] for the items of a batch, in one flush; the answers are in order.
    /// What becomes of one is nothing to its neighbours.
    pub(crate) async fn authorise_together(
        &self,
        uses: Vec<KeyUse<'_>>,
    ) -> Vec<Result<Authorised, Refused>> {
        let mut asked = Vec::with_capacity(uses.len());
        let mut submissions = Vec::with_capacity(uses.len());
        for u in uses {
            asked.push(self.draft_use(u).map(|(submission, use_of)| {
                submissions.push(submission);
                use_of
            }));
        }
        let mut placed = self
            .sequencer()
            .write_together(submissions)
            .await
            .into_iter();
        let missing = || {
            Refused::Error(SigningError::Internal(
                "the writer gave no place in the log".into(),
            ))
        };
        asked
            .into_iter()
            .map(|asked| {
                let asked = asked?;
                let mut placed = placed.next().ok_or_else(missing)??;
                let placed = placed.pop().ok_or_else(missing)?;
                self.measures().authorisations.inc(asked.content.into());
                self.measures().open.add(1);
                Ok(Authorised { placed, asked })
            })
            .collect()
    }

    /// The leaf of one use and all that is written with it.
    fn draft_use(&self, u: KeyUse<'_>) -> Result<(Submission, Asked), Refused> {
        let error = |e: SigningError| Refused::Error(e);
        let public = self
            .snapshots()
            .public_key(u.key)
            .map_err(|e| error(SigningError::Internal(format!("stored public key: {e}"))))?;
        let tbs = opening(&u.tbs).map_err(error)?;
        let artifact = u
            .artifact
            .as_ref()
            .map(opening)
            .transpose()
            .map_err(error)?;
        let caller = text_opening(&u.caller.record()).map_err(error)?;
        // A leaf counts the attempts in its own log.
        let attempt = match &u.claim {
            Some(c) if c.repeats.is_some() => c.attempt,
            _ => 1,
        };
        let body = Authorisation {
            tenant: u.key.tenant.to_string(),
            signer: u.key.signer.to_string(),
            key: u.key.id.to_string(),
            request: u.request.to_string(),
            attempt,
            repeats: u.claim.as_ref().and_then(|c| c.repeats),
            purpose: u.purpose,
            scheme: u.scheme.to_string(),
            content: u.content,
            asserted: if u.content == ContentKind::RawDigest {
                Asserted::DigestOnly
            } else {
                Asserted::Typed
            },
            tbs: tbs.commitment(LABEL_TBS),
            artifact: artifact.as_ref().map(|a| a.commitment(LABEL_ARTIFACT)),
            caller: caller.commitment(LABEL_CALLER),
            // Filled in by the writer, which alone knows the epoch it writes under.
            node: String::new(),
            epoch: 0,
        };
        let claim = u.claim.as_ref().map(|c| match c.attempt {
            1 => ClaimDraft::First {
                key: c.key.clone(),
                body: c.body,
                expires: c.expires,
            },
            attempt => ClaimDraft::Again {
                key: c.key.clone(),
                body: c.body,
                attempt,
                expires: c.expires,
            },
        });
        let submission = Submission {
            drafts: vec![Draft {
                tenant: u.key.tenant,
                log: u.key.id.into(),
                body: LeafBody::Authorisation(body).into(),
                details: Some(DetailsDraft {
                    tbs: Some(tbs.clone()),
                    artifact: artifact.clone(),
                    caller: Some(caller),
                    ..DetailsDraft::default()
                }),
                opens: true,
            }],
            guard: Some(u.guard),
            claim,
            ..Submission::default()
        };
        let asked = Asked {
            tenant: u.key.tenant,
            key: u.key.id,
            public,
            scheme: u.scheme,
            content: u.content,
            digest: u.tbs,
            tbs,
            artifact,
            claim: u.claim,
        };
        Ok((submission, asked))
    }

    /// Uses the key once and verifies the signature. On failure the outcome leaf is on its way
    /// before this returns; on success the caller sends it with [`Service::settle`].
    pub(crate) async fn perform(
        &self,
        Authorised { placed, asked: a }: Authorised,
    ) -> Result<Performed, SigningError> {
        let close = Close {
            tenant: a.tenant,
            log: a.key.into(),
            index: placed.index,
            claim: a.claim,
        };
        let order = SignOrder {
            key: a.key,
            index: placed.index,
            leaf: placed.leaf.clone(),
            scheme: a.scheme,
            digest: a.digest.clone(),
            tbs_salt: a.tbs.salt.0,
            trace: None,
        };
        let trace = current_trace();
        failpoint::hit("server.before-worker");
        let mut span = trace.span(SpanName::Worker);
        span.say(|| Attribute::Scheme(a.scheme));
        let signed = self.sign_with(a.tenant, order, &span.trace()).await;
        if let Err(failure) = &signed {
            span.fail(RefusalReason::from(&failure.error).label());
        }
        drop(span);
        let signature = match signed {
            Ok(s) => s,
            Err(Failure { error, unknown }) => {
                let result = if unknown {
                    OutcomeResult::Unknown
                } else {
                    OutcomeResult::Failed
                };
                self.close(
                    close,
                    result,
                    Some(short(&error)),
                    None,
                    ClaimState::Unanswered,
                );
                return Err(error);
            }
        };
        failpoint::hit("server.after-worker");
        let mut span = trace.span(SpanName::Verify);
        if a.public
            .verify_digest(a.scheme, &a.digest, &signature)
            .is_err()
        {
            // The signature is destroyed here: it is neither answered nor stored.
            span.fail("signature-invalid");
            self.close(
                close,
                OutcomeResult::Failed,
                Some("signature-invalid".into()),
                None,
                ClaimState::Unanswered,
            );
            return Err(SigningError::Unavailable(
                "the token returned a signature that does not verify".into(),
            ));
        }
        drop(span);
        failpoint::hit("server.after-verify");
        let receipt = Receipt {
            leaf: placed.leaf,
            artifact: a.artifact,
            index: placed.index,
            proof: placed.proof,
            checkpoint_note: placed.checkpoint.to_string(),
        }
        .to_text();
        Ok(Performed {
            signature,
            receipt,
            origin: placed.origin.to_string(),
            checkpoint: placed.checkpoint,
            scheme: a.scheme,
            counts: (SchemeLabel(a.scheme), a.content.into()),
            close,
        })
    }

    /// The last step before a signature leaves: sends the outcome leaf, without holding the answer.
    /// `answer`: what a retry gets, and how it is stored.
    ///
    /// # Errors
    /// This node's lease ran out: another node may have closed the authorisation as `unknown`
    /// already. The signature must not leave, and is destroyed with the caller's copy.
    pub(crate) fn settle(
        &self,
        performed: Performed,
        answer: Option<(Arc<SignedItem>, String)>,
    ) -> Result<(), SigningError> {
        failpoint::hit("server.before-release");
        if let Err(e) = self.standing().good() {
            self.close(
                performed.close,
                OutcomeResult::Unknown,
                Some("node-stalled".into()),
                None,
                ClaimState::Unanswered,
            );
            return Err(e);
        }
        let (scheme, content) = performed.counts;
        self.measures().signatures.inc(scheme, content);
        let hash: [u8; 32] = Sha256::digest(&performed.signature).into();
        let state = match (&performed.close.claim, answer) {
            (Some(claim), Some((item, answer))) => {
                // A retry that comes before the outcome is written gets its answer from memory.
                self.answers().add(claim, item);
                ClaimState::Done { answer }
            }
            _ => ClaimState::Unanswered,
        };
        self.close(
            performed.close,
            OutcomeResult::Signed,
            None,
            Some(hash),
            state,
        );
        Ok(())
    }

    fn close(
        &self,
        close: Close,
        result: OutcomeResult,
        reason: Option<String>,
        signature: Option<[u8; 32]>,
        state: ClaimState,
    ) {
        let service = self.clone();
        self.tasks().spawn(async move {
            let mut wait = std::time::Duration::from_millis(50);
            loop {
                failpoint::hit("server.before-outcome");
                let submission = Submission {
                    drafts: vec![Draft {
                        tenant: close.tenant,
                        log: close.log,
                        body: LeafBody::Outcome(Outcome {
                            of: close.index,
                            result,
                            signature_sha256: signature.map(countersign_signing_log::commitment::HexHash),
                            reason: reason.clone(),
                        })
                        .into(),
                        details: None,
                        opens: false,
                    }],
                    claim: close.claim.as_ref().map(|c| ClaimDraft::Settle {
                        key: c.key.clone(),
                        log: close.log,
                        index: close.index,
                        state: state.clone(),
                    }),
                    closes: vec![(close.log, close.index)],
                    // After a failure a retry may come at once, and must find its claim free.
                    patient: result == OutcomeResult::Signed,
                    ..Submission::default()
                };
                match service.sequencer().write_surely(submission).await {
                    // Closed already: a commit of unknown result had been made after all.
                    Ok(_) | Err(Refused::Closed) => {
                        service.measures().outcomes.inc(OutcomeLabel::from(result));
                        service.measures().open.add(-1);
                        failpoint::hit("server.after-outcome");
                        if let Some(claim) = &close.claim {
                            service.answers().remove(&claim.key);
                        }
                        return;
                    }
                    // Another node closes what we left, as unknown.
                    Err(Refused::Error(SigningError::Buried)) => {
                        service.measures().open.add(-1);
                        return;
                    }
                    // Nothing is ever written again in this run: it stays counted as open.
                    Err(_) if service.stopping() && service.sequencer().frozen().is_some() => return,
                    // A stopping service tries for as long as its drain waits for this task: what is not
                    // written then stays counted as open.
                    Err(e) => {
                        tracing::warn!(log = %close.log, index = close.index, error = ?e, "outcome leaf waits");
                        let most = if service.stopping() { STOPPING_WAIT } else { LONGEST_WAIT };
                        tokio::time::sleep(wait.min(most)).await;
                        wait = (wait * 2).min(LONGEST_WAIT);
                    }
                }
            }
        });
    }

    /// The token's `sign`, bringing its worker up to date where it fell behind.
    async fn sign_with(
        &self,
        tenant: TenantId,
        mut order: SignOrder,
        trace: &Trace,
    ) -> Result<Vec<u8>, Failure> {
        order.trace = trace.here();
        for _ in 0..SYNC_ROUNDS {
            let began = Instant::now();
            let place = self.sequencer().pace().join(tenant);
            match self.hsm().sign(tenant, order.clone()).await {
                Ok(signed) => {
                    place.served(signed.spent.queued);
                    self.worked(trace, began, signed.spent);
                    return Ok(signed.signature);
                }
                // The worker refused before use: the authorisation is still good.
                Err(HsmError::LogBehind { size }) => self
                    .bring_up(tenant, order.key, size, order.index)
                    .await
                    .map_err(|error| Failure {
                        error,
                        unknown: false,
                    })?,
                Err(HsmError::LogRewound { worker, offered }) => {
                    return Err(Failure {
                        error: self.rewound(order.key.into(), worker, offered),
                        unknown: false,
                    });
                }
                Err(e) => {
                    return Err(Failure {
                        unknown: e.outcome_unknown(),
                        error: e.into(),
                    });
                }
            }
        }
        Err(Failure {
            error: SigningError::Unavailable(
                "the token's worker could not be brought up to date".into(),
            ),
            unknown: false,
        })
    }

    /// Counts a worker's call. The worker has no network and its clock is not compared with ours: it
    /// says how long its steps took, and they are shown in the middle of the call.
    fn worked(&self, trace: &Trace, began: Instant, spent: Spent) {
        let whole = began.elapsed();
        let measures = self.measures();
        measures.worker.observe(whole);
        measures.worker_queue.observe(spent.queued);
        measures.hsm.observe(spent.signing);
        if trace.is_on() {
            let inside = spent.queued.saturating_add(spent.signing);
            let arrived = began + whole.saturating_sub(inside) / 2;
            trace.past(SpanName::WorkerQueue, arrived, spent.queued);
            trace.past(SpanName::WorkerSign, arrived + spent.queued, spent.signing);
        }
    }

    /// Brings a worker that remembers `size` leaves up to the head.
    async fn bring_up(
        &self,
        tenant: TenantId,
        key: KeyId,
        size: u64,
        index: u64,
    ) -> Result<(), SigningError> {
        let log = LogId::from(key);
        let head = self
            .store()
            .head(tenant, log)
            .await?
            .ok_or(SigningError::NotFound)?;
        if size > head.size {
            return Err(self.rewound(log, size, head.size));
        }
        if head.size - size <= NEAR {
            return self.sequencer().tell_worker(tenant, key, size).await;
        }
        let proof =
            crate::logs::far_proof(self.store().clone(), tenant, log, size, head.size, index)
                .await?;
        self.hsm()
            .resync(
                tenant,
                LogResync {
                    key,
                    checkpoint: head.checkpoint.into(),
                    consistency_proof: proof.consistency,
                    base_size: proof.base_size,
                    base_frontier: proof.base_frontier,
                    leaf_hashes: proof.leaf_hashes,
                    uses: self.sequencer().uses(log, size).await?,
                },
            )
            .await?;
        Ok(())
    }
}

struct Failure {
    error: SigningError,
    /// Whether a signature may exist.
    unknown: bool,
}

/// A salted opening of a digest, as text `algorithm:hex`.
fn opening(digest: &Digest) -> Result<Opening, SigningError> {
    text_opening(&digest_text(digest.algorithm().as_str(), digest.as_bytes()))
}

/// A salted opening of a text.
pub(crate) fn text_opening(text: &str) -> Result<Opening, SigningError> {
    let mut salt = [0u8; 32];
    random(&mut salt)?;
    Ok(Opening {
        salt: Salt(salt),
        value: text.as_bytes().to_vec(),
    })
}

/// A reason short enough for a leaf.
fn short(e: &SigningError) -> String {
    e.to_string().chars().take(200).collect()
}
