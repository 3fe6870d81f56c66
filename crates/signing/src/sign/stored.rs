//! What is kept of an answer so that a retry gets the same one, byte for byte.
//!
//! Leaf, opening, tree and certificates are in the database anyway and never change; what is nowhere
//! else is the signature, which certificate it went with, and the checkpoint of its receipt: some 290
//! bytes for P-256 where the whole answer has 6,000.
//!
//! ```text
//! 1 <signature> <certificate's SHA-256> <tree size> <root>
//! <a line of the checkpoint's signatures, without "— " and the log's name>
//! ```
//!
//! Byte strings are base64.

use super::SignedItem;
use crate::{Service, SigningError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_core::{KeyId, LogId, TenantId};
use countersign_signing_log::details::Details;
use countersign_signing_log::leaf::{Leaf, LeafBody};
use countersign_signing_log::proof_from::{NodeMap, inclusion_proof, inclusion_reads};
use countersign_signing_log::{Checkpoint, Hash, Receipt, merkle};
use std::fmt::Write as _;
use std::sync::Arc;

const VERSION: &str = "1";
/// Before each signature of a note.
const DASH: &str = "\u{2014} ";

/// A stored answer, read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct StoredAnswer {
    signature: Vec<u8>,
    certificate: [u8; 32],
    size: u64,
    root: Hash,
    /// Lines of signatures, each without its dash and the log's name.
    lines: Vec<String>,
}

impl StoredAnswer {
    /// The text to be stored for an answer whose receipt has this checkpoint.
    pub(super) fn of(item: &SignedItem, note: &str) -> Result<String, SigningError> {
        let odd = || SigningError::Internal("a checkpoint of ours that is none".into());
        let (text, signatures) = note.split_once("\n\n").ok_or_else(odd)?;
        let head = Checkpoint::parse(&format!("{text}\n")).map_err(|_| odd())?;
        let mut out = format!(
            "{VERSION} {} {} {} {}",
            STANDARD.encode(&item.signature),
            STANDARD.encode(item.certificate.sha256),
            head.size,
            STANDARD.encode(head.root),
        );
        for line in signatures.lines() {
            let signature = line
                .strip_prefix(DASH)
                .and_then(|l| l.strip_prefix(&head.origin))
                .and_then(|l| l.strip_prefix(' '))
                .ok_or_else(odd)?;
            let _ = write!(out, "\n{signature}");
        }
        Ok(out)
    }

    pub(super) fn parse(text: &str) -> Result<Self, SigningError> {
        Self::read(text).ok_or_else(|| {
            SigningError::Internal("a stored answer that this release cannot read".into())
        })
    }

    fn read(text: &str) -> Option<Self> {
        let mut lines = text.split('\n');
        let mut words = lines.next()?.split(' ');
        if words.next()? != VERSION {
            return None;
        }
        let mut bytes = || STANDARD.decode(words.next()?).ok();
        let signature = bytes()?;
        let certificate = bytes()?.try_into().ok()?;
        let size = words.next()?.parse().ok()?;
        let root = STANDARD.decode(words.next()?).ok()?.try_into().ok()?;
        Some(Self {
            signature,
            certificate,
            size,
            root,
            lines: lines.map(str::to_owned).collect(),
        })
    }

    fn note(&self, origin: &str) -> String {
        let head = Checkpoint {
            origin: origin.to_owned(),
            size: self.size,
            root: self.root,
        };
        let mut note = head.to_text();
        note.push('\n');
        for line in &self.lines {
            let _ = writeln!(note, "{DASH}{origin} {line}");
        }
        note
    }
}

