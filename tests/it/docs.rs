//! The documentation is run: blocks of shell against a running service, every command line through
//! the real program's parser, every link and named file against the tree.

mod commands;
mod links;
pub mod markdown;
mod postgresql;
mod run;

use crate::support::Stack;
use markdown::Page;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Pages whose blocks another test runs, and which.
const ELSEWHERE: [(&str, &str); 3] = [
    (
        "docs/operators/postgresql.md",
        "tests/it/docs/postgresql.rs",
    ),
    (
        "docs/log-format.md",
        "crates/signing-log/tests/python_judge.rs",
    ),
    (
        "docs/service-statement.md",
        "crates/attestation/src/statement/tests/judges.rs",
    ),
];

/// The top of the source tree.
fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest
        .parent()
        .expect("tests/ lies in the source tree")
        .to_owned()
}

#[test]
fn every_block_of_shell_is_run_or_accounted_for() {
    let mut pages = markdown::documentation(&root());
    // Signer and grants that the other pages use are made there.
    // So are the deployments that the operators' pages go on with.
    pages.sort_by_key(|p| {
        let first = ["docs/subscribers/README.md", "docs/operators/install.md"];
        let place = first.iter().position(|f| *f == p.path).unwrap_or(2);
        (place, p.path.clone())
    });
    let stack = Stack::shared();
    let world = run::World::new(stack, &root());
    let (mut ran, mut elsewhere) = (0, 0);
    let mut skipped: BTreeMap<String, usize> = BTreeMap::new();
    for page in &pages {
        let shell = page.blocks.iter().filter(|b| b.language == "sh").count();
        if let Some((_, test)) = ELSEWHERE.iter().find(|(p, _)| *p == page.path) {
            let name = page.path.rsplit('/').next().unwrap_or_default();
            let text = std::fs::read_to_string(root().join(test)).expect("the other test");
            assert!(text.contains(name), "{test} does not read {name}");
            elsewhere += shell;
            continue;
        }
        for reason in page.blocks.iter().filter_map(|b| b.skip.clone()) {
            *skipped.entry(reason).or_default() += 1;
        }
        ran += world.run(page);
    }
    let not_run: usize = skipped.values().sum();
    println!("documentation: {ran} blocks run, {elsewhere} run by other tests, {not_run} not run:");
    for (reason, count) in &skipped {
        println!("  {count} {reason}");
    }
    assert!(ran > 40, "only {ran} blocks were run");
}

#[test]
fn every_command_line_is_one_of_the_real_programs() {
    let mut pages = markdown::documentation(&root());
    for more in ["ARCHITECTURE.md", "THREAT_MODEL.md", "hsm-config/README.md"] {
        pages.push(Page::read(&root(), more));
    }
    let mut checked = BTreeSet::new();
    let mut wrong = Vec::new();
    for page in &pages {
        for command in commands::of(page) {
            if checked.insert(command.words.clone())
                && let Err(why) = command.check()
            {
                wrong.push(format!(
                    "{}: {}\n{why}",
                    command.place,
                    command.words.join(" ")
                ));
            }
        }
    }
    println!("documentation: {} different command lines", checked.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert!(
        checked.len() > 40,
        "only {} command lines were found",
        checked.len()
    );
}

#[test]
fn a_flag_that_does_not_exist_is_found() {
    let page = Page::parse(
        "x.md",
        "```sh\ncountersign sign --signer acme/release --fast app.exe\n```\n",
    );
    let commands = commands::of(&page);
    assert_eq!(commands.len(), 1);
    let why = commands[0].check().expect_err("there is no --fast");
    assert!(why.contains("--fast"), "{why}");
}

#[test]
fn grants_in_the_documentation_keep_the_rules_of_their_platform() {
    let mut tried = 0;
    for page in markdown::documentation(&root()) {
        for command in commands::of(&page) {
            let is_grant = command.words.windows(2).any(|w| w == ["grants", "add"]);
            if is_grant && command.in_block {
                tried += 1;
                // The rules are checked first; then nobody is logged in.
                assert_eq!(
                    command.exit_code_of_nobody(),
                    3,
                    "{}: {}",
                    command.place,
                    command.words.join(" ")
                );
            }
        }
    }
    assert!(tried >= 4, "only {tried} grants were found");
}

#[test]
fn links_lead_somewhere() {
    let broken = links::broken(&root());
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn files_named_by_the_threat_model_and_the_architecture_exist() {
    let mut missing = Vec::new();
    for name in ["THREAT_MODEL.md", "ARCHITECTURE.md", "README.md"] {
        for file in links::named_files(&Page::read(&root(), name)) {
            if !root().join(&file).exists() {
                missing.push(format!("{name}: {file}"));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

/// Both ways: no key without a row, no row without a key.
#[test]
fn every_configuration_key_has_its_row() {
    let source =
        std::fs::read_to_string(root().join("crates/server/src/config.rs")).expect("config.rs");
    let code = source.split("impl Config").next().unwrap_or_default();
    let rooms = ["attestation.rs", "ca.rs", "limits.rs", "revocation.rs"].map(|file| {
        std::fs::read_to_string(root().join("crates/server/src/config").join(file)).expect(file)
    });
    let of_rooms = rooms.iter().flat_map(|room| {
        room.split("impl Default")
            .next()
            .unwrap_or_default()
            .lines()
    });
    let mut keys: BTreeSet<&str> = BTreeSet::new();
    let lines = code.lines().chain(of_rooms);
    for line in lines.filter_map(|l| l.strip_prefix("    pub ")) {
        if let Some((name, _)) = line.split_once(':') {
            keys.insert(name);
        }
    }
    // Tables of the file: their keys have the rows.
    for table in [
        "tls",
        "database",
        "node",
        "hsm",
        "cas",
        "attestation",
        "revocation",
        "mirror",
        "oidc",
        // Its keys have a page: docs/operators/workers.md.
        "token",
        "limits",
        "log",
    ] {
        assert!(keys.remove(table), "{table}");
    }
    // Its keys are on a page of their own; tests/it/telemetry looks.
    assert!(keys.remove("telemetry"));
    let page = Page::read(&root(), "docs/operators/README.md");
    let section = page
        .text
        .split("\n## Configuration")
        .nth(1)
        .and_then(|s| s.split("\n## ").next());
    let rows: BTreeSet<&str> = section
        .expect("the section")
        .lines()
        .filter_map(|l| l.strip_prefix("| "))
        .filter_map(|l| l.split(" | ").next())
        .filter_map(|cell| cell.trim_end_matches('`').rsplit('`').next())
        .filter(|k| k.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') && *k != "key")
        .collect();
    assert_eq!(rows, keys);
}
