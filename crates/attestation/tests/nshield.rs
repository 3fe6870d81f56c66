//! Every rule of the nShield format: bundles that are accepted, and bundles it refuses.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Ask, accepted, refused_by, undecided_by};
use countersign_attestation::result::{Exportable, Known};
use countersign_testkit_evidence::nshield::{
    Bundle, KRE, Spec, Words, World, archive_blob, group, group_with, module_blob, operations,
};
use countersign_testkit_evidence::text::{base64, base64url};
use countersign_testkit_evidence::{Key, Kind, hostile};

/// Sign, with what comes beside it in the field (duplicate, certificate, ACL).
const SIGN: u32 = 0x302b;
const KM: [u8; 20] = countersign_testkit_evidence::nshield::KM;

fn spec() -> Spec {
    Spec::new(Key::named(Kind::Rsa2048, "nshield subject"))
}

fn ask(spec: &Spec, world: &World) -> Ask {
    Ask::key(spec.key.spki(), world.root.spki().to_vec())
}

fn answer(spec: &Spec, world: &World) -> countersign_attestation::AttestationResult {
    ask(spec, world).about(&[spec.bundle(world).json()])
}

/// One change to what the module states, and the check that must see it.
#[track_caller]
fn one_change(change: impl FnOnce(&mut Spec), check: &str) {
    let mut spec = spec();
    change(&mut spec);
    refused_by(&answer(&spec, &World::ecdsa()), check);
}

/// One change to the bundle, nothing signed anew.
#[track_caller]
fn one_member(change: impl FnOnce(Bundle) -> Bundle, check: &str) {
    let (spec, world) = (spec(), World::ecdsa());
    let bundle = change(spec.bundle(&world));
    refused_by(&ask(&spec, &world).about(&[bundle.json()]), check);
}

#[test]
fn genuine_evidence_is_accepted_with_its_facts() {
    for world in [World::dsa(), World::ecdsa()] {
        for kind in [Kind::Rsa2048, Kind::Rsa3072, Kind::P256] {
            let spec = Spec::new(Key::named(kind, "nshield subject"));
            let r = answer(&spec, &world);
            accepted(&r);
            assert_eq!(r.formats, ["nshield"]);
            assert_eq!(r.facts.generated_in_device, Known::Yes);
            assert_eq!(r.facts.exportable, Exportable::Never);
            assert_eq!(r.facts.sign_only, Known::Yes);
            assert_eq!(r.facts.serial.as_ref().unwrap().value, "1111-2222-3333");
            let certified = r.facts.certification.as_ref().unwrap();
            assert_eq!(certified.scheme, "FIPS140 2 level 3");
            assert_eq!(certified.number, None);
            // The warrant's word has no certificate number: it is no certification.
            assert!(r.supports_methods.is_empty());
            assert!(r.unused.is_empty() && r.weaknesses.is_empty());
        }
    }
}

#[test]
fn the_file_comes_as_it_is_or_in_base64() {
    let (spec, world) = (spec(), World::ecdsa());
    let ask = ask(&spec, &world);
    let json = spec.bundle(&world).json();
    hostile::with_extra(&vec![json.clone()], b"read me", &|f| ask.accepts(f));
    assert!(ask.accepts(&[base64(&json).into_bytes()]));
    let marked = [&[0xef, 0xbb, 0xbf][..], &json].concat();
    assert!(ask.accepts(&[marked]));
    let mut shuffled = spec.bundle(&world);
    shuffled.0.reverse();
    assert!(ask.accepts(&[shuffled.json()]));
    // Padding, and members nobody needs.
    let padded = spec.bundle(&world);
    let hkm = format!("{}=", padded.get("hkm"));
    assert_eq!(hkm.len() % 4, 1, "no padding belongs there");
    let bundle = spec.bundle(&world).with("comment", "mine");
    assert!(ask.accepts(&[bundle.json()]));
}

#[test]
fn no_cut_file_is_accepted() {
    let (spec, world) = (spec(), World::ecdsa());
    let ask = ask(&spec, &world);
    let json = spec.bundle(&world).json();
    hostile::truncated(&vec![json], 1, &|f| ask.accepts(f));
}

