//! End-to-end tests. One file per behaviour or fault.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod architecture;
mod attacks;
mod attestations;
mod backup;
mod batches;
mod content;
mod contract;
mod crash;
mod docs;
mod doctor;
mod enrolment;
mod idempotency;
mod keys;
mod limits;
mod logs;
mod modules;
mod neighbours;
mod nodes;
mod on_postgres;
mod packaging;
mod restore;
mod revocation;
mod signing;
mod support;
mod telemetry;
mod tokens;
mod torn;
mod torture;
mod trouble;
