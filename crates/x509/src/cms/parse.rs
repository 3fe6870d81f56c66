//! Reading and verifying a `SignedData`.

use super::{CmsError, MAX_CERTIFICATES, MAX_MESSAGE, MAX_SIGNERS, signed_attributes};
use crate::asn1::{
    self, Asn1Error, Attribute, Cursor, OCTET_STRING, ObjectIdentifier, Problem, SEQUENCE, SET,
    Tlv, context, context_primitive,
};
use crate::cert::Certificate;
use crate::verify::{self, AnyPublicKey, Mechanism, VerifyError};
use crate::{hash, oid};
use countersign_core::{Digest, HashAlgorithm};

/// A `SignedData`, read strictly: DER throughout, no trailing bytes, signed attributes in DER order
/// and each once. The sets of certificates, digest algorithms and signers may stand in any order:
/// nothing signed depends on it, and real timestamp authorities do not sort them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedSignedData {
    content_type: ObjectIdentifier,
    econtent: Option<Vec<u8>>,
    certificates: Vec<Certificate>,
    signers: Vec<SignerInfo>,
}

/// One signer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignerInfo {
    /// Which certificate.
    pub sid: SignerId,
    /// The hash of content and signature.
    pub digest: HashAlgorithm,
    /// The signed attributes as they are hashed: DER `SET OF`, tag 31.
    pub signed_attrs_der: Option<Vec<u8>>,
    /// The signature's `AlgorithmIdentifier`.
    pub signature_algorithm_der: Vec<u8>,
    /// The signature.
    pub signature: Vec<u8>,
    /// Unsigned attributes, in the order they stand.
    pub unsigned_attrs: Vec<Attribute>,
}

/// How a signer names its certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignerId {
    /// By issuer and serial number.
    IssuerAndSerial {
        /// The issuer's DER `Name`.
        issuer: Vec<u8>,
        /// The content octets of the serial number.
        serial: Vec<u8>,
    },
    /// By subject key identifier.
    SubjectKeyId(Vec<u8>),
}

