//! All evidence in a pool, appraised by the formats that recognise it, for one key.

use super::format::{Context, FRESHNESS, Findings, Format};
use super::parts::PartId;
use crate::certifications;
use crate::result::{Check, Claim, Exportable, Facts, Known, Outcome, Rule, Weakness};
use std::borrow::Cow;

/// Most pieces of evidence appraised at once.
const MAX_EVIDENCE: usize = 32;

const RECOGNISED: Rule = Rule::documented(
    "device-evidence",
    "evidence is given in a format that is understood",
    "CSBR §6.2.7.4.2 method 2",
);
const BOUND: Rule = Rule::confirmed(
    "key-bound",
    "the evidence is about the key in question, compared by its material",
    "CSBR §6.2.7.4.2 method 2",
);
const ONE_DEVICE: Rule = Rule::documented(
    "one-device",
    "all evidence for the key comes from one device: facts of two are never mixed",
    "RFC 9334 §4; CSBR §6.2.7.4.2 method 2",
);
const FRESH: Rule = Rule::documented(
    FRESHNESS,
    "the evidence carries the nonce that the verifier gave",
    "RFC 9334 §10",
);

/// What all evidence together gives.
#[derive(Debug, Clone, Default)]
pub(crate) struct Devices {
    pub(crate) facts: Facts,
    pub(crate) checks: Vec<Check>,
    pub(crate) weaknesses: Vec<Weakness>,
    pub(crate) claims: Vec<Claim>,
    pub(crate) used: Vec<PartId>,
    pub(crate) formats: Vec<String>,
    pub(crate) methods: Vec<u8>,
}

