//! Reads what YubiHSM 2 certificates say. All extension values are DER; the certificate carries
//! them under 1.3.6.1.4.1.41482.4.

use crate::certificate::Certificate;
use crate::der::{DerError, single, tag};
use crate::oid::Oid;
use spki::ObjectIdentifier;

macro_rules! arc {
    ($n:literal) => {
        ObjectIdentifier::new_unwrap(concat!("1.3.6.1.4.1.41482.4.", $n))
    };
}

const FIRMWARE: ObjectIdentifier = arc!("1");
const SERIAL: ObjectIdentifier = arc!("2");
pub(super) const ORIGIN: ObjectIdentifier = arc!("3");
const DOMAINS: ObjectIdentifier = arc!("4");
const CAPABILITIES: ObjectIdentifier = arc!("5");
const OBJECT_ID: ObjectIdentifier = arc!("6");
const LABEL: ObjectIdentifier = arc!("9");
const FIPS: ObjectIdentifier = arc!("10");

/// Extensions an attestation may have. Another one may mean anything.
const OF_LEAF: [ObjectIdentifier; 7] = [
    FIRMWARE,
    SERIAL,
    ORIGIN,
    DOMAINS,
    CAPABILITIES,
    OBJECT_ID,
    LABEL,
];

/// A firmware version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Firmware(pub u8, pub u8, pub u8);

impl std::fmt::Display for Firmware {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// What an attestation says of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attestation {
    /// The firmware.
    pub firmware: Firmware,
    /// The device.
    pub serial: u64,
    /// Where the key comes from: bit 0 generated, bit 1 imported, bit 4 imported under wrap.
    pub origin: u8,
    /// Bit n: domain n+1.
    pub domains: u16,
    /// Bit n: capability n.
    pub capabilities: u64,
    /// The object's number in the device.
    pub object_id: u64,
    /// The object's label.
    pub label: String,
    /// Extensions that are not known.
    pub unknown: Vec<Oid>,
}

/// What a device's own certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The device.
    pub serial: u64,
    /// The firmware it left the factory with; missing on the oldest.
    pub firmware: Option<Firmware>,
    /// The mark of a FIPS model.
    pub fips: Option<u64>,
}

/// Whether a certificate is an attestation of a key.
#[must_use]
pub fn is_attestation(c: &Certificate) -> bool {
    c.extension(ORIGIN).is_some()
}

/// Whether a certificate is a device's own.
#[must_use]
pub fn is_device(c: &Certificate) -> bool {
    c.extension(SERIAL).is_some() && !is_attestation(c)
}

impl Attestation {
    /// Reads an attestation's extensions.
    ///
    /// # Errors
    /// [`DerError`] if one is missing or malformed.
    pub fn read(c: &Certificate) -> Result<Self, DerError> {
        Ok(Self {
            firmware: firmware(need(c, FIRMWARE, "firmware")?)?,
            serial: single(need(c, SERIAL, "serial")?, "serial")?.small("serial")?,
            origin: match bits(need(c, ORIGIN, "origin")?, "origin")? {
                [b] => *b,
                _ => return Err(DerError::value("origin", "is not one byte")),
            },
            domains: match bits(need(c, DOMAINS, "domains")?, "domains")? {
                [a, b] => u16::from_be_bytes([*a, *b]),
                _ => return Err(DerError::value("domains", "are not two bytes")),
            },
            capabilities: {
                // Big-endian: capability n is 1 << n of the whole number.
                let bytes = bits(need(c, CAPABILITIES, "capabilities")?, "capabilities")?;
                let bytes = <[u8; 8]>::try_from(bytes)
                    .map_err(|_| DerError::value("capabilities", "are not eight bytes"))?;
                u64::from_be_bytes(bytes)
            },
            object_id: single(need(c, OBJECT_ID, "object id")?, "object id")?.small("object id")?,
            label: match c.extension(LABEL) {
                // 40 bytes that the owner chose; a device does not check that they are text.
                Some(v) => {
                    let label = single(v, "label")?.tagged(tag::UTF8_STRING, "label")?;
                    String::from_utf8_lossy(label.content()).into_owned()
                }
                None => String::new(),
            },
            unknown: c
                .extensions()
                .iter()
                .filter(|e| !OF_LEAF.iter().any(|known| e.oid == *known))
                .map(|e| e.oid.clone())
                .collect(),
        })
    }
}

