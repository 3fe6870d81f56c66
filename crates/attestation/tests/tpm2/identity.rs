//! A device that presents itself to a CA, and the challenge it gets.

use super::common::{Ask, NOW, accepted, shared};
use countersign_attestation::result::{Outcome, Verdict};
use countersign_attestation::vendor::tpm2::credential::{CredentialError, make_credential};
use countersign_attestation::vendor::tpm2::identity::{Identity, Presented, appraise_identity};
use countersign_attestation::vendor::tpm2::public::Public;
use countersign_attestation::verify::{File, Policy, Question, SubjectFile, verify};
use countersign_attestation::{Anchors, UnixSeconds, key::PublicKey};
use countersign_testkit_evidence::cert::{Certificate, cn, root};
use countersign_testkit_evidence::endorsement::{EK_ROOT, Endorsement};
use countersign_testkit_evidence::tpm2::{AK_USAGE, EK_USAGE, Tpm2};
use countersign_testkit_evidence::yubihsm2::YubiHsm2;
use countersign_testkit_evidence::{Key, Kind};

fn ek_root_key() -> Key {
    Key::named(Kind::P256, "ek root")
}

fn ek_roots() -> Anchors {
    let mut anchors = Anchors::none();
    let root = root(EK_ROOT, &ek_root_key());
    anchors
        .add_endorsement_roots("test EK root", &root)
        .unwrap();
    anchors
}

fn present(endorsement: &[Vec<u8>], attestation_key: &[u8], anchors: &Anchors) -> Identity {
    appraise_identity(&Presented {
        endorsement,
        attestation_key,
        anchors,
        at: UnixSeconds::new(NOW).unwrap(),
    })
}

/// What stands in the way, by the names of the checks.
fn against(identity: &Identity) -> Vec<&str> {
    let counts = |o| matches!(o, Outcome::Fail | Outcome::Unknown);
    let checks = identity.checks.iter().filter(|c| counts(c.outcome));
    checks.map(|c| c.name.as_ref()).collect()
}

#[test]
fn the_challenge_is_read_by_the_device_it_is_for_and_for_the_key_it_is_for() {
    let t = Tpm2::default();
    let secret = [0x5a; 32];
    for kind in [Kind::Rsa2048, Kind::P256, Kind::P384] {
        let ek = Endorsement::new(kind);
        let certificate = ek.certificate(&t).sign(&ek_root_key());
        let identity = present(&[certificate], &t.ak_public(), &ek_roots());
        assert_eq!(
            identity.verdict,
            Verdict::Accept,
            "{kind:?} {:#?}",
            identity.checks
        );
        let keys = identity.keys.unwrap();
        assert_eq!(keys.endorsement, PublicKey::from_spki(ek.spki()).unwrap());
        assert_eq!(keys.attestation, PublicKey::from_spki(t.ak.spki()).unwrap());
        assert_eq!(keys.device.model, "NPCT75x");
        let c = make_credential(&keys.endorsement, &keys.name, &secret).unwrap();
        let read = |ek: &Endorsement, ak: &[u8]| ek.activate(ak, &c.id_object, &c.encrypted_secret);
        assert_eq!(
            read(&ek, &t.ak_public()).as_deref(),
            Ok(&secret[..]),
            "{kind:?}"
        );
        // Another object's Name, or another device: nothing is learned.
        assert_eq!(
            read(&ek, &t.public()),
            Err("TPM_RC_INTEGRITY".to_owned()),
            "{kind:?}"
        );
        assert!(
            read(&Endorsement::new(kind), &t.ak_public()).is_err(),
            "{kind:?}"
        );
        // The seed is fresh each time.
        let again = make_credential(&keys.endorsement, &keys.name, &secret).unwrap();
        assert_ne!(again, c);
    }
}

#[test]
fn no_challenge_is_made_for_what_is_not_understood() {
    let t = Tpm2::default();
    let ek = PublicKey::from_spki(Endorsement::new(Kind::P256).spki()).unwrap();
    let area = t.ak_public();
    let name = Public::parse(&area).unwrap().name();
    for kind in [Kind::Rsa3072, Kind::P521, Kind::Ed25519] {
        let key = PublicKey::from_spki(Key::named(kind, "odd ek").spki()).unwrap();
        let refused = make_credential(&key, &name, &[1; 32]);
        assert!(
            matches!(refused, Err(CredentialError::EndorsementKey(_))),
            "{kind:?}"
        );
    }
    assert_eq!(
        make_credential(&ek, &[], &[1; 32]),
        Err(CredentialError::Name(0))
    );
    assert_eq!(
        make_credential(&ek, &[0; 67], &[1; 32]),
        Err(CredentialError::Name(67))
    );
    for size in [0, 33] {
        assert_eq!(
            make_credential(&ek, &name, &vec![1; size]),
            Err(CredentialError::Secret { size, max: 32 })
        );
    }
}

