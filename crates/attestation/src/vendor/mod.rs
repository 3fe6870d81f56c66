//! The formats, one module each: a strict reader (bytes to types, no judgement) apart from the
//! rules (types to checks and facts).

pub mod marvell;
pub mod securosys;
pub mod statement;
pub mod yubihsm2;

use crate::verify::Format;

/// Every format of device evidence. A new format adds itself here.
pub const FORMATS: &[&dyn Format] = &[
    &yubihsm2::YubiHsm2,
    &marvell::Marvell,
    &securosys::Securosys,
];

/// Every format, our own service statement among them.
pub(crate) fn all() -> Vec<&'static dyn Format> {
    let mut out: Vec<&'static dyn Format> = FORMATS.to_vec();
    out.push(&statement::Statement);
    out
}
