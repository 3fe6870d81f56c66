//! Real evidence, read where it lies: our chain check beside openssl's answer.

use super::common::{self, Ask, NOW, shared};
use super::verify;
use countersign_attestation::Outcome;
use std::path::{Path, PathBuf};

/// 2022-01-01, 2024-01-01, 2023-09-10.
const IN_2022: i64 = 1_640_995_200;
const IN_2024: i64 = 1_704_067_200;
const IN_SEPTEMBER_2023: i64 = 1_694_304_000;

/// One question to both.
struct Sample {
    folder: &'static str,
    /// In the folder.
    evidence: &'static [&'static str],
    check: &'static str,
    /// A PEM file in the folder and which certificate of it.
    leaf: (&'static str, usize),
    /// PEM files, in the folder or from the top.
    between: &'static [&'static str],
    roots: &'static [&'static str],
    /// Our verifier does not pin this root: it is added.
    adds: Option<&'static str>,
    at: i64,
    ours: bool,
    theirs: bool,
}

const SAMPLE: Sample = Sample {
    folder: "",
    evidence: &[],
    check: "",
    leaf: ("", 0),
    between: &[],
    roots: &[],
    adds: None,
    at: NOW,
    ours: true,
    theirs: true,
};

const PIV: Sample = Sample {
    evidence: &["attestation.pem", "f9-intermediate.pem"],
    check: "yubikey-piv-chain",
    leaf: ("attestation.pem", 0),
    between: &[
        "f9-intermediate.pem",
        "yubico/roots/yubico-attestation-intermediates-2024-2025.pem",
    ],
    roots: &[
        "yubico/roots/yubico-attestation-root-1.pem",
        "yubico/roots/yubico-piv-root-ca-263751.pem",
        "yubico/roots/yubico-u2f-root-ca-457200631.pem",
    ],
    ..SAMPLE
};

const HSM: Sample = Sample {
    evidence: &["attestation.pem", "device.pem"],
    check: "yubihsm2-chain",
    leaf: ("attestation.pem", 0),
    between: &[
        "device.pem",
        "yubico/roots/yubihsm2-subca-E45DA5F361B091B30D8F2C6FA040DB6FEF57918E.pem",
    ],
    roots: &["yubico/roots/yubihsm2-root-ca.pem"],
    ..SAMPLE
};

const GOOGLE: Sample = Sample {
    folder: "marvell-liquidsecurity/google-kms-ec-p256-fullchain",
    evidence: &["attestation.dat.gz", "certificate-chain.pem"],
    between: &["certificate-chain.pem"],
    ..SAMPLE
};

const WEBAUTHN: Sample = Sample {
    evidence: &["attestation-object.cbor", "client-data.json"],
    check: "tpm-ak-chain",
    leaf: ("x5c.pem", 0),
    between: &["x5c.pem"],
    roots: &["tpm2/roots/microsoft-microsoft-tpm-root-certificate-authority-2014.pem"],
    ..SAMPLE
};

const SAMPLES: [Sample; 10] = [
    Sample {
        check: "marvell-owner-chain",
        leaf: ("certificate-chain.pem", 2),
        roots: &["marvell-liquidsecurity/roots/google-hawksbill-root-v1-prod.pem"],
        ..GOOGLE
    },
    // The maker's side, from the card up: openssl does not follow what is below it.
    Sample {
        check: "marvell-maker-chain",
        leaf: ("certificate-chain.pem", 1),
        roots: &["marvell-liquidsecurity/roots/liquidsecurity-root-2024-2034.pem"],
        ..GOOGLE
    },
    Sample {
        check: "marvell-maker-chain",
        leaf: ("certificate-chain.pem", 0),
        roots: &["marvell-liquidsecurity/roots/liquidsecurity-root-2024-2034.pem"],
        theirs: false,
        ..GOOGLE
    },
    Sample {
        folder: "securosys-primus/primus-18386101-rsa4096-csr",
        evidence: &[
            "attestation.sig",
            "attestation.xml",
            "certificate-chain.pem",
        ],
        check: "securosys-chain",
        leaf: ("certificate-chain.pem", 0),
        between: &["certificate-chain.pem"],
        roots: &["securosys-primus/roots/primus-hsm-rootkey-2024-2054.pem"],
        ..SAMPLE
    },
    Sample {
        folder: "fortanix-dsm/sample-2023-rsa2048",
        evidence: &["key_attestation.json"],
        check: "fortanix-chain",
        leaf: ("authority.pem", 0),
        between: &["key-attestation-ca.pem"],
        roots: &["fortanix-dsm/roots/fortanix-attestation-provisioning-root-2023-2033.pem"],
        at: IN_SEPTEMBER_2023,
        ..SAMPLE
    },
    // The authority is no CA, by design; openssl does not follow what it issues.
    Sample {
        folder: "fortanix-dsm/sample-2023-rsa2048",
        evidence: &["key_attestation.json"],
        check: "fortanix-chain",
        leaf: ("statement.pem", 0),
        between: &["authority.pem", "key-attestation-ca.pem"],
        roots: &["fortanix-dsm/roots/fortanix-attestation-provisioning-root-2023-2033.pem"],
        at: IN_SEPTEMBER_2023,
        theirs: false,
        ..SAMPLE
    },
    Sample {
        folder: "tpm2/webauthn-surface-pro-4",
        at: IN_2022,
        ..WEBAUTHN
    },
    // Its certificates ended in 2025.
    Sample {
        folder: "tpm2/webauthn-surface-pro-4",
        ours: false,
        theirs: false,
        ..WEBAUTHN
    },
    Sample {
        folder: "tpm2/webauthn-tpm-with-ecc-public-area-type",
        at: IN_2024,
        ..WEBAUTHN
    },
    Sample {
        folder: "standards/pkix-evidence-2",
        evidence: &["evidence2.pem"],
        check: "pkix-chain",
        leaf: ("standards/pkix-evidence-roots/ak.crt", 0),
        between: &["standards/pkix-evidence-roots/int.crt"],
        roots: &["standards/pkix-evidence-roots/ca.crt"],
        adds: Some("standards/pkix-evidence-roots/ca.crt"),
        ..SAMPLE
    },
];

