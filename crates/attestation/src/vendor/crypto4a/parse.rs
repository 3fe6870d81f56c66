//! The attestation message: claims, signatures over them, and certificates.
//!
//! ```text
//! AttestationMessage ::= SEQUENCE { version INTEGER (1), claims SetOfClaims,
//!     signatures SEQUENCE OF SignatureBlock, certificates [0] IMPLICIT SEQUENCE OF Certificate OPTIONAL }
//! SetOfClaims    ::= SEQUENCE { version INTEGER (1), claims SEQUENCE OF Claim }
//! Claim          ::= SEQUENCE { predicate OBJECT IDENTIFIER, subject [0] Id OPTIONAL, value [1] Value OPTIONAL }
//! Id             ::= [0] IMPLICIT OCTET STRING (16 bytes)
//! Value          ::= CHOICE { [0] bytes, [1] text, [2] GeneralizedTime, [3] INTEGER }, each IMPLICIT
//! SignatureBlock ::= SEQUENCE { SEQUENCE { [0] OCTET STRING (16 bytes), [2] Certificate },
//!     algorithm AlgorithmIdentifier, signature BIT STRING }
//! ```
//!
//! As seen on a real message; the vendor's page prints the claims' arc with one number too many.

use crate::certificate::Certificate;
use crate::der::{DerError, Element, expect, tag};
use crate::oid::Oid;
use crate::time::UnixSeconds;
use spki::ObjectIdentifier;

/// Longest message read.
pub const MAX_MESSAGE: usize = 256 * 1024;
/// Most claims, signatures, certificates read.
const MAX_CLAIMS: usize = 128;
const MAX_SIGNATURES: usize = 8;
const MAX_CERTIFICATES: usize = 16;
/// Longest text of a claim.
const MAX_TEXT: usize = 256;

/// A UUID.
pub type Id = [u8; 16];

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The bytes signed: the whole element of the claims, tag and length included.
    pub signed: Vec<u8>,
    /// The claims.
    pub claims: Vec<Claim>,
    /// The signatures.
    pub signatures: Vec<SignatureBlock>,
    /// Further certificates.
    pub certificates: Vec<Certificate>,
}

/// One claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// What is claimed.
    pub predicate: Oid,
    /// Of which object; of the module itself if absent.
    pub subject: Option<Id>,
    /// With which value.
    pub value: Option<Value>,
}

/// A claim's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Bytes.
    Bytes(Vec<u8>),
    /// Text.
    Text(String),
    /// A moment.
    Time(UnixSeconds),
    /// A number.
    Number(u64),
}

/// A signature over the claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureBlock {
    /// The signing key's UUID in the module.
    pub key_id: Id,
    /// The signer's certificate.
    pub signer: Certificate,
    /// The algorithm identifier, whole.
    pub algorithm: Vec<u8>,
    /// The signature.
    pub signature: Vec<u8>,
}

/// The algorithm `id-alg-hss-lms-hashsig` (RFC 9708).
pub const HSS_LMS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.3.17");

impl Message {
    /// Whether this may be one: its outermost shape and the arc of the first claim.
    pub fn recognises(der: &[u8]) -> bool {
        // 1.3.6.1.4.1.39901.6
        const ARC: &[u8] = &[0x2b, 6, 1, 4, 1, 0x82, 0xb7, 0x5d, 6];
        let first = || -> Result<bool, DerError> {
            let mut w = expect(der, tag::SEQUENCE, "message")?.walk();
            w.expect(tag::INTEGER, "version")?;
            let mut claims = w.expect(tag::SEQUENCE, "claims")?.walk();
            claims.expect(tag::INTEGER, "version")?;
            let mut list = claims.expect(tag::SEQUENCE, "claims")?.walk();
            let mut claim = list.expect(tag::SEQUENCE, "claim")?.walk();
            let predicate = claim.expect(tag::OID, "predicate")?;
            Ok(predicate.content().starts_with(ARC))
        };
        first().unwrap_or(false)
    }

    /// Reads one and nothing after it.
    pub fn parse(der: &[u8]) -> Result<Self, DerError> {
        const F: &str = "attestation message";
        if der.len() > MAX_MESSAGE {
            return Err(DerError::value(F, "is longer than is read"));
        }
        let mut w = expect(der, tag::SEQUENCE, F)?.walk();
        version(&w.next("version")?)?;
        let claims = w.expect(tag::SEQUENCE, "claims")?;
        let blocks = w.expect(tag::SEQUENCE, "signatures")?;
        let mut certificates = Vec::new();
        if let Some(list) = w.optional(tag::context(0), "certificates")? {
            for one in list.walk().all(MAX_CERTIFICATES, "certificates")? {
                certificates.push(Certificate::from_der(one.raw())?);
            }
        }
        w.finish(F)?;
        let mut signatures = Vec::new();
        for block in blocks.walk().all(MAX_SIGNATURES, "signatures")? {
            signatures.push(signature_block(&block)?);
        }
        Ok(Self {
            signed: claims.raw().to_vec(),
            claims: set_of_claims(&claims)?,
            signatures,
            certificates,
        })
    }
}

