//! Every rule of the Marvell LiquidSecurity format (Google Cloud HSM, Azure Managed HSM): evidence
//! that is accepted, and evidence it refuses.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Ask, accepted, refused_by, undecided_by};
use countersign_attestation::result::{Exportable, Known, Outcome};
use countersign_testkit_evidence::cert::{attestation_attribute, certs_only, request};
use countersign_testkit_evidence::gzip::gzip;
use countersign_testkit_evidence::hostile;
use countersign_testkit_evidence::marvell::{Marvell, attribute as a};
use countersign_testkit_evidence::text::{base64, pem};
use countersign_testkit_evidence::{Key, Kind};

fn ask(e: &Marvell) -> Ask {
    let mut ask = Ask::key(e.key.spki(), e.maker());
    ask.anchors.push(e.owner());
    ask
}

/// One change, and the check that must see it.
#[track_caller]
fn one_change(change: impl FnOnce(&mut Marvell), check: &str) {
    let mut e = Marvell::default();
    change(&mut e);
    refused_by(&ask(&e).about(&e.files()), check);
}

#[test]
fn genuine_evidence_is_accepted_with_its_facts() {
    let e = Marvell::default();
    let r = ask(&e).about(&e.files());
    accepted(&r);
    assert_eq!(r.formats, ["marvell-liquidsecurity"]);
    assert_eq!(r.facts.vendor.as_deref(), Some("Marvell"));
    assert_eq!(r.facts.generated_in_device, Known::Yes);
    assert_eq!(r.facts.exportable, Exportable::Never);
    // Google's cards set DECRYPT and UNWRAP as well.
    assert_eq!(r.facts.sign_only, Known::No);
    assert_eq!(r.facts.serial.as_ref().unwrap().value, "5.3G1953-ICM001225");
    assert_eq!(r.facts.firmware, None);
    assert_eq!(r.facts.certification, None);
    assert!(r.unused.is_empty(), "{:?}", r.unused);
    let claim = |name| {
        r.claims
            .iter()
            .find(|c| c.name == name)
            .map(|c| c.value.as_str())
    };
    assert_eq!(claim("device.partition"), Some("1"));
    assert_eq!(claim("device.mode"), Some("FIPS mode"));
    assert!(claim("device.owner").is_some());
    for kind in [
        Kind::Rsa3072,
        Kind::Rsa2048,
        Kind::P384,
        Kind::P521,
        Kind::Secp256k1,
    ] {
        let e = Marvell::of(Key::named(kind, "marvell another subject"));
        accepted(&ask(&e).about(&e.files()));
    }
}

#[test]
fn files_come_in_any_wrapping_and_order() {
    let e = Marvell::default();
    let files = e.files();
    let ask = ask(&e);
    hostile::reordered(&files, &|f| ask.accepts(f));
    hostile::with_extra(&files, b"read me", &|f| ask.accepts(f));
    let chain: String = e
        .certificates()
        .iter()
        .map(|c| pem("CERTIFICATE", c))
        .collect();
    let chain = chain.into_bytes();
    assert!(ask.accepts(&[gzip(&e.blob()), chain.clone()]));
    assert!(ask.accepts(&[e.blob(), chain.clone()]));
    assert!(ask.accepts(&[base64(&gzip(&e.blob())).into_bytes(), chain]));
    assert!(ask.accepts(&[e.blob(), certs_only(&e.certificates())]));
    let mut more = files.clone();
    more.push(e.maker());
    let r = ask.about(&more);
    accepted(&r);
    assert_eq!(r.unused.len(), 1, "{:?}", r.unused);
}

