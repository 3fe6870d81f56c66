//! The service's own device register: is a device known under more than one subscriber?
//!
//! Evidence that is kept for a key may prove which device the key is in. The register holds keyed
//! hashes of such names, under a key of the service's own: no serial number can be asked of a stolen
//! database. One device under two subscribers is no proof of wrongdoing (a network HSM has many
//! tenants), so it is told, to the operator by name and to the CA as a bare fact, and refuses nothing. Of a
//! batch nobody but the operator is told, in the list: what many devices share says nothing of one.

use crate::caller::Caller;
use crate::{Service, SigningError};
use aws_lc_rs::hmac;
use countersign_attestation::register::DeviceName;
use countersign_attestation::result::{AttestationResult, SerialScope};
use countersign_attestation::statement::AttributeClaim;
use countersign_core::ports::devices::{KnownDevice, SharedDevice, SightedKey, Sighting};
use countersign_core::ports::rows::KeyRow;
use countersign_core::{KeyId, Micros, TenantId};

/// What the service states of a key's device beside the attributes that were read from the token.
pub const UNDER_OTHERS: &str = "device-under-other-subscribers";

/// Devices on one page of the operator's list.
pub const DEVICES_PAGE: usize = 100;
/// Keys shown of one device.
const KEYS_SHOWN: usize = 100;

/// Separates these hashes from the devices' own under the same key.
const TENANT_CONTEXT: &[u8] = b"countersign device register 1: tenant";
/// A batch's number is no device's, though they be equal.
const BATCH_CONTEXT: &[u8] = b"countersign device register 1: batch";

/// A device that several subscribers have keys in.
#[derive(Debug, Clone)]
pub struct SharedDeviceView {
    /// The device, and since when.
    pub device: SharedDevice,
    /// Its keys: the first of each tenant, then the others, both in order of time.
    pub keys: Vec<SightedKey>,
    /// There are more keys than are shown.
    pub more_keys: bool,
}

/// What a result says for the register; `None` where it proves no name.
fn sighting(
    secret: &[u8; 32],
    tenant: TenantId,
    key: KeyId,
    result: &AttestationResult,
    seen: Micros,
) -> Option<Sighting> {
    let name = DeviceName::of(&result.facts)?;
    let batch = name.names == SerialScope::Batch;
    let mut device = [0; 32];
    hex::decode_to_slice(name.keyed_hash(secret), &mut device).ok()?;
    // Each part has a length of its own that never changes.
    let mac = |parts: &[&[u8]]| -> Option<[u8; 32]> {
        let mut mac = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret));
        parts.iter().for_each(|part| mac.update(part));
        mac.sign().as_ref().try_into().ok()
    };
    if batch {
        device = mac(&[BATCH_CONTEXT, &device])?;
    }
    let under = mac(&[TENANT_CONTEXT, tenant.as_bytes().as_slice(), &device])?;
    Some(Sighting {
        tenant,
        key,
        device,
        under,
        batch,
        seen,
    })
}

/// Whether this sighting is the one that put the key into the device, and the device is another
/// subscriber's too. A device becomes shared by such a sighting alone.
fn newly_shared(sighting: &Sighting, known: &KnownDevice) -> bool {
    known.device == sighting.device && known.seen == sighting.seen && known.shared.is_some()
}

impl Service {
    /// What evidence that is about to be kept says for the register.
    pub(crate) fn sighting(
        &self,
        row: &KeyRow,
        result: &AttestationResult,
        seen: Micros,
    ) -> Option<Sighting> {
        sighting(
            self.secrets().device_key(),
            row.tenant,
            row.id,
            result,
            seen,
        )
    }

    /// Tells the operator, if the device of this sighting is known under other subscribers as well. Once a
    /// key and device: evidence is handed in again and again, and an alert at each renewal is soon read by nobody.
    /// The evidence is kept by now: that this cannot be looked up takes nothing back, and the list has it.
    pub(crate) async fn tell_shared_device(&self, sighting: &Sighting) {
        let (tenant, key) = (sighting.tenant, sighting.key);
        match self.store().devices_of(tenant, key).await {
            Ok(devices) => {
                if devices.iter().any(|d| newly_shared(sighting, d)) {
                    self.measures().shared_devices.add(1);
                    let device = hex::encode(sighting.device);
                    tracing::warn!(%tenant, %key, device, "a device is known under other subscribers too");
                }
            }
            Err(e) => {
                tracing::warn!(%tenant, %key, error = %e, "the device register could not be looked up");
            }
        }
    }

    /// For the CA: whether other subscribers have keys in a device that evidence named for this key.
    /// `None` where no evidence named one. Never whose.
    pub(crate) async fn device_claim(
        &self,
        row: &KeyRow,
    ) -> Result<Option<AttributeClaim>, SigningError> {
        let devices = self.store().devices_of(row.tenant, row.id).await?;
        Ok((!devices.is_empty()).then(|| AttributeClaim {
            attribute: UNDER_OTHERS.to_owned(),
            seen: devices.iter().any(|d| d.shared.is_some()).to_string(),
        }))
    }

