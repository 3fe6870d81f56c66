//! The rules: Fortanix' steps of verification over an attestation that was read.

use super::LINE;
use super::parse::{
    Attestation, CLUSTER_PROTECTION, Claims, KEY_ATTESTATION_POLICY, KEY_ATTESTATION_SIGNING,
    SIGNING_USAGES, cluster_protection, key_usage_of,
};
use crate::anchors::Role;
use crate::certificate::{BASIC_CONSTRAINTS, CERTIFICATE_POLICIES, Certificate, EXT_KEY_USAGE};
use crate::chain::{Candidate, Place, Shape, walk};
use crate::result::{Exportable, Known, Outcome, Rule};
use crate::verify::format::said;
use crate::verify::{Binding, Context, Findings};
use spki::ObjectIdentifier;

const GUIDE: &str = "Fortanix, Verifying Key Attestation Statements, §4.0";

const CHAIN: Rule = Rule::confirmed(
    "fortanix-chain",
    "the statement is signed by the attestation authority, that by the Key Attestation CA, that by the pinned root, each valid when the statement was made",
    GUIDE,
);
const TIME: Rule = Rule::confirmed(
    "fortanix-statement-time",
    "the statement was not made more than a day after the moment of appraisal",
    GUIDE,
);
const GENERATED: Rule = Rule::confirmed(
    "fortanix-generated-in-dsm",
    "the statement claims that the key was generated in DSM (1.3.6.1.4.1.49690.2.4.1.1)",
    GUIDE,
);
const NEVER_EXPORTABLE: Rule = Rule::confirmed(
    "fortanix-never-exportable",
    "the statement claims that the key was and is never exportable, encrypted or not (1.3.6.1.4.1.49690.2.4.1.2)",
    GUIDE,
);
const KNOWN_CLAIMS: Rule = Rule::confirmed(
    "fortanix-known-claims",
    "the statement carries no extension that is not known",
    "RFC 5280 §4.2; Fortanix, Verifying Key Attestation Statements",
);

const A_DAY: u64 = 86_400;

/// keyUsage bits (RFC 5280 §4.2.1.3).
const DIGITAL_SIGNATURE: u16 = 1 << 0;
const KEY_CERT_SIGN: u16 = 1 << 5;

const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
const KEY_IDENTIFIERS: [ObjectIdentifier; 3] = [
    ObjectIdentifier::new_unwrap("2.5.29.14"),
    ObjectIdentifier::new_unwrap("2.5.29.35"),
    // Where revocations are published; nothing is fetched here.
    ObjectIdentifier::new_unwrap("2.5.29.31"),
];

/// Judges an attestation.
pub(super) fn judge(attestation: &Attestation, cx: &Context<'_>) -> Findings {
    let mut out = Findings::default();
    let statement = &attestation.statement;
    let claims = &attestation.claims;
    let made = statement.not_before();

    let inside = attestation.chain.iter().map(|certificate| Candidate {
        part: None,
        certificate,
    });
    let candidates: Vec<Candidate<'_>> = inside.chain(cx.pool.candidates()).collect();
    let places = [
        Place {
            role: "the statement",
            fits: &is_statement,
            signed_by: None,
        },
        Place {
            role: "the attestation authority",
            fits: &is_authority,
            signed_by: None,
        },
        Place {
            role: "the Key Attestation CA",
            fits: &is_ca,
            signed_by: Some(Role::Root),
        },
    ];
    let shape = Shape {
        line: LINE,
        places: &places,
        allow_sha1: false,
        // Authorities live a month: what counts is whether they lived when they signed.
        at: Some(made),
    };
    let chain = walk(cx.work, statement, &candidates, cx.anchors, &shape);
    out.checks.push(chain.check(&CHAIN));
    // A day: whoever appraises may give a date, and clocks differ.
    out.checks.push(TIME.check(
        made <= cx.at.plus(A_DAY),
        format!("made {made}, appraised {}", cx.at),
    ));
    out.checks
        .push(GENERATED.check(claims.generated_in_dsm, present(claims.generated_in_dsm)));
    out.checks
        .push(NEVER_EXPORTABLE.check(claims.never_exportable, present(claims.never_exportable)));
    out.checks.push(KNOWN_CLAIMS.check(
        claims.unknown.is_empty(),
        if claims.unknown.is_empty() {
            "none".to_owned()
        } else {
            claims.unknown.join(", ")
        },
    ));
    out.binding = Some(match statement.key() {
        Ok(key) => cx.bind(&key),
        Err(e) => Binding {
            same: false,
            seen: e.to_string(),
        },
    });

    out.facts.chain = chain.names();
    out.facts.root = chain.anchor().map(crate::anchors::Anchor::describe);
    out.facts.vendor = Some("Fortanix".to_owned());
    out.facts.model = Some("Data Security Manager".to_owned());
    out.facts.generated_in_device = yes_if(claims.generated_in_dsm);
    out.facts.exportable = if claims.never_exportable {
        Exportable::Never
    } else {
        Exportable::Unknown
    };
    out.facts.sign_only = sign_only(claims);
    out.facts.evidence_time = Some(made);
    if let Some(id) = &claims.key_id {
        out.claims.push(said("key.id", id));
    }
    if let Some(authority) = chain.above.first() {
        // What protects the cluster is named by identifiers whose meaning the maker keeps.
        for oid in cluster_protection(authority).unwrap_or_default() {
            out.claims.push(said("cluster.protection", oid));
        }
    }
    if chain.outcome() == Outcome::Pass {
        out.facts.genuine = Known::Yes;
    }
    out.used = chain.used;
    out
}

