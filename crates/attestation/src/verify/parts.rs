//! What was handed in, unpacked: a pool of parts, each of which remembers its file.
//!
//! Formats recognise evidence by what parts are, never by file names or order. Unpacking is
//! bounded: in depth, in number, in bytes. The same bytes given twice are one part.

use super::armour;
use super::csr::Csr;
use super::{cbor, unpack};
use crate::certificate::Certificate;
use crate::key::PublicKey;
use crate::oid::Oid;

/// Longest input file.
pub const MAX_FILE: usize = 1024 * 1024;
/// Most input files.
pub const MAX_FILES: usize = 64;
/// Most bytes that unpacking may make of everything given.
pub const MAX_UNPACKED: usize = 8 * 1024 * 1024;
/// Most parts.
pub const MAX_PARTS: usize = 512;
/// Deepest nesting of wrappers.
pub const MAX_DEPTH: usize = 8;

/// A file handed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct File<'a> {
    /// Its name, for reports.
    pub name: &'a str,
    /// Its bytes.
    pub bytes: &'a [u8],
}

/// Names a part of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartId(usize);

/// What a part is.
#[derive(Debug, Clone)]
pub enum Content {
    /// An X.509 certificate.
    Certificate(Box<Certificate>),
    /// A PKCS#7 `SignedData`; its certificates are parts of their own.
    SignedData,
    /// A certificate request; what its attributes carry are parts of their own.
    Csr(Box<Csr>),
    /// A public key.
    PublicKey(Box<PublicKey>),
    /// An attestation bundle; its statements and certificates are parts of their own.
    Bundle,
    /// One statement of an attestation bundle: the DER element that its type defines.
    Statement {
        /// Its type.
        kind: Oid,
        /// A text of earlier drafts.
        hint: Option<String>,
    },
    /// Another DER element.
    Der,
    /// JSON.
    Json(Box<serde_json::Value>),
    /// Text that starts with `<`.
    Xml,
    /// CBOR: an array, a map or a tagged value.
    Cbor,
    /// A wrapper (gzip, base64) whose content is a part of its own.
    Wrapper(&'static str),
    /// Other text.
    Text,
    /// Other bytes.
    Binary,
}

/// A part.
#[derive(Debug, Clone)]
pub struct Part {
    /// What it is.
    pub content: Content,
    /// Its bytes, exactly: without armour and compression.
    pub bytes: Vec<u8>,
    /// The PEM label it stood under, if it did.
    pub label: Option<String>,
    origins: Vec<Origin>,
}

/// Where a part came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) file: usize,
    pub(super) path: String,
    pub(super) parent: Option<PartId>,
}

impl Part {
    /// What it is, in words.
    #[must_use]
    pub fn what(&self) -> String {
        let size = self.bytes.len();
        match &self.content {
            Content::Certificate(c) => format!("certificate of \"{}\"", c.subject()),
            Content::SignedData => "PKCS#7 SignedData".to_owned(),
            Content::Csr(c) => format!("certificate request for \"{}\"", c.subject()),
            Content::PublicKey(k) => format!("public key, {}", k.kind()),
            Content::Bundle => "attestation bundle".to_owned(),
            Content::Statement { kind, .. } => format!("attestation statement of type {kind}"),
            Content::Der => format!("DER, {size} bytes"),
            Content::Json(_) => "JSON".to_owned(),
            Content::Xml => "XML".to_owned(),
            Content::Cbor => "CBOR".to_owned(),
            Content::Wrapper(kind) => (*kind).to_owned(),
            Content::Text => format!("text, {size} bytes"),
            Content::Binary => format!("{size} bytes"),
        }
    }

    /// The certificate, if it is one.
    #[must_use]
    pub fn certificate(&self) -> Option<&Certificate> {
        match &self.content {
            Content::Certificate(c) => Some(c),
            _ => None,
        }
    }

