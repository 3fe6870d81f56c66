//! Every rule, broken once, with the exact refusal.

use super::*;

const FIELD: &str = "signed_attributes";

fn pe(digest: &[u8], algorithm: HashAlgorithm, null: bool, image: &[u8]) -> Vec<u8> {
    let data = write(tag::SEQUENCE, &[&write_oid(oids::SPC_PE_IMAGE_DATA), image]);
    let info = write(
        tag::SEQUENCE,
        &[
            &write_algorithm(oids::hash(algorithm), null),
            &write(tag::OCTET_STRING, &[digest]),
        ],
    );
    write(tag::SEQUENCE, &[&data, &info])
}

const EMPTY: &[u8] = &[
    0x30, 0x09, 0x03, 0x01, 0x00, 0xA0, 0x04, 0xA2, 0x02, 0x80, 0x00,
];

/// Correct attributes over whatever indirect data.
fn attributes_over(indirect: &[u8]) -> Vec<u8> {
    let value = &indirect[2..];
    set(vec![
        content_type(oids::SPC_INDIRECT_DATA),
        message_digest(digest_of(SHA256, value).as_bytes()),
    ])
}

fn indirect_refusal(indirect: &[u8]) -> ContentRefusal {
    parse_authenticode(&attributes_over(indirect), indirect).unwrap_err()
}

#[test]
fn an_attribute_that_is_not_on_the_list() {
    let smime = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.15");
    let extra = attribute(smime, &[&write(tag::SEQUENCE, &[])]);
    assert_eq!(
        parse_cms(&cms_plus(vec![extra])),
        Err(ContentRefusal::NotAllowedAttribute { oid: smime })
    );
}

#[test]
fn an_attribute_of_the_other_content_type() {
    let statement = attribute(
        oids::SPC_STATEMENT_TYPE,
        &[&write(tag::SEQUENCE, &[&write_oid(oids::SPC_INDIVIDUAL)])],
    );
    assert_eq!(
        parse_cms(&cms_plus(vec![statement])),
        Err(ContentRefusal::NotAllowedAttribute {
            oid: oids::SPC_STATEMENT_TYPE
        })
    );
}

#[test]
fn a_duplicate_attribute() {
    let again = message_digest(file_digest().as_bytes());
    assert_eq!(
        parse_cms(&cms_plus(vec![again])),
        Err(ContentRefusal::DuplicateAttribute {
            oid: oids::MESSAGE_DIGEST
        })
    );
}

#[test]
fn no_value_or_two() {
    let digest = write(tag::OCTET_STRING, &[file_digest().as_bytes()]);
    for values in [&[][..], &[digest.as_slice(), digest.as_slice()]] {
        let bytes = set(vec![
            content_type(oids::DATA),
            attribute(oids::MESSAGE_DIGEST, values),
        ]);
        assert_eq!(
            parse_cms(&bytes),
            Err(ContentRefusal::NotSingleValued {
                oid: oids::MESSAGE_DIGEST
            })
        );
    }
}

#[test]
fn a_missing_attribute() {
    for (left, missing) in [
        (content_type(oids::DATA), oids::MESSAGE_DIGEST),
        (message_digest(file_digest().as_bytes()), oids::CONTENT_TYPE),
    ] {
        assert_eq!(
            parse_cms(&set(vec![left])),
            Err(ContentRefusal::MissingAttribute { oid: missing })
        );
    }
}

#[test]
fn another_content_type() {
    let (attributes, indirect) = authenticode_with(&options());
    assert_eq!(
        parse_cms(&set(vec![
            content_type(oids::SPC_INDIRECT_DATA),
            message_digest(file_digest().as_bytes()),
        ])),
        Err(ContentRefusal::WrongContentType {
            expected: oids::DATA,
            found: oids::SPC_INDIRECT_DATA
        })
    );
    assert!(parse_cms(&attributes).is_err());
    let cms = cms_plus(vec![]);
    assert_eq!(
        parse_authenticode(&cms, &indirect),
        Err(ContentRefusal::WrongContentType {
            expected: oids::SPC_INDIRECT_DATA,
            found: oids::DATA
        })
    );
}

