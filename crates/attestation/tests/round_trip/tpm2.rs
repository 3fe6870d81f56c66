//! TPM 2.0: statement, public area, signature, creation data, WebAuthn.

use countersign_attestation::signature::Hash;
use countersign_attestation::vendor::tpm2::attest::{Attest, Attested};
use countersign_attestation::vendor::tpm2::creation::CreationData;
use countersign_attestation::vendor::tpm2::public::{Public, PublicId, Scheme};
use countersign_attestation::vendor::tpm2::signature::{Signature, SignatureValue};
use countersign_attestation::vendor::tpm2::webauthn::{AttestationObject, CoseKey};
use countersign_testkit_evidence::tpm2::{Tpm2, sized};
use countersign_testkit_evidence::{Key, Kind};
use proptest::collection::vec;
use proptest::prelude::*;

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::P256),
        Just(Kind::P384),
        Just(Kind::P521),
        Just(Kind::Rsa2048)
    ]
}

fn tpms() -> impl Strategy<Value = Tpm2> {
    let bytes = |n| vec(any::<u8>(), 0..n);
    let ak = prop_oneof![Just(Kind::P256), Just(Kind::P384), Just(Kind::Rsa2048)];
    let tag = prop_oneof![Just(0x8017u16), Just(0x801a)];
    let algorithm = prop_oneof![Just(0x000bu16), Just(0x000c)];
    (
        (kinds(), ak, tag, algorithm, bytes(64)),
        (
            any::<bool>(),
            any::<u32>(),
            prop::option::of(bytes(70)),
            any::<[u8; 16]>(),
        ),
    )
        .prop_map(
            |((key, ak, tag, name_alg, extra_data), (safe, attributes, name, aaguid))| Tpm2 {
                key: Key::named(key, "round trip"),
                ak: Key::named(ak, "round trip ak"),
                tag,
                name_alg,
                extra_data,
                safe: u8::from(safe),
                attributes,
                name,
                aaguid,
                ..Tpm2::default()
            },
        )
}

fn point(key: &Key) -> (Vec<u8>, Vec<u8>) {
    let public = key.public();
    let (x, y) = public[1..].split_at((public.len() - 1) / 2);
    (x.to_vec(), y.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn statements(t in tpms(), in_tpm2b: bool) {
        let bytes = t.attest();
        let given = if in_tpm2b { sized(&bytes) } else { bytes.clone() };
        let a = Attest::parse(&given)?;
        prop_assert_eq!(a.bytes, &bytes);
        prop_assert_eq!(a.extra_data, &t.extra_data);
        prop_assert_eq!((a.clock.clock, a.clock.reset_count, a.clock.restart_count), (123_456, 5, 0));
        prop_assert_eq!(a.clock.safe, t.safe == 1);
        prop_assert_eq!(a.firmware_version, 0x0001_0002_0003_0004);
        let name = t.name();
        prop_assert_eq!(a.name(), Some(&name[..]));
        let creation = matches!(a.attested, Attested::Creation { .. });
        prop_assert_eq!(creation, t.tag == 0x801a);
        let bytes = t.creation_data();
        let c = CreationData::parse(&bytes)?;
        prop_assert_eq!((c.bytes, c.outside_info), (&bytes[..], &b"outside"[..]));
        prop_assert_eq!((c.locality, c.parent_name_alg, c.pcr_digest.len()), (1, 0x000b, 32));
    }

    #[test]
    fn public_areas(t in tpms(), in_tpm2b: bool) {
        let bytes = t.public();
        let given = if in_tpm2b { sized(&bytes) } else { bytes.clone() };
        let p = Public::parse(&given)?;
        prop_assert_eq!(p.bytes, &bytes);
        prop_assert_eq!(p.attributes.0, t.attributes);
        let alg = if t.name_alg == 0x000b { Hash::Sha256 } else { Hash::Sha384 };
        prop_assert_eq!((p.name_alg, p.scheme, p.has_symmetric), (alg, Scheme::Null, false));
        match p.key {
            PublicId::Rsa { bits, exponent, n } => {
                prop_assert_eq!((bits, exponent), (2048, 0));
                prop_assert_eq!(n, &t.key.rsa_parts().0);
            }
            PublicId::Ecc { x, y, .. } => {
                prop_assert_eq!((x.to_vec(), y.to_vec()), point(&t.key));
            }
        }
        let key = p.key.key().unwrap();
        prop_assert_eq!(key.to_spki(), t.key.spki());
        if t.name.is_none() {
            prop_assert_eq!(p.name(), t.name());
        }
        let ak = t.ak_public();
        let tied = matches!(Public::parse(&ak)?.scheme, Scheme::Sign { hash: 0x000b, .. });
        prop_assert!(tied);
    }

    #[test]
    fn signatures(t in tpms(), message in vec(any::<u8>(), 0..100)) {
        let bytes = t.signature(&message);
        let s = Signature::parse(&bytes)?;
        match s.value {
            SignatureValue::Ecdsa { r, s } => prop_assert_eq!(bytes.len(), 8 + r.len() + s.len()),
            SignatureValue::RsaSsa(b) => prop_assert_eq!((b.len(), bytes.len()), (256, 262)),
            SignatureValue::RsaPss(_) => panic!("PKCS#1 v1.5 was written"),
        }
    }

    #[test]
    fn webauthn_objects(t in tpms(), with_auth_data: bool) {
        let auth = t.auth_data(&t.key);
        let object = t.webauthn(with_auth_data.then_some(&auth[..]), b"client data");
        let bytes = object.encode();
        let o = AttestationObject::parse(&bytes)?;
        prop_assert_eq!(o.x5c, object.x5c);
        prop_assert_eq!((o.sig, o.cert_info, o.pub_area), (
            &object.sig[..], &object.cert_info[..], &object.pub_area[..],
        ));
        prop_assert_eq!(o.auth_data.is_some(), with_auth_data);
        if let Some(read) = o.auth_data {
            prop_assert_eq!((read.bytes, read.aaguid), (&auth[..], &t.aaguid[..]));
            match read.key {
                CoseKey::Rsa { n, e } => {
                    prop_assert_eq!((n.to_vec(), e.to_vec()), t.key.rsa_parts());
                }
                CoseKey::Ec2 { x, y, .. } => {
                    prop_assert_eq!((x.to_vec(), y.to_vec()), point(&t.key));
                }
            }
        }
    }
}
