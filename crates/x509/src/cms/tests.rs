use super::*;
use crate::asn1::{self, Attribute, Problem};
use crate::chain::Purpose;
use crate::testutil::{KEYS, NOW, Pki, TestKey, key, openssl, read, try_openssl, write};
use crate::{hash, oid};
use countersign_core::KeyAlgorithm;
use proptest::prelude::*;
use std::path::Path;

const CONTENT: &[u8] = b"the bytes of a release\r\n";

fn parts(
    k: &TestKey,
    pki: &Pki,
    econtent: Option<Vec<u8>>,
    content_type: ObjectIdentifier,
    octets: &[u8],
) -> SignedDataParts {
    let digest = k.scheme().hash();
    let signed_attrs_der = signed_attributes::build(
        &content_type,
        &hash::digest(digest, octets),
        &[
            signed_attributes::signing_time_attribute(NOW),
            signed_attributes::signing_certificate_v2_attribute(pki.leaf.der()),
        ],
    )
    .unwrap();
    SignedDataParts {
        content_type,
        econtent,
        digest,
        signature: k.sign(&signed_attrs_der),
        signed_attrs_der,
        scheme: k.scheme(),
        chain: vec![pki.leaf.der().to_vec(), pki.ca.der().to_vec()],
    }
}

fn detached(k: &TestKey, pki: &Pki) -> SignedDataParts {
    parts(k, pki, None, oid::DATA, CONTENT)
}

fn openssl_verifies(dir: &Path, pki: &Pki, options: &str) -> String {
    write(dir, "root.pem", pki.root.to_pem());
    openssl(
        dir,
        &format!(
            "cms -verify -inform DER -in m.der -binary {options} -CAfile root.pem -purpose any \
             -attime {} -out out",
            NOW.seconds()
        ),
    )
}

#[test]
fn openssl_verifies_our_messages_for_every_key() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    for k in KEYS.iter() {
        let pki = Pki::new(k, Purpose::CodeSigning);
        write(d, "content", CONTENT);
        let message = build_signed_data(&detached(k, &pki)).unwrap();
        write(d, "m.der", &message);
        openssl_verifies(d, &pki, "-content content");
        let parsed = ParsedSignedData::parse(&message).unwrap();
        let digest = hash::digest(k.scheme().hash(), CONTENT);
        for content in [
            SignedContent::Bytes(CONTENT),
            SignedContent::Digest(&digest),
        ] {
            assert_eq!(parsed.verify_signer(0, content), Ok(&pki.leaf));
        }
        assert_eq!(parsed.certificates().len(), 2);

        let embedded = asn1::octet_string(CONTENT);
        let p = parts(k, &pki, Some(embedded), oid::DATA, CONTENT);
        let message = build_signed_data(&p).unwrap();
        write(d, "m.der", &message);
        openssl_verifies(d, &pki, "");
        assert_eq!(read(d, "out"), CONTENT);
        let parsed = ParsedSignedData::parse(&message).unwrap();
        assert_eq!(
            parsed.verify_signer(0, SignedContent::Embedded),
            Ok(&pki.leaf)
        );
        assert_eq!(parsed.content_octets(), Some(CONTENT));
    }
}

#[test]
fn the_signed_bytes_stand_in_the_message_but_for_their_tag() {
    let k = key(KeyAlgorithm::EcP256);
    let pki = Pki::new(k, Purpose::CodeSigning);
    let p = detached(k, &pki);
    let message = build_signed_data(&p).unwrap();
    let mut inside = p.signed_attrs_der.clone();
    inside[0] = 0xa0;
    assert_eq!(
        message
            .windows(inside.len())
            .filter(|w| *w == inside)
            .count(),
        1
    );
    let parsed = ParsedSignedData::parse(&message).unwrap();
    assert_eq!(
        parsed.signers()[0].signed_attrs_der,
        Some(p.signed_attrs_der)
    );
    let attributes = parsed.signers()[0].signed_attributes().unwrap();
    assert_eq!(signed_attributes::signing_time(&attributes), Ok(Some(NOW)));
    assert_eq!(
        signed_attributes::names_certificate(&attributes, &pki.leaf),
        Ok(Some(true))
    );
    assert_eq!(
        signed_attributes::names_certificate(&attributes, &pki.ca),
        Ok(Some(false))
    );
}