#[test]
fn no_cut_member_is_accepted() {
    let (spec, world) = (spec(), World::ecdsa());
    let ask = ask(&spec, &world);
    let whole = spec.bundle(&world);
    for (name, value) in &whole.0 {
        for length in 0..value.len() {
            let cut = whole.clone().with(name, &value[..length]);
            assert!(!ask.accepts(&[cut.json()]), "{name} cut to {length}");
        }
        if !name.starts_with("hkfips") {
            let less = whole.clone().without(name);
            assert!(!ask.accepts(&[less.json()]), "without {name}");
        }
    }
}

#[test]
fn a_flipped_bit_is_not_accepted() {
    let (spec, world) = (spec(), World::ecdsa());
    let ask = ask(&spec, &world);
    let json = spec.bundle(&world).json();
    let (tried, kept) = hostile::flipped(&vec![json], 3, 97, &|f| ask.accepts(f));
    assert!(tried > 100, "{tried}");
    assert!(kept.is_empty(), "{kept:?}");
}

#[test]
fn a_member_given_twice_is_refused() {
    let (spec, world) = (spec(), World::dsa());
    let bundle = spec.bundle(&world);
    let text = String::from_utf8(bundle.json()).unwrap();
    let twice = format!(
        "{},\"hkm\":\"{}\"}}",
        text.trim_end_matches('}'),
        bundle.get("hkm")
    );
    refused_by(
        &ask(&spec, &world).about(&[twice.into_bytes()]),
        "nshield-bundle",
    );
}

#[test]
fn another_key_is_refused() {
    let (spec, world) = (spec(), World::ecdsa());
    let other = Key::named(Kind::Rsa2048, "swapped");
    let ask_other = Ask::key(other.spki(), world.root.spki().to_vec());
    let r = ask_other.about(&[spec.bundle(&world).json()]);
    refused_by(&r, "key-bound");
    assert_eq!(r.facts.serial, None);
    // The other key's data put in: then the module did not generate it.
    let theirs = Spec::new(other).bundle(&world);
    let swapped = spec
        .bundle(&world)
        .with("pubkeydata", theirs.get("pubkeydata"));
    refused_by(&ask_other.about(&[swapped.json()]), "nshield-key-hash");
    one_change(|s| s.generated_hash = Some([7; 20]), "nshield-key-hash");
    // Parameters of another key.
    one_change(
        |s| s.generated_as = Words::new().u32(2).u32(4).u32(3072),
        "nshield-key-hash",
    );
    one_change(
        |s| s.generated_as = Words::new().u32(45).u32(4),
        "nshield-key-hash",
    );
}

#[test]
fn a_key_that_was_not_generated_is_refused() {
    // A message of another type, signed by the module all the same.
    for kind in [1, 3, 4] {
        one_change(|s| s.message_type = kind, "nshield-bundle");
    }
}

#[test]
fn signatures_are_by_the_right_keys() {
    let (spec, world) = (spec(), World::ecdsa());
    let thief = World {
        root: Key::named(Kind::P521, "thief root"),
        delegate: Key::named(Kind::P521, "thief delegate"),
        klf2: Key::named(Kind::P521, "thief klf2"),
        ..World::dsa()
    };
    let theirs = spec.bundle(&thief);
    for (member, check) in [
        ("warrant", "nshield-warrant"),
        ("modstatesig", "nshield-module-state"),
        ("knsopub", "nshield-security-officer"),
        ("CertKMaKMCbKNSO", "nshield-world-binding"),
        ("kcsig", "nshield-key-generation"),
    ] {
        one_member(|b| b.with(member, theirs.get(member)), check);
    }
    // A state that the thief's module signed, whole: the warrant is for another module's key.
    one_member(
        |b| {
            [
                "modstatemsg",
                "modstatesig",
                "kcsig",
                "knsopub",
                "CertKMaKMCbKNSO",
            ]
            .into_iter()
            .fold(b, |b, m| b.with(m, theirs.get(m)))
        },
        "nshield-module-state",
    );
    // All of it the thief's: a self-made anchor.
    let r = ask(&spec, &world).about(&[theirs.json()]);
    refused_by(&r, "nshield-warrant");
    assert_eq!(r.facts.genuine, Known::Unknown);
}

#[test]
fn a_key_in_the_module_delegates_to_nobody() {
    one_change(|s| s.delegated_by_module = true, "nshield-bundle");
    // The last certificate is a delegation.
    one_change(|s| s.warrant_type = "Delegation", "nshield-bundle");
    one_change(|s| s.warrant_type = "Other", "nshield-bundle");
}

