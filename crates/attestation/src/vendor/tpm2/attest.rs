//! `TPMS_ATTEST`: what the attestation key signs (TPM 2.0 Library Part 2 §10.12.12).

use super::Tpm2Error;
use super::wire::Reader;

/// `TPM_GENERATED_VALUE`: a restricted key signs data that starts with it only if the TPM made it
/// (Part 2 §6.2).
pub const MAGIC: [u8; 4] = [0xff, b'T', b'C', b'G'];

/// A `TPMS_ATTEST`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attest<'a> {
    /// The bytes as given: what is signed.
    pub bytes: &'a [u8],
    /// Qualified Name of the key that signed.
    pub qualified_signer: &'a [u8],
    /// `extraData`: what the caller had signed along, a nonce or a hash.
    pub extra_data: &'a [u8],
    /// Clock and counters.
    pub clock: Clock,
    /// The TPM's firmware version. Obfuscated for keys outside the endorsement and platform
    /// hierarchies (Part 1 §36.7), so no fact is made of it.
    pub firmware_version: u64,
    /// What is attested.
    pub attested: Attested<'a>,
}

/// `TPMS_CLOCK_INFO` (Part 2 §10.11.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// Milliseconds the TPM was powered.
    pub clock: u64,
    /// Times it was reset.
    pub reset_count: u32,
    /// Times it was restarted.
    pub restart_count: u32,
    /// Whether no larger clock value was ever reported.
    pub safe: bool,
}

/// `TPMU_ATTEST`, as far as keys are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attested<'a> {
    /// 0x8017 `TPM_ST_ATTEST_CERTIFY`: the key with this Name is loaded in the TPM.
    Certify {
        /// Its Name.
        name: &'a [u8],
        /// Its qualified Name.
        qualified_name: &'a [u8],
    },
    /// 0x801a `TPM_ST_ATTEST_CREATION`: the TPM made the key with this Name.
    Creation {
        /// Its Name.
        name: &'a [u8],
        /// Hash of the creation data.
        creation_hash: &'a [u8],
    },
    /// Another statement of a TPM, such as a quote (0x8018): nothing about a key.
    Other {
        /// Its `TPMI_ST_ATTEST`.
        tag: u16,
    },
}

impl<'a> Attest<'a> {
    /// Reads a `TPMS_ATTEST`, or a `TPM2B_ATTEST` around it.
    ///
    /// # Errors
    /// [`Tpm2Error`], naming the field.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Tpm2Error> {
        let bytes = super::wire::unsized_copy(bytes);
        let mut r = Reader::new(bytes);
        let magic = r.u32("TPMS_ATTEST.magic")?;
        if magic.to_be_bytes() != MAGIC {
            return Err(Tpm2Error::Value {
                what: "TPMS_ATTEST.magic",
                value: magic.into(),
            });
        }
        let tag = r.u16("TPMS_ATTEST.type")?;
        let qualified_signer = r.sized("TPMS_ATTEST.qualifiedSigner")?;
        let extra_data = r.sized("TPMS_ATTEST.extraData")?;
        let clock = Clock {
            clock: r.u64("TPMS_ATTEST.clockInfo.clock")?,
            reset_count: r.u32("TPMS_ATTEST.clockInfo.resetCount")?,
            restart_count: r.u32("TPMS_ATTEST.clockInfo.restartCount")?,
            safe: match r.u8("TPMS_ATTEST.clockInfo.safe")? {
                0 => false,
                1 => true,
                other => {
                    return Err(Tpm2Error::Value {
                        what: "TPMS_ATTEST.clockInfo.safe",
                        value: other.into(),
                    });
                }
            },
        };
        let firmware_version = r.u64("TPMS_ATTEST.firmwareVersion")?;
        let attested = match tag {
            0x8017 => Attested::Certify {
                name: r.sized("TPMS_CERTIFY_INFO.name")?,
                qualified_name: r.sized("TPMS_CERTIFY_INFO.qualifiedName")?,
            },
            0x801a => Attested::Creation {
                name: r.sized("TPMS_CREATION_INFO.objectName")?,
                creation_hash: r.sized("TPMS_CREATION_INFO.creationHash")?,
            },
            // TPM_ST_ATTEST_NV, _COMMAND_AUDIT, _SESSION_AUDIT, _QUOTE, _TIME, _NV_DIGEST
            // (Part 2 §6.9): a TPM's word, but none about a key. Their bodies are not read.
            0x8014..=0x8016 | 0x8018 | 0x8019 | 0x801c => {
                return Ok(Self {
                    bytes,
                    qualified_signer,
                    extra_data,
                    clock,
                    firmware_version,
                    attested: Attested::Other { tag },
                });
            }
            other => {
                return Err(Tpm2Error::Value {
                    what: "TPMS_ATTEST.type",
                    value: other.into(),
                });
            }
        };
        r.end("TPMS_ATTEST")?;
        Ok(Self {
            bytes,
            qualified_signer,
            extra_data,
            clock,
            firmware_version,
            attested,
        })
    }

    /// The Name of the key it is about, if it is about a key.
    #[must_use]
    pub const fn name(&self) -> Option<&'a [u8]> {
        match self.attested {
            Attested::Certify { name, .. } | Attested::Creation { name, .. } => Some(name),
            Attested::Other { .. } => None,
        }
    }
}
