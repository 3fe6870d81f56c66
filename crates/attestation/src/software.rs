//! The service's own appraisal of keys in software tokens.
//!
//! A software token has no evidence, and nothing stands in for it: the result holds no proved fact.
//! Such a key goes on to a certificate request only where the tenant's policy says
//! `allow-software`, and only to a CA that says so too (invariants 1 and 5).

use crate::key_checks;
use crate::result::{AttestationResult, Claim, Facts, Input, Known, RESULT_VERSION, Rule, Verdict};
use crate::statement::{AttributeClaim, Device, sha256};
use crate::time::UnixSeconds;
use crate::verify::{Question, verify};
use countersign_x509::key::PublicKey;
use std::borrow::Cow;

const SOFTWARE_TOKEN: Rule = Rule::documented(
    "software-token",
    "the token says it is software; a key in hardware is appraised by its evidence",
    "ARCHITECTURE.md, invariant 1",
);
const TENANT_POLICY: Rule = Rule::documented(
    "software-key-policy",
    "the tenant's policy says allow-software",
    "ARCHITECTURE.md, invariant 5",
);

const NO_METHOD: Rule = Rule::documented(
    "software-key-methods",
    "no CSBR §6.2.7.4.2 method is demanded of a key in a software token: each wants hardware",
    "CSBR §6.2.7.4.2; ARCHITECTURE.md, invariant 1",
);

/// A key in a software token, as its worker read it back.
#[derive(Debug, Clone, Copy)]
pub struct SoftwareKey<'a> {
    /// DER SubjectPublicKeyInfo.
    pub spki: &'a [u8],
    /// The token.
    pub device: &'a Device,
    /// Attributes read back.
    pub attributes: &'a [AttributeClaim],
}

/// Appraises a key in a software token. Accepted only if `tenant_allows` (the tenant's policy
/// `allow-software`); never with a proved fact, never supporting a CSBR verification method.
#[must_use]
pub fn appraise_software(
    key: &SoftwareKey<'_>,
    tenant_allows: bool,
    now: UnixSeconds,
) -> AttestationResult {
    let mut checks = vec![
        SOFTWARE_TOKEN.check(
            key.device.software,
            if key.device.software {
                "the token is marked software"
            } else {
                "the token is not marked software: this key needs device evidence"
            },
        ),
        TENANT_POLICY.check(
            tenant_allows,
            if tenant_allows {
                "allow-software is on"
            } else {
                "allow-software is off"
            },
        ),
    ];
    match PublicKey::from_spki_der(key.spki) {
        Ok(public) => checks.extend(key_checks::check(&public)),
        Err(e) => checks.push(key_checks::refused(&e)),
    }
    AttestationResult {
        version: RESULT_VERSION,
        verdict: Verdict::over(&checks),
        software: if key.device.software {
            Known::Yes
        } else {
            Known::Unknown
        },
        facts: Facts::default(),
        supports_methods: Vec::new(),
        weaknesses: vec![
            "software token: whoever can read its files can copy the key"
                .to_owned()
                .into(),
        ],
        claims: claims(key),
        checks,
        inputs: vec![Input {
            name: "spki".to_owned(),
            sha256: hex::encode(sha256(key.spki)),
        }],
        anchor_set_version: "none".to_owned(),
        appraised_at: now,
        subject: None,
        formats: Vec::new(),
        freshness: None,
        policy: None,
        unused: Vec::new(),
        seen_before: None,
    }
}

/// As [`appraise_software`], where the tenant demands evidence of every key, or where there is some for
/// this one: both appraisals must hold. Evidence does not make the key one in hardware: it stays
/// marked, and supports no CSBR verification method.
#[must_use]
pub fn appraise_software_with_evidence(
    key: &SoftwareKey<'_>,
    tenant_allows: bool,
    question: &Question<'_>,
) -> AttestationResult {
    let own = appraise_software(key, tenant_allows, question.at);
    let evidence = verify(question);
    let mut checks = own.checks;
    checks.extend(evidence.checks);
    if let Some(method) = question.policy.methods.first() {
        checks.push(NO_METHOD.check(false, format!("method {method} is demanded")));
    }
    let mut weaknesses = own.weaknesses;
    weaknesses.extend(evidence.weaknesses);
    let mut claims = own.claims;
    claims.extend(evidence.claims);
    AttestationResult {
        verdict: Verdict::over(&checks),
        software: own.software,
        supports_methods: Vec::new(),
        weaknesses,
        claims,
        checks,
        ..evidence
    }
}

