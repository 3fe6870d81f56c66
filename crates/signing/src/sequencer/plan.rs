//! From submissions to one commit: leaves get their time and place, each log touched gets one new
//! right edge and one signed checkpoint.

use super::heads::{Head, Heads};
use super::{ClaimDraft, Placed, Refused, Says, Submission};
use crate::SigningError;
use countersign_core::ports::rows::{
    ClaimRow, ClaimState, LeafRow, LogKind, OpenAuthorisation, SubtreeRow,
};
use countersign_core::ports::store::{ClaimWrite, Commit, Effect, LogWrite};
use countersign_core::{LogId, Micros, NodeId, TenantId};
use countersign_signing_log::checkpoint::Checkpoint;
use countersign_signing_log::commitment::{Commitment, HexHash, Opening};
use countersign_signing_log::details::Details;
use countersign_signing_log::frontier::{AppendedBatch, Frontier, Subtree};
use countersign_signing_log::leaf::{KeyCheckpoint, Leaf, LeafBody};
use countersign_signing_log::{Hash, merkle};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// Leaf times never decrease; a last leaf further in the future than this is a clock gone wrong
/// somewhere, and refuses (ARCHITECTURE.md, "Time").
const MAX_SKEW: Duration = Duration::from_secs(60);

/// The openings of a leaf's commitments.
#[derive(Debug, Clone, Default)]
pub(crate) struct DetailsDraft {
    pub request: Option<String>,
    pub tbs: Option<Opening>,
    pub artifact: Option<Opening>,
    /// Who: for an authorisation the `caller` member, else the leaf's `by`.
    pub caller: Option<Opening>,
    pub subject: Option<Opening>,
    pub detail: Option<Opening>,
}

impl DetailsDraft {
    /// The commitment for a leaf's `by`.
    fn by(&self, body: &LeafBody) -> Option<Commitment> {
        match body {
            LeafBody::Authorisation(_) | LeafBody::TokenExchanged(_) => None,
            _ => self
                .caller
                .as_ref()
                .map(|o| o.commitment(countersign_signing_log::commitment::LABEL_CALLER)),
        }
    }

    fn at(&self, index: u64) -> Details {
        Details {
            index,
            tbs: self.tbs.clone(),
            artifact: self.artifact.clone(),
            caller: self.caller.clone(),
            subject: self.subject.clone(),
            detail: self.detail.clone(),
        }
    }
}

/// One log after the plan.
pub(super) struct PlannedLog {
    pub tenant: TenantId,
    pub log: LogId,
    pub kind: LogKind,
    pub origin: Arc<str>,
    pub old_size: u64,
    pub frontier: Frontier,
    pub checkpoint: Arc<str>,
    pub last_time: Micros,
    pub leaf_hashes: Vec<Hash>,
}

/// An authorisation whose commit has an unknown result.
#[derive(Debug, Clone)]
pub(super) struct Suspect {
    pub tenant: TenantId,
    pub log: LogId,
    pub index: u64,
    pub leaf: Vec<u8>,
    opened: OpenAuthorisation,
}

impl Suspect {
    pub(super) fn open(&self) -> OpenAuthorisation {
        self.opened.clone()
    }
}

/// What one flush writes, and what follows once it is written.
pub(super) struct Plan {
    pub commit: Commit,
    pub after: After,
}

/// What is known of a plan without its rows, which the commit takes with it.
pub(super) struct After {
    pub logs: Vec<PlannedLog>,
    /// Per submission, per draft; none for a patient one, whose leaves nobody asks about.
    pub placed: Vec<Vec<Placed>>,
    /// Authorisations, each with its place in `placed`.
    pub opens: Vec<(OpenAuthorisation, (usize, usize))>,
    pub closes: Vec<(LogId, u64)>,
}

struct Work {
    head: Head,
    time: Micros,
    leaves: Vec<LeafRow>,
}

/// Where a draft went, until checkpoints exist.
struct Spot {
    log: LogId,
    offset: usize,
}

