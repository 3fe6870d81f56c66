//! Every rule of the Thales Luna format: evidence that is accepted, and evidence it refuses.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Ask, accepted, refused_by, undecided_by};
use countersign_attestation::Outcome;
use countersign_attestation::result::{AttestationResult, Exportable, Known};
use countersign_testkit_evidence::cert::{attestation_attribute, certs_only, request};
use countersign_testkit_evidence::text::{base64, pem};
use countersign_testkit_evidence::thales_luna::ThalesLuna;
use countersign_testkit_evidence::{Key, Kind, hostile};
use proptest::prelude::*;

fn ask(e: &ThalesLuna) -> Ask {
    Ask::key(e.key.spki(), e.root())
}

fn answer(e: &ThalesLuna) -> AttestationResult {
    ask(e).about(&[e.pkc()])
}

fn both() -> [ThalesLuna; 2] {
    [ThalesLuna::rsa(), ThalesLuna::ecc()]
}

/// One change to either shape, and the check that must see it.
#[track_caller]
fn one_change(change: impl Fn(&mut ThalesLuna), check: &str) {
    for mut e in both() {
        change(&mut e);
        refused_by(&answer(&e), check);
    }
}

#[test]
fn genuine_evidence_is_accepted_with_its_facts() {
    for e in both() {
        let r = answer(&e);
        accepted(&r);
        assert_eq!(r.formats, ["thales-luna-pkc"]);
        assert_eq!(r.facts.generated_in_device, Known::Yes);
        // Cloning is not ruled out.
        assert_eq!(r.facts.exportable, Exportable::Recoverable);
        assert_eq!(r.facts.sign_only, Known::Unknown);
        assert_eq!(r.facts.serial.as_ref().unwrap().value, "521174");
        assert_eq!(r.facts.vendor.as_deref(), Some("Thales"));
        assert_eq!(r.facts.certification, None);
        // The root's copy is part of what was given and used.
        assert!(r.unused.is_empty(), "{:?}", r.unused);
        let mut strict = ask(&e);
        strict.require = vec!["not-recoverable"];
        refused_by(&strict.about(&[e.pkc()]), "policy-exportable");
    }
}

#[test]
fn the_file_comes_in_any_wrapping_and_order() {
    for e in both() {
        let ask = ask(&e);
        assert!(ask.accepts(&[pem("PKCS7", &e.pkc()).into_bytes()]));
        assert!(ask.accepts(&[base64(&e.pkc()).into_bytes()]));
        let mut certificates = e.certificates();
        hostile::reordered(&certificates, &|f| ask.accepts(f));
        hostile::with_extra(&[e.pkc()].to_vec(), b"read me", &|f| ask.accepts(f));
        certificates.reverse();
        assert!(ask.accepts(&[certs_only(&certificates)]));
        // Trust is the verifier's: a file without the root is as good.
        certificates.remove(0);
        assert!(ask.accepts(&[certs_only(&certificates)]));
    }
}

#[test]
fn evidence_may_be_inside_the_request() {
    let e = ThalesLuna::rsa();
    let mut ask = ask(&e);
    ask.is_csr = true;
    let attribute = attestation_attribute(&[("1.3.6.1.4.1.12383", e.pkc())], &[]);
    ask.subject = request("Acme", &e.key, &[attribute]);
    accepted(&ask.about(&[]));
    ask.subject = request("Acme", &Key::named(Kind::P256, "thief"), &[]);
    refused_by(&ask.about(&[e.pkc()]), "key-bound");
}

#[test]
fn no_cut_file_is_accepted() {
    for e in both() {
        let ask = ask(&e);
        hostile::truncated(&vec![e.pkc()], 1, &|f| ask.accepts(f));
    }
}

#[test]
fn a_flipped_bit_is_not_accepted_but_in_what_nobody_signed() {
    for e in both() {
        let ask = ask(&e);
        // The copy of the root is not trusted for being there: its bytes are not covered. The
        // wrapping is not either: digest algorithms, signers.
        let mut below_root = e.certificates();
        below_root.pop();
        let (tried, kept) = hostile::flipped(&below_root, 1, 101, &|f| ask.accepts(f));
        assert!(tried > 50, "{tried}");
        assert!(kept.is_empty(), "{kept:?}");
    }
}

