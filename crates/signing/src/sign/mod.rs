//! The signing path (ARCHITECTURE.md): load → decide (typed content, grants, key) → idempotency claim
//! and authorisation leaf in one commit → token → verify → answer. What the API does before
//! (admission, identity) and the worker after (the leaf's proof) is theirs.
//!
//! Requests are batches. Each item has a decision, a leaf and a result of its own, and what becomes
//! of one is nothing to its neighbours; they share one look at the signer, one commit and the token's
//! threads.

mod claim;
mod decide;
mod stored;

use crate::caller::Caller;
use crate::measures::{RefusalReason, current_trace, traced};
use crate::sequencer::Refused;
use crate::snapshot::SignerSnapshot;
use crate::use_key::{Authorised, ClaimUse, KeyUse};
use crate::{Service, SigningError};
use claim::{Claim, Claims};
use countersign_content::{ContentType, Submission};
use countersign_core::failpoint;
use countersign_core::measure::Label as _;
use countersign_core::ports::rows::CertificateRow;
use countersign_core::trace::{Attribute, Span, SpanName};
use countersign_core::{
    HashAlgorithm, KeyAlgorithm, KeyId, RequestId, SignatureScheme, SignerName,
};
use countersign_signing_log::leaf::{ContentKind, Purpose};
use decide::Judged;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;
use stored::StoredAnswer;
use tokio::task::JoinHandle;
use tracing::Instrument as _;

pub use claim::MAX_IDEMPOTENCY_KEY;

/// How often a decision is made anew because the tenant changed under it.
const DECISIONS: usize = 4;
/// Most items in one batch.
pub const MAX_ITEMS: usize = 100;
/// Longest id of an item.
pub const MAX_ITEM_ID: usize = 128;

/// What is asked: 1 to [`MAX_ITEMS`] items.
#[derive(Debug, Clone)]
pub struct SignBatch {
    /// The items; their ids are unique.
    pub items: Vec<SignItem>,
    /// Makes a retry safe, item by item: same principal, key, item id and bytes give the first answer.
    pub idempotency_key: Option<String>,
}

/// One thing to be signed.
#[derive(Debug, Clone)]
pub struct SignItem {
    /// The caller's word for it: 1 to [`MAX_ITEM_ID`] visible ASCII characters.
    pub id: String,
    /// The typed content.
    pub submission: Submission,
    /// The digest algorithm of content and signature.
    pub digest_algorithm: HashAlgorithm,
}

/// A signature with everything needed to use it and to prove it was logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedItem {
    /// DER for ECDSA.
    pub signature: Vec<u8>,
    /// Scheme.
    pub scheme: SignatureScheme,
    /// The certificate that it is by, and so the key.
    pub certificate: Arc<CertificateRow>,
    /// A C2SP tlog-proof of the authorisation.
    pub receipt: String,
    /// Origin of the log the receipt is from.
    pub origin: String,
    /// The id of the request that it was made for, as in the leaf.
    pub request: String,
}

/// What became of one item.
pub type ItemResult = Result<Arc<SignedItem>, SigningError>;

/// What a client needs before it hashes.
#[derive(Debug, Clone)]
pub struct SignerCertificate {
    /// DER, leaf first, without the root.
    pub chain: Vec<Vec<u8>>,
    /// The key that will sign.
    pub key: KeyId,
    /// Its algorithm.
    pub algorithm: KeyAlgorithm,
    /// What its owner should know now, in words: an end that is near, a list that cannot be had.
    pub warnings: Vec<String>,
}

/// One request on its way through.
struct Ask {
    caller: Caller,
    signer: SignerName,
    rid: RequestId,
    items: Vec<SignItem>,
    /// Where a retry is to be told: under an Idempotency-Key.
    claims: Option<Claims>,
}

/// An item that may be signed, and the claim it stands under.
struct Ready {
    item: usize,
    judged: Judged,
    claim: Option<ClaimUse>,
}

