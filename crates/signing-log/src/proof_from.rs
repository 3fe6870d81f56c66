//! Proofs of any leaf from a stored log, reading O(log n) tiles.
//!
//! A store keeps what tiles hold: leaf hashes (level 0) and the roots of completed blocks of 256^l
//! leaves (level l). Everything in between is recomputed. Two ways to feed it: implement
//! [`NodeLookup`], or, where reading is asynchronous, ask [`inclusion_reads`] (or its siblings) what
//! to read, fill a [`NodeMap`] and call the proof with that.

use crate::Hash;
use crate::frontier::{Frontier, MAX_SIZE, Node, bits, consistency_path, edges, path};
use crate::merkle::node_hash;
use std::collections::{BTreeMap, BTreeSet};

/// Where the stored hashes are.
pub trait NodeLookup {
    /// What reading can fail with.
    type Error;

    /// The root of the completed block `index` of 256^`level` leaves; level 0 is leaf hashes.
    ///
    /// # Errors
    /// Whatever the store says; the proof stops there.
    fn subtree(&self, level: u8, index: u64) -> Result<Option<Hash>, Self::Error>;

    /// The `count` (at most 256, within one tile) hashes from `first` on. Stores that can read a
    /// range at once should.
    ///
    /// # Errors
    /// As [`NodeLookup::subtree`].
    fn subtrees(
        &self,
        level: u8,
        first: u64,
        count: u16,
    ) -> Result<Option<Vec<Hash>>, Self::Error> {
        (first..first.saturating_add(u64::from(count)))
            .map(|i| self.subtree(level, i))
            .collect()
    }
}

/// A range of stored hashes; always within one tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Read {
    /// Tile level.
    pub level: u8,
    /// The first hash.
    pub first: u64,
    /// How many, 1 to 128.
    pub count: u16,
}

/// Hashes read beforehand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeMap(BTreeMap<(u8, u64), Hash>);

impl NodeMap {
    /// Keeps one hash.
    pub fn insert(&mut self, level: u8, index: u64, hash: Hash) {
        self.0.insert((level, index), hash);
    }
}

impl NodeLookup for NodeMap {
    type Error = std::convert::Infallible;
    fn subtree(&self, level: u8, index: u64) -> Result<Option<Hash>, Self::Error> {
        Ok(self.0.get(&(level, index)).copied())
    }
}

/// The inclusion proof of the leaf at `index` in the tree of `size` leaves.
///
/// # Errors
/// [`ProofFromError`].
pub fn inclusion_proof<L: NodeLookup>(
    lookup: &L,
    index: u64,
    size: u64,
) -> Result<Vec<Hash>, ProofFromError<L::Error>> {
    check_inclusion(index, size).map_err(ProofFromError::Range)?;
    prove(lookup, path(0, index, size).collect(), size)
}

/// The consistency proof from the tree of `old` leaves to that of `new` leaves.
///
/// # Errors
/// [`ProofFromError`].
pub fn consistency_proof<L: NodeLookup>(
    lookup: &L,
    old: u64,
    new: u64,
) -> Result<Vec<Hash>, ProofFromError<L::Error>> {
    check_consistency(old, new).map_err(ProofFromError::Range)?;
    prove(lookup, consistency_path(old, new).collect(), new)
}

/// The right edge of the tree of `size` leaves.
///
/// # Errors
/// [`ProofFromError`].
pub fn frontier_at<L: NodeLookup>(
    lookup: &L,
    size: u64,
) -> Result<Frontier, ProofFromError<L::Error>> {
    if size > MAX_SIZE {
        return Err(ProofFromError::Range(RangeError::TooLarge { size }));
    }
    let nodes = frontier_nodes(size)
        .map(|(l, i)| complete(lookup, l, i))
        .collect::<Result<_, _>>()?;
    Frontier::from_parts(size, nodes)
        .map_err(|_| ProofFromError::Range(RangeError::TooLarge { size }))
}

/// What [`inclusion_proof`] will read.
///
/// # Errors
/// [`RangeError`].
pub fn inclusion_reads(index: u64, size: u64) -> Result<Vec<Read>, RangeError> {
    check_inclusion(index, size)?;
    Ok(reads(path(0, index, size), size))
}

/// What [`consistency_proof`] will read.
///
/// # Errors
/// [`RangeError`].
pub fn consistency_reads(old: u64, new: u64) -> Result<Vec<Read>, RangeError> {
    check_consistency(old, new)?;
    Ok(reads(consistency_path(old, new), new))
}

/// What [`frontier_at`] will read.
#[must_use]
pub fn frontier_reads(size: u64) -> Vec<Read> {
    frontier_nodes(size).map(|(l, i)| read_of(l, i)).collect()
}

