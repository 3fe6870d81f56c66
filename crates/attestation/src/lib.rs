//! Evidence about a key, appraised into an attestation result with reasons.
//!
//! Three parties meet here. The **service** states to one CA what it knows of one key
//! ([`statement`]) and puts that into the certificate request ([`bundle`]). A **CA** appraises
//! request, statement and device evidence offline ([`mod@request`]) and gets separate facts,
//! each with the rule it rests on ([`result`]). The service appraises its own software keys
//! ([`software`]), which have no evidence and get no proved fact. **Vendors' formats** plug in behind one trait
//! ([`mod@format`]).
//!
//! The crate is pure: no files, no network, no clock, no default trust. Whoever appraises hands in
//! the time and the keys it pins, so a CA or an auditor can use it without the service.
#![forbid(unsafe_code)]

pub mod bundle;
pub mod format;
mod key_checks;
pub mod oid;
pub mod request;
pub mod result;
pub mod software;
pub mod statement;
#[cfg(test)]
mod testkit;
pub mod time;

pub use bundle::{Attestation, AttestationBundle, BundleError, ID_AA_ATTESTATION};
pub use format::{Evidence, EvidenceFormat};
pub use oid::Oid;
pub use request::{CaPolicy, ExpectedOrder, RequestContext, Submission, appraise_request};
pub use result::{AttestationResult, Check, Known, Outcome, Verdict};
pub use software::{SoftwareKey, appraise_software};
pub use statement::{ServiceStatement, StatementError, StatementKey, StatementTbs};
pub use time::UnixSeconds;
