//! End-to-end tests. One file per behaviour or fault.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod architecture;
mod docs;
mod keys;
mod logs;
mod neighbours;
mod signing;
mod support;
