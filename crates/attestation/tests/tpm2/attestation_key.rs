//! The attestation key, its certificate, and what stands above it.

use super::common::{Ask, accepted, refused_by, undecided_by};
use super::{ak_certificate, ask, ca_certificate, extension};
use countersign_attestation::register::DeviceName;
use countersign_attestation::result::{Facts, Known, Outcome};
use countersign_testkit_evidence::cert::{Certificate, cn};
use countersign_testkit_evidence::tpm2::{EK_USAGE, RESTRICTED, SIGN_ONLY, Tpm2, tpm_names};
use countersign_testkit_evidence::{Key, Kind, der, hostile};

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

/// RFC 4043: the CA of the attestation key says which TPM it challenged.
#[test]
fn the_permanent_identifier_is_read_where_it_is_plain() {
    const KIND: &str = "1.3.6.1.5.5.7.8.3";
    let t = Tpm2::default();
    let other = |kind: &str, value: Vec<u8>| {
        der::context(0, &[der::oid(kind), der::context(0, &value)].concat())
    };
    let named = |names: &[Vec<u8>]| {
        let tpm = tpm_names(&t.manufacturer, &t.model, &t.version);
        // The directoryName, out of its SEQUENCE.
        let directory = tpm[2..].to_vec();
        let mut c = t.ak_certificate();
        extension(
            &mut c,
            "2.5.29.17",
            der::seq(&[&[directory], names].concat()),
        );
        let mut files = t.files();
        files[3] = c.sign(&t.ca_key);
        let r = ask(&t).about(&files);
        accepted(&r);
        r.facts
    };
    let id = |text: &str| other(KIND, der::seq(&[der::utf8(text)]));
    let facts = named(&[id("urn:ek:sha256:AAAA")]);
    assert_eq!(
        facts.permanent_identifier.as_deref(),
        Some("urn:ek:sha256:AAAA")
    );
    // A register goes by it: another attestation key of the same TPM is the same device.
    let hash = |f: &Facts| DeviceName::of(f).map(|n| n.keyed_hash(&[7; 32]));
    let mut another = facts.clone();
    another.device_key = Some("ab".repeat(32));
    assert_eq!(hash(&facts), hash(&another));
    another.permanent_identifier = None;
    assert_ne!(hash(&facts), hash(&another));
    // What is ambiguous or odd names nothing.
    for odd in [
        vec![],
        vec![id("one"), id("two")],
        vec![id("")],
        vec![id(&"x".repeat(257))],
        vec![other(KIND, der::utf8("bare"))],
        vec![other(KIND, der::seq(&[der::utf8("with"), der::oid(KIND)]))],
        vec![other(KIND, der::seq(&[]))],
        vec![other(
            "1.3.6.1.5.5.7.8.4",
            der::seq(&[der::utf8("hardware")]),
        )],
    ] {
        assert_eq!(named(&odd).permanent_identifier, None, "{odd:02x?}");
    }
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