#[test]
fn evidence_may_be_inside_the_request() {
    let e = Marvell::default();
    let blob = countersign_testkit_evidence::der::octets(&gzip(&e.blob()));
    let attribute = attestation_attribute(&[("2.25.1", blob)], &e.certificates());
    let mut ask = ask(&e);
    ask.is_csr = true;
    ask.subject = request("Acme", &e.key, &[attribute]);
    accepted(&ask.about(&[]));
    ask.subject = request("Acme", &e.key, &[]);
    accepted(&ask.about(&e.files()));
    ask.subject = request("Acme", &Key::named(Kind::P256, "marvell thief"), &[]);
    refused_by(&ask.about(&e.files()), "key-bound");
}

#[test]
fn no_cut_file_is_accepted() {
    let e = Marvell::default();
    let ask = ask(&e);
    hostile::truncated(&e.files(), 1, &|f| ask.accepts(f));
    hostile::truncated(&vec![e.azure_json()], 13, &|f| ask.accepts(f));
    hostile::truncated(
        &vec![e.google_json("CAVIUM_V2_COMPRESSED", &e.name)],
        13,
        &|f| ask.accepts(f),
    );
}

#[test]
fn a_flipped_bit_is_not_accepted() {
    let e = Marvell::default();
    let ask = ask(&e);
    let mut files = e.certificates();
    files.push(e.blob());
    let (tried, kept) = hostile::flipped(&files, 3, 41, &|f| ask.accepts(f));
    assert!(tried > 500, "{tried}");
    assert!(kept.is_empty(), "{kept:?}");
}

#[test]
fn another_key_is_refused() {
    let e = Marvell::default();
    for other in [Kind::P256, Kind::Rsa3072] {
        let other = Key::named(other, "marvell swapped");
        let mut ask = Ask::key(other.spki(), e.maker());
        ask.anchors.push(e.owner());
        let r = ask.about(&e.files());
        refused_by(&r, "key-bound");
        assert_eq!(r.facts.genuine, Known::Unknown);
    }
}

#[test]
fn every_name_of_the_key_must_agree() {
    let other = Marvell::of(Key::named(Kind::P256, "marvell swapped"));
    let value = |e: &Marvell, kind| {
        let found = e.private.attributes.iter().find(|(k, _)| *k == kind);
        found.unwrap().1.clone()
    };
    for kind in [a::EKCV, a::MODULUS] {
        one_change(|e| e.private.set(kind, &value(&other, kind)), "key-bound");
        one_change(|e| e.public.set(kind, &value(&other, kind)), "key-bound");
    }
    // Another curve's number; a curve nobody knows; no point of the curve.
    one_change(
        |e| e.private.set(a::MODULUS_BITS, &[0, 0, 2, 0xca]),
        "key-bound",
    );
    one_change(
        |e| e.private.set(a::MODULUS_BITS, &[0, 0, 0, 1]),
        "key-bound",
    );
    one_change(|e| e.private.set(a::MODULUS, &[4; 65]), "key-bound");
    // Either of the two is enough; the public object alone is not.
    let mut e = Marvell::default();
    e.private.unset(a::EKCV);
    accepted(&ask(&e).about(&e.files()));
    let mut e = Marvell::default();
    e.private.unset(a::MODULUS);
    accepted(&ask(&e).about(&e.files()));
    e.private.unset(a::EKCV);
    undecided_by(&ask(&e).about(&e.files()), "key-bound");
}

#[test]
fn an_imported_key_is_refused() {
    one_change(|e| e.private.set(a::LOCAL, &[0]), "marvell-generated");
    one_change(
        |e| e.private.set(a::LOCAL, &[0]),
        "policy-generated-in-device",
    );
    one_change(|e| e.private.unset(a::LOCAL), "marvell-generated");
    one_change(|e| e.private.set(a::LOCAL, &[2]), "marvell-generated");
    one_change(|e| e.private.set(a::LOCAL, &[0, 1]), "marvell-generated");
}

