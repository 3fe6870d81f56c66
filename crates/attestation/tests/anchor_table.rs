//! The table of anchors against the makers' certificates.
//!
//! Those lie beside the checkout, in `../shared/attestation`; where they do not, the test says so
//! loudly and checks nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use countersign_attestation::anchors::{Row, rows};
use countersign_attestation::certificate::Certificate;
use countersign_attestation::signature::{Hash, Work};
use countersign_attestation::verify::{File, Pool};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn shared() -> Option<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Worktrees lie one folder deeper than the checkout itself.
    ["../../../shared", "../../../../shared"]
        .iter()
        .map(|p| here.join(p).join("attestation"))
        .find(|p| p.join("cases.json").exists())
}

/// Every certificate in the folders `roots`, by its fingerprint.
fn published(root: &Path) -> BTreeMap<String, Certificate> {
    let mut out = BTreeMap::new();
    for vendor in std::fs::read_dir(root).unwrap() {
        let Ok(roots) = std::fs::read_dir(vendor.unwrap().path().join("roots")) else {
            continue;
        };
        for file in roots {
            let path = file.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            let name = path.to_str().unwrap();
            let pool = Pool::of(&[File {
                name,
                bytes: &bytes,
            }]);
            for (_, c) in pool.certificates() {
                out.insert(hex::encode(Hash::Sha256.of(c.der())), c.clone());
            }
        }
    }
    out
}

/// Name and key are those of each certificate; the dates span them.
fn agrees(row: &Row, all: &[&Certificate]) {
    for c in all {
        assert_eq!(c.subject().to_string(), row.name);
        let spki = hex::encode(c.key().unwrap().to_spki());
        assert_eq!(spki, row.spki, "{}", row.name);
    }
    let from = all.iter().map(|c| c.not_before()).min().unwrap();
    let to = all.iter().map(|c| c.not_after()).max().unwrap();
    assert_eq!(from.to_string(), row.not_before, "{}", row.name);
    assert_eq!(to.to_string(), row.not_after, "{}", row.name);
}

#[test]
fn rows_are_what_the_makers_certificates_say() {
    let Some(root) = shared() else {
        eprintln!("NOT CHECKED: ../shared/attestation is absent; no row was compared");
        return;
    };
    let published = published(&root);
    let mut compared = 0;
    for row in rows() {
        let found = row.certificates.iter().map(|f| published.get(*f));
        let found: Vec<_> = found.flatten().collect();
        let is_whole = !found.is_empty() && found.len() == row.certificates.len();
        let ours = ["YubiKey PIV", "Luna PKC, RSA", "Luna PKC, ECC"];
        assert!(is_whole || !ours.contains(&row.line), "{}", row.name);
        if is_whole {
            agrees(row, &found);
            compared += found.len();
        }
    }
    println!("{compared} certificates compared");
    assert!(compared >= 11, "{compared}");
}

/// What the notes say of the steps above the PIV CAs, by signature.
#[test]
fn the_piv_cas_of_2024_stand_below_attestation_root_1() {
    let Some(root) = shared() else {
        eprintln!("NOT CHECKED: ../shared/attestation is absent; no signature was verified");
        return;
    };
    let published = published(&root);
    let named = |name: &str| rows().find(|r| r.name == name && r.line.starts_with("Yub"));
    let mut verified = 0;
    for row in rows() {
        let Some((_, issuer)) = row.note.split_once("issued by ") else {
            continue;
        };
        let (Some(issuer), Some(c)) = (named(issuer), published.get(row.certificates[0])) else {
            continue;
        };
        let key = published[issuer.certificates[0]].key().unwrap();
        c.verify(&Work::default(), &key)
            .unwrap_or_else(|e| panic!("{} below {}: {e}", row.name, issuer.name));
        verified += 1;
    }
    assert_eq!(verified, 5, "three PIV CAs and two intermediates");
}