fn version(e: &Element<'_>) -> Result<(), DerError> {
    match e.small("version")? {
        1 => Ok(()),
        _ => Err(DerError::value("version", "is not 1")),
    }
}

fn set_of_claims(e: &Element<'_>) -> Result<Vec<Claim>, DerError> {
    let mut w = e.walk();
    version(&w.next("claims version")?)?;
    let list = w.expect(tag::SEQUENCE, "claims")?;
    w.finish("claims")?;
    let list = list.walk().all(MAX_CLAIMS, "claims")?;
    list.iter().map(claim).collect()
}

fn claim(e: &Element<'_>) -> Result<Claim, DerError> {
    const F: &str = "claim";
    let mut w = e.tagged(tag::SEQUENCE, F)?.walk();
    let predicate = w.next("predicate")?.oid("predicate")?;
    let subject = match w.optional(tag::context(0), "subject")? {
        Some(s) => Some(id(&s.inner("subject")?, tag::context_primitive(0))?),
        None => None,
    };
    let value = match w.optional(tag::context(1), "value")? {
        Some(v) => Some(value(&v.inner("value")?)?),
        None => None,
    };
    w.finish(F)?;
    Ok(Claim {
        predicate,
        subject,
        value,
    })
}

fn id(e: &Element<'_>, tag: u8) -> Result<Id, DerError> {
    const F: &str = "UUID";
    let content = e.tagged(tag, F)?.content();
    content
        .try_into()
        .map_err(|_| DerError::value(F, "does not have 16 bytes"))
}

fn value(e: &Element<'_>) -> Result<Value, DerError> {
    const F: &str = "claim value";
    const BYTES: u8 = tag::context_primitive(0);
    const TEXT: u8 = tag::context_primitive(1);
    const TIME: u8 = tag::context_primitive(2);
    const NUMBER: u8 = tag::context_primitive(3);
    let content = e.content();
    match e.tag() {
        BYTES => Ok(Value::Bytes(content.to_vec())),
        TEXT if content.len() <= MAX_TEXT => String::from_utf8(content.to_vec())
            .ok()
            .filter(|text| !text.chars().any(char::is_control))
            .map(Value::Text)
            .ok_or(DerError::value(F, "is no printable UTF-8 text")),
        TEXT => Err(DerError::value(F, "is longer than is read")),
        // The implicit tags hide the types' own: put back, they are read as what they are.
        TIME => {
            let whole = crate::key::wrap(tag::GENERALIZED_TIME, content);
            expect(&whole, tag::GENERALIZED_TIME, F)?
                .time(F)
                .map(Value::Time)
        }
        NUMBER => {
            let whole = crate::key::wrap(tag::INTEGER, content);
            expect(&whole, tag::INTEGER, F)?.small(F).map(Value::Number)
        }
        _ => Err(DerError::value(F, "is of an unknown kind")),
    }
}

fn signature_block(e: &Element<'_>) -> Result<SignatureBlock, DerError> {
    const F: &str = "signature block";
    let mut w = e.tagged(tag::SEQUENCE, F)?.walk();
    let mut signer = w.expect(tag::SEQUENCE, "signer")?.walk();
    let key_id = signer.expect(tag::context(0), "signer")?.inner("signer")?;
    let certificate = signer.expect(tag::context(2), "signer")?.inner("signer")?;
    signer.finish("signer")?;
    let algorithm = w.expect(tag::SEQUENCE, "algorithm")?;
    let signature = w.next("signature")?.whole_bits("signature")?;
    w.finish(F)?;
    Ok(SignatureBlock {
        key_id: id(&key_id, tag::OCTET_STRING)?,
        signer: Certificate::from_der(certificate.raw())?,
        algorithm: algorithm.raw().to_vec(),
        signature: signature.to_vec(),
    })
}

/// Whether an algorithm identifier is HSS/LMS, which has no parameters.
pub fn is_hss(algorithm: &[u8]) -> bool {
    let read = || -> Result<bool, DerError> {
        let mut w = expect(algorithm, tag::SEQUENCE, "algorithm")?.walk();
        let oid = w.next("algorithm")?.oid("algorithm")?;
        Ok(oid == HSS_LMS && w.is_empty())
    };
    read().unwrap_or(false)
}

/// The HSS key in a SubjectPublicKeyInfo: an OCTET STRING in the BIT STRING (as RFC 8708 had it).
pub fn hss_key(spki: &[u8]) -> Result<&[u8], DerError> {
    const F: &str = "HSS public key";
    let mut w = expect(spki, tag::SEQUENCE, F)?.walk();
    let algorithm = w.expect(tag::SEQUENCE, F)?;
    let bits = w.next(F)?.whole_bits(F)?;
    w.finish(F)?;
    if !is_hss(algorithm.raw()) {
        return Err(DerError::value(F, "is not of the algorithm HSS/LMS"));
    }
    expect(bits, tag::OCTET_STRING, F)?.octets(F)
}
