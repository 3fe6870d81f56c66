//! Every rule of the Securosys Primus format: evidence that is accepted, and evidence it refuses.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Ask, accepted, refused_by, undecided_by};
use countersign_attestation::result::{Basis, Exportable, Known};
use countersign_testkit_evidence::cert::{attestation_attribute, request};
use countersign_testkit_evidence::keys::Scheme;
use countersign_testkit_evidence::securosys::Securosys;
use countersign_testkit_evidence::text::{base64, pem};
use countersign_testkit_evidence::{Certificate, Key, Kind, hostile};

fn ask(e: &Securosys) -> Ask {
    Ask::key(e.key.spki(), e.root())
}

/// One change, and the check that must see it.
#[track_caller]
fn one_change(change: impl FnOnce(&mut Securosys), check: &str) {
    let mut e = Securosys::default();
    change(&mut e);
    refused_by(&ask(&e).about(&e.files()), check);
}

#[test]
fn genuine_evidence_is_accepted_with_its_facts() {
    let e = Securosys::default();
    let r = ask(&e).about(&e.files());
    accepted(&r);
    assert_eq!(r.formats, ["securosys-primus"]);
    assert_eq!(r.facts.generated_in_device, Known::Yes);
    assert_eq!(r.facts.exportable, Exportable::Never);
    assert_eq!(r.facts.sign_only, Known::Yes);
    assert_eq!(r.facts.serial.as_ref().unwrap().value, "18386101");
    assert_eq!(r.facts.model.as_deref(), Some("Primus HSM"));
    assert_eq!(r.facts.firmware, None);
    assert_eq!(
        r.facts.evidence_time.unwrap().to_string(),
        "2025-10-18T20:19:33Z"
    );
    assert!(r.unused.is_empty(), "{:?}", r.unused);
    assert!(r.weaknesses.is_empty());
    for kind in [Kind::Rsa3072, Kind::Ed25519] {
        let e = Securosys::of(Key::named(kind, "securosys another subject"));
        accepted(&ask(&e).about(&e.files()));
    }
}

#[test]
fn files_come_in_any_wrapping_and_order() {
    let e = Securosys::default();
    let files = e.files();
    let ask = ask(&e);
    hostile::reordered(&files, &|f| ask.accepts(f));
    hostile::with_extra(&files, b"read me", &|f| ask.accepts(f));
    // What the vendor's archive holds: the chain in one file, the attestation's public key.
    let chain = files[2..]
        .iter()
        .map(|c| pem("CERTIFICATE", c))
        .collect::<String>();
    let archive = vec![
        files[0].clone(),
        base64(&files[1]).into_bytes(),
        chain.into_bytes(),
        pem("PUBLIC KEY", e.attestation_key.spki()).into_bytes(),
    ];
    let r = ask.about(&archive);
    accepted(&r);
    assert_eq!(r.unused.len(), 1, "{:?}", r.unused);
    assert_eq!(r.unused[0].name, "file-3");
}

#[test]
fn the_request_binds() {
    let e = Securosys::default();
    let mut ask = ask(&e);
    ask.is_csr = true;
    ask.subject = request("Acme", &e.key, &[]);
    accepted(&ask.about(&e.files()));
    // Statement and signature inside the request, the certificates as the bundle's.
    let octets = countersign_testkit_evidence::der::octets;
    let files = e.files();
    let statements = [("2.25.1", octets(&files[0])), ("2.25.2", octets(&files[1]))];
    let attribute = attestation_attribute(&statements, &files[2..]);
    ask.subject = request("Acme", &e.key, &[attribute]);
    accepted(&ask.about(&[]));
    ask.subject = request("Acme", &Key::named(Kind::P256, "securosys thief"), &[]);
    let r = ask.about(&e.files());
    refused_by(&r, "key-bound");
    assert_eq!(r.facts.genuine, Known::Unknown);
}

#[test]
fn no_cut_file_is_accepted() {
    let e = Securosys::default();
    let ask = ask(&e);
    hostile::truncated(&e.files(), 1, &|f| ask.accepts(f));
}

