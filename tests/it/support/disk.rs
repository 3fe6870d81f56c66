//! A disk that can be full.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small file system in place of a folder; its content moves over.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None`, loudly, where this user may not mount.
    pub fn under(folder: &Path, mib: u32) -> Option<Self> {
        let old = folder.with_extension("old");
        std::fs::rename(folder, &old).expect("moved away");
        std::fs::create_dir(folder).expect("a folder");
        let mounted = Command::new("mount")
            .args([
                "-t",
                "tmpfs",
                "-o",
                &format!("size={mib}m,mode=0700"),
                "countersign-test",
            ])
            .arg(folder)
            .output();
        let Some(disk) = mounted
            .ok()
            .filter(|o| o.status.success())
            .map(|_| Self(folder.to_owned()))
        else {
            eprintln!(
                "SKIPPED: a full disk needs a small file system, and this user may not mount one (run as root)"
            );
            std::fs::remove_dir(folder).expect("removed");
            std::fs::rename(&old, folder).expect("moved back");
            return None;
        };
        let copied = Command::new("cp")
            .arg("-a")
            .arg(old.join("."))
            .arg(folder)
            .status();
        assert!(copied.is_ok_and(|s| s.success()), "cp");
        Some(disk)
    }

    /// Mounts it anew with this option.
    pub fn remount(&self, how: &str) {
        let done = Command::new("mount")
            .args(["-o", &format!("remount,{how}")])
            .arg(&self.0)
            .output()
            .expect("mount");
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.0
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Writes until nothing more fits.
pub fn fill(path: &Path) {
    let mut file = File::create(path).expect("filler");
    for size in [1 << 20, 1 << 12, 1 << 8] {
        let block = vec![0; size];
        while file.write_all(&block).is_ok() {}
    }
}
