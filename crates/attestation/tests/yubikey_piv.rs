//! Every rule of the YubiKey PIV format: evidence that is accepted, and evidence it refuses.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Ask, accepted, refused_by, undecided_by};
use countersign_attestation::Outcome;
use countersign_attestation::result::{AttestationResult, Exportable, Known, KnownWeakness};
use countersign_testkit_evidence::cert::{
    Certificate, attestation_attribute, attribute, certs_only, cn, request,
};
use countersign_testkit_evidence::text::{base64, pem};
use countersign_testkit_evidence::yubikey_piv::{YubiKeyPiv, roca_spki};
use countersign_testkit_evidence::{Key, Kind, der, hostile};
use proptest::prelude::*;

const ARC: &str = "1.3.6.1.4.1.41482.3";

fn ask(e: &YubiKeyPiv) -> Ask {
    Ask::key(e.key.spki(), e.root())
}

fn answer(e: &YubiKeyPiv) -> AttestationResult {
    ask(e).about(&e.files())
}

/// One change, and the check that must see it.
#[track_caller]
fn one_change(change: impl FnOnce(&mut YubiKeyPiv), check: &str) {
    let mut e = YubiKeyPiv::default();
    change(&mut e);
    refused_by(&answer(&e), check);
}

/// One change that must not matter.
#[track_caller]
fn no_matter(change: impl FnOnce(&mut YubiKeyPiv)) -> AttestationResult {
    let mut e = YubiKeyPiv::default();
    change(&mut e);
    let r = answer(&e);
    accepted(&r);
    r
}

#[test]
fn genuine_evidence_is_accepted_with_its_facts() {
    let r = no_matter(|_| {});
    assert_eq!(r.formats, ["yubikey-piv"]);
    assert_eq!(r.facts.generated_in_device, Known::Yes);
    assert_eq!(r.facts.exportable, Exportable::Never);
    // A slot's key signs and decrypts: the attestation says nothing of it.
    assert_eq!(r.facts.sign_only, Known::Unknown);
    assert_eq!(r.facts.serial.as_ref().unwrap().value, "12345678");
    assert_eq!(r.facts.firmware.as_deref(), Some("5.7.4"));
    assert_eq!(r.facts.model.as_deref(), Some("YubiKey 5"));
    assert_eq!(r.facts.certification, None);
    assert!(r.unused.is_empty(), "{:?}", r.unused);
    assert!(r.weaknesses.is_empty());
    let claim = |name: &str| r.claims.iter().find(|c| c.name == name).unwrap();
    assert_eq!(claim("key.slot").value, "9c");
    assert_eq!(claim("key.pin-policy").value, "always");
    assert_eq!(claim("key.touch-policy").value, "never");
    for kind in [Kind::P256, Kind::Ed25519, Kind::Rsa2048] {
        no_matter(|e| e.key = Key::named(kind, "another piv subject"));
    }
}

#[test]
fn files_come_in_any_wrapping_and_order() {
    let e = YubiKeyPiv::default();
    let files = e.files();
    let ask = ask(&e);
    hostile::reordered(&files, &|f| ask.accepts(f));
    hostile::with_extra(&files, b"read me", &|f| ask.accepts(f));
    let all: String = files.iter().map(|f| pem("CERTIFICATE", f)).collect();
    assert!(ask.accepts(&[all.clone().into_bytes()]));
    assert!(ask.accepts(&[base64(all.as_bytes()).into_bytes()]));
    let each: Vec<_> = files.iter().map(|f| base64(f).into_bytes()).collect();
    assert!(ask.accepts(&each));
    assert!(ask.accepts(&[certs_only(&files)]));
    // The CA in the evidence gives no trust, and is listed.
    let mut more = files.clone();
    more.push(e.root());
    let r = ask.about(&more);
    accepted(&r);
    assert_eq!(r.unused.len(), 1, "{:?}", r.unused);
}

#[test]
fn evidence_may_be_inside_the_request() {
    let e = YubiKeyPiv::default();
    let mut ask = ask(&e);
    ask.is_csr = true;
    // US Purebred: an attribute with a certs-only SignedData, f9 first.
    let [leaf, signer] = <[_; 2]>::try_from(e.files()).unwrap();
    let purebred = attribute(
        "1.3.6.1.4.1.37623.26.4",
        certs_only(&[signer.clone(), leaf.clone()]),
    );
    ask.subject = request("Acme", &e.key, &[purebred]);
    accepted(&ask.about(&[]));
    // The same files beside it are the same evidence.
    let r = ask.about(&e.files());
    accepted(&r);
    assert_eq!(r.formats.len(), 1, "{:?}", r.formats);
    let lamps = attestation_attribute(&[("1.3.6.1.4.1.41482.3", leaf)], &[signer]);
    ask.subject = request("Acme", &e.key, &[lamps]);
    accepted(&ask.about(&[]));
    // A request for another key, with this evidence.
    ask.subject = request("Acme", &Key::named(Kind::P256, "thief"), &[]);
    refused_by(&ask.about(&e.files()), "key-bound");
}

