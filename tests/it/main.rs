//! End-to-end tests. One file per behaviour or fault.

mod architecture;
mod signing;
mod support;
