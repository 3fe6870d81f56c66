-- Several countersignd may write to one log (on PostgreSQL; here there is one): no log has a lease any
-- more, each run of countersignd has. docs/adr/0007 says why.
ALTER TABLE logs DROP COLUMN lease_until;
-- The node that wrote last; the epoch grows by one each time it is another than before.
ALTER TABLE logs RENAME COLUMN lease_node TO writer_node;
ALTER TABLE logs RENAME COLUMN lease_epoch TO writer_epoch;

-- One row per run of countersignd. Times are the database's.
CREATE TABLE nodes (
  node_id BLOB    NOT NULL PRIMARY KEY CHECK (length(node_id) = 16),
  -- For people.
  name    TEXT    NOT NULL,
  joined  INTEGER NOT NULL,
  -- The lease: renewed while the node is well. Once it is over, another node may bury this one.
  until   INTEGER NOT NULL,
  -- When it left or was declared dead. Nothing of it is written after that.
  ended   INTEGER
) STRICT;