#[test]
fn no_cut_file_is_accepted() {
    let e = YubiKeyPiv::default();
    let ask = ask(&e);
    hostile::truncated(&e.files(), 1, &|f| ask.accepts(f));
}

#[test]
fn a_flipped_bit_is_not_accepted() {
    let e = YubiKeyPiv::default();
    let ask = ask(&e);
    let (tried, kept) = hostile::flipped(&e.files(), 5, 97, &|f| ask.accepts(f));
    assert!(tried > 100, "{tried}");
    assert!(kept.is_empty(), "{kept:?}");
}

#[test]
fn another_key_is_refused() {
    let e = YubiKeyPiv::default();
    let other = Key::named(Kind::P384, "swapped");
    let r = Ask::key(other.spki(), e.root()).about(&e.files());
    refused_by(&r, "key-bound");
    assert_eq!(r.facts.genuine, Known::Unknown);
    assert_eq!(r.facts.serial, None);
    // Of two attestations of one device, one is for another key.
    let second = YubiKeyPiv {
        key: other,
        subject: "YubiKey PIV Attestation 9a".into(),
        ..YubiKeyPiv::default()
    };
    let both = [e.files(), second.files()].concat();
    refused_by(&ask(&e).about(&both), "key-bound");
}

#[test]
fn the_device_can_be_demanded() {
    let mut e = YubiKeyPiv::default();
    let mut demanding = ask(&e);
    demanding.require = vec!["serial=12345678"];
    accepted(&demanding.about(&e.files()));
    demanding.require = vec!["serial=9"];
    refused_by(&demanding.about(&e.files()), "policy-serial");
    // Some YubiKey 4 name none.
    e.serial = None;
    accepted(&answer(&e));
    undecided_by(&demanding.about(&e.files()), "policy-serial");
}

#[test]
fn the_slot_is_one_that_has_a_key() {
    for slot in ["9a", "9d", "9e", "82", "95", "9C"] {
        no_matter(|e| e.subject = format!("YubiKey PIV Attestation {slot}"));
    }
    for slot in ["9b", "f9", "81", "96", "9c9c", "", "zz"] {
        one_change(
            |e| e.subject = format!("YubiKey PIV Attestation {slot}"),
            "yubikey-piv-attestation",
        );
    }
    one_change(|e| e.subject = "Acme".into(), "yubikey-piv-attestation");
}

#[test]
fn the_attestation_says_nothing_that_is_not_understood() {
    one_change(|e| e.firmware = None, "yubikey-piv-attestation");
    let more = |oid: &str, critical: bool| (oid.to_owned(), critical, der::int(1));
    one_change(
        |e| e.more.push(more(&format!("{ARC}.12"), false)),
        "yubikey-piv-attestation",
    );
    one_change(
        |e| e.more.push(more("1.2.3.4", true)),
        "yubikey-piv-attestation",
    );
    no_matter(|e| e.more.push(more("1.2.3.4", false)));
    // A CA is no attestation of a key.
    let ca = der::seq(&[der::boolean(true)]);
    one_change(
        |e| e.more.push(("2.5.29.19".into(), true, ca)),
        "yubikey-piv-attestation",
    );
    // Values of another size.
    for (suffix, value) in [
        ("3", vec![5, 7]),
        ("8", vec![3]),
        ("9", vec![]),
        ("7", vec![1]),
    ] {
        let e = YubiKeyPiv::default();
        let mut leaf = e.leaf();
        let oid = format!("{ARC}.{suffix}");
        let at = leaf.extensions.iter().position(|x| x.0 == oid).unwrap();
        leaf.extensions[at].2 = value;
        let files = [leaf.sign(&e.signer_key), e.files()[1].clone()];
        let r = ask(&e).about(&files);
        refused_by(&r, "yubikey-piv-attestation");
        assert_eq!(r.facts.generated_in_device, Known::Unknown, "{suffix}");
        assert_eq!(r.facts.exportable, Exportable::Unknown, "{suffix}");
    }
}

#[test]
fn values_are_raw_or_wrapped_in_an_octet_string() {
    let r = no_matter(|e| e.wrapped = true);
    assert_eq!(r.facts.firmware.as_deref(), Some("5.7.4"));
}

