//! C2SP tlog-tiles v0.1.0: how a log lies on a web server or in a folder.
//!
//! `tile/<level>/<n>[.p/<width>]` holds up to 256 hashes, `tile/entries/<n>[.p/<width>]` up to 256
//! leaves. A full tile never changes.

use crate::Hash;
use crate::checkpoint::decimal;
use std::fmt;

/// Entries of a full tile.
pub const TILE_WIDTH: u16 = 256;
/// The highest level a path may name (tlog-tiles: 0 to 63).
pub const MAX_LEVEL: u8 = 63;

/// What a tile holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TileKind {
    /// Leaves, exact bytes.
    Entries,
    /// Hashes: at level 0 of leaves, at level l of blocks of 256^l leaves.
    Hashes {
        /// The tile level.
        level: u8,
    },
}

/// Where a tile lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TilePath {
    /// Hashes or entries.
    pub kind: TileKind,
    /// Which tile of its level, from the left.
    pub index: u64,
    /// How many entries: 1 to 255 for a partial tile, 256 for a full one.
    pub width: u16,
}

impl TilePath {
    /// Of an entry bundle.
    #[must_use]
    pub const fn entries(index: u64, width: u16) -> Self {
        Self {
            kind: TileKind::Entries,
            index,
            width,
        }
    }

    /// Of a hash tile.
    #[must_use]
    pub const fn hashes(level: u8, index: u64, width: u16) -> Self {
        Self {
            kind: TileKind::Hashes { level },
            index,
            width,
        }
    }

    /// Whether the tile will never grow.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.width == TILE_WIDTH
    }

    /// The full tile at the same place: what a reader asks for when a partial one is gone.
    #[must_use]
    pub const fn full(self) -> Self {
        Self {
            width: TILE_WIDTH,
            ..self
        }
    }

    /// Reads a path without leading slash, such as `tile/0/x001/x234/067.p/8`.
    ///
    /// # Errors
    /// [`TileError::BadPath`] for every other spelling: one tile has one path.
    pub fn parse(path: &str) -> Result<Self, TileError> {
        Self::read(path).ok_or(TileError::BadPath)
    }

    fn read(path: &str) -> Option<Self> {
        if path.len() > 64 {
            return None;
        }
        let (level, rest) = path.strip_prefix("tile/")?.split_once('/')?;
        let kind = if level == "entries" {
            TileKind::Entries
        } else {
            let level = u8::try_from(decimal(level)?)
                .ok()
                .filter(|l| *l <= MAX_LEVEL)?;
            TileKind::Hashes { level }
        };
        let (number, width) = match rest.split_once(".p/") {
            Some((number, width)) => {
                let width = u16::try_from(decimal(width)?).ok()?;
                (number, Some(width).filter(|w| (1..TILE_WIDTH).contains(w))?)
            }
            None => (rest, TILE_WIDTH),
        };
        let mut index: u64 = 0;
        let mut groups = number.split('/').peekable();
        while let Some(group) = groups.next() {
            let digits = match (group.strip_prefix('x'), groups.peek()) {
                (Some(digits), Some(_)) => digits,
                (None, None) => group,
                _ => return None,
            };
            if digits.len() != 3 || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            index = index.checked_mul(1000)?.checked_add(digits.parse().ok()?)?;
        }
        let parsed = Self { kind, index, width };
        // Refuses leading groups of zeros.
        (parsed.to_string() == path).then_some(parsed)
    }
}

impl fmt::Display for TilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            TileKind::Entries => f.write_str("tile/entries/")?,
            TileKind::Hashes { level } => write!(f, "tile/{level}/")?,
        }
        let mut divisor: u64 = 1;
        while self.index / divisor >= 1000 {
            divisor *= 1000;
        }
        while divisor > 1 {
            write!(f, "x{:03}/", self.index / divisor % 1000)?;
            divisor /= 1000;
        }
        write!(f, "{:03}", self.index % 1000)?;
        if self.is_full() {
            Ok(())
        } else {
            write!(f, ".p/{}", self.width)
        }
    }
}

