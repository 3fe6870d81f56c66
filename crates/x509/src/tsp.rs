//! RFC 3161 timestamps: the request, and the checks on the answer.
//!
//! The caller fetches; this crate makes the bytes and judges those that come back. A token is
//! accepted only with the imprint and nonce that were asked for, signed by the certificate its ESS
//! attribute names, whose extended key usage is timeStamping, critical, and nothing else. Whether
//! that certificate leads to a root the caller trusts is a second question: [`Token::verify_chain`].

use crate::asn1::{
    self, Asn1Error, BIT_STRING, Cursor, GENERALIZED_TIME, OCTET_STRING, ObjectIdentifier, Problem,
    SEQUENCE, context,
};
use crate::cert::Certificate;
use crate::chain::{ChainError, Purpose, VerifiedChain, verify_chain};
use crate::cms::{CmsError, ParsedSignedData, SignedContent, signed_attributes};
use crate::verify::{self, VerifyError, hash_oid};
use crate::{oid, time};
use countersign_core::digest::WrongDigestLength;
use countersign_core::{Digest, HashAlgorithm, Micros};

/// A `TimeStampReq`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimestampRequest {
    imprint: Digest,
    nonce: u64,
}

/// A timestamp token whose own signature and contents were checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The token (a CMS `ContentInfo`), as it goes into an unsigned attribute.
    pub token_der: Vec<u8>,
    /// When, by the authority's clock.
    pub gen_time: Micros,
    /// The authority's certificate.
    pub tsa: Certificate,
    /// The authority's policy.
    pub policy: ObjectIdentifier,
    /// The token's serial number, lower-case hex.
    pub serial_hex: String,
    /// All certificates in the token.
    pub certificates: Vec<Certificate>,
}