#[test]
fn policies_are_documented_ones() {
    for policy in [[1, 1], [2, 2], [4, 3], [5, 3]] {
        no_matter(|e| e.policy = Some(policy));
    }
    for policy in [[0, 1], [6, 1], [3, 0], [3, 4], [0xff, 0xff]] {
        one_change(|e| e.policy = Some(policy), "yubikey-piv-policies");
    }
    let r = no_matter(|e| e.policy = None);
    let seen = r.check("yubikey-piv-policies").unwrap();
    assert_eq!(seen.outcome, Outcome::NotChecked);
}

#[test]
fn the_certificate_in_f9_is_what_yubico_writes() {
    no_matter(|e| e.signer_ca = None);
    no_matter(|e| e.signer_subject = "YubiKey PIV Attestation".into());
    no_matter(|e| e.signer_firmware = Some([5, 2, 6]));
    one_change(|e| e.signer_ca = Some(false), "yubikey-piv-chain");
    one_change(|e| e.signer_firmware = None, "yubikey-piv-chain");
    // What a U2F root signed for U2F stands under another name.
    one_change(
        |e| e.signer_subject = "Yubico U2F EE Serial 1".into(),
        "yubikey-piv-chain",
    );
    let e = YubiKeyPiv::default();
    let odd = e.signer().with(&format!("{ARC}.99"), false, vec![1]);
    let files = [e.files()[0].clone(), odd.sign(&e.root_key)];
    refused_by(&ask(&e).about(&files), "yubikey-piv-chain");
    // Some leave the NULL of the algorithm out.
    let mut bare = e.signer();
    bare.no_null = true;
    let files = [e.files()[0].clone(), bare.sign(&e.root_key)];
    accepted(&ask(&e).about(&files));
}

#[test]
fn a_look_alike_by_a_key_in_a_slot_is_refused() {
    let e = YubiKeyPiv::default();
    let r = ask(&e).about(&e.look_alike());
    refused_by(&r, "yubikey-piv-chain");
    assert_eq!(r.facts.genuine, Known::Unknown);
    // In f9's name, with f9's genuine certificate beside it.
    let inner = Key::named(Kind::Rsa2048, "piv inner");
    let files = [e.leaf().sign(&inner), e.files()[1].clone()];
    refused_by(&ask(&e).about(&files), "yubikey-piv-chain");
    // The slot's certificate, signed by f9, in the place of f9.
    let mut of_inner = e.clone();
    of_inner.key = inner.clone();
    of_inner.subject = "Yubico PIV Attestation".into();
    let posing = [e.leaf().sign(&inner), of_inner.leaf().sign(&e.signer_key)];
    refused_by(&ask(&e).about(&posing), "yubikey-piv-chain");
}

#[test]
fn a_self_made_anchor_is_no_anchor() {
    let e = YubiKeyPiv::default();
    let mut nobody = ask(&e);
    nobody.anchors.clear();
    undecided_by(&nobody.about(&e.files()), "yubikey-piv-chain");
    let mut files = e.files();
    files.push(e.root());
    refused_by(&nobody.about(&files), "yubikey-piv-chain");
    // f9 overwritten: a certificate of the owner's, signed by itself.
    let mut own = e.signer();
    own.issuer = own.subject.clone();
    let files = [e.files()[0].clone(), own.sign(&e.signer_key)];
    refused_by(&ask(&e).about(&files), "yubikey-piv-chain");
    // An attestation signed by the very key it is about.
    let mut own = e.leaf();
    own.issuer = own.subject.clone();
    refused_by(&ask(&e).about(&[own.sign(&e.key)]), "yubikey-piv-chain");
    // In the name of a pinned root, by another key.
    let impostor = YubiKeyPiv {
        root_name: "Yubico PIV Root CA Serial 263751".into(),
        ..YubiKeyPiv::default()
    };
    refused_by(&nobody.about(&impostor.files()), "yubikey-piv-chain");
}

#[test]
fn nothing_stands_between_f9_and_the_ca() {
    let e = YubiKeyPiv::default();
    let middle = Key::named(Kind::Rsa2048, "piv middle");
    let between = Certificate::new(cn("Middle"), &middle, cn(&e.root_name)).ca(None);
    let mut signer = e.signer();
    signer.issuer = cn("Middle");
    let files = [
        e.files()[0].clone(),
        signer.sign(&middle),
        between.sign(&e.root_key),
    ];
    refused_by(&ask(&e).about(&files), "yubikey-piv-chain");
    undecided_by(&ask(&e).about(&files[..2]), "yubikey-piv-chain");
}

