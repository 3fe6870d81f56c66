//! Object identifiers of any size.
//!
//! The service statement's type is an arc under 2.25 (a UUID, X.667 §6), a number of up to 128
//! bits. The `const-oid` crate stops at 32 bits an arc and at 39 for the second, so the content
//! octets (X.690 §8.19) are kept and read here.

use der::asn1::Any;
use der::{Tag, Tagged};
use spki::ObjectIdentifier;
use std::fmt;

/// Longest OID taken, in content octets.
const MAX_OID: usize = 64;

/// The content octets of an OBJECT IDENTIFIER, checked: at least one arc, each minimal and ended.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Oid(Vec<u8>);

impl Oid {
    /// Takes content octets (no tag, no length).
    ///
    /// Returns `None` if they are empty, longer than 64 bytes, hold an arc with a leading `0x80`
    /// (X.690 §8.19.2 wants the fewest octets), or end within an arc.
    #[must_use]
    pub fn from_content(content: &[u8]) -> Option<Self> {
        if content.is_empty() || content.len() > MAX_OID {
            return None;
        }
        let mut at_start = true;
        for byte in content {
            if at_start && *byte == 0x80 {
                return None;
            }
            at_start = byte & 0x80 == 0;
        }
        at_start.then(|| Self(content.to_vec()))
    }

    /// The content octets.
    #[must_use]
    pub fn content(&self) -> &[u8] {
        &self.0
    }

    /// A constant of this crate, known to be well-formed (a test reads each of them).
    pub(crate) fn known(content: &[u8]) -> Self {
        Self(content.to_vec())
    }

    pub(crate) fn from_any(any: &Any) -> Option<Self> {
        if any.tag() != Tag::ObjectIdentifier {
            return None;
        }
        Self::from_content(any.value())
    }

    pub(crate) fn to_any(&self) -> der::Result<Any> {
        Any::new(Tag::ObjectIdentifier, self.0.as_slice())
    }
}

impl PartialEq<ObjectIdentifier> for Oid {
    fn eq(&self, other: &ObjectIdentifier) -> bool {
        self.0 == other.as_bytes()
    }
}

impl fmt::Display for Oid {
    /// Dotted decimal; an arc past 128 bits is written `?`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        let mut arc: Option<u128> = Some(0);
        for byte in &self.0 {
            arc = arc
                .filter(|a| a.leading_zeros() >= 7)
                .map(|a| (a << 7) | u128::from(byte & 0x7f));
            if byte & 0x80 != 0 {
                continue;
            }
            match (first, arc) {
                // The first octet group holds two arcs: 40 × first + second, first ≤ 2.
                (true, Some(a)) if a < 80 => write!(f, "{}.{}", a / 40, a % 40)?,
                (true, Some(a)) => write!(f, "2.{}", a.saturating_sub(80))?,
                (false, Some(a)) => write!(f, ".{a}")?,
                (true, None) => f.write_str("2.?")?,
                (false, None) => f.write_str(".?")?,
            }
            first = false;
            arc = Some(0);
        }
        Ok(())
    }
}

impl fmt::Debug for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Oid({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_and_large_arcs_print_as_written() {
        let small = [
            0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x02, 0x3b,
        ];
        assert_eq!(
            Oid::from_content(&small).map(|o| o.to_string()),
            Some("1.2.840.113549.1.9.16.2.59".to_owned())
        );
        // The largest UUID arc: 2^128 - 1.
        let mut max = vec![0x69, 0x83];
        max.extend([0xff; 17]);
        max.push(0x7f);
        assert_eq!(
            Oid::from_content(&max).map(|o| o.to_string()),
            Some(format!("2.25.{}", u128::MAX))
        );
        max.insert(1, 0xff);
        assert_eq!(
            Oid::from_content(&max).map(|o| o.to_string()),
            Some("2.25.?".to_owned())
        );
    }

    #[test]
    fn malformed_content_is_refused() {
        for bad in [&[][..], &[0x2a, 0x80, 0x01], &[0x2a, 0x86], &[0x01; 65]] {
            assert_eq!(Oid::from_content(bad), None, "{bad:02x?}");
        }
    }
}
