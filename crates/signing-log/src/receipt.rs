//! A receipt: a C2SP tlog-proof of an authorisation leaf, verifiable offline with the log's key.
//!
//! ```text
//! c2sp.org/tlog-proof@v1
//! extra <base64 of {"leaf":"<base64>","artifact":{"salt":"…","value":"…"}}>
//! index <n>
//! <base64 hash>*
//!
//! <checkpoint note>
//! ```
//!
//! The `extra` line is not authenticated by the format; ours needs no trust: the leaf must hash to
//! what the proof proves, and the opening must open the leaf's commitment.

use crate::Hash;
use crate::checkpoint::{Checkpoint, CheckpointError, decimal};
use crate::commitment::{LABEL_ARTIFACT, Opening, base64_bytes, base64_text};
use crate::leaf::{Authorisation, Leaf, LeafBody, LeafError, MAX_LEAF};
use crate::merkle::{self, ProofError};
use crate::note::VerifierKey;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// The first line.
pub const MAGIC: &str = "c2sp.org/tlog-proof@v1";
/// The longest receipt read.
pub const MAX_RECEIPT: usize = 512 * 1024;

const MAX_PROOF: usize = 64;

/// A receipt as it lies in a file; nothing is checked before [`Receipt::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The exact bytes of the authorisation leaf.
    pub leaf: Vec<u8>,
    /// Opens the leaf's commitment to the file's own digest.
    pub artifact: Option<Opening>,
    /// The leaf's index in its log.
    pub index: u64,
    /// Inclusion proof, leaf side first.
    pub proof: Vec<Hash>,
    /// The signed checkpoint the proof leads to.
    pub checkpoint_note: String,
}

/// A receipt that holds: a known log key signed a tree with this leaf in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedReceipt {
    /// The head that the proof leads to.
    pub checkpoint: Checkpoint,
    /// The leaf's index.
    pub index: u64,
    /// The leaf; always an authorisation.
    pub leaf: Leaf,
}

impl VerifiedReceipt {
    /// The authorisation.
    #[must_use]
    pub const fn authorisation(&self) -> Option<&Authorisation> {
        match &self.leaf.body {
            LeafBody::Authorisation(a) => Some(a),
            _ => None,
        }
    }
}

impl Receipt {
    /// The text form (extension `.tlog-proof`).
    #[must_use]
    pub fn to_text(&self) -> String {
        let extra = Extra {
            leaf: self.leaf.clone(),
            artifact: self.artifact.clone(),
        };
        // Serialising two byte strings cannot fail.
        let extra = serde_json::to_vec(&extra).unwrap_or_default();
        let mut out = String::with_capacity(
            2 * extra.len() + 64 * self.proof.len() + self.checkpoint_note.len() + 64,
        );
        // Writing to a String cannot fail.
        let _ = write!(
            out,
            "{MAGIC}\nextra {}\nindex {}\n",
            STANDARD.encode(extra),
            self.index
        );
        for hash in &self.proof {
            STANDARD.encode_string(hash, &mut out);
            out.push('\n');
        }
        out.push('\n');
        out.push_str(&self.checkpoint_note);
        out
    }

    /// Reads the text form.
    ///
    /// # Errors
    /// [`ReceiptError::Malformed`] names the line.
    pub fn parse(text: &str) -> Result<Self, ReceiptError> {
        let malformed = |line| ReceiptError::Malformed { line };
        if text.len() > MAX_RECEIPT {
            return Err(ReceiptError::TooLong);
        }
        let (head, checkpoint_note) = text.split_once("\n\n").ok_or(malformed("blank"))?;
        let mut lines = head.split('\n');
        if lines.next() != Some(MAGIC) {
            return Err(malformed("first"));
        }
        let extra = lines
            .next()
            .and_then(|l| l.strip_prefix("extra "))
            .ok_or(malformed("extra"))?;
        let extra = STANDARD.decode(extra).map_err(|_| malformed("extra"))?;
        let extra: Extra = serde_json::from_slice(&extra).map_err(|_| malformed("extra"))?;
        if extra.leaf.len() > MAX_LEAF {
            return Err(malformed("extra"));
        }
        let index = lines
            .next()
            .and_then(|l| l.strip_prefix("index "))
            .and_then(decimal);
        let index = index.ok_or(malformed("index"))?;
        let mut proof = Vec::new();
        for line in lines {
            let hash = STANDARD
                .decode(line)
                .ok()
                .and_then(|h| Hash::try_from(h).ok());
            proof.push(hash.ok_or(malformed("proof"))?);
            if proof.len() > MAX_PROOF {
                return Err(malformed("proof"));
            }
        }
        Ok(Self {
            leaf: extra.leaf,
            artifact: extra.artifact,
            index,
            proof,
            checkpoint_note: checkpoint_note.to_owned(),
        })
    }

