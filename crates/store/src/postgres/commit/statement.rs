//! The text of the one statement: its parts, each there or not.

use std::sync::OnceLock;

pub(super) const SEEN: u8 = 1;
pub(super) const MADE: u8 = 1 << 1;
pub(super) const MOVED: u8 = 1 << 2;
pub(super) const LEAVES: u8 = 1 << 3;
pub(super) const OPENED: u8 = 1 << 4;
pub(super) const CLOSED: u8 = 1 << 5;
pub(super) const CLAIMED: u8 = 1 << 6;
pub(super) const SETTLED: u8 = 1 << 7;

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
pub(super) fn text(parts: u8) -> &'static str {
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
pub(in crate::postgres) fn all_texts() -> Vec<(u8, &'static str)> {
    (1..=u8::MAX).map(|parts| (parts, text(parts))).collect()
}
