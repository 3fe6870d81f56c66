//! The object identifiers this crate speaks, by their names in the standards.

use crate::asn1::ObjectIdentifier;

const fn oid(s: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(s)
}

/// `rsaEncryption` (RFC 8017).
pub const RSA_ENCRYPTION: ObjectIdentifier = oid("1.2.840.113549.1.1.1");
/// `id-RSASSA-PSS` (RFC 8017).
pub const RSASSA_PSS: ObjectIdentifier = oid("1.2.840.113549.1.1.10");
/// `id-mgf1` (RFC 8017).
pub const MGF1: ObjectIdentifier = oid("1.2.840.113549.1.1.8");
/// `sha256WithRSAEncryption`.
pub const SHA256_WITH_RSA: ObjectIdentifier = oid("1.2.840.113549.1.1.11");
/// `sha384WithRSAEncryption`.
pub const SHA384_WITH_RSA: ObjectIdentifier = oid("1.2.840.113549.1.1.12");
/// `sha512WithRSAEncryption`.
pub const SHA512_WITH_RSA: ObjectIdentifier = oid("1.2.840.113549.1.1.13");
/// `id-ecPublicKey` (RFC 5480).
pub const EC_PUBLIC_KEY: ObjectIdentifier = oid("1.2.840.10045.2.1");
/// `secp256r1`, P-256.
pub const P256: ObjectIdentifier = oid("1.2.840.10045.3.1.7");
/// `secp384r1`, P-384.
pub const P384: ObjectIdentifier = oid("1.3.132.0.34");
/// `secp521r1`, P-521.
pub const P521: ObjectIdentifier = oid("1.3.132.0.35");
/// `ecdsa-with-SHA256` (RFC 5758).
pub const ECDSA_SHA256: ObjectIdentifier = oid("1.2.840.10045.4.3.2");
/// `ecdsa-with-SHA384`.
pub const ECDSA_SHA384: ObjectIdentifier = oid("1.2.840.10045.4.3.3");
/// `ecdsa-with-SHA512`.
pub const ECDSA_SHA512: ObjectIdentifier = oid("1.2.840.10045.4.3.4");
/// `id-sha256`.
pub const SHA256: ObjectIdentifier = oid("2.16.840.1.101.3.4.2.1");
/// `id-sha384`.
pub const SHA384: ObjectIdentifier = oid("2.16.840.1.101.3.4.2.2");
/// `id-sha512`.
pub const SHA512: ObjectIdentifier = oid("2.16.840.1.101.3.4.2.3");

/// `id-data` (RFC 5652).
pub const DATA: ObjectIdentifier = oid("1.2.840.113549.1.7.1");
/// `id-signedData` (RFC 5652).
pub const SIGNED_DATA: ObjectIdentifier = oid("1.2.840.113549.1.7.2");
/// `id-contentType` attribute.
pub const CONTENT_TYPE: ObjectIdentifier = oid("1.2.840.113549.1.9.3");
/// `id-messageDigest` attribute.
pub const MESSAGE_DIGEST: ObjectIdentifier = oid("1.2.840.113549.1.9.4");
/// `id-signingTime` attribute.
pub const SIGNING_TIME: ObjectIdentifier = oid("1.2.840.113549.1.9.5");
/// `id-ct-TSTInfo` (RFC 3161).
pub const TST_INFO: ObjectIdentifier = oid("1.2.840.113549.1.9.16.1.4");
/// `id-aa-signingCertificate`, ESS version 1 (RFC 2634).
pub const SIGNING_CERTIFICATE: ObjectIdentifier = oid("1.2.840.113549.1.9.16.2.12");
/// `id-aa-signingCertificateV2` (RFC 5035).
pub const SIGNING_CERTIFICATE_V2: ObjectIdentifier = oid("1.2.840.113549.1.9.16.2.47");
/// `id-aa-signatureTimeStampToken` (RFC 3161 appendix A), unsigned attribute.
pub const TIME_STAMP_TOKEN: ObjectIdentifier = oid("1.2.840.113549.1.9.16.2.14");
/// `id-aa-attestation` (draft-ietf-lamps-csr-attestation), request attribute.
pub const ATTESTATION: ObjectIdentifier = oid("1.2.840.113549.1.9.16.2.59");
/// Microsoft's `szOID_RFC3161_counterSign`, unsigned attribute of Authenticode.
pub const MS_RFC3161_COUNTERSIGN: ObjectIdentifier = oid("1.3.6.1.4.1.311.3.3.1");
/// `SpcIndirectDataContent`, the content type of Authenticode.
pub const SPC_INDIRECT_DATA: ObjectIdentifier = oid("1.3.6.1.4.1.311.2.1.4");

