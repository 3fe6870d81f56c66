//! The fuzz targets that read device evidence, on machines without cargo-fuzz: every file of the
//! corpus passes, and so do many changed copies of it, always the same ones. `WRITE_SEEDS=1` writes
//! the seeds anew; testkit's keys differ in each run, so seeds are not compared.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "fuzz_corpus/changes.rs"]
mod changes;
#[path = "fuzz_corpus/seeds.rs"]
mod seeds;
#[path = "../../../fuzz/src/attestation/mod.rs"]
mod targets;

use changes::Chance;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Once;
use targets::ALL;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

fn corpus(target: &str) -> PathBuf {
    fuzz().join("corpus").join(target)
}

/// Writes the seeds anew, if that is asked for, before anybody reads them.
fn written() {
    static WRITTEN: Once = Once::new();
    WRITTEN.call_once(|| {
        if std::env::var_os("WRITE_SEEDS").is_none() {
            return;
        }
        for (target, name, bytes) in seeds::all() {
            std::fs::create_dir_all(corpus(target)).unwrap();
            std::fs::write(corpus(target).join(name), bytes).unwrap();
        }
    });
}

/// The kept files of a target, with their names.
fn kept(target: &str) -> Vec<(String, Vec<u8>)> {
    written();
    let mut out: Vec<_> = std::fs::read_dir(corpus(target))
        .unwrap_or_else(|e| panic!("{target} has no corpus: {e}"))
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.display().to_string(), std::fs::read(&path).unwrap())
        })
        .collect();
    out.sort();
    out
}

#[test]
fn the_corpus_passes() {
    let seeds = seeds::all();
    for (target, _, bytes) in &seeds {
        let (_, run) = ALL.iter().find(|(name, _)| name == target).unwrap();
        run(bytes);
    }
    for (target, run) in ALL {
        let files = kept(target);
        assert!(files.len() >= 2, "{target} has {} files", files.len());
        for (path, bytes) in files {
            println!("{path}");
            run(&bytes);
        }
    }
}

/// A finding prints the bytes; keep them in the corpus under a name that says what they were.
#[test]
fn changed_copies_of_the_corpus_do_no_harm() {
    /// Copies for each target, and for those that work longest on one.
    const COPIES: usize = 10_000;
    const COPIES_OF_LONG_WORK: usize = 1_000;
    const LONG: [&str; 3] = [
        "attestation_verify",
        "attestation_inspect",
        "attestation_hss",
    ];
    for (target, run) in ALL {
        let files = kept(target);
        let mut chance = Chance::of(target);
        let copies = if LONG.contains(target) {
            COPIES_OF_LONG_WORK
        } else {
            COPIES
        };
        let start = std::time::Instant::now();
        for i in 0..copies {
            let (path, bytes) = &files[i % files.len()];
            let (_, other) = &files[chance.below(files.len())];
            let copy = chance.change(bytes, other);
            let run = std::panic::AssertUnwindSafe(|| run(&copy));
            if let Err(e) = std::panic::catch_unwind(run) {
                println!("{target}, from {path}: {}", hex::encode(&copy));
                std::panic::resume_unwind(e);
            }
        }
        println!("{target}: {copies} copies in {:.1?}", start.elapsed());
    }
}

/// Each target is a program of the fuzz package, and each program is a target.
#[test]
fn the_targets_are_those_of_cargo_fuzz() {
    let named = |name: &&str| name.starts_with("attestation_");
    let here: BTreeSet<String> = ALL.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(here.len(), ALL.len());
    let files: BTreeSet<String> = std::fs::read_dir(fuzz().join("fuzz_targets"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|name| named(&name.as_str()))
        .collect();
    assert_eq!(here, files);
    let manifest = std::fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    let readme = std::fs::read_to_string(fuzz().join("README.md")).unwrap();
    for name in here {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
        assert!(readme.contains(&format!("| `{name}` |")), "README: {name}");
    }
}
