//! A downloaded log: everything offline works from this folder alone.
//!
//! ```text
//! DIR/origin          the log's name
//! DIR/vkey            the key that signs it, as the service said
//! DIR/checkpoint      the signed head
//! DIR/tile/…          tlog-tiles
//! DIR/details.ndjson  what opens the commitments in the leaves
//! ```

use crate::context::{Context, verifier_key};
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use countersign_signing_log::VerifierKey;
use countersign_signing_log::audit::LogSource;
use countersign_signing_log::details::Details;
use countersign_signing_log::tile::{EntryBundle, TilePath};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{BufRead as _, Read as _};
use std::path::{Path, PathBuf};

/// No file of a log but the details is larger (a full bundle of longest leaves).
const MAX_FILE: u64 = 256 * (65_535 + 2);

/// The folder.
#[derive(Debug, Clone)]
pub struct Folder {
    dir: PathBuf,
}

/// Why a log's key is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trust {
    /// It was given on the command line.
    Given,
    /// It is the key pinned at first contact.
    Pinned,
    /// It came with the folder: whoever made the folder could have made the key.
    Folder,
}

impl Folder {
    /// A folder that may not be there yet.
    #[must_use]
    pub fn at(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The log's name.
    ///
    /// # Errors
    /// Absent, if this is no downloaded log.
    pub fn origin(&self) -> Result<String> {
        self.line("origin").map_err(|f| {
            f.hint(format!(
                "{} should be a folder made by `countersign log download`",
                self.dir.display()
            ))
        })
    }

    /// The key to check the log with, and why it is believed: those given; else the pinned one;
    /// else the folder's own.
    ///
    /// # Errors
    /// Bad, if the folder's key contradicts the one pinned for its host; usage, for a key that is
    /// none.
    pub fn keys(&self, context: &Context, given: &[String]) -> Result<(Vec<VerifierKey>, Trust)> {
        if !given.is_empty() {
            return Ok((parse_keys(given)?, Trust::Given));
        }
        let origin = self.origin()?;
        let own = parse_keys(&[self.line("vkey")?])?;
        let host = origin.split('/').next().unwrap_or("");
        for (server, pin) in context.home.pins()? {
            let pinned = verifier_key(&pin, &origin)?;
            if own.contains(&pinned) {
                return Ok((own, Trust::Pinned));
            }
            if server.strip_prefix("https://") == Some(host) {
                return Err(Failure::bad(
                    "keys-changed",
                    format!("the folder's log key is not the one pinned for {server}"),
                ));
            }
        }
        Ok((own, Trust::Folder))
    }

    /// Details by leaf index.
    ///
    /// # Errors
    /// Bad, for a line that is none.
    pub fn details(&self) -> Result<BTreeMap<u64, Details>> {
        let path = self.dir.join("details.ndjson");
        let file = match std::fs::File::open(&path) {
            Ok(f) => f,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(e) => return Err(Failure::file(&path, &e)),
        };
        let mut all = BTreeMap::new();
        for (i, line) in std::io::BufReader::new(file).lines().enumerate() {
            let line = line.map_err(|e| Failure::file(&path, &e))?;
            if line.is_empty() {
                continue;
            }
            let details = Details::parse_line(&line).map_err(|e| {
                let message = format!("{} line {}: {e}", path.display(), i.saturating_add(1));
                Failure::bad("details", message)
            })?;
            all.insert(details.index, details);
        }
        Ok(all)
    }

    /// The exact bytes of one leaf, from the bundle that holds it in a log of `size` leaves.
    ///
    /// # Errors
    /// If the bundle is missing or damaged.
    pub fn leaf(&self, index: u64, size: u64) -> Result<Vec<u8>> {
        let first = index & !0xff;
        let width = u16::try_from(size.saturating_sub(first).min(256)).unwrap_or(256);
        let path = TilePath::entries(index >> 8, width);
        let missing = || {
            Failure::new(
                Exit::Undecided,
                "incomplete",
                format!("{path} is not in the folder"),
            )
        };
        let bytes = self.read(&path.to_string())?.ok_or_else(missing)?;
        let bundle = EntryBundle::decode(&bytes, width)
            .map_err(|e| Failure::bad("damaged", format!("{path}: {e}")))?;
        let at = usize::try_from(index & 0xff).unwrap_or(usize::MAX);
        bundle.entries.into_iter().nth(at).ok_or_else(missing)
    }

    /// The bytes of one of the log's files; `None` if it is not there.
    ///
    /// # Errors
    /// If it is there and cannot be read, or is larger than any such file.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let path = self.dir.join(name);
        let file = match std::fs::File::open(&path) {
            Ok(f) => f,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Failure::file(&path, &e)),
        };
        let mut bytes = Vec::new();
        file.take(MAX_FILE.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|e| Failure::file(&path, &e))?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(Failure::bad(
                "damaged",
                format!("{} is too large", path.display()),
            ));
        }
        Ok(Some(bytes))
    }

    /// Writes one of the log's files, all of it or nothing.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.dir.join(name);
        let dir = path.parent().unwrap_or(&self.dir);
        std::fs::create_dir_all(dir).map_err(|e| Failure::file(dir, &e))?;
        crate::home::write_atomically(&path, bytes)
    }

    fn line(&self, name: &str) -> Result<String> {
        let bytes = self.read(name)?.ok_or_else(|| {
            let path = self.dir.join(name);
            Failure::new(
                Exit::Absent,
                "file",
                format!("{} is not there", path.display()),
            )
        })?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    }
}

/// Reads verifier keys.
///
/// # Errors
/// Usage, for one that is none.
pub fn parse_keys(given: &[String]) -> Result<Vec<VerifierKey>> {
    given
        .iter()
        .map(|k| VerifierKey::parse(k).map_err(|e| Failure::usage(format!("vkey: {e}"))))
        .collect()
}

impl LogSource for Folder {
    type Error = String;

    fn checkpoint(&self) -> Result<String, String> {
        match self.read("checkpoint") {
            Ok(Some(bytes)) => String::from_utf8(bytes).map_err(|e| e.to_string()),
            Ok(None) => Err("there is none in the folder".to_owned()),
            Err(f) => Err(f.message),
        }
    }

    fn tile(&self, path: &TilePath) -> Result<Option<Vec<u8>>, String> {
        self.read(&path.to_string()).map_err(|f| f.message)
    }

    fn bundle(&self, path: &TilePath) -> Result<Option<Vec<u8>>, String> {
        self.read(&path.to_string()).map_err(|f| f.message)
    }
}