#[test]
fn attributes_out_of_order() {
    let mut all = [
        content_type(oids::DATA),
        message_digest(file_digest().as_bytes()),
    ];
    all.sort();
    all.reverse();
    let parts: Vec<&[u8]> = all.iter().map(Vec::as_slice).collect();
    assert_eq!(
        parse_cms(&write(tag::SET, &parts)),
        Err(ContentRefusal::NotCanonical {
            field: FIELD,
            rule: "SET OF order"
        })
    );
}

#[test]
fn trailing_bytes_outside_and_inside() {
    let mut outside = cms_plus(vec![]);
    outside.push(0);
    let refusal = Err(ContentRefusal::TrailingBytes { field: FIELD });
    assert_eq!(parse_cms(&outside), refusal);

    let inside = write(
        tag::SEQUENCE,
        &[
            &write_oid(oids::MESSAGE_DIGEST),
            &write(
                tag::SET,
                &[&write(tag::OCTET_STRING, &[file_digest().as_bytes()])],
            ),
            &write(tag::NULL, &[]),
        ],
    );
    assert_eq!(
        parse_cms(&set(vec![content_type(oids::DATA), inside])),
        refusal
    );

    let (attributes, mut indirect) = authenticode_with(&options());
    indirect.extend_from_slice(b"\x05\x00");
    assert_eq!(
        parse_authenticode(&attributes, &indirect),
        Err(ContentRefusal::TrailingBytes {
            field: "indirect_data"
        })
    );
}

#[test]
fn lengths_that_are_not_der() {
    let good = cms_plus(vec![]);
    // The outer length written with a needless byte, then indefinite.
    let long = [&[0x31, 0x81, good[1]][..], &good[2..]].concat();
    let indefinite = [&[0x31, 0x80][..], &good[2..], &[0, 0]].concat();
    for bad in [long, indefinite, good[..good.len() - 1].to_vec(), vec![]] {
        let refusal = parse_cms(&bad).unwrap_err();
        assert!(
            matches!(
                refusal,
                ContentRefusal::NotDer { field: FIELD }
                    | ContentRefusal::UnexpectedStructure { field: FIELD, .. }
            ),
            "{refusal:?}"
        );
    }
}

#[test]
fn the_implicit_tag_of_the_cms_is_not_what_is_hashed() {
    let mut bytes = cms_plus(vec![]);
    bytes[0] = 0xA0;
    assert!(matches!(
        parse_cms(&bytes),
        Err(ContentRefusal::UnexpectedStructure { field: FIELD, .. })
    ));
}

#[test]
fn too_large_and_too_many() {
    assert_eq!(
        parse_cms(&vec![0x31; MAX_FIELD + 1]),
        Err(ContentRefusal::TooLarge {
            field: FIELD,
            limit: MAX_FIELD
        })
    );
    let (attributes, _) = authenticode_with(&options());
    assert_eq!(
        parse_authenticode(&attributes, &vec![0x30; MAX_FIELD + 1]),
        Err(ContentRefusal::TooLarge {
            field: "indirect_data",
            limit: MAX_FIELD
        })
    );
    let many = vec![attribute(oids::SIGNING_TIME, &[&[5, 0]]); 20];
    assert_eq!(
        parse_cms(&set(many)),
        Err(ContentRefusal::TooManyAttributes { limit: 16 })
    );
}

#[test]
fn an_inner_hash_that_does_not_match() {
    let (attributes, _) = authenticode_with(&options());
    let other = digest_of(SHA256, b"another program");
    assert_eq!(
        parse_authenticode(&attributes, &authenticode::pe_indirect_data(&other)),
        Err(ContentRefusal::InnerHashMismatch)
    );
}

#[test]
fn the_hash_over_the_whole_indirect_data_is_wrong_too() {
    let indirect = authenticode::pe_indirect_data(&file_digest());
    let attributes = set(vec![
        content_type(oids::SPC_INDIRECT_DATA),
        message_digest(digest_of(SHA256, &indirect).as_bytes()),
    ]);
    assert_eq!(
        parse_authenticode(&attributes, &indirect),
        Err(ContentRefusal::InnerHashMismatch)
    );
}

