//! Known shapes that are not code, refused by name.
//!
//! Nothing here makes content safe: the allow-list does. It only finds the better words, for the
//! tenant's log, when somebody sends a certificate request where code belongs.

use crate::ContentRefusal;
use crate::tlv::{Cursor, context};
use der::Tag;

/// Refuses `bytes` by name if they have a known other shape, whole or only the part that gets signed.
pub(crate) fn refuse_known(field: &'static str, bytes: &[u8]) -> Result<(), ContentRefusal> {
    if is_jwt(bytes) {
        return Err(ContentRefusal::LooksLikeJwt { field });
    }
    let Some(body) = first_sequence(bytes) else {
        return Ok(());
    };
    // The signed wrapper of certificates, requests and lists is SEQUENCE { body, algorithm, BIT STRING }.
    let inner = wrapped(body);
    for candidate in [Some(body), inner].into_iter().flatten() {
        if is_request_info(candidate) {
            return Err(ContentRefusal::LooksLikeCertificateRequest { field });
        }
        if is_tst_info(candidate) {
            return Err(ContentRefusal::LooksLikeTimestamp { field });
        }
        if is_tbs_certificate(candidate) {
            return Err(ContentRefusal::LooksLikeCertificate { field });
        }
        if is_tbs_cert_list(candidate) {
            return Err(ContentRefusal::LooksLikeRevocationList { field });
        }
    }
    Ok(())
}

/// RFC 7515 §3.1: base64url parts joined by dots; `eyJ` is `{"` in base64. Two parts are a signing input.
fn is_jwt(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    let text = text.trim();
    let mut parts = 0_usize;
    for part in text.split('.') {
        let base64url = part
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if !base64url {
            return false;
        }
        parts = parts.saturating_add(1);
    }
    (2..=5).contains(&parts) && text.starts_with("eyJ")
}

/// `CertificationRequestInfo` (RFC 2986 §4.1): version, subject, key, [0] attributes.
fn is_request_info(body: &[u8]) -> bool {
    const KEY: &[Kind] = &[Kind::Sequence, Kind::BitString];
    let mut c = Walk::over(body);
    c.next(Kind::Integer) && c.next(Kind::Sequence) && c.enters(KEY)
}

/// `TBSCertificate` (RFC 5280 §4.1): [0] version, serial, algorithm, issuer, validity, subject, key.
fn is_tbs_certificate(body: &[u8]) -> bool {
    let mut c = Walk::over(body);
    c.optional(Kind::Context0);
    c.next(Kind::Integer)
        && c.next(Kind::Sequence)
        && c.next(Kind::Sequence)
        && c.enters(&[Kind::Time, Kind::Time])
        && c.next(Kind::Sequence)
        && c.enters(&[Kind::Sequence, Kind::BitString])
}

/// `TBSCertList` (RFC 5280 §5.1): version, algorithm, issuer, thisUpdate.
fn is_tbs_cert_list(body: &[u8]) -> bool {
    let mut c = Walk::over(body);
    c.optional(Kind::Integer);
    c.next(Kind::Sequence) && c.next(Kind::Sequence) && c.next(Kind::Time)
}

/// `TSTInfo` (RFC 3161 §2.4.2): version, policy, messageImprint, serial, genTime.
fn is_tst_info(body: &[u8]) -> bool {
    let mut c = Walk::over(body);
    c.next(Kind::Integer)
        && c.next(Kind::Oid)
        && c.enters(&[Kind::Sequence, Kind::OctetString])
        && c.next(Kind::Integer)
        && c.next(Kind::Time)
}

/// The content of the first value if that is a SEQUENCE; bytes after it don't hide the shape.
fn first_sequence(bytes: &[u8]) -> Option<&[u8]> {
    Cursor::over("", bytes).ok()?.expect(Tag::Sequence, "").ok()
}

fn wrapped(body: &[u8]) -> Option<&[u8]> {
    let mut c = Cursor::over("", body).ok()?;
    let inner = c.expect(Tag::Sequence, "").ok()?;
    c.expect(Tag::Sequence, "").ok()?;
    c.expect(Tag::BitString, "").ok()?;
    Some(inner)
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Integer,
    Sequence,
    BitString,
    OctetString,
    Oid,
    Time,
    Context0,
}

/// A walk that answers yes or no instead of giving reasons.
struct Walk<'a>(Option<Cursor<'a>>);

impl<'a> Walk<'a> {
    fn over(bytes: &'a [u8]) -> Self {
        Self(Cursor::over("", bytes).ok())
    }

    fn take(&mut self, kind: Kind) -> Option<&'a [u8]> {
        let cursor = self.0.as_mut()?;
        if kind_of(cursor.peek()?) != Some(kind) {
            return None;
        }
        cursor.any().ok().map(|a| a.value())
    }

    fn next(&mut self, kind: Kind) -> bool {
        self.take(kind).is_some()
    }

    fn optional(&mut self, kind: Kind) {
        self.take(kind);
    }

    /// A SEQUENCE that starts with these kinds.
    fn enters(&mut self, kinds: &[Kind]) -> bool {
        self.take(Kind::Sequence).is_some_and(|content| {
            let mut inside = Walk::over(content);
            kinds.iter().all(|k| inside.next(*k))
        })
    }
}

fn kind_of(tag: Tag) -> Option<Kind> {
    Some(match tag {
        Tag::Integer => Kind::Integer,
        Tag::Sequence => Kind::Sequence,
        Tag::BitString => Kind::BitString,
        Tag::OctetString => Kind::OctetString,
        Tag::ObjectIdentifier => Kind::Oid,
        Tag::UtcTime | Tag::GeneralizedTime => Kind::Time,
        t if t == context(0) => Kind::Context0,
        _ => return None,
    })
}
