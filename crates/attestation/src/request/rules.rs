//! The rules a certificate request is held to, by name.

use crate::result::Rule;

const DOC: &str = "docs/service-statement.md, Appraisal";

pub(super) const CSR_WELL_FORMED: Rule = Rule::documented(
    "csr-well-formed",
    "the request is one strict DER CertificationRequest with nothing after it",
    "RFC 2986 §4",
);
pub(super) const CSR_SIGNATURE: Rule = Rule::documented(
    "csr-signature",
    "the request is signed by the key inside it (proof of possession)",
    "RFC 2986 §4.2; CSBR §3.2.1",
);
pub(super) const BUNDLE: Rule = Rule::documented(
    "attestation-attribute",
    "at most one attestation bundle stands in the request, well-formed",
    "IETF lamps CSR attestation, id-aa-attestation",
);
pub(super) const PRESENT: Rule = Rule::documented(
    "statement-present",
    "no naked request: a service statement comes in it or with it",
    DOC,
);
pub(super) const ONE: Rule = Rule::documented(
    "statement-one",
    "one statement: all copies, in the request and beside it, are the same bytes",
    DOC,
);
pub(super) const WELL_FORMED: Rule = Rule::documented(
    "statement-well-formed",
    "the statement is the exact DER of its ASN.1 module, within bounds",
    "docs/service-statement.md, ASN.1 module",
);
pub(super) const SIGNATURE: Rule = Rule::documented(
    "statement-signature",
    "the statement is signed by a statement key this CA pins; there is no default anchor",
    DOC,
);
pub(super) const REQUEST: Rule = Rule::documented(
    "statement-request",
    "csrInfoHash is the SHA-256 of this request's info without the attestation attribute",
    DOC,
);
pub(super) const KEY: Rule = Rule::documented(
    "statement-key",
    "key.spkiHash is the SHA-256 of this request's SubjectPublicKeyInfo",
    DOC,
);
pub(super) const AUDIENCE: Rule =
    Rule::documented("statement-audience", "the statement is for this CA", DOC);
pub(super) const ISSUED: Rule = Rule::documented(
    "statement-issued",
    "issuedAt is not in the future by more than the allowed clock skew",
    DOC,
);
pub(super) const UNEXPIRED: Rule =
    Rule::documented("statement-unexpired", "now is earlier than expiresAt", DOC);
pub(super) const LIFETIME: Rule = Rule::documented(
    "statement-lifetime",
    "the statement does not live longer than this CA allows",
    DOC,
);
pub(super) const ORDER: Rule = Rule::documented(
    "order-matches",
    "the statement names the order, its nonce and its subscriber as this CA opened it",
    DOC,
);
pub(super) const UNUSED: Rule = Rule::documented("order-unused", "an order is used once", DOC);
pub(super) const SOFTWARE: Rule = Rule::documented(
    "software-key-policy",
    "the key is in hardware, or this CA's policy says allow-software",
    "CSBR §6.2.7.3 (hardware crypto module)",
);
pub(super) const METHOD: Rule = Rule::documented(
    "accepted-method",
    "the request supports a verification method that this CA accepts, and its last day is not over",
    "CSBR §6.2.7.4.2; the CA's policy",
);
pub(super) const ATTESTATION_KEY: Rule = Rule::documented(
    "attestation-key-of-order",
    "device evidence is signed by the attestation key that answered this order's challenge",
    "TPM 2.0 Library Part 1 §24; docs/ca/demo-ca-protocol.md",
);
