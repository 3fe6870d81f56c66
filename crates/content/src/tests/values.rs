//! The optional attributes' values.

use super::*;

fn cms_refusal(oid: ObjectIdentifier, value: &[u8]) -> ContentRefusal {
    parse_cms(&cms_plus(vec![attribute(oid, &[value])])).unwrap_err()
}

fn opus(value: &[u8]) -> Result<Parsed, ContentRefusal> {
    let indirect = authenticode::pe_indirect_data(&file_digest());
    let attributes = set(vec![
        content_type(oids::SPC_INDIRECT_DATA),
        message_digest(digest_of(SHA256, &indirect[2..]).as_bytes()),
        attribute(oids::SPC_SP_OPUS_INFO, &[value]),
    ]);
    parse_authenticode(&attributes, &indirect)
}

#[test]
fn signing_time_is_utc_time_through_2049() {
    let time = |t: u8, s: &str| write(t, &[s.as_bytes()]);
    for good in [
        time(0x17, "261121204500Z"),
        time(0x17, "491231235959Z"),
        time(0x18, "20500101000000Z"),
    ] {
        assert!(parse_cms(&cms_plus(vec![attribute(oids::SIGNING_TIME, &[&good])])).is_ok());
    }
    for bad in [
        time(0x18, "20261121204500Z"),
        time(0x18, "20500101000000.5Z"),
        time(0x17, "2611212045Z"),
        time(0x17, "261121204500+0100"),
        time(0x17, "261321204500Z"),
        time(0x0C, "261121204500Z"),
    ] {
        let refusal = cms_refusal(oids::SIGNING_TIME, &bad);
        assert!(
            matches!(
                refusal,
                ContentRefusal::BadAttributeValue {
                    oid: oids::SIGNING_TIME,
                    ..
                }
            ),
            "{refusal:?}"
        );
    }
    let late = cms::signed_attributes(
        &file_digest(),
        Some(Micros::from_seconds(2_600_000_000)),
        None,
        None,
    );
    assert!(late.is_ok());
    let early = cms::signed_attributes(&file_digest(), Some(Micros(-1_000_000)), None, None);
    assert!(early.is_err());
}

#[test]
fn signing_certificate_must_be_the_signers() {
    let attributes = cms::signed_attributes(&file_digest(), None, Some(CERT_RSA), None).unwrap();
    assert_eq!(
        parse_cms(&attributes),
        Err(ContentRefusal::SigningCertificateMismatch)
    );
    let submission = Submission::Cms {
        signed_attributes: attributes,
    };
    assert!(parse(&submission, SHA256, Some(CERT_RSA)).is_ok());
    assert!(parse(&submission, SHA256, None).is_ok());
}

#[test]
fn signing_certificate_in_its_other_forms() {
    let value = |algorithm: &[u8], hash: &[u8], more: &[u8], certs: usize| {
        let id = write(
            tag::SEQUENCE,
            &[algorithm, &write(tag::OCTET_STRING, &[hash]), more],
        );
        let ids = id.repeat(certs);
        write(tag::SEQUENCE, &[&write(tag::SEQUENCE, &[&ids])])
    };
    let with = |v: &[u8]| {
        parse_cms(&cms_plus(vec![attribute(
            oids::SIGNING_CERTIFICATE_V2,
            &[v],
        )]))
    };
    let sha256 = digest_of(SHA256, CERT_EC).as_bytes().to_vec();
    let sha512 = digest_of(HashAlgorithm::Sha512, CERT_EC)
        .as_bytes()
        .to_vec();
    // Without IssuerSerial, and with another hash, with or without NULL: all name the certificate.
    assert!(with(&value(&[], &sha256, &[], 1)).is_ok());
    for null in [true, false] {
        let algorithm = write_algorithm(oids::hash(HashAlgorithm::Sha512), null);
        assert!(with(&value(&algorithm, &sha512, &[], 1)).is_ok());
    }
    // The default written out, two certificates, a hash of another length, an unknown hash.
    assert_eq!(
        with(&value(
            &write_algorithm(oids::hash(SHA256), false),
            &sha256,
            &[],
            1
        )),
        Err(ContentRefusal::NotCanonical {
            field: "signed_attributes",
            rule: "default hash algorithm written out"
        })
    );
    let sha1 = ObjectIdentifier::new_unwrap("1.3.14.3.2.26");
    for bad in [
        value(&[], &sha256, &[], 2),
        value(&[], &sha512, &[], 1),
        value(&write_algorithm(sha1, true), &[0; 20], &[], 1),
    ] {
        assert!(matches!(
            with(&bad),
            Err(ContentRefusal::BadAttributeValue {
                oid: oids::SIGNING_CERTIFICATE_V2,
                ..
            })
        ));
    }
    // The right hash, another serial number.
    let issuer = write(tag::SEQUENCE, &[]);
    let names = write(tag::SEQUENCE, &[&write(tag::context(4), &[&issuer])]);
    let other = write(tag::SEQUENCE, &[&names, &[0x02, 0x01, 0x05]]);
    assert_eq!(
        with(&value(&[], &sha256, &other, 1)),
        Err(ContentRefusal::SigningCertificateMismatch)
    );
}

