//! Hashing and proofs of the RFC 6962 tree (§2.1; RFC 9162 §2.1 hashes the same way).
//!
//! Verification only. Proofs are made by [`crate::frontier`] (newest leaves, no log read) and
//! [`crate::proof_from`] (any leaf, O(log n) tiles).

use crate::Hash;
use sha2::{Digest, Sha256};

/// The root of a tree without leaves: SHA-256 of nothing (RFC 6962 §2.1).
#[must_use]
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// SHA-256(0x00 ‖ entry) (RFC 6962 §2.1).
#[must_use]
pub fn leaf_hash(entry: &[u8]) -> Hash {
    Sha256::new_with_prefix([0x00])
        .chain_update(entry)
        .finalize()
        .into()
}

/// SHA-256(0x01 ‖ left ‖ right) (RFC 6962 §2.1).
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut block = [0x01_u8; 65];
    let (_, children) = block.split_at_mut(1);
    let (l, r) = children.split_at_mut(32);
    l.copy_from_slice(left);
    r.copy_from_slice(right);
    Sha256::digest(block).into()
}

/// Checks that `leaf` (a leaf *hash*) stands at `index` in the tree of `size` leaves with `root`.
///
/// # Errors
/// [`ProofError`]; the proof is bad for good.
pub fn verify_inclusion(
    index: u64,
    size: u64,
    leaf: &Hash,
    proof: &[Hash],
    root: &Hash,
) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::IndexBeyondSize { index, size });
    }
    let (inner, border) = path_shape(index, size - 1);
    if proof.len() != inner + border {
        return Err(ProofError::WrongLength {
            expected: inner + border,
            given: proof.len(),
        });
    }
    let (inner_part, border_part) = proof.split_at(inner);
    let node = chain_inner(*leaf, inner_part, index);
    if chain_left(node, border_part) == *root {
        Ok(())
    } else {
        Err(ProofError::WrongRoot)
    }
}

/// Checks that the tree of `new` leaves begins with the tree of `old` leaves (RFC 6962 §2.1.2).
///
/// `old` = 0 is decided as RFC 9162 §2.1.4.1 and the C2SP witnesses do: an empty proof from the
/// empty tree is consistent with every tree, provided that `old_root` is the empty root (and, if
/// `new` is 0 too, that `new_root` is). Some libraries refuse to answer here; we answer, since a
/// caller without state may start from size 0.
///
/// # Errors
/// [`ProofError`]; the proof is bad for good.
pub fn verify_consistency(
    old: u64,
    new: u64,
    proof: &[Hash],
    old_root: &Hash,
    new_root: &Hash,
) -> Result<(), ProofError> {
    if old > new {
        return Err(ProofError::TreeShrank { old, new });
    }
    if old == 0 || old == new {
        if !proof.is_empty() {
            return Err(ProofError::WrongLength {
                expected: 0,
                given: proof.len(),
            });
        }
        if old == 0 && *old_root != empty_root() {
            return Err(ProofError::WrongOldRoot);
        }
        return if old == new && old_root != new_root {
            Err(ProofError::WrongRoot)
        } else {
            Ok(())
        };
    }
    // The proof is the path of the last complete subtree of the old tree; that subtree itself
    // comes first unless it is the whole old tree.
    let level = old.trailing_zeros();
    let index = (old - 1) >> level;
    let (inner, border) = path_shape(index, (new - 1) >> level);
    let seeded = usize::from(index != 0);
    if proof.len() != seeded + inner + border {
        return Err(ProofError::WrongLength {
            expected: seeded + inner + border,
            given: proof.len(),
        });
    }
    let (seed, path) = match proof.split_first() {
        Some((first, rest)) if seeded == 1 => (*first, rest),
        _ => (*old_root, proof),
    };
    let (inner_part, border_part) = path.split_at(inner);
    let old_side = chain_left(chain_inner_right(seed, inner_part, index), border_part);
    if old_side != *old_root {
        return Err(ProofError::WrongOldRoot);
    }
    let new_side = chain_left(chain_inner(seed, inner_part, index), border_part);
    if new_side == *new_root {
        Ok(())
    } else {
        Err(ProofError::WrongRoot)
    }
}

/// Why a Merkle proof does not hold. Retrying cannot help: another proof is needed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The leaf's index is not below the tree's size.
    #[error("leaf index {index} is beyond the tree's {size} leaves")]
    IndexBeyondSize {
        /// The index asked for.
        index: u64,
        /// The tree's size.
        size: u64,
    },
    /// A proof between these two points has another number of hashes.
    #[error("the proof has {given} hashes, {expected} were expected")]
    WrongLength {
        /// How many RFC 6962 asks for.
        expected: usize,
        /// How many were given.
        given: usize,
    },
    /// The newer tree is said to be smaller than the older.
    #[error("the tree shrank from {old} leaves to {new}")]
    TreeShrank {
        /// Older size.
        old: u64,
        /// Newer size.
        new: u64,
    },
    /// The hashes do not add up to the (newer) root.
    #[error("the proof does not lead to the tree's root")]
    WrongRoot,
    /// The hashes do not add up to the older root: the history was changed.
    #[error("the proof does not lead to the older root")]
    WrongOldRoot,
}

/// How many path steps have a sibling that may be right or left (below the point where the path
/// joins the tree's right edge), and how many have left siblings only. `last` is the index of the
/// last unit.
pub(crate) const fn path_shape(index: u64, last: u64) -> (usize, usize) {
    let inner = (u64::BITS - (index ^ last).leading_zeros()) as usize;
    let border = match index.checked_shr(inner as u32) {
        Some(rest) => rest.count_ones() as usize,
        None => 0,
    };
    (inner, border)
}

fn chain_inner(seed: Hash, proof: &[Hash], index: u64) -> Hash {
    proof.iter().enumerate().fold(seed, |node, (i, sibling)| {
        if (index >> i) & 1 == 0 {
            node_hash(&node, sibling)
        } else {
            node_hash(sibling, &node)
        }
    })
}

/// As [`chain_inner`], with the left siblings alone: what the older tree saw.
fn chain_inner_right(seed: Hash, proof: &[Hash], index: u64) -> Hash {
    proof.iter().enumerate().fold(seed, |node, (i, sibling)| {
        if (index >> i) & 1 == 1 {
            node_hash(sibling, &node)
        } else {
            node
        }
    })
}

fn chain_left(seed: Hash, proof: &[Hash]) -> Hash {
    proof
        .iter()
        .fold(seed, |node, sibling| node_hash(sibling, &node))
}