fn claims(key: &SoftwareKey<'_>) -> Vec<Claim> {
    let claim = |name: &str, value: &str| Claim {
        name: name.to_owned(),
        value: value.to_owned(),
        by: Cow::Borrowed("the token's module"),
    };
    let mut out = vec![
        claim("device.manufacturer", &key.device.manufacturer),
        claim("device.model", &key.device.model),
        claim("device.serial", &key.device.serial),
        claim("device.firmware", &key.device.firmware),
    ];
    out.extend(key.attributes.iter().map(|a| claim(&a.attribute, &a.seen)));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::{Exportable, Outcome};
    use crate::testkit::{Pair, at, full_statement};

    #[test]
    fn only_the_tenant_s_policy_lets_a_software_key_pass_and_nothing_is_proved() {
        let pair = Pair::new();
        let tbs = full_statement(&pair);
        let key = SoftwareKey {
            spki: &pair.spki,
            device: &tbs.device,
            attributes: &tbs.key.attributes,
        };
        for allowed in [true, false] {
            let r = appraise_software(&key, allowed, at(7));
            assert_eq!(
                r.verdict,
                if allowed {
                    Verdict::Accept
                } else {
                    Verdict::Reject
                }
            );
            assert_eq!(r.software, Known::Yes);
            assert_eq!(r.facts, Facts::default());
            assert_eq!(r.facts.genuine, Known::Unknown);
            assert_eq!(r.facts.exportable, Exportable::Unknown);
            assert!(r.supports_methods.is_empty());
            assert_eq!(r.inputs[0].sha256, hex::encode(sha256(&pair.spki)));
        }
    }

    #[test]
    fn what_is_demanded_of_every_key_a_software_key_does_not_meet() {
        use crate::anchors::Anchors;
        use crate::verify::{File, Policy, SubjectFile};
        let pair = Pair::new();
        let tbs = full_statement(&pair);
        let key = SoftwareKey {
            spki: &pair.spki,
            device: &tbs.device,
            attributes: &tbs.key.attributes,
        };
        let (plain, anchors) = (Policy::origin(), Anchors::pinned());
        let demanding = plain.clone().require("method=1".parse().unwrap());
        let question = |policy, evidence| Question {
            subject: SubjectFile::PublicKey(File {
                name: "spki",
                bytes: &pair.spki,
            }),
            evidence,
            at: at(7),
            nonce: None,
            policy,
            anchors: &anchors,
        };
        let r = appraise_software_with_evidence(&key, true, &question(&demanding, &[]));
        assert_eq!(r.verdict, Verdict::Reject);
        for (name, outcome) in [
            ("software-key-methods", Outcome::Fail),
            ("policy-method", Outcome::Unknown),
            ("device-evidence", Outcome::Unknown),
            ("software-key-policy", Outcome::Pass),
        ] {
            assert_eq!(r.check(name).unwrap().outcome, outcome, "{name}");
        }
        assert_eq!(r.software, Known::Yes);
        assert!(r.supports_methods.is_empty());
        let garbage = [File {
            name: "evidence.bin",
            bytes: b"no evidence",
        }];
        let r = appraise_software_with_evidence(&key, true, &question(&plain, &garbage));
        assert_eq!(r.verdict, Verdict::Unverifiable);
        assert_eq!(r.unused.len(), 1);
    }

    #[test]
    fn a_hardware_key_does_not_pass_as_software() {
        let pair = Pair::new();
        let mut tbs = full_statement(&pair);
        tbs.device.software = false;
        let key = SoftwareKey {
            spki: &pair.spki,
            device: &tbs.device,
            attributes: &[],
        };
        let r = appraise_software(&key, true, at(7));
        assert_eq!(r.verdict, Verdict::Reject);
        assert_eq!(r.check("software-token").unwrap().outcome, Outcome::Fail);
        assert_eq!(r.software, Known::Unknown);
    }

    #[test]
    fn a_key_nobody_may_have_does_not_pass() {
        let tbs = full_statement(&Pair::new());
        let key = SoftwareKey {
            spki: &[0x30, 0x00],
            device: &tbs.device,
            attributes: &[],
        };
        let r = appraise_software(&key, true, at(7));
        assert_eq!(r.verdict, Verdict::Reject);
        assert_eq!(r.check("key-allowed").unwrap().outcome, Outcome::Fail);
    }
}
