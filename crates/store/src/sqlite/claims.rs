//! Idempotency claims: one per (tenant, principal, Idempotency-Key), from the first attempt until
//! it expires.
//!
//! ```text
//!   (none) ──First──► in-flight ──Settle──► done          the answer is kept: a retry gets it
//!                       ▲   └─────Settle──► unanswered     a retry may sign again …
//!                       └───────────Again──────┘           … under the next attempt
//! ```

use super::Bound;
use super::errors::Stop;
use super::log::stored;
use super::many::many;
use super::tenants::by_tenant;
use super::writer::Write;
use crate::rows::state_columns;
use crate::sql::log as text;
use countersign_core::ports::rows::{ClaimKey, ClaimRow};
use countersign_core::ports::store::{ClaimWrite, CommitError};
use std::collections::HashSet;

many! {
    INSERT_CLAIMS = "INSERT INTO claims \
        (tenant_id, principal, claim_key, body, state, answer, attempt, log_id, idx, expires) VALUES "
        ("(?,?,?,?,?,?,?,?,?,?)") " ON CONFLICT DO NOTHING";
    /// Only what is in flight settles, and only by its own authorisation: the first outcome stands.
    /// The `+` keeps these conditions from luring the planner away from the key.
    SETTLE_CLAIMS = "UPDATE claims SET state = v.column6, answer = v.column7 FROM (VALUES "
        ("(?,?,?,?,?,?,?)") ") AS v WHERE claims.tenant_id = v.column1 \
        AND claims.principal = v.column2 AND claims.claim_key = v.column3 \
        AND +claims.log_id = v.column4 AND +claims.idx = v.column5 AND +claims.state = 'in-flight'";
}

/// Writes all claims of a commit.
pub(super) async fn write_claims(
    write: &mut Write<'_>,
    claims: Vec<(usize, ClaimWrite)>,
) -> Result<(), Stop> {
    let mut keys = HashSet::with_capacity(claims.len());
    if !claims.iter().all(|(_, claim)| keys.insert(key_of(claim))) {
        // One key twice in a flush: the order matters, so one by one.
        for claim in claims {
            write_apart(write, vec![claim]).await?;
        }
        return Ok(());
    }
    write_apart(write, claims).await
}

/// Writes claims of which no two have the same key, so that they go by kind.
async fn write_apart(write: &mut Write<'_>, claims: Vec<(usize, ClaimWrite)>) -> Result<(), Stop> {
    let (mut first, mut settled) = (Vec::new(), Vec::new());
    for (item, claim) in claims {
        match claim {
            ClaimWrite::First(row) => first.push((item, row)),
            ClaimWrite::Again(row) => again(write, item, row).await?,
            ClaimWrite::Settle {
                key,
                log,
                index,
                state,
            } => settled.push((key, log, stored(index)?, state)),
        }
    }
    insert(write, first).await?;
    SETTLE_CLAIMS
        .execute(
            write,
            settled.into_iter(),
            |query, (key, log, index, state)| {
                let (state, answer) = state_columns(state);
                query
                    .bind(key.tenant.as_bytes().to_vec())
                    .bind(key.principal.to_vec())
                    .bind(key.key)
                    .bind(log.as_bytes().to_vec())
                    .bind(index)
                    .bind(state)
                    .bind(answer)
            },
        )
        .await?;
    Ok(())
}

/// First attempts. If one is taken, finds out which.
async fn insert(write: &mut Write<'_>, rows: Vec<(usize, ClaimRow)>) -> Result<(), Stop> {
    let expected = rows.len() as u64;
    let keys: Vec<_> = rows
        .iter()
        .map(|(item, row)| (*item, row.key.clone()))
        .collect();
    let mut bound = Vec::with_capacity(rows.len());
    for (_, row) in rows {
        bound.push((stored(row.index)?, row));
    }
    let inserted = INSERT_CLAIMS
        .execute(write, bound.into_iter(), |query, (index, row)| {
            let (state, answer) = state_columns(row.state);
            query
                .bind(row.key.tenant.as_bytes().to_vec())
                .bind(row.key.principal.to_vec())
                .bind(row.key.key)
                .bind(row.body.to_vec())
                .bind(state)
                .bind(answer)
                .bind(i64::from(row.attempt))
                .bind(row.log.as_bytes().to_vec())
                .bind(index)
                .bind(row.expires.0)
        })
        .await?;
    if inserted == expected {
        return Ok(());
    }
    // One at a time (a key twice in one commit): what stands in the way may be of this commit.
    if let [(item, _)] = keys.as_slice() {
        return Err(CommitError::ClaimTaken { item: *item }.into());
    }
    write.start_over().await?;
    for (item, key) in keys {
        if write.exists(by_key(text::CLAIM, &key)).await? {
            return Err(CommitError::ClaimTaken { item }.into());
        }
    }
    Err(CommitError::Unavailable("a claim was not written".to_owned()).into())
}

async fn again(write: &mut Write<'_>, item: usize, row: ClaimRow) -> Result<(), Stop> {
    let query = by_key(text::CLAIM_AGAIN, &row.key)
        .bind(i64::from(row.attempt))
        .bind(row.log.as_bytes().to_vec())
        .bind(stored(row.index)?)
        .bind(row.expires.0)
        .bind(row.body.to_vec());
    match write.execute(query).await? {
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

fn key_of(claim: &ClaimWrite) -> ClaimKey {
    match claim {
        ClaimWrite::First(row) | ClaimWrite::Again(row) => row.key.clone(),
        ClaimWrite::Settle { key, .. } => key.clone(),
    }
}