impl Plan {
    /// Builds the plan. `Err` names the submission that cannot be part of it.
    pub(super) fn build<'a>(
        heads: &Heads,
        batch: impl Iterator<Item = &'a Submission>,
        now: Micros,
    ) -> Result<Self, (usize, Refused)> {
        let mut works: HashMap<LogId, Work> = HashMap::new();
        let mut order = Vec::new();
        let mut spots: Vec<(bool, Vec<Spot>)> = Vec::new();
        let mut commit = Commit::default();
        let mut opens = Vec::new();
        let mut guards = HashSet::new();
        // Tenants that an earlier item of this plan changes.
        let mut changed = HashSet::new();
        let node = heads.node();

        for (item, submission) in batch.enumerate() {
            if let Some(guard) = submission.guard {
                // Guards are compared before any effect of the commit: what was decided on the
                // version that an earlier item replaces must be decided anew.
                if changed.contains(&guard.tenant) {
                    return Err((item, Refused::Stale));
                }
                if guards.insert(guard) {
                    commit.guards.push(guard);
                }
            }
            changed.extend(submission.effects.iter().filter_map(Effect::bumps));
            let mut mine = Vec::new();
            let mut opened: Option<(LogId, u64)> = None;
            for draft in &submission.drafts {
                let work = match works.entry(draft.log) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(place) => {
                        let head = heads
                            .get(draft.log)
                            .ok_or((item, Refused::Error(SigningError::NotFound)))?
                            .clone();
                        if head.last_time > now.plus(MAX_SKEW) {
                            return Err((
                                item,
                                Refused::Error(SigningError::Unavailable(
                                    "the clock is behind the log".into(),
                                )),
                            ));
                        }
                        order.push(draft.log);
                        place.insert(Work {
                            time: now.max(head.last_time),
                            head,
                            leaves: Vec::new(),
                        })
                    }
                };
                let index = work.head.frontier.size() + work.leaves.len() as u64;
                let body = body(heads, draft).map_err(|e| (item, Refused::Error(e)))?;
                let (row, claim) = leaf_row(draft, body, work, index, node, submission)
                    .map_err(|e| (item, Refused::Error(e)))?;
                if draft.opens {
                    opened = Some((draft.log, index));
                    let open = OpenAuthorisation {
                        tenant: draft.tenant,
                        log: draft.log,
                        index,
                        node,
                        epoch: work.head.epoch,
                        claim,
                    };
                    commit.opens.push(open.clone());
                    opens.push((open, (item, mine.len())));
                }
                mine.push(Spot {
                    log: draft.log,
                    offset: work.leaves.len(),
                });
                work.leaves.push(row);
            }
            spots.push((submission.patient, mine));
            commit
                .effects
                .extend(submission.effects.iter().map(|e| (item, e.clone())));
            commit.closes.extend(submission.closes.iter().copied());
            if let Some(claim) = &submission.claim {
                commit.claims.push((item, claim_write(claim, opened)));
            }
        }

        let mut logs = Vec::new();
        let mut batches: HashMap<LogId, (PlannedLog, AppendedBatch)> = HashMap::new();
        for log in &order {
            if let Some(work) = works.get(log) {
                let advanced = advance(*log, work).map_err(|e| (usize::MAX, Refused::Error(e)))?;
                batches.insert(*log, advanced);
            }
        }
        let place = |spot: Spot| {
            let (planned, appended) = batches.get(&spot.log)?;
            let index = planned.old_size + spot.offset as u64;
            Some(Placed {
                index,
                leaf: works.get(&spot.log)?.leaves.get(spot.offset)?.bytes.clone(),
                checkpoint: planned.checkpoint.clone(),
                proof: appended.inclusion_proof(index)?,
                origin: planned.origin.clone(),
            })
        };
        let placed = spots
            .into_iter()
            .map(|(patient, mine)| {
                let asked = if patient { Vec::new() } else { mine };
                asked.into_iter().filter_map(place).collect()
            })
            .collect();
        for log in order {
            if let (Some(work), Some((planned, appended))) =
                (works.remove(&log), batches.remove(&log))
            {
                commit.writes.push(write(work, &planned, &appended));
                logs.push(planned);
            }
        }
        let after = After {
            logs,
            placed,
            opens,
            closes: commit.closes.clone(),
        };
        Ok(Self { commit, after })
    }
}

impl After {
    /// The authorisations of this plan, for when its commit has an unknown result.
    pub(super) fn suspects(&self) -> Vec<Suspect> {
        self.opens
            .iter()
            .filter_map(|(open, (item, draft))| {
                let placed = self.placed.get(*item)?.get(*draft)?;
                Some(Suspect {
                    tenant: open.tenant,
                    log: open.log,
                    index: open.index,
                    leaf: placed.leaf.clone(),
                    opened: open.clone(),
                })
            })
            .collect()
    }
}