impl Service {
    /// The answer of the authorisation at `index`, as it was given.
    pub(super) async fn rebuilt(
        &self,
        tenant: TenantId,
        log: LogId,
        index: u64,
        stored: StoredAnswer,
    ) -> Result<Arc<SignedItem>, SigningError> {
        let odd = |what: &str| {
            SigningError::Internal(format!("the answer of leaf {index} of log {log}: {what}"))
        };
        let store = self.store();
        let head = store
            .head(tenant, log)
            .await?
            .ok_or_else(|| odd("there is no such log"))?;
        let bytes = store
            .leaves(tenant, log, index, 1)
            .await?
            .pop()
            .ok_or_else(|| odd("there is no such leaf"))?;
        let leaf = Leaf::decode(&bytes).map_err(|_| odd("the leaf cannot be read"))?;
        let LeafBody::Authorisation(authorisation) = leaf.body else {
            return Err(odd("the leaf is no authorisation"));
        };
        // Erased details stay erased: the receipt comes without the opening then.
        let details = store.details(tenant, log, index, 1).await?;
        let artifact = details
            .into_iter()
            .find(|(at, _)| *at == index)
            .and_then(|(_, line)| Details::parse_line(&line).ok())
            .and_then(|d| d.artifact);
        let proof = self
            .proof(tenant, log, index, stored.size)
            .await?
            .ok_or_else(|| odd("its proof cannot be made"))?;
        let hash = merkle::leaf_hash(&bytes);
        merkle::verify_inclusion(index, stored.size, &hash, &proof, &stored.root)
            .map_err(|_| odd("its proof does not hold"))?;
        let certificate = store
            .certificate_named(tenant, KeyId(log.0), stored.certificate)
            .await?
            .ok_or_else(|| odd("there is no such certificate"))?;
        let receipt = Receipt {
            leaf: bytes,
            artifact,
            index,
            proof,
            checkpoint_note: stored.note(&head.origin),
        };
        Ok(Arc::new(SignedItem {
            receipt: receipt.to_text(),
            signature: stored.signature,
            scheme: authorisation
                .scheme
                .parse()
                .map_err(|_| odd("its scheme is unknown"))?,
            certificate: Arc::new(certificate),
            origin: head.origin,
            request: authorisation.request,
        }))
    }

    /// The inclusion proof in an earlier tree, from stored blocks.
    async fn proof(
        &self,
        tenant: TenantId,
        log: LogId,
        index: u64,
        size: u64,
    ) -> Result<Option<Vec<Hash>>, SigningError> {
        let Ok(reads) = inclusion_reads(index, size) else {
            return Ok(None);
        };
        let mut nodes = NodeMap::default();
        for read in reads {
            let count = u32::from(read.count);
            let found = self
                .store()
                .hashes(tenant, log, read.level, read.first, count)
                .await?;
            for (at, hash) in (read.first..).zip(found) {
                nodes.insert(read.level, at, hash);
            }
        }
        Ok(inclusion_proof(&nodes, index, size).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_core::ports::rows::CertificateRow;
    use countersign_core::{HashAlgorithm, Micros, SignatureScheme};
    use countersign_signing_log::SigningKey;
    use uuid::Uuid;

    fn item(signature: usize) -> SignedItem {
        SignedItem {
            signature: vec![9; signature],
            scheme: SignatureScheme::Ecdsa(HashAlgorithm::Sha256),
            certificate: Arc::new(CertificateRow {
                tenant: TenantId(Uuid::nil()),
                key: KeyId(Uuid::nil()),
                sha256: [7; 32],
                chain: vec![],
                not_before: Micros(0),
                not_after: Micros(1),
                serial: String::new(),
                installed: Micros(0),
            }),
            receipt: String::new(),
            origin: String::new(),
            request: String::new(),
        }
    }

    #[test]
    fn a_checkpoint_comes_back_byte_for_byte_and_the_text_is_small() {
        let origin = "sign.example.com/log/01900000-0000-7000-8000-000000000001";
        let key = SigningKey::from_seed(&[3; 32], origin).unwrap();
        let checkpoint = Checkpoint {
            origin: origin.into(),
            size: 1_234_567,
            root: [5; 32],
        };
        // Also while the log key is rotated: two lines.
        let other = SigningKey::from_seed(&[4; 32], origin).unwrap();
        for keys in [&[&key][..], &[&key, &other]] {
            let note = checkpoint.sign_with(keys).unwrap();
            let text = StoredAnswer::of(&item(71), &note).unwrap();
            let stored = StoredAnswer::parse(&text).unwrap();
            assert_eq!(stored.note(origin), note);
            assert_eq!((stored.signature.len(), stored.certificate), (71, [7; 32]));
            assert!(text.len() < 300 * keys.len(), "{}", text.len());
        }
    }

    #[test]
    fn what_is_no_stored_answer_is_an_error() {
        for bad in [
            "",
            "1",
            "{\"signature\":\"\"}",
            "2 AA== AA== 1 AA==",
            "1 AA== AA== 1 AA==",
        ] {
            assert!(StoredAnswer::parse(bad).is_err(), "{bad}");
        }
    }
}
