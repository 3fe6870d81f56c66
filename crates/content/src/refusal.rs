//! Why content is refused.

use countersign_core::HashAlgorithm;
use der::asn1::ObjectIdentifier;

/// A refusal. Each is about the bytes themselves: a retry with the same bytes cannot help.
///
/// `field` is the name the API uses for the submission's part (`signed_attributes`, `indirect_data`,
/// `digest`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContentRefusal {
    /// Larger than any real content of this kind.
    #[error("{field}: larger than {limit} bytes")]
    TooLarge {
        /// The part.
        field: &'static str,
        /// The limit.
        limit: usize,
    },
    /// Not strict DER: indefinite or over-long lengths, truncated values, tags that do not exist.
    #[error("{field}: not strict DER")]
    NotDer {
        /// The part.
        field: &'static str,
    },
    /// DER, but not the structure this part must have. The usual cause is the wrong part: the file, the
    /// whole CMS, or attributes with the implicit `[0]` tag (0xA0) instead of `SET OF` (0x31).
    #[error("{field}: expected {expected}")]
    UnexpectedStructure {
        /// The part.
        field: &'static str,
        /// What should have been there.
        expected: &'static str,
    },
    /// Bytes follow the value, at the outside or inside one of its structures.
    #[error("{field}: bytes follow the value")]
    TrailingBytes {
        /// The part.
        field: &'static str,
    },
    /// Understood, but encoding it again gives other bytes (a `SET OF` out of order, a default value
    /// written out, an integer with needless zeros).
    #[error("{field}: not the canonical encoding ({rule})")]
    NotCanonical {
        /// The part.
        field: &'static str,
        /// The rule broken.
        rule: &'static str,
    },
    /// More attributes than there are kinds of.
    #[error("signed_attributes: more than {limit} attributes")]
    TooManyAttributes {
        /// The limit.
        limit: usize,
    },
    /// An attribute that is not on the list for this content type.
    #[error("signed_attributes: attribute {oid} is not allowed here")]
    NotAllowedAttribute {
        /// Its type.
        oid: ObjectIdentifier,
    },
    /// The same attribute twice (RFC 5652 §5.3 forbids it).
    #[error("signed_attributes: attribute {oid} appears twice")]
    DuplicateAttribute {
        /// Its type.
        oid: ObjectIdentifier,
    },
    /// An attribute with no value or several (RFC 5652 §11: exactly one).
    #[error("signed_attributes: attribute {oid} must have exactly one value")]
    NotSingleValued {
        /// Its type.
        oid: ObjectIdentifier,
    },
    /// A mandatory attribute is absent.
    #[error("signed_attributes: attribute {oid} is missing")]
    MissingAttribute {
        /// Its type.
        oid: ObjectIdentifier,
    },
    /// An allowed attribute with a value that is not.
    #[error("signed_attributes: attribute {oid}: {reason}")]
    BadAttributeValue {
        /// Its type.
        oid: ObjectIdentifier,
        /// What is wrong with the value.
        reason: &'static str,
    },
    /// The `contentType` attribute names another content type than the submission.
    #[error("signed_attributes: content type is {found}, expected {expected}")]
    WrongContentType {
        /// What it must be.
        expected: ObjectIdentifier,
        /// What it is.
        found: ObjectIdentifier,
    },
    /// `messageDigest` is not the hash of the indirect data's value (without its outer tag and length).
    #[error("signed_attributes: messageDigest is not the hash of indirect_data")]
    InnerHashMismatch,
    /// A digest whose length is not that of its algorithm.
    #[error("{field}: a {algorithm} digest has {} bytes, {given} were given", algorithm.digest_len())]
    WrongDigestLength {
        /// The part.
        field: &'static str,
        /// The algorithm asked for.
        algorithm: HashAlgorithm,
        /// How many bytes came.
        given: usize,
    },
    /// The part names another digest algorithm than the request does.
    #[error("{field}: digest algorithm {found} where the request says {expected}")]
    DigestAlgorithmMismatch {
        /// The part.
        field: &'static str,
        /// The request's.
        expected: HashAlgorithm,
        /// The part's.
        found: ObjectIdentifier,
    },
    /// Indirect data for something that is no Windows executable.
    #[error("indirect_data: {found} is not SpcPeImageData")]
    NotPeImageData {
        /// The type that came.
        found: ObjectIdentifier,
    },
    /// `SpcPeImageData` with other flags or another file link than the constants every signing tool
    /// writes. Page hashes are refused here too: nothing checks what they hold.
    #[error("indirect_data: SpcPeImageData is not the standard constant")]
    UnusualPeImageData,
    /// `signingCertificateV2` names another certificate than the signer's. The usual cause: the signer's
    /// certificate was renewed after the client fetched it; fetch it again.
    #[error("signed_attributes: signingCertificateV2 names another certificate than the signer's")]
    SigningCertificateMismatch,
    /// `CMSAlgorithmProtection` names algorithms that the signer will not use (RFC 6211 §3).
    #[error("signed_attributes: CMSAlgorithmProtection does not match the signer's algorithms")]
    AlgorithmProtectionMismatch,
    /// The signer's own certificate cannot be read: a fault of the service, not of the caller.
    #[error("the signer's certificate cannot be read")]
    BadSignerCertificate,
    /// A PKCS#10 request or its body. Requests leave by the enrolment path alone.
    #[error("{field}: this is a certificate request; those are signed only by enrolment")]
    LooksLikeCertificateRequest {
        /// The part.
        field: &'static str,
    },
    /// A certificate or its body.
    #[error("{field}: this is a certificate, not code")]
    LooksLikeCertificate {
        /// The part.
        field: &'static str,
    },
    /// A certificate revocation list or its body.
    #[error("{field}: this is a certificate revocation list, not code")]
    LooksLikeRevocationList {
        /// The part.
        field: &'static str,
    },
    /// An RFC 3161 `TSTInfo`, or signed attributes over one.
    #[error("{field}: this is a timestamp, not code")]
    LooksLikeTimestamp {
        /// The part.
        field: &'static str,
    },
    /// A JSON Web Token or its signing input.
    #[error("{field}: this is a JSON Web Token, not code")]
    LooksLikeJwt {
        /// The part.
        field: &'static str,
    },
}

