//! What a run of `sign` leaves behind so that the same command can finish it.
//!
//! ```text
//! COUNTERSIGN_HOME/runs/<options>-<files>.ndjson
//! {"run":{"version":1,"key":…,"begun":…,"files":[…]}}          before anything is asked
//! {"done":{"file":…,"id":…,"target":…,"sha256":…,"line":{…}}}  before each output is written
//! ```
//!
//! The run's Idempotency-Key is all that a lost answer needs: what is asked for a file is named after
//! its own bytes, so the same file asks for the same thing again, and a file that changed for another.
//! A `done` line holds the output's digest: only an output that is still there, as it was written,
//! counts. So the process may die between any two steps. When all files are signed the file goes.
//!
//! No secret stands in it: the key is worth nothing without the caller's own token.

use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::home::{Home, sha256_hex};
use countersign_core::{Clock as _, HashAlgorithm, SystemClock};
use countersign_formats::files::digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::SystemTime;

const VERSION: u32 = 1;
/// Runs that nobody came back to are forgotten. (The service remembers answers for a day.)
const MAX_AGE_S: i64 = 7 * 24 * 3600;
/// As long as the service remembers answers.
const REMEMBERED_S: i64 = 24 * 3600;

/// One run.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    /// Locked as long as the run lasts.
    file: Mutex<File>,
    /// The Idempotency-Key of all its requests.
    pub key: String,
    /// When it began, Unix seconds; `None` if it begins now.
    pub begun: Option<i64>,
    done: HashMap<PathBuf, Done>,
}

/// A file that was signed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Done {
    /// Which.
    pub file: PathBuf,
    /// The item's id.
    pub id: String,
    /// Digest of the file itself, as in its receipt.
    pub artifact: String,
    /// Where the output is.
    pub target: PathBuf,
    /// SHA-256 of the output, hex.
    pub sha256: String,
    /// Where the receipt is.
    pub receipt: PathBuf,
    /// What was reported.
    pub line: Value,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line {
    Run {
        version: u32,
        key: String,
        begun: i64,
        files: Vec<PathBuf>,
    },
    Done(Box<Done>),
}

