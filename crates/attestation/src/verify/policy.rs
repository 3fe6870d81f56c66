//! What a CA demands of facts.
//!
//! The default is called `origin`: genuine, generated in the device, not exportable, no
//! disqualifying weakness. A requirement tightens a policy; a policy file replaces the default.
//! That evidence is about the key, and that every check a format makes holds, is demanded always:
//! no policy switches it off.

use super::devices::Devices;
use super::requirement::{LONGEST_AGE_S, Level, PolicyError, Requirement, age};
use crate::result::{Check, Exportable, Known, Outcome, PolicyApplied, Rule};
use crate::time::UnixSeconds;
use serde::{Deserialize, Serialize};

const SOURCE: &str = "the policy of this appraisal";

const GENUINE: Rule = Rule::documented(
    "policy-genuine",
    "a genuine device of its maker, by a chain to a pinned anchor",
    SOURCE,
);
const GENERATED: Rule = Rule::documented(
    "policy-generated-in-device",
    "the key was generated in the device",
    SOURCE,
);
const EXPORTABLE: Rule = Rule::documented(
    "policy-exportable",
    "whether the key can leave the device is as the policy allows",
    SOURCE,
);
const WEAKNESS: Rule = Rule::documented(
    "policy-weaknesses",
    "no disqualifying weakness concerns the key",
    SOURCE,
);
const SIGN_ONLY: Rule = Rule::documented(
    "policy-sign-only",
    "the key can sign and do nothing else",
    SOURCE,
);
const SERIAL: Rule = Rule::documented("policy-serial", "the device is one of those named", SOURCE);
const FORMAT: Rule = Rule::documented(
    "policy-formats",
    "the evidence is of a format the policy takes",
    SOURCE,
);
const FIPS: Rule = Rule::documented(
    "policy-certified-level",
    "the module is certified at the level demanded, or higher",
    SOURCE,
);
const METHOD: Rule = Rule::documented(
    "policy-method",
    "the CSBR §6.2.7.4.2 method demanded is supported",
    SOURCE,
);
const VENDOR: Rule = Rule::documented(
    "policy-vendors",
    "the device is of a maker the policy takes",
    SOURCE,
);
const MAX_AGE: Rule = Rule::documented(
    "policy-max-age",
    "the evidence is not older than the policy allows: by the time it carries, else by the nonce of this \
     question",
    SOURCE,
);
const FRESH: Rule = Rule::documented(
    "policy-fresh",
    "the evidence was made for this question, by its nonce",
    SOURCE,
);

/// How far ahead of ours a device's clock may be, in seconds.
const CLOCK_SKEW_S: u64 = 300;
/// What a CA demands. As a file: this structure in JSON or TOML, every member but `version` and
/// `name` optional.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Policy {
    /// 1.
    pub version: u8,
    /// Its name, for the result.
    pub name: String,
    /// Whether the key must have been generated in the device.
    #[serde(default = "yes")]
    pub generated_in_device: bool,
    /// What may be true of export: by default `never` and `recoverable`.
    #[serde(default = "kept")]
    pub exportable: Vec<Exportable>,
    /// Whether the key may do nothing but sign.
    #[serde(default)]
    pub sign_only: bool,
    /// Serial numbers taken; empty takes any.
    #[serde(default)]
    pub serial: Vec<String>,
    /// Formats taken, by their stable names; empty takes any.
    #[serde(default)]
    pub formats: Vec<String>,
    /// Makers taken, as results name them; empty takes any.
    #[serde(default)]
    pub vendors: Vec<String>,
    /// Certified levels demanded, for example `140-2:2`; one of them is enough.
    #[serde(default)]
    pub certified: Vec<Level>,
    /// CSBR §6.2.7.4.2 methods demanded; each must be supported.
    #[serde(default)]
    pub methods: Vec<u8>,
    /// Whether a nonce must have been checked.
    #[serde(default)]
    pub fresh: bool,
    /// How old evidence may be, in seconds, by the time it carries. Evidence without a time is young
    /// enough only if it carries the nonce of this question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age_s: Option<u64>,
    /// Weaknesses that refuse beyond the disqualifying ones, by id.
    #[serde(default)]
    pub refuse_weaknesses: Vec<String>,
    /// What was demanded on top, each by itself ([`Policy::require`]).
    #[serde(skip)]
    pub required: Vec<Requirement>,
}

