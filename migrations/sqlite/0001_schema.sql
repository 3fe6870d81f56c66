-- Countersign's tables on SQLite. migrations/postgres/0001_schema.sql says the same in
-- PostgreSQL's words (a test compares tables, columns, nullability and primary keys), and
-- docs/data-model.md tells the story.
--
-- Rules for whoever writes the next migration:
--   * never edit this file once it is released: a changed file is a hard error at start;
--   * the previous release may still be running: add tables and nullable or defaulted columns,
--     stop using a column one release before dropping it;
--   * lists of words (states, kinds, roles) are checked by the code that reads them, not by CHECK
--     constraints: SQLite cannot widen a CHECK without rebuilding the table.
--
-- Ids are the 16 bytes of a UUID, times are microseconds since 1970 UTC, hashes are 32 bytes,
-- sizes are 63-bit and checked when read.

-- 'CSGN': opening somebody else's SQLite file by mistake is refused.
PRAGMA application_id = 0x4353474e;

----------------------------------------------------------------------------------------- tenants

CREATE TABLE tenants (
  tenant_id      BLOB    NOT NULL PRIMARY KEY CHECK (length(tenant_id) = 16),
  name           TEXT    NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 63),
  allow_software INTEGER NOT NULL CHECK (allow_software IN (0, 1)),
  require_mfa    INTEGER NOT NULL CHECK (require_mfa IN (0, 1)),
  -- Grows by one with every effect on the tenant: what decisions are guarded by.
  version        INTEGER NOT NULL CHECK (version >= 0),
  -- JSON; NULL until the token is made.
  token_facts    TEXT,
  created        INTEGER NOT NULL
) STRICT;

CREATE TABLE issuers (
  tenant_id       BLOB    NOT NULL REFERENCES tenants (tenant_id),
  issuer          TEXT    NOT NULL,
  kind            TEXT    NOT NULL,
  audience        TEXT    NOT NULL,
  max_token_age_s INTEGER NOT NULL CHECK (max_token_age_s >= 0),
  -- JSON arrays of text.
  mfa_amr         TEXT    NOT NULL,
  mfa_acr         TEXT    NOT NULL,
  ca_pem          TEXT,
  client_id       TEXT,
  PRIMARY KEY (tenant_id, issuer)
) STRICT;

CREATE TABLE members (
  tenant_id BLOB NOT NULL REFERENCES tenants (tenant_id),
  issuer    TEXT NOT NULL,
  subject   TEXT NOT NULL,
  role      TEXT NOT NULL,
  PRIMARY KEY (tenant_id, issuer, subject, role)
) STRICT, WITHOUT ROWID;

-------------------------------------------------------------------------------- signers and keys

CREATE TABLE signers (
  tenant_id BLOB    NOT NULL REFERENCES tenants (tenant_id),
  label     TEXT    NOT NULL CHECK (length(label) BETWEEN 1 AND 63),
  algorithm TEXT    NOT NULL,
  created   INTEGER NOT NULL,
  PRIMARY KEY (tenant_id, label)
) STRICT, WITHOUT ROWID;

CREATE TABLE grants (
  tenant_id BLOB    NOT NULL,
  grant_id  BLOB    NOT NULL UNIQUE CHECK (length(grant_id) = 16),
  signer    TEXT    NOT NULL,
  -- The exact text that the tenant's log has the hash of.
  body      TEXT    NOT NULL,
  created   INTEGER NOT NULL,
  PRIMARY KEY (tenant_id, grant_id),
  FOREIGN KEY (tenant_id, signer) REFERENCES signers (tenant_id, label)
) STRICT;
CREATE INDEX grants_by_signer ON grants (tenant_id, signer);

CREATE TABLE keys (
  tenant_id BLOB    NOT NULL,
  key_id    BLOB    NOT NULL UNIQUE CHECK (length(key_id) = 16),
  signer    TEXT    NOT NULL,
  algorithm TEXT    NOT NULL,
  state     TEXT    NOT NULL,
  spki      BLOB    NOT NULL,
  -- JSON, for ever as read back when the key was born.
  facts     TEXT    NOT NULL,
  -- JSON of the last appraisal.
  appraisal TEXT,
  created   INTEGER NOT NULL,
  PRIMARY KEY (tenant_id, key_id),
  FOREIGN KEY (tenant_id, signer) REFERENCES signers (tenant_id, label)
) STRICT;
CREATE INDEX keys_by_signer ON keys (tenant_id, signer);