#[test]
fn a_root_that_is_not_at_hand_leaves_it_open() {
    let (spec, world) = (spec(), World::ecdsa());
    let mut nobody = ask(&spec, &world);
    nobody.anchors.clear();
    // KWARN-1 is pinned, and did not sign this.
    refused_by(
        &nobody.about(&[spec.bundle(&world).json()]),
        "nshield-warrant",
    );
    one_member(|b| b.with("root", "KWARN-2"), "nshield-warrant");
    let renamed = Spec {
        root_name: "KWARN-2",
        ..spec.clone()
    };
    undecided_by(
        &nobody.about(&[renamed.bundle(&world).json()]),
        "nshield-warrant",
    );
    accepted(&answer(&renamed, &world));
}

#[test]
fn the_module_is_the_warrant_s() {
    one_change(|s| s.state_esn = "9999-2222-3333", "nshield-module-state");
    one_change(
        |s| s.state_hknso = Some([9; 20]),
        "nshield-security-officer",
    );
    one_change(|s| s.module_keys = vec![[0xaa; 20]], "nshield-module-key");
    // An attribute nobody knows, and one given twice.
    one_change(
        |s| s.state_extra = (1, Words::new().u32(99).u32(0)),
        "nshield-bundle",
    );
    one_change(
        |s| s.state_extra = (1, Words::new().u32(2).text("x")),
        "nshield-bundle",
    );
    let mut ask = ask(&spec(), &World::ecdsa());
    ask.require = vec!["serial=1111-2222-3333"];
    let bundle = spec().bundle(&World::ecdsa()).json();
    accepted(&ask.about(std::slice::from_ref(&bundle)));
    ask.require.push("serial=1");
    refused_by(&ask.about(&[bundle]), "policy-serial");
}

#[test]
fn a_field_upgrade_warrant_is_a_weakness_and_a_matter_of_policy() {
    let spec = Spec {
        warrant_type: "FieldUpgradeModuleInformation",
        ..spec()
    };
    let r = answer(&spec, &World::ecdsa());
    accepted(&r);
    let known = r.weaknesses[0].known.as_ref().unwrap();
    assert_eq!(known.id, "nshield-field-upgrade-warrant");
    assert!(known.concerns_this_key && !known.disqualifying);
}

#[test]
fn a_fips_level_3_world_is_bound_by_its_own_certificate() {
    let (mut spec, world) = (spec(), World::ecdsa());
    let plain = spec.bundle(&world);
    spec.fips_world = true;
    let r = answer(&spec, &world);
    accepted(&r);
    let says = |value: &str| {
        r.claims
            .iter()
            .any(|c| c.name == "world.fips-140-level-3-mode" && c.value == value)
    };
    assert!(says("yes"));
    let fips = spec.bundle(&world);
    let ask = ask(&spec, &world);
    // A plain world's certificate in a FIPS world's place, both, none, and no FIPS key.
    let name = "CertKMaKMCaKFIPSbKNSO";
    let swapped = fips.clone().with(name, plain.get("CertKMaKMCbKNSO"));
    refused_by(&ask.about(&[swapped.json()]), "nshield-world-binding");
    let both = fips
        .clone()
        .with("CertKMaKMCbKNSO", plain.get("CertKMaKMCbKNSO"));
    refused_by(&ask.about(&[both.json()]), "nshield-bundle");
    refused_by(
        &ask.about(&[fips.clone().without(name).json()]),
        "nshield-bundle",
    );
    refused_by(
        &ask.about(&[fips.without("hkfips").json()]),
        "nshield-bundle",
    );
}

#[test]
fn the_cipher_suite_is_signed() {
    one_member(
        |b| b.with("ciphersuite", "DLf3072s256mAES"),
        "nshield-world-binding",
    );
    one_member(
        |b| b.with("ciphersuite", "DLf3072\\u0000"),
        "nshield-bundle",
    );
    one_member(|b| b.with("ciphersuite", ""), "nshield-bundle");
}

#[test]
fn what_lets_the_key_out_is_refused() {
    for (bit, way) in [
        (0x4, Exportable::Plain),
        (0x10, Exportable::Unknown),
        (0x40, Exportable::Unknown),
        (0x800, Exportable::Unknown),
        (0x4000, Exportable::Unknown),
        // Not known.
        (0x1_0000, Exportable::Unknown),
        (0x8000_0000, Exportable::Unknown),
    ] {
        let mut spec = spec();
        spec.groups.push(group(&[operations(SIGN | bit)]));
        let r = answer(&spec, &World::ecdsa());
        refused_by(&r, "nshield-acl");
        assert_eq!(r.facts.exportable, way, "{bit:#x}");
    }
}

