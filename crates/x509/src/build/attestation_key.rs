//! The certificate of a TPM's attestation key, as a CA issues it after
//! `TPM2_ActivateCredential` (TCG EK Credential Profile §3.2; WebAuthn §8.3.1).

use super::{BuildError, Frame, extension, key_identifiers};
use crate::asn1::{self, Asn1Error, Problem, context, context_primitive};
use crate::name::{self, TpmName};
use crate::oid;
use countersign_core::Micros;

/// An attestation key's certificate to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttestationKeyTbs {
    /// Big-endian serial number, 1 to 20 octets.
    pub serial: Vec<u8>,
    /// The issuer's DER `Name`.
    pub issuer: Vec<u8>,
    /// The issuer's `SubjectPublicKeyInfo`.
    pub issuer_spki: Vec<u8>,
    /// The attestation key's `SubjectPublicKeyInfo`.
    pub spki: Vec<u8>,
    /// What the endorsement certificate says of the TPM.
    pub tpm: TpmName,
    /// The device's permanent identifier beside it (RFC 4043), which says which TPM this is.
    pub device: String,
    /// A URI beside both, for the order it was issued in.
    pub order: String,
    /// First second of validity; fractions are dropped.
    pub not_before: Micros,
    /// Last second of validity, inclusive.
    pub not_after: Micros,
    /// DER `AlgorithmIdentifier` of the signature to come.
    pub signature_algorithm: Vec<u8>,
}

impl AttestationKeyTbs {
    /// The bytes to be signed.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn build(&self) -> Result<Vec<u8>, BuildError> {
        const NAMES: &str = "subjectAltName";
        let plain = |text: &str| text.bytes().all(|b| b.is_ascii_graphic());
        if !plain(&self.order) || !plain(&self.device) || self.device.is_empty() {
            return Err(Asn1Error::new(NAMES, Problem::Value).into());
        }
        let (ski, aki) = key_identifiers(&self.spki, &self.issuer_spki)?;
        let names = asn1::sequence(&[
            &permanent_identifier(&self.device),
            &asn1::tlv(context(4), &[&name::tpm(&self.tpm)?]),
            &asn1::tlv(context_primitive(6), &[self.order.as_bytes()]),
        ]);
        let usage = asn1::sequence(&[&asn1::oid(&oid::TCG_AK_CERTIFICATE)]);
        let extensions = [
            aki,
            ski,
            // Said aloud, as WebAuthn §8.3.1 wants it: an empty SEQUENCE is cA FALSE.
            extension(&oid::BASIC_CONSTRAINTS, true, &asn1::sequence(&[])),
            extension(
                &oid::KEY_USAGE,
                true,
                &asn1::tlv(asn1::BIT_STRING, &[&[7, 0b1000_0000]]),
            ),
            extension(&oid::EXTENDED_KEY_USAGE, false, &usage),
            // RFC 5280 §4.1.2.6: critical where the subject is empty.
            extension(&oid::SUBJECT_ALT_NAME, true, &names),
        ];
        Frame {
            serial: &self.serial,
            issuer: &self.issuer,
            subject: &asn1::sequence(&[]),
            spki: &self.spki,
            not_before: self.not_before,
            not_after: self.not_after,
            signature_algorithm: &self.signature_algorithm,
        }
        .write(&extensions)
    }
}

/// `otherName [0] { type-id, [0] EXPLICIT PermanentIdentifier }`, its value a UTF8String, without an
/// assigner (RFC 5280 §4.2.1.6; RFC 4043 §2).
fn permanent_identifier(device: &str) -> Vec<u8> {
    let value = asn1::sequence(&[&asn1::tlv(asn1::UTF8_STRING, &[device.as_bytes()])]);
    asn1::tlv(
        context(0),
        &[
            &asn1::oid(&oid::PERMANENT_IDENTIFIER),
            &asn1::tlv(context(0), &[&value]),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::signature_algorithm_der;
    use countersign_core::{HashAlgorithm, SignatureScheme};

    fn tbs() -> AttestationKeyTbs {
        // P-256's base point (SEC 2 §2.4.2), as a key.
        let point = "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296\
                     4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5";
        let point = hex::decode(point).unwrap();
        let spki =
            crate::key::PublicKey::from_ec_point(countersign_core::KeyAlgorithm::EcP256, &point)
                .unwrap();
        AttestationKeyTbs {
            serial: vec![1],
            issuer: name::ca_name("XX", "Test", "AK CA").unwrap(),
            issuer_spki: spki.spki_der().to_vec(),
            spki: spki.spki_der().to_vec(),
            tpm: TpmName {
                manufacturer: "id:4E544300".into(),
                model: "NPCT75x".into(),
                version: "id:00070002".into(),
            },
            device: "urn:ek:sha256:AAAA".into(),
            order: "urn:test:order:1".into(),
            not_before: Micros::from_seconds(0),
            not_after: Micros::from_seconds(1),
            signature_algorithm: signature_algorithm_der(SignatureScheme::Ecdsa(
                HashAlgorithm::Sha256,
            )),
        }
    }

    #[test]
    fn the_subject_is_empty_and_the_tpm_stands_in_the_critical_name() {
        let tbs = tbs();
        let bytes = tbs.build().unwrap();
        let made = super::super::assemble(&bytes, &tbs.signature_algorithm, &[0x30, 0]).unwrap();
        assert_eq!(made.subject_der(), [0x30, 0]);
        let has = |wanted: &[u8]| bytes.windows(wanted.len()).any(|w| w == wanted);
        assert!(has(b"id:4E544300") && has(b"NPCT75x") && has(b"id:00070002"));
        assert!(has(b"urn:test:order:1"));
        // otherName { 1.3.6.1.5.5.7.8.3, [0] { SEQUENCE { UTF8String } } }.
        let identifier = [
            &[
                0xa0, 0x22, 0x06, 0x08, 0x2b, 6, 1, 5, 5, 7, 8, 3, 0xa0, 0x16, 0x30, 0x14, 0x0c,
                0x12,
            ][..],
            b"urn:ek:sha256:AAAA",
        ];
        assert!(has(&identifier.concat()));
        // subjectAltName, critical TRUE.
        assert!(has(&[0x55, 0x1d, 0x11, 0x01, 0x01, 0xff]));
    }

    #[test]
    fn what_cannot_stand_in_a_name_is_refused() {
        for bad in ["", "a\u{0}b", &"x".repeat(65)] {
            let mut tbs = tbs();
            tbs.tpm.model = bad.to_owned();
            assert!(matches!(tbs.build(), Err(BuildError::Asn1(_))), "{bad:?}");
        }
        let mut tbs = tbs();
        tbs.order = "urn:ümlaut".into();
        assert!(matches!(tbs.build(), Err(BuildError::Asn1(_))));
        for bad in ["", "two words", "ü"] {
            let mut tbs = self::tbs();
            tbs.device = bad.to_owned();
            assert!(matches!(tbs.build(), Err(BuildError::Asn1(_))), "{bad:?}");
        }
    }
}
