//! Replacing a file: whole or not at all.

use countersign_formats::FormatError;
use countersign_formats::files::{atomic_replace, digest, read_bounded};
use std::fs;

#[test]
fn content_is_replaced_and_nothing_else_is_left_behind() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    atomic_replace(&path, b"new").unwrap();
    atomic_replace(&path, b"newer").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"newer");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[cfg(unix)]
#[test]
fn permissions_and_links_stay() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let dir = tempfile::tempdir().unwrap();
    let (path, link) = (dir.path().join("a"), dir.path().join("link"));
    fs::write(&path, "old").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o751)).unwrap();
    symlink("a", &link).unwrap();
    atomic_replace(&link, b"new").unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o751
    );
}

#[test]
fn folders_and_missing_places_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_path_buf();
    let not_a_file = FormatError::NotAFile { path: path.clone() };
    assert_eq!(atomic_replace(&path, b"x"), Err(not_a_file.clone()));
    assert_eq!(digest(&path, crate::SHA256).err(), Some(not_a_file));
    let nowhere = path.join("no/such/folder");
    assert!(matches!(
        atomic_replace(&nowhere, b"x"),
        Err(FormatError::Io {
            kind: std::io::ErrorKind::NotFound,
            ..
        })
    ));
}

#[test]
fn a_file_over_the_limit_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    fs::write(&path, [0; 101]).unwrap();
    assert_eq!(
        read_bounded(&path, 100),
        Err(FormatError::TooLarge {
            path: path.clone(),
            limit: 100
        })
    );
    assert_eq!(read_bounded(&path, 101).unwrap().len(), 101);
}

/// A pipe without a writer would make a naive reader wait for ever.
#[cfg(unix)]
#[test]
fn a_pipe_is_refused_without_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pipe");
    let made = std::process::Command::new("mkfifo")
        .arg(&path)
        .status()
        .unwrap();
    assert!(made.success());
    assert_eq!(
        read_bounded(&path, 100),
        Err(FormatError::NotAFile { path })
    );
}
