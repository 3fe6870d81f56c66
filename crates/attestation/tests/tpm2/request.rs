//! The TCG's statement in a certificate request.

use super::ask;
use super::common::{Ask, accepted, refused_by, undecided_by};
use countersign_attestation::result::Outcome;
use countersign_testkit_evidence::cert::{attestation_attribute, request};
use countersign_testkit_evidence::tpm2::{TCG_STATEMENT, Tpm2};
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
