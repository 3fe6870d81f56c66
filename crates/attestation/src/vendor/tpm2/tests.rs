use super::Tpm2Error;
use super::attest::{Attest, Attested};
use super::creation::CreationData;
use super::public::{Attributes, Public, PublicId, Scheme};
use super::signature::{Signature, SignatureValue};
use super::webauthn::{AttestationObject, CoseKey};
use crate::key::Curve;
use crate::signature::{Algorithm, Hash};
use proptest::prelude::*;

/// A file of the reference samples beside the checkout, which are not part of the project.
fn sample(path: &str) -> Option<Vec<u8>> {
    let root = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../shared/attestation/tpm2"
    );
    if !std::path::Path::new(root).is_dir() {
        eprintln!("NOTICE: no reference samples beside the checkout; this test checked nothing");
        return None;
    }
    Some(std::fs::read(format!("{root}/{path}")).unwrap())
}

/// A public area by hand: P-256, sign-only.
fn public_area() -> Vec<u8> {
    let mut out = vec![0x00, 0x23, 0x00, 0x0b, 0x00, 0x04, 0x00, 0x72, 0, 0];
    out.extend([0x00, 0x10, 0x00, 0x10, 0x00, 0x03, 0x00, 0x10]);
    for byte in [0x11, 0x22] {
        out.extend([0, 32]);
        out.extend([byte; 32]);
    }
    out
}

fn attest(tag: u16) -> Vec<u8> {
    let mut out = b"\xffTCG".to_vec();
    out.extend(tag.to_be_bytes());
    out.extend([0, 2, 0xaa, 0xbb, 0, 3, 1, 2, 3]);
    out.extend([0; 7]);
    out.push(9);
    out.extend([0, 0, 0, 4, 0, 0, 0, 5, 1]);
    out.extend([0x20; 8]);
    out.extend([0, 2, 0x00, 0x0b, 0, 1, 0x77]);
    out
}

#[test]
fn a_public_area_is_read_field_by_field() {
    let bytes = public_area();
    let p = Public::parse(&bytes).unwrap();
    assert_eq!(p.name_alg, Hash::Sha256);
    assert_eq!(p.attributes, Attributes(0x0004_0072));
    let a = p.attributes;
    assert!(a.fixed_tpm() && a.fixed_parent() && a.sensitive_data_origin() && a.sign());
    assert!(!a.decrypt() && !a.restricted() && !a.encrypted_duplication());
    assert_eq!(a.unknown(), 0);
    assert_eq!(Attributes(0x8010_0009).unknown(), 0x8010_0009);
    assert_eq!(p.scheme, Scheme::Null);
    assert_eq!(
        p.key,
        PublicId::Ecc {
            curve: Curve::P256,
            x: &[0x11; 32],
            y: &[0x22; 32]
        }
    );
    // As tpm2-tools write it: with its size in front. The Name is over the area itself.
    let mut sized = u16::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    sized.extend(&bytes);
    assert_eq!(Public::parse(&sized).unwrap(), p);
    assert_eq!(p.name()[..2], [0x00, 0x0b]);
    assert_eq!(p.name().len(), 34);
}

#[test]
fn what_a_public_area_cannot_hold_is_refused_by_field() {
    let at = |i: usize, b: u8| {
        let mut bytes = public_area();
        bytes[i] = b;
        Public::parse(&bytes).map(|_| ()).unwrap_err()
    };
    let value = |what, value| Tpm2Error::Value { what, value };
    assert_eq!(at(1, 0x08), value("TPMT_PUBLIC.type", 8));
    assert_eq!(at(3, 0x12), value("TPMT_PUBLIC.nameAlg", 0x12));
    assert_eq!(at(11, 0x11), value("TPMT_PUBLIC.symmetric", 0x11));
    assert_eq!(at(13, 0x01), value("TPMT_PUBLIC.scheme", 1));
    assert_eq!(at(15, 0x10), value("TPMS_ECC_PARMS.curveID", 0x10));
    assert_eq!(at(17, 0x01), value("TPMS_ECC_PARMS.kdf", 1));
    let mut long = public_area();
    long.push(0);
    assert_eq!(
        Public::parse(&long),
        Err(Tpm2Error::Trailing {
            what: "TPMT_PUBLIC",
            bytes: 1
        })
    );
    // An RSA number that is not as long as the TPM says.
    let mut rsa = vec![
        0x00, 0x01, 0x00, 0x0b, 0, 4, 0, 0x72, 0, 0, 0, 0x10, 0, 0x10,
    ];
    rsa.extend([0x08, 0x00, 0, 0, 0, 0, 0, 2, 0x80, 0x01]);
    assert_eq!(
        Public::parse(&rsa),
        Err(value("TPMS_RSA_PARMS.keyBits", 2048))
    );
}

#[test]
fn an_attest_is_read_field_by_field() {
    let bytes = attest(0x8017);
    let a = Attest::parse(&bytes).unwrap();
    assert_eq!(a.qualified_signer, [0xaa, 0xbb]);
    assert_eq!(a.extra_data, [1, 2, 3]);
    assert_eq!(
        (a.clock.clock, a.clock.reset_count, a.clock.restart_count),
        (9, 4, 5)
    );
    assert_eq!(a.firmware_version, 0x2020_2020_2020_2020);
    assert_eq!(
        a.attested,
        Attested::Certify {
            name: &[0x00, 0x0b],
            qualified_name: &[0x77]
        }
    );
    let creation = attest(0x801a);
    assert!(matches!(
        Attest::parse(&creation).unwrap().attested,
        Attested::Creation { .. }
    ));
    let quote = attest(0x8018);
    assert_eq!(Attest::parse(&quote).unwrap().name(), None);
    let mut wrong = attest(0x8017);
    wrong[0] = 0xfe;
    assert!(matches!(
        Attest::parse(&wrong),
        Err(Tpm2Error::Value {
            what: "TPMS_ATTEST.magic",
            ..
        })
    ));
    assert!(Attest::parse(&attest(0x8020)).is_err());
}

