//! The JSON that Fortanix DSM returns, into certificates and what the statement claims.

use crate::certificate::{Certificate, Extension};
use crate::der::{DerError, expect, single, tag};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use spki::ObjectIdentifier;

/// Longest attestation read.
pub const MAX_ATTESTATION: usize = 128 * 1024;
/// Most certificates in `authority_chain`; real ones have three.
const MAX_CHAIN: usize = 8;

const fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(text)
}

/// Extended key usage of the key attestation authority.
pub const KEY_ATTESTATION_SIGNING: ObjectIdentifier = oid("1.3.6.1.4.1.49690.8.1");
/// Policy of the authority and the CA above it.
pub const KEY_ATTESTATION_POLICY: ObjectIdentifier = oid("1.3.6.1.4.1.49690.6.1.2");
/// Extension of the authority: what protects the cluster.
pub const CLUSTER_PROTECTION: ObjectIdentifier = oid("1.3.6.1.4.1.49690.2.5");
/// Claim: generated in DSM.
pub const GENERATED_IN_DSM: ObjectIdentifier = oid("1.3.6.1.4.1.49690.2.4.1.1");
/// Claim: never exportable, not even wrapped.
pub const NEVER_EXPORTABLE: ObjectIdentifier = oid("1.3.6.1.4.1.49690.2.4.1.2");
/// Attribute of the statement's subject: the key's UUID.
const KEY_ID: ObjectIdentifier = oid("1.3.6.1.4.1.49690.1.2.2");
const KEY_USAGE: ObjectIdentifier = oid("2.5.29.15");
const AUTHORITY_KEY_IDENTIFIER: ObjectIdentifier = oid("2.5.29.35");
const SUBJECT_KEY_IDENTIFIER: ObjectIdentifier = oid("2.5.29.14");

/// A byte order mark, which some tools put before UTF-8.
const BOM: &[u8] = &[0xef, 0xbb, 0xbf];

/// Why an attestation cannot be read. Retrying cannot help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FortanixError {
    /// More bytes than [`MAX_ATTESTATION`].
    #[error("the attestation has {0} bytes; at most {MAX_ATTESTATION} are read")]
    TooLarge(usize),
    /// Not JSON, or a member missing, twice, or of another kind.
    #[error("the attestation is not the JSON that DSM returns: {0}")]
    Json(String),
    /// Another format than `x509_certificate`.
    #[error("attestation_statement.format is \"{0}\", not \"x509_certificate\"")]
    Format(String),
    /// No certificate, or more than are read.
    #[error("authority_chain has {0} certificates; 1 to {MAX_CHAIN} are read")]
    ChainLength(usize),
    /// Not base64.
    #[error("{0} is not base64")]
    Base64(String),
    /// Not a certificate.
    #[error("{field}: {problem}")]
    Certificate {
        /// Which one.
        field: String,
        /// What is wrong with it.
        problem: DerError,
    },
    /// A claim that is not an empty SEQUENCE: presence is the claim.
    #[error("the statement's extension {0} is not an empty SEQUENCE")]
    ClaimValue(String),
    /// keyUsage that cannot be read.
    #[error("the statement's {0}")]
    KeyUsage(DerError),
}

#[derive(Deserialize)]
struct Json {
    authority_chain: Vec<String>,
    attestation_statement: JsonStatement,
}

#[derive(Deserialize)]
struct JsonStatement {
    format: String,
    statement: String,
}

/// An attestation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attestation {
    /// The certificates of the authority and above, in the order given.
    pub chain: Vec<Certificate>,
    /// The statement: a certificate over the attested key.
    pub statement: Certificate,
    /// What it claims.
    pub claims: Claims,
}

/// What a statement claims.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims {
    /// The key's UUID.
    pub key_id: Option<String>,
    /// Generated in DSM.
    pub generated_in_dsm: bool,
    /// Never exportable.
    pub never_exportable: bool,
    /// keyUsage, bit 0 (digitalSignature) the lowest; `None` if absent.
    pub key_usage: Option<u16>,
    /// Extensions that are not known.
    pub unknown: Vec<String>,
}

