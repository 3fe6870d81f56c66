//! DER, CBOR, base64, certificates, bundles.

use countersign_attestation::AttestationBundle;
use countersign_attestation::certificate::Certificate;
use countersign_attestation::der::{single, tag};
use countersign_attestation::verify::armour;
use countersign_attestation::verify::cbor::{self as read, Value};
use countersign_testkit_evidence::cert::{self, cn};
use countersign_testkit_evidence::gzip::gzip;
use countersign_testkit_evidence::text::{base64, base64url, pem};
use countersign_testkit_evidence::{Key, Kind, cbor, der};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

/// A CBOR value with no borrow, to write and to compare.
#[derive(Debug, Clone)]
enum Item {
    Int(i64),
    Bytes(Vec<u8>),
    Text(String),
    Array(Vec<Item>),
    Map(Vec<(String, Item)>),
}

impl Item {
    fn write(&self) -> Vec<u8> {
        match self {
            Self::Int(n) => cbor::int(*n),
            Self::Bytes(b) => cbor::bytes(b),
            Self::Text(t) => cbor::text(t),
            Self::Array(items) => {
                let items: Vec<_> = items.iter().map(Self::write).collect();
                cbor::array(&items)
            }
            Self::Map(members) => {
                let members: Vec<_> = members
                    .iter()
                    .map(|(k, v)| (cbor::text(k), v.write()))
                    .collect();
                cbor::map(&members)
            }
        }
    }

    fn is(&self, value: &Value<'_>) -> bool {
        match (self, value) {
            (Self::Int(n), Value::Unsigned(u)) => u64::try_from(*n) == Ok(*u),
            (Self::Int(n), Value::Negative(u)) => u64::try_from(-1 - n) == Ok(*u),
            (Self::Bytes(b), Value::Bytes(c)) => b == c,
            (Self::Text(t), Value::Text(u)) => t == u,
            (Self::Array(a), Value::Array(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(x, y)| x.is(y))
            }
            (Self::Map(a), Value::Map(b)) => {
                let same = |(k, v): &(String, Self)| value.get(k).is_some_and(|w| v.is(w));
                a.len() == b.len() && a.iter().all(same)
            }
            _ => false,
        }
    }
}

fn items() -> impl Strategy<Value = Item> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(Item::Int),
        vec(any::<u8>(), 0..300).prop_map(Item::Bytes),
        "\\PC{0,40}".prop_map(Item::Text),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Item::Array),
            btree_map("[a-z]{1,8}", inner, 0..6).prop_map(|m| Item::Map(m.into_iter().collect())),
        ]
    })
}

fn arcs() -> impl Strategy<Value = String> {
    let first = prop_oneof![(0u64..2, 0u64..40), (Just(2u64), 0u64..1000)];
    (first, vec(0u64..u64::from(u32::MAX), 0..8)).prop_map(|((a, b), rest)| {
        let mut all = vec![a.to_string(), b.to_string()];
        all.extend(rest.iter().map(u64::to_string));
        all.join(".")
    })
}