#[test]
fn authenticode_has_its_content_without_an_octet_string_and_version_1() {
    let k = key(KeyAlgorithm::Rsa3072);
    let pki = Pki::new(k, Purpose::CodeSigning);
    let spc = asn1::sequence(&[&asn1::oid(&oid::DATA), &asn1::octet_string(&[7; 200])]);
    let octets = asn1::Cursor::new(&spc).any("spc").unwrap().value.to_vec();
    let p = parts(k, &pki, Some(spc.clone()), oid::SPC_INDIRECT_DATA, &octets);
    let message = build_signed_data(&p).unwrap();
    let parsed = ParsedSignedData::parse(&message).unwrap();
    assert_eq!(parsed.econtent(), Some(spc.as_slice()));
    assert_eq!(parsed.content_octets(), Some(octets.as_slice()));
    assert_eq!(
        parsed.verify_signer(0, SignedContent::Embedded),
        Ok(&pki.leaf)
    );
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "m.der", &message);
    let text = openssl(dir.path(), "pkcs7 -inform DER -in m.der -print");
    assert!(
        text.contains("version: 1") && text.contains("1.3.6.1.4.1.311.2.1.4"),
        "{text}"
    );
    // Detached with another type than id-data is CMS, version 3.
    let p = parts(k, &pki, None, oid::SPC_INDIRECT_DATA, &octets);
    let message = build_signed_data(&p).unwrap();
    assert!(message.windows(3).any(|w| w == [2, 1, 3]));
}

#[test]
fn unsigned_attributes_are_added_and_nothing_else_changes() {
    let k = key(KeyAlgorithm::EcP256);
    let pki = Pki::new(k, Purpose::CodeSigning);
    let message = build_signed_data(&detached(k, &pki)).unwrap();
    let token = |n: u8| asn1::octet_string(&[n; 300]);
    let one = add_unsigned_attribute(&message, 0, &oid::TIME_STAMP_TOKEN, &token(1)).unwrap();
    let two = add_unsigned_attribute(&one, 0, &oid::MS_RFC3161_COUNTERSIGN, &token(2)).unwrap();
    let three = add_unsigned_attribute(&two, 0, &oid::TIME_STAMP_TOKEN, &token(3)).unwrap();

    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "content", CONTENT);
    write(dir.path(), "m.der", &three);
    openssl_verifies(dir.path(), &pki, "-content content");

    let parsed = ParsedSignedData::parse(&three).unwrap();
    assert_eq!(
        parsed.verify_signer(0, SignedContent::Bytes(CONTENT)),
        Ok(&pki.leaf)
    );
    let s = &parsed.signers()[0];
    assert_eq!(
        s.unsigned_values(&oid::TIME_STAMP_TOKEN),
        [token(1), token(3)]
    );
    assert_eq!(s.unsigned_values(&oid::MS_RFC3161_COUNTERSIGN), [token(2)]);
    let before = ParsedSignedData::parse(&message).unwrap();
    assert_eq!(parsed.certificates(), before.certificates());
    let without = SignerInfo {
        unsigned_attrs: vec![],
        ..s.clone()
    };
    assert_eq!(without, before.signers()[0]);

    assert_eq!(
        add_unsigned_attribute(&message, 1, &oid::DATA, &token(1)),
        Err(CmsError::NoSigner(1))
    );
    assert!(add_unsigned_attribute(&message, 0, &oid::DATA, &[0x30, 9, 9]).is_err());
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let k = key(KeyAlgorithm::EcP256);
    let pki = Pki::new(k, Purpose::CodeSigning);
    let good = parts(
        k,
        &pki,
        Some(asn1::octet_string(CONTENT)),
        oid::DATA,
        CONTENT,
    );
    let with = |f: fn(&mut SignedDataParts)| {
        let mut p = good.clone();
        f(&mut p);
        build_signed_data(&p).unwrap_err()
    };
    assert_eq!(with(|p| p.chain.clear()), CmsError::NoChain);
    assert_eq!(
        with(|p| p.chain.reverse()),
        CmsError::Verify(VerifyError::Invalid)
    );
    assert_eq!(
        with(|p| p.signature[9] ^= 1),
        CmsError::Verify(VerifyError::Invalid)
    );
    assert_eq!(
        with(|p| p.content_type = oid::TST_INFO),
        CmsError::ContentType
    );
    assert_eq!(
        with(|p| p.econtent = Some(asn1::octet_string(b"other"))),
        CmsError::MessageDigest
    );
    assert_eq!(
        with(|p| p.digest = countersign_core::HashAlgorithm::Sha384),
        CmsError::DigestMismatch
    );
    assert!(matches!(
        with(|p| p.econtent.as_mut().unwrap().push(0)),
        CmsError::Asn1(_)
    ));
    assert_eq!(
        with(|p| p.signed_attrs_der = signed_attributes::encode(&[]).unwrap()),
        CmsError::SignedAttribute(oid::CONTENT_TYPE)
    );
}

