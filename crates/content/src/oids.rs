//! The object identifiers of signed content, each with the place that defines it.

use countersign_core::HashAlgorithm;
use der::asn1::ObjectIdentifier;

const fn oid(s: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(s)
}

/// `id-data` (RFC 5652 §4).
pub const DATA: ObjectIdentifier = oid("1.2.840.113549.1.7.1");
/// `id-signedData` (RFC 5652 §5.1).
pub const SIGNED_DATA: ObjectIdentifier = oid("1.2.840.113549.1.7.2");
/// `contentType` (RFC 5652 §11.1).
pub const CONTENT_TYPE: ObjectIdentifier = oid("1.2.840.113549.1.9.3");
/// `messageDigest` (RFC 5652 §11.2).
pub const MESSAGE_DIGEST: ObjectIdentifier = oid("1.2.840.113549.1.9.4");
/// `signingTime` (RFC 5652 §11.3).
pub const SIGNING_TIME: ObjectIdentifier = oid("1.2.840.113549.1.9.5");
/// `id-aa-CMSAlgorithmProtect` (RFC 6211 §2).
pub const ALGORITHM_PROTECTION: ObjectIdentifier = oid("1.2.840.113549.1.9.52");
/// `id-aa-signingCertificateV2` (RFC 5035 §3).
pub const SIGNING_CERTIFICATE_V2: ObjectIdentifier = oid("1.2.840.113549.1.9.16.2.47");
/// `id-aa-timeStampToken`, an unsigned attribute (RFC 3161 appendix A).
pub const TIMESTAMP_TOKEN: ObjectIdentifier = oid("1.2.840.113549.1.9.16.2.14");
/// `id-ct-TSTInfo` (RFC 3161 §2.4.2).
pub const TST_INFO: ObjectIdentifier = oid("1.2.840.113549.1.9.16.1.4");

/// `SPC_INDIRECT_DATA_OBJID` (Authenticode PE §"SpcIndirectDataContent").
pub const SPC_INDIRECT_DATA: ObjectIdentifier = oid("1.3.6.1.4.1.311.2.1.4");
/// `SPC_STATEMENT_TYPE_OBJID`.
pub const SPC_STATEMENT_TYPE: ObjectIdentifier = oid("1.3.6.1.4.1.311.2.1.11");
/// `SPC_SP_OPUS_INFO_OBJID`.
pub const SPC_SP_OPUS_INFO: ObjectIdentifier = oid("1.3.6.1.4.1.311.2.1.12");
/// `SPC_PE_IMAGE_DATA_OBJID`.
pub const SPC_PE_IMAGE_DATA: ObjectIdentifier = oid("1.3.6.1.4.1.311.2.1.15");
/// `SPC_INDIVIDUAL_SP_KEY_PURPOSE_OBJID`.
pub const SPC_INDIVIDUAL: ObjectIdentifier = oid("1.3.6.1.4.1.311.2.1.21");
/// `SPC_COMMERCIAL_SP_KEY_PURPOSE_OBJID`.
pub const SPC_COMMERCIAL: ObjectIdentifier = oid("1.3.6.1.4.1.311.2.1.22");
/// Nested signature, an unsigned attribute of the first signer.
pub const SPC_NESTED_SIGNATURE: ObjectIdentifier = oid("1.3.6.1.4.1.311.2.4.1");
/// RFC 3161 timestamp in Authenticode, an unsigned attribute.
pub const SPC_RFC3161_TIMESTAMP: ObjectIdentifier = oid("1.3.6.1.4.1.311.3.3.1");

/// `rsaEncryption` (RFC 8017 appendix C).
pub const RSA_ENCRYPTION: ObjectIdentifier = oid("1.2.840.113549.1.1.1");
/// `id-ecPublicKey` (RFC 5480 §2.1.1).
pub const EC_PUBLIC_KEY: ObjectIdentifier = oid("1.2.840.10045.2.1");

/// The identifier of a hash (RFC 5754 §2).
#[must_use]
pub const fn hash(algorithm: HashAlgorithm) -> ObjectIdentifier {
    match algorithm {
        HashAlgorithm::Sha256 => oid("2.16.840.1.101.3.4.2.1"),
        HashAlgorithm::Sha384 => oid("2.16.840.1.101.3.4.2.2"),
        HashAlgorithm::Sha512 => oid("2.16.840.1.101.3.4.2.3"),
    }
}

/// The hash with this identifier, if it is one we use.
#[must_use]
pub fn hash_of(oid: ObjectIdentifier) -> Option<HashAlgorithm> {
    HashAlgorithm::ALL.into_iter().find(|h| hash(*h) == oid)
}

/// `shaNNNWithRSAEncryption` (RFC 8017 appendix C).
#[must_use]
pub const fn rsa_with(algorithm: HashAlgorithm) -> ObjectIdentifier {
    match algorithm {
        HashAlgorithm::Sha256 => oid("1.2.840.113549.1.1.11"),
        HashAlgorithm::Sha384 => oid("1.2.840.113549.1.1.12"),
        HashAlgorithm::Sha512 => oid("1.2.840.113549.1.1.13"),
    }
}

/// `ecdsa-with-SHANNN` (RFC 5758 §3.2).
#[must_use]
pub const fn ecdsa_with(algorithm: HashAlgorithm) -> ObjectIdentifier {
    match algorithm {
        HashAlgorithm::Sha256 => oid("1.2.840.10045.4.3.2"),
        HashAlgorithm::Sha384 => oid("1.2.840.10045.4.3.3"),
        HashAlgorithm::Sha512 => oid("1.2.840.10045.4.3.4"),
    }
}