/// Appraises what the formats find in the pool. `absent` is the outcome where they find nothing.
pub(crate) fn appraise_devices(
    formats: &[&dyn Format],
    cx: &Context<'_>,
    absent: Outcome,
) -> Devices {
    let mut out = Devices::default();
    let mut proved: Vec<(&'static str, Facts)> = Vec::new();
    for format in formats {
        for evidence in format.claim(cx.pool) {
            let name = evidence.parts.first().map_or("", |id| cx.pool.name(*id));
            if out.formats.len() >= MAX_EVIDENCE {
                let seen = format!("more than {MAX_EVIDENCE} pieces of evidence, from {name} on");
                out.checks.push(RECOGNISED.check(false, seen));
                return out;
            }
            let seen = format!("{name}: {}", format.title());
            out.checks.push(RECOGNISED.check(true, seen));
            out.formats.push(format.id().to_owned());
            let mut found = format.appraise(&evidence, cx);
            found.checks.push(binding(&found));
            if format.id() != crate::vendor::statement::ID {
                found.checks.extend(no_nonce(&found, cx));
            }
            demote(&mut found);
            if found.facts.genuine == Known::Yes {
                proved.push((format.id(), found.facts.clone()));
            }
            out.take(found, &evidence.parts);
        }
    }
    if out.formats.is_empty() {
        out.checks
            .push(RECOGNISED.outcome(absent, "no format recognises anything that was given"));
    }
    out.settle(&proved);
    out
}

/// The freshness check of a format that has none of its own.
fn no_nonce(found: &Findings, cx: &Context<'_>) -> Option<Check> {
    if found.checks.iter().any(|c| c.name == FRESHNESS) {
        return None;
    }
    Some(match cx.nonce {
        None => FRESH.outcome(
            Outcome::NotChecked,
            "no nonce was given, and this format carries none: proof of possession is the request's signature",
        ),
        Some(_) if cx.nonce_needed => {
            FRESH.outcome(Outcome::Unknown, "this format carries no nonce")
        }
        Some(_) => FRESH.outcome(
            Outcome::NotChecked,
            "this format carries no nonce; the order's stands in the service statement alone",
        ),
    })
}

fn binding(found: &Findings) -> Check {
    match &found.binding {
        Some(b) => BOUND.check(b.same, b.seen.clone()),
        None => BOUND.outcome(Outcome::Unknown, "the evidence names no key"),
    }
}

/// What is not proved of the key in question is a claim.
fn demote(found: &mut Findings) {
    let bound = found.binding.as_ref().is_some_and(|b| b.same);
    // A bad signature anywhere in the evidence, or another key: then nothing is proved by it.
    if found.facts.genuine == Known::Yes && bound {
        return;
    }
    let by = if bound {
        "the evidence, not proved"
    } else {
        "evidence that is not for this key"
    };
    let facts = std::mem::take(&mut found.facts);
    found.claims.extend(claims_of(&facts, by));
}

/// Facts in the words of claims.
pub(crate) fn claims_of(facts: &Facts, by: &'static str) -> Vec<Claim> {
    let known = |k: Known| match k {
        Known::Yes => Some("yes".to_owned()),
        Known::No => Some("no".to_owned()),
        Known::Unknown => None,
    };
    let exportable = match facts.exportable {
        Exportable::Never => Some("never".to_owned()),
        Exportable::Wrapped => Some("wrapped".to_owned()),
        Exportable::Recoverable => Some("recoverable".to_owned()),
        Exportable::Plain => Some("plain".to_owned()),
        Exportable::Unknown => None,
    };
    [
        ("device.vendor", facts.vendor.clone()),
        ("device.model", facts.model.clone()),
        (
            "device.serial",
            facts.serial.as_ref().map(|s| s.value.clone()),
        ),
        ("device.firmware", facts.firmware.clone()),
        (
            "device.certification",
            facts.certification.as_ref().map(|c| c.scheme.clone()),
        ),
        ("key.generated-in-device", known(facts.generated_in_device)),
        ("key.exportable", exportable),
        ("key.sign-only", known(facts.sign_only)),
        ("evidence.time", facts.evidence_time.map(|t| t.to_string())),
    ]
    .into_iter()
    .filter_map(|(name, value)| {
        value.map(|value| Claim {
            name: name.to_owned(),
            value,
            by: Cow::Borrowed(by),
        })
    })
    .collect()
}

impl Devices {
    fn take(&mut self, found: Findings, parts: &[PartId]) {
        self.checks.extend(found.checks);
        for w in found.weaknesses {
            if !self.weaknesses.contains(&w) {
                self.weaknesses.push(w);
            }
        }
        self.claims.extend(found.claims);
        self.used.extend(found.used);
        self.used.extend(parts);
        self.methods.extend(found.methods);
    }

    /// The facts of the one device; none if there are two.
    fn settle(&mut self, proved: &[(&'static str, Facts)]) {
        let Some((_, first)) = proved.first() else {
            return;
        };
        let identity = |f: &Facts| {
            let (vendor, model) = (f.vendor.clone(), f.model.clone());
            (vendor, model, f.serial.clone(), f.device_key.clone())
        };
        if let Some((_, other)) = proved.iter().find(|(_, f)| identity(f) != identity(first)) {
            let words = |f: &Facts| {
                let key = f.device_key.as_deref().unwrap_or("?");
                let serial = f.serial.as_ref().map_or(key, |s| s.value.as_str());
                let vendor = f.vendor.as_deref().unwrap_or("?");
                let model = f.model.as_deref().unwrap_or("?");
                format!("{vendor} {model} {serial}")
            };
            let seen = format!("{} and {}", words(first), words(other));
            self.checks.push(ONE_DEVICE.check(false, seen));
            return;
        }
        if let Some((format, _)) = proved.iter().find(|(_, f)| f != first) {
            // The same device, but it says different things: nothing is known.
            let seen = format!("two pieces of evidence of one device differ ({format})");
            self.checks.push(ONE_DEVICE.check(false, seen));
            return;
        }
        self.facts = first.clone();
        // A certificate by its number says more than a level that the evidence names.
        if let Some(row) = certifications::lookup(&self.facts, certifications::ROWS)
            && let Some(stated) = self.facts.certification.replace(row)
        {
            self.claims.push(Claim {
                name: "device.certification".to_owned(),
                value: stated.scheme,
                by: Cow::Owned(stated.source),
            });
        }
    }
}
