//! Refusals in the tenant's log, aggregated: the first of a kind stands there within seconds, and
//! further ones only raise a count, so that a flood of refused requests does not become a flood of
//! leaves. Strangers at an issuer that many share are counted more seldom still: they can come as
//! often as they like.

use crate::Service;
use crate::caller::Caller;
use crate::sequencer::{DetailsDraft, Draft, Submission};
use crate::use_key::text_opening;
use countersign_core::{Micros, RequestId, SignerLabel, TenantId};
use countersign_signing_log::commitment::LABEL_DETAIL;
use countersign_signing_log::leaf::{ContentRefused, Denied, LeafBody};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Kinds remembered between two flushes; what comes beyond is counted under `other`.
const KINDS: usize = 1024;
/// Least time between two leaves of one tenant that count strangers.
const STRANGERS: Duration = Duration::from_secs(600);

/// What was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Refusal {
    /// By grants, roles or states.
    Denied,
    /// By the content crate.
    Content,
    /// At the exchange: a token that verified, of a caller without a role or a grant.
    Stranger,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Kind {
    tenant: TenantId,
    signer: Option<SignerLabel>,
    refusal: Refusal,
    reason: String,
}

/// Counts since the last flush; the first refusal's caller stands in the details.
#[derive(Debug, Default)]
pub(crate) struct Denials {
    counts: Mutex<HashMap<Kind, (u64, String)>>,
    /// When a tenant's strangers were written last.
    strangers: Mutex<HashMap<TenantId, Micros>>,
}

impl Denials {
    fn lock(&self) -> MutexGuard<'_, HashMap<Kind, (u64, String)>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what is to be written now; the rest goes on counting. `all`: the last chance.
    fn take(&self, now: Micros, all: bool) -> HashMap<Kind, (u64, String)> {
        let mut written = self
            .strangers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        written.retain(|_, at| now < at.plus(STRANGERS));
        let (due, waiting) =
            std::mem::take(&mut *self.lock())
                .into_iter()
                .partition(|(kind, _)| {
                    all || kind.refusal != Refusal::Stranger || !written.contains_key(&kind.tenant)
                });
        let due: HashMap<_, _> = due;
        for kind in due.keys().filter(|k| k.refusal == Refusal::Stranger) {
            written.insert(kind.tenant, now);
        }
        self.put_back(waiting);
        due
    }

    fn put_back(&self, waiting: HashMap<Kind, (u64, String)>) {
        let mut counts = self.lock();
        for (kind, (count, record)) in waiting {
            // What was counted meanwhile is later than what waits: the record is the first's.
            let later = counts.remove(&kind).map_or(0, |(n, _)| n);
            counts.insert(kind, (count.saturating_add(later), record));
        }
    }
}

impl Service {
    /// Counts a refusal. Never fails and never waits: it is on the path of a refused request.
    pub(crate) fn refused(
        &self,
        caller: &Caller,
        signer: Option<&SignerLabel>,
        refusal: Refusal,
        reason: &str,
        request: &RequestId,
    ) {
        let mut kinds = self.denials().lock();
        let reason = if kinds.len() < KINDS { reason } else { "other" };
        let kind = Kind {
            tenant: caller.tenant,
            signer: signer.cloned(),
            refusal,
            reason: reason.chars().take(200).collect(),
        };
        let first = || {
            let record = serde_json::json!({
                "first_request": request.as_str(), "issuer": caller.issuer, "subject": caller.subject,
            });
            (0, record.to_string())
        };
        kinds.entry(kind).or_insert_with(first).0 += 1;
    }

    /// Writes what was counted into the tenant logs. Whether all of it was written.
    pub(crate) async fn flush_denials(&self) -> bool {
        let mut all = true;
        let kinds = self.denials().take(self.clock().now(), self.stopping());
        for (kind, (count, record)) in kinds {
            let Ok(opening) = text_opening(&record) else {
                continue;
            };
            let detail = Some(opening.commitment(LABEL_DETAIL));
            let signer = kind.signer.as_ref().map(ToString::to_string);
            let body = match kind.refusal {
                Refusal::Denied | Refusal::Stranger => LeafBody::Denied(Denied {
                    signer,
                    reason: kind.reason.clone(),
                    count,
                    detail,
                }),
                Refusal::Content => LeafBody::ContentRefused(ContentRefused {
                    signer: signer.unwrap_or_default(),
                    reason: kind.reason.clone(),
                    count,
                    detail,
                }),
            };
            let submission = Submission {
                drafts: vec![Draft {
                    tenant: kind.tenant,
                    log: kind.tenant.into(),
                    body: body.into(),
                    details: Some(DetailsDraft {
                        detail: Some(opening),
                        ..DetailsDraft::default()
                    }),
                    opens: false,
                }],
                ..Submission::default()
            };
            if let Err(e) = self.sequencer().write_surely(submission).await {
                // Kept for the next flush: a full disk hides no refusal (invariant 7).
                tracing::error!(tenant = %kind.tenant, count, error = ?e, "refusals wait to be logged");
                self.denials()
                    .put_back(HashMap::from([(kind, (count, record))]));
                all = false;
            }
        }
        all
    }
}
