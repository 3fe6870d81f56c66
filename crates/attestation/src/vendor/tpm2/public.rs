//! `TPMT_PUBLIC`: a key's public area (TPM 2.0 Library Part 2 §12.2.4).

use super::wire::Reader;
use super::{Tpm2Error, hash_from_id};
use crate::key::{Curve, KeyError, PublicKey};
use crate::signature::Hash;

/// `TPM_ALG_NULL`.
const NULL: u16 = 0x0010;

/// A public area.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Public<'a> {
    /// The bytes as given, without a size in front: what the Name is over.
    pub bytes: &'a [u8],
    /// Algorithm of the Name.
    pub name_alg: Hash,
    /// Attributes.
    pub attributes: Attributes,
    /// Digest of the policy that authorises use.
    pub auth_policy: &'a [u8],
    /// What scheme the key is tied to, if any.
    pub scheme: Scheme,
    /// Whether a symmetric algorithm is given: so for storage keys (parents) alone.
    pub has_symmetric: bool,
    /// The key.
    pub key: PublicId<'a>,
}

/// The key itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublicId<'a> {
    /// RSA.
    Rsa {
        /// Size the TPM states.
        bits: u16,
        /// Exponent; the TPM writes 0 for 65537.
        exponent: u32,
        /// Modulus, big-endian.
        n: &'a [u8],
    },
    /// Elliptic curve.
    Ecc {
        /// Which one.
        curve: Curve,
        /// x, big-endian.
        x: &'a [u8],
        /// y.
        y: &'a [u8],
    },
}

/// `TPMT_ASYM_SCHEME`: what a key may be used with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Chosen at use.
    Null,
    /// A signing scheme, by number, and its hash.
    Sign {
        /// `TPM_ALG_ID`.
        algorithm: u16,
        /// `TPMI_ALG_HASH`.
        hash: u16,
    },
    /// A scheme to decrypt or exchange keys.
    Other {
        /// `TPM_ALG_ID`.
        algorithm: u16,
    },
}

/// `TPMA_OBJECT` (Part 2 §8.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Attributes(pub u32);

impl Attributes {
    /// The bits that Part 2 §8.3 names: 1 fixedTPM, 2 stClear, 4 fixedParent, 5
    /// sensitiveDataOrigin, 6 userWithAuth, 7 adminWithPolicy, 8 firmwareLimited, 9 svnLimited,
    /// 10 noDA, 11 encryptedDuplication, 16 restricted, 17 decrypt, 18 sign, 19 x509sign.
    const KNOWN: u32 = 0x000f_0ff6;

    const fn bit(self, n: u32) -> bool {
        self.0 & (1 << n) != 0
    }
    /// The hierarchy may not change: cannot be duplicated.
    #[must_use]
    pub const fn fixed_tpm(self) -> bool {
        self.bit(1)
    }
    /// The parent may not change.
    #[must_use]
    pub const fn fixed_parent(self) -> bool {
        self.bit(4)
    }
    /// The TPM made the private part itself.
    #[must_use]
    pub const fn sensitive_data_origin(self) -> bool {
        self.bit(5)
    }
    /// Duplication, if any, only with an inner wrapper.
    #[must_use]
    pub const fn encrypted_duplication(self) -> bool {
        self.bit(11)
    }
    /// Works on TPM-made data only: an attestation key if it signs, a parent if it decrypts.
    #[must_use]
    pub const fn restricted(self) -> bool {
        self.bit(16)
    }
    /// May decrypt, or agree on keys.
    #[must_use]
    pub const fn decrypt(self) -> bool {
        self.bit(17)
    }
    /// May sign.
    #[must_use]
    pub const fn sign(self) -> bool {
        self.bit(18)
    }
    /// Bits that no edition read here names; they could widen use.
    #[must_use]
    pub const fn unknown(self) -> u32 {
        self.0 & !Self::KNOWN
    }
}

impl<'a> Public<'a> {
    /// Reads a `TPMT_PUBLIC`, or a `TPM2B_PUBLIC` around it.
    ///
    /// # Errors
    /// [`Tpm2Error`], naming the field.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Tpm2Error> {
        let bytes = super::wire::unsized_copy(bytes);
        let mut r = Reader::new(bytes);
        let kind = r.u16("TPMT_PUBLIC.type")?;
        if !matches!(kind, 0x0001 | 0x0023) {
            return Err(Tpm2Error::Value {
                what: "TPMT_PUBLIC.type",
                value: kind.into(),
            });
        }
        let what = "TPMT_PUBLIC.nameAlg";
        let name_alg = hash_from_id(r.u16(what)?, what)?;
        let attributes = Attributes(r.u32("TPMT_PUBLIC.objectAttributes")?);
        let auth_policy = r.sized("TPMT_PUBLIC.authPolicy")?;
        if !matches!(auth_policy.len(), 0 | 20 | 32 | 48 | 64) {
            return Err(Tpm2Error::Value {
                what: "TPMT_PUBLIC.authPolicy",
                value: auth_policy.len() as u64,
            });
        }
        let has_symmetric = symmetric(&mut r)?;
        let scheme = scheme(&mut r)?;
        let key = if kind == 0x0001 {
            rsa(&mut r)?
        } else {
            ecc(&mut r)?
        };
        r.end("TPMT_PUBLIC")?;
        Ok(Self {
            bytes,
            name_alg,
            attributes,
            auth_policy,
            scheme,
            has_symmetric,
            key,
        })
    }

    /// The Name: the algorithm and the digest of the public area (Part 1 §16).
    #[must_use]
    pub fn name(&self) -> Vec<u8> {
        let mut name = super::hash_id(self.name_alg).to_be_bytes().to_vec();
        name.extend(self.name_alg.of(self.bytes));
        name
    }
}

