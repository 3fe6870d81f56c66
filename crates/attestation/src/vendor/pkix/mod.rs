//! IETF PKIX key-attestation evidence (draft-ietf-rats-pkix-key-attestation).
//!
//! A vendor-neutral form: the module lists what it says of the transaction, of itself and of its
//! keys, and an attestation key signs the list. No vendor's root is published for it, so the only
//! anchors are those the caller gives.

mod appraise;
pub mod claims;
pub mod wire;

use crate::verify::{Context, Evidence, Findings, Format, Pool};
use claims::{Claims, DRAFT_ARC, Purpose};

/// The format.
#[derive(Debug, Clone, Copy)]
pub struct Pkix;

impl Format for Pkix {
    fn id(&self) -> &'static str {
        "pkix-evidence"
    }

    fn title(&self) -> &'static str {
        "PKIX key-attestation evidence"
    }

    fn claim(&self, pool: &Pool) -> Vec<Evidence> {
        pool.parts()
            .filter(|(_, p)| {
                // What is labelled as evidence and cannot be read must not pass for nothing.
                let labelled = p.label.as_deref() == Some("EVIDENCE");
                let der = p.der().is_some_and(wire::looks_like);
                der || (labelled && (p.der().is_some() || p.binary().is_some()))
            })
            .map(|(id, _)| Evidence { parts: vec![id] })
            .collect()
    }

    fn appraise(&self, evidence: &Evidence, cx: &Context<'_>) -> Findings {
        match evidence.parts.first() {
            Some(id) => appraise::appraise(*id, cx),
            None => Findings::default(),
        }
    }

    fn says(&self, evidence: &Evidence, pool: &Pool) -> Vec<(String, String)> {
        let part = evidence.parts.first().and_then(|id| pool.get(*id));
        part.map_or_else(Vec::new, |p| says(&p.bytes))
    }
}

fn says(bytes: &[u8]) -> Vec<(String, String)> {
    let malformed = |e: crate::der::DerError| vec![("malformed".to_owned(), e.to_string())];
    let evidence = match wire::Evidence::parse(bytes) {
        Ok(e) => e,
        Err(e) => return malformed(e),
    };
    let claims = match Claims::of(&evidence, DRAFT_ARC) {
        Ok(c) => c,
        Err(e) => return malformed(e),
    };
    let mut out = vec![
        ("version".to_owned(), evidence.version.to_string()),
        (
            "signatures".to_owned(),
            evidence.signatures.len().to_string(),
        ),
    ];
    let mut say = |name: String, value: String| out.push((name, value));
    if let Some(nonce) = claims.transaction.nonce {
        say("transaction.nonce".into(), hex::encode(nonce));
    }
    if let Some(t) = claims.transaction.timestamp {
        say("transaction.timestamp".into(), t.to_string());
    }
    for (name, value) in claims.platform {
        say(format!("platform.{name}"), value);
    }
    for (i, key) in claims.keys.iter().enumerate() {
        let n = i + 1;
        let truth = [
            ("extractable", key.extractable),
            ("sensitive", key.sensitive),
            ("never-extractable", key.never_extractable),
            ("local", key.local),
        ];
        if let Some(id) = &key.identifier {
            say(format!("key {n}.identifier"), id.clone());
        }
        if let Some(spki) = key.spki {
            let hash = hex::encode(crate::signature::Hash::Sha256.of(spki));
            say(format!("key {n}.spki-sha256"), hash);
        }
        for (name, value) in truth {
            let value = value.map_or_else(|| "not claimed".to_owned(), |b| b.to_string());
            say(format!("key {n}.{name}"), value);
        }
        if let Some(purposes) = &key.purposes {
            let names: Vec<&str> = purposes.iter().map(Purpose::as_str).collect();
            say(format!("key {n}.purpose"), names.join(", "));
        }
        for unknown in &key.unknown {
            say(format!("key {n}.unknown claim"), unknown.clone());
        }
    }
    for unknown in claims.unknown {
        say("unknown element or claim".into(), unknown);
    }
    out
}

#[cfg(test)]
mod tests;
