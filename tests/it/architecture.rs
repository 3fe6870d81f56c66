//! The dependency arrows of ARCHITECTURE.md, held by the build's own metadata.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// The shelf each crate stands on.
const SHELVES: &[(&str, &[&str])] = &[
    (
        "pure",
        &[
            "core",
            "x509",
            "attestation",
            "content",
            "signing-log",
            "grants",
            "hsm-protocol",
        ],
    ),
    ("edge", &["hsm", "store", "ca"]),
    ("service", &["signing", "api"]),
    ("bin", &["server", "hsm-worker"]),
    ("client", &["client", "formats", "cli"]),
    ("dev", &["testkit", "testkit-evidence", "demo-ca", "tests"]),
];

/// What pure crates must never know: they do no I/O and hold no clock.
const NOT_IN_PURE: &[&str] = &[
    "tokio", "sqlx", "axum", "reqwest", "ureq", "hyper", "cryptoki", "tempfile",
];

fn metadata() -> serde_json::Value {
    let out = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
            "--locked",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo metadata runs");
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    serde_json::from_slice(&out.stdout).expect("metadata is JSON")
}

/// Crate (without prefix) → normal and build dependencies, ours without prefix.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let short = |n: &str| n.strip_prefix("countersign-").unwrap_or(n).to_owned();
    metadata()["packages"]
        .as_array()
        .expect("packages")
        .iter()
        .map(|p| {
            let deps = p["dependencies"].as_array().expect("dependencies");
            let deps = deps
                .iter()
                .filter(|d| d["kind"].as_str() != Some("dev"))
                .map(|d| d["name"].as_str().expect("name").to_owned())
                .collect();
            (short(p["name"].as_str().expect("name")), deps)
        })
        .collect()
}

fn shelf(krate: &str) -> Option<&'static str> {
    SHELVES
        .iter()
        .find(|(_, crates)| crates.contains(&krate))
        .map(|(shelf, _)| *shelf)
}

/// Whether `from` may depend on our crate `to`.
fn allowed(from: &str, to: &str) -> bool {
    let (Some(a), Some(b)) = (shelf(from), shelf(to)) else {
        return false;
    };
    match (a, b) {
        // Everybody may know the pure crates.
        (_, "pure") => true,
        // api knows the service it serves; signing knows only ports.
        ("service", "service") => from == "api" && to == "signing",
        // The server wires; the worker knows pure crates only.
        ("bin", "edge" | "service") => from == "server",
        ("client", "client") => from == "cli",
        ("dev", _) => true,
        _ => false,
    }
}

#[test]
fn every_crate_stands_on_a_shelf() {
    let known: BTreeSet<_> = SHELVES
        .iter()
        .flat_map(|(_, c)| c.iter().copied())
        .collect();
    let found: BTreeSet<_> = dependencies().into_keys().collect();
    let found: BTreeSet<_> = found.iter().map(String::as_str).collect();
    assert_eq!(
        known, found,
        "name the new crate's shelf in ARCHITECTURE.md and here"
    );
}

#[test]
fn dependencies_point_the_allowed_way() {
    let mut wrong = Vec::new();
    for (from, deps) in dependencies() {
        for dep in &deps {
            if let Some(to) = dep.strip_prefix("countersign-")
                && !allowed(&from, to)
            {
                wrong.push(format!("{from} → {to}"));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "arrows the architecture does not have: {wrong:?}"
    );
}

#[test]
fn pure_crates_do_no_io() {
    let deps = dependencies();
    for krate in SHELVES[0].1 {
        for banned in NOT_IN_PURE {
            assert!(
                !deps[*krate].contains(*banned),
                "{krate} depends on {banned}"
            );
        }
        let lib = format!(
            "{}/../crates/{krate}/src/lib.rs",
            env!("CARGO_MANIFEST_DIR")
        );
        let lib = std::fs::read_to_string(lib).expect("lib.rs");
        assert!(
            lib.contains("#![forbid(unsafe_code)]"),
            "{krate} does not forbid unsafe code"
        );
    }
}

#[test]
fn only_the_borders_know_what_they_guard() {
    let holders = |dep: &str| -> Vec<String> {
        dependencies()
            .into_iter()
            .filter(|(_, d)| d.contains(dep))
            .map(|(k, _)| k)
            .collect()
    };
    assert_eq!(holders("sqlx"), ["store"], "SQL only in store");
    assert_eq!(
        holders("cryptoki"),
        ["hsm-worker"],
        "PKCS#11 only in the worker"
    );
    assert_eq!(
        holders("tss-esapi"),
        ["hsm-worker"],
        "a TPM only in the worker"
    );
    let http: Vec<_> = holders("axum")
        .into_iter()
        .filter(|k| shelf(k) != Some("dev"))
        .collect();
    assert_eq!(http, ["api"], "HTTP only in api");
    for krate in SHELVES[4].1 {
        assert!(
            !dependencies()[*krate].contains("tokio"),
            "{krate}: the client side has no tokio"
        );
    }
}

#[test]
fn a_stranger_can_take_the_verifier_alone() {
    // An auditor embeds signing-log, a CA embeds attestation: neither drags the service in.
    let deps = dependencies();
    let closure = |start: &str| {
        let mut seen = BTreeSet::new();
        let mut todo = vec![start.to_owned()];
        while let Some(k) = todo.pop() {
            for dep in deps.get(&k).into_iter().flatten() {
                if let Some(short) = dep.strip_prefix("countersign-")
                    && seen.insert(short.to_owned())
                {
                    todo.push(short.to_owned());
                }
            }
        }
        seen
    };
    assert!(
        closure("signing-log").is_empty(),
        "signing-log stands alone"
    );
    assert!(
        closure("attestation")
            .iter()
            .all(|k| shelf(k) == Some("pure"))
    );
}
