//! The signed attributes: what a signature really covers.

use super::CmsError;
use crate::asn1::{
    self, Asn1Error, Attribute, Cursor, OCTET_STRING, ObjectIdentifier, Problem, SEQUENCE, SET,
};
use crate::cert::Certificate;
use crate::{hash, oid, time, verify};
use countersign_core::{Digest, HashAlgorithm, Micros};

/// The DER `SET OF Attribute` (tag 31): the bytes that are hashed and signed.
///
/// # Errors
/// [`CmsError::Asn1`] if an attribute stands twice or has no value.
pub fn encode(attributes: &[Attribute]) -> Result<Vec<u8>, CmsError> {
    let der = asn1::set_of(attributes.iter().map(Attribute::to_der).collect());
    if parse(&der)?.len() == attributes.len() {
        Ok(der)
    } else {
        Err(Asn1Error::new("signedAttrs", Problem::Duplicate).into())
    }
}

/// Reads signed attributes as [`encode`] writes them: tag 31, strict DER, in order, each type once.
///
/// # Errors
/// [`CmsError::Asn1`].
pub fn parse(der: &[u8]) -> Result<Vec<Attribute>, CmsError> {
    let t = Cursor::single(der, SET, "signedAttrs")?;
    Ok(Attribute::read_set(t.value, "signedAttrs")?)
}

/// The least there must be (RFC 5652 §5.3): contentType and messageDigest, and `more`.
///
/// # Errors
/// As [`encode`].
pub fn build(
    content_type: &ObjectIdentifier,
    content_digest: &Digest,
    more: &[Attribute],
) -> Result<Vec<u8>, CmsError> {
    let mut all = vec![
        content_type_attribute(content_type),
        message_digest_attribute(content_digest),
    ];
    all.extend_from_slice(more);
    encode(&all)
}

/// `contentType` (RFC 5652 §11.1).
#[must_use]
pub fn content_type_attribute(content_type: &ObjectIdentifier) -> Attribute {
    Attribute::single(oid::CONTENT_TYPE, asn1::oid(content_type))
}

/// `messageDigest` (RFC 5652 §11.2).
#[must_use]
pub fn message_digest_attribute(digest: &Digest) -> Attribute {
    Attribute::single(oid::MESSAGE_DIGEST, asn1::octet_string(digest.as_bytes()))
}

/// `signingTime` (RFC 5652 §11.3): a claim of the signer, not a proof.
#[must_use]
pub fn signing_time_attribute(at: Micros) -> Attribute {
    Attribute::single(oid::SIGNING_TIME, time::write_time(at))
}

/// `signingCertificateV2` (RFC 5035) with the SHA-256 of the signer's certificate.
#[must_use]
pub fn signing_certificate_v2_attribute(certificate_der: &[u8]) -> Attribute {
    // ESSCertIDv2: the hash algorithm defaults to SHA-256, and DER leaves a default out.
    let id = asn1::sequence(&[&asn1::octet_string(&hash::sha256(certificate_der))]);
    let value = asn1::sequence(&[&asn1::sequence(&[&id])]);
    Attribute::single(oid::SIGNING_CERTIFICATE_V2, value)
}

/// The value of `contentType`.
///
/// # Errors
/// [`CmsError::SignedAttribute`] if it is missing, malformed or has several values.
pub fn content_type(attributes: &[Attribute]) -> Result<ObjectIdentifier, CmsError> {
    let bad = CmsError::SignedAttribute(oid::CONTENT_TYPE);
    let value = single(attributes, &oid::CONTENT_TYPE).ok_or(bad.clone())?;
    let mut c = Cursor::new(value);
    let id = c.oid("contentType").map_err(|_| bad.clone())?;
    c.finish("contentType").map_err(|_| bad)?;
    Ok(id)
}

