//! Certificates, certificate requests, CMS and timestamps: build, parse, check.
//!
//! This is the room where bytes of the X.509 family become facts. It holds no private key, reads no
//! file, opens no socket and owns no clock: whoever calls passes the time in. The server, the CA
//! connectors, a CA that checks our statements and the command line all use the same code.
//!
//! | module | what it is for |
//! | --- | --- |
//! | [`key`] | a subscriber's public key, its canonical `SubjectPublicKeyInfo`, signature checks |
//! | [`verify`] | signatures of CA and TSA keys, which may be larger or older than ours |
//! | [`weak`] | the key checks before any certificate request (CSBR §6.1.1.3) |
//! | [`name`] | distinguished names: the subject of a request, names as text |
//! | [`csr`] | PKCS#10 requests, signed elsewhere |
//! | [`cert`] | reading a certificate |
//! | [`crl`] | revocation lists: read, judge, and the bytes of one to be signed elsewhere |
//! | [`build`] | the bytes of a certificate to be signed elsewhere (test and demo CAs) |
//! | [`chain`] | path validation to given roots |
//! | [`profile`] | is this certificate what we ordered? (CSBR §7.1.2) |
//! | [`cms`] | `SignedData`: signed attributes, assembly, verification |
//! | [`tsp`] | RFC 3161 timestamps |
//! | [`asn1`], [`pem`] | strict DER cursor and writer; PEM armour |
//!
//! # Why structures are read by hand here
//!
//! A signature covers bytes, not values. A decoder that fills a struct and encodes it again may
//! repair what it read (`der`'s `SetOfVec` sorts on decoding), and then a check speaks of other
//! bytes than those that were signed. So every structure whose bytes matter is walked with
//! [`asn1::Cursor`], which hands out slices of the original input; tags and lengths are decoded by
//! the `der` crate in its strict mode. Values nobody signs separately (names, extensions) use the
//! types of `x509-cert`.
#![forbid(unsafe_code)]

pub mod asn1;
pub mod build;
pub mod cert;
pub mod chain;
pub mod cms;
pub mod crl;
pub mod csr;
pub mod hash;
pub mod key;
pub mod name;
pub mod oid;
pub mod pem;
pub mod profile;
pub mod tsp;
pub mod verify;
pub mod weak;

mod error;
mod time;

pub use asn1::ObjectIdentifier;
pub use cert::Certificate;
pub use chain::{ChainError, Purpose, VerifiedChain, verify_chain};
pub use csr::{CsrBuilder, CsrToBeSigned, ParsedCsr};
pub use error::Error;
pub use key::{PublicKey, SignatureInvalid};
pub use name::Subject;

#[cfg(test)]
mod testutil;
