//! Windows executables: `SpcIndirectDataContent` and the signed attributes over it.
//!
//! The file's own digest stands in the indirect data; the signed attributes hold the hash of the
//! indirect data's *value*, without its outer tag and length; the key signs the hash of the attributes.

use crate::attributes::SignedAttributes;
use crate::tlv::{self, Cursor, tag};
use crate::values::{OpusInfo, SigningCertificate, SigningTime, SpcString, StatementType};
use crate::{ContentRefusal, ContentType, MAX_FIELD, Parsed, digest_of, oids, shapes};
use countersign_core::{Digest, HashAlgorithm, Micros};
use der::Tag;
use der::asn1::ObjectIdentifier;

/// The API's name for the indirect data.
const FIELD: &str = "indirect_data";

/// What may stand beside `contentType` and `messageDigest`.
const OPTIONAL: &[ObjectIdentifier] = &[
    oids::SPC_STATEMENT_TYPE,
    oids::SPC_SP_OPUS_INFO,
    // Windows tools leave it out; osslsigncode adds it.
    oids::SIGNING_TIME,
    oids::SIGNING_CERTIFICATE_V2,
];

/// `SpcPeImageFlags` as the tools write them: none (signtool), or includeResources (osslsigncode; the
/// ASN.1 default, which DER would leave out, but all of them write it).
const PE_FLAGS: [&[u8]; 2] = [&[0x03, 0x01, 0x00], &[0x03, 0x02, 0x07, 0x80]];
/// `SpcLink` to a file with an empty name.
const PE_FILE_EMPTY: &[u8] = &[0xA0, 0x04, 0xA2, 0x02, 0x80, 0x00];
/// The same with the name `<<<Obsolete>>>` in UTF-16BE, as the specification's example has it.
const PE_FILE_OBSOLETE: &[u8] = &[
    0xA0, 0x20, 0xA2, 0x1E, 0x80, 0x1C, 0x00, 0x3C, 0x00, 0x3C, 0x00, 0x3C, 0x00, 0x4F, 0x00, 0x62,
    0x00, 0x73, 0x00, 0x6F, 0x00, 0x6C, 0x00, 0x65, 0x00, 0x74, 0x00, 0x65, 0x00, 0x3E, 0x00, 0x3E,
    0x00, 0x3E,
];

/// What the client may state about the program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options<'a> {
    /// The program's name, shown by Windows.
    pub program_name: Option<&'a str>,
    /// A link to the publisher's page.
    pub url: Option<&'a str>,
    /// Written only when given. A timestamp is the better proof.
    pub signing_time: Option<Micros>,
    /// The signer's certificate, to be named in `signingCertificateV2`.
    pub signing_certificate: Option<&'a [u8]>,
}

/// The DER `SpcIndirectDataContent` for a Windows executable with this Authenticode digest.
#[must_use]
pub fn pe_indirect_data(digest: &Digest) -> Vec<u8> {
    IndirectData {
        image: PeImage {
            flags: PE_FLAGS[0],
            file: PE_FILE_EMPTY,
        },
        digest: digest.clone(),
    }
    .encode()
}

/// The DER `SET OF` signed attributes over `indirect_data`, exactly as [`crate::parse`] accepts them.
///
/// # Errors
/// The rule that the options or the indirect data break; retrying cannot help.
pub fn signed_attributes(
    indirect_data: &[u8],
    digest_algorithm: HashAlgorithm,
    options: &Options<'_>,
) -> Result<Vec<u8>, ContentRefusal> {
    let value = indirect_value(indirect_data)?;
    let opus_info = OpusInfo {
        program_name: options.program_name.map(SpcString::new),
        url: options.url.map(str::to_owned),
    };
    opus_info.check()?;
    let attributes = SignedAttributes {
        statement_type: Some(StatementType::Individual),
        opus_info: Some(opus_info),
        signing_time: options.signing_time.map(SigningTime::new).transpose()?,
        signing_certificate: options
            .signing_certificate
            .map(SigningCertificate::new)
            .transpose()?,
        ..SignedAttributes::new(oids::SPC_INDIRECT_DATA, &digest_of(digest_algorithm, value))
    }
    .encode();
    parse(
        &attributes,
        indirect_data,
        digest_algorithm,
        options.signing_certificate,
    )?;
    Ok(attributes)
}

/// The file digest inside somebody's `SpcIndirectDataContent`, for comparing with a file.
///
/// Looser than [`crate::parse`], which says what *we* sign: any `data` type is let through (page
/// hashes, other tools' constants), since only the digest is read.
///
/// # Errors
/// If the bytes are no indirect data, or the hash is none we know; retrying cannot help.
pub fn digest_in(indirect_data: &[u8]) -> Result<Digest, ContentRefusal> {
    const WHAT: &str = "SpcIndirectDataContent";
    let mut body = Cursor::whole(FIELD, indirect_data, Tag::Sequence, WHAT)?;
    body.expect(Tag::Sequence, WHAT)?;
    let mut info = body.enter(Tag::Sequence, WHAT)?;
    body.finish()?;
    let (oid, _) = tlv::read_algorithm(&mut info, Tag::Sequence)?;
    let bytes = info.expect(Tag::OctetString, WHAT)?;
    info.finish()?;
    let algorithm = oids::hash_of(oid).ok_or(ContentRefusal::UnexpectedStructure {
        field: FIELD,
        expected: "a SHA-2 digest",
    })?;
    file_digest(algorithm, bytes)
}