#[test]
fn another_key_is_refused() {
    for e in both() {
        let other = Key::named(Kind::P384, "swapped");
        let r = Ask::key(other.spki(), e.root()).about(&[e.pkc()]);
        refused_by(&r, "key-bound");
        assert_eq!(r.facts.genuine, Known::Unknown);
    }
}

#[test]
fn each_place_has_its_one_purpose() {
    for e in both() {
        let last = e.above.len();
        // The root's copy is not looked at beyond its key.
        for place in 0..last {
            for wrong in [vec![], vec![1], vec![99], vec![13, 12], vec![12, 13]] {
                if e.usages[place] == wrong {
                    continue;
                }
                let mut changed = e.clone();
                changed.usages[place] = wrong;
                let check = match place {
                    0 => "luna-pkc-confirmation",
                    _ => "luna-pkc-chain",
                };
                let r = answer(&changed);
                // A leaf with the purpose of another place is not taken for a confirmation at all.
                if place == 0 && changed.usages[0] == [1] {
                    undecided_by(&r, "device-evidence");
                } else {
                    refused_by(&r, check);
                }
            }
        }
    }
}

#[test]
fn the_confirmation_says_nothing_that_is_not_understood() {
    let more = |oid: &str, critical| (oid.to_owned(), critical, vec![5, 0]);
    one_change(
        |e| e.more.push(more("1.3.6.1.4.1.12383.2.99", false)),
        "luna-pkc-confirmation",
    );
    one_change(
        |e| e.more.push(more("1.2.3.4", true)),
        "luna-pkc-confirmation",
    );
    one_change(|e| e.leaf_is_ca = true, "luna-pkc-confirmation");
    for bits in [vec![0x03, 0x02, 0x04, 0x70], vec![0xf0], vec![]] {
        one_change(|e| e.key_bits = Some(bits.clone()), "luna-pkc-key-bits");
    }
    for mut e in both() {
        e.more.push(more("1.2.3.4", false));
        accepted(&answer(&e));
        e.key_bits = None;
        let r = answer(&e);
        accepted(&r);
        let seen = r.check("luna-pkc-key-bits").unwrap();
        assert_eq!(seen.outcome, Outcome::NotChecked);
    }
}

#[test]
fn a_serial_number_that_is_not_four_bytes_is_refused() {
    let e = ThalesLuna::rsa();
    let mut leaf = e.certificate(0);
    let oid = "1.3.6.1.4.1.12383.2.1";
    let at = leaf.extensions.iter().position(|x| x.0 == oid).unwrap();
    leaf.extensions[at].2 = vec![1, 2, 3];
    let mut certificates = e.certificates();
    certificates[0] = leaf.sign(&e.above[0]);
    let r = ask(&e).about(&[certs_only(&certificates)]);
    refused_by(&r, "luna-pkc-confirmation");
    assert_eq!(r.facts.generated_in_device, Known::Unknown);
}

#[test]
fn the_hsm_is_one_and_can_be_demanded() {
    one_change(|e| e.serial = Some(7), "luna-pkc-device");
    one_change(|e| e.named_serial = 7, "luna-pkc-device");
    let mut e = ThalesLuna::rsa();
    e.signer_serial = Some(7);
    refused_by(&answer(&e), "luna-pkc-device");
    for mut e in both() {
        let mut ask = ask(&e);
        ask.require = vec!["serial=521174"];
        accepted(&ask.about(&[e.pkc()]));
        ask.require = vec!["serial=9"];
        refused_by(&ask.about(&[e.pkc()]), "policy-serial");
        // Where only the name says it, it still counts.
        e.serial = None;
        e.signer_serial = None;
        ask.require = vec!["serial=521174"];
        accepted(&ask.about(&[e.pkc()]));
    }
}

#[test]
fn issuers_of_rsa_confirmations_are_cas() {
    let mut e = ThalesLuna::rsa();
    e.issuers_are_cas = false;
    refused_by(&answer(&e), "luna-pkc-chain");
    // Of EC confirmations the purpose alone speaks; a CA is one as well.
    let mut e = ThalesLuna::ecc();
    e.issuers_are_cas = true;
    accepted(&answer(&e));
}

