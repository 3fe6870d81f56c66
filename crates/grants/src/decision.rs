//! The decision and its reasons.

use crate::grant::Grant;
use crate::platform::{find, guard_failures, scalar_text};
use countersign_core::{GrantId, HashAlgorithm, Micros, SignerLabel};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A complete signing request, as the grants see it.
#[derive(Debug, Clone, Copy)]
pub struct GrantRequest<'a> {
    /// The verified token's `iss`.
    pub issuer: &'a str,
    /// The verified token's claims. Nothing here verifies a token.
    pub claims: &'a Map<String, Value>,
    /// Which signer.
    pub signer: &'a SignerLabel,
    /// What is to be signed (see [`crate::CONTENT_TYPES`]).
    pub content_type: &'a str,
    /// With which digest.
    pub digest_algorithm: HashAlgorithm,
    /// Now.
    pub now: Micros,
}

/// A request that need not be complete: "could this token ever use that signer?" Also what token
/// exchange asks. Never decide a signature by it.
#[derive(Debug, Clone, Copy)]
pub struct ExplainRequest<'a> {
    /// The verified token's `iss`.
    pub issuer: &'a str,
    /// The verified token's claims.
    pub claims: &'a Map<String, Value>,
    /// Which signer.
    pub signer: &'a SignerLabel,
    /// What is to be signed, if known.
    pub content_type: Option<&'a str>,
    /// With which digest, if known.
    pub digest_algorithm: Option<HashAlgorithm>,
    /// Now.
    pub now: Micros,
}

/// Whether, by which grant, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// The answer. Without a grant it is `false`.
    pub allowed: bool,
    /// The first grant that allows it.
    pub by: Option<GrantId>,
    /// One entry for each grant of this signer, in the order given.
    pub reasons: Vec<GrantReason>,
}

/// How one grant took the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantReason {
    /// Which grant.
    pub grant: GrantId,
    /// Whether this grant allows the request: every step holds.
    pub allowed: bool,
    /// Every comparison made.
    pub steps: Vec<ClaimStep>,
}

/// One comparison. Names in parentheses are not claims: `(content type)`, `(not after)` …
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimStep {
    /// What was compared.
    pub claim: String,
    /// What the grant, or a guard, wants.
    pub wanted: String,
    /// What the request has, cut to 256 characters.
    pub seen: Option<String>,
    /// The result.
    pub outcome: StepOutcome,
}

/// Result of one comparison. Only [`StepOutcome::Holds`] lets a request pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepOutcome {
    /// As wanted.
    Holds,
    /// Another value.
    Differs,
    /// The same letters in another case: refused, but worth saying.
    DiffersInCase,
    /// The token has no such claim.
    Absent,
    /// The claim is a list, an object or a fraction: nothing to compare exactly.
    NotComparable,
    /// A guard refuses this kind of token (pull request, unprotected ref …).
    Guarded,
    /// Too early or too late.
    OutsideWindow,
    /// The stored grant breaks the rules for grants and therefore allows nothing.
    InvalidGrant,
}

impl StepOutcome {
    /// Whether the step lets the request pass.
    #[must_use]
    pub const fn holds(self) -> bool {
        matches!(self, Self::Holds)
    }
}

impl Decision {
    /// The grant that came closest (fewest steps that fail): what to show a person first.
    #[must_use]
    pub fn closest(&self) -> Option<&GrantReason> {
        self.reasons
            .iter()
            .min_by_key(|r| r.steps.iter().filter(|s| !s.outcome.holds()).count())
    }
}

impl Grant {
    /// Whether the grant is for tokens of this issuer with these claims, as far as equality goes.
    /// `false` is final; `true` decides nothing ([`decide`] looks at guards, times and content).
    #[must_use]
    pub fn names(&self, issuer: &str, claims: &Map<String, Value>) -> bool {
        self.issuer == issuer
            && self
                .claims
                .iter()
                .all(|(name, wanted)| scalar_text(find(claims, name)).as_ref() == Some(wanted))
    }
}

/// Decides a signing request. Default deny; the reasons say every comparison of every grant of the
/// signer.
#[must_use]
pub fn decide(grants: &[Grant], request: &GrantRequest<'_>) -> Decision {
    run(
        grants,
        &ExplainRequest {
            issuer: request.issuer,
            claims: request.claims,
            signer: request.signer,
            content_type: Some(request.content_type),
            digest_algorithm: Some(request.digest_algorithm),
            now: request.now,
        },
    )
}

