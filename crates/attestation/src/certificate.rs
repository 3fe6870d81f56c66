//! Certificates as devices write them.
//!
//! Stock X.509 readers refuse genuine certificates of five makers. This one tolerates precisely:
//! version 1 without extensions, serial numbers that are zero or negative, BOOLEANs that are not DER or spell
//! out the default, SETs out of order, and names in old string types. It judges no extension;
//! whether a certificate may stand where it stands is each format's fixed shape
//! ([`crate::chain`]).

use crate::der::{DerError, Element, expect, tag};
use crate::key::PublicKey;
use crate::name::Name;
use crate::oid::Oid;
use crate::signature::{Algorithm, SignatureError, Work};
use crate::time::UnixSeconds;
use spki::ObjectIdentifier;

/// basicConstraints.
pub const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
/// extKeyUsage.
pub const EXT_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37");
/// subjectAltName.
pub const SUBJECT_ALT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");
/// certificatePolicies.
pub const CERTIFICATE_POLICIES: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.32");

/// Longest certificate read.
pub const MAX_CERTIFICATE: usize = 64 * 1024;
const MAX_EXTENSIONS: usize = 64;

/// An extension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    /// Its type.
    pub oid: Oid,
    /// Whether it is marked critical.
    pub critical: bool,
    /// The content of `extnValue`: DER for most, raw bytes for some makers.
    pub value: Vec<u8>,
}

/// A certificate. Equality is that of the bytes.
#[derive(Debug, Clone)]
pub struct Certificate {
    der: Vec<u8>,
    tbs: Vec<u8>,
    version: u8,
    serial: Vec<u8>,
    issuer: Name,
    not_before: UnixSeconds,
    not_after: UnixSeconds,
    subject: Name,
    spki: Vec<u8>,
    extensions: Vec<Extension>,
    algorithm: Vec<u8>,
    signature: Vec<u8>,
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}
impl Eq for Certificate {}

impl Certificate {
    /// Reads a certificate.
    ///
    /// # Errors
    /// [`DerError`] for anything but one certificate with the oddities named above.
    pub fn from_der(der: &[u8]) -> Result<Self, DerError> {
        const F: &str = "Certificate";
        if der.len() > MAX_CERTIFICATE {
            return Err(DerError::value(F, "is longer than 64 KiB"));
        }
        let mut outer = expect(der, tag::SEQUENCE, F)?.walk();
        let tbs = outer.expect(tag::SEQUENCE, "tbsCertificate")?;
        let algorithm = outer.expect(tag::SEQUENCE, "signatureAlgorithm")?;
        let signature = outer
            .expect(tag::BIT_STRING, "signatureValue")?
            .whole_bits("signatureValue")?;
        outer.finish(F)?;

        let mut w = tbs.walk();
        let version = match w.optional(tag::context(0), "version")? {
            None => 1,
            Some(v) => match v.inner("version")?.small("version")? {
                1 => 2,
                2 => 3,
                _ => return Err(DerError::value("version", "is none of 1, 2 and 3")),
            },
        };
        // RFC 5280 §4.1.2.2 wants a positive number; devices write zero and negative ones.
        let serial = w.next("serialNumber")?.integer("serialNumber")?;
        // RFC 5280 §4.1.1.2: the algorithm inside the signed part is the one outside.
        if w.expect(tag::SEQUENCE, "signature")?.raw() != algorithm.raw() {
            return Err(DerError::value(
                "signature",
                "differs from signatureAlgorithm",
            ));
        }
        let issuer = Name::from_der(w.expect(tag::SEQUENCE, "issuer")?.raw())?;
        let mut validity = w.expect(tag::SEQUENCE, "validity")?.walk();
        let not_before = validity.next("notBefore")?.time("notBefore")?;
        let not_after = validity.next("notAfter")?.time("notAfter")?;
        validity.finish("validity")?;
        let subject = Name::from_der(w.expect(tag::SEQUENCE, "subject")?.raw())?;
        let spki = w.expect(tag::SEQUENCE, "subjectPublicKeyInfo")?.raw();
        w.optional(tag::context_primitive(1), "issuerUniqueID")?;
        w.optional(tag::context_primitive(2), "subjectUniqueID")?;
        let extensions = match w.optional(tag::context(3), "extensions")? {
            Some(_) if version != 3 => {
                return Err(DerError::value(
                    "extensions",
                    "stand in a certificate below version 3",
                ));
            }
            Some(e) => extensions(&e.inner("extensions")?)?,
            None => Vec::new(),
        };
        w.finish("tbsCertificate")?;
        Ok(Self {
            der: der.to_vec(),
            tbs: tbs.raw().to_vec(),
            version,
            serial: serial.to_vec(),
            issuer,
            not_before,
            not_after,
            subject,
            spki: spki.to_vec(),
            extensions,
            algorithm: algorithm.raw().to_vec(),
            signature: signature.to_vec(),
        })
    }

    /// Its bytes.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The signed bytes.
    #[must_use]
    pub fn tbs(&self) -> &[u8] {
        &self.tbs
    }

    /// 1, 2 or 3.
    #[must_use]
    pub const fn version(&self) -> u8 {
        self.version
    }

    /// The content of the serial number, sign and all.
    #[must_use]
    pub fn serial(&self) -> &[u8] {
        &self.serial
    }

