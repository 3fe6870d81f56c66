//! The promises of the storage ports, tested from outside.
//!
//! `conformance` is written against the traits alone and runs once per database; the other files
//! are about faults and growth of the database they name.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod conformance;
mod conformance_status;
mod crash;
mod model;
mod neighbours;
mod postgres_schema;
mod scale;
