//! The little DER a worker needs: SubjectPublicKeyInfo (RFC 5280 §4.1.2.7, RFC 3279, RFC 5480),
//! `DigestInfo` (RFC 8017 §9.2) and `ECDSA-Sig-Value` (RFC 3279 §2.2.3). Written by hand, as it is
//! 60 lines and is checked against openssl in the tests.

use countersign_core::{HashAlgorithm, KeyAlgorithm};

/// OID content of id-ecPublicKey with its tag.
const EC_PUBLIC_KEY: [u8; 9] = [0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// rsaEncryption and NULL.
const RSA_ENCRYPTION: [u8; 13] = [
    0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
];
/// secp256r1 and secp384r1 as `CKA_EC_PARAMS` wants them.
const P256: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: [u8; 7] = [0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];

/// `CKA_EC_PARAMS` of a curve: the named-curve OID. Empty for RSA.
#[must_use]
pub const fn ec_params(algorithm: KeyAlgorithm) -> &'static [u8] {
    match algorithm {
        KeyAlgorithm::EcP256 => &P256,
        KeyAlgorithm::EcP384 => &P384,
        KeyAlgorithm::Rsa3072 | KeyAlgorithm::Rsa4096 => &[],
    }
}

/// Length of a coordinate, and so of half a raw ECDSA signature. Zero for RSA.
#[must_use]
pub const fn field_length(algorithm: KeyAlgorithm) -> usize {
    match algorithm {
        KeyAlgorithm::EcP256 => 32,
        KeyAlgorithm::EcP384 => 48,
        KeyAlgorithm::Rsa3072 | KeyAlgorithm::Rsa4096 => 0,
    }
}

/// SPKI of an elliptic-curve key from `CKA_EC_POINT`: an OCTET STRING around the point or, with
/// some modules, the bare point. `None` unless it is an uncompressed point on the curve.
#[must_use]
pub fn ec_spki(algorithm: KeyAlgorithm, attribute: &[u8]) -> Option<Vec<u8>> {
    let length = field_length(algorithm).checked_mul(2)?.checked_add(1)?;
    let point = if attribute.len() == length {
        attribute
    } else {
        match attribute {
            [0x04, l, point @ ..] if usize::from(*l) == length && point.len() == length => point,
            _ => return None,
        }
    };
    let verifier: &'static dyn aws_lc_rs::signature::VerificationAlgorithm = match algorithm {
        KeyAlgorithm::EcP256 => &aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1,
        KeyAlgorithm::EcP384 => &aws_lc_rs::signature::ECDSA_P384_SHA384_ASN1,
        KeyAlgorithm::Rsa3072 | KeyAlgorithm::Rsa4096 => return None,
    };
    // Parsing checks that the point is on the curve.
    aws_lc_rs::signature::ParsedPublicKey::new(verifier, point).ok()?;
    let mut id = EC_PUBLIC_KEY.to_vec();
    id.extend_from_slice(ec_params(algorithm));
    Some(spki(&id, point))
}

/// SPKI of an RSA key from `CKA_MODULUS` and `CKA_PUBLIC_EXPONENT`. `None` unless the modulus has
/// exactly the algorithm's bits and the exponent is 65537.
#[must_use]
pub fn rsa_spki(algorithm: KeyAlgorithm, modulus: &[u8], exponent: &[u8]) -> Option<Vec<u8>> {
    let bytes = match algorithm {
        KeyAlgorithm::Rsa3072 => 384,
        KeyAlgorithm::Rsa4096 => 512,
        KeyAlgorithm::EcP256 | KeyAlgorithm::EcP384 => return None,
    };
    let modulus = strip_zeros(modulus);
    let top_bit = modulus.first().is_some_and(|b| b & 0x80 != 0);
    if modulus.len() != bytes || !top_bit || strip_zeros(exponent) != [1, 0, 1] {
        return None;
    }
    let mut parts = integer(modulus);
    parts.extend_from_slice(&integer(exponent));
    Some(spki(&RSA_ENCRYPTION, &tlv(0x30, &parts)))
}

/// `DigestInfo` for `CKM_RSA_PKCS`: built here, from an algorithm and a digest of its length, so that
/// no caller ever says which bytes are padded (RFC 8017 §9.2 note 1).
#[must_use]
pub fn digest_info(algorithm: HashAlgorithm, digest: &[u8]) -> Vec<u8> {
    let arc = match algorithm {
        HashAlgorithm::Sha256 => 0x01,
        HashAlgorithm::Sha384 => 0x02,
        HashAlgorithm::Sha512 => 0x03,
    };
    let id = [
        0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, arc, 0x05, 0x00,
    ];
    let mut parts = tlv(0x30, &id);
    parts.extend_from_slice(&tlv(0x04, digest));
    tlv(0x30, &parts)
}

