//! One spelling for each leaf, and no other.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{authorisation, body, key_log};
use countersign_signing_log::commitment::{Commitment, HexHash, Salt, commit};
use countersign_signing_log::leaf::*;
use countersign_signing_log::{Details, Leaf, LeafBody};
use proptest::prelude::*;

/// The schema's first golden line: changing it breaks every log there is.
const GOLDEN_OUTCOME: &str = "{\"v\":1,\"type\":\"outcome\",\"time\":1764000000000000,\"of\":7,\"result\":\"signed\",\"signature_sha256\":\"0101010101010101010101010101010101010101010101010101010101010101\"}";

const GOLDEN_AUTHORISATION: &str = "{\"v\":1,\"type\":\"authorisation\",\"time\":5,\"tenant\":\"0190aaaa-0000-7000-8000-00000000000a\",\"signer\":\"release\",\"key\":\"0190aaaa-0000-7000-8000-000000000001\",\"request\":\"r0\",\"attempt\":1,\"purpose\":\"signature\",\"scheme\":\"ecdsa-sha-256\",\"content\":\"authenticode\",\"asserted\":\"typed\",\"tbs\":\"TBS\",\"artifact\":\"ARTIFACT\",\"caller\":\"CALLER\",\"node\":\"0190aaaa-0000-7000-8000-0000000000ff\",\"epoch\":3}";

fn outcome() -> Leaf {
    let signature_sha256 = Some(HexHash([1; 32]));
    let body = Outcome {
        of: 7,
        result: OutcomeResult::Signed,
        signature_sha256,
        reason: None,
    };
    Leaf::new(1_764_000_000_000_000, body)
}

#[test]
fn golden_leaves() {
    assert_eq!(
        String::from_utf8(outcome().encode().unwrap()).unwrap(),
        GOLDEN_OUTCOME
    );
    assert_eq!(Leaf::decode(GOLDEN_OUTCOME.as_bytes()), Ok(outcome()));
    let (a, _) = authorisation(0);
    let golden = GOLDEN_AUTHORISATION
        .replace("TBS", &a.tbs.to_string())
        .replace("ARTIFACT", &a.artifact.unwrap().to_string())
        .replace("CALLER", &a.caller.to_string());
    assert_eq!(
        String::from_utf8(Leaf::new(5, a).encode().unwrap()).unwrap(),
        golden
    );
    let leaf = Leaf::new(
        9,
        PolicySet {
            allow_software: true,
            require_mfa: false,
            evidence: None,
        },
    )
    .with_request("r-1")
    .with_by(Commitment([2; 32]));
    let golden = format!(
        "{{\"v\":1,\"type\":\"policy-set\",\"time\":9,\"request\":\"r-1\",\"by\":\"{}\",\
         \"allow_software\":true,\"require_mfa\":false}}",
        "02".repeat(32)
    );
    assert_eq!(String::from_utf8(leaf.encode().unwrap()).unwrap(), golden);
    assert_eq!(Leaf::decode(golden.as_bytes()), Ok(leaf));
}

