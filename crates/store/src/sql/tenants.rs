//! Tenants, issuers, members, grants.

super::statements! {
    TENANT_BY_ID = "SELECT tenant_id, name, allow_software, require_mfa, version, token_facts, created, \
        evidence_policy FROM tenants WHERE tenant_id = $1";
    /// The one way from a name to a tenant: what else is asked carries the id found here.
    TENANT_BY_NAME = "SELECT tenant_id, name, allow_software, require_mfa, version, token_facts, created, \
        evidence_policy FROM tenants WHERE name = $1";
    /// The operator's list.
    TENANTS = "SELECT tenant_id, name, allow_software, require_mfa, version, token_facts, created, \
        evidence_policy FROM tenants WHERE name > $1 AND tenant_id <> $2 ORDER BY name LIMIT $3";
    INSERT_TENANT = "INSERT INTO tenants \
        (tenant_id, name, allow_software, require_mfa, version, token_facts, created, evidence_policy) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING";
    BUMP = "UPDATE tenants SET version = version + 1 WHERE tenant_id = $1";
    SET_POLICY = "UPDATE tenants SET allow_software = $2, require_mfa = $3, evidence_policy = $4 \
        WHERE tenant_id = $1";
    /// The same token may be told twice (a crash in between), another one not.
    SET_TOKEN = "UPDATE tenants SET token_facts = $2 \
        WHERE tenant_id = $1 AND (token_facts IS NULL OR token_facts = $2)";

    ISSUER = "SELECT tenant_id, issuer, kind, audience, max_token_age_s, mfa_amr, mfa_acr, ca_pem, client_id \
        FROM issuers WHERE tenant_id = $1 AND issuer = $2";
    ISSUERS = "SELECT tenant_id, issuer, kind, audience, max_token_age_s, mfa_amr, mfa_acr, ca_pem, client_id \
        FROM issuers WHERE tenant_id = $1 ORDER BY issuer";
    PUT_ISSUER = "INSERT INTO issuers \
        (tenant_id, issuer, kind, audience, max_token_age_s, mfa_amr, mfa_acr, ca_pem, client_id) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
        ON CONFLICT (tenant_id, issuer) DO UPDATE SET kind = excluded.kind, \
        audience = excluded.audience, max_token_age_s = excluded.max_token_age_s, \
        mfa_amr = excluded.mfa_amr, mfa_acr = excluded.mfa_acr, ca_pem = excluded.ca_pem, \
        client_id = excluded.client_id";

    ROLES = "SELECT role FROM members WHERE tenant_id = $1 AND issuer = $2 AND subject = $3 ORDER BY role";
    DELETE_ISSUER = "DELETE FROM issuers WHERE tenant_id = $1 AND issuer = $2";

    MEMBERS = "SELECT tenant_id, issuer, subject, role FROM members \
        WHERE tenant_id = $1 ORDER BY issuer, subject, role";
    INSERT_MEMBER = "INSERT INTO members (tenant_id, issuer, subject, role) \
        VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
    DELETE_MEMBER = "DELETE FROM members \
        WHERE tenant_id = $1 AND issuer = $2 AND subject = $3 AND role = $4";

    GRANTS_OF = "SELECT tenant_id, grant_id, signer, body, created FROM grants \
        WHERE tenant_id = $1 AND signer = $2 ORDER BY created, grant_id";
    GRANTS = "SELECT tenant_id, grant_id, signer, body, created FROM grants \
        WHERE tenant_id = $1 ORDER BY created, grant_id";
    INSERT_GRANT = "INSERT INTO grants (tenant_id, grant_id, signer, body, created) \
        VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";
    DELETE_GRANT = "DELETE FROM grants WHERE tenant_id = $1 AND grant_id = $2";
}
