//! Certificates of attestation keys and endorsement keys (TCG EK Credential Profile §3.2;
//! WebAuthn §8.3.1).

use crate::certificate::{
    BASIC_CONSTRAINTS, CERTIFICATE_POLICIES, Certificate, EXT_KEY_USAGE, SUBJECT_ALT_NAME,
};
use crate::der::{expect, tag};
use crate::key::PublicKey;
use crate::name::Name;
use spki::ObjectIdentifier;

/// tcg-kp-AIKCertificate.
pub const AK_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.8.3");
/// tcg-kp-EKCertificate.
pub const EK_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.8.1");
const ANY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37.0");
const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
const AAGUID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.45724.1.1.4");
const MANUFACTURER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.2.1");
/// id-on-permanentIdentifier.
const PERMANENT_IDENTIFIER: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.8.3");
/// Longest identifier that is read.
const MAX_IDENTIFIER: usize = 256;
const MODEL: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.2.2");
const VERSION: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.2.3");

/// What an AK or EK certificate says of its TPM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// `id:` and eight hexadecimal digits, as it stands.
    pub manufacturer: String,
    /// Model.
    pub model: String,
    /// Firmware version when the certificate was issued, as it stands.
    pub version: String,
}

impl Device {
    /// The four letters of the TCG Vendor ID Registry, if the digits are letters.
    #[must_use]
    pub fn letters(&self) -> Option<String> {
        let digits = self.manufacturer.strip_prefix("id:")?;
        let bytes = hex::decode(digits).ok().filter(|b| b.len() == 4)?;
        let text = bytes.iter().map(|b| char::from(*b)).collect::<String>();
        let text = text.trim_end_matches(['\0', ' ']).to_owned();
        let plain = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric());
        plain.then_some(text)
    }

    /// Major and minor firmware version, from `id:MMMMmmmm`.
    #[must_use]
    pub fn firmware(&self) -> Option<(u16, u16)> {
        let digits = self.version.strip_prefix("id:").filter(|d| d.len() == 8)?;
        let both = u32::from_str_radix(digits, 16).ok()?;
        Some((
            u16::try_from(both >> 16).ok()?,
            u16::try_from(both & 0xffff).ok()?,
        ))
    }

    /// A maker's name.
    #[must_use]
    pub fn vendor(&self) -> String {
        let letters = self.letters();
        // TCG Vendor ID Registry.
        let name = match letters.as_deref() {
            Some("AMD") => "AMD",
            Some("ATML") => "Atmel",
            Some("GOOG") => "Google",
            Some("IBM") => "IBM",
            Some("IFX") => "Infineon",
            Some("INTC") => "Intel",
            Some("LEN") => "Lenovo",
            Some("MSFT") => "Microsoft",
            Some("NSM") => "National Semiconductor",
            Some("NTC") => "Nuvoton",
            Some("NTZ") => "Nationz",
            Some("QCOM") => "Qualcomm",
            Some("STM") => "STMicroelectronics",
            Some("SMSN") => "Samsung",
            _ => return self.manufacturer.clone(),
        };
        name.to_owned()
    }
}

/// What the subjectAltName of an AK or EK certificate says.
///
/// # Errors
/// In words.
pub fn device(certificate: &Certificate) -> Result<Device, String> {
    const F: &str = "subjectAltName";
    let value = certificate
        .extension(SUBJECT_ALT_NAME)
        .ok_or("it has no subjectAltName")?;
    let names = expect(value, tag::SEQUENCE, F)
        .and_then(|e| e.walk().all(16, F))
        .map_err(|e| e.to_string())?;
    let mut found = names.iter().filter(|n| n.tag() == tag::context(4));
    let (Some(one), None) = (found.next(), found.next()) else {
        return Err("its subjectAltName has not one directoryName".to_owned());
    };
    // The three attributes stand in one multi-valued RDN or in three, in any order.
    let name = Name::from_der(one.content()).map_err(|e| e.to_string())?;
    let get = |oid, what: &str| {
        name.get(oid)
            .map(str::to_owned)
            .ok_or_else(|| format!("its subjectAltName has not one {what}"))
    };
    Ok(Device {
        manufacturer: get(MANUFACTURER, "TPM manufacturer")?,
        model: get(MODEL, "TPM model")?,
        version: get(VERSION, "TPM version")?,
    })
}