impl PublicId<'_> {
    /// The key's material.
    ///
    /// # Errors
    /// [`KeyError`] for a point off its curve.
    pub fn key(&self) -> Result<PublicKey, KeyError> {
        match *self {
            Self::Rsa { exponent, n, .. } => {
                // Part 2 §12.2.3.5: zero stands for 2^16 + 1.
                let e = if exponent == 0 { 0x0001_0001 } else { exponent };
                PublicKey::from_rsa_parts(n, &e.to_be_bytes())
            }
            Self::Ecc { curve, x, y } => PublicKey::from_coordinates(curve, x, y),
        }
    }
}

/// `TPMT_SYM_DEF_OBJECT`: null, or a block cipher with key size and mode.
fn symmetric(r: &mut Reader<'_>) -> Result<bool, Tpm2Error> {
    let what = "TPMT_PUBLIC.symmetric";
    match r.u16(what)? {
        NULL => Ok(false),
        // TDES, AES, SM4, Camellia (Algorithm Registry §6).
        0x0003 | 0x0006 | 0x0013 | 0x0026 => {
            r.u16(what)?;
            r.u16(what)?;
            Ok(true)
        }
        other => Err(Tpm2Error::Value {
            what,
            value: other.into(),
        }),
    }
}

fn scheme(r: &mut Reader<'_>) -> Result<Scheme, Tpm2Error> {
    let what = "TPMT_PUBLIC.scheme";
    let algorithm = r.u16(what)?;
    Ok(match algorithm {
        NULL => Scheme::Null,
        // RSASSA, RSAPSS, ECDSA, SM2, ECSCHNORR: a hash follows.
        0x0014 | 0x0016 | 0x0018 | 0x001b | 0x001c => Scheme::Sign {
            algorithm,
            hash: r.u16(what)?,
        },
        // ECDAA: a hash and a counter.
        0x001a => {
            let hash = r.u16(what)?;
            r.u16(what)?;
            Scheme::Sign { algorithm, hash }
        }
        // RSAES has nothing; OAEP, ECDH, ECMQV a hash.
        0x0015 => Scheme::Other { algorithm },
        0x0017 | 0x0019 | 0x001d => {
            r.u16(what)?;
            Scheme::Other { algorithm }
        }
        other => {
            return Err(Tpm2Error::Value {
                what,
                value: other.into(),
            });
        }
    })
}

fn rsa<'a>(r: &mut Reader<'a>) -> Result<PublicId<'a>, Tpm2Error> {
    let bits = r.u16("TPMS_RSA_PARMS.keyBits")?;
    let exponent = r.u32("TPMS_RSA_PARMS.exponent")?;
    let n = r.sized("TPM2B_PUBLIC_KEY_RSA")?;
    // A TPM writes as many bytes as the key has; anything else is not its encoding.
    if n.len().checked_mul(8) != Some(usize::from(bits)) || n.first().is_none_or(|b| *b < 0x80) {
        return Err(Tpm2Error::Value {
            what: "TPMS_RSA_PARMS.keyBits",
            value: bits.into(),
        });
    }
    Ok(PublicId::Rsa { bits, exponent, n })
}

fn ecc<'a>(r: &mut Reader<'a>) -> Result<PublicId<'a>, Tpm2Error> {
    let what = "TPMS_ECC_PARMS.curveID";
    let curve = match r.u16(what)? {
        0x0003 => Curve::P256,
        0x0004 => Curve::P384,
        0x0005 => Curve::P521,
        other => {
            return Err(Tpm2Error::Value {
                what,
                value: other.into(),
            });
        }
    };
    let what = "TPMS_ECC_PARMS.kdf";
    match r.u16(what)? {
        NULL => {}
        // MGF1, KDF1_SP800_56A, KDF2, KDF1_SP800_108: a hash follows.
        0x0007 | 0x0020..=0x0022 => {
            r.u16(what)?;
        }
        other => {
            return Err(Tpm2Error::Value {
                what,
                value: other.into(),
            });
        }
    }
    let x = coordinate(r, curve, "TPMS_ECC_POINT.x")?;
    let y = coordinate(r, curve, "TPMS_ECC_POINT.y")?;
    Ok(PublicId::Ecc { curve, x, y })
}

/// A coordinate, at most as long as the field. Some TPMs drop leading zeros.
fn coordinate<'a>(
    r: &mut Reader<'a>,
    curve: Curve,
    what: &'static str,
) -> Result<&'a [u8], Tpm2Error> {
    let bytes = r.sized(what)?;
    if bytes.is_empty() || bytes.len() > curve.coordinate() {
        return Err(Tpm2Error::Value {
            what,
            value: bytes.len() as u64,
        });
    }
    Ok(bytes)
}
