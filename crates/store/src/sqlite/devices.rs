//! The device register.

use super::errors::Stop;
use super::tenants::by_tenant;
use super::writer::Write;
use super::{SqliteStore, sql};
use crate::rows::{known_device, shared_device, sighted_key};
use crate::sql::devices as text;
use async_trait::async_trait;
use countersign_core::ports::devices::{
    DeviceStore, KnownDevice, SharedDevice, SightedKey, Sighting,
};
use countersign_core::ports::store::Read;
use countersign_core::{KeyId, TenantId};

#[async_trait]
impl DeviceStore for SqliteStore {
    async fn devices_of(&self, tenant: TenantId, key: KeyId) -> Read<Vec<KnownDevice>> {
        let query = by_tenant(text::DEVICES_OF, tenant).bind(key.as_bytes().to_vec());
        self.read("devices", query, known_device).await
    }

    async fn shared_devices(&self, after: Option<[u8; 32]>, limit: u32) -> Read<Vec<SharedDevice>> {
        // Nothing is before the empty bytes.
        let after = after.map_or_else(Vec::new, Vec::from);
        let query = sql(text::SHARED_DEVICES).bind(after).bind(i64::from(limit));
        self.read("devices", query, shared_device).await
    }

    async fn keys_in_device(&self, device: [u8; 32], limit: u32) -> Read<Vec<SightedKey>> {
        let query = sql(text::KEYS_IN_DEVICE)
            .bind(device.to_vec())
            .bind(i64::from(limit));
        self.read("device_sightings", query, sighted_key).await
    }
}

pub(super) async fn see(write: &mut Write<'_>, item: usize, row: Sighting) -> Result<(), Stop> {
    super::keys::key_state(write, item, row.tenant, row.key).await?;
    let device = sql(text::SEE_DEVICE)
        .bind(row.device.to_vec())
        .bind(row.under.to_vec())
        .bind(row.seen.0)
        .bind(row.batch);
    write.execute(device).await?;
    let key = by_tenant(text::SEE_KEY, row.tenant)
        .bind(row.key.as_bytes().to_vec())
        .bind(row.device.to_vec())
        .bind(row.seen.0);
    write.execute(key).await.map(drop)
}
