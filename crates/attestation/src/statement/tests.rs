use super::*;
use crate::testkit::{Pair, at, full_statement};
use proptest::prelude::*;

mod judges;

fn signer() -> Pair {
    Pair::new()
}

fn tbs(signer: &Pair) -> StatementTbs {
    full_statement(signer)
}

fn signed(tbs: &StatementTbs, signer: &Pair) -> Vec<u8> {
    tbs.assemble(&signer.sign(&tbs.encode().unwrap())).unwrap()
}

#[test]
fn what_is_stated_comes_back_and_verifies() {
    let signer = signer();
    let mut full = tbs(&signer);
    for isolation in [
        Isolation::ExclusiveToken,
        Isolation::PerKeyAuthorisation,
        Isolation::SharedToken,
    ] {
        full.key.isolation = isolation;
        assert_eq!(isolation.as_str().parse(), Ok(isolation));
        let mut bare = full.clone();
        bare.practice_statement_hash = None;
        bare.audit = None;
        bare.key.attributes.clear();
        for t in [&full, &bare] {
            let der = signed(t, &signer);
            let read = ServiceStatement::parse(&der).unwrap();
            assert_eq!(read.tbs(), t);
            assert_eq!(read.tbs_der(), t.encode().unwrap());
            assert_eq!(sha256(read.tbs_der()), t.signing_digest().unwrap());
            assert_eq!(
                read.verify(std::slice::from_ref(&signer.key)),
                Ok(&signer.key)
            );
        }
    }
}

#[test]
fn only_a_pinned_key_is_believed() {
    let (ours, other) = (signer(), signer());
    let read = ServiceStatement::parse(&signed(&tbs(&ours), &ours)).unwrap();
    assert_eq!(read.verify(&[]), Err(StatementError::NoPinnedKey));
    assert_eq!(
        read.verify(std::slice::from_ref(&other.key)),
        Err(StatementError::KeyNotPinned(hex::encode(
            ours.statement_key().sha256()
        )))
    );
    assert_eq!(
        read.verify(&[other.key.clone(), ours.key.clone()]),
        Ok(&ours.key)
    );
    // Names our key, signed by another.
    let forged = ServiceStatement::parse(&signed(&tbs(&ours), &other)).unwrap();
    assert_eq!(
        forged.verify(&[ours.key, other.key]),
        Err(StatementError::BadSignature)
    );
}

#[test]
fn every_single_byte_change_is_refused() {
    let signer = signer();
    let der = signed(&tbs(&signer), &signer);
    let keys = [signer.key];
    let mut bytes = der.clone();
    for i in 0..der.len() {
        for change in [1, 2, 4, 8, 16, 32, 64, 128, 255] {
            bytes[i] = der[i] ^ change;
            let refused = ServiceStatement::parse(&bytes)
                .and_then(|s| s.verify(&keys).map(|_| ()))
                .is_err();
            assert!(refused, "byte {i} of {} as {:#04x}", der.len(), bytes[i]);
        }
        bytes[i] = der[i];
    }
    assert!(
        ServiceStatement::parse(&bytes)
            .unwrap()
            .verify(&keys)
            .is_ok()
    );
}

#[test]
fn cut_off_anywhere_it_is_refused() {
    let signer = signer();
    let der = signed(&tbs(&signer), &signer);
    for n in 0..der.len() {
        assert!(
            matches!(
                ServiceStatement::parse(&der[..n]),
                Err(StatementError::Malformed(_))
            ),
            "{n}"
        );
    }
    let mut longer = der;
    longer.push(0);
    assert!(matches!(
        ServiceStatement::parse(&longer),
        Err(StatementError::Malformed(
            der::ErrorKind::TrailingData { .. }
        ))
    ));
}

/// Changes the encoded bytes and gives the parser's answer. `from` must stand once.
fn with_bytes(der: &[u8], from: &[u8], to: &[u8]) -> Result<ServiceStatement, StatementError> {
    let hits: Vec<_> = der
        .windows(from.len())
        .enumerate()
        .filter(|(_, w)| *w == from)
        .map(|(i, _)| i)
        .collect();
    assert_eq!(hits.len(), 1, "the pattern must stand once");
    assert_eq!(from.len(), to.len());
    let mut changed = der.to_vec();
    changed[hits[0]..hits[0] + to.len()].copy_from_slice(to);
    ServiceStatement::parse(&changed)
}