impl Service {
    /// Signs a batch. The results are in the items' order: one for each.
    ///
    /// # Errors
    /// What concerns the request and no item of it: [`SigningError::Invalid`] for a batch that is none,
    /// [`SigningError::NotFound`], [`SigningError::TokenNotForSigner`], [`SigningError::Unavailable`].
    /// Nothing was begun then. Everything else stands in the results; with an idempotency key a retry
    /// of a retryable one is safe.
    pub async fn sign(
        &self,
        caller: &Caller,
        signer: &SignerName,
        batch: SignBatch,
        rid: &RequestId,
    ) -> Result<Vec<ItemResult>, SigningError> {
        caller.of_tenant(&signer.tenant)?;
        batch.check()?;
        let claims = batch
            .idempotency_key
            .map(|key| Claims::new(caller, &key))
            .transpose()?;
        let ask = Arc::new(Ask {
            caller: caller.clone(),
            signer: signer.clone(),
            rid: rid.clone(),
            items: batch.items,
            claims,
        });
        // From here a client's disconnect cancels nothing: the work has a task of its own.
        let service = self.clone();
        let began = Instant::now();
        self.measures().batch.observe_value(ask.items.len() as u64);
        let work = async move {
            let result = service.sign_in_task(ask).await;
            match &result {
                Ok(items) => {
                    for item in items {
                        service.measures().signed(began, item);
                    }
                }
                Err(_) => service.measures().signed(began, &result),
            }
            result
        };
        let work = traced(current_trace(), work.in_current_span());
        let task = self.tasks().spawn(work);
        task.await
            .map_err(|e| SigningError::Internal(format!("the signing task: {e}")))?
    }

    async fn sign_in_task(&self, ask: Arc<Ask>) -> Result<Vec<ItemResult>, SigningError> {
        let first = self.snapshot(ask.caller.tenant, &ask.signer.signer).await?;
        self.token_for_signer(&ask, &first)?;
        drop(first);

        let trace = current_trace();
        let mut results = Results::new(ask.items.len());
        let mut waiting: Vec<usize> = (0..ask.items.len()).collect();
        let mut under_way: Vec<(usize, JoinHandle<ItemResult>)> = Vec::new();
        for _ in 0..DECISIONS {
            let mut span = trace.span(SpanName::Decide);
            let decided = self.decide(&ask, &waiting).await;
            tell_decision(&mut span, &decided);
            drop(span);
            let (snapshot, judged) = match decided {
                Ok(decided) => decided,
                Err(e) => {
                    results.fail(&std::mem::take(&mut waiting), &e);
                    break;
                }
            };
            let allowed = results.sort(judged);
            let ready = self.claim(&ask, &snapshot, allowed, &mut results).await;
            let (authorised, again) = self
                .authorise_ready(&ask, &snapshot, ready, &mut results)
                .await;
            for (item, authorised) in authorised {
                let (service, ask, snapshot) = (self.clone(), ask.clone(), snapshot.clone());
                let work = async move { service.perform_item(&ask, &snapshot, authorised).await };
                let task = self
                    .tasks()
                    .spawn(traced(current_trace(), work.in_current_span()));
                under_way.push((item, task));
            }
            waiting = again;
            if waiting.is_empty() {
                break;
            }
        }
        let changing =
            SigningError::Unavailable("the tenant is being changed at this moment".into());
        results.fail(&waiting, &changing);
        for (item, task) in under_way {
            let result = task
                .await
                .unwrap_or_else(|e| Err(SigningError::Internal(format!("an item's task: {e}"))));
            results.put(item, result);
        }
        // The first of them waited for the last: what this node may not let out any more, it does
        // not. Another node answers a retry of what was settled.
        if let Err(e) = self.standing().good() {
            results.withhold(&e);
        }
        Ok(results.finish())
    }

    /// Claims what may be signed: gives what is to be authorised; what was answered before, is in
    /// flight or was something else has its result.
    async fn claim(
        &self,
        ask: &Arc<Ask>,
        snapshot: &Arc<SignerSnapshot>,
        allowed: Vec<(usize, Judged)>,
        results: &mut Results,
    ) -> Vec<Ready> {
        let Some(claims) = &ask.claims else {
            let ready = |(item, judged)| Ready {
                item,
                judged,
                claim: None,
            };
            return allowed.into_iter().map(ready).collect();
        };
        let asked: Vec<(usize, &SignItem)> = allowed
            .iter()
            .filter_map(|(i, _)| Some((*i, ask.items.get(*i)?)))
            .collect();
        let mut known: HashMap<usize, _> = self
            .claims_of(ask, claims, snapshot, asked)
            .await
            .into_iter()
            .collect();
        let mut ready = Vec::with_capacity(allowed.len());
        for (item, judged) in allowed {
            match (known.remove(&item), judged.only_repeat) {
                (Some(Ok(Claim::Answered(answer))), _) => {
                    self.measures().repeats.inc();
                    results.put(item, Ok(answer));
                }
                (Some(Err(e)), _) => results.put(item, Err(e)),
                // No repeat: then it is refused like any other such content.
                (_, Some(refused)) => {
                    self.log_refusal(&ask.caller, &ask.signer.signer, &refused, &ask.rid);
                    results.put(item, Err(refused));
                }
                (Some(Ok(Claim::Go(claim))), None) => ready.push(Ready {
                    item,
                    judged: Judged {
                        only_repeat: None,
                        ..judged
                    },
                    claim: Some(claim),
                }),
                (None, None) => {
                    let lost = SigningError::Internal("an item without a claim".into());
                    results.put(item, Err(lost));
                }
            }
        }
        ready
    }

