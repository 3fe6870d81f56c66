//! What a YubiKey writes into the certificates of a PIV attestation. Bytes to values, no judgement.
//!
//! The extensions stand in Yubico's arc 1.3.6.1.4.1.41482.3. Unlike those of the YubiHSM, most hold
//! raw bytes inside `extnValue`, not DER; serial and the FIPS and CSPN marks are DER INTEGERs.

use crate::certificate::Certificate;
use crate::der::{DerError, expect, tag};
use crate::oid::Oid;
use std::fmt;

/// 1.3.6.1.4.1.41482.3, content octets.
const ARC: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0xc4, 0x0a, 0x03];

const FIRMWARE: u8 = 3;
const SERIAL: u8 = 7;
const POLICY: u8 = 8;
const FORM_FACTOR: u8 = 9;
const FIPS: u8 = 10;
const CSPN: u8 = 11;

/// A firmware version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Firmware(pub u8, pub u8, pub u8);

impl fmt::Display for Firmware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// When the device wants a PIN before it uses the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PinPolicy {
    /// Never.
    Never,
    /// Once a session.
    Once,
    /// Each time.
    Always,
    /// Once a session, PIN or fingerprint.
    MatchOnce,
    /// Each time, PIN or fingerprint.
    MatchAlways,
    /// A number that no documentation explains.
    Other(u8),
}

/// When the device wants to be touched before it uses the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TouchPolicy {
    /// Never.
    Never,
    /// Each time.
    Always,
    /// Once in 15 seconds.
    Cached,
    /// A number that no documentation explains.
    Other(u8),
}

impl PinPolicy {
    const fn from_byte(b: u8) -> Self {
        match b {
            1 => Self::Never,
            2 => Self::Once,
            3 => Self::Always,
            4 => Self::MatchOnce,
            5 => Self::MatchAlways,
            other => Self::Other(other),
        }
    }
}

impl TouchPolicy {
    const fn from_byte(b: u8) -> Self {
        match b {
            1 => Self::Never,
            2 => Self::Always,
            3 => Self::Cached,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for PinPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.write_str("never"),
            Self::Once => f.write_str("once"),
            Self::Always => f.write_str("always"),
            Self::MatchOnce => f.write_str("match-once"),
            Self::MatchAlways => f.write_str("match-always"),
            Self::Other(b) => write!(f, "unknown ({b:#04x})"),
        }
    }
}

impl fmt::Display for TouchPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.write_str("never"),
            Self::Always => f.write_str("always"),
            Self::Cached => f.write_str("cached"),
            Self::Other(b) => write!(f, "unknown ({b:#04x})"),
        }
    }
}

/// The shape of the device and its series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FormFactor(pub u8);

impl FormFactor {
    /// Whether it is sold as FIPS series. A product line, not a mode.
    #[must_use]
    pub const fn is_fips_series(self) -> bool {
        self.0 & 0x80 != 0
    }
}

impl fmt::Display for FormFactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shape = match self.0 & 0x3f {
            1 => "USB-A keychain",
            2 => "USB-A nano",
            3 => "USB-C keychain",
            4 => "USB-C nano",
            5 => "USB-C and Lightning",
            6 => "USB-A bio",
            7 => "USB-C bio",
            _ => "unknown",
        };
        write!(f, "{shape} ({:#04x})", self.0)?;
        if self.is_fips_series() {
            f.write_str(", FIPS series")?;
        }
        if self.0 & 0x40 != 0 {
            f.write_str(", security-key series")?;
        }
        Ok(())
    }
}

/// What a certificate of a PIV attestation says in Yubico's extensions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Statement {
    /// Firmware. On the leaf it is the device's now; on f9 it may be lower.
    pub firmware: Option<Firmware>,
    /// The device's serial number. Some YubiKey 4 leave it out.
    pub serial: Option<u64>,
    /// PIN and touch policy of the key.
    pub policy: Option<(PinPolicy, TouchPolicy)>,
    /// Form factor and series. YubiKey 4 leave it out.
    pub form_factor: Option<FormFactor>,
    /// On f9: the FIPS mark.
    pub fips: Option<u64>,
    /// On f9: the CSPN mark.
    pub cspn: Option<u64>,
    /// Extensions of the arc that are not known.
    pub unknown: Vec<Oid>,
}

