//! The CMS signed attributes: an exact set, each understood, encoded again to the same bytes.

use crate::certificate::SignerCertificate;
use crate::tlv::{self, Cursor, tag};
use crate::values::{
    AlgorithmProtection, OpusInfo, SigningCertificate, SigningTime, StatementType,
};
use crate::{ContentRefusal, MAX_FIELD, oids, shapes};
use countersign_core::{Digest, HashAlgorithm};
use der::Tag;
use der::asn1::ObjectIdentifier;

/// The API's name for these bytes.
pub(crate) const FIELD: &str = "signed_attributes";

/// More than there are known attributes; bounds the work before anything is understood.
const MAX_ATTRIBUTES: usize = 16;

/// Signed attributes, understood. One field per attribute that some content type allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SignedAttributes {
    pub(crate) content_type: ObjectIdentifier,
    pub(crate) message_digest: Vec<u8>,
    pub(crate) statement_type: Option<StatementType>,
    pub(crate) opus_info: Option<OpusInfo>,
    pub(crate) signing_time: Option<SigningTime>,
    pub(crate) signing_certificate: Option<SigningCertificate>,
    pub(crate) algorithm_protection: Option<AlgorithmProtection>,
}

impl SignedAttributes {
    /// The two attributes every set has (RFC 5652 §11), and nothing else.
    pub(crate) fn new(content_type: ObjectIdentifier, message_digest: &Digest) -> Self {
        Self {
            content_type,
            message_digest: message_digest.as_bytes().to_vec(),
            statement_type: None,
            opus_info: None,
            signing_time: None,
            signing_certificate: None,
            algorithm_protection: None,
        }
    }

    /// Reads a DER `SET OF Attribute`. `optional` lists what may stand beside `contentType` and
    /// `messageDigest`.
    pub(crate) fn parse(
        bytes: &[u8],
        content_type: ObjectIdentifier,
        optional: &[ObjectIdentifier],
    ) -> Result<Self, ContentRefusal> {
        if bytes.len() > MAX_FIELD {
            return Err(ContentRefusal::TooLarge {
                field: FIELD,
                limit: MAX_FIELD,
            });
        }
        shapes::refuse_known(FIELD, bytes)?;
        let found = split(bytes)?;
        let value = |oid: ObjectIdentifier| found.iter().find(|(o, _)| *o == oid).map(|(_, v)| *v);

        let found_type = value(oids::CONTENT_TYPE)
            .map(read_content_type)
            .transpose()?;
        // Named before the allow-list speaks: timestamp attributes have members of their own.
        if found_type == Some(oids::TST_INFO) {
            return Err(ContentRefusal::LooksLikeTimestamp { field: FIELD });
        }
        for (i, (oid, _)) in found.iter().enumerate() {
            let mandatory = [oids::CONTENT_TYPE, oids::MESSAGE_DIGEST].contains(oid);
            if !mandatory && !optional.contains(oid) {
                return Err(ContentRefusal::NotAllowedAttribute { oid: *oid });
            }
            if found.iter().take(i).any(|(o, _)| o == oid) {
                return Err(ContentRefusal::DuplicateAttribute { oid: *oid });
            }
        }
        let missing = |oid| ContentRefusal::MissingAttribute { oid };
        let found_type = found_type.ok_or(missing(oids::CONTENT_TYPE))?;
        if found_type != content_type {
            return Err(ContentRefusal::WrongContentType {
                expected: content_type,
                found: found_type,
            });
        }
        let message_digest = value(oids::MESSAGE_DIGEST).ok_or(missing(oids::MESSAGE_DIGEST))?;
        let parsed = Self {
            content_type,
            message_digest: read_message_digest(message_digest)?,
            statement_type: value(oids::SPC_STATEMENT_TYPE)
                .map(StatementType::read)
                .transpose()?,
            opus_info: value(oids::SPC_SP_OPUS_INFO)
                .map(OpusInfo::read)
                .transpose()?,
            signing_time: value(oids::SIGNING_TIME)
                .map(SigningTime::read)
                .transpose()?,
            signing_certificate: value(oids::SIGNING_CERTIFICATE_V2)
                .map(SigningCertificate::read)
                .transpose()?,
            algorithm_protection: value(oids::ALGORITHM_PROTECTION)
                .map(AlgorithmProtection::read)
                .transpose()?,
        };
        if parsed.encode() == bytes {
            Ok(parsed)
        } else {
            // Each value was read strictly, so what is left is the order (X.690 §11.6).
            Err(ContentRefusal::NotCanonical {
                field: FIELD,
                rule: "SET OF order",
            })
        }
    }

