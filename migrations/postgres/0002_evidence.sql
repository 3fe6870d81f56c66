-- Vendors' evidence of keys, and what a tenant demands of it. migrations/sqlite/0004_evidence.sql says
-- the same.

-- JSON array of demands beyond `origin`; NULL for none.
ALTER TABLE tenants ADD COLUMN evidence_policy text;

-- One row a key: the evidence accepted last.
CREATE TABLE evidence (
  tenant_id uuid    NOT NULL,
  key_id    uuid    NOT NULL,
  -- JSON: name and SHA-256 of each file.
  files     text    NOT NULL,
  -- The files' bytes in that order.
  contents  bytea[] NOT NULL,
  -- The nonce it was made for, if any.
  nonce     bytea,
  -- JSON of its appraisal: the exact text that the tenant's log has the hash of.
  result    text    NOT NULL,
  appraised bigint  NOT NULL,
  PRIMARY KEY (tenant_id, key_id),
  FOREIGN KEY (tenant_id, key_id) REFERENCES keys (tenant_id, key_id)
);

-- As every table with a tenant_id (0001_schema.sql): its rows are those of the tenants this transaction
-- acts for.
ALTER TABLE evidence ENABLE ROW LEVEL SECURITY;
ALTER TABLE evidence FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenants ON evidence USING (tenant_id = ANY ((SELECT countersign_tenants())::uuid[]));
