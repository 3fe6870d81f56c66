//! What the claims say, by the draft's registry, given the arc it stands under.
//!
//! The draft has no assigned arc yet; its samples use one for examples. So the arc is a value.

use super::wire::{Evidence, ReportedClaim, ReportedElement};
use crate::der::{DerError, Element, tag};
use crate::oid::Oid;
use crate::time::UnixSeconds;

/// The arc that the draft's samples use, 1.3.6.1.5.5.999, as content octets.
pub const DRAFT_ARC: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x87, 0x67];

/// The claims of one evidence.
#[derive(Debug, Clone, Default)]
pub struct Claims<'a> {
    /// What is said of the transaction.
    pub transaction: Transaction<'a>,
    /// What is said of the module: a name and a text for each claim. Vendor's word.
    pub platform: Vec<(&'static str, String)>,
    /// The keys.
    pub keys: Vec<Key<'a>>,
    /// Elements and claims outside the key elements that the draft does not name.
    pub unknown: Vec<String>,
}

/// The transaction element.
#[derive(Debug, Clone, Default)]
pub struct Transaction<'a> {
    /// The challenge.
    pub nonce: Option<&'a [u8]>,
    /// When the evidence was made.
    pub timestamp: Option<UnixSeconds>,
    /// The attestation key that signs.
    pub ak_spki: Option<&'a [u8]>,
}

/// One key element. What is not claimed is `None`: unknown, not false.
#[derive(Debug, Clone, Default)]
pub struct Key<'a> {
    /// The module's name for it.
    pub identifier: Option<String>,
    /// Its SubjectPublicKeyInfo.
    pub spki: Option<&'a [u8]>,
    /// Can be exported.
    pub extractable: Option<bool>,
    /// Shown outside in encrypted form only.
    pub sensitive: Option<bool>,
    /// Was never extractable.
    pub never_extractable: Option<bool>,
    /// Made in the module.
    pub local: Option<bool>,
    /// Until when it may be used.
    pub expiry: Option<UnixSeconds>,
    /// What it may do.
    pub purposes: Option<Vec<Purpose>>,
    /// Claims that the draft does not name: they could widen use.
    pub unknown: Vec<String>,
}

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// One of the draft's, by its number.
    Known(&'static str),
    /// Another.
    Unknown,
}

impl Purpose {
    /// Its name in the draft.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Known(name) => name,
            Self::Unknown => "(unknown)",
        }
    }
}

/// The draft's purposes, by number under `arc.2`.
const PURPOSES: [&str; 9] = [
    "encrypt",
    "decrypt",
    "wrap",
    "unwrap",
    "sign",
    "sign-recover",
    "verify",
    "verify-recover",
    "derive",
];

/// The draft's platform claims, by number under `arc.1.1`.
const PLATFORM: [&str; 14] = [
    "vendor",
    "oemid",
    "hwmodel",
    "hwversion",
    "hwserial",
    "swname",
    "swversion",
    "debugstat",
    "uptime",
    "bootcount",
    "fipsboot",
    "fipsver",
    "fipslevel",
    "fipsmodule",
];

impl<'a> Claims<'a> {
    /// Reads the claims that stand under `arc`.
    ///
    /// # Errors
    /// [`DerError`] for a claim twice, or a value of another type than the claim has.
    pub fn of(evidence: &Evidence<'a>, arc: &[u8]) -> Result<Self, DerError> {
        let mut out = Self::default();
        let mut seen = (false, false);
        for element in &evidence.elements {
            distinct(element)?;
            match under(&element.kind, arc) {
                Some([0, 0]) => {
                    once(&mut seen.0, "transaction element")?;
                    out.transaction(element, arc)?;
                }
                Some([0, 1]) => {
                    once(&mut seen.1, "platform element")?;
                    out.platform(element, arc)?;
                }
                Some([0, 2]) => out.keys.push(key(element, arc)?),
                _ => out.unknown.push(element.kind.to_string()),
            }
        }
        Ok(out)
    }

    fn transaction(&mut self, element: &ReportedElement<'a>, arc: &[u8]) -> Result<(), DerError> {
        for claim in &element.claims {
            match under(&claim.kind, arc) {
                Some([1, 0, 0]) => self.transaction.nonce = Some(octets(claim, "nonce")?),
                Some([1, 0, 1]) => {
                    self.transaction.timestamp =
                        Some(value(claim, "timestamp")?.time("timestamp")?);
                }
                Some([1, 0, 2]) => self.transaction.ak_spki = Some(octets(claim, "ak-spki")?),
                _ => self.unknown.push(claim.kind.to_string()),
            }
        }
        Ok(())
    }

