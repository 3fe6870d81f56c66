//! A receipt holds for its own leaf, log, key and file, and for nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{ORIGIN, bytes, key_log, keys, naive_root, signing_key};
use countersign_signing_log::checkpoint::CheckpointError;
use countersign_signing_log::merkle::leaf_hash;
use countersign_signing_log::note::NoteError;
use countersign_signing_log::receipt::ReceiptError;
use countersign_signing_log::{Checkpoint, Frontier, Hash, Receipt, SigningKey};
use proptest::prelude::*;

/// The receipt of use `n` of a log of 20 uses, made as the server makes it: in batches, from the
/// right edge alone.
fn receipt(n: u64) -> (Receipt, String) {
    let (leaves, details) = key_log(20);
    let entries = bytes(&leaves);
    let hashes: Vec<Hash> = entries.iter().map(|e| leaf_hash(e)).collect();
    let index = details[n as usize].index;
    let mut frontier = Frontier::empty();
    frontier.append_batch(&hashes[..index as usize]);
    let end = (index as usize + 3).min(hashes.len());
    let batch = frontier.append_batch(&hashes[index as usize..end]);
    assert_eq!(batch.root, naive_root(&hashes[..end]));
    let checkpoint = Checkpoint {
        origin: ORIGIN.into(),
        size: batch.new_size,
        root: batch.root,
    };
    let artifact = details[n as usize].artifact.clone().unwrap();
    let text = artifact.text().unwrap().to_owned();
    let receipt = Receipt {
        leaf: entries[index as usize].clone(),
        artifact: Some(artifact),
        index,
        proof: batch.inclusion_proof(index).unwrap(),
        checkpoint_note: checkpoint.sign(&signing_key()).unwrap(),
    };
    (receipt, text)
}

#[test]
fn a_receipt_verifies_offline_and_names_its_file() {
    for n in 0..20 {
        let (receipt, digest) = receipt(n);
        let text = receipt.to_text();
        assert!(text.starts_with("c2sp.org/tlog-proof@v1\nextra "));
        let read = Receipt::parse(&text).unwrap();
        assert_eq!(read, receipt);
        let verified = read.verify(&keys()).unwrap();
        assert_eq!(verified.index, receipt.index);
        assert_eq!(verified.authorisation().unwrap().request, format!("r{n}"));
        assert_eq!(read.opens_artifact(&verified, &digest), Ok(()));
        assert_eq!(
            read.opens_artifact(&verified, "sha-256:00"),
            Err(ReceiptError::OtherArtifact)
        );
        let silent = Receipt {
            artifact: None,
            ..read
        };
        assert_eq!(
            silent.opens_artifact(&verified, &digest),
            Err(ReceiptError::NoArtifact)
        );
        assert_eq!(Receipt::parse(&silent.to_text()).unwrap(), silent);
    }
}

#[test]
fn a_receipt_of_another_key_log_or_leaf_type_is_refused() {
    let (good, _) = receipt(3);
    let stranger = SigningKey::from_seed(&[8; 32], ORIGIN).unwrap();
    let no_key = ReceiptError::Checkpoint(CheckpointError::Note(NoteError::NoKnownKey));
    assert_eq!(
        good.verify(&[stranger.verifier().clone()]),
        Err(no_key.clone())
    );
    assert_eq!(good.verify(&[]), Err(no_key.clone()));
    let same_key_other_log = SigningKey::from_seed(&[7; 32], "elsewhere/log/1").unwrap();
    assert_eq!(
        good.verify(&[same_key_other_log.verifier().clone()]),
        Err(no_key)
    );
    let other = receipt(4).0;
    let swapped = Receipt {
        artifact: other.artifact,
        ..good.clone()
    };
    assert_eq!(
        swapped.verify(&keys()),
        Err(ReceiptError::ArtifactDoesNotOpen)
    );
    let moved = Receipt {
        index: good.index + 1,
        ..good
    };
    assert!(matches!(
        moved.verify(&keys()),
        Err(ReceiptError::NotIncluded(_))
    ));

    let leaf = common::opened().encode().unwrap();
    let hash = leaf_hash(&leaf);
    let checkpoint = Checkpoint {
        origin: ORIGIN.into(),
        size: 1,
        root: hash,
    };
    let checkpoint_note = checkpoint.sign(&signing_key()).unwrap();
    let opening = Receipt {
        leaf,
        artifact: None,
        index: 0,
        proof: vec![],
        checkpoint_note,
    };
    assert_eq!(
        opening.verify(&keys()),
        Err(ReceiptError::NotAnAuthorisation {
            found: "log-opened"
        })
    );
}

/// Whether the text, as it is, convinces anybody that this file was signed.
fn convinces(text: &str, digest: &str) -> bool {
    Receipt::parse(text).is_ok_and(|r| {
        r.verify(&keys())
            .is_ok_and(|v| r.opens_artifact(&v, digest) == Ok(()))
    })
}

#[test]
fn every_single_bit_of_a_receipt_counts() {
    let (receipt, digest) = receipt(7);
    let text = receipt.to_text();
    assert!(convinces(&text, &digest));
    let mut flipped = 0;
    for at in 0..text.len() {
        for bit in 0..8 {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1_u8 << bit;
            if let Ok(changed) = String::from_utf8(bytes) {
                assert!(!convinces(&changed, &digest), "bit {bit} of byte {at}");
            }
            flipped += 1;
        }
    }
    println!("{flipped} flips of the text refused");
    for at in 0..text.len() {
        if let Some(cut) = text.get(..at) {
            assert!(!convinces(cut, &digest), "cut at {at}");
        }
    }
    assert!(!convinces(&format!("{text}x"), &digest));
    assert!(!convinces(&format!("\n{text}"), &digest));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_flipped_bit_in_leaf_proof_or_checkpoint_is_refused(
        n in 0..20_u64,
        part in 0..3,
        at: prop::sample::Index,
        bit in 0..8_u32,
    ) {
        let (mut r, _) = receipt(n);
        match part {
            0 => {
                let at = at.index(r.leaf.len());
                r.leaf[at] ^= 1_u8 << bit;
            }
            1 if !r.proof.is_empty() => {
                let at = at.index(r.proof.len() * 32);
                r.proof[at / 32][at % 32] ^= 1_u8 << bit;
            }
            _ => {
                let mut note = r.checkpoint_note.clone().into_bytes();
                let at = at.index(note.len());
                note[at] ^= 1_u8 << bit;
                let Ok(note) = String::from_utf8(note) else { return Ok(()) };
                r.checkpoint_note = note;
            }
        }
        prop_assert!(r.verify(&keys()).is_err());
    }

    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,200}", n in 0..300_usize) {
        let _ = Receipt::parse(&text);
        let (good, _) = receipt(1);
        let mut text = good.to_text();
        if let Some((at, _)) = text.char_indices().nth(n) {
            text.insert(at, '\n');
            let _ = Receipt::parse(&text).map(|r| r.verify(&keys()));
        }
    }
}