pub(crate) fn parse(
    signed_attributes: &[u8],
    indirect_data: &[u8],
    digest_algorithm: HashAlgorithm,
    signer_cert_der: Option<&[u8]>,
) -> Result<Parsed, ContentRefusal> {
    let attributes = SignedAttributes::parse(signed_attributes, oids::SPC_INDIRECT_DATA, OPTIONAL)?;
    let stated = attributes.digest(digest_algorithm)?;
    let indirect = IndirectData::parse(indirect_data, digest_algorithm)?;
    if stated != digest_of(digest_algorithm, indirect_value(indirect_data)?) {
        return Err(ContentRefusal::InnerHashMismatch);
    }
    attributes.check_signer(digest_algorithm, signer_cert_der)?;
    Ok(Parsed {
        content: ContentType::Authenticode,
        tbs: digest_of(digest_algorithm, signed_attributes),
        artifact: Some(indirect.digest),
        typed: true,
    })
}

/// `SpcIndirectDataContent` for a Windows executable.
struct IndirectData {
    image: PeImage,
    digest: Digest,
}

impl IndirectData {
    fn parse(bytes: &[u8], algorithm: HashAlgorithm) -> Result<Self, ContentRefusal> {
        const WHAT: &str = "SpcIndirectDataContent";
        if bytes.len() > MAX_FIELD {
            return Err(ContentRefusal::TooLarge {
                field: FIELD,
                limit: MAX_FIELD,
            });
        }
        shapes::refuse_known(FIELD, bytes)?;
        let mut body = Cursor::whole(FIELD, bytes, Tag::Sequence, WHAT)?;

        let mut data = body.enter(Tag::Sequence, WHAT)?;
        let found = data.oid(WHAT)?;
        if found != oids::SPC_PE_IMAGE_DATA {
            return Err(ContentRefusal::NotPeImageData { found });
        }
        if data.is_finished() {
            return Err(ContentRefusal::UnusualPeImageData);
        }
        let image = PeImage::known(data.raw()?)?;
        data.finish()?;

        let mut info = body.enter(Tag::Sequence, WHAT)?;
        body.finish()?;
        let (found, null) = tlv::read_algorithm(&mut info, Tag::Sequence)?;
        if found != oids::hash(algorithm) {
            return Err(ContentRefusal::DigestAlgorithmMismatch {
                field: FIELD,
                expected: algorithm,
                found,
            });
        }
        if !null {
            return Err(ContentRefusal::NotCanonical {
                field: FIELD,
                rule: "DigestInfo algorithm without NULL",
            });
        }
        let digest = file_digest(algorithm, info.expect(Tag::OctetString, WHAT)?)?;
        info.finish()?;
        let parsed = Self { image, digest };
        if parsed.encode() == bytes {
            Ok(parsed)
        } else {
            Err(ContentRefusal::NotCanonical {
                field: FIELD,
                rule: "re-encoding",
            })
        }
    }

    fn encode(&self) -> Vec<u8> {
        let data = tlv::write(
            tag::SEQUENCE,
            &[
                &tlv::write_oid(oids::SPC_PE_IMAGE_DATA),
                &self.image.encode(),
            ],
        );
        let info = tlv::write(
            tag::SEQUENCE,
            &[
                // Windows wants the NULL (RFC 8017 appendix B.1 has it too).
                &tlv::write_algorithm(oids::hash(self.digest.algorithm()), true),
                &tlv::write(tag::OCTET_STRING, &[self.digest.as_bytes()]),
            ],
        );
        tlv::write(tag::SEQUENCE, &[&data, &info])
    }
}

/// `SpcPeImageData`: it says nothing about the file, so nothing but the known constants may stand in it.
struct PeImage {
    flags: &'static [u8],
    file: &'static [u8],
}

impl PeImage {
    fn known(bytes: &[u8]) -> Result<Self, ContentRefusal> {
        PE_FLAGS
            .into_iter()
            .flat_map(|flags| [PE_FILE_EMPTY, PE_FILE_OBSOLETE].map(|file| Self { flags, file }))
            .find(|known| known.encode() == bytes)
            .ok_or(ContentRefusal::UnusualPeImageData)
    }

    fn encode(&self) -> Vec<u8> {
        tlv::write(tag::SEQUENCE, &[self.flags, self.file])
    }
}

/// What `messageDigest` covers: the value without its outer tag and length.
fn indirect_value(indirect_data: &[u8]) -> Result<&[u8], ContentRefusal> {
    let mut c = Cursor::over(FIELD, indirect_data)?;
    let value = c.expect(Tag::Sequence, "SpcIndirectDataContent")?;
    c.finish()?;
    Ok(value)
}

fn file_digest(algorithm: HashAlgorithm, bytes: &[u8]) -> Result<Digest, ContentRefusal> {
    Digest::new(algorithm, bytes).map_err(|e| ContentRefusal::WrongDigestLength {
        field: FIELD,
        algorithm: e.algorithm,
        given: e.given,
    })
}