#[test]
fn a_key_that_can_leave_is_refused() {
    let e = {
        let mut e = Marvell::default();
        e.private.set(a::EXTRACTABLE, &[1]);
        e
    };
    let r = ask(&e).about(&e.files());
    refused_by(&r, "marvell-not-extractable");
    refused_by(&r, "policy-exportable");
    assert_eq!(r.facts.exportable, Exportable::Wrapped);
    one_change(
        |e| e.private.set(a::NEVER_EXTRACTABLE, &[0]),
        "marvell-not-extractable",
    );
    one_change(
        |e| e.private.unset(a::EXTRACTABLE),
        "marvell-not-extractable",
    );
    one_change(|e| e.private.set(a::SENSITIVE, &[0]), "marvell-sensitive");
    one_change(
        |e| e.private.set(a::ALWAYS_SENSITIVE, &[0]),
        "marvell-sensitive",
    );
    one_change(
        |e| e.private.set(a::SPLITTABLE, &[1]),
        "marvell-not-splittable",
    );
    one_change(
        |e| e.private.set(a::IS_SPLIT, &[1]),
        "marvell-not-splittable",
    );
    let mut e = Marvell::default();
    e.private.unset(a::SPLITTABLE);
    accepted(&ask(&e).about(&e.files()));
}

#[test]
fn only_the_private_object_is_judged_and_there_is_one() {
    let e = Marvell::default();
    let rule = "marvell-one-private-object";
    let about = |blob: Vec<u8>| {
        let mut files = e.certificates();
        files.push(blob);
        ask(&e).about(&files)
    };
    accepted(&about(e.blob_of(&[&e.private])));
    accepted(&about(e.blob_of(&[&e.private, &e.public])));
    refused_by(&about(e.blob_of(&[&e.public])), rule);
    refused_by(&about(e.blob_of(&[&e.private, &e.private])), rule);
    refused_by(&about(e.blob_of(&[&e.public, &e.public])), rule);
    let mut secret = e.public.clone();
    secret.set(a::CLASS, &[4]);
    refused_by(&about(e.blob_of(&[&secret, &e.private])), rule);
    // A public object's EXTRACTABLE=1 is its nature, so it must not count for the private one.
    let mut open = e.private.clone();
    open.set(a::EXTRACTABLE, &[1]);
    refused_by(
        &about(e.blob_of(&[&e.public, &open])),
        "marvell-not-extractable",
    );
}

#[test]
fn what_is_not_known_is_refused() {
    let rule = "marvell-attributes-known";
    for kind in [0x0004, 0x0171, 0x1004, 0x8000_0001, 0x4000_0211] {
        one_change(|e| e.private.set(kind, &[0]), rule);
    }
    one_change(
        |e| e.private.set(a::EXTENDED_1, &[0, 0, 0, 0, 0, 0, 0, 6]),
        rule,
    );
    one_change(|e| e.private.set(a::EXTENDED_1, &[0; 9]), rule);
    one_change(|e| e.flags = 7, rule);
    // The public object may say what it likes of itself.
    let mut e = Marvell::default();
    e.public.set(0x0004, &[0]);
    accepted(&ask(&e).about(&e.files()));
}

#[test]
fn sign_only_is_what_the_attributes_say() {
    let mut e = Marvell::default();
    e.private.set(a::DECRYPT, &[0]);
    e.private.set(a::UNWRAP, &[0]);
    let mut ask_ = ask(&e);
    ask_.require = vec!["sign-only", "serial=5.3G1953-ICM001225"];
    accepted(&ask_.about(&e.files()));
    refused_by(&ask_.about(&Marvell::default().files()), "policy-sign-only");
    e.private.set(a::SIGN, &[0]);
    refused_by(&ask_.about(&e.files()), "policy-sign-only");
    ask_.require = vec!["serial=other"];
    refused_by(&ask_.about(&Marvell::default().files()), "policy-serial");
}

#[test]
fn the_older_layout_is_refused_with_the_reason() {
    let e = Marvell::default();
    let mut files = e.certificates();
    files.push(gzip(&e.blob_v1()));
    let r = ask(&e).about(&files);
    refused_by(&r, "marvell-statement");
    let seen = &r.check("marvell-statement").unwrap().seen;
    assert!(
        seen.contains("V1") && seen.contains("firmware 2.x"),
        "{seen}"
    );
    let json = e.google_json("CAVIUM_V1_COMPRESSED", &e.name);
    refused_by(&ask(&e).about(&[json]), "marvell-statement");
}

