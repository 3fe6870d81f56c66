//! Where TPM statements stand: WebAuthn objects, TCG statements in requests, loose files.

use super::attest::{Attest, MAGIC};
use super::public::Public;
use super::webauthn::{self, AttestationObject, AuthData};
use crate::der::{DerError, expect, tag};
use crate::signature::Algorithm;
use crate::verify::{Content, Part, Pool};
use spki::ObjectIdentifier;

/// tcg-attest-tpm-certify (TCG OID Registry; draft-ietf-lamps-csr-attestation, appendix A).
pub const TCG_ATTEST_TPM_CERTIFY: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.20.1");

/// One statement of a TPM with what came along.
#[derive(Debug, Clone)]
pub(super) struct Statement<'a> {
    pub(super) container: Container<'a>,
    /// `TPMS_ATTEST`.
    pub(super) attest: &'a [u8],
    /// A `TPMT_SIGNATURE` or a bare signature; loose files are looked through for it.
    pub(super) signature: Option<&'a [u8]>,
    /// `TPMT_PUBLIC`, if it stands beside.
    pub(super) public: Option<&'a [u8]>,
}

/// What a statement stands in.
#[derive(Debug, Clone)]
pub(super) enum Container<'a> {
    /// A WebAuthn attestation object.
    WebAuthn {
        auth_data: Option<Box<AuthData<'a>>>,
        algorithm: Algorithm,
        x5c: Vec<&'a [u8]>,
    },
    /// A `Tcg-csr-tpm-certify`.
    Tcg,
    /// Nothing: files of their own.
    Loose,
}

impl Container<'_> {
    pub(super) const fn words(&self) -> &'static str {
        match self {
            Self::WebAuthn {
                auth_data: Some(_), ..
            } => "WebAuthn attestation object",
            Self::WebAuthn { .. } => "ACME attestation object",
            Self::Tcg => "TCG statement of a certificate request",
            Self::Loose => "loose TPM structures",
        }
    }
}

/// Whether a part is the start of TPM evidence. Cheap, and no promise.
pub(super) fn is_evidence(part: &Part) -> bool {
    match &part.content {
        Content::Statement { kind, .. } => *kind == TCG_ATTEST_TPM_CERTIFY,
        Content::Der => tcg(&part.bytes).is_ok_and(|s| unsized_magic(s.attest)),
        Content::Cbor => part.cbor().is_some_and(|v| webauthn::looks_like(&v)),
        Content::Binary => unsized_magic(&part.bytes),
        _ => false,
    }
}

/// Starts as a `TPMS_ATTEST` or a `TPM2B_ATTEST` does.
fn unsized_magic(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC) || bytes.get(2..6) == Some(&MAGIC)
}

/// Reads the statement of a part that [`is_evidence`].
///
/// # Errors
/// In words.
pub(super) fn read(part: &Part) -> Result<Statement<'_>, String> {
    match &part.content {
        Content::Statement { .. } | Content::Der => tcg(&part.bytes).map_err(|e| e.to_string()),
        Content::Cbor => {
            let o = AttestationObject::parse(&part.bytes).map_err(|e| e.to_string())?;
            Ok(Statement {
                attest: o.cert_info,
                signature: Some(o.sig),
                public: Some(o.pub_area),
                container: Container::WebAuthn {
                    auth_data: o.auth_data.map(Box::new),
                    algorithm: o.alg,
                    x5c: o.x5c,
                },
            })
        }
        _ => Ok(Statement {
            container: Container::Loose,
            attest: &part.bytes,
            signature: None,
            public: None,
        }),
    }
}

/// `Tcg-csr-tpm-certify ::= SEQUENCE { tpmSAttest OCTET STRING, signature OCTET STRING,
/// tpmTPublic OCTET STRING OPTIONAL }`
pub(super) fn tcg(der: &[u8]) -> Result<Statement<'_>, DerError> {
    const F: &str = "Tcg-csr-tpm-certify";
    let mut w = expect(der, tag::SEQUENCE, F)?.walk();
    let attest = w.next("tpmSAttest")?.octets("tpmSAttest")?;
    let signature = w.next("signature")?.octets("signature")?;
    let public = match w.optional(tag::OCTET_STRING, "tpmTPublic")? {
        Some(e) => Some(e.octets("tpmTPublic")?),
        None => None,
    };
    w.finish(F)?;
    Ok(Statement {
        container: Container::Tcg,
        attest,
        signature: Some(signature),
        public,
    })
}

/// The loose public areas of a pool.
pub(super) fn publics(pool: &Pool) -> impl Iterator<Item = (crate::verify::PartId, Public<'_>)> {
    pool.parts().filter_map(|(id, part)| {
        let bytes = part.binary()?;
        Public::parse(bytes).ok().map(|p| (id, p))
    })
}

/// The statements that stand in containers. A loose `TPMS_ATTEST` with the same bytes is such a
/// statement's part, not evidence of its own.
pub(super) fn contained(pool: &Pool) -> Vec<&[u8]> {
    pool.parts()
        .filter(|(_, p)| !matches!(p.content, Content::Binary) && is_evidence(p))
        .filter_map(|(_, p)| Some(Attest::parse(read(p).ok()?.attest).ok()?.bytes))
        .collect()
}
