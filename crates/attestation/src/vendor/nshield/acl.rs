//! The key generation certificate and the access control list within it.
//!
//! The list says who may ever do what with the key. It is read whole, and what is not known ends
//! the reading: an action nobody understands might let the key out.

use super::ncore::{KeyHash, NcoreError, Reader};

/// Generation parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    /// An RSA key of so many bits.
    Rsa {
        /// Length of the modulus.
        bits: u32,
    },
    /// A key on a curve, by nCore's number.
    Curve {
        /// The number.
        curve: u32,
    },
}

/// What the module signed when it made the key (`ModCertType_KeyGen`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyGeneration {
    /// With which parameters.
    pub generation: Generation,
    /// The access control list: permission groups, any of which suffices.
    pub acl: Vec<Group>,
    /// The hash of the key.
    pub key: KeyHash,
}

/// A permission group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// What it permits.
    pub actions: Vec<Action>,
    /// Keys that must certify each use; none: anybody may.
    pub certifiers: Vec<KeyHash>,
}

/// Something a group permits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Operations, as bits (see [`permission`]).
    Operations(u32),
    /// Writing the key as a working blob.
    MakeBlob(MakeBlob),
    /// Writing the key as an archive blob.
    MakeArchiveBlob {
        /// Encrypted to this key alone; else to any.
        to: Option<KeyHash>,
    },
    /// Deriving another key.
    Derive {
        /// By this mechanism.
        mechanism: u32,
    },
}

/// Writing a working blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MakeBlob {
    /// Flags (see [`blob`]).
    pub flags: u32,
    /// Under this module key.
    pub module_key: Option<KeyHash>,
    /// Under this token.
    pub token: Option<KeyHash>,
    /// Under a token with these flags.
    pub token_flags: Option<u32>,
}

/// Bits of [`Action::Operations`].
pub mod permission {
    /// The key may leave in the clear.
    pub const EXPORT_AS_PLAIN: u32 = 0x4;
    /// Application data may be set.
    pub const SET_APP_DATA: u32 = 0x10;
    /// The list may be widened.
    pub const EXPAND_ACL: u32 = 0x40;
    /// The key encrypts.
    pub const ENCRYPT: u32 = 0x80;
    /// The key decrypts.
    pub const DECRYPT: u32 = 0x100;
    /// The key opens other keys' blobs ("unwrap").
    pub const USE_AS_BLOB_KEY: u32 = 0x400;
    /// The key serves as a module key.
    pub const USE_AS_KM: u32 = 0x800;
    /// The key signs.
    pub const SIGN: u32 = 0x1000;
    /// The key loads code into the module.
    pub const USE_AS_LOADER_KEY: u32 = 0x4000;
    /// Those with a name in nCore.
    pub const KNOWN: u32 = 0xffff;
}

/// Flags of [`MakeBlob`].
pub mod blob {
    /// Under a module key without a token.
    pub const ALLOW_KM_ONLY: u32 = 0x1;
    /// A module key's hash follows.
    pub const MODULE_KEY: u32 = 0x4;
    /// A token's hash follows.
    pub const TOKEN: u32 = 0x8;
    /// A token's parameters follow.
    pub const TOKEN_PARAMETERS: u32 = 0x10;
    /// The token's module key may be the null key.
    pub const ALLOW_NULL_KM_TOKEN: u32 = 0x20;
    /// A blob file follows.
    pub const FILE: u32 = 0x40;
    /// Those known; 0x2 is "also under another module key than number 0".
    pub const KNOWN: u32 = 0x7f;
}

/// `DeriveMech_PublicFromPrivate`: what comes out is the public key.
pub const DERIVE_PUBLIC_FROM_PRIVATE: u32 = 29;

/// Flags of a group, each with what follows it.
mod group {
    /// A certifier's hash follows.
    pub(super) const CERTIFIER: u32 = 0x1;
    /// Its certificates must be fresh.
    pub(super) const FRESH: u32 = 0x2;
    /// A certifier's hash and a mechanism follow.
    pub(super) const CERTIFIER_MECHANISM: u32 = 0x4;
    /// The one module's serial number follows.
    pub(super) const MODULE: u32 = 0x8;
    /// A certifier's hash with its mechanism, and a mechanism, follow.
    pub(super) const CERTIFIER_EX: u32 = 0x40;
    pub(super) const KNOWN: u32 = CERTIFIER | FRESH | CERTIFIER_MECHANISM | MODULE | CERTIFIER_EX;
}

