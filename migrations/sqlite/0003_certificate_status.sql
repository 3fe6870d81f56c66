-- Certificates are looked up in their CAs' revocation lists, and submitted orders are asked after
-- without anybody waiting. migrations/postgres/0001_schema.sql has the same tables.

-- One row a list: shared by all tenants whose certificates name it, so it is nobody's.
CREATE TABLE revocation_lists (
  -- SHA-256 of the issuing CA's certificate, and that certificate, DER.
  issuer      BLOB    NOT NULL CHECK (length(issuer) = 32),
  -- The URLs that certificates name, one a line.
  urls        TEXT    NOT NULL,
  certificate BLOB    NOT NULL,
  -- When some node fetches it next; moved by compare-and-swap, so that one node alone does.
  next_poll   INTEGER NOT NULL,
  -- When a good list was last fetched and everybody looked up in it.
  good        INTEGER,
  -- Of the newest list seen: an older one is refused.
  this_update INTEGER,
  number      BLOB,
  -- Why the last try came to nothing.
  problem     TEXT,
  PRIMARY KEY (issuer, urls)
) STRICT, WITHOUT ROWID;
CREATE INDEX revocation_lists_by_poll ON revocation_lists (next_poll);

-- One row a key: the certificate in use, and what is known of it.
CREATE TABLE certificate_status (
  tenant_id   BLOB    NOT NULL,
  key_id      BLOB    NOT NULL CHECK (length(key_id) = 16),
  sha256      BLOB    NOT NULL CHECK (length(sha256) = 32),
  serial      TEXT    NOT NULL,
  not_after   INTEGER NOT NULL,
  -- Which list; NULL for certificates installed before this table was made.
  list_issuer BLOB    CHECK (length(list_issuer) = 32),
  list_urls   TEXT,
  status      TEXT    NOT NULL,
  since       INTEGER NOT NULL,
  checked     INTEGER,
  revoked_at  INTEGER,
  reason      TEXT,
  warned      INTEGER NOT NULL CHECK (warned IN (0, 1)),
  PRIMARY KEY (tenant_id, key_id),
  FOREIGN KEY (tenant_id, key_id) REFERENCES keys (tenant_id, key_id),
  CHECK ((list_issuer IS NULL) = (list_urls IS NULL))
) STRICT;
-- Walks follow the ends of certificates, which lie at most 39 months ahead: what has ended is never
-- walked through again.
CREATE INDEX certificate_status_by_list
  ON certificate_status (list_issuer, list_urls, not_after, key_id);
CREATE INDEX certificate_status_by_end ON certificate_status (not_after, key_id);

INSERT INTO certificate_status
  (tenant_id, key_id, sha256, serial, not_after, list_issuer, list_urls, status, since, checked,
   revoked_at, reason, warned)
SELECT c.tenant_id, c.key_id, c.sha256, c.serial, c.not_after, NULL, NULL, 'unknown', c.installed,
  NULL, NULL, NULL, 0
FROM certificates c
WHERE c.seq = (SELECT n.seq FROM certificates n
  WHERE n.tenant_id = c.tenant_id AND n.key_id = c.key_id
  ORDER BY n.installed DESC, n.seq DESC LIMIT 1);

ALTER TABLE orders ADD COLUMN next_poll INTEGER;
CREATE INDEX orders_by_poll ON orders (next_poll) WHERE next_poll IS NOT NULL;
UPDATE orders SET next_poll = updated WHERE state = 'submitted';
