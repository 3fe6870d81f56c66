//! A DER walker that hands out the original bytes.
//!
//! A signature covers bytes, not values, and genuine device certificates are not always DER. So
//! this walker is strict about structure (definite minimal lengths, low tag numbers, no byte left
//! over) and lets the caller choose, value by value, which known oddity it tolerates: a BOOLEAN
//! that is not `00` or `ff`, an INTEGER whose sign bit is set, a SET out of order. Nothing is
//! encoded again.

mod time;

use crate::oid::Oid;
use crate::time::UnixSeconds;

/// Identifier octets (X.690 §8.1.2), as far as they are met here.
pub mod tag {
    /// BOOLEAN.
    pub const BOOLEAN: u8 = 0x01;
    /// INTEGER.
    pub const INTEGER: u8 = 0x02;
    /// BIT STRING.
    pub const BIT_STRING: u8 = 0x03;
    /// OCTET STRING.
    pub const OCTET_STRING: u8 = 0x04;
    /// NULL.
    pub const NULL: u8 = 0x05;
    /// OBJECT IDENTIFIER.
    pub const OID: u8 = 0x06;
    /// UTF8String.
    pub const UTF8_STRING: u8 = 0x0c;
    /// PrintableString.
    pub const PRINTABLE_STRING: u8 = 0x13;
    /// TeletexString.
    pub const TELETEX_STRING: u8 = 0x14;
    /// IA5String.
    pub const IA5_STRING: u8 = 0x16;
    /// UTCTime.
    pub const UTC_TIME: u8 = 0x17;
    /// GeneralizedTime.
    pub const GENERALIZED_TIME: u8 = 0x18;
    /// SEQUENCE.
    pub const SEQUENCE: u8 = 0x30;
    /// SET.
    pub const SET: u8 = 0x31;

    /// A constructed context-specific tag, `[n]`, for n below 31.
    #[must_use]
    pub const fn context(n: u8) -> u8 {
        0xa0 | (n & 0x1f)
    }

    /// A primitive context-specific tag, `[n] IMPLICIT`, for n below 31.
    #[must_use]
    pub const fn context_primitive(n: u8) -> u8 {
        0x80 | (n & 0x1f)
    }
}

/// Bytes that are not what they should be. Retrying cannot help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct DerError {
    /// Which field.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a piece of DER.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The bytes end too early.
    #[error("is cut off")]
    Truncated,
    /// Bytes follow where nothing may.
    #[error("has bytes after its end")]
    Trailing,
    /// Another tag.
    #[error("has tag {found:#04x} where {expected:#04x} belongs")]
    Tag {
        /// The tag that belongs here.
        expected: u8,
        /// The tag that stands here.
        found: u8,
    },
    /// A tag number above 30.
    #[error("has a tag number above 30")]
    HighTag,
    /// A length that is indefinite, not minimal, or too large.
    #[error("has a length that is indefinite, not minimal or too large")]
    Length,
    /// A value that its type does not allow.
    #[error("{0}")]
    Value(&'static str),
}

impl DerError {
    /// A value that its type, or the rule for the field, does not allow.
    #[must_use]
    pub const fn value(field: &'static str, problem: &'static str) -> Self {
        Self {
            field,
            problem: Problem::Value(problem),
        }
    }
}

/// One element, as slices of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Element<'a> {
    tag: u8,
    content: &'a [u8],
    raw: &'a [u8],
}

/// Walks the elements that stand one after another.
#[derive(Debug, Clone)]
pub struct Walker<'a> {
    rest: &'a [u8],
}

/// The one element that `bytes` are, whatever its tag.
///
/// # Errors
/// [`DerError`] if they are not one whole element with nothing after it.
pub fn single<'a>(bytes: &'a [u8], field: &'static str) -> Result<Element<'a>, DerError> {
    let mut w = Walker::new(bytes);
    let element = w.next(field)?;
    w.finish(field)?;
    Ok(element)
}

/// The one element with `tag` that `bytes` are.
///
/// # Errors
/// As [`single`], and for another tag.
pub fn expect<'a>(bytes: &'a [u8], tag: u8, field: &'static str) -> Result<Element<'a>, DerError> {
    single(bytes, field)?.tagged(tag, field)
}

