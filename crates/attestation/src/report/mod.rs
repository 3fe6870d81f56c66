//! A result as text, and as one page ([`html`]), that a validation officer reads and files.

mod html;

pub use html::html;

use crate::result::{
    AttestationResult, Basis, Check, Exportable, Facts, Known, Outcome, SerialScope, Verdict,
    Weakness,
};
use countersign_core::text::disguises;

/// A heading and what stands under it; used for the text and for the page.
struct Section {
    title: &'static str,
    lines: Vec<(String, String)>,
}

/// The verdict as one sentence.
fn headline(r: &AttestationResult) -> (&'static str, &'static str) {
    match r.verdict {
        Verdict::Accept => (
            "ACCEPT",
            "every check holds: the policy's demands are proved for this key",
        ),
        Verdict::Reject => ("REJECT", "at least one check fails"),
        Verdict::Unverifiable => (
            "UNVERIFIABLE",
            "no check fails, but something needed could not be decided",
        ),
    }
}

/// A word at the verdict for weaknesses that stand further below.
fn warning(r: &AttestationResult) -> Option<String> {
    match r.weaknesses.len() {
        0 => None,
        1 => Some("1 known weakness, below".to_owned()),
        n => Some(format!("{n} known weaknesses, below")),
    }
}

/// The text.
#[must_use]
pub fn text(r: &AttestationResult) -> String {
    let (word, sentence) = headline(r);
    let mut out = format!("{word}: {sentence}\n");
    for c in r.reasons() {
        out.push_str(&format!("  {}\n", printable(&reason(c))));
    }
    if let Some(warning) = warning(r) {
        out.push_str(&format!("  {warning}\n"));
    }
    for s in sections(r) {
        out.push_str(&format!("\n{}\n", s.title));
        let names = s.lines.iter().map(|(n, _)| n.chars().count());
        let width = names.max().unwrap_or(0).min(32);
        for (name, value) in &s.lines {
            let name = printable(name);
            out.push_str(format!("  {name:width$}  {}", printable(value)).trim_end());
            out.push('\n');
        }
    }
    out.push_str("\nChecks\n");
    for c in &r.checks {
        let name = printable(&c.name);
        out.push_str(&format!("  {:7}  {name}\n", outcome(c.outcome)));
        out.push_str(&format!("           seen:  {}\n", printable(&c.seen)));
        out.push_str(&format!("           rule:  {}\n", printable(&c.rule)));
        let from = format!("{} ({})", c.source, basis(c.basis));
        out.push_str(&format!("           from:  {}\n", printable(&from)));
    }
    out
}

/// Why it is not accepted, as one line.
fn reason(c: &Check) -> String {
    format!("{}: {}: {}", outcome(c.outcome), c.name, c.seen)
}

const fn outcome(o: Outcome) -> &'static str {
    match o {
        Outcome::Pass => "pass",
        Outcome::Fail => "FAIL",
        Outcome::NotChecked => "skipped",
        Outcome::Unknown => "OPEN",
    }
}

const fn basis(b: Basis) -> &'static str {
    match b {
        Basis::ConfirmedOnRealSample => "confirmed on a real sample",
        Basis::FromDocumentation => "from documentation",
    }
}

/// Everything but the checks.
fn sections(r: &AttestationResult) -> Vec<Section> {
    let mut out = vec![
        Section {
            title: "Key",
            lines: key(r),
        },
        Section {
            title: "Proved",
            lines: facts(&r.facts),
        },
    ];
    let mut add = |title, lines: Vec<(String, String)>| {
        if !lines.is_empty() {
            out.push(Section { title, lines });
        }
    };
    // Before the long list: an accepted key may still have one that the reader minds.
    add(
        "Known weaknesses",
        r.weaknesses.iter().map(weakness).collect(),
    );
    let said = r.claims.iter();
    add(
        "Also said (no fact above rests on it)",
        said.map(|c| (c.name.clone(), format!("{} ({})", c.value, c.by)))
            .collect(),
    );
    if let Some(p) = &r.policy {
        add(
            "Policy",
            std::iter::once(("name".to_owned(), p.name.clone()))
                .chain(p.demands.iter().map(|d| ("demands".to_owned(), d.clone())))
                .collect(),
        );
    }
    let inputs = r.inputs.iter();
    add(
        "Inputs",
        inputs
            .map(|i| (i.name.clone(), format!("SHA-256 {}", i.sha256)))
            .collect(),
    );
    let unused = r.unused.iter();
    add(
        "Given and not used",
        unused.map(|u| (u.name.clone(), u.what.clone())).collect(),
    );
    add("Appraisal", appraisal(r));
    out
}