CREATE TABLE certificates (
  -- Order of installation.
  seq        INTEGER NOT NULL PRIMARY KEY,
  tenant_id  BLOB    NOT NULL,
  key_id     BLOB    NOT NULL,
  sha256     BLOB    NOT NULL CHECK (length(sha256) = 32),
  -- Leaf first, each certificate as u32 big-endian length and DER.
  chain      BLOB    NOT NULL,
  not_before INTEGER NOT NULL,
  not_after  INTEGER NOT NULL,
  serial     TEXT    NOT NULL,
  installed  INTEGER NOT NULL,
  UNIQUE (tenant_id, key_id, sha256),
  FOREIGN KEY (tenant_id, key_id) REFERENCES keys (tenant_id, key_id)
) STRICT;

CREATE TABLE orders (
  tenant_id BLOB    NOT NULL,
  order_id  BLOB    NOT NULL UNIQUE CHECK (length(order_id) = 16),
  key_id    BLOB    NOT NULL,
  ca        TEXT    NOT NULL,
  reference TEXT,
  state     TEXT    NOT NULL,
  csr       BLOB,
  statement BLOB,
  problem   TEXT,
  created   INTEGER NOT NULL,
  updated   INTEGER NOT NULL,
  PRIMARY KEY (tenant_id, order_id),
  FOREIGN KEY (tenant_id, key_id) REFERENCES keys (tenant_id, key_id)
) STRICT;
CREATE INDEX orders_by_key ON orders (tenant_id, key_id);

-------------------------------------------------------------------------------------------- logs

-- One row per log holds all that appending needs: the right edge, not the tree.
CREATE TABLE logs (
  tenant_id   BLOB    NOT NULL REFERENCES tenants (tenant_id),
  log_id      BLOB    NOT NULL PRIMARY KEY CHECK (length(log_id) = 16),
  kind        TEXT    NOT NULL,
  -- Fixed at creation and never reused: two trees must never share a name.
  origin      TEXT    NOT NULL UNIQUE,
  size        INTEGER NOT NULL CHECK (size >= 0),
  frontier    BLOB    NOT NULL,
  checkpoint  TEXT    NOT NULL,
  last_time   INTEGER NOT NULL,
  -- The lease: who may move the head. The epoch fences out whoever had it before.
  lease_node  BLOB    NOT NULL CHECK (length(lease_node) = 16),
  lease_epoch INTEGER NOT NULL CHECK (lease_epoch >= 0),
  lease_until INTEGER NOT NULL,
  UNIQUE (tenant_id, log_id)
) STRICT;

-- Invariant 3, once more where no code can forget it: a log only grows.
CREATE TRIGGER logs_only_grow BEFORE UPDATE ON logs
WHEN NEW.size < OLD.size OR NEW.log_id <> OLD.log_id OR NEW.tenant_id <> OLD.tenant_id
  OR NEW.origin <> OLD.origin OR NEW.kind <> OLD.kind OR NEW.lease_epoch < OLD.lease_epoch
BEGIN SELECT RAISE(ABORT, 'a log only grows'); END;
CREATE TRIGGER logs_stay BEFORE DELETE ON logs
BEGIN SELECT RAISE(ABORT, 'a log only grows'); END;

-- Rows lie in the order of arrival, whichever the log: appending touches the last page only.
CREATE TABLE leaves (
  tenant_id BLOB    NOT NULL,
  log_id    BLOB    NOT NULL,
  idx       INTEGER NOT NULL CHECK (idx >= 0),
  hash      BLOB    NOT NULL CHECK (length(hash) = 32),
  bytes     BLOB    NOT NULL,
  PRIMARY KEY (log_id, idx),
  FOREIGN KEY (tenant_id, log_id) REFERENCES logs (tenant_id, log_id)
) STRICT;
CREATE TRIGGER leaves_stay_as_they_are BEFORE UPDATE ON leaves
BEGIN SELECT RAISE(ABORT, 'a log only grows'); END;
CREATE TRIGGER leaves_stay BEFORE DELETE ON leaves
BEGIN SELECT RAISE(ABORT, 'a log only grows'); END;