#[test]
fn both_chains_are_needed() {
    let e = Marvell::default();
    let blob = gzip(&e.blob());
    let certs = e.certificates();
    let about = |keep: &[usize]| {
        let mut files = vec![blob.clone()];
        files.extend(keep.iter().map(|i| certs[*i].clone()));
        ask(&e).about(&files)
    };
    undecided_by(&about(&[]), "marvell-signature");
    undecided_by(&about(&[0, 1]), "marvell-owner-chain");
    undecided_by(&about(&[2, 3]), "marvell-maker-chain");
    undecided_by(&about(&[0, 2, 3]), "marvell-maker-chain");
    undecided_by(&about(&[0, 1, 2]), "marvell-owner-card");
    undecided_by(&about(&[0, 1, 3]), "marvell-owner-chain");
    // A card's certificates without the partition's: the statement is not by any of them.
    refused_by(&about(&[1, 3]), "marvell-signature");
}

#[test]
fn a_self_made_anchor_is_no_anchor() {
    let e = Marvell::default();
    let strangers = Marvell {
        maker_key: Key::named(Kind::Rsa2048, "marvell stranger"),
        ..Marvell::default()
    };
    // Nobody trusts the maker: its root is not at hand, or at hand and no anchor.
    let mut ask_ = Ask::key(e.key.spki(), e.owner());
    undecided_by(&ask_.about(&e.files()), "marvell-maker-chain");
    let mut files = e.files();
    files.push(e.maker());
    refused_by(&ask_.about(&files), "marvell-maker-chain");
    ask_.anchors = vec![strangers.maker(), e.owner()];
    refused_by(&ask_.about(&e.files()), "marvell-maker-chain");
    // Nobody trusts the owner.
    ask_.anchors = vec![e.maker()];
    undecided_by(&ask_.about(&e.files()), "marvell-owner-chain");
    let mut files = e.files();
    files.push(e.owner());
    refused_by(&ask_.about(&files), "marvell-owner-chain");
    // A partition that certifies itself.
    let mut own = e.partition();
    own.issuer = own.subject.clone();
    let files = vec![e.blob(), own.sign(&e.partition_key)];
    refused_by(&ask(&e).about(&files), "marvell-maker-chain");
}

#[test]
fn a_look_alike_by_a_key_inside_the_card_is_refused() {
    let e = Marvell::default();
    let r = ask(&e).about(&e.look_alike());
    refused_by(&r, "marvell-maker-chain");
    assert_eq!(r.facts.genuine, Known::Unknown);
}

#[test]
fn roles_are_exact() {
    let chain = "marvell-maker-chain";
    // A card in the partition's place, and a partition in the card's.
    one_change(|e| e.partition = String::new(), chain);
    one_change(|e| e.partition = ":PARTN:x".into(), chain);
    one_change(|e| e.card = "5.3G1953 ICM001225".into(), chain);
    let e = Marvell::default();
    let with = |partition: Vec<u8>, card: Vec<u8>| {
        let mut files = e.files();
        files[1] = partition;
        files[2] = card;
        ask(&e).about(&files)
    };
    let (partition, card) = (e.partition(), e.card());
    let sign = |c: &countersign_testkit_evidence::Certificate| c.sign(&e.card_key);
    accepted(&with(sign(&partition), card.sign(&e.maker_key)));
    refused_by(
        &with(sign(&partition.clone().ca(None)), card.sign(&e.maker_key)),
        chain,
    );
    let mut authority = card.clone().ca(None);
    authority.version = 3;
    refused_by(&with(sign(&partition), authority.sign(&e.maker_key)), chain);
    // The maker's root signed the partition itself.
    let mut direct = partition.clone();
    direct.issuer = countersign_testkit_evidence::cert::cn("Test LiquidSecurity Root");
    let r = with(direct.sign(&e.maker_key), card.sign(&e.maker_key));
    assert_ne!(r.verdict, countersign_attestation::Verdict::Accept);
    // Signed by another key than the card's.
    let thief = Key::named(Kind::Rsa2048, "marvell thief");
    refused_by(
        &with(partition.sign(&thief), card.sign(&e.maker_key)),
        chain,
    );
}

