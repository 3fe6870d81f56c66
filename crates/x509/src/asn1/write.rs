//! The writer: always minimal, always definite.

use super::{
    BIT_STRING, BOOLEAN, INTEGER, NULL, OBJECT_IDENTIFIER, OCTET_STRING, ObjectIdentifier,
    SEQUENCE, SET,
};

/// One element: tag, minimal definite length, the parts one after the other.
#[must_use]
pub fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let len: usize = parts.iter().map(|p| p.len()).sum();
    let mut out = Vec::with_capacity(len.saturating_add(6));
    out.push(tag);
    match u8::try_from(len) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let be = len.to_be_bytes();
            let skip = be.iter().take_while(|b| **b == 0).count();
            let digits = be.get(skip..).unwrap_or_default();
            // A usize has at most 8 octets, so the count fits the low seven bits.
            out.push(0x80 | u8::try_from(digits.len()).unwrap_or(8));
            out.extend_from_slice(digits);
        }
    }
    for p in parts {
        out.extend_from_slice(p);
    }
    out
}

/// `SEQUENCE` of the given encodings.
#[must_use]
pub fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(SEQUENCE, parts)
}

/// `SET OF` in DER order (X.690 §11.6); equal elements are written once.
#[must_use]
pub fn set_of(mut elements: Vec<Vec<u8>>) -> Vec<u8> {
    elements.sort_unstable();
    elements.dedup();
    let parts: Vec<&[u8]> = elements.iter().map(Vec::as_slice).collect();
    tlv(SET, &parts)
}

/// `OBJECT IDENTIFIER`.
#[must_use]
pub fn oid(oid: &ObjectIdentifier) -> Vec<u8> {
    tlv(OBJECT_IDENTIFIER, &[oid.as_bytes()])
}

/// A non-negative `INTEGER` from its big-endian magnitude.
#[must_use]
pub fn unsigned(magnitude: &[u8]) -> Vec<u8> {
    let digits = strip_zeros(magnitude);
    match digits.first() {
        None => tlv(INTEGER, &[&[0]]),
        Some(b) if b & 0x80 != 0 => tlv(INTEGER, &[&[0], digits]),
        Some(_) => tlv(INTEGER, &[digits]),
    }
}

/// `OCTET STRING`.
#[must_use]
pub fn octet_string(bytes: &[u8]) -> Vec<u8> {
    tlv(OCTET_STRING, &[bytes])
}

/// `BIT STRING` of whole octets.
#[must_use]
pub fn bit_string(bytes: &[u8]) -> Vec<u8> {
    tlv(BIT_STRING, &[&[0], bytes])
}

/// `NULL`.
#[must_use]
pub fn null() -> Vec<u8> {
    tlv(NULL, &[])
}

/// `BOOLEAN TRUE`.
#[must_use]
pub fn boolean_true() -> Vec<u8> {
    tlv(BOOLEAN, &[&[0xff]])
}

/// Big-endian bytes without leading zero octets.
#[must_use]
pub fn strip_zeros(bytes: &[u8]) -> &[u8] {
    let skip = bytes.iter().take_while(|b| **b == 0).count();
    bytes.get(skip..).unwrap_or_default()
}
