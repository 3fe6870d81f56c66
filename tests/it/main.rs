//! End-to-end tests. One file per behaviour or fault.

mod architecture;