/// Where the signed content is.
#[derive(Debug, Clone, Copy)]
pub enum SignedContent<'a> {
    /// Inside the message.
    Embedded,
    /// These bytes, for a detached signature.
    Bytes(&'a [u8]),
    /// Somewhere else; this is its digest.
    Digest(&'a Digest),
}

impl ParsedSignedData {
    /// Reads a `ContentInfo` with a `SignedData`.
    ///
    /// # Errors
    /// [`CmsError`]. Nothing is verified here.
    pub fn parse(content_info_der: &[u8]) -> Result<Self, CmsError> {
        let raw = read_signed_data(content_info_der)?;
        Ok(Self {
            content_type: raw.content_type,
            econtent: raw.econtent.map(<[u8]>::to_vec),
            certificates: raw
                .certificates
                .iter()
                .map(|t| Certificate::from_der(t.bytes))
                .collect::<Result<_, _>>()?,
            signers: raw
                .signers
                .iter()
                .map(read_signer)
                .collect::<Result<_, _>>()?,
        })
    }

    /// The type of the content.
    #[must_use]
    pub const fn content_type(&self) -> &ObjectIdentifier {
        &self.content_type
    }

    /// The content as DER of one element (tag and length included), if it is inside.
    #[must_use]
    pub fn econtent(&self) -> Option<&[u8]> {
        self.econtent.as_deref()
    }

    /// The content octets: what the digest is over, if the content is inside.
    #[must_use]
    pub fn content_octets(&self) -> Option<&[u8]> {
        let bytes = self.econtent.as_deref()?;
        Cursor::new(bytes).any("eContent").ok().map(|t| t.value)
    }

    /// The certificates, in the order they stand.
    #[must_use]
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    /// The signers, in the order they stand.
    #[must_use]
    pub fn signers(&self) -> &[SignerInfo] {
        &self.signers
    }

    /// The certificate signer `index` names.
    ///
    /// # Errors
    /// [`CmsError::NoSigner`], [`CmsError::NoSignerCertificate`].
    pub fn signer_certificate(&self, index: usize) -> Result<&Certificate, CmsError> {
        let signer = self.signers.get(index).ok_or(CmsError::NoSigner(index))?;
        self.certificates
            .iter()
            .find(|c| match &signer.sid {
                SignerId::IssuerAndSerial { issuer, serial } => {
                    c.issuer_der() == issuer && c.serial() == serial
                }
                SignerId::SubjectKeyId(id) => c.known().subject_key_id.as_ref() == Some(id),
            })
            .ok_or(CmsError::NoSignerCertificate)
    }

    /// Verifies signer `index`: contentType, messageDigest and signature (RFC 5652 §5.6). Whether
    /// its certificate is to be trusted is for [`crate::chain`].
    ///
    /// # Errors
    /// [`CmsError`], the first check that fails.
    pub fn verify_signer(
        &self,
        index: usize,
        content: SignedContent<'_>,
    ) -> Result<&Certificate, CmsError> {
        let signer = self.signers.get(index).ok_or(CmsError::NoSigner(index))?;
        let certificate = self.signer_certificate(index)?;
        let content_digest = self.content_digest(signer.digest, content)?;
        let signed = match &signer.signed_attrs_der {
            None if self.content_type != oid::DATA => return Err(CmsError::NoSignedAttributes),
            None => content_digest,
            Some(der) => {
                let attributes = signed_attributes::parse(der)?;
                if signed_attributes::content_type(&attributes)? != self.content_type {
                    return Err(CmsError::ContentType);
                }
                if signed_attributes::message_digest(&attributes)? != content_digest.as_bytes() {
                    return Err(CmsError::MessageDigest);
                }
                hash::digest(signer.digest, der)
            }
        };
        let mechanism = Mechanism::from_cms(&signer.signature_algorithm_der, signer.digest)?;
        AnyPublicKey::from_spki_der(certificate.spki_der())
            .map_err(VerifyError::from)?
            .verify_digest(mechanism, &signed, &signer.signature)?;
        Ok(certificate)
    }

    fn content_digest(
        &self,
        algorithm: HashAlgorithm,
        content: SignedContent<'_>,
    ) -> Result<Digest, CmsError> {
        match (content, self.content_octets()) {
            (SignedContent::Embedded, Some(octets)) => Ok(hash::digest(algorithm, octets)),
            (SignedContent::Embedded, None) => Err(CmsError::NoContent),
            // Two contents, and the caller's would be verified while readers see the other.
            (_, Some(_)) => Err(CmsError::TwoContents),
            (SignedContent::Bytes(b), None) => Ok(hash::digest(algorithm, b)),
            (SignedContent::Digest(d), None) if d.algorithm() == algorithm => Ok(d.clone()),
            (SignedContent::Digest(_), None) => Err(CmsError::DigestMismatch),
        }
    }
}

impl SignerInfo {
    /// The signed attributes, decoded.
    ///
    /// # Errors
    /// [`CmsError::NoSignedAttributes`], [`CmsError::Asn1`].
    pub fn signed_attributes(&self) -> Result<Vec<Attribute>, CmsError> {
        signed_attributes::parse(
            self.signed_attrs_der
                .as_deref()
                .ok_or(CmsError::NoSignedAttributes)?,
        )
    }

    /// The values of an unsigned attribute; empty if it is absent.
    #[must_use]
    pub fn unsigned_values(&self, id: &ObjectIdentifier) -> &[Vec<u8>] {
        self.unsigned_attrs
            .iter()
            .find(|a| a.oid == *id)
            .map_or(&[], |a| a.values.as_slice())
    }
}

/// A `SignedData` as slices of the message.
pub(super) struct RawSignedData<'a> {
    pub(super) content_type: ObjectIdentifier,
    pub(super) econtent: Option<&'a [u8]>,
    pub(super) certificates: Vec<Tlv<'a>>,
    pub(super) signers: Vec<Tlv<'a>>,
    /// All fields before `signerInfos`.
    pub(super) before_signers: Vec<&'a [u8]>,
}

