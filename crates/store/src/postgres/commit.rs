//! Everything a flush writes, in one statement.
//!
//! Its parts (heads, leaves, claims …) are common table expressions, each over arrays of columns;
//! a part that has nothing to write is left out. Each part says what it did; if that is not all
//! that was asked, the transaction is taken back and the error names what stood in the way.

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
use std::sync::OnceLock;
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

// ------------------------------------------------------------------------------------- the values

/// Columns of all rows of all parts, in the order of [`PARTS`].
struct Columns {
    parts: u8,
    values: Bound,
}

impl Default for Columns {
    fn default() -> Self {
        Self {
            parts: 0,
            values: sql(""),
        }
    }
}

impl Columns {
    fn part(&mut self, part: u8) -> &mut Self {
        self.parts |= part;
        self
    }

    fn query(&mut self, bind: impl FnOnce(Bound) -> Bound) {
        self.values = bind(std::mem::replace(&mut self.values, sql("")));
    }

    fn logs(
        &mut self,
        node: NodeId,
        writes: Vec<LogWrite>,
        there: &HashSet<LogId>,
    ) -> Result<(), Stop> {
        let (mut leaves, mut details) = (Leaves::default(), Details::default());
        let mut subtrees = Subtrees::default();
        let (mut made, mut moved) = (Heads::default(), Heads::default());
        for write in writes {
            let (tenant, log) = (write.tenant.0, write.log.0);
            let old_size = stored(write.old_size)?;
            for (index, leaf) in (old_size..).zip(write.leaves) {
                if let Some(line) = leaf.details {
                    details.tenants.push(tenant);
                    details.logs.push(log);
                    details.indices.push(index);
                    details.lines.push(line);
                }
                leaves.tenants.push(tenant);
                leaves.logs.push(log);
                leaves.indices.push(index);
                leaves.hashes.push(leaf.hash.to_vec());
                leaves.bytes.push(leaf.bytes);
            }
            for subtree in write.subtrees {
                subtrees.tenants.push(tenant);
                subtrees.logs.push(log);
                subtrees.levels.push(i16::from(subtree.level));
                subtrees.indices.push(stored(subtree.index)?);
                subtrees.hashes.push(subtree.hash.to_vec());
            }
            let heads = if old_size == 0 && !there.contains(&write.log) {
                &mut made
            } else {
                &mut moved
            };
            heads.tenants.push(tenant);
            heads.logs.push(log);
            heads.kinds.push(kind_name(write.kind));
            heads.origins.push(write.origin);
            heads.old_sizes.push(old_size);
            heads.new_sizes.push(stored(write.new_size)?);
            heads.frontiers.push(write.frontier);
            heads.checkpoints.push(write.checkpoint);
            heads.times.push(write.last_time.0);
            heads.epochs.push(stored(write.epoch)?);
        }
        if !made.logs.is_empty() {
            self.part(MADE).query(|q| {
                q.bind(made.tenants)
                    .bind(made.logs)
                    .bind(made.kinds)
                    .bind(made.origins)
                    .bind(made.new_sizes)
                    .bind(made.frontiers)
                    .bind(made.checkpoints)
                    .bind(made.times)
                    .bind(made.epochs)
                    .bind(node.0)
            });
        }
        if !moved.logs.is_empty() {
            self.part(MOVED).query(|q| {
                q.bind(moved.tenants)
                    .bind(moved.logs)
                    .bind(moved.old_sizes)
                    .bind(moved.new_sizes)
                    .bind(moved.frontiers)
                    .bind(moved.checkpoints)
                    .bind(moved.times)
                    .bind(moved.epochs)
                    .bind(node.0)
            });
        }
        if !leaves.logs.is_empty() {
            // Details come with leaves or not at all.
            self.part(LEAVES).query(|q| {
                q.bind(leaves.tenants)
                    .bind(leaves.logs)
                    .bind(leaves.indices)
                    .bind(leaves.hashes)
                    .bind(leaves.bytes)
                    .bind(details.tenants)
                    .bind(details.logs)
                    .bind(details.indices)
                    .bind(details.lines)
                    .bind(subtrees.tenants)
                    .bind(subtrees.logs)
                    .bind(subtrees.levels)
                    .bind(subtrees.indices)
                    .bind(subtrees.hashes)
            });
        }
        Ok(())
    }