#[test]
fn decryption_and_unwrapping_take_away_sign_only() {
    for bit in [0x80, 0x100, 0x400] {
        let mut spec = spec();
        spec.groups = vec![group(&[operations(SIGN | bit)])];
        let mut ask = ask(&spec, &World::ecdsa());
        let bundle = spec.bundle(&World::ecdsa()).json();
        let r = ask.about(std::slice::from_ref(&bundle));
        accepted(&r);
        assert_eq!(r.facts.sign_only, Known::No);
        ask.require = vec!["sign-only"];
        refused_by(&ask.about(&[bundle]), "policy-sign-only");
    }
    let mut ask = ask(&spec(), &World::ecdsa());
    ask.require = vec!["sign-only"];
    accepted(&ask.about(&[spec().bundle(&World::ecdsa()).json()]));
}

#[test]
fn working_blobs_stay_under_the_world_s_module_key() {
    let token = |flags: u32, km: &[u8; 20]| {
        // Module key and the token's parameters.
        let words = Words::new().u32(2).u32(flags | 0x14).raw(km);
        words.u32(4).u32(1).u32(1).u32(0)
    };
    let mut by_token = spec();
    by_token.groups.push(group(&[token(0, &KM)]));
    accepted(&answer(&by_token, &World::ecdsa()));
    for action in [
        module_blob(&[0x77; 20]),
        // Any module key.
        Words::new().u32(2).u32(0x3),
        // Neither module nor token.
        Words::new().u32(2).u32(0x4).raw(&KM),
        // A token that needs no module key.
        token(0x20, &KM),
        token(0, &[0x77; 20]),
    ] {
        let mut spec = spec();
        spec.groups.push(group(&[action]));
        let r = answer(&spec, &World::ecdsa());
        refused_by(&r, "nshield-acl");
        assert_eq!(r.facts.exportable, Exportable::Wrapped);
    }
}

#[test]
fn recovery_is_reported_and_a_matter_of_policy() {
    let world = World::dsa();
    let hknso = world.knso.hash();
    let by_officer = group_with(
        1,
        &[operations(0x207d), archive_blob(None)],
        &Words::new().raw(&hknso),
    );
    let by_blob = group(&[archive_blob(Some(&KRE))]);
    for groups in [
        vec![by_officer.clone()],
        vec![by_blob.clone()],
        vec![by_officer, by_blob],
    ] {
        let mut spec = spec();
        spec.recovery = true;
        spec.groups.extend(groups);
        let mut ask = ask(&spec, &world);
        let bundle = spec.bundle(&world).json();
        let r = ask.about(std::slice::from_ref(&bundle));
        accepted(&r);
        assert_eq!(r.facts.exportable, Exportable::Recoverable);
        ask.require = vec!["not-recoverable"];
        refused_by(&ask.about(&[bundle]), "policy-exportable");
    }
    let mut strict = ask(&spec(), &world);
    strict.require = vec!["not-recoverable"];
    accepted(&strict.about(&[spec().bundle(&world).json()]));
}

#[test]
fn an_archive_goes_to_the_certified_recovery_key_alone() {
    let world = World::ecdsa();
    // To anybody, to another key, and to KRE in a world that certifies none.
    for (to, recovery) in [(None, true), (Some([0x66; 20]), true), (Some(KRE), false)] {
        let mut spec = spec();
        spec.recovery = recovery;
        spec.groups.push(group(&[archive_blob(to.as_ref())]));
        let r = answer(&spec, &world);
        refused_by(&r, "nshield-acl");
        assert_eq!(r.facts.exportable, Exportable::Wrapped);
    }
    // A recovery key that the Security Officer did not certify.
    let mut spec = spec();
    spec.recovery = true;
    spec.groups.push(group(&[archive_blob(Some(&[0x66; 20]))]));
    let own = base64url(&Words::new().u32(44).raw(&[0x66; 20]).0);
    let bundle = spec.bundle(&world).with("hkre", &own);
    refused_by(
        &ask(&spec, &world).about(&[bundle.json()]),
        "nshield-recovery-keys",
    );
    for member in ["hkre", "hkra", "CertKREaKRAbKNSO"] {
        let less = spec.bundle(&world).without(member);
        refused_by(&ask(&spec, &world).about(&[less.json()]), "nshield-bundle");
    }
}

