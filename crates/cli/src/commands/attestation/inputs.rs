//! Files and folders from the command line.

use crate::failure::{Failure, Result};
use countersign_attestation::verify::File;
use countersign_attestation::verify::parts::{MAX_FILE, MAX_FILES};
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Deepest folder inside a folder.
const MAX_DEPTH: usize = 4;

/// A file that was read.
#[derive(Debug)]
pub(in crate::commands) struct Read {
    /// As it was named, or as it lies in the folder that was named.
    pub(in crate::commands) name: String,
    /// Its bytes, at most one more than the verifier reads: it says so itself.
    pub(in crate::commands) bytes: Vec<u8>,
}

impl Read {
    pub(in crate::commands) fn file(&self) -> File<'_> {
        File {
            name: &self.name,
            bytes: &self.bytes,
        }
    }
}

/// Reads one file.
pub(in crate::commands) fn one(path: &Path) -> Result<Read> {
    if path.is_dir() {
        return Err(Failure::usage(format!(
            "{}: is a folder where one file belongs",
            path.display()
        )));
    }
    let file = std::fs::File::open(path).map_err(|e| cannot(path, &e))?;
    let mut bytes = Vec::new();
    let most = u64::try_from(MAX_FILE)
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    file.take(most)
        .read_to_end(&mut bytes)
        .map_err(|e| cannot(path, &e))?;
    Ok(Read {
        name: path.to_string_lossy().into_owned(),
        bytes,
    })
}

/// Reads files, and every file of folders (hidden ones left out), each once and in order of name.
pub(in crate::commands) fn all(paths: &[PathBuf], not: &[&Path]) -> Result<Vec<Read>> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            folder(path, 0, &mut files)?;
        } else {
            files.push(path.clone());
        }
    }
    let same = |p: &Path| p.canonicalize().ok();
    let not: Vec<_> = not.iter().filter_map(|p| same(p)).collect();
    let mut seen: Vec<PathBuf> = Vec::new();
    let mut out = Vec::new();
    for path in files {
        if let Some(real) = same(&path) {
            if not.contains(&real) || seen.contains(&real) {
                continue;
            }
            seen.push(real);
        }
        out.push(one(&path)?);
    }
    if out.len() > MAX_FILES {
        return Err(Failure::usage(format!(
            "{} files of evidence; at most {MAX_FILES} are read",
            out.len()
        )));
    }
    Ok(out)
}

fn folder(path: &Path, depth: usize, out: &mut Vec<PathBuf>) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(Failure::usage(format!(
            "{}: folders are read {MAX_DEPTH} deep",
            path.display()
        )));
    }
    let mut inside = Vec::new();
    for entry in std::fs::read_dir(path).map_err(|e| cannot(path, &e))? {
        let entry = entry.map_err(|e| cannot(path, &e))?;
        if !entry.file_name().to_string_lossy().starts_with('.') {
            inside.push(entry.path());
        }
    }
    inside.sort();
    for p in inside {
        if p.is_dir() {
            folder(&p, depth + 1, out)?;
        } else {
            out.push(p);
        }
        if out.len() > 4 * MAX_FILES {
            return Err(Failure::usage(format!(
                "{}: holds more files than are read",
                path.display()
            )));
        }
    }
    Ok(())
}

/// A file that cannot be read is wrong usage: nothing was judged.
fn cannot(path: &Path, e: &std::io::Error) -> Failure {
    Failure::usage(format!("{}: {e}", path.display()))
}
