-- Which devices are known under more than one tenant? migrations/postgres/0003_devices.sql says the
-- same.

-- Nobody's: a row names a device and no tenant. Both names are keyed hashes.
CREATE TABLE devices (
  device BLOB    NOT NULL PRIMARY KEY CHECK (length(device) = 32),
  -- Whose it was first: of tenant and device together.
  first  BLOB    NOT NULL CHECK (length(first) = 32),
  -- Not one device: a batch of them that shares one name. Its rows are for the operator's list alone.
  batch  INTEGER NOT NULL CHECK (batch IN (0, 1)),
  -- When it was known under another tenant as well; NULL: it is not.
  shared INTEGER
) STRICT;
CREATE INDEX devices_shared ON devices (device) WHERE shared IS NOT NULL;

-- One row a key and device that its evidence proved: evidence of a cluster may be of one device today
-- and of another tomorrow. Rows stay when a key is destroyed.
CREATE TABLE device_sightings (
  tenant_id BLOB    NOT NULL,
  key_id    BLOB    NOT NULL CHECK (length(key_id) = 16),
  device    BLOB    NOT NULL REFERENCES devices (device),
  -- The first time.
  seen      INTEGER NOT NULL,
  PRIMARY KEY (tenant_id, key_id, device),
  FOREIGN KEY (tenant_id, key_id) REFERENCES keys (tenant_id, key_id)
) STRICT;
CREATE INDEX device_sightings_of ON device_sightings (device, seen);
