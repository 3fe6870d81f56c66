//! Evidence about a key, appraised into an attestation result with reasons.
//!
//! Three parties meet here. The **service** states to one CA what it knows of one key
//! ([`statement`]) and puts that into the certificate request ([`bundle`]). A **CA** appraises
//! request, statement and device evidence offline ([`appraise_request`]) and gets separate facts,
//! each with the rule it rests on ([`result`]). **Vendors' formats** plug in behind one trait
//! ([`mod@format`]).
//!
//! The crate is pure: no files, no network, no clock, no default trust. Whoever appraises hands in
//! the time and the keys it pins, so a CA or an auditor can use it without the service.
#![forbid(unsafe_code)]

pub mod bundle;
pub mod format;
pub mod oid;
pub mod result;
pub mod statement;
pub mod time;

pub use bundle::{Attestation, AttestationBundle, BundleError, ID_AA_ATTESTATION};
pub use format::{Evidence, EvidenceFormat};
pub use oid::Oid;
pub use result::{AttestationResult, Check, Known, Outcome, Verdict};
pub use statement::{ServiceStatement, StatementError, StatementKey, StatementTbs};
pub use time::UnixSeconds;
