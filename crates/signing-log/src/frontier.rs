//! The right edge of a tree: all that is needed to append, to know the root and to prove the newest
//! leaves. Its size is at most 63 hashes however long the log is, so start-up and append never read
//! the log.

use crate::Hash;
use crate::merkle::{empty_root, node_hash, path_shape};

/// The largest tree we speak of; leaves room for every database's signed 64-bit integers.
pub const MAX_SIZE: u64 = i64::MAX as u64;

/// The maximal complete subtrees of a tree, left to right (so the largest first).
///
/// Invariant: there is exactly one node for each bit set in `size`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    nodes: Vec<Hash>,
}

impl Frontier {
    /// Of the tree without leaves.
    #[must_use]
    pub const fn empty() -> Self {
        Self {
            size: 0,
            nodes: Vec::new(),
        }
    }

    /// From its stored parts. Nothing proves here that the nodes are the right ones: compare
    /// [`Frontier::root`] with a checkpoint.
    ///
    /// # Errors
    /// [`FrontierError`] if there is not one node for each bit set in `size`.
    pub fn from_parts(size: u64, nodes: Vec<Hash>) -> Result<Self, FrontierError> {
        if size > MAX_SIZE {
            return Err(FrontierError::TooLarge { size });
        }
        let expected = size.count_ones() as usize;
        if nodes.len() == expected {
            Ok(Self { size, nodes })
        } else {
            Err(FrontierError::WrongNodeCount {
                size,
                expected,
                given: nodes.len(),
            })
        }
    }

    /// Number of leaves.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The maximal complete subtrees, largest first.
    #[must_use]
    pub fn nodes(&self) -> &[Hash] {
        &self.nodes
    }

    /// The tree's root.
    #[must_use]
    pub fn root(&self) -> Hash {
        fold_right(&self.nodes).unwrap_or_else(empty_root)
    }

    /// Appends one leaf hash.
    pub fn append(&mut self, leaf_hash: Hash) {
        let mut node = leaf_hash;
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.nodes.pop() {
                node = node_hash(&left, &node);
            }
        }
        self.nodes.push(node);
        self.size += 1;
    }

    /// Appends leaf hashes and keeps what is needed to prove each of them, and the step itself,
    /// without reading the log.
    pub fn append_batch(&mut self, leaves: &[Hash]) -> AppendedBatch {
        let known = KnownNodes::build(self, leaves);
        let (old_size, new_size) = (self.size, self.size + leaves.len() as u64);
        self.size = new_size;
        self.nodes.clear();
        for level in (0..bits(new_size)).rev() {
            if (new_size >> level) & 1 == 1
                && let Some(node) = known.get(level, (new_size >> level) - 1)
            {
                self.nodes.push(node);
            }
        }
        let mut subtrees = Vec::new();
        for tile_level in 1..=u64::BITS / 8 - 1 {
            let shift = tile_level * 8;
            for index in (old_size >> shift)..(new_size >> shift) {
                if let Some(hash) = known.get(shift, index) {
                    subtrees.push(Subtree {
                        level: tile_level as u8,
                        index,
                        hash,
                    });
                }
            }
        }
        AppendedBatch {
            old_size,
            new_size,
            root: self.root(),
            subtrees,
            edges: edges(new_size, &self.nodes),
            known,
        }
    }

    /// `u64` size, big-endian, then the nodes, 32 bytes each.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(8 + 32 * self.nodes.len());
        out.extend_from_slice(&self.size.to_be_bytes());
        self.nodes.iter().for_each(|n| out.extend_from_slice(n));
        out
    }

    /// Reads what [`Frontier::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`FrontierError`] for any other bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FrontierError> {
        let (size, rest) = bytes
            .split_first_chunk::<8>()
            .ok_or(FrontierError::Truncated)?;
        let (nodes, rest) = rest.as_chunks::<32>();
        if rest.is_empty() {
            Self::from_parts(u64::from_be_bytes(*size), nodes.to_vec())
        } else {
            Err(FrontierError::Truncated)
        }
    }
}

/// Why stored bytes are not a right edge. Retrying cannot help; the state is damaged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrontierError {
    /// The number of nodes does not fit the size.
    #[error("a tree of {size} leaves has {expected} complete subtrees, {given} were given")]
    WrongNodeCount {
        /// The tree's size.
        size: u64,
        /// One per bit set in the size.
        expected: usize,
        /// How many came.
        given: usize,
    },
    /// A size no log reaches.
    #[error("a tree of {size} leaves is beyond what a log may hold")]
    TooLarge {
        /// The size given.
        size: u64,
    },
    /// Bytes end in the middle of a number or a hash.
    #[error("the bytes of a right edge end in the middle of a value")]
    Truncated,
}

/// The hash of one completed, aligned block of 256^`level` leaves: an entry of the tile at `level`
/// (standards: tlog-tiles). These are what a store keeps beside the leaf hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subtree {
    /// Tile level, ≥ 1.
    pub level: u8,
    /// Which block of that size, from the left.
    pub index: u64,
    /// Its root.
    pub hash: Hash,
}

/// What one batch did to a tree.
#[derive(Debug, Clone)]
pub struct AppendedBatch {
    /// Size before.
    pub old_size: u64,
    /// Size after.
    pub new_size: u64,
    /// Root after.
    pub root: Hash,
    /// Blocks of 256, 65,536, … leaves that this batch completed, lowest level first.
    pub subtrees: Vec<Subtree>,
    known: KnownNodes,
    edges: Vec<Option<Hash>>,
}