/// The body of a leaf, on the heads of this flush.
fn body(heads: &Heads, draft: &super::Draft) -> Result<LeafBody, SigningError> {
    match &draft.body {
        Says::Leaf(body) => Ok((**body).clone()),
        Says::KeyHead(key) => {
            let head = heads.get((*key).into()).ok_or(SigningError::NotFound)?;
            Ok(LeafBody::KeyCheckpoint(KeyCheckpoint {
                key: key.to_string(),
                origin: head.origin.to_string(),
                size: head.frontier.size(),
                root: HexHash(head.frontier.root()),
            }))
        }
    }
}

fn leaf_row(
    draft: &super::Draft,
    mut body: LeafBody,
    work: &Work,
    index: u64,
    node: NodeId,
    submission: &Submission,
) -> Result<(LeafRow, Option<countersign_core::ports::rows::ClaimKey>), SigningError> {
    if let LeafBody::Authorisation(a) = &mut body {
        a.node = node.to_string();
        a.epoch = work.head.epoch;
    }
    let mut leaf = Leaf::new(work.time.0, body);
    if let Some(details) = &draft.details
        && !matches!(leaf.body, LeafBody::Authorisation(_))
    {
        leaf.request.clone_from(&details.request);
        leaf.by = details.by(&leaf.body);
    }
    let bytes = leaf
        .encode()
        .map_err(|e| SigningError::Internal(format!("leaf: {e}")))?;
    let hash = merkle::leaf_hash(&bytes);
    let details = draft
        .details
        .as_ref()
        .map(|d| d.at(index))
        .filter(|d| d.openings().next().is_some());
    let details = details.map(|d| d.to_line());
    let claim = match &submission.claim {
        Some(ClaimDraft::First { key, .. } | ClaimDraft::Again { key, .. }) => Some(key.clone()),
        _ => None,
    };
    Ok((
        LeafRow {
            bytes,
            hash,
            details,
        },
        claim,
    ))
}

fn claim_write(claim: &ClaimDraft, opened: Option<(LogId, u64)>) -> ClaimWrite {
    let (log, index) = opened.unwrap_or((LogId(uuid::Uuid::nil()), 0));
    match claim.clone() {
        ClaimDraft::First { key, body, expires } => ClaimWrite::First(ClaimRow {
            key,
            body,
            state: ClaimState::InFlight,
            attempt: 1,
            log,
            index,
            expires,
        }),
        ClaimDraft::Again {
            key,
            body,
            attempt,
            expires,
        } => ClaimWrite::Again(ClaimRow {
            key,
            body,
            state: ClaimState::InFlight,
            attempt,
            log,
            index,
            expires,
        }),
        ClaimDraft::Settle {
            key,
            log,
            index,
            state,
        } => ClaimWrite::Settle {
            key,
            log,
            index,
            state,
        },
    }
}

/// Moves one log: right edge, root, signed checkpoint.
fn advance(log: LogId, work: &Work) -> Result<(PlannedLog, AppendedBatch), SigningError> {
    let head = &work.head;
    let mut frontier = head.frontier.clone();
    let old_size = frontier.size();
    let leaf_hashes: Vec<Hash> = work.leaves.iter().map(|l| l.hash).collect();
    let appended = frontier.append_batch(&leaf_hashes);
    let checkpoint = Checkpoint {
        origin: head.origin.to_string(),
        size: frontier.size(),
        root: appended.root,
    }
    .sign(&head.key)
    .map_err(|e| SigningError::Internal(format!("checkpoint: {e}")))?
    .into();
    let planned = PlannedLog {
        tenant: head.tenant,
        log,
        kind: head.kind,
        origin: head.origin.clone(),
        old_size,
        frontier,
        checkpoint,
        last_time: work.time,
        leaf_hashes,
    };
    Ok((planned, appended))
}

/// What is stored of a log that moved.
fn write(work: Work, planned: &PlannedLog, appended: &AppendedBatch) -> LogWrite {
    let subtree = |s: &Subtree| SubtreeRow {
        level: s.level,
        index: s.index,
        hash: s.hash,
    };
    LogWrite {
        tenant: planned.tenant,
        log: planned.log,
        kind: planned.kind,
        origin: planned.origin.to_string(),
        epoch: work.head.epoch,
        old_size: planned.old_size,
        new_size: planned.frontier.size(),
        frontier: planned.frontier.to_bytes(),
        checkpoint: planned.checkpoint.to_string(),
        last_time: planned.last_time,
        leaves: work.leaves,
        subtrees: appended.subtrees.iter().map(subtree).collect(),
    }
}
