//! What of a commit can be checked without a database.

use countersign_core::ports::store::{Commit, CommitError};
use countersign_core::{LogId, TenantId};
use std::collections::{HashMap, HashSet};

/// An authorisation that gets its outcome, with the tenant its log belongs to.
pub(crate) struct Close {
    pub(crate) tenant: TenantId,
    pub(crate) log: LogId,
    pub(crate) index: u64,
}

/// Each log once, sizes that add up, opened authorisations among the new leaves, closed ones in
/// logs that get their outcome leaf here. Gives what is closed.
///
/// A commit that contradicts itself is a mistake of the caller's, met as doubt about the head is:
/// drop it, load it anew.
pub(crate) fn check(commit: &Commit) -> Result<Vec<Close>, CommitError> {
    look(commit).map_err(|(log, what)| {
        tracing::error!(%log, what, "a commit that contradicts itself was refused");
        CommitError::HeadMoved { log }
    })
}

fn look(commit: &Commit) -> Result<Vec<Close>, (LogId, &'static str)> {
    let mut logs = HashMap::with_capacity(commit.writes.len());
    for write in &commit.writes {
        let grown = write.old_size.checked_add(write.leaves.len() as u64);
        if grown != Some(write.new_size) || i64::try_from(write.new_size).is_err() {
            return Err((write.log, "sizes and leaves do not add up"));
        }
        if logs.insert(write.log, write).is_some() {
            return Err((write.log, "a log is written twice"));
        }
    }
    for open in &commit.opens {
        let fits = logs.get(&open.log).is_some_and(|write| {
            write.tenant == open.tenant
                && (write.old_size..write.new_size).contains(&open.index)
                && open.claim.as_ref().is_none_or(|c| c.tenant == open.tenant)
        });
        if !fits {
            return Err((open.log, "an authorisation is opened without its leaf"));
        }
    }
    let mut seen = HashSet::with_capacity(commit.closes.len());
    let mut closes = Vec::with_capacity(commit.closes.len());
    for &(log, index) in &commit.closes {
        let write = logs
            .get(&log)
            .filter(|write| !write.leaves.is_empty() && index < write.new_size)
            .ok_or((log, "an authorisation is closed without an outcome leaf"))?;
        if !seen.insert((log, index)) {
            return Err((log, "an authorisation is closed twice"));
        }
        closes.push(Close {
            tenant: write.tenant,
            log,
            index,
        });
    }
    Ok(closes)
}

/// Whether one more key fits: `there` were counted in the transaction that writes it.
pub(crate) fn room_for_key(there: Option<u64>, most: u32) -> Result<(), String> {
    if there.unwrap_or_default() < u64::from(most) {
        Ok(())
    } else {
        Err(format!("{most} keys for each tenant, and they are there"))
    }
}
