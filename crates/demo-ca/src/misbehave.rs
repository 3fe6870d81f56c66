//! Doing wrong on purpose, so that tests can show that the service notices.

use clap::ValueEnum;
use countersign_x509::ObjectIdentifier;
use countersign_x509::asn1::{self, Asn1Error, Cursor};

/// How to misbehave. Only by `--test-misbehave`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Misbehaviour {
    /// Return a certificate for another key than the one requested.
    WrongKey,
    /// Return a certificate valid for 500 days (CSBR §6.3.2 allows 460).
    TooLong,
    /// Return a certificate without any certificate policy (CSBR §7.1.6.4 wants one).
    NoPolicy,
    /// Answer every order request with 503.
    Down,
}

/// A TBSCertificate without the extension `oid`.
pub(crate) fn without_extension(tbs: &[u8], oid: &ObjectIdentifier) -> Result<Vec<u8>, Asn1Error> {
    const F: &str = "tbsCertificate";
    let mut parts = Vec::new();
    for part in Cursor::new(Cursor::single(tbs, asn1::SEQUENCE, F)?.value).elements(16, F)? {
        if part.tag != asn1::context(3) {
            parts.push(part.bytes.to_vec());
            continue;
        }
        let list = Cursor::single(part.value, asn1::SEQUENCE, F)?;
        let mut kept = Vec::new();
        for extension in Cursor::new(list.value).elements(64, F)? {
            if Cursor::new(extension.value).oid(F)? != *oid {
                kept.push(extension.bytes.to_vec());
            }
        }
        parts.push(asn1::tlv(
            asn1::context(3),
            &[&asn1::tlv(asn1::SEQUENCE, &slices(&kept))],
        ));
    }
    Ok(asn1::sequence(&slices(&parts)))
}

fn slices(parts: &[Vec<u8>]) -> Vec<&[u8]> {
    parts.iter().map(Vec::as_slice).collect()
}
