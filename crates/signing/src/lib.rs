//! The service itself: the ordered signing path, key life cycle, enrolment, logs. It sees only the
//! ports of `countersign-core`: no HTTP, no SQL, no PKCS#11.
//!
//! Where to look:
//! - [`Service::sign`] — the signing path; `use_key` — the one way a key is used;
//! - `sequencer` — the one writer of all logs of this node;
//! - `keys`, `enrolment` — from birth in the token to an installed certificate;
//! - `revocation` — certificates looked up in their CAs' lists, and warned of before they end;
//! - `tenants` — tenants, issuers, members, grants;
//! - `logs` — what auditors read; `recovery` — what a crash left open;
//! - `claims` — idempotency keys met;
//! - `measures` — what is counted, and the request's trace;
//! - `history` — an old copy of the database writes nothing;
//! - `standing` — a node that stalled past its lease lets nothing out.
#![forbid(unsafe_code)]

mod actor;
mod caller;
mod caps;
mod claims;
mod denials;
mod devices;
mod enrolment;
mod error;
mod history;
mod keys;
mod logs;
mod measures;
mod recovery;
mod revocation;
mod sequencer;
mod service;
mod service_keys;
mod sign;
mod snapshot;
mod standing;
mod tenants;
mod use_key;
mod verification;

pub use caller::Caller;
pub use caps::Caps;
pub use devices::{DEVICES_PAGE, SharedDeviceView, UNDER_OTHERS};
pub use enrolment::{
    EvidenceView, ExportedRequest, MAX_EVIDENCE_BYTES, MAX_EVIDENCE_FILES, NewEvidence,
};
pub use error::SigningError;
pub use keys::KeyView;
pub use measures::{CertificateLabel, Measures, RefusalReason, current_trace, traced};
pub use recovery::Recovered;
pub use revocation::{CertificateHealth, CertificateNews, RevocationSettings};
pub use service::{Drained, Ports, Readiness, Service, ServiceKeys, Settings};
pub use service_keys::{SealingKey, ServiceSecrets, ServiceTokenKey};
pub use sign::{
    ItemResult, MAX_IDEMPOTENCY_KEY, MAX_ITEM_ID, MAX_ITEMS, SignBatch, SignItem, SignedItem,
    SignerCertificate,
};
pub use standing::MAX_SKEW;
pub use tenants::{IssuerSpec, NewTenant, PolicyChange};
pub use verification::{Asking, HandedEvidence, HandedKey};
