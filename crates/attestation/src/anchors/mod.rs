//! Trust anchors: facts in a table, and what a CA adds to them.
//!
//! A row is one public key of a maker, for one product line. Keys are pinned, not certificates:
//! several makers re-issued a root with the same key. Nothing in evidence ever becomes an anchor.
//! `second_source` says whether two independent publications gave the same key.

mod crypto4a;
mod entrust;
mod extra;
mod fortanix;
pub(crate) mod marvell;
pub(crate) mod securosys;
pub(crate) mod thales_luna;
pub(crate) mod tpm2;
pub(crate) mod yubihsm2;
pub(crate) mod yubikey_piv;

pub use extra::AnchorError;

use crate::key::PublicKey;
use crate::signature::Hash;
use serde::Serialize;
use std::borrow::Cow;
use std::sync::OnceLock;

/// All rows, vendor by vendor. A new vendor adds its table here.
pub const TABLES: &[&[Row]] = &[
    crypto4a::ROWS,
    entrust::ROWS,
    fortanix::ROWS,
    marvell::ROWS,
    securosys::ROWS,
    thales_luna::ROWS,
    tpm2::ROWS,
    yubihsm2::ROWS,
    yubikey_piv::ROWS,
];

/// What an anchor may sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The top of its hierarchy.
    Root,
    /// Below a root, pinned because devices do not carry it.
    Intermediate,
    /// A bare key without a certificate.
    Key,
}

impl Role {
    /// The stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Intermediate => "intermediate",
            Self::Key => "key",
        }
    }
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The maker.
    pub vendor: &'static str,
    /// The product line it is trusted for, and no other.
    pub line: &'static str,
    /// What it may sign.
    pub role: Role,
    /// The subject's name as this crate prints it ([`crate::name::Name`]); what is signed by the
    /// key must name this issuer. Empty for a bare key.
    pub name: &'static str,
    /// The canonical SubjectPublicKeyInfo, hex.
    pub spki: &'static str,
    /// SHA-256 of the certificates that were published with this key, hex.
    pub certificates: &'static [&'static str],
    /// Its certificate's first moment, as text; empty for a bare key.
    pub not_before: &'static str,
    /// Its certificate's last moment, as text; empty for a bare key.
    pub not_after: &'static str,
    /// Where the maker published it.
    pub published: &'static str,
    /// Whether a second, independent source gave the same key.
    pub second_source: bool,
    /// What else is to be known, for example that it expired.
    pub note: &'static str,
}

impl Row {
    /// SHA-256 of the SubjectPublicKeyInfo, lower-case hex: what is pinned.
    #[must_use]
    pub fn spki_sha256(&self) -> String {
        hex::encode(Hash::Sha256.of(&hex::decode(self.spki).unwrap_or_default()))
    }
}

/// A key somebody trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    key: PublicKey,
    name: Cow<'static, str>,
    scope: Scope,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Scope {
    /// A row of the table.
    Row(&'static Row),
    /// Given by the CA.
    Extra {
        /// The only product line it counts for; `None` for every one.
        line: Option<&'static str>,
        /// The file, or another name for where it came from.
        source: String,
        /// SHA-256 of the certificate, if it came as one.
        certificate: Option<String>,
    },
}

impl Anchor {
    /// The key.
    #[must_use]
    pub const fn key(&self) -> &PublicKey {
        &self.key
    }

    /// The name an issuer must have; empty for a bare key.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it was added by the CA, not pinned in the table.
    #[must_use]
    pub const fn is_extra(&self) -> bool {
        matches!(self.scope, Scope::Extra { .. })
    }

    /// Whether it was added by the CA for whatever it signs: such a key may also be a signer
    /// itself, with no certificate below it.
    #[must_use]
    pub const fn is_for_all(&self) -> bool {
        matches!(self.scope, Scope::Extra { line: None, .. })
    }

    /// The row, if it is pinned.
    #[must_use]
    pub const fn row(&self) -> Option<&'static Row> {
        match self.scope {
            Scope::Row(row) => Some(row),
            Scope::Extra { .. } => None,
        }
    }

    /// Whether it may stand where a `role` of `line` is wanted. What the CA added may stand
    /// anywhere a chain may end, of its line if it was added for one.
    #[must_use]
    pub fn serves(&self, line: &str, role: Role) -> bool {
        match &self.scope {
            Scope::Row(r) => r.line == line && r.role == role,
            Scope::Extra { line: only, .. } => only.is_none_or(|l| l == line),
        }
    }

    /// For results: name, hash of the key, where it is from.
    #[must_use]
    pub fn describe(&self) -> String {
        let name = if self.name.is_empty() {
            "a bare key"
        } else {
            &self.name
        };
        let from = match &self.scope {
            Scope::Row(row) => format!("pinned {} of {}", row.role.as_str(), row.vendor),
            Scope::Extra {
                source, line: None, ..
            } => format!("added by the verifier, from {source}"),
            Scope::Extra {
                source,
                line: Some(line),
                ..
            } => format!("added by the verifier for {line} alone, from {source}"),
        };
        let key = hex::encode(self.key.spki_sha256());
        format!("{name} (SPKI SHA-256 {key}; {from})")
    }
}