/// The device's permanent identifier in an AK certificate's subjectAltName (RFC 4043 §2), if there is
/// one, readable and without an assigner: what is odd or ambiguous names nothing.
#[must_use]
pub fn permanent_identifier(certificate: &Certificate) -> Option<String> {
    const F: &str = "permanentIdentifier";
    let value = certificate.extension(SUBJECT_ALT_NAME)?;
    let names = expect(value, tag::SEQUENCE, F)
        .ok()?
        .walk()
        .all(16, F)
        .ok()?;
    let mut found = names.iter().filter_map(|name| {
        // otherName [0] { type-id, [0] EXPLICIT value }, RFC 5280 §4.2.1.6.
        let mut other = (name.tag() == tag::context(0)).then(|| name.walk())?;
        let kind = other.next(F).ok()?;
        (kind.tag() == tag::OID && kind.content() == PERMANENT_IDENTIFIER.as_bytes())
            .then_some(other)
    });
    let (Some(mut one), None) = (found.next(), found.next()) else {
        return None;
    };
    let explicit = one.next(F).ok()?;
    one.finish(F).ok()?;
    let inner = expect(explicit.content(), tag::SEQUENCE, F).ok()?;
    let mut inner = inner.walk();
    let text = inner.optional(tag::UTF8_STRING, F).ok()??.text(F).ok()?;
    inner.finish(F).ok()?;
    (1..=MAX_IDENTIFIER).contains(&text.len()).then_some(text)
}

/// Whether a certificate may be an attestation key's (TCG EK Credential Profile §3.2; WebAuthn
/// §8.3.1).
///
/// # Errors
/// In words, what is wrong with it.
pub fn fits_ak(c: &Certificate) -> Result<(), String> {
    if c.version() != 3 {
        return Err(format!("is version {}, not 3", c.version()));
    }
    if !has_usage(c, AK_USAGE)? {
        return Err(
            "has no extended key usage 2.23.133.8.3, so it is no attestation key's".to_owned(),
        );
    }
    if c.basic_constraints().map_err(|e| e.to_string())? != Some((false, None)) {
        return Err("does not say that it is no CA".to_owned());
    }
    if key_usage(c)?.is_some_and(|bits| bits & 0x80 == 0) {
        return Err("has a key usage without digitalSignature".to_owned());
    }
    if !c.subject().is_empty() {
        return Err("has a subject, which is to be empty".to_owned());
    }
    let critical = c
        .extensions()
        .iter()
        .any(|e| e.oid == SUBJECT_ALT_NAME && e.critical);
    if !critical {
        return Err("has no critical subjectAltName".to_owned());
    }
    device(c)?;
    known_critical(c)
}

/// Whether a certificate may be the CA `above` certificates over an attestation key's.
///
/// # Errors
/// In words, what is wrong with it.
pub fn fits_ca(c: &Certificate, above: u64) -> Result<(), String> {
    fits_ca_for(c, above, AK_USAGE, "attestation keys")
}

/// Whether a certificate may be the CA `above` certificates over an endorsement key's.
///
/// # Errors
/// In words, what is wrong with it.
pub fn fits_ek_ca(c: &Certificate, above: u64) -> Result<(), String> {
    fits_ca_for(c, above, EK_USAGE, "endorsement keys")
}

