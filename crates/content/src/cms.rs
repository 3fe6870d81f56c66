//! Any file, by a detached CMS: the signed attributes hold the file's own digest.

use crate::attributes::SignedAttributes;
use crate::values::{AlgorithmProtection, SigningCertificate, SigningTime};
use crate::{ContentRefusal, ContentType, Parsed, digest_of, oids};
use countersign_core::{Digest, HashAlgorithm, Micros, SignatureScheme};
use der::asn1::ObjectIdentifier;

/// What may stand beside `contentType` and `messageDigest`.
const OPTIONAL: &[ObjectIdentifier] = &[
    oids::SIGNING_TIME,
    oids::SIGNING_CERTIFICATE_V2,
    oids::ALGORITHM_PROTECTION,
];

/// The DER `SET OF` signed attributes for a file with this digest, exactly as [`crate::parse`]
/// accepts them.
///
/// `protect` adds `CMSAlgorithmProtection` (RFC 6211) for that scheme.
///
/// # Errors
/// The rule that the arguments break (an unreadable certificate, a time before 1970, a scheme with
/// another hash); retrying cannot help.
pub fn signed_attributes(
    file_digest: &Digest,
    signing_time: Option<Micros>,
    signing_certificate: Option<&[u8]>,
    protect: Option<SignatureScheme>,
) -> Result<Vec<u8>, ContentRefusal> {
    let attributes = SignedAttributes {
        signing_time: signing_time.map(SigningTime::new).transpose()?,
        signing_certificate: signing_certificate
            .map(SigningCertificate::new)
            .transpose()?,
        algorithm_protection: protect.map(AlgorithmProtection::new),
        ..SignedAttributes::new(oids::DATA, file_digest)
    }
    .encode();
    parse(&attributes, file_digest.algorithm(), signing_certificate)?;
    Ok(attributes)
}

pub(crate) fn parse(
    signed_attributes: &[u8],
    digest_algorithm: HashAlgorithm,
    signer_cert_der: Option<&[u8]>,
) -> Result<Parsed, ContentRefusal> {
    let attributes = SignedAttributes::parse(signed_attributes, oids::DATA, OPTIONAL)?;
    let artifact = attributes.digest(digest_algorithm)?;
    attributes.check_signer(digest_algorithm, signer_cert_der)?;
    Ok(Parsed {
        content: ContentType::Cms,
        tbs: digest_of(digest_algorithm, signed_attributes),
        artifact: Some(artifact),
        typed: true,
    })
}