/// An answer that is no good timestamp.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TspError {
    /// Not the DER it should be. Retrying with the same authority is unlikely to help.
    #[error("timestamp: {0}")]
    Asn1(#[from] Asn1Error),
    /// An imprint of the wrong length was to be asked for. Retrying cannot help.
    #[error("imprint: {0}")]
    Imprint(#[from] WrongDigestLength),
    /// The authority refused. Status 2 (rejection) will stay; others may pass: retry later.
    #[error("the timestamp authority refused: status {status}, failure bits {failure:?}: {text}")]
    Refused {
        /// `PKIStatus` (RFC 3161 §2.4.2).
        status: u64,
        /// Numbers of the bits set in `PKIFailureInfo`.
        failure: Vec<u16>,
        /// What it says, cut to 200 characters.
        text: String,
    },
    /// Status granted, but no token.
    #[error("the timestamp authority answered without a token")]
    NoToken,
    /// Not a CMS message with one good signature.
    #[error("timestamp token: {0}")]
    Cms(#[from] CmsError),
    /// A hash or signature algorithm that is not accepted.
    #[error("timestamp token: {0}")]
    Verify(#[from] VerifyError),
    /// RFC 3161 §2.4.2: exactly one signer.
    #[error("timestamp token: {0} signers, exactly one is allowed")]
    Signers(usize),
    /// The content is not a `TSTInfo`.
    #[error("timestamp token: content type {0} where TSTInfo belongs")]
    ContentType(ObjectIdentifier),
    /// The token is about another digest.
    #[error("timestamp token: is for another imprint")]
    ImprintMismatch,
    /// The token answers another request (or replays an old answer).
    #[error("timestamp token: nonce is missing or differs")]
    NonceMismatch,
    /// `signingCertificate` or `signingCertificateV2` is missing or names another certificate.
    #[error("timestamp token: signing-certificate attribute is missing or names another")]
    SigningCertificate,
    /// RFC 3161 §2.3: extended key usage must be timeStamping alone, and critical.
    #[error(
        "timestamp authority's certificate: extended key usage is not timeStamping, critical and alone"
    )]
    ExtendedKeyUsage,
    /// The authority's certificate was not valid at the time it states.
    #[error("timestamp authority's certificate was not valid at the stated time")]
    NotValidThen,
}

impl TimestampRequest {
    /// A request for `imprint`. The nonce is random, from the caller.
    ///
    /// # Errors
    /// [`TspError::Imprint`] if the imprint's length is not that of the hash.
    pub fn new(hash: HashAlgorithm, imprint: &[u8], nonce: u64) -> Result<Self, TspError> {
        Ok(Self {
            imprint: Digest::new(hash, imprint)?,
            nonce,
        })
    }

    /// The `TimeStampReq`, with the wish for the authority's certificate (`certReq`).
    #[must_use]
    pub fn to_der(&self) -> Vec<u8> {
        asn1::sequence(&[
            &asn1::unsigned(&[1]),
            &message_imprint(&self.imprint),
            &asn1::unsigned(&self.nonce.to_be_bytes()),
            &asn1::boolean_true(),
        ])
    }

    /// The digest to be stamped.
    #[must_use]
    pub const fn imprint(&self) -> &Digest {
        &self.imprint
    }

    /// The nonce.
    #[must_use]
    pub const fn nonce(&self) -> u64 {
        self.nonce
    }
}

/// Reads a `TimeStampResp` and checks the token in it against the request.
///
/// # Errors
/// [`TspError`].
pub fn parse_response(der: &[u8], request: &TimestampRequest) -> Result<Token, TspError> {
    const F: &str = "TimeStampResp";
    let mut c = Cursor::new(Cursor::single(der, SEQUENCE, F)?.value);
    let status = c.expect(SEQUENCE, "status")?;
    let (number, refusal) = read_status(status.value)?;
    // RFC 3161 §2.4.2: 0 granted, 1 granted with modifications; nothing else carries a token.
    if number > 1 {
        return Err(refusal);
    }
    if c.is_empty() {
        return Err(TspError::NoToken);
    }
    let token = c.expect(SEQUENCE, "timeStampToken")?;
    c.finish(F)?;
    let (token, nonce) = read_token(token.bytes, &request.imprint)?;
    if nonce.as_deref() != Some(asn1::strip_zeros(&request.nonce.to_be_bytes())) {
        return Err(TspError::NonceMismatch);
    }
    Ok(token)
}

/// Checks a token that was embedded in a file: all that [`parse_response`] checks, except the nonce
/// nobody remembers.
///
/// # Errors
/// [`TspError`].
pub fn verify_token(token_der: &[u8], imprint: &Digest) -> Result<Token, TspError> {
    read_token(token_der, imprint).map(|(token, _)| token)
}

impl Token {
    /// Whether the authority's certificate leads to one of `roots`, at the time it states.
    ///
    /// # Errors
    /// [`ChainError`].
    pub fn verify_chain(&self, roots: &[Certificate]) -> Result<VerifiedChain, ChainError> {
        let others: Vec<Certificate> = self
            .certificates
            .iter()
            .filter(|c| **c != self.tsa)
            .cloned()
            .collect();
        verify_chain(
            &self.tsa,
            &others,
            roots,
            self.gen_time,
            Purpose::TimeStamping,
        )
    }
}

fn read_token(token_der: &[u8], imprint: &Digest) -> Result<(Token, Option<Vec<u8>>), TspError> {
    let cms = ParsedSignedData::parse(token_der)?;
    if *cms.content_type() != oid::TST_INFO {
        return Err(TspError::ContentType(*cms.content_type()));
    }
    let signer = match cms.signers() {
        [one] => one,
        many => return Err(TspError::Signers(many.len())),
    };
    let tsa = cms.verify_signer(0, SignedContent::Embedded)?.clone();
    let attributes = signer.signed_attributes()?;
    if signed_attributes::names_certificate(&attributes, &tsa)? != Some(true) {
        return Err(TspError::SigningCertificate);
    }
    let critical = tsa
        .extension(&oid::EXTENDED_KEY_USAGE)
        .is_some_and(|e| e.critical);
    if !critical || tsa.known().extended_key_usage.as_deref() != Some(&[oid::TIME_STAMPING]) {
        return Err(TspError::ExtendedKeyUsage);
    }
    let econtent = cms.econtent().ok_or(CmsError::NoContent)?;
    let octets = Cursor::single(econtent, OCTET_STRING, "eContent")?.value;
    let info = TstInfo::read(octets)?;
    if info.imprint != *imprint {
        return Err(TspError::ImprintMismatch);
    }
    if !tsa.is_valid_at(info.gen_time) {
        return Err(TspError::NotValidThen);
    }
    let token = Token {
        token_der: token_der.to_vec(),
        gen_time: info.gen_time,
        tsa,
        policy: info.policy,
        serial_hex: info.serial_hex,
        certificates: cms.certificates().to_vec(),
    };
    Ok((token, info.nonce))
}

struct TstInfo {
    policy: ObjectIdentifier,
    imprint: Digest,
    serial_hex: String,
    gen_time: Micros,
    nonce: Option<Vec<u8>>,
}

impl TstInfo {
    fn read(der: &[u8]) -> Result<Self, TspError> {
        const F: &str = "TSTInfo";
        let mut c = Cursor::new(Cursor::single(der, SEQUENCE, F)?.value);
        if c.small_integer("version")? != 1 {
            return Err(Asn1Error::new("version", Problem::Version).into());
        }
        let policy = c.oid("policy")?;
        let mut i = c.enter(SEQUENCE, "messageImprint")?;
        let algorithm = verify::digest_algorithm(i.expect(SEQUENCE, "hashAlgorithm")?.bytes)?;
        let imprint = Digest::new(algorithm, i.expect(OCTET_STRING, "hashedMessage")?.value)
            .map_err(|_| Asn1Error::new("hashedMessage", Problem::Value))?;
        i.finish("messageImprint")?;
        // RFC 3161 §2.4.2: users MUST be ready for serial numbers of up to 160 bits.
        let serial = c.integer("serialNumber")?;
        let gen_time =
            time::read_generalized_fraction(&c.expect(GENERALIZED_TIME, "genTime")?, "genTime")?;
        c.optional(SEQUENCE, "accuracy")?;
        if c.peek() == Some(asn1::BOOLEAN) {
            c.boolean("ordering")?;
        }
        let nonce = match c.peek() {
            Some(asn1::INTEGER) => Some(asn1::strip_zeros(c.integer("nonce")?).to_vec()),
            _ => None,
        };
        c.optional(context(0), "tsa")?;
        c.optional(context(1), "extensions")?;
        c.finish(F)?;
        Ok(Self {
            policy,
            imprint,
            serial_hex: hex::encode(match serial {
                [0, rest @ ..] if !rest.is_empty() => rest,
                all => all,
            }),
            gen_time,
            nonce,
        })
    }
}

/// `PKIStatusInfo ::= SEQUENCE { status INTEGER, statusString SEQUENCE OF UTF8String OPTIONAL,
/// failInfo BIT STRING OPTIONAL }`
fn read_status(content: &[u8]) -> Result<(u64, TspError), Asn1Error> {
    let mut c = Cursor::new(content);
    let status = c.small_integer("status")?;
    let mut text = String::new();
    if let Some(t) = c.optional(SEQUENCE, "statusString")? {
        for line in Cursor::new(t.value).elements(8, "statusString")? {
            if !text.is_empty() {
                text.push_str("; ");
            }
            text.push_str(&String::from_utf8_lossy(line.value));
        }
    }
    let mut failure = Vec::new();
    if let Some(t) = c.optional(BIT_STRING, "failInfo")? {
        for (i, byte) in t.value.iter().skip(1).take(8).enumerate() {
            for bit in 0..8u16 {
                if byte & (0x80 >> bit) != 0 {
                    failure.push(u16::try_from(i * 8).unwrap_or(0) + bit);
                }
            }
        }
    }
    c.finish("status")?;
    // What the authority says ends up in front of people: no control characters, not without end.
    let text = text.chars().filter(|c| !c.is_control()).take(200).collect();
    Ok((
        status,
        TspError::Refused {
            status,
            failure,
            text,
        },
    ))
}

fn message_imprint(d: &Digest) -> Vec<u8> {
    let algorithm = asn1::sequence(&[&asn1::oid(&hash_oid(d.algorithm())), &asn1::null()]);
    asn1::sequence(&[&algorithm, &asn1::octet_string(d.as_bytes())])
}

#[cfg(test)]
mod tests;
