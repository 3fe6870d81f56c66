//! Distinguished names.

use crate::asn1::{
    self, Asn1Error, Cursor, ObjectIdentifier, PRINTABLE_STRING, Problem, SEQUENCE, SET,
    UTF8_STRING,
};
use crate::oid;
use der::Decode;

/// The subject of a request: what CSBR §7.1.4.2 allows and a CA can verify, nothing more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Legal name of the subject (CSBR §7.1.4.2.2).
    pub common_name: String,
    /// Organisation, usually the same.
    pub organization: String,
    /// ISO 3166-1 alpha-2, two capital letters.
    pub country: String,
    /// Locality; this or the state is needed for non-EV certificates (CSBR §7.1.4.2).
    pub locality: Option<String>,
    /// State or province.
    pub state: Option<String>,
}

/// A subject that may not stand in a request. Names the field; retrying needs another value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// An empty value, or one of spaces or punctuation only (CSBR §7.1.4.2 bans placeholders).
    #[error("{field}: is empty or a placeholder")]
    Empty {
        /// Which field.
        field: &'static str,
    },
    /// Longer than RFC 5280 appendix A allows.
    #[error("{field}: is longer than {max} characters")]
    TooLong {
        /// Which field.
        field: &'static str,
        /// The upper bound.
        max: usize,
    },
    /// A control character.
    #[error("{field}: contains a control character")]
    Control {
        /// Which field.
        field: &'static str,
    },
    /// A country that is not two capital letters.
    #[error("country: is not two capital letters (ISO 3166-1 alpha-2)")]
    Country,
    /// Neither locality nor state (CSBR §7.1.4.2).
    #[error("locality: one of locality and state is needed (CSBR §7.1.4.2)")]
    NoPlace,
}

impl Subject {
    /// Checks every field.
    ///
    /// # Errors
    /// [`NameError`], for the first field that is wrong.
    pub fn check(&self) -> Result<(), NameError> {
        // Upper bounds: RFC 5280 appendix A.1 (ub-common-name and so on).
        text("common_name", &self.common_name, 64)?;
        text("organization", &self.organization, 64)?;
        if let Some(l) = &self.locality {
            text("locality", l, 128)?;
        }
        if let Some(s) = &self.state {
            text("state", s, 128)?;
        }
        if self.country.len() != 2 || !self.country.bytes().all(|b| b.is_ascii_uppercase()) {
            return Err(NameError::Country);
        }
        if self.locality.is_none() && self.state.is_none() {
            return Err(NameError::NoPlace);
        }
        Ok(())
    }

    /// The DER `Name`: C, ST, L, O, CN, in that order.
    ///
    /// # Errors
    /// As [`Subject::check`].
    pub fn to_der(&self) -> Result<Vec<u8>, NameError> {
        self.check()?;
        let mut rdns = vec![rdn(&COUNTRY, PRINTABLE_STRING, &self.country)];
        if let Some(s) = &self.state {
            rdns.push(rdn(&STATE, UTF8_STRING, s));
        }
        if let Some(l) = &self.locality {
            rdns.push(rdn(&LOCALITY, UTF8_STRING, l));
        }
        rdns.push(rdn(&ORGANIZATION, UTF8_STRING, &self.organization));
        rdns.push(rdn(&COMMON_NAME, UTF8_STRING, &self.common_name));
        let parts: Vec<&[u8]> = rdns.iter().map(Vec::as_slice).collect();
        Ok(asn1::sequence(&parts))
    }
}

/// A name for a test or demo CA: organisation and common name in a country.
///
/// # Errors
/// [`NameError`], as for the same fields of a [`Subject`].
pub fn ca_name(country: &str, organization: &str, common_name: &str) -> Result<Vec<u8>, NameError> {
    text("organization", organization, 64)?;
    text("common_name", common_name, 64)?;
    if country.len() != 2 || !country.bytes().all(|b| b.is_ascii_uppercase()) {
        return Err(NameError::Country);
    }
    Ok(asn1::sequence(&[
        &rdn(&COUNTRY, PRINTABLE_STRING, country),
        &rdn(&ORGANIZATION, UTF8_STRING, organization),
        &rdn(&COMMON_NAME, UTF8_STRING, common_name),
    ]))
}

/// What a TPM's certificates say of it in their subjectAltName.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TpmName {
    /// `id:` and eight hexadecimal digits.
    pub manufacturer: String,
    /// Model.
    pub model: String,
    /// Firmware version, `id:` and eight hexadecimal digits.
    pub version: String,
}

