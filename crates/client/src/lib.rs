//! The blocking client of Countersign's API: for the command line, and for anybody's own program.
//!
//! No tokio and no OpenSSL: it is meant to be loaded into other people's processes too, so TLS is
//! rustls with a provider named explicitly and nothing is installed process-wide.
//!
//! ```no_run
//! use countersign_client::{Client, Options, dto};
//!
//! let client = Client::new(&Options::new("https://sign.example"))?;
//! let token = client.exchange("eyJ…", Some(&"acme".parse()?), &["release".parse()?])?;
//! let client = client.with_token(token.access_token.into());
//! let certificate = client.signer_certificate(&"acme".parse()?, &"release".parse()?)?;
//! println!("{} certificates", certificate.certificate_chain.len());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What a caller can rely on:
//!
//! - Answers have a size cap; redirects are not followed; only https is spoken.
//! - A refusal is an [`ApiError`] with the service's stable code, reasons and request id.
//! - Retryable trouble (a 503, a lost connection) is retried with jittered pauses where that is
//!   safe: reads, and signatures, which always carry an Idempotency-Key. A signature is never
//!   asked for twice under two keys behind the caller's back.
#![forbid(unsafe_code)]

mod api;
pub mod dto;
mod error;
pub mod oidc;
mod web;

pub use api::{Client, ItemResult, MAX_ITEMS, Options};
pub use error::{ApiError, Error, Result};
pub use web::{Answer, Web};

pub use secrecy::{ExposeSecret, SecretString};
