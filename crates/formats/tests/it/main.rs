//! The file formats as a stranger sees them: through the public API, with openssl and osslsigncode as
//! judges, on small built executables and on real ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod appending;
mod detached;
mod embedding;
mod hostile_files;
mod judge;
mod properties;
mod replacing_files;
mod seeds;
mod signing;
mod third_party;
mod timestamps;
mod tiny_pe;

use countersign_core::HashAlgorithm;

const SHA256: HashAlgorithm = HashAlgorithm::Sha256;
