//! The corpus of the fuzz targets that read device evidence: every file in it passes, on machines
//! without cargo-fuzz as well. `WRITE_SEEDS=1` writes the seeds anew; testkit's keys differ in each
//! run, so seeds are not compared.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use countersign_testkit_evidence::marvell::Marvell;
use countersign_testkit_evidence::securosys::Securosys;
use countersign_testkit_evidence::thales_luna::ThalesLuna;
use countersign_testkit_evidence::yubikey_piv::YubiKeyPiv;
use std::path::{Path, PathBuf};

#[path = "../../../fuzz/src/attestation.rs"]
mod targets;

type Target = fn(&[u8]);
const TARGETS: [(&str, Target); 5] = [
    ("attestation_thales_luna", targets::attestation_thales_luna),
    ("attestation_yubikey_piv", targets::attestation_yubikey_piv),
    (
        "attestation_marvell_blob",
        targets::attestation_marvell_blob,
    ),
    (
        "attestation_marvell_wrapping",
        targets::attestation_marvell_wrapping,
    ),
    (
        "attestation_securosys_statement",
        targets::attestation_securosys_statement,
    ),
];

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/corpus")
        .join(target)
}

fn seeds() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let marvell = Marvell::default();
    let smart_key = Securosys {
        more: "\t<policy><rule_use><token name=\"t\"><group name=\"g\"><quorum>1</quorum></group></token></rule_use></policy>\n".into(),
        ..Securosys::default()
    };
    let piv = YubiKeyPiv::default().files();
    vec![
        ("attestation_yubikey_piv", "seed-slot", piv[0].clone()),
        ("attestation_yubikey_piv", "seed-f9", piv[1].clone()),
        (
            "attestation_thales_luna",
            "seed-rsa",
            ThalesLuna::rsa().signed(0),
        ),
        (
            "attestation_thales_luna",
            "seed-ecc",
            ThalesLuna::ecc().signed(0),
        ),
        (
            "attestation_thales_luna",
            "seed-device",
            ThalesLuna::rsa().signed(1),
        ),
        ("attestation_marvell_blob", "seed-pair", marvell.blob()),
        (
            "attestation_marvell_blob",
            "seed-one",
            marvell.blob_of(&[&marvell.private]),
        ),
        ("attestation_marvell_blob", "seed-v1", marvell.blob_v1()),
        (
            "attestation_marvell_wrapping",
            "seed-azure",
            marvell.azure_json(),
        ),
        (
            "attestation_marvell_wrapping",
            "seed-google",
            marvell.google_json("CAVIUM_V2_COMPRESSED", &marvell.name),
        ),
        (
            "attestation_securosys_statement",
            "seed-plain",
            Securosys::default().xml(),
        ),
        (
            "attestation_securosys_statement",
            "seed-policy",
            smart_key.xml(),
        ),
    ]
}

#[test]
fn the_corpus_passes() {
    if std::env::var_os("WRITE_SEEDS").is_some() {
        for (target, name, bytes) in seeds() {
            std::fs::create_dir_all(corpus(target)).unwrap();
            std::fs::write(corpus(target).join(name), bytes).unwrap();
        }
    }
    for (target, _, bytes) in seeds() {
        let (_, run) = TARGETS.iter().find(|(name, _)| *name == target).unwrap();
        run(&bytes);
    }
    for (target, run) in TARGETS {
        let mut files = 0;
        for entry in std::fs::read_dir(corpus(target)).unwrap() {
            let path = entry.unwrap().path();
            println!("{}", path.display());
            run(&std::fs::read(&path).unwrap());
            files += 1;
        }
        assert!(files >= 2, "{target} has {files} files");
    }
}
