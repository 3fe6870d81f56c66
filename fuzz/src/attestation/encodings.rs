//! What several formats are written in: DER, CBOR, X.509, requests, HSS signatures.

use super::{is_within, pieces};
use countersign_attestation::AttestationBundle;
use countersign_attestation::certificate::Certificate;
use countersign_attestation::der::{Element, Walker, single, tag};
use countersign_attestation::hss;
use countersign_attestation::key::PublicKey;
use countersign_attestation::signature::Work;
use countersign_attestation::verify::cbor::{self, Value};
use countersign_attestation::verify::csr::Csr;

/// DER: the elements inside one make up its content, byte for byte.
pub fn attestation_der(bytes: &[u8]) {
    let Ok(element) = single(bytes, "fuzz") else {
        return;
    };
    assert_eq!(element.raw(), bytes);
    walk(&element, 0);
}

fn walk(element: &Element<'_>, depth: usize) {
    values(element);
    assert!(element.raw().ends_with(element.content()));
    // Bit 6 of the identifier: constructed (X.690 §8.1.2.5).
    if element.tag() & 0x20 == 0 || depth > 32 {
        return;
    }
    let mut inside: Walker<'_> = element.walk();
    let mut read = 0;
    while let Ok(next) = inside.next("fuzz") {
        read += next.raw().len();
        walk(&next, depth + 1);
    }
    assert!(read <= element.content().len());
    assert_eq!(inside.is_empty(), read == element.content().len());
}

/// Each type's own reader refuses other tags, and what it reads is what stands there.
fn values(e: &Element<'_>) {
    let f = "fuzz";
    let small = e.small(f);
    if let Ok(n) = small {
        let digits = n.to_be_bytes();
        let significant = digits.iter().position(|b| *b != 0).unwrap_or(8);
        assert!(e.content().ends_with(digits.get(significant..).unwrap()));
    }
    assert!(e.unsigned(f).is_err() || e.integer(f).is_ok());
    assert!(e.boolean(f).is_err() || e.boolean(f) == e.boolean_ber(f));
    assert!(e.whole_bits(f).is_err() || e.tag() == tag::BIT_STRING);
    assert!(e.oid(f).is_err() || e.oid(f).unwrap().content() == e.content());
    let _ = (e.octets(f), e.unsigned_unpadded(f), e.time(f), e.text(f));
}

/// CBOR: one value and nothing after it; texts and bytes are those of the input.
pub fn attestation_cbor(bytes: &[u8]) {
    let Some(value) = cbor::parse(bytes) else {
        return;
    };
    let more = [bytes, &[0]].concat();
    assert_eq!(cbor::parse(&more), None);
    assert_eq!(cbor::prefix(&more), Some((value.clone(), &[0][..])));
    held(&value, bytes);
}

fn held(value: &Value<'_>, within: &[u8]) {
    match value {
        Value::Bytes(b) => assert!(is_within(b, within)),
        Value::Text(t) => assert!(is_within(t.as_bytes(), within)),
        Value::Array(items) => items.iter().for_each(|v| held(v, within)),
        Value::Map(members) => {
            for (i, (key, v)) in members.iter().enumerate() {
                assert!(members.iter().skip(i + 1).all(|(k, _)| k != key));
                held(v, within);
            }
        }
        Value::Tag(_, v) => held(v, within),
        Value::Unsigned(_) | Value::Negative(_) | Value::Simple(_) => {}
    }
}

/// A certificate: every accessor; no extension twice; what is signed is a part of it.
pub fn attestation_certificate(bytes: &[u8]) {
    let Ok(c) = Certificate::from_der(bytes) else {
        return;
    };
    assert_eq!(c.der(), bytes);
    assert!(is_within(c.tbs(), bytes) && is_within(c.spki(), c.tbs()));
    for e in c.extensions() {
        assert!(is_within(&e.value, c.tbs()));
        assert_eq!(c.extensions().iter().filter(|o| o.oid == e.oid).count(), 1);
    }
    let _ = (c.basic_constraints(), c.policies(), c.extended_key_usages());
    let _ = (c.subject().to_string(), c.issuer().to_string());
    let _ = (c.is_valid_at(c.not_before()), c.algorithm());
    assert!(c.subject().matches(c.subject()));
    if let Ok(key) = c.key() {
        assert_eq!(PublicKey::from_spki(c.spki()).ok(), Some(key.clone()));
        let _ = (c.verify(&Work::default(), &key), key.kind());
    }
}

/// A request: every accessor, and its own signature.
pub fn attestation_request(bytes: &[u8]) {
    let Ok(csr) = Csr::from_der(bytes) else {
        return;
    };
    let _ = (csr.verify(&Work::default()), csr.extensions());
    let _ = (csr.subject().to_string(), csr.key().kind());
    for (_, values) in csr.attributes() {
        assert!(values.iter().all(|v| is_within(v, bytes)));
    }
}

/// The attestation attribute of a request: what is read can be written, and is read the same.
pub fn attestation_bundle(bytes: &[u8]) {
    let Ok(bundle) = AttestationBundle::parse(bytes) else {
        return;
    };
    let again = bundle.encode().expect("what is read can be written");
    assert_eq!(AttestationBundle::parse(&again), Ok(bundle));
}

/// Key, message, signature.
pub fn attestation_hss(bytes: &[u8]) {
    let [key, message, signature] = pieces(bytes)[..] else {
        return;
    };
    if hss::verify(key, message, signature).is_ok() {
        let other = [message, &[0]].concat();
        assert!(hss::verify(key, &other, signature).is_err());
    }
}
