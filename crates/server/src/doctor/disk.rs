//! Room and kind of the file systems that hold what must not be lost.

use super::{Check, Status};
use crate::config::Config;
use crate::database::Place;
use rustix::fs::StatVfsMountFlags;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

const MIB: u64 = 1024 * 1024;
/// Less than this is next to nothing: a busy service writes it within minutes.
const LEAST: u64 = 100 * MIB;
/// Less than this is soon nothing.
const LITTLE: u64 = 1024 * MIB;
/// Fewer free inodes than this: a file for each key log is soon one too many.
const LEAST_INODES: u64 = 1000;
/// Part of the file system, in percent, below which somebody should look.
const SHARE: u64 = 5;

/// One check for each file system that holds data.
pub(super) fn look(config: &Config) -> Vec<Check> {
    let mut folders = vec![config.data_dir.clone(), config.token_dir()];
    folders.push(config.worker_state_dir());
    if let Ok(Place::Sqlite(file)) = Place::of(config) {
        folders.extend(file.parent().map(Path::to_path_buf));
    }
    // The folders of one file system fill up together.
    let mut by_device: BTreeMap<u64, Vec<PathBuf>> = BTreeMap::new();
    let mut checks = Vec::new();
    for folder in folders {
        match std::fs::metadata(&folder) {
            Ok(meta) => {
                let all = by_device.entry(meta.dev()).or_default();
                if !all.contains(&folder) {
                    all.push(folder);
                }
            }
            // Made at the first start.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && folder != config.data_dir => {}
            Err(e) => checks.push(
                Check::fail("disk", e.to_string())
                    .about(folder.display().to_string())
                    .advice("make it, for the service's user, 0700"),
            ),
        }
    }
    for folders in by_device.values() {
        let Some(first) = folders.first() else {
            continue;
        };
        let names: Vec<_> = folders.iter().map(|f| f.display().to_string()).collect();
        checks.push(room(first).about(names.join(", ")));
    }
    checks
}

fn room(folder: &Path) -> Check {
    let found = match rustix::fs::statvfs(folder) {
        Ok(found) => found,
        Err(e) => return Check::fail("disk", e.to_string()),
    };
    if found.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Check::fail("disk", "mounted read-only")
            .advice("repair the mount; the service goes on by itself");
    }
    // What root may use beyond it, the service may not.
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let whole = found.f_blocks.saturating_mul(found.f_frsize);
    // Some file systems make inodes as they go, and count none.
    let inodes = (found.f_files > 0).then_some(found.f_favail);
    let (status, seen) = judge(free, whole, inodes);
    let check = Check::new("disk", status, seen);
    match status {
        Status::Ok => check,
        _ => check.advice("make room: docs/operators/incident.md, \"Database read-only or full\""),
    }
}

fn judge(free: u64, whole: u64, inodes: Option<u64>) -> (Status, String) {
    let share = u128::from(free)
        .saturating_mul(100)
        .checked_div(u128::from(whole))
        .unwrap_or(0);
    let seen = format!("{} MiB free of {} MiB", free / MIB, whole / MIB);
    match inodes {
        Some(n) if n < LEAST_INODES => {
            return (Status::Fail, format!("{seen}, and only {n} inodes"));
        }
        _ => {}
    }
    let status = if free < LEAST {
        Status::Fail
    } else if free < LITTLE || share < u128::from(SHARE) {
        Status::Warn
    } else {
        Status::Ok
    };
    (status, seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_room_is_said_and_no_room_is_bad() {
        let gib = 1024 * MIB;
        let status = |free, whole, inodes| judge(free, whole, inodes).0;
        assert_eq!(status(50 * gib, 100 * gib, Some(1 << 20)), Status::Ok);
        assert_eq!(status(4 * gib, 100 * gib, None), Status::Warn);
        assert_eq!(status(gib / 2, gib, None), Status::Warn);
        assert_eq!(status(99 * MIB, gib, None), Status::Fail);
        assert_eq!(status(50 * gib, 100 * gib, Some(999)), Status::Fail);
        assert_eq!(status(0, 0, None), Status::Fail);
    }
}
