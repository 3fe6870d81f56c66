//! The one write that matters: leaves, heads, effects, claims and open authorisations of a whole
//! flush, in one transaction.
//!
//! Order: what may refuse comes first (guards, effects, claims, heads), then the rows that cannot.

use super::errors::Stop;
use super::log::{by_log, stored};
use super::many::many;
use super::writer::{Write, Writer};
use super::{Bound, claims, devices, keys, nodes, revocation, service, tenants};
use crate::consistent::{self, Close};
use crate::rows::kind_name;
use crate::sql::log as text;
use countersign_core::ports::rows::{LeafRow, OpenAuthorisation, SubtreeRow};
use countersign_core::ports::store::{Commit, CommitError, Effect, Guard, LogWrite};
use countersign_core::{LogId, Micros, NodeId, TenantId};
use std::collections::{HashMap, HashSet};

many! {
    VERSIONS = "SELECT tenant_id, version FROM tenants WHERE tenant_id IN (" ("?") ")";
    /// The compare-and-swap that makes one history (invariant 3). The `+` keeps the planner at the
    /// key.
    MOVE_HEADS = "UPDATE logs SET size = v.column3, frontier = v.column4, checkpoint = v.column5, \
        last_time = v.column6, writer_node = v.column7, writer_epoch = v.column8 FROM (VALUES "
        ("(?,?,?,?,?,?,?,?,?)") ") AS v WHERE logs.tenant_id = v.column1 AND logs.log_id = v.column2 \
        AND +logs.size = v.column9 AND +logs.writer_epoch <= v.column8";
    INSERT_LEAVES = "INSERT INTO leaves (tenant_id, log_id, idx, hash, bytes) VALUES "
        ("(?,?,?,?,?)") "";
    INSERT_DETAILS = "INSERT INTO leaf_details (tenant_id, log_id, idx, line) VALUES "
        ("(?,?,?,?)") "";
    INSERT_SUBTREES = "INSERT INTO subtrees (tenant_id, log_id, idx, level, hash) VALUES "
        ("(?,?,?,?,?)") "";
    INSERT_OPEN = "INSERT INTO open_authorisations \
        (tenant_id, log_id, idx, node_id, epoch, claim_principal, claim_key) VALUES "
        ("(?,?,?,?,?,?,?)") "";
    DELETE_OPEN = "DELETE FROM open_authorisations WHERE (log_id, idx, tenant_id) IN (VALUES "
        ("(?,?,?)") ")";
}

pub(super) async fn commit(
    writer: &Writer,
    node: NodeId,
    now: Micros,
    commit: Commit,
) -> Result<(), CommitError> {
    let closes = consistent::check(&commit)?;
    let mut write = writer.begin("commit").await?;
    let result = apply(&mut write, node, now, commit, closes).await;
    write.finish(result).await
}

async fn apply(
    write: &mut Write<'_>,
    node: NodeId,
    now: Micros,
    commit: Commit,
    closes: Vec<Close>,
) -> Result<(), Stop> {
    nodes::alive(write, node).await?;
    check_guards(write, commit.guards).await?;
    for (item, effect) in commit.effects {
        apply_effect(write, item, now, effect).await?;
    }
    claims::write_claims(write, commit.claims).await?;
    let mut rows = Rows::default();
    let mut moves = Vec::with_capacity(commit.writes.len());
    for log_write in commit.writes {
        moves.push(rows.take(log_write)?);
    }
    move_heads(write, node, moves).await?;
    rows.insert(write).await?;
    open(write, commit.opens).await?;
    close(write, closes).await
}

/// Decisions stand only on the versions they were made on.
async fn check_guards(write: &mut Write<'_>, guards: Vec<Guard>) -> Result<(), Stop> {
    let tenants: HashSet<_> = guards.iter().map(|g| g.tenant).collect();
    let mut versions = HashMap::with_capacity(tenants.len());
    let queries: Vec<_> = VERSIONS
        .queries(tenants.into_iter(), |query, tenant| {
            query.bind(tenant.as_bytes().to_vec())
        })
        .collect();
    for query in queries {
        let found = write
            .rows("tenants", query, |c| Ok((TenantId(c.uuid(0)?), c.u64(1)?)))
            .await?;
        versions.extend(found);
    }
    match guards
        .into_iter()
        .find(|g| versions.get(&g.tenant) != Some(&g.version))
    {
        Some(moved) => Err(CommitError::Guard(moved).into()),
        None => Ok(()),
    }
}

