-- Which devices are known under more than one tenant? migrations/sqlite/0005_devices.sql says the same.

-- Nobody's: a row names a device and no tenant. Both names are keyed hashes.
CREATE TABLE devices (
  device bytea  NOT NULL PRIMARY KEY CHECK (length(device) = 32),
  -- Whose it was first: of tenant and device together.
  first  bytea  NOT NULL CHECK (length(first) = 32),
  -- Not one device: a batch of them that shares one name. Its rows are for the operator's list alone.
  batch  boolean NOT NULL,
  -- When it was known under another tenant as well; NULL: it is not.
  shared bigint
);
CREATE INDEX devices_shared ON devices (device) WHERE shared IS NOT NULL;

-- One row a key and device that its evidence proved: evidence of a cluster may be of one device today
-- and of another tomorrow. Rows stay when a key is destroyed.
CREATE TABLE device_sightings (
  tenant_id uuid   NOT NULL,
  key_id    uuid   NOT NULL,
  device    bytea  NOT NULL REFERENCES devices (device),
  -- The first time.
  seen      bigint NOT NULL,
  PRIMARY KEY (tenant_id, key_id, device),
  FOREIGN KEY (tenant_id, key_id) REFERENCES keys (tenant_id, key_id)
);
CREATE INDEX device_sightings_of ON device_sightings (device, seen);

-- As every table with a tenant_id (0001_schema.sql): its rows are those of the tenants this transaction
-- acts for.
ALTER TABLE device_sightings ENABLE ROW LEVEL SECURITY;
ALTER TABLE device_sightings FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenants ON device_sightings
  USING (tenant_id = ANY ((SELECT countersign_tenants())::uuid[]));
-- The operator's list of devices under several tenants.
CREATE POLICY directory ON device_sightings FOR SELECT USING ((SELECT countersign_scope('directory')));
