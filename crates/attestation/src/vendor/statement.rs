//! Our own service statement, recognised beside device evidence.
//!
//! It is the word of a Signing Service, not of a device: it proves no fact here and supports CSBR
//! §6.2.7.4.2 method 7 alone. A CA that works with orders appraises it in full with
//! [`mod@crate::request`]; this format checks what can be checked without an order.

use crate::anchors::Role;
use crate::key::PublicKey;
use crate::result::{Claim, Outcome, Rule};
use crate::signature::Hash;
use crate::statement::{ServiceStatement, StatementKey, service_statement_oid};
use crate::verify::{Binding, Content, Context, Evidence, Findings, Format, Pool};
use countersign_x509::csr::ParsedCsr;
use std::borrow::Cow;

/// The stable name.
pub const ID: &str = "countersign-statement";

const DOC: &str = "docs/service-statement.md, Appraisal";
const SIGNATURE: Rule = Rule::documented(
    "statement-signature",
    "the statement is signed by a statement key this CA pins; there is no default anchor",
    DOC,
);
const REQUEST: Rule = Rule::documented(
    "statement-request",
    "csrInfoHash is the SHA-256 of this request's info without the attestation attribute",
    DOC,
);
const TIME: Rule = Rule::documented(
    "statement-unexpired",
    "the moment of appraisal lies between issuedAt and expiresAt",
    DOC,
);

/// The format.
#[derive(Debug, Clone, Copy)]
pub struct Statement;

impl Format for Statement {
    fn id(&self) -> &'static str {
        ID
    }

    fn title(&self) -> &'static str {
        "Countersign service statement"
    }

    fn claim(&self, pool: &Pool) -> Vec<Evidence> {
        let ours = service_statement_oid();
        pool.parts()
            .filter(|(_, p)| match &p.content {
                Content::Statement { kind, .. } => *kind == ours,
                Content::Der => ServiceStatement::parse(&p.bytes).is_ok(),
                _ => false,
            })
            .map(|(id, _)| Evidence { parts: vec![id] })
            .collect()
    }

    fn appraise(&self, evidence: &Evidence, cx: &Context<'_>) -> Findings {
        let mut out = Findings::default();
        let Some(statement) = read(evidence, cx.pool) else {
            out.checks
                .push(SIGNATURE.check(false, "the statement is malformed"));
            return out;
        };
        let tbs = statement.tbs();
        let own = Hash::Sha256.of(&cx.key.to_spki());
        let same = tbs.key.spki_hash.as_slice() == own.as_slice();
        out.binding = Some(Binding {
            same,
            seen: format!(
                "the statement names SPKI SHA-256 {}, the key in question has {}",
                hex::encode(tbs.key.spki_hash),
                hex::encode(own)
            ),
        });
        let pinned: Vec<StatementKey> = cx
            .anchors
            .serving("Countersign", Role::Key)
            .filter(|a| matches!(a.key(), PublicKey::Ec { .. }))
            .filter_map(|a| StatementKey::from_spki_der(&a.key().to_spki()).ok())
            .collect();
        let named = pinned.iter().any(|k| *k.sha256() == tbs.signer_key_hash);
        let verified = statement.verify(&pinned).is_ok();
        out.checks.push(match (named, verified) {
            (true, true) => SIGNATURE.check(true, "verifies under a key given as trust anchor"),
            (true, false) => SIGNATURE.check(false, "does not verify under the key it names"),
            // Nobody's word: it counts for nothing, and the facts stay unproved.
            (false, _) => SIGNATURE.outcome(
                Outcome::NotChecked,
                "its key is not among the trust anchors given; it counts for nothing",
            ),
        });
        out.checks.push(TIME.check(
            tbs.issued_at <= cx.at && cx.at < tbs.expires_at,
            format!(
                "{} to {}, appraised {}",
                tbs.issued_at, tbs.expires_at, cx.at
            ),
        ));
        let mut bound = false;
        match cx.csr_der.map(ParsedCsr::parse) {
            None => out
                .checks
                .push(REQUEST.outcome(Outcome::NotChecked, "no request was given")),
            Some(Err(e)) => out.checks.push(REQUEST.check(false, e.to_string())),
            Some(Ok(csr)) => {
                let info = csr.info_without_attribute(&crate::bundle::ID_AA_ATTESTATION);
                bound = tbs.csr_info_hash.as_slice() == Hash::Sha256.of(&info).as_slice();
                let seen = if bound { "the same" } else { "another request" };
                out.checks.push(REQUEST.check(bound, seen));
            }
        }
        if verified && same && bound && !tbs.device.software {
            out.methods.push(7);
        }
        let by = if verified {
            "the service, signed"
        } else {
            "an unverified statement"
        };
        out.claims = self
            .says(evidence, cx.pool)
            .into_iter()
            .map(|(name, value)| Claim {
                name,
                value,
                by: Cow::Borrowed(by),
            })
            .collect();
        out
    }

    fn says(&self, evidence: &Evidence, pool: &Pool) -> Vec<(String, String)> {
        let Some(statement) = read(evidence, pool) else {
            return Vec::new();
        };
        let t = statement.tbs();
        let mut out: Vec<(String, String)> = [
            ("service", t.service.clone()),
            ("subscriber", t.subscriber.clone()),
            ("audience", t.audience.clone()),
            ("order", t.order.id.clone()),
            ("key.spki-sha256", hex::encode(t.key.spki_hash)),
            ("key.isolation", t.key.isolation.as_str().to_owned()),
            ("device.software", t.device.software.to_string()),
            ("device.manufacturer", t.device.manufacturer.clone()),
            ("device.model", t.device.model.clone()),
            ("device.serial", t.device.serial.clone()),
            ("device.firmware", t.device.firmware.clone()),
            ("log.origin", t.log.origin.clone()),
        ]
        .into_iter()
        .map(|(n, v)| (n.to_owned(), v))
        .collect();
        let attributes = t.key.attributes.iter();
        out.extend(attributes.map(|a| (a.attribute.clone(), a.seen.clone())));
        out
    }
}

fn read(evidence: &Evidence, pool: &Pool) -> Option<ServiceStatement> {
    let part = pool.get(*evidence.parts.first()?)?;
    ServiceStatement::parse(&part.bytes).ok()
}
