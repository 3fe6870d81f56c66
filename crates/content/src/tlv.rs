//! Reading strict DER by the `der` crate with our refusals, and writing it.
//!
//! `x509` has a cursor of its own. This crate stands without it, so that what decides "is this code?" is
//! small enough to audit alone and brings no cryptography but a hash.

use crate::ContentRefusal;
use der::asn1::{AnyRef, ObjectIdentifier};
use der::{Decode, Reader, SliceReader, Tag, TagNumber, Tagged};

/// The tag `[n]`, constructed.
pub(crate) const fn context(n: u32) -> Tag {
    Tag::ContextSpecific {
        constructed: true,
        number: TagNumber(n),
    }
}

/// The tag `[n]`, primitive.
pub(crate) const fn context_primitive(n: u32) -> Tag {
    Tag::ContextSpecific {
        constructed: false,
        number: TagNumber(n),
    }
}

/// A walk over the values inside one constructed value. `field` names the submission's part in errors.
pub(crate) struct Cursor<'a> {
    field: &'static str,
    reader: SliceReader<'a>,
}

impl<'a> Cursor<'a> {
    /// Over bytes that hold any number of values.
    pub(crate) fn over(field: &'static str, bytes: &'a [u8]) -> Result<Self, ContentRefusal> {
        let reader = SliceReader::new(bytes).map_err(|_| ContentRefusal::NotDer { field })?;
        Ok(Self { field, reader })
    }

    /// Into the one value that `bytes` must be.
    pub(crate) fn whole(
        field: &'static str,
        bytes: &'a [u8],
        tag: Tag,
        expected: &'static str,
    ) -> Result<Self, ContentRefusal> {
        let mut outer = Self::over(field, bytes)?;
        let inner = outer.enter(tag, expected)?;
        outer.finish()?;
        Ok(inner)
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.reader.is_finished()
    }

    /// The next value's tag, without taking it.
    pub(crate) fn peek(&self) -> Option<Tag> {
        if self.reader.is_finished() {
            return None;
        }
        let mut ahead = self.reader.clone();
        AnyRef::decode(&mut ahead).ok().map(|a| a.tag())
    }

    /// The next value, whatever it is.
    pub(crate) fn any(&mut self) -> Result<AnyRef<'a>, ContentRefusal> {
        AnyRef::decode(&mut self.reader).map_err(|_| ContentRefusal::NotDer { field: self.field })
    }

    /// The next value with its header.
    pub(crate) fn raw(&mut self) -> Result<&'a [u8], ContentRefusal> {
        self.reader
            .tlv_bytes()
            .map_err(|_| ContentRefusal::NotDer { field: self.field })
    }

    /// The content of the next value, which must have this tag.
    pub(crate) fn expect(
        &mut self,
        tag: Tag,
        expected: &'static str,
    ) -> Result<&'a [u8], ContentRefusal> {
        let field = self.field;
        let wrong = ContentRefusal::UnexpectedStructure { field, expected };
        if self.reader.is_finished() {
            return Err(wrong);
        }
        let any = self.any()?;
        if any.tag() == tag {
            Ok(any.value())
        } else {
            Err(wrong)
        }
    }

    /// A walk over the inside of the next value.
    pub(crate) fn enter(
        &mut self,
        tag: Tag,
        expected: &'static str,
    ) -> Result<Cursor<'a>, ContentRefusal> {
        Cursor::over(self.field, self.expect(tag, expected)?)
    }

    pub(crate) fn oid(
        &mut self,
        expected: &'static str,
    ) -> Result<ObjectIdentifier, ContentRefusal> {
        let content = self.expect(Tag::ObjectIdentifier, expected)?;
        ObjectIdentifier::from_bytes(content)
            .map_err(|_| ContentRefusal::NotDer { field: self.field })
    }

    /// Nothing may be left.
    pub(crate) fn finish(self) -> Result<(), ContentRefusal> {
        if self.reader.is_finished() {
            Ok(())
        } else {
            Err(ContentRefusal::TrailingBytes { field: self.field })
        }
    }
}

/// Tags as written.
pub(crate) mod tag {
    pub(crate) const OCTET_STRING: u8 = 0x04;
    pub(crate) const NULL: u8 = 0x05;
    pub(crate) const OID: u8 = 0x06;
    pub(crate) const SEQUENCE: u8 = 0x30;
    pub(crate) const SET: u8 = 0x31;
    /// `[n]`, constructed.
    pub(crate) const fn context(n: u8) -> u8 {
        0xA0 | n
    }
    /// `[n]`, primitive.
    pub(crate) const fn context_primitive(n: u8) -> u8 {
        0x80 | n
    }
}

/// One value: tag, minimal definite length (X.690 §10.1), content.
pub(crate) fn write(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let len: usize = parts.iter().map(|p| p.len()).sum();
    let mut out = Vec::with_capacity(len.saturating_add(6));
    out.push(tag);
    match u8::try_from(len) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let bytes = len.to_be_bytes();
            let skip = bytes.iter().take_while(|b| **b == 0).count();
            let digits = bytes.len().saturating_sub(skip);
            // At most eight digits, so this cannot lose bits.
            out.push(0x80 | u8::try_from(digits).unwrap_or(8));
            out.extend(bytes.iter().skip(skip));
        }
    }
    for p in parts {
        out.extend_from_slice(p);
    }
    out
}

/// An object identifier.
pub(crate) fn write_oid(oid: ObjectIdentifier) -> Vec<u8> {
    write(tag::OID, &[oid.as_bytes()])
}

/// `AlgorithmIdentifier` with or without a NULL parameter.
pub(crate) fn write_algorithm(oid: ObjectIdentifier, null: bool) -> Vec<u8> {
    let parameter = write(tag::NULL, &[]);
    write(
        tag::SEQUENCE,
        &[&write_oid(oid), if null { &parameter } else { &[] }],
    )
}

/// Reads `AlgorithmIdentifier` whose parameters are absent or NULL; says which.
pub(crate) fn read_algorithm(
    cursor: &mut Cursor<'_>,
    tag: Tag,
) -> Result<(ObjectIdentifier, bool), ContentRefusal> {
    const WHAT: &str = "an AlgorithmIdentifier with NULL or no parameters";
    let mut inner = cursor.enter(tag, WHAT)?;
    let oid = inner.oid(WHAT)?;
    let null = !inner.is_finished();
    if null && !inner.expect(Tag::Null, WHAT)?.is_empty() {
        return Err(ContentRefusal::NotDer {
            field: cursor.field,
        });
    }
    inner.finish()?;
    Ok((oid, null))
}

#[cfg(test)]
mod tests {
    use super::*;
    use der::Encode;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn writes_what_the_der_crate_writes(content in proptest::collection::vec(any::<u8>(), 0..70_000)) {
            let theirs = der::asn1::OctetString::new(content.clone()).unwrap().to_der().unwrap();
            prop_assert_eq!(write(tag::OCTET_STRING, &[&content]), theirs);
        }
    }

    #[test]
    fn over_long_and_indefinite_lengths_are_refused() {
        for bad in [
            &[0x04u8, 0x81, 0x01, 0x00][..],
            &[0x30, 0x80, 0x00, 0x00],
            &[0x04, 0x05, 0x00],
        ] {
            assert_eq!(
                Cursor::over("x", bad).and_then(|mut c| c.any().map(|_| ())),
                Err(ContentRefusal::NotDer { field: "x" })
            );
        }
    }
}