pub(super) fn read_signed_data(message: &[u8]) -> Result<RawSignedData<'_>, CmsError> {
    if message.len() > MAX_MESSAGE {
        return Err(Asn1Error::new("ContentInfo", Problem::TooLarge).into());
    }
    let mut c = Cursor::new(Cursor::single(message, SEQUENCE, "ContentInfo")?.value);
    let kind = c.oid("contentType")?;
    if kind != oid::SIGNED_DATA {
        return Err(CmsError::NotSignedData(kind));
    }
    let content = c.expect(context(0), "content")?;
    c.finish("ContentInfo")?;

    let mut before_signers = Vec::new();
    let mut s = Cursor::new(Cursor::single(content.value, SEQUENCE, "SignedData")?.value);
    let version = s.expect(asn1::INTEGER, "version")?;
    // RFC 5652 §5.1: 1, 3, 4 (version 2 attribute certificates) or 5; we read no attribute ones.
    if !matches!(version.value, [1 | 3]) {
        return Err(Asn1Error::new("version", Problem::Version).into());
    }
    before_signers.push(version.bytes);
    let digests = s.expect(SET, "digestAlgorithms")?;
    Cursor::new(digests.value).elements(MAX_SIGNERS, "digestAlgorithms")?;
    before_signers.push(digests.bytes);

    let encap = s.expect(SEQUENCE, "encapContentInfo")?;
    before_signers.push(encap.bytes);
    let mut e = Cursor::new(encap.value);
    let content_type = e.oid("eContentType")?;
    let econtent = match e.optional(context(0), "eContent")? {
        None => None,
        Some(t) => {
            let mut inner = Cursor::new(t.value);
            let element = inner.any("eContent")?;
            inner.finish("eContent")?;
            Some(element.bytes)
        }
    };
    e.finish("encapContentInfo")?;

    let mut certificates = Vec::new();
    if let Some(t) = s.optional(context(0), "certificates")? {
        before_signers.push(t.bytes);
        certificates = Cursor::new(t.value).elements(MAX_CERTIFICATES, "certificates")?;
    }
    if let Some(t) = s.optional(context(1), "crls")? {
        before_signers.push(t.bytes);
    }
    let signers = s
        .enter(SET, "signerInfos")?
        .elements(MAX_SIGNERS, "signerInfos")?;
    s.finish("SignedData")?;
    Ok(RawSignedData {
        content_type,
        econtent,
        certificates,
        signers,
        before_signers,
    })
}

fn read_signer(t: &Tlv<'_>) -> Result<SignerInfo, CmsError> {
    const F: &str = "signerInfo";
    let mut c = Cursor::new(Cursor::single(t.bytes, SEQUENCE, F)?.value);
    let version = c.small_integer("signerInfo.version")?;
    let id = c.any("sid")?;
    // RFC 5652 §5.3: 1 with issuerAndSerialNumber, 3 with subjectKeyIdentifier.
    let sid = match (version, id.tag) {
        (1, SEQUENCE) => {
            let mut i = Cursor::new(id.value);
            let issuer = i.expect(SEQUENCE, "sid.issuer")?.bytes.to_vec();
            let serial = i.integer("sid.serialNumber")?.to_vec();
            i.finish("sid")?;
            SignerId::IssuerAndSerial { issuer, serial }
        }
        (3, tag) if tag == context_primitive(0) => SignerId::SubjectKeyId(id.value.to_vec()),
        _ => return Err(Asn1Error::new("sid", Problem::Version).into()),
    };
    let digest = verify::digest_algorithm(c.expect(SEQUENCE, "digestAlgorithm")?.bytes)?;
    let signed_attrs_der = match c.optional(context(0), "signedAttrs")? {
        None => None,
        Some(t) => {
            // RFC 5652 §5.4: hashed with tag 31. Read now, so that order and doubles are refused.
            let der = asn1::tlv(SET, &[t.value]);
            signed_attributes::parse(&der)?;
            Some(der)
        }
    };
    let signature_algorithm_der = c.expect(SEQUENCE, "signatureAlgorithm")?.bytes.to_vec();
    let signature = c.expect(OCTET_STRING, "signature")?.value.to_vec();
    let unsigned_attrs = match c.optional(context(1), "unsignedAttrs")? {
        None => Vec::new(),
        Some(t) => read_unsigned(t.value)?,
    };
    c.finish(F)?;
    Ok(SignerInfo {
        sid,
        digest,
        signed_attrs_der,
        signature_algorithm_der,
        signature,
        unsigned_attrs,
    })
}

/// Unsigned attributes are nobody's promise: any order, but well-formed and each type once.
fn read_unsigned(content: &[u8]) -> Result<Vec<Attribute>, CmsError> {
    const F: &str = "unsignedAttrs";
    let mut out: Vec<Attribute> = Vec::new();
    for t in Cursor::new(content).elements(16, F)? {
        let a = Attribute::from_tlv(&t, F)?;
        if out.iter().any(|b| b.oid == a.oid) {
            return Err(Asn1Error::new(F, Problem::Duplicate).into());
        }
        out.push(a);
    }
    Ok(out)
}