#[test]
fn a_certificate_that_is_no_endorsement_key_s_is_refused() {
    let t = Tpm2::default();
    let ek = Endorsement::new(Kind::P256);
    let try_with = |change: &dyn Fn(&mut Certificate)| {
        let mut c = ek.certificate(&t);
        change(&mut c);
        let identity = present(&[c.sign(&ek_root_key())], &t.ak_public(), &ek_roots());
        assert_eq!(
            identity.verdict == Verdict::Accept,
            against(&identity).is_empty()
        );
        against(&identity).first().map(ToString::to_string)
    };
    let chain = Some("tpm-ek-chain".to_owned());
    let drop = |oid: &'static str| move |c: &mut Certificate| c.extensions.retain(|e| e.0 != oid);
    assert_eq!(try_with(&|_| {}), None);
    // The usage may be missing; if it stands there, it must be this one.
    assert_eq!(try_with(&drop("2.5.29.37")), None);
    let other_usage = |c: &mut Certificate| {
        drop("2.5.29.37")(c);
        *c = c.clone().eku(false, &[AK_USAGE]);
    };
    assert_eq!(try_with(&other_usage), chain);
    let signs = |c: &mut Certificate| {
        drop("2.5.29.15")(c);
        *c = c.clone().with("2.5.29.15", true, vec![3, 2, 7, 0x80]);
    };
    assert_eq!(try_with(&signs), chain);
    assert_eq!(try_with(&drop("2.5.29.17")), chain);
    let ca = |c: &mut Certificate| {
        drop("2.5.29.19")(c);
        *c = c.clone().ca(None);
    };
    assert_eq!(try_with(&ca), chain);
    assert_eq!(try_with(&|c| c.not_after = "250101000000Z".into()), chain);
    assert_eq!(try_with(&|c| c.not_before = "450101000000Z".into()), chain);
    let critical = |c: &mut Certificate| *c = c.clone().with("1.2.3.4", true, vec![5, 0]);
    assert_eq!(try_with(&critical), chain);
    // An endorsement key of a size that is not known.
    let large = Key::named(Kind::Rsa3072, "large ek");
    let other_key = |c: &mut Certificate| {
        drop("2.5.29.15")(c);
        c.spki = large.spki().to_vec();
    };
    assert_eq!(try_with(&other_key), Some("tpm-ek-key".to_owned()));
}

#[test]
fn only_pinned_endorsement_roots_end_the_chain() {
    let t = Tpm2::default();
    let ek = Endorsement::new(Kind::P256);
    let certificate = ek.certificate(&t).sign(&ek_root_key());
    let own_root = root(EK_ROOT, &ek_root_key());
    let presented = [certificate.clone(), own_root.clone()];
    // Not at hand, or self-made: the makers' pinned roots are no help, and none is pinned by default.
    for anchors in [Anchors::none(), Anchors::pinned()] {
        let bare = present(&presented[..1], &t.ak_public(), &anchors);
        assert_eq!(
            (against(&bare), bare.verdict),
            (vec!["tpm-ek-chain"], Verdict::Unverifiable)
        );
        let with_root = present(&presented, &t.ak_public(), &anchors);
        assert_eq!(
            (against(&with_root), with_root.verdict),
            (vec!["tpm-ek-chain"], Verdict::Reject)
        );
    }
    // A root for attestation keys is none for endorsement keys.
    let mut anchors = Anchors::none();
    anchors.add_attestation_key_cas("ak", &own_root).unwrap();
    let wrong_line = present(&presented, &t.ak_public(), &anchors);
    assert_eq!(wrong_line.verdict, Verdict::Reject);
    // Through an intermediate.
    let ca_key = Key::named(Kind::P384, "ek ca");
    let ca = |usage: &str| {
        Certificate::new(cn("Test EK CA"), &ca_key, cn(EK_ROOT))
            .ca(Some(0))
            .eku(false, &[usage])
            .sign(&ek_root_key())
    };
    let mut c = ek.certificate(&t);
    c.issuer = cn("Test EK CA");
    let leaf = c.sign(&ca_key);
    let through = |usage| present(&[leaf.clone(), ca(usage)], &t.ak_public(), &ek_roots());
    assert_eq!(against(&through(EK_USAGE)), Vec::<&str>::new());
    assert_eq!(against(&through(AK_USAGE)), ["tpm-ek-chain"]);
    // More certificates than any device has, or none.
    for n in [0, 9] {
        let many = vec![certificate.clone(); n];
        assert_eq!(
            against(&present(&many, &t.ak_public(), &ek_roots())),
            ["tpm-ek-chain"]
        );
    }
}