proptest! {
    #[test]
    fn cbor_values(item in items()) {
        let bytes = item.write();
        let value = read::parse(&bytes);
        prop_assert!(value.as_ref().is_some_and(|v| item.is(v)), "{value:?}");
    }

    #[test]
    fn der_values(
        n: u64, digits in vec(any::<u8>(), 0..80), octets in vec(any::<u8>(), 0..70_000),
        flag: bool, text in "\\PC{0,40}", arcs in arcs(), number in 0u8..31,
    ) {
        let field = "value";
        let written = der::int(n);
        prop_assert_eq!(single(&written, field)?.small(field)?, n);
        let written = der::uint(&digits);
        let significant = digits.iter().position(|b| *b != 0).unwrap_or(digits.len());
        prop_assert_eq!(single(&written, field)?.unsigned(field)?, &digits[significant..]);
        let written = der::octets(&octets);
        prop_assert_eq!(single(&written, field)?.octets(field)?, &octets);
        let written = der::bits(&octets);
        prop_assert_eq!(single(&written, field)?.whole_bits(field)?, &octets);
        let written = der::boolean(flag);
        prop_assert_eq!(single(&written, field)?.boolean(field)?, flag);
        let written = der::utf8(&text);
        prop_assert_eq!(single(&written, field)?.text(field)?, text);
        let written = der::oid(&arcs);
        prop_assert_eq!(single(&written, field)?.oid(field)?.to_string(), arcs);
        let outer = der::context(number, &der::seq(&[der::int(n), der::octets(&octets)]));
        let outer = single(&outer, field)?.tagged(tag::context(number), field)?;
        let all = outer.inner(field)?.walk().all(2, field)?;
        prop_assert_eq!(all[0].small(field)?, n);
        prop_assert_eq!(all[1].octets(field)?, &octets);
    }

    #[test]
    fn armour_of_every_kind(bytes in vec(any::<u8>(), 1..400), label in "[A-Z][A-Z0-9 ]{0,20}[A-Z]") {
        prop_assert_eq!(armour::base64(base64(&bytes).as_bytes()), Some(bytes.clone()));
        prop_assert_eq!(armour::base64(base64url(&bytes).as_bytes()), Some(bytes.clone()));
        let text = [pem(&label, &bytes), "beside".to_owned(), pem(&label, &bytes)].concat();
        let blocks = armour::blocks(text.as_bytes()).unwrap();
        prop_assert_eq!(blocks.len(), 2);
        for block in blocks {
            let block = block.unwrap();
            prop_assert_eq!((&block.label, &block.bytes), (&label, &bytes));
        }
        let mut out = Vec::new();
        let packed = gzip(&bytes);
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&packed[..]), &mut out)?;
        prop_assert_eq!(out, bytes);
    }

    #[test]
    fn bundles(
        list in vec((arcs(), vec(any::<u8>(), 0..200)), 1..6),
        certs in vec(vec(any::<u8>(), 0..60), 0..4),
    ) {
        let statements: Vec<_> = list
            .iter()
            .map(|(kind, bytes)| der::seq(&[der::oid(kind), der::octets(bytes)]))
            .collect();
        let certs: Vec<_> = certs.iter().map(|c| der::seq(&[der::octets(c)])).collect();
        let mut parts = vec![der::seq(&statements)];
        if !certs.is_empty() {
            parts.push(der::seq(&certs));
        }
        let bundle = AttestationBundle::parse(&der::seq(&parts))?;
        prop_assert_eq!(&bundle.certs, &certs);
        prop_assert_eq!(bundle.attestations.len(), list.len());
        for (a, (kind, bytes)) in bundle.attestations.iter().zip(&list) {
            prop_assert_eq!(a.kind.to_string(), kind.clone());
            prop_assert_eq!(&a.stmt, &der::octets(bytes));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn certificates(
        version in prop_oneof![Just(1u8), Just(3)],
        serial in vec(1u8..0x80, 1..20),
        subject in "[A-Za-z0-9 .:-]{1,40}",
        days in (10u32..28, 10u32..28),
        extensions in btree_map(arcs(), (any::<bool>(), vec(any::<u8>(), 0..60)), 0..6),
        explicit_false: bool,
        kind in prop_oneof![Just(Kind::P256), Just(Kind::P384), Just(Kind::Ed25519)],
    ) {
        let key = Key::named(kind, "round trip");
        let mut c = cert::Certificate::new(cn(&subject), &key, cn("Issuer"));
        (c.version, c.serial, c.explicit_false) = (version, serial.clone(), explicit_false);
        c.not_before = format!("2001{:02}000000Z", days.0);
        c.not_after = format!("204901{:02}000000Z", days.1);
        let extensions = if version == 3 { extensions } else { Default::default() };
        for (oid, (critical, value)) in &extensions {
            c = c.with(oid, *critical, value.clone());
        }
        let read = Certificate::from_der(&c.sign(&key))?;
        prop_assert_eq!((read.version(), read.serial()), (version, &serial[..]));
        prop_assert_eq!(read.subject().common_name(), Some(&subject[..]));
        prop_assert_eq!(read.issuer().common_name(), Some("Issuer"));
        let at = |year: i32, day: u32| format!("{year}-01-{day:02}T00:00:00Z");
        prop_assert_eq!(read.not_before().to_string(), at(2020, days.0));
        prop_assert_eq!(read.not_after().to_string(), at(2049, days.1));
        prop_assert_eq!(read.spki(), key.spki());
        prop_assert_eq!(read.extensions().len(), extensions.len());
        for e in read.extensions() {
            let (critical, value) = &extensions[&e.oid.to_string()];
            prop_assert_eq!((e.critical, &e.value), (*critical, value));
        }
        prop_assert!(read.verify(&Default::default(), &read.key().unwrap()).is_ok());
    }
}
