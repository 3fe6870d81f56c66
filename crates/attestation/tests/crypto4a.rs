//! Every rule of the Crypto4A format: messages that are accepted, and what it refuses.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Ask, accepted, refused_by, undecided_by};
use countersign_attestation::AttestationResult;
use countersign_attestation::hss::{self, HssError};
use countersign_attestation::result::{Exportable, Known};
use countersign_testkit_evidence::crypto4a::{
    Claim, Crypto4A, Hss, OBJECT, block, bytes, claims, moment, number, text,
};
use countersign_testkit_evidence::text::{base64, pem};
use countersign_testkit_evidence::{Key, Kind, der, hostile};

const OF: Option<[u8; 16]> = Some(OBJECT);

fn ask(e: &Crypto4A) -> Ask {
    Ask::key(e.key.spki(), e.root())
}

fn answer(e: &Crypto4A) -> AttestationResult {
    ask(e).about(&[e.message()])
}

/// One change, and the check that must see it.
#[track_caller]
fn one_change(change: impl FnOnce(&mut Crypto4A), check: &str) {
    let mut e = Crypto4A::default();
    change(&mut e);
    refused_by(&answer(&e), check);
}

fn without(list: &mut Vec<Claim>, arc: &str) {
    list.retain(|(a, ..)| *a != arc);
}

fn change(list: &mut [Claim], arc: &str, value: Option<Vec<u8>>) {
    for claim in list.iter_mut().filter(|(a, ..)| *a == arc) {
        claim.2.clone_from(&value);
    }
}

#[test]
fn genuine_evidence_is_accepted_with_its_facts() {
    for hash_based in [false, true] {
        let e = Crypto4A {
            hash_based,
            ..Crypto4A::default()
        };
        let r = answer(&e);
        accepted(&r);
        assert_eq!(r.formats, ["crypto4a"]);
        assert_eq!(r.facts.generated_in_device, Known::Yes);
        assert_eq!(r.facts.exportable, Exportable::Never);
        assert_eq!(r.facts.sign_only, Known::Yes);
        assert_eq!(r.facts.serial.as_ref().unwrap().value, "QSM000001");
        assert_eq!(r.facts.firmware.as_deref(), Some("4.0.2.1"));
        assert_eq!(
            r.facts.evidence_time.map(|t| t.to_string()).as_deref(),
            Some("2026-11-01T12:00:00Z")
        );
        assert_eq!(
            r.check("crypto4a-hash-based-signature").is_some(),
            hash_based
        );
        assert!(r.unused.is_empty());
    }
}

#[test]
fn the_message_comes_in_any_wrapping() {
    let e = Crypto4A::default();
    let ask = ask(&e);
    let der = e.message();
    assert!(ask.accepts(&[pem("ATTESTATION MESSAGE", &der).into_bytes()]));
    assert!(ask.accepts(&[base64(&der).into_bytes()]));
    hostile::with_extra(&vec![der], b"read me", &|f| ask.accepts(f));
    // Certificates in any order, or beside the message.
    let blocks = [e.elliptic_block()];
    let certificates = vec![e.ca(), e.root()];
    hostile::reordered(&certificates, &|c| ask.accepts(&[e.message_of(&blocks, c)]));
    let split = vec![e.message_of(&blocks, &[]), e.ca()];
    hostile::reordered(&split, &|f| ask.accepts(f));
}

#[test]
fn no_cut_message_is_accepted() {
    let e = Crypto4A::default();
    let ask = ask(&e);
    hostile::truncated(&vec![e.message()], 1, &|f| ask.accepts(f));
    let armoured = pem("ATTESTATION MESSAGE", &e.message()).into_bytes();
    // The last byte is the line's end.
    let whole = armoured.len() - 1;
    hostile::truncated(&vec![armoured[..whole].to_vec()], 1, &|f| ask.accepts(f));
}