impl AppendedBatch {
    /// The inclusion proof, in the tree of `new_size`, of a leaf of this batch; `None` for a leaf
    /// that is not of this batch.
    #[must_use]
    pub fn inclusion_proof(&self, index: u64) -> Option<Vec<Hash>> {
        if index < self.old_size || index >= self.new_size {
            return None;
        }
        path(0, index, self.new_size)
            .map(|n| self.resolve(n))
            .collect()
    }

    /// The consistency proof from `old_size` to `new_size`.
    #[must_use]
    pub fn consistency_proof(&self) -> Vec<Hash> {
        // Every node of this path is known by construction (see `KnownNodes`).
        consistency_path(self.old_size, self.new_size)
            .filter_map(|n| self.resolve(n))
            .collect()
    }

    fn resolve(&self, node: Node) -> Option<Hash> {
        match node {
            Node::Complete { level, index } => self.known.get(level, index),
            Node::Edge { level } => self.edges.get(level as usize).copied().flatten(),
        }
    }
}

/// A node that a proof needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Node {
    /// The root of the aligned block of 2^`level` leaves number `index`.
    Complete {
        /// Binary level; 0 is a leaf.
        level: u32,
        /// Which block.
        index: u64,
    },
    /// The root of the last, incomplete block at this level: everything right of the complete ones.
    Edge {
        /// Binary level.
        level: u32,
    },
}

/// The siblings on the way from the complete block (`level`, `index`) to the root of the tree of
/// `size` leaves, lowest first. The block must lie inside the tree.
pub(crate) fn path(level: u32, index: u64, size: u64) -> impl Iterator<Item = Node> {
    let last = size.saturating_sub(1).checked_shr(level).unwrap_or(0);
    let (inner, _) = path_shape(index, last);
    let inner = inner as u32;
    let inside = (0..inner).map(move |step| {
        let (level, index) = (level + step, (index >> step) ^ 1);
        if index == size >> level && size.trailing_zeros() < level {
            Node::Edge { level }
        } else {
            Node::Complete { level, index }
        }
    });
    let border = (inner..u64::BITS)
        .filter(move |step| (index >> step) & 1 == 1)
        .map(move |step| Node::Complete {
            level: level + step,
            index: (index >> step) - 1,
        });
    inside.chain(border)
}

/// The nodes of the consistency proof `old` → `new`, in the order of RFC 6962 §2.1.2.
pub(crate) fn consistency_path(old: u64, new: u64) -> impl Iterator<Item = Node> {
    let wanted = old != 0 && old < new;
    let level = if wanted { old.trailing_zeros() } else { 0 };
    let index = old.saturating_sub(1) >> level;
    let seed = (wanted && index != 0).then_some(Node::Complete { level, index });
    let rest = wanted
        .then(|| path(level, index, new))
        .into_iter()
        .flatten();
    seed.into_iter().chain(rest)
}

/// For each level, the root of everything right of the complete blocks of that level.
pub(crate) fn edges(size: u64, frontier: &[Hash]) -> Vec<Option<Hash>> {
    let mut nodes = frontier.iter().rev();
    let mut edge: Option<Hash> = None;
    (0..=bits(size))
        .map(|level| {
            let here = edge;
            if (size >> level) & 1 == 1
                && let Some(node) = nodes.next()
            {
                edge = Some(edge.map_or(*node, |e| node_hash(node, &e)));
            }
            here
        })
        .collect()
}

/// All complete nodes that the batch made or touched, level by level, in one allocation.
///
/// At each level the known nodes are contiguous: the frontier's own node of that level, if it has
/// one, then the parents of the pairs below. The first of them always has an even index below the
/// pairing, so pairs never straddle the old edge.
#[derive(Debug, Clone)]
struct KnownNodes {
    nodes: Vec<Hash>,
    levels: Vec<KnownLevel>,
}

#[derive(Debug, Clone, Copy)]
struct KnownLevel {
    first_index: u64,
    start: usize,
    end: usize,
}

impl KnownNodes {
    fn build(frontier: &Frontier, leaves: &[Hash]) -> Self {
        let old = frontier.size;
        let levels_count = bits(old + leaves.len() as u64);
        let mut nodes =
            Vec::with_capacity(2 * leaves.len() + frontier.nodes.len() + levels_count as usize);
        let mut levels: Vec<KnownLevel> = Vec::with_capacity(levels_count as usize);
        let mut old_nodes = frontier.nodes.iter().rev();
        for level in 0..levels_count {
            let start = nodes.len();
            let mut first_index = old >> level;
            if (old >> level) & 1 == 1
                && let Some(node) = old_nodes.next()
            {
                nodes.push(*node);
                first_index -= 1;
            }
            match levels.last().copied() {
                None => nodes.extend_from_slice(leaves),
                Some(below) => {
                    let mut at = below.start;
                    while at + 1 < below.end {
                        if let (Some(left), Some(right)) = (nodes.get(at), nodes.get(at + 1)) {
                            let parent = node_hash(left, right);
                            nodes.push(parent);
                        }
                        at += 2;
                    }
                }
            }
            levels.push(KnownLevel {
                first_index,
                start,
                end: nodes.len(),
            });
        }
        Self { nodes, levels }
    }

    fn get(&self, level: u32, index: u64) -> Option<Hash> {
        let known = self.levels.get(level as usize)?;
        let offset = usize::try_from(index.checked_sub(known.first_index)?).ok()?;
        let at = known.start.checked_add(offset)?;
        if at < known.end {
            self.nodes.get(at).copied()
        } else {
            None
        }
    }
}

pub(crate) const fn bits(n: u64) -> u32 {
    u64::BITS - n.leading_zeros()
}

fn fold_right(nodes: &[Hash]) -> Option<Hash> {
    let (last, rest) = nodes.split_last()?;
    Some(
        rest.iter()
            .rev()
            .fold(*last, |right, left| node_hash(left, &right)),
    )
}