impl ContentRefusal {
    /// A stable name for logs, leaves and problem documents.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "content-too-large",
            Self::NotDer { .. } => "content-not-der",
            Self::UnexpectedStructure { .. } => "content-unexpected-structure",
            Self::TrailingBytes { .. } => "content-trailing-bytes",
            Self::NotCanonical { .. } => "content-not-canonical",
            Self::TooManyAttributes { .. } => "content-too-many-attributes",
            Self::NotAllowedAttribute { .. } => "content-attribute-not-allowed",
            Self::DuplicateAttribute { .. } => "content-attribute-duplicate",
            Self::NotSingleValued { .. } => "content-attribute-not-single-valued",
            Self::MissingAttribute { .. } => "content-attribute-missing",
            Self::BadAttributeValue { .. } => "content-attribute-bad-value",
            Self::WrongContentType { .. } => "content-wrong-content-type",
            Self::InnerHashMismatch => "content-inner-hash-mismatch",
            Self::WrongDigestLength { .. } => "content-wrong-digest-length",
            Self::DigestAlgorithmMismatch { .. } => "content-digest-algorithm-mismatch",
            Self::NotPeImageData { .. } => "content-not-pe-image-data",
            Self::UnusualPeImageData => "content-unusual-pe-image-data",
            Self::SigningCertificateMismatch => "content-signing-certificate-mismatch",
            Self::AlgorithmProtectionMismatch => "content-algorithm-protection-mismatch",
            Self::BadSignerCertificate => "content-bad-signer-certificate",
            Self::LooksLikeCertificateRequest { .. } => "content-looks-like-certificate-request",
            Self::LooksLikeCertificate { .. } => "content-looks-like-certificate",
            Self::LooksLikeRevocationList { .. } => "content-looks-like-revocation-list",
            Self::LooksLikeTimestamp { .. } => "content-looks-like-timestamp",
            Self::LooksLikeJwt { .. } => "content-looks-like-jwt",
        }
    }

    /// The submission's part that was refused, where one was.
    #[must_use]
    pub const fn field(&self) -> Option<&'static str> {
        match self {
            Self::TooLarge { field, .. }
            | Self::NotDer { field }
            | Self::UnexpectedStructure { field, .. }
            | Self::TrailingBytes { field }
            | Self::NotCanonical { field, .. }
            | Self::WrongDigestLength { field, .. }
            | Self::DigestAlgorithmMismatch { field, .. }
            | Self::LooksLikeCertificateRequest { field }
            | Self::LooksLikeCertificate { field }
            | Self::LooksLikeRevocationList { field }
            | Self::LooksLikeTimestamp { field }
            | Self::LooksLikeJwt { field } => Some(field),
            Self::TooManyAttributes { .. }
            | Self::NotAllowedAttribute { .. }
            | Self::DuplicateAttribute { .. }
            | Self::NotSingleValued { .. }
            | Self::MissingAttribute { .. }
            | Self::BadAttributeValue { .. }
            | Self::WrongContentType { .. }
            | Self::InnerHashMismatch
            | Self::SigningCertificateMismatch
            | Self::AlgorithmProtectionMismatch => Some("signed_attributes"),
            Self::NotPeImageData { .. } | Self::UnusualPeImageData => Some("indirect_data"),
            Self::BadSignerCertificate => None,
        }
    }
}