/// The anchors of one appraisal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchors {
    all: Vec<Anchor>,
    pinned: bool,
}

impl Anchors {
    /// The table.
    #[must_use]
    pub fn pinned() -> Self {
        static PARSED: OnceLock<Vec<Anchor>> = OnceLock::new();
        let all = PARSED.get_or_init(|| rows().filter_map(parse).collect());
        Self {
            all: all.clone(),
            pinned: true,
        }
    }

    /// Nothing at all: for a verifier that brings all its own.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            all: Vec::new(),
            pinned: false,
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Anchor> {
        self.all.iter()
    }

    /// Those that may end a chain where a `role` of `line` belongs.
    pub fn serving<'a, 'l>(
        &'a self,
        line: &'l str,
        role: Role,
    ) -> impl Iterator<Item = &'a Anchor> + use<'a, 'l> {
        self.all.iter().filter(move |a| a.serves(line, role))
    }

    /// A name for exactly this set: a hash over every row of the table, and over what was added.
    #[must_use]
    pub fn version(&self) -> String {
        let table = if self.pinned {
            anchor_set_version()
        } else {
            "no pinned anchors".to_owned()
        };
        let mut extra: Vec<String> = self
            .all
            .iter()
            .filter(|a| a.is_extra())
            .map(|a| {
                let line = match &a.scope {
                    Scope::Extra {
                        line: Some(line), ..
                    } => line,
                    _ => "",
                };
                let key = hex::encode(a.key.spki_sha256());
                match line {
                    "" => format!("{}={key}", a.name()),
                    line => format!("{}={key} for {line}", a.name()),
                }
            })
            .collect();
        if extra.is_empty() {
            return table;
        }
        extra.sort();
        extra.dedup();
        let hash = hex::encode(Hash::Sha256.of(extra.join("\n").as_bytes()));
        let short = hash.get(..16).unwrap_or_default();
        format!("{table} + {} added, {short}", extra.len())
    }
}

/// Every row.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    TABLES.iter().flat_map(|t| t.iter())
}

/// A hash over every row, with all that a row says: two builds with the same version pin the same.
#[must_use]
pub fn anchor_set_version() -> String {
    static VERSION: OnceLock<String> = OnceLock::new();
    let version = VERSION.get_or_init(|| {
        // Debug output of a struct of strings quotes each, so no two tables print alike.
        let all: Vec<String> = rows().map(|r| format!("{r:?}")).collect();
        let hash = hex::encode(Hash::Sha256.of(all.join("\n").as_bytes()));
        format!("anchors-{}", hash.get(..16).unwrap_or_default())
    });
    version.clone()
}

/// A row's key. A test reads every row, so none is lost here.
fn parse(row: &'static Row) -> Option<Anchor> {
    let der = hex::decode(row.spki).ok()?;
    Some(Anchor {
        key: PublicKey::from_spki(&der).ok()?,
        name: Cow::Borrowed(row.name),
        scope: Scope::Row(row),
    })
}

#[cfg(test)]
mod tests;