#[test]
fn digests_of_a_wrong_length_or_algorithm() {
    let wrong = |field, given| ContentRefusal::WrongDigestLength {
        field,
        algorithm: SHA256,
        given,
    };
    let short = set(vec![content_type(oids::DATA), message_digest(&[7; 20])]);
    assert_eq!(parse_cms(&short), Err(wrong(FIELD, 20)));
    assert_eq!(
        indirect_refusal(&pe(&[7; 20], SHA256, true, EMPTY)),
        wrong("indirect_data", 20)
    );
    let raw = Submission::RawDigest {
        digest: vec![7; 20],
    };
    assert_eq!(parse(&raw, SHA256, None), Err(wrong("digest", 20)));
    assert_eq!(
        indirect_refusal(&pe(&[7; 48], HashAlgorithm::Sha384, true, EMPTY)),
        ContentRefusal::DigestAlgorithmMismatch {
            field: "indirect_data",
            expected: SHA256,
            found: oids::hash(HashAlgorithm::Sha384)
        }
    );
}

#[test]
fn indirect_data_that_is_not_a_plain_executable() {
    let digest = file_digest();
    let msi = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.2.1.30");
    let mut other = pe(digest.as_bytes(), SHA256, true, EMPTY);
    let at = other.len() - 2 - 2 - 15 - 32 - 11 - 1;
    assert_eq!(other[at], 15);
    other[at] = 30;
    assert_eq!(
        indirect_refusal(&other),
        ContentRefusal::NotPeImageData { found: msi }
    );

    // A moniker (page hashes) in place of the file, other flags, nothing at all.
    let moniker: &[u8] = &[
        0x30, 0x09, 0x03, 0x01, 0x00, 0xA0, 0x04, 0xA1, 0x02, 0x04, 0x00,
    ];
    let flags: &[u8] = &[
        0x30, 0x0A, 0x03, 0x02, 0x06, 0x40, 0xA0, 0x04, 0xA2, 0x02, 0x80, 0x00,
    ];
    for image in [moniker, flags, &[0x30, 0x00], &[]] {
        assert_eq!(
            indirect_refusal(&pe(digest.as_bytes(), SHA256, true, image)),
            ContentRefusal::UnusualPeImageData
        );
    }
    assert_eq!(
        indirect_refusal(&pe(digest.as_bytes(), SHA256, false, EMPTY)),
        ContentRefusal::NotCanonical {
            field: "indirect_data",
            rule: "DigestInfo algorithm without NULL"
        }
    );
}

#[test]
fn the_old_file_name_constant_is_known() {
    let text: Vec<u8> = "<<<Obsolete>>>"
        .encode_utf16()
        .flat_map(u16::to_be_bytes)
        .collect();
    let file = write(
        tag::context(0),
        &[&write(
            tag::context(2),
            &[&write(tag::context_primitive(0), &[&text])],
        )],
    );
    let image = write(tag::SEQUENCE, &[&[0x03, 0x01, 0x00], &file]);
    let indirect = pe(file_digest().as_bytes(), SHA256, true, &image);
    assert!(parse_authenticode(&attributes_over(&indirect), &indirect).is_ok());
}

#[test]
fn every_code_is_stable_kebab_case() {
    let refusals = [
        parse_cms(&[]).unwrap_err(),
        ContentRefusal::InnerHashMismatch,
        ContentRefusal::LooksLikeJwt { field: FIELD },
        ContentRefusal::BadSignerCertificate,
    ];
    for r in refusals {
        assert!(
            r.code()
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b == b'-'),
            "{}",
            r.code()
        );
        assert!(r.code().starts_with("content-"));
    }
}

#[test]
fn an_unreadable_signer_certificate_is_our_own_fault() {
    let submission = Submission::Cms {
        signed_attributes: cms_plus(vec![]),
    };
    let refusal = parse(&submission, SHA256, Some(b"no certificate")).unwrap_err();
    assert_eq!(refusal, ContentRefusal::BadSignerCertificate);
    assert_eq!(refusal.field(), None);
}
