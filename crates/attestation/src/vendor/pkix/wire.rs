//! The ASN.1 of PKIX key-attestation evidence (draft-ietf-rats-pkix-key-attestation).
//!
//! ```text
//! Evidence ::= SEQUENCE { tbs TbsEvidence, signatures SEQUENCE OF SignatureBlock,
//!     intermediateCertificates [0] SEQUENCE OF Certificate OPTIONAL }
//! TbsEvidence ::= SEQUENCE { version INTEGER, reportedElements SEQUENCE OF ReportedElement }
//! ReportedElement ::= SEQUENCE { type OID, claims SEQUENCE OF ReportedClaim }
//! ReportedClaim ::= SEQUENCE { type OID, value ANY OPTIONAL }
//! SignatureBlock ::= SEQUENCE { sid SEQUENCE { [0] keyId, [1] spki, [2] certificate },
//!     algorithm AlgorithmIdentifier, value OCTET STRING }
//! ```

use crate::der::{DerError, Element, expect, tag};
use crate::oid::Oid;

const MAX_ELEMENTS: usize = 64;
const MAX_CLAIMS: usize = 64;
const MAX_SIGNATURES: usize = 8;
const MAX_CERTIFICATES: usize = 16;

/// Evidence as it stands in the input.
#[derive(Debug, Clone)]
pub struct Evidence<'a> {
    /// The DER of `TbsEvidence`: what each signer signed.
    pub tbs: &'a [u8],
    /// Its version.
    pub version: u64,
    /// The elements, in order.
    pub elements: Vec<ReportedElement<'a>>,
    /// The signatures.
    pub signatures: Vec<SignatureBlock<'a>>,
    /// `intermediateCertificates`.
    pub certificates: Vec<&'a [u8]>,
}

/// What is reported of one thing: a transaction, a platform, a key.
#[derive(Debug, Clone)]
pub struct ReportedElement<'a> {
    /// What thing.
    pub kind: Oid,
    /// What is claimed of it.
    pub claims: Vec<ReportedClaim<'a>>,
}

/// A claim.
#[derive(Debug, Clone)]
pub struct ReportedClaim<'a> {
    /// Which.
    pub kind: Oid,
    /// Its value, if it has one.
    pub value: Option<Element<'a>>,
}

/// A signature and who made it.
#[derive(Debug, Clone)]
pub struct SignatureBlock<'a> {
    /// The signer's key identifier.
    pub key_id: Option<&'a [u8]>,
    /// The signer's SubjectPublicKeyInfo.
    pub spki: Option<&'a [u8]>,
    /// The signer's certificate.
    pub certificate: Option<&'a [u8]>,
    /// The AlgorithmIdentifier.
    pub algorithm: &'a [u8],
    /// The signature.
    pub value: &'a [u8],
}

/// Whether the bytes have the outline of evidence. Cheap, and no promise.
#[must_use]
pub fn looks_like(bytes: &[u8]) -> bool {
    let outline = || -> Result<bool, DerError> {
        const F: &str = "Evidence";
        let mut w = expect(bytes, tag::SEQUENCE, F)?.walk();
        let mut tbs = w.expect(tag::SEQUENCE, F)?.walk();
        let mut signatures = w.expect(tag::SEQUENCE, F)?.walk();
        tbs.expect(tag::INTEGER, F)?;
        let mut first = tbs
            .expect(tag::SEQUENCE, F)?
            .walk()
            .expect(tag::SEQUENCE, F)?
            .walk();
        first.expect(tag::OID, F)?;
        first.expect(tag::SEQUENCE, F)?;
        // A signature block: who, how, and the octets. A certificate has no such second part.
        // Without any signature it is evidence still, and bad.
        if signatures.is_empty() {
            return Ok(tbs.is_empty());
        }
        let mut block = signatures.expect(tag::SEQUENCE, F)?.walk();
        block.expect(tag::SEQUENCE, F)?;
        block.expect(tag::SEQUENCE, F)?;
        block.expect(tag::OCTET_STRING, F)?;
        Ok(tbs.is_empty())
    };
    outline().unwrap_or(false)
}

