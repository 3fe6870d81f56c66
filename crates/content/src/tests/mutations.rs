//! Whatever is accepted is canonical: no bit can be changed without being seen.

use super::*;
use crate::attributes::SignedAttributes;

fn all_optional() -> [ObjectIdentifier; 5] {
    [
        oids::SPC_STATEMENT_TYPE,
        oids::SPC_SP_OPUS_INFO,
        oids::SIGNING_TIME,
        oids::SIGNING_CERTIFICATE_V2,
        oids::ALGORITHM_PROTECTION,
    ]
}

/// Accepted attributes must be what the `der` crate, too, would write for what it reads there.
fn assert_canonical(bytes: &[u8]) {
    use der::asn1::{Any, SetOfVec};
    use der::{Decode, Encode};
    let again = SetOfVec::<Any>::from_der(bytes).unwrap().to_der().unwrap();
    assert_eq!(again, bytes);
}

/// Calls `parse` with every byte replaced by every other value; says how many it accepted.
fn each_mutation(bytes: &[u8], parse: impl Fn(&[u8]) -> Result<Parsed, ContentRefusal>) -> usize {
    let mut accepted = 0;
    let mut m = bytes.to_vec();
    for at in 0..bytes.len() {
        for value in 0..=u8::MAX {
            m[at] = value;
            if value != bytes[at]
                && let Ok(parsed) = parse(&m)
            {
                assert_canonical(&m);
                assert_eq!(parsed.tbs, digest_of(SHA256, &m));
                accepted += 1;
            }
        }
        m[at] = bytes[at];
    }
    accepted
}

#[test]
fn every_authenticode_mutation_that_is_accepted_is_canonical() {
    let (attributes, indirect) = authenticode_with(&options());
    let accepted = each_mutation(&attributes, |m| parse_authenticode(m, &indirect));
    // Name, link and time are free within their rules; the rest is not.
    assert!(
        (100..attributes.len() * 256 / 2).contains(&accepted),
        "{accepted}"
    );
}

#[test]
fn every_cms_mutation_that_is_accepted_is_canonical() {
    let detached = cms::signed_attributes(
        &file_digest(),
        Some(Micros::from_seconds(1_790_000_000)),
        Some(CERT_EC),
        Some(SignatureScheme::Ecdsa(SHA256)),
    )
    .unwrap();
    let accepted = each_mutation(&detached, parse_cms);
    // The file's digest and the time.
    assert!(accepted > 32 * 255, "{accepted}");
}

#[test]
fn no_byte_of_the_indirect_data_may_differ() {
    let (attributes, indirect) = authenticode_with(&options());
    for at in 0..indirect.len() {
        for bit in 0..8 {
            let mut m = indirect.clone();
            m[at] ^= 1 << bit;
            assert!(parse_authenticode(&attributes, &m).is_err(), "byte {at}");
        }
    }
}

proptest! {
    #[test]
    fn parse_of_build_holds(
        file in proptest::collection::vec(any::<u8>(), 32),
        name in proptest::option::of("[^\\p{C}]{0,100}"),
        url in proptest::option::of("https://[a-z]{1,20}\\.example/[!-~]{0,50}"),
        seconds in proptest::option::of(0_i64..4_000_000_000),
        with_cert in any::<bool>(),
    ) {
        let digest = Digest::new(SHA256, file).unwrap();
        let indirect = authenticode::pe_indirect_data(&digest);
        let options = authenticode::Options {
            program_name: name.as_deref(),
            url: url.as_deref(),
            signing_time: seconds.map(Micros::from_seconds),
            signing_certificate: with_cert.then_some(CERT_EC),
        };
        let attributes = authenticode::signed_attributes(&indirect, SHA256, &options).unwrap();
        let parsed = parse_authenticode(&attributes, &indirect).unwrap();
        prop_assert_eq!(parsed.artifact, Some(digest.clone()));
        assert_canonical(&attributes);

        let detached = cms::signed_attributes(
            &digest,
            options.signing_time,
            options.signing_certificate,
            None,
        ).unwrap();
        prop_assert_eq!(parse_cms(&detached).unwrap().artifact, Some(digest));
        assert_canonical(&detached);
    }

    #[test]
    fn any_bytes_never_panic(
        a in proptest::collection::vec(any::<u8>(), 0..300),
        b in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        let _ = parse_authenticode(&a, &b);
        let _ = parse_cms(&a);
        let _ = authenticode::digest_in(&a);
        let _ = parse(&Submission::RawDigest { digest: a }, SHA256, Some(&b));
    }

    #[test]
    fn spliced_attributes_never_panic_and_stay_canonical(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
        shorten in any::<bool>(),
    ) {
        let (mut attributes, indirect) = authenticode_with(&options());
        for (at, value) in edits {
            let at = at.index(attributes.len());
            attributes[at] = value;
        }
        if shorten {
            attributes.truncate(cut.index(attributes.len()));
        }
        if parse_authenticode(&attributes, &indirect).is_ok() {
            assert_canonical(&attributes);
        }
        if let Ok(parsed) = SignedAttributes::parse(&attributes, oids::SPC_INDIRECT_DATA, &all_optional()) {
            prop_assert_eq!(parsed.encode(), attributes);
        }
    }
}
