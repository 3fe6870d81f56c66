//! Every rule of the TPM 2.0 format, in its three containers: evidence that is accepted, and
//! evidence it refuses.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Ask, accepted, refused_by, undecided_by};
use countersign_attestation::result::{Exportable, Known, Outcome};
use countersign_testkit_evidence::cert::{Certificate, attestation_attribute, cn, request};
use countersign_testkit_evidence::text::{base64, base64url, pem};
use countersign_testkit_evidence::tpm2::{
    EK_USAGE, RESTRICTED, SIGN_ONLY, TCG_STATEMENT, Tpm2, WebAuthn, sized, tpm_names,
};
use countersign_testkit_evidence::{Key, Kind, der, hostile};

fn ask(t: &Tpm2) -> Ask {
    Ask::key(t.key.spki(), t.root())
}

/// One change, and the check that must see it.
#[track_caller]
fn one_change(change: impl FnOnce(&mut Tpm2), check: &str) {
    let mut t = Tpm2::default();
    change(&mut t);
    refused_by(&ask(&t).about(&t.files()), check);
}

/// Loose files with another attestation key certificate, which the CA signed all the same.
#[track_caller]
fn ak_certificate(change: impl FnOnce(&mut Certificate), check: &str) {
    let t = Tpm2::default();
    let mut c = t.ak_certificate();
    change(&mut c);
    let mut files = t.files();
    files[3] = c.sign(&t.ca_key);
    refused_by(&ask(&t).about(&files), check);
}

#[track_caller]
fn ca_certificate(change: impl FnOnce(&mut Certificate), check: &str) {
    let t = Tpm2::default();
    let mut c = t.ca();
    change(&mut c);
    let mut files = t.files();
    files[4] = c.sign(&t.root_key);
    refused_by(&ask(&t).about(&files), check);
}

fn extension(c: &mut Certificate, oid: &str, value: Vec<u8>) {
    let found = c.extensions.iter_mut().find(|(o, ..)| o == oid).unwrap();
    found.2 = value;
}

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

fn in_request(t: &Tpm2, statements: &[(&str, Vec<u8>)]) -> Ask {
    let attribute = attestation_attribute(statements, &t.certificates());
    let mut ask = ask(t);
    ask.is_csr = true;
    ask.subject = request("Acme", &t.key, &[attribute]);
    ask
}

#[test]
fn the_tcg_statement_in_a_request_is_accepted_in_both_forms() {
    let t = Tpm2::default();
    for bare in [true, false] {
        let statement = (TCG_STATEMENT, t.tcg_statement(bare));
        let r = in_request(&t, &[statement]).about(&[]);
        accepted(&r);
        assert!(r.unused.is_empty(), "{:?}", r.unused);
    }
    // The public area may come as a file, and so may the certificates.
    let attest = t.attest();
    let without = der::seq(&[der::octets(&attest), der::octets(&t.signature(&attest))]);
    let attribute = attestation_attribute(&[(TCG_STATEMENT, without)], &[]);
    let mut ask = in_request(&t, &[]);
    ask.subject = request("Acme", &t.key, &[attribute]);
    undecided_by(&ask.about(&t.certificates()), "tpm-name");
    let mut files = t.certificates();
    files.push(t.public());
    accepted(&ask.about(&files));
    // The statement as a file of its own.
    let mut files = t.certificates();
    files.push(t.tcg_statement(false));
    accepted(&self::ask(&t).about(&files));
}

#[test]
fn a_statement_about_another_key_in_a_good_request_is_refused() {
    let t = Tpm2::default();
    let thief = Key::named(Kind::P256, "thief");
    let statement = (TCG_STATEMENT, t.tcg_statement(false));
    let attribute = attestation_attribute(&[statement], &t.certificates());
    let mut ask = ask(&t);
    ask.is_csr = true;
    ask.subject = request("Acme", &thief, &[attribute]);
    let r = ask.about(&[]);
    refused_by(&r, "key-bound");
    assert_eq!(r.check("csr-signature").unwrap().outcome, Outcome::Pass);
}

#[test]
fn two_statements_or_a_malformed_one_do_not_pass() {
    let t = Tpm2::default();
    let good = (TCG_STATEMENT, t.tcg_statement(false));
    let other = Tpm2 {
        key: Key::named(Kind::P256, "neighbour"),
        ..Tpm2::default()
    };
    let two = [good.clone(), (TCG_STATEMENT, other.tcg_statement(false))];
    refused_by(&in_request(&t, &two).about(&[]), "key-bound");
    let two = [good, (TCG_STATEMENT, der::null())];
    refused_by(&in_request(&t, &two).about(&[]), "tpm-well-formed");
}

