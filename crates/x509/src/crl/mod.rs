//! Certificate revocation lists (RFC 5280 §5): reading one, and judging a certificate by it (§6.3).
//!
//! Complete, direct lists alone: a list for all reasons, signed by the CA that issued the certificate.
//! Delta lists, indirect lists and lists with unknown critical extensions are refused, each with its
//! own reason: a list that is only partly understood says nothing about anybody.
//!
//! ```text
//! bytes ──► CertificateList::from_der ──► check(issuer, …, now) ──► status_of(serial)
//! ```
//!
//! Whoever calls fetches the bytes and passes the time in; remembering the newest list seen, and
//! refusing an older one, is the caller's part as well ([`CertificateList::older_than`]).

mod build;
mod check;

pub use build::{CrlBuilder, RevokedCertificate, assemble_crl};
pub use check::{Seen, distribution_urls};

use crate::asn1::{
    Asn1Error, BOOLEAN, Cursor, INTEGER, OCTET_STRING, ObjectIdentifier, Problem, SEQUENCE, Tlv,
    context, context_primitive,
};
use crate::verify::VerifyError;
use crate::{oid, time};
use countersign_core::Micros;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::ops::Range;

/// The largest list read: some 400,000 entries.
pub const MAX_CRL: usize = 16 * 1024 * 1024;
const MAX_EXTENSIONS: usize = 64;

/// A list that says nothing, and why. A retry helps where a newer list does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CrlError {
    /// Not the DER of a list.
    #[error("not a certificate revocation list: {0}")]
    Asn1(#[from] Asn1Error),
    /// The algorithm inside the signed part differs from the one beside the signature
    /// (RFC 5280 §5.1.1.2).
    #[error("signature algorithms inside and outside differ")]
    AlgorithmsDiffer,
    /// An extension that stands twice (RFC 5280 §4.2).
    #[error("extension {0} stands more than once")]
    DuplicateExtension(ObjectIdentifier),
    /// A critical extension this crate does not know (RFC 5280 §5.2).
    #[error("unknown critical extension {0}")]
    UnknownCriticalExtension(ObjectIdentifier),
    /// The same in an entry (RFC 5280 §5.3).
    #[error("unknown critical extension {0} in an entry")]
    UnknownCriticalEntryExtension(ObjectIdentifier),
    /// A delta list (RFC 5280 §5.2.4): alone it says nothing.
    #[error("it is a delta list; complete lists alone are used")]
    Delta,
    /// A list that speaks for several CAs (RFC 5280 §5.2.5, §5.3.3).
    #[error("it is an indirect list; the issuing CA's own lists alone are used")]
    Indirect,
    /// The `issuingDistributionPoint` leaves our certificate out (RFC 5280 §5.2.5).
    #[error("its issuingDistributionPoint does not cover the certificate: {0}")]
    Scope(&'static str),
    /// `removeFromCRL` has no meaning in a complete list (RFC 5280 §5.3.1).
    #[error("an entry says removeFromCRL, which a complete list may not")]
    Removal,
    /// Another CA's list.
    #[error("it was issued by \"{found}\", the certificate by \"{expected}\"")]
    OtherIssuer {
        /// Whose list it is.
        found: String,
        /// Whose it should be.
        expected: String,
    },
    /// The `authorityKeyIdentifier` names another key than the issuer's.
    #[error("its authorityKeyIdentifier names another key than the issuing CA's")]
    OtherKey,
    /// The issuer's `keyUsage` lacks `cRLSign` (RFC 5280 §6.3.3 f).
    #[error("the issuing CA's certificate does not allow it to sign lists")]
    IssuerMayNotSign,
    /// The signature does not verify with the issuing CA's key.
    #[error("it is not signed by the issuing CA: {0}")]
    Signature(VerifyError),
    /// Without `nextUpdate` nobody knows when it ends (RFC 5280 §5.1.2.5 demands it).
    #[error("it has no nextUpdate")]
    NoNextUpdate,
    /// `thisUpdate` is in the future. A retry later can help.
    #[error("its thisUpdate lies in the future")]
    NotYet,
    /// `nextUpdate` has passed. A retry can help once the CA published a newer one.
    #[error("its nextUpdate has passed")]
    Expired,
}

/// Why a certificate was revoked (RFC 5280 §5.3.1), by the names there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No reason given.
    Unspecified,
    /// The subscriber's key is known, or believed to be.
    KeyCompromise,
    /// The CA's key is.
    CaCompromise,
    /// The subject's name or other information changed.
    AffiliationChanged,
    /// Replaced by another.
    Superseded,
    /// No longer needed.
    CessationOfOperation,
    /// On hold: it may come back.
    CertificateHold,
    /// A privilege in it was withdrawn.
    PrivilegeWithdrawn,
    /// An attribute authority's key is known.
    AaCompromise,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 9] = [
        Self::Unspecified,
        Self::KeyCompromise,
        Self::CaCompromise,
        Self::AffiliationChanged,
        Self::Superseded,
        Self::CessationOfOperation,
        Self::CertificateHold,
        Self::PrivilegeWithdrawn,
        Self::AaCompromise,
    ];

    /// The name in RFC 5280.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::KeyCompromise => "keyCompromise",
            Self::CaCompromise => "cACompromise",
            Self::AffiliationChanged => "affiliationChanged",
            Self::Superseded => "superseded",
            Self::CessationOfOperation => "cessationOfOperation",
            Self::CertificateHold => "certificateHold",
            Self::PrivilegeWithdrawn => "privilegeWithdrawn",
            Self::AaCompromise => "aACompromise",
        }
    }

    /// The number in `CRLReason`.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Unspecified => 0,
            Self::KeyCompromise => 1,
            Self::CaCompromise => 2,
            Self::AffiliationChanged => 3,
            Self::Superseded => 4,
            Self::CessationOfOperation => 5,
            Self::CertificateHold => 6,
            Self::PrivilegeWithdrawn => 9,
            Self::AaCompromise => 10,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Reason {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|r| r.as_str() == s)
            .ok_or_else(|| format!("unknown revocation reason \"{s}\""))
    }
}

