//! Everything a flush writes, in one statement.
//!
//! Its parts (heads, leaves, claims …) are common table expressions, each over arrays of columns;
//! a part that has nothing to write is left out. Each part says what it did; if that is not all
//! that was asked, the transaction is taken back and the error names what stood in the way.

mod columns;
mod statement;

#[cfg(test)]
pub(super) use statement::all_texts;

use columns::Columns;
use statement::{CLAIMED, CLOSED, MADE, MOVED, SEEN, text};

use super::act::acting;
use super::claims::{self, Claims, Settled};
use super::connections::{Bound, Write};
use super::effects::{self, stored};
use super::errors::{self, Stop};
use super::log::by_log;
use super::{rows_of, sql};
use crate::consistent::{self, Close};
use crate::rows::{kind_name, state_columns};
use countersign_core::ports::rows::{ClaimRow, OpenAuthorisation};
use countersign_core::ports::store::{Commit, CommitError, Effect, Guard, LogWrite};
use countersign_core::{LogId, Micros, NodeId, TenantId};
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

acting! {
    HEAD_SIZE = for_tenant(crate::sql::log::HEAD_SIZE);
}

/// Decisions stand only on the versions they were made on, and on versions that this flush will
/// move: they are held to its end, in the order of their ids.
const HOLD_VERSIONS: &str = "SELECT tenant_id, version FROM tenants \
    WHERE tenant_id = ANY ($1) ORDER BY tenant_id FOR NO KEY UPDATE";

/// A commit, ready to be written, more than once if need be.
pub(super) struct Prepared {
    guards: Vec<Guard>,
    effects: Vec<(usize, Effect)>,
    apart: Vec<(usize, countersign_core::ports::store::ClaimWrite)>,
    together: Option<Together>,
}

/// The statement, and what it should do.
struct Together {
    parts: u8,
    query: Bound,
    /// Heads that must be where they are said to be: tenant, log, size.
    heads: Vec<(TenantId, LogId, u64)>,
    closes: Vec<(LogId, u64)>,
    /// Who claims what, by its name.
    claims: Vec<(usize, ClaimName)>,
}

type ClaimName = (Uuid, Vec<u8>, String);

impl Prepared {
    /// `there`: the logs that exist.
    pub(super) fn new(node: NodeId, commit: Commit, there: &HashSet<LogId>) -> Result<Self, Stop> {
        let mut closes = consistent::check(&commit)?;
        let mut opens = commit.opens;
        // Opened and closed at once: never open.
        if !opens.is_empty() && !closes.is_empty() {
            let opened: HashSet<_> = opens.iter().map(|o| (o.log, o.index)).collect();
            let both: HashSet<_> = closes
                .iter()
                .map(|c| (c.log, c.index))
                .filter(|at| opened.contains(at))
                .collect();
            opens.retain(|o| !both.contains(&(o.log, o.index)));
            closes.retain(|c| !both.contains(&(c.log, c.index)));
        }
        let Claims {
            first,
            settled,
            apart,
        } = Claims::new(commit.claims);
        // Effects move versions themselves: guards are looked at before them.
        let guarded: Vec<_> = match commit.effects.is_empty() {
            true => commit.guards.iter().map(|g| g.tenant).collect(),
            false => Vec::new(),
        };
        let together = Together::new(
            node,
            &guarded,
            commit.writes,
            there,
            opens,
            &closes,
            first,
            settled,
        )?;
        Ok(Self {
            guards: commit.guards,
            effects: commit.effects,
            apart,
            together,
        })
    }
}

/// Writes it all.
pub(super) async fn apply(write: &mut Write, now: Micros, prepared: &Prepared) -> Result<(), Stop> {
    if !prepared.effects.is_empty() {
        let bumped = prepared.effects.iter().filter_map(|(_, e)| e.bumps());
        let guarded = prepared.guards.iter().map(|g| g.tenant);
        let tenants: HashSet<_> = bumped.chain(guarded).map(|t| t.0).collect();
        let query = sql(HOLD_VERSIONS).bind(tenants.into_iter().collect::<Vec<_>>());
        let rows = write.rows(query).await?;
        let versions = rows_of("tenants", &rows, |c| Ok((TenantId(c.uuid(0)?), c.u64(1)?)))?;
        stand(&prepared.guards, &versions.into_iter().collect())?;
        for (item, effect) in &prepared.effects {
            effects::apply(write, *item, now, effect.clone()).await?;
        }
    }
    for (item, claim) in &prepared.apart {
        claims::write_one(write, *item, claim).await?;
    }
    match &prepared.together {
        Some(together) => together.write(write, &prepared.guards).await,
        None => Ok(()),
    }
}

/// Whether all guards stand on these versions.
fn stand(guards: &[Guard], versions: &HashMap<TenantId, u64>) -> Result<(), Stop> {
    match guards
        .iter()
        .find(|g| versions.get(&g.tenant) != Some(&g.version))
    {
        Some(moved) => Err(CommitError::Guard(*moved).into()),
        None => Ok(()),
    }
}

