//! Every rule of the Fortanix DSM format: attestations that are accepted, and what it refuses.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Ask, accepted, refused_by, undecided_by};
use countersign_attestation::AttestationResult;
use countersign_attestation::result::{Exportable, Known};
use countersign_testkit_evidence::fortanix::{Fortanix, presence};
use countersign_testkit_evidence::text::base64;
use countersign_testkit_evidence::{Key, Kind, der, hostile};

fn ask(e: &Fortanix) -> Ask {
    Ask::key(e.key.spki(), e.root())
}

fn answer(e: &Fortanix) -> AttestationResult {
    ask(e).about(&[e.json()])
}

/// One change, and the check that must see it.
#[track_caller]
fn one_change(change: impl FnOnce(&mut Fortanix), check: &str) {
    let mut e = Fortanix::default();
    change(&mut e);
    refused_by(&answer(&e), check);
}

#[test]
fn genuine_evidence_is_accepted_with_its_facts() {
    for kind in [Kind::Rsa2048, Kind::P256, Kind::P384, Kind::Ed25519] {
        let e = Fortanix {
            key: Key::named(kind, "fortanix subject"),
            ..Fortanix::default()
        };
        let r = answer(&e);
        accepted(&r);
        assert_eq!(r.formats, ["fortanix-dsm"]);
        assert_eq!(r.facts.generated_in_device, Known::Yes);
        assert_eq!(r.facts.exportable, Exportable::Never);
        assert_eq!(r.facts.sign_only, Known::Yes);
        assert_eq!(r.facts.serial, None);
        assert_eq!(r.facts.certification, None);
        assert_eq!(
            r.facts.evidence_time.map(|t| t.to_string()).as_deref(),
            Some("2026-11-01T12:00:00Z")
        );
        assert_eq!(r.facts.chain.len(), 3);
        assert!(r.unused.is_empty());
    }
}

#[test]
fn the_chain_comes_in_any_order_and_wrapping() {
    let e = Fortanix::default();
    let ask = ask(&e);
    let statement = e.statement().sign(&e.authority_key);
    let chain = vec![e.authority(), e.ca(), e.root()];
    hostile::reordered(&chain, &|c| ask.accepts(&[e.json_of(&statement, c)]));
    // The root is not needed; another certificate is not minded.
    assert!(ask.accepts(&[e.json_of(&statement, &chain[..2])]));
    let stranger = Key::named(Kind::Rsa2048, "stranger");
    let other = countersign_testkit_evidence::cert::root("Stranger", &stranger);
    assert!(ask.accepts(&[e.json_of(&statement, &[chain.clone(), vec![other]].concat())]));
    assert!(ask.accepts(&[base64(&e.json()).into_bytes()]));
    hostile::with_extra(&vec![e.json()], b"read me", &|f| ask.accepts(f));
    // Certificates of the chain may lie beside the JSON.
    let split = vec![e.json_of(&statement, &chain[..1]), e.ca()];
    hostile::reordered(&split, &|f| ask.accepts(f));
}

#[test]
fn no_cut_file_is_accepted() {
    let e = Fortanix::default();
    let ask = ask(&e);
    hostile::truncated(&vec![e.json()], 1, &|f| ask.accepts(f));
}

#[test]
fn no_cut_certificate_is_accepted() {
    let e = Fortanix::default();
    let ask = ask(&e);
    let whole = vec![e.statement().sign(&e.authority_key), e.authority(), e.ca()];
    hostile::truncated(&whole, 1, &|c| ask.accepts(&[e.json_of(&c[0], &c[1..])]));
}

#[test]
fn a_flipped_bit_is_not_accepted() {
    let e = Fortanix::default();
    let ask = ask(&e);
    let whole = vec![e.statement().sign(&e.authority_key), e.authority(), e.ca()];
    let (tried, kept) = hostile::flipped(&whole, 3, 97, &|c| {
        ask.accepts(&[e.json_of(&c[0], &c[1..])])
    });
    assert!(tried > 100, "{tried}");
    assert!(kept.is_empty(), "{kept:?}");
}