#[test]
fn all_certificates_are_of_one_card() {
    let neighbour = |n: &str| Some(format!("HSM:{n}, for FIPS mode"));
    let rule = "marvell-one-card";
    one_change(
        |e| e.owner_partition = neighbour("5.3G1953-ICM001226:PARTN:1"),
        rule,
    );
    one_change(
        |e| e.owner_partition = neighbour("5.3G1953-ICM001225:PARTN:2"),
        rule,
    );
    one_change(
        |e| e.owner_card_key = Key::named(Kind::Rsa2048, "marvell other card"),
        "marvell-owner-card",
    );
    // The partition's certificate names another card than its issuer does.
    let e = Marvell::default();
    let other = Marvell {
        card: "5.3G1953-ICM000001".into(),
        ..Marvell::default()
    };
    let mut files = e.files();
    let mut partition = e.partition();
    partition.subject = other.partition().subject;
    files[1] = partition.sign(&e.card_key);
    refused_by(&ask(&e).about(&files), rule);
}

#[test]
fn certificates_are_valid_at_the_time_of_appraisal() {
    let chain = "marvell-maker-chain";
    one_change(
        |e| e.card_dates = ("200101000000Z".into(), "250101000000Z".into()),
        chain,
    );
    one_change(
        |e| e.card_dates = ("300101000000Z".into(), "491231235959Z".into()),
        chain,
    );
    let e = Marvell::default();
    for at in [1_500_000_000, 2_600_000_000] {
        let mut ask = ask(&e);
        ask.at = at;
        refused_by(&ask.about(&e.files()), chain);
    }
}

#[test]
fn google_s_json_is_read_and_its_name_compared() {
    let e = Marvell::default();
    let json = |name: &str| e.google_json("CAVIUM_V2_COMPRESSED", name);
    let r = ask(&e).about(&[json(&e.name)]);
    accepted(&r);
    assert_eq!(
        r.check("marvell-resource-name").unwrap().outcome,
        Outcome::Pass
    );
    let other = e.name.replace("/1", "/2");
    refused_by(&ask(&e).about(&[json(&other)]), "marvell-resource-name");
    refused_by(
        &ask(&e).about(&[b"{\"format\":\"CAVIUM_V2_COMPRESSED\"}".to_vec()]),
        "marvell-statement",
    );
}

#[test]
fn azure_s_json_is_read_and_its_own_root_has_no_weight() {
    let e = Marvell::default();
    let r = ask(&e).about(&[e.azure_json()]);
    accepted(&r);
    assert_eq!(r.facts.serial.as_ref().unwrap().value, "5.3G1953-ICM001225");
    assert_eq!(
        r.check("marvell-owner-chain").unwrap().outcome,
        Outcome::NotChecked
    );
    assert!(
        !r.claims.iter().any(|c| c.name == "device.owner"),
        "{:?}",
        r.claims
    );
    // Without the maker's root that self-signed certificate is all there is.
    let nobody = Ask::key(e.key.spki(), e.owner());
    refused_by(&nobody.about(&[e.azure_json()]), "marvell-maker-chain");
    let mut e = Marvell::default();
    e.private.set(a::LOCAL, &[0]);
    refused_by(&ask(&e).about(&[e.azure_json()]), "marvell-generated");
    // The two blobs are about two keys.
    let e = Marvell {
        public: Marvell::of(Key::named(Kind::P256, "marvell swapped")).public,
        ..Marvell::default()
    };
    refused_by(&ask(&e).about(&[e.azure_json()]), "key-bound");
}

