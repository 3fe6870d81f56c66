-- Countersign's tables on PostgreSQL (15 and later). migrations/sqlite/0001_schema.sql says the
-- same in SQLite's words (a test compares tables, columns, nullability and primary keys), and
-- docs/data-model.md tells the story.
--
-- Rules for whoever writes the next migration:
--   * never edit this file once it is released: a changed file is a hard error at start;
--   * the previous release is still running on other nodes: add tables and nullable or defaulted
--     columns, stop using a column one release before dropping it; indexes CONCURRENTLY, in a
--     migration of their own ("-- no-transaction");
--   * lists of words (states, kinds, roles) are checked by the code that reads them, as on SQLite.
--
-- Times are microseconds since 1970 UTC in bigint: the exact numbers that stand in the leaves. Text
-- that the logs have hashes of is text, not jsonb, which would rewrite it.
--
-- Row-level security. Every statement names its tenant in WHERE; the policies below are the second
-- line for the day one forgets. Each transaction says for whom it acts, before anything else:
--
--     SET LOCAL countersign.tenant = '0190…';            -- one tenant: all reads
--     SET LOCAL countersign.tenant = '0190…,0191…';      -- a flush: all tenants it writes for
--     SET LOCAL countersign.scope  = 'directory';        -- name → tenant, the operator's list
--     SET LOCAL countersign.scope  = 'housekeeping';     -- recovery, forgetting what expired
--
-- (as a statement with bound values: SELECT set_config('countersign.tenant', $1, true)). LOCAL ends
-- with the transaction, so a pooled connection never carries a tenant over to the next caller. A
-- transaction that says nothing sees nothing. countersignd must not connect as a superuser or as a
-- role with BYPASSRLS; FORCE makes the policies hold for the owner of the tables too.

CREATE FUNCTION countersign_tenants() RETURNS uuid[]
  LANGUAGE sql STABLE PARALLEL SAFE
  RETURN string_to_array(nullif(current_setting('countersign.tenant', true), ''), ',')::uuid[];

CREATE FUNCTION countersign_scope(wanted text) RETURNS boolean
  LANGUAGE sql STABLE PARALLEL SAFE
  RETURN coalesce(current_setting('countersign.scope', true), '') = wanted;

----------------------------------------------------------------------------------------- tenants

CREATE TABLE tenants (
  tenant_id      uuid    NOT NULL PRIMARY KEY,
  -- COLLATE "C": lists are in the order of bytes, as on SQLite.
  name           text    COLLATE "C" NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 63),
  allow_software boolean NOT NULL,
  require_mfa    boolean NOT NULL,
  -- Grows by one with every effect on the tenant: what decisions are guarded by.
  version        bigint  NOT NULL CHECK (version >= 0),
  -- JSON; NULL until the token is made.
  token_facts    text,
  created        bigint  NOT NULL
);

CREATE TABLE issuers (
  tenant_id       uuid   NOT NULL REFERENCES tenants (tenant_id),
  issuer          text   COLLATE "C" NOT NULL,
  kind            text   NOT NULL,
  audience        text   NOT NULL,
  max_token_age_s bigint NOT NULL CHECK (max_token_age_s >= 0),
  -- JSON arrays of text.
  mfa_amr         text   NOT NULL,
  mfa_acr         text   NOT NULL,
  ca_pem          text,
  client_id       text,
  PRIMARY KEY (tenant_id, issuer)
);

CREATE TABLE members (
  tenant_id uuid NOT NULL REFERENCES tenants (tenant_id),
  issuer    text COLLATE "C" NOT NULL,
  subject   text COLLATE "C" NOT NULL,
  role      text COLLATE "C" NOT NULL,
  PRIMARY KEY (tenant_id, issuer, subject, role)
);

-------------------------------------------------------------------------------- signers and keys

CREATE TABLE signers (
  tenant_id uuid   NOT NULL REFERENCES tenants (tenant_id),
  label     text   COLLATE "C" NOT NULL CHECK (length(label) BETWEEN 1 AND 63),
  algorithm text   NOT NULL,
  created   bigint NOT NULL,
  PRIMARY KEY (tenant_id, label)
);

CREATE TABLE grants (
  tenant_id uuid   NOT NULL,
  grant_id  uuid   NOT NULL UNIQUE,
  signer    text   COLLATE "C" NOT NULL,
  -- The exact text that the tenant's log has the hash of.
  body      text   NOT NULL,
  created   bigint NOT NULL,
  PRIMARY KEY (tenant_id, grant_id),
  FOREIGN KEY (tenant_id, signer) REFERENCES signers (tenant_id, label)
);
CREATE INDEX grants_by_signer ON grants (tenant_id, signer);