/// What a list says of one certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Not listed.
    Good,
    /// Listed.
    Revoked {
        /// `revocationDate`.
        at: Micros,
        /// Why; [`Reason::Unspecified`] where the entry does not say.
        reason: Reason,
    },
}

impl Status {
    /// Whether a further entry for the same certificate counts instead.
    const fn gives_way(self) -> bool {
        matches!(
            self,
            Self::Good
                | Self::Revoked {
                    reason: Reason::CertificateHold,
                    ..
                }
        )
    }
}

/// A list, read but not yet checked against its issuer.
#[derive(Clone, PartialEq, Eq)]
pub struct CertificateList {
    der: Vec<u8>,
    tbs: Range<usize>,
    algorithm: Range<usize>,
    signature: Range<usize>,
    issuer: Range<usize>,
    entries: Range<usize>,
    count: usize,
    this_update: Micros,
    next_update: Option<Micros>,
    number: Option<Vec<u8>>,
    authority_key_id: Option<Vec<u8>>,
    scope: Option<check::IssuingDistributionPoint>,
}

impl CertificateList {
    /// Reads one list that fills `der`. Every entry is read; a list with one malformed entry is
    /// no list.
    ///
    /// # Errors
    /// [`CrlError`].
    pub fn from_der(der: Vec<u8>) -> Result<Self, CrlError> {
        const F: &str = "CertificateList";
        if der.len() > MAX_CRL {
            return Err(Asn1Error::new(F, Problem::TooLarge).into());
        }
        let place = Places::of(&der);
        let mut c = Cursor::new(Cursor::single(&der, SEQUENCE, F)?.value);
        let tbs = c.expect(SEQUENCE, "tbsCertList")?;
        let algorithm = c.expect(SEQUENCE, "signatureAlgorithm")?;
        let signature = c.bit_string("signatureValue")?;
        c.finish(F)?;

        let mut t = Cursor::new(tbs.value);
        let version = match t.peek() {
            Some(INTEGER) => t.small_integer("version")?,
            _ => 0,
        };
        // RFC 5280 §5.1.2.1: absent, or v2 (1).
        if version > 1 || t.peek() == Some(INTEGER) {
            return Err(Asn1Error::new("version", Problem::Version).into());
        }
        if t.expect(SEQUENCE, "signature")?.bytes != algorithm.bytes {
            return Err(CrlError::AlgorithmsDiffer);
        }
        let issuer = t.expect(SEQUENCE, "issuer")?;
        let this_update = time::read_time(&t.any("thisUpdate")?, "thisUpdate")?;
        let next_update = match t.peek() {
            Some(crate::asn1::UTC_TIME | crate::asn1::GENERALIZED_TIME) => {
                Some(time::read_time(&t.any("nextUpdate")?, "nextUpdate")?)
            }
            _ => None,
        };
        let revoked = t.optional(SEQUENCE, "revokedCertificates")?;
        let extensions = t.optional(context(0), "crlExtensions")?;
        t.finish("tbsCertList")?;
        if extensions.is_some() && version == 0 {
            return Err(Asn1Error::new("version", Problem::Version).into());
        }

        let mut known = Known::default();
        if let Some(e) = extensions {
            let list = Cursor::single(e.value, SEQUENCE, "crlExtensions")?;
            known.read(list.value)?;
        }
        let mut count = 0usize;
        let mut entries = Cursor::new(revoked.map_or(&[][..], |r| r.value));
        let place_of_entries = place.of_slice(revoked.map_or(&[][..], |r| r.value));
        while !entries.is_empty() {
            let entry = entry(&mut entries)?;
            // RFC 5280 §5.1.2.6: entries have extensions in v2 lists alone.
            if entry.extended && version == 0 {
                return Err(Asn1Error::new("version", Problem::Version).into());
            }
            count = count.saturating_add(1);
        }
        Ok(Self {
            tbs: place.of_slice(tbs.bytes),
            algorithm: place.of_slice(algorithm.bytes),
            signature: place.of_slice(signature),
            issuer: place.of_slice(issuer.bytes),
            entries: place_of_entries,
            count,
            this_update,
            next_update,
            number: known.number,
            authority_key_id: known.authority_key_id,
            scope: known.scope,
            der,
        })
    }

