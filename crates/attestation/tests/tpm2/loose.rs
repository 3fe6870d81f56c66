//! Statement, signature, public area and certificates in files of their own.

use super::ask;
use super::common::{accepted, refused_by};
use super::request::in_request;
use super::webauthn::registration;
use countersign_attestation::result::{Exportable, Known};
use countersign_testkit_evidence::cert::{Certificate, cn};
use countersign_testkit_evidence::text::{base64, pem};
use countersign_testkit_evidence::tpm2::{TCG_STATEMENT, Tpm2, sized};
use countersign_testkit_evidence::{Key, Kind, hostile};

#[test]
fn genuine_loose_files_are_accepted_with_their_facts() {
    let t = Tpm2::default();
    let r = ask(&t).about(&t.files());
    accepted(&r);
    assert_eq!(r.formats, ["tpm2"]);
    assert_eq!(r.facts.generated_in_device, Known::Yes);
    assert_eq!(r.facts.exportable, Exportable::Never);
    assert_eq!(r.facts.sign_only, Known::Yes);
    assert_eq!(r.facts.vendor.as_deref(), Some("Nuvoton"));
    // A TPM has no serial number: its attestation key tells it from others.
    let key = r.facts.device_key.clone().expect("the attestation key");
    let other = Tpm2 {
        ak: Key::named(Kind::P256, "the attestation key of another TPM"),
        ..Tpm2::default()
    };
    let other = ask(&other).about(&other.files());
    accepted(&other);
    assert!(key.len() == 64 && other.facts.device_key.is_some_and(|o| o != key));
    assert_eq!(r.facts.model.as_deref(), Some("NPCT75x"));
    assert_eq!(r.facts.serial, None);
    assert!(r.unused.is_empty(), "{:?}", r.unused);
    assert!(r.weaknesses.is_empty(), "{:?}", r.weaknesses);
    assert!(r.supports_methods.is_empty());
}

#[test]
fn keys_and_attestation_keys_of_every_kind_are_read() {
    for kind in [Kind::P384, Kind::P521, Kind::Rsa2048, Kind::Rsa3072] {
        let t = Tpm2 {
            key: Key::named(kind, "another subject"),
            ..Tpm2::default()
        };
        accepted(&ask(&t).about(&t.files()));
    }
    for kind in [Kind::P384, Kind::Rsa2048] {
        let t = Tpm2 {
            ak: Key::named(kind, "another ak"),
            name_alg: 0x000c,
            ..Tpm2::default()
        };
        accepted(&ask(&t).about(&t.files()));
        let mut files = t.files();
        files[1] = t.bare_signature(&t.attest());
        accepted(&ask(&t).about(&files));
    }
    let t = Tpm2 {
        ak: Key::named(Kind::Rsa2048, "another ak"),
        ..Tpm2::default()
    };
    let mut files = t.files();
    files[1] = t.pss_signature(&t.attest());
    accepted(&ask(&t).about(&files));
}

#[test]
fn files_come_in_any_wrapping_and_order() {
    let t = Tpm2::default();
    let ask = ask(&t);
    let files = t.files();
    hostile::reordered(&files, &|f| ask.accepts(f));
    hostile::with_extra(&files, b"read me", &|f| ask.accepts(f));
    hostile::with_extra(&files, &t.root(), &|f| ask.accepts(f));
    // The other keys' certificates in the pool change nothing.
    let stranger = Certificate::new(cn("web"), &Key::named(Kind::P256, "web"), cn("web ca"));
    let stranger = stranger.sign(&Key::named(Kind::P256, "web ca"));
    hostile::with_extra(&files, &stranger, &|f| ask.accepts(f));
    // As tpm2-tools write them, with sizes in front.
    let mut tools = files.clone();
    tools[0] = sized(&tools[0]);
    tools[2] = sized(&tools[2]);
    accepted(&ask.about(&tools));
    let chain: String = files[3..].iter().map(|c| pem("CERTIFICATE", c)).collect();
    let text = |f: &[u8]| base64(f).into_bytes();
    let wrapped = [
        text(&files[0]),
        text(&files[1]),
        text(&files[2]),
        chain.into_bytes(),
    ];
    accepted(&ask.about(&wrapped));
}

#[test]
fn certify_creation_is_accepted_from_loose_files() {
    let t = Tpm2 {
        tag: 0x801a,
        ..Tpm2::default()
    };
    let files = t.files();
    let r = ask(&t).about(&files);
    accepted(&r);
    assert!(r.unused.is_empty(), "{:?}", r.unused);
    // Without creation data the statement says the same of the key.
    accepted(&ask(&t).about(&files[..5]));
    // Other creation data disagree.
    let mut other = files.clone();
    let last = other[5].len() - 1;
    other[5][last] ^= 1;
    refused_by(&ask(&t).about(&other), "tpm-creation-data");
    // In a request or a WebAuthn object it does not belong.
    let statement = (TCG_STATEMENT, t.tcg_statement(false));
    let r = in_request(&t, &[statement]).about(&[]);
    refused_by(&r, "tpm-statement");
    let client = Tpm2::client_data("webauthn.create", b"challenge");
    let object = t.webauthn(Some(&t.auth_data(&t.key)), &client).encode();
    refused_by(&ask(&t).about(&[object, client]), "tpm-statement");
}

#[test]
fn no_cut_file_is_accepted() {
    let t = Tpm2::default();
    hostile::truncated(&t.files(), 1, &|f| ask(&t).accepts(f));
    let (object, client) = registration(&t);
    hostile::truncated(&vec![object.encode(), client], 1, &|f| ask(&t).accepts(f));
    let statement = t.tcg_statement(true);
    let mut files = vec![statement];
    files.extend(t.certificates());
    hostile::truncated(&files, 1, &|f| ask(&t).accepts(f));
}

#[test]
fn a_flipped_bit_is_not_accepted() {
    let t = Tpm2::default();
    let (object, client) = registration(&t);
    for files in [t.files(), vec![object.encode(), client]] {
        let (tried, kept) = hostile::flipped(&files, 1, 31, &|f| ask(&t).accepts(f));
        assert!(tried > 200, "{tried}");
        assert!(kept.is_empty(), "{kept:?}");
    }
}