CREATE TABLE keys (
  tenant_id uuid   NOT NULL,
  key_id    uuid   NOT NULL UNIQUE,
  signer    text   COLLATE "C" NOT NULL,
  algorithm text   NOT NULL,
  state     text   NOT NULL,
  spki      bytea  NOT NULL,
  -- JSON, for ever as read back when the key was born.
  facts     text   NOT NULL,
  -- JSON of the last appraisal.
  appraisal text,
  created   bigint NOT NULL,
  PRIMARY KEY (tenant_id, key_id),
  FOREIGN KEY (tenant_id, signer) REFERENCES signers (tenant_id, label)
);
CREATE INDEX keys_by_signer ON keys (tenant_id, signer);

CREATE TABLE certificates (
  -- Order of installation.
  seq        bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant_id  uuid    NOT NULL,
  key_id     uuid    NOT NULL,
  sha256     bytea   NOT NULL CHECK (length(sha256) = 32),
  -- Leaf first, DER. (SQLite has no arrays: there each certificate is preceded by its length.)
  chain      bytea[] NOT NULL,
  not_before bigint  NOT NULL,
  not_after  bigint  NOT NULL,
  serial     text    NOT NULL,
  installed  bigint  NOT NULL,
  UNIQUE (tenant_id, key_id, sha256),
  FOREIGN KEY (tenant_id, key_id) REFERENCES keys (tenant_id, key_id)
);

CREATE TABLE orders (
  tenant_id uuid   NOT NULL,
  order_id  uuid   NOT NULL UNIQUE,
  key_id    uuid   NOT NULL,
  ca        text   NOT NULL,
  reference text,
  state     text   NOT NULL,
  csr       bytea,
  statement bytea,
  problem   text,
  created   bigint NOT NULL,
  updated   bigint NOT NULL,
  -- When the CA is asked next without anybody waiting.
  next_poll bigint,
  PRIMARY KEY (tenant_id, order_id),
  FOREIGN KEY (tenant_id, key_id) REFERENCES keys (tenant_id, key_id)
);
CREATE INDEX orders_by_poll ON orders (next_poll) WHERE next_poll IS NOT NULL;
CREATE INDEX orders_by_key ON orders (tenant_id, key_id);

-- One row a list: shared by all tenants whose certificates name it, so it is nobody's.
CREATE TABLE revocation_lists (
  -- SHA-256 of the issuing CA's certificate, and that certificate, DER.
  issuer      bytea  NOT NULL CHECK (length(issuer) = 32),
  -- The URLs that certificates name, one a line.
  urls        text   COLLATE "C" NOT NULL,
  certificate bytea  NOT NULL,
  -- When some node fetches it next; moved by compare-and-swap, so that one node alone does.
  next_poll   bigint NOT NULL,
  -- When a good list was last fetched and everybody looked up in it.
  good        bigint,
  -- Of the newest list seen: an older one is refused.
  this_update bigint,
  number      bytea,
  -- Why the last try came to nothing.
  problem     text,
  PRIMARY KEY (issuer, urls)
);
CREATE INDEX revocation_lists_by_poll ON revocation_lists (next_poll);

-- One row a key: the certificate in use, and what is known of it.
CREATE TABLE certificate_status (
  tenant_id   uuid    NOT NULL,
  key_id      uuid    NOT NULL,
  sha256      bytea   NOT NULL CHECK (length(sha256) = 32),
  serial      text    NOT NULL,
  not_after   bigint  NOT NULL,
  -- Which list. (SQLite has NULL for certificates installed before this table was made.)
  list_issuer bytea   CHECK (length(list_issuer) = 32),
  list_urls   text    COLLATE "C",
  status      text    NOT NULL,
  since       bigint  NOT NULL,
  checked     bigint,
  revoked_at  bigint,
  reason      text,
  warned      boolean NOT NULL,
  PRIMARY KEY (tenant_id, key_id),
  FOREIGN KEY (tenant_id, key_id) REFERENCES keys (tenant_id, key_id),
  CHECK ((list_issuer IS NULL) = (list_urls IS NULL))
);
CREATE INDEX certificate_status_by_list
  ON certificate_status (list_issuer, list_urls, not_after, key_id);
CREATE INDEX certificate_status_by_end ON certificate_status (not_after, key_id);

-------------------------------------------------------------------------------------------- logs

