//! Idempotency claims: one per (tenant, principal, Idempotency-Key), from the first attempt until
//! it expires.
//!
//! ```text
//!   (none) ──First──► in-flight ──Settle──► done          the answer is kept: a retry gets it
//!                       ▲   └─────Settle──► unanswered     a retry may sign again …
//!                       └───────────Again──────┘           … under the next attempt
//! ```
//!
//! First attempts and outcomes of different claims go into the flush's one statement; what remains
//! is done here, one by one.

use super::connections::{Bound, Write};
use super::effects::stored;
use super::errors::Stop;
use super::tenants::by_tenant;
use crate::rows::state_columns;
use crate::sql::log as text;
use countersign_core::LogId;
use countersign_core::ports::rows::{ClaimKey, ClaimRow, ClaimState};
use countersign_core::ports::store::{ClaimWrite, CommitError};
use std::collections::HashSet;

const INSERT_CLAIM: &str = "INSERT INTO claims \
    (tenant_id, principal, claim_key, body, state, answer, attempt, log_id, idx, expires) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING";
/// Only what is in flight settles, and only by its own authorisation: the first outcome stands.
const SETTLE_CLAIM: &str = "UPDATE claims SET state = $6, answer = $7 \
    WHERE tenant_id = $1 AND principal = $2 AND claim_key = $3 AND log_id = $4 AND idx = $5 \
    AND state = 'in-flight'";

/// An outcome.
pub(super) struct Settled {
    pub(super) key: ClaimKey,
    pub(super) log: LogId,
    pub(super) index: u64,
    pub(super) state: ClaimState,
}

/// The claims of a commit.
#[derive(Default)]
pub(super) struct Claims {
    /// First attempts with their items, no two of one key, in the order of their keys: so two
    /// flushes never wait for each other's.
    pub(super) first: Vec<(usize, ClaimRow)>,
    /// Outcomes.
    pub(super) settled: Vec<Settled>,
    /// What is written before those, one by one, in this order.
    pub(super) apart: Vec<(usize, ClaimWrite)>,
}

impl Claims {
    pub(super) fn new(claims: Vec<(usize, ClaimWrite)>) -> Self {
        let mut keys = HashSet::with_capacity(claims.len());
        let different = claims.iter().all(|(_, claim)| keys.insert(claim.key()));
        drop(keys);
        let mut this = Self::default();
        if !different {
            // One key twice in a flush: the order matters.
            this.apart = claims;
            return this;
        }
        for (item, claim) in claims {
            match claim {
                ClaimWrite::Again(_) => this.apart.push((item, claim)),
                ClaimWrite::First(row) => this.first.push((item, row)),
                ClaimWrite::Settle {
                    key,
                    log,
                    index,
                    state,
                } => this.settled.push(Settled {
                    key,
                    log,
                    index,
                    state,
                }),
            }
        }
        this.first.sort_unstable_by(|(_, a), (_, b)| {
            let by = |row: &ClaimRow| (row.key.tenant, row.key.principal);
            by(a).cmp(&by(b)).then_with(|| a.key.key.cmp(&b.key.key))
        });
        this
    }
}

/// Writes one claim.
pub(super) async fn write_one(
    write: &mut Write,
    item: usize,
    claim: &ClaimWrite,
) -> Result<(), Stop> {
    match claim {
        ClaimWrite::First(row) => insert(write, item, row).await,
        ClaimWrite::Again(row) => again(write, item, row).await,
        ClaimWrite::Settle {
            key,
            log,
            index,
            state,
        } => {
            let (state, answer) = state_columns(state.clone());
            let query = by_key(SETTLE_CLAIM, key)
                .bind(log.0)
                .bind(stored(*index)?)
                .bind(state)
                .bind(answer);
            write.execute(query).await.map(drop)
        }
    }
}

async fn insert(write: &mut Write, item: usize, row: &ClaimRow) -> Result<(), Stop> {
    let (state, answer) = state_columns(row.state.clone());
    let query = by_key(INSERT_CLAIM, &row.key)
        .bind(row.body.to_vec())
        .bind(state)
        .bind(answer)
        .bind(i64::from(row.attempt))
        .bind(row.log.0)
        .bind(stored(row.index)?)
        .bind(row.expires.0);
    taken_if_none(write.execute(query).await?, item)
}

async fn again(write: &mut Write, item: usize, row: &ClaimRow) -> Result<(), Stop> {
    let query = by_key(text::CLAIM_AGAIN, &row.key)
        .bind(i64::from(row.attempt))
        .bind(row.log.0)
        .bind(stored(row.index)?)
        .bind(row.expires.0)
        .bind(row.body.to_vec());
    taken_if_none(write.execute(query).await?, item)
}

fn taken_if_none(rows: u64, item: usize) -> Result<(), Stop> {
    match rows {
        0 => Err(CommitError::ClaimTaken { item }.into()),
        _ => Ok(()),
    }
}

/// A statement whose first values are the claim's name.
pub(super) fn by_key(text: &'static str, key: &ClaimKey) -> Bound {
    by_tenant(text, key.tenant)
        .bind(key.principal.to_vec())
        .bind(key.key.clone())
}
