//! The attributes of a key object: numbers of PKCS#11 and of the maker.

use super::blob::Object;
use crate::key::{Curve, PublicKey};

pub(crate) const CLASS: u32 = 0x0000;
pub(crate) const KEY_TYPE: u32 = 0x0100;
pub(crate) const ID: u32 = 0x0102;
pub(crate) const SENSITIVE: u32 = 0x0103;
pub(crate) const ENCRYPT: u32 = 0x0104;
pub(crate) const DECRYPT: u32 = 0x0105;
pub(crate) const WRAP: u32 = 0x0106;
pub(crate) const UNWRAP: u32 = 0x0107;
pub(crate) const SIGN: u32 = 0x0108;
pub(crate) const DERIVE: u32 = 0x010c;
pub(crate) const MODULUS: u32 = 0x0120;
pub(crate) const MODULUS_BITS: u32 = 0x0121;
pub(crate) const PUBLIC_EXPONENT: u32 = 0x0122;
pub(crate) const EXTRACTABLE: u32 = 0x0162;
pub(crate) const LOCAL: u32 = 0x0163;
pub(crate) const NEVER_EXTRACTABLE: u32 = 0x0164;
pub(crate) const ALWAYS_SENSITIVE: u32 = 0x0165;
pub(crate) const EXTENDED_1: u32 = 0x1000;
/// SHA-256 of the SubjectPublicKeyInfo.
pub(crate) const EKCV: u32 = 0x1003;
/// The key may be cut into parts that leave the card.
pub(crate) const SPLITTABLE: u32 = 0x8000_0002;
/// The key is such a part.
pub(crate) const IS_SPLIT: u32 = 0x8000_0003;

pub(crate) const CLASS_PUBLIC: u64 = 2;
pub(crate) const CLASS_PRIVATE: u64 = 3;
const KEY_TYPE_RSA: u64 = 0;
const KEY_TYPE_EC: u64 = 3;

/// Numbers of OpenSSL, which the card gives for curves in the place of a modulus' bits.
const CURVES: [(u64, Curve); 4] = [
    (415, Curve::P256),
    (714, Curve::Secp256k1),
    (715, Curve::P384),
    (716, Curve::P521),
];

/// Every attribute whose meaning is known, and its name.
const NAMES: &[(u32, &str)] = &[
    (CLASS, "CLASS"),
    (0x0001, "TOKEN"),
    (0x0002, "PRIVATE"),
    (0x0003, "LABEL"),
    (0x0086, "TRUSTED"),
    (KEY_TYPE, "KEY_TYPE"),
    (ID, "ID"),
    (SENSITIVE, "SENSITIVE"),
    (ENCRYPT, "ENCRYPT"),
    (DECRYPT, "DECRYPT"),
    (WRAP, "WRAP"),
    (UNWRAP, "UNWRAP"),
    (SIGN, "SIGN"),
    (0x010a, "VERIFY"),
    (DERIVE, "DERIVE"),
    (MODULUS, "MODULUS"),
    (MODULUS_BITS, "MODULUS_BITS"),
    (PUBLIC_EXPONENT, "PUBLIC_EXPONENT"),
    (0x0161, "VALUE_LEN"),
    (EXTRACTABLE, "EXTRACTABLE"),
    (LOCAL, "LOCAL"),
    (NEVER_EXTRACTABLE, "NEVER_EXTRACTABLE"),
    (ALWAYS_SENSITIVE, "ALWAYS_SENSITIVE"),
    // PKCS#11: whether attributes may be changed, and whether the object may be destroyed. Neither
    // lets EXTRACTABLE become true again.
    (0x0170, "MODIFIABLE"),
    (0x0172, "DESTROYABLE"),
    (0x0173, "KCV"),
    (0x0210, "WRAP_WITH_TRUSTED"),
    (EXTENDED_1, "EXTENDED_1"),
    (EKCV, "EKCV"),
    (SPLITTABLE, "SPLITTABLE"),
    (IS_SPLIT, "IS_SPLIT"),
    (0x8000_0174, "ENCRYPT_KEY_MECHANISMS"),
    (0x8000_0175, "DECRYPT_KEY_MECHANISMS"),
    (0x8000_0176, "SIGN_KEY_MECHANISMS"),
    (0x8000_0177, "VERIFY_KEY_MECHANISMS"),
    (0x8000_0178, "WRAP_KEY_MECHANISMS"),
    (0x8000_0179, "UNWRAP_KEY_MECHANISMS"),
    (0x8000_0180, "DERIVE_KEY_MECHANISMS"),
];

/// The attribute's name, if its meaning is known.
pub(crate) fn name(kind: u32) -> Option<&'static str> {
    NAMES.iter().find(|(k, _)| *k == kind).map(|(_, n)| *n)
}

impl<'a> Object<'a> {
    /// The bytes of an attribute.
    pub(crate) fn bytes(&self, kind: u32) -> Option<&'a [u8]> {
        self.attributes.get(&kind).copied()
    }

    /// A big-endian number of up to eight bytes.
    pub(crate) fn number(&self, kind: u32) -> Option<u64> {
        let bytes = self.bytes(kind).filter(|b| (1..=8).contains(&b.len()))?;
        Some(bytes.iter().fold(0, |n, b| n << 8 | u64::from(*b)))
    }

    /// A boolean of one byte; `None` if it is missing or neither 0 nor 1.
    pub(crate) fn flag(&self, kind: u32) -> Option<bool> {
        match self.bytes(kind)? {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }

    /// The public key whose numbers stand in the object; `None` if they do not all stand here.
    pub(crate) fn material(&self) -> Option<Result<PublicKey, String>> {
        let modulus = self.bytes(MODULUS)?;
        let key = match self.number(KEY_TYPE) {
            Some(KEY_TYPE_RSA) => PublicKey::from_rsa_parts(modulus, self.bytes(PUBLIC_EXPONENT)?),
            Some(KEY_TYPE_EC) => {
                let id = self.number(MODULUS_BITS)?;
                match CURVES.iter().find(|(n, _)| *n == id) {
                    Some((_, curve)) => PublicKey::from_point(*curve, modulus),
                    None => return Some(Err(format!("curve {id} is not known"))),
                }
            }
            other => return Some(Err(format!("KEY_TYPE is {other:?}"))),
        };
        Some(key.map_err(|e| e.to_string()))
    }
}