#[test]
fn any_other_spelling_is_refused() {
    let good = GOLDEN_OUTCOME;
    let swapped = "\"result\":\"signed\",\"of\":7";
    for (bad, why) in [
        (format!("{good}\n"), "trailing newline"),
        (format!(" {good}"), "leading space"),
        (good.replace("\"of\":7", "\"of\": 7"), "space inside"),
        (good.replace("\"of\":7", "\"of\":7.0"), "float"),
        (good.replace("\"of\":7", "\"of\":07"), "leading zero"),
        (good.replace("\"of\":7", "\"of\":-7"), "negative"),
        (
            good.replace("\"of\":7", "\"of\":7,\"of\":7"),
            "doubled member",
        ),
        (
            good.replace("\"of\":7", "\"of\":7,\"x\":1"),
            "unknown member",
        ),
        (
            good.replace("\"of\":7,\"result\":\"signed\"", swapped),
            "other order",
        ),
        (
            good.replace("\"time\":1764", "\"time\":01764"),
            "leading zero in time",
        ),
        (
            good.replace("\"time\":1764", "\"time\":-1764"),
            "time before 1970",
        ),
        (
            good.replace("000000000000,", "0000000000000000,"),
            "time out of range",
        ),
        (good.replace("signed\"", "sign\\u0065d\""), "escape"),
        (good.replace("0101\"}", "0101\",\"reason\":null}"), "null"),
        (good.replace("\"0101", "\"010A"), "upper-case hex"),
        (good.replace("\"0101", "\"01"), "short hash"),
        (good.replace("signed", "sold"), "unknown word"),
        (good.replace("\"type\":\"outcome\",", ""), "no type"),
        (
            good.replace(",\"signature_sha256\":\"", ",\"reason\":\""),
            "signed without signature",
        ),
        (
            good.replace("\"result\":\"signed\"", "\"result\":\"failed\""),
            "failed with signature",
        ),
    ] {
        assert_ne!(bad, good, "{why}: the replacement did nothing");
        assert!(Leaf::decode(bad.as_bytes()).is_err(), "{why}: {bad}");
    }
    let newer = good.replace("\"v\":1", "\"v\":2");
    assert_eq!(
        Leaf::decode(newer.as_bytes()),
        Err(LeafError::UnknownVersion { given: "2".into() })
    );
    let unknown = good.replace("outcome", "surprise");
    assert_eq!(
        Leaf::decode(unknown.as_bytes()),
        Err(LeafError::UnknownType {
            given: "surprise".into()
        })
    );
    assert_eq!(
        Leaf::decode(&vec![b'{'; MAX_LEAF + 1]),
        Err(LeafError::TooLong {
            length: MAX_LEAF + 1
        })
    );
}

#[test]
fn bounds_name_the_member() {
    let (a, _) = authorisation(0);
    let long = "x".repeat(MAX_STRING + 1);
    let encode = |a: Authorisation| Leaf::new(1, a).encode();
    assert_eq!(
        encode(Authorisation {
            signer: long.clone(),
            ..a.clone()
        }),
        Err(LeafError::StringTooLong { field: "signer" })
    );
    assert_eq!(
        encode(Authorisation {
            attempt: 2,
            ..a.clone()
        }),
        Err(LeafError::Inconsistent { field: "attempt" })
    );
    assert_eq!(
        encode(Authorisation {
            attempt: 0,
            ..a.clone()
        }),
        Err(LeafError::Inconsistent { field: "attempt" })
    );
    assert_eq!(
        encode(Authorisation {
            content: ContentKind::RawDigest,
            ..a.clone()
        }),
        Err(LeafError::Inconsistent { field: "asserted" })
    );
    assert_eq!(
        encode(Authorisation {
            purpose: Purpose::CertificateRequest,
            ..a.clone()
        }),
        Err(LeafError::Inconsistent { field: "content" })
    );
    assert_eq!(
        Leaf::new(1, a).with_request("r").encode(),
        Err(LeafError::Inconsistent { field: "by" })
    );
    assert_eq!(
        Leaf {
            time: -1,
            ..outcome()
        }
        .encode(),
        Err(LeafError::Inconsistent { field: "time" })
    );
    for request in ["", "a b", "a\"b", "é", &"r".repeat(65)] {
        let refused = Err(LeafError::Inconsistent { field: "request" });
        assert_eq!(
            outcome().with_request(request).encode(),
            refused,
            "{request}"
        );
    }
    let appraised = KeyAppraised {
        key: "k".into(),
        result: "ok".into(),
        evidence: vec![HexHash([0; 32]); MAX_LIST + 1],
        statement: None,
    };
    assert_eq!(
        Leaf::new(1, appraised).encode(),
        Err(LeafError::ListTooLong { field: "evidence" })
    );
    let exchanged = TokenExchanged {
        issuer: "i".into(),
        caller: Commitment([0; 32]),
        signers: vec!["s".repeat(1000); 100],
    };
    assert!(matches!(
        Leaf::new(1, exchanged).encode(),
        Err(LeafError::TooLong { .. })
    ));
}

