//! A strict DER cursor that hands out slices of the original bytes, and a writer.
//!
//! Tags and lengths are decoded by the `der` crate under DER rules: definite, minimal lengths. On
//! top of it this module refuses tag numbers above 30 (none of our structures has one), oversized
//! lists and trailing bytes, and names the field in which the input was wrong.

use der::{Decode, Header, Reader, SliceReader};

mod attribute;
mod write;

pub use attribute::Attribute;
pub use der::asn1::ObjectIdentifier;
pub use write::{
    bit_string, boolean_true, null, octet_string, oid, sequence, set_of, strip_zeros, tlv, unsigned,
};

/// `BOOLEAN`.
pub const BOOLEAN: u8 = 0x01;
/// `INTEGER`.
pub const INTEGER: u8 = 0x02;
/// `BIT STRING`.
pub const BIT_STRING: u8 = 0x03;
/// `OCTET STRING`.
pub const OCTET_STRING: u8 = 0x04;
/// `NULL`.
pub const NULL: u8 = 0x05;
/// `OBJECT IDENTIFIER`.
pub const OBJECT_IDENTIFIER: u8 = 0x06;
/// `UTF8String`.
pub const UTF8_STRING: u8 = 0x0c;
/// `PrintableString`.
pub const PRINTABLE_STRING: u8 = 0x13;
/// `UTCTime`.
pub const UTC_TIME: u8 = 0x17;
/// `GeneralizedTime`.
pub const GENERALIZED_TIME: u8 = 0x18;
/// `SEQUENCE`, `SEQUENCE OF`.
pub const SEQUENCE: u8 = 0x30;
/// `SET`, `SET OF`.
pub const SET: u8 = 0x31;

/// The tag `[n]`, constructed (explicit tags, and implicit ones over constructed types).
#[must_use]
pub const fn context(n: u8) -> u8 {
    0xa0 | (n & 0x1f)
}

/// The tag `[n]`, primitive (implicit tags over primitive types).
#[must_use]
pub const fn context_primitive(n: u8) -> u8 {
    0x80 | (n & 0x1f)
}

/// Input that is not the DER it should be. Retrying cannot help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Asn1Error {
    /// The field of the structure that was being read, named as in its standard.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What can be wrong with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The input ends before the field does.
    #[error("missing or cut short")]
    Truncated,
    /// Tag or length are not DER (indefinite, not minimal, a tag number above 30).
    #[error("not DER")]
    NotDer,
    /// Another type stands here.
    #[error("tag 0x{found:02x} where 0x{expected:02x} belongs")]
    WrongTag {
        /// What belongs here.
        expected: u8,
        /// What stands here.
        found: u8,
    },
    /// Bytes follow where nothing may follow.
    #[error("trailing bytes")]
    TrailingBytes,
    /// The value is not one the type allows.
    #[error("malformed value")]
    Value,
    /// The elements of a SET OF are not in DER order, or two are equal.
    #[error("SET OF is not in DER order")]
    SetOrder,
    /// The same element stands twice where once is allowed.
    #[error("stands more than once")]
    Duplicate,
    /// More elements or bytes than this service reads.
    #[error("too large")]
    TooLarge,
    /// A version this structure does not have.
    #[error("unknown version")]
    Version,
}

impl Asn1Error {
    /// An error in `field`.
    #[must_use]
    pub const fn new(field: &'static str, problem: Problem) -> Self {
        Self { field, problem }
    }
}

/// One element: its tag, its content, and its whole encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tlv<'a> {
    /// The identifier octet.
    pub tag: u8,
    /// The content octets.
    pub value: &'a [u8],
    /// Identifier, length and content octets, as they stood in the input.
    pub bytes: &'a [u8],
}

