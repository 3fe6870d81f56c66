//! The gate, with tokens that say they are hardware and evidence as vendors' devices write it, under
//! test roots that the operator trusts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod ca;
mod device;
mod gate;
mod scene;
mod token;
