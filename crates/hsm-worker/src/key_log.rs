//! What the worker believes of one key's log: a right edge, and the leaves that may still be used.
//!
//! Pure: no files, no clock. [`crate::logs`] keeps it on disk. The rules (design invariants 2 and 3):
//!
//! - a checkpoint counts if a log key pinned at `InitToken` signed it under this log's origin;
//! - [`KeyLog::advance`]: the leaf hashes given, appended to the worker's *own* right edge, must give
//!   the checkpoint's root. So the new tree extends the old one, and each leaf is in it, by
//!   construction: no proof is needed;
//! - [`KeyLog::resync`] after a gap: an RFC 6962 consistency proof from the worker's root, then the
//!   same with a right edge that the server gives, which must lead to the proven root;
//! - the tree never shrinks: an older checkpoint is [`WorkerError::StaleCheckpoint`];
//! - a leaf becomes *open* when the worker first sees it *and the server lists it as one that it will
//!   use here*, and is closed by its first use. One that was not listed (an outcome, or an
//!   authorisation that another node uses with its own worker) never opens here later, nor does one
//!   from before the mark (see [`KeyLog::mark`]).

use countersign_hsm_protocol::WorkerError;
use countersign_signing_log::checkpoint::{Checkpoint, CheckpointError};
use countersign_signing_log::note::{Note, VerifierKey};
use countersign_signing_log::{Frontier, Hash, merkle};
use std::collections::BTreeMap;

/// Most leaves held open for one key: signatures between an authorisation and its use. The oldest give
/// way; they were never used, and never will be.
pub const MAX_OPEN: usize = 16_384;

/// The worker's view of one log.
#[derive(Debug, Clone)]
pub struct KeyLog {
    origin: String,
    keys: Vec<VerifierKey>,
    frontier: Frontier,
    mark: u64,
    // Leaves that may still be used, by index.
    open: BTreeMap<u64, Hash>,
}

impl KeyLog {
    /// A log as it was left: its right edge and its mark. Nothing is open.
    ///
    /// # Errors
    /// [`WorkerError::StateBroken`] if the pinned keys do not make verifier keys.
    pub fn restore(
        origin_prefix: &str,
        key: &impl std::fmt::Display,
        log_keys: &[[u8; 32]],
        frontier: Frontier,
        mark: u64,
    ) -> Result<Self, WorkerError> {
        let origin = format!("{origin_prefix}/{key}");
        let keys = log_keys
            .iter()
            .map(|k| VerifierKey::new(&origin, *k))
            .collect::<Result<_, _>>()
            .map_err(|e| WorkerError::StateBroken(format!("pinned log keys: {e}")))?;
        Ok(Self {
            origin,
            keys,
            frontier,
            mark,
            open: BTreeMap::new(),
        })
    }

    /// Leaves seen.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// The right edge.
    #[must_use]
    pub const fn frontier(&self) -> &Frontier {
        &self.frontier
    }

    /// Leaves below this index were taken up by this worker or the one before it, and never open
    /// again: a worker killed between two writes of its memory would else accept them twice.
    #[must_use]
    pub const fn mark(&self) -> u64 {
        self.mark
    }

    /// Takes up new leaves; see the module's rules.
    ///
    /// # Errors
    /// The exact refusal; nothing is changed.
    pub fn advance(
        &mut self,
        note: &str,
        from_size: u64,
        leaf_hashes: &[Hash],
        uses: &[u64],
    ) -> Result<u64, WorkerError> {
        let checkpoint = self.open_checkpoint(note)?;
        if from_size != self.size() {
            return Err(WorkerError::LogBehind { size: self.size() });
        }
        self.take_up(self.frontier.clone(), leaf_hashes, uses, &checkpoint)
    }

