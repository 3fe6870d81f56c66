//! One function per reader of device evidence: it must not panic, whatever the bytes, and what is
//! accepted must hold.
//!
//! `crates/attestation/tests/fuzz_corpus.rs` includes this folder: it runs the kept corpus through
//! it, and changed copies of it.

mod encodings;
mod nshield;
mod tpm2;
mod vendors;
mod whole;

pub use encodings::*;
pub use nshield::*;
pub use tpm2::*;
pub use vendors::*;
pub use whole::*;

/// A target: its name and what it does.
pub type Target = (&'static str, fn(&[u8]));

macro_rules! targets {
    ($($name:ident),* $(,)?) => {
        /// Every target here, by the name that it has in `fuzz_targets/`.
        pub const ALL: &[Target] = &[$((stringify!($name), $name)),*];
    };
}

targets![
    attestation_bundle,
    attestation_cbor,
    attestation_certificate,
    attestation_crypto4a,
    attestation_der,
    attestation_fortanix,
    attestation_hss,
    attestation_inspect,
    attestation_marvell_blob,
    attestation_marvell_wrapping,
    attestation_nshield_bundle,
    attestation_nshield_messages,
    attestation_nshield_warrant,
    attestation_pkix,
    attestation_request,
    attestation_securosys_statement,
    attestation_service_statement,
    attestation_thales_luna,
    attestation_tpm2_attest,
    attestation_tpm2_container,
    attestation_tpm2_creation,
    attestation_tpm2_public,
    attestation_tpm2_signature,
    attestation_verify,
    attestation_yubihsm2,
    attestation_yubikey_piv,
];

/// Several inputs in one: a length (two bytes, little endian) and that many bytes, again and again;
/// the last may be shorter than it says.
pub fn pieces(bytes: &[u8]) -> Vec<&[u8]> {
    let mut out = Vec::new();
    let mut rest = bytes;
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let at = usize::from(u16::from_le_bytes(*length)).min(after.len());
        let (piece, left) = after.split_at(at);
        out.push(piece);
        rest = left;
    }
    out
}

/// Whether `part` is a piece of `whole`: readers hand out the bytes they were given.
pub fn is_within(part: &[u8], whole: &[u8]) -> bool {
    part.is_empty() || whole.windows(part.len()).any(|w| w == part)
}
