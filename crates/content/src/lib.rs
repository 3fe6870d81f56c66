//! What may be signed.
//!
//! A caller never sends a hash to be signed; it sends the small bytes that *will be* signed, and this
//! crate decides whether they are code. For Authenticode those are the CMS signed attributes and the
//! `SpcIndirectDataContent` they cover; for a detached CMS the signed attributes alone. The file stays
//! at home. Both sides use the crate: the client builds with [`authenticode`] and [`cms`], the service
//! runs [`parse`] on what arrives, and the constructors run it on what they built.
//!
//! The rule is an allow-list, not a search for bad things:
//!
//! - strict DER, one value, no trailing bytes, at most [`MAX_FIELD`] bytes;
//! - an exact set of attributes, each known, each once, each with one value, in DER order;
//! - the inner hash (`messageDigest`) is recomputed where the service can do so;
//! - what was understood is encoded again and must give the very same bytes, so that nothing can hide
//!   in a form the parser skipped over.
//!
//! Certificate requests, certificates, timestamps and JSON Web Tokens fail those rules anyway; they are
//! also refused *by name* (see [`ContentRefusal`]), because a person who reads the tenant's log should
//! see that somebody tried. A certificate request is signed by the enrolment path alone.
//!
//! A bare digest ([`Submission::RawDigest`]) says nothing about what it covers: [`Parsed::typed`] is
//! false and a grant must allow `raw-digest` by name.

#![forbid(unsafe_code)]

mod attributes;
pub mod authenticode;
mod certificate;
pub mod cms;
pub mod oids;
mod refusal;
mod shapes;
mod tlv;
mod values;

pub use refusal::ContentRefusal;

use countersign_core::{Digest, HashAlgorithm};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Largest accepted field. Real signed attributes have some 200 bytes, with a certificate's issuer
/// and a program name less than 2 KiB.
pub const MAX_FIELD: usize = 16 * 1024;

/// The kinds of content a key may be used for, as grants and leaves name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContentType {
    /// A Windows executable, by its Authenticode digest.
    Authenticode,
    /// Any file, by a detached CMS (`.p7s`).
    Cms,
    /// A digest of something the service never saw.
    RawDigest,
    /// A certificate request: the enrolment path only, never a [`Submission`].
    CertificateRequest,
}

impl ContentType {
    /// All of them, in the order help texts show them.
    pub const ALL: [Self; 4] = [
        Self::Authenticode,
        Self::Cms,
        Self::RawDigest,
        Self::CertificateRequest,
    ];

    /// The stable name used in the API, grants, leaves and the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Authenticode => "authenticode",
            Self::Cms => "cms",
            Self::RawDigest => "raw-digest",
            Self::CertificateRequest => "certificate-request",
        }
    }
}

impl fmt::Display for ContentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for ContentType {
    type Err = UnknownContentType;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|c| c.as_str() == s)
            .ok_or_else(|| UnknownContentType {
                given: s.chars().take(64).collect(),
            })
    }
}

/// A name that is no content type. Retrying cannot help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown content type \"{given}\": expected one of authenticode, cms, raw-digest, \
     certificate-request"
)]
pub struct UnknownContentType {
    /// What came, cut at 64 characters.
    pub given: String,
}

/// What a caller asks to have signed.
///
/// `Debug` shows lengths only: the bytes are the customer's.
#[derive(Clone, PartialEq, Eq)]
pub enum Submission {
    /// A Windows executable.
    Authenticode {
        /// The CMS signed attributes as a DER `SET OF` (tag 0x31, RFC 5652 §5.4).
        signed_attributes: Vec<u8>,
        /// The DER `SpcIndirectDataContent` they cover.
        indirect_data: Vec<u8>,
    },
    /// Any file, detached.
    Cms {
        /// The CMS signed attributes as a DER `SET OF` (tag 0x31, RFC 5652 §5.4).
        signed_attributes: Vec<u8>,
    },
    /// A digest and nothing else.
    RawDigest {
        /// The digest, of the length its algorithm has.
        digest: Vec<u8>,
    },
}

impl Submission {
    /// The content type this asks for.
    #[must_use]
    pub const fn content_type(&self) -> ContentType {
        match self {
            Self::Authenticode { .. } => ContentType::Authenticode,
            Self::Cms { .. } => ContentType::Cms,
            Self::RawDigest { .. } => ContentType::RawDigest,
        }
    }
}

impl fmt::Debug for Submission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authenticode {
                signed_attributes,
                indirect_data,
            } => write!(
                f,
                "Authenticode({} + {} bytes)",
                signed_attributes.len(),
                indirect_data.len()
            ),
            Self::Cms { signed_attributes } => write!(f, "Cms({} bytes)", signed_attributes.len()),
            Self::RawDigest { digest } => write!(f, "RawDigest({} bytes)", digest.len()),
        }
    }
}

/// A submission that is allowed, and what it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    /// The kind of content.
    pub content: ContentType,
    /// What the token signs: the hash of the signed attributes, or the raw digest itself.
    pub tbs: Digest,
    /// The file's own digest, for the log: whoever holds the file can find its leaf. None for a raw digest.
    pub artifact: Option<Digest>,
    /// Whether this crate knows what is signed (false for a raw digest).
    pub typed: bool,
}

/// Checks a submission and says what the token would sign.
///
/// `signer_cert_der` is the signer's certificate. When given, a `signingCertificateV2` attribute must
/// name it and a `CMSAlgorithmProtection` attribute must fit its key; without it those two are checked
/// in form only.
///
/// # Errors
/// The first rule that the bytes break. None can be mended by a retry with the same bytes.
pub fn parse(
    submission: &Submission,
    digest_algorithm: HashAlgorithm,
    signer_cert_der: Option<&[u8]>,
) -> Result<Parsed, ContentRefusal> {
    match submission {
        Submission::Authenticode {
            signed_attributes,
            indirect_data,
        } => authenticode::parse(
            signed_attributes,
            indirect_data,
            digest_algorithm,
            signer_cert_der,
        ),
        Submission::Cms { signed_attributes } => {
            cms::parse(signed_attributes, digest_algorithm, signer_cert_der)
        }
        Submission::RawDigest { digest } => {
            const FIELD: &str = "digest";
            shapes::refuse_known(FIELD, digest)?;
            let digest = Digest::new(digest_algorithm, digest.as_slice()).map_err(|e| {
                ContentRefusal::WrongDigestLength {
                    field: FIELD,
                    algorithm: e.algorithm,
                    given: e.given,
                }
            })?;
            Ok(Parsed {
                content: ContentType::RawDigest,
                tbs: digest,
                artifact: None,
                typed: false,
            })
        }
    }
}

/// The digest of `bytes`.
#[must_use]
pub fn digest_of(algorithm: HashAlgorithm, bytes: &[u8]) -> Digest {
    use sha2::Digest as _;
    match algorithm {
        HashAlgorithm::Sha256 => <[u8; 32]>::from(sha2::Sha256::digest(bytes)).into(),
        HashAlgorithm::Sha384 => <[u8; 48]>::from(sha2::Sha384::digest(bytes)).into(),
        HashAlgorithm::Sha512 => <[u8; 64]>::from(sha2::Sha512::digest(bytes)).into(),
    }
}

#[cfg(test)]
mod tests;