#[test]
fn a_flipped_bit_is_not_accepted() {
    let e = Crypto4A::default();
    let ask = ask(&e);
    // The root in the message is not looked at: leave it out.
    let message = e.message_of(&[e.elliptic_block()], &[e.ca()]);
    let (tried, kept) = hostile::flipped(&vec![message], 3, 97, &|f| ask.accepts(f));
    assert!(tried > 50, "{tried}");
    // The key's UUID beside the signature is not signed, and nothing rests on it.
    let unsigned = |byte: usize| {
        let block = e.elliptic_block();
        let whole = e.message_of(std::slice::from_ref(&block), &[e.ca()]);
        let id = [0x95; 16];
        let at = whole.windows(16).position(|w| w == id).unwrap();
        (at..at + 16).contains(&byte)
    };
    let kept: Vec<_> = kept.into_iter().filter(|(_, b, _)| !unsigned(*b)).collect();
    assert!(kept.is_empty(), "{kept:?}");
}

#[test]
fn another_key_is_refused() {
    let e = Crypto4A::default();
    let other = Key::named(Kind::P256, "swapped");
    let r = Ask::key(other.spki(), e.root()).about(&[e.message()]);
    refused_by(&r, "key-bound");
    refused_by(&r, "crypto4a-private-key");
    assert_eq!(r.facts.serial, None);
}

#[test]
fn the_key_may_be_named_by_its_hash() {
    let mut e = Crypto4A::default();
    without(&mut e.claims, "2.1");
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, e.key.spki());
    e.claims.push(("2.3", OF, Some(bytes(hash.as_ref()))));
    accepted(&answer(&e));
    change(&mut e.claims, "2.3", Some(bytes(&[0; 32])));
    refused_by(&answer(&e), "crypto4a-private-key");
}

#[test]
fn what_acceptance_rests_on_must_be_claimed() {
    for (arc, check) in [
        ("1.4", "crypto4a-certified-production"),
        ("2.0", "crypto4a-certified-production"),
        ("2.4", "crypto4a-private-key"),
        ("2.7", "crypto4a-confined"),
        ("2.8", "crypto4a-generated"),
        ("2.9", "crypto4a-confined"),
    ] {
        one_change(|e| without(&mut e.claims, arc), check);
        // A value where presence is the claim, or another class of object.
        one_change(|e| change(&mut e.claims, arc, Some(number(&[0]))), check);
    }
    // Claimed of another object.
    one_change(
        |e| {
            for claim in e.claims.iter_mut().filter(|(a, ..)| *a == "2.8") {
                claim.1 = Some([0xcc; 16]);
            }
        },
        "crypto4a-generated",
    );
    let e = Crypto4A {
        claims: claims(&Crypto4A::default().key)
            .into_iter()
            .filter(|(a, ..)| *a != "2.9")
            .collect(),
        ..Crypto4A::default()
    };
    assert_eq!(answer(&e).facts.exportable, Exportable::Unknown);
}

#[test]
fn unknown_and_double_claims_are_refused() {
    // Managed, related to an authority, archived: a further holder, perhaps.
    for arc in ["2.10", "2.15", "2.16", "2.12", "2.99", "1.6", "3.1"] {
        one_change(|e| e.claims.push((arc, OF, None)), "crypto4a-known-claims");
        one_change(
            |e| e.claims.push((arc, None, None)),
            "crypto4a-known-claims",
        );
    }
    one_change(
        |e| e.claims.push(("2.4", OF, Some(number(&[4])))),
        "crypto4a-known-claims",
    );
    one_change(
        |e| e.claims.push(("1.1", None, Some(text("QSM2")))),
        "crypto4a-known-claims",
    );
    let mut e = Crypto4A::default();
    e.claims.push(("2.11", OF, None));
    // Another object's claims say nothing of this key.
    e.claims.push(("2.16", Some([0xcc; 16]), None));
    accepted(&answer(&e));
}

