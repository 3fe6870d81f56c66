//! Writes device evidence under test roots, for tests of the attestation verifier.
//!
//! Nothing here knows the verifier: the encoders are written a second time, from the formats'
//! descriptions, so that reader and writer cannot share a misunderstanding. Each vendor has a
//! module with one structure that holds every value of its evidence; its `Default` (or `new`) is genuine, and a
//! test changes one value to see one rule refuse.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test material: whatever cannot be written is a defect of the test"
)]

pub mod cbor;
pub mod cert;
pub mod crypto4a;
pub mod der;
pub mod endorsement;
pub mod fortanix;
pub mod gzip;
pub mod hostile;
pub mod keys;
pub mod marvell;
pub mod nshield;
pub mod pkix;
pub mod securosys;
pub mod text;
pub mod thales_luna;
pub mod tpm2;
pub mod yubihsm2;
pub mod yubikey_piv;

pub use cert::{Certificate, dn};
pub use keys::{Key, Kind};