#[test]
fn a_flipped_bit_is_not_accepted() {
    let e = Securosys::default();
    let ask = ask(&e);
    let (tried, kept) = hostile::flipped(&e.files(), 3, 41, &|f| ask.accepts(f));
    assert!(tried > 500, "{tried}");
    assert!(kept.is_empty(), "{kept:?}");
}

#[test]
fn the_exact_bytes_are_signed() {
    let e = Securosys::default();
    let files = e.files();
    let text = String::from_utf8(files[0].clone()).unwrap();
    for other in [
        text.replace('\n', "\r\n"),
        text.replace('\t', "  "),
        text.trim_end().to_owned(),
        text.replace("creation=\"generated\"", "creation='generated'"),
        format!("\u{feff}{text}"),
    ] {
        let mut changed = files.clone();
        changed[0] = other.into_bytes();
        refused_by(&ask(&e).about(&changed), "securosys-signature");
    }
    // Another statement's signature.
    let mut other = e.clone();
    other.element("label", "another");
    let mut changed = files.clone();
    changed[1] = other.files()[1].clone();
    refused_by(&ask(&e).about(&changed), "securosys-signature");
    // Both signatures at hand: the right one counts.
    changed[1] = files[1].clone();
    changed.push(other.files()[1].clone());
    accepted(&ask(&e).about(&changed));
}

#[test]
fn pss_is_read_and_said_to_be_from_documentation() {
    let e = Securosys {
        scheme: Scheme::PssSha256,
        ..Securosys::default()
    };
    let r = ask(&e).about(&e.files());
    accepted(&r);
    let check = r.check("securosys-signature").unwrap();
    assert_eq!(check.basis, Basis::FromDocumentation);
    let e = Securosys {
        scheme: Scheme::RsaSha384,
        ..Securosys::default()
    };
    refused_by(&ask(&e).about(&e.files()), "securosys-signature");
}

#[test]
fn only_generated_keys_are_taken() {
    for attributes in [
        r#" creation="imported""#,
        r#" creation="unwrapped""#,
        r#" creation="derived""#,
        r#" creation="Generated""#,
        r#" creation="""#,
        "",
    ] {
        one_change(
            |e| e.root_attributes = attributes.into(),
            "securosys-generated",
        );
    }
    let outside = r#" creation="generated" storage="external""#;
    one_change(
        |e| e.root_attributes = outside.into(),
        "securosys-kept-in-device",
    );
    one_change(|e| e.root_attributes = outside.into(), "policy-exportable");
}

#[test]
fn a_key_that_can_leave_is_refused() {
    for (name, value, check) in [
        ("extractable", "true", "securosys-not-extractable"),
        ("never_extractable", "false", "securosys-not-extractable"),
        ("sensitive", "false", "securosys-sensitive"),
        ("always_sensitive", "false", "securosys-sensitive"),
        ("copyable", "true", "securosys-not-copyable"),
    ] {
        one_change(|e| e.flag(name, value), check);
        one_change(|e| e.attributes.retain(|(n, _)| n != name), check);
    }
    let mut e = Securosys::default();
    e.flag("copyable", "true");
    assert_eq!(
        ask(&e).about(&e.files()).facts.exportable,
        Exportable::Wrapped
    );
}

#[test]
fn sign_only_can_be_demanded() {
    let mut ask_ = ask(&Securosys::default());
    ask_.require = vec!["sign-only", "serial=18386101"];
    accepted(&ask_.about(&Securosys::default().files()));
    for other in ["decrypt", "unwrap", "derive"] {
        let mut e = Securosys::default();
        e.flag(other, "true");
        accepted(&ask(&e).about(&e.files()));
        refused_by(&ask_.about(&e.files()), "policy-sign-only");
    }
    let mut e = Securosys::default();
    e.flag("sign", "false");
    refused_by(&ask_.about(&e.files()), "policy-sign-only");
    ask_.require = vec!["serial=18386102"];
    refused_by(&ask_.about(&Securosys::default().files()), "policy-serial");
}

