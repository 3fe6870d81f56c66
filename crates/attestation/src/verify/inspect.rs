//! What evidence says, without judging it.

use super::csr::Csr;
use super::parts::{Content, File, Pool};
use crate::key::PublicKey;
use serde::Serialize;

/// What was found in the inputs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Inspection {
    /// Every part, in the order it was met.
    pub parts: Vec<Said>,
    /// What formats recognise, and what it says.
    pub evidence: Vec<Said>,
    /// What could not be read.
    pub problems: Vec<String>,
}

/// One thing and what it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Said {
    /// Which input, and which part of it.
    pub name: String,
    /// What it is.
    pub what: String,
    /// Names and values.
    pub says: Vec<(String, String)>,
}

/// Reads what evidence says. Nothing is verified.
#[must_use]
pub fn inspect(files: &[File<'_>]) -> Inspection {
    let pool = Pool::of(files);
    let parts = pool.parts().map(|(id, part)| Said {
        name: pool.name(id).to_owned(),
        what: part.what(),
        says: match &part.content {
            Content::Certificate(c) => of_certificate(c),
            Content::Csr(c) => of_request(c),
            Content::PublicKey(k) => of_key(k),
            _ => Vec::new(),
        },
    });
    let parts = parts.collect();
    let mut evidence = Vec::new();
    for format in crate::vendor::all() {
        for found in format.claim(&pool) {
            evidence.push(Said {
                name: found
                    .parts
                    .iter()
                    .map(|id| pool.name(*id))
                    .collect::<Vec<_>>()
                    .join(", "),
                what: format.title().to_owned(),
                says: format.says(&found, &pool),
            });
        }
    }
    Inspection {
        parts,
        evidence,
        problems: pool.problems().to_vec(),
    }
}

fn of_key(key: &PublicKey) -> Vec<(String, String)> {
    vec![
        ("key".to_owned(), key.kind()),
        ("SPKI SHA-256".to_owned(), hex::encode(key.spki_sha256())),
    ]
}

fn of_request(csr: &Csr) -> Vec<(String, String)> {
    let mut out = vec![("subject".to_owned(), csr.subject().to_string())];
    out.extend(of_key(csr.key()));
    out.extend(csr.attributes().iter().map(|(kind, values)| {
        let bytes: usize = values.iter().map(Vec::len).sum();
        let many = values.len();
        (
            format!("attribute {kind}"),
            format!("{many} value(s), {bytes} bytes"),
        )
    }));
    out
}

fn of_certificate(c: &crate::certificate::Certificate) -> Vec<(String, String)> {
    let mut out: Vec<(String, String)> = [
        ("version", c.version().to_string()),
        ("serial number", hex::encode(c.serial())),
        ("issuer", c.issuer().to_string()),
        ("subject", c.subject().to_string()),
        ("valid from", c.not_before().to_string()),
        ("valid to", c.not_after().to_string()),
        ("key", c.key().map_or_else(|e| e.to_string(), |k| k.kind())),
        (
            "SPKI SHA-256",
            c.key()
                .map_or_else(|e| e.to_string(), |k| hex::encode(k.spki_sha256())),
        ),
        (
            "signed with",
            c.algorithm().map_or_else(|e| e.to_string(), |a| a.name()),
        ),
    ]
    .into_iter()
    .map(|(n, v)| (n.to_owned(), v))
    .collect();
    out.extend(c.extensions().iter().map(|e| {
        let critical = if e.critical { ", critical" } else { "" };
        let value = hex::encode(e.value.get(..96).unwrap_or(&e.value));
        let more = if e.value.len() > 96 { "…" } else { "" };
        (
            format!("extension {}{critical}", e.oid),
            format!("{value}{more}"),
        )
    }));
    out
}