#[test]
fn signed_attributes_are_read_strictly() {
    let digest = hash::digest(countersign_core::HashAlgorithm::Sha256, CONTENT);
    let good = signed_attributes::build(&oid::DATA, &digest, &[]).unwrap();
    let attributes = signed_attributes::parse(&good).unwrap();
    assert_eq!(signed_attributes::encode(&attributes), Ok(good.clone()));
    assert_eq!(signed_attributes::content_type(&attributes), Ok(oid::DATA));
    assert_eq!(
        signed_attributes::message_digest(&attributes).unwrap(),
        digest.as_bytes()
    );

    let problem = |der: &[u8]| match signed_attributes::parse(der) {
        Err(CmsError::Asn1(e)) => e.problem,
        other => panic!("{other:?}"),
    };
    let mut implicit = good.clone();
    implicit[0] = 0xa0;
    assert_eq!(
        problem(&implicit),
        Problem::WrongTag {
            expected: 0x31,
            found: 0xa0
        }
    );
    assert_eq!(
        problem(&[good.as_slice(), &[0]].concat()),
        Problem::TrailingBytes
    );
    let a: Vec<_> = attributes.iter().map(Attribute::to_der).collect();
    assert_eq!(
        problem(&asn1::tlv(asn1::SET, &[&a[1], &a[0]])),
        Problem::SetOrder
    );
    let twice = [
        Attribute::single(oid::SIGNING_TIME, asn1::null()).to_der(),
        Attribute::single(oid::SIGNING_TIME, asn1::octet_string(b"x")).to_der(),
    ];
    assert_eq!(
        problem(&asn1::tlv(asn1::SET, &[&twice[0], &twice[1]])),
        Problem::Duplicate
    );

    let two_values = Attribute {
        oid: oid::MESSAGE_DIGEST,
        values: vec![asn1::octet_string(&[1]), asn1::octet_string(&[2])],
    };
    assert_eq!(
        signed_attributes::message_digest(&[two_values]),
        Err(CmsError::SignedAttribute(oid::MESSAGE_DIGEST))
    );
}

