//! The right edge and its proofs against the RFC's own recursion and against ct-merkle.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::naive_root;
use countersign_signing_log::merkle::{
    ProofError, empty_root, leaf_hash, verify_consistency, verify_inclusion,
};
use countersign_signing_log::proof_from::{
    self, NodeLookup, NodeMap, ProofFromError, RangeError, Read, consistency_proof,
    consistency_reads, frontier_at, frontier_reads, inclusion_proof, inclusion_reads,
};
use countersign_signing_log::{Frontier, Hash};
use ct_merkle::mem_backed_tree::MemoryBackedTree;
use proptest::prelude::*;
use sha2::Sha256;
use std::cell::Cell;
use std::convert::Infallible;

fn entry(i: usize) -> Vec<u8> {
    format!("entry {i}").into_bytes()
}

fn hashes(n: usize) -> Vec<Hash> {
    (0..n).map(|i| leaf_hash(&entry(i))).collect()
}

fn frontier_of(hashes: &[Hash]) -> Frontier {
    let mut f = Frontier::empty();
    hashes.iter().for_each(|h| f.append(*h));
    f
}

/// What a store keeps: leaf hashes and the completed blocks. Counts reads by tile.
struct Stored {
    levels: Vec<Vec<Hash>>,
    reads: Cell<usize>,
}

impl Stored {
    fn new(leaves: &[Hash]) -> Self {
        let mut levels = vec![leaves.to_vec()];
        let mut frontier = Frontier::empty();
        for chunk in leaves.chunks(100) {
            for s in frontier.append_batch(chunk).subtrees {
                if levels.len() <= usize::from(s.level) {
                    levels.push(Vec::new());
                }
                let level = &mut levels[usize::from(s.level)];
                assert_eq!(level.len() as u64, s.index, "each block once, in order");
                level.push(s.hash);
            }
        }
        Self {
            levels,
            reads: Cell::new(0),
        }
    }
}

impl NodeLookup for Stored {
    type Error = Infallible;
    fn subtree(&self, level: u8, index: u64) -> Result<Option<Hash>, Infallible> {
        let level = self.levels.get(usize::from(level));
        Ok(level.and_then(|l| l.get(index as usize)).copied())
    }
    fn subtrees(&self, level: u8, first: u64, n: u16) -> Result<Option<Vec<Hash>>, Infallible> {
        self.reads.set(self.reads.get() + 1);
        assert!(
            n <= 128 && first / 256 == (first + u64::from(n) - 1) / 256,
            "within one tile"
        );
        (first..first + u64::from(n))
            .map(|i| self.subtree(level, i))
            .collect()
    }
}

#[test]
fn frontier_root_is_the_naive_root_for_sizes_0_to_600() {
    let all = hashes(600);
    let mut frontier = Frontier::empty();
    assert_eq!(frontier.root(), empty_root());
    for size in 0..=600 {
        assert_eq!(frontier.size(), size as u64);
        assert_eq!(frontier.root(), naive_root(&all[..size]), "size {size}");
        assert_eq!(frontier.nodes().len(), size.count_ones() as usize);
        assert_eq!(
            Frontier::from_bytes(&frontier.to_bytes()),
            Ok(frontier.clone())
        );
        if size < 600 {
            frontier.append(all[size]);
        }
    }
}

