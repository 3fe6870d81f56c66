//! C2SP signed-note v1.0.0: a text and signature lines under it.
//!
//! Ed25519 (type 0x01) alone; a line of any other key is an unknown key's, which a verifier ignores.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use std::fmt;

/// Signed-note asks verifiers to accept 16 signatures at least; this is our bound.
pub const MAX_SIGNATURES: usize = 100;
/// The longest note read.
pub const MAX_NOTE: usize = 64 * 1024;

const TYPE_ED25519: u8 = 0x01;
const PREFIX: &str = "\u{2014} ";

/// A public key that signs notes, with its name: `<name>+<key id>+<base64(type ‖ key)>` as text.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct VerifierKey {
    name: String,
    key_id: u32,
    public_key: [u8; 32],
}

impl VerifierKey {
    /// From its parts.
    ///
    /// # Errors
    /// [`NoteError::BadKeyName`] for a name that no signature line could carry.
    pub fn new(name: &str, public_key: [u8; 32]) -> Result<Self, NoteError> {
        check_name(name)?;
        let key_id = key_id(name, &public_key);
        Ok(Self {
            name: name.to_owned(),
            key_id,
            public_key,
        })
    }

    /// From the text form ("vkey").
    ///
    /// # Errors
    /// [`NoteError`] if it is malformed, of an unknown type or its key id is not that of its key.
    pub fn parse(vkey: &str) -> Result<Self, NoteError> {
        let mut parts = vkey.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::BadVerifierKey {
                why: "expected name+id+key",
            });
        };
        let bytes = STANDARD
            .decode(key)
            .map_err(|_| NoteError::BadVerifierKey {
                why: "the key is not padded base64",
            })?;
        let public_key = match bytes.split_first() {
            Some((&TYPE_ED25519, key)) => {
                <[u8; 32]>::try_from(key).map_err(|_| NoteError::BadVerifierKey {
                    why: "an Ed25519 key has 32 bytes",
                })?
            }
            _ => {
                return Err(NoteError::BadVerifierKey {
                    why: "the key is not Ed25519 (0x01)",
                });
            }
        };
        let key = Self::new(name, public_key)?;
        if id == format!("{:08x}", key.key_id) {
            Ok(key)
        } else {
            Err(NoteError::BadVerifierKey {
                why: "the key id is not that of the key",
            })
        }
    }

    /// The key's name; for a log's key, the log's origin.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// SHA-256(name ‖ 0x0A ‖ 0x01 ‖ key), first four bytes.
    #[must_use]
    pub const fn key_id(&self) -> u32 {
        self.key_id
    }

    /// The Ed25519 public key.
    #[must_use]
    pub const fn public_key(&self) -> &[u8; 32] {
        &self.public_key
    }

    fn verifies(&self, text: &str, signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.public_key)
            .verify(text.as_bytes(), signature)
            .is_ok()
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Vec::with_capacity(33);
        bytes.push(TYPE_ED25519);
        bytes.extend_from_slice(&self.public_key);
        write!(
            f,
            "{}+{:08x}+{}",
            self.name,
            self.key_id,
            STANDARD.encode(bytes)
        )
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifierKey({self})")
    }
}

impl std::str::FromStr for VerifierKey {
    type Err = NoteError;
    fn from_str(s: &str) -> Result<Self, NoteError> {
        Self::parse(s)
    }
}

/// An Ed25519 key that signs notes under a name. One key may stand under many names (one per log of
/// a deployment): the origin is in the signed text as well.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    verifier: VerifierKey,
}

