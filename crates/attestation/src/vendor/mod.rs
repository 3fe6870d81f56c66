//! The formats, one module each: a strict reader (bytes to types, no judgement) apart from the
//! rules (types to checks and facts).

pub mod marvell;
pub mod pkix;
pub mod securosys;
pub mod statement;
pub mod tpm2;
pub mod yubihsm2;

use crate::verify::Format;

/// Every format of device evidence. A new format adds itself here.
pub const FORMATS: &[&dyn Format] = &[
    &yubihsm2::YubiHsm2,
    &marvell::Marvell,
    &securosys::Securosys,
    &tpm2::Tpm2,
    &pkix::Pkix,
];

/// Every format, our own service statement among them.
pub(crate) fn all() -> Vec<&'static dyn Format> {
    let mut out: Vec<&'static dyn Format> = FORMATS.to_vec();
    out.push(&statement::Statement);
    out
}