    /// The list.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The issuer's DER `Name`.
    #[must_use]
    pub fn issuer_der(&self) -> &[u8] {
        self.part(&self.issuer)
    }

    /// When it was made.
    #[must_use]
    pub const fn this_update(&self) -> Micros {
        self.this_update
    }

    /// When the next one is due.
    #[must_use]
    pub const fn next_update(&self) -> Option<Micros> {
        self.next_update
    }

    /// `cRLNumber`, big endian without leading zeros.
    #[must_use]
    pub fn number(&self) -> Option<&[u8]> {
        self.number.as_deref()
    }

    /// How many certificates it lists.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether it lists none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// What it says of the certificate with this serial number (content octets of the INTEGER).
    /// Where one stands twice, the entry that is not a hold counts.
    #[must_use]
    pub fn status_of(&self, serial: &[u8]) -> Status {
        let wanted = minimal(serial);
        let mut status = Status::Good;
        self.for_each(|found, at, reason| {
            if found == wanted && status.gives_way() {
                status = Status::Revoked { at, reason };
            }
        });
        status
    }

    /// Those of `serials` (content octets, minimal) that are on the list, in one walk.
    #[must_use]
    pub fn find(&self, serials: &HashSet<Vec<u8>>) -> HashMap<Vec<u8>, Status> {
        let mut found: HashMap<Vec<u8>, Status> = HashMap::new();
        self.for_each(|serial, at, reason| {
            if serials.contains(serial) {
                let status = found.entry(serial.to_vec()).or_insert(Status::Good);
                if status.gives_way() {
                    *status = Status::Revoked { at, reason };
                }
            }
        });
        found
    }

    /// Each entry: serial number (minimal content octets), date, reason.
    pub fn for_each(&self, mut f: impl FnMut(&[u8], Micros, Reason)) {
        let mut entries = Cursor::new(self.part(&self.entries));
        // They were read once already: an error cannot come, and would end the walk.
        while let Ok(e) = entry(&mut entries) {
            f(e.serial, e.at, e.reason);
        }
    }

    fn part(&self, range: &Range<usize>) -> &[u8] {
        self.der.get(range.clone()).unwrap_or_default()
    }
}

impl fmt::Debug for CertificateList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "CertificateList({}, {} entries)",
            crate::name::to_text(self.issuer_der()).unwrap_or_default(),
            self.count
        )
    }
}

/// Where slices of one buffer lie in it: the list owns its bytes and keeps places, not copies.
struct Places {
    start: usize,
}

impl Places {
    fn of(buffer: &[u8]) -> Self {
        Self {
            start: buffer.as_ptr().addr(),
        }
    }

    fn of_slice(&self, part: &[u8]) -> Range<usize> {
        if part.is_empty() {
            return 0..0;
        }
        let from = part.as_ptr().addr().saturating_sub(self.start);
        from..from.saturating_add(part.len())
    }
}

struct Entry<'a> {
    serial: &'a [u8],
    at: Micros,
    reason: Reason,
    extended: bool,
}

/// The next entry (RFC 5280 §5.1.2.6, §5.3).
fn entry<'a>(entries: &mut Cursor<'a>) -> Result<Entry<'a>, CrlError> {
    let mut e = entries.enter(SEQUENCE, "revokedCertificates")?;
    let serial = e.integer("userCertificate")?;
    // As for a certificate's own (§4.1.2.2): 20 octets, and a sign octet.
    if serial.len() > 21 {
        return Err(Asn1Error::new("userCertificate", Problem::TooLarge).into());
    }
    let at = time::read_time(&e.any("revocationDate")?, "revocationDate")?;
    let extensions = e.optional(SEQUENCE, "crlEntryExtensions")?;
    e.finish("revokedCertificates")?;
    let mut reason = Reason::Unspecified;
    if let Some(list) = extensions {
        each_extension(list.value, |id, critical, value| {
            match id {
                oid::CRL_REASON => reason = reason_code(value)?,
                // A certificate of another CA stands here: the list is indirect.
                oid::CERTIFICATE_ISSUER => return Err(CrlError::Indirect),
                oid::INVALIDITY_DATE => {}
                other if critical => {
                    return Err(CrlError::UnknownCriticalEntryExtension(other));
                }
                _ => {}
            }
            Ok(())
        })?;
    }
    Ok(Entry {
        serial,
        at,
        reason,
        extended: extensions.is_some(),
    })
}

