//! The program itself: started, asked over TLS, stopped. No token is made here, so neither SoftHSM
//! nor the worker program is needed; the whole signing path is tested from the workspace's `tests`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod deployment;
mod http;
mod process;
mod tokens;
