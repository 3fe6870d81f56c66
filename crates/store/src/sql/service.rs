//! Seen tokens, service keys, bootstrap, probe.

super::statements! {
    /// Unique over (token, issuer) in all tenants: what is inserted once is never inserted again.
    FIRST_USE = "INSERT INTO seen_tokens (tenant_id, issuer, token, expires) \
        VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";

    SERVICE_KEYS = "SELECT purpose, public, wrapped, created, retired FROM service_keys \
        WHERE purpose = $1 ORDER BY seq DESC";
    NEWEST_SERVICE_KEY = "SELECT public FROM service_keys \
        WHERE purpose = $1 ORDER BY seq DESC LIMIT 1";
    INSERT_SERVICE_KEY = "INSERT INTO service_keys (purpose, public, wrapped, created, retired) \
        VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";

    BOOTSTRAP = "SELECT credential, used FROM bootstrap WHERE one = 1";
    OFFER_BOOTSTRAP = "INSERT INTO bootstrap (one, credential, used) VALUES (1, $1, NULL) \
        ON CONFLICT (one) DO UPDATE SET credential = excluded.credential \
        WHERE bootstrap.used IS NULL";
    USE_BOOTSTRAP = "UPDATE bootstrap SET credential = NULL, used = $1 WHERE one = 1 AND used IS NULL";

    PROBE_WRITE = "UPDATE probe SET count = count + 1 WHERE one = 1";
    PROBE_READ = "SELECT count FROM probe WHERE one = 1";
}