#[test]
fn openssls_messages_verify_in_all_their_forms() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    write(d, "content", CONTENT);
    for key_options in [
        "rsa:3072",
        "ec -pkeyopt ec_paramgen_curve:P-384",
        "ec -pkeyopt ec_paramgen_curve:P-521",
    ] {
        openssl(
            d,
            &format!("req -x509 -newkey {key_options} -nodes -keyout k -out c.pem -subj /CN=x"),
        );
        let mut forms = vec![
            "",
            "-noattr",
            "-keyid",
            "-nodetach",
            "-nodetach -noattr",
            "-md sha512",
        ];
        if key_options.starts_with("rsa") {
            forms.push("-keyopt rsa_padding_mode:pss -keyopt rsa_pss_saltlen:digest");
        }
        for form in forms {
            openssl(
                d,
                &format!(
                    "cms -sign -binary -in content -signer c.pem -inkey k {form} -outform DER -out m.der"
                ),
            );
            let message = read(d, "m.der");
            let parsed = ParsedSignedData::parse(&message)
                .unwrap_or_else(|e| panic!("{key_options} {form}: {e}"));
            let (good, bad) = if form.contains("nodetach") {
                (SignedContent::Embedded, None)
            } else {
                (
                    SignedContent::Bytes(CONTENT),
                    Some(SignedContent::Bytes(b"other")),
                )
            };
            parsed
                .verify_signer(0, good)
                .unwrap_or_else(|e| panic!("{key_options} {form}: {e}"));
            if let Some(bad) = bad {
                let e = parsed.verify_signer(0, bad).unwrap_err();
                let expected = if form.contains("noattr") {
                    CmsError::Verify(VerifyError::Invalid)
                } else {
                    CmsError::MessageDigest
                };
                assert_eq!(e, expected, "{key_options} {form}");
                assert_eq!(
                    parsed.verify_signer(0, SignedContent::Embedded),
                    Err(CmsError::NoContent)
                );
            } else {
                assert_eq!(
                    parsed.verify_signer(0, SignedContent::Bytes(CONTENT)),
                    Err(CmsError::TwoContents)
                );
            }
        }
    }
    // -nocerts: the signer's certificate has to come from elsewhere, which we do not do.
    openssl(
        d,
        "cms -sign -binary -in content -signer c.pem -inkey k -nocerts -outform DER -out m.der",
    );
    let parsed = ParsedSignedData::parse(&read(d, "m.der")).unwrap();
    assert_eq!(
        parsed.verify_signer(0, SignedContent::Bytes(CONTENT)),
        Err(CmsError::NoSignerCertificate)
    );
    openssl(
        d,
        "cms -sign -md sha1 -binary -in content -signer c.pem -inkey k -outform DER -out m.der",
    );
    assert_eq!(
        ParsedSignedData::parse(&read(d, "m.der")),
        Err(CmsError::Verify(VerifyError::UnknownAlgorithm(
            ObjectIdentifier::new_unwrap("1.3.14.3.2.26")
        )))
    );
    // Streaming makes BER with indefinite lengths: refused, though openssl reads it.
    openssl(
        d,
        "cms -sign -nodetach -stream -binary -in content -signer c.pem -inkey k -outform DER -out m.der",
    );
    assert!(matches!(
        ParsedSignedData::parse(&read(d, "m.der")),
        Err(CmsError::Asn1(_))
    ));
    assert!(try_openssl(d, "cms -cmsout -inform DER -in m.der -noout").0);
}

fn sample() -> &'static (Pki, Vec<u8>) {
    static SAMPLE: std::sync::LazyLock<(Pki, Vec<u8>)> = std::sync::LazyLock::new(|| {
        let k = key(KeyAlgorithm::EcP256);
        let pki = Pki::new(k, Purpose::CodeSigning);
        let message = build_signed_data(&detached(k, &pki)).unwrap();
        (pki, message)
    });
    &SAMPLE
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = ParsedSignedData::parse(&bytes);
        let _ = signed_attributes::parse(&bytes);
        let _ = add_unsigned_attribute(&bytes, 0, &oid::DATA, &bytes);
    }

    #[test]
    fn mutated_messages_never_panic_nor_verify_other_content(at: prop::sample::Index, flip in 1u8..) {
        let (pki, message) = sample();
        let mut m = message.clone();
        m[at.index(message.len())] ^= flip;
        let _ = add_unsigned_attribute(&m, 0, &oid::TIME_STAMP_TOKEN, &asn1::null());
        if let Ok(p) = ParsedSignedData::parse(&m) {
            // A change outside what is signed (version, digestAlgorithms, other certificates, the
            // leaf's own signature) may leave the signer's signature good, by the same key.
            if let Ok(c) = p.verify_signer(0, SignedContent::Bytes(CONTENT)) {
                prop_assert_eq!(c.spki_der(), pki.leaf.spki_der());
                let before = ParsedSignedData::parse(message).unwrap();
                prop_assert_eq!(
                    &p.signers()[0].signed_attrs_der,
                    &before.signers()[0].signed_attrs_der
                );
            }
            prop_assert!(p.verify_signer(0, SignedContent::Bytes(b"other")).is_err());
        }
    }
}
