//! Checking a downloaded log and receipts without any service: a folder made here, then spoilt.
#![allow(clippy::unwrap_used, clippy::panic)]

use countersign_cli::exit::Exit;
use countersign_signing_log::commitment::HexHash;
use countersign_signing_log::commitment::{LABEL_ARTIFACT, LABEL_CALLER, LABEL_TBS, digest_text};
use countersign_signing_log::details::Details;
use countersign_signing_log::leaf::{
    Asserted, Authorisation, ContentKind, LogOpened, LoggedKey, Outcome, OutcomeResult, Purpose,
};
use countersign_signing_log::proof_from::{NodeMap, inclusion_proof};
use countersign_signing_log::tile::{EntryBundle, Tile, TilePath};
use countersign_signing_log::{
    Checkpoint, Frontier, Leaf, LeafBody, Opening, Receipt, Salt, SigningKey, merkle,
};
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};

const KEY: &str = "01900000-0000-7000-8000-000000000001";
const TENANT: &str = "01900000-0000-7000-8000-00000000000a";
const ORIGIN: &str = "sign.example/log/01900000-0000-7000-8000-000000000001";

struct World {
    dir: countersign_testkit::TempDir,
}

impl World {
    /// A log of one signature over the file `released.bin`, downloaded, with its receipt.
    fn new() -> Self {
        let world = Self {
            dir: countersign_testkit::tempdir().unwrap(),
        };
        std::fs::write(world.path("released.bin"), b"released").unwrap();
        std::fs::write(world.path("other.bin"), b"another file").unwrap();
        world.log("log", b"released", 0);
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes the folder `name` with a log; `salt` makes otherwise equal histories differ.
    fn log(&self, name: &str, file: &[u8], salt: u8) {
        let signing = key();
        let digest = digest_text("sha-256", &Sha256::digest(file));
        let opening = |value: &str| Opening {
            salt: Salt([salt; 32]),
            value: value.as_bytes().to_vec(),
        };
        let details = Details {
            artifact: Some(opening(&digest)),
            tbs: Some(opening("sha-256:00")),
            caller: Some(opening("job 7")),
            ..Details::of(1)
        };
        let bodies: Vec<LeafBody> = vec![
            LogOpened {
                tenant: TENANT.into(),
                key: Some(LoggedKey {
                    id: KEY.into(),
                    algorithm: "ec-p256".into(),
                    spki_sha256: HexHash([1; 32]),
                    software: false,
                    isolation: "exclusive-token".into(),
                }),
                previous: None,
            }
            .into(),
            Authorisation {
                tenant: TENANT.into(),
                signer: "release".into(),
                key: KEY.into(),
                request: "r1".into(),
                attempt: 1,
                repeats: None,
                purpose: Purpose::Signature,
                scheme: "ecdsa-sha-256".into(),
                content: ContentKind::Cms,
                asserted: Asserted::Typed,
                tbs: opening("sha-256:00").commitment(LABEL_TBS),
                artifact: Some(opening(&digest).commitment(LABEL_ARTIFACT)),
                caller: opening("job 7").commitment(LABEL_CALLER),
                node: "n".into(),
                epoch: 1,
            }
            .into(),
            Outcome {
                of: 1,
                result: OutcomeResult::Signed,
                signature_sha256: Some(HexHash([2; 32])),
                reason: None,
            }
            .into(),
        ];
        let mut leaves = Vec::new();
        let mut frontier = Frontier::empty();
        let mut nodes = NodeMap::default();
        for (i, body) in bodies.into_iter().enumerate() {
            let bytes = Leaf::new(1_790_000_000_000_000 + i as i64, body)
                .encode()
                .unwrap();
            let hash = merkle::leaf_hash(&bytes);
            frontier.append(hash);
            nodes.insert(0, i as u64, hash);
            leaves.push(bytes);
        }
        let note = Checkpoint {
            origin: ORIGIN.into(),
            size: 3,
            root: frontier.root(),
        }
        .sign(&signing)
        .unwrap();
        let tile = Tile {
            hashes: leaves.iter().map(|l| merkle::leaf_hash(l)).collect(),
        };
        let receipt = Receipt {
            leaf: leaves[1].clone(),
            artifact: details.artifact.clone(),
            index: 1,
            proof: inclusion_proof(&nodes, 1, 3).unwrap(),
            checkpoint_note: note.clone(),
        };
        let write = |path: String, bytes: &[u8]| {
            let path = self.path(name).join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        };
        write("origin".into(), ORIGIN.as_bytes());
        write("vkey".into(), signing.verifier().to_string().as_bytes());
        write("checkpoint".into(), note.as_bytes());
        write(TilePath::hashes(0, 0, 3).to_string(), &tile.encode());
        let bundle = EntryBundle { entries: leaves };
        write(
            TilePath::entries(0, 3).to_string(),
            &bundle.encode().unwrap(),
        );
        write(
            "details.ndjson".into(),
            format!("{}\n", details.to_line()).as_bytes(),
        );
        let receipts = self.path(&format!("{name}-receipts"));
        std::fs::create_dir_all(&receipts).unwrap();
        std::fs::write(receipts.join("released.bin.tlog-proof"), receipt.to_text()).unwrap();
    }

    fn run(&self, args: &[&str]) -> Exit {
        let at = |a: &str| match a.strip_prefix('@') {
            Some(name) => self.path(name).to_string_lossy().into_owned(),
            None => a.to_owned(),
        };
        let fixed = ["countersign", "--json", "--config", "@home"];
        countersign_cli::run(fixed.iter().chain(args).map(|a| at(a)))
    }

    fn spoil(&self, file: &str, how: impl FnOnce(&mut Vec<u8>)) {
        let path = self.path(file);
        let mut bytes = std::fs::read(&path).unwrap();
        how(&mut bytes);
        std::fs::write(path, bytes).unwrap();
    }
}

fn key() -> SigningKey {
    SigningKey::from_seed(&[7; 32], ORIGIN).unwrap()
}

fn vkey() -> String {
    key().verifier().to_string()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

const RECEIPT: &str = "@log-receipts/released.bin.tlog-proof";

#[test]
fn a_good_folder_is_good_anywhere() {
    let w = World::new();
    assert_eq!(w.run(&["log", "audit", "@log"]), Exit::Done);
    let all = [
        "log",
        "audit",
        "@log",
        "--vkey",
        &vkey(),
        "--receipts",
        "@log-receipts",
        "--files",
        "@released.bin",
    ];
    assert_eq!(w.run(&all), Exit::Done);
    assert_eq!(w.run(&["log", "show", "@log"]), Exit::Done);
    copy(&w.path("log"), &w.path("elsewhere"));
    assert_eq!(w.run(&["log", "audit", "@elsewhere"]), Exit::Done);
}

#[test]
fn a_receipt_is_of_one_file_and_one_log() {
    let w = World::new();
    let verify = |rest: &[&str]| {
        let mut args = vec!["receipt", "verify"];
        args.extend(rest);
        w.run(&args)
    };
    assert_eq!(
        verify(&["@released.bin", RECEIPT, "--vkey", &vkey()]),
        Exit::Done
    );
    assert_eq!(
        verify(&["@released.bin", RECEIPT, "--log-dir", "@log"]),
        Exit::Done
    );
    assert_eq!(
        verify(&["@other.bin", RECEIPT, "--vkey", &vkey()]),
        Exit::Bad
    );
    assert_eq!(
        verify(&["@released.bin", RECEIPT]),
        Exit::Undecided,
        "no key is known here"
    );
    let other = SigningKey::from_seed(&[9; 32], ORIGIN)
        .unwrap()
        .verifier()
        .to_string();
    assert_eq!(
        verify(&["@released.bin", RECEIPT, "--vkey", &other]),
        Exit::Undecided
    );
    w.spoil("log-receipts/released.bin.tlog-proof", |b| {
        let at = b.iter().position(|c| *c == b'i').unwrap_or(0);
        b[at] = b'j';
    });
    assert_eq!(
        verify(&["@released.bin", RECEIPT, "--vkey", &vkey()]),
        Exit::Bad
    );
}

#[test]
fn a_spoilt_folder_is_bad_and_a_gap_is_undecided() {
    let w = World::new();
    w.spoil("log/tile/entries/000.p/3", |b| {
        let last = b.len() - 5;
        b[last] ^= 1;
    });
    assert_eq!(w.run(&["log", "audit", "@log"]), Exit::Bad);

    let w = World::new();
    w.spoil("log/checkpoint", |b| b[ORIGIN.len() + 1] = b'2');
    assert_eq!(w.run(&["log", "audit", "@log"]), Exit::Bad);

    let w = World::new();
    std::fs::remove_file(w.path("log/tile/entries/000.p/3")).unwrap();
    assert_eq!(w.run(&["log", "audit", "@log"]), Exit::Undecided);

    let w = World::new();
    w.spoil("log/details.ndjson", |b| {
        let text = String::from_utf8(b.clone()).unwrap();
        *b = text.replace("\"index\":1", "\"index\":2").into_bytes();
    });
    assert_eq!(
        w.run(&["log", "audit", "@log"]),
        Exit::Bad,
        "details of another leaf"
    );

    let w = World::new();
    assert_eq!(
        w.run(&["log", "audit", "@log", "--files", "@other.bin"]),
        Exit::Bad
    );
    std::fs::remove_file(w.path("log/details.ndjson")).unwrap();
    assert_eq!(
        w.run(&["log", "audit", "@log", "--files", "@other.bin"]),
        Exit::Undecided
    );
}

#[test]
fn a_rewritten_history_is_found_by_what_was_seen_before() {
    let w = World::new();
    // The same size, signed by the same key, another history.
    w.log("rewritten", b"released", 1);
    assert_eq!(
        w.run(&["log", "audit", "@rewritten", "--vkey", &vkey()]),
        Exit::Done,
        "alone it looks good"
    );
    assert_eq!(
        w.run(&["log", "audit", "@log", "--vkey", &vkey()]),
        Exit::Bad,
        "but another was seen"
    );

    let w = World::new();
    w.log("rewritten", b"released", 1);
    let args = ["log", "audit", "@rewritten", "--receipts", "@log-receipts"];
    assert_eq!(w.run(&args), Exit::Bad, "a receipt is enough to tell");
    let args = ["log", "audit", "@rewritten", "--since", "@log/checkpoint"];
    assert_eq!(w.run(&args), Exit::Bad, "and so is an earlier checkpoint");
    let args = [
        "receipt",
        "verify",
        "@released.bin",
        RECEIPT,
        "--log-dir",
        "@rewritten",
    ];
    assert_eq!(w.run(&args), Exit::Bad);
}
