//! The device register.

super::statements! {
    /// Nobody's row: it names a device and no tenant, both as keyed hashes. Its lock makes two tenants
    /// at one moment one after the other: the second is told apart from the first.
    SEE_DEVICE = "INSERT INTO devices (device, first, shared, batch) VALUES ($1, $2, NULL, $4) \
        ON CONFLICT (device) DO UPDATE SET shared = $3 \
        WHERE devices.first <> excluded.first AND devices.shared IS NULL";
    SEE_KEY = "INSERT INTO device_sightings (tenant_id, key_id, device, seen) VALUES ($1, $2, $3, $4) \
        ON CONFLICT (tenant_id, key_id, device) DO NOTHING";
    /// What many devices share says nothing of one.
    DEVICES_OF = "SELECT s.device, d.shared, s.seen FROM device_sightings s \
        JOIN devices d ON d.device = s.device WHERE s.tenant_id = $1 AND s.key_id = $2 AND NOT d.batch ORDER BY s.device";
    /// Nobody's rows: the operator's list.
    SHARED_DEVICES = "SELECT device, shared, batch FROM devices WHERE shared IS NOT NULL AND device > $1 \
        ORDER BY device LIMIT $2";
    /// Crosses tenants: the operator's list. The first key of each tenant stands before all others, or a
    /// tenant with many keys would hide the rest.
    KEYS_IN_DEVICE = "SELECT t.name, s.key_id, s.seen FROM device_sightings s \
        JOIN tenants t ON t.tenant_id = s.tenant_id WHERE s.device = $1 \
        ORDER BY row_number() OVER (PARTITION BY s.tenant_id ORDER BY s.seen, s.key_id) > 1, \
        s.seen, s.key_id LIMIT $2";
}