impl SigningKey {
    /// From the 32-byte seed (RFC 8032 §5.1.5) and the name it signs under.
    ///
    /// # Errors
    /// [`NoteError::BadKeyName`], or [`NoteError::BadSeed`] if the crypto library refuses the seed.
    pub fn from_seed(seed: &[u8; 32], name: &str) -> Result<Self, NoteError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| NoteError::BadSeed)?;
        let public_key =
            <[u8; 32]>::try_from(pair.public_key().as_ref()).map_err(|_| NoteError::BadSeed)?;
        let verifier = VerifierKey::new(name, public_key)?;
        Ok(Self { pair, verifier })
    }

    /// The public half.
    #[must_use]
    pub const fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.verifier.name)
    }
}

/// Signs `text` with each key, in order.
///
/// # Errors
/// [`NoteError`] if the text is not a note's text: it must end in a newline, hold no control
/// character but newlines, and not be too long.
pub fn sign_note(text: &str, keys: &[&SigningKey]) -> Result<String, NoteError> {
    check_text(text)?;
    if keys.len() > MAX_SIGNATURES {
        return Err(NoteError::TooManySignatures);
    }
    let mut note = String::with_capacity(text.len() + 1 + 160 * keys.len());
    note.push_str(text);
    note.push('\n');
    for key in keys {
        let mut blob = Vec::with_capacity(68);
        blob.extend_from_slice(&key.verifier.key_id.to_be_bytes());
        blob.extend_from_slice(key.pair.sign(text.as_bytes()).as_ref());
        note.push_str(PREFIX);
        note.push_str(&key.verifier.name);
        note.push(' ');
        STANDARD.encode_string(blob, &mut note);
        note.push('\n');
    }
    if note.len() > MAX_NOTE {
        return Err(NoteError::TooLong);
    }
    Ok(note)
}

/// A parsed note whose signatures are not checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<NoteSignature>,
}

/// One signature line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteSignature {
    /// The signing key's name.
    pub name: String,
    /// The signing key's id.
    pub key_id: u32,
    /// The signature, of a kind that only the key's owner knows.
    pub signature: Vec<u8>,
}

/// What [`Note::verify`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified<'a> {
    /// The signed text, with its final newline.
    pub text: &'a str,
    /// The known keys that signed it, each once, in the order of their lines.
    pub keys: Vec<VerifierKey>,
}

impl Note {
    /// Takes a note apart.
    ///
    /// # Errors
    /// [`NoteError`] if it is not a signed note within our bounds.
    pub fn parse(note: &str) -> Result<Self, NoteError> {
        if note.len() > MAX_NOTE {
            return Err(NoteError::TooLong);
        }
        let at = note.rfind("\n\n").ok_or(NoteError::NoSignatures)?;
        let (text, lines) = note.split_at(at + 1);
        check_text(text)?;
        let lines = lines.strip_prefix('\n').unwrap_or(lines);
        let lines = lines
            .strip_suffix('\n')
            .ok_or(NoteError::BadSignatureLine { line: 0 })?;
        let mut signatures = Vec::new();
        for (number, line) in lines.split('\n').enumerate() {
            if number >= MAX_SIGNATURES {
                return Err(NoteError::TooManySignatures);
            }
            let parsed = signature_line(line);
            signatures.push(parsed.ok_or(NoteError::BadSignatureLine { line: number + 1 })?);
        }
        Ok(Self {
            text: text.to_owned(),
            signatures,
        })
    }

    /// The text, with its final newline. Nobody vouches for it before [`Note::verify`].
    #[must_use]
    pub fn unverified_text(&self) -> &str {
        &self.text
    }

    /// The signature lines.
    #[must_use]
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }

    /// Checks the signatures against `keys`. Lines of unknown keys are ignored; one bad signature
    /// of a known key refuses the whole note; one good signature at least is needed (signed-note,
    /// "Verifying").
    ///
    /// # Errors
    /// [`NoteError`] says which rule failed.
    pub fn verify(&self, keys: &[VerifierKey]) -> Result<Verified<'_>, NoteError> {
        let mut signers: Vec<VerifierKey> = Vec::new();
        for line in &self.signatures {
            let mut known = keys
                .iter()
                .filter(|k| k.key_id == line.key_id && k.name == line.name);
            let Some(key) = known.next() else { continue };
            if known.any(|other| other != key) {
                return Err(NoteError::AmbiguousKey {
                    name: line.name.clone(),
                });
            }
            if !key.verifies(&self.text, &line.signature) {
                return Err(NoteError::BadSignature {
                    name: line.name.clone(),
                });
            }
            if !signers.contains(key) {
                signers.push(key.clone());
            }
        }
        if signers.is_empty() {
            return Err(NoteError::NoKnownKey);
        }
        Ok(Verified {
            text: &self.text,
            keys: signers,
        })
    }
}