#[test]
fn foreign_versions_types_and_algorithms_are_named() {
    let signer = signer();
    let der = signed(&tbs(&signer), &signer);
    let mut with_version = vec![0x02, 0x01, 0x01, 0x06, 0x14];
    let other_version = [0x02, 0x01, 0x02, 0x06, 0x14];
    assert_eq!(
        with_bytes(&der, &with_version, &other_version),
        Err(StatementError::UnknownVersion(2))
    );
    with_version.extend(SERVICE_STATEMENT_OID);
    let mut other_type = with_version.clone();
    *other_type.last_mut().unwrap() ^= 1;
    assert_eq!(
        with_bytes(&der, &with_version, &other_type),
        Err(StatementError::WrongType)
    );
    // ecdsa-with-SHA256 becomes ecdsa-with-SHA384.
    let algorithm = hex::decode("06082a8648ce3d040302").unwrap();
    let sha384 = hex::decode("06082a8648ce3d040303").unwrap();
    assert_eq!(
        with_bytes(&der, &algorithm, &sha384),
        Err(StatementError::WrongAlgorithm)
    );
}

#[test]
fn a_non_canonical_statement_is_refused() {
    let signer = signer();
    let der = signed(&tbs(&signer), &signer);
    // A BOOLEAN of 1 is BER for TRUE; DER has 0xff alone (X.690 §11.1).
    assert!(matches!(
        with_bytes(&der, &[0x01, 0x01, 0xff], &[0x01, 0x01, 0x01]),
        Err(StatementError::Malformed(_))
    ));
    // Attributes out of order: well-formed DER, and yet not what the writer makes.
    let names = [&b"CKA_ALWAYS_SENSITIVE"[..], b"ZKA_ALWAYS_SENSITIVE"];
    assert_eq!(
        with_bytes(&der, names[0], names[1]),
        Err(StatementError::NotCanonical)
    );
}

#[test]
fn the_signature_is_a_der_pair_of_positive_numbers() {
    let signer = signer();
    let t = tbs(&signer);
    for bad in [
        &[][..],
        &[0x30, 0x00],
        &[0x30, 0x06, 0x02, 0x01, 0x80, 0x02, 0x01, 0x01], // r negative
        &[0x30, 0x07, 0x02, 0x02, 0x00, 0x01, 0x02, 0x01, 0x01], // r not minimal
        &[0x30, 0x06, 0x02, 0x01, 0x01, 0x02, 0x01, 0x01, 0x00], // trailing
        &[7; 64],                                          // raw r ‖ s
    ] {
        assert_eq!(
            t.assemble(bad),
            Err(StatementError::MalformedSignature),
            "{bad:02x?}"
        );
    }
}

#[test]
fn fields_out_of_bounds_are_named_and_never_cut() {
    type Change = fn(&mut StatementTbs);
    let cases: [(&str, Change); 18] = [
        ("service", |t| t.service.clear()),
        ("subscriber", |t| t.subscriber = "a".repeat(257)),
        ("audience", |t| t.audience = "a\u{0}b".into()),
        ("order.id", |t| t.order.id = "a\nb".into()),
        ("order.nonce", |t| t.order.nonce = vec![0; 7]),
        ("order.nonce", |t| t.order.nonce = vec![0; 65]),
        ("expiresAt", |t| t.expires_at = t.issued_at),
        ("key.mechanism", |t| t.key.mechanism.clear()),
        ("key.attributes", |t| {
            let twice = t.key.attributes[0].clone();
            t.key.attributes.push(twice);
        }),
        ("key.attributes", |t| {
            t.key.attributes = (0..65)
                .map(|i| AttributeClaim {
                    attribute: format!("A{i}"),
                    seen: String::new(),
                })
                .collect();
        }),
        ("key.attributes.attribute", |t| {
            t.key.attributes[0].attribute.clear();
        }),
        ("key.attributes.seen", |t| {
            t.key.attributes[0].seen = "x".repeat(129);
        }),
        ("device.serial", |t| t.device.serial = "x".repeat(129)),
        ("device.firmware", |t| t.device.firmware = "\u{7f}".into()),
        ("log.origin", |t| t.log.origin.clear()),
        ("log.verifierKey", |t| t.log.verifier_key.clear()),
        ("audit.scheme", |t| {
            t.audit.as_mut().unwrap().scheme.clear();
        }),
        ("audit.to", |t| {
            let a = t.audit.as_mut().unwrap();
            a.to = a.from;
        }),
    ];
    let signer = signer();
    for (name, change) in cases {
        let mut t = tbs(&signer);
        change(&mut t);
        assert!(
            matches!(t.encode(), Err(StatementError::Field { field, .. }) if field == name),
            "{name}: {:?}",
            t.encode()
        );
    }
}