#[test]
fn a_missing_f9_leaves_it_open_and_proves_nothing() {
    let e = YubiKeyPiv::default();
    let r = ask(&e).about(&e.files()[..1]);
    undecided_by(&r, "yubikey-piv-chain");
    undecided_by(&r, "yubikey-piv-signer");
    undecided_by(&r, "yubikey-piv-origin");
    assert_eq!(r.facts.generated_in_device, Known::Unknown);
    assert_eq!(r.facts.exportable, Exportable::Unknown);
    assert_eq!(r.facts.serial, None);
    let said = |name: &str, value: &str| {
        let mut all = r.claims.iter();
        assert!(all.any(|c| c.name == name && c.value == value), "{name}");
    };
    said("device.serial", "12345678");
    said("device.firmware", "5.7.4");
    // The certificate in f9 alone is evidence of nothing.
    undecided_by(&ask(&e).about(&e.files()[1..]), "device-evidence");
}

#[test]
fn a_certificate_of_another_f9_is_refused() {
    let e = YubiKeyPiv::default();
    let neighbour = YubiKeyPiv {
        signer_key: Key::named(Kind::Rsa2048, "piv f9 of another batch"),
        ..YubiKeyPiv::default()
    };
    let mut files = e.files();
    files.push(neighbour.files()[1].clone());
    refused_by(&ask(&e).about(&files), "yubikey-piv-signer");
    let files = [e.files()[0].clone(), neighbour.files()[1].clone()];
    refused_by(&ask(&e).about(&files), "yubikey-piv-chain");
}

#[test]
fn wrong_signatures_are_refused() {
    let e = YubiKeyPiv::default();
    let thief = Key::named(Kind::Rsa2048, "thief");
    let files = e.files();
    // A verifier that forgets the attestation's own signature accepts the first.
    let forged = [e.leaf().sign(&thief), files[1].clone()];
    refused_by(&ask(&e).about(&forged), "yubikey-piv-chain");
    let forged = [files[0].clone(), e.signer().sign(&thief)];
    refused_by(&ask(&e).about(&forged), "yubikey-piv-chain");
}

#[test]
fn certificates_are_valid_at_the_time_of_appraisal() {
    no_matter(|e| e.validity = ("241201000000Z".into(), "99991231235959Z".into()));
    let expired = ("160314000000Z".into(), "20261121235959Z".into());
    one_change(|e| e.validity = expired, "yubikey-piv-chain");
    let future = ("20261123000000Z".into(), "99991231235959Z".into());
    one_change(|e| e.validity = future, "yubikey-piv-chain");
}

fn weakness(r: &AttestationResult, id: &str) -> Option<KnownWeakness> {
    let mut all = r.weaknesses.iter().filter_map(|w| w.known.clone());
    all.find(|k| k.id == id)
}

#[test]
fn the_fingerprint_of_roca_is_refused_whatever_the_firmware() {
    let e = YubiKeyPiv::default();
    let mut leaf = e.leaf();
    leaf.spki = roca_spki();
    let files = [leaf.sign(&e.signer_key), e.files()[1].clone()];
    let r = Ask::key(&leaf.spki, e.root()).about(&files);
    refused_by(&r, "key-roca");
    // The evidence itself is sound.
    assert_eq!(r.facts.genuine, Known::Yes);
    assert_eq!(r.facts.generated_in_device, Known::Yes);
}

#[test]
fn rsa_keys_of_the_roca_firmware_are_refused() {
    let rsa = || Key::named(Kind::Rsa2048, "piv rsa subject");
    let of = |firmware: [u8; 3], key: Key| {
        answer(&YubiKeyPiv {
            firmware: Some(firmware),
            key,
            ..YubiKeyPiv::default()
        })
    };
    for firmware in [[4, 2, 6], [4, 3, 4]] {
        let r = of(firmware, rsa());
        refused_by(&r, "policy-weaknesses");
        assert!(weakness(&r, "CVE-2017-15361").unwrap().concerns_this_key);
        // EC keys of the same firmware are not concerned.
        let r = of(firmware, Key::named(Kind::P256, "piv ec subject"));
        accepted(&r);
        assert!(!weakness(&r, "CVE-2017-15361").unwrap().concerns_this_key);
    }
    for firmware in [[4, 2, 5], [4, 3, 5]] {
        let r = of(firmware, rsa());
        accepted(&r);
        assert_eq!(weakness(&r, "CVE-2017-15361"), None);
    }
}