#[test]
fn modifiable_is_said_as_a_weakness() {
    let mut e = Securosys::default();
    e.flag("modifiable", "true");
    let r = ask(&e).about(&e.files());
    accepted(&r);
    assert_eq!(r.weaknesses.len(), 1);
}

#[test]
fn what_is_not_known_is_refused() {
    let rule = "securosys-attributes-known";
    one_change(
        |e| e.attributes.push(("escrowed".into(), "false".into())),
        rule,
    );
    one_change(|e| e.more = "\t<backup>true</backup>\n".into(), rule);
    one_change(|e| e.elements.push(("escrow".into(), "no".into())), rule);
    let more = "\t<policy><rule_use><token name=\"t\"><group name=\"g\"><quorum>1</quorum></group></token></rule_use></policy>\n";
    let e = Securosys {
        more: more.into(),
        ..Securosys::default()
    };
    let r = ask(&e).about(&e.files());
    accepted(&r);
    assert!(
        r.claims
            .iter()
            .any(|c| c.name == "key.approval-rules" && c.value == "rule_use")
    );
    one_change(
        |e| e.more = more.replace("quorum", "escrow"),
        "securosys-statement",
    );
}

#[test]
fn xml_that_could_be_read_in_two_ways_is_refused() {
    let rule = "securosys-statement";
    one_change(
        |e| e.attributes.push(("extractable".into(), "true".into())),
        rule,
    );
    one_change(
        |e| e.elements.push(("public_key".into(), "AQID".into())),
        rule,
    );
    one_change(|e| e.more = "\t<!-- -->\n".into(), rule);
    one_change(|e| e.more = "\t<attributes></attributes>\n".into(), rule);
    one_change(
        |e| e.root_attributes = r#" creation="generated" xmlns="urn:x""#.into(),
        rule,
    );
    one_change(|e| e.flag("sign", "1"), rule);
    one_change(|e| e.element("label", "&x;"), rule);
    // A DTD that defines what is true.
    let e = Securosys::default();
    let text = String::from_utf8(e.xml()).unwrap();
    let dtd = "<!DOCTYPE private_key [<!ENTITY x \"false\">]>\n<private_key";
    let text = text.replace("<private_key", dtd).into_bytes();
    let mut files = e.files();
    files[1] = e.signature(&text);
    files[0] = text;
    refused_by(&ask(&e).about(&files), rule);
}

#[test]
fn the_statement_describes_its_own_key() {
    let rule = "securosys-key-described";
    one_change(|e| e.element("algorithm_oid", "1.2.840.113549.1.1.1"), rule);
    one_change(|e| e.element("curve_oid", "1.3.132.0.34"), rule);
    one_change(|e| e.element("public_key", "AQID"), rule);
    let mut e = Securosys::of(Key::named(Kind::Rsa3072, "securosys another subject"));
    e.element("key_size", "4096");
    refused_by(&ask(&e).about(&e.files()), rule);
    let other = Key::named(Kind::P256, "securosys swapped");
    one_change(
        |e| e.element("public_key", &base64(other.spki())),
        "key-bound",
    );
}

#[test]
fn times_are_in_order() {
    let rule = "securosys-attest-time";
    one_change(|e| e.element("attest_time", "2026-11-23T00:00:00Z"), rule);
    one_change(|e| e.element("create_time", "2025-10-19T00:00:00Z"), rule);
    one_change(|e| e.element("create_time", "never"), "securosys-statement");
    // A clock that runs ahead a little.
    let mut e = Securosys::default();
    e.element("attest_time", "2026-11-22T00:03:00Z");
    accepted(&ask(&e).about(&e.files()));
    // Certificates count at the time of the statement, not at that of the appraisal.
    let chain = "securosys-chain";
    one_change(|e| e.dates.1 = "20251001000000Z".into(), chain);
    one_change(|e| e.dates.0 = "20251101000000Z".into(), chain);
    let mut e = Securosys::default();
    e.dates.1 = "20260101000000Z".into();
    accepted(&ask(&e).about(&e.files()));
}