/// Byte for byte as docs/log-format.md says; computed there with `printf … | sha256sum`.
#[test]
fn a_commitment_is_what_the_format_says() {
    let c = commit("artifact", &Salt([0x11; 32]), b"sha-256:00");
    assert_eq!(
        c.to_string(),
        "aa74ef5b2085e5cf070a650c96f96388f2125d5e75d1fdbd45757b6a267a7fae"
    );
    assert_ne!(c, commit("tbs", &Salt([0x11; 32]), b"sha-256:00"));
    assert_ne!(c, commit("artifact", &Salt([0x12; 32]), b"sha-256:00"));
}

#[test]
fn details_open_their_own_leaf_alone() {
    let (leaves, details) = key_log(2);
    let (first, second) = (&details[0], &details[1]);
    let leaf = &leaves[first.index as usize];
    assert_eq!(first.check(leaf), Ok(()));
    assert_eq!(first.openings().count(), 3);
    assert!(second.check(leaf).is_err());
    assert!(first.check(&leaves[0]).is_err());
    assert_eq!(Details::parse_line(&first.to_line()).as_ref(), Ok(first));
    let swapped = Details {
        tbs: first.artifact.clone(),
        ..first.clone()
    };
    assert!(
        swapped.check(leaf).is_err(),
        "a label's opening never passes for another's"
    );
    assert!(Details::parse_line("{\"index\":1,\"x\":2}").is_err());
    assert!(
        !format!("{first:?}").contains("sha-256"),
        "Debug shows no content"
    );
}

fn any_body() -> impl Strategy<Value = LeafBody> {
    let text = || "\\PC{0,20}|[\\x00-\\x7f\"\\\\]{0,12}";
    (
        0..LeafBody::TYPES.len(),
        prop::collection::vec(text(), 7),
        any::<[[u8; 32]; 3]>(),
        any::<[u64; 3]>(),
        any::<[bool; 3]>(),
        prop::collection::vec(text(), 0..5),
    )
        .prop_map(|(which, s, h, n, b, list)| body(which, &s, h, n, b, list))
}

fn any_leaf() -> impl Strategy<Value = Leaf> {
    (
        0..i64::MAX,
        any_body(),
        prop::option::of("[A-Za-z0-9._-]{1,64}"),
        any::<Option<[u8; 32]>>(),
    )
        .prop_map(|(time, body, request, by)| {
            let plain = !matches!(body, LeafBody::Authorisation(_));
            Leaf {
                time,
                body,
                request: request.filter(|_| plain),
                by: by.filter(|_| plain).map(Commitment),
            }
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_leaf_reads_back(leaf in any_leaf()) {
        let bytes = leaf.encode().unwrap();
        prop_assert!(!bytes.contains(&b'\n'));
        prop_assert_eq!(Leaf::decode(&bytes), Ok(leaf));
        // It is JSON that anybody reads.
        let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        prop_assert_eq!(value["v"].as_u64(), Some(1));
    }

    #[test]
    fn a_changed_byte_never_means_the_same(leaf in any_leaf(), at: prop::sample::Index, to: u8) {
        let bytes = leaf.encode().unwrap();
        let mut changed = bytes.clone();
        let at = at.index(bytes.len());
        changed[at] = to;
        if changed != bytes {
            prop_assert_ne!(Leaf::decode(&changed), Ok(leaf));
        }
    }

    #[test]
    fn what_decodes_encodes_to_the_same_bytes(
        which in 0..LeafBody::TYPES.len(),
        members in "(,\"[a-z_]{1,8}\":(\"\\PC{0,6}\"|[0-9]{1,9}|true|null)){0,4}",
        bytes: Vec<u8>,
    ) {
        let line = format!("{{\"v\":1,\"type\":\"{}\",\"time\":5{members}}}", LeafBody::TYPES[which]);
        for bytes in [line.into_bytes(), bytes] {
            if let Ok(leaf) = Leaf::decode(&bytes) {
                prop_assert_eq!(leaf.encode(), Ok(bytes));
            }
        }
    }

    #[test]
    fn details_from_arbitrary_text_never_panic(text in "\\PC{0,200}") {
        let _ = Details::parse_line(&text);
    }
}