/// `CRLReason ::= ENUMERATED`.
fn reason_code(value: &[u8]) -> Result<Reason, CrlError> {
    const ENUMERATED: u8 = 0x0a;
    const F: &str = "reasonCode";
    match Cursor::single(value, ENUMERATED, F)?.value {
        [8] => Err(CrlError::Removal),
        [code] => Reason::ALL
            .into_iter()
            .find(|r| r.code() == *code)
            .ok_or_else(|| Asn1Error::new(F, Problem::Value).into()),
        _ => Err(Asn1Error::new(F, Problem::Value).into()),
    }
}

/// The list's own extensions that we act upon.
#[derive(Default)]
struct Known {
    number: Option<Vec<u8>>,
    authority_key_id: Option<Vec<u8>>,
    scope: Option<check::IssuingDistributionPoint>,
}

impl Known {
    fn read(&mut self, list: &[u8]) -> Result<(), CrlError> {
        each_extension(list, |id, critical, value| {
            match id {
                oid::CRL_NUMBER => {
                    let mut c = Cursor::new(value);
                    let n = c.integer("cRLNumber")?;
                    c.finish("cRLNumber")?;
                    // RFC 5280 §5.2.3: not negative, at most 20 octets.
                    if n.len() > 21 || n.first().is_none_or(|b| b & 0x80 != 0) {
                        return Err(Asn1Error::new("cRLNumber", Problem::Value).into());
                    }
                    self.number = Some(crate::asn1::strip_zeros(n).to_vec());
                }
                oid::AUTHORITY_KEY_ID => self.authority_key_id = key_identifier(value)?,
                oid::ISSUING_DISTRIBUTION_POINT => {
                    self.scope = Some(check::IssuingDistributionPoint::read(value)?);
                }
                // RFC 5280 §5.2.4: critical always; said by name rather than as an unknown one.
                oid::DELTA_CRL_INDICATOR => return Err(CrlError::Delta),
                other if critical => return Err(CrlError::UnknownCriticalExtension(other)),
                _ => {}
            }
            Ok(())
        })
    }
}

/// The key identifier of an `AuthorityKeyIdentifier` (RFC 5280 §4.2.1.1).
fn key_identifier(value: &[u8]) -> Result<Option<Vec<u8>>, CrlError> {
    const F: &str = "authorityKeyIdentifier";
    let mut c = Cursor::new(Cursor::single(value, SEQUENCE, F)?.value);
    let id: Option<Tlv<'_>> = c.optional(context_primitive(0), F)?;
    // authorityCertIssuer and authorityCertSerialNumber: whatever they are, they are well formed.
    c.elements(2, F)?;
    Ok(id.map(|t| t.value.to_vec()))
}

/// Walks through `Extensions`; each type once.
fn each_extension(
    list: &[u8],
    mut f: impl FnMut(ObjectIdentifier, bool, &[u8]) -> Result<(), CrlError>,
) -> Result<(), CrlError> {
    const F: &str = "extensions";
    let mut c = Cursor::new(list);
    let mut seen: Vec<ObjectIdentifier> = Vec::new();
    if c.is_empty() {
        return Err(Asn1Error::new(F, Problem::Value).into());
    }
    while !c.is_empty() {
        let mut e = c.enter(SEQUENCE, F)?;
        let id = e.oid("extnID")?;
        let critical = match e.peek() {
            Some(BOOLEAN) => e.boolean("critical")?,
            _ => false,
        };
        let value = e.expect(OCTET_STRING, "extnValue")?.value;
        e.finish(F)?;
        if seen.contains(&id) {
            return Err(CrlError::DuplicateExtension(id));
        }
        if seen.len() >= MAX_EXTENSIONS {
            return Err(Asn1Error::new(F, Problem::TooLarge).into());
        }
        seen.push(id);
        f(id, critical, value)?;
    }
    Ok(())
}

/// A serial number's content octets without redundant sign octets.
fn minimal(mut serial: &[u8]) -> &[u8] {
    while let [0, rest @ ..] = serial
        && rest.first().is_some_and(|b| b & 0x80 == 0)
    {
        serial = rest;
    }
    serial
}

#[cfg(test)]
mod tests;
