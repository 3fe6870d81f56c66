//! Every rule of PKIX key-attestation evidence: evidence that is accepted, and evidence it refuses.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Ask, accepted, refused_by, undecided_by};
use countersign_attestation::result::{Exportable, Known, Outcome};
use countersign_testkit_evidence::cert::{Certificate, attestation_attribute, cn, request};
use countersign_testkit_evidence::pkix::{ARC, Pkix, Sid, claim, key_claims};
use countersign_testkit_evidence::text::{base64, pem};
use countersign_testkit_evidence::{Key, Kind, der, hostile};

fn ask(e: &Pkix) -> Ask {
    Ask::key(e.key.spki(), e.root())
}

#[track_caller]
fn one_change(change: impl FnOnce(&mut Pkix), check: &str) {
    let mut e = Pkix::default();
    change(&mut e);
    refused_by(&ask(&e).about(&[e.encode()]), check);
}

#[test]
fn genuine_evidence_is_accepted_with_its_facts() {
    let e = Pkix::default();
    let r = ask(&e).about(&[e.encode()]);
    accepted(&r);
    assert_eq!(r.formats, ["pkix-evidence"]);
    assert_eq!(r.facts.generated_in_device, Known::Yes);
    assert_eq!(r.facts.exportable, Exportable::Never);
    assert_eq!(r.facts.sign_only, Known::Yes);
    assert_eq!(r.facts.vendor.as_deref(), Some("Acme"));
    assert_eq!(r.facts.model.as_deref(), Some("HSM-9000"));
    assert_eq!(r.facts.serial.as_ref().unwrap().value, "SN-7");
    assert_eq!(
        r.facts.evidence_time.unwrap().to_string(),
        "2026-11-01T12:00:00Z"
    );
    // A level in the evidence is the module's word.
    assert_eq!(r.facts.certification, None);
    assert!(r.claims.iter().any(|c| c.name == "platform.fipslevel"));
    for kind in [Kind::P384, Kind::Rsa2048, Kind::Ed25519] {
        let key = Key::named(kind, "another subject");
        let mut e = Pkix {
            ak: Key::named(Kind::Rsa2048, "another ak"),
            ..Pkix::default()
        };
        e.elements[0].1[2] = claim("1.0.2", der::octets(e.ak.spki()));
        e.elements[2].1 = key_claims(&key);
        e.key = key;
        accepted(&ask(&e).about(&[e.encode()]));
    }
}

#[test]
fn it_comes_in_any_wrapping() {
    let e = Pkix::default();
    let der = e.encode();
    let ask_ = ask(&e);
    assert!(ask_.accepts(&[pem("EVIDENCE", &der).into_bytes()]));
    assert!(ask_.accepts(&[base64(&der).into_bytes()]));
    hostile::with_extra(&vec![der.clone()], b"read me", &|f| ask_.accepts(f));
    let explicit = Pkix {
        explicit: true,
        ..Pkix::default()
    };
    accepted(&ask(&explicit).about(&[explicit.encode()]));
    // Inside a request, under whatever type.
    let attribute = attestation_attribute(&[("1.2.3.4", der)], &[]);
    let mut inside = ask(&e);
    inside.is_csr = true;
    inside.subject = request("Acme", &e.key, &[attribute]);
    accepted(&inside.about(&[]));
}

#[test]
fn the_signer_may_be_named_in_each_way() {
    let ak = |e: &Pkix| e.ak_certificate().sign(&e.ca_key);
    for sid in [Sid::Spki, Sid::KeyId] {
        let e = Pkix {
            sid,
            ..Pkix::default()
        };
        accepted(&ask(&e).about(&[e.encode(), ak(&e)]));
        // The attestation key itself as anchor, without its certificate.
        accepted(&Ask::key(e.key.spki(), e.ak.spki().to_vec()).about(&[e.encode()]));
    }
    let named = Pkix {
        sid: Sid::KeyId,
        ..Pkix::default()
    };
    undecided_by(&ask(&named).about(&[named.encode()]), "pkix-signature");
    let by_key = Pkix {
        sid: Sid::Spki,
        ..Pkix::default()
    };
    undecided_by(&ask(&by_key).about(&[by_key.encode()]), "pkix-chain");
    let nobody = Pkix {
        sid: Sid::Nothing,
        ..Pkix::default()
    };
    undecided_by(
        &ask(&nobody).about(&[nobody.encode(), ak(&nobody)]),
        "pkix-signature",
    );
}

