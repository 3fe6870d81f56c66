//! The messages between `countersignd` and an `hsm-worker`.
//!
//! The worker trusts the server as little as it can, so this crate is small, does no I/O and
//! bounds everything: a frame is a big-endian `u32` length and at most [`frame::MAX_FRAME`] bytes of
//! postcard. Each side's first frame is a hello ([`message::ClientHello`], [`message::WorkerHello`]);
//! after that the client sends [`message::Request`]s and the worker answers each with one
//! [`message::Response`] of the same id, possibly out of order. What concerns one key is *checked*
//! in the order of arrival, so `Advance` and the `Sign` that needs it may be sent back to back.
//!
//! The path of one signature:
//!
//! ```text
//! Advance { checkpoint, from_size, leaf hashes,    the worker's own right edge must give the root;
//!           uses }                                  only these leaves may be used here
//! Sign { index, leaf, scheme, digest, salt }       leaf at that index? tenant, key, scheme, digest?
//!                                                  used once, then C_Sign
//! ```
#![forbid(unsafe_code)]

pub mod error;
pub mod evidence;
pub mod frame;
pub mod look;
pub mod message;
pub mod profile;

pub use error::{ErrorClass, WorkerError};
pub use evidence::EvidenceProblem;
pub use message::{
    ClientHello, Reply, Request, RequestBody, Response, TokenState, VERSION, WorkerHello,
};
