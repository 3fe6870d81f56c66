//! Pairing a log with receipts and released files.

use crate::exit::Exit;
use crate::failure::{Failure, Result};
use countersign_content::ContentType;
use countersign_core::HashAlgorithm;
use countersign_formats::artifact_digest_of;
use countersign_signing_log::audit::AuditedLeaf;
use countersign_signing_log::commitment::digest_text;
use countersign_signing_log::details::Details;
use countersign_signing_log::leaf::{OutcomeResult, Purpose};
use countersign_signing_log::note::Note;
use countersign_signing_log::{Checkpoint, Hash, LeafBody, Receipt, VerifierKey, merkle};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

/// How deep receipts are looked for below a folder.
const MAX_DEPTH: u32 = 16;

/// What was found out about one receipt or file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Paired {
    /// The receipt or file.
    pub path: PathBuf,
    /// 0, 1 or 2 as the exit codes.
    pub exit: u8,
    /// The leaf.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// In words.
    pub finding: String,
}

/// Receipts given to an audit.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    pub results: Vec<Paired>,
    /// Receipts of other logs, which say nothing here.
    pub other_logs: u64,
    waiting: HashMap<u64, Vec<(usize, Hash)>>,
    heads: Vec<Checkpoint>,
    signed: BTreeSet<u64>,
    uses: BTreeSet<u64>,
    exit: Option<Exit>,
}

impl Receipts {
    /// Reads all `*.tlog-proof` below `dir` that are of the log `origin`.
    pub(super) fn read(dir: &Path, origin: &str, keys: &[VerifierKey]) -> Result<Self> {
        let mut paths = Vec::new();
        find(dir, MAX_DEPTH, &mut paths)?;
        paths.sort();
        let mut all = Self {
            exit: Some(Exit::Done),
            ..Self::default()
        };
        for path in paths {
            let bytes = std::fs::read(&path).map_err(|e| Failure::file(&path, &e))?;
            all.one(path, &bytes, origin, keys);
        }
        Ok(all)
    }

    /// Whether receipts were asked for at all.
    pub(super) const fn given(&self) -> bool {
        self.exit.is_some()
    }

    /// Heads that the log must continue, as far as the download reaches.
    pub(super) fn heads(&self, size: u64) -> impl Iterator<Item = &Checkpoint> {
        self.heads.iter().filter(move |h| h.size <= size)
    }

    /// Takes a leaf on its way through the audit.
    pub(super) fn visit(&mut self, leaf: &AuditedLeaf<'_>) {
        if !self.given() {
            return;
        }
        match leaf.leaf.map(|l| &l.body) {
            Some(LeafBody::Authorisation(a)) if a.purpose == Purpose::Signature => {
                self.uses.insert(leaf.index);
            }
            Some(LeafBody::Outcome(o)) if o.result == OutcomeResult::Signed => {
                self.signed.insert(o.of);
            }
            _ => {}
        }
        for (i, hash) in self.waiting.remove(&leaf.index).unwrap_or_default() {
            if let Some(result) = self.results.get_mut(i) {
                if hash == leaf.hash {
                    result.exit = Exit::Done.code();
                    result.finding = "its leaf is in the log".to_owned();
                } else {
                    result.exit = Exit::Bad.code();
                    result.finding = "the log has another leaf at its index".to_owned();
                }
            }
        }
    }

    /// Signatures that were made and of which no receipt was given: whose are they?
    pub(super) fn signed_without_receipt(&self) -> Vec<u64> {
        let with: BTreeSet<u64> = self.results.iter().filter_map(|r| r.index).collect();
        let made = self.signed.intersection(&self.uses);
        made.filter(|i| !with.contains(i)).copied().collect()
    }

    /// The worst of all receipts.
    pub(super) fn exit(&self) -> Exit {
        worst(&self.results)
    }

    fn one(&mut self, path: PathBuf, bytes: &[u8], origin: &str, keys: &[VerifierKey]) {
        let text = String::from_utf8_lossy(bytes);
        let parsed = Receipt::parse(&text);
        let of_log = parsed.as_ref().ok().and_then(|r| {
            let note = Note::parse(&r.checkpoint_note).ok()?;
            Checkpoint::parse(note.unverified_text())
                .ok()
                .map(|c| c.origin)
        });
        if of_log.as_ref().is_some_and(|o| o != origin) {
            self.other_logs += 1;
            return;
        }
        let verified = parsed.and_then(|r| r.verify(keys).map(|v| (r, v)));
        let mut result = Paired {
            path,
            exit: Exit::Undecided.code(),
            index: None,
            finding: "the download does not reach its leaf: download the log again".to_owned(),
        };
        match verified {
            Ok((receipt, verified)) => {
                result.index = Some(verified.index);
                let place = (self.results.len(), merkle::leaf_hash(&receipt.leaf));
                self.waiting.entry(verified.index).or_default().push(place);
                self.heads.push(verified.checkpoint);
            }
            Err(e) => {
                result.exit = Exit::Bad.code();
                result.finding = e.to_string();
            }
        }
        self.results.push(result);
    }
}

/// Pairs released files with the details of a log.
pub(super) fn files(paths: &[PathBuf], details: &BTreeMap<u64, Details>) -> Result<Vec<Paired>> {
    let mut by_digest: HashMap<&str, u64> = HashMap::new();
    for (index, d) in details {
        if let Some(text) = d.artifact.as_ref().and_then(|o| o.text()) {
            by_digest.insert(text, *index);
        }
    }
    paths
        .iter()
        .map(|path| {
            let found = candidates(path)?
                .iter()
                .find_map(|c| by_digest.get(c.as_str()).copied());
            let (exit, finding) = match found {
                Some(_) => (Exit::Done, "a use of this key was for this file"),
                None if by_digest.is_empty() => (
                    Exit::Undecided,
                    "the download has no details: nothing to compare with",
                ),
                None => (Exit::Bad, "no use in this log was for this file"),
            };
            Ok(Paired {
                path: path.clone(),
                exit: exit.code(),
                index: found,
                finding: finding.to_owned(),
            })
        })
        .collect()
}

/// The worst of several.
pub(super) fn worst(all: &[Paired]) -> Exit {
    all.iter().fold(Exit::Done, |worst, p| {
        let one = Exit::BY_SEVERITY.into_iter().find(|e| e.code() == p.exit);
        worst.worst(one.unwrap_or(Exit::Internal))
    })
}

/// All digests under which a log may know a file.
fn candidates(path: &Path) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for content in [ContentType::Cms, ContentType::Authenticode] {
        for hash in HashAlgorithm::ALL {
            match artifact_digest_of(path, content, hash) {
                Ok(d) => all.push(digest_text(hash.as_str(), d.as_bytes())),
                // Not an executable: then it has no Authenticode digest.
                Err(_) if content == ContentType::Authenticode => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
    Ok(all)
}

fn find(dir: &Path, depth: u32, out: &mut Vec<PathBuf>) -> Result<()> {
    let entries = std::fs::read_dir(dir).map_err(|e| Failure::file(dir, &e))?;
    for entry in entries {
        let entry = entry.map_err(|e| Failure::file(dir, &e))?;
        let path = entry.path();
        // Links are not followed: they could lead in circles.
        let kind = entry.file_type().map_err(|e| Failure::file(&path, &e))?;
        if kind.is_dir() && depth > 0 {
            find(&path, depth - 1, out)?;
        } else if kind.is_file() && path.extension().is_some_and(|e| e == "tlog-proof") {
            out.push(path);
        }
    }
    Ok(())
}
