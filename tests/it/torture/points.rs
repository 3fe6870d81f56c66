//! The failpoints, read from the source, so that a new one cannot be forgotten.

use std::collections::BTreeSet;
use std::path::Path;

/// One place where a process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// As in `failpoint::hit`.
    pub name: &'static str,
    /// It dies at the n-th time at most; below that by chance.
    pub most: u64,
    /// What leads there.
    pub by: By,
}

/// What leads to a failpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Signatures.
    Load,
    /// Somebody makes a key.
    NewKey,
}

const fn point(name: &'static str, most: u64) -> Point {
    Point {
        name,
        most,
        by: By::Load,
    }
}

/// All of them. A failpoint without a row here fails a test.
pub const POINTS: &[Point] = &[
    point("server.before-authorise", 25),
    point("server.before-commit", 20),
    point("server.after-commit", 20),
    point("server.after-announce", 20),
    point("server.after-authorise", 25),
    point("server.before-worker", 25),
    point("server.after-worker", 25),
    point("server.after-verify", 25),
    point("server.before-release", 25),
    point("server.before-outcome", 25),
    point("server.before-answer", 25),
    point("server.after-outcome", 25),
    Point {
        name: "server.after-generate",
        most: 1,
        by: By::NewKey,
    },
    point("worker.before-mark", 6),
    point("worker.after-mark", 6),
    point("worker.before-check", 25),
    point("worker.after-check", 25),
    point("worker.before-c-sign", 25),
    point("worker.after-c-sign", 25),
    point("worker.before-answer", 25),
    // Once a second at most.
    point("worker.before-edge", 2),
];

impl Point {
    /// Whether it is a worker that dies.
    pub fn in_worker(&self) -> bool {
        self.name.starts_with("worker.")
    }
}

/// The names in the source.
fn in_source() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates");
    let mut folders = vec![crates];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(&path).expect("a source");
                for part in text.split("hit(").skip(1) {
                    let name = part.trim_start().strip_prefix('"').unwrap_or_default();
                    let name = name.split('"').next().unwrap_or_default();
                    if name.starts_with("server.") || name.starts_with("worker.") {
                        names.insert(name.to_owned());
                    }
                }
            }
        }
    }
    names
}

#[test]
fn every_failpoint_of_the_source_has_its_row() {
    let rows: BTreeSet<String> = POINTS.iter().map(|p| p.name.to_owned()).collect();
    assert_eq!(rows.len(), POINTS.len(), "no row twice");
    assert_eq!(in_source(), rows, "left: in the source; right: the rows");
}