#[test]
fn the_fips_firmware_with_weak_randomness_is_refused() {
    for kind in [Kind::P256, Kind::Rsa2048] {
        for patch in [2, 4] {
            let weak = |e: &mut YubiKeyPiv| {
                e.firmware = Some([4, 4, patch]);
                e.key = Key::named(kind, "piv fips subject");
            };
            one_change(weak, "policy-weaknesses");
        }
        let r = no_matter(|e| {
            e.firmware = Some([4, 4, 5]);
            e.key = Key::named(kind, "piv fips subject");
        });
        assert_eq!(weakness(&r, "YSA-2019-02"), None);
    }
}

#[test]
fn eucleak_is_reported_for_the_keys_it_concerns() {
    let r = no_matter(|e| e.firmware = Some([5, 6, 99]));
    let known = weakness(&r, "CVE-2024-45678").unwrap();
    assert!(known.concerns_this_key && !known.disqualifying);
    assert_eq!(known.affects, ["ECDSA"]);
    let r = no_matter(|e| {
        e.firmware = Some([5, 4, 3]);
        e.key = Key::named(Kind::Rsa2048, "piv rsa subject");
    });
    assert!(!weakness(&r, "CVE-2024-45678").unwrap().concerns_this_key);
    let r = no_matter(|e| e.firmware = Some([5, 7, 0]));
    assert_eq!(weakness(&r, "CVE-2024-45678"), None);
}

#[test]
fn below_the_u2f_root_stand_only_yubikey_4() {
    let under = |firmware| YubiKeyPiv {
        root_name: "Yubico U2F Root CA Serial 457200631".into(),
        firmware: Some(firmware),
        signer_ca: None,
        serial: None,
        form_factor: None,
        ..YubiKeyPiv::default()
    };
    accepted(&answer(&under([4, 3, 7])));
    refused_by(&answer(&under([5, 4, 3])), "yubikey-piv-u2f-root");
}

#[test]
fn marks_of_a_series_are_claims_and_no_certification() {
    let e = YubiKeyPiv {
        form_factor: Some(0x83),
        fips: Some(7),
        ..YubiKeyPiv::default()
    };
    let mut ask = ask(&e);
    let r = ask.about(&e.files());
    accepted(&r);
    assert_eq!(r.facts.model.as_deref(), Some("YubiKey 5 FIPS series"));
    assert_eq!(r.facts.certification, None);
    assert!(r.claims.iter().any(|c| c.name == "device.fips-mark"));
    ask.require = vec!["fips=140-2:2"];
    undecided_by(&ask.about(&e.files()), "policy-certified-level");
    ask.require = vec!["method=2"];
    undecided_by(&ask.about(&e.files()), "policy-method");
    let r = no_matter(|e| e.cspn = Some(1));
    assert_eq!(r.facts.model.as_deref(), Some("YubiKey 5 CSPN series"));
}

#[test]
fn there_is_no_challenge_to_check() {
    let e = YubiKeyPiv::default();
    assert_eq!(answer(&e).freshness, Some(Outcome::NotChecked));
    let mut ask = ask(&e);
    ask.nonce = Some(vec![1, 2, 3]);
    undecided_by(&ask.about(&e.files()), "freshness");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// What is written is what is read, raw or wrapped, whatever the values.
    #[test]
    fn what_is_written_is_what_is_read(
        firmware in any::<[u8; 3]>(),
        serial in any::<u64>(),
        form in any::<u8>(),
        pin in 1u8..=5,
        touch in 1u8..=3,
        wrapped in any::<bool>(),
    ) {
        let e = YubiKeyPiv {
            key: Key::named(Kind::Ed25519, "piv subject"),
            firmware: Some(firmware),
            serial: Some(serial),
            form_factor: Some(form),
            policy: Some([pin, touch]),
            wrapped,
            ..YubiKeyPiv::default()
        };
        let r = answer(&e);
        accepted(&r);
        let [major, minor, patch] = firmware;
        prop_assert_eq!(r.facts.firmware, Some(format!("{major}.{minor}.{patch}")));
        prop_assert_eq!(r.facts.serial.map(|s| s.value), Some(serial.to_string()));
        let said = |name: &str| {
            let mut all = r.claims.iter();
            all.find(|c| c.name == name).map(|c| c.value.clone()).unwrap_or_default()
        };
        let pins = ["never", "once", "always", "match-once", "match-always"];
        prop_assert_eq!(said("key.pin-policy"), pins[usize::from(pin) - 1]);
        let touches = ["never", "always", "cached"];
        prop_assert_eq!(said("key.touch-policy"), touches[usize::from(touch) - 1]);
        let hex = format!("({form:#04x})");
        prop_assert!(said("device.form-factor").contains(&hex));
    }
}
