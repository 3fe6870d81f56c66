//! `Attribute`, as PKCS#10 (RFC 2986) and CMS (RFC 5652) have it.

use super::{
    Asn1Error, Cursor, ObjectIdentifier, Problem, SEQUENCE, SET, Tlv, oid, sequence, set_of,
};

/// An attribute of a request or of a CMS signer: a type and one or more values, each DER.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    /// The attribute type.
    pub oid: ObjectIdentifier,
    /// The values, each the DER of one element.
    pub values: Vec<Vec<u8>>,
}

impl Attribute {
    /// An attribute with one value.
    #[must_use]
    pub fn single(oid: ObjectIdentifier, value: Vec<u8>) -> Self {
        Self {
            oid,
            values: vec![value],
        }
    }

    /// Reads `Attribute ::= SEQUENCE { type OID, values SET SIZE (1..) OF ANY }`, strictly.
    ///
    /// # Errors
    /// If it is anything else, or the values are not in DER order.
    pub fn from_tlv(t: &Tlv<'_>, field: &'static str) -> Result<Self, Asn1Error> {
        let mut c = Cursor::single(t.bytes, SEQUENCE, field).map(|t| Cursor::new(t.value))?;
        let oid = c.oid(field)?;
        let values: Vec<Vec<u8>> = c
            .enter(SET, field)?
            .set_of(MAX_ATTRIBUTE_VALUES, field)?
            .iter()
            .map(|t| t.bytes.to_vec())
            .collect();
        c.finish(field)?;
        if values.is_empty() {
            return Err(Asn1Error::new(field, Problem::Value));
        }
        Ok(Self { oid, values })
    }

    /// Reads the content of a SET OF Attribute: DER order, each type once (RFC 5652 §5.3).
    ///
    /// # Errors
    /// If it is anything else.
    pub fn read_set(content: &[u8], field: &'static str) -> Result<Vec<Self>, Asn1Error> {
        let attributes = Cursor::new(content)
            .set_of(MAX_ATTRIBUTES, field)?
            .iter()
            .map(|t| Self::from_tlv(t, field))
            .collect::<Result<Vec<_>, _>>()?;
        for (i, a) in attributes.iter().enumerate() {
            if attributes.iter().skip(i + 1).any(|b| a.oid == b.oid) {
                return Err(Asn1Error::new(field, Problem::Duplicate));
            }
        }
        Ok(attributes)
    }

    /// The DER of this attribute.
    #[must_use]
    pub fn to_der(&self) -> Vec<u8> {
        sequence(&[&oid(&self.oid), &set_of(self.values.clone())])
    }

    /// The one value, if there is exactly one.
    #[must_use]
    pub fn single_value(&self) -> Option<&[u8]> {
        match self.values.as_slice() {
            [v] => Some(v),
            _ => None,
        }
    }
}

/// No structure of ours has more attributes; a longer list is an attack on memory.
const MAX_ATTRIBUTES: usize = 64;
const MAX_ATTRIBUTE_VALUES: usize = 64;