    fn platform(&mut self, element: &ReportedElement<'a>, arc: &[u8]) -> Result<(), DerError> {
        for claim in &element.claims {
            let name = match under(&claim.kind, arc) {
                Some([1, 1, n]) => PLATFORM.get(usize::from(*n)),
                _ => None,
            };
            match name {
                Some(name) => self
                    .platform
                    .push((*name, shown(claim.value.as_ref(), name))),
                None => self.unknown.push(claim.kind.to_string()),
            }
        }
        Ok(())
    }
}

fn key<'a>(element: &ReportedElement<'a>, arc: &[u8]) -> Result<Key<'a>, DerError> {
    let mut out = Key::default();
    for claim in &element.claims {
        let truth = |field| value(claim, field)?.boolean(field).map(Some);
        match under(&claim.kind, arc) {
            Some([1, 2, 0]) => out.identifier = Some(shown(claim.value.as_ref(), "identifier")),
            Some([1, 2, 1]) => out.spki = Some(octets(claim, "key spki")?),
            Some([1, 2, 2]) => out.extractable = truth("key extractable")?,
            Some([1, 2, 3]) => out.sensitive = truth("key sensitive")?,
            Some([1, 2, 4]) => out.never_extractable = truth("key never-extractable")?,
            Some([1, 2, 5]) => out.local = truth("key local")?,
            Some([1, 2, 6]) => out.expiry = Some(value(claim, "key expiry")?.time("key expiry")?),
            Some([1, 2, 7]) => out.purposes = Some(purposes(claim, arc)?),
            _ => out.unknown.push(claim.kind.to_string()),
        }
    }
    Ok(out)
}

fn purposes(claim: &ReportedClaim<'_>, arc: &[u8]) -> Result<Vec<Purpose>, DerError> {
    const F: &str = "key purpose";
    let list = value(claim, F)?
        .tagged(tag::SEQUENCE, F)?
        .walk()
        .all(32, F)?;
    list.iter()
        .map(|e| {
            let oid = e.oid(F)?;
            let named = match under(&oid, arc) {
                Some([2, n]) => PURPOSES.get(usize::from(*n)),
                _ => None,
            };
            Ok(named.map_or(Purpose::Unknown, |p| Purpose::Known(p)))
        })
        .collect()
}

/// The last arcs, where the identifier stands under `arc` and they are below 128.
fn under<'o>(oid: &'o Oid, arc: &[u8]) -> Option<&'o [u8]> {
    let rest = oid.content().strip_prefix(arc)?;
    rest.iter().all(|b| *b < 0x80).then_some(rest)
}

/// A claim twice would leave open which one counts.
fn distinct(element: &ReportedElement<'_>) -> Result<(), DerError> {
    for (i, claim) in element.claims.iter().enumerate() {
        if element
            .claims
            .iter()
            .skip(i + 1)
            .any(|c| c.kind == claim.kind)
        {
            return Err(DerError::value("claims", "hold the same claim twice"));
        }
    }
    Ok(())
}

fn once(seen: &mut bool, field: &'static str) -> Result<(), DerError> {
    if std::mem::replace(seen, true) {
        return Err(DerError::value(field, "stands there twice"));
    }
    Ok(())
}

fn value<'a>(claim: &ReportedClaim<'a>, field: &'static str) -> Result<Element<'a>, DerError> {
    claim.value.ok_or(DerError::value(field, "has no value"))
}

fn octets<'a>(claim: &ReportedClaim<'a>, field: &'static str) -> Result<&'a [u8], DerError> {
    value(claim, field)?.octets(field)
}

/// A claim's value in words, for reports.
fn shown(value: Option<&Element<'_>>, field: &'static str) -> String {
    let Some(e) = value else {
        return "present".to_owned();
    };
    if let Ok(text) = e.text(field) {
        return text.chars().filter(|c| !c.is_control()).collect();
    }
    if let Ok(b) = e.boolean(field) {
        return b.to_string();
    }
    if let Ok(n) = e.small(field) {
        return n.to_string();
    }
    if let Ok(t) = e.time(field) {
        return t.to_string();
    }
    match e.octets(field) {
        // The sample gives text as octets.
        Ok(o) if o.iter().all(|b| (0x20..0x7f).contains(b)) => {
            String::from_utf8_lossy(o).into_owned()
        }
        Ok(o) => hex::encode(o),
        Err(_) => hex::encode(e.raw()),
    }
}