    /// Its bytes, if they are a DER element that is nothing more common: evidence in a vendor's or
    /// a standard's own ASN.1, alone or as a bundle's statement.
    #[must_use]
    pub fn der(&self) -> Option<&[u8]> {
        match &self.content {
            Content::Der | Content::Statement { .. } => Some(&self.bytes),
            _ => None,
        }
    }

    /// The value, if it is JSON.
    #[must_use]
    pub fn json(&self) -> Option<&serde_json::Value> {
        match &self.content {
            Content::Json(v) => Some(v),
            _ => None,
        }
    }

    /// The value, if it is CBOR.
    #[must_use]
    pub fn cbor(&self) -> Option<cbor::Value<'_>> {
        match &self.content {
            Content::Cbor => cbor::parse(&self.bytes),
            _ => None,
        }
    }

    /// Its bytes, if they have no structure of their own: a vendor's blob, a bare signature.
    #[must_use]
    pub fn binary(&self) -> Option<&[u8]> {
        match &self.content {
            Content::Binary => Some(&self.bytes),
            _ => None,
        }
    }
}

/// Everything handed in, unpacked.
#[derive(Debug, Clone, Default)]
pub struct Pool {
    parts: Vec<Part>,
    files: Vec<String>,
    problems: Vec<String>,
    unpacked: usize,
}

