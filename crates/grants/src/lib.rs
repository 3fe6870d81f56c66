//! May this caller use this signer for this, now?
//!
//! A tenant writes [`Grant`]s: *tokens of this issuer whose claims are exactly these may use this
//! signer for these content types*. [`decide`] answers a signing request from them: default deny,
//! and always with reasons, claim by claim, so that a person who was refused can see which claim
//! differed ([`explain`] gives the same answer for a request that is not complete yet).
//!
//! Three rules keep a grant from meaning more than its author thought:
//!
//! 1. **Immutable ids.** A repository's or project's *name* can be given to somebody else; its
//!    number cannot. [`Grant::validate`] refuses a grant that holds on to names alone, and knows
//!    for each CI platform ([`Platform`]) which claims are ids.
//! 2. **Exact values.** No patterns, no substrings, no parsing of `sub` (GitHub changed its form in
//!    2026 and lets every organisation change it again).
//! 3. **Guards.** Pull requests, merge requests and SSH re-runs execute code nobody has reviewed:
//!    a token that says it is one of those is refused unless the grant names the very event.
//!
//! ```
//! use countersign_core::{HashAlgorithm, Micros};
//! use countersign_grants::{Grant, GrantRequest, decide};
//!
//! let grant: Grant = serde_json::from_value(serde_json::json!({
//!     "id": "01900000-0000-7000-8000-000000000001",
//!     "signer": "release",
//!     "issuer": "https://token.actions.githubusercontent.com",
//!     "claims": {"repository_id": "4711", "environment": "release"},
//!     "content_types": ["authenticode"],
//!     "digest_algorithms": ["sha-256"],
//! }))?;
//! grant.validate()?;
//! let claims = serde_json::json!({
//!     "repository_id": "4711", "environment": "release", "event_name": "push",
//! });
//! let signer = "release".parse()?;
//! let decision = decide(&[grant], &GrantRequest {
//!     issuer: "https://token.actions.githubusercontent.com",
//!     claims: claims.as_object().ok_or("an object")?,
//!     signer: &signer,
//!     content_type: "authenticode",
//!     digest_algorithm: HashAlgorithm::Sha256,
//!     now: Micros::from_seconds(1_790_000_000),
//! });
//! assert!(decision.allowed);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod decision;
mod grant;
mod platform;

#[cfg(test)]
mod tests;

pub use decision::{
    ClaimStep, Decision, ExplainRequest, GrantReason, GrantRequest, StepOutcome, decide, explain,
};
pub use grant::{
    AUTHENTICODE, CMS, CONTENT_TYPES, Grant, GrantError, GrantWarning, MAX_CLAIMS, RAW_DIGEST,
};
pub use platform::Platform;
