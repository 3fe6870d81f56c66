//! The promises of the storage ports, tested from outside.
//!
//! `conformance`, `neighbours` and `scale` are written against the traits alone and run on each
//! database; the other files are about faults of the database they name.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod conformance;
mod conformance_devices;
mod conformance_status;
mod crash;
mod databases;
mod model;
mod neighbours;
mod postgres;
mod postgres_schema;
mod scale;