#[test]
fn a_look_alike_by_a_confirmed_key_is_refused() {
    for e in both() {
        // The owner of a confirmed key signs a confirmation for another key with it.
        let mut forged = e.clone();
        forged.key = Key::named(Kind::P256, "luna forged subject");
        let mut leaf = forged.certificate(0);
        leaf.issuer = e.certificate(0).subject;
        let mut certificates = e.certificates();
        certificates.insert(0, leaf.sign(&e.key));
        let r = Ask::key(forged.key.spki(), e.root()).about(&[certs_only(&certificates)]);
        refused_by(&r, "luna-pkc-chain");
        assert_eq!(r.facts.genuine, Known::Unknown);
    }
}

#[test]
fn wrong_signatures_are_refused_at_every_place() {
    for e in both() {
        let thief = Key::named(e.key.kind(), "thief");
        for place in 0..e.above.len() {
            let mut certificates = e.certificates();
            certificates[place] = e.signed_by(place, &thief);
            let r = ask(&e).about(&[certs_only(&certificates)]);
            refused_by(&r, "luna-pkc-chain");
        }
        // The root is trusted by its key; its own signature is not looked at.
        let mut certificates = e.certificates();
        let root = certificates.len() - 1;
        certificates[root] = e.signed_by(root, &thief);
        accepted(&ask(&e).about(&[certs_only(&certificates)]));
    }
}

#[test]
fn a_self_made_anchor_is_no_anchor() {
    for e in both() {
        let mut nobody = ask(&e);
        nobody.anchors.clear();
        refused_by(&nobody.about(&[e.pkc()]), "luna-pkc-chain");
        let mut certificates = e.certificates();
        certificates.pop();
        undecided_by(
            &nobody.about(&[certs_only(&certificates)]),
            "luna-pkc-chain",
        );
    }
}

#[test]
fn a_missing_certificate_leaves_it_open() {
    for e in both() {
        for missing in 1..e.above.len() {
            let mut certificates = e.certificates();
            certificates.remove(missing);
            let r = ask(&e).about(&[certs_only(&certificates)]);
            undecided_by(&r, "luna-pkc-chain");
            assert_eq!(r.facts.genuine, Known::Unknown);
        }
        // Without the confirmation there is evidence of nothing.
        let r = ask(&e).about(&e.certificates()[1..]);
        undecided_by(&r, "device-evidence");
    }
}

#[test]
fn a_certificate_beside_the_chain_is_refused() {
    for e in both() {
        let mut other = e.clone();
        other.above[0] = Key::named(e.key.kind(), "luna other device");
        let mut certificates = e.certificates();
        certificates.push(other.signed(1));
        let r = ask(&e).about(&[certs_only(&certificates)]);
        refused_by(&r, "luna-pkc-certificates");
    }
}

#[test]
fn certificates_are_valid_at_the_time_of_appraisal() {
    let past = ("200301000000Z".to_owned(), "261121235959Z".to_owned());
    one_change(|e| e.validity = past.clone(), "luna-pkc-chain");
    let future = ("261123000000Z".to_owned(), "320505000000Z".to_owned());
    one_change(|e| e.validity = future.clone(), "luna-pkc-chain");
}

#[test]
fn what_a_confirmation_does_not_say_stays_open() {
    for e in both() {
        for (demand, check) in [
            ("sign-only", "policy-sign-only"),
            ("fips=140-2:3", "policy-certified-level"),
            ("method=2", "policy-method"),
        ] {
            let mut ask = ask(&e);
            ask.require = vec![demand];
            undecided_by(&ask.about(&[e.pkc()]), check);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// The serial number is four bytes, little-endian, and nothing but the one known value of the
    /// key's bits is taken.
    #[test]
    fn what_is_written_is_what_is_read(
        serial in any::<u32>(),
        bits in proptest::collection::vec(any::<u8>(), 0..6),
    ) {
        for mut e in both() {
            e.serial = Some(serial);
            e.signer_serial = Some(serial);
            e.named_serial = serial;
            let r = answer(&e);
            accepted(&r);
            prop_assert_eq!(r.facts.serial.map(|s| s.value), Some(serial.to_string()));
            let known = bits == [0x03, 0x02, 0x04, 0xf0];
            e.key_bits = Some(bits.clone());
            prop_assert_eq!(ask(&e).accepts(&[e.pkc()]), known);
        }
    }
}
