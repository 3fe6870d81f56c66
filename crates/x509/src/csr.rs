//! PKCS#10 certificate requests (RFC 2986), signed elsewhere.
//!
//! The key lives in an HSM and a request is signed only by the enrolment path. So a request is made
//! in two steps: [`CsrBuilder::build`] gives the exact bytes of the `CertificationRequestInfo`,
//! someone signs them, and [`CsrToBeSigned::finish`] puts both together after verifying the
//! signature. Our service statement is itself inside the request (as an attribute), so it binds the
//! hash of the info *without* that attribute: [`ParsedCsr::info_without_attribute`].

use crate::asn1::{
    self, Asn1Error, Attribute, Cursor, INTEGER, ObjectIdentifier, Problem, SEQUENCE, context,
};
use crate::key::{self, KeyError, PublicKey, SignatureInvalid};
use crate::name::{self, NameError, Subject};
use crate::{hash, pem};
use countersign_core::{Digest, SignatureScheme};

/// A request that cannot be built or read. Retrying with the same input cannot help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// Not the strict DER of a request.
    #[error("certificate request: {0}")]
    Asn1(#[from] Asn1Error),
    /// Not a PEM block `CERTIFICATE REQUEST`.
    #[error("certificate request: {0}")]
    Pem(#[from] pem::PemError),
    /// The subject may not stand in a request.
    #[error("subject: {0}")]
    Subject(#[from] NameError),
    /// The public key is not acceptable.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The signature algorithm is not one that fits the key.
    #[error("signatureAlgorithm: not one that fits the key")]
    SignatureAlgorithm,
    /// The request's own signature does not verify.
    #[error("certificate request: {0}")]
    Signature(#[from] SignatureInvalid),
}

/// What a request will say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsrBuilder {
    /// The subject.
    pub subject: Subject,
    /// The key to be certified.
    pub public_key: PublicKey,
    /// Attributes, each value DER. They are written in DER order whatever their order here.
    pub attributes: Vec<Attribute>,
}

/// A `CertificationRequestInfo` that waits for its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsrToBeSigned {
    /// The exact bytes to be signed.
    pub info_der: Vec<u8>,
    /// The scheme to sign them with.
    pub scheme: SignatureScheme,
}

impl CsrBuilder {
    /// The bytes to be signed.
    ///
    /// # Errors
    /// [`CsrError::Subject`], or [`CsrError::Asn1`] if an attribute is malformed or stands twice.
    pub fn build(&self) -> Result<CsrToBeSigned, CsrError> {
        let attributes = asn1::set_of(self.attributes.iter().map(Attribute::to_der).collect());
        let content = asn1::Cursor::single(&attributes, asn1::SET, "attributes")?.value;
        // Reads back what was written, so that nothing leaves that we would not accept.
        if Attribute::read_set(content, "attributes")?.len() != self.attributes.len() {
            return Err(Asn1Error::new("attributes", Problem::Duplicate).into());
        }
        let algorithm = self.public_key.algorithm();
        Ok(CsrToBeSigned {
            info_der: info(&self.subject.to_der()?, self.public_key.spki_der(), content),
            scheme: algorithm.scheme(algorithm.natural_hash()),
        })
    }
}

impl CsrToBeSigned {
    /// The digest an HSM signs.
    #[must_use]
    pub fn digest(&self) -> Digest {
        hash::digest(self.scheme.hash(), &self.info_der)
    }

    /// The request, after its signature was verified.
    ///
    /// # Errors
    /// [`CsrError::Signature`] if the signature is not by the key inside.
    pub fn finish(&self, signature: &[u8]) -> Result<Vec<u8>, CsrError> {
        finish(&self.info_der, self.scheme, signature)
    }
}

/// Puts a `CertificationRequestInfo` and its signature together, after verifying the signature.
///
/// # Errors
/// [`CsrError`] if the info is not one we would read, or the signature is not by the key inside.
pub fn finish(
    info_der: &[u8],
    scheme: SignatureScheme,
    signature: &[u8],
) -> Result<Vec<u8>, CsrError> {
    let der = asn1::sequence(&[
        info_der,
        &key::signature_algorithm_der(scheme),
        &asn1::bit_string(signature),
    ]);
    ParsedCsr::parse(&der)?.verify_self_signature()?;
    Ok(der)
}

/// A request, read strictly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedCsr {
    der: Vec<u8>,
    info: Vec<u8>,
    subject: Vec<u8>,
    public_key: PublicKey,
    attributes: Vec<Attribute>,
    scheme: SignatureScheme,
    signature: Vec<u8>,
}