#[test]
fn an_attestation_key_must_be_restricted_fixed_and_made_there() {
    let good = Tpm2::default();
    let ek = Endorsement::new(Kind::P256);
    let endorsement = [ek.certificate(&good).sign(&ek_root_key())];
    let with = |area: &[u8]| {
        let identity = present(&endorsement, area, &ek_roots());
        let names = against(&identity).join(" ");
        (names, identity.verdict)
    };
    // fixedTPM, fixedParent, sensitiveDataOrigin, restricted, sign off; decrypt,
    // encryptedDuplication on: one at a time.
    for bit in [1, 4, 5, 16, 18, 17, 11] {
        let t = Tpm2 {
            ak_attributes: good.ak_attributes ^ (1 << bit),
            ..good.clone()
        };
        let (names, verdict) = with(&t.ak_public());
        assert_eq!(
            (names.as_str(), verdict),
            ("tpm-ak-restricted", Verdict::Reject),
            "bit {bit}"
        );
    }
    let t = Tpm2 {
        ak_attributes: good.ak_attributes | (1 << 31),
        ..good.clone()
    };
    assert_eq!(with(&t.ak_public()).0, "tpm-attributes-known");
    // RSA is taken too.
    let t = Tpm2 {
        ak: Key::named(Kind::Rsa2048, "rsa ak"),
        ..good.clone()
    };
    assert_eq!(with(&t.ak_public()), (String::new(), Verdict::Accept));
    // No scheme of its own, a Name or a signature by SHA-1, bytes after it, none at all.
    let area = good.ak_public();
    let mut no_scheme = area.clone();
    no_scheme.splice(12..16, [0, 0x10]);
    let mut sha1_name = area.clone();
    sha1_name[3] = 0x04;
    let mut sha1_scheme = area.clone();
    sha1_scheme[15] = 0x04;
    let mut longer = area.clone();
    longer.push(0);
    for bad in [
        no_scheme,
        sha1_name,
        sha1_scheme,
        longer,
        vec![],
        vec![0; 2000],
    ] {
        assert_eq!(with(&bad).0, "tpm-ak-public", "{bad:02x?}");
    }
}

#[test]
fn a_live_software_tpm_s_identity_is_accepted_under_its_own_root_alone() {
    let Some(set) = shared("tpm2/live-swtpm-p256") else {
        return;
    };
    let file = |name: &str| std::fs::read(set.join(name)).unwrap();
    let der = |name: &str| {
        use countersign_attestation::verify::armour;
        let blocks = armour::blocks(&file(name)).unwrap();
        blocks.into_iter().next().unwrap().unwrap().bytes
    };
    let endorsement = [der("ek-cert.pem"), der("swtpm-ca-issuing.pem")];
    let ak = file("ak-public.tpmt_public.bin");
    let mut roots = Anchors::none();
    roots
        .add_endorsement_roots("swtpm's own", &file("swtpm-ca-root.pem"))
        .unwrap();
    let identity = present(&endorsement, &ak, &roots);
    assert_eq!(identity.verdict, Verdict::Accept, "{:#?}", identity.checks);
    assert_eq!(identity.keys.unwrap().device.manufacturer, "id:00001014");
    // The key it wants a code-signing certificate for is no attestation key.
    let subject = file("pub-area.tpmt_public.bin");
    let other = present(&endorsement, &subject, &roots);
    assert_eq!(against(&other), ["tpm-ak-public", "tpm-ak-restricted"]);
    assert_eq!(
        present(&endorsement, &ak, &ek_roots()).verdict,
        Verdict::Unverifiable
    );
}

/// An attestation key can sign bytes that look like another maker's evidence. So a CA's own anchor
/// for attestation keys must end no other chain.
#[test]
fn a_ca_s_own_attestation_key_anchor_ends_no_other_chain() {
    let t = Tpm2::default();
    let about = |key: &[u8], files: &[Vec<u8>], anchors: &Anchors| {
        let names: Vec<String> = (0..files.len()).map(|i| i.to_string()).collect();
        let evidence: Vec<File<'_>> = names
            .iter()
            .zip(files)
            .map(|(name, bytes)| File { name, bytes })
            .collect();
        verify(&Question {
            subject: SubjectFile::PublicKey(File {
                name: "key",
                bytes: key,
            }),
            evidence: &evidence,
            at: UnixSeconds::new(NOW).unwrap(),
            nonce: None,
            policy: &Policy::origin(),
            anchors,
        })
    };
    let mut own = Anchors::pinned();
    own.add_attestation_key_cas("our AK CA", &t.root()).unwrap();
    let good = about(t.key.spki(), &t.files(), &own);
    accepted(&good);
    let hash = good.facts.attestation_key_certificate.unwrap();
    assert_eq!(hash.len(), 64);
    assert!(
        good.facts
            .root
            .unwrap()
            .contains("for TPM 2.0 attestation key alone")
    );
    assert_ne!(own.version(), {
        let mut all = Anchors::pinned();
        all.add_file("our AK CA", &t.root()).unwrap();
        all.version()
    });
    // The same root behind another maker's evidence: accepted for all lines, not for this one.
    let other = YubiHsm2::default();
    assert!(Ask::key(other.key.spki(), other.root()).accepts(&other.files()));
    let mut own = Anchors::pinned();
    own.add_attestation_key_cas("our AK CA", &other.root())
        .unwrap();
    let refused = about(other.key.spki(), &other.files(), &own);
    assert_ne!(refused.verdict, Verdict::Accept);
    // Nor is it itself an attestation key.
    let mut own = Anchors::pinned();
    own.add_attestation_key_cas("our AK CA", t.ak.spki())
        .unwrap();
    let refused = about(t.key.spki(), &t.files()[..3], &own);
    assert_ne!(refused.verdict, Verdict::Accept);
}
