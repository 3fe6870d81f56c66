//! WebAuthn registrations, and the object of ACME.

use super::ask;
use super::common::{accepted, refused_by, undecided_by};
use countersign_testkit_evidence::text::base64url;
use countersign_testkit_evidence::tpm2::{Tpm2, WebAuthn};
use countersign_testkit_evidence::{Key, Kind, der, hostile};

pub fn registration(t: &Tpm2) -> (WebAuthn, Vec<u8>) {
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