impl ParsedCsr {
    /// Reads a request: strict DER, no trailing bytes, attributes in DER order and each once, a key
    /// of a kind subscribers may have, a signature algorithm that fits it.
    ///
    /// # Errors
    /// [`CsrError`]. The signature is not verified here.
    pub fn parse(der: &[u8]) -> Result<Self, CsrError> {
        const F: &str = "CertificationRequest";
        if der.len() > MAX_CSR {
            return Err(Asn1Error::new(F, Problem::TooLarge).into());
        }
        let mut c = Cursor::new(Cursor::single(der, SEQUENCE, F)?.value);
        let info_tlv = c.expect(SEQUENCE, "certificationRequestInfo")?;
        let algorithm = c.expect(SEQUENCE, "signatureAlgorithm")?;
        let signature = c.bit_string("signature")?;
        c.finish(F)?;

        let mut i = Cursor::new(info_tlv.value);
        if i.expect(INTEGER, "version")?.value != [0] {
            return Err(Asn1Error::new("version", Problem::Version).into());
        }
        let subject = i.expect(SEQUENCE, "subject")?;
        name::to_text(subject.bytes)?;
        let spki = i.expect(SEQUENCE, "subjectPKInfo")?;
        let attributes = i.expect(context(0), "attributes")?;
        i.finish("certificationRequestInfo")?;

        let public_key = PublicKey::from_spki_der(spki.bytes)?;
        let scheme = key::scheme_of(algorithm.bytes).ok_or(CsrError::SignatureAlgorithm)?;
        if public_key.algorithm().scheme(scheme.hash()) != scheme {
            return Err(CsrError::SignatureAlgorithm);
        }
        Ok(Self {
            der: der.to_vec(),
            info: info_tlv.bytes.to_vec(),
            subject: subject.bytes.to_vec(),
            public_key,
            attributes: Attribute::read_set(attributes.value, "attributes")?,
            scheme,
            signature: signature.to_vec(),
        })
    }

    /// Reads the one PEM block `CERTIFICATE REQUEST` of a text.
    ///
    /// # Errors
    /// [`CsrError`].
    pub fn parse_pem(text: &str) -> Result<Self, CsrError> {
        Self::parse(&pem::decode_one(PEM_LABEL, text)?)
    }

    /// Verifies the request's signature with the key inside (proof of possession).
    ///
    /// # Errors
    /// [`SignatureInvalid`].
    pub fn verify_self_signature(&self) -> Result<(), SignatureInvalid> {
        self.public_key
            .verify_message(self.scheme, &self.info, &self.signature)
    }

    /// The whole request.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The whole request in PEM armour.
    #[must_use]
    pub fn to_pem(&self) -> String {
        to_pem(&self.der)
    }

    /// The bytes under the signature.
    #[must_use]
    pub fn info_der(&self) -> &[u8] {
        &self.info
    }

    /// The subject's DER `Name`.
    #[must_use]
    pub fn subject_der(&self) -> &[u8] {
        &self.subject
    }

    /// The subject as RFC 4514 text.
    #[must_use]
    pub fn subject_text(&self) -> String {
        name::to_text(&self.subject).unwrap_or_default()
    }

    /// The key to be certified.
    #[must_use]
    pub const fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// The attributes, in DER order.
    #[must_use]
    pub fn attributes(&self) -> &[Attribute] {
        &self.attributes
    }

    /// The attribute of one type.
    #[must_use]
    pub fn attribute(&self, oid: &ObjectIdentifier) -> Option<&Attribute> {
        self.attributes.iter().find(|a| a.oid == *oid)
    }

    /// The `CertificationRequestInfo` encoded again without the attribute `oid`: the same bytes a
    /// request without it would have had. Its SHA-256 is what our service statement binds.
    #[must_use]
    pub fn info_without_attribute(&self, oid: &ObjectIdentifier) -> Vec<u8> {
        // Each kept attribute encodes to the bytes it was read from: the reader is strict.
        let kept: Vec<Vec<u8>> = self
            .attributes
            .iter()
            .filter(|a| a.oid != *oid)
            .map(Attribute::to_der)
            .collect();
        info(&self.subject, self.public_key.spki_der(), &kept.concat())
    }
}

/// A request in PEM armour.
#[must_use]
pub fn to_pem(der: &[u8]) -> String {
    pem::encode(PEM_LABEL, der)
}

const PEM_LABEL: &str = "CERTIFICATE REQUEST";

/// Evidence of an HSM with its certificate chain is some tens of KiB.
const MAX_CSR: usize = 256 * 1024;

fn info(subject: &[u8], spki: &[u8], attributes: &[u8]) -> Vec<u8> {
    asn1::sequence(&[
        &asn1::unsigned(&[0]),
        subject,
        spki,
        &asn1::tlv(context(0), &[attributes]),
    ])
}

#[cfg(test)]
mod tests;
