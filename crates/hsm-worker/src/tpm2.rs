//! A TPM's own word on a key: its public area, which tpm2-pkcs11 shows beside the PKCS#11 attributes.
//!
//! The attributes alone do not tell: with some templates the module makes a key that can be
//! duplicated, or that decrypts too, and still says otherwise. TPMA_OBJECT is TCG TPM 2.0 Library
//! part 2 §8.3; the vendor attribute is the module's `CKA_TPM2_PUB_BLOB`.

use crate::errors::module_error;
use countersign_core::facts::ReadBack;
use countersign_hsm_protocol::WorkerError;
use cryptoki::object::{Attribute, AttributeType, ObjectHandle};
use cryptoki::session::Session;

/// TPM2B_PUBLIC of the object.
const CKA_TPM2_PUB_BLOB: u64 = 0x8F00_0002;
/// Whether a key of these TPMA_OBJECT stays in its TPM, was made in it, and signs alone.
#[must_use]
pub const fn fixed_and_sign_only(attributes: u32) -> bool {
    attributes & MUST == MUST && attributes & MUST_NOT == 0
}

/// fixedTPM, fixedParent, sensitiveDataOrigin, sign.
const MUST: u32 = 0x0004_0032;
/// restricted, decrypt.
const MUST_NOT: u32 = 0x0003_0000;

/// Reads TPMA_OBJECT of a key and judges it.
///
/// # Errors
/// [`WorkerError::AttributeMismatch`] if the key could leave the TPM, was not made in it, or does more
/// than sign; or the module's.
pub fn read_back(session: &Session, private: ObjectHandle) -> Result<ReadBack, WorkerError> {
    let found = session
        .get_attributes(private, &[AttributeType::VendorDefined(CKA_TPM2_PUB_BLOB)])
        .map_err(|e| module_error(&e))?;
    let attributes = found.into_iter().find_map(|a| match a {
        Attribute::VendorDefined((_, blob)) => object_attributes(&blob),
        _ => None,
    });
    let fact = ReadBack {
        attribute: "TPMA_OBJECT".into(),
        wanted: "fixedTPM fixedParent sensitiveDataOrigin sign, not restricted, not decrypt".into(),
        seen: attributes.map_or_else(|| "unsupported".into(), |a| format!("{a:08x}")),
        required: true,
    };
    match attributes {
        Some(a) if fixed_and_sign_only(a) => Ok(fact),
        _ => Err(WorkerError::AttributeMismatch {
            attribute: fact.attribute,
            wanted: fact.wanted,
            seen: fact.seen,
        }),
    }
}

/// TPM2B_PUBLIC: size, TPMT_PUBLIC: type, nameAlg, objectAttributes (part 2 §12.2.4).
fn object_attributes(blob: &[u8]) -> Option<u32> {
    let (size, rest) = blob.split_first_chunk::<2>()?;
    if usize::from(u16::from_be_bytes(*size)) != rest.len() {
        return None;
    }
    rest.get(4..8)
        .and_then(|b| b.try_into().ok())
        .map(u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_from_the_public_area() {
        let blob = [0, 10, 0, 0x23, 0, 0x0b, 0, 4, 0, 0x72, 0, 0];
        assert_eq!(object_attributes(&blob), Some(0x0004_0072));
        assert_eq!(object_attributes(&blob[..11]), None);
        assert_eq!(object_attributes(&[]), None);
    }

    #[test]
    fn only_a_fixed_sign_only_key_will_do() {
        let good = fixed_and_sign_only;
        assert!(good(0x0004_0072));
        // Sign and decrypt; can be duplicated; restricted.
        for bad in [0x0006_0072, 0x0004_0060, 0x0005_0072] {
            assert!(!good(bad), "{bad:08x}");
        }
    }
}