-- One row per log holds all that appending needs: the right edge, not the tree. It is the hottest
-- row there is, so each page keeps room for its next versions and no moving column is indexed.
CREATE TABLE logs (
  tenant_id   uuid   NOT NULL REFERENCES tenants (tenant_id),
  log_id      uuid   NOT NULL PRIMARY KEY,
  kind        text   NOT NULL,
  -- Fixed at creation and never reused: two trees must never share a name.
  origin      text   NOT NULL UNIQUE,
  size        bigint NOT NULL CHECK (size >= 0),
  frontier    bytea  NOT NULL,
  checkpoint  text   NOT NULL,
  last_time   bigint NOT NULL,
  -- The node that wrote last; the epoch grows by one each time it is another than before.
  writer_node  uuid   NOT NULL,
  writer_epoch bigint NOT NULL CHECK (writer_epoch >= 0),
  UNIQUE (tenant_id, log_id)
) WITH (fillfactor = 50);

-- Rows lie in the order of arrival, whichever the log.
CREATE TABLE leaves (
  tenant_id uuid   NOT NULL,
  log_id    uuid   NOT NULL,
  idx       bigint NOT NULL CHECK (idx >= 0),
  hash      bytea  NOT NULL CHECK (length(hash) = 32),
  bytes     bytea  NOT NULL,
  PRIMARY KEY (log_id, idx),
  FOREIGN KEY (tenant_id, log_id) REFERENCES logs (tenant_id, log_id)
);

-- Hashes of complete blocks of 256^level leaves: one row for 256 below.
CREATE TABLE subtrees (
  tenant_id uuid     NOT NULL,
  log_id    uuid     NOT NULL,
  level     smallint NOT NULL CHECK (level BETWEEN 1 AND 7),
  idx       bigint   NOT NULL CHECK (idx >= 0),
  hash      bytea    NOT NULL CHECK (length(hash) = 32),
  PRIMARY KEY (log_id, level, idx),
  FOREIGN KEY (tenant_id, log_id) REFERENCES logs (tenant_id, log_id)
);

-- Invariant 3, once more where no code can forget it: a log only grows.
CREATE FUNCTION a_log_only_grows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'a log only grows'; END $$;
CREATE TRIGGER logs_only_grow BEFORE UPDATE ON logs FOR EACH ROW
  WHEN (NEW.size < OLD.size OR NEW.log_id <> OLD.log_id OR NEW.tenant_id <> OLD.tenant_id
    OR NEW.origin <> OLD.origin OR NEW.kind <> OLD.kind OR NEW.writer_epoch < OLD.writer_epoch)
  EXECUTE FUNCTION a_log_only_grows();
CREATE TRIGGER logs_stay BEFORE DELETE ON logs FOR EACH ROW
  EXECUTE FUNCTION a_log_only_grows();
CREATE TRIGGER leaves_stay BEFORE UPDATE OR DELETE ON leaves FOR EACH ROW
  EXECUTE FUNCTION a_log_only_grows();
CREATE TRIGGER subtrees_stay BEFORE UPDATE OR DELETE ON subtrees FOR EACH ROW
  EXECUTE FUNCTION a_log_only_grows();
CREATE TRIGGER logs_are_never_emptied BEFORE TRUNCATE ON logs
  EXECUTE FUNCTION a_log_only_grows();
CREATE TRIGGER leaves_are_never_emptied BEFORE TRUNCATE ON leaves
  EXECUTE FUNCTION a_log_only_grows();
CREATE TRIGGER subtrees_are_never_emptied BEFORE TRUNCATE ON subtrees
  EXECUTE FUNCTION a_log_only_grows();

-- Salts and values of the leaves' commitments, apart from them: erasable without breaking a proof.
CREATE TABLE leaf_details (
  tenant_id uuid   NOT NULL,
  log_id    uuid   NOT NULL,
  idx       bigint NOT NULL CHECK (idx >= 0),
  line      text   NOT NULL,
  PRIMARY KEY (log_id, idx)
);

