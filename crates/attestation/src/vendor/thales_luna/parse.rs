//! What a Luna HSM writes into the certificates of a public key confirmation. Bytes to values, no
//! judgement.
//!
//! Thales's arc is 1.3.6.1.4.1.12383 (of Chrysalis-ITS): `.1.n` are extended key usages that name a
//! certificate's place, `.2.n` are extensions with raw bytes inside `extnValue`.

use crate::certificate::Certificate;
use crate::der::DerError;
use crate::oid::Oid;

/// 1.3.6.1.4.1.12383, content octets.
const ARC: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0xe0, 0x5f];

/// Of `ARC`: extended key usages.
const USAGES: u8 = 1;
/// Of `ARC`: extensions.
const EXTENSIONS: u8 = 2;

/// What a certificate of a confirmation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// 12383.1.1, the root of RSA confirmations.
    Root,
    /// 12383.1.7, signs hardware origin certificates.
    ManufacturingIntegrity,
    /// 12383.1.8, one HSM.
    HardwareOrigin,
    /// 12383.1.12, one HSM's signer of confirmations.
    DeviceAuthentication,
    /// 12383.1.13, over the key.
    ProofOfOrigin,
    /// 12383.1.14, the root of EC confirmations.
    EccRoot,
    /// 12383.1.15, one HSM, its signer of EC confirmations.
    EccHardwareOrigin,
}

impl Purpose {
    const fn from_arc(n: u8) -> Option<Self> {
        match n {
            1 => Some(Self::Root),
            7 => Some(Self::ManufacturingIntegrity),
            8 => Some(Self::HardwareOrigin),
            12 => Some(Self::DeviceAuthentication),
            13 => Some(Self::ProofOfOrigin),
            14 => Some(Self::EccRoot),
            15 => Some(Self::EccHardwareOrigin),
            _ => None,
        }
    }

    /// The last arc of its object identifier.
    #[must_use]
    pub const fn arc(self) -> u8 {
        match self {
            Self::Root => 1,
            Self::ManufacturingIntegrity => 7,
            Self::HardwareOrigin => 8,
            Self::DeviceAuthentication => 12,
            Self::ProofOfOrigin => 13,
            Self::EccRoot => 14,
            Self::EccHardwareOrigin => 15,
        }
    }
}

/// The extended key usages of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Usages {
    /// There is no such extension.
    Absent,
    /// Exactly one, and a known one of Thales.
    One(Purpose),
    /// Anything else.
    Other(Vec<Oid>),
}

impl Usages {
    /// Reads them.
    ///
    /// # Errors
    /// [`DerError`] if the extension is malformed.
    pub fn of(certificate: &Certificate) -> Result<Self, DerError> {
        let all = certificate.extended_key_usages()?;
        Ok(match all.as_slice() {
            [] => Self::Absent,
            [one] => match one.content().strip_prefix(ARC) {
                Some([USAGES, n]) => {
                    Purpose::from_arc(*n).map_or_else(|| Self::Other(all.clone()), Self::One)
                }
                _ => Self::Other(all),
            },
            _ => Self::Other(all),
        })
    }

    /// In words.
    #[must_use]
    pub fn seen(&self) -> String {
        match self {
            Self::Absent => "no extended key usage".to_owned(),
            Self::One(p) => format!("extended key usage 1.3.6.1.4.1.12383.1.{}", p.arc()),
            Self::Other(all) => {
                let all: Vec<_> = all.iter().map(ToString::to_string).collect();
                format!("extended key usages {}", all.join(", "))
            }
        }
    }
}

/// What a certificate says in Thales's extensions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Statement {
    /// `.2.1`: the HSM's serial number, four bytes, little-endian.
    pub serial: Option<u32>,
    /// `.2.3`: the firmware, as bytes. The maker prints the third and the first in decimal.
    pub firmware: Option<Vec<u8>>,
    /// `.2.5`, on the leaf: bits that no public documentation explains.
    pub key_bits: Option<Vec<u8>>,
    /// `.2.4`, `.2.6` and `.2.7`: numbers that no public documentation explains.
    pub unexplained: Vec<(Oid, Vec<u8>)>,
    /// Extensions of the arc that have not been seen.
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
            let suffix = match e.oid.content().strip_prefix(ARC) {
                Some([EXTENSIONS, suffix @ ..]) => suffix,
                _ => continue,
            };
            match suffix {
                [1] => {
                    let bytes = <[u8; 4]>::try_from(e.value.as_slice())
                        .map_err(|_| DerError::value("serial", "is not four bytes"))?;
                    out.serial = Some(u32::from_le_bytes(bytes));
                }
                [3] => out.firmware = Some(e.value.clone()),
                [5] => out.key_bits = Some(e.value.clone()),
                [4 | 6 | 7] => out.unexplained.push((e.oid.clone(), e.value.clone())),
                _ => out.unknown.push(e.oid.clone()),
            }
        }
        Ok(out)
    }
}

/// The serial number that the name of a device's certificate ends in: `Luna K7-521174`, or the
/// number alone.
#[must_use]
pub fn serial_in_name(certificate: &Certificate) -> Option<u32> {
    let name = certificate.subject().common_name()?;
    let digits = name.rsplit('-').next()?.trim();
    digits.parse().ok()
}

/// Whether anything of Thales's arc stands in `certificate`.
#[must_use]
pub fn is_ours(certificate: &Certificate) -> bool {
    let usages = certificate.extended_key_usages().unwrap_or_default();
    let extensions = certificate.extensions().iter().map(|e| &e.oid);
    usages
        .iter()
        .chain(extensions)
        .any(|o| o.content().starts_with(ARC))
}
