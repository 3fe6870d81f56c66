//! What is said of the key: its attributes, its Name, the statement over it.

use super::common::{Ask, accepted, refused_by, undecided_by};
use super::request::in_request;
use super::webauthn::registration;
use super::{ask, one_change};
use countersign_attestation::result::{Exportable, Known, Outcome};
use countersign_testkit_evidence::tpm2::{RESTRICTED, SIGN_ONLY, TCG_STATEMENT, Tpm2};
use countersign_testkit_evidence::{Key, Kind};

#[test]
fn another_key_is_refused() {
    let t = Tpm2::default();
    let other = Key::named(Kind::P256, "swapped");
    let r = Ask::key(other.spki(), t.root()).about(&t.files());
    refused_by(&r, "key-bound");
    assert_eq!(r.facts.genuine, Known::Unknown);
    // The public area of the key in question beside a statement about another key.
    let mine = Tpm2 {
        key: other.clone(),
        ..Tpm2::default()
    };
    let mut files = t.files();
    files[2] = mine.public();
    refused_by(&Ask::key(other.spki(), t.root()).about(&files), "tpm-name");
    let (mut object, client) = registration(&t);
    object.pub_area = mine.public();
    let r = Ask::key(other.spki(), t.root()).about(&[object.encode(), client]);
    refused_by(&r, "tpm-name");
    one_change(|t| t.name = Some(vec![0, 0x0b, 1, 2, 3]), "tpm-name");
}

#[test]
fn an_imported_or_duplicable_key_is_refused() {
    // fixedTPM and fixedParent alone: imported under a fixed parent.
    one_change(|t| t.attributes &= !(1 << 5), "tpm-origin");
    for bit in [1, 4] {
        one_change(|t| t.attributes &= !(1 << bit), "tpm-not-duplicable");
    }
    one_change(|t| t.attributes |= 1 << 11, "tpm-not-duplicable");
    let t = Tpm2 {
        attributes: 0x0004_0060,
        ..Tpm2::default()
    };
    let r = ask(&t).about(&t.files());
    refused_by(&r, "policy-exportable");
    assert_eq!(r.facts.exportable, Exportable::Wrapped);
    assert_eq!(r.facts.generated_in_device, Known::Unknown);
    let t = Tpm2 {
        attributes: 0x0006_0040,
        ..Tpm2::default()
    };
    let r = ask(&t).about(&t.files());
    refused_by(&r, "tpm-origin");
    assert_eq!(r.facts.generated_in_device, Known::No);
}

#[test]
fn unknown_bits_are_refused() {
    for bit in [0, 3, 12, 13, 14, 15, 20, 24, 31] {
        one_change(|t| t.attributes |= 1 << bit, "tpm-attributes-known");
    }
}

#[test]
fn the_key_signs_and_is_no_attestation_key() {
    one_change(|t| t.attributes = RESTRICTED, "tpm-signing-key");
    one_change(|t| t.attributes &= !(1 << 18), "tpm-signing-key");
}

#[test]
fn sign_only_can_be_demanded() {
    let t = Tpm2 {
        attributes: SIGN_ONLY | 1 << 17,
        ..Tpm2::default()
    };
    let mut ask_ = ask(&t);
    let r = ask_.about(&t.files());
    accepted(&r);
    assert_eq!(r.facts.sign_only, Known::No);
    ask_.require = vec!["sign-only"];
    refused_by(&ask_.about(&t.files()), "policy-sign-only");
    let t = Tpm2::default();
    accepted(&ask_.about(&t.files()));
}

#[test]
fn statements_of_another_kind_are_refused() {
    one_change(|t| t.tag = 0x8018, "tpm-statement");
    one_change(|t| t.tag = 0x8020, "tpm-well-formed");
    one_change(|t| t.safe = 2, "tpm-well-formed");
    // Made-up bytes do not start with the TPM's magic value: not recognised at all.
    let t = Tpm2 {
        magic: b"\xffTCH".to_vec(),
        ..Tpm2::default()
    };
    undecided_by(&ask(&t).about(&t.files()), "device-evidence");
    let files = [t.tcg_statement(false)];
    let r = in_request(&t, &[(TCG_STATEMENT, files[0].clone())]).about(&[]);
    refused_by(&r, "tpm-well-formed");
}

#[test]
fn wrong_signatures_are_refused() {
    let t = Tpm2::default();
    let thief = Tpm2 {
        ak: Key::named(Kind::P256, "thief"),
        ..Tpm2::default()
    };
    let mut files = t.files();
    files[1] = thief.signature(&t.attest());
    refused_by(&ask(&t).about(&files), "tpm-signature");
    files[1] = thief.bare_signature(&t.attest());
    refused_by(&ask(&t).about(&files), "tpm-signature");
    files.remove(1);
    undecided_by(&ask(&t).about(&files), "tpm-signature");
}

#[test]
fn without_a_time_the_nonce_says_that_it_is_young() {
    let t = Tpm2::default();
    let mut ask = ask(&t);
    ask.require = vec!["max-age=1d"];
    undecided_by(&ask.about(&t.files()), "policy-max-age");
    ask.nonce = Some(t.extra_data.clone());
    accepted(&ask.about(&t.files()));
    ask.nonce = Some(b"another".to_vec());
    refused_by(&ask.about(&t.files()), "freshness");
}

#[test]
fn the_nonce_is_extra_data() {
    let t = Tpm2::default();
    let mut ask = ask(&t);
    assert_eq!(ask.about(&t.files()).freshness, Some(Outcome::NotChecked));
    ask.nonce = Some(t.extra_data.clone());
    assert_eq!(ask.about(&t.files()).freshness, Some(Outcome::Pass));
    ask.nonce = Some(b"another".to_vec());
    refused_by(&ask.about(&t.files()), "freshness");
}