    fn opens(&mut self, opens: Vec<OpenAuthorisation>) -> Result<(), Stop> {
        if opens.is_empty() {
            return Ok(());
        }
        let n = opens.len();
        let (mut tenants, mut logs) = (Vec::with_capacity(n), Vec::with_capacity(n));
        let (mut indices, mut nodes) = (Vec::with_capacity(n), Vec::with_capacity(n));
        let mut epochs = Vec::with_capacity(n);
        let (mut principals, mut keys) = (Vec::with_capacity(n), Vec::with_capacity(n));
        for open in opens {
            tenants.push(open.tenant.0);
            logs.push(open.log.0);
            indices.push(stored(open.index)?);
            nodes.push(open.node.0);
            epochs.push(stored(open.epoch)?);
            let claim = open.claim;
            principals.push(claim.as_ref().map(|c| c.principal.to_vec()));
            keys.push(claim.map(|c| c.key));
        }
        self.part(OPENED).query(|q| {
            q.bind(tenants)
                .bind(logs)
                .bind(indices)
                .bind(nodes)
                .bind(epochs)
                .bind(principals)
                .bind(keys)
        });
        Ok(())
    }

    fn closes(&mut self, closes: &[Close]) -> Result<(), Stop> {
        if closes.is_empty() {
            return Ok(());
        }
        let indices = closes.iter().map(|c| stored(c.index));
        let indices = indices.collect::<Result<Vec<_>, _>>()?;
        self.part(CLOSED).query(|q| {
            q.bind(closes.iter().map(|c| c.tenant.0).collect::<Vec<_>>())
                .bind(closes.iter().map(|c| c.log.0).collect::<Vec<_>>())
                .bind(indices)
        });
        Ok(())
    }

    fn claims(&mut self, first: Vec<(usize, ClaimRow)>) -> Result<(), Stop> {
        if first.is_empty() {
            return Ok(());
        }
        let mut c = ClaimColumns::default();
        for (_, row) in first {
            let (state, answer) = state_columns(row.state);
            c.name(row.key);
            c.bodies.push(row.body.to_vec());
            c.states.push(state);
            c.answers.push(answer);
            c.attempts.push(i64::from(row.attempt));
            c.logs.push(row.log.0);
            c.indices.push(stored(row.index)?);
            c.expires.push(row.expires.0);
        }
        self.part(CLAIMED).query(|q| {
            q.bind(c.tenants)
                .bind(c.principals)
                .bind(c.keys)
                .bind(c.bodies)
                .bind(c.states)
                .bind(c.answers)
                .bind(c.attempts)
                .bind(c.logs)
                .bind(c.indices)
                .bind(c.expires)
        });
        Ok(())
    }

    fn settled(&mut self, settled: Vec<Settled>) -> Result<(), Stop> {
        if settled.is_empty() {
            return Ok(());
        }
        let mut c = ClaimColumns::default();
        for one in settled {
            let (state, answer) = state_columns(one.state);
            c.name(one.key);
            c.logs.push(one.log.0);
            c.indices.push(stored(one.index)?);
            c.states.push(state);
            c.answers.push(answer);
        }
        self.part(SETTLED).query(|q| {
            q.bind(c.tenants)
                .bind(c.principals)
                .bind(c.keys)
                .bind(c.logs)
                .bind(c.indices)
                .bind(c.states)
                .bind(c.answers)
        });
        Ok(())
    }
}

#[derive(Default)]
struct Heads {
    tenants: Vec<Uuid>,
    logs: Vec<Uuid>,
    kinds: Vec<&'static str>,
    origins: Vec<String>,
    old_sizes: Vec<i64>,
    new_sizes: Vec<i64>,
    frontiers: Vec<Vec<u8>>,
    checkpoints: Vec<String>,
    times: Vec<i64>,
    epochs: Vec<i64>,
}

#[derive(Default)]
struct Leaves {
    tenants: Vec<Uuid>,
    logs: Vec<Uuid>,
    indices: Vec<i64>,
    hashes: Vec<Vec<u8>>,
    bytes: Vec<Vec<u8>>,
}

#[derive(Default)]
struct Details {
    tenants: Vec<Uuid>,
    logs: Vec<Uuid>,
    indices: Vec<i64>,
    lines: Vec<String>,
}

#[derive(Default)]
struct Subtrees {
    tenants: Vec<Uuid>,
    logs: Vec<Uuid>,
    levels: Vec<i16>,
    indices: Vec<i64>,
    hashes: Vec<Vec<u8>>,
}

