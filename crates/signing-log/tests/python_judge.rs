//! tests/verify_log.py, a second implementation in another language, agrees with this one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{MemoryLog, ORIGIN, body, bytes, key_log, signing_key};
use countersign_signing_log::commitment::Commitment;
use countersign_signing_log::merkle::leaf_hash;
use countersign_signing_log::{Checkpoint, Details, Frontier, Hash, Leaf, LeafBody, Receipt};
use std::path::{Path, PathBuf};
use std::process::Command;

const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/verify_log.py");
const USES: u64 = 300;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("python-judge-{name}"));
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// A log, its details, an older checkpoint and some receipts.
    fn fill(&self) -> MemoryLog {
        let (leaves, details) = key_log(USES);
        let log = MemoryLog::new(&leaves);
        for (path, content) in &log.files {
            self.write(path, content);
        }
        self.write("checkpoint", &log.checkpoint);
        self.write("vkey", format!("{}\n", signing_key().verifier()));
        let lines: Vec<String> = details.iter().map(Details::to_line).collect();
        self.write("details.ndjson", lines.join("\n"));
        let entries = bytes(&leaves);
        let hashes: Vec<Hash> = entries.iter().map(|e| leaf_hash(e)).collect();
        for n in [0, 1, 99, 127, 128, 255, 299] {
            let (index, end) = (details[n].index, (details[n].index as usize + 2));
            let mut frontier = Frontier::empty();
            frontier.append_batch(&hashes[..index as usize]);
            let batch = frontier.append_batch(&hashes[index as usize..end]);
            let origin = ORIGIN.to_owned();
            let head = Checkpoint {
                origin,
                size: batch.new_size,
                root: batch.root,
            };
            let receipt = Receipt {
                leaf: entries[index as usize].clone(),
                artifact: details[n].artifact.clone(),
                index,
                proof: batch.inclusion_proof(index).unwrap(),
                checkpoint_note: head.sign(&signing_key()).unwrap(),
            };
            self.write(&format!("receipts/{n}.tlog-proof"), receipt.to_text());
            self.write("earlier", head.sign(&signing_key()).unwrap());
        }
        log
    }

    /// Exit code and answer.
    fn judge(&self) -> (i32, serde_json::Value) {
        let out = Command::new("python3")
            .arg(PROGRAM)
            .arg("--json")
            .arg("--previous")
            .arg(self.0.join("earlier"))
            .arg("--receipts")
            .arg(self.0.join("receipts"))
            .arg(&self.0)
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&out.stderr);
        let answer =
            serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {stderr}"));
        (out.status.code().unwrap(), answer)
    }
}

fn python() -> bool {
    let found = Command::new("python3").arg("--version").output().is_ok();
    if !found {
        println!("NOT RUN: python3 is absent, so verify_log.py did not judge anything");
    }
    found
}

#[test]
fn it_accepts_a_good_log() {
    if !python() {
        return;
    }
    let folder = Folder::new("good");
    folder.fill();
    let (code, answer) = folder.judge();
    assert_eq!(code, 0, "{answer}");
    let counts = &answer["counts"];
    assert_eq!(counts["signed"], USES);
    assert_eq!(counts["details"], USES);
    assert_eq!(counts["openings"], 3 * USES);
    assert_eq!(counts["receipts"], 7);
    assert_eq!(counts["open"], 0);
    assert_eq!(answer["head"]["size"], 2 * USES + 1);
}

#[test]
fn it_refuses_every_tampered_file() {
    if !python() {
        return;
    }
    let folder = Folder::new("bad");
    let log = folder.fill();
    let mut paths: Vec<String> = log.files.keys().cloned().collect();
    paths.extend(
        [
            "checkpoint",
            "details.ndjson",
            "earlier",
            "receipts/99.tlog-proof",
        ]
        .map(str::to_owned),
    );
    for path in paths {
        let good = std::fs::read(folder.0.join(&path)).unwrap();
        for at in [good.len() / 3, good.len() / 2] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            folder.write(&path, &bad);
            let (code, answer) = folder.judge();
            assert_eq!(code, 1, "{path} byte {at}: {answer}");
        }
        folder.write(&path, &good);
    }
    assert_eq!(folder.judge().0, 0, "all is as it was");
    std::fs::remove_file(folder.0.join("tile/entries/001")).unwrap();
    assert_eq!(folder.judge().0, 2, "missing leaves leave it undecided");
}

#[test]
fn it_reads_every_leaf_type_with_every_kind_of_text() {
    if !python() {
        return;
    }
    let texts = [
        "",
        "plain",
        "\"\\/",
        "\u{0}\u{1f}\u{7f}\n\t",
        "é\u{2028}\u{10ffff}",
        "a b",
        "{}",
    ];
    let texts = texts.map(str::to_owned);
    let mut leaves = Vec::new();
    for which in 0..LeafBody::TYPES.len() {
        for flags in 0..8 {
            let flag = [1, 2, 4].map(|bit| flags & bit != 0);
            let numbers = [0, u64::MAX, 1 << 53];
            let b = body(
                which,
                &texts,
                [[0; 32], [0xff; 32], [7; 32]],
                numbers,
                flag,
                texts.to_vec(),
            );
            let mut leaf = Leaf::new(5, b);
            if flag[0] && !matches!(leaf.body, LeafBody::Authorisation(_)) {
                leaf = leaf.with_request("r-1._").with_by(Commitment([9; 32]));
            }
            leaves.push(leaf);
        }
    }
    let folder = Folder::new("types");
    let log = MemoryLog::new(&leaves);
    log.files
        .iter()
        .for_each(|(path, content)| folder.write(path, content));
    folder.write("checkpoint", &log.checkpoint);
    folder.write("earlier", &log.checkpoint);
    folder.write("vkey", signing_key().verifier().to_string());
    std::fs::create_dir_all(folder.0.join("receipts")).unwrap();
    let (_, answer) = folder.judge();
    // The leaves make no sense together, but each can be read.
    assert_eq!(answer["counts"]["leaves"], leaves.len(), "{answer}");
    assert_eq!(
        answer["unchecked"].as_array().map(Vec::len),
        Some(0),
        "{answer}"
    );
}

/// The commands in docs/log-format.md print what the page says they print.
#[test]
fn the_commands_in_the_format_description_work() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/log-format.md");
    let page = std::fs::read_to_string(page).unwrap();
    let folder = Folder::new("commands");
    std::fs::create_dir_all(&folder.0).unwrap();
    let mut ran = 0;
    for part in page.split("```sh\n").skip(1) {
        let (script, rest) = part.split_once("```\n").unwrap();
        let (_, expected) = rest.split_once("```text\n").unwrap();
        let (expected, _) = expected.split_once("```").unwrap();
        if script.contains("openssl") && Command::new("openssl").arg("version").output().is_err() {
            println!("NOT RUN: openssl is absent: {script}");
            continue;
        }
        let out = Command::new("sh")
            .arg("-euc")
            .arg(script)
            .current_dir(&folder.0)
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&out.stderr);
        assert_eq!(
            String::from_utf8_lossy(&out.stdout),
            expected,
            "{script}\n{stderr}"
        );
        ran += 1;
    }
    assert!(ran >= 3, "{ran} commands ran");
}
