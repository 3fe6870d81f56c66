//! What the fuzz targets do, apart from libFuzzer.

pub mod attestation;
pub mod targets;
