//! Refusals in the tenant's log, aggregated: the first of a kind stands there within seconds, and
//! further ones only raise a count, so that a flood of refused requests does not become a flood of
//! leaves.

use crate::Service;
use crate::caller::Caller;
use crate::sequencer::{DetailsDraft, Draft, Submission};
use crate::use_key::text_opening;
use countersign_core::{RequestId, SignerLabel, TenantId};
use countersign_signing_log::commitment::LABEL_DETAIL;
use countersign_signing_log::leaf::{ContentRefused, Denied, LeafBody};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Kinds remembered between two flushes; what comes beyond is counted under `other`.
const KINDS: usize = 1024;

/// What was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Refusal {
    /// By grants, roles or states.
    Denied,
    /// By the content crate.
    Content,
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
pub(crate) struct Denials(Mutex<HashMap<Kind, (u64, String)>>);

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
        let mut kinds = self
            .denials()
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
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

    /// Writes what was counted into the tenant logs.
    pub(crate) async fn flush_denials(&self) {
        let kinds = std::mem::take(
            &mut *self
                .denials()
                .0
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        for (kind, (count, record)) in kinds {
            let Ok(opening) = text_opening(&record) else {
                continue;
            };
            let detail = Some(opening.commitment(LABEL_DETAIL));
            let signer = kind.signer.as_ref().map(ToString::to_string);
            let body = match kind.refusal {
                Refusal::Denied => LeafBody::Denied(Denied {
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
                    body,
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
                let mut kinds = self
                    .denials()
                    .0
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                let waiting = kinds.entry(kind).or_insert((0, record));
                waiting.0 = waiting.0.saturating_add(count);
            }
        }
    }
}