/// The DER `Name` of a TPM: the three attributes in one RDN (TCG EK Credential Profile §3.2.9).
///
/// # Errors
/// [`Asn1Error`] for a value that is empty, longer than 64 characters, or holds control characters.
pub fn tpm(tpm: &TpmName) -> Result<Vec<u8>, Asn1Error> {
    let mut attributes = Vec::new();
    for (id, value) in [
        (oid::TPM_MANUFACTURER, &tpm.manufacturer),
        (oid::TPM_MODEL, &tpm.model),
        (oid::TPM_VERSION, &tpm.version),
    ] {
        let bad = value.is_empty()
            || value.chars().count() > 64
            || value.chars().any(countersign_core::text::disguises);
        if bad {
            return Err(Asn1Error::new("tpm name", Problem::Value));
        }
        let text = asn1::tlv(UTF8_STRING, &[value.as_bytes()]);
        attributes.push(asn1::sequence(&[&asn1::oid(&id), &text]));
    }
    Ok(asn1::sequence(&[&asn1::set_of(attributes)]))
}

/// A DER `Name` as RFC 4514 text.
///
/// # Errors
/// If the bytes are not a `Name`.
pub fn to_text(name_der: &[u8]) -> Result<String, Asn1Error> {
    x509_cert::name::Name::from_der(name_der)
        .map(|n| n.to_string())
        .map_err(|_| Asn1Error::new("name", Problem::Value))
}

/// The values of one attribute type in a DER `Name`, where they are UTF8String or PrintableString.
///
/// # Errors
/// If the bytes are not a `Name`.
pub fn values(name_der: &[u8], attribute: &ObjectIdentifier) -> Result<Vec<String>, Asn1Error> {
    const F: &str = "name";
    let mut out = Vec::new();
    let rdns = Cursor::new(Cursor::single(name_der, SEQUENCE, F)?.value).elements(MAX_RDNS, F)?;
    for r in rdns {
        let atvs = Cursor::new(Cursor::single(r.bytes, SET, F)?.value).elements(MAX_RDNS, F)?;
        for a in atvs {
            let mut c = Cursor::new(Cursor::single(a.bytes, SEQUENCE, F)?.value);
            let id = c.oid(F)?;
            let v = c.any(F)?;
            c.finish(F)?;
            if id == *attribute && matches!(v.tag, UTF8_STRING | PRINTABLE_STRING) {
                out.push(String::from_utf8_lossy(v.value).into_owned());
            }
        }
    }
    Ok(out)
}

/// `id-at-commonName`.
pub const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
/// `id-at-countryName`.
pub const COUNTRY: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.6");
/// `id-at-localityName`.
pub const LOCALITY: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.7");
/// `id-at-stateOrProvinceName`.
pub const STATE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.8");
/// `id-at-organizationName`.
pub const ORGANIZATION: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.10");

const MAX_RDNS: usize = 64;

fn rdn(id: &ObjectIdentifier, tag: u8, value: &str) -> Vec<u8> {
    let atv = asn1::sequence(&[&asn1::oid(id), &asn1::tlv(tag, &[value.as_bytes()])]);
    asn1::set_of(vec![atv])
}

fn text(field: &'static str, value: &str, max: usize) -> Result<(), NameError> {
    if !value.chars().any(char::is_alphanumeric) {
        return Err(NameError::Empty { field });
    }
    if value.chars().count() > max {
        return Err(NameError::TooLong { field, max });
    }
    if value.chars().any(countersign_core::text::disguises) {
        return Err(NameError::Control { field });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acme() -> Subject {
        Subject {
            common_name: "Acme, Inc.".into(),
            organization: "Acme, Inc.".into(),
            country: "DE".into(),
            locality: Some("Köln".into()),
            state: None,
        }
    }

    #[test]
    fn a_name_reads_back_as_rfc_4514_text() {
        let der = acme().to_der().unwrap();
        assert_eq!(
            to_text(&der).unwrap(),
            "CN=Acme\\, Inc.,O=Acme\\, Inc.,L=Köln,C=DE"
        );
        assert_eq!(values(&der, &LOCALITY).unwrap(), ["Köln"]);
    }

    #[test]
    fn each_wrong_field_is_named() {
        let with = |f: fn(&mut Subject)| {
            let mut s = acme();
            f(&mut s);
            s.to_der().unwrap_err()
        };
        assert_eq!(
            with(|s| s.common_name = " - ".into()),
            NameError::Empty {
                field: "common_name"
            }
        );
        assert_eq!(
            with(|s| s.organization = "x".repeat(65)),
            NameError::TooLong {
                field: "organization",
                max: 64
            }
        );
        assert_eq!(
            with(|s| s.locality = Some("a\0b".into())),
            NameError::Control { field: "locality" }
        );
        assert_eq!(with(|s| s.country = "de".into()), NameError::Country);
        assert_eq!(with(|s| s.locality = None), NameError::NoPlace);
    }
}
