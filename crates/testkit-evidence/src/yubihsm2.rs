//! YubiHSM 2 evidence.

use crate::cert::{Certificate, cn, root};
use crate::der;
use crate::hostile::Files;
use crate::keys::{Key, Kind};

const ARC: &str = "1.3.6.1.4.1.41482.4";

/// Everything an attestation and its device certificate say. `Default` is genuine and sign-only.
#[derive(Clone)]
pub struct YubiHsm2 {
    /// The attested key.
    pub key: Key,
    /// The device's attestation key.
    pub device_key: Key,
    /// The sub-CA's key: give its certificate, or the root's, to the verifier.
    pub ca_key: Key,
    /// The root's key.
    pub root_key: Key,
    /// Firmware in the attestation.
    pub firmware: [u8; 3],
    /// Firmware in the device's certificate.
    pub device_firmware: Option<[u8; 3]>,
    /// Serial in the attestation.
    pub serial: u64,
    /// Serial in the device's certificate.
    pub device_serial: u64,
    /// Origin bits.
    pub origin: u8,
    /// Domain bits.
    pub domains: u16,
    /// Capability bits.
    pub capabilities: u64,
    /// Object id.
    pub object_id: u64,
    /// Label.
    pub label: String,
    /// FIPS mark in the device's certificate.
    pub fips: Option<u64>,
    /// More extensions of the attestation: suffix under the arc, value.
    pub more: Vec<(String, Vec<u8>)>,
}

impl Default for YubiHsm2 {
    fn default() -> Self {
        Self {
            key: Key::named(Kind::P256, "yubihsm2 subject"),
            device_key: Key::named(Kind::Rsa2048, "yubihsm2 device"),
            ca_key: Key::named(Kind::Rsa2048, "yubihsm2 ca"),
            root_key: Key::named(Kind::Rsa2048, "yubihsm2 root"),
            firmware: [2, 4, 0],
            device_firmware: Some([2, 4, 0]),
            serial: 1234,
            device_serial: 1234,
            origin: 1,
            domains: 1,
            capabilities: 1 << 7,
            object_id: 7,
            label: "code signing".into(),
            fips: None,
            more: Vec::new(),
        }
    }
}

const CA: &str = "Test YubiHSM Sub-CA";
const ROOT: &str = "Test YubiHSM Root";

impl YubiHsm2 {
    /// The root's certificate.
    #[must_use]
    pub fn root(&self) -> Vec<u8> {
        root(ROOT, &self.root_key)
    }

    /// The sub-CA's certificate.
    #[must_use]
    pub fn ca(&self) -> Vec<u8> {
        let c = Certificate::new(cn(CA), &self.ca_key, cn(ROOT));
        c.ca(Some(1)).sign(&self.root_key)
    }

    fn device_name(&self) -> Vec<u8> {
        cn(&format!("YubiHSM Attestation ({})", self.device_serial))
    }

    /// The device's certificate.
    #[must_use]
    pub fn device(&self) -> Vec<u8> {
        let mut c = Certificate::new(self.device_name(), &self.device_key, cn(CA));
        if let Some(f) = self.device_firmware {
            c = c.with(&format!("{ARC}.1"), false, der::octets(&f));
        }
        if let Some(mark) = self.fips {
            c = c.with(&format!("{ARC}.10"), false, der::int(mark));
        }
        c.with(&format!("{ARC}.2"), false, der::int(self.device_serial))
            .ca(Some(0))
            .sign(&self.ca_key)
    }

    /// The attestation, before it is signed.
    #[must_use]
    pub fn leaf(&self) -> Certificate {
        let subject = cn(&format!("YubiHSM Attestation id:{:#06x}", self.object_id));
        let mut c = Certificate::new(subject, &self.key, self.device_name());
        c.serial = vec![0x5a; 16];
        let values = [
            ("1", der::octets(&self.firmware)),
            ("2", der::int(self.serial)),
            ("3", der::bits(&[self.origin])),
            ("4", der::bits(&self.domains.to_be_bytes())),
            ("5", der::bits(&self.capabilities.to_be_bytes())),
            ("6", der::int(self.object_id)),
            ("9", der::utf8(&self.label)),
        ];
        for (suffix, value) in values {
            c = c.with(&format!("{ARC}.{suffix}"), false, value);
        }
        for (suffix, value) in &self.more {
            c = c.with(&format!("{ARC}.{suffix}"), false, value.clone());
        }
        c
    }

    /// Attestation, device certificate, sub-CA.
    #[must_use]
    pub fn files(&self) -> Files {
        vec![self.leaf().sign(&self.device_key), self.device(), self.ca()]
    }

    /// A look-alike: a key inside the device that may sign attestations (or anything) attests
    /// another key, with its own attestation as the certificate above.
    #[must_use]
    pub fn look_alike(&self) -> Files {
        let inner = Key::named(Kind::Rsa2048, "yubihsm2 inner");
        let mut of_inner = self.clone();
        of_inner.key = inner.clone();
        of_inner.capabilities = 1 << 5 | 1 << 34;
        of_inner.object_id = 8;
        let inner_leaf = of_inner.leaf();
        let mut forged = self.leaf();
        forged.issuer = inner_leaf.subject.clone();
        vec![
            forged.sign(&inner),
            inner_leaf.sign(&self.device_key),
            self.device(),
            self.ca(),
        ]
    }
}
