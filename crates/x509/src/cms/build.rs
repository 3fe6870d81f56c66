//! Assembling a `SignedData` from parts signed elsewhere.

use super::parse::{SignedContent, read_signed_data};
use super::{CmsError, MAX_MESSAGE, ParsedSignedData, signed_attributes};
use crate::asn1::{
    self, Asn1Error, Attribute, Cursor, OCTET_STRING, ObjectIdentifier, Problem, SEQUENCE, SET,
    context,
};
use crate::cert::Certificate;
use crate::verify::{AnyPublicKey, Mechanism, hash_oid};
use crate::{hash, key, oid};
use countersign_core::{HashAlgorithm, SignatureScheme};

/// What goes into a `SignedData` with one signer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedDataParts {
    /// The type of the content.
    pub content_type: ObjectIdentifier,
    /// The content as DER of one element, or `None` if it is detached. An OCTET STRING makes a CMS
    /// message, anything else the PKCS#7 form (Authenticode).
    pub econtent: Option<Vec<u8>>,
    /// The hash of content and signature.
    pub digest: HashAlgorithm,
    /// The DER `SET OF Attribute` (tag 31) that was signed.
    pub signed_attrs_der: Vec<u8>,
    /// The scheme it was signed with.
    pub scheme: SignatureScheme,
    /// The signature; ECDSA as DER.
    pub signature: Vec<u8>,
    /// The certificates, each DER, the signer's first, the root best left out.
    pub chain: Vec<Vec<u8>>,
}

/// A `ContentInfo` with the `SignedData`. Everything is checked before it is returned: the
/// attributes name this content, and the signature verifies with the first certificate's key.
///
/// # Errors
/// [`CmsError`].
pub fn build_signed_data(parts: &SignedDataParts) -> Result<Vec<u8>, CmsError> {
    let leaf = Certificate::from_der(parts.chain.first().ok_or(CmsError::NoChain)?)?;
    for c in &parts.chain {
        Certificate::from_der(c)?;
    }
    check(parts, &leaf)?;

    // SHA-2 with NULL parameters: what signtool writes, and RFC 5754 §2 wants accepted everywhere.
    let digest_algorithm = asn1::sequence(&[&asn1::oid(&hash_oid(parts.digest)), &asn1::null()]);
    // RFC 3370 §3.2: rsaEncryption, the hash stands beside it. ECDSA names its hash (RFC 5754 §3.3).
    let signature_algorithm = match parts.scheme {
        SignatureScheme::RsaPkcs1(_) => {
            asn1::sequence(&[&asn1::oid(&oid::RSA_ENCRYPTION), &asn1::null()])
        }
        ecdsa @ SignatureScheme::Ecdsa(_) => key::signature_algorithm_der(ecdsa),
    };
    let attributes = Cursor::single(&parts.signed_attrs_der, SET, "signedAttrs")?.value;
    let signer = asn1::sequence(&[
        // RFC 5652 §5.3: version 1 with issuerAndSerialNumber.
        &asn1::unsigned(&[1]),
        &asn1::sequence(&[
            leaf.issuer_der(),
            &asn1::tlv(asn1::INTEGER, &[leaf.serial()]),
        ]),
        &digest_algorithm,
        &asn1::tlv(context(0), &[attributes]),
        &signature_algorithm,
        &asn1::octet_string(&parts.signature),
    ]);
    let content = match &parts.econtent {
        None => asn1::sequence(&[&asn1::oid(&parts.content_type)]),
        Some(e) => asn1::sequence(&[
            &asn1::oid(&parts.content_type),
            &asn1::tlv(context(0), &[e]),
        ]),
    };
    let certificates = asn1::set_of(parts.chain.clone());
    let certificates = Cursor::single(&certificates, SET, "certificates")?.value;
    let signed_data = asn1::sequence(&[
        &asn1::unsigned(&[version(parts)]),
        &asn1::set_of(vec![digest_algorithm.clone()]),
        &content,
        &asn1::tlv(context(0), &[certificates]),
        &asn1::set_of(vec![signer]),
    ]);
    let message = content_info(&signed_data);
    if message.len() > MAX_MESSAGE {
        return Err(Asn1Error::new("econtent", Problem::TooLarge).into());
    }
    // Reads back what was written: a message we would refuse must not leave.
    ParsedSignedData::parse(&message)?;
    Ok(message)
}