#[test]
fn no_cut_file_and_no_flipped_bit_is_accepted() {
    let e = Pkix::default();
    let files = vec![e.encode()];
    hostile::truncated(&files, 1, &|f| ask(&e).accepts(f));
    let (tried, kept) = hostile::flipped(&files, 1, 7, &|f| ask(&e).accepts(f));
    assert!(tried > 1000, "{tried}");
    assert!(kept.is_empty(), "{kept:?}");
}

#[test]
fn the_key_element_is_chosen_by_its_key() {
    let mut e = Pkix::default();
    let other = Key::named(Kind::P256, "pkix neighbour");
    // Another key in the same evidence may be exportable: it is not the one in question.
    let mut claims = key_claims(&other);
    claims[2] = claim("1.2.2", der::boolean(true));
    e.elements.insert(2, ("0.2".into(), claims));
    accepted(&ask(&e).about(&[e.encode()]));
    let r = Ask::key(other.spki(), e.root()).about(&[e.encode()]);
    refused_by(&r, "pkix-not-extractable");
    // A third one is none of them.
    let swapped = Key::named(Kind::P256, "swapped");
    let r = Ask::key(swapped.spki(), e.root()).about(&[e.encode()]);
    refused_by(&r, "pkix-key-element");
    // Two elements for one key.
    let mut e = Pkix::default();
    let again = e.elements[2].clone();
    e.elements.push(again);
    refused_by(&ask(&e).about(&[e.encode()]), "pkix-key-element");
    // None at all.
    let mut e = Pkix::default();
    e.elements.truncate(2);
    refused_by(&ask(&e).about(&[e.encode()]), "pkix-key-element");
}

#[test]
fn a_claim_twice_is_refused() {
    one_change(
        |e| e.claims(2).push(claim("1.2.2", der::boolean(false))),
        "pkix-well-formed",
    );
    one_change(
        |e| {
            let again = e.elements[0].clone();
            e.elements.push(again);
        },
        "pkix-well-formed",
    );
}

#[test]
fn what_is_claimed_false_is_refused_and_what_is_missing_is_open() {
    for (number, bad, check) in [
        ("1.2.2", true, "pkix-not-extractable"),
        ("1.2.3", false, "pkix-not-extractable"),
        ("1.2.4", false, "pkix-not-extractable"),
        ("1.2.5", false, "pkix-local"),
    ] {
        one_change(|e| e.set(number, Some(der::boolean(bad))), check);
        let mut e = Pkix::default();
        e.set(number, None);
        undecided_by(&ask(&e).about(&[e.encode()]), check);
    }
    let mut e = Pkix::default();
    e.set("1.2.2", Some(der::boolean(true)));
    let r = ask(&e).about(&[e.encode()]);
    assert_eq!(r.facts.exportable, Exportable::Wrapped);
}

#[test]
fn what_the_draft_does_not_name_is_refused_in_the_key_element_alone() {
    one_change(
        |e| e.set("1.2.99", Some(der::boolean(true))),
        "pkix-claims-known",
    );
    let purposes = |list: &[&str]| {
        let list: Vec<_> = list
            .iter()
            .map(|p| der::oid(&format!("{ARC}.{p}")))
            .collect();
        Some(der::seq(&list))
    };
    one_change(
        |e| e.set("1.2.7", purposes(&["2.4", "2.77"])),
        "pkix-claims-known",
    );
    let mut e = Pkix::default();
    e.claims(1).push(claim("1.1.99", der::null()));
    e.elements.push(("0.9".into(), vec![]));
    accepted(&ask(&e).about(&[e.encode()]));
}

