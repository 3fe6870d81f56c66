//! The walk along the leaves: recomputes the tree bundle by bundle and compares every tile.

use super::findings::FindingKind;
use super::history::History;
use super::{AuditedLeaf, Head, LogSource, Report};
use crate::leaf::{Leaf, LeafError};
use crate::merkle::leaf_hash;
use crate::tile::{EntryBundle, TILE_WIDTH, Tile, TilePath, widths};
use crate::{Checkpoint, Frontier, Hash};

/// Walks the whole log; `known` are heads not larger than `checkpoint`, smallest first. Returns
/// those that the log continues.
pub(super) fn walk<S: LogSource, V: FnMut(&AuditedLeaf<'_>)>(
    source: &S,
    checkpoint: &Checkpoint,
    known: &[&Checkpoint],
    report: &mut Report,
    history: &mut History,
    visit: V,
) -> Vec<Head> {
    let mut walk = Walk {
        source,
        report,
        history,
        visit,
        known,
        consistent_with: Vec::new(),
        frontier: Frontier::empty(),
        upper: Vec::new(),
    };
    walk.run(checkpoint);
    walk.consistent_with
}

struct Walk<'a, S, V> {
    source: &'a S,
    report: &'a mut Report,
    history: &'a mut History,
    visit: V,
    /// Earlier heads not yet reached.
    known: &'a [&'a Checkpoint],
    consistent_with: Vec<Head>,
    /// Of the leaves walked so far, from their bytes.
    frontier: Frontier,
    /// For each tile level from 1 up: how many tiles were completed, and the hashes since.
    upper: Vec<(u64, Vec<Hash>)>,
}