#[test]
fn another_key_is_refused() {
    let e = Fortanix::default();
    let other = Key::named(Kind::Rsa2048, "swapped");
    let r = Ask::key(other.spki(), e.root()).about(&[e.json()]);
    refused_by(&r, "key-bound");
    assert_eq!(r.facts.generated_in_device, Known::Unknown);
}

#[test]
fn both_claims_must_be_there() {
    one_change(
        |e| e.claims = vec![("2.4.1.2", presence())],
        "fortanix-generated-in-dsm",
    );
    let e = Fortanix {
        claims: vec![("2.4.1.1", presence())],
        ..Fortanix::default()
    };
    let r = answer(&e);
    refused_by(&r, "fortanix-never-exportable");
    assert_eq!(r.facts.exportable, Exportable::Unknown);
    // Presence is the claim: a value is something else.
    for value in [der::boolean(false), der::seq(&[der::null()]), vec![]] {
        one_change(|e| e.claims[1].1 = value, "fortanix-attestation");
    }
}

#[test]
fn unknown_claims_are_refused() {
    one_change(
        |e| e.claims.push(("2.4.1.3", presence())),
        "fortanix-known-claims",
    );
    one_change(
        |e| e.claims.push(("9.9", presence())),
        "fortanix-known-claims",
    );
    // A claim given twice cannot be read.
    one_change(
        |e| e.claims.push(("2.4.1.1", presence())),
        "fortanix-attestation",
    );
}

#[test]
fn key_usage_says_whether_the_key_signs_alone() {
    for (usage, known) in [
        (Some((0x80, 7)), Known::Yes),
        (Some((0xc0, 6)), Known::Yes),
        (Some((0xa0, 5)), Known::No),
        (Some((0x10, 4)), Known::No),
        (None, Known::Unknown),
    ] {
        let e = Fortanix {
            usage,
            ..Fortanix::default()
        };
        let r = answer(&e);
        accepted(&r);
        assert_eq!(r.facts.sign_only, known, "{usage:?}");
    }
}

#[test]
fn time_is_that_of_the_statement() {
    // Authority and CA are long gone, and lived when they signed.
    let e = Fortanix {
        made: "231101120000Z",
        authority_from: "231025000000Z",
        authority_to: "231124000000Z",
        ca_to: "240101000000Z",
        ..Fortanix::default()
    };
    accepted(&answer(&e));
    // Not yet alive, no longer alive, CA no longer alive.
    one_change(|e| e.made = "261024235959Z", "fortanix-chain");
    one_change(|e| e.made = "261124000001Z", "fortanix-chain");
    one_change(|e| e.ca_to = "261001000000Z", "fortanix-chain");
    // Made after the appraisal: within a day, and later.
    let e = Fortanix::default();
    let mut ask = ask(&e);
    ask.at = 1_793_448_000; // 2026-10-31T12:00:00Z
    accepted(&ask.about(&[e.json()]));
    ask.at -= 1;
    refused_by(&ask.about(&[e.json()]), "fortanix-statement-time");
}

#[test]
fn an_issuer_that_is_no_ca_stands_exactly_there() {
    // The authority says nothing, or says that it is a CA.
    one_change(|e| e.authority_constraints = None, "fortanix-chain");
    one_change(
        |e| e.authority_constraints = Some(der::seq(&[der::boolean(true)])),
        "fortanix-chain",
    );
    // The place above it is a CA's.
    one_change(|e| e.ca_is_ca = false, "fortanix-chain");
    one_change(|e| e.ca_usage = (0x80, 7), "fortanix-chain");
}

#[test]
fn the_authority_is_empowered_for_this_and_nothing_else() {
    one_change(|e| e.authority_eku = vec![], "fortanix-chain");
    one_change(
        |e| e.authority_eku = vec!["1.3.6.1.5.5.7.3.3"],
        "fortanix-chain",
    );
    one_change(
        |e| e.authority_eku.push("1.3.6.1.5.5.7.3.3"),
        "fortanix-chain",
    );
    one_change(|e| e.authority_usage = (0x84, 2), "fortanix-chain");
    one_change(|e| e.policy = "1.3.6.1.4.1.49690.6.1.9", "fortanix-chain");
    one_change(|e| e.authority_unknown = true, "fortanix-chain");
}