#[test]
fn two_objects_with_the_key_are_one_too_many() {
    let mut e = Crypto4A::default();
    let spki = bytes(e.key.spki());
    let twin = Some([0xcc; 16]);
    e.claims.push(("2.1", twin, Some(spki)));
    // A public key object beside the private one.
    e.claims.push(("2.4", twin, Some(number(&[3]))));
    accepted(&answer(&e));
    change(&mut e.claims, "2.4", Some(number(&[4])));
    refused_by(&answer(&e), "crypto4a-private-key");
}

#[test]
fn sign_only_is_what_is_claimed_and_denied() {
    let none: Vec<(&str, Vec<u8>)> = vec![];
    for (list, kind, known) in [
        (
            vec![("2.13", vec![1, 5]), ("2.14", vec![1, 7])],
            Kind::P256,
            Known::Yes,
        ),
        // Not denied to derive.
        (vec![("2.13", vec![1, 5])], Kind::P256, Known::Unknown),
        (vec![("2.14", vec![1, 7])], Kind::P256, Known::Unknown),
        (none, Kind::P256, Known::Unknown),
        (
            vec![("2.13", vec![1, 5]), ("2.13", vec![1, 7])],
            Kind::P256,
            Known::No,
        ),
        // An RSA key could do more than derive.
        (
            vec![("2.13", vec![1, 5]), ("2.14", vec![1, 7])],
            Kind::Rsa2048,
            Known::Unknown,
        ),
    ] {
        let key = Key::named(kind, "crypto4a subject");
        let mut e = Crypto4A {
            claims: claims(&key),
            key,
            ..Crypto4A::default()
        };
        without(&mut e.claims, "2.13");
        without(&mut e.claims, "2.14");
        for (arc, value) in &list {
            e.claims.push((*arc, OF, Some(number(value))));
        }
        let r = answer(&e);
        accepted(&r);
        assert_eq!(r.facts.sign_only, known, "{list:?}");
    }
}

#[test]
fn certificates_beside_the_chain_are_refused() {
    let e = Crypto4A::default();
    let (ca, root) = (e.ca(), e.root());
    let message = |more: &[Vec<u8>]| {
        let all = [&[ca.clone(), root.clone()], more].concat();
        e.message_of(&[e.elliptic_block()], &all)
    };
    // Vendors' messages carry their chain twice.
    accepted(&ask(&e).about(&[message(&[ca.clone(), root.clone()])]));
    let stranger = Key::named(Kind::P384, "stranger");
    let another = e.signer("Test Assertion Authority EC", stranger.spki().to_vec());
    refused_by(
        &ask(&e).about(&[message(&[another.sign(&e.ca_key)])]),
        "crypto4a-certificates",
    );
    // The last byte of a copy is of its signature.
    let mut altered = ca.clone();
    *altered.last_mut().unwrap() ^= 1;
    refused_by(
        &ask(&e).about(&[message(&[altered])]),
        "crypto4a-certificates",
    );
}

