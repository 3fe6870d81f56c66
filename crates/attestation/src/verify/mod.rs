//! Any vendor's key attestation, appraised offline for one key.
//!
//! Files are unpacked into a pool of parts ([`parts`]), each format finds its evidence in it
//! ([`Format`]), and every find is appraised for the key in question. What is recognised and fails
//! or disagrees stands in the way of acceptance; what is not used is listed. Facts meet a
//! [`policy::Policy`], and the checks together give the verdict.

pub mod armour;
pub mod cbor;
pub mod csr;
mod devices;
pub mod format;
mod inspect;
pub mod parts;
pub mod policy;
mod question;
pub mod requirement;
mod unpack;

pub use format::{Binding, Context, Evidence, Findings, Format};
pub use inspect::{Inspection, Said, inspect};
pub use parts::{Content, File, Part, PartId, Pool};
pub use policy::Policy;
pub use question::{Question, SubjectFile, verify};
pub use requirement::{Level, PolicyError, Requirement};

pub(crate) use devices::{Devices, appraise_devices};
pub(crate) use question::{device_methods, freshness};
pub(crate) use unpack::gunzip;

#[cfg(test)]
mod tests;
