use super::*;
use crate::asn1::{self, context, context_primitive};
use crate::build::{TbsBuilder, extension};
use crate::chain::Purpose;
use crate::testutil::{
    NOW, Pki, TestKey, days, issue, issue_with, key, leaf_builder, openssl, read,
};
use countersign_core::KeyAlgorithm;

struct Fixture {
    pki: Pki,
    key: &'static TestKey,
}

impl Fixture {
    fn new() -> Self {
        let key = key(KeyAlgorithm::EcP256);
        Self {
            pki: Pki::new(key, Purpose::CodeSigning),
            key,
        }
    }

    fn builder(&self) -> TbsBuilder {
        leaf_builder(&self.pki.ca, self.key, Purpose::CodeSigning)
    }

    /// The rules that find something in `leaf`.
    fn findings(&self, leaf: &Certificate) -> Vec<&'static str> {
        let chain = [leaf.clone(), self.pki.ca.clone(), self.pki.root.clone()];
        match check_issued(leaf, &chain, self.key.public.spki_der(), NOW) {
            Ok(()) => Vec::new(),
            Err(f) => f.iter().map(|f| f.rule).collect(),
        }
    }

    /// The rules that find something when one extension is replaced, or left out.
    fn with(&self, id: &ObjectIdentifier, replacement: Option<Vec<u8>>) -> Vec<&'static str> {
        let b = self.builder();
        let head = asn1::oid(id);
        let mut extensions: Vec<_> = b
            .extensions()
            .unwrap()
            .into_iter()
            .filter(|e| !e.windows(head.len()).any(|w| w == head))
            .collect();
        extensions.extend(replacement);
        self.findings(&issue_with(&b, &extensions, &self.pki.ca_key))
    }
}

#[test]
fn what_our_builder_makes_passes() {
    let f = Fixture::new();
    assert_eq!(f.findings(&f.pki.leaf), [""; 0]);
    // Left as it is, `with` changes nothing but the order.
    let ski = f.pki.leaf.extension(&oid::SUBJECT_KEY_ID).unwrap();
    assert_eq!(
        f.with(
            &oid::SUBJECT_KEY_ID,
            Some(extension(&oid::SUBJECT_KEY_ID, false, &ski.value))
        ),
        [""; 0]
    );
}

#[test]
fn a_certificate_for_another_key_is_refused() {
    let f = Fixture::new();
    let other = issue(
        &leaf_builder(&f.pki.ca, key(KeyAlgorithm::Rsa3072), Purpose::CodeSigning),
        &f.pki.ca_key,
    );
    assert_eq!(f.findings(&other), ["public-key"]);
}

#[test]
fn keys_csbr_does_not_allow_are_refused() {
    let f = Fixture::new();
    let dir = tempfile::tempdir().unwrap();
    for (options, expected) in [
        (
            "-algorithm RSA -pkeyopt rsa_keygen_bits:2048",
            vec!["public-key", "key-size"],
        ),
        (
            "-algorithm EC -pkeyopt ec_paramgen_curve:secp256k1",
            vec!["public-key", "curve"],
        ),
        ("-algorithm ED25519", vec!["public-key", "key-algorithm"]),
        (
            "-algorithm EC -pkeyopt ec_paramgen_curve:P-521",
            vec!["public-key"],
        ),
    ] {
        openssl(dir.path(), &format!("genpkey {options} -out k.pem"));
        openssl(dir.path(), "pkey -in k.pem -pubout -outform DER -out p.der");
        let mut b = f.builder();
        b.spki = read(dir.path(), "p.der");
        assert_eq!(f.findings(&issue(&b, &f.pki.ca_key)), expected, "{options}");
    }
}

#[test]
fn validity_is_at_most_460_days_both_ends_inside() {
    let f = Fixture::new();
    let live = |from: i64, to: Micros| {
        let mut b = f.builder();
        b.not_before = days(from);
        b.not_after = to;
        f.findings(&issue(&b, &f.pki.ca_key))
    };
    let second = 1_000_000;
    assert_eq!(live(-1, Micros(days(459).0 - second)), [""; 0]);
    assert_eq!(live(-1, days(459)), ["validity-period"]);
    // Before 2026-03-01 the bound is 39 months.
    assert_eq!(live(-300, Micros(days(888).0 - second)), [""; 0]);
    assert_eq!(live(-300, days(888)), ["validity-period"]);
    assert_eq!(live(1, days(100)), ["validity"]);
    assert_eq!(live(-10, days(-1)), ["validity"]);
    assert_eq!(SHORT_LIVES_FROM, days(-265));
}

#[test]
fn key_usage_is_held() {
    let f = Fixture::new();
    let with = |critical, bits: &[u8]| {
        f.with(
            &oid::KEY_USAGE,
            Some(extension(
                &oid::KEY_USAGE,
                critical,
                &asn1::tlv(asn1::BIT_STRING, &[bits]),
            )),
        )
    };
    assert_eq!(f.with(&oid::KEY_USAGE, None), ["key-usage"]);
    assert_eq!(with(false, &[7, 0x80]), ["key-usage-critical"]);
    assert_eq!(with(true, &[6, 0x40]), ["key-usage"]);
    assert_eq!(with(true, &[2, 0x84]), ["key-usage"]);
    assert_eq!(with(true, &[1, 0x82]), ["key-usage"]);
    assert_eq!(with(true, &[6, 0xc0]), [""; 0]);
}