impl Device {
    /// Reads a device certificate's extensions.
    ///
    /// # Errors
    /// [`DerError`] if one is missing or malformed.
    pub fn read(c: &Certificate) -> Result<Self, DerError> {
        Ok(Self {
            serial: single(need(c, SERIAL, "serial")?, "serial")?.small("serial")?,
            firmware: c.extension(FIRMWARE).map(firmware).transpose()?,
            fips: match c.extension(FIPS) {
                Some(v) => Some(single(v, "FIPS mark")?.small("FIPS mark")?),
                None => None,
            },
        })
    }
}

fn need<'c>(
    c: &'c Certificate,
    oid: ObjectIdentifier,
    field: &'static str,
) -> Result<&'c [u8], DerError> {
    c.extension(oid).ok_or(DerError::value(field, "is missing"))
}

fn bits<'c>(value: &'c [u8], field: &'static str) -> Result<&'c [u8], DerError> {
    single(value, field)?.whole_bits(field)
}

fn firmware(value: &[u8]) -> Result<Firmware, DerError> {
    match single(value, "firmware")?.octets("firmware")? {
        [a, b, c] => Ok(Firmware(*a, *b, *c)),
        _ => Err(DerError::value("firmware", "is not three bytes")),
    }
}

/// Names of the capabilities, by number.
pub const CAPABILITY_NAMES: [&str; 56] = [
    "get-opaque",
    "put-opaque",
    "put-authentication-key",
    "put-asymmetric-key",
    "generate-asymmetric-key",
    "sign-pkcs",
    "sign-pss",
    "sign-ecdsa",
    "sign-eddsa",
    "decrypt-pkcs",
    "decrypt-oaep",
    "derive-ecdh",
    "export-wrapped",
    "import-wrapped",
    "put-wrap-key",
    "generate-wrap-key",
    "exportable-under-wrap",
    "set-option",
    "get-option",
    "get-pseudo-random",
    "put-mac-key",
    "generate-hmac-key",
    "sign-hmac",
    "verify-hmac",
    "get-log-entries",
    "sign-ssh-certificate",
    "get-template",
    "put-template",
    "reset-device",
    "decrypt-otp",
    "create-otp-aead",
    "randomize-otp-aead",
    "rewrap-from-otp-aead-key",
    "rewrap-to-otp-aead-key",
    "sign-attestation-certificate",
    "put-otp-aead-key",
    "generate-otp-aead-key",
    "wrap-data",
    "unwrap-data",
    "delete-opaque",
    "delete-authentication-key",
    "delete-asymmetric-key",
    "delete-wrap-key",
    "delete-hmac-key",
    "delete-template",
    "delete-otp-aead-key",
    "change-authentication-key",
    "put-symmetric-key",
    "generate-symmetric-key",
    "delete-symmetric-key",
    "decrypt-ecb",
    "encrypt-ecb",
    "decrypt-cbc",
    "encrypt-cbc",
    "put-public-wrap-key",
    "delete-public-wrap-key",
];

/// The names of the capabilities set; unknown ones by number.
#[must_use]
pub fn capability_names(set: u64) -> String {
    let names: Vec<String> = (0..64usize)
        .filter(|n| set >> n & 1 == 1)
        .map(|n| {
            let name = CAPABILITY_NAMES.get(n);
            name.map_or_else(|| format!("unknown capability {n}"), |s| (*s).to_owned())
        })
        .collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}