async fn apply_effect(
    write: &mut Write<'_>,
    item: usize,
    now: Micros,
    effect: Effect,
) -> Result<(), Stop> {
    // Each moves its tenant's version on, except those at the top (`Effect::bumps`).
    match effect {
        Effect::CreateTenant(row) => tenants::create_tenant(write, item, row).await,
        Effect::PutOrder(row) => keys::put_order(write, item, *row).await,
        Effect::SeeDevice(row) => devices::see(write, item, row).await,
        Effect::UseBootstrap => service::use_bootstrap(write, item, now).await,
        Effect::FollowCertificate(row, issuer) => {
            revocation::follow(write, item, *row, issuer).await
        }
        Effect::MarkEnding(tenant, key, sha256) => {
            revocation::mark_ending(write, item, tenant, key, sha256).await
        }
        Effect::SetCertificateStatus { from, row } => {
            tenants::bump(write, item, row.tenant).await?;
            revocation::set_status(write, item, from, *row).await
        }
        Effect::SetPolicy(tenant, policy) => {
            tenants::bump(write, item, tenant).await?;
            tenants::set_policy(write, tenant, policy).await
        }
        Effect::SetToken(tenant, facts) => {
            tenants::bump(write, item, tenant).await?;
            tenants::set_token(write, item, tenant, &facts).await
        }
        Effect::PutIssuer(row) => {
            tenants::bump(write, item, row.tenant).await?;
            tenants::put_issuer(write, row).await
        }
        Effect::RemoveIssuer(tenant, issuer) => {
            tenants::bump(write, item, tenant).await?;
            tenants::remove_issuer(write, item, tenant, &issuer).await
        }
        Effect::AddMember(row) => {
            tenants::bump(write, item, row.tenant).await?;
            tenants::add_member(write, item, &row).await
        }
        Effect::RemoveMember(row) => {
            tenants::bump(write, item, row.tenant).await?;
            tenants::remove_member(write, item, &row).await
        }
        Effect::CreateSigner(row) => {
            tenants::bump(write, item, row.tenant).await?;
            keys::create_signer(write, item, &row).await
        }
        Effect::CreateKey { row, most } => {
            tenants::bump(write, item, row.tenant).await?;
            keys::create_key(write, item, *row, most).await
        }
        Effect::SetKeyState {
            tenant,
            key,
            from,
            to,
        } => {
            tenants::bump(write, item, tenant).await?;
            keys::set_key_state(write, item, tenant, key, from, to).await
        }
        Effect::SetAppraisal(tenant, key, json) => {
            tenants::bump(write, item, tenant).await?;
            keys::set_appraisal(write, item, tenant, key, json).await
        }
        Effect::PutEvidence(row) => {
            tenants::bump(write, item, row.tenant).await?;
            keys::put_evidence(write, item, *row).await
        }
        Effect::InstallCertificate(row) => {
            tenants::bump(write, item, row.tenant).await?;
            keys::install_certificate(write, item, row).await
        }
        Effect::PutGrant(row) => {
            tenants::bump(write, item, row.tenant).await?;
            tenants::put_grant(write, item, row).await
        }
        Effect::RemoveGrant(tenant, grant) => {
            tenants::bump(write, item, tenant).await?;
            tenants::remove_grant(write, item, tenant, grant).await
        }
    }
}

/// A head's move, its leaves already taken out.
struct Move {
    log: LogWrite,
    old_size: i64,
    new_size: i64,
    epoch: i64,
}

/// What lies at one index of a log.
struct At<T> {
    tenant: TenantId,
    log: LogId,
    index: i64,
    what: T,
}

impl<T> At<T> {
    /// Binds the three columns that say where, and gives the rest.
    fn bind(self, query: Bound) -> (Bound, T) {
        let query = query
            .bind(self.tenant.as_bytes().to_vec())
            .bind(self.log.as_bytes().to_vec())
            .bind(self.index);
        (query, self.what)
    }
}

/// Rows of all logs together, so that they go in as few statements as possible.
#[derive(Default)]
struct Rows {
    leaves: Vec<At<LeafRow>>,
    details: Vec<At<String>>,
    subtrees: Vec<At<SubtreeRow>>,
}

impl Rows {
    fn take(&mut self, mut log: LogWrite) -> Result<Move, Stop> {
        let old_size = stored(log.old_size)?;
        let (tenant, id) = (log.tenant, log.log);
        for (index, mut leaf) in (old_size..).zip(std::mem::take(&mut log.leaves)) {
            if let Some(line) = leaf.details.take() {
                self.details.push(At {
                    tenant,
                    log: id,
                    index,
                    what: line,
                });
            }
            self.leaves.push(At {
                tenant,
                log: id,
                index,
                what: leaf,
            });
        }
        for subtree in std::mem::take(&mut log.subtrees) {
            self.subtrees.push(At {
                tenant,
                log: id,
                index: stored(subtree.index)?,
                what: subtree,
            });
        }
        Ok(Move {
            old_size,
            new_size: stored(log.new_size)?,
            epoch: stored(log.epoch)?,
            log,
        })
    }

    async fn insert(self, write: &mut Write<'_>) -> Result<(), Stop> {
        INSERT_LEAVES
            .execute(write, self.leaves.into_iter(), |query, at| {
                let (query, leaf) = at.bind(query);
                query.bind(leaf.hash.to_vec()).bind(leaf.bytes)
            })
            .await?;
        INSERT_DETAILS
            .execute(write, self.details.into_iter(), |query, at| {
                let (query, line) = at.bind(query);
                query.bind(line)
            })
            .await?;
        INSERT_SUBTREES
            .execute(write, self.subtrees.into_iter(), |query, at| {
                let (query, subtree) = at.bind(query);
                query
                    .bind(i64::from(subtree.level))
                    .bind(subtree.hash.to_vec())
            })
            .await?;
        Ok(())
    }
}