    /// Takes up a later tree; see the module's rules.
    ///
    /// # Errors
    /// The exact refusal; nothing is changed.
    pub fn resync(
        &mut self,
        note: &str,
        consistency_proof: &[Hash],
        base_size: u64,
        base_frontier: &[Hash],
        leaf_hashes: &[Hash],
        uses: &[u64],
    ) -> Result<u64, WorkerError> {
        let checkpoint = self.open_checkpoint(note)?;
        merkle::verify_consistency(
            self.size(),
            checkpoint.size,
            consistency_proof,
            &self.frontier.root(),
            &checkpoint.root,
        )
        .map_err(|_| WorkerError::CheckpointForked)?;
        let base = Frontier::from_parts(base_size, base_frontier.to_vec())
            .map_err(|e| bad("base_frontier", &e))?;
        self.take_up(base, leaf_hashes, uses, &checkpoint)
    }

    /// Whether this leaf is open at `index`.
    ///
    /// # Errors
    /// [`WorkerError::LogBehind`], [`WorkerError::LeafAlreadyUsed`] or [`WorkerError::LeafNotInLog`].
    pub fn check_open(&self, index: u64, leaf: &[u8]) -> Result<(), WorkerError> {
        if index >= self.size() {
            return Err(WorkerError::LogBehind { size: self.size() });
        }
        let hash = self
            .open
            .get(&index)
            .copied()
            .ok_or(WorkerError::LeafAlreadyUsed)?;
        if merkle::leaf_hash(leaf) == hash {
            Ok(())
        } else {
            Err(WorkerError::LeafNotInLog)
        }
    }

    /// Closes a leaf: it is used. `false` if it was not open.
    pub fn close(&mut self, index: u64) -> bool {
        self.open.remove(&index).is_some()
    }

    fn open_checkpoint(&self, note: &str) -> Result<Checkpoint, WorkerError> {
        let checkpoint = Checkpoint::open(note, &self.origin, &self.keys).map_err(|e| match e {
            CheckpointError::WrongOrigin { .. } => self.wrong_origin(),
            // The keys' names are this log's origin, so another log's checkpoint is first of all
            // one that nobody we know signed; say the more useful thing.
            _ if claims_other_origin(note, &self.origin) => self.wrong_origin(),
            _ => WorkerError::CheckpointUnsigned,
        })?;
        let seen = self.size().max(self.mark);
        if checkpoint.size < seen {
            return Err(WorkerError::StaleCheckpoint {
                seen,
                offered: checkpoint.size,
            });
        }
        Ok(checkpoint)
    }

    fn wrong_origin(&self) -> WorkerError {
        WorkerError::CheckpointWrongOrigin {
            expected: self.origin.clone(),
        }
    }

    fn take_up(
        &mut self,
        mut edge: Frontier,
        leaf_hashes: &[Hash],
        uses: &[u64],
        checkpoint: &Checkpoint,
    ) -> Result<u64, WorkerError> {
        let base = edge.size();
        if base.checked_add(leaf_hashes.len() as u64) != Some(checkpoint.size) {
            return Err(bad(
                "leaf_hashes",
                &"do not reach from the base to the checkpoint",
            ));
        }
        for hash in leaf_hashes {
            edge.append(*hash);
        }
        if edge.root() != checkpoint.root {
            return Err(WorkerError::CheckpointForked);
        }
        // Nothing fails from here on.
        let fresh = self.size().max(self.mark);
        // Others than those of the leaves given open nothing: the server may have more by now.
        for index in uses.iter().filter(|i| **i >= fresh.max(base)) {
            let hash = usize::try_from(index.saturating_sub(base))
                .ok()
                .and_then(|i| leaf_hashes.get(i));
            if let Some(hash) = hash {
                self.open.insert(*index, *hash);
            }
        }
        while self.open.len() > MAX_OPEN {
            self.open.pop_first();
        }
        self.mark = self.mark.max(checkpoint.size);
        self.frontier = edge;
        Ok(checkpoint.size)
    }
}

fn claims_other_origin(note: &str, origin: &str) -> bool {
    Note::parse(note)
        .ok()
        .and_then(|n| Checkpoint::parse(n.unverified_text()).ok())
        .is_some_and(|c| c.origin != origin)
}