#[test]
fn cut_off_anywhere_every_structure_is_refused() {
    let mut signature = vec![0, 0x18, 0, 0x0b];
    for byte in [1, 2] {
        signature.extend([0, 32]);
        signature.extend([byte; 32]);
    }
    let mut creation = vec![0, 0, 0, 1, 0, 0x0b, 3, 0, 0, 0, 0, 32];
    creation.extend([5; 32]);
    creation.extend([1, 0, 0x0b, 0, 0, 0, 0, 0, 0]);
    let public = public_area();
    let attested = attest(0x8017);
    assert!(Signature::parse(&signature).is_ok());
    assert!(CreationData::parse(&creation).is_ok());
    for n in 0..public.len() {
        assert!(Public::parse(&public[..n]).is_err(), "public {n}");
    }
    for n in 0..attested.len() {
        assert!(Attest::parse(&attested[..n]).is_err(), "attest {n}");
    }
    for n in 0..signature.len() {
        assert!(Signature::parse(&signature[..n]).is_err(), "signature {n}");
    }
    for n in 0..creation.len() {
        assert!(CreationData::parse(&creation[..n]).is_err(), "creation {n}");
    }
}

#[test]
fn the_real_webauthn_objects_are_read_whole() {
    for (folder, attributes, ecc) in [
        ("webauthn-surface-pro-4", 0x0006_0472, false),
        ("webauthn-tpm-with-ecc-public-area-type", 0x0004_0072, true),
    ] {
        let Some(object) = sample(&format!("{folder}/attestation-object.cbor")) else {
            return;
        };
        let o = AttestationObject::parse(&object).unwrap();
        assert_eq!(o.alg, Algorithm::RsaPkcs1(Hash::Sha1));
        assert_eq!(o.x5c.len(), 2);
        let file = |name: &str| sample(&format!("{folder}/{name}")).unwrap();
        assert_eq!(o.cert_info, file("cert-info.tpms_attest.bin"));
        assert_eq!(o.pub_area, file("pub-area.tpmt_public.bin"));
        assert_eq!(o.sig, file("signature.bin"));
        let public = Public::parse(o.pub_area).unwrap();
        assert_eq!(public.attributes.0, attributes);
        let attest = Attest::parse(o.cert_info).unwrap();
        assert_eq!(attest.name(), Some(public.name().as_slice()));
        let auth = o.auth_data.unwrap();
        match (public.key, auth.key) {
            (
                PublicId::Ecc { x, y, .. },
                CoseKey::Ec2 {
                    curve,
                    x: cx,
                    y: cy,
                },
            ) => {
                assert!(ecc);
                assert_eq!((curve, cx, cy), (1, x, y));
            }
            (PublicId::Rsa { n, .. }, CoseKey::Rsa { n: cn, e }) => {
                assert!(!ecc);
                assert_eq!((cn, e), (n, &[1, 0, 1][..]));
            }
            other => panic!("{other:?}"),
        }
        let client = sample(&format!("{folder}/client-data.json")).unwrap();
        let hash = Hash::Sha256.of(&client);
        assert_eq!(
            Hash::Sha1.of(&[auth.bytes, &hash].concat()),
            attest.extra_data,
            "extraData is over authenticator data and client data"
        );
        for n in 0..object.len() {
            assert!(AttestationObject::parse(&object[..n]).is_err(), "{n}");
        }
    }
}

#[test]
fn the_real_creation_statements_are_read_whole() {
    for kind in ["rsa2048", "p256"] {
        let folder = format!("go-attestation-ak-certify-creation-{kind}");
        let file = |name: &str| sample(&format!("{folder}/{name}"));
        let Some(public) = file("ak-public.tpmt_public.bin") else {
            return;
        };
        let attest = file("creation-attestation.tpms_attest.bin").unwrap();
        let creation = file("creation-data.bin").unwrap();
        let signature = file("creation-signature.tpmt_signature.bin").unwrap();
        let public = Public::parse(&public).unwrap();
        assert_eq!(public.attributes.0, 0x0005_0472);
        let creation = CreationData::parse(&creation).unwrap();
        let Attested::Creation {
            name,
            creation_hash,
        } = Attest::parse(&attest).unwrap().attested
        else {
            panic!("not a creation statement");
        };
        assert_eq!(name, public.name());
        assert_eq!(creation_hash, public.name_alg.of(creation.bytes));
        let signature = Signature::parse(&signature).unwrap();
        assert_eq!(signature.hash, Hash::Sha1);
        assert_eq!(
            matches!(signature.value, SignatureValue::Ecdsa { .. }),
            kind == "p256"
        );
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Public::parse(&bytes);
        let _ = Attest::parse(&bytes);
        let _ = Signature::parse(&bytes);
        let _ = CreationData::parse(&bytes);
        let _ = AttestationObject::parse(&bytes);
        let mut attest = attest(0x8017);
        attest.truncate(6);
        attest.extend(&bytes);
        let _ = Attest::parse(&attest);
    }
}
