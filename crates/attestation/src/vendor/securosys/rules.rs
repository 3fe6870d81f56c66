//! What a statement must say.

use super::statement::Statement;
use crate::key::PublicKey;
use crate::result::{Check, Exportable, Known, Rule, Weakness};
use crate::verify::format::said;
use crate::verify::{Context, Findings};

const GUIDE: &str = "Securosys, Primus HSM Audit and Attestation (AN-E01)";
const PKCS11: &str = "Securosys, Primus HSM Audit and Attestation (AN-E01); PKCS #11 v3.1 §4.8";

const GENERATED: Rule = Rule::confirmed(
    "securosys-generated",
    "creation is \"generated\", and no other word",
    GUIDE,
);
const IN_DEVICE: Rule = Rule::documented(
    "securosys-kept-in-device",
    "the key is stored in the device: nothing but creation is said of the whole key",
    GUIDE,
);
const EXTRACTABLE: Rule = Rule::confirmed(
    "securosys-not-extractable",
    "extractable=false and never_extractable=true",
    PKCS11,
);
const SENSITIVE: Rule = Rule::confirmed(
    "securosys-sensitive",
    "sensitive=true and always_sensitive=true",
    PKCS11,
);
const COPYABLE: Rule = Rule::confirmed(
    "securosys-not-copyable",
    "copyable=false: a copyable key can be taken out of the device, wrapped",
    GUIDE,
);
const KNOWN: Rule = Rule::confirmed(
    "securosys-attributes-known",
    "every element and attribute is one whose meaning is known",
    GUIDE,
);
const FITS: Rule = Rule::confirmed(
    "securosys-key-described",
    "algorithm, size and curve in the statement are those of its public_key",
    GUIDE,
);
const TIME: Rule = Rule::documented(
    "securosys-attest-time",
    "the statement was made after the key, and not later than it is appraised",
    GUIDE,
);

/// The flags under `attributes`.
const ATTRIBUTES: [&str; 12] = [
    "decrypt",
    "sign",
    "unwrap",
    "derive",
    "sensitive",
    "always_sensitive",
    "extractable",
    "never_extractable",
    "modifiable",
    "copyable",
    "destroyable",
    "unique",
];

/// How far a device's clock may run ahead of the verifier's, in seconds.
const CLOCK_TOLERANCE: u64 = 300;

/// Judges a statement.
pub(super) fn judge(s: &Statement, cx: &Context<'_>, findings: &mut Findings) {
    let flag = |name: &str| s.attributes.get(name).copied();
    let show = |name: &str| match flag(name) {
        Some(value) => format!("{name}={value}"),
        None => format!("{name} is missing"),
    };
    let wants = |rule: &Rule, wanted: &[(&str, bool)]| {
        let holds = wanted.iter().all(|(name, want)| flag(name) == Some(*want));
        let seen: Vec<_> = wanted.iter().map(|(name, _)| show(name)).collect();
        rule.check(holds, seen.join(", "))
    };
    let creation = s.creation.as_deref();
    let seen = creation.map_or("creation is missing".to_owned(), |c| {
        format!("creation is \"{}\"", short(c))
    });
    let checks = &mut findings.checks;
    checks.push(GENERATED.check(creation == Some("generated"), seen));
    checks.push(in_device(s));
    checks.push(wants(
        &EXTRACTABLE,
        &[("extractable", false), ("never_extractable", true)],
    ));
    checks.push(wants(
        &SENSITIVE,
        &[("sensitive", true), ("always_sensitive", true)],
    ));
    checks.push(wants(&COPYABLE, &[("copyable", false)]));
    checks.push(known(s));
    let key = PublicKey::from_spki(&s.public_key);
    checks.push(match &key {
        Ok(key) => fits(s, key),
        Err(e) => FITS.check(false, e.to_string()),
    });
    let late = s.attest_time.since(cx.at) > CLOCK_TOLERANCE;
    let seen = format!("created {}, attested {}", s.create_time, s.attest_time);
    checks.push(TIME.check(s.create_time <= s.attest_time && !late, seen));

    findings.binding = key.ok().map(|k| cx.bind(&k));
    let facts = &mut findings.facts;
    facts.generated_in_device = match creation {
        Some("generated") => Known::Yes,
        Some(_) => Known::No,
        None => Known::Unknown,
    };
    facts.exportable = exportable(s);
    facts.sign_only = sign_only(s);
    facts.evidence_time = Some(s.attest_time);
    findings.claims.push(said("key.label", short(&s.label)));
    if let Some(n) = s.key_use_count {
        findings.claims.push(said("key.use-count", n.to_string()));
    }
    if let Some(policy) = &s.policy {
        // Approval rules hinder a key's use; they never widen it.
        let rules = policy.rules.join(", ");
        findings.claims.push(said("key.approval-rules", rules));
    }
    if flag("modifiable") == Some(true) {
        findings.weaknesses.push(Weakness::from(
            "modifiable=true: what the key may be used for can be changed later, so sign-only says \
             what it is today; it cannot become extractable (PKCS #11 v3.1 §4.1.2)"
                .to_owned(),
        ));
    }
}

