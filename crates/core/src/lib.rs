//! The words everybody in Countersign uses, and the ports between service and edges.
//!
//! Nothing here does I/O. The nouns are those of the field (tenant, signer, key, evidence,
//! checkpoint, receipt); the traits in [`ports`] say in words what is durable when a call returns.
#![forbid(unsafe_code)]

pub mod address;
pub mod algorithms;
pub mod digest;
pub mod facts;
pub mod failpoint;
pub mod ids;
pub mod key_state;
pub mod measure;
pub mod names;
pub mod ports;
pub mod text;
pub mod time;
pub mod trace;

pub use algorithms::{HashAlgorithm, KeyAlgorithm, SignatureScheme};
pub use digest::Digest;
pub use facts::{IsolationClass, KeyFacts};
pub use ids::{GrantId, KeyId, LogId, NodeId, OrderId, RequestId, TenantId};
pub use key_state::{KeyEvent, KeyState};
pub use names::{SignerLabel, SignerName, TenantName};
pub use time::{Clock, Micros, SystemClock};
