//! Certificate status, revocation lists, orders that wait for their CA.

super::statements! {
    STATUS = "SELECT tenant_id, key_id, sha256, serial, not_after, list_issuer, list_urls, status, \
        since, checked, revoked_at, reason, warned FROM certificate_status \
        WHERE tenant_id = $1 AND key_id = $2";
    STATUSES = "SELECT tenant_id, key_id, sha256, serial, not_after, list_issuer, list_urls, status, \
        since, checked, revoked_at, reason, warned FROM certificate_status WHERE tenant_id = $1";
    /// Crosses tenants: the list is looked at once for all. In the order of the index.
    LISTED = "SELECT s.tenant_id, s.key_id, s.sha256, s.serial, s.not_after, s.list_issuer, s.list_urls, \
        s.status, s.since, s.checked, s.revoked_at, s.reason, s.warned FROM certificate_status s \
        JOIN keys k ON k.tenant_id = s.tenant_id AND k.key_id = s.key_id \
        WHERE s.list_issuer = $1 AND s.list_urls = $2 AND (s.not_after, s.key_id) > ($3, $4) \
        AND k.state IN ('active', 'suspended') ORDER BY s.not_after, s.key_id LIMIT $5";
    /// Crosses tenants, like [`LISTED`].
    UNLISTED = "SELECT tenant_id, key_id, sha256, serial, not_after, list_issuer, list_urls, status, \
        since, checked, revoked_at, reason, warned FROM certificate_status \
        WHERE list_issuer IS NULL LIMIT $1";
    /// Crosses tenants: warnings have no caller.
    ENDING = "SELECT s.tenant_id, s.key_id, s.sha256, s.serial, s.not_after, s.list_issuer, s.list_urls, \
        s.status, s.since, s.checked, s.revoked_at, s.reason, s.warned FROM certificate_status s \
        JOIN keys k ON k.tenant_id = s.tenant_id AND k.key_id = s.key_id \
        WHERE (s.not_after, s.key_id) > ($1, $2) AND s.not_after <= $3 \
        AND k.state IN ('active', 'suspended') ORDER BY s.not_after, s.key_id LIMIT $4";
    FOLLOW = "INSERT INTO certificate_status (tenant_id, key_id, sha256, serial, not_after, list_issuer, \
        list_urls, status, since, checked, revoked_at, reason, warned) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) \
        ON CONFLICT (tenant_id, key_id) DO UPDATE SET sha256 = excluded.sha256, \
        serial = excluded.serial, not_after = excluded.not_after, list_issuer = excluded.list_issuer, \
        list_urls = excluded.list_urls, status = excluded.status, since = excluded.since, \
        checked = excluded.checked, revoked_at = excluded.revoked_at, reason = excluded.reason, \
        warned = excluded.warned";
    /// Another certificate may be in use by now, or another node may have been first: no row changes.
    SET_STATUS = "UPDATE certificate_status SET status = $5, since = $6, checked = $7, \
        revoked_at = $8, reason = $9 \
        WHERE tenant_id = $1 AND key_id = $2 AND sha256 = $3 AND status = $4";
    MARK_ENDING = "UPDATE certificate_status SET warned = $4 \
        WHERE tenant_id = $1 AND key_id = $2 AND sha256 = $3 AND warned = $5";

    LIST = "SELECT issuer, urls, certificate, next_poll, good, this_update, number, problem \
        FROM revocation_lists WHERE issuer = $1 AND urls = $2";
    LISTS_DUE = "SELECT issuer, urls, certificate, next_poll, good, this_update, number, problem \
        FROM revocation_lists WHERE next_poll <= $1 ORDER BY next_poll LIMIT $2";
    /// A list that is known already is looked at no later than it would be as a new one.
    FOLLOW_LIST = "INSERT INTO revocation_lists (issuer, urls, certificate, next_poll) \
        VALUES ($1, $2, $3, $4) ON CONFLICT (issuer, urls) DO UPDATE SET next_poll = \
        CASE WHEN excluded.next_poll < revocation_lists.next_poll THEN excluded.next_poll \
        ELSE revocation_lists.next_poll END";
    CLAIM_LIST = "UPDATE revocation_lists SET next_poll = $4 \
        WHERE issuer = $1 AND urls = $2 AND next_poll = $3";
    LIST_GOOD = "UPDATE revocation_lists SET good = $3, this_update = $4, number = $5, \
        next_poll = $6, problem = NULL WHERE issuer = $1 AND urls = $2 \
        AND (this_update IS NULL OR this_update <= $4)";
    LIST_PROBLEM = "UPDATE revocation_lists SET problem = $3, next_poll = $4 \
        WHERE issuer = $1 AND urls = $2";

    /// Crosses tenants: nobody waits for these orders.
    ORDERS_DUE = "SELECT tenant_id, order_id, key_id, ca, reference, state, csr, statement, problem, created, \
        updated, next_poll FROM orders WHERE next_poll <= $1 AND state = 'submitted' \
        ORDER BY next_poll LIMIT $2";
    CLAIM_ORDER = "UPDATE orders SET next_poll = $4 \
        WHERE tenant_id = $1 AND order_id = $2 AND next_poll = $3 AND state = 'submitted'";
    ORDER_WAITS = "UPDATE orders SET next_poll = $3, problem = $4 \
        WHERE tenant_id = $1 AND order_id = $2 AND state = 'submitted'";
}
