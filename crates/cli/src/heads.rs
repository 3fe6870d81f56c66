//! The heads of logs we have seen. A log that shows one history to a signing job and another to an
//! auditor (a split view) is found out when the two heads meet here.

use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::home::{Home, sha256_hex};
use countersign_client::Client;
use countersign_core::LogId;
use countersign_signing_log::merkle::verify_consistency;
use countersign_signing_log::proof_from::{NodeLookup, consistency_proof};
use countersign_signing_log::tile::{Tile, TilePath};
use countersign_signing_log::{Checkpoint, Hash, VerifierKey};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::HashMap;

/// Heads that nobody could prove yet are kept up to this many; then the oldest go.
const MAX_UNPROVED: usize = 256;

/// What is remembered of one log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The log's name.
    pub origin: String,
    /// The latest head that continues all proved before it; a signed note.
    pub proved: Option<String>,
    /// Heads seen, but not yet shown to be of the same history: the next audit does it.
    #[serde(default)]
    pub unproved: Vec<String>,
}

/// Proves that the tree of `old` leaves is the beginning of the tree of `new` leaves, if it can get
/// the hashes for it.
pub type Prover<'a> = &'a dyn Fn(u64, u64) -> Option<Vec<Hash>>;

impl Seen {
    /// What is remembered of `origin`.
    ///
    /// # Errors
    /// If the file is there and cannot be read.
    pub fn load(home: &Home, origin: &str) -> Result<Self> {
        let seen: Option<Self> = home.read(&file(origin))?;
        Ok(seen.unwrap_or_else(|| Self {
            origin: origin.to_owned(),
            ..Self::default()
        }))
    }

    /// All heads, opened with the log's key. One that does not open is skipped: after a key change
    /// old heads cannot be judged any more.
    #[must_use]
    pub fn checkpoints(&self, key: &VerifierKey) -> Vec<Checkpoint> {
        let keys = std::slice::from_ref(key);
        self.proved
            .iter()
            .chain(&self.unproved)
            .filter_map(|note| Checkpoint::open(note, &self.origin, keys).ok())
            .collect()
    }

    /// Takes in a head whose signature was checked. Says whether it was proved to continue what was
    /// known.
    ///
    /// # Errors
    /// Bad, on a split view; the two heads are in the message.
    pub fn take(&mut self, note: &str, key: &VerifierKey, prove: Prover<'_>) -> Result<bool> {
        let keys = std::slice::from_ref(key);
        let new = Checkpoint::open(note, &self.origin, keys)
            .map_err(|e| Failure::bad("checkpoint", format!("{}: {e}", self.origin)))?;
        for known in self.checkpoints(key) {
            if known.size == new.size && known.root != new.root {
                return Err(split_view(&known, &new));
            }
        }
        let proved = self.proved.as_deref();
        let Some(known) = proved.and_then(|n| Checkpoint::open(n, &self.origin, keys).ok()) else {
            self.proved = Some(note.to_owned());
            return Ok(true);
        };
        if known.size == new.size {
            return Ok(true);
        }
        let (old, young) = if known.size < new.size {
            (&known, &new)
        } else {
            (&new, &known)
        };
        let Some(proof) = prove(old.size, young.size) else {
            if !self.unproved.iter().any(|n| n == note) {
                self.unproved.push(note.to_owned());
                let surplus = self.unproved.len().saturating_sub(MAX_UNPROVED);
                self.unproved.drain(..surplus);
            }
            return Ok(false);
        };
        verify_consistency(old.size, young.size, &proof, &old.root, &young.root)
            .map_err(|_| split_view(old, young))?;
        if new.size > known.size {
            self.proved = Some(note.to_owned());
        }
        Ok(true)
    }

    /// Keeps what is remembered.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn store(&self, home: &Home) -> Result<()> {
        home.write(&file(&self.origin), self)
    }
}

/// Takes in a head under the directory's lock, asking the service for a proof where one is needed.
///
/// # Errors
/// Bad, on a split view. What was remembered stays as it was: it is evidence.
pub fn remember(home: &Home, note: &str, key: &VerifierKey, client: &Client) -> Result<bool> {
    let origin = key.name().to_owned();
    let _lock = home.lock()?;
    let mut seen = Seen::load(home, &origin)?;
    let proved = seen.take(note, key, &|old, new| {
        let served = ServedTiles::new(client, &origin, new)?;
        consistency_proof(&served, old, new).ok()
    })?;
    seen.store(home)?;
    Ok(proved)
}

fn split_view(a: &Checkpoint, b: &Checkpoint) -> Failure {
    let show = |c: &Checkpoint| c.to_text().lines().collect::<Vec<_>>().join(" / ");
    let mut f = Failure::new(
        Exit::Bad,
        "split-view",
        format!("SPLIT VIEW: {} has signed two histories", a.origin),
    )
    .hint("keep COUNTERSIGN_HOME as evidence, stop signing, and ask the operator");
    f.reasons = vec![show(a).into(), show(b).into()];
    f
}

fn file(origin: &str) -> String {
    format!("checkpoints/{}", sha256_hex(origin.as_bytes()))
}

/// The id at the end of a log's name.
#[must_use]
pub fn log_id(origin: &str) -> Option<LogId> {
    origin.rsplit('/').next()?.parse().ok()
}

/// Tiles as the service serves them for one tree size; each is fetched once.
struct ServedTiles<'a> {
    client: &'a Client,
    log: LogId,
    size: u64,
    tiles: RefCell<HashMap<TilePath, Tile>>,
}