    /// Makes the leaves of all that is ready durable, in one flush. Gives what is authorised, and what
    /// must be looked at again: the tenant changed, or another request took the claim.
    async fn authorise_ready(
        &self,
        ask: &Arc<Ask>,
        snapshot: &SignerSnapshot,
        ready: Vec<Ready>,
        results: &mut Results,
    ) -> (Vec<(usize, Authorised)>, Vec<usize>) {
        let nothing = (Vec::new(), Vec::new());
        let items: Vec<usize> = ready.iter().map(|r| r.item).collect();
        if items.is_empty() {
            return nothing;
        }
        let Some((key, _)) = &snapshot.active else {
            results.fail(
                &items,
                &SigningError::Internal("a decision without a key".into()),
            );
            return nothing;
        };
        if let Err(e) = self.check_history(ask.caller.tenant, key.id).await {
            results.fail(&items, &e);
            return nothing;
        }
        let mut uses = Vec::with_capacity(ready.len());
        for r in ready {
            let Some(item) = ask.items.get(r.item) else {
                continue;
            };
            failpoint::hit("server.before-authorise");
            uses.push(KeyUse {
                key,
                guard: snapshot.guard,
                purpose: Purpose::Signature,
                content: content_kind(r.judged.parsed.content),
                scheme: key.algorithm.scheme(item.digest_algorithm),
                tbs: r.judged.parsed.tbs,
                artifact: r.judged.parsed.artifact,
                caller: &ask.caller,
                request: &ask.rid,
                claim: r.claim,
            });
        }
        let mut authorised = Vec::with_capacity(items.len());
        let mut again = Vec::new();
        for (item, result) in items.into_iter().zip(self.authorise_together(uses).await) {
            match result {
                Ok(a) => authorised.push((item, a)),
                Err(Refused::Stale) => {
                    self.snapshots().forget(ask.caller.tenant);
                    again.push(item);
                }
                Err(Refused::ClaimTaken) => again.push(item),
                Err(e @ (Refused::Closed | Refused::Error(_))) => results.put(item, Err(e.into())),
            }
        }
        (authorised, again)
    }

    /// The token's part of one item, and its answer.
    async fn perform_item(
        &self,
        ask: &Ask,
        snapshot: &SignerSnapshot,
        authorised: Authorised,
    ) -> ItemResult {
        failpoint::hit("server.after-authorise");
        let Some((_, certificate)) = &snapshot.active else {
            return Err(SigningError::Internal("a use without a certificate".into()));
        };
        let performed = self.perform(authorised).await?;
        let _span = current_trace().span(SpanName::Answer);
        let item = Arc::new(SignedItem {
            signature: performed.signature.clone(),
            scheme: performed.scheme,
            certificate: certificate.clone(),
            receipt: performed.receipt.clone(),
            origin: performed.origin.clone(),
            request: ask.rid.to_string(),
        });
        let stored = ask.claims.as_ref().and_then(|_| {
            StoredAnswer::of(&item, &performed.checkpoint)
                .inspect_err(|e| tracing::error!(error = %e, "an answer could not be stored"))
                .ok()
        });
        let stored = stored.map(|text| (item.clone(), text));
        self.settle(performed, stored)?;
        failpoint::hit("server.before-answer");
        Ok(item)
    }
}

/// Says on the span what was decided: the content's type, or why not, of the first item.
fn tell_decision(span: &mut Span, decided: &Result<decide::Decision, SigningError>) {
    match decided {
        Err(refused) => span.fail(RefusalReason::from(refused).label()),
        Ok((_, items)) => match items.first() {
            Some((_, Ok(judged))) => {
                span.say(|| Attribute::Content(judged.parsed.content.as_str()));
            }
            Some((_, Err(refused))) => span.fail(RefusalReason::from(refused).label()),
            None => {}
        },
    }
}