/// Creates logs that begin and moves the heads of those that exist; all, or the commit fails with
/// the log that somebody else has.
async fn move_heads(write: &mut Write<'_>, node: NodeId, moves: Vec<Move>) -> Result<(), Stop> {
    let compares: Vec<_> = moves
        .iter()
        .map(|m| (m.log.tenant, m.log.log, m.log.old_size))
        .collect();
    let mut swaps = Vec::with_capacity(moves.len());
    for m in moves {
        if m.old_size > 0 || !create(write, node, &m).await? {
            swaps.push(m);
        }
    }
    let expected = swaps.len() as u64;
    let moved = MOVE_HEADS
        .execute(write, swaps.into_iter(), |query, m| {
            query
                .bind(m.log.tenant.as_bytes().to_vec())
                .bind(m.log.log.as_bytes().to_vec())
                .bind(m.new_size)
                .bind(m.log.frontier)
                .bind(m.log.checkpoint)
                .bind(m.log.last_time.0)
                .bind(node.as_bytes().to_vec())
                .bind(m.epoch)
                .bind(m.old_size)
        })
        .await?;
    if moved == expected {
        return Ok(());
    }
    write.start_over().await?;
    let mut lost = None;
    for (tenant, log, size) in compares {
        let found = write
            .row("logs", by_log(text::HEAD_SIZE, tenant, log), |c| c.u64(0))
            .await?;
        match found {
            Some(now) if now != size => return Err(CommitError::HeadMoved { log }.into()),
            Some(_) => {}
            // Not there although it has leaves, or not made because its id or origin is taken.
            None => lost = lost.or(Some(log)),
        }
    }
    Err(match lost {
        Some(log) => CommitError::HeadMoved { log },
        None => CommitError::Unavailable("a head was not written".to_owned()),
    }
    .into())
}

/// Creates the log unless it exists. Its id and its origin are taken for ever.
async fn create(write: &mut Write<'_>, node: NodeId, m: &Move) -> Result<bool, Stop> {
    // The tenant must exist; without one there is nothing to create, and the swap below fails.
    if !write
        .exists(tenants::by_tenant(
            crate::sql::tenants::TENANT_BY_ID,
            m.log.tenant,
        ))
        .await?
    {
        return Ok(false);
    }
    let query = by_log(text::INSERT_LOG, m.log.tenant, m.log.log)
        .bind(kind_name(m.log.kind))
        .bind(m.log.origin.clone())
        .bind(m.new_size)
        .bind(m.log.frontier.clone())
        .bind(m.log.checkpoint.clone())
        .bind(m.log.last_time.0)
        .bind(node.as_bytes().to_vec())
        .bind(m.epoch);
    Ok(write.execute(query).await? == 1)
}

async fn open(write: &mut Write<'_>, opens: Vec<OpenAuthorisation>) -> Result<(), Stop> {
    let mut rows = Vec::with_capacity(opens.len());
    for open in opens {
        rows.push((stored(open.index)?, stored(open.epoch)?, open));
    }
    INSERT_OPEN
        .execute(write, rows.into_iter(), |query, (index, epoch, open)| {
            let (principal, key) = match open.claim {
                Some(claim) => (Some(claim.principal.to_vec()), Some(claim.key)),
                None => (None, None),
            };
            query
                .bind(open.tenant.as_bytes().to_vec())
                .bind(open.log.as_bytes().to_vec())
                .bind(index)
                .bind(open.node.as_bytes().to_vec())
                .bind(epoch)
                .bind(principal)
                .bind(key)
        })
        .await?;
    Ok(())
}

/// An authorisation that is not open has an outcome already: a second one would contradict the
/// log, so the whole commit fails and names it.
async fn close(write: &mut Write<'_>, closes: Vec<Close>) -> Result<(), Stop> {
    let mut rows = Vec::with_capacity(closes.len());
    for close in &closes {
        rows.push((close.tenant, close.log, stored(close.index)?));
    }
    let deleted = DELETE_OPEN
        .execute(write, rows.into_iter(), |query, (tenant, log, index)| {
            query
                .bind(log.as_bytes().to_vec())
                .bind(index)
                .bind(tenant.as_bytes().to_vec())
        })
        .await?;
    if deleted == closes.len() as u64 {
        return Ok(());
    }
    write.start_over().await?;
    for Close { tenant, log, index } in closes {
        let query = by_log(text::IS_OPEN, tenant, log).bind(stored(index)?);
        if !write.exists(query).await? {
            return Err(CommitError::NotOpen { log, index }.into());
        }
    }
    Err(CommitError::Unavailable("an authorisation was not closed".to_owned()).into())
}
