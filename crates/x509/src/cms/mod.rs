//! CMS `SignedData` (RFC 5652), and the PKCS#7 form of it that Authenticode uses.
//!
//! The value that is signed is the DER of the signed attributes as a `SET OF` (tag 31), while they
//! stand in the message as `[0]` (tag a0): the same bytes but the first (RFC 5652 §5.4). The client
//! builds them with [`signed_attributes`], the service parses them again before it signs, and the
//! client assembles the message with [`build_signed_data`]; a timestamp is added afterwards as an
//! unsigned attribute by [`add_unsigned_attribute`], which leaves every signed byte alone.

mod build;
mod parse;
pub mod signed_attributes;

pub use build::{SignedDataParts, add_unsigned_attribute, build_signed_data};
pub use parse::{ParsedSignedData, SignedContent, SignerId, SignerInfo};

use crate::asn1::{Asn1Error, ObjectIdentifier};
use crate::cert::CertError;
use crate::verify::VerifyError;

/// A CMS message that cannot be built, read or verified. Retrying cannot help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CmsError {
    /// Not the DER it should be.
    #[error("CMS: {0}")]
    Asn1(#[from] Asn1Error),
    /// A certificate in the message, or of the chain given.
    #[error("CMS: {0}")]
    Cert(#[from] CertError),
    /// A `ContentInfo` of another type.
    #[error("CMS: content type {0} where SignedData belongs")]
    NotSignedData(ObjectIdentifier),
    /// No certificate chain was given.
    #[error("chain: is empty")]
    NoChain,
    /// The message has no signer with this index.
    #[error("CMS: no signer {0}")]
    NoSigner(usize),
    /// The signer's certificate is not in the message.
    #[error("CMS: the signer's certificate is missing")]
    NoSignerCertificate,
    /// The digest algorithm of the signature scheme is not the one stated.
    #[error("digest: is not the hash of the signature scheme")]
    DigestMismatch,
    /// Signed attributes are needed (RFC 5652 §5.3) and missing.
    #[error("CMS: signed attributes are missing")]
    NoSignedAttributes,
    /// A signed attribute that must be there once, with one value, is not (RFC 5652 §11).
    #[error("CMS: signed attribute {0} is missing or malformed")]
    SignedAttribute(ObjectIdentifier),
    /// The contentType attribute is not the type of the content.
    #[error("CMS: contentType attribute differs from the content's type")]
    ContentType,
    /// The messageDigest attribute is not the digest of the content.
    #[error("CMS: messageDigest attribute differs from the content's digest")]
    MessageDigest,
    /// The content is neither in the message nor given beside it.
    #[error("CMS: the content is detached and was not given")]
    NoContent,
    /// Content was given beside a message that has it inside.
    #[error("CMS: content was given beside a message that contains it")]
    TwoContents,
    /// The signature does not verify.
    #[error("CMS: {0}")]
    Verify(#[from] VerifyError),
}

/// Enough for a signed catalogue; a larger message is refused before anything is allocated.
const MAX_MESSAGE: usize = 8 * 1024 * 1024;
const MAX_CERTIFICATES: usize = 32;
const MAX_SIGNERS: usize = 16;

#[cfg(test)]
mod tests;