    /// Verifies everything that can be verified without a server: the checkpoint is signed by the
    /// log it names (a key of `keys` with that name), the leaf is in that tree, is an authorisation,
    /// and the artifact's opening, if the receipt has one, opens the leaf's commitment.
    ///
    /// # Errors
    /// [`ReceiptError`] says which of these failed.
    pub fn verify(&self, keys: &[VerifierKey]) -> Result<VerifiedReceipt, ReceiptError> {
        let checkpoint = Checkpoint::open_any(&self.checkpoint_note, keys)?;
        let hash = merkle::leaf_hash(&self.leaf);
        merkle::verify_inclusion(
            self.index,
            checkpoint.size,
            &hash,
            &self.proof,
            &checkpoint.root,
        )?;
        let leaf = Leaf::decode(&self.leaf)?;
        let LeafBody::Authorisation(authorisation) = &leaf.body else {
            return Err(ReceiptError::NotAnAuthorisation {
                found: leaf.body.type_name(),
            });
        };
        if let Some(opening) = &self.artifact
            && !authorisation
                .artifact
                .is_some_and(|c| c.opens(LABEL_ARTIFACT, opening))
        {
            return Err(ReceiptError::ArtifactDoesNotOpen);
        }
        Ok(VerifiedReceipt {
            checkpoint,
            index: self.index,
            leaf,
        })
    }

    /// Checks that the verified receipt is of the file with this digest
    /// (`<algorithm>:<lower-case hex>`, see [`crate::commitment::digest_text`]).
    ///
    /// # Errors
    /// [`ReceiptError::NoArtifact`] where leaf or receipt carry no file digest (nothing can be
    /// said), [`ReceiptError::OtherArtifact`] where it is another file's.
    pub fn opens_artifact(
        &self,
        verified: &VerifiedReceipt,
        digest_text: &str,
    ) -> Result<(), ReceiptError> {
        let commitment = verified.authorisation().and_then(|a| a.artifact);
        let (Some(commitment), Some(opening)) = (commitment, &self.artifact) else {
            return Err(ReceiptError::NoArtifact);
        };
        if !commitment.opens(LABEL_ARTIFACT, opening) {
            return Err(ReceiptError::ArtifactDoesNotOpen);
        }
        if opening.value == digest_text.as_bytes() {
            Ok(())
        } else {
            Err(ReceiptError::OtherArtifact)
        }
    }
}

/// Why a receipt proves nothing. Retrying with the same bytes cannot help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// Over [`MAX_RECEIPT`] bytes.
    #[error("the receipt is longer than {MAX_RECEIPT} bytes")]
    TooLong,
    /// A line is not what the format asks for.
    #[error("the receipt's {line} line is malformed")]
    Malformed {
        /// `first`, `extra`, `index`, `proof` or `blank`.
        line: &'static str,
    },
    /// The checkpoint was refused: changed, or signed by a key that is not known.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The leaf is not in the tree of the checkpoint.
    #[error("the leaf is not in the log: {0}")]
    NotIncluded(#[from] ProofError),
    /// The leaf is in the tree, but is not one we can read.
    #[error(transparent)]
    Leaf(#[from] LeafError),
    /// The leaf is in the tree, but authorises nothing.
    #[error("the leaf is not an authorisation but {found}")]
    NotAnAuthorisation {
        /// Its type.
        found: &'static str,
    },
    /// The file digest in the receipt is not the one the leaf commits to.
    #[error("the file digest in the receipt is not the one in the log")]
    ArtifactDoesNotOpen,
    /// The receipt is good, but of another file.
    #[error("the receipt is of another file")]
    OtherArtifact,
    /// The receipt is good, but carries no file digest: the service was given a bare digest.
    #[error("the receipt does not say which file was signed")]
    NoArtifact,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Extra {
    #[serde(serialize_with = "base64_text", deserialize_with = "base64_bytes")]
    leaf: Vec<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    artifact: Option<Opening>,
}