fn yes() -> bool {
    true
}

fn kept() -> Vec<Exportable> {
    vec![Exportable::Never, Exportable::Recoverable]
}

impl Default for Policy {
    fn default() -> Self {
        Self::origin()
    }
}

impl Policy {
    /// Genuine, generated in the device, not exportable, bound, no disqualifying weakness.
    #[must_use]
    pub fn origin() -> Self {
        Self {
            version: 1,
            name: "origin".to_owned(),
            generated_in_device: true,
            exportable: kept(),
            sign_only: false,
            serial: Vec::new(),
            formats: Vec::new(),
            vendors: Vec::new(),
            certified: Vec::new(),
            methods: Vec::new(),
            fresh: false,
            max_age_s: None,
            refuse_weaknesses: Vec::new(),
            required: Vec::new(),
        }
    }

    /// From JSON.
    ///
    /// # Errors
    /// [`PolicyError`] that names the member.
    pub fn from_json(text: &str) -> Result<Self, PolicyError> {
        let policy: Self =
            serde_json::from_str(text).map_err(|e| PolicyError::Malformed(e.to_string()))?;
        policy.checked()
    }

    /// A policy that was read from some other notation, checked.
    ///
    /// # Errors
    /// [`PolicyError`] for another version, or a method that does not exist.
    pub fn checked(self) -> Result<Self, PolicyError> {
        if self.version != 1 {
            return Err(PolicyError::Version(self.version));
        }
        if let Some(n) = self.methods.iter().find(|n| !(1..=7).contains(*n)) {
            return Err(PolicyError::Malformed(format!("there is no method {n}")));
        }
        if self
            .max_age_s
            .is_some_and(|s| !(1..=LONGEST_AGE_S).contains(&s))
        {
            let text = format!("max-age-s must be 1 to {LONGEST_AGE_S}");
            return Err(PolicyError::Malformed(text));
        }
        if self.exportable.is_empty() || self.exportable.contains(&Exportable::Unknown) {
            let text = "exportable must list what is allowed, and cannot list unknown";
            return Err(PolicyError::Malformed(text.to_owned()));
        }
        Ok(self)
    }

    /// Tightened by one requirement.
    #[must_use]
    pub fn require(mut self, requirement: Requirement) -> Self {
        match requirement {
            Requirement::SignOnly => self.sign_only = true,
            Requirement::NotRecoverable => {
                self.exportable.retain(|e| *e == Exportable::Never);
            }
            Requirement::Fresh => self.fresh = true,
            // The shorter of two ages.
            Requirement::MaxAge(s) => {
                self.max_age_s = Some(self.max_age_s.map_or(s, |had| had.min(s)));
            }
            Requirement::Method(n) if self.methods.contains(&n) => {}
            Requirement::Method(n) => self.methods.push(n),
            // A list means "one of these": a further demand stands beside it, it does not widen it.
            one => self.required.push(one),
        }
        self
    }

    fn serials(&self) -> Vec<Vec<String>> {
        lists(&self.serial, &self.required, |r| match r {
            Requirement::Serial(s) => Some(s.clone()),
            _ => None,
        })
    }

    fn format_lists(&self) -> Vec<Vec<String>> {
        lists(&self.formats, &self.required, |r| match r {
            Requirement::Format(f) => Some(f.clone()),
            _ => None,
        })
    }

    fn vendor_lists(&self) -> Vec<Vec<String>> {
        lists(&self.vendors, &self.required, |r| match r {
            Requirement::Vendor(v) => Some(v.clone()),
            _ => None,
        })
    }

    fn levels(&self) -> Vec<Vec<Level>> {
        lists(&self.certified, &self.required, |r| match r {
            Requirement::Certified(l) => Some(l.clone()),
            _ => None,
        })
    }