/// The value of `messageDigest`.
///
/// # Errors
/// As [`content_type`].
pub fn message_digest(attributes: &[Attribute]) -> Result<Vec<u8>, CmsError> {
    let bad = CmsError::SignedAttribute(oid::MESSAGE_DIGEST);
    let value = single(attributes, &oid::MESSAGE_DIGEST).ok_or(bad.clone())?;
    Cursor::single(value, OCTET_STRING, "messageDigest")
        .map(|t| t.value.to_vec())
        .map_err(|_| bad)
}

/// The value of `signingTime`, if there is one.
///
/// # Errors
/// [`CmsError::SignedAttribute`] if it is malformed or has several values.
pub fn signing_time(attributes: &[Attribute]) -> Result<Option<Micros>, CmsError> {
    let bad = CmsError::SignedAttribute(oid::SIGNING_TIME);
    let Some(a) = attributes.iter().find(|a| a.oid == oid::SIGNING_TIME) else {
        return Ok(None);
    };
    let mut c = Cursor::new(a.single_value().ok_or(bad.clone())?);
    let at = c
        .any("signingTime")
        .and_then(|t| time::read_time(&t, "signingTime"))
        .map_err(|_| bad.clone())?;
    c.finish("signingTime").map_err(|_| bad)?;
    Ok(Some(at))
}

/// Whether `signingCertificateV2` (RFC 5035) or `signingCertificate` (RFC 2634) names this
/// certificate first. `None` if neither stands there. Both, if both do, must name it.
pub(crate) fn names_certificate(
    attributes: &[Attribute],
    certificate: &Certificate,
) -> Result<Option<bool>, CmsError> {
    let mut found = None;
    for (id, v2) in [
        (oid::SIGNING_CERTIFICATE_V2, true),
        (oid::SIGNING_CERTIFICATE, false),
    ] {
        let Some(a) = attributes.iter().find(|a| a.oid == id) else {
            continue;
        };
        let value = a.single_value().ok_or(CmsError::SignedAttribute(id))?;
        let names = ess_names(value, v2, certificate)?;
        found = Some(found.unwrap_or(true) && names);
    }
    Ok(found)
}

/// `SigningCertificate(V2) ::= SEQUENCE { certs SEQUENCE OF ESSCertID(v2), policies … OPTIONAL }`;
/// the first identifier is the signer's (RFC 5035 §3).
fn ess_names(value: &[u8], v2: bool, certificate: &Certificate) -> Result<bool, CmsError> {
    const F: &str = "signingCertificate";
    let mut c = Cursor::new(Cursor::single(value, SEQUENCE, F)?.value);
    let mut certs = c.enter(SEQUENCE, F)?;
    let mut first = certs.enter(SEQUENCE, F)?;
    let algorithm = match first.peek() {
        Some(SEQUENCE) if v2 => verify::digest_algorithm(first.any(F)?.bytes)?,
        _ => HashAlgorithm::Sha256,
    };
    let stated = first.expect(OCTET_STRING, F)?.value;
    let computed = if v2 {
        hash::digest(algorithm, certificate.der())
            .as_bytes()
            .to_vec()
    } else {
        hash::sha1(certificate.der()).to_vec()
    };
    if stated != computed {
        return Ok(false);
    }
    // IssuerSerial ::= SEQUENCE { issuer GeneralNames, serialNumber INTEGER }
    let Some(issuer_serial) = first.optional(SEQUENCE, F)? else {
        return Ok(true);
    };
    let mut i = Cursor::new(issuer_serial.value);
    let mut names = i.enter(SEQUENCE, F)?;
    let directory = names.optional(asn1::context(4), F)?;
    let serial = i.integer(F)?;
    Ok(serial == certificate.serial()
        && directory.is_some_and(|d| d.value == certificate.issuer_der()))
}

fn single<'a>(attributes: &'a [Attribute], id: &ObjectIdentifier) -> Option<&'a [u8]> {
    attributes
        .iter()
        .find(|a| a.oid == *id)
        .and_then(Attribute::single_value)
}
