//! Every rule of the YubiHSM 2 format: evidence that is accepted, and evidence it refuses.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Ask, accepted, refused_by, undecided_by};
use countersign_attestation::result::{Exportable, Known};
use countersign_testkit_evidence::cert::{
    Certificate, attestation_attribute, certs_only, cn, request,
};
use countersign_testkit_evidence::text::{base64, pem};
use countersign_testkit_evidence::yubihsm2::YubiHsm2;
use countersign_testkit_evidence::{Key, Kind, der, hostile};

fn ask(e: &YubiHsm2) -> Ask {
    Ask::key(e.key.spki(), e.root())
}

/// One change, and the check that must see it.
#[track_caller]
fn one_change(change: impl FnOnce(&mut YubiHsm2), check: &str) {
    let mut e = YubiHsm2::default();
    change(&mut e);
    refused_by(&ask(&e).about(&e.files()), check);
}

#[test]
fn genuine_evidence_is_accepted_with_its_facts() {
    let e = YubiHsm2::default();
    let r = ask(&e).about(&e.files());
    accepted(&r);
    assert_eq!(r.formats, ["yubihsm2"]);
    assert_eq!(r.facts.generated_in_device, Known::Yes);
    assert_eq!(r.facts.exportable, Exportable::Never);
    assert_eq!(r.facts.sign_only, Known::Yes);
    assert_eq!(r.facts.serial.as_ref().unwrap().value, "1234");
    assert_eq!(r.facts.firmware.as_deref(), Some("2.4.0"));
    assert!(r.unused.is_empty(), "{:?}", r.unused);
    assert!(r.weaknesses.is_empty());
    for kind in [Kind::P384, Kind::Ed25519, Kind::Rsa2048] {
        let e = YubiHsm2 {
            key: Key::named(kind, "another subject"),
            ..YubiHsm2::default()
        };
        accepted(&ask(&e).about(&e.files()));
    }
}

#[test]
fn files_come_in_any_wrapping_and_order() {
    let e = YubiHsm2::default();
    let files = e.files();
    let ask = ask(&e);
    hostile::reordered(&files, &|f| ask.accepts(f));
    hostile::with_extra(&files, b"read me", &|f| ask.accepts(f));
    let all: String = files.iter().map(|f| pem("CERTIFICATE", f)).collect();
    assert!(ask.accepts(&[all.into_bytes()]));
    let base64 = files
        .iter()
        .map(|f| base64(f).into_bytes())
        .collect::<Vec<_>>();
    assert!(ask.accepts(&base64));
    assert!(ask.accepts(&[certs_only(&files)]));
    assert!(ask.accepts(&[pem("PKCS7", &certs_only(&files)).into_bytes()]));
    // A root in the evidence changes nothing, and is listed.
    let mut more = files.clone();
    more.push(e.root());
    let r = ask.about(&more);
    accepted(&r);
    assert_eq!(r.unused.len(), 1, "{:?}", r.unused);
    assert_eq!(r.unused[0].name, "file-3");
    assert!(r.unused[0].what.ends_with("a copy of a trusted anchor"));
}

#[test]
fn evidence_may_be_inside_the_request() {
    let e = YubiHsm2::default();
    let statement = ("1.3.6.1.4.1.41482.4", e.leaf().sign(&e.device_key));
    let attribute = attestation_attribute(&[statement], &[e.device(), e.ca()]);
    let mut ask = ask(&e);
    ask.is_csr = true;
    ask.subject = request("Acme", &e.key, &[attribute]);
    accepted(&ask.about(&[]));
    // The same request signed by another key.
    let other = Key::named(Kind::P256, "thief");
    let mut stolen = request("Acme", &other, &[]);
    stolen.truncate(stolen.len() - 8);
    stolen.extend([0; 8]);
    ask.subject = stolen;
    let r = ask.about(&e.files());
    refused_by(&r, "csr-signature");
    refused_by(&r, "key-bound");
}

#[test]
fn no_cut_file_is_accepted() {
    let e = YubiHsm2::default();
    let ask = ask(&e);
    hostile::truncated(&e.files(), 1, &|f| ask.accepts(f));
}

#[test]
fn a_flipped_bit_is_not_accepted() {
    let e = YubiHsm2::default();
    let ask = ask(&e);
    let (tried, kept) = hostile::flipped(&e.files(), 3, 97, &|f| ask.accepts(f));
    assert!(tried > 100, "{tried}");
    assert!(kept.is_empty(), "{kept:?}");
}

