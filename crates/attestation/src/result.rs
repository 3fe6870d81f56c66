//! The attestation result (RATS, RFC 9334 §4): separate facts, never one boolean.
//!
//! Each check says what it looked at, which rule it enforces and where that rule stands, and
//! whether the rule was seen on a real sample or only in documentation. Unknown is never true: a
//! fact nobody proved is [`Known::Unknown`], and a check that could not be decided leaves the
//! verdict [`Verdict::Unverifiable`], not accepted.

use crate::time::UnixSeconds;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Version of the JSON below; members are added, none changes its meaning.
pub const RESULT_VERSION: u8 = 1;

/// What comes out of an appraisal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttestationResult {
    /// [`RESULT_VERSION`].
    pub version: u8,
    /// The whole.
    pub verdict: Verdict,
    /// Whether the key lives in a software token.
    pub software: Known,
    /// What is proved of key and device. Claims are not here.
    pub facts: Facts,
    /// CSBR §6.2.7.4.2 verification methods (1 to 7) that this supports; the CA's policy chooses.
    pub supports_methods: Vec<u8>,
    /// Known weaknesses of device, firmware or key.
    pub weaknesses: Vec<Weakness>,
    /// What somebody says and nobody proved.
    pub claims: Vec<Claim>,
    /// Each check, in the order made.
    pub checks: Vec<Check>,
    /// SHA-256 of every input.
    pub inputs: Vec<Input>,
    /// Which set of pinned roots and keys was used.
    pub anchor_set_version: String,
    /// When, by the caller's clock.
    pub appraised_at: UnixSeconds,
    /// The key in question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<SubjectKey>,
    /// The formats of evidence that were recognised, by their stable names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub formats: Vec<String>,
    /// Whether the evidence was made for this very question: only a nonce can show it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freshness: Option<Outcome>,
    /// The policy that was applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyApplied>,
    /// What was given and not used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unused: Vec<Unused>,
    /// What the verifier's own register knows of the device, where it keeps one
    /// ([`crate::register`]). No part of the appraisal: the verdict does not rest on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen_before: Option<crate::register::SeenBefore>,
}

/// The key in question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubjectKey {
    /// `csr` or `public-key`.
    pub given_as: String,
    /// For example `P-256` or `RSA-3072`.
    pub algorithm: String,
    /// SHA-256 of the canonical SubjectPublicKeyInfo, lower-case hex.
    pub spki_sha256: String,
    /// The subject a request asks for: a claim of the subscriber.
    pub requested_name: Option<String>,
}

/// The policy that was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyApplied {
    /// Its name.
    pub name: String,
    /// What it demands, one demand a line, in the words of `--require`.
    pub demands: Vec<String>,
}

/// Something given and not used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unused {
    /// Which input, and which part of it.
    pub name: String,
    /// What it is.
    pub what: String,
}

/// A known weakness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weakness {
    /// In words.
    pub text: String,
    /// More about it; a weakness of the service's own appraisal has words alone.
    pub known: Option<KnownWeakness>,
}

/// A published weakness.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownWeakness {
    /// For example `CVE-2024-45678`.
    pub id: String,
    /// The algorithms it affects.
    pub affects: Vec<String>,
    /// Where it is described.
    pub source: String,
    /// Whether the key in question is of an affected kind.
    pub concerns_this_key: bool,
    /// Whether it refuses under the default policy.
    pub disqualifying: bool,
}

impl From<String> for Weakness {
    fn from(text: String) -> Self {
        Self { text, known: None }
    }
}

/// JSON: the words alone, or an object. Results written before weaknesses had an id hold strings.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum WeaknessJson {
    Text(String),
    Known {
        text: String,
        #[serde(flatten)]
        known: KnownWeakness,
    },
}

impl Serialize for Weakness {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let text = self.text.clone();
        match self.known.clone() {
            None => WeaknessJson::Text(text).serialize(s),
            Some(known) => WeaknessJson::Known { text, known }.serialize(s),
        }
    }
}

impl<'de> Deserialize<'de> for Weakness {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(match WeaknessJson::deserialize(d)? {
            WeaknessJson::Text(text) => text.into(),
            WeaknessJson::Known { text, known } => Self {
                text,
                known: Some(known),
            },
        })
    }
}

/// The whole, by the checks: any failure rejects; else anything undecided is unverifiable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Every check that was made passed.
    Accept,
    /// At least one check failed.
    Reject,
    /// Nothing failed, but something needed could not be decided.
    Unverifiable,
}

impl Verdict {
    /// The verdict over `checks`; over none it is [`Verdict::Unverifiable`].
    #[must_use]
    pub fn over(checks: &[Check]) -> Self {
        if checks.iter().any(|c| c.outcome == Outcome::Fail) {
            Self::Reject
        } else if checks.iter().any(|c| c.outcome == Outcome::Unknown)
            || !checks.iter().any(|c| c.outcome == Outcome::Pass)
        {
            Self::Unverifiable
        } else {
            Self::Accept
        }
    }
}

