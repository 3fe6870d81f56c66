//! Where vendors' evidence plugs in: one [`EvidenceFormat`] per format.
//!
//! A format is asked whether it recognises a piece of evidence, then appraises it for one public
//! key. It never widens: what it does not understand it reports as unknown or refuses. Roots are
//! the format's own, compiled in or handed over by the CA, never from the evidence.

use crate::oid::Oid;
use crate::result::{Check, Facts, Outcome, Rule};
use crate::time::UnixSeconds;

/// One piece of evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// Its name in the result, for example `evidence[0]` or `bundle[1]`.
    pub name: String,
    /// Its type, where it came in an attestation bundle.
    pub kind: Option<Oid>,
    /// Its bytes, in the vendor's own encoding.
    pub bytes: Vec<u8>,
}

/// What a format appraises evidence for.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// DER SubjectPublicKeyInfo of the key in question.
    pub spki: &'a [u8],
    /// Now.
    pub now: UnixSeconds,
}

/// What a format found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Findings {
    /// Facts proved.
    pub facts: Facts,
    /// Checks made.
    pub checks: Vec<Check>,
    /// Known weaknesses.
    pub weaknesses: Vec<String>,
    /// Whether this is a key attestation in the sense of CSBR §6.2.7.4.2 method 2: generated,
    /// non-exportable, in a module whose certification is known.
    pub supports_method_2: bool,
}

/// One vendor's format.
pub trait EvidenceFormat: Sync {
    /// Name and version of the format's pinned roots, for the result.
    fn anchor_set_version(&self) -> String;
    /// Whether this looks like evidence of this format. Cheap, and no promise.
    fn recognises(&self, evidence: &Evidence) -> bool;
    /// Appraises it for `subject`. Never panics, whatever the bytes.
    fn appraise(&self, evidence: &Evidence, subject: Subject<'_>) -> Findings;
}

const RECOGNISED: Rule = Rule::documented(
    "device-evidence",
    "device evidence is given in a format that is understood, one piece for the key",
    "CSBR §6.2.7.4.2 method 2",
);

/// Appraises the evidence for a key with the formats at hand. `required` says whether evidence
/// that is missing or not understood leaves the matter undecided, or is no more than a remark
/// (method 7 asks for none).
#[must_use]
pub fn appraise_device(
    evidence: &[Evidence],
    formats: &[&dyn EvidenceFormat],
    subject: Subject<'_>,
    required: bool,
) -> (Findings, Vec<String>) {
    let undecided = if required {
        Outcome::Unknown
    } else {
        Outcome::NotChecked
    };
    let recognised: Vec<_> = evidence
        .iter()
        .filter_map(|e| formats.iter().find(|f| f.recognises(e)).map(|f| (e, f)))
        .collect();
    let remark = |seen: String| {
        let findings = Findings {
            checks: vec![RECOGNISED.outcome(undecided, seen)],
            ..Findings::default()
        };
        (findings, Vec::new())
    };
    match recognised.as_slice() {
        [] if evidence.is_empty() => remark("no device evidence was given".to_owned()),
        [] => {
            let names: Vec<_> = evidence.iter().map(|e| e.name.as_str()).collect();
            remark(format!("no known format recognises {}", names.join(", ")))
        }
        [(e, format)] => {
            let mut findings = format.appraise(e, subject);
            let seen = RECOGNISED.outcome(Outcome::Pass, format!("{} is recognised", e.name));
            findings.checks.insert(0, seen);
            (findings, vec![format.anchor_set_version()])
        }
        // Two devices cannot both hold the key: facts of one must not be mixed with the other's.
        [(a, _), (b, _), ..] => {
            let findings = Findings {
                checks: vec![RECOGNISED.outcome(
                    Outcome::Unknown,
                    format!("{} and {} are both device evidence", a.name, b.name),
                )],
                ..Findings::default()
            };
            (findings, Vec::new())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::{Known, Verdict};

    struct Magic;

    impl EvidenceFormat for Magic {
        fn anchor_set_version(&self) -> String {
            "magic roots 1".to_owned()
        }
        fn recognises(&self, evidence: &Evidence) -> bool {
            evidence.bytes.starts_with(b"MAGIC")
        }
        fn appraise(&self, evidence: &Evidence, subject: Subject<'_>) -> Findings {
            let bound = evidence.bytes.get(5..) == Some(subject.spki);
            Findings {
                facts: Facts {
                    genuine: if bound { Known::Yes } else { Known::Unknown },
                    ..Facts::default()
                },
                checks: vec![
                    Rule::confirmed("magic-spki", "the key", "here").check(bound, "compared"),
                ],
                supports_method_2: bound,
                ..Findings::default()
            }
        }
    }

    fn evidence(name: &str, bytes: &[u8]) -> Evidence {
        Evidence {
            name: name.to_owned(),
            kind: None,
            bytes: bytes.to_vec(),
        }
    }

    fn subject() -> Subject<'static> {
        Subject {
            spki: b"key",
            now: UnixSeconds::new(0).unwrap(),
        }
    }

    #[test]
    fn a_format_gives_facts_only_for_the_key_it_proves() {
        let (f, anchors) =
            appraise_device(&[evidence("e", b"MAGICkey")], &[&Magic], subject(), true);
        assert_eq!(f.facts.genuine, Known::Yes);
        assert_eq!(Verdict::over(&f.checks), Verdict::Accept);
        assert_eq!(anchors, ["magic roots 1"]);
        let (f, _) = appraise_device(&[evidence("e", b"MAGICyek")], &[&Magic], subject(), true);
        assert_eq!(f.facts.genuine, Known::Unknown);
        assert_eq!(Verdict::over(&f.checks), Verdict::Reject);
    }

    #[test]
    fn evidence_nobody_understands_decides_nothing() {
        let foreign = [evidence("e", b"?")];
        for given in [&foreign[..], &[]] {
            let (f, _) = appraise_device(given, &[&Magic], subject(), true);
            assert_eq!(f.checks[0].outcome, Outcome::Unknown);
            let (f, _) = appraise_device(given, &[&Magic], subject(), false);
            assert_eq!(f.checks[0].outcome, Outcome::NotChecked);
            assert!(!f.supports_method_2);
        }
    }

    #[test]
    fn two_devices_for_one_key_are_undecided() {
        let two = [evidence("a", b"MAGICkey"), evidence("b", b"MAGICkey")];
        let (f, _) = appraise_device(&two, &[&Magic], subject(), false);
        assert_eq!(Verdict::over(&f.checks), Verdict::Unverifiable);
        assert_eq!(f.facts, Facts::default());
    }
}
