//! Signers, keys, evidence, certificates, orders.

super::statements! {
    SIGNER = "SELECT tenant_id, label, algorithm, created FROM signers \
        WHERE tenant_id = $1 AND label = $2";
    SIGNERS = "SELECT tenant_id, label, algorithm, created FROM signers \
        WHERE tenant_id = $1 ORDER BY label";
    COUNT_SIGNERS = "SELECT count(label) AS n FROM signers WHERE tenant_id = $1";
    COUNT_KEYS = "SELECT count(key_id) AS n FROM keys WHERE tenant_id = $1 AND state <> 'destroyed'";
    INSERT_SIGNER = "INSERT INTO signers (tenant_id, label, algorithm, created) \
        VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";

    KEY = "SELECT tenant_id, key_id, signer, algorithm, state, spki, facts, appraisal, created \
        FROM keys WHERE tenant_id = $1 AND key_id = $2";
    KEYS_OF = "SELECT tenant_id, key_id, signer, algorithm, state, spki, facts, appraisal, created \
        FROM keys WHERE tenant_id = $1 AND signer = $2 ORDER BY created DESC, key_id DESC";
    KEYS = "SELECT tenant_id, key_id, signer, algorithm, state, spki, facts, appraisal, created \
        FROM keys WHERE tenant_id = $1 ORDER BY created DESC, key_id DESC";
    KEY_STATE = "SELECT state FROM keys WHERE tenant_id = $1 AND key_id = $2";
    INSERT_KEY = "INSERT INTO keys \
        (tenant_id, key_id, signer, algorithm, state, spki, facts, appraisal, created) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING";
    SET_KEY_STATE = "UPDATE keys SET state = $4 WHERE tenant_id = $1 AND key_id = $2 AND state = $3";
    SET_APPRAISAL = "UPDATE keys SET appraisal = $3 WHERE tenant_id = $1 AND key_id = $2";

    EVIDENCE = "SELECT tenant_id, key_id, files, contents, nonce, result, appraised FROM evidence \
        WHERE tenant_id = $1 AND key_id = $2";
    PUT_EVIDENCE = "INSERT INTO evidence \
        (tenant_id, key_id, files, contents, nonce, result, appraised) \
        VALUES ($1, $2, $3, $4, $5, $6, $7) \
        ON CONFLICT (tenant_id, key_id) DO UPDATE SET files = excluded.files, \
        contents = excluded.contents, nonce = excluded.nonce, result = excluded.result, \
        appraised = excluded.appraised";

    CERTIFICATE = "SELECT tenant_id, key_id, sha256, chain, not_before, not_after, serial, installed \
        FROM certificates WHERE tenant_id = $1 AND key_id = $2 \
        ORDER BY installed DESC, seq DESC LIMIT 1";
    CERTIFICATE_NAMED = "SELECT tenant_id, key_id, sha256, chain, not_before, not_after, serial, installed \
        FROM certificates WHERE tenant_id = $1 AND key_id = $2 AND sha256 = $3";
    INSERT_CERTIFICATE = "INSERT INTO certificates \
        (tenant_id, key_id, sha256, chain, not_before, not_after, serial, installed) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING";

    ORDER = "SELECT tenant_id, order_id, key_id, ca, reference, state, csr, statement, problem, created, updated, \
        next_poll FROM orders WHERE tenant_id = $1 AND order_id = $2";
    ORDERS_OF = "SELECT tenant_id, order_id, key_id, ca, reference, state, csr, statement, problem, created, updated, \
        next_poll FROM orders WHERE tenant_id = $1 AND key_id = $2 ORDER BY created DESC, order_id DESC";
    /// No row changes if the id belongs to another tenant or key.
    PUT_ORDER = "INSERT INTO orders \
        (tenant_id, order_id, key_id, ca, reference, state, csr, statement, problem, created, updated, \
        next_poll) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) \
        ON CONFLICT (order_id) DO UPDATE SET ca = excluded.ca, reference = excluded.reference, \
        state = excluded.state, csr = excluded.csr, statement = excluded.statement, \
        problem = excluded.problem, updated = excluded.updated, next_poll = excluded.next_poll \
        WHERE orders.tenant_id = excluded.tenant_id AND orders.key_id = excluded.key_id";
}