#[test]
fn another_key_is_refused() {
    let e = YubiHsm2::default();
    let other = Key::named(Kind::P256, "swapped");
    let r = Ask::key(other.spki(), e.root()).about(&e.files());
    refused_by(&r, "key-bound");
    // Nothing is proved of a key that the evidence is not about.
    assert_eq!(r.facts.genuine, Known::Unknown);
    assert_eq!(r.facts.serial, None);
}

#[test]
fn origin_is_generated_and_nothing_else() {
    for origin in [0x00, 0x02, 0x10, 0x11, 0x03, 0x81] {
        one_change(|e| e.origin = origin, "yubihsm2-origin");
    }
}

#[test]
fn an_exportable_key_is_refused_as_wrapped() {
    let e = YubiHsm2 {
        capabilities: 1 << 7 | 1 << 16,
        ..YubiHsm2::default()
    };
    let r = ask(&e).about(&e.files());
    refused_by(&r, "yubihsm2-not-exportable");
    refused_by(&r, "policy-exportable");
    assert_eq!(r.facts.exportable, Exportable::Wrapped);
}

#[test]
fn capabilities_are_big_endian() {
    // Read in the other byte order, bit 16 and bit 40 would change places.
    let e = YubiHsm2 {
        capabilities: 1 << 7 | 1 << 40,
        ..YubiHsm2::default()
    };
    let r = ask(&e).about(&e.files());
    accepted(&r);
    assert_eq!(r.facts.sign_only, Known::No);
}

#[test]
fn unknown_bits_and_extensions_are_refused() {
    for bit in 56..64 {
        one_change(
            |e| e.capabilities |= 1 << bit,
            "yubihsm2-capabilities-known",
        );
    }
    one_change(
        |e| e.more.push(("99".into(), der::int(1))),
        "yubihsm2-attestation",
    );
    // A value that is not of its size.
    let e = YubiHsm2::default();
    let mut leaf = e.leaf();
    leaf.extensions[4].2 = der::bits(&[0, 0, 0, 0x80]);
    let files = vec![leaf.sign(&e.device_key), e.device(), e.ca()];
    refused_by(&ask(&e).about(&files), "yubihsm2-attestation");
}

#[test]
fn sign_only_can_be_demanded() {
    let mut ask_ = ask(&YubiHsm2::default());
    ask_.require = vec!["sign-only"];
    accepted(&ask_.about(&YubiHsm2::default().files()));
    for more in [9, 10, 11, 34] {
        let e = YubiHsm2 {
            capabilities: 1 << 7 | 1 << more,
            ..YubiHsm2::default()
        };
        accepted(&ask(&e).about(&e.files()));
        refused_by(&ask_.about(&e.files()), "policy-sign-only");
    }
}

#[test]
fn the_device_is_one_and_can_be_demanded() {
    one_change(|e| e.serial = 1235, "yubihsm2-chain");
    one_change(|e| e.firmware = [2, 4, 1], "yubihsm2-device");
    let e = YubiHsm2::default();
    let mut ask_ = ask(&e);
    ask_.require = vec!["serial=1234"];
    accepted(&ask_.about(&e.files()));
    ask_.require.push("serial=9");
    refused_by(&ask_.about(&e.files()), "policy-serial");
    // Another device's certificate beside it.
    let neighbour = YubiHsm2 {
        device_serial: 77,
        ..YubiHsm2::default()
    };
    let mut files = e.files();
    files.push(neighbour.device());
    refused_by(&ask(&e).about(&files), "yubihsm2-device");
    // That one in place of its own.
    let files = [e.files()[0].clone(), neighbour.device(), e.ca()];
    refused_by(&ask(&e).about(&files), "yubihsm2-device");
}

#[test]
fn two_devices_for_one_key_are_not_mixed() {
    let a = YubiHsm2::default();
    let b = YubiHsm2 {
        serial: 77,
        device_serial: 77,
        ..YubiHsm2::default()
    };
    let files = [a.files(), b.files()].concat();
    let r = ask(&a).about(&files);
    refused_by(&r, "one-device");
    assert_eq!(r.facts.serial, None);
}