/// Explains a request that may be incomplete: what is not given is not compared. With everything
/// given it is exactly [`decide`].
#[must_use]
pub fn explain(grants: &[Grant], request: &ExplainRequest<'_>) -> Decision {
    run(grants, request)
}

fn run(grants: &[Grant], request: &ExplainRequest<'_>) -> Decision {
    let reasons: Vec<_> = grants
        .iter()
        .filter(|g| &g.signer == request.signer)
        .map(|g| reason(g, request))
        .collect();
    let by = reasons.iter().find(|r| r.allowed).map(|r| r.grant);
    Decision {
        allowed: by.is_some(),
        by,
        reasons,
    }
}

fn reason(grant: &Grant, request: &ExplainRequest<'_>) -> GrantReason {
    let mut steps = Vec::with_capacity(grant.claims.len().saturating_add(4));
    if let Err(e) = grant.validate() {
        steps.push(step(
            "(grant)",
            e.to_string(),
            None,
            StepOutcome::InvalidGrant,
        ));
    }
    let issuer = if grant.issuer == request.issuer {
        StepOutcome::Holds
    } else {
        StepOutcome::Differs
    };
    steps.push(step(
        "iss",
        grant.issuer.clone(),
        Some(request.issuer),
        issuer,
    ));
    for (name, wanted) in &grant.claims {
        steps.push(compare(name, wanted, find(request.claims, name)));
    }
    for failure in guard_failures(request.issuer, request.claims, |c| {
        grant.claims.contains_key(c)
    }) {
        steps.push(step(
            failure.claim,
            failure.wanted,
            failure.seen.as_deref(),
            StepOutcome::Guarded,
        ));
    }
    if let Some(content) = request.content_type {
        let wanted = join(grant.content_types.iter().map(String::as_str));
        let outcome = one_of(grant.content_types.contains(content));
        steps.push(step("(content type)", wanted, Some(content), outcome));
    }
    if let Some(algorithm) = request.digest_algorithm {
        let wanted = join(grant.digest_algorithms.iter().map(|a| a.as_str()));
        let outcome = one_of(grant.digest_algorithms.contains(&algorithm));
        steps.push(step(
            "(digest algorithm)",
            wanted,
            Some(algorithm.as_str()),
            outcome,
        ));
    }
    window(grant, request.now, &mut steps);
    GrantReason {
        grant: grant.id,
        allowed: steps.iter().all(|s| s.outcome.holds()),
        steps,
    }
}

fn window(grant: &Grant, now: Micros, steps: &mut Vec<ClaimStep>) {
    let seen = now.seconds().to_string();
    let mut bound = |name: &str, at: Micros, holds: bool| {
        let outcome = if holds {
            StepOutcome::Holds
        } else {
            StepOutcome::OutsideWindow
        };
        steps.push(step(
            name,
            format!("{} (Unix time)", at.seconds()),
            Some(&seen),
            outcome,
        ));
    };
    if let Some(at) = grant.not_before {
        bound("(not before)", at, now >= at);
    }
    if let Some(at) = grant.not_after {
        bound("(not after)", at, now < at);
    }
}

fn compare(name: &str, wanted: &str, value: Option<&Value>) -> ClaimStep {
    let seen = scalar_text(value);
    let outcome = match (value, &seen) {
        (None, _) => StepOutcome::Absent,
        (Some(_), None) => StepOutcome::NotComparable,
        (Some(_), Some(s)) if s == wanted => StepOutcome::Holds,
        (Some(_), Some(s)) if s.eq_ignore_ascii_case(wanted) => StepOutcome::DiffersInCase,
        (Some(_), Some(_)) => StepOutcome::Differs,
    };
    step(name, wanted.to_owned(), seen.as_deref(), outcome)
}

const fn one_of(found: bool) -> StepOutcome {
    if found {
        StepOutcome::Holds
    } else {
        StepOutcome::Differs
    }
}

fn step(claim: &str, wanted: String, seen: Option<&str>, outcome: StepOutcome) -> ClaimStep {
    ClaimStep {
        claim: claim.to_owned(),
        wanted,
        seen: seen.map(|s| s.chars().take(256).collect()),
        outcome,
    }
}

fn join<'a>(items: impl Iterator<Item = &'a str>) -> String {
    items.collect::<Vec<_>>().join(", ")
}
