//! The TCG's statement in a certificate request.

use super::ask;
use super::common::{Ask, accepted, refused_by, undecided_by};
use countersign_attestation::request::{
    AttestationKey, CaPolicy, ExpectedOrder, RequestContext, Submission, appraise_request,
};
use countersign_attestation::result::{AttestationResult, Outcome};
use countersign_attestation::{Anchors, UnixSeconds};
use countersign_testkit_evidence::cert::{attestation_attribute, request};
use countersign_testkit_evidence::tpm2::{TCG_STATEMENT, Tpm2};
use countersign_testkit_evidence::yubihsm2::YubiHsm2;
use countersign_testkit_evidence::{Key, Kind, der};

pub fn in_request(t: &Tpm2, statements: &[(&str, Vec<u8>)]) -> Ask {
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

/// A request appraised in an order with that nonce. It has no statement, so it is refused in the end.
fn in_order(
    csr: &[u8],
    evidence: &[Vec<u8>],
    anchor: &[u8],
    nonce: &[u8],
    attestation_key: AttestationKey<'_>,
) -> AttestationResult {
    let mut anchors = Anchors::pinned();
    anchors.add_file("test root", anchor).unwrap();
    appraise_request(
        &Submission {
            csr,
            statement: None,
            evidence,
        },
        &RequestContext {
            audience: "ca.example",
            now: UnixSeconds::new(super::common::NOW).unwrap(),
            statement_keys: &[],
            anchor_set_version: "test",
            order: Some(ExpectedOrder {
                id: "1",
                nonce,
                subscriber: "acme",
                attestation_key,
            }),
            seen_orders: None,
            policy: CaPolicy::default(),
            formats: countersign_attestation::vendor::FORMATS,
            anchors: &anchors,
        },
    )
}

fn outcome(r: &AttestationResult, check: &str) -> Option<Outcome> {
    r.check(check).map(|c| c.outcome)
}

#[test]
fn an_order_s_nonce_must_stand_in_evidence_that_can_carry_one() {
    let t = Tpm2::default();
    let tcg = (TCG_STATEMENT, t.tcg_statement(false));
    let csr = request(
        "Acme",
        &t.key,
        &[attestation_attribute(&[tcg], &t.certificates())],
    );
    let with = |nonce| in_order(&csr, &[], &t.root(), nonce, AttestationKey::Any);
    let right = with(&t.extra_data);
    assert_eq!(outcome(&right, "freshness"), Some(Outcome::Pass));
    assert_eq!(right.freshness, Some(Outcome::Pass));
    assert_eq!(right.subject.unwrap().algorithm, "P-256");
    assert_eq!(
        outcome(&with(b"of another"), "freshness"),
        Some(Outcome::Fail)
    );
    // A format without a nonce: said, and no obstacle in an order.
    let y = YubiHsm2::default();
    let csr = request("Acme", &y.key, &[]);
    let r = in_order(
        &csr,
        &y.files(),
        &y.root(),
        b"an order's",
        AttestationKey::NoneInOrder,
    );
    assert_eq!(outcome(&r, "freshness"), Some(Outcome::NotChecked));
    assert_eq!(outcome(&r, "attestation-key-of-order"), None);
    assert_eq!(outcome(&r, "key-bound"), Some(Outcome::Pass));
}

#[test]
fn where_the_ca_certifies_attestation_keys_only_the_order_s_own_counts() {
    let t = Tpm2::default();
    // ECDSA differs from call to call: the certificates are made once.
    let certificates = t.certificates();
    let tcg = (TCG_STATEMENT, t.tcg_statement(false));
    let csr = request(
        "Acme",
        &t.key,
        &[attestation_attribute(&[tcg], &certificates)],
    );
    let with = |key| {
        let r = in_order(&csr, &[], &t.root(), &t.extra_data, key);
        outcome(&r, "attestation-key-of-order")
    };
    assert_eq!(
        with(AttestationKey::OfOrder(&certificates[0])),
        Some(Outcome::Pass)
    );
    assert_eq!(
        with(AttestationKey::OfOrder(&certificates[1])),
        Some(Outcome::Fail)
    );
    assert_eq!(with(AttestationKey::NoneInOrder), Some(Outcome::Fail));
    assert_eq!(with(AttestationKey::Any), None);
    // A bare attestation key that the CA pins is of no order.
    let tcg = (TCG_STATEMENT, t.tcg_statement(false));
    let csr = request("Acme", &t.key, &[attestation_attribute(&[tcg], &[])]);
    let pinned = |key| {
        let r = in_order(&csr, &[], t.ak.spki(), &t.extra_data, key);
        assert_eq!(outcome(&r, "tpm-ak-chain"), Some(Outcome::Pass));
        outcome(&r, "attestation-key-of-order")
    };
    assert_eq!(pinned(AttestationKey::Any), None);
    for key in [
        AttestationKey::NoneInOrder,
        AttestationKey::OfOrder(&certificates[0]),
    ] {
        assert_eq!(pinned(key), Some(Outcome::Fail));
    }
}