/// `r‖s` as `CKM_ECDSA` gives it → DER. `None` if it is not two halves of the curve's length.
#[must_use]
pub fn ecdsa_der(algorithm: KeyAlgorithm, raw: &[u8]) -> Option<Vec<u8>> {
    let n = field_length(algorithm);
    if n == 0 || raw.len() != n.checked_mul(2)? {
        return None;
    }
    let (r, s) = raw.split_at_checked(n)?;
    let mut parts = integer(r);
    parts.extend_from_slice(&integer(s));
    Some(tlv(0x30, &parts))
}

fn spki(algorithm: &[u8], key: &[u8]) -> Vec<u8> {
    let mut bits = vec![0];
    bits.extend_from_slice(key);
    let mut parts = tlv(0x30, algorithm);
    parts.extend_from_slice(&tlv(0x03, &bits));
    tlv(0x30, &parts)
}

fn integer(bytes: &[u8]) -> Vec<u8> {
    let bytes = strip_zeros(bytes);
    let mut content = Vec::with_capacity(bytes.len().saturating_add(1));
    if bytes.first().is_none_or(|b| b & 0x80 != 0) {
        content.push(0);
    }
    content.extend_from_slice(bytes);
    tlv(0x02, &content)
}

fn strip_zeros(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|b| **b == 0).count();
    bytes.get(zeros..).unwrap_or_default()
}

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    // Contents here are at most some 600 bytes; the general form costs nothing.
    match u8::try_from(content.len()) {
        Ok(short @ 0..=0x7f) => out.push(short),
        _ => {
            let length = content.len().to_be_bytes();
            let length = strip_zeros(&length);
            out.push(0x80 | u8::try_from(length.len()).unwrap_or(8));
            out.extend_from_slice(length);
        }
    }
    out.extend_from_slice(content);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_info_has_the_prefixes_of_rfc_8017() {
        for (h, prefix) in [
            (
                HashAlgorithm::Sha256,
                "3031300d060960864801650304020105000420",
            ),
            (
                HashAlgorithm::Sha384,
                "3041300d060960864801650304020205000430",
            ),
            (
                HashAlgorithm::Sha512,
                "3051300d060960864801650304020305000440",
            ),
        ] {
            let d = vec![0xaa; h.digest_len()];
            assert_eq!(
                hex::encode(digest_info(h, &d)),
                format!("{prefix}{}", hex::encode(&d))
            );
        }
    }

    #[test]
    fn ecdsa_integers_are_minimal_and_positive() {
        let mut raw = [0_u8; 64];
        raw[31] = 0x80;
        raw[63] = 0x01;
        assert_eq!(
            hex::encode(ecdsa_der(KeyAlgorithm::EcP256, &raw).unwrap()),
            "300702020080020101"
        );
        assert_eq!(ecdsa_der(KeyAlgorithm::EcP256, &raw[1..]), None);
        assert_eq!(
            hex::encode(ecdsa_der(KeyAlgorithm::EcP256, &[0; 64]).unwrap()),
            "3006020100020100"
        );
    }

    #[test]
    fn a_point_off_the_curve_is_no_key() {
        let mut p = vec![4_u8; 65];
        assert_eq!(ec_spki(KeyAlgorithm::EcP256, &p), None);
        p.truncate(64);
        assert_eq!(ec_spki(KeyAlgorithm::EcP256, &p), None);
        assert_eq!(ec_spki(KeyAlgorithm::Rsa3072, &[4]), None);
    }

    #[test]
    fn a_short_modulus_is_no_key() {
        assert!(rsa_spki(KeyAlgorithm::Rsa3072, &[0xff; 384], &[1, 0, 1]).is_some());
        assert!(rsa_spki(KeyAlgorithm::Rsa3072, &[0x7f; 384], &[1, 0, 1]).is_none());
        assert!(rsa_spki(KeyAlgorithm::Rsa3072, &[0xff; 256], &[1, 0, 1]).is_none());
        assert!(rsa_spki(KeyAlgorithm::Rsa3072, &[0xff; 384], &[3]).is_none());
    }
}