#[derive(Default)]
struct ClaimColumns {
    tenants: Vec<Uuid>,
    principals: Vec<Vec<u8>>,
    keys: Vec<String>,
    bodies: Vec<Vec<u8>>,
    states: Vec<&'static str>,
    answers: Vec<Option<String>>,
    attempts: Vec<i64>,
    logs: Vec<Uuid>,
    indices: Vec<i64>,
    expires: Vec<i64>,
}

impl ClaimColumns {
    fn name(&mut self, key: countersign_core::ports::rows::ClaimKey) {
        self.tenants.push(key.tenant.0);
        self.principals.push(key.principal.to_vec());
        self.keys.push(key.key);
    }
}

// ---------------------------------------------------------------------------------- the statement

const SEEN: u8 = 1;
const MADE: u8 = 1 << 1;
const MOVED: u8 = 1 << 2;
const LEAVES: u8 = 1 << 3;
const OPENED: u8 = 1 << 4;
const CLOSED: u8 = 1 << 5;
const CLAIMED: u8 = 1 << 6;
const SETTLED: u8 = 1 << 7;

/// One part: its bit, its table expressions, and the columns that say what it did. `{}` stands for
/// the next array of values, by its type.
struct Part {
    bit: u8,
    with: &'static str,
    says: &'static str,
}

/// In the order in which their values are bound.
const PARTS: [Part; 8] = [
    Part {
        bit: SEEN,
        // A version that another flush is moving is waited for, and then seen as it became.
        with: "seen AS MATERIALIZED (SELECT tenant_id, version FROM tenants \
            WHERE tenant_id = ANY ({uuid}) ORDER BY tenant_id FOR SHARE)",
        says: "(SELECT array_agg(tenant_id) FROM seen), (SELECT array_agg(version) FROM seen)",
    },
    Part {
        bit: MADE,
        // A log is created by its first leaves; its id and its origin are taken for ever.
        with: "made AS (INSERT INTO logs (tenant_id, log_id, kind, origin, size, frontier, \
            checkpoint, last_time, writer_epoch, writer_node) \
            SELECT v.tenant_id, v.log_id, v.kind, v.origin, v.size, v.frontier, v.checkpoint, \
            v.last_time, v.epoch, {=uuid} \
            FROM unnest({uuid}, {uuid}, {text}, {text}, {bigint}, {bytea}, {text}, {bigint}, {bigint}) \
            AS v (tenant_id, log_id, kind, origin, size, frontier, checkpoint, last_time, epoch) \
            WHERE EXISTS (SELECT FROM tenants AS t WHERE t.tenant_id = v.tenant_id) \
            ON CONFLICT DO NOTHING RETURNING log_id)",
        says: "(SELECT array_agg(log_id) FROM made)",
    },
    Part {
        bit: MOVED,
        // The compare-and-swap that makes one history (invariant 3).
        with: "moved AS (UPDATE logs AS l SET size = v.size, frontier = v.frontier, \
            checkpoint = v.checkpoint, last_time = v.last_time, writer_epoch = v.epoch, \
            writer_node = {=uuid} \
            FROM unnest({uuid}, {uuid}, {bigint}, {bigint}, {bytea}, {text}, {bigint}, {bigint}) \
            AS v (tenant_id, log_id, old_size, size, frontier, checkpoint, last_time, epoch) \
            WHERE l.tenant_id = v.tenant_id AND l.log_id = v.log_id \
            AND l.size = v.old_size AND l.writer_epoch <= v.epoch RETURNING l.log_id)",
        says: "(SELECT array_agg(log_id) FROM moved)",
    },
    Part {
        bit: LEAVES,
        with: "placed AS (INSERT INTO leaves (tenant_id, log_id, idx, hash, bytes) \
            SELECT v.tenant_id, v.log_id, v.idx, v.hash, v.bytes \
            FROM unnest({uuid}, {uuid}, {bigint}, {bytea}, {bytea}) \
            AS v (tenant_id, log_id, idx, hash, bytes)), \
            detailed AS (INSERT INTO leaf_details (tenant_id, log_id, idx, line) \
            SELECT v.tenant_id, v.log_id, v.idx, v.line \
            FROM unnest({uuid}, {uuid}, {bigint}, {text}) AS v (tenant_id, log_id, idx, line)), \
            grown AS (INSERT INTO subtrees (tenant_id, log_id, level, idx, hash) \
            SELECT v.tenant_id, v.log_id, v.level, v.idx, v.hash \
            FROM unnest({uuid}, {uuid}, {smallint}, {bigint}, {bytea}) \
            AS v (tenant_id, log_id, level, idx, hash))",
        says: "",
    },
    Part {
        bit: OPENED,
        with: "opened AS (INSERT INTO open_authorisations \
            (tenant_id, log_id, idx, node_id, epoch, claim_principal, claim_key) \
            SELECT v.tenant_id, v.log_id, v.idx, v.node_id, v.epoch, v.principal, v.key \
            FROM unnest({uuid}, {uuid}, {bigint}, {uuid}, {bigint}, {bytea}, {text}) \
            AS v (tenant_id, log_id, idx, node_id, epoch, principal, key))",
        says: "",
    },
    Part {
        bit: CLOSED,
        with: "closed AS (DELETE FROM open_authorisations AS o \
            USING unnest({uuid}, {uuid}, {bigint}) AS v (tenant_id, log_id, idx) \
            WHERE o.tenant_id = v.tenant_id AND o.log_id = v.log_id AND o.idx = v.idx \
            RETURNING o.log_id, o.idx)",
        says: "(SELECT array_agg(log_id) FROM closed), (SELECT array_agg(idx) FROM closed)",
    },
    Part {
        bit: CLAIMED,
        with: "claimed AS (INSERT INTO claims \
            (tenant_id, principal, claim_key, body, state, answer, attempt, log_id, idx, expires) \
            SELECT v.tenant_id, v.principal, v.claim_key, v.body, v.state, v.answer, v.attempt, \
            v.log_id, v.idx, v.expires \
            FROM unnest({uuid}, {bytea}, {text}, {bytea}, {text}, {text}, {bigint}, {uuid}, {bigint}, {bigint}) \
            AS v (tenant_id, principal, claim_key, body, state, answer, attempt, log_id, idx, expires) \
            ON CONFLICT DO NOTHING RETURNING tenant_id, principal, claim_key)",
        says: "(SELECT array_agg(tenant_id) FROM claimed), (SELECT array_agg(principal) FROM claimed), \
            (SELECT array_agg(claim_key) FROM claimed)",
    },
    Part {
        bit: SETTLED,
        // Only what is in flight settles, and only by its own authorisation: the first outcome
        // stands.
        with: "settled AS (UPDATE claims AS c SET state = v.state, answer = v.answer \
            FROM unnest({uuid}, {bytea}, {text}, {uuid}, {bigint}, {text}, {text}) \
            AS v (tenant_id, principal, claim_key, log_id, idx, state, answer) \
            WHERE c.tenant_id = v.tenant_id AND c.principal = v.principal \
            AND c.claim_key = v.claim_key AND c.log_id = v.log_id AND c.idx = v.idx \
            AND c.state = 'in-flight')",
        says: "",
    },
];