#[test]
fn a_group_is_certified_by_the_security_officer_or_nobody() {
    let world = World::ecdsa();
    let mut spec = spec();
    spec.groups.push(group_with(
        1,
        &[operations(SIGN)],
        &Words::new().raw(&[0x55; 20]),
    ));
    refused_by(&answer(&spec, &world), "nshield-acl");
    // Fresh certificates that nobody is named to give.
    one_change(
        |s| {
            s.groups
                .push(group_with(2, &[operations(SIGN)], &Words::new()))
        },
        "nshield-bundle",
    );
}

#[test]
fn what_is_not_known_ends_the_reading() {
    let unknown_action = Words::new().u32(9).u32(0);
    let unknown_blob_flag = Words::new().u32(2).u32(0x87).raw(&KM);
    let unknown_archive_flag = Words::new().u32(3).u32(0x4).u32(225);
    let derive_with_key = Words::new().u32(5).u32(0).u32(0).u32(29).u32(1).raw(&KM);
    for action in [
        unknown_action,
        unknown_blob_flag,
        unknown_archive_flag,
        derive_with_key,
    ] {
        one_change(|s| s.groups.push(group(&[action])), "nshield-bundle");
    }
    for flag in [0x10, 0x20, 0x80, 0x8000_0000] {
        one_change(
            |s| {
                s.groups
                    .push(group_with(flag, &[operations(SIGN)], &Words::new()))
            },
            "nshield-bundle",
        );
    }
    // A use limit nobody knows.
    one_change(
        |s| {
            let limit = Words::new().u32(0).u32(1).u32(2).u32(0).u32(0);
            s.groups.push(limit);
        },
        "nshield-bundle",
    );
    // Generation parameters nobody knows.
    one_change(
        |s| s.generated_as = Words::new().u32(99).u32(0),
        "nshield-bundle",
    );
}

#[test]
fn deriving_the_public_key_is_harmless_and_nothing_else_is() {
    let derive = |mechanism| group(&[Words::new().u32(5).u32(0).u32(0).u32(mechanism).u32(0)]);
    let mut harmless = spec();
    harmless.groups.push(derive(29));
    accepted(&answer(&harmless, &World::ecdsa()));
    for mechanism in [0, 1, 28, 30] {
        one_change(|s| s.groups.push(derive(mechanism)), "nshield-acl");
    }
}

#[test]
fn use_limits_are_read_past() {
    let world = World::ecdsa();
    let mut spec = spec();
    let limits = Words::new()
        .u32(0)
        .u32(3)
        .u32(1)
        .raw(&[1; 20])
        .u32(5)
        .u32(3)
        .u32(600)
        .u32(6)
        .raw(&[2; 20])
        .u32(5);
    spec.groups = vec![
        limits.u32(1).raw(&operations(SIGN).0),
        group(&[module_blob(&KM)]),
    ];
    let r = answer(&spec, &world);
    accepted(&r);
    assert_eq!(r.facts.sign_only, Known::Yes);
}

#[test]
fn time_and_freshness_are_not_in_a_bundle() {
    let (spec, world) = (spec(), World::ecdsa());
    let mut ask = ask(&spec, &world);
    for at in [0, 4_000_000_000] {
        ask.at = at;
        accepted(&ask.about(&[spec.bundle(&world).json()]));
    }
    ask.nonce = Some(vec![1]);
    undecided_by(&ask.about(&[spec.bundle(&world).json()]), "freshness");
}

proptest::proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300),
    ) {
        use countersign_attestation::vendor::nshield as n;
        let _ = n::Bundle::parse(&bytes);
        let _ = n::D3sValue::decode(&bytes);
        let _ = n::Warrant::decode(&bytes);
        // As far as the types go, so that what follows them is reached.
        for head in [[2u32, 0, 2], [4, 0, 1], [2, 0, 45]] {
            let mut message: Vec<u8> = head.iter().flat_map(|w| w.to_le_bytes()).collect();
            message.extend(&bytes);
            let _ = n::KeyGeneration::decode(&message);
            let _ = n::ModuleState::decode(&message);
        }
    }
}