/// Text from elsewhere: it must not move the cursor, nor turn the line round.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if disguises(c) { '\u{fffd}' } else { c })
        .collect()
}

fn line(name: &str, value: impl Into<String>) -> (String, String) {
    (name.to_owned(), value.into())
}

fn key(r: &AttestationResult) -> Vec<(String, String)> {
    let Some(s) = &r.subject else {
        return vec![line("key", "could not be read")];
    };
    let mut out = vec![
        line("algorithm", &s.algorithm),
        line("SPKI SHA-256", &s.spki_sha256),
        line("given as", &s.given_as),
    ];
    if let Some(name) = &s.requested_name {
        out.push(line("subject asked for", name));
    }
    out
}

fn facts(f: &Facts) -> Vec<(String, String)> {
    let known = |k: Known| match k {
        Known::Yes => "yes",
        Known::No => "NO",
        Known::Unknown => "not proved",
    };
    let mut out = vec![
        line("genuine device", known(f.genuine)),
        line("generated in it", known(f.generated_in_device)),
        line(
            "exportable",
            match f.exportable {
                Exportable::Never => "never",
                Exportable::Wrapped => "YES, under a wrapping key",
                Exportable::Recoverable => "no, but recoverable in its backup domain",
                Exportable::Plain => "YES, in the clear",
                Exportable::Unknown => "not proved",
            },
        ),
        line("signs only", known(f.sign_only)),
    ];
    let mut add = |name: &str, value: Option<String>| {
        out.push(line(name, value.unwrap_or_else(|| "not proved".to_owned())));
    };
    add("maker", f.vendor.clone());
    add("model", f.model.clone());
    add(
        "serial number",
        f.serial.as_ref().map(|s| match s.names {
            SerialScope::Individual => s.value.clone(),
            SerialScope::Batch => format!("{} (of a production batch)", s.value),
        }),
    );
    if let Some(identifier) = &f.permanent_identifier {
        add("identifier", Some(identifier.clone()));
    }
    add("firmware", f.firmware.clone());
    add(
        "certified",
        f.certification.as_ref().map(|c| {
            let number = c.number.as_deref().unwrap_or("no certificate number");
            format!(
                "{}, {number}, {} (source: {})",
                c.scheme, c.status, c.source
            )
        }),
    );
    add("made at", f.evidence_time.map(|t| t.to_string()));
    if !f.chain.is_empty() {
        out.push(line("chain", f.chain.join(" <- ")));
    }
    if let Some(root) = &f.root {
        out.push(line("anchor", root));
    }
    if let Some(hash) = &f.attestation_key_certificate {
        out.push(line(
            "attestation key",
            format!("certificate SHA-256 {hash}"),
        ));
    }
    out
}

fn weakness(w: &Weakness) -> (String, String) {
    match &w.known {
        None => line("weakness", &w.text),
        Some(k) => {
            let concerns = match (k.concerns_this_key, k.disqualifying) {
                (true, true) => "concerns this key and disqualifies it",
                (true, false) => "concerns this key",
                (false, _) => "does not concern a key of this kind",
            };
            let affects = k.affects.join(", ");
            line(
                &k.id,
                format!("{}; affects {affects}; {concerns} ({})", w.text, k.source),
            )
        }
    }
}

fn appraisal(r: &AttestationResult) -> Vec<(String, String)> {
    let methods: Vec<String> = r.supports_methods.iter().map(u8::to_string).collect();
    let list = |items: &[String]| match items {
        [] => "none".to_owned(),
        some => some.join(", "),
    };
    let mut out = vec![
        line("moment", r.appraised_at.to_string()),
        line("formats recognised", list(&r.formats)),
        line("CSBR 6.2.7.4.2 methods", list(&methods)),
        line(
            "freshness",
            match r.freshness {
                Some(Outcome::Pass) => "the nonce given is in the evidence",
                Some(Outcome::Fail) => "ANOTHER NONCE is in the evidence",
                Some(Outcome::Unknown) => "a nonce was given and could not be checked",
                Some(Outcome::NotChecked) | None => "not checked",
            },
        ),
        line("anchor set", &r.anchor_set_version),
        line("result version", r.version.to_string()),
        line(
            "made by",
            concat!("countersign ", env!("CARGO_PKG_VERSION")),
        ),
    ];
    if let Some(seen) = &r.seen_before {
        out.push(line("device log", seen.in_words()));
    }
    out
}