const fn present(is: bool) -> &'static str {
    if is { "present" } else { "absent" }
}

const fn yes_if(is: bool) -> Known {
    // Presence is the claim; absence claims nothing.
    if is { Known::Yes } else { Known::Unknown }
}

/// keyUsage holds the usages DSM allows the key.
fn sign_only(claims: &Claims) -> Known {
    match claims.key_usage {
        None | Some(0) => Known::Unknown,
        Some(usage) if usage & !SIGNING_USAGES == 0 => Known::Yes,
        Some(_) => Known::No,
    }
}

fn is_statement(c: &Certificate) -> Result<(), String> {
    // A statement says something of a key; a CA of that shape would be another certificate.
    match c.basic_constraints() {
        Ok(None | Some((false, _))) => Ok(()),
        Ok(Some((true, _))) => Err("is a CA".to_owned()),
        Err(e) => Err(e.to_string()),
    }
}

/// The one place where CA:FALSE signs: an extended key usage of the maker's empowers it.
fn is_authority(c: &Certificate) -> Result<(), String> {
    let text = |e: crate::der::DerError| e.to_string();
    if c.basic_constraints().map_err(text)? != Some((false, None)) {
        return Err("does not say CA:FALSE".to_owned());
    }
    let usages = c.extended_key_usages().map_err(text)?;
    if usages.len() != 1 || !usages.iter().any(|u| *u == KEY_ATTESTATION_SIGNING) {
        return Err(format!(
            "is not empowered by the extended key usage {KEY_ATTESTATION_SIGNING} alone"
        ));
    }
    if key_usage_of(c).map_err(text)? != Some(DIGITAL_SIGNATURE) {
        return Err("has another key usage than digitalSignature".to_owned());
    }
    has_policy(c)?;
    no_other_critical(c)
}

fn is_ca(c: &Certificate) -> Result<(), String> {
    let text = |e: crate::der::DerError| e.to_string();
    if !matches!(c.basic_constraints().map_err(text)?, Some((true, _))) {
        return Err("is no CA".to_owned());
    }
    let usage = key_usage_of(c).map_err(text)?;
    if usage.is_none_or(|u| u & KEY_CERT_SIGN == 0) {
        return Err("may not sign certificates".to_owned());
    }
    has_policy(c)?;
    no_other_critical(c)
}

fn has_policy(c: &Certificate) -> Result<(), String> {
    let policies = c.policies().map_err(|e| e.to_string())?;
    if policies.iter().any(|p| *p == KEY_ATTESTATION_POLICY) {
        Ok(())
    } else {
        Err(format!("lacks the policy {KEY_ATTESTATION_POLICY}"))
    }
}

/// RFC 5280 §4.2: a critical extension that is not understood refuses.
fn no_other_critical(c: &Certificate) -> Result<(), String> {
    const UNDERSTOOD: [ObjectIdentifier; 5] = [
        BASIC_CONSTRAINTS,
        CERTIFICATE_POLICIES,
        EXT_KEY_USAGE,
        KEY_USAGE,
        CLUSTER_PROTECTION,
    ];
    let unknown = c.extensions().iter().find(|e| {
        let known = UNDERSTOOD
            .iter()
            .chain(&KEY_IDENTIFIERS)
            .any(|k| e.oid == *k);
        e.critical && !known
    });
    match unknown {
        None => Ok(()),
        Some(e) => Err(format!("has the unknown critical extension {}", e.oid)),
    }
}