impl<S: LogSource, V: FnMut(&AuditedLeaf<'_>)> Walk<'_, S, V> {
    fn run(&mut self, checkpoint: &Checkpoint) {
        self.meet_known_heads();
        for (index, width) in widths(checkpoint.size) {
            let first = index * u64::from(TILE_WIDTH);
            let entries = self.entries(TilePath::entries(index, width));
            let path = TilePath::hashes(0, index, width);
            let tile = self.tile(path);
            let hashes = match (&entries, &tile) {
                (Some(entries), tile) => self.leaves(first, entries, tile.as_deref()),
                (None, Some(tile)) => {
                    (first..)
                        .zip(tile)
                        .for_each(|(index, _)| self.history.unread(index));
                    tile.clone()
                }
                (None, None) => {
                    self.report
                        .add(None, FindingKind::RootNotChecked { from: first });
                    return;
                }
            };
            self.append(&hashes);
        }
        let partial: Vec<_> = self
            .upper
            .iter_mut()
            .map(|(n, h)| (*n, std::mem::take(h)))
            .collect();
        for (level, (index, hashes)) in (1_u8..).zip(partial) {
            if !hashes.is_empty() {
                self.compare_tile(level, index, &hashes);
            }
        }
        if self.frontier.root() != checkpoint.root {
            self.report.add(None, FindingKind::RootMismatch);
        }
    }

    /// Reads what each leaf says; returns the hashes of the bytes.
    fn leaves(&mut self, first: u64, entries: &[Vec<u8>], tile: Option<&[Hash]>) -> Vec<Hash> {
        let mut hashes = Vec::with_capacity(entries.len());
        for (i, bytes) in entries.iter().enumerate() {
            let index = first + i as u64;
            let hash = leaf_hash(bytes);
            if let Some(expected) = tile.and_then(|t| t.get(i))
                && *expected != hash
            {
                self.report.add(Some(index), FindingKind::LeafAltered);
            }
            let leaf = Leaf::decode(bytes);
            match &leaf {
                Ok(leaf) => {
                    let report = &mut *self.report;
                    self.history
                        .leaf(index, leaf, |kind| report.add(Some(index), kind));
                }
                Err(e @ (LeafError::UnknownType { .. } | LeafError::UnknownVersion { .. })) => {
                    self.report
                        .add(Some(index), FindingKind::LeafUnknown { why: e.to_string() });
                }
                Err(e) => {
                    self.report.add(
                        Some(index),
                        FindingKind::LeafUnreadable { why: e.to_string() },
                    );
                }
            }
            if leaf.is_err() {
                self.history.unread(index);
            }
            (self.visit)(&AuditedLeaf {
                index,
                bytes,
                hash,
                leaf: leaf.as_ref().ok(),
            });
            hashes.push(hash);
        }
        hashes
    }

    /// Grows the tree, stopping at each known head and each completed tile to compare.
    fn append(&mut self, hashes: &[Hash]) {
        let mut rest = hashes;
        while !rest.is_empty() {
            let room = self.known.first().map(|k| k.size - self.frontier.size());
            let take = room
                .and_then(|r| usize::try_from(r).ok())
                .unwrap_or(usize::MAX);
            let (now, later) = rest.split_at(take.min(rest.len()));
            rest = later;
            for subtree in self.frontier.append_batch(now).subtrees {
                let at = usize::from(subtree.level) - 1;
                if self.upper.len() <= at {
                    self.upper.resize(at + 1, (0, Vec::new()));
                }
                let Some((index, open)) = self.upper.get_mut(at) else {
                    continue;
                };
                open.push(subtree.hash);
                if open.len() == usize::from(TILE_WIDTH) {
                    let (number, full) = (*index, std::mem::take(open));
                    *index += 1;
                    self.compare_tile(subtree.level, number, &full);
                }
            }
            self.meet_known_heads();
        }
    }

    fn meet_known_heads(&mut self) {
        while let Some((head, later)) = self.known.split_first() {
            if head.size != self.frontier.size() {
                return;
            }
            if head.root == self.frontier.root() {
                self.consistent_with.push(Head::from(*head));
            } else {
                self.report
                    .add(None, FindingKind::HistoryRewritten { size: head.size });
            }
            self.known = later;
        }
    }

    fn compare_tile(&mut self, level: u8, index: u64, expected: &[Hash]) {
        let path = TilePath::hashes(level, index, expected.len() as u16);
        if self.tile(path).is_some_and(|found| found != expected) {
            self.report.add(
                None,
                FindingKind::TileDiffers {
                    path: path.to_string(),
                },
            );
        }
    }

    /// A tile's hashes; the full tile stands in for a partial one that is gone (tlog-tiles,
    /// "Partial Tiles").
    fn tile(&mut self, path: TilePath) -> Option<Vec<Hash>> {
        let read = |path: &TilePath| self.source.tile(path);
        let Some((found, bytes)) = self.fetch(path, read)? else {
            self.report.add(
                None,
                FindingKind::TileMissing {
                    path: path.to_string(),
                },
            );
            return None;
        };
        if let Ok(mut tile) = Tile::decode(&bytes, found.width) {
            tile.hashes.truncate(usize::from(path.width));
            return Some(tile.hashes);
        }
        self.report.add(
            None,
            FindingKind::TileDamaged {
                path: found.to_string(),
            },
        );
        None
    }

    fn entries(&mut self, path: TilePath) -> Option<Vec<Vec<u8>>> {
        let read = |path: &TilePath| self.source.bundle(path);
        let Some((found, bytes)) = self.fetch(path, read)? else {
            self.report.add(
                None,
                FindingKind::BundleMissing {
                    path: path.to_string(),
                },
            );
            return None;
        };
        if let Ok(mut bundle) = EntryBundle::decode(&bytes, found.width) {
            bundle.entries.truncate(usize::from(path.width));
            return Some(bundle.entries);
        }
        self.report.add(
            None,
            FindingKind::BundleDamaged {
                path: found.to_string(),
            },
        );
        None
    }

    /// `None`: reading failed and was reported; `Some(None)`: there is no such file.
    #[allow(
        clippy::option_option,
        reason = "the two absences are reported differently"
    )]
    fn fetch(
        &mut self,
        path: TilePath,
        read: impl Fn(&TilePath) -> Result<Option<Vec<u8>>, S::Error>,
    ) -> Option<Option<(TilePath, Vec<u8>)>> {
        for path in [path, path.full()] {
            match read(&path) {
                Ok(Some(bytes)) => return Some(Some((path, bytes))),
                Ok(None) => {}
                Err(e) => {
                    let (path, why) = (path.to_string(), e.to_string());
                    self.report.add(None, FindingKind::ReadFailed { path, why });
                    return None;
                }
            }
        }
        Some(None)
    }
}