#[test]
fn extended_key_usage_is_held() {
    let f = Fixture::new();
    let with = |usages: &[ObjectIdentifier]| {
        let list: Vec<u8> = usages.iter().flat_map(asn1::oid).collect();
        f.with(
            &oid::EXTENDED_KEY_USAGE,
            Some(extension(
                &oid::EXTENDED_KEY_USAGE,
                false,
                &asn1::sequence(&[&list]),
            )),
        )
    };
    const RULE: &str = "extended-key-usage";
    assert_eq!(f.with(&oid::EXTENDED_KEY_USAGE, None), [RULE]);
    for banned in [
        oid::ANY_EXTENDED_KEY_USAGE,
        oid::SERVER_AUTH,
        oid::TIME_STAMPING,
    ] {
        assert_eq!(with(&[oid::CODE_SIGNING, banned]), [RULE]);
        assert_eq!(with(&[banned]), [RULE, RULE]);
    }
    let lifetime = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.10.3.13");
    assert_eq!(with(&[oid::CODE_SIGNING, lifetime]), [""; 0]);
}

#[test]
fn exactly_one_reserved_policy() {
    let f = Fixture::new();
    let with = |critical, policies: &[ObjectIdentifier]| {
        let list: Vec<u8> = policies
            .iter()
            .flat_map(|p| asn1::sequence(&[&asn1::oid(p)]))
            .collect();
        f.with(
            &oid::CERTIFICATE_POLICIES,
            Some(extension(
                &oid::CERTIFICATE_POLICIES,
                critical,
                &asn1::sequence(&[&list]),
            )),
        )
    };
    let own = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.99999.1");
    const RULE: &str = "reserved-policy";
    assert_eq!(f.with(&oid::CERTIFICATE_POLICIES, None), [RULE]);
    assert_eq!(with(false, &[own]), [RULE]);
    assert_eq!(with(false, &[oid::POLICY_TIME_STAMPING]), [RULE]);
    assert_eq!(
        with(
            false,
            &[oid::POLICY_CODE_SIGNING, oid::POLICY_EV_CODE_SIGNING]
        ),
        [RULE]
    );
    assert_eq!(with(false, &[own, oid::POLICY_EV_CODE_SIGNING]), [""; 0]);
    assert_eq!(with(true, &[oid::POLICY_CODE_SIGNING]), ["not-critical"]);
}

#[test]
fn pointers_and_the_ca_bit_are_held() {
    let f = Fixture::new();
    let crl = |url: &str| {
        let uri = asn1::tlv(context_primitive(6), &[url.as_bytes()]);
        let name = asn1::tlv(context(0), &[&asn1::tlv(context(0), &[&uri])]);
        let body = asn1::sequence(&[&asn1::sequence(&[&name])]);
        f.with(
            &oid::CRL_DISTRIBUTION_POINTS,
            Some(extension(&oid::CRL_DISTRIBUTION_POINTS, false, &body)),
        )
    };
    assert_eq!(f.with(&oid::CRL_DISTRIBUTION_POINTS, None), ["crl-url"]);
    assert_eq!(crl("ldap://ca.test/crl"), ["crl-url"]);
    assert_eq!(crl("http://ca.test/crl"), [""; 0]);

    let aki = |id: &[u8]| {
        let body = asn1::sequence(&[&asn1::tlv(context_primitive(0), &[id])]);
        f.with(
            &oid::AUTHORITY_KEY_ID,
            Some(extension(&oid::AUTHORITY_KEY_ID, false, &body)),
        )
    };
    assert_eq!(f.with(&oid::AUTHORITY_KEY_ID, None), ["authority-key-id"]);
    assert_eq!(aki(b"somebody else"), ["authority-key-id"]);

    let ca = extension(
        &oid::BASIC_CONSTRAINTS,
        true,
        &asn1::sequence(&[&asn1::boolean_true()]),
    );
    assert_eq!(f.with(&oid::BASIC_CONSTRAINTS, Some(ca)), ["not-a-ca"]);
    let end = extension(&oid::BASIC_CONSTRAINTS, true, &asn1::sequence(&[]));
    assert_eq!(f.with(&oid::BASIC_CONSTRAINTS, Some(end)), [""; 0]);
}

#[test]
fn everything_wrong_is_said_at_once_with_its_source() {
    let f = Fixture::new();
    let leaf = issue_with(
        &f.builder(),
        &[extension(&oid::SUBJECT_KEY_ID, false, &[4, 1, 1])],
        &f.pki.ca_key,
    );
    let chain = [leaf.clone()];
    let findings = check_issued(&leaf, &chain, f.key.public.spki_der(), NOW).unwrap_err();
    let text: Vec<_> = findings.iter().map(ToString::to_string).collect();
    assert_eq!(
        text,
        [
            "key-usage: keyUsage is missing (CSBR §7.1.2.3 e)",
            "extended-key-usage: extKeyUsage lacks codeSigning (CSBR §7.1.2.3 f)",
            "reserved-policy: 0 reserved policy identifiers, exactly one is needed \
             (2.23.140.1.4.1 or 2.23.140.1.3) (CSBR §7.1.6.4)",
            "crl-url: cRLDistributionPoints is missing (CSBR §7.1.2.3 b)",
            "authority-key-id: authorityKeyIdentifier is missing (CSBR §7.1.2.3 g)",
        ]
    );
}
