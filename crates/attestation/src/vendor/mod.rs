//! The formats, one module each: a strict reader (bytes to types, no judgement) apart from the
//! rules (types to checks and facts).

pub mod crypto4a;
pub mod fortanix;
pub mod marvell;
pub mod nshield;
pub mod pkix;
pub mod securosys;
pub mod statement;
pub mod thales_luna;
pub mod tpm2;
pub mod yubihsm2;
pub mod yubikey_piv;

use crate::verify::Format;

/// Every format of device evidence. A new format adds itself here.
pub const FORMATS: &[&dyn Format] = &[
    &crypto4a::Crypto4A,
    &fortanix::Fortanix,
    &marvell::Marvell,
    &nshield::NShield,
    &securosys::Securosys,
    &pkix::Pkix,
    &thales_luna::ThalesLuna,
    &tpm2::Tpm2,
    &yubihsm2::YubiHsm2,
    &yubikey_piv::YubiKeyPiv,
];

/// Every format, our own service statement among them.
pub(crate) fn all() -> Vec<&'static dyn Format> {
    let mut out: Vec<&'static dyn Format> = FORMATS.to_vec();
    out.push(&statement::Statement);
    out
}