#[test]
fn the_older_bundle_with_a_hint_is_read() {
    let t = Tpm2::default();
    let statement = der::seq(&[
        der::oid(TCG_STATEMENT),
        t.tcg_statement(true),
        der::ia5("tpm.example"),
    ]);
    let bundle = der::seq(&[der::seq(&[statement]), der::seq(&t.certificates())]);
    let attribute =
        countersign_testkit_evidence::cert::attribute("1.2.840.113549.1.9.16.2.59", bundle);
    let mut ask = ask(&t);
    ask.is_csr = true;
    ask.subject = request("Acme", &t.key, &[attribute]);
    accepted(&ask.about(&[]));
}

fn registration(t: &Tpm2) -> (WebAuthn, Vec<u8>) {
    let client = Tpm2::client_data("webauthn.create", b"challenge");
    let object = t.webauthn(Some(&t.auth_data(&t.key)), &client);
    (object, client)
}

#[test]
fn a_webauthn_registration_is_accepted() {
    for ak in [Kind::P256, Kind::Rsa2048] {
        for key in [Kind::P256, Kind::Rsa2048] {
            let t = Tpm2 {
                ak: Key::named(ak, "webauthn ak"),
                key: Key::named(key, "webauthn subject"),
                ..Tpm2::default()
            };
            let (object, client) = registration(&t);
            let files = vec![object.encode(), client];
            let mut ask = ask(&t);
            let r = ask.about(&files);
            accepted(&r);
            assert!(r.unused.is_empty(), "{:?}", r.unused);
            hostile::reordered(&files, &|f| ask.accepts(f));
            // The challenge is what the verifier gave.
            ask.nonce = Some(b"challenge".to_vec());
            accepted(&ask.about(&files));
            ask.nonce = Some(b"another".to_vec());
            refused_by(&ask.about(&files), "freshness");
        }
    }
}

#[test]
fn a_registration_may_come_in_the_json_of_browsers() {
    let t = Tpm2::default();
    let (object, client) = registration(&t);
    let json = format!(
        r#"{{"id":"AQ","type":"public-key","response":{{"attestationObject":"{}","clientDataJSON":"{}"}}}}"#,
        base64url(&object.encode()),
        base64url(&client)
    );
    let r = ask(&t).about(&[json.clone().into_bytes()]);
    accepted(&r);
    assert!(r.unused.is_empty(), "{:?}", r.unused);
    let cut = json.replace("clientDataJSON", "clientData");
    undecided_by(&ask(&t).about(&[cut.into_bytes()]), "device-evidence");
}

#[test]
fn loose_copies_of_a_registration_are_its_parts() {
    let t = Tpm2::default();
    let (object, client) = registration(&t);
    let files = [
        object.encode(),
        client,
        object.cert_info.clone(),
        object.pub_area.clone(),
        object.sig.clone(),
        object.x5c[0].clone(),
    ];
    let r = ask(&t).about(&files);
    accepted(&r);
    assert!(r.unused.is_empty(), "{:?}", r.unused);
    assert_eq!(r.formats, ["tpm2"]);
}

#[test]
fn a_registration_must_hold_together() {
    let t = Tpm2::default();
    let (object, client) = registration(&t);
    let refused = |change: &dyn Fn(&mut WebAuthn), check: &str| {
        let mut o = object.clone();
        change(&mut o);
        refused_by(&ask(&t).about(&[o.encode(), client.clone()]), check);
    };
    refused(&|o| o.ver = "1.0".into(), "tpm-well-formed");
    refused(&|o| o.alg = -8, "tpm-well-formed");
    refused(&|o| o.alg = -257, "tpm-signature");
    refused(&|o| o.more.push(("x".into(), vec![])), "tpm-well-formed");
    refused(&|o| o.x5c.clear(), "tpm-well-formed");
    refused(&|o| o.x5c.reverse(), "tpm-signature");
    refused(&|o| o.pub_area[20] ^= 1, "tpm-name");
    refused(&|o| o.cert_info[60] ^= 1, "tpm-signature");
    // A TPMT_SIGNATURE of another algorithm than `alg`.
    refused(
        &|o| {
            o.sig = t.signature(&o.cert_info);
            o.alg = -35;
        },
        "tpm-signature",
    );
    // One of the same algorithm is read.
    let mut o = object.clone();
    o.sig = t.signature(&o.cert_info);
    accepted(&ask(&t).about(&[o.encode(), client.clone()]));

    undecided_by(
        &ask(&t).about(&[object.encode()]),
        "tpm-webauthn-extra-data",
    );
    let other = Tpm2::client_data("webauthn.create", b"other");
    refused_by(
        &ask(&t).about(&[object.encode(), other]),
        "tpm-webauthn-extra-data",
    );
    let login = Tpm2::client_data("webauthn.get", b"challenge");
    let object = t.webauthn(Some(&t.auth_data(&t.key)), &login).encode();
    refused_by(&ask(&t).about(&[object, login]), "tpm-webauthn-extra-data");
    let thief = Key::named(Kind::P256, "thief");
    let object = t.webauthn(Some(&t.auth_data(&thief)), &client).encode();
    refused_by(
        &ask(&t).about(&[object, client.clone()]),
        "tpm-webauthn-credential",
    );
}