#[test]
fn the_oldest_device_certificates_name_no_firmware() {
    let e = YubiHsm2 {
        device_firmware: None,
        firmware: [2, 1, 2],
        ..YubiHsm2::default()
    };
    let r = ask(&e).about(&e.files());
    accepted(&r);
    let known = r.weaknesses[0].known.as_ref().unwrap();
    assert_eq!(known.id, "CVE-2024-45678");
    assert!(known.concerns_this_key && !known.disqualifying);
}

#[test]
fn the_device_s_own_key_is_refused() {
    one_change(|e| e.object_id = 0, "yubihsm2-object");
}

#[test]
fn a_look_alike_by_a_key_inside_the_device_is_refused() {
    let e = YubiHsm2::default();
    let r = ask(&e).about(&e.look_alike());
    refused_by(&r, "yubihsm2-chain");
    assert_eq!(r.facts.genuine, Known::Unknown);
}

#[test]
fn a_self_made_anchor_is_no_anchor() {
    let e = YubiHsm2::default();
    let stranger = YubiHsm2 {
        root_key: Key::named(Kind::Rsa2048, "stranger"),
        ..YubiHsm2::default()
    };
    // Trusting another root, with the evidence's own root beside it or not.
    let ask = Ask::key(e.key.spki(), stranger.root());
    refused_by(&ask.about(&e.files()), "yubihsm2-chain");
    let mut nobody = Ask::key(e.key.spki(), vec![]);
    nobody.anchors.clear();
    undecided_by(&nobody.about(&e.files()), "yubihsm2-chain");
    let mut files = e.files();
    files.push(e.root());
    refused_by(&nobody.about(&files), "yubihsm2-chain");
}

#[test]
fn a_missing_certificate_leaves_it_open() {
    let e = YubiHsm2::default();
    let files = e.files();
    let ask = ask(&e);
    let r = ask.about(&files[..1]);
    undecided_by(&r, "yubihsm2-chain");
    assert!(
        r.claims
            .iter()
            .any(|c| c.name == "device.serial" && c.value == "1234")
    );
    undecided_by(&ask.about(&files[..2]), "yubihsm2-chain");
    // The device's certificate alone is evidence of nothing.
    undecided_by(&ask.about(&files[1..]), "device-evidence");
}

#[test]
fn wrong_signatures_are_refused() {
    let e = YubiHsm2::default();
    let thief = Key::named(Kind::Rsa2048, "thief");
    let forged = [e.leaf().sign(&thief), e.device(), e.ca()];
    refused_by(&ask(&e).about(&forged), "yubihsm2-chain");
    // A CA that is none: no basicConstraints.
    let name = cn("Test YubiHSM Root");
    let no_ca = Certificate::new(cn("Test YubiHSM Sub-CA"), &e.ca_key, name).sign(&e.root_key);
    let files = [e.leaf().sign(&e.device_key), e.device(), no_ca];
    refused_by(&ask(&e).about(&files), "yubihsm2-chain");
}

#[test]
fn dates_are_not_looked_at_and_it_says_so() {
    let e = YubiHsm2::default();
    for at in [0, 4_000_000_000] {
        let mut ask = ask(&e);
        ask.at = at;
        let r = ask.about(&e.files());
        accepted(&r);
        assert!(r.check("yubihsm2-time").is_some());
    }
}

#[test]
fn freshness_is_said_and_a_nonce_cannot_be_checked() {
    let e = YubiHsm2::default();
    let r = ask(&e).about(&e.files());
    assert_eq!(
        r.freshness,
        Some(countersign_attestation::Outcome::NotChecked)
    );
    let mut ask = ask(&e);
    ask.nonce = Some(vec![1, 2, 3]);
    undecided_by(&ask.about(&e.files()), "freshness");
}

#[test]
fn the_fips_model_is_a_claim_and_no_certification() {
    let e = YubiHsm2 {
        fips: Some(5),
        ..YubiHsm2::default()
    };
    let mut ask = ask(&e);
    let r = ask.about(&e.files());
    accepted(&r);
    assert_eq!(r.facts.model.as_deref(), Some("YubiHSM 2 FIPS"));
    assert_eq!(r.facts.certification, None);
    ask.require = vec!["fips=140-2:2"];
    undecided_by(&ask.about(&e.files()), "policy-certified-level");
    ask.require = vec!["method=2"];
    undecided_by(&ask.about(&e.files()), "policy-method");
}
