//! Distinguished names as devices write them: multi-valued, unordered, in old string types.

use crate::der::{DerError, Element, expect, tag};
use crate::oid::Oid;
use spki::ObjectIdentifier;

/// commonName (RFC 5280 §A.1).
pub const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
/// organizationName.
pub const ORGANIZATION: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.10");
/// organizationalUnitName.
pub const ORGANIZATIONAL_UNIT: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.11");

const MAX_ATTRIBUTES: usize = 64;

/// A name: its bytes, and what they say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    der: Vec<u8>,
    attributes: Vec<(Oid, String)>,
}

impl Name {
    /// From the DER of a `Name`. The order inside a SET is not looked at: some makers leave it
    /// unordered.
    ///
    /// # Errors
    /// [`DerError`].
    pub fn from_der(der: &[u8]) -> Result<Self, DerError> {
        const F: &str = "Name";
        let mut attributes = Vec::new();
        let rdns = expect(der, tag::SEQUENCE, F)?.walk();
        for rdn in rdns.all(MAX_ATTRIBUTES, F)? {
            for one in rdn.tagged(tag::SET, F)?.walk().all(MAX_ATTRIBUTES, F)? {
                if attributes.len() >= MAX_ATTRIBUTES {
                    return Err(DerError::value(F, "has more attributes than are read"));
                }
                let mut w = one.tagged(tag::SEQUENCE, F)?.walk();
                let kind = w.next(F)?.oid(F)?;
                let value = w.next(F)?;
                w.finish(F)?;
                attributes.push((kind, text(&value)));
            }
        }
        Ok(Self {
            der: der.to_vec(),
            attributes,
        })
    }

    /// Its bytes.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Types and values, in the order they stand.
    #[must_use]
    pub fn attributes(&self) -> &[(Oid, String)] {
        &self.attributes
    }

    /// The value of the one attribute of that type; `None` if it stands not once.
    #[must_use]
    pub fn get(&self, kind: ObjectIdentifier) -> Option<&str> {
        let mut found = self.attributes.iter().filter(|(k, _)| *k == kind);
        match (found.next(), found.next()) {
            (Some((_, v)), None) => Some(v),
            _ => None,
        }
    }

    /// Whether nothing stands in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.attributes.is_empty()
    }

    /// The common name.
    #[must_use]
    pub fn common_name(&self) -> Option<&str> {
        self.get(COMMON_NAME)
    }

    /// Whether both say the same in any string type. RFC 5280 §7.1 compares values, and issuer and
    /// subject of some chains differ in the string type alone.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        self.der == other.der || self.attributes == other.attributes
    }
}

impl std::fmt::Display for Name {
    /// For people: `CN=…, O=…`. Never used to compare.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.attributes.is_empty() {
            return f.write_str("(empty name)");
        }
        for (i, (kind, value)) in self.attributes.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            match short(kind) {
                Some(s) => write!(f, "{s}={value}")?,
                None => write!(f, "{kind}={value}")?,
            }
        }
        Ok(())
    }
}

fn short(kind: &Oid) -> Option<&'static str> {
    const SHORT: &[(&[u8], &str)] = &[
        (&[0x55, 4, 3], "CN"),
        (&[0x55, 4, 5], "serialNumber"),
        (&[0x55, 4, 6], "C"),
        (&[0x55, 4, 7], "L"),
        (&[0x55, 4, 8], "ST"),
        (&[0x55, 4, 10], "O"),
        (&[0x55, 4, 11], "OU"),
        (&[0x55, 4, 12], "title"),
        (&[0x67, 0x81, 5, 2, 1], "tpmManufacturer"),
        (&[0x67, 0x81, 5, 2, 2], "tpmModel"),
        (&[0x67, 0x81, 5, 2, 3], "tpmVersion"),
    ];
    let found = SHORT.iter().find(|(k, _)| *k == kind.content());
    found.map(|(_, s)| *s)
}

/// A value as text; what is no text is shown as hex, so that two different values stay different.
fn text(value: &Element<'_>) -> String {
    let shown = value
        .text("value")
        .unwrap_or_else(|_| format!("#{}", hex::encode(value.raw())));
    shown
        .chars()
        .flat_map(|c| {
            let escape = c.is_control();
            let plain = (!escape).then_some(c);
            plain
                .into_iter()
                .chain(escape.then(|| c.escape_default()).into_iter().flatten())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::wrap;

    fn name(kind: u8, value: &[u8]) -> Name {
        let cn = [wrap(tag::OID, &[0x55, 4, 3]), wrap(kind, value)].concat();
        let der = wrap(tag::SEQUENCE, &wrap(tag::SET, &wrap(tag::SEQUENCE, &cn)));
        Name::from_der(&der).unwrap()
    }

    #[test]
    fn names_compare_by_value_and_print_without_control_characters() {
        let a = name(tag::UTF8_STRING, b"Device 7");
        let b = name(tag::PRINTABLE_STRING, b"Device 7");
        assert_ne!(a, b);
        assert!(a.matches(&b));
        assert!(!a.matches(&name(tag::UTF8_STRING, b"Device 8")));
        assert_eq!(a.to_string(), "CN=Device 7");
        assert_eq!(a.common_name(), Some("Device 7"));
        let evil = name(tag::UTF8_STRING, b"a\x1b[2J\n");
        assert_eq!(evil.to_string(), "CN=a\\u{1b}[2J\\n");
        assert!(
            name(tag::OCTET_STRING, b"x")
                .to_string()
                .starts_with("CN=#04")
        );
    }
}