#[test]
fn values_have_their_types() {
    one_change(|e| e.set("1.2.2", Some(der::int(0))), "pkix-well-formed");
    one_change(|e| e.set("1.2.2", Some(vec![1, 1, 1])), "pkix-well-formed");
    one_change(
        |e| {
            e.set("1.2.2", None);
            e.claims(2).push(("1.2.2".into(), None));
        },
        "pkix-well-formed",
    );
    one_change(|e| e.version = 2, "pkix-well-formed");
}

#[test]
fn sign_only_can_be_demanded() {
    for (list, good) in [
        (&["2.4"][..], true),
        (&["2.4", "2.6"], true),
        (&["2.4", "2.1"], false),
        (&["2.6"], false),
    ] {
        let mut e = Pkix::default();
        let list: Vec<_> = list
            .iter()
            .map(|p| der::oid(&format!("{ARC}.{p}")))
            .collect();
        e.set("1.2.7", Some(der::seq(&list)));
        let mut ask = ask(&e);
        accepted(&ask.about(&[e.encode()]));
        ask.require = vec!["sign-only"];
        let r = ask.about(&[e.encode()]);
        if good {
            accepted(&r);
        } else {
            refused_by(&r, "policy-sign-only");
        }
    }
    let mut e = Pkix::default();
    e.set("1.2.7", None);
    let mut ask = ask(&e);
    ask.require = vec!["sign-only"];
    undecided_by(&ask.about(&[e.encode()]), "policy-sign-only");
}

#[test]
fn an_expired_key_is_refused() {
    let mut e = Pkix::default();
    e.set("1.2.6", Some(der::time("20270101000000Z")));
    accepted(&ask(&e).about(&[e.encode()]));
    e.set("1.2.6", Some(der::time("20250101000000Z")));
    refused_by(&ask(&e).about(&[e.encode()]), "pkix-key-expiry");
}

#[test]
fn the_nonce_is_the_transaction_s() {
    let e = Pkix::default();
    let mut ask = ask(&e);
    assert_eq!(
        ask.about(&[e.encode()]).freshness,
        Some(Outcome::NotChecked)
    );
    ask.nonce = Some(b"nonce".to_vec());
    assert_eq!(ask.about(&[e.encode()]).freshness, Some(Outcome::Pass));
    ask.nonce = Some(b"another".to_vec());
    refused_by(&ask.about(&[e.encode()]), "freshness");
}

#[test]
fn the_attestation_key_is_the_one_that_is_named() {
    one_change(
        |e| {
            let other = Key::named(Kind::P256, "swapped");
            e.elements[0].1[2] = claim("1.0.2", der::octets(other.spki()));
        },
        "pkix-ak-spki",
    );
    let mut e = Pkix::default();
    e.elements[0].1.truncate(2);
    accepted(&ask(&e).about(&[e.encode()]));
}

#[test]
fn every_signature_must_hold() {
    let e = Pkix::default();
    let thief = Key::named(Kind::P256, "thief");
    let tbs = e.tbs();
    let good = e.block(&e.ak, Sid::Certificate, &tbs);
    let foreign = e.block(&thief, Sid::Spki, &tbs);
    let forged = e.block(&thief, Sid::Certificate, &tbs);
    let other = e.block(&e.ak, Sid::Certificate, b"something else");
    let of = |blocks: &[Vec<u8>]| e.assemble(tbs.clone(), blocks, &[e.ca()]);
    accepted(&ask(&e).about(&[of(std::slice::from_ref(&good))]));
    // A second, good signature by a key nobody trusts adds nothing and takes nothing.
    accepted(&ask(&e).about(&[of(&[good.clone(), foreign.clone()])]));
    // The claim names the key that is to sign; without the claim the signer is nobody known.
    refused_by(
        &ask(&e).about(&[of(std::slice::from_ref(&foreign))]),
        "pkix-ak-spki",
    );
    let mut bare = Pkix::default();
    bare.elements[0].1.truncate(2);
    let unnamed = bare.tbs();
    let foreign = bare.block(&thief, Sid::Spki, &unnamed);
    let by_id = bare.block(&thief, Sid::KeyId, &unnamed);
    let good_bare = bare.block(&e.ak, Sid::Certificate, &unnamed);
    let of_bare = |blocks: &[Vec<u8>]| bare.assemble(unnamed.clone(), blocks, &[e.ca()]);
    undecided_by(&ask(&e).about(&[of_bare(&[foreign])]), "pkix-chain");
    // A signer that is not at hand beside one that is.
    accepted(&ask(&e).about(&[of_bare(&[good_bare, by_id])]));
    refused_by(
        &ask(&e).about(&[of(&[good.clone(), forged])]),
        "pkix-signature",
    );
    refused_by(&ask(&e).about(&[of(&[good, other])]), "pkix-signature");
    refused_by(&ask(&e).about(&[of(&[])]), "pkix-well-formed");
}