/// `subjectKeyIdentifier` extension.
pub const SUBJECT_KEY_ID: ObjectIdentifier = oid("2.5.29.14");
/// `keyUsage` extension.
pub const KEY_USAGE: ObjectIdentifier = oid("2.5.29.15");
/// `subjectAltName` extension.
pub const SUBJECT_ALT_NAME: ObjectIdentifier = oid("2.5.29.17");
/// `basicConstraints` extension.
pub const BASIC_CONSTRAINTS: ObjectIdentifier = oid("2.5.29.19");
/// `cRLNumber`, extension of a list.
pub const CRL_NUMBER: ObjectIdentifier = oid("2.5.29.20");
/// `reasonCode`, extension of a list's entry.
pub const CRL_REASON: ObjectIdentifier = oid("2.5.29.21");
/// `invalidityDate`, extension of a list's entry.
pub const INVALIDITY_DATE: ObjectIdentifier = oid("2.5.29.24");
/// `deltaCRLIndicator`, extension of a list.
pub const DELTA_CRL_INDICATOR: ObjectIdentifier = oid("2.5.29.27");
/// `issuingDistributionPoint`, extension of a list.
pub const ISSUING_DISTRIBUTION_POINT: ObjectIdentifier = oid("2.5.29.28");
/// `certificateIssuer`, extension of a list's entry.
pub const CERTIFICATE_ISSUER: ObjectIdentifier = oid("2.5.29.29");
/// `cRLDistributionPoints` extension.
pub const CRL_DISTRIBUTION_POINTS: ObjectIdentifier = oid("2.5.29.31");
/// `certificatePolicies` extension.
pub const CERTIFICATE_POLICIES: ObjectIdentifier = oid("2.5.29.32");
/// `authorityKeyIdentifier` extension.
pub const AUTHORITY_KEY_ID: ObjectIdentifier = oid("2.5.29.35");
/// `extKeyUsage` extension.
pub const EXTENDED_KEY_USAGE: ObjectIdentifier = oid("2.5.29.37");
/// `anyExtendedKeyUsage`.
pub const ANY_EXTENDED_KEY_USAGE: ObjectIdentifier = oid("2.5.29.37.0");
/// `id-pe-authorityInfoAccess`.
pub const AUTHORITY_INFO_ACCESS: ObjectIdentifier = oid("1.3.6.1.5.5.7.1.1");
/// `id-ad-caIssuers`.
pub const CA_ISSUERS: ObjectIdentifier = oid("1.3.6.1.5.5.7.48.2");
/// `id-kp-serverAuth`.
pub const SERVER_AUTH: ObjectIdentifier = oid("1.3.6.1.5.5.7.3.1");
/// `id-kp-codeSigning`.
pub const CODE_SIGNING: ObjectIdentifier = oid("1.3.6.1.5.5.7.3.3");
/// `id-kp-timeStamping`.
pub const TIME_STAMPING: ObjectIdentifier = oid("1.3.6.1.5.5.7.3.8");

/// id-on-permanentIdentifier (RFC 4043 §2).
pub const PERMANENT_IDENTIFIER: ObjectIdentifier = oid("1.3.6.1.5.5.7.8.3");
/// `tcg-kp-AIKCertificate`: a TPM's attestation key.
pub const TCG_AK_CERTIFICATE: ObjectIdentifier = oid("2.23.133.8.3");
/// `tcg-at-tpmManufacturer`.
pub const TPM_MANUFACTURER: ObjectIdentifier = oid("2.23.133.2.1");
/// `tcg-at-tpmModel`.
pub const TPM_MODEL: ObjectIdentifier = oid("2.23.133.2.2");
/// `tcg-at-tpmVersion`.
pub const TPM_VERSION: ObjectIdentifier = oid("2.23.133.2.3");

/// CSBR §7.1.6.1: non-EV code signing.
pub const POLICY_CODE_SIGNING: ObjectIdentifier = oid("2.23.140.1.4.1");
/// CSBR §7.1.6.1: timestamping.
pub const POLICY_TIME_STAMPING: ObjectIdentifier = oid("2.23.140.1.4.2");
/// CSBR §7.1.6.1: EV code signing.
pub const POLICY_EV_CODE_SIGNING: ObjectIdentifier = oid("2.23.140.1.3");
