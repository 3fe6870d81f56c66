//! File formats, on the client's side: hash locally, have the small bytes signed, put the signature in.
//!
//! The service never sees a file. This crate makes the bytes it does see ([`countersign_content`] says
//! which are allowed) and turns its answer into a signed file:
//!
//! ```text
//! Format::detect(file) ─► prepare(file, …) ─► Prepared { submission, … }
//!                                                 │  the client sends the submission to the service
//!                                                 ▼
//! signature, certificate chain ─► finish(prepared, signed) ─► Output { target, bytes } ─► write
//!          └─ optional RFC 3161 token over the signature ─┘
//! ```
//!
//! | format | what is hashed | where the signature goes |
//! | --- | --- | --- |
//! | [`pe`]: Windows executables (exe, dll, sys, efi) | the file without checksum, certificate entry and table | into the file |
//! | [`detached`]: anything | the whole file | `NAME.p7s` beside it |
//!
//! Files are hostile input: a bad one gives an exact error, never a panic, and stays untouched. Output
//! is written beside the target and renamed over it ([`files::atomic_replace`]), so that a crash leaves
//! the old file or the new one.
//!
//! For verifiers, [`artifact_digest_of`] gives the digest under which a file, signed or not, stands in a
//! log.

#![forbid(unsafe_code)]

pub mod detached;
mod error;
pub mod files;
pub mod pe;
mod sign;
mod signed_data;
pub mod timestamp;

pub use error::FormatError;
pub use sign::{
    Existing, Format, Options, Output, Prepared, Signed, artifact_digest_of, finish, prepare,
};
