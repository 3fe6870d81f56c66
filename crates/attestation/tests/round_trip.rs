//! What testkit's encoders write, the readers read: the same values, whatever they are. Reader and
//! encoder were written apart, so a value that both misunderstand alike is unlikely.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "round_trip/encodings.rs"]
mod encodings;
#[path = "round_trip/nshield.rs"]
mod nshield;
#[path = "round_trip/tpm2.rs"]
mod tpm2;
#[path = "round_trip/vendors.rs"]
mod vendors;
#[path = "round_trip/yubico.rs"]
mod yubico;