/// Three-valued truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Known {
    /// Proved so.
    Yes,
    /// Proved not so.
    No,
    /// Not proved either way.
    #[default]
    Unknown,
}

/// Whether the private key can leave the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exportable {
    /// In no way.
    Never,
    /// Encrypted under a wrapping key.
    Wrapped,
    /// In a backup or recovery domain (security world, cloning domain).
    Recoverable,
    /// In the clear.
    Plain,
    /// Not proved.
    #[default]
    Unknown,
}

/// What evidence proved of the device and the key.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Facts {
    /// A genuine device of its maker.
    pub genuine: Known,
    /// The names of the certificates or keys from the evidence to the pinned root.
    pub chain: Vec<String>,
    /// The pinned root, by name and SHA-256 of its SubjectPublicKeyInfo.
    pub root: Option<String>,
    /// The pair was generated inside the device.
    pub generated_in_device: Known,
    /// Whether it can leave.
    pub exportable: Exportable,
    /// The key can sign and do nothing else.
    pub sign_only: Known,
    /// The maker.
    pub vendor: Option<String>,
    /// The model.
    pub model: Option<String>,
    /// The serial number and what it names.
    pub serial: Option<Serial>,
    /// The firmware.
    pub firmware: Option<String>,
    /// What the module is certified as.
    pub certification: Option<Certification>,
    /// When the evidence was made, where it says so.
    pub evidence_time: Option<UnixSeconds>,
    /// SHA-256 of the SubjectPublicKeyInfo of the device's own attestation key, hex, where that is
    /// what tells one device from another: a TPM has no serial number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_key: Option<String>,
    /// The permanent identifier (RFC 4043) of the device, where the CA of its attestation key gave it
    /// one in that key's certificate: it stays when the attestation key does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permanent_identifier: Option<String>,
    /// SHA-256, hex, of the certificate of the attestation key that signed, where a CA certified
    /// one (TPM).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attestation_key_certificate: Option<String>,
}

/// A serial number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serial {
    /// As the evidence gives it.
    pub value: String,
    /// What it names.
    pub names: SerialScope,
}

/// What a serial number names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SerialScope {
    /// One device.
    Individual,
    /// A production batch that shares one attestation key.
    Batch,
}

/// What a module is certified as, and who says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certification {
    /// For example `FIPS 140-2 level 3`.
    pub scheme: String,
    /// The certificate's number.
    pub number: Option<String>,
    /// For example `active`, `historical`.
    pub status: String,
    /// The date of that status.
    pub as_of: Option<UnixSeconds>,
    /// The evidence itself, or a table by model and firmware.
    pub source: String,
    /// The scheme and level in a form to compare, where they are understood.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<CertifiedLevel>,
}

/// A scheme and a level of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CertifiedLevel {
    /// `140-2`, `140-3` or `cc`.
    pub standard: String,
    /// The level: 1 to 4, or the EAL of Common Criteria.
    pub level: u8,
}

impl std::fmt::Display for CertifiedLevel {
    /// As `--require fips=` writes it: `140-2:3`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.standard, self.level)
    }
}

/// Something stated, not proved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// What about, for example `device.model` or `CKA_EXTRACTABLE`.
    pub name: String,
    /// What is said.
    pub value: String,
    /// Who says so.
    pub by: Cow<'static, str>,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Stable name, kebab-case.
    pub name: Cow<'static, str>,
    /// How it went.
    pub outcome: Outcome,
    /// What was seen, in words that name the values.
    pub seen: String,
    /// What is demanded.
    pub rule: Cow<'static, str>,
    /// Where the demand stands.
    pub source: Cow<'static, str>,
    /// What our reading of the rule rests on.
    pub basis: Basis,
}

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// As demanded.
    Pass,
    /// Not as demanded.
    Fail,
    /// Left out, on purpose and harmlessly; `seen` says why.
    NotChecked,
    /// Needed, and could not be decided.
    Unknown,
}

/// What our reading of a rule rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Basis {
    /// Seen on a real sample, byte for byte.
    ConfirmedOnRealSample,
    /// From a standard or a vendor's documentation.
    FromDocumentation,
}

/// An input and its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// What it is, for example `csr`, `statement`, `evidence[0]`.
    pub name: String,
    /// SHA-256, lower-case hex.
    pub sha256: String,
}

impl AttestationResult {
    /// The first check of that name.
    #[must_use]
    pub fn check(&self, name: &str) -> Option<&Check> {
        self.checks.iter().find(|c| c.name == name)
    }

    /// The checks that stand in the way of acceptance: failures, then undecided ones.
    pub fn reasons(&self) -> impl Iterator<Item = &Check> {
        let of = |o| self.checks.iter().filter(move |c| c.outcome == o);
        of(Outcome::Fail).chain(of(Outcome::Unknown))
    }
}