/// Reads elements one after the other.
#[derive(Debug, Clone)]
pub struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// A cursor over a sequence of elements.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The content of one element with `tag` that fills `bytes` to the end.
    ///
    /// # Errors
    /// If it is anything else.
    pub fn single(bytes: &'a [u8], tag: u8, field: &'static str) -> Result<Tlv<'a>, Asn1Error> {
        let mut c = Self::new(bytes);
        let t = c.expect(tag, field)?;
        c.finish(field)?;
        Ok(t)
    }

    /// Whether everything was read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The identifier octet of the next element.
    #[must_use]
    pub fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// The next element, whatever it is.
    ///
    /// # Errors
    /// If there is none, or it is not DER.
    pub fn any(&mut self, field: &'static str) -> Result<Tlv<'a>, Asn1Error> {
        let not_der = |_| Asn1Error::new(field, Problem::NotDer);
        let tag = *self
            .rest
            .first()
            .ok_or(Asn1Error::new(field, Problem::Truncated))?;
        if tag & 0x1f == 0x1f {
            return Err(Asn1Error::new(field, Problem::NotDer));
        }
        let mut reader = SliceReader::new(self.rest).map_err(not_der)?;
        let header = Header::decode(&mut reader).map_err(not_der)?;
        let head = usize::try_from(reader.position()).map_err(not_der)?;
        let len = usize::try_from(header.length()).map_err(not_der)?;
        let end = head
            .checked_add(len)
            .ok_or(Asn1Error::new(field, Problem::TooLarge))?;
        let truncated = Asn1Error::new(field, Problem::Truncated);
        let bytes = self.rest.get(..end).ok_or(truncated.clone())?;
        let value = bytes.get(head..).ok_or(truncated.clone())?;
        self.rest = self.rest.get(end..).ok_or(truncated)?;
        Ok(Tlv { tag, value, bytes })
    }

    /// The next element, which must have `tag`.
    ///
    /// # Errors
    /// If it is absent, not DER, or of another type.
    pub fn expect(&mut self, tag: u8, field: &'static str) -> Result<Tlv<'a>, Asn1Error> {
        match self.peek() {
            Some(found) if found != tag => Err(Asn1Error::new(
                field,
                Problem::WrongTag {
                    expected: tag,
                    found,
                },
            )),
            _ => self.any(field),
        }
    }

    /// The next element if it has `tag`.
    ///
    /// # Errors
    /// If it has that tag and is not DER.
    pub fn optional(&mut self, tag: u8, field: &'static str) -> Result<Option<Tlv<'a>>, Asn1Error> {
        if self.peek() == Some(tag) {
            self.any(field).map(Some)
        } else {
            Ok(None)
        }
    }

    /// Into a constructed element: a cursor over its content.
    ///
    /// # Errors
    /// As [`Cursor::expect`].
    pub fn enter(&mut self, tag: u8, field: &'static str) -> Result<Self, Asn1Error> {
        Ok(Self::new(self.expect(tag, field)?.value))
    }

    /// An object identifier.
    ///
    /// # Errors
    /// If another type stands here or the identifier is malformed.
    pub fn oid(&mut self, field: &'static str) -> Result<ObjectIdentifier, Asn1Error> {
        let t = self.expect(OBJECT_IDENTIFIER, field)?;
        ObjectIdentifier::from_bytes(t.value).map_err(|_| Asn1Error::new(field, Problem::Value))
    }

    /// An INTEGER's content octets: at least one, minimal (X.690 §8.3.2).
    ///
    /// # Errors
    /// If another type stands here or the encoding is not minimal.
    pub fn integer(&mut self, field: &'static str) -> Result<&'a [u8], Asn1Error> {
        let t = self.expect(INTEGER, field)?;
        let minimal = match t.value {
            [] => false,
            [_] => true,
            [0x00, second, ..] => second & 0x80 != 0,
            [0xff, second, ..] => second & 0x80 == 0,
            _ => true,
        };
        if minimal {
            Ok(t.value)
        } else {
            Err(Asn1Error::new(field, Problem::Value))
        }
    }

    /// A positive INTEGER's magnitude, without a leading zero octet.
    ///
    /// # Errors
    /// As [`Cursor::integer`], or if the number is zero or negative.
    pub fn positive_integer(&mut self, field: &'static str) -> Result<&'a [u8], Asn1Error> {
        match self.integer(field)? {
            [0x00, rest @ ..] if !rest.is_empty() => Ok(rest),
            v @ [first, ..] if *first != 0 && first & 0x80 == 0 => Ok(v),
            _ => Err(Asn1Error::new(field, Problem::Value)),
        }
    }

    /// A small INTEGER, 0 to 2^63−1.
    ///
    /// # Errors
    /// As [`Cursor::integer`], or if the number is outside that range.
    pub fn small_integer(&mut self, field: &'static str) -> Result<u64, Asn1Error> {
        let v = self.integer(field)?;
        match v {
            [first, ..] if v.len() <= 8 && first & 0x80 == 0 => {
                Ok(v.iter().fold(0u64, |n, b| (n << 8) | u64::from(*b)))
            }
            _ => Err(Asn1Error::new(field, Problem::Value)),
        }
    }

    /// A BOOLEAN, `00` or `ff` (X.690 §11.1).
    ///
    /// # Errors
    /// If it is anything else.
    pub fn boolean(&mut self, field: &'static str) -> Result<bool, Asn1Error> {
        match self.expect(BOOLEAN, field)?.value {
            [0x00] => Ok(false),
            [0xff] => Ok(true),
            _ => Err(Asn1Error::new(field, Problem::Value)),
        }
    }

    /// A BIT STRING of whole octets.
    ///
    /// # Errors
    /// If another type stands here or bits are left over.
    pub fn bit_string(&mut self, field: &'static str) -> Result<&'a [u8], Asn1Error> {
        match self.expect(BIT_STRING, field)?.value {
            [0x00, rest @ ..] => Ok(rest),
            _ => Err(Asn1Error::new(field, Problem::Value)),
        }
    }

    /// Nothing may be left.
    ///
    /// # Errors
    /// [`Problem::TrailingBytes`].
    pub const fn finish(&self, field: &'static str) -> Result<(), Asn1Error> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Asn1Error::new(field, Problem::TrailingBytes))
        }
    }

    /// All elements that are left, at most `max`, in the order they stand.
    ///
    /// # Errors
    /// If one is not DER, or there are more.
    pub fn elements(mut self, max: usize, field: &'static str) -> Result<Vec<Tlv<'a>>, Asn1Error> {
        let mut out = Vec::new();
        while !self.is_empty() {
            if out.len() >= max {
                return Err(Asn1Error::new(field, Problem::TooLarge));
            }
            out.push(self.any(field)?);
        }
        Ok(out)
    }

    /// As [`Cursor::elements`], of a SET OF: in strictly ascending DER order (X.690 §11.6).
    ///
    /// # Errors
    /// As [`Cursor::elements`], or [`Problem::SetOrder`].
    pub fn set_of(self, max: usize, field: &'static str) -> Result<Vec<Tlv<'a>>, Asn1Error> {
        let out = self.elements(max, field)?;
        if out
            .windows(2)
            .all(|w| matches!(w, [a, b] if a.bytes < b.bytes))
        {
            Ok(out)
        } else {
            Err(Asn1Error::new(field, Problem::SetOrder))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_minimal_and_read_back() {
        for n in [0usize, 1, 127, 128, 255, 256, 65_535, 65_536] {
            let content = vec![7u8; n];
            let der = octet_string(&content);
            let t = Cursor::single(&der, OCTET_STRING, "x").unwrap();
            assert_eq!(t.value, content);
        }
    }

    #[test]
    fn indefinite_and_padded_lengths_are_refused() {
        for bad in [
            &[0x30, 0x80, 0x00, 0x00][..],
            &[0x04, 0x81, 0x01, 0x00],
            &[0x04, 0x82, 0x00, 0x80],
            &[0x3f, 0x1f, 0x00],
        ] {
            let e = Cursor::new(bad).any("x").unwrap_err();
            assert_eq!(e.problem, Problem::NotDer, "{bad:02x?}");
        }
        assert_eq!(
            Cursor::new(&[0x04, 0x02, 0x00])
                .any("x")
                .unwrap_err()
                .problem,
            Problem::Truncated
        );
    }

    #[test]
    fn integers_are_minimal() {
        let read = |b: &[u8]| {
            let der = tlv(INTEGER, &[b]);
            Cursor::new(&der).positive_integer("x").map(<[u8]>::to_vec)
        };
        assert_eq!(read(&[0x00, 0x80]), Ok(vec![0x80]));
        assert_eq!(read(&[0x7f]), Ok(vec![0x7f]));
        for bad in [&[][..], &[0x00], &[0x00, 0x7f], &[0x80], &[0xff, 0x80]] {
            assert!(read(bad).is_err(), "{bad:02x?}");
        }
        assert_eq!(unsigned(&[0, 0, 0x80]), [2, 2, 0, 0x80]);
        assert_eq!(unsigned(&[]), [2, 1, 0]);
    }

    #[test]
    fn a_set_out_of_order_or_with_equal_elements_is_refused() {
        let a = unsigned(&[1]);
        let b = unsigned(&[2]);
        let sorted = set_of(vec![b.clone(), a.clone(), a.clone()]);
        assert_eq!(sorted, tlv(SET, &[&a, &b]));
        for bad in [[&b[..], &a], [&a[..], &a]] {
            let joined = bad.concat();
            assert_eq!(
                Cursor::new(&joined).set_of(9, "x").unwrap_err().problem,
                Problem::SetOrder
            );
        }
    }
}