#[test]
fn the_chain_ends_at_an_anchor_that_was_given() {
    let e = Pkix::default();
    let mut nobody = ask(&e);
    nobody.anchors.clear();
    undecided_by(&nobody.about(&[e.encode()]), "pkix-chain");
    refused_by(&nobody.about(&[e.encode(), e.root()]), "pkix-chain");
    let stranger = Pkix {
        root_key: Key::named(Kind::P256, "stranger"),
        ..Pkix::default()
    };
    let r = Ask::key(e.key.spki(), stranger.root()).about(&[e.encode()]);
    refused_by(&r, "pkix-chain");
    for at in [1_577_750_400, 2_524_608_000] {
        let mut ask = ask(&e);
        ask.at = at;
        refused_by(&ask.about(&[e.encode()]), "pkix-chain");
    }
}

#[test]
fn a_look_alike_by_a_key_inside_the_device_is_refused() {
    // The attested key signs a certificate for a made-up attestation key.
    let e = Pkix::default();
    let fake = Key::named(Kind::P256, "made-up ak");
    let forged = Pkix {
        ak: fake,
        ca_key: e.ak.clone(),
        ..Pkix::default()
    };
    let mut c = forged.ak_certificate();
    c.issuer = cn("Test AK");
    let tbs = e.tbs();
    let block = der::seq(&[
        der::seq(&[der::context(2, &c.sign(&e.ak))]),
        forged.ak.algorithm(forged.ak.usual()),
        der::octets(&forged.ak.sign(forged.ak.usual(), &tbs)),
    ]);
    let real_ak = e.ak_certificate().sign(&e.ca_key);
    let evidence = e.assemble(tbs, &[block], &[real_ak, e.ca()]);
    refused_by(&ask(&e).about(&[evidence]), "pkix-chain");
}

#[test]
fn the_certificate_is_an_attestation_key_s() {
    let e = Pkix::default();
    let refused = |c: Certificate| {
        let tbs = e.tbs();
        let block = der::seq(&[
            der::seq(&[der::context(2, &c.sign(&e.ca_key))]),
            e.ak.algorithm(e.ak.usual()),
            der::octets(&e.ak.sign(e.ak.usual(), &tbs)),
        ]);
        let evidence = e.assemble(tbs, &[block], &[e.ca()]);
        refused_by(&ask(&e).about(&[evidence]), "pkix-chain");
    };
    let mut ca = e.ak_certificate();
    ca.extensions[0].2 = der::seq(&[der::boolean(true)]);
    refused(ca);
    let mut usage = e.ak_certificate();
    usage.extensions[1].2 = vec![3, 2, 2, 4];
    refused(usage);
    refused(e.ak_certificate().with("1.2.3.4", true, der::null()));
}

#[test]
fn what_is_labelled_as_evidence_and_is_none_does_not_pass() {
    let e = Pkix::default();
    let bad = pem("EVIDENCE", &der::seq(&[der::int(1)])).into_bytes();
    refused_by(&ask(&e).about(&[e.encode(), bad]), "pkix-well-formed");
}