impl Journal {
    /// The journal of a run with these options over these files: the one left behind, or a new one
    /// under `key`.
    ///
    /// # Errors
    /// Unavailable, if such a run is going on; if the file cannot be read or written.
    pub(super) fn open(home: &Home, options: &str, files: &[PathBuf], key: String) -> Result<Self> {
        let dir = home.folder("runs")?;
        sweep(&dir);
        let mut sorted = files.to_vec();
        sorted.sort();
        let names: Vec<_> = sorted.iter().map(|f| f.to_string_lossy()).collect();
        let name = format!(
            "{}-{}.ndjson",
            short(options),
            short(&sha256_hex(names.join("\n").as_bytes()))
        );
        let path = dir.join(name);
        let mut file = open_private(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Failure::new(
                    Exit::Unavailable,
                    "run-going-on",
                    "another run of this very command is signing these files",
                ));
            }
            Err(TryLockError::Error(e)) => return Err(Failure::file(&path, &e)),
        }
        let failed = |e: &std::io::Error| Failure::file(&path, e);
        match read(&file) {
            Some(found) => {
                file.set_len(found.good).map_err(|e| failed(&e))?;
                Ok(Self {
                    file: Mutex::new(file),
                    key: found.key,
                    begun: Some(found.begun),
                    done: found.done,
                    path,
                })
            }
            None => {
                file.set_len(0).map_err(|e| failed(&e))?;
                let line = Line::Run {
                    version: VERSION,
                    key: key.clone(),
                    begun: SystemClock.now().seconds(),
                    files: sorted,
                };
                append(&mut file, &line).map_err(|e| failed(&e))?;
                Ok(Self {
                    file: Mutex::new(file),
                    key,
                    begun: None,
                    done: HashMap::new(),
                    path,
                })
            }
        }
    }

    /// The files of the newest run with these options that was not finished.
    ///
    /// # Errors
    /// Absent, if there is none.
    pub(super) fn left_behind(home: &Home, options: &str) -> Result<Vec<PathBuf>> {
        let dir = home.folder("runs")?;
        sweep(&dir);
        let prefix = format!("{}-", short(options));
        let mut runs: Vec<(SystemTime, PathBuf)> = entries(&dir)
            .filter(|(_, path)| {
                path.file_name()
                    .is_some_and(|n| n.to_string_lossy().starts_with(&prefix))
            })
            .collect();
        runs.sort();
        runs.into_iter()
            .rev()
            .find_map(|(_, path)| match first_line(&path)? {
                Line::Run { files, .. } => Some(files),
                Line::Done(_) => None,
            })
            .ok_or_else(|| {
                Failure::new(
                    Exit::Absent,
                    "nothing-to-resume",
                    "no run with this signer and these options was left unfinished",
                )
                .hint("name the files; --resume takes those of a run that was interrupted")
            })
    }

    /// Whether answers of this run may be forgotten by the service already.
    pub(super) fn too_old(&self) -> bool {
        self.begun
            .is_some_and(|b| SystemClock.now().seconds().saturating_sub(b) > REMEMBERED_S)
    }

    /// How many files were signed before.
    pub(super) fn count(&self) -> usize {
        self.done.len()
    }

    /// What was recorded of a file, whether it still holds or not.
    pub(super) fn recorded(&self, file: &Path) -> Option<&Done> {
        self.done.get(file)
    }

    /// All that was recorded.
    pub(super) fn all(&self) -> impl Iterator<Item = &Done> {
        self.done.values()
    }

    /// Records an output that is about to be written. Durable when it returns.
    ///
    /// # Errors
    /// If it cannot be written: then the output must not be either.
    pub(super) fn record(&self, done: Done) -> Result<()> {
        let mut file = self
            .file
            .lock()
            .map_err(|_| Failure::new(Exit::Internal, "lock", "another file broke the run"))?;
        append(&mut file, &Line::Done(Box::new(done))).map_err(|e| Failure::file(&self.path, &e))
    }

    /// All is done: there is nothing to come back to.
    pub(super) fn end(self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Done {
    /// Whether the output is still there, as it was written.
    pub(super) fn output_stands(&self) -> bool {
        digest(&self.target, HashAlgorithm::Sha256)
            .is_ok_and(|d| hex::encode(d.as_bytes()) == self.sha256)
    }
}

/// What a journal holds, and how many bytes of it are whole.
struct Found {
    key: String,
    begun: i64,
    done: HashMap<PathBuf, Done>,
    good: u64,
}

fn read(file: &File) -> Option<Found> {
    let mut head = None;
    let mut done = HashMap::new();
    let mut good = 0;
    let mut reader = BufReader::new(file);
    let mut text = String::new();
    // The last line may be half of one: the process died there.
    while reader.read_line(&mut text).is_ok_and(|n| n > 0) && text.ends_with('\n') {
        match serde_json::from_str(&text) {
            Ok(Line::Run {
                version: VERSION,
                key,
                begun,
                ..
            }) => head = Some((key, begun)),
            Ok(Line::Run { .. }) => return None,
            Ok(Line::Done(d)) => {
                done.insert(d.file.clone(), *d);
            }
            Err(_) => break,
        }
        good += text.len() as u64;
        text.clear();
    }
    head.map(|(key, begun)| Found {
        key,
        begun,
        done,
        good,
    })
}

fn append(file: &mut File, line: &Line) -> std::io::Result<()> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    file.write_all(&bytes)?;
    file.sync_data()
}

fn first_line(path: &Path) -> Option<Line> {
    let mut text = String::new();
    BufReader::new(File::open(path).ok()?)
        .read_line(&mut text)
        .ok()?;
    serde_json::from_str(&text).ok()
}

fn open_private(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).read(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(|e| Failure::file(path, &e))
}

fn entries(dir: &Path) -> impl Iterator<Item = (SystemTime, PathBuf)> {
    std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|e| Some((e.metadata().ok()?.modified().ok()?, e.path())))
}