impl Together {
    #[allow(
        clippy::too_many_arguments,
        reason = "one for each part of the statement"
    )]
    fn new(
        node: NodeId,
        guarded: &[TenantId],
        writes: Vec<LogWrite>,
        there: &HashSet<LogId>,
        opens: Vec<OpenAuthorisation>,
        closes: &[Close],
        first: Vec<(usize, ClaimRow)>,
        settled: Vec<Settled>,
    ) -> Result<Option<Self>, Stop> {
        let heads = writes
            .iter()
            .map(|w| (w.tenant, w.log, w.old_size))
            .collect();
        let names = first
            .iter()
            .map(|(item, row)| {
                let key = &row.key;
                (
                    *item,
                    (key.tenant.0, key.principal.to_vec(), key.key.clone()),
                )
            })
            .collect();
        let mut columns = Columns::default();
        if !guarded.is_empty() {
            columns.part(SEEN).query(|q| {
                let mut tenants: Vec<_> = guarded.iter().map(|t| t.0).collect();
                tenants.sort_unstable();
                tenants.dedup();
                q.bind(tenants)
            });
        }
        columns.logs(node, writes, there)?;
        columns.opens(opens)?;
        columns.closes(closes)?;
        columns.claims(first)?;
        columns.settled(settled)?;
        Ok((columns.parts != 0).then(|| {
            let Columns { parts, values } = columns;
            Self {
                parts,
                query: values,
                heads,
                closes: closes.iter().map(|c| (c.log, c.index)).collect(),
                claims: names,
            }
        }))
    }

    async fn write(&self, write: &mut Write, guards: &[Guard]) -> Result<(), Stop> {
        let query = self.query.clone().with_text(text(self.parts));
        let rows = match write.rows(query).await {
            Ok(rows) => rows,
            Err(Stop::Failed(e)) if errors::contradicts_schema(&e) => {
                return Err(self.contradiction(write, &e).await?);
            }
            Err(stop) => return Err(stop),
        };
        let row = rows
            .first()
            .ok_or_else(|| CommitError::Unavailable("it did not say what it did".to_owned()))?;
        let mut done = Done { row, next: 0 };
        if self.parts & SEEN != 0 {
            let tenants = done.ids()?.into_iter().map(TenantId);
            let versions = done
                .numbers()?
                .into_iter()
                .map(|n| u64::try_from(n).unwrap_or(u64::MAX));
            stand(guards, &tenants.zip(versions).collect())?;
        }
        let mut moved = HashSet::new();
        for part in [MADE, MOVED] {
            if self.parts & part != 0 {
                moved.extend(done.ids()?.into_iter().map(LogId));
            }
        }
        let closed: HashSet<_> = if self.parts & CLOSED == 0 {
            HashSet::new()
        } else {
            let logs = done.ids()?.into_iter().map(LogId);
            logs.zip(done.numbers()?).collect()
        };
        if self.parts & CLAIMED != 0 {
            let (tenants, principals) = (done.ids()?, done.all::<Vec<u8>>()?);
            let keys = done.all::<String>()?;
            let claimed: HashSet<ClaimName> = tenants
                .into_iter()
                .zip(principals)
                .zip(keys)
                .map(|((tenant, principal), key)| (tenant, principal, key))
                .collect();
            // In the order of locks; the first of the flush's own order is named.
            let taken = self.claims.iter().filter(|(_, n)| !claimed.contains(n));
            if let Some(item) = taken.map(|(item, _)| *item).min() {
                return Err(CommitError::ClaimTaken { item }.into());
            }
        }
        if let Some((_, log, _)) = self.heads.iter().find(|(_, log, _)| !moved.contains(log)) {
            return Err(CommitError::HeadMoved { log: *log }.into());
        }
        let open = |index: &u64| i64::try_from(*index).ok();
        match self
            .closes
            .iter()
            .find(|(log, index)| open(index).is_none_or(|i| !closed.contains(&(*log, i))))
        {
            Some(&(log, index)) => Err(CommitError::NotOpen { log, index }.into()),
            None => Ok(()),
        }
    }

    /// A row contradicts the schema: somebody else's leaf is where ours was to be, or the log is not
    /// there. Finds out which.
    async fn contradiction(&self, write: &mut Write, e: &sqlx::Error) -> Result<Stop, Stop> {
        write.take_back().await?;
        for (tenant, log, size) in &self.heads {
            let rows = write.rows(by_log(&HEAD_SIZE, *tenant, *log)).await?;
            let found = rows_of("logs", &rows, |c| c.u64(0))?.pop();
            if found != Some(*size) {
                return Ok(CommitError::HeadMoved { log: *log }.into());
            }
        }
        Ok(errors::before_commit(e).into())
    }
}

/// What the statement says it did: a column of arrays for each part that says something.
struct Done<'r> {
    row: &'r PgRow,
    next: usize,
}

impl Done<'_> {
    fn ids(&mut self) -> Result<Vec<Uuid>, Stop> {
        self.all()
    }

    fn numbers(&mut self) -> Result<Vec<i64>, Stop> {
        self.all()
    }

    fn all<T>(&mut self) -> Result<Vec<T>, Stop>
    where
        Vec<T>: for<'d> sqlx::Decode<'d, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        let i = self.next;
        self.next += 1;
        // No rows make no array.
        Ok(self
            .row
            .try_get::<Option<Vec<T>>, _>(i)?
            .unwrap_or_default())
    }
}
