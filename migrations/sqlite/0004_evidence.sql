-- Vendors' evidence of keys, and what a tenant demands of it. migrations/postgres/0002_evidence.sql
-- says the same.

-- JSON array of demands beyond `origin`; NULL for none.
ALTER TABLE tenants ADD COLUMN evidence_policy TEXT;

-- One row a key: the evidence accepted last.
CREATE TABLE evidence (
  tenant_id BLOB    NOT NULL,
  key_id    BLOB    NOT NULL CHECK (length(key_id) = 16),
  -- JSON: name and SHA-256 of each file.
  files     TEXT    NOT NULL,
  -- The files' bytes in that order, each preceded by its length. (PostgreSQL has arrays.)
  contents  BLOB    NOT NULL,
  -- The nonce it was made for, if any.
  nonce     BLOB,
  -- JSON of its appraisal: the exact text that the tenant's log has the hash of.
  result    TEXT    NOT NULL,
  appraised INTEGER NOT NULL,
  PRIMARY KEY (tenant_id, key_id),
  FOREIGN KEY (tenant_id, key_id) REFERENCES keys (tenant_id, key_id)
) STRICT;