/// A proof that no tree has. Retrying with the same numbers cannot help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// The leaf is not in the tree.
    #[error("leaf index {index} is beyond the tree's {size} leaves")]
    IndexBeyondSize {
        /// The index asked for.
        index: u64,
        /// The tree's size.
        size: u64,
    },
    /// The older tree is larger than the newer.
    #[error("no proof leads from {old} leaves back to {new}")]
    Backwards {
        /// Older size.
        old: u64,
        /// Newer size.
        new: u64,
    },
    /// A size no log reaches.
    #[error("a tree of {size} leaves is beyond what a log may hold")]
    TooLarge {
        /// The size given.
        size: u64,
    },
}

/// Why no proof could be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofFromError<E> {
    /// Asked for what no tree has; retrying cannot help.
    #[error(transparent)]
    Range(RangeError),
    /// A stored hash is missing: the size asked for is beyond the log, or the store is damaged.
    #[error("the hash of block {index} at tile level {level} is missing")]
    Missing {
        /// Tile level.
        level: u8,
        /// Which block.
        index: u64,
    },
    /// The store failed; whether a retry helps is for its error to say.
    #[error("reading the log failed")]
    Lookup(E),
}

fn check_inclusion(index: u64, size: u64) -> Result<(), RangeError> {
    if size > MAX_SIZE {
        Err(RangeError::TooLarge { size })
    } else if index >= size {
        Err(RangeError::IndexBeyondSize { index, size })
    } else {
        Ok(())
    }
}

fn check_consistency(old: u64, new: u64) -> Result<(), RangeError> {
    if new > MAX_SIZE {
        Err(RangeError::TooLarge { size: new })
    } else if old > new {
        Err(RangeError::Backwards { old, new })
    } else {
        Ok(())
    }
}

fn prove<L: NodeLookup>(
    lookup: &L,
    nodes: Vec<Node>,
    size: u64,
) -> Result<Vec<Hash>, ProofFromError<L::Error>> {
    let edge_of = |level: u32| -> Result<Hash, ProofFromError<L::Error>> {
        // Everything right of the complete blocks of this level is a tree of its own.
        let below = size & ((1_u64 << level) - 1);
        let base = size - below;
        let mut frontier = Vec::new();
        for (l, i) in frontier_nodes(below) {
            frontier.push(complete(lookup, l, (base >> l) + i)?);
        }
        let edge = edges(below, &frontier).last().copied().flatten();
        edge.ok_or(ProofFromError::Missing {
            level: 0,
            index: size,
        })
    };
    nodes
        .into_iter()
        .map(|node| match node {
            Node::Complete { level, index } => complete(lookup, level, index),
            Node::Edge { level } => edge_of(level),
        })
        .collect()
}

/// The root of the complete block (`level`, `index`), from the tile entries it is made of.
fn complete<L: NodeLookup>(
    lookup: &L,
    level: u32,
    index: u64,
) -> Result<Hash, ProofFromError<L::Error>> {
    let read = read_of(level, index);
    let missing = ProofFromError::Missing {
        level: read.level,
        index: read.first,
    };
    let mut hashes = lookup
        .subtrees(read.level, read.first, read.count)
        .map_err(ProofFromError::Lookup)?
        .filter(|h| h.len() == usize::from(read.count))
        .unwrap_or_default();
    while hashes.len() > 1 {
        let (pairs, _) = hashes.as_chunks::<2>();
        hashes = pairs.iter().map(|[l, r]| node_hash(l, r)).collect();
    }
    hashes.pop().ok_or(missing)
}

fn read_of(level: u32, index: u64) -> Read {
    let within = level % 8;
    Read {
        level: (level / 8) as u8,
        first: index << within,
        count: 1 << within,
    }
}

fn reads(nodes: impl Iterator<Item = Node>, size: u64) -> Vec<Read> {
    let mut out = BTreeSet::new();
    for node in nodes {
        match node {
            Node::Complete { level, index } => {
                out.insert(read_of(level, index));
            }
            Node::Edge { level } => {
                let below = size & ((1_u64 << level) - 1);
                let base = size - below;
                out.extend(frontier_nodes(below).map(|(l, i)| read_of(l, (base >> l) + i)));
            }
        }
    }
    out.into_iter().collect()
}

/// (binary level, index) of the maximal complete subtrees, largest first.
fn frontier_nodes(size: u64) -> impl Iterator<Item = (u32, u64)> {
    (0..bits(size))
        .rev()
        .filter(move |level| (size >> level) & 1 == 1)
        .map(move |level| (level, (size >> level) - 1))
}