#[test]
fn a_batch_proves_each_leaf_and_its_own_step_for_all_pairs_up_to_130() {
    let all = hashes(130);
    let trees: Vec<_> = (0..=130)
        .map(|n| {
            let mut tree = MemoryBackedTree::<Sha256, Vec<u8>>::new();
            (0..n).for_each(|i| tree.push(entry(i)));
            tree
        })
        .collect();
    let oracle: Vec<Vec<Vec<u8>>> = trees
        .iter()
        .map(|t| {
            (0..t.len())
                .map(|i| t.prove_inclusion(i as usize).as_bytes().to_vec())
                .collect()
        })
        .collect();
    let frontiers: Vec<Frontier> = (0..=130).map(|n| frontier_of(&all[..n])).collect();
    let roots: Vec<Hash> = frontiers.iter().map(Frontier::root).collect();
    let mut proofs = 0;
    for old in 0..=130 {
        let before = &frontiers[old];
        for new in old..=130 {
            let mut frontier = before.clone();
            let batch = frontier.append_batch(&all[old..new]);
            assert_eq!((batch.old_size, batch.new_size), (old as u64, new as u64));
            assert_eq!(frontier, frontiers[new], "{old} → {new}");
            assert_eq!(batch.root, roots[new]);
            let step = batch.consistency_proof();
            let (old_root, root) = (roots[old], batch.root);
            verify_consistency(old as u64, new as u64, &step, &old_root, &root).unwrap();
            if 0 < old && old < new {
                let oracle = trees[new].prove_consistency(new - old);
                assert_eq!(oracle.as_bytes(), step.concat(), "{old} → {new}");
            }
            for index in old..new {
                let proof = batch.inclusion_proof(index as u64).unwrap();
                let leaf = &all[index];
                if old % 10 == 0 {
                    verify_inclusion(index as u64, new as u64, leaf, &proof, &root).unwrap();
                }
                assert_eq!(oracle[new][index], proof.concat(), "{index} in {new}");
                proofs += 1;
            }
            assert_eq!(batch.inclusion_proof(new as u64), None);
            if old > 0 {
                assert_eq!(batch.inclusion_proof(old as u64 - 1), None);
            }
        }
    }
    println!("{proofs} inclusion proofs equal ct-merkle's");
}

#[test]
fn proofs_from_a_stored_log_equal_the_oracle_and_read_little() {
    let n = 70_000;
    let all = hashes(n);
    let stored = Stored::new(&all);
    let mut tree = MemoryBackedTree::<Sha256, Vec<u8>>::new();
    (0..n).for_each(|i| tree.push(entry(i)));
    for index in [
        0, 1, 255, 256, 257, 32_767, 32_768, 65_535, 65_536, 69_887, 69_888, 69_999,
    ] {
        stored.reads.set(0);
        let proof = inclusion_proof(&stored, index, n as u64).unwrap();
        assert_eq!(
            proof.concat(),
            tree.prove_inclusion(index as usize).as_bytes(),
            "{index}"
        );
        assert!(stored.reads.get() <= 40, "{} reads", stored.reads.get());
        let mut map = NodeMap::default();
        for Read {
            level,
            first,
            count,
        } in inclusion_reads(index, n as u64).unwrap()
        {
            for i in first..first + u64::from(count) {
                map.insert(level, i, stored.subtree(level, i).unwrap().unwrap());
            }
        }
        assert_eq!(inclusion_proof(&map, index, n as u64), Ok(proof));
    }
    for old in [
        1, 2, 3, 255, 256, 257, 4_096, 65_535, 65_536, 65_537, 69_888, 69_999,
    ] {
        let proof = consistency_proof(&stored, old, n as u64).unwrap();
        assert_eq!(
            proof.concat(),
            tree.prove_consistency(n - old as usize).as_bytes(),
            "{old}"
        );
        let mut map = NodeMap::default();
        for Read {
            level,
            first,
            count,
        } in consistency_reads(old, n as u64).unwrap()
        {
            for i in first..first + u64::from(count) {
                map.insert(level, i, stored.subtree(level, i).unwrap().unwrap());
            }
        }
        assert_eq!(consistency_proof(&map, old, n as u64), Ok(proof));
        let frontier = frontier_at(&stored, old).unwrap();
        assert_eq!(frontier, frontier_of(&all[..old as usize]));
        assert_eq!(frontier_reads(old).len(), old.count_ones() as usize);
    }
}

