//! Files of the state folder: written whole or not at all, secrets for their owner alone.

use crate::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Makes `dir`, and what leads to it, for its owner alone.
pub(crate) fn make_dir(dir: &Path) -> Result<(), Error> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(Error::file(dir))
}

/// Writes `bytes` to `path` through a temporary file beside it. Durable once it returns. `mode` is
/// 0o600 for secrets.
pub(crate) fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let temporary = path.with_extension("new");
    let done = (|| {
        let _ = fs::remove_file(&temporary);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        match path.parent() {
            Some(dir) => File::open(dir)?.sync_all(),
            None => Ok(()),
        }
    })();
    done.map_err(Error::file(path))
}

/// Reads a file of at most `max` bytes.
pub(crate) fn read(path: &Path, max: u64) -> Result<Vec<u8>, Error> {
    let size = fs::metadata(path).map_err(Error::file(path))?.len();
    if size > max {
        return Err(Error::Content {
            path: path.to_owned(),
            problem: format!("has {size} bytes; at most {max} are read"),
        });
    }
    fs::read(path).map_err(Error::file(path))
}
