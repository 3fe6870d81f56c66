//! Logs, leaves, open authorisations, idempotency claims.

super::statements! {
    HEAD = "SELECT tenant_id, log_id, kind, origin, size, frontier, checkpoint, last_time, writer_epoch, writer_node \
        FROM logs WHERE tenant_id = $1 AND log_id = $2";
    HEADS = "SELECT tenant_id, log_id, kind, origin, size, frontier, checkpoint, last_time, writer_epoch, writer_node \
        FROM logs WHERE tenant_id = $1 ORDER BY log_id";
    /// A log is created by its first leaves; its origin may never have been used before.
    INSERT_LOG = "INSERT INTO logs (tenant_id, log_id, kind, origin, size, frontier, checkpoint, \
        last_time, writer_node, writer_epoch) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING";
    HEAD_SIZE = "SELECT size FROM logs WHERE tenant_id = $1 AND log_id = $2";

    LEAVES = "SELECT idx, bytes FROM leaves \
        WHERE tenant_id = $1 AND log_id = $2 AND idx >= $3 ORDER BY idx LIMIT $4";
    LEAF_HASHES = "SELECT idx, hash FROM leaves \
        WHERE tenant_id = $1 AND log_id = $2 AND idx >= $3 ORDER BY idx LIMIT $4";
    SUBTREE_HASHES = "SELECT idx, hash FROM subtrees \
        WHERE tenant_id = $1 AND log_id = $2 AND level = $5 AND idx >= $3 ORDER BY idx LIMIT $4";
    DETAILS = "SELECT idx, line FROM leaf_details \
        WHERE tenant_id = $1 AND log_id = $2 AND idx >= $3 ORDER BY idx LIMIT $4";

    IS_OPEN = "SELECT idx FROM open_authorisations WHERE tenant_id = $1 AND log_id = $2 AND idx = $3";
    /// Crosses tenants: recovery alone. Walks through what is open, not through the past.
    OPEN_OF_THE_DEAD = "SELECT tenant_id, log_id, idx, node_id, epoch, claim_principal, claim_key \
        FROM open_authorisations WHERE node_id NOT IN (SELECT node_id FROM nodes WHERE ended IS NULL) \
        ORDER BY log_id, idx LIMIT $1";

    CLAIM = "SELECT tenant_id, principal, claim_key, body, state, answer, attempt, log_id, idx, expires \
        FROM claims WHERE tenant_id = $1 AND principal = $2 AND claim_key = $3";
    /// Another attempt, for the same body, after an attempt nobody got an answer from.
    CLAIM_AGAIN = "UPDATE claims SET state = 'in-flight', answer = NULL, attempt = $4, log_id = $5, \
        idx = $6, expires = $7 WHERE tenant_id = $1 AND principal = $2 AND claim_key = $3 \
        AND state = 'unanswered' AND attempt = $4 - 1 AND body = $8";
    /// Crosses tenants: forgetting has no owner. In portions, so that no flush waits long for it.
    FORGET_CLAIMS = "DELETE FROM claims WHERE (tenant_id, principal, claim_key) IN \
        (SELECT tenant_id, principal, claim_key FROM claims WHERE expires < $1 ORDER BY expires LIMIT $2)";
    /// Crosses tenants, like [`FORGET_CLAIMS`].
    FORGET_SEEN_TOKENS = "DELETE FROM seen_tokens WHERE (token, issuer) IN \
        (SELECT token, issuer FROM seen_tokens WHERE expires < $1 ORDER BY expires LIMIT $2)";
}