#[test]
fn proofs_from_a_small_stored_log_at_every_size() {
    let all = hashes(300);
    let stored = Stored::new(&all);
    let roots: Vec<Hash> = (0..=300).map(|n| naive_root(&all[..n])).collect();
    for new in 0..=300_u64 {
        let root = roots[new as usize];
        assert_eq!(frontier_at(&stored, new).unwrap().root(), root);
        for at in (0..=new).filter(|at| new < 66 || at % 17 == 0 || new - at < 3) {
            let old_root = roots[at as usize];
            let step = consistency_proof(&stored, at, new).unwrap();
            verify_consistency(at, new, &step, &old_root, &root).unwrap();
            if at < new {
                let proof = inclusion_proof(&stored, at, new).unwrap();
                verify_inclusion(at, new, &all[at as usize], &proof, &root).unwrap();
            }
        }
    }
}

#[test]
fn numbers_that_no_tree_has_are_refused() {
    let stored = Stored::new(&hashes(10));
    let beyond = RangeError::IndexBeyondSize { index: 5, size: 5 };
    assert_eq!(
        inclusion_proof(&stored, 5, 5),
        Err(ProofFromError::Range(beyond))
    );
    let back = RangeError::Backwards { old: 6, new: 5 };
    assert_eq!(
        consistency_proof(&stored, 6, 5),
        Err(ProofFromError::Range(back))
    );
    let large = RangeError::TooLarge { size: u64::MAX };
    assert_eq!(
        frontier_at(&stored, u64::MAX),
        Err(ProofFromError::Range(large.clone()))
    );
    assert_eq!(inclusion_reads(0, u64::MAX), Err(large));
    assert!(matches!(
        proof_from::inclusion_proof(&stored, 3, 64),
        Err(ProofFromError::Missing { .. })
    ));
    let root = empty_root();
    assert_eq!(
        verify_inclusion(u64::MAX, u64::MAX, &root, &[], &root),
        Err(ProofError::IndexBeyondSize {
            index: u64::MAX,
            size: u64::MAX
        })
    );
    assert!(verify_inclusion(0, u64::MAX, &root, &[], &root).is_err());
    assert!(verify_consistency(u64::MAX, u64::MAX, &[], &root, &root).is_ok());
    assert!(verify_consistency(1 << 63, u64::MAX, &[root; 3], &root, &root).is_err());
}

#[test]
fn a_right_edge_with_too_many_nodes_is_refused() {
    assert!(Frontier::from_parts(3, vec![[0; 32]; 3]).is_err());
    assert!(Frontier::from_parts(u64::MAX, vec![[0; 32]; 64]).is_err());
    assert!(Frontier::from_bytes(&[0; 9]).is_err());
    assert!(Frontier::from_bytes(&[]).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_batches_grow_the_naive_tree(sizes in prop::collection::vec(0..90_usize, 1..12)) {
        let all = hashes(sizes.iter().sum());
        let mut frontier = Frontier::empty();
        let mut at = 0;
        for size in sizes {
            let before = frontier.root();
            let batch = frontier.append_batch(&all[at..at + size]);
            at += size;
            prop_assert_eq!(batch.root, naive_root(&all[..at]));
            prop_assert_eq!(&frontier, &frontier_of(&all[..at]));
            for s in &batch.subtrees {
                let span = 256_usize.pow(u32::from(s.level));
                let block = &all[s.index as usize * span..(s.index as usize + 1) * span];
                prop_assert_eq!(s.hash, naive_root(block));
            }
            let step = batch.consistency_proof();
            prop_assert_eq!(
                verify_consistency(batch.old_size, batch.new_size, &step, &before, &batch.root),
                Ok(())
            );
            for index in batch.old_size..batch.new_size {
                let proof = batch.inclusion_proof(index).unwrap();
                let leaf = &all[index as usize];
                prop_assert_eq!(
                    verify_inclusion(index, batch.new_size, leaf, &proof, &batch.root),
                    Ok(())
                );
            }
        }
    }

    #[test]
    fn a_right_edge_from_arbitrary_bytes_never_panics(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        if let Ok(f) = Frontier::from_bytes(&bytes) {
            prop_assert_eq!(f.to_bytes(), bytes);
            let _ = f.root();
        }
    }
}
