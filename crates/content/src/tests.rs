//! What is accepted, what is refused, and with which words. The judges from outside are openssl and
//! osslsigncode: what they write is read here, and what is written here they verify (in `formats`).

use super::*;
use crate::tlv::{tag, write, write_algorithm, write_oid};
use countersign_core::{Micros, SignatureScheme};
use der::asn1::ObjectIdentifier;
use proptest::prelude::*;

mod judges;
mod mutations;
mod refused;
mod values;

const SHA256: HashAlgorithm = HashAlgorithm::Sha256;

/// A certificate (P-256, self-signed, made by openssl) for the attributes that name one.
const CERT_EC: &[u8] = include_bytes!("testdata/ec.der");
/// Another one (RSA 3072).
const CERT_RSA: &[u8] = include_bytes!("testdata/rsa.der");

fn file_digest() -> Digest {
    digest_of(SHA256, b"the program")
}

fn options() -> authenticode::Options<'static> {
    authenticode::Options {
        program_name: Some("Acme Installer"),
        url: Some("https://acme.example/"),
        signing_time: Some(Micros::from_seconds(1_790_000_000)),
        signing_certificate: Some(CERT_EC),
    }
}

fn authenticode_with(options: &authenticode::Options<'_>) -> (Vec<u8>, Vec<u8>) {
    let indirect = authenticode::pe_indirect_data(&file_digest());
    let attributes = authenticode::signed_attributes(&indirect, SHA256, options).unwrap();
    (attributes, indirect)
}

fn parse_authenticode(attributes: &[u8], indirect: &[u8]) -> Result<Parsed, ContentRefusal> {
    let submission = Submission::Authenticode {
        signed_attributes: attributes.to_vec(),
        indirect_data: indirect.to_vec(),
    };
    parse(&submission, SHA256, Some(CERT_EC))
}

fn parse_cms(attributes: &[u8]) -> Result<Parsed, ContentRefusal> {
    let submission = Submission::Cms {
        signed_attributes: attributes.to_vec(),
    };
    parse(&submission, SHA256, Some(CERT_EC))
}

fn attribute(oid: ObjectIdentifier, values: &[&[u8]]) -> Vec<u8> {
    write(tag::SEQUENCE, &[&write_oid(oid), &write(tag::SET, values)])
}

/// A SET OF in DER order, of whatever is given.
fn set(mut attributes: Vec<Vec<u8>>) -> Vec<u8> {
    attributes.sort();
    let parts: Vec<&[u8]> = attributes.iter().map(Vec::as_slice).collect();
    write(tag::SET, &parts)
}

fn content_type(oid: ObjectIdentifier) -> Vec<u8> {
    attribute(oids::CONTENT_TYPE, &[&write_oid(oid)])
}

fn message_digest(digest: &[u8]) -> Vec<u8> {
    attribute(
        oids::MESSAGE_DIGEST,
        &[&write(tag::OCTET_STRING, &[digest])],
    )
}

/// Contents for a detached CMS, plus these attributes.
fn cms_plus(extra: Vec<Vec<u8>>) -> Vec<u8> {
    let mut all = vec![
        content_type(oids::DATA),
        message_digest(file_digest().as_bytes()),
    ];
    all.extend(extra);
    set(all)
}

#[test]
fn authenticode_is_understood() {
    for options in [options(), authenticode::Options::default()] {
        let (attributes, indirect) = authenticode_with(&options);
        let parsed = parse_authenticode(&attributes, &indirect).unwrap();
        assert_eq!(parsed.content, ContentType::Authenticode);
        assert_eq!(parsed.artifact, Some(file_digest()));
        assert_eq!(parsed.tbs, digest_of(SHA256, &attributes));
        assert!(parsed.typed);
        assert_eq!(authenticode::digest_in(&indirect), Ok(file_digest()));
    }
}

#[test]
fn cms_is_understood_with_each_hash() {
    for hash in HashAlgorithm::ALL {
        let digest = digest_of(hash, b"any file");
        for scheme in [
            SignatureScheme::RsaPkcs1(hash),
            SignatureScheme::Ecdsa(hash),
        ] {
            let cert = match scheme {
                SignatureScheme::RsaPkcs1(_) => CERT_RSA,
                SignatureScheme::Ecdsa(_) => CERT_EC,
            };
            let attributes = cms::signed_attributes(
                &digest,
                Some(Micros::from_seconds(1_790_000_000)),
                Some(cert),
                Some(scheme),
            )
            .unwrap();
            let submission = Submission::Cms {
                signed_attributes: attributes.clone(),
            };
            let parsed = parse(&submission, hash, Some(cert)).unwrap();
            assert_eq!(parsed.content, ContentType::Cms);
            assert_eq!(parsed.artifact, Some(digest.clone()));
            assert_eq!(parsed.tbs, digest_of(hash, &attributes));
            assert!(parsed.typed);
        }
    }
}

#[test]
fn a_raw_digest_is_not_typed() {
    let digest = file_digest();
    let parsed = parse(
        &Submission::RawDigest {
            digest: digest.as_bytes().to_vec(),
        },
        SHA256,
        None,
    );
    assert_eq!(
        parsed,
        Ok(Parsed {
            content: ContentType::RawDigest,
            tbs: digest,
            artifact: None,
            typed: false
        })
    );
}

#[test]
fn content_types_have_one_name_everywhere() {
    for c in ContentType::ALL {
        assert_eq!(c.as_str().parse(), Ok(c));
        assert_eq!(
            serde_json::to_string(&c).unwrap(),
            format!("\"{}\"", c.as_str())
        );
    }
    assert!("Authenticode".parse::<ContentType>().is_err());
}

#[test]
fn debug_shows_no_content() {
    let (signed_attributes, indirect_data) = authenticode_with(&options());
    let shown = format!(
        "{:?}",
        Submission::Authenticode {
            signed_attributes,
            indirect_data
        }
    );
    assert!(
        shown.starts_with("Authenticode(") && shown.len() < 40,
        "{shown}"
    );
}
