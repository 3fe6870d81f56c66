//! C2SP tlog-checkpoint v1.0.0: the signed head of a log.

use crate::Hash;
use crate::frontier::MAX_SIZE;
use crate::merkle::empty_root;
use crate::note::{Note, NoteError, SigningKey, VerifierKey, sign_note};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The head of a log: three lines of text, `origin`, `size` and base64 `root`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name, for ever; also the name of the key that signs it.
    pub origin: String,
    /// Number of leaves.
    pub size: u64,
    /// Root of the tree of that size.
    pub root: Hash,
}

impl Checkpoint {
    /// The text that is signed.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!(
            "{}\n{}\n{}\n",
            self.origin,
            self.size,
            STANDARD.encode(self.root)
        )
    }

    /// Reads the text of a checkpoint.
    ///
    /// Extension lines are refused: our logs have none, and a monitor could not audit them.
    ///
    /// # Errors
    /// [`CheckpointError::Malformed`] names the line.
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let malformed = |line| CheckpointError::Malformed { line };
        let body = text.strip_suffix('\n').ok_or(malformed("end"))?;
        let mut lines = body.split('\n');
        let origin = lines
            .next()
            .filter(|o| !o.is_empty())
            .ok_or(malformed("origin"))?;
        let size = lines.next().and_then(decimal).ok_or(malformed("size"))?;
        let root = lines.next().ok_or(malformed("root"))?;
        let root = STANDARD
            .decode(root)
            .ok()
            .and_then(|r| Hash::try_from(r).ok());
        let root = root.ok_or(malformed("root"))?;
        if lines.next().is_some() {
            return Err(malformed("extension"));
        }
        if size == 0 && root != empty_root() {
            return Err(malformed("root"));
        }
        Ok(Self {
            origin: origin.to_owned(),
            size,
            root,
        })
    }

    /// The signed note of this checkpoint.
    ///
    /// # Errors
    /// [`CheckpointError`] if the origin could not stand in a note, or is not the key's name.
    pub fn sign(&self, key: &SigningKey) -> Result<String, CheckpointError> {
        self.sign_with(&[key])
    }

    /// As [`Checkpoint::sign`], by several keys (the overlap while a log key is rotated).
    ///
    /// # Errors
    /// As [`Checkpoint::sign`].
    pub fn sign_with(&self, keys: &[&SigningKey]) -> Result<String, CheckpointError> {
        if keys.iter().any(|k| k.verifier().name() != self.origin) {
            return Err(CheckpointError::NotSignedByLog {
                origin: self.origin.clone(),
            });
        }
        let text = self.to_text();
        Self::parse(&text)?;
        Ok(sign_note(&text, keys)?)
    }

    /// Opens a signed checkpoint of the log `origin`: a key of `keys` *named `origin`* must have
    /// signed it, and no known key's signature may be bad. A witness's cosignature alone does not
    /// make a checkpoint of ours.
    ///
    /// # Errors
    /// [`CheckpointError`] says which rule failed.
    pub fn open(note: &str, origin: &str, keys: &[VerifierKey]) -> Result<Self, CheckpointError> {
        let checkpoint = Self::open_any(note, keys)?;
        if checkpoint.origin == origin {
            Ok(checkpoint)
        } else {
            Err(CheckpointError::WrongOrigin {
                expected: origin.to_owned(),
                given: checkpoint.origin,
            })
        }
    }

    /// As [`Checkpoint::open`], for whichever log one of `keys` signs.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn open_any(note: &str, keys: &[VerifierKey]) -> Result<Self, CheckpointError> {
        let note = Note::parse(note)?;
        let verified = note.verify(keys)?;
        let checkpoint = Self::parse(verified.text)?;
        if verified.keys.iter().any(|k| k.name() == checkpoint.origin) {
            Ok(checkpoint)
        } else {
            Err(CheckpointError::NotSignedByLog {
                origin: checkpoint.origin,
            })
        }
    }
}

/// Why a checkpoint was refused. Retrying with the same bytes cannot help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// A line is not what the format asks for.
    #[error("the checkpoint's {line} line is malformed")]
    Malformed {
        /// `origin`, `size`, `root`, `extension` or `end`.
        line: &'static str,
    },
    /// The note around it was refused.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// It is a checkpoint of another log.
    #[error("a checkpoint of the log {given}, expected {expected}")]
    WrongOrigin {
        /// The log asked for.
        expected: String,
        /// The log it is of.
        given: String,
    },
    /// Known keys signed it, but none that bears the log's name.
    #[error("the checkpoint of {origin} is not signed by a key of that name")]
    NotSignedByLog {
        /// The log it is of.
        origin: String,
    },
}

/// A decimal number without sign or leading zeros, within [`MAX_SIZE`].
pub(crate) fn decimal(text: &str) -> Option<u64> {
    let canonical = text == "0" || (!text.starts_with('0') && text.len() <= 19);
    if !canonical || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|n| *n <= MAX_SIZE)
}
