//! Putting an RFC 3161 timestamp into a signature.
//!
//! The token covers the signature *value* and stands beside it as an unsigned attribute, so it is
//! fetched after signing and costs the service nothing. With it the signature outlives the certificate.

use crate::FormatError;
use countersign_content::{ContentType, digest_of, oids};
use countersign_core::HashAlgorithm;
use countersign_x509::cms::{ParsedSignedData, add_unsigned_attribute};
use countersign_x509::tsp::{TspError, verify_token};

/// `cms` with the token as an unsigned attribute of its signer, where the content type's verifiers look
/// for it. The token is checked first: it must be for this very signature and verify on its own.
/// (Whether its authority is trusted is the verifier's question.)
///
/// # Errors
/// [`FormatError::BadTimestamp`] for a token that is no token, or for something else;
/// [`FormatError::Assemble`] if `cms` is no signature of ours.
pub fn attach(cms: &[u8], content: ContentType, token: &[u8]) -> Result<Vec<u8>, FormatError> {
    let assemble = |reason: String| FormatError::Assemble { reason };
    let attribute = match content {
        ContentType::Authenticode => oids::SPC_RFC3161_TIMESTAMP,
        ContentType::Cms => oids::TIMESTAMP_TOKEN,
        ContentType::RawDigest | ContentType::CertificateRequest => {
            return Err(FormatError::NoFileDigest { content });
        }
    };
    let parsed = ParsedSignedData::parse(cms).map_err(|e| assemble(e.to_string()))?;
    let signer = parsed
        .signers()
        .first()
        .ok_or_else(|| assemble("no signer".to_owned()))?;
    check(token, &signer.signature)?;
    add_unsigned_attribute(cms, 0, &attribute, token).map_err(|e| assemble(e.to_string()))
}

/// The imprint may use any of our hashes: an authority need not know the signature's.
fn check(token: &[u8], signature: &[u8]) -> Result<(), FormatError> {
    let mut reason = TspError::ImprintMismatch;
    for hash in HashAlgorithm::ALL {
        match verify_token(token, &digest_of(hash, signature)) {
            Ok(_) => return Ok(()),
            Err(TspError::ImprintMismatch) => {}
            Err(e) => reason = e,
        }
    }
    Err(FormatError::BadTimestamp {
        reason: reason.to_string(),
    })
}