-- Hashes of complete blocks of 256^level leaves: one row for 256 below.
CREATE TABLE subtrees (
  tenant_id BLOB    NOT NULL,
  log_id    BLOB    NOT NULL,
  level     INTEGER NOT NULL CHECK (level BETWEEN 1 AND 7),
  idx       INTEGER NOT NULL CHECK (idx >= 0),
  hash      BLOB    NOT NULL CHECK (length(hash) = 32),
  PRIMARY KEY (log_id, level, idx),
  FOREIGN KEY (tenant_id, log_id) REFERENCES logs (tenant_id, log_id)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER subtrees_stay_as_they_are BEFORE UPDATE ON subtrees
BEGIN SELECT RAISE(ABORT, 'a log only grows'); END;
CREATE TRIGGER subtrees_stay BEFORE DELETE ON subtrees
BEGIN SELECT RAISE(ABORT, 'a log only grows'); END;

-- Salts and values of the leaves' commitments, apart from them: erasable without breaking a proof.
CREATE TABLE leaf_details (
  tenant_id BLOB    NOT NULL,
  log_id    BLOB    NOT NULL,
  idx       INTEGER NOT NULL CHECK (idx >= 0),
  line      TEXT    NOT NULL,
  PRIMARY KEY (log_id, idx)
) STRICT;

-- Authorisations without outcome: as many rows as there are signatures in flight, or were when a
-- node died.
CREATE TABLE open_authorisations (
  tenant_id       BLOB    NOT NULL,
  log_id          BLOB    NOT NULL,
  idx             INTEGER NOT NULL CHECK (idx >= 0),
  node_id         BLOB    NOT NULL CHECK (length(node_id) = 16),
  epoch           INTEGER NOT NULL CHECK (epoch >= 0),
  -- The idempotency claim it belongs to, both or neither.
  claim_principal BLOB,
  claim_key       TEXT,
  PRIMARY KEY (log_id, idx),
  CHECK ((claim_principal IS NULL) = (claim_key IS NULL))
) STRICT, WITHOUT ROWID;

-- Idempotency claims: one row per item that came under an Idempotency-Key, until it expires.
CREATE TABLE claims (
  tenant_id BLOB    NOT NULL,
  principal BLOB    NOT NULL CHECK (length(principal) = 32),
  claim_key TEXT    NOT NULL,
  body      BLOB    NOT NULL CHECK (length(body) = 32),
  state     TEXT    NOT NULL,
  -- Where the state is 'done': what of the answer is nowhere else (crates/signing/src/sign/stored.rs).
  answer    TEXT,
  attempt   INTEGER NOT NULL CHECK (attempt >= 1),
  log_id    BLOB    NOT NULL,
  idx       INTEGER NOT NULL CHECK (idx >= 0),
  expires   INTEGER NOT NULL,
  PRIMARY KEY (tenant_id, principal, claim_key)
) STRICT;
CREATE INDEX claims_by_expiry ON claims (expires);

----------------------------------------------------------------------------------------- service

-- Callers' tokens that were exchanged already. Across tenants: one token, one use.
CREATE TABLE seen_tokens (
  tenant_id BLOB    NOT NULL,
  issuer    TEXT    NOT NULL,
  token     BLOB    NOT NULL CHECK (length(token) = 32),
  expires   INTEGER NOT NULL,
  PRIMARY KEY (token, issuer)
) STRICT, WITHOUT ROWID;
CREATE INDEX seen_tokens_by_expiry ON seen_tokens (expires);

-- The service's own keys, wrapped under the deployment's sealing key, which is not here.
CREATE TABLE service_keys (
  seq     INTEGER NOT NULL PRIMARY KEY,
  purpose TEXT    NOT NULL,
  public  BLOB    NOT NULL,
  wrapped BLOB    NOT NULL,
  created INTEGER NOT NULL,
  retired INTEGER,
  UNIQUE (purpose, public)
) STRICT;

-- One row: the one-time credential that registers the operator. The hash goes when it is used.
CREATE TABLE bootstrap (
  one        INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
  credential BLOB    CHECK (length(credential) = 32),
  used       INTEGER
) STRICT;

-- One row that /readyz writes to see whether writing works.
CREATE TABLE probe (
  one   INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
  count INTEGER NOT NULL
) STRICT;
INSERT INTO probe (one, count) VALUES (1, 0);