/// `storage="external"` says that the key lies outside the device, encrypted. What else might stand
/// there is not known, and refused.
fn in_device(s: &Statement) -> Check {
    let seen: Vec<_> = s
        .root_attributes
        .iter()
        .map(|(name, value)| format!("{}=\"{}\"", short(name), short(value)))
        .collect();
    if seen.is_empty() {
        return IN_DEVICE.check(true, "nothing else is said");
    }
    IN_DEVICE.check(false, seen.join(", "))
}

fn known(s: &Statement) -> Check {
    let attributes = s
        .attributes
        .keys()
        .filter(|a| !ATTRIBUTES.contains(&a.as_str()));
    let unknown: Vec<String> = s
        .unknown
        .iter()
        .chain(attributes)
        .map(|n| short(n))
        .collect();
    let seen = if unknown.is_empty() {
        format!("{} attributes, all known", s.attributes.len())
    } else {
        format!("not known: {}", unknown.join(", "))
    };
    KNOWN.check(unknown.is_empty(), seen)
}

fn fits(s: &Statement, key: &PublicKey) -> Check {
    let (oid, size, curve) = match key {
        PublicKey::Rsa { n, .. } => {
            let zeros = n.first().map_or(0, |b| u64::from(b.leading_zeros()));
            let bits = (n.len() as u64 * 8).saturating_sub(zeros);
            ("1.2.840.113549.1.1.1", Some(bits), None)
        }
        PublicKey::Ec { curve, .. } => ("1.2.840.10045.2.1", None, Some(curve.oid().to_string())),
        PublicKey::Ed25519(_) => ("1.3.101.112", None, None),
    };
    // Size and curve stand where they mean something; where they stand, they must be right.
    let holds = s.algorithm_oid == oid
        && s.key_size
            .is_none_or(|n| size.is_none_or(|bits| bits == u64::from(n)))
        && s.curve_oid
            .as_ref()
            .is_none_or(|c| Some(c) == curve.as_ref())
        && (size.is_none() || s.key_size.is_some());
    let stated = [
        Some(s.algorithm.clone()),
        Some(s.algorithm_oid.clone()),
        s.key_size.map(|n| n.to_string()),
        s.curve_oid.clone(),
    ];
    let stated: Vec<_> = stated.into_iter().flatten().map(|t| short(&t)).collect();
    FITS.check(
        holds,
        format!("{}; the key is {}", stated.join(", "), key.kind()),
    )
}

fn exportable(s: &Statement) -> Exportable {
    let flag = |name: &str| s.attributes.get(name).copied();
    let kept = s.root_attributes.is_empty() && flag("copyable") == Some(false);
    match (flag("extractable"), flag("sensitive")) {
        (Some(false), Some(true)) if kept => Exportable::Never,
        (Some(false), Some(true)) | (Some(true), Some(true)) => Exportable::Wrapped,
        (Some(true), Some(false)) => Exportable::Plain,
        _ => Exportable::Unknown,
    }
}

fn sign_only(s: &Statement) -> Known {
    let flag = |name: &str| s.attributes.get(name).copied();
    let others = ["decrypt", "unwrap", "derive"].map(flag);
    match flag("sign") {
        Some(true) if others.iter().all(|o| *o == Some(false)) => Known::Yes,
        Some(false) => Known::No,
        _ if others.contains(&Some(true)) => Known::No,
        _ => Known::Unknown,
    }
}

/// What the statement says, for people.
pub(super) fn says(s: &Statement) -> Vec<(String, String)> {
    let mut out: Vec<(String, String)> = Vec::new();
    let mut say = |name: &str, value: String| out.push((name.to_owned(), short(&value)));
    say("creation", s.creation.clone().unwrap_or_default());
    for (name, value) in &s.root_attributes {
        say(&short(name), value.clone());
    }
    say("label", s.label.clone());
    say("create_time", s.create_time.to_string());
    say("attest_time", s.attest_time.to_string());
    if let Some(n) = s.key_use_count {
        say("key_use_count", n.to_string());
    }
    say("algorithm", s.algorithm.clone());
    if let Ok(key) = PublicKey::from_spki(&s.public_key) {
        say(
            "public_key",
            format!(
                "{}, SPKI SHA-256 {}",
                key.kind(),
                hex::encode(key.spki_sha256())
            ),
        );
    }
    for (name, value) in &s.attributes {
        say(&short(name), value.to_string());
    }
    if let Some(policy) = &s.policy {
        say("policy", policy.rules.join(", "));
    }
    for name in &s.unknown {
        say("not known", name.clone());
    }
    out
}

/// Foreign text for a report: short, and without control characters.
fn short(text: &str) -> String {
    text.chars()
        .take(128)
        .flat_map(char::escape_debug)
        .collect()
}
