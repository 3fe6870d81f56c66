//! The values of the one statement: arrays of columns, in the order of its parts.

use super::statement::{CLAIMED, CLOSED, LEAVES, MADE, MOVED, OPENED, SETTLED};
use super::*;

/// Columns of all rows of all parts, in the order of [`PARTS`].
pub(super) struct Columns {
    pub(super) parts: u8,
    pub(super) values: Bound,
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
    pub(super) fn part(&mut self, part: u8) -> &mut Self {
        self.parts |= part;
        self
    }

    pub(super) fn query(&mut self, bind: impl FnOnce(Bound) -> Bound) {
        self.values = bind(std::mem::replace(&mut self.values, sql("")));
    }

    pub(super) fn logs(
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

    pub(super) fn opens(&mut self, opens: Vec<OpenAuthorisation>) -> Result<(), Stop> {
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

    pub(super) fn closes(&mut self, closes: &[Close]) -> Result<(), Stop> {
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

    pub(super) fn claims(&mut self, first: Vec<(usize, ClaimRow)>) -> Result<(), Stop> {
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

    pub(super) fn settled(&mut self, settled: Vec<Settled>) -> Result<(), Stop> {
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