fn bad(field: &str, problem: &dyn std::fmt::Display) -> WorkerError {
    WorkerError::BadRequest {
        field: field.to_owned(),
        problem: problem.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_signing_log::note::SigningKey;

    const PREFIX: &str = "test.example/log";
    const KEY: &str = "0190b0a0-0000-7000-8000-000000000001";

    struct Server {
        key: SigningKey,
        edge: Frontier,
        leaves: Vec<Hash>,
    }

    impl Server {
        fn new() -> Self {
            Self {
                key: SigningKey::from_seed(&[7; 32], &format!("{PREFIX}/{KEY}")).unwrap(),
                edge: Frontier::empty(),
                leaves: Vec::new(),
            }
        }
        fn append(&mut self, n: usize) -> (u64, Vec<Hash>, String) {
            let from = self.edge.size();
            let new: Vec<Hash> = (0..n)
                .map(|i| merkle::leaf_hash(format!("leaf {}", self.leaves.len() + i).as_bytes()))
                .collect();
            for h in &new {
                self.edge.append(*h);
            }
            self.leaves.extend(&new);
            (from, new, self.note())
        }
        fn note(&self) -> String {
            Checkpoint {
                origin: format!("{PREFIX}/{KEY}"),
                size: self.edge.size(),
                root: self.edge.root(),
            }
            .sign(&self.key)
            .unwrap()
        }
        fn edge_at(&self, size: usize) -> Frontier {
            let mut f = Frontier::empty();
            for h in &self.leaves[..size] {
                f.append(*h);
            }
            f
        }
        fn worker(&self) -> KeyLog {
            self.worker_at(Frontier::empty(), 0)
        }
        fn worker_at(&self, edge: Frontier, mark: u64) -> KeyLog {
            let public = *self.key.verifier().public_key();
            KeyLog::restore(PREFIX, &KEY, &[public], edge, mark).unwrap()
        }
    }

    fn all(from: u64, hashes: &[Hash]) -> Vec<u64> {
        (from..from + hashes.len() as u64).collect()
    }

    #[test]
    fn a_leaf_not_listed_is_never_opened_here() {
        let mut s = Server::new();
        let mut w = s.worker();
        let (from, hashes, note) = s.append(4);
        assert_eq!(w.advance(&note, from, &hashes, &[1, 3]), Ok(4));
        assert_eq!(w.open.len(), 2);
        assert_eq!(w.check_open(1, b"leaf 1"), Ok(()));
        for other in [0, 2] {
            assert_eq!(
                w.check_open(other, format!("leaf {other}").as_bytes()),
                Err(WorkerError::LeafAlreadyUsed)
            );
        }
        // Nor by telling of it again.
        let (_, _, note) = s.append(1);
        let proof = consistency(&s, 4, 5);
        let hashes = s.leaves.clone();
        assert_eq!(
            w.resync(&note, &proof, 0, &[], &hashes, &all(0, &hashes)),
            Ok(5)
        );
        assert_eq!(
            w.check_open(2, b"leaf 2"),
            Err(WorkerError::LeafAlreadyUsed)
        );
        assert_eq!(w.check_open(3, b"leaf 3"), Ok(()));
        assert_eq!(w.check_open(4, b"leaf 4"), Ok(()));
    }

    #[test]
    fn uses_beyond_the_leaves_given_open_nothing() {
        let mut s = Server::new();
        let mut w = s.worker();
        let (from, hashes, note) = s.append(3);
        w.advance(&note, from, &hashes, &[1, 3, u64::MAX]).unwrap();
        assert_eq!(w.open.len(), 1);
        let (from, hashes, note) = s.append(1);
        w.advance(&note, from, &hashes, &[0, 2]).unwrap();
        assert_eq!(w.open.len(), 1);
        assert_eq!(
            w.check_open(3, b"leaf 3"),
            Err(WorkerError::LeafAlreadyUsed)
        );
    }

    #[test]
    fn a_leaf_is_open_once_and_only_once() {
        let mut s = Server::new();
        let mut w = s.worker();
        let (from, hashes, note) = s.append(3);
        assert_eq!(
            w.check_open(0, b"leaf 0"),
            Err(WorkerError::LogBehind { size: 0 })
        );
        assert_eq!(w.advance(&note, from, &hashes, &all(from, &hashes)), Ok(3));
        assert_eq!(w.check_open(1, b"leaf 1"), Ok(()));
        assert_eq!(w.check_open(1, b"leaf 2"), Err(WorkerError::LeafNotInLog));
        assert!(w.close(1));
        assert!(!w.close(1));
        assert_eq!(
            w.check_open(1, b"leaf 1"),
            Err(WorkerError::LeafAlreadyUsed)
        );
        assert_eq!(w.check_open(0, b"leaf 0"), Ok(()));
        assert_eq!(w.check_open(2, b"leaf 2"), Ok(()));
    }

    #[test]
    fn another_key_another_origin_another_tree() {
        let mut s = Server::new();
        let mut w = s.worker();
        let (from, mut hashes, note) = s.append(2);
        let stranger = SigningKey::from_seed(&[8; 32], &format!("{PREFIX}/{KEY}")).unwrap();
        let c = Checkpoint {
            origin: format!("{PREFIX}/{KEY}"),
            size: 2,
            root: s.edge.root(),
        };
        let by_stranger = c.sign(&stranger).unwrap();
        assert_eq!(
            w.advance(&by_stranger, from, &hashes, &all(from, &hashes)),
            Err(WorkerError::CheckpointUnsigned)
        );
        let other = format!("{PREFIX}/other");
        let other_log = Checkpoint {
            origin: other.clone(),
            ..c
        }
        .sign(&SigningKey::from_seed(&[7; 32], &other).unwrap())
        .unwrap();
        assert!(matches!(
            w.advance(&other_log, from, &hashes, &all(from, &hashes)),
            Err(WorkerError::CheckpointWrongOrigin { .. })
        ));
        assert_eq!(
            w.advance("no note", from, &hashes, &[]),
            Err(WorkerError::CheckpointUnsigned)
        );
        hashes[1][0] ^= 1;
        assert_eq!(
            w.advance(&note, from, &hashes, &all(from, &hashes)),
            Err(WorkerError::CheckpointForked)
        );
        assert_eq!(w.size(), 0);
    }

    #[test]
    fn the_tree_never_shrinks() {
        let mut s = Server::new();
        let mut w = s.worker();
        let (from, hashes, old) = s.append(2);
        w.advance(&old, from, &hashes, &all(from, &hashes)).unwrap();
        let (from2, hashes2, new) = s.append(2);
        assert_eq!(
            w.advance(&new, 3, &hashes2[1..], &all(3, &hashes2[1..])),
            Err(WorkerError::LogBehind { size: 2 })
        );
        w.advance(&new, from2, &hashes2, &all(from2, &hashes2))
            .unwrap();
        assert_eq!(
            w.advance(&old, from, &hashes, &all(from, &hashes)),
            Err(WorkerError::StaleCheckpoint {
                seen: 4,
                offered: 2
            })
        );
    }

    #[test]
    fn a_restarted_worker_opens_nothing_it_may_have_used() {
        let mut s = Server::new();
        let _ = s.append(5);
        // Memory says 3, but 5 were taken up before the kill.
        let mut w = s.worker_at(s.edge_at(3), 5);
        let (_, new, note) = s.append(2);
        let proof = consistency(&s, 3, 7);
        let base = s.edge_at(2);
        let mut hashes = s.leaves[2..5].to_vec();
        hashes.extend(new);
        assert_eq!(
            w.resync(&note, &proof, 2, base.nodes(), &hashes, &all(2, &hashes)),
            Ok(7)
        );
        assert_eq!(
            w.check_open(4, b"leaf 4"),
            Err(WorkerError::LeafAlreadyUsed)
        );
        assert_eq!(w.check_open(5, b"leaf 5"), Ok(()));
        assert_eq!(w.check_open(6, b"leaf 6"), Ok(()));
    }

    #[test]
    fn a_restored_old_database_is_refused() {
        let mut s = Server::new();
        let (_, _, old) = s.append(2);
        let proof = consistency(&s, 2, 2);
        let _ = s.append(3);
        let edge = s.edge_at(2);
        let mut w = s.worker_at(edge.clone(), 5);
        assert_eq!(
            w.resync(&old, &proof, 2, edge.nodes(), &[], &all(2, &[])),
            Err(WorkerError::StaleCheckpoint {
                seen: 5,
                offered: 2
            })
        );
    }

    #[test]
    fn a_gap_needs_a_true_proof_and_a_true_edge() {
        let mut s = Server::new();
        let _ = s.append(9);
        let note = s.note();
        let mut w = s.worker_at(s.edge_at(3), 3);
        let mut proof = consistency(&s, 3, 9);
        let base = s.edge_at(8);
        let tail = &s.leaves[8..];
        let mut wrong = proof.clone();
        wrong[0][0] ^= 1;
        assert_eq!(
            w.resync(&note, &wrong, 8, base.nodes(), tail, &all(8, tail)),
            Err(WorkerError::CheckpointForked)
        );
        assert_eq!(
            w.resync(&note, &proof, 8, &[[9; 32]], tail, &all(8, tail)),
            Err(WorkerError::CheckpointForked)
        );
        assert!(matches!(
            w.resync(&note, &proof, 7, base.nodes(), tail, &all(7, tail)),
            Err(WorkerError::BadRequest { .. })
        ));
        proof.push([0; 32]);
        assert_eq!(
            w.resync(&note, &proof, 8, base.nodes(), tail, &all(8, tail)),
            Err(WorkerError::CheckpointForked)
        );
        proof.pop();
        assert_eq!(
            w.resync(&note, &proof, 8, base.nodes(), tail, &all(8, tail)),
            Ok(9)
        );
        assert_eq!(w.check_open(8, b"leaf 8"), Ok(()));
        assert_eq!(
            w.check_open(7, b"leaf 7"),
            Err(WorkerError::LeafAlreadyUsed)
        );
    }

    #[test]
    fn open_leaves_are_bounded() {
        let mut s = Server::new();
        let mut w = s.worker();
        for _ in 0..5 {
            let (from, hashes, note) = s.append(4096);
            w.advance(&note, from, &hashes, &all(from, &hashes))
                .unwrap();
        }
        assert_eq!(w.open.len(), MAX_OPEN);
        assert_eq!(
            w.check_open(4095, b"leaf 4095"),
            Err(WorkerError::LeafAlreadyUsed)
        );
        assert_eq!(w.check_open(4096, b"leaf 4096"), Ok(()));
        assert_eq!(w.check_open(20_479, b"leaf 20479"), Ok(()));
    }

    /// The naive recursion of RFC 6962 §2.1.2, to judge by.
    fn consistency(s: &Server, m: usize, n: usize) -> Vec<Hash> {
        fn mth(d: &[Hash]) -> Hash {
            match d {
                [] => merkle::empty_root(),
                [one] => *one,
                _ => {
                    let k = d.len().next_power_of_two() / 2;
                    merkle::node_hash(&mth(&d[..k]), &mth(&d[k..]))
                }
            }
        }
        fn sub(m: usize, d: &[Hash], whole: bool) -> Vec<Hash> {
            if m == d.len() {
                return if whole { vec![] } else { vec![mth(d)] };
            }
            let k = d.len().next_power_of_two() / 2;
            let mut proof;
            if m <= k {
                proof = sub(m, &d[..k], whole);
                proof.push(mth(&d[k..]));
            } else {
                proof = sub(m - k, &d[k..], false);
                proof.push(mth(&d[..k]));
            }
            proof
        }
        sub(m, &s.leaves[..n], true)
    }
}
