//! What can be said of packaging/ and docker-compose.yml without a container engine, of the units without a service
//! manager, and of `make dist` without a release build.

use crate::support::{program, text};
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ lies in the source tree")
        .to_owned()
}

#[test]
fn images_compose_file_units_and_scripts_are_checked_by_their_own_tools() {
    for name in [
        "countersign",
        "countersignd",
        "countersign-demo-ca",
        "countersign-testkit",
        "countersign-hsm-worker",
    ] {
        program(name);
    }
    let bin = program("countersign");
    let out = Command::new(root().join("scripts/check-packaging.sh"))
        .arg(bin.parent().expect("its folder"))
        .output()
        .expect("bash runs");
    let said = String::from_utf8_lossy(&out.stdout);
    println!("{said}");
    assert!(
        out.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&out.stderr)
    );
    // What needs no tool of others is always checked.
    let ok = said.lines().filter(|l| l.starts_with("ok: ")).count();
    assert!(ok >= 7, "{ok}");
}

/// Everything but the two builds, which take minutes.
#[test]
fn a_distribution_has_checksums_and_a_bill_of_materials() {
    let folder = countersign_testkit::tempdir().expect("a folder");
    let dist = folder.path().join("dist");
    let make = || {
        let out = Command::new(root().join("scripts/dist.sh"))
            .arg("--dry-run")
            .env("DIST_OUT", &dist)
            .env("SOURCE_DATE_EPOCH", "1700000000")
            .output()
            .expect("bash runs");
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(
            out.status.success(),
            "{said}{}",
            String::from_utf8_lossy(&out.stderr)
        );
        (
            said,
            std::fs::read(dist.join("SHA256SUMS")).expect("SHA256SUMS"),
        )
    };
    let (said, sums) = make();
    for words in [
        "--locked --release",
        "--remap-path-prefix=",
        "--package countersign-cli",
        "strip --strip-all",
        "countersignd, countersign-hsm-worker: dynamic",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(
        !said.contains("testkit") && !said.contains("failpoints"),
        "{said}"
    );
    let (_, again) = make();
    assert_eq!(sums, again, "the same source gives the same bytes");
    let checked = Command::new("sha256sum")
        .args(["--check", "--quiet", "--strict", "SHA256SUMS"])
        .current_dir(&dist)
        .status()
        .expect("sha256sum runs");
    assert!(checked.success());

    let bill = std::fs::read_dir(&dist)
        .expect("the folder")
        .map(|e| e.expect("an entry").path())
        .find(|p| text(p).ends_with(".cdx.json"))
        .expect("a bill of materials");
    let bill: serde_json::Value =
        serde_json::from_slice(&std::fs::read(bill).expect("its bytes")).expect("JSON");
    let names: Vec<_> = bill["components"]
        .as_array()
        .expect("components")
        .iter()
        .map(|c| c["name"].as_str().expect("a name"))
        .collect();
    for linked in [
        "countersign-server",
        "countersign-cli",
        "aws-lc-rs",
        "cryptoki",
        "sqlx",
    ] {
        assert!(names.contains(&linked), "{linked} is linked");
    }
    for not in ["proptest", "countersign-testkit", "countersign-tests"] {
        assert!(!names.contains(&not), "{not} is for tests alone");
    }
    let without = bill["components"]
        .as_array()
        .expect("components")
        .iter()
        .filter(|c| c["licenses"].is_null())
        .count();
    assert_eq!(without, 0, "each component names its licence");
    let units = dist.join("systemd/countersignd.service");
    assert!(units.is_file());
}
