//! TPM 2.0 key attestation (TPM 2.0 Library, Parts 1 to 3; WebAuthn §8.3; TCG OID registry).
//!
//! `TPM2_Certify` makes a `TPMS_ATTEST` over the Name of a key, signed by an attestation key (AK)
//! that signs nothing else the TPM did not make itself. The Name is a hash of the key's public
//! area, which holds the attributes that say whether the key was made in the TPM and whether it
//! can leave. That the AK is in a genuine TPM is the word of whoever certified it (an AK CA, for
//! Windows Microsoft); the proof behind that word, `TPM2_ActivateCredential` against the
//! endorsement key, is interactive and cannot be shown to a third party.
//!
//! Parsing ([`attest`], [`public`], [`signature`], [`creation`], [`webauthn`]) is bytes to values,
//! strict, without judgement; `appraise` is values to checks and facts. A CA that holds that
//! conversation itself has the two halves it needs in [`identity`] and [`credential`]; [`certified`] takes a statement out of a request
//! again.

pub mod ak;
mod appraise;
pub mod attest;
pub mod certified;
mod container;
pub mod creation;
pub mod credential;
pub mod identity;
pub mod public;
mod rules;
mod says;
pub mod signature;
mod signed;
mod signer;
mod weakness;
pub mod webauthn;
mod wire;

use crate::signature::Hash;
use crate::verify::{Content, Context, Evidence, Findings, Format, Pool};
pub use container::TCG_ATTEST_TPM_CERTIFY;

/// The stable name of the format.
pub(crate) const ID: &str = "tpm2";

/// The format.
#[derive(Debug, Clone, Copy)]
pub struct Tpm2;

impl Format for Tpm2 {
    fn id(&self) -> &'static str {
        ID
    }

    fn title(&self) -> &'static str {
        "TPM 2.0 key attestation"
    }

    fn claim(&self, pool: &Pool) -> Vec<Evidence> {
        let contained = container::contained(pool);
        let is_copy =
            |bytes: &[u8]| attest::Attest::parse(bytes).is_ok_and(|a| contained.contains(&a.bytes));
        pool.parts()
            .filter(|(_, p)| container::is_evidence(p))
            .filter(|(_, p)| !matches!(p.content, Content::Binary) || !is_copy(&p.bytes))
            .map(|(id, _)| Evidence { parts: vec![id] })
            .collect()
    }

    fn appraise(&self, evidence: &Evidence, cx: &Context<'_>) -> Findings {
        match evidence.parts.first() {
            Some(id) => appraise::appraise(*id, cx),
            None => Findings::default(),
        }
    }

    fn says(&self, evidence: &Evidence, pool: &Pool) -> Vec<(String, String)> {
        let part = evidence.parts.first().and_then(|id| pool.get(*id));
        part.map_or_else(Vec::new, says::says)
    }
}

/// Bytes that are not the TPM structure they should be. The same bytes fail again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Tpm2Error {
    /// The bytes end within a field.
    #[error("TPM structure ends within {0}")]
    Truncated(&'static str),
    /// Bytes follow where the structure ends.
    #[error("{bytes} bytes follow {what}")]
    Trailing {
        /// The structure.
        what: &'static str,
        /// How many.
        bytes: usize,
    },
    /// A size out of bounds.
    #[error("{what} has {size} bytes, more than any TPM makes")]
    TooLarge {
        /// The field.
        what: &'static str,
        /// Its size.
        size: usize,
    },
    /// A value that the field cannot have, or that is not known here.
    #[error("{what}: value 0x{value:x} is not one that is known")]
    Value {
        /// The field.
        what: &'static str,
        /// The value.
        value: u64,
    },
    /// Not a WebAuthn object of the `tpm` format.
    #[error("WebAuthn attestation object: {0}")]
    WebAuthn(&'static str),
}

/// A hash algorithm from its TPM number (TCG Algorithm Registry §6).
pub(crate) const fn hash_from_id(id: u16, what: &'static str) -> Result<Hash, Tpm2Error> {
    match id {
        0x0004 => Ok(Hash::Sha1),
        0x000b => Ok(Hash::Sha256),
        0x000c => Ok(Hash::Sha384),
        0x000d => Ok(Hash::Sha512),
        other => Err(Tpm2Error::Value {
            what,
            value: other as u64,
        }),
    }
}

/// Its TPM number.
pub(crate) const fn hash_id(hash: Hash) -> u16 {
    match hash {
        Hash::Sha1 => 0x0004,
        Hash::Sha256 => 0x000b,
        Hash::Sha384 => 0x000c,
        Hash::Sha512 => 0x000d,
    }
}

#[cfg(test)]
mod tests;