#[test]
fn every_signature_must_hold() {
    let e = Crypto4A::default();
    let thief = Crypto4A {
        signer_key: Key::named(Kind::P384, "thief"),
        ..Crypto4A::default()
    };
    // Right certificate, wrong key.
    let algorithm = der::algorithm("1.2.840.10045.4.3.3", false);
    let certificate = e.signer("Test Assertion Authority EC", e.signer_key.spki().to_vec());
    let signature = thief.signer_key.sign(
        countersign_testkit_evidence::keys::Scheme::Ecdsa,
        &e.signed(),
    );
    let forged = block(&certificate.sign(&e.ca_key), &algorithm, &signature);
    let message = |blocks: &[Vec<u8>]| e.message_of(blocks, &[e.ca(), e.root()]);
    refused_by(
        &ask(&e).about(&[message(std::slice::from_ref(&forged))]),
        "crypto4a-signature",
    );
    // Beside a good one.
    refused_by(
        &ask(&e).about(&[message(&[e.elliptic_block(), forged])]),
        "crypto4a-signature",
    );
    // No signature at all, or the hash-based one alone.
    refused_by(&ask(&e).about(&[message(&[])]), "crypto4a-signature");
    refused_by(
        &ask(&e).about(&[message(&[e.hash_based_block()])]),
        "crypto4a-signature",
    );
    // Over other claims.
    let mut other = e.clone();
    without(&mut other.claims, "2.5");
    let r = ask(&e).about(&[message(&[other.elliptic_block()])]);
    refused_by(&r, "crypto4a-signature");
    let r = ask(&e).about(&[message(&[e.elliptic_block(), other.hash_based_block()])]);
    refused_by(&r, "crypto4a-hash-based-signature");
    // An algorithm nobody knows leaves it open.
    let unknown = block(
        &certificate.sign(&e.ca_key),
        &der::algorithm("2.16.840.1.101.3.4.3.18", false),
        &[1; 64],
    );
    undecided_by(
        &ask(&e).about(&[message(&[e.elliptic_block(), unknown])]),
        "crypto4a-signature",
    );
}

#[test]
fn the_signer_is_an_assertion_authority_below_the_manufacturing_ca() {
    one_change(|e| e.eku = vec![], "crypto4a-chain");
    one_change(
        |e| e.eku = vec!["1.3.6.1.4.1.39901.4.1.2"],
        "crypto4a-chain",
    );
    one_change(|e| e.eku.push("1.3.6.1.5.5.7.3.3"), "crypto4a-chain");
    one_change(|e| e.signer_is_ca = true, "crypto4a-chain");
    one_change(|e| e.ca_is_ca = false, "crypto4a-chain");
    // Not yet valid when the claims were signed.
    one_change(|e| e.signer_from = "261101120001Z", "crypto4a-chain");
}

#[test]
fn a_look_alike_by_an_attested_key_is_refused() {
    // A confined signing key of the module signs a certificate for a signer of its owner's.
    let e = Crypto4A::default();
    let inner = Key::named(Kind::P384, "crypto4a inner");
    let mut forged = e.signer("Test Assertion Authority EC", e.signer_key.spki().to_vec());
    let inner_certificate = {
        let mut c = e.signer("inner", inner.spki().to_vec());
        c.extensions.clear();
        c
    };
    forged.issuer = inner_certificate.subject.clone();
    let algorithm = der::algorithm("1.2.840.10045.4.3.3", false);
    let signature = e.signer_key.sign(
        countersign_testkit_evidence::keys::Scheme::Ecdsa,
        &e.signed(),
    );
    let block = block(&forged.sign(&inner), &algorithm, &signature);
    let message = e.message_of(
        &[block],
        &[inner_certificate.sign(&e.ca_key), e.ca(), e.root()],
    );
    refused_by(&ask(&e).about(&[message]), "crypto4a-chain");
}

#[test]
fn time_is_that_of_the_claims() {
    let e = Crypto4A::default();
    let mut ask = ask(&e);
    // Long after: the certificates lived when the claims were signed.
    ask.at = 4_000_000_000;
    accepted(&ask.about(&[e.message()]));
    // Before: within a day, and earlier.
    ask.at = 1_793_448_000; // 2026-10-31T12:00:00Z
    accepted(&ask.about(&[e.message()]));
    ask.at -= 1;
    refused_by(&ask.about(&[e.message()]), "crypto4a-time");
    one_change(
        |e| change(&mut e.claims, "1.2", Some(text("yesterday"))),
        "crypto4a-time",
    );
    one_change(
        |e| change(&mut e.claims, "1.2", Some(moment("2026"))),
        "crypto4a-message",
    );
    // No time claimed: the moment of appraisal counts.
    let mut e = Crypto4A::default();
    without(&mut e.claims, "1.2");
    accepted(&answer(&e));
    e.signer_from = "270101000000Z";
    refused_by(&answer(&e), "crypto4a-chain");
}