    pub(crate) fn applied(&self) -> PolicyApplied {
        let list = |items: &[String]| items.join(" or ");
        let mut demands = vec!["genuine".to_owned(), "bound to the key".to_owned()];
        if self.generated_in_device {
            demands.push("generated in the device".to_owned());
        }
        let allowed: Vec<_> = self
            .exportable
            .iter()
            .map(|e| word(*e).to_owned())
            .collect();
        demands.push(format!("exportable: {}", list(&allowed)));
        demands.push("no disqualifying weakness".to_owned());
        if self.sign_only {
            demands.push("sign-only".to_owned());
        }
        demands.extend(self.serials().iter().map(|l| format!("serial={}", list(l))));
        demands.extend(
            self.format_lists()
                .iter()
                .map(|l| format!("format={}", list(l))),
        );
        demands.extend(
            self.vendor_lists()
                .iter()
                .map(|l| format!("vendor={}", list(l))),
        );
        demands.extend(self.levels().iter().map(|l| {
            let levels: Vec<_> = l.iter().map(|l| l.0.to_string()).collect();
            format!("fips={}", list(&levels))
        }));
        demands.extend(self.methods.iter().map(|n| format!("method={n}")));
        if self.fresh {
            demands.push("fresh".to_owned());
        }
        demands.extend(self.max_age_s.map(|s| format!("max-age={}", age(s))));
        if !self.refuse_weaknesses.is_empty() {
            demands.push(format!("not {}", self.refuse_weaknesses.join(", not ")));
        }
        PolicyApplied {
            name: self.name.clone(),
            demands,
        }
    }

    /// The policy's own checks on what was found, at this moment.
    pub(crate) fn judge(&self, found: &Devices, supports: &[u8], at: UnixSeconds) -> Vec<Check> {
        let facts = &found.facts;
        let mut out = vec![known(&GENUINE, facts.genuine)];
        if self.generated_in_device {
            out.push(known(&GENERATED, facts.generated_in_device));
        }
        let allowed: Vec<_> = self.exportable.iter().map(|e| word(*e)).collect();
        let seen = format!(
            "{}; allowed: {}",
            word(facts.exportable),
            allowed.join(", ")
        );
        out.push(match facts.exportable {
            Exportable::Unknown => EXPORTABLE.outcome(Outcome::Unknown, seen),
            e => EXPORTABLE.check(self.exportable.contains(&e), seen),
        });
        out.push(self.weaknesses(found));
        if self.sign_only {
            out.push(known(&SIGN_ONLY, facts.sign_only));
        }
        for wanted in self.serials() {
            let words = wanted.join(" or ");
            out.push(match &facts.serial {
                None => SERIAL.outcome(Outcome::Unknown, format!("not known; wanted: {words}")),
                Some(s) => SERIAL.check(
                    wanted.contains(&s.value),
                    format!("{}; wanted: {words}", s.value),
                ),
            });
        }
        for taken in self.format_lists() {
            out.push(if found.formats.is_empty() {
                FORMAT.outcome(Outcome::Unknown, "none was recognised")
            } else {
                let all = found.formats.iter().all(|f| taken.contains(f));
                FORMAT.check(all, found.formats.join(", "))
            });
        }
        for taken in self.vendor_lists() {
            let words = taken.join(" or ");
            out.push(match &facts.vendor {
                None => VENDOR.outcome(Outcome::Unknown, format!("not known; wanted: {words}")),
                Some(v) => VENDOR.check(taken.contains(v), format!("{v}; wanted: {words}")),
            });
        }
        for wanted in self.levels() {
            out.push(certified(&wanted, found));
        }
        for n in &self.methods {
            let held = supports.contains(n);
            out.push(METHOD.outcome(
                if held {
                    Outcome::Pass
                } else {
                    Outcome::Unknown
                },
                if held {
                    format!("method {n} is supported")
                } else {
                    format!("method {n} is not shown: {}", why_not(*n, found))
                },
            ));
        }
        if let Some(most) = self.max_age_s {
            out.push(max_age(found, most, at));
        }
        if self.fresh {
            let fresh = is_fresh(found);
            out.push(FRESH.outcome(
                if fresh {
                    Outcome::Pass
                } else {
                    Outcome::Unknown
                },
                if fresh { "checked" } else { "not checked" },
            ));
        }
        out
    }