/// A rule: its stable name, what it demands, where that stands. Rules of our own are in the
/// documentation by nature; a format confirmed on a sample says so with [`Rule::confirmed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    name: &'static str,
    demands: &'static str,
    source: &'static str,
    basis: Basis,
}

impl Rule {
    /// A rule known from documentation.
    #[must_use]
    pub const fn documented(
        name: &'static str,
        demands: &'static str,
        source: &'static str,
    ) -> Self {
        Self {
            name,
            demands,
            source,
            basis: Basis::FromDocumentation,
        }
    }

    /// A rule confirmed on a real sample.
    #[must_use]
    pub const fn confirmed(
        name: &'static str,
        demands: &'static str,
        source: &'static str,
    ) -> Self {
        Self {
            name,
            demands,
            source,
            basis: Basis::ConfirmedOnRealSample,
        }
    }

    /// Its stable name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The check of this rule with an outcome.
    #[must_use]
    pub fn outcome(&self, outcome: Outcome, seen: impl Into<String>) -> Check {
        Check {
            name: Cow::Borrowed(self.name),
            outcome,
            seen: seen.into(),
            rule: Cow::Borrowed(self.demands),
            source: Cow::Borrowed(self.source),
            basis: self.basis,
        }
    }

    /// Pass if `holds`, else fail.
    #[must_use]
    pub fn check(&self, holds: bool, seen: impl Into<String>) -> Check {
        self.outcome(if holds { Outcome::Pass } else { Outcome::Fail }, seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Rule = Rule::documented("a-rule", "that it holds", "nowhere §1");

    #[test]
    fn unknown_is_never_accepted() {
        let with = |outcomes: &[Outcome]| {
            let checks: Vec<_> = outcomes.iter().map(|o| RULE.outcome(*o, "")).collect();
            Verdict::over(&checks)
        };
        use Outcome::{Fail, NotChecked, Pass, Unknown};
        assert_eq!(with(&[]), Verdict::Unverifiable);
        assert_eq!(with(&[NotChecked]), Verdict::Unverifiable);
        assert_eq!(with(&[Pass, NotChecked]), Verdict::Accept);
        assert_eq!(with(&[Pass, Unknown]), Verdict::Unverifiable);
        assert_eq!(with(&[Pass, Unknown, Fail]), Verdict::Reject);
        assert_eq!(Known::default(), Known::Unknown);
        assert_eq!(Exportable::default(), Exportable::Unknown);
    }

    #[test]
    fn the_json_is_what_it_was() {
        let result = AttestationResult {
            version: RESULT_VERSION,
            verdict: Verdict::Reject,
            software: Known::Yes,
            facts: Facts {
                serial: Some(Serial {
                    value: "7".into(),
                    names: SerialScope::Batch,
                }),
                ..Facts::default()
            },
            supports_methods: vec![7],
            weaknesses: vec![],
            claims: vec![Claim {
                name: "device.model".into(),
                value: "SoftHSM v2".into(),
                by: "service".into(),
            }],
            checks: vec![RULE.check(false, "it does not")],
            inputs: vec![Input {
                name: "csr".into(),
                sha256: "00".into(),
            }],
            anchor_set_version: "none".into(),
            appraised_at: UnixSeconds::new(0).unwrap(),
            subject: None,
            formats: vec![],
            freshness: None,
            policy: None,
            unused: vec![],
            seen_before: None,
        };
        let json = serde_json::to_string(&result).unwrap();
        assert_eq!(
            json,
            concat!(
                r#"{"version":1,"verdict":"reject","software":"yes","facts":{"genuine":"unknown","#,
                r#""chain":[],"root":null,"generated_in_device":"unknown","exportable":"unknown","#,
                r#""sign_only":"unknown","vendor":null,"model":null,"#,
                r#""serial":{"value":"7","names":"batch"},"firmware":null,"certification":null,"#,
                r#""evidence_time":null},"supports_methods":[7],"weaknesses":[],"#,
                r#""claims":[{"name":"device.model","value":"SoftHSM v2","by":"service"}],"#,
                r#""checks":[{"name":"a-rule","outcome":"fail","seen":"it does not","#,
                r#""rule":"that it holds","source":"nowhere §1","basis":"from-documentation"}],"#,
                r#""inputs":[{"name":"csr","sha256":"00"}],"anchor_set_version":"none","#,
                r#""appraised_at":"1970-01-01T00:00:00Z"}"#
            )
        );
        let back: AttestationResult = serde_json::from_str(&json).unwrap();
        assert_eq!(back, result);
        // Results of earlier versions hold weaknesses as words.
        let text = json.replace(r#""weaknesses":[]"#, r#""weaknesses":["old"]"#);
        let old: AttestationResult = serde_json::from_str(&text).unwrap();
        assert_eq!(old.weaknesses, [Weakness::from("old".to_owned())]);
        assert_eq!(serde_json::to_string(&old).unwrap(), text);
    }
}