impl<'a> Evidence<'a> {
    /// Reads evidence.
    ///
    /// # Errors
    /// [`DerError`] for anything but DER of the shape above, within bounds.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DerError> {
        let mut w = expect(bytes, tag::SEQUENCE, "Evidence")?.walk();
        let tbs = w.expect(tag::SEQUENCE, "TbsEvidence")?;
        let blocks = w
            .expect(tag::SEQUENCE, "signatures")?
            .walk()
            .all(MAX_SIGNATURES, "signatures")?;
        let certificates = match w.optional(tag::context(0), "intermediateCertificates")? {
            Some(list) => certificates(list)?,
            None => Vec::new(),
        };
        w.finish("Evidence")?;
        let mut inner = tbs.walk();
        let version = inner.next("version")?.small("version")?;
        let elements = inner
            .expect(tag::SEQUENCE, "reportedElements")?
            .walk()
            .all(MAX_ELEMENTS, "reportedElements")?;
        inner.finish("TbsEvidence")?;
        Ok(Self {
            tbs: tbs.raw(),
            version,
            elements: elements.iter().map(element).collect::<Result<_, _>>()?,
            signatures: blocks.iter().map(block).collect::<Result<_, _>>()?,
            certificates,
        })
    }
}

fn element<'a>(e: &Element<'a>) -> Result<ReportedElement<'a>, DerError> {
    const F: &str = "ReportedElement";
    let mut w = e.tagged(tag::SEQUENCE, F)?.walk();
    let kind = w.next("element type")?.oid("element type")?;
    let list = w
        .expect(tag::SEQUENCE, "claims")?
        .walk()
        .all(MAX_CLAIMS, "claims")?;
    w.finish(F)?;
    let claims = list.iter().map(claim).collect::<Result<_, _>>()?;
    Ok(ReportedElement { kind, claims })
}

fn claim<'a>(e: &Element<'a>) -> Result<ReportedClaim<'a>, DerError> {
    const F: &str = "ReportedClaim";
    let mut w = e.tagged(tag::SEQUENCE, F)?.walk();
    let kind = w.next("claim type")?.oid("claim type")?;
    let value = if w.is_empty() {
        None
    } else {
        Some(w.next("claim value")?)
    };
    w.finish(F)?;
    Ok(ReportedClaim { kind, value })
}

fn block<'a>(e: &Element<'a>) -> Result<SignatureBlock<'a>, DerError> {
    const F: &str = "SignatureBlock";
    let mut w = e.tagged(tag::SEQUENCE, F)?.walk();
    let mut sid = w.expect(tag::SEQUENCE, "sid")?.walk();
    // EXPLICIT TAGS: each alternative is wrapped.
    let mut part = |n: u8, inner: u8, field| -> Result<Option<Element<'a>>, DerError> {
        match sid.optional(tag::context(n), field)? {
            Some(e) => e.inner(field)?.tagged(inner, field).map(Some),
            None => Ok(None),
        }
    };
    let key_id = part(0, tag::OCTET_STRING, "sid.keyId")?.map(|e| e.content());
    let spki = part(1, tag::SEQUENCE, "sid.subjectPublicKeyInfo")?.map(|e| e.raw());
    let certificate = part(2, tag::SEQUENCE, "sid.certificate")?.map(|e| e.raw());
    sid.finish("sid")?;
    let algorithm = w.expect(tag::SEQUENCE, "signatureAlgorithm")?.raw();
    let value = w.next("signatureValue")?.octets("signatureValue")?;
    w.finish(F)?;
    Ok(SignatureBlock {
        key_id,
        spki,
        certificate,
        algorithm,
        value,
    })
}

/// The certificates under `[0]`. The draft says EXPLICIT TAGS, its sample leaves the SEQUENCE OF
/// out (as IMPLICIT would); both are read.
fn certificates<'a>(list: Element<'a>) -> Result<Vec<&'a [u8]>, DerError> {
    const F: &str = "intermediateCertificates";
    let items = list.walk().all(MAX_CERTIFICATES, F)?;
    // A certificate holds a TBSCertificate, which starts with `[0]` or an INTEGER; a list holds a
    // certificate, which starts with a SEQUENCE.
    let is_list = |e: &Element<'a>| -> Result<bool, DerError> {
        let first = e.tagged(tag::SEQUENCE, F)?.walk().next(F)?;
        Ok(first.walk().peek() == Some(tag::SEQUENCE))
    };
    match items.as_slice() {
        [one] if is_list(one)? => Ok(one
            .walk()
            .all(MAX_CERTIFICATES, F)?
            .iter()
            .map(Element::raw)
            .collect()),
        _ => items
            .iter()
            .map(|e| e.tagged(tag::SEQUENCE, F).map(|e| e.raw()))
            .collect(),
    }
}