impl KeyGeneration {
    /// Reads one and nothing after it.
    pub fn decode(bytes: &[u8]) -> Result<Self, NcoreError> {
        let mut r = Reader::new(bytes);
        match r.word()? {
            2 => r.flags("key generation", 0)?,
            other => return Err(NcoreError::MessageType(other)),
        };
        let generation = generation(&mut r)?;
        let mut acl = Vec::new();
        for _ in 0..r.count(12)? {
            acl.push(read_group(&mut r)?);
        }
        let key = r.hash()?;
        r.end()?;
        Ok(Self {
            generation,
            acl,
            key,
        })
    }
}

fn generation(r: &mut Reader<'_>) -> Result<Generation, NcoreError> {
    match r.word()? {
        // RSAPrivate: flags 1 a given exponent, 2 a number of primality tests, 4 strong primes.
        2 => {
            let flags = r.flags("RSA generation", 0x7)?;
            let bits = r.word()?;
            if flags & 1 != 0 {
                r.number()?;
            }
            if flags & 2 != 0 {
                r.word()?;
            }
            Ok(Generation::Rsa { bits })
        }
        // ECDSAPrivate and the newer ECPrivate.
        45 | 47 => Ok(Generation::Curve { curve: r.word()? }),
        other => Err(NcoreError::GenerationType(other)),
    }
}

fn read_group(r: &mut Reader<'_>) -> Result<Group, NcoreError> {
    let flags = r.flags("permission group", group::KNOWN)?;
    // Use limits narrow; they are read to get past them.
    for _ in 0..r.count(8)? {
        match r.word()? {
            // Global and per authorisation: a counter's name and its end.
            1 | 6 => {
                r.hash()?;
                r.word()?;
            }
            // Seconds.
            3 => {
                r.word()?;
            }
            other => return Err(NcoreError::Limit(other)),
        }
    }
    let mut actions = Vec::new();
    for _ in 0..r.count(8)? {
        actions.push(read_action(r)?);
    }
    let mut certifiers = Vec::new();
    if flags & group::CERTIFIER != 0 {
        certifiers.push(r.hash()?);
    }
    if flags & group::CERTIFIER_MECHANISM != 0 {
        certifiers.push(r.hash()?);
        r.word()?;
    }
    if flags & group::MODULE != 0 {
        r.text()?;
    }
    if flags & group::CERTIFIER_EX != 0 {
        certifiers.push(r.hash_with_mechanism()?);
        r.word()?;
    }
    // Certificates that must be fresh, and nobody named to give them.
    if flags & group::FRESH != 0 && certifiers.is_empty() {
        return Err(NcoreError::Flags {
            what: "permission group",
            flags,
        });
    }
    Ok(Group {
        actions,
        certifiers,
    })
}

fn read_action(r: &mut Reader<'_>) -> Result<Action, NcoreError> {
    match r.word()? {
        1 => Ok(Action::Operations(r.word()?)),
        2 => {
            let flags = r.flags("blob", blob::KNOWN)?;
            let module_key = optional(r, flags & blob::MODULE_KEY, Reader::hash)?;
            let token = optional(r, flags & blob::TOKEN, Reader::hash)?;
            let token_flags = optional(r, flags & blob::TOKEN_PARAMETERS, |r| {
                let flags = r.word()?;
                // Shares needed, shares in all, seconds.
                r.word()?;
                r.word()?;
                r.word()?;
                Ok(flags)
            })?;
            optional(r, flags & blob::FILE, blob_file)?;
            Ok(Action::MakeBlob(MakeBlob {
                flags,
                module_key,
                token,
                token_flags,
            }))
        }
        3 => {
            let flags = r.flags("archive blob", 0x3)?;
            // The mechanism of the encryption.
            r.word()?;
            let to = optional(r, flags & 0x1, Reader::hash)?;
            optional(r, flags & 0x2, blob_file)?;
            Ok(Action::MakeArchiveBlob { to })
        }
        // DeriveKey and DeriveKeyEx.
        5 | 47 => {
            r.flags("derivation", 0)?;
            // The key's part in it.
            r.word()?;
            let mechanism = r.word()?;
            match r.word()? {
                0 => Ok(Action::Derive { mechanism }),
                _ => Err(NcoreError::Derivation),
            }
        }
        other => Err(NcoreError::Action(other)),
    }
}

fn optional<'a, T>(
    r: &mut Reader<'a>,
    present: u32,
    read: impl FnOnce(&mut Reader<'a>) -> Result<T, NcoreError>,
) -> Result<Option<T>, NcoreError> {
    if present == 0 {
        return Ok(None);
    }
    read(r).map(Some)
}

fn blob_file(r: &mut Reader<'_>) -> Result<(), NcoreError> {
    let flags = r.flags("blob file", 0x3)?;
    if flags & 0x1 != 0 {
        r.word()?;
    }
    if flags & 0x2 != 0 {
        r.hash()?;
    }
    Ok(())
}