impl Statement {
    /// Reads the extensions of the arc.
    ///
    /// # Errors
    /// [`DerError`] if a known one does not hold what it should.
    pub fn of(certificate: &Certificate) -> Result<Self, DerError> {
        let mut out = Self::default();
        for e in certificate.extensions() {
            let Some(suffix) = e.oid.content().strip_prefix(ARC) else {
                continue;
            };
            let value = e.value.as_slice();
            match suffix {
                [FIRMWARE] => match raw(value, 3) {
                    Some([major, minor, patch]) => {
                        out.firmware = Some(Firmware(*major, *minor, *patch));
                    }
                    _ => return Err(DerError::value("firmware", "is not three bytes")),
                },
                [SERIAL] => out.serial = Some(integer(value, "serial")?),
                [POLICY] => match raw(value, 2) {
                    Some([pin, touch]) => {
                        out.policy =
                            Some((PinPolicy::from_byte(*pin), TouchPolicy::from_byte(*touch)));
                    }
                    _ => return Err(DerError::value("policy", "is not two bytes")),
                },
                [FORM_FACTOR] => match raw(value, 1) {
                    Some([b]) => out.form_factor = Some(FormFactor(*b)),
                    _ => return Err(DerError::value("form factor", "is not one byte")),
                },
                [FIPS] => out.fips = Some(integer(value, "FIPS mark")?),
                [CSPN] => out.cspn = Some(integer(value, "CSPN mark")?),
                _ => out.unknown.push(e.oid.clone()),
            }
        }
        Ok(out)
    }
}

/// `length` raw bytes. One implementer reports them wrapped in an OCTET STRING on some firmware
/// 5.7.4; that is two bytes longer, so the two forms cannot be confused.
fn raw(value: &[u8], length: usize) -> Option<&[u8]> {
    if value.len() == length {
        return Some(value);
    }
    let inner = expect(value, tag::OCTET_STRING, "extnValue").ok()?;
    (inner.content().len() == length).then_some(inner.content())
}

fn integer(value: &[u8], field: &'static str) -> Result<u64, DerError> {
    expect(value, tag::INTEGER, field)?.small(field)
}

/// A PIV slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot(u8);

impl Slot {
    /// Whether it is one of the slots whose keys can be attested: 9a, 9c, 9d, 9e and the retired
    /// slots 82 to 95 (NIST SP 800-73-4 part 1 table 4b).
    #[must_use]
    pub const fn is_known(self) -> bool {
        matches!(self.0, 0x9a | 0x9c..=0x9e | 0x82..=0x95)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}", self.0)
    }
}

/// What a certificate is, by its own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Over a key in a slot. `None` where the subject does not name one.
    Slot(Option<Slot>),
    /// The device's signer of attestations.
    Signer,
}

/// The subject of an attestation, before the slot.
const SLOT_SUBJECT: &str = "YubiKey PIV Attestation ";

/// What the certificate in f9 is called: the second from some firmware 5.7.4 on.
const SIGNER_SUBJECTS: [&str; 2] = ["Yubico PIV Attestation", "YubiKey PIV Attestation"];

/// The slot that a subject names.
fn slot(certificate: &Certificate) -> Option<Slot> {
    let name = certificate.subject().common_name()?;
    let hex = name.strip_prefix(SLOT_SUBJECT)?;
    match hex::decode(hex).ok()?.as_slice() {
        [b] => Some(Slot(*b)),
        _ => None,
    }
}

/// What `certificate` claims to be in a PIV attestation; `None` if it is none of it.
#[must_use]
pub fn kind(certificate: &Certificate) -> Option<Kind> {
    let has = |last: u8| {
        certificate
            .extensions()
            .iter()
            .any(|e| e.oid.content().strip_prefix(ARC) == Some(&[last]))
    };
    let name = certificate.subject().common_name();
    let slot = slot(certificate);
    // Serial, policies and form factor are of a slot's certificate alone.
    if slot.is_some() || has(SERIAL) || has(POLICY) || has(FORM_FACTOR) {
        Some(Kind::Slot(slot))
    } else if name.is_some_and(|n| SIGNER_SUBJECTS.contains(&n))
        || has(FIRMWARE)
        || has(FIPS)
        || has(CSPN)
    {
        Some(Kind::Signer)
    } else {
        None
    }
}

/// Whether the subject is one that Yubico gives the certificate in f9.
#[must_use]
pub fn is_signer_subject(certificate: &Certificate) -> bool {
    let name = certificate.subject().common_name();
    name.is_some_and(|n| SIGNER_SUBJECTS.contains(&n))
}