/// Adds an unsigned attribute to signer `signer_index`. If the attribute type is there already, the
/// value joins its set. Every other byte stays as it is.
///
/// # Errors
/// [`CmsError::NoSigner`], [`CmsError::Asn1`].
pub fn add_unsigned_attribute(
    content_info_der: &[u8],
    signer_index: usize,
    oid: &ObjectIdentifier,
    value_der: &[u8],
) -> Result<Vec<u8>, CmsError> {
    // Refuses everything the reader refuses, so the walk below meets no surprise.
    let parsed = ParsedSignedData::parse(content_info_der)?;
    let signer = parsed
        .signers()
        .get(signer_index)
        .ok_or(CmsError::NoSigner(signer_index))?;
    let mut value = Cursor::new(value_der);
    value.any("unsignedAttrs")?;
    value.finish("unsignedAttrs")?;

    let mut unsigned = signer.unsigned_attrs.clone();
    match unsigned.iter_mut().find(|a| a.oid == *oid) {
        Some(a) => a.values.push(value_der.to_vec()),
        None => unsigned.push(Attribute::single(*oid, value_der.to_vec())),
    }
    let set = asn1::set_of(unsigned.iter().map(Attribute::to_der).collect());
    let unsigned = asn1::tlv(
        context(1),
        &[Cursor::single(&set, SET, "unsignedAttrs")?.value],
    );

    let raw = read_signed_data(content_info_der)?;
    let mut signers = Vec::with_capacity(raw.signers.len());
    for (i, s) in raw.signers.iter().enumerate() {
        if i == signer_index {
            let mut parts = Vec::new();
            for field in Cursor::new(Cursor::single(s.bytes, SEQUENCE, "signerInfo")?.value)
                .elements(8, "signerInfo")?
                .iter()
                .filter(|t| t.tag != context(1))
            {
                parts.push(field.bytes);
            }
            parts.push(&unsigned);
            signers.push(asn1::sequence(&parts));
        } else {
            signers.push(s.bytes.to_vec());
        }
    }
    // The signers keep their order, so that an index means the same before and after. With one
    // signer, which is all we write, this is DER order too.
    let signers: Vec<&[u8]> = signers.iter().map(Vec::as_slice).collect();
    let mut fields = raw.before_signers;
    let signer_infos = asn1::tlv(SET, &signers);
    fields.push(&signer_infos);
    let message = content_info(&asn1::sequence(&fields));
    ParsedSignedData::parse(&message)?;
    Ok(message)
}

fn check(parts: &SignedDataParts, leaf: &Certificate) -> Result<(), CmsError> {
    if parts.scheme.hash() != parts.digest {
        return Err(CmsError::DigestMismatch);
    }
    let attributes = signed_attributes::parse(&parts.signed_attrs_der)?;
    if signed_attributes::content_type(&attributes)? != parts.content_type {
        return Err(CmsError::ContentType);
    }
    let stated = signed_attributes::message_digest(&attributes)?;
    let matches = match &parts.econtent {
        None => stated.len() == parts.digest.digest_len(),
        Some(e) => {
            let mut c = Cursor::new(e);
            let t = c.any("econtent")?;
            c.finish("econtent")?;
            // RFC 5652 §5.4: the content octets, without tag and length. Authenticode likewise.
            hash::digest(parts.digest, t.value).as_bytes() == stated
        }
    };
    if !matches {
        return Err(CmsError::MessageDigest);
    }
    AnyPublicKey::from_spki_der(leaf.spki_der())
        .map_err(crate::verify::VerifyError::from)?
        .verify(
            Mechanism::from(parts.scheme),
            &parts.signed_attrs_der,
            &parts.signature,
        )?;
    Ok(())
}

/// RFC 5652 §5.1: 3 if the content is anything but id-data. The PKCS#7 form knows only 1, and
/// Windows' Authenticode verifier wants it.
fn version(parts: &SignedDataParts) -> u8 {
    let pkcs7 = parts
        .econtent
        .as_ref()
        .is_some_and(|e| e.first() != Some(&OCTET_STRING));
    if parts.content_type == oid::DATA || pkcs7 {
        1
    } else {
        3
    }
}

fn content_info(signed_data: &[u8]) -> Vec<u8> {
    asn1::sequence(&[
        &asn1::oid(&oid::SIGNED_DATA),
        &asn1::tlv(context(0), &[signed_data]),
    ])
}

impl SignedDataParts {
    /// Whether the message will contain its content.
    #[must_use]
    pub const fn is_detached(&self) -> bool {
        self.econtent.is_none()
    }

    /// How [`ParsedSignedData::verify_signer`] is told where the content is.
    #[must_use]
    pub fn content<'a>(&self, detached: &'a [u8]) -> SignedContent<'a> {
        if self.is_detached() {
            SignedContent::Bytes(detached)
        } else {
            SignedContent::Embedded
        }
    }
}