/// keyUsage bits (RFC 5280 §4.2.1.3) that are signing of data: digitalSignature, nonRepudiation.
pub const SIGNING_USAGES: u16 = 0b11;

impl Attestation {
    /// Reads one.
    pub fn parse(bytes: &[u8]) -> Result<Self, FortanixError> {
        if bytes.len() > MAX_ATTESTATION {
            return Err(FortanixError::TooLarge(bytes.len()));
        }
        let json: Json = serde_json::from_slice(bytes.strip_prefix(BOM).unwrap_or(bytes))
            .map_err(|e| FortanixError::Json(e.to_string()))?;
        let JsonStatement { format, statement } = json.attestation_statement;
        if format != "x509_certificate" {
            return Err(FortanixError::Format(format));
        }
        let length = json.authority_chain.len();
        if !(1..=MAX_CHAIN).contains(&length) {
            return Err(FortanixError::ChainLength(length));
        }
        let mut chain = Vec::new();
        for (i, text) in json.authority_chain.iter().enumerate() {
            chain.push(certificate(&format!("authority_chain[{i}]"), text)?);
        }
        let statement = certificate("attestation_statement.statement", &statement)?;
        Ok(Self {
            claims: claims(&statement)?,
            chain,
            statement,
        })
    }
}

fn certificate(field: &str, text: &str) -> Result<Certificate, FortanixError> {
    let der = STANDARD
        .decode(text)
        .map_err(|_| FortanixError::Base64(field.to_owned()))?;
    Certificate::from_der(&der).map_err(|problem| FortanixError::Certificate {
        field: field.to_owned(),
        problem,
    })
}

fn claims(statement: &Certificate) -> Result<Claims, FortanixError> {
    let mut claims = Claims {
        key_id: statement.subject().get(KEY_ID).map(str::to_owned),
        ..Claims::default()
    };
    for extension in statement.extensions() {
        let oid = &extension.oid;
        if *oid == GENERATED_IN_DSM {
            claims.generated_in_dsm = presence(extension)?;
        } else if *oid == NEVER_EXPORTABLE {
            claims.never_exportable = presence(extension)?;
        } else if *oid == KEY_USAGE {
            claims.key_usage = Some(key_usage(&extension.value).map_err(FortanixError::KeyUsage)?);
        } else if *oid != AUTHORITY_KEY_IDENTIFIER && *oid != SUBJECT_KEY_IDENTIFIER {
            claims.unknown.push(oid.to_string());
        }
    }
    Ok(claims)
}

fn presence(extension: &Extension) -> Result<bool, FortanixError> {
    let value = expect(&extension.value, tag::SEQUENCE, "claim");
    match value {
        Ok(sequence) if sequence.content().is_empty() => Ok(true),
        _ => Err(FortanixError::ClaimValue(extension.oid.to_string())),
    }
}

/// keyUsage as a number, bit n of the BIT STRING as bit n.
pub fn key_usage(value: &[u8]) -> Result<u16, DerError> {
    const F: &str = "keyUsage";
    let (_, bytes) = single(value, F)?.bits(F)?;
    if bytes.len() > 2 {
        return Err(DerError::value(F, "has more bits than RFC 5280 names"));
    }
    let byte = |i: usize| bytes.get(i).copied().unwrap_or(0).reverse_bits();
    Ok(u16::from_le_bytes([byte(0), byte(1)]))
}

/// keyUsage of a certificate, if it has one.
pub fn key_usage_of(certificate: &Certificate) -> Result<Option<u16>, DerError> {
    certificate.extension(KEY_USAGE).map(key_usage).transpose()
}

/// What the authority's certificate says protects the cluster: object identifiers.
pub fn cluster_protection(authority: &Certificate) -> Result<Vec<String>, DerError> {
    const F: &str = "cluster protection";
    let Some(value) = authority.extension(CLUSTER_PROTECTION) else {
        return Ok(Vec::new());
    };
    let mut out = Vec::new();
    for group in expect(value, tag::SEQUENCE, F)?.walk().all(16, F)? {
        for one in group.tagged(tag::SEQUENCE, F)?.walk().all(16, F)? {
            out.push(one.oid(F)?.to_string());
        }
    }
    Ok(out)
}
