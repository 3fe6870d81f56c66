//! After a crash: authorisations that a dead node left without outcome are closed as `unknown`.

use crate::sequencer::{ClaimDraft, Draft, Refused, Submission};
use crate::{Service, SigningError};
use countersign_core::ports::rows::{ClaimState, OpenAuthorisation};
use countersign_signing_log::leaf::{LeafBody, Outcome, OutcomeResult};
use std::collections::HashSet;
use std::time::Duration;

/// Authorisations closed in one round.
const ROUND: u32 = 256;
/// How long what could not be closed waits for the next try.
const AGAIN: Duration = Duration::from_secs(5);

/// What recovery did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovered {
    /// Authorisations closed as `unknown`.
    pub closed: usize,
    /// Authorisations still open, as far as they were looked at.
    pub left: usize,
}

impl Service {
    /// Closes what dead nodes left open. What a living node has open is its own, and a log is left alone until its worker says that the database is not an old copy.
    ///
    /// # Errors
    /// [`SigningError::Unavailable`] if the database is away; call again later.
    pub async fn recover(&self) -> Result<Recovered, SigningError> {
        let mut closed = 0;
        loop {
            let open = self.store().open_authorisations(ROUND).await?;
            if open.is_empty() {
                return Ok(Recovered { closed, left: 0 });
            }
            let left = open.len();
            let mut progress = false;
            let mut silent = HashSet::new();
            for authorisation in open {
                if silent.contains(&authorisation.log) {
                    continue;
                }
                match self
                    .may_close(authorisation.tenant, authorisation.log)
                    .await
                {
                    Ok(()) => {}
                    Err(SigningError::HistoryRewound { .. }) => {
                        return Ok(Recovered { closed, left });
                    }
                    Err(e) => {
                        tracing::warn!(log = %authorisation.log, error = %e, "left open until its worker answers");
                        silent.insert(authorisation.log);
                        continue;
                    }
                }
                match self
                    .sequencer()
                    .write_surely(close_as_unknown(&authorisation, "node-stopped"))
                    .await
                {
                    Ok(_) => {
                        progress = true;
                        closed += 1;
                        tracing::warn!(
                            log = %authorisation.log, index = authorisation.index, epoch = authorisation.epoch,
                            "authorisation left open by a stopped node: closed as unknown"
                        );
                    }
                    Err(Refused::Error(e)) => {
                        tracing::info!(log = %authorisation.log, error = %e, "left open for its own node");
                    }
                    Err(Refused::Closed) => progress = true,
                    Err(_) => {}
                }
            }
            if !progress {
                return Ok(Recovered { closed, left });
            }
        }
    }

    /// Recovers until nothing is left, or the service stops.
    pub(crate) async fn recover_the_rest(self) {
        while !self.stopping() {
            tokio::time::sleep(AGAIN).await;
            match self.recover().await {
                Ok(Recovered { left: 0, .. }) => return,
                Ok(_) => {}
                Err(e) => tracing::warn!(error = %e, "recovery waits"),
            }
        }
    }

    /// Compares a tenant's token with the database, once per run, when its worker first answers:
    /// keys the token has and we do not are orphans of a crash; they are reported, never used.
    pub(crate) async fn compare_inventory(
        &self,
        tenant: countersign_core::TenantId,
    ) -> Result<(), SigningError> {
        let inventory = self.hsm().inventory(tenant).await?;
        let known = self.store().keys(tenant).await?;
        for key in &inventory.keys {
            if !known.iter().any(|k| k.id == *key) {
                tracing::warn!(%tenant, %key, "the token has a key the database does not know: an orphan");
            }
        }
        for orphan in &inventory.orphans {
            tracing::warn!(%tenant, cka_id = %orphan, "the token has an object nobody bound: an orphan");
        }
        for key in &inventory.lost {
            tracing::error!(%tenant, %key, "the token has lost a key");
        }
        Ok(())
    }
}

/// The outcome leaf for an authorisation nobody will finish.
pub(crate) fn close_as_unknown(open: &OpenAuthorisation, reason: &str) -> Submission {
    Submission {
        drafts: vec![Draft {
            tenant: open.tenant,
            log: open.log,
            body: LeafBody::Outcome(Outcome {
                of: open.index,
                result: OutcomeResult::Unknown,
                signature_sha256: None,
                reason: Some(reason.to_owned()),
            })
            .into(),
            details: None,
            opens: false,
        }],
        claim: open.claim.clone().map(|key| ClaimDraft::Settle {
            key,
            log: open.log,
            index: open.index,
            state: ClaimState::Unanswered,
        }),
        closes: vec![(open.log, open.index)],
        ..Submission::default()
    }
}