    /// Who issued it.
    #[must_use]
    pub const fn issuer(&self) -> &Name {
        &self.issuer
    }

    /// Whom it names.
    #[must_use]
    pub const fn subject(&self) -> &Name {
        &self.subject
    }

    /// From when on.
    #[must_use]
    pub const fn not_before(&self) -> UnixSeconds {
        self.not_before
    }

    /// Until when.
    #[must_use]
    pub const fn not_after(&self) -> UnixSeconds {
        self.not_after
    }

    /// The SubjectPublicKeyInfo as it stands.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// The key.
    ///
    /// # Errors
    /// [`crate::key::KeyError`] if it is of a kind that is not known here.
    pub fn key(&self) -> Result<PublicKey, crate::key::KeyError> {
        PublicKey::from_spki(&self.spki)
    }

    /// The extensions, in order.
    #[must_use]
    pub fn extensions(&self) -> &[Extension] {
        &self.extensions
    }

    /// The value of the extension of that type. None stands twice.
    #[must_use]
    pub fn extension(&self, oid: ObjectIdentifier) -> Option<&[u8]> {
        let found = self.extensions.iter().find(|e| e.oid == oid);
        found.map(|e| e.value.as_slice())
    }

    /// The extended key usages, if that extension stands here.
    ///
    /// # Errors
    /// [`DerError`] if it is malformed.
    pub fn extended_key_usages(&self) -> Result<Vec<Oid>, DerError> {
        const F: &str = "extKeyUsage";
        let Some(value) = self.extension(EXT_KEY_USAGE) else {
            return Ok(Vec::new());
        };
        let list = expect(value, tag::SEQUENCE, F)?.walk().all(32, F)?;
        list.iter().map(|e| e.oid(F)).collect()
    }

    /// The policies, if that extension stands here.
    ///
    /// # Errors
    /// [`DerError`] if it is malformed.
    pub fn policies(&self) -> Result<Vec<Oid>, DerError> {
        const F: &str = "certificatePolicies";
        let Some(value) = self.extension(CERTIFICATE_POLICIES) else {
            return Ok(Vec::new());
        };
        let list = expect(value, tag::SEQUENCE, F)?.walk().all(32, F)?;
        list.iter()
            .map(|e| e.tagged(tag::SEQUENCE, F)?.walk().next(F)?.oid(F))
            .collect()
    }

    /// basicConstraints: whether it is a CA, and the path length; `None` if the extension is
    /// missing. BER BOOLEANs and an explicit FALSE are read.
    ///
    /// # Errors
    /// [`DerError`] if it is malformed.
    pub fn basic_constraints(&self) -> Result<Option<(bool, Option<u64>)>, DerError> {
        const F: &str = "basicConstraints";
        let Some(value) = self.extension(BASIC_CONSTRAINTS) else {
            return Ok(None);
        };
        let mut w = expect(value, tag::SEQUENCE, F)?.walk();
        let ca = match w.optional(tag::BOOLEAN, F)? {
            Some(b) => b.boolean_ber(F)?,
            None => false,
        };
        let length = match w.optional(tag::INTEGER, F)? {
            Some(n) => Some(n.small(F)?),
            None => None,
        };
        w.finish(F)?;
        Ok(Some((ca, length)))
    }

    /// Whether issuer and subject are the same name.
    #[must_use]
    pub fn is_self_issued(&self) -> bool {
        self.issuer.matches(&self.subject)
    }

    /// How it is signed.
    ///
    /// # Errors
    /// [`SignatureError`] if the algorithm is not known.
    pub fn algorithm(&self) -> Result<Algorithm, SignatureError> {
        Algorithm::from_der(&self.algorithm)
    }

    /// The signature.
    #[must_use]
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// Verifies its signature under `key`, over the original bytes.
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn verify(&self, work: &Work, key: &PublicKey) -> Result<(), SignatureError> {
        work.verify(key, self.algorithm()?, &self.tbs, &self.signature)
    }

    /// Whether `at` lies in its validity.
    #[must_use]
    pub fn is_valid_at(&self, at: UnixSeconds) -> bool {
        self.not_before <= at && at <= self.not_after
    }
}

fn extensions(list: &Element<'_>) -> Result<Vec<Extension>, DerError> {
    const F: &str = "extensions";
    let mut out: Vec<Extension> = Vec::new();
    for one in list
        .tagged(tag::SEQUENCE, F)?
        .walk()
        .all(MAX_EXTENSIONS, F)?
    {
        let mut w = one.tagged(tag::SEQUENCE, F)?.walk();
        let oid = w.next("extnID")?.oid("extnID")?;
        // DEFAULT FALSE should be left out; Luna spells it out.
        let critical = match w.optional(tag::BOOLEAN, "critical")? {
            Some(b) => b.boolean_ber("critical")?,
            None => false,
        };
        let value = w.next("extnValue")?.octets("extnValue")?.to_vec();
        w.finish(F)?;
        // RFC 5280 §4.2: each once. Two would leave open which one counts.
        if out.iter().any(|e| e.oid == oid) {
            return Err(DerError::value(F, "has an extension twice"));
        }
        out.push(Extension {
            oid,
            critical,
            value,
        });
    }
    Ok(out)
}
