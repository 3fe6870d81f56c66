//! The signing log: leaves, tree, checkpoints, tiles, receipts, and the verifier of all of them.
//!
//! Every key has a log of its uses and every tenant a log of everything else. A log is an RFC 6962
//! Merkle tree over *leaves*, each the exact bytes of one JSON line ([`leaf`]); its head is a signed
//! [`checkpoint`]; it is served as [C2SP tlog-tiles](https://c2sp.org/tlog-tiles) ([`mod@tile`]), and each
//! signature comes with a [`receipt`] that proves its authorisation leaf. What a tenant would not
//! want strangers to read stands in a leaf as a salted [`commitment`]; the [`details`] that open it
//! live beside the log.
//!
//! This crate does no I/O, has no clock and no runtime: an auditor can take it alone. The server
//! writes with [`frontier`] (appending and proving never reads the log), everybody else reads with
//! [`mod@audit`] and [`receipt`]. The byte formats are told in `docs/log-format.md`, precisely enough to
//! write a second implementation.
#![forbid(unsafe_code)]

pub mod audit;
pub mod checkpoint;
pub mod commitment;
pub mod details;
pub mod frontier;
pub mod leaf;
pub mod merkle;
pub mod note;
pub mod proof_from;
pub mod receipt;
pub mod tile;

pub use audit::{AuditReport, LogSource, audit, audit_with};
pub use checkpoint::Checkpoint;
pub use commitment::{Commitment, Opening, Salt};
pub use details::Details;
pub use frontier::{AppendedBatch, Frontier};
pub use leaf::{Leaf, LeafBody};
pub use note::{SigningKey, VerifierKey};
pub use receipt::{Receipt, VerifiedReceipt};
pub use tile::{EntryBundle, Tile, TilePath, tiles_for_size};

/// A SHA-256 value: a leaf hash, a node or a root.
pub type Hash = [u8; 32];

/// Any error of this crate, for callers that do not care which part spoke. Each inner enum says
/// what caused it; all are about bytes given, so retrying with the same bytes never helps.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A Merkle proof does not hold.
    #[error(transparent)]
    Proof(#[from] merkle::ProofError),
    /// A stored right edge is not one.
    #[error(transparent)]
    Frontier(#[from] frontier::FrontierError),
    /// A signed note is malformed or its signatures do not hold.
    #[error(transparent)]
    Note(#[from] note::NoteError),
    /// A checkpoint is malformed, of another log, or not signed by the log.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::CheckpointError),
    /// Bytes are not a leaf, or a leaf cannot be written.
    #[error(transparent)]
    Leaf(#[from] leaf::LeafError),
    /// A tile or its path is malformed.
    #[error(transparent)]
    Tile(#[from] tile::TileError),
    /// Details are malformed or another leaf's.
    #[error(transparent)]
    Details(#[from] details::DetailsError),
    /// A receipt proves nothing.
    #[error(transparent)]
    Receipt(#[from] receipt::ReceiptError),
}