impl std::str::FromStr for TilePath {
    type Err = TileError;
    fn from_str(s: &str) -> Result<Self, TileError> {
        Self::parse(s)
    }
}

/// All tiles of a log of `size` leaves: entry bundles first, then hash tiles level by level.
/// Tiles without entries do not exist.
pub fn tiles_for_size(size: u64) -> impl Iterator<Item = TilePath> {
    let entries = widths(size).map(|(index, width)| TilePath::entries(index, width));
    let hashes = (0..8_u8).flat_map(move |level| {
        widths(size >> (8 * u32::from(level)))
            .map(move |(index, width)| TilePath::hashes(level, index, width))
    });
    entries.chain(hashes)
}

/// Index and width of the tiles that hold `count` entries.
pub(crate) fn widths(count: u64) -> impl Iterator<Item = (u64, u16)> {
    let full = count >> 8;
    let rest = (count & 0xff) as u16;
    (0..full)
        .map(|i| (i, TILE_WIDTH))
        .chain((rest > 0).then_some((full, rest)))
}

/// A hash tile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tile {
    /// 1 to 256 hashes.
    pub hashes: Vec<Hash>,
}

impl Tile {
    /// The bytes served.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.hashes.concat()
    }

    /// Reads a tile of exactly `width` hashes.
    ///
    /// # Errors
    /// [`TileError::WrongSize`].
    pub fn decode(bytes: &[u8], width: u16) -> Result<Self, TileError> {
        let (hashes, rest) = bytes.as_chunks::<32>();
        if rest.is_empty() && hashes.len() == usize::from(width) {
            Ok(Self {
                hashes: hashes.to_vec(),
            })
        } else {
            Err(TileError::WrongSize {
                expected: width,
                bytes: bytes.len(),
            })
        }
    }
}

/// A bundle of leaves: for each, its length in two bytes (big-endian) and its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryBundle {
    /// 1 to 256 leaves.
    pub entries: Vec<Vec<u8>>,
}

impl EntryBundle {
    /// The bytes served.
    ///
    /// # Errors
    /// [`TileError::EntryTooLong`] for a leaf over 65,535 bytes.
    pub fn encode(&self) -> Result<Vec<u8>, TileError> {
        let total = self.entries.iter().map(|e| e.len() + 2).sum();
        let mut out = Vec::with_capacity(total);
        for entry in &self.entries {
            let length = u16::try_from(entry.len()).map_err(|_| TileError::EntryTooLong {
                length: entry.len(),
            })?;
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(entry);
        }
        Ok(out)
    }

    /// Reads a bundle of exactly `width` leaves.
    ///
    /// # Errors
    /// [`TileError::WrongSize`] if there are fewer or more, or the last one is cut off.
    pub fn decode(bytes: &[u8], width: u16) -> Result<Self, TileError> {
        let wrong = TileError::WrongSize {
            expected: width,
            bytes: bytes.len(),
        };
        let mut entries = Vec::with_capacity(usize::from(width.min(TILE_WIDTH)));
        let mut rest = bytes;
        for _ in 0..width {
            let Some((length, after)) = rest.split_first_chunk::<2>() else {
                return Err(wrong);
            };
            let length = usize::from(u16::from_be_bytes(*length));
            let Some((entry, after)) = after.split_at_checked(length) else {
                return Err(wrong);
            };
            entries.push(entry.to_vec());
            rest = after;
        }
        if rest.is_empty() {
            Ok(Self { entries })
        } else {
            Err(wrong)
        }
    }
}

/// Why a tile was refused. Retrying cannot help, except that a partial tile may meanwhile have
/// become a full one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TileError {
    /// Not the path of a tile.
    #[error("not the path of a tile")]
    BadPath,
    /// The bytes are not this many entries.
    #[error("{bytes} bytes are not a tile of {expected} entries")]
    WrongSize {
        /// Entries asked for.
        expected: u16,
        /// Bytes given.
        bytes: usize,
    },
    /// A leaf that does not fit 16 bits of length.
    #[error("a leaf of {length} bytes does not fit an entry bundle")]
    EntryTooLong {
        /// Its length.
        length: usize,
    },
}
