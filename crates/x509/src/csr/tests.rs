use super::*;
use crate::oid;
use crate::testutil::{KEYS, acme, key, openssl, read, try_openssl, write};
use countersign_core::KeyAlgorithm;
use proptest::prelude::*;

fn evidence() -> Attribute {
    Attribute::single(
        oid::ATTESTATION,
        asn1::sequence(&[&asn1::octet_string(b"evidence")]),
    )
}

fn builder(algorithm: KeyAlgorithm, attributes: Vec<Attribute>) -> CsrBuilder {
    CsrBuilder {
        subject: acme(),
        public_key: key(algorithm).public.clone(),
        attributes,
    }
}

fn signed(algorithm: KeyAlgorithm, attributes: Vec<Attribute>) -> Vec<u8> {
    let tbs = builder(algorithm, attributes).build().unwrap();
    tbs.finish(&key(algorithm).sign(&tbs.info_der)).unwrap()
}

#[test]
fn openssl_accepts_our_requests_for_every_key() {
    let dir = tempfile::tempdir().unwrap();
    for k in KEYS.iter() {
        for attributes in [vec![], vec![evidence()]] {
            let der = signed(k.public.algorithm(), attributes.clone());
            write(dir.path(), "r.pem", to_pem(&der));
            let text = openssl(
                dir.path(),
                "req -in r.pem -verify -noout -text -nameopt utf8,sname",
            );
            assert!(text.contains("verify OK"), "{text}");
            assert!(
                text.contains("C=DE, L=Köln, O=Acme GmbH, CN=Acme GmbH"),
                "{text}"
            );
            assert_eq!(
                text.contains("1.2.840.113549.1.9.16.2.59"),
                !attributes.is_empty(),
                "{text}"
            );

            let parsed = ParsedCsr::parse(&der).unwrap();
            assert_eq!(parsed.verify_self_signature(), Ok(()));
            assert_eq!(parsed.public_key(), &k.public);
            assert_eq!(parsed.attributes(), attributes);
            assert_eq!(
                parsed.subject_text(),
                "CN=Acme GmbH,O=Acme GmbH,L=Köln,C=DE"
            );
            assert_eq!(ParsedCsr::parse_pem(&parsed.to_pem()), Ok(parsed));
        }
    }
}

#[test]
fn without_an_attribute_the_info_is_what_it_was_before() {
    let other = Attribute::single(
        ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.2"),
        asn1::tlv(asn1::UTF8_STRING, &[b"name"]),
    );
    let before = builder(KeyAlgorithm::EcP256, vec![other.clone()])
        .build()
        .unwrap();
    for order in [[other.clone(), evidence()], [evidence(), other]] {
        let with = ParsedCsr::parse(&signed(KeyAlgorithm::EcP256, order.to_vec())).unwrap();
        assert_ne!(with.info_der(), before.info_der);
        assert_eq!(
            with.info_without_attribute(&oid::ATTESTATION),
            before.info_der
        );
        assert_eq!(with.info_without_attribute(&oid::DATA), with.info_der());
        assert_eq!(with.attribute(&oid::ATTESTATION), Some(&evidence()));
    }
}

#[test]
fn openssls_requests_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    openssl(
        d,
        "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-384 -sha384 -nodes -keyout k -outform DER \
         -out r.der -subj /C=DE/L=Koeln/O=Acme/CN=Acme -addext extendedKeyUsage=codeSigning",
    );
    let parsed = ParsedCsr::parse(&read(d, "r.der")).unwrap();
    assert_eq!(parsed.verify_self_signature(), Ok(()));
    assert_eq!(parsed.public_key().algorithm(), KeyAlgorithm::EcP384);
    assert_eq!(parsed.attributes().len(), 1);
}