#[test]
fn algorithm_protection_must_fit_key_and_hash() {
    let hash = HashAlgorithm::Sha384;
    let with = |scheme| {
        let digest = file_digest();
        let wrong_hash = crate::attributes::SignedAttributes {
            algorithm_protection: Some(crate::values::AlgorithmProtection::new(scheme)),
            ..crate::attributes::SignedAttributes::new(oids::DATA, &digest)
        };
        parse_cms(&wrong_hash.encode())
    };
    assert!(with(SignatureScheme::Ecdsa(SHA256)).is_ok());
    for scheme in [
        SignatureScheme::Ecdsa(hash),
        // The test certificate's key is an EC key.
        SignatureScheme::RsaPkcs1(SHA256),
    ] {
        assert_eq!(
            with(scheme),
            Err(ContentRefusal::AlgorithmProtectionMismatch)
        );
    }
}

#[test]
fn program_name_and_link_are_bounded_text() {
    let name = |t: u8, text: &[u8]| {
        write(
            tag::SEQUENCE,
            &[&write(tag::context(0), &[&write(t, &[text])])],
        )
    };
    let link = |t: u8, text: &[u8]| {
        write(
            tag::SEQUENCE,
            &[&write(tag::context(1), &[&write(t, &[text])])],
        )
    };
    assert!(opus(&write(tag::SEQUENCE, &[])).is_ok());
    assert!(opus(&name(0x80, &[0x00, 0x41])).is_ok());
    assert!(opus(&name(0x81, b"Acme")).is_ok());
    assert!(opus(&link(0x80, b"https://acme.example/")).is_ok());
    for bad in [
        name(0x80, &[0x00]),
        name(0x80, &[0xD8, 0x00]),
        name(0x81, b"a\nb"),
        name(0x81, &[b'a'; 300]),
        name(0x81, &[0xC3, 0xA9]),
        name(0x82, b"x"),
        link(0xA1, b""),
        link(0x80, b"not a link"),
        link(0x80, &[b'a'; 1025]),
    ] {
        let refusal = opus(&bad).unwrap_err();
        assert!(
            matches!(
                refusal,
                ContentRefusal::BadAttributeValue {
                    oid: oids::SPC_SP_OPUS_INFO,
                    ..
                }
            ),
            "{refusal:?}"
        );
    }
    let indirect = authenticode::pe_indirect_data(&file_digest());
    let long = "x".repeat(300);
    let refused = authenticode::signed_attributes(
        &indirect,
        SHA256,
        &authenticode::Options {
            program_name: Some(&long),
            ..Default::default()
        },
    );
    assert!(refused.is_err());
}

#[test]
fn statement_type_is_one_of_two() {
    let indirect = authenticode::pe_indirect_data(&file_digest());
    let with = |value: Vec<u8>| {
        let attributes = set(vec![
            content_type(oids::SPC_INDIRECT_DATA),
            message_digest(digest_of(SHA256, &indirect[2..]).as_bytes()),
            attribute(oids::SPC_STATEMENT_TYPE, &[&value]),
        ]);
        parse_authenticode(&attributes, &indirect)
    };
    assert!(with(write(tag::SEQUENCE, &[&write_oid(oids::SPC_COMMERCIAL)])).is_ok());
    assert!(with(write(tag::SEQUENCE, &[&write_oid(oids::DATA)])).is_err());
    let both = [
        write_oid(oids::SPC_COMMERCIAL),
        write_oid(oids::SPC_INDIVIDUAL),
    ]
    .concat();
    assert_eq!(
        with(write(tag::SEQUENCE, &[&both])),
        Err(ContentRefusal::TrailingBytes {
            field: "signed_attributes"
        })
    );
}
