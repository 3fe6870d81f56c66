//! Everything around Countersign that a test or the demo needs and that is not Countersign: an
//! OpenID Connect issuer that plays people and CI platforms, a timestamp authority on
//! `openssl ts`, a PostgreSQL and a software TPM of the test's own, callers in numbers for `make bench`, and helpers to start programs and wait until
//! they are ready.
//!
//! Nothing here belongs in production. The issuer signs whatever it is asked to sign, bad tokens
//! included: that is its purpose.
//!
//! ```no_run
//! use countersign_testkit::issuer::{Issuer, ServeOptions, TokenSpec};
//!
//! let dir = countersign_testkit::tempdir()?;
//! let issuer = Issuer::start(dir.path(), "127.0.0.1:0", ServeOptions::default())?;
//! let token = issuer.mint(&TokenSpec::new("job-7", "https://sign.example").claim("ref", "main"))?;
//! println!("{} trusts {}", issuer.url(), issuer.ca_file().display());
//! # Ok::<(), countersign_testkit::Error>(())
//! ```
#![forbid(unsafe_code)]

pub mod error;
pub mod issuer;
pub mod load;
pub mod postgres;
pub mod programs;
pub mod softhsm;
pub mod tls;
pub mod tpm;
pub mod tsa;

pub use error::{Error, Result};
pub use tempfile::TempDir;

/// A directory that goes when it is dropped.
///
/// # Errors
/// [`Error::Io`] if none can be made.
pub fn tempdir() -> Result<TempDir> {
    tempfile::Builder::new()
        .prefix("countersign-")
        .tempdir()
        .map_err(error::at("temporary directory"))
}
