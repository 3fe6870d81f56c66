//! Crypto4A QxHSM and QASM: the attestation message that `skm attest claim` writes.
//!
//! A module signs a list of claims with its attestation keys, one ECDSA and one hash-based
//! (HSS/LMS). Each claim is about the module or about an object of the module, named by its UUID.
//! A claim that the operator did not ask for is missing, which is not the same as false; but what
//! acceptance rests on must be there.

mod parse;
mod rules;

pub use parse::{Claim, Id, MAX_MESSAGE, Message, SignatureBlock, Value};

use crate::der::DerError;
use crate::result::Rule;
use crate::verify::{Context, Evidence, Findings, Format, Pool};

/// The product line of its anchors.
pub(crate) const LINE: &str = "QASM";
/// The label of the message in PEM.
const LABEL: &str = "ATTESTATION MESSAGE";

const WELL_FORMED: Rule = Rule::confirmed(
    "crypto4a-message",
    "the message is the DER of claims, signatures and certificates, version 1",
    "Crypto4A, Attestation using the QASM (C4A-302-0043)",
);

/// The format.
#[derive(Debug, Clone, Copy)]
pub struct Crypto4A;

impl Format for Crypto4A {
    fn id(&self) -> &'static str {
        "crypto4a"
    }

    fn title(&self) -> &'static str {
        "Crypto4A attestation message"
    }

    fn claim(&self, pool: &Pool) -> Vec<Evidence> {
        pool.parts()
            .filter(|(_, p)| {
                p.label.as_deref() == Some(LABEL) || p.der().is_some_and(Message::recognises)
            })
            .map(|(id, _)| Evidence { parts: vec![id] })
            .collect()
    }

    fn appraise(&self, evidence: &Evidence, cx: &Context<'_>) -> Findings {
        match read(evidence, cx.pool) {
            Ok(message) => {
                let mut found = rules::judge(&message, cx);
                found.checks.insert(0, WELL_FORMED.check(true, "it is"));
                found
            }
            Err(e) => Findings {
                checks: vec![WELL_FORMED.check(false, e.to_string())],
                ..Findings::default()
            },
        }
    }

    fn says(&self, evidence: &Evidence, pool: &Pool) -> Vec<(String, String)> {
        let message = match read(evidence, pool) {
            Ok(m) => m,
            Err(e) => return vec![("error".to_owned(), e.to_string())],
        };
        let mut out = Vec::new();
        for claim in &message.claims {
            let name = rules::name(&claim.predicate)
                .map_or_else(|| claim.predicate.to_string(), str::to_owned);
            let of = claim
                .subject
                .map_or(String::new(), |id| format!(" of {}", uuid(&id)));
            let value = claim
                .value
                .as_ref()
                .map_or("present".to_owned(), ToString::to_string);
            out.push((format!("claim {name}{of}"), value));
        }
        for block in &message.signatures {
            out.push((
                "signed by".to_owned(),
                format!(
                    "\"{}\", issued by \"{}\"",
                    block.signer.subject(),
                    block.signer.issuer()
                ),
            ));
        }
        for certificate in &message.certificates {
            out.push(("certificate".to_owned(), certificate.subject().to_string()));
        }
        out
    }
}

fn read(evidence: &Evidence, pool: &Pool) -> Result<Message, DerError> {
    let part = evidence.parts.first().and_then(|id| pool.get(*id));
    Message::parse(part.map_or(&[], |p| p.bytes.as_slice()))
}

/// A UUID as text.
fn uuid(id: &Id) -> String {
    let hex = hex::encode(id);
    let mut out = String::new();
    for (i, c) in hex.chars().enumerate() {
        if matches!(i, 8 | 12 | 16 | 20) {
            out.push('-');
        }
        out.push(c);
    }
    out
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bytes(b) => f.write_str(&hex::encode(b)),
            Self::Text(t) => f.write_str(t),
            Self::Time(t) => t.fmt(f),
            Self::Number(n) => n.fmt(f),
        }
    }
}