/// The statement of these parts. There are 256 at most, and a handful in use.
fn text(parts: u8) -> &'static str {
    static TEXTS: [OnceLock<String>; 256] = [const { OnceLock::new() }; 256];
    static NONE: OnceLock<String> = OnceLock::new();
    TEXTS
        .get(usize::from(parts))
        .unwrap_or(&NONE)
        .get_or_init(|| compose(parts))
}

fn compose(parts: u8) -> String {
    let chosen = || PARTS.iter().filter(|p| parts & p.bit != 0);
    let (mut with, mut number) = (Vec::new(), 0);
    for part in chosen() {
        with.push(numbered(part.with, &mut number));
    }
    let says: Vec<_> = chosen()
        .map(|p| p.says)
        .filter(|says| !says.is_empty())
        .collect();
    let says = if says.is_empty() {
        "1".to_owned()
    } else {
        says.join(", ")
    };
    format!("WITH {} SELECT {says}", with.join(", "))
}

/// `{type}` becomes the next array of values, `{=type}` the value that follows the part's arrays.
fn numbered(text: &str, number: &mut usize) -> String {
    let mut out = String::with_capacity(text.len());
    let (arrays, after) = (
        text.matches('{').count() - text.matches("{=").count(),
        *number,
    );
    for piece in text.split('{') {
        let Some((kind, rest)) = piece.split_once('}') else {
            out.push_str(piece);
            continue;
        };
        if let Some(kind) = kind.strip_prefix('=') {
            out.push_str(&format!("${}::{kind}{rest}", after + arrays + 1));
        } else {
            *number += 1;
            out.push_str(&format!("${number}::{kind}[]{rest}"));
        }
    }
    if text.contains("{=") {
        *number += 1;
    }
    out
}

/// Every statement there can be.
#[cfg(test)]
pub(super) fn all_texts() -> Vec<(u8, &'static str)> {
    (1..=u8::MAX).map(|parts| (parts, text(parts))).collect()
}
