//! Anchors a CA adds: certificates or public keys, PEM or DER.

use super::tpm2::{LINE_AK, LINE_EK};
use super::{Anchor, Anchors, Scope};
use crate::certificate::Certificate;
use crate::key::PublicKey;
use crate::signature::Hash;
use crate::verify::armour;
use std::borrow::Cow;

/// Most anchors one file may add.
const MAX_ADDED: usize = 256;

/// A file that adds no anchor. Retrying cannot help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnchorError {
    /// Neither a certificate nor a public key.
    #[error("{0}: holds neither a certificate nor a public key, in PEM or DER")]
    Neither(String),
    /// A block that cannot be read.
    #[error("{file}: {problem}")]
    Malformed {
        /// Which file.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl Anchors {
    /// Adds every certificate and public key of a file, named `source` in results.
    ///
    /// # Errors
    /// [`AnchorError`] if there is none, or one cannot be read.
    pub fn add_file(&mut self, source: &str, bytes: &[u8]) -> Result<usize, AnchorError> {
        self.add(source, bytes, None)
    }

    /// Adds CAs for TPM attestation keys, and for nothing else: a CA that certifies attestation
    /// keys itself adds its own this way. An attestation key can sign more than statements of its
    /// TPM; an anchor for every line would let what it signs pass for another maker's evidence.
    ///
    /// # Errors
    /// [`AnchorError`] as [`Anchors::add_file`].
    pub fn add_attestation_key_cas(
        &mut self,
        source: &str,
        bytes: &[u8],
    ) -> Result<usize, AnchorError> {
        self.add(source, bytes, Some(LINE_AK))
    }

    /// Adds roots of TPM makers' endorsement certificates, and for nothing else.
    ///
    /// # Errors
    /// [`AnchorError`] as [`Anchors::add_file`].
    pub fn add_endorsement_roots(
        &mut self,
        source: &str,
        bytes: &[u8],
    ) -> Result<usize, AnchorError> {
        self.add(source, bytes, Some(LINE_EK))
    }

    fn add(
        &mut self,
        source: &str,
        bytes: &[u8],
        line: Option<&'static str>,
    ) -> Result<usize, AnchorError> {
        let malformed = |problem: String| AnchorError::Malformed {
            file: source.to_owned(),
            problem,
        };
        let ders = match armour::blocks(bytes) {
            Some(blocks) => {
                let mut ders = Vec::new();
                for block in blocks {
                    ders.push(block.map_err(|e| malformed(e.to_string()))?.bytes);
                }
                ders
            }
            None => vec![bytes.to_vec()],
        };
        if ders.len() > MAX_ADDED {
            return Err(malformed(format!("holds more than {MAX_ADDED} anchors")));
        }
        let mut added = Vec::new();
        for der in ders {
            added.push(
                one(source, &der, line).ok_or_else(|| AnchorError::Neither(source.to_owned()))?,
            );
        }
        if added.is_empty() {
            return Err(AnchorError::Neither(source.to_owned()));
        }
        let count = added.len();
        self.all.extend(added);
        Ok(count)
    }
}

fn one(source: &str, der: &[u8], line: Option<&'static str>) -> Option<Anchor> {
    let (key, name, certificate) = match Certificate::from_der(der) {
        Ok(c) => {
            let fingerprint = hex::encode(Hash::Sha256.of(der));
            (c.key().ok()?, c.subject().to_string(), Some(fingerprint))
        }
        Err(_) => (PublicKey::from_spki(der).ok()?, String::new(), None),
    };
    Some(Anchor {
        key,
        name: Cow::Owned(name),
        scope: Scope::Extra {
            line,
            source: source.to_owned(),
            certificate,
        },
    })
}