#[test]
fn the_key_that_azure_s_json_shows_is_the_one_in_question() {
    let rsa = Marvell::of(Key::named(Kind::Rsa2048, "marvell rsa subject"));
    let r = ask(&rsa).about(&[rsa.azure_json()]);
    accepted(&r);
    let shown = r.check("marvell-shown-key").unwrap();
    assert_eq!(shown.outcome, Outcome::Pass);
    for other in [
        Key::named(Kind::P256, "marvell shown"),
        Key::named(Kind::Rsa2048, "marvell shown"),
    ] {
        for key in [Kind::P256, Kind::Rsa2048] {
            let e = Marvell {
                shown: Some(other.clone()),
                ..Marvell::of(Key::named(key, "marvell rsa subject"))
            };
            refused_by(&ask(&e).about(&[e.azure_json()]), "marvell-shown-key");
        }
    }
}

#[test]
fn a_key_that_google_says_is_in_no_hsm_is_refused() {
    let e = Marvell::default();
    let json = e.google_json("CAVIUM_V2_COMPRESSED", &e.name);
    let text = String::from_utf8(json).unwrap();
    for level in ["SOFTWARE", "EXTERNAL", "ISM"] {
        let text = text.replace("\"HSM\"", &format!("\"{level}\""));
        refused_by(&ask(&e).about(&[text.into_bytes()]), "marvell-statement");
    }
}

#[test]
fn there_is_no_nonce_in_it() {
    let e = Marvell::default();
    let mut ask = ask(&e);
    ask.nonce = Some(vec![1; 16]);
    undecided_by(&ask.about(&e.files()), "freshness");
}

/// With the pinned roots, which testkit cannot sign for.
#[test]
fn google_s_own_roots_demand_all_four_certificates() {
    let Some(folder) = common::shared("marvell-liquidsecurity/google-kms-ec-p256-fullchain") else {
        return;
    };
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let blob = read("attestation.dat.gz");
    let chain = String::from_utf8(read("certificate-chain.pem")).unwrap();
    let end = "-----END CERTIFICATE-----";
    let certs: Vec<String> = chain.split_inclusive(end).map(str::to_owned).collect();
    let mut ask = Ask::key(&read("attested-public-key.pem"), Vec::new());
    ask.anchors.clear();
    let about = |keep: &[usize]| {
        let kept: String = keep.iter().map(|i| certs[*i].as_str()).collect();
        ask.about(&[blob.clone(), kept.into_bytes()])
    };
    accepted(&about(&[0, 1, 2, 3]));
    accepted(&about(&[3, 1, 0, 2]));
    undecided_by(&about(&[0, 1, 2]), "marvell-owner-card");
    undecided_by(&about(&[0, 1, 3]), "marvell-owner-chain");
    undecided_by(&about(&[0, 2, 3]), "marvell-maker-chain");
    undecided_by(&about(&[1, 2, 3]), "marvell-maker-chain");
    // The owner's root, added for all product lines, is still no maker.
    let root = folder.join("../roots/google-hawksbill-root-v1-prod.pem");
    let mut owners = Ask::key(
        &read("attested-public-key.pem"),
        std::fs::read(root).unwrap(),
    );
    owners.at = ask.at;
    let owned: String = [&certs[0], &certs[2], &certs[3]]
        .map(String::as_str)
        .concat();
    let r = owners.about(&[blob.clone(), owned.into_bytes()]);
    undecided_by(&r, "marvell-maker-chain");
    assert_eq!(r.facts.genuine, Known::Unknown);
    // After the owner's certificates end, in 2030, nobody says who runs the card.
    ask.at = 1_900_000_000;
    refused_by(
        &ask.about(&[blob.clone(), chain.clone().into_bytes()]),
        "marvell-owner-chain",
    );
}