impl<'a> Walker<'a> {
    /// From the first byte on.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether nothing is left.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The identifier octet of what comes next.
    #[must_use]
    pub fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// The next element.
    ///
    /// # Errors
    /// [`DerError`] if there is none, or its header or length is not DER.
    pub fn next(&mut self, field: &'static str) -> Result<Element<'a>, DerError> {
        let err = |problem| DerError { field, problem };
        let all = self.rest;
        let (&tag, after) = all.split_first().ok_or(err(Problem::Truncated))?;
        if tag & 0x1f == 0x1f {
            return Err(err(Problem::HighTag));
        }
        let (&first, mut after) = after.split_first().ok_or(err(Problem::Truncated))?;
        let length = match first {
            0..=0x7f => usize::from(first),
            0x81..=0x84 => {
                let count = usize::from(first & 0x7f);
                let digits = after.get(..count).ok_or(err(Problem::Truncated))?;
                after = after.get(count..).unwrap_or_default();
                let length = digits
                    .iter()
                    .fold(0usize, |n, b| (n << 8) | usize::from(*b));
                // X.690 §10.1: the fewest octets.
                if length < 0x80 || digits.first() == Some(&0) {
                    return Err(err(Problem::Length));
                }
                length
            }
            _ => return Err(err(Problem::Length)),
        };
        let content = after.get(..length).ok_or(err(Problem::Truncated))?;
        let header = all.len() - after.len();
        let raw = all.get(..header + length).ok_or(err(Problem::Truncated))?;
        self.rest = after.get(length..).unwrap_or_default();
        Ok(Element { tag, content, raw })
    }

    /// The next element, which must have `tag`.
    ///
    /// # Errors
    /// As [`Walker::next`], and for another tag.
    pub fn expect(&mut self, tag: u8, field: &'static str) -> Result<Element<'a>, DerError> {
        let mut ahead = self.clone();
        let element = ahead.next(field)?.tagged(tag, field)?;
        *self = ahead;
        Ok(element)
    }

    /// The next element if it has `tag`; nothing is taken otherwise.
    ///
    /// # Errors
    /// As [`Walker::next`].
    pub fn optional(
        &mut self,
        tag: u8,
        field: &'static str,
    ) -> Result<Option<Element<'a>>, DerError> {
        if self.peek() == Some(tag) {
            self.next(field).map(Some)
        } else {
            Ok(None)
        }
    }

    /// Nothing may follow.
    ///
    /// # Errors
    /// [`Problem::Trailing`].
    pub const fn finish(&self, field: &'static str) -> Result<(), DerError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(DerError {
                field,
                problem: Problem::Trailing,
            })
        }
    }

    /// All elements left, at most `max`.
    ///
    /// # Errors
    /// As [`Walker::next`], or if there are more.
    pub fn all(mut self, max: usize, field: &'static str) -> Result<Vec<Element<'a>>, DerError> {
        let mut out = Vec::new();
        while !self.is_empty() {
            if out.len() >= max {
                return Err(DerError::value(field, "has more elements than are read"));
            }
            out.push(self.next(field)?);
        }
        Ok(out)
    }
}

impl<'a> Element<'a> {
    /// The identifier octet.
    #[must_use]
    pub const fn tag(&self) -> u8 {
        self.tag
    }

