//! The port of the device register: which devices are known under more than one tenant.
//!
//! Devices stand in it as keyed hashes, made by the service: whoever reads the database cannot ask it
//! for a serial number. A tenant is told of its own keys alone, and never whose else a device is.

use super::store::Read;
use crate::{KeyId, Micros, TenantId, TenantName};
use async_trait::async_trait;

/// Evidence of a key named its device. The first row of its kind stays as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// Whose key.
    pub tenant: TenantId,
    /// Which.
    pub key: KeyId,
    /// Keyed hash of the device's name.
    pub device: [u8; 32],
    /// Keyed hash of tenant and device together: tells whether two sightings are of one tenant without
    /// naming it.
    pub under: [u8; 32],
    /// Not one device, but a batch that shares one name.
    pub batch: bool,
    /// When.
    pub seen: Micros,
}

/// A device that a key is in, as the key's tenant may know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownDevice {
    /// Keyed hash of its name.
    pub device: [u8; 32],
    /// Since when it is known under another tenant as well.
    pub shared: Option<Micros>,
    /// The first time that evidence of this key named it.
    pub seen: Micros,
}

/// A device under several tenants: for operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedDevice {
    /// Keyed hash of its name.
    pub device: [u8; 32],
    /// Since when.
    pub shared: Micros,
    /// Not one device, but a batch that shares one name.
    pub batch: bool,
}

/// A key of a device: for operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SightedKey {
    /// Whose.
    pub tenant: TenantName,
    /// Which.
    pub key: KeyId,
    /// The first time.
    pub seen: Micros,
}

/// The device register.
#[async_trait]
pub trait DeviceStore: Send + Sync + 'static {
    /// The devices that evidence of this key has named; no batch.
    async fn devices_of(&self, tenant: TenantId, key: KeyId) -> Read<Vec<KnownDevice>>;
    /// Devices and batches under several tenants, in order of their hashes, past `after`: the operator's list.
    async fn shared_devices(&self, after: Option<[u8; 32]>, limit: u32) -> Read<Vec<SharedDevice>>;
    /// The keys of a device, whosever they are: the first of each tenant, then all others, both in order of
    /// time. The operator's list.
    async fn keys_in_device(&self, device: [u8; 32], limit: u32) -> Read<Vec<SightedKey>>;
}