impl Pool {
    /// Unpacks files. What cannot be read is noted, and stays in the pool as bytes.
    #[must_use]
    pub fn of(files: &[File<'_>]) -> Self {
        let mut pool = Self::default();
        pool.add(files);
        pool
    }

    /// Unpacks more files.
    pub fn add(&mut self, files: &[File<'_>]) {
        for file in files {
            let index = self.files.len();
            if index >= MAX_FILES {
                self.problem(file.name, "more than 64 files are not read");
                return;
            }
            self.files.push(file.name.to_owned());
            if file.bytes.len() > MAX_FILE {
                self.problem(file.name, "is longer than 1 MiB, which is not read");
                continue;
            }
            let origin = Origin {
                file: index,
                path: file.name.to_owned(),
                parent: None,
            };
            unpack::open(self, file.bytes, &origin, None, 0);
        }
    }

    /// All parts.
    pub fn parts(&self) -> impl Iterator<Item = (PartId, &Part)> {
        self.parts.iter().enumerate().map(|(i, p)| (PartId(i), p))
    }

    /// All certificates.
    pub fn certificates(&self) -> impl Iterator<Item = (PartId, &Certificate)> {
        self.parts()
            .filter_map(|(id, p)| p.certificate().map(|c| (id, c)))
    }

    /// All certificates, as [`crate::chain::walk`] takes them.
    #[must_use]
    pub fn candidates(&self) -> Vec<crate::chain::Candidate<'_>> {
        self.certificates()
            .map(|(id, certificate)| crate::chain::Candidate {
                part: Some(id),
                certificate,
            })
            .collect()
    }

    /// A part.
    #[must_use]
    pub fn get(&self, id: PartId) -> Option<&Part> {
        self.parts.get(id.0)
    }

    /// Where a part came from, for reports.
    #[must_use]
    pub fn name(&self, id: PartId) -> &str {
        let origin = self.get(id).and_then(|p| p.origins.first());
        origin.map_or("(unknown part)", |o| o.path.as_str())
    }

    /// What could not be read, in words that name the file.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// Whether `id` is `ancestor` or came out of it.
    #[must_use]
    pub fn is_within(&self, id: PartId, ancestor: PartId) -> bool {
        self.lineage(id).contains(&ancestor)
    }

    /// A part and everything it came out of.
    pub(super) fn lineage(&self, id: PartId) -> Vec<PartId> {
        let mut out = vec![id];
        let mut next = 0;
        while let Some(this) = out.get(next).copied() {
            next += 1;
            let origins = self.get(this).map(|p| p.origins.as_slice());
            for parent in origins.unwrap_or_default().iter().filter_map(|o| o.parent) {
                if !out.contains(&parent) {
                    out.push(parent);
                }
            }
        }
        out
    }

    /// What was not used: whole files by their name, else single parts. Wrappers, and what is in
    /// `own` (the request itself), are not listed.
    pub(super) fn unused(&self, used: &[PartId], own: &[usize]) -> Vec<crate::result::Unused> {
        let mut touched: Vec<PartId> = used.iter().flat_map(|id| self.lineage(*id)).collect();
        touched.sort_unstable();
        touched.dedup();
        let mut out = Vec::new();
        for (file, name) in self.files.iter().enumerate() {
            let here: Vec<(PartId, &Part)> = self
                .parts()
                .filter(|(_, p)| p.origins.iter().any(|o| o.file == file))
                .collect();
            let is_used = here.iter().any(|(id, _)| touched.contains(id));
            let leaf = |id: PartId| {
                !here
                    .iter()
                    .any(|(_, p)| p.origins.iter().any(|o| o.parent == Some(id)))
            };
            let left: Vec<_> = here
                .iter()
                .filter(|(id, _)| leaf(*id) && !touched.contains(id))
                .collect();
            let list_whole = !is_used && !own.contains(&file);
            if list_whole {
                let what: Vec<_> = left.iter().map(|(_, p)| p.what()).collect();
                out.push(crate::result::Unused {
                    name: name.clone(),
                    what: if what.is_empty() {
                        "could not be read".to_owned()
                    } else {
                        what.join("; ")
                    },
                });
                continue;
            }
            for (_, part) in left {
                if own.contains(&file)
                    && matches!(part.content, Content::Csr(_) | Content::PublicKey(_))
                {
                    continue;
                }
                let origin = part.origins.iter().find(|o| o.file == file);
                out.push(crate::result::Unused {
                    name: origin.map_or_else(|| name.clone(), |o| o.path.clone()),
                    what: part.what(),
                });
            }
        }
        out
    }

    pub(super) fn problem(&mut self, path: &str, what: &str) {
        if self.problems.len() < 64 {
            self.problems.push(format!("{path} {what}"));
        }
    }

    /// Takes `n` bytes of what unpacking may make.
    pub(super) fn spend(&mut self, n: usize, path: &str) -> bool {
        let total = self.unpacked.saturating_add(n);
        if total > MAX_UNPACKED {
            self.problem(path, "unpacks to more than is read");
            return false;
        }
        self.unpacked = total;
        true
    }

    pub(super) fn push(
        &mut self,
        content: Content,
        bytes: &[u8],
        label: Option<&str>,
        origin: &Origin,
    ) -> Option<PartId> {
        let same = |p: &Part| {
            std::mem::discriminant(&p.content) == std::mem::discriminant(&content)
                && p.bytes == bytes
        };
        if let Some(i) = self.parts.iter().position(same) {
            let id = PartId(i);
            let looped = origin.parent.is_some_and(|p| self.lineage(p).contains(&id));
            if let Some(part) = self.parts.get_mut(i)
                && !looped
            {
                part.origins.push(origin.clone());
            }
            return Some(id);
        }
        if self.parts.len() >= MAX_PARTS {
            self.problem(&origin.path, "holds more parts than are read");
            return None;
        }
        if !self.spend(bytes.len(), &origin.path) {
            return None;
        }
        self.parts.push(Part {
            content,
            bytes: bytes.to_vec(),
            label: label.map(str::to_owned),
            origins: vec![origin.clone()],
        });
        Some(PartId(self.parts.len() - 1))
    }
}

/// Base64 or base64url in a JSON text, as vendors write it: PEM armour is taken off as well.
#[must_use]
pub fn bytes_of_text(text: &str) -> Option<Vec<u8>> {
    match armour::blocks(text.as_bytes()) {
        Some(blocks) => match <[_; 1]>::try_from(blocks) {
            Ok([Ok(block)]) => Some(block.bytes),
            _ => None,
        },
        None => armour::base64(text.as_bytes()),
    }
}