#[test]
fn the_reader_has_the_same_bounds() {
    let signer = signer();
    let der = signed(&tbs(&signer), &signer);
    let refused = |r: Result<ServiceStatement, StatementError>, name: &str| {
        assert!(
            matches!(&r, Err(StatementError::Field { field, .. }) if *field == name),
            "{name}: {r:?}"
        );
    };
    refused(
        with_bytes(&der, b"\x0c\x04acme\x0c", b"\x0c\x04ac\x00e\x0c"),
        "subscriber",
    );
    refused(
        with_bytes(&der, b"20261122205935Z", b"20251122205935Z"),
        "expiresAt",
    );
    assert_eq!(
        ServiceStatement::parse(&vec![0x30; MAX_STATEMENT + 1]),
        Err(StatementError::TooLarge {
            given: MAX_STATEMENT + 1
        })
    );
}

#[test]
fn a_statement_key_is_p256_on_the_curve_and_nothing_else() {
    let good = signer().spki;
    assert!(StatementKey::from_spki_der(&good).is_ok());
    let mut off_curve = good.clone();
    *off_curve.last_mut().unwrap() ^= 1;
    let mut trailing = good.clone();
    trailing.push(0);
    let mut other_curve = good.clone();
    other_curve[22] ^= 1;
    let mut compressed_tag = good.clone();
    compressed_tag[26] = 2;
    for bad in [&off_curve, &trailing, &other_curve, &compressed_tag] {
        assert_eq!(
            StatementKey::from_spki_der(bad),
            Err(StatementError::NotAStatementKey)
        );
    }
    let pem = der::pem::encode_string("PUBLIC KEY", der::pem::LineEnding::LF, &good).unwrap();
    assert_eq!(
        StatementKey::from_pem(pem.as_bytes()).map(|k| k.spki().to_vec()),
        Ok(good.clone())
    );
    let pem = der::pem::encode_string("CERTIFICATE", der::pem::LineEnding::LF, &good).unwrap();
    assert_eq!(
        StatementKey::from_pem(pem.as_bytes()),
        Err(StatementError::NotAStatementKey)
    );
}

fn anything() -> impl Strategy<Value = StatementTbs> {
    let text = "[ -~äß]{1,40}";
    (
        (text, text, text, text, any::<[u8; 32]>()),
        proptest::collection::vec(any::<u8>(), 8..=64),
        (0i64..200_000_000_000, 1u64..100_000_000, any::<u64>()),
        proptest::collection::btree_map("CKA_[A-Z_]{1,20}", "[ -~]{0,20}", 0..10),
        any::<bool>(),
        proptest::option::of(any::<[u8; 32]>()),
    )
        .prop_map(
            |(texts, nonce, (from, lasts, size), attributes, software, hash)| {
                let (a, b, c, d, e) = texts;
                StatementTbs {
                    signer_key_hash: e,
                    service: a,
                    subscriber: b,
                    audience: c,
                    order: Order { id: d, nonce },
                    issued_at: at(from),
                    expires_at: at(from).plus(lasts),
                    key: KeyStatement {
                        attributes: attributes
                            .into_iter()
                            .map(|(attribute, seen)| AttributeClaim { attribute, seen })
                            .collect(),
                        ..tbs(&FIXED).key
                    },
                    device: Device {
                        software,
                        ..tbs(&FIXED).device
                    },
                    log: LogAnchor {
                        size,
                        ..tbs(&FIXED).log
                    },
                    practice_statement_hash: hash,
                    ..tbs(&FIXED)
                }
            },
        )
}

static FIXED: std::sync::LazyLock<Pair> = std::sync::LazyLock::new(signer);

proptest! {
    #[test]
    fn whatever_is_stated_comes_back(t in anything()) {
        let der = t.assemble(&[0x30, 0x06, 0x02, 0x01, 0x01, 0x02, 0x01, 0x01]).unwrap();
        let read = ServiceStatement::parse(&der).unwrap();
        prop_assert_eq!(read.tbs(), &t);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(ServiceStatement::parse(&bytes).is_err());
    }

    #[test]
    fn damaged_statements_never_panic(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        static GOOD: std::sync::LazyLock<Vec<u8>> =
            std::sync::LazyLock::new(|| signed(&tbs(&FIXED), &FIXED));
        let mut bytes = GOOD.clone();
        for (i, b) in edits {
            let i = i.index(bytes.len());
            bytes[i] = b;
        }
        let believed = ServiceStatement::parse(&bytes)
            .is_ok_and(|s| s.verify(std::slice::from_ref(&FIXED.key)).is_ok());
        prop_assert_eq!(believed, bytes == *GOOD);
    }
}
