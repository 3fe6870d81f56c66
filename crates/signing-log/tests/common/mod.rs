//! A log in memory, made the slow and obvious way, for tests to read and to tamper with.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use countersign_signing_log::audit::LogSource;
use countersign_signing_log::commitment::{HexHash, digest_text};
use countersign_signing_log::leaf::{
    Asserted, Authorisation, ContentKind, LogOpened, LoggedKey, Outcome, OutcomeResult, Purpose,
};
use countersign_signing_log::merkle::{empty_root, leaf_hash, node_hash};
use countersign_signing_log::{
    Checkpoint, Details, EntryBundle, Hash, Leaf, Opening, Salt, SigningKey, Tile, TilePath,
    VerifierKey, tiles_for_size,
};
use std::collections::BTreeMap;

pub const ORIGIN: &str = "localhost:8443/log/0190aaaa-0000-7000-8000-000000000001";
pub const TENANT: &str = "0190aaaa-0000-7000-8000-00000000000a";
pub const KEY: &str = "0190aaaa-0000-7000-8000-000000000001";

pub fn signing_key() -> SigningKey {
    SigningKey::from_seed(&[7; 32], ORIGIN).unwrap()
}

pub fn keys() -> Vec<VerifierKey> {
    vec![signing_key().verifier().clone()]
}

/// MTH(D[n]) word for word as RFC 6962 §2.1 has it.
pub fn naive_root(hashes: &[Hash]) -> Hash {
    match hashes {
        [] => empty_root(),
        [one] => *one,
        _ => {
            let mut k = 1;
            while k * 2 < hashes.len() {
                k *= 2;
            }
            node_hash(&naive_root(&hashes[..k]), &naive_root(&hashes[k..]))
        }
    }
}

pub fn opening(n: u64, value: &str) -> Opening {
    let mut salt = [0x5a; 32];
    salt[..8].copy_from_slice(&n.to_be_bytes());
    Opening {
        salt: Salt(salt),
        value: value.as_bytes().to_vec(),
    }
}

pub fn opened() -> Leaf {
    let key = LoggedKey {
        id: KEY.into(),
        algorithm: "ec-p256".into(),
        spki_sha256: HexHash::of(b"spki"),
        software: false,
        isolation: "exclusive-token".into(),
    };
    Leaf::new(
        1_000,
        LogOpened {
            tenant: TENANT.into(),
            key: Some(key),
            previous: None,
        },
    )
}

pub fn authorisation(n: u64) -> (Authorisation, Details) {
    let tbs = opening(
        3 * n,
        &digest_text("sha-256", HexHash::of(&n.to_be_bytes()).0.as_slice()),
    );
    let file = HexHash::of(format!("file {n}").as_bytes());
    let artifact = opening(3 * n + 1, &digest_text("sha-256", &file.0));
    let caller = opening(3 * n + 2, "{\"sub\":\"repo:acme/app\"}");
    let leaf = Authorisation {
        tenant: TENANT.into(),
        signer: "release".into(),
        key: KEY.into(),
        request: format!("r{n}"),
        attempt: 1,
        repeats: None,
        purpose: Purpose::Signature,
        scheme: "ecdsa-sha-256".into(),
        content: ContentKind::Authenticode,
        asserted: Asserted::Typed,
        tbs: tbs.commitment("tbs"),
        artifact: Some(artifact.commitment("artifact")),
        caller: caller.commitment("caller"),
        node: "0190aaaa-0000-7000-8000-0000000000ff".into(),
        epoch: 3,
    };
    let details = Details {
        tbs: Some(tbs),
        artifact: Some(artifact),
        caller: Some(caller),
        ..Details::of(0)
    };
    (leaf, details)
}

pub fn signed(of: u64) -> Outcome {
    Outcome {
        of,
        result: OutcomeResult::Signed,
        signature_sha256: Some(HexHash::of(&of.to_be_bytes())),
        reason: None,
    }
}

/// A key's log with `uses` uses, each followed by its outcome.
pub fn key_log(uses: u64) -> (Vec<Leaf>, Vec<Details>) {
    let (mut leaves, mut details) = (vec![opened()], Vec::new());
    for n in 0..uses {
        let (authorisation, detail) = authorisation(n);
        let index = leaves.len() as u64;
        details.push(Details { index, ..detail });
        leaves.push(Leaf::new(2_000 + 10 * n as i64, authorisation));
        leaves.push(Leaf::new(2_005 + 10 * n as i64, signed(index)));
    }
    (leaves, details)
}

pub fn bytes(leaves: &[Leaf]) -> Vec<Vec<u8>> {
    leaves.iter().map(|l| l.encode().unwrap()).collect()
}

#[derive(Clone)]
pub struct MemoryLog {
    pub checkpoint: String,
    pub files: BTreeMap<String, Vec<u8>>,
}

impl MemoryLog {
    pub fn new(leaves: &[Leaf]) -> Self {
        Self::of_bytes(&bytes(leaves), &signing_key())
    }

    pub fn of_bytes(entries: &[Vec<u8>], key: &SigningKey) -> Self {
        let hashes: Vec<Hash> = entries.iter().map(|e| leaf_hash(e)).collect();
        let checkpoint = Checkpoint {
            origin: ORIGIN.into(),
            size: hashes.len() as u64,
            root: naive_root(&hashes),
        };
        let mut files = BTreeMap::new();
        for path in tiles_for_size(checkpoint.size) {
            let first = path.index as usize * 256;
            let content = match path.kind {
                countersign_signing_log::tile::TileKind::Entries => {
                    let entries = entries[first..first + usize::from(path.width)].to_vec();
                    EntryBundle { entries }.encode().unwrap()
                }
                countersign_signing_log::tile::TileKind::Hashes { level } => {
                    let span = 256_usize.pow(u32::from(level));
                    let hashes = (first..first + usize::from(path.width))
                        .map(|i| naive_root(&hashes[i * span..(i + 1) * span]))
                        .collect();
                    Tile { hashes }.encode()
                }
            };
            files.insert(path.to_string(), content);
        }
        Self {
            checkpoint: checkpoint.sign(key).unwrap(),
            files,
        }
    }
}

impl LogSource for MemoryLog {
    type Error = String;
    fn checkpoint(&self) -> Result<String, String> {
        Ok(self.checkpoint.clone())
    }
    fn tile(&self, path: &TilePath) -> Result<Option<Vec<u8>>, String> {
        Ok(self.files.get(&path.to_string()).cloned())
    }
    fn bundle(&self, path: &TilePath) -> Result<Option<Vec<u8>>, String> {
        Ok(self.files.get(&path.to_string()).cloned())
    }
}