#[test]
fn a_self_made_anchor_is_no_anchor() {
    let e = Crypto4A::default();
    let stranger = Crypto4A {
        root_key: Key::named(Kind::P384, "stranger"),
        ..Crypto4A::default()
    };
    refused_by(
        &Ask::key(e.key.spki(), stranger.root()).about(&[e.message()]),
        "crypto4a-chain",
    );
    let mut nobody = ask(&e);
    nobody.anchors.clear();
    refused_by(&nobody.about(&[e.message()]), "crypto4a-chain");
    let short = e.message_of(&[e.elliptic_block()], &[e.ca()]);
    undecided_by(&nobody.about(&[short]), "crypto4a-chain");
    let shorter = e.message_of(&[e.elliptic_block()], &[]);
    undecided_by(&ask(&e).about(&[shorter]), "crypto4a-chain");
}

#[test]
fn the_serial_can_be_demanded_and_the_version_is_one() {
    let e = Crypto4A::default();
    let mut ask = ask(&e);
    ask.require = vec!["serial=QSM000001", "sign-only"];
    accepted(&ask.about(&[e.message()]));
    ask.require = vec!["serial=QSM000002"];
    refused_by(&ask.about(&[e.message()]), "policy-serial");
    one_change(|e| e.version = 2, "crypto4a-message");
    // A subject that is no UUID, a value of an unknown kind.
    one_change(
        |e| {
            e.claims
                .push(("2.5", None, Some(der::context_primitive(7, &[1]))))
        },
        "crypto4a-message",
    );
}

#[test]
fn hss_signatures_verify_at_each_leaf_and_no_cut_one_does() {
    let tree = Hss::new("leaf test");
    let key = tree.public();
    for leaf in [0, 31] {
        assert_eq!(
            hss::verify(&key, b"claims", &tree.sign(leaf, b"claims")),
            Ok(())
        );
    }
    let signature = tree.sign(5, b"claims");
    assert_eq!(
        hss::verify(&key, b"Claims", &signature),
        Err(HssError::Invalid)
    );
    for n in 0..signature.len() {
        assert!(
            hss::verify(&key, b"claims", &signature[..n]).is_err(),
            "{n}"
        );
    }
    for n in 0..key.len() {
        assert!(
            hss::verify(&key[..n], b"claims", &signature).is_err(),
            "{n}"
        );
    }
    let longer = [&signature[..], &[0]].concat();
    assert_eq!(
        hss::verify(&key, b"claims", &longer),
        Err(HssError::Trailing)
    );
    // Every 397th bit; each verification costs thousands of hashes.
    for n in (0..signature.len() * 8).step_by(397) {
        let mut flipped = signature.clone();
        flipped[n / 8] ^= 1 << (n % 8);
        assert!(hss::verify(&key, b"claims", &flipped).is_err(), "{n}");
    }
    let mut levels = key.clone();
    for wrong in [0, 1, 3, 9] {
        levels[3] = wrong;
        assert_eq!(
            hss::verify(&levels, b"claims", &signature),
            Err(HssError::Levels)
        );
    }
    let mut parameters = key.clone();
    parameters[7] = 0x0a;
    assert_eq!(
        hss::verify(&parameters, b"claims", &signature),
        Err(HssError::Parameters("LMS", 0x0a))
    );
}

proptest::proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300),
    ) {
        use countersign_attestation::vendor::crypto4a::Message;
        let _ = Message::parse(&bytes);
        let claims = der::seq(&[der::int(1), der::seq(&[der::tlv(0x30, &bytes)])]);
        let _ = Message::parse(&der::seq(&[der::int(1), claims, der::seq(&[])]));
        let key = [&[0, 0, 0, 1, 0, 0, 0, 5, 0, 0, 0, 4][..], &[7; 48]].concat();
        let _ = hss::verify(&key, b"claims", &bytes);
    }
}
