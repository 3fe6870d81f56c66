//! Evidence about a key, appraised into an attestation result with reasons.
//!
//! Three parties meet here. The **service** states to one CA what it knows of one key
//! ([`statement`]) and puts that into the certificate request ([`bundle`]). A **CA** appraises
//! request, statement and device evidence offline ([`mod@request`]), or any vendor's evidence for any
//! key ([`mod@verify`]), and gets separate facts,
//! each with the rule it rests on ([`result`]), to be filed as text or a page ([`report`]). The service appraises its own software keys
//! ([`software`]), which have no evidence and get no proved fact. **Vendors' formats** plug in behind one trait
//! ([`verify::Format`]).
//!
//! # Ten lines for a CA's engineer
//!
//! ```
//! use countersign_attestation::{Anchors, File, Policy, Question, SubjectFile, UnixSeconds, Verdict, verify};
//!
//! // The caller reads files and the clock; the crate does neither.
//! fn may_issue(csr: &[u8], evidence: &[(&str, &[u8])], now: UnixSeconds) -> Result<(), Vec<String>> {
//!     let evidence: Vec<File<'_>> = evidence.iter().map(|(name, bytes)| File { name, bytes }).collect();
//!     let policy = Policy::origin().require("sign-only".parse().map_err(|_| vec![])?);
//!     let result = verify(&Question {
//!         subject: SubjectFile::Csr(File { name: "request.csr", bytes: csr }),
//!         evidence: &evidence,
//!         at: now,
//!         nonce: None,
//!         policy: &policy,
//!         anchors: &Anchors::pinned(),
//!     });
//!     // File serde_json::to_string(&result) with the order: every check, its rule, every input's hash.
//!     match result.verdict {
//!         Verdict::Accept => Ok(()),
//!         _ => Err(result.reasons().map(|c| format!("{}: {}", c.name, c.seen)).collect()),
//!     }
//! }
//!
//! let refused = may_issue(b"no request", &[], UnixSeconds::new(1_795_305_600).unwrap()).unwrap_err();
//! assert!(refused[0].starts_with("subject-well-formed"), "{refused:?}");
//! ```
//!
//! The crate is pure: no files, no network, no clock. Whoever appraises hands in
//! the time and whom to trust, so a CA or an auditor can use it without the service.
#![forbid(unsafe_code)]

pub mod anchors;
pub mod bundle;
pub mod certificate;
pub mod certifications;
pub mod chain;
pub mod der;
mod dsa;
pub mod hardware;
pub mod hss;
pub mod key;
mod key_checks;
pub mod name;
pub mod oid;
pub mod register;
pub mod report;
pub mod request;
pub mod result;
pub mod signature;
pub mod software;
pub mod statement;
#[cfg(test)]
mod testkit;
pub mod time;
pub mod vendor;
pub mod verify;

pub use anchors::Anchors;
pub use bundle::{Attestation, AttestationBundle, BundleError, ID_AA_ATTESTATION};
pub use hardware::appraise_hardware;
pub use oid::Oid;
pub use request::{
    AcceptedMethods, AttestationKey, CaPolicy, ExpectedOrder, RequestContext, Submission,
    appraise_request,
};
pub use result::{AttestationResult, Check, Known, Outcome, Verdict};
pub use software::{SoftwareKey, appraise_software, appraise_software_with_evidence};
pub use statement::{ServiceStatement, StatementError, StatementKey, StatementTbs};
pub use time::UnixSeconds;
pub use verify::{File, Format, Policy, Question, SubjectFile, verify};
