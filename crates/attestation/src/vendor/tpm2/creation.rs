//! `TPMS_CREATION_DATA` (TPM 2.0 Library Part 2 §15.1).

use super::Tpm2Error;
use super::wire::Reader;

/// Most PCR banks in a selection (`TPM2_NUM_PCR_BANKS`, `HASH_COUNT`).
const MAX_BANKS: u32 = 16;

/// Where and when a key was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreationData<'a> {
    /// The bytes as given: what `creationHash` is over.
    pub bytes: &'a [u8],
    /// Digest of the selected PCRs.
    pub pcr_digest: &'a [u8],
    /// Locality of the caller.
    pub locality: u8,
    /// Hash algorithm of the parent's Name; `TPM_ALG_NULL` for a primary key.
    pub parent_name_alg: u16,
    /// The parent's Name.
    pub parent_name: &'a [u8],
    /// The parent's qualified Name.
    pub parent_qualified_name: &'a [u8],
    /// What the caller added.
    pub outside_info: &'a [u8],
}

impl<'a> CreationData<'a> {
    /// Reads it, or a `TPM2B_CREATION_DATA` around it.
    ///
    /// # Errors
    /// [`Tpm2Error`], naming the field.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Tpm2Error> {
        let bytes = super::wire::unsized_copy(bytes);
        let mut r = Reader::new(bytes);
        let what = "TPMS_CREATION_DATA.pcrSelect";
        let banks = r.u32(what)?;
        if banks > MAX_BANKS {
            return Err(Tpm2Error::Value {
                what,
                value: banks.into(),
            });
        }
        for _ in 0..banks {
            r.u16(what)?;
            let size = r.u8(what)?;
            r.take(usize::from(size), what)?;
        }
        let data = Self {
            bytes,
            pcr_digest: r.sized("TPMS_CREATION_DATA.pcrDigest")?,
            locality: r.u8("TPMS_CREATION_DATA.locality")?,
            parent_name_alg: r.u16("TPMS_CREATION_DATA.parentNameAlg")?,
            parent_name: r.sized("TPMS_CREATION_DATA.parentName")?,
            parent_qualified_name: r.sized("TPMS_CREATION_DATA.parentQualifiedName")?,
            outside_info: r.sized("TPMS_CREATION_DATA.outsideInfo")?,
        };
        r.end("TPMS_CREATION_DATA")?;
        // A digest of the PCRs is always there, of a hash this crate knows; it keeps arbitrary
        // bytes from being taken for creation data.
        if !matches!(data.pcr_digest.len(), 0 | 20 | 32 | 48 | 64) {
            return Err(Tpm2Error::Value {
                what: "TPMS_CREATION_DATA.pcrDigest",
                value: data.pcr_digest.len() as u64,
            });
        }
        Ok(data)
    }
}