    fn weaknesses(&self, found: &Devices) -> Check {
        let refusing: Vec<_> = found
            .weaknesses
            .iter()
            .filter(|w| {
                w.known.as_ref().is_some_and(|k| {
                    k.concerns_this_key
                        && (k.disqualifying || self.refuse_weaknesses.contains(&k.id))
                })
            })
            .map(|w| w.text.as_str())
            .collect();
        if refusing.is_empty() {
            WEAKNESS.check(true, format!("none; {} reported", found.weaknesses.len()))
        } else {
            WEAKNESS.check(false, refusing.join("; "))
        }
    }
}

/// Whether all evidence carries the nonce that was given.
fn is_fresh(found: &Devices) -> bool {
    let checks = || {
        let all = found.checks.iter();
        all.filter(|c| c.name == super::format::FRESHNESS)
    };
    checks().next().is_some() && checks().all(|c| c.outcome == Outcome::Pass)
}

/// Says what is known of the age: a time the evidence carries, or a nonce of this very question.
fn max_age(found: &Devices, most: u64, at: UnixSeconds) -> Check {
    let most_text = age(most);
    match found.facts.evidence_time {
        // A clock that is ahead would make any evidence young.
        Some(made) if made.since(at) > CLOCK_SKEW_S => {
            MAX_AGE.check(false, format!("made {made}, which is after now, {at}"))
        }
        Some(made) => MAX_AGE.check(
            at.since(made) <= most,
            format!("made {made}, now {at}; allowed: {most_text}"),
        ),
        None if is_fresh(found) => MAX_AGE.check(
            true,
            "it carries no time; its nonce is the one of this question",
        ),
        None => MAX_AGE.outcome(
            Outcome::Unknown,
            format!(
                "it carries no proved time, and no nonce of this question; allowed: {most_text}"
            ),
        ),
    }
}

/// A list of a policy, and each single demand beside it.
fn lists<T: Clone>(
    list: &[T],
    required: &[Requirement],
    pick: impl Fn(&Requirement) -> Option<T>,
) -> Vec<Vec<T>> {
    let own = (!list.is_empty()).then(|| list.to_vec());
    own.into_iter()
        .chain(required.iter().filter_map(pick).map(|one| vec![one]))
        .collect()
}

fn certified(wanted: &[Level], found: &Devices) -> Check {
    let Some(c) = &found.facts.certification else {
        return FIPS.outcome(Outcome::Unknown, "no certification is known");
    };
    let seen = format!("{}, {} ({})", c.scheme, c.status, c.source);
    match &c.level {
        None => FIPS.outcome(Outcome::Unknown, seen),
        Some(level) => {
            let enough = |l: &Level| l.0.standard == level.standard && level.level >= l.0.level;
            FIPS.check(wanted.iter().any(enough), seen)
        }
    }
}

fn why_not(method: u8, found: &Devices) -> &'static str {
    match method {
        2 if found.facts.certification.is_none() => {
            "the module's certification is not known (the level is in neither evidence nor table)"
        }
        2 => "it needs a certificate by its number, and every check to hold",
        7 => "it needs a service statement under a pinned key",
        _ => "no evidence speaks of it",
    }
}

fn known(rule: &Rule, fact: Known) -> Check {
    match fact {
        Known::Yes => rule.check(true, "yes"),
        Known::No => rule.check(false, "no"),
        Known::Unknown => rule.outcome(Outcome::Unknown, "not proved"),
    }
}

pub(super) const fn word(e: Exportable) -> &'static str {
    match e {
        Exportable::Never => "never",
        Exportable::Wrapped => "wrapped",
        Exportable::Recoverable => "recoverable",
        Exportable::Plain => "plain",
        Exportable::Unknown => "unknown",
    }
}
