//! The rules of TPM key attestation, each with where it stands.

use crate::result::Rule;

pub(super) const WELL_FORMED: Rule = Rule::confirmed(
    "tpm-well-formed",
    "container and TPM structures can be read to their last byte, and the magic value is TPM_GENERATED",
    "TPM 2.0 Library Part 2 §6.2, §10.12.12; WebAuthn §8.3",
);
pub(super) const KIND: Rule = Rule::confirmed(
    "tpm-statement",
    "the TPM speaks of a key: TPM2_Certify (0x8017), or TPM2_CertifyCreation (0x801a) outside of WebAuthn and requests",
    "TPM 2.0 Library Part 2 §6.9; WebAuthn §8.3",
);
pub(super) const NAME: Rule = Rule::confirmed(
    "tpm-name",
    "the attested Name is that of the public area: nameAlg and the digest of the area",
    "TPM 2.0 Library Part 1 §16",
);
pub(super) const CREATION: Rule = Rule::confirmed(
    "tpm-creation-data",
    "the creation hash is the digest of the creation data, if they are given",
    "TPM 2.0 Library Part 3 §18.3",
);
pub(super) const SIGNATURE: Rule = Rule::confirmed(
    "tpm-signature",
    "the attestation key signed exactly these bytes",
    "TPM 2.0 Library Part 3 §18.2",
);
pub(super) const EXTRA_DATA: Rule = Rule::confirmed(
    "tpm-webauthn-extra-data",
    "extraData is the hash, by the signature's algorithm, of authenticator data and client data hash, of a registration",
    "WebAuthn §8.3, §7.1",
);
pub(super) const CREDENTIAL: Rule = Rule::confirmed(
    "tpm-webauthn-credential",
    "the credential's key is the key of the public area",
    "WebAuthn §8.3",
);
pub(super) const ORIGIN: Rule = Rule::confirmed(
    "tpm-origin",
    "sensitiveDataOrigin is 1: the TPM made the private part; fixedTPM alone is a key imported under a fixed parent",
    "TPM 2.0 Library Part 2 §8.3",
);
pub(super) const FIXED: Rule = Rule::confirmed(
    "tpm-not-duplicable",
    "fixedTPM and fixedParent are 1 and encryptedDuplication is 0: the key cannot be duplicated",
    "TPM 2.0 Library Part 2 §8.3, Part 1 §23",
);
pub(super) const ATTRIBUTES: Rule = Rule::documented(
    "tpm-attributes-known",
    "no attribute bit is set that the library does not name",
    "TPM 2.0 Library Part 2 §8.3",
);
pub(super) const USE: Rule = Rule::confirmed(
    "tpm-signing-key",
    "a general signing key: sign is 1, restricted is 0",
    "TPM 2.0 Library Part 2 §8.3; Part 1 §25",
);
pub(super) const AK_CHAIN: Rule = Rule::confirmed(
    "tpm-ak-chain",
    "the attestation key's certificate (extended key usage 2.23.133.8.3, empty subject, the TPM in a critical subjectAltName, no CA) leads through CAs for attestation keys to an anchor for attestation keys, all valid at the moment of appraisal, below Microsoft's root exactly one CA; or the verifier gave the attestation key itself as an anchor",
    "TCG EK Credential Profile §3.2; WebAuthn §8.3.1; RFC 5280 §6.1",
);
pub(super) const AK_ATTRIBUTES: Rule = Rule::documented(
    "tpm-ak-restricted",
    "the attestation key is restricted, signs, and was made in its TPM without leave to go: else its holder could sign made-up statements",
    "TPM 2.0 Library Part 1 §25; Part 2 §8.3",
);
pub(super) const AK_ROCA: Rule = Rule::documented(
    "tpm-ak-roca",
    "an attestation key's RSA modulus does not come from the flawed generator of CVE-2017-15361",
    "CVE-2017-15361",
);
pub(super) const AAGUID: Rule = Rule::documented(
    "tpm-webauthn-aaguid",
    "an AAGUID in the certificate is that of the authenticator data",
    "WebAuthn §8.3.1",
);
pub(super) const EK: Rule = Rule::documented(
    "tpm-ek-certificate",
    "an endorsement key's certificate among the evidence is read; it shows that a TPM exists and is no evidence for an attestation key: that step is a conversation (TPM2_ActivateCredential)",
    "TCG EK Credential Profile §2.1.5; TPM 2.0 Library Part 1 §24",
);

pub(super) const EK_CHAIN: Rule = Rule::confirmed(
    "tpm-ek-chain",
    "the endorsement key's certificate (extended key usage 2.23.133.8.1 where one is stated, its key for decryption, the TPM in its subjectAltName, no CA) leads to a root that the verifier pins for endorsement keys, all valid now",
    "TCG EK Credential Profile §3.2; RFC 5280 §6.1",
);
pub(super) const EK_KEY: Rule = Rule::confirmed(
    "tpm-ek-key",
    "the endorsement key is of a template whose parameters are known: RSA-2048, P-256 or P-384",
    "TCG EK Credential Profile §B.3, §B.4",
);
pub(super) const EK_ROCA: Rule = Rule::documented(
    "tpm-ek-roca",
    "an endorsement key's RSA modulus does not come from the flawed generator of CVE-2017-15361: else others than the TPM answer the challenge",
    "CVE-2017-15361",
);
pub(super) const AK_PUBLIC: Rule = Rule::confirmed(
    "tpm-ak-public",
    "the attestation key's public area can be read to its last byte: an elliptic curve or RSA of 2048 bits and more, tied to a signature scheme with SHA-256 or better, its Name by SHA-256 or better",
    "TPM 2.0 Library Part 2 §12.2.4; Part 1 §25",
);

/// Where freshness stands.
pub(super) const FRESH: &str =
    "TPM 2.0 Library Part 3 §18.1 (qualifyingData); WebAuthn §7.1 (challenge)";