    /// Devices that several subscribers have keys in, past the device `after`, at most [`DEVICES_PAGE`]:
    /// the operator's list.
    ///
    /// # Errors
    /// [`SigningError::Forbidden`] without the role.
    pub async fn shared_devices(
        &self,
        caller: &Caller,
        after: Option<[u8; 32]>,
    ) -> Result<Vec<SharedDeviceView>, SigningError> {
        self.operator(caller).await?;
        let limit = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let devices = self
            .store()
            .shared_devices(after, limit(DEVICES_PAGE))
            .await?;
        let mut all = Vec::with_capacity(devices.len());
        for device in devices {
            let one_more = limit(KEYS_SHOWN.saturating_add(1));
            let mut keys = self.store().keys_in_device(device.device, one_more).await?;
            let more_keys = keys.len() > KEYS_SHOWN;
            keys.truncate(KEYS_SHOWN);
            all.push(SharedDeviceView {
                device,
                keys,
                more_keys,
            });
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_attestation::result::{Facts, Known, Serial, Verdict};
    use countersign_attestation::time::UnixSeconds;

    fn result(serial: &str, names: SerialScope) -> AttestationResult {
        AttestationResult {
            version: 1,
            verdict: Verdict::Accept,
            software: Known::No,
            facts: Facts {
                genuine: Known::Yes,
                vendor: Some("Maker".into()),
                serial: Some(Serial {
                    value: serial.into(),
                    names,
                }),
                ..Facts::default()
            },
            supports_methods: vec![],
            weaknesses: vec![],
            claims: vec![],
            checks: vec![],
            inputs: vec![],
            anchor_set_version: String::new(),
            appraised_at: UnixSeconds::new(0).unwrap_or_else(|| unreachable!()),
            subject: None,
            formats: vec![],
            freshness: None,
            policy: None,
            unused: vec![],
            seen_before: None,
        }
    }

    #[test]
    fn a_sighting_tells_devices_and_tenants_apart_and_names_neither() {
        let (a, b) = (TenantId::new(), TenantId::new());
        let key = KeyId::new();
        let see = |secret: u8, tenant, serial: &str| {
            let result = result(serial, SerialScope::Individual);
            sighting(&[secret; 32], tenant, key, &result, Micros(7))
        };
        let one = see(1, a, "17");
        assert!(one.is_some());
        let one = one.unwrap_or_else(|| unreachable!());
        let of = |s: Option<Sighting>| s.map(|s| (s.device, s.under));
        assert_eq!(of(see(1, a, "17")), Some((one.device, one.under)));
        // Another tenant: the same device under another.
        let other = of(see(1, b, "17"));
        assert!(other.is_some_and(|(d, u)| d == one.device && u != one.under));
        // Another device, or another service: nothing in common.
        for different in [of(see(1, a, "18")), of(see(2, a, "17"))] {
            assert!(different.is_some_and(|(d, u)| d != one.device && u != one.under));
        }
    }

    #[test]
    fn a_device_is_told_at_the_first_sighting_of_a_key_alone() {
        let result = result("17", SerialScope::Individual);
        let sighting = sighting(&[1; 32], TenantId::new(), KeyId::new(), &result, Micros(7));
        let sighting = sighting.unwrap_or_else(|| unreachable!());
        let known = |seen, shared: Option<i64>| KnownDevice {
            device: sighting.device,
            shared: shared.map(Micros),
            seen: Micros(seen),
        };
        // Shared by this key, or before it.
        assert!(newly_shared(&sighting, &known(7, Some(7))));
        assert!(newly_shared(&sighting, &known(7, Some(3))));
        // Handed in again; nobody else's; another device of the same key.
        assert!(!newly_shared(&sighting, &known(6, Some(7))));
        assert!(!newly_shared(&sighting, &known(7, None)));
        let mut other = known(7, Some(7));
        other.device = [9; 32];
        assert!(!newly_shared(&sighting, &other));
    }

    #[test]
    fn a_batch_is_no_device() {
        let (tenant, key) = (TenantId::new(), KeyId::new());
        let see = |result| sighting(&[1; 32], tenant, key, &result, Micros(7));
        let batch = see(result("17", SerialScope::Batch)).unwrap_or_else(|| unreachable!());
        let one = see(result("17", SerialScope::Individual)).unwrap_or_else(|| unreachable!());
        assert!(batch.batch && !one.batch);
        assert_ne!(batch.device, one.device);
        assert_ne!(batch.under, one.under);
        let mut unproved = result("17", SerialScope::Individual);
        unproved.facts.genuine = Known::Unknown;
        assert_eq!(see(unproved), None);
    }
}