impl<'a> ServedTiles<'a> {
    fn new(client: &'a Client, origin: &str, size: u64) -> Option<Self> {
        Some(Self {
            client,
            log: log_id(origin)?,
            size,
            tiles: RefCell::default(),
        })
    }
}

impl NodeLookup for ServedTiles<'_> {
    type Error = countersign_client::Error;

    fn subtree(&self, level: u8, index: u64) -> Result<Option<Hash>, Self::Error> {
        let tile_index = index >> 8;
        let at_level = self.size.checked_shr(8 * u32::from(level)).unwrap_or(0);
        let width = at_level.saturating_sub(tile_index << 8).min(256);
        let Some(width) = u16::try_from(width).ok().filter(|w| *w > 0) else {
            return Ok(None);
        };
        let path = TilePath::hashes(level, tile_index, width);
        let at = usize::try_from(index & 0xff).unwrap_or(usize::MAX);
        if let Some(tile) = self.tiles.borrow().get(&path) {
            return Ok(tile.hashes.get(at).copied());
        }
        let bytes = fetch(self.client, self.log, path)?;
        let Ok(tile) = Tile::decode(&bytes, width) else {
            return Ok(None);
        };
        let hash = tile.hashes.get(at).copied();
        self.tiles.borrow_mut().insert(path, tile);
        Ok(hash)
    }
}

/// Fetches a hash tile; where a partial one is gone, the beginning of the full one
/// (tlog-tiles: "Clients fall back to the full tile").
fn fetch(client: &Client, log: LogId, path: TilePath) -> countersign_client::Result<Vec<u8>> {
    match client.tile(log, &path.to_string()) {
        Err(e) if !path.is_full() && e.api().is_some_and(|a| a.status == 404) => {
            let mut bytes = client.tile(log, &path.full().to_string())?;
            bytes.truncate(usize::from(path.width) * 32);
            Ok(bytes)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_signing_log::{Frontier, SigningKey, merkle};

    const ORIGIN: &str = "sign.example/log/01900000-0000-7000-8000-000000000001";

    fn key() -> SigningKey {
        SigningKey::from_seed(&[7; 32], ORIGIN).unwrap()
    }

    fn head(leaves: &[&str]) -> String {
        let mut f = Frontier::empty();
        for l in leaves {
            f.append(merkle::leaf_hash(l.as_bytes()));
        }
        let c = Checkpoint {
            origin: ORIGIN.into(),
            size: f.size(),
            root: f.root(),
        };
        c.sign(&key()).unwrap()
    }

    fn consistency(leaves: &[&str], old: u64, new: u64) -> Vec<Hash> {
        let mut map = countersign_signing_log::proof_from::NodeMap::default();
        for (i, l) in leaves.iter().enumerate() {
            map.insert(0, i as u64, merkle::leaf_hash(l.as_bytes()));
        }
        consistency_proof(&map, old, new).unwrap()
    }

    #[test]
    fn a_log_that_grows_is_followed() {
        let mut seen = Seen {
            origin: ORIGIN.into(),
            ..Seen::default()
        };
        let all = ["a", "b", "c", "d"];
        let vkey = key().verifier().clone();
        let prove = |old, new| Some(consistency(&all, old, new));
        assert!(seen.take(&head(&all[..2]), &vkey, &prove).unwrap());
        assert!(seen.take(&head(&all), &vkey, &prove).unwrap());
        assert!(
            seen.take(&head(&all[..3]), &vkey, &prove).unwrap(),
            "an older one, also true"
        );
        assert_eq!(seen.checkpoints(&vkey).len(), 1);
        assert_eq!(seen.checkpoints(&vkey)[0].size, 4);
    }

    #[test]
    fn a_split_view_is_shouted_at() {
        let vkey = key().verifier().clone();
        let nothing = |_, _| None;
        let mut seen = Seen {
            origin: ORIGIN.into(),
            ..Seen::default()
        };
        seen.take(&head(&["a", "b"]), &vkey, &nothing).unwrap();
        let before = seen.clone();
        // The same size with another root needs no proof.
        let f = seen.take(&head(&["a", "x"]), &vkey, &nothing).unwrap_err();
        assert_eq!((f.exit, f.code.as_str()), (Exit::Bad, "split-view"));
        assert_eq!(seen, before, "the evidence stays");
        // A longer one is kept until it can be proved …
        assert!(!seen.take(&head(&["a", "x", "y"]), &vkey, &nothing).unwrap());
        // … and a head of the same size as an unproved one counts as well.
        let f = seen
            .take(&head(&["a", "b", "c"]), &vkey, &nothing)
            .unwrap_err();
        assert_eq!(f.code, "split-view");
        // A proof that does not hold is a split view.
        let wrong = |_, _| Some(vec![[0; 32]]);
        let f = seen
            .take(&head(&["q", "r", "s", "t"]), &vkey, &wrong)
            .unwrap_err();
        assert_eq!(f.code, "split-view");
    }

    #[test]
    fn somebody_elses_signature_is_not_a_head() {
        let other = SigningKey::from_seed(&[8; 32], ORIGIN).unwrap();
        let mut seen = Seen {
            origin: ORIGIN.into(),
            ..Seen::default()
        };
        let f = seen
            .take(&head(&["a"]), other.verifier(), &|_, _| None)
            .unwrap_err();
        assert_eq!(f.exit, Exit::Bad);
    }
}