#[test]
fn development_devices_are_refused_by_name() {
    let e = Securosys {
        root_name: "SECUROSYS_ROOTKEY_DEV".into(),
        ..Securosys::default()
    };
    // Even where somebody trusts that root, and where it is not at hand.
    let r = ask(&e).about(&e.files());
    refused_by(&r, "securosys-chain");
    assert!(
        r.check("securosys-chain")
            .unwrap()
            .seen
            .contains("development")
    );
    let mut nobody = ask(&e);
    nobody.anchors.clear();
    refused_by(&nobody.about(&e.files()), "securosys-chain");
}

#[test]
fn a_self_made_anchor_is_no_anchor() {
    let e = Securosys::default();
    let mut nobody = ask(&e);
    nobody.anchors.clear();
    undecided_by(&nobody.about(&e.files()), "securosys-chain");
    let mut files = e.files();
    files.push(e.root());
    refused_by(&nobody.about(&files), "securosys-chain");
    // A root of the pinned one's name, by another key.
    let named = Securosys {
        root_name: "PRIMUS_HSM_ROOTKEY".into(),
        ..Securosys::default()
    };
    let mut files = named.files();
    files.push(named.root());
    refused_by(&nobody.about(&files), "securosys-chain");
}

#[test]
fn a_look_alike_by_a_key_inside_the_device_is_refused() {
    let e = Securosys::default();
    let r = ask(&e).about(&e.look_alike());
    refused_by(&r, "securosys-chain");
    assert_eq!(r.facts.genuine, Known::Unknown);
}

#[test]
fn roles_are_exact() {
    let chain = "securosys-chain";
    one_change(|e| e.policy = "1.3.6.1.4.1.44668.4.1.1".into(), chain);
    one_change(|e| e.path = None, chain);
    one_change(|e| e.path = Some(1), chain);
    let e = Securosys::default();
    let with = |leaf: Certificate, device: Certificate| {
        let mut files = e.files();
        files[2] = leaf.sign(&e.device_key);
        files[3] = device.sign(&e.root_key);
        ask(&e).about(&files)
    };
    accepted(&with(e.leaf(), e.device()));
    // An attestation key that is an authority, or has another name.
    let mut leaf = e.leaf();
    leaf.extensions.clear();
    refused_by(&with(leaf.clone().ca(None), e.device()), chain);
    refused_by(&with(leaf, e.device()), chain);
    let mut leaf = e.leaf();
    leaf.subject = countersign_testkit_evidence::cert::cn("audit-key");
    undecided_by(&with(leaf, e.device()), chain);
    // A device of another name; another device's certificate.
    let mut other = e.clone();
    other.serial = 7;
    let r = with(e.leaf(), other.device());
    undecided_by(&r, chain);
    let mut device = e.device();
    device.subject = countersign_testkit_evidence::cert::cn("PRIMUS HSM KEY");
    let mut leaf = e.leaf();
    leaf.issuer = device.subject.clone();
    refused_by(&with(leaf, device), chain);
    // Signed by another key.
    let thief = Key::named(Kind::Rsa3072, "securosys thief");
    let mut files = e.files();
    files[2] = e.leaf().sign(&thief);
    refused_by(&ask(&e).about(&files), chain);
}

#[test]
fn what_is_missing_leaves_it_open() {
    let e = Securosys::default();
    let files = e.files();
    let ask = ask(&e);
    let about = |keep: &[usize]| {
        let kept: Vec<_> = keep.iter().map(|i| files[*i].clone()).collect();
        ask.about(&kept)
    };
    undecided_by(&about(&[0, 2, 3]), "securosys-signature");
    undecided_by(&about(&[0, 1, 2]), "securosys-chain");
    undecided_by(&about(&[0, 1, 3]), "securosys-signature");
    undecided_by(&about(&[1, 2, 3]), "device-evidence");
    let r = about(&[0]);
    undecided_by(&r, "securosys-chain");
    assert_eq!(r.facts.generated_in_device, Known::Unknown);
}
