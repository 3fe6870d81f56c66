//! TPMT_PUBLIC of a key, as far as it is compared with what was bound (TPM 2.0 Library part 2 §12.2.4).

use crate::spki::{ec_spki, field_length, rsa_spki};
use countersign_core::KeyAlgorithm;

const NULL: u16 = 0x0010;

/// A public area.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicArea {
    /// TPMA_OBJECT.
    pub attributes: u32,
    /// SubjectPublicKeyInfo of the key, DER; `None` for kinds that we do not make.
    pub spki: Option<Vec<u8>>,
}

/// The structure in a `TPM2B`: a size, and that many bytes to the end. `None` if it is not one.
#[must_use]
pub fn unsized_part(bytes: &[u8]) -> Option<&[u8]> {
    let (size, rest) = bytes.split_first_chunk::<2>()?;
    (usize::from(u16::from_be_bytes(*size)) == rest.len()).then_some(rest)
}

impl PublicArea {
    /// Reads a `TPMT_PUBLIC` to its last byte. `None` if it is not one of a signing key.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut at = Cursor(bytes);
        let kind = at.u16()?;
        let _name_algorithm = at.u16()?;
        let attributes = at.u32()?;
        let _policy = at.sized()?;
        // A key with a symmetric algorithm is a parent, not one that signs.
        if at.u16()? != NULL {
            return None;
        }
        if at.u16()? != NULL {
            let _hash_of_the_scheme = at.u16()?;
        }
        let spki = match kind {
            // TPM_ALG_RSA
            0x0001 => {
                let bits = at.u16()?;
                // 0 stands for 65537.
                let exponent = match at.u32()? {
                    0 => 65_537,
                    other => other,
                };
                let modulus = at.sized()?;
                let algorithm = match bits {
                    3072 => Some(KeyAlgorithm::Rsa3072),
                    4096 => Some(KeyAlgorithm::Rsa4096),
                    _ => None,
                };
                algorithm.and_then(|a| rsa_spki(a, modulus, &exponent.to_be_bytes()))
            }
            // TPM_ALG_ECC
            0x0023 => {
                let curve = at.u16()?;
                if at.u16()? != NULL {
                    return None;
                }
                let (x, y) = (at.sized()?, at.sized()?);
                let algorithm = match curve {
                    3 => Some(KeyAlgorithm::EcP256),
                    4 => Some(KeyAlgorithm::EcP384),
                    _ => None,
                };
                algorithm.and_then(|a| ec_spki(a, &point(a, x, y)?))
            }
            _ => return None,
        };
        at.0.is_empty().then_some(Self { attributes, spki })
    }
}

/// Uncompressed; a TPM may leave out leading zeros.
fn point(algorithm: KeyAlgorithm, x: &[u8], y: &[u8]) -> Option<Vec<u8>> {
    let length = field_length(algorithm);
    let mut out = vec![4];
    for coordinate in [x, y] {
        let zeros = length.checked_sub(coordinate.len())?;
        out.resize(out.len() + zeros, 0);
        out.extend_from_slice(coordinate);
    }
    Some(out)
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn u16(&mut self) -> Option<u16> {
        let (head, rest) = self.0.split_first_chunk::<2>()?;
        self.0 = rest;
        Some(u16::from_be_bytes(*head))
    }

    fn u32(&mut self) -> Option<u32> {
        let (head, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*head))
    }

    fn sized(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(self.u16()?);
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a key that tpm2-pkcs11 made in a software TPM, and the SPKI that openssl makes of its point.
    const AREA: &str = "0023000b00040072000000100010000300100020\
                        41af6f6c01454e1fbe2ff595fe13b9ae8f91b438b7e3defc5b4c407a230152e2\
                        0020\
                        c634e7911a0778470f6bf26eb361e024528d7a47c3240b79cd207618ab89c256";

    fn area() -> Vec<u8> {
        hex::decode(AREA).unwrap()
    }

    #[test]
    fn an_elliptic_curve_key_becomes_its_spki() {
        let parsed = PublicArea::parse(&area()).unwrap();
        assert_eq!(parsed.attributes, 0x0004_0072);
        let spki = hex::encode(parsed.spki.unwrap());
        assert!(spki.starts_with("3059301306072a8648ce3d020106082a8648ce3d030107034200"));
        assert!(spki.ends_with("0441af6f6c01454e1fbe2ff595fe13b9ae8f91b438b7e3defc5b4c407a230152e2c634e7911a0778470f6bf26eb361e024528d7a47c3240b79cd207618ab89c256"));
    }

    #[test]
    fn anything_shorter_longer_or_off_the_curve_is_none() {
        let whole = area();
        for length in 0..whole.len() {
            assert_eq!(PublicArea::parse(&whole[..length]), None, "{length} bytes");
        }
        let mut longer = whole.clone();
        longer.push(0);
        assert_eq!(PublicArea::parse(&longer), None);
        let mut other = whole;
        *other.last_mut().unwrap() ^= 1;
        assert_eq!(PublicArea::parse(&other).unwrap().spki, None);
    }

    #[test]
    fn a_size_must_be_that_of_the_rest() {
        assert_eq!(unsized_part(&[0, 2, 7, 8]), Some(&[7, 8][..]));
        assert_eq!(unsized_part(&[0, 2, 7]), None);
        assert_eq!(unsized_part(&[0]), None);
    }
}