/// Why a note, or a key for notes, was refused. Retrying with the same bytes cannot help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Over [`MAX_NOTE`] bytes.
    #[error("the note is longer than {MAX_NOTE} bytes")]
    TooLong,
    /// Over [`MAX_SIGNATURES`] lines.
    #[error("the note has more than {MAX_SIGNATURES} signatures")]
    TooManySignatures,
    /// No blank line with signatures below it.
    #[error("the note has no signatures")]
    NoSignatures,
    /// The text does not end in a newline or holds a control character.
    #[error("the note's text must end in a newline and hold no control character")]
    BadText,
    /// A signature line that is not `— name base64`.
    #[error("signature line {line} is malformed")]
    BadSignatureLine {
        /// Counted from 1; 0 if the last line has no newline.
        line: usize,
    },
    /// A key name that is empty or holds a space, `+` or a control character.
    #[error("a key name must not be empty nor hold spaces, '+' or control characters")]
    BadKeyName,
    /// A verifier key that cannot be read.
    #[error("bad verifier key: {why}")]
    BadVerifierKey {
        /// What is wrong with it.
        why: &'static str,
    },
    /// The crypto library refused the seed.
    #[error("the seed is not an Ed25519 seed")]
    BadSeed,
    /// Two different known keys have this name and key id; give one of them.
    #[error("two known keys share the name {name} and its key id")]
    AmbiguousKey {
        /// Whose line.
        name: String,
    },
    /// A known key's signature does not verify: text or signature were changed.
    #[error("the signature by {name} does not verify")]
    BadSignature {
        /// Whose line.
        name: String,
    },
    /// No known key signed. The wrong key was given, or the note is of somebody else.
    #[error("no known key signed this note")]
    NoKnownKey,
}

fn key_id(name: &str, public_key: &[u8; 32]) -> u32 {
    let hash: [u8; 32] = Sha256::new_with_prefix(name)
        .chain_update([0x0a, TYPE_ED25519])
        .chain_update(public_key)
        .finalize()
        .into();
    hash.first_chunk::<4>()
        .map_or(0, |id| u32::from_be_bytes(*id))
}

fn check_name(name: &str) -> Result<(), NoteError> {
    let bad = |c: char| c.is_whitespace() || c.is_control() || c == '+';
    if name.is_empty() || name.len() > 1024 || name.contains(bad) {
        Err(NoteError::BadKeyName)
    } else {
        Ok(())
    }
}

fn check_text(text: &str) -> Result<(), NoteError> {
    if text.len() > MAX_NOTE {
        Err(NoteError::TooLong)
    } else if !text.ends_with('\n') || text.bytes().any(|b| b < 0x20 && b != b'\n') {
        Err(NoteError::BadText)
    } else {
        Ok(())
    }
}

fn signature_line(line: &str) -> Option<NoteSignature> {
    let (name, blob) = line.strip_prefix(PREFIX)?.split_once(' ')?;
    check_name(name).ok()?;
    let blob = STANDARD.decode(blob).ok()?;
    let (id, signature) = blob.split_first_chunk::<4>()?;
    if signature.is_empty() {
        return None;
    }
    Some(NoteSignature {
        name: name.to_owned(),
        key_id: u32::from_be_bytes(*id),
        signature: signature.to_vec(),
    })
}