impl SignBatch {
    /// What every batch must be. [`Service::sign`] checks it too.
    ///
    /// # Errors
    /// [`SigningError::Invalid`] names the field: `items`, `items[3].id`.
    pub fn check(&self) -> Result<(), SigningError> {
        let count = self.items.len();
        if !(1..=MAX_ITEMS).contains(&count) {
            return Err(SigningError::invalid(
                "items",
                format!("1 to {MAX_ITEMS} items, not {count}"),
            ));
        }
        let mut seen: HashMap<&str, usize> = HashMap::with_capacity(count);
        for (n, item) in self.items.iter().enumerate() {
            let field = || format!("items[{n}].id");
            let fits = (1..=MAX_ITEM_ID).contains(&item.id.len());
            if !fits || !item.id.bytes().all(|b| b.is_ascii_graphic()) {
                let rule = format!("1 to {MAX_ITEM_ID} visible ASCII characters");
                return Err(SigningError::invalid(field(), rule));
            }
            if let Some(first) = seen.insert(&item.id, n) {
                let twice = format!("items[{first}] has the same id");
                return Err(SigningError::invalid(field(), twice));
            }
        }
        Ok(())
    }
}

/// The results as they come in.
struct Results(Vec<Option<ItemResult>>);

impl Results {
    fn new(count: usize) -> Self {
        Self(std::iter::repeat_with(|| None).take(count).collect())
    }

    fn put(&mut self, item: usize, result: ItemResult) {
        if let Some(slot) = self.0.get_mut(item) {
            *slot = Some(result);
        }
    }

    fn fail(&mut self, items: &[usize], why: &SigningError) {
        for item in items {
            self.put(*item, Err(why.clone()));
        }
    }

    /// Lets no signature out.
    fn withhold(&mut self, why: &SigningError) {
        for slot in self.0.iter_mut().filter(|r| matches!(r, Some(Ok(_)))) {
            *slot = Some(Err(why.clone()));
        }
    }

    /// Keeps the refusals and gives the rest.
    fn sort(&mut self, judged: Vec<(usize, Result<Judged, SigningError>)>) -> Vec<(usize, Judged)> {
        let mut allowed = Vec::with_capacity(judged.len());
        for (item, judged) in judged {
            match judged {
                Ok(j) => allowed.push((item, j)),
                Err(e) => self.put(item, Err(e)),
            }
        }
        allowed
    }

    fn finish(self) -> Vec<ItemResult> {
        let lost = || Err(SigningError::Internal("an item without a result".into()));
        self.0.into_iter().map(|r| r.unwrap_or_else(lost)).collect()
    }
}

const fn content_kind(content: ContentType) -> ContentKind {
    match content {
        ContentType::Authenticode => ContentKind::Authenticode,
        ContentType::Cms => ContentKind::Cms,
        ContentType::RawDigest => ContentKind::RawDigest,
        ContentType::CertificateRequest => ContentKind::CertificateRequest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(ids: &[&str]) -> SignBatch {
        let item = |id: &&str| SignItem {
            id: (*id).to_owned(),
            submission: Submission::RawDigest {
                digest: vec![7; 32],
            },
            digest_algorithm: HashAlgorithm::Sha256,
        };
        SignBatch {
            items: ids.iter().map(item).collect(),
            idempotency_key: None,
        }
    }

    fn field(ids: &[&str]) -> Option<String> {
        match batch(ids).check() {
            Ok(()) => None,
            Err(SigningError::Invalid { field, .. }) => Some(field),
            Err(e) => panic!("{e}"),
        }
    }

    #[test]
    fn a_batch_that_is_none_names_the_field() {
        assert_eq!(field(&["a"]), None);
        assert_eq!(field(&[]).as_deref(), Some("items"));
        let many: Vec<String> = (0..=MAX_ITEMS).map(|n| n.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(field(&many[1..]), None);
        assert_eq!(field(&many).as_deref(), Some("items"));
        assert_eq!(field(&["a", "b", "c", "b"]).as_deref(), Some("items[3].id"));
        let long = "x".repeat(MAX_ITEM_ID + 1);
        assert_eq!(field(&[&long[1..]]), None);
        for bad in ["", "a b", "caf\u{e9}", "a\n", &long] {
            assert_eq!(
                field(&["a", bad]).as_deref(),
                Some("items[1].id"),
                "{bad:?}"
            );
        }
    }
}