    /// The DER `SET OF Attribute`.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut all = vec![
            attribute(oids::CONTENT_TYPE, &tlv::write_oid(self.content_type)),
            attribute(
                oids::MESSAGE_DIGEST,
                &tlv::write(tag::OCTET_STRING, &[&self.message_digest]),
            ),
        ];
        let mut push = |oid, value: Option<Vec<u8>>| {
            if let Some(v) = value {
                all.push(attribute(oid, &v));
            }
        };
        push(
            oids::SPC_STATEMENT_TYPE,
            self.statement_type.as_ref().map(StatementType::write),
        );
        push(
            oids::SPC_SP_OPUS_INFO,
            self.opus_info.as_ref().map(OpusInfo::write),
        );
        push(
            oids::SIGNING_TIME,
            self.signing_time.as_ref().map(SigningTime::write),
        );
        push(
            oids::SIGNING_CERTIFICATE_V2,
            self.signing_certificate
                .as_ref()
                .map(SigningCertificate::write),
        );
        push(
            oids::ALGORITHM_PROTECTION,
            self.algorithm_protection
                .as_ref()
                .map(AlgorithmProtection::write),
        );
        // X.690 §11.6: ascending as octet strings. No encoding is a prefix of another, so the
        // zero-padding rule of that section never decides.
        all.sort();
        let parts: Vec<&[u8]> = all.iter().map(Vec::as_slice).collect();
        tlv::write(tag::SET, &parts)
    }

    /// The attributes that name the signer or its algorithms must name the right ones.
    pub(crate) fn check_signer(
        &self,
        digest_algorithm: HashAlgorithm,
        signer_cert_der: Option<&[u8]>,
    ) -> Result<(), ContentRefusal> {
        let cert = signer_cert_der.map(SignerCertificate::read).transpose()?;
        if let (Some(named), Some(cert)) = (&self.signing_certificate, &cert)
            && !named.names(cert)
        {
            return Err(ContentRefusal::SigningCertificateMismatch);
        }
        if let Some(named) = &self.algorithm_protection
            && !named.fits(digest_algorithm, cert.as_ref())
        {
            return Err(ContentRefusal::AlgorithmProtectionMismatch);
        }
        Ok(())
    }

    /// `messageDigest`, which must have the length of the algorithm.
    pub(crate) fn digest(&self, algorithm: HashAlgorithm) -> Result<Digest, ContentRefusal> {
        Digest::new(algorithm, self.message_digest.as_slice()).map_err(|e| {
            ContentRefusal::WrongDigestLength {
                field: FIELD,
                algorithm: e.algorithm,
                given: e.given,
            }
        })
    }
}

/// Type and single value of each attribute, as they stand.
fn split(bytes: &[u8]) -> Result<Vec<(ObjectIdentifier, &[u8])>, ContentRefusal> {
    const WHAT: &str = "a SET OF Attribute (tag 0x31)";
    let mut set = Cursor::whole(FIELD, bytes, Tag::Set, WHAT)?;
    let mut found = Vec::new();
    while !set.is_finished() {
        if found.len() >= MAX_ATTRIBUTES {
            return Err(ContentRefusal::TooManyAttributes {
                limit: MAX_ATTRIBUTES,
            });
        }
        let mut attribute = set.enter(Tag::Sequence, WHAT)?;
        let oid = attribute.oid(WHAT)?;
        let mut values = attribute.enter(Tag::Set, WHAT)?;
        attribute.finish()?;
        if values.is_finished() {
            return Err(ContentRefusal::NotSingleValued { oid });
        }
        let value = values.raw()?;
        if !values.is_finished() {
            return Err(ContentRefusal::NotSingleValued { oid });
        }
        found.push((oid, value));
    }
    Ok(found)
}

fn attribute(oid: ObjectIdentifier, value: &[u8]) -> Vec<u8> {
    tlv::write(
        tag::SEQUENCE,
        &[&tlv::write_oid(oid), &tlv::write(tag::SET, &[value])],
    )
}

fn read_content_type(value: &[u8]) -> Result<ObjectIdentifier, ContentRefusal> {
    let mut c = Cursor::over(FIELD, value)?;
    let oid = c.oid("contentType as an OBJECT IDENTIFIER")?;
    c.finish()?;
    Ok(oid)
}

fn read_message_digest(value: &[u8]) -> Result<Vec<u8>, ContentRefusal> {
    let mut c = Cursor::over(FIELD, value)?;
    let digest = c.expect(Tag::OctetString, "messageDigest as an OCTET STRING")?;
    c.finish()?;
    Ok(digest.to_vec())
}
