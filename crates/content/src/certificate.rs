//! The few facts of the signer's certificate that signed attributes may name.

use crate::ContentRefusal;
use crate::oids;
use crate::tlv::{Cursor, context};
use der::Tag;

/// What kind of key the certificate holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyKind {
    Rsa,
    Ec,
}

/// A certificate as far as we look into it. Checking it (chain, EKU, dates) is `x509`'s business.
pub(crate) struct SignerCertificate<'a> {
    pub(crate) der: &'a [u8],
    /// The issuer's `Name`, with its header.
    pub(crate) issuer: &'a [u8],
    /// The serial number's INTEGER, with its header.
    pub(crate) serial: &'a [u8],
    pub(crate) key: Option<KeyKind>,
}

impl<'a> SignerCertificate<'a> {
    pub(crate) fn read(der: &'a [u8]) -> Result<Self, ContentRefusal> {
        walk(der).map_err(|_| ContentRefusal::BadSignerCertificate)
    }
}

/// RFC 5280 §4.1: version, serialNumber, signature, issuer, validity, subject, subjectPublicKeyInfo.
fn walk(der: &[u8]) -> Result<SignerCertificate<'_>, ContentRefusal> {
    const FIELD: &str = "certificate";
    const WHAT: &str = "a Certificate";
    let mut tbs = Cursor::whole(FIELD, der, Tag::Sequence, WHAT)?.enter(Tag::Sequence, WHAT)?;
    if tbs.peek() == Some(context(0)) {
        tbs.any()?;
    }
    let serial = tbs.raw()?;
    tbs.expect(Tag::Sequence, WHAT)?;
    let issuer = tbs.raw()?;
    tbs.expect(Tag::Sequence, WHAT)?;
    tbs.expect(Tag::Sequence, WHAT)?;
    let mut spki = tbs.enter(Tag::Sequence, WHAT)?;
    let algorithm = spki.enter(Tag::Sequence, WHAT)?.oid(WHAT)?;
    Ok(SignerCertificate {
        der,
        issuer,
        serial,
        key: match algorithm {
            oids::RSA_ENCRYPTION => Some(KeyKind::Rsa),
            oids::EC_PUBLIC_KEY => Some(KeyKind::Ec),
            _ => None,
        },
    })
}
