//! Salted commitments: how customer content (digests, claims, names) stands in a leaf without being
//! readable there.
//!
//! `commitment = SHA-256("countersign/commitment/v1\0" ‖ u64 BE length of label ‖ label ‖ salt ‖ value)`
//!
//! The label says what the value is, so that one field's opening can never pass for another's. The
//! salt is 32 random bytes, so the digest of a public file cannot be searched for in a log; erasing
//! the salt makes the commitment mute without breaking a proof.

use crate::Hash;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::fmt;

/// Label of the commitment to the digest that is signed, written by [`digest_text`].
pub const LABEL_TBS: &str = "tbs";
/// Label of the commitment to the file's own digest, written by [`digest_text`].
pub const LABEL_ARTIFACT: &str = "artifact";
/// Label of the commitment to the caller's claims.
pub const LABEL_CALLER: &str = "caller";
/// Label of the commitment to the subject of a membership.
pub const LABEL_SUBJECT: &str = "subject";
/// Label of the commitment to further detail of a refusal.
pub const LABEL_DETAIL: &str = "detail";

const DOMAIN: &[u8] = b"countersign/commitment/v1\0";

/// The longest value an opening may carry when read from foreign bytes.
pub const MAX_VALUE: usize = 64 * 1024;

/// Commits to `value` under `label`.
#[must_use]
pub fn commit(label: &str, salt: &Salt, value: &[u8]) -> Commitment {
    let hash = Sha256::new_with_prefix(DOMAIN)
        .chain_update((label.len() as u64).to_be_bytes())
        .chain_update(label)
        .chain_update(salt.0)
        .chain_update(value)
        .finalize();
    Commitment(hash.into())
}

/// How a digest is written as the value of a commitment: `<algorithm>:<lower-case hex>`, for example
/// `sha-256:ab…`.
#[must_use]
pub fn digest_text(algorithm: &str, digest: &[u8]) -> String {
    format!("{algorithm}:{}", hex::encode(digest))
}

/// A commitment; lower-case hex in JSON.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Commitment(pub Hash);

impl Commitment {
    /// Whether `opening` opens this commitment under `label`.
    #[must_use]
    pub fn opens(&self, label: &str, opening: &Opening) -> bool {
        commit(label, &opening.salt, &opening.value) == *self
    }
}

/// A SHA-256 value in a leaf; lower-case hex in JSON.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HexHash(pub Hash);

impl HexHash {
    /// SHA-256 of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

macro_rules! hex_text {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut buffer = [0_u8; 64];
                f.write_str(to_hex(&self.0, &mut buffer))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl From<Hash> for $name {
            fn from(h: Hash) -> Self {
                Self(h)
            }
        }

        impl std::str::FromStr for $name {
            type Err = NotAHash;
            fn from_str(s: &str) -> Result<Self, NotAHash> {
                from_hex(s).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                let mut buffer = [0_u8; 64];
                s.serialize_str(to_hex(&self.0, &mut buffer))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = Cow::<'de, str>::deserialize(d)?;
                from_hex(&text).map(Self).map_err(de::Error::custom)
            }
        }
    };
}

hex_text!(Commitment);
hex_text!(HexHash);

/// Text that is not 64 lower-case hex digits. Retrying cannot help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected 64 lower-case hex digits")]
pub struct NotAHash;

/// 32 random bytes; base64 in JSON. Whoever makes one takes them from a cryptographic generator.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Salt(pub [u8; 32]);

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Salt(…)")
    }
}

impl Serialize for Salt {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&STANDARD.encode(self.0))
    }
}

impl<'de> Deserialize<'de> for Salt {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let bytes = base64_bytes(d)?;
        bytes
            .try_into()
            .map(Self)
            .map_err(|_| de::Error::custom("a salt has 32 bytes"))
    }
}

/// What opens a commitment: `{"salt": base64, "value": base64}` in JSON.
///
/// `Debug` shows no content: openings are customer content and must not reach a process log.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Opening {
    /// The salt.
    pub salt: Salt,
    /// The bytes committed to.
    #[serde(serialize_with = "base64_text", deserialize_with = "base64_bytes")]
    pub value: Vec<u8>,
}

impl Opening {
    /// The commitment this opens.
    #[must_use]
    pub fn commitment(&self, label: &str) -> Commitment {
        commit(label, &self.salt, &self.value)
    }

    /// The value as text, where it is text.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.value).ok()
    }
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opening({} bytes)", self.value.len())
    }
}

pub(crate) fn base64_text<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(&STANDARD.encode(bytes))
}

pub(crate) fn base64_bytes<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
    let text = Cow::<'de, str>::deserialize(d)?;
    if text.len() > MAX_VALUE.div_ceil(3) * 4 {
        return Err(de::Error::custom("base64 value too long"));
    }
    STANDARD
        .decode(text.as_bytes())
        .map_err(|_| de::Error::custom("expected padded base64"))
}

fn to_hex<'a>(hash: &Hash, buffer: &'a mut [u8; 64]) -> &'a str {
    // The buffer is exactly twice the hash and hex is ASCII, so neither step can fail.
    let _ = hex::encode_to_slice(hash, buffer);
    std::str::from_utf8(buffer).unwrap_or_default()
}

fn from_hex(text: &str) -> Result<Hash, NotAHash> {
    let mut out = [0; 32];
    if text.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(NotAHash);
    }
    hex::decode_to_slice(text, &mut out).map_err(|_| NotAHash)?;
    Ok(out)
}
