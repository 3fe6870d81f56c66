//! `TPMT_SIGNATURE` (TPM 2.0 Library Part 2 §11.3.4).

use super::wire::Reader;
use super::{Tpm2Error, hash_from_id};
use crate::signature::Hash;

/// A `TPMT_SIGNATURE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature<'a> {
    /// The hash of what is signed.
    pub hash: Hash,
    /// Scheme and numbers.
    pub value: SignatureValue<'a>,
}

/// `TPMU_SIGNATURE`, as far as attestation keys use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureValue<'a> {
    /// 0x0014 `TPM_ALG_RSASSA`: RSASSA-PKCS1-v1_5.
    RsaSsa(&'a [u8]),
    /// 0x0016 `TPM_ALG_RSAPSS`.
    RsaPss(&'a [u8]),
    /// 0x0018 `TPM_ALG_ECDSA`: big-endian, as long as the TPM makes them.
    Ecdsa {
        /// r.
        r: &'a [u8],
        /// s.
        s: &'a [u8],
    },
}

impl<'a> Signature<'a> {
    /// Reads it.
    ///
    /// # Errors
    /// [`Tpm2Error`], naming the field.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Tpm2Error> {
        let mut r = Reader::new(bytes);
        let algorithm = r.u16("TPMT_SIGNATURE.sigAlg")?;
        let what = "TPMT_SIGNATURE.hash";
        let hash = hash_from_id(r.u16(what)?, what)?;
        let value = match algorithm {
            0x0014 => SignatureValue::RsaSsa(r.sized("TPMS_SIGNATURE_RSA.sig")?),
            0x0016 => SignatureValue::RsaPss(r.sized("TPMS_SIGNATURE_RSA.sig")?),
            0x0018 => SignatureValue::Ecdsa {
                r: r.sized("TPMS_SIGNATURE_ECC.signatureR")?,
                s: r.sized("TPMS_SIGNATURE_ECC.signatureS")?,
            },
            other => {
                return Err(Tpm2Error::Value {
                    what: "TPMT_SIGNATURE.sigAlg",
                    value: other.into(),
                });
            }
        };
        r.end("TPMT_SIGNATURE")?;
        Ok(Self { hash, value })
    }
}
