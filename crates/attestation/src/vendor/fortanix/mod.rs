//! Fortanix DSM: the JSON that `POST /crypto/v1/keys/key_attestation` returns.
//!
//! The statement is a certificate over the attested key. Its issuer, the attestation authority,
//! is no CA (CA:FALSE) and lives a month: that is by design, and allowed exactly there. So the
//! chain is looked at as of the moment the statement was made.

mod parse;
mod rules;

pub use parse::{Attestation, Claims, FortanixError, MAX_ATTESTATION};

use crate::result::Rule;
use crate::verify::{Context, Evidence, Findings, Format, Pool};

/// The product line of its anchors.
pub(crate) const LINE: &str = "DSM";

const WELL_FORMED: Rule = Rule::confirmed(
    "fortanix-attestation",
    "the attestation is JSON with an authority chain and a statement that is a certificate",
    "Fortanix, Verifying Key Attestation Statements, §3.0",
);

/// The format.
#[derive(Debug, Clone, Copy)]
pub struct Fortanix;

impl Format for Fortanix {
    fn id(&self) -> &'static str {
        "fortanix-dsm"
    }

    fn title(&self) -> &'static str {
        "Fortanix DSM key attestation statement"
    }

    fn claim(&self, pool: &Pool) -> Vec<Evidence> {
        pool.parts()
            .filter(|(_, p)| {
                p.json().is_some_and(|v| {
                    v.get("authority_chain").is_some() && v.get("attestation_statement").is_some()
                })
            })
            .map(|(id, _)| Evidence { parts: vec![id] })
            .collect()
    }

    fn appraise(&self, evidence: &Evidence, cx: &Context<'_>) -> Findings {
        match read(evidence, cx.pool) {
            Ok(attestation) => {
                let mut found = rules::judge(&attestation, cx);
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
        let attestation = match read(evidence, pool) {
            Ok(a) => a,
            Err(e) => return vec![("error".to_owned(), e.to_string())],
        };
        let mut out = Vec::new();
        let mut say = |name: &str, value: String| out.push((name.to_owned(), value));
        let (statement, claims) = (&attestation.statement, &attestation.claims);
        say("statement.issuer", statement.issuer().to_string());
        say("statement.made", statement.not_before().to_string());
        if let Some(id) = &claims.key_id {
            say("key.id", id.clone());
        }
        if let Ok(key) = statement.key() {
            say("key", key.kind());
            say("key.spki-sha256", hex::encode(key.spki_sha256()));
        }
        say(
            "claim.generated-in-dsm",
            claims.generated_in_dsm.to_string(),
        );
        say(
            "claim.never-exportable",
            claims.never_exportable.to_string(),
        );
        if let Some(usage) = claims.key_usage {
            say("key.usage-bits", format!("{usage:#b}"));
        }
        for oid in &claims.unknown {
            say("claim.unknown", oid.clone());
        }
        for certificate in &attestation.chain {
            say(
                "chain",
                format!(
                    "\"{}\" by \"{}\", {} to {}",
                    certificate.subject(),
                    certificate.issuer(),
                    certificate.not_before(),
                    certificate.not_after()
                ),
            );
        }
        out
    }
}

fn read(evidence: &Evidence, pool: &Pool) -> Result<Attestation, FortanixError> {
    let part = evidence.parts.first().and_then(|id| pool.get(*id));
    Attestation::parse(part.map_or(&[], |p| p.bytes.as_slice()))
}