#[test]
fn a_signature_by_another_key_does_not_finish() {
    let tbs = builder(KeyAlgorithm::EcP256, vec![]).build().unwrap();
    let wrong = crate::testutil::TestKey::new(KeyAlgorithm::EcP256).sign(&tbs.info_der);
    assert_eq!(
        tbs.finish(&wrong),
        Err(CsrError::Signature(SignatureInvalid))
    );
    assert_eq!(tbs.finish(&[]), Err(CsrError::Signature(SignatureInvalid)));
    let rsa = SignatureScheme::RsaPkcs1(countersign_core::HashAlgorithm::Sha256);
    assert_eq!(
        finish(&tbs.info_der, rsa, &wrong),
        Err(CsrError::SignatureAlgorithm)
    );
}

#[test]
fn an_attribute_that_stands_twice_or_is_empty_is_refused() {
    let twice = vec![
        evidence(),
        Attribute::single(oid::ATTESTATION, asn1::null()),
    ];
    let duplicate = CsrError::Asn1(Asn1Error::new("attributes", Problem::Duplicate));
    assert_eq!(
        builder(KeyAlgorithm::EcP256, twice).build(),
        Err(duplicate.clone())
    );
    let same = vec![evidence(), evidence()];
    assert_eq!(builder(KeyAlgorithm::EcP256, same).build(), Err(duplicate));
    let empty = vec![Attribute {
        oid: oid::ATTESTATION,
        values: vec![],
    }];
    assert!(builder(KeyAlgorithm::EcP256, empty).build().is_err());
    let no_der = vec![Attribute::single(oid::ATTESTATION, vec![0x30, 0x05, 0x00])];
    assert!(builder(KeyAlgorithm::EcP256, no_der).build().is_err());
}

#[test]
fn trailing_bytes_wrong_versions_and_unsorted_attributes_are_refused() {
    let der = signed(KeyAlgorithm::EcP256, vec![evidence()]);
    let trailing = [der.as_slice(), &[0]].concat();
    assert_eq!(
        ParsedCsr::parse(&trailing),
        Err(CsrError::Asn1(Asn1Error::new(
            "CertificationRequest",
            Problem::TrailingBytes
        )))
    );
    let rebuilt = |version: u8, attributes: &[u8]| {
        let k = key(KeyAlgorithm::EcP256);
        let info = asn1::sequence(&[
            &asn1::unsigned(&[version]),
            &acme().to_der().unwrap(),
            k.public.spki_der(),
            &asn1::tlv(context(0), &[attributes]),
        ]);
        asn1::sequence(&[
            &info,
            &key::signature_algorithm_der(k.scheme()),
            &asn1::bit_string(&k.sign(&info)),
        ])
    };
    assert!(ParsedCsr::parse(&rebuilt(0, &[])).is_ok());
    assert_eq!(
        ParsedCsr::parse(&rebuilt(1, &[])),
        Err(CsrError::Asn1(Asn1Error::new("version", Problem::Version)))
    );
    let small = Attribute::single(oid::DATA, asn1::null()).to_der();
    let backwards = [evidence().to_der(), small].concat();
    let der = rebuilt(0, &backwards);
    assert_eq!(
        ParsedCsr::parse(&der),
        Err(CsrError::Asn1(Asn1Error::new(
            "attributes",
            Problem::SetOrder
        )))
    );
    // openssl is not as strict, so this is ours to refuse.
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "r.der", der);
    assert!(try_openssl(dir.path(), "req -inform DER -in r.der -noout").0);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = ParsedCsr::parse(&bytes);
        let _ = ParsedCsr::parse_pem(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn no_mutation_survives(at: prop::sample::Index, flip in 1u8..) {
        static DER: std::sync::LazyLock<Vec<u8>> =
            std::sync::LazyLock::new(|| signed(KeyAlgorithm::EcP256, vec![evidence()]));
        let mut der = DER.clone();
        let i = at.index(der.len());
        der[i] ^= flip;
        if let Ok(p) = ParsedCsr::parse(&der) {
            prop_assert_eq!(p.verify_self_signature(), Err(SignatureInvalid));
        }
    }
}