-- Authorisations without outcome: as many rows as there are signatures in flight, or were when a
-- node died.
CREATE TABLE open_authorisations (
  tenant_id       uuid   NOT NULL,
  log_id          uuid   NOT NULL,
  idx             bigint NOT NULL CHECK (idx >= 0),
  node_id         uuid   NOT NULL,
  epoch           bigint NOT NULL CHECK (epoch >= 0),
  -- The idempotency claim it belongs to, both or neither.
  claim_principal bytea,
  claim_key       text,
  PRIMARY KEY (log_id, idx),
  CHECK ((claim_principal IS NULL) = (claim_key IS NULL))
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

-- Idempotency claims: one row per item that came under an Idempotency-Key, until it expires.
CREATE TABLE claims (
  tenant_id uuid   NOT NULL,
  principal bytea  NOT NULL CHECK (length(principal) = 32),
  claim_key text   NOT NULL,
  body      bytea  NOT NULL CHECK (length(body) = 32),
  state     text   NOT NULL,
  -- Where the state is 'done': what of the answer is nowhere else (crates/signing/src/sign/stored.rs).
  answer    text,
  attempt   bigint NOT NULL CHECK (attempt >= 1),
  log_id    uuid   NOT NULL,
  idx       bigint NOT NULL CHECK (idx >= 0),
  expires   bigint NOT NULL,
  PRIMARY KEY (tenant_id, principal, claim_key)
);
CREATE INDEX claims_by_expiry ON claims (expires);

----------------------------------------------------------------------------------------- service

-- Callers' tokens that were exchanged already. Across tenants: one token, one use.
CREATE TABLE seen_tokens (
  tenant_id uuid   NOT NULL,
  issuer    text   NOT NULL,
  token     bytea  NOT NULL CHECK (length(token) = 32),
  expires   bigint NOT NULL,
  PRIMARY KEY (token, issuer)
);
CREATE INDEX seen_tokens_by_expiry ON seen_tokens (expires);

-- The service's own keys, wrapped under the deployment's sealing key, which is not here.
CREATE TABLE service_keys (
  seq     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  purpose text   NOT NULL,
  public  bytea  NOT NULL,
  wrapped bytea  NOT NULL,
  created bigint NOT NULL,
  retired bigint,
  UNIQUE (purpose, public)
);

-- One row: the one-time credential that registers the operator. The hash goes when it is used.
CREATE TABLE bootstrap (
  one        bigint NOT NULL PRIMARY KEY CHECK (one = 1),
  credential bytea  CHECK (length(credential) = 32),
  used       bigint
);

-- One row per run of countersignd. Times are this database's.
CREATE TABLE nodes (
  node_id uuid   NOT NULL PRIMARY KEY,
  -- For people.
  name    text   NOT NULL,
  joined  bigint NOT NULL,
  -- The lease: renewed while the node is well. Once it is over, another node may bury this one.
  until   bigint NOT NULL,
  -- When it left or was declared dead. Nothing of it is written after that.
  ended   bigint
);

-- One row that /readyz writes to see whether writing works.
CREATE TABLE probe (
  one   bigint NOT NULL PRIMARY KEY CHECK (one = 1),
  count bigint NOT NULL
);
INSERT INTO probe (one, count) VALUES (1, 0);

------------------------------------------------------------------------------ row-level security

-- Every table with a tenant_id: its rows are those of the tenants this transaction acts for.
DO $$
DECLARE
  name text;
BEGIN
  FOR name IN
    SELECT table_name FROM information_schema.columns
    WHERE table_schema = current_schema() AND column_name = 'tenant_id'
  LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
    EXECUTE format(
      -- The SELECT makes it one look at the setting for each statement instead of one for each row.
      'CREATE POLICY own_tenants ON %I USING (tenant_id = ANY ((SELECT countersign_tenants())::uuid[]))',
      name);
  END LOOP;
END $$;

-- The few reads and deletions that cross tenants, each by a scope that says so.
CREATE POLICY directory ON tenants FOR SELECT USING ((SELECT countersign_scope('directory')));
CREATE POLICY housekeeping ON open_authorisations FOR SELECT
  USING ((SELECT countersign_scope('housekeeping')));
CREATE POLICY housekeeping ON certificate_status FOR SELECT
  USING ((SELECT countersign_scope('housekeeping')));
CREATE POLICY housekeeping ON keys FOR SELECT USING ((SELECT countersign_scope('housekeeping')));
CREATE POLICY housekeeping ON orders FOR SELECT USING ((SELECT countersign_scope('housekeeping')));
CREATE POLICY housekeeping_reads ON claims FOR SELECT USING ((SELECT countersign_scope('housekeeping')));
CREATE POLICY housekeeping ON claims FOR DELETE USING ((SELECT countersign_scope('housekeeping')));
CREATE POLICY housekeeping_reads ON seen_tokens FOR SELECT
  USING ((SELECT countersign_scope('housekeeping')));
CREATE POLICY housekeeping ON seen_tokens FOR DELETE USING ((SELECT countersign_scope('housekeeping')));