/// In the folder of the sample, or from the top.
fn find(top: &Path, folder: &str, name: &str) -> PathBuf {
    let near = top.join(folder).join(name);
    if near.exists() { near } else { top.join(name) }
}

/// The n-th certificate of a PEM file.
fn nth(path: &Path, n: usize) -> String {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    let text = std::fs::read_to_string(path).unwrap();
    let block = text.split(BEGIN).nth(n + 1).unwrap();
    format!("{BEGIN}{block}")
}

/// openssl's answer, then ours.
fn answers(top: &Path, s: &Sample, folder: &str) -> (bool, bool) {
    let all = |names: &[&str]| -> String {
        let read = |name: &&str| std::fs::read_to_string(find(top, folder, name)).unwrap();
        names.iter().map(read).collect()
    };
    let work = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| std::fs::write(work.path().join(name), text).unwrap();
    write("leaf", nth(&find(top, folder, s.leaf.0), s.leaf.1));
    write("between", all(s.between));
    write("root", all(s.roots));
    let theirs = verify(work.path(), s.at);

    let read = |name: &str| std::fs::read(find(top, folder, name)).unwrap();
    let subject = if top.join(folder).join("key-1.pem").exists() {
        "key-1.pem"
    } else {
        "attested-public-key.pem"
    };
    let ask = Ask {
        anchors: s.adds.map(read).into_iter().collect(),
        at: s.at,
        ..Ask::key(&read(subject), Vec::new())
    };
    let files: Vec<Vec<u8>> = s.evidence.iter().map(|n| read(n)).collect();
    let result = ask.about(&files);
    let check = result
        .check(s.check)
        .unwrap_or_else(|| panic!("{folder}: no {}: {}", s.check, common::why(&result)));
    (theirs, check.outcome == Outcome::Pass)
}

#[test]
fn real_chains_agree() {
    let Some(top) = shared("") else { return };
    for s in &SAMPLES {
        let (theirs, ours) = answers(&top, s, s.folder);
        let what = format!("{} {} at {}", s.folder, s.check, s.at);
        assert_eq!((theirs, ours), (s.theirs, s.ours), "{what}");
    }
}

/// Genuine YubiKeys whose chain openssl refuses: `NOT_COMPARED` says why.
const PIV_NOT_COMPARED: [&str; 3] = ["ovh-435-", "purebred-433-", "go-piv-b-u2froot-"];

/// Every sample of Yubico's two products, those that prove nothing as well.
#[test]
fn every_chain_of_yubico_agrees() {
    let Some(top) = shared("") else { return };
    let mut agreed = 0;
    for (vendor, s) in [("yubikey-piv", PIV), ("yubihsm2", HSM)] {
        for entry in std::fs::read_dir(top.join(vendor)).unwrap() {
            let path = entry.unwrap().path();
            let has = |name: &&&str| path.join(name).exists();
            if s.evidence.iter().filter(has).count() < s.evidence.len()
                || !path.join("attested-public-key.pem").exists()
            {
                continue;
            }
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let (theirs, ours) = answers(&top, &s, &format!("{vendor}/{name}"));
            if PIV_NOT_COMPARED.iter().any(|n| name.starts_with(n)) {
                assert_eq!((theirs, ours), (false, true), "{name}");
            } else {
                assert_eq!(theirs, ours, "{name}");
                agreed += 1;
            }
        }
    }
    println!("{agreed} chains of Yubico agree");
    assert!(agreed >= 20, "{agreed}");
}