fn sweep(dir: &Path) {
    let limit = std::time::Duration::from_secs(MAX_AGE_S.unsigned_abs());
    for (changed, path) in entries(dir) {
        if changed.elapsed().is_ok_and(|age| age > limit) {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn short(hash: &str) -> &str {
    hash.get(..16).unwrap_or(hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const OPTIONS: &str = "0123456789abcdef0123456789abcdef";

    struct Desk {
        dir: tempfile::TempDir,
        home: Home,
    }

    impl Desk {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let home = Home::at(Some(dir.path().join("home"))).unwrap();
            Self { dir, home }
        }

        fn file(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        fn open(&self, files: &[&str], key: &str) -> Result<Journal> {
            let files: Vec<_> = files.iter().map(|f| self.file(f)).collect();
            Journal::open(&self.home, OPTIONS, &files, key.to_owned())
        }

        fn done(&self, name: &str, content: &str) -> Done {
            std::fs::write(self.file(name), content).unwrap();
            Done {
                file: self.file(name),
                id: format!("id-{name}"),
                artifact: "sha-256:00".into(),
                target: self.file(name),
                sha256: sha256_hex(content.as_bytes()),
                receipt: self.file("r"),
                line: json!({"file": name}),
            }
        }
    }

    #[test]
    fn the_same_files_find_what_was_left_and_others_do_not() {
        let d = Desk::new();
        let first = d.open(&["a", "b"], "k1").unwrap();
        assert_eq!((first.key.as_str(), first.begun), ("k1", None));
        first.record(d.done("a", "signed")).unwrap();
        // While it goes on nobody else may.
        assert_eq!(d.open(&["b", "a"], "k2").unwrap_err().code, "run-going-on");
        drop(first);
        let again = d.open(&["b", "a"], "k2").unwrap();
        assert_eq!((again.key.as_str(), again.count()), ("k1", 1));
        assert!(again.begun.is_some() && !again.too_old());
        let done = again.recorded(&d.file("a")).unwrap();
        assert!(done.output_stands());
        std::fs::write(d.file("a"), "other").unwrap();
        assert!(!done.output_stands(), "only as it was written");
        assert_eq!(again.recorded(&d.file("b")), None);
        let other = d.open(&["a"], "k3").unwrap();
        assert_eq!((other.key.as_str(), other.count()), ("k3", 0));
        again.end();
        assert_eq!(d.open(&["a", "b"], "k4").unwrap().key, "k4");
    }

    #[test]
    fn half_a_line_is_the_end_and_a_strange_file_begins_anew() {
        let d = Desk::new();
        let journal = d.open(&["a", "b"], "k1").unwrap();
        journal.record(d.done("a", "x")).unwrap();
        let path = journal.path.clone();
        drop(journal);
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"done\":{\"file\":\"/b\"").unwrap();
        let again = d.open(&["a", "b"], "k2").unwrap();
        assert_eq!((again.key.as_str(), again.count()), ("k1", 1));
        again.record(d.done("b", "y")).unwrap();
        drop(again);
        assert_eq!(d.open(&["a", "b"], "k2").unwrap().count(), 2);
        std::fs::write(&path, "{\"run\":{\"version\":2}}\n").unwrap();
        let fresh = d.open(&["a", "b"], "k3").unwrap();
        assert_eq!((fresh.key.as_str(), fresh.count()), ("k3", 0));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let journal = d.open(&["c"], "k").unwrap();
            let mode = std::fs::metadata(&journal.path)
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn the_newest_unfinished_run_is_the_one_to_resume() {
        let d = Desk::new();
        let code = |options: &str| Journal::left_behind(&d.home, options).unwrap_err().code;
        assert_eq!(code(OPTIONS), "nothing-to-resume");
        drop(d.open(&["old"], "k1").unwrap());
        std::thread::sleep(std::time::Duration::from_millis(20));
        drop(d.open(&["new-b", "new-a"], "k2").unwrap());
        let files = Journal::left_behind(&d.home, OPTIONS).unwrap();
        assert_eq!(files, [d.file("new-a"), d.file("new-b")]);
        assert_eq!(code("other options than those"), "nothing-to-resume");
    }
}