#[test]
fn the_aaguid_of_the_certificate_is_that_of_the_authenticator() {
    let t = Tpm2::default();
    for (id, good) in [([7; 16], true), ([8; 16], false)] {
        let (mut object, client) = registration(&t);
        object.x5c[0] = t
            .ak_certificate()
            .with("1.3.6.1.4.1.45724.1.1.4", false, der::octets(&id))
            .sign(&t.ca_key);
        let r = ask(&t).about(&[object.encode(), client]);
        if good {
            accepted(&r);
        } else {
            refused_by(&r, "tpm-webauthn-aaguid");
        }
    }
}

#[test]
fn the_object_of_acme_has_its_challenge_in_extra_data() {
    let t = Tpm2::default();
    let files = [t.webauthn(None, b"").encode()];
    let mut ask = ask(&t);
    accepted(&ask.about(&files));
    ask.nonce = Some(t.extra_data.clone());
    accepted(&ask.about(&files));
    ask.nonce = Some(b"another".to_vec());
    refused_by(&ask.about(&files), "freshness");
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
fn the_certificate_is_an_attestation_key_s() {
    let chain = "tpm-ak-chain";
    ak_certificate(
        |c| extension(c, "2.5.29.37", der::seq(&[der::oid("1.3.6.1.5.5.7.3.2")])),
        chain,
    );
    ak_certificate(|c| c.extensions.retain(|e| e.0 != "2.5.29.37"), chain);
    ak_certificate(
        |c| extension(c, "2.5.29.37", der::seq(&[der::oid(EK_USAGE)])),
        chain,
    );
    ak_certificate(
        |c| extension(c, "2.5.29.19", der::seq(&[der::boolean(true)])),
        "tpm-ak-chain",
    );
    ak_certificate(|c| c.extensions.retain(|e| e.0 != "2.5.29.19"), chain);
    ak_certificate(|c| c.subject = cn("a name"), chain);
    ak_certificate(|c| c.extensions.retain(|e| e.0 != "2.5.29.17"), chain);
    ak_certificate(
        |c| {
            let san = c.extensions.iter_mut().find(|e| e.0 == "2.5.29.17");
            san.unwrap().1 = false;
        },
        chain,
    );
    ak_certificate(
        |c| extension(c, "2.5.29.17", der::seq(&[der::context(4, &cn("tpm"))])),
        chain,
    );
    let two = tpm_names("id:4E544300", "a", "id:1");
    ak_certificate(
        |c| {
            let inner = [&two[2..], &two[2..]].concat();
            extension(c, "2.5.29.17", der::tlv(0x30, &inner));
        },
        chain,
    );
    ak_certificate(
        |c| extension(c, "2.5.29.15", vec![3, 2, 2, 4]),
        "tpm-ak-chain",
    );
    ak_certificate(
        |c| c.extensions.push(("1.2.3.4".into(), true, der::null())),
        chain,
    );
}

#[test]
fn its_issuers_are_cas_for_attestation_keys() {
    let chain = "tpm-ak-chain";
    ca_certificate(|c| extension(c, "2.5.29.19", der::seq(&[])), chain);
    ca_certificate(|c| c.extensions.retain(|e| e.0 != "2.5.29.19"), chain);
    ca_certificate(|c| extension(c, "2.5.29.15", vec![3, 2, 7, 0x80]), chain);
    ca_certificate(
        |c| extension(c, "2.5.29.37", der::seq(&[der::oid("1.3.6.1.5.5.7.3.1")])),
        chain,
    );
    ca_certificate(
        |c| c.extensions.push(("1.2.3.4".into(), true, der::null())),
        chain,
    );
    // A path length that allows no CA between.
    let t = Tpm2::default();
    let low = Key::named(Kind::P256, "low ca");
    let mut c = t.ak_certificate();
    c.issuer = cn("Low CA");
    let low_ca = Certificate::new(cn("Low CA"), &low, cn("Test AK CA")).ca(None);
    let mut files = t.files();
    files[3] = c.sign(&low);
    files.push(low_ca.sign(&t.ca_key));
    refused_by(&ask(&t).about(&files), chain);
    let mut wide = t.ca();
    extension(
        &mut wide,
        "2.5.29.19",
        der::seq(&[der::boolean(true), der::int(1)]),
    );
    files[4] = wide.sign(&t.root_key);
    accepted(&ask(&t).about(&files));
}

#[test]
fn a_look_alike_by_a_key_inside_the_device_is_refused() {
    // A genuine, attested TPM key signs a certificate for a made-up attestation key, which then
    // "attests" a key outside.
    let t = Tpm2::default();
    let forged = Tpm2 {
        key: Key::named(Kind::P256, "outside"),
        ak: Key::named(Kind::P256, "made-up ak"),
        ..Tpm2::default()
    };
    let mut fake = forged.ak_certificate();
    fake.issuer = der::seq(&[]);
    let mut files = forged.files();
    files[3] = fake.sign(&t.ak);
    files.push(t.ak_certificate().sign(&t.ca_key));
    let r = Ask::key(forged.key.spki(), t.root()).about(&files);
    refused_by(&r, "tpm-ak-chain");
    assert_eq!(r.facts.genuine, Known::Unknown);
}

#[test]
fn a_self_made_anchor_is_no_anchor() {
    let t = Tpm2::default();
    let mut nobody = ask(&t);
    nobody.anchors.clear();
    undecided_by(&nobody.about(&t.files()), "tpm-ak-chain");
    let mut files = t.files();
    files.push(t.root());
    refused_by(&nobody.about(&files), "tpm-ak-chain");
    let stranger = Tpm2 {
        root_key: Key::named(Kind::P256, "stranger"),
        ..Tpm2::default()
    };
    let ask = Ask::key(t.key.spki(), stranger.root());
    refused_by(&ask.about(&t.files()), "tpm-ak-chain");
}

#[test]
fn a_missing_certificate_leaves_it_open() {
    let t = Tpm2::default();
    let files = t.files();
    undecided_by(&ask(&t).about(&files[..4]), "tpm-ak-chain");
    undecided_by(&ask(&t).about(&files[..3]), "tpm-ak-chain");
    let mut without_area = files;
    without_area.remove(2);
    undecided_by(&ask(&t).about(&without_area), "tpm-name");
}

#[test]
fn the_chain_is_valid_at_the_moment_of_appraisal() {
    let t = Tpm2::default();
    // 2019-12-31 and 2050-01-01.
    for at in [1_577_750_400, 2_524_608_000] {
        let mut ask = ask(&t);
        ask.at = at;
        refused_by(&ask.about(&t.files()), "tpm-ak-chain");
    }
    ca_certificate(|c| c.not_after = "251231235959Z".into(), "tpm-ak-chain");
    ak_certificate(|c| c.not_before = "270101000000Z".into(), "tpm-ak-chain");
}

#[test]
fn the_attestation_key_s_own_area_is_looked_at_if_given() {
    for (attributes, good) in [
        (RESTRICTED, true),
        (SIGN_ONLY, false),
        (RESTRICTED & !(1 << 1), false),
        (RESTRICTED & !(1 << 5), false),
        (RESTRICTED | 1 << 17, false),
    ] {
        let t = Tpm2 {
            ak_attributes: attributes,
            ..Tpm2::default()
        };
        let mut files = t.files();
        files.push(t.ak_public());
        let r = ask(&t).about(&files);
        if good {
            accepted(&r);
            assert!(r.unused.is_empty(), "{:?}", r.unused);
        } else {
            refused_by(&r, "tpm-ak-restricted");
        }
    }
}

#[test]
fn an_attestation_key_without_a_certificate_proves_nothing() {
    let t = Tpm2::default();
    let mut files = t.files()[..3].to_vec();
    files.push(t.ak_public());
    let r = ask(&t).about(&files);
    undecided_by(&r, "tpm-ak-chain");
    assert_eq!(r.facts.genuine, Known::Unknown);
    // One that certified itself.
    let own = Tpm2 {
        key: t.ak.clone(),
        attributes: RESTRICTED,
        tag: 0x801a,
        ..Tpm2::default()
    };
    let attest = own.attest();
    let files = [
        attest.clone(),
        own.signature(&attest),
        own.public(),
        own.creation_data(),
    ];
    undecided_by(&ask(&own).about(&files), "tpm-ak-chain");
}

#[test]
fn an_attestation_key_that_the_verifier_pins_needs_no_certificate() {
    // A CA that ran the challenge itself gives the key as an anchor.
    let t = Tpm2::default();
    let ask = Ask::key(t.key.spki(), t.ak.spki().to_vec());
    let files = t.files()[..3].to_vec();
    let r = ask.about(&files);
    accepted(&r);
    assert_eq!(r.facts.generated_in_device, Known::Yes);
    let mut with_area = files.clone();
    with_area.push(t.ak_public());
    accepted(&ask.about(&with_area));
    hostile::truncated(&files, 1, &|f| ask.accepts(f));
    // Another key's statement is not signed by it.
    let other = Tpm2 {
        ak: Key::named(Kind::P256, "another ak"),
        ..Tpm2::default()
    };
    undecided_by(&ask.about(&other.files()[..3]), "tpm-signature");
    // A pinned key that is not restricted may sign what it likes.
    let free = Tpm2 {
        ak_attributes: SIGN_ONLY,
        ..Tpm2::default()
    };
    with_area[3] = free.ak_public();
    refused_by(&ask.about(&with_area), "tpm-ak-restricted");
    // Pinned or not, it is no key to sign code with.
    let own = Tpm2 {
        key: t.ak.clone(),
        attributes: RESTRICTED,
        ..Tpm2::default()
    };
    let ask = Ask::key(t.ak.spki(), t.ak.spki().to_vec());
    refused_by(&ask.about(&own.files()[..3]), "tpm-signing-key");
}

#[test]
fn an_endorsement_certificate_is_read_and_proves_nothing() {
    let t = Tpm2::default();
    let ek = Key::named(Kind::Rsa2048, "tpm2 ek");
    let ek = Certificate::new(der::seq(&[]), &ek, cn("EK CA"))
        .eku(false, &[EK_USAGE])
        .with("2.5.29.17", true, tpm_names("id:4E544300", "x", "id:1"))
        .sign(&Key::named(Kind::P256, "ek ca"));
    let mut files = t.files();
    files.push(ek.clone());
    let r = ask(&t).about(&files);
    accepted(&r);
    let check = r.check("tpm-ek-certificate").unwrap();
    assert_eq!(check.outcome, Outcome::NotChecked);
    // In place of an AK certificate it does not serve.
    let files = [t.files()[..3].to_vec(), vec![ek]].concat();
    undecided_by(&ask(&t).about(&files), "tpm-ak-chain");
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

#[test]
fn weaknesses_are_told_by_model_and_version() {
    let known = |manufacturer: &str, model: &str, version: &str, kind| {
        let t = Tpm2 {
            manufacturer: manufacturer.into(),
            model: model.into(),
            version: version.into(),
            key: Key::named(kind, "weak subject"),
            ..Tpm2::default()
        };
        let r = ask(&t).about(&t.files());
        accepted(&r);
        r.weaknesses
            .iter()
            .map(|w| w.known.clone().unwrap())
            .map(|k| (k.id, k.concerns_this_key))
            .collect::<Vec<_>>()
    };
    let fail = "CVE-2019-16863".to_owned();
    let st = "id:53544D20";
    assert_eq!(
        known(st, "ST33TPHF2ESPI", "id:00490004", Kind::P256),
        [(fail.clone(), true)]
    );
    assert_eq!(
        known(st, "ST33TPHF2ESPI", "id:00490004", Kind::Rsa2048),
        [(fail, false)]
    );
    assert_eq!(known(st, "ST33TPHF2ESPI", "id:00490014", Kind::P256), []);
    assert_eq!(
        known("id:00001014", "swtpm", "id:20191023", Kind::P256),
        [("TPM-SOFTWARE".to_owned(), true)]
    );
    assert_eq!(
        known("id:4D534654", "x", "id:00010002", Kind::P256),
        [("TPM-VIRTUAL".to_owned(), true)]
    );
}