    /// The content octets.
    #[must_use]
    pub const fn content(&self) -> &'a [u8] {
        self.content
    }

    /// Identifier, length and content, as they stood in the input.
    #[must_use]
    pub const fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// Walks what is inside.
    #[must_use]
    pub const fn walk(&self) -> Walker<'a> {
        Walker::new(self.content)
    }

    /// The same, if it has `tag`.
    ///
    /// # Errors
    /// [`Problem::Tag`].
    pub const fn tagged(self, tag: u8, field: &'static str) -> Result<Self, DerError> {
        if self.tag == tag {
            Ok(self)
        } else {
            Err(DerError {
                field,
                problem: Problem::Tag {
                    expected: tag,
                    found: self.tag,
                },
            })
        }
    }

    /// The one element inside (an EXPLICIT tag's content).
    ///
    /// # Errors
    /// As [`single`].
    pub fn inner(&self, field: &'static str) -> Result<Element<'a>, DerError> {
        single(self.content, field)
    }

    /// An OBJECT IDENTIFIER.
    ///
    /// # Errors
    /// [`DerError`] for another tag or malformed arcs.
    pub fn oid(&self, field: &'static str) -> Result<Oid, DerError> {
        let e = self.tagged(tag::OID, field)?;
        Oid::from_content(e.content).ok_or(DerError::value(field, "is no object identifier"))
    }

    /// The content of an OCTET STRING.
    ///
    /// # Errors
    /// [`DerError`] for another tag.
    pub fn octets(&self, field: &'static str) -> Result<&'a [u8], DerError> {
        self.tagged(tag::OCTET_STRING, field).map(|e| e.content)
    }

    /// A BIT STRING: how many bits of the last byte are unused, and the bytes.
    ///
    /// # Errors
    /// [`DerError`] for another tag, more than seven unused bits, or unused bits that are set.
    pub fn bits(&self, field: &'static str) -> Result<(u8, &'a [u8]), DerError> {
        let e = self.tagged(tag::BIT_STRING, field)?;
        let (&unused, bytes) = e
            .content
            .split_first()
            .ok_or(DerError::value(field, "is an empty BIT STRING"))?;
        let mask = match unused {
            0..=7 => !(0xffu8 << unused),
            _ => return Err(DerError::value(field, "has more than 7 unused bits")),
        };
        let last = bytes.last().copied().unwrap_or(0);
        if last & mask != 0 || (bytes.is_empty() && unused != 0) {
            return Err(DerError::value(field, "has unused bits that are set"));
        }
        Ok((unused, bytes))
    }

    /// A BIT STRING of whole bytes (keys, signatures).
    ///
    /// # Errors
    /// As [`Element::bits`], and if bits are unused.
    pub fn whole_bits(&self, field: &'static str) -> Result<&'a [u8], DerError> {
        match self.bits(field)? {
            (0, bytes) => Ok(bytes),
            _ => Err(DerError::value(field, "is no whole number of bytes")),
        }
    }

    /// The content of an INTEGER as it stands, sign and all. Minimal (X.690 §8.3.2).
    ///
    /// # Errors
    /// [`DerError`] for another tag, no content, or a needless leading byte.
    pub fn integer(&self, field: &'static str) -> Result<&'a [u8], DerError> {
        let e = self.tagged(tag::INTEGER, field)?;
        match e.content {
            [] => Err(DerError::value(field, "is an empty INTEGER")),
            [0, b, ..] if b & 0x80 == 0 => Err(DerError::value(field, "is not minimal")),
            [0xff, b, ..] if b & 0x80 != 0 => Err(DerError::value(field, "is not minimal")),
            c => Ok(c),
        }
    }

    /// A non-negative INTEGER, big-endian without leading zeros (zero is empty).
    ///
    /// # Errors
    /// As [`Element::integer`], and if it is negative.
    pub fn unsigned(&self, field: &'static str) -> Result<&'a [u8], DerError> {
        match self.integer(field)? {
            [b, ..] if b & 0x80 != 0 => Err(DerError::value(field, "is negative")),
            [0, rest @ ..] => Ok(rest),
            c => Ok(c),
        }
    }

    /// An INTEGER whose writer forgot the leading zero: read as unsigned. Leading zeros are
    /// dropped. Only where a vendor is known to write so (the caller cites it).
    ///
    /// # Errors
    /// [`DerError`] for another tag or no content.
    pub fn unsigned_unpadded(&self, field: &'static str) -> Result<&'a [u8], DerError> {
        let e = self.tagged(tag::INTEGER, field)?;
        if e.content.is_empty() {
            return Err(DerError::value(field, "is an empty INTEGER"));
        }
        let zeros = e.content.iter().take_while(|b| **b == 0).count();
        Ok(e.content.get(zeros..).unwrap_or_default())
    }

    /// A non-negative INTEGER below 2^64.
    ///
    /// # Errors
    /// As [`Element::unsigned`], and if it is larger.
    pub fn small(&self, field: &'static str) -> Result<u64, DerError> {
        let bytes = self.unsigned(field)?;
        if bytes.len() > 8 {
            return Err(DerError::value(field, "is larger than 64 bits"));
        }
        Ok(bytes.iter().fold(0, |n, b| (n << 8) | u64::from(*b)))
    }

    /// A BOOLEAN, `00` or `ff` (X.690 §11.1).
    ///
    /// # Errors
    /// [`DerError`] for anything else.
    pub fn boolean(&self, field: &'static str) -> Result<bool, DerError> {
        match self.tagged(tag::BOOLEAN, field)?.content {
            [0] => Ok(false),
            [0xff] => Ok(true),
            _ => Err(DerError::value(field, "is no DER BOOLEAN")),
        }
    }

    /// A BOOLEAN as BER writes it: one byte, true unless zero. Some device certificates carry
    /// `01` for true.
    ///
    /// # Errors
    /// [`DerError`] for another tag or length.
    pub fn boolean_ber(&self, field: &'static str) -> Result<bool, DerError> {
        match self.tagged(tag::BOOLEAN, field)?.content {
            [b] => Ok(*b != 0),
            _ => Err(DerError::value(field, "is no BOOLEAN")),
        }
    }

    /// A UTCTime or GeneralizedTime in whole seconds, UTC (RFC 5280 §4.1.2.5).
    ///
    /// # Errors
    /// [`DerError`] for another tag or form, or a moment before 1970.
    pub fn time(&self, field: &'static str) -> Result<UnixSeconds, DerError> {
        time::read(self.tag, self.content)
            .ok_or(DerError::value(field, "is no time in whole seconds UTC"))
    }

    /// The text of a UTF8String, PrintableString, IA5String or TeletexString. Bytes of the last
    /// that are not UTF-8 are read as Latin-1; this is for names and reports, never for binding.
    ///
    /// # Errors
    /// [`DerError`] for another tag, or bytes that are not the text they claim to be.
    pub fn text(&self, field: &'static str) -> Result<String, DerError> {
        match self.tag {
            tag::UTF8_STRING | tag::PRINTABLE_STRING | tag::IA5_STRING => {
                String::from_utf8(self.content.to_vec())
                    .map_err(|_| DerError::value(field, "is no UTF-8 text"))
            }
            tag::TELETEX_STRING => Ok(self.content.iter().copied().map(char::from).collect()),
            found => Err(DerError {
                field,
                problem: Problem::Tag {
                    expected: tag::UTF8_STRING,
                    found,
                },
            }),
        }
    }
}

#[cfg(test)]
mod tests;
