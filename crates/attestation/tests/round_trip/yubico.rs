//! YubiHSM 2 and YubiKey PIV.

use countersign_attestation::certificate::Certificate;
use countersign_attestation::vendor::yubihsm2::parse as hsm;
use countersign_attestation::vendor::yubikey_piv::parse as piv;
use countersign_testkit_evidence::yubihsm2::YubiHsm2;
use countersign_testkit_evidence::yubikey_piv::YubiKeyPiv;
use countersign_testkit_evidence::{Key, Kind};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn yubihsm2(
        firmware: [u8; 3], device_firmware: Option<[u8; 3]>, serial: u64, device_serial: u64,
        origin: u8, domains: u16, capabilities: u64, object_id: u64, label in "\\PC{0,40}",
        fips: Option<u64>,
    ) {
        let key = Key::named(Kind::P256, "round trip");
        let h = YubiHsm2 {
            device_key: key.clone(), ca_key: key.clone(), root_key: key.clone(), key,
            firmware, device_firmware, serial, device_serial, origin, domains, capabilities,
            object_id, label: label.clone(), fips,
            ..YubiHsm2::default()
        };
        let leaf = Certificate::from_der(&h.leaf().sign(&h.device_key))?;
        prop_assert!(hsm::is_attestation(&leaf) && !hsm::is_device(&leaf));
        let [a, b, c] = firmware;
        prop_assert_eq!(hsm::Attestation::read(&leaf)?, hsm::Attestation {
            firmware: hsm::Firmware(a, b, c),
            serial, origin, domains, capabilities, object_id, label,
            unknown: vec![],
        });
        let device = Certificate::from_der(&h.device())?;
        prop_assert!(hsm::is_device(&device) && !hsm::is_attestation(&device));
        prop_assert_eq!(hsm::Device::read(&device)?, hsm::Device {
            serial: device_serial,
            firmware: device_firmware.map(|[a, b, c]| hsm::Firmware(a, b, c)),
            fips,
        });
    }

    #[test]
    fn yubikey_piv(
        firmware: Option<[u8; 3]>, signer_firmware: Option<[u8; 3]>, serial: Option<u64>,
        policy: Option<[u8; 2]>, form_factor: Option<u8>, fips: Option<u64>, cspn: Option<u64>,
        wrapped: bool, slot in 0x82u8..0x96,
    ) {
        let key = Key::named(Kind::P256, "round trip");
        let p = YubiKeyPiv {
            signer_key: key.clone(), root_key: key.clone(), key,
            firmware, signer_firmware, serial, policy, form_factor, fips, cspn, wrapped,
            subject: format!("YubiKey PIV Attestation {slot:02x}"),
            ..YubiKeyPiv::default()
        };
        let version = |f: [u8; 3]| piv::Firmware(f[0], f[1], f[2]);
        let leaf = Certificate::from_der(&p.leaf().sign(&p.signer_key))?;
        let Some(piv::Kind::Slot(Some(read))) = piv::kind(&leaf) else {
            panic!("{:?}", piv::kind(&leaf));
        };
        prop_assert!(read.is_known());
        prop_assert_eq!(read.to_string(), hex::encode([slot]));
        let s = piv::Statement::of(&leaf)?;
        prop_assert_eq!((s.firmware, s.serial), (firmware.map(version), serial));
        prop_assert_eq!(s.form_factor, form_factor.map(piv::FormFactor));
        let [pin, touch] = policy.unwrap_or([0; 2]);
        prop_assert_eq!(s.policy.is_some(), policy.is_some());
        if let Some((p, t)) = s.policy {
            prop_assert_eq!((number_of_pin(p), number_of_touch(t)), (pin, touch));
        }
        let signer = Certificate::from_der(&p.signer().sign(&p.root_key))?;
        prop_assert_eq!(piv::kind(&signer), Some(piv::Kind::Signer));
        let s = piv::Statement::of(&signer)?;
        prop_assert_eq!(s.firmware, signer_firmware.map(version));
        prop_assert_eq!((s.fips, s.cspn), (fips, cspn));
        prop_assert!(s.unknown.is_empty());
    }
}

/// Yubico, PIV attestation: 1 never, 2 once, 3 always, 4 match once, 5 match always.
fn number_of_pin(p: piv::PinPolicy) -> u8 {
    match p {
        piv::PinPolicy::Never => 1,
        piv::PinPolicy::Once => 2,
        piv::PinPolicy::Always => 3,
        piv::PinPolicy::MatchOnce => 4,
        piv::PinPolicy::MatchAlways => 5,
        piv::PinPolicy::Other(n) => n,
    }
}

/// 1 never, 2 always, 3 cached.
fn number_of_touch(t: piv::TouchPolicy) -> u8 {
    match t {
        piv::TouchPolicy::Never => 1,
        piv::TouchPolicy::Always => 2,
        piv::TouchPolicy::Cached => 3,
        piv::TouchPolicy::Other(n) => n,
    }
}