/// Whether a certificate may be an endorsement key's (TCG EK Credential Profile §3.2).
///
/// # Errors
/// In words, what is wrong with it.
pub fn fits_ek(c: &Certificate) -> Result<(), String> {
    if c.version() != 3 {
        return Err(format!("is version {}, not 3", c.version()));
    }
    let usages = c.extended_key_usages().map_err(|e| e.to_string())?;
    if !usages.is_empty() && !usages.iter().any(|u| *u == EK_USAGE) {
        return Err(
            "has extended key usages without 2.23.133.8.1, so it is no endorsement key's"
                .to_owned(),
        );
    }
    if matches!(
        c.basic_constraints().map_err(|e| e.to_string())?,
        Some((true, _))
    ) {
        return Err("is a CA".to_owned());
    }
    // RFC 5280 §4.2.1.3: keyEncipherment (bit 2) for RSA, keyAgreement (bit 4) for ECDH.
    let (bit, wanted) = match c.key().map_err(|e| e.to_string())? {
        PublicKey::Rsa { .. } => (0x20, "keyEncipherment"),
        _ => (0x08, "keyAgreement"),
    };
    if key_usage(c)?.is_some_and(|bits| bits & bit == 0) {
        return Err(format!("has a key usage without {wanted}"));
    }
    device(c)?;
    known_critical(c)
}

fn fits_ca_for(
    c: &Certificate,
    above: u64,
    usage: ObjectIdentifier,
    of: &str,
) -> Result<(), String> {
    if c.version() != 3 {
        return Err(format!("is version {}, not 3", c.version()));
    }
    match c.basic_constraints().map_err(|e| e.to_string())? {
        Some((true, length)) if length.is_none_or(|l| l >= above.saturating_sub(1)) => {}
        Some((true, _)) => return Err("allows no CA below itself".to_owned()),
        _ => return Err("is no CA".to_owned()),
    }
    if key_usage(c)?.is_some_and(|bits| bits & 0x04 == 0) {
        return Err("has a key usage without keyCertSign".to_owned());
    }
    let usages = c.extended_key_usages().map_err(|e| e.to_string())?;
    let allows = usages.iter().any(|u| *u == usage || *u == ANY_USAGE);
    if !usages.is_empty() && !allows {
        return Err(format!("is no CA for {of} by its extended key usages"));
    }
    known_critical(c)
}

/// Whether an extended key usage stands in a certificate.
///
/// # Errors
/// In words.
pub fn has_usage(c: &Certificate, usage: ObjectIdentifier) -> Result<bool, String> {
    let usages = c.extended_key_usages().map_err(|e| e.to_string())?;
    Ok(usages.iter().any(|u| *u == usage))
}

/// The AAGUID extension (WebAuthn §8.3.1): an OCTET STRING of 16 bytes.
///
/// # Errors
/// In words.
pub fn aaguid(c: &Certificate) -> Result<Option<&[u8]>, String> {
    let Some(value) = c.extension(AAGUID) else {
        return Ok(None);
    };
    expect(value, tag::OCTET_STRING, "id-fido-gen-ce-aaguid")
        .map(|e| Some(e.content()))
        .map_err(|e| e.to_string())
}

/// The first eight bits of keyUsage, if it stands there.
pub(in crate::vendor) fn key_usage(c: &Certificate) -> Result<Option<u8>, String> {
    let Some(value) = c.extension(KEY_USAGE) else {
        return Ok(None);
    };
    let (_, bits) = expect(value, tag::BIT_STRING, "keyUsage")
        .and_then(|e| e.bits("keyUsage"))
        .map_err(|e| e.to_string())?;
    Ok(Some(bits.first().copied().unwrap_or(0)))
}

/// RFC 5280 §4.2: a critical extension that is not understood refuses the certificate.
pub(in crate::vendor) fn known_critical(c: &Certificate) -> Result<(), String> {
    const KNOWN: [ObjectIdentifier; 5] = [
        BASIC_CONSTRAINTS,
        KEY_USAGE,
        EXT_KEY_USAGE,
        SUBJECT_ALT_NAME,
        CERTIFICATE_POLICIES,
    ];
    let unknown = c
        .extensions()
        .iter()
        .find(|e| e.critical && !KNOWN.iter().any(|k| e.oid == *k));
    match unknown {
        None => Ok(()),
        Some(e) => Err(format!(
            "has a critical extension {} that is not understood",
            e.oid
        )),
    }
}