#[test]
fn a_look_alike_by_an_attested_key_is_refused() {
    let e = Fortanix::default();
    let inner = Key::named(Kind::Rsa2048, "fortanix inner");
    let of_inner = Fortanix {
        key: inner.clone(),
        ..e.clone()
    };
    let inner_statement = of_inner.statement();
    let mut forged = e.statement();
    forged.issuer = inner_statement.subject.clone();
    let chain = [
        inner_statement.sign(&e.authority_key),
        e.authority(),
        e.ca(),
        e.root(),
    ];
    let r = ask(&e).about(&[e.json_of(&forged.sign(&inner), &chain)]);
    refused_by(&r, "fortanix-chain");
    // The CA itself as issuer of a statement.
    let mut by_ca = e.statement();
    by_ca.issuer = countersign_testkit_evidence::cert::cn("Test Fortanix Key Attestation CA");
    let chain = [e.authority(), e.ca(), e.root()];
    let r = ask(&e).about(&[e.json_of(&by_ca.sign(&e.ca_key), &chain)]);
    refused_by(&r, "fortanix-chain");
}

#[test]
fn a_self_made_anchor_is_no_anchor() {
    let e = Fortanix::default();
    let stranger = Fortanix {
        root_key: Key::named(Kind::Rsa2048, "stranger"),
        ..Fortanix::default()
    };
    refused_by(
        &Ask::key(e.key.spki(), stranger.root()).about(&[e.json()]),
        "fortanix-chain",
    );
    let mut nobody = ask(&e);
    nobody.anchors.clear();
    refused_by(&nobody.about(&[e.json()]), "fortanix-chain");
    // Without the root in it the chain just ends.
    let statement = e.statement().sign(&e.authority_key);
    let short = e.json_of(&statement, &[e.authority(), e.ca()]);
    undecided_by(&nobody.about(&[short]), "fortanix-chain");
}

#[test]
fn a_missing_certificate_leaves_it_open() {
    let e = Fortanix::default();
    let statement = e.statement().sign(&e.authority_key);
    let without_ca = e.json_of(&statement, &[e.authority()]);
    let r = ask(&e).about(&[without_ca]);
    undecided_by(&r, "fortanix-chain");
    assert_eq!(r.facts.genuine, Known::Unknown);
    undecided_by(
        &ask(&e).about(&[e.json_of(&statement, &[e.ca()])]),
        "fortanix-chain",
    );
}

#[test]
fn wrong_signatures_and_formats_are_refused() {
    let e = Fortanix::default();
    let thief = Key::named(Kind::Rsa2048, "thief");
    let chain = [e.authority(), e.ca(), e.root()];
    let forged = e.json_of(&e.statement().sign(&thief), &chain);
    refused_by(&ask(&e).about(&[forged]), "fortanix-chain");
    one_change(|e| e.format = "jwt", "fortanix-attestation");
    let empty = e.json_of(&e.statement().sign(&e.authority_key), &[]);
    refused_by(&ask(&e).about(&[empty]), "fortanix-attestation");
}

proptest::proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300),
    ) {
        use countersign_attestation::vendor::fortanix::Attestation;
        let e = Fortanix::default();
        let _ = Attestation::parse(&bytes);
        let _ = Attestation::parse(&e.json_of(&bytes, std::slice::from_ref(&bytes)));
    }
}

#[test]
fn a_maximum_age_goes_by_the_time_of_the_statement() {
    // Made on 1 November 2026, 12:00; asked on the 22nd, 00:00: 20 days and a half.
    let e = Fortanix::default();
    let with = |age: &'static str, at: i64| {
        let mut ask = ask(&e);
        ask.require = vec![age];
        ask.at = at;
        ask.about(&[e.json()])
    };
    accepted(&with("max-age=21d", common::NOW));
    refused_by(&with("max-age=20d", common::NOW), "policy-max-age");
    let made = 1_793_534_400;
    accepted(&with("max-age=1s", made + 1));
    refused_by(&with("max-age=1s", made + 2), "policy-max-age");
    // A device's clock may be five minutes ahead, not more.
    accepted(&with("max-age=1s", made - 300));
    refused_by(&with("max-age=1s", made - 301), "policy-max-age");
}
