//! Reading a certificate (RFC 5280).
//!
//! [`Certificate`] keeps the original bytes and slices of them; nothing is encoded again before it
//! is hashed or verified. The extensions we act upon are decoded when the certificate is read, so a
//! malformed one is an error at the door and not later.

use crate::asn1::{
    Asn1Error, Cursor, INTEGER, OCTET_STRING, ObjectIdentifier, Problem, SEQUENCE, context,
    context_primitive,
};
use crate::verify::{self, VerifyError};
use crate::{hash, name, oid, pem, time};
use countersign_core::Micros;
use der::Decode;
use std::fmt;
use x509_cert::ext::pkix;
use x509_cert::ext::pkix::name::{DistributionPointName, GeneralName};

/// Bytes that are not a certificate we can read. Retrying cannot help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertError {
    /// Not the DER of a certificate.
    #[error("certificate: {0}")]
    Asn1(#[from] Asn1Error),
    /// Not a PEM block `CERTIFICATE`.
    #[error("certificate: {0}")]
    Pem(#[from] pem::PemError),
    /// The algorithm inside the signed part differs from the one beside the signature
    /// (RFC 5280 §4.1.1.2).
    #[error("certificate: signature algorithms inside and outside differ")]
    AlgorithmsDiffer,
    /// An extension that stands twice (RFC 5280 §4.2).
    #[error("certificate: extension {0} stands more than once")]
    DuplicateExtension(ObjectIdentifier),
    /// An extension this crate knows, malformed.
    #[error("certificate: extension {0} is malformed")]
    MalformedExtension(ObjectIdentifier),
}

/// A certificate.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    der: Vec<u8>,
    tbs: Vec<u8>,
    serial: Vec<u8>,
    issuer: Vec<u8>,
    subject: Vec<u8>,
    spki: Vec<u8>,
    not_before: Micros,
    not_after: Micros,
    signature_algorithm: Vec<u8>,
    signature: Vec<u8>,
    extensions: Vec<Extension>,
    known: KnownExtensions,
}

/// An extension as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    /// Its type.
    pub oid: ObjectIdentifier,
    /// Whether whoever does not know it must refuse the certificate.
    pub critical: bool,
    /// The DER inside the OCTET STRING.
    pub value: Vec<u8>,
}

/// The bits of `keyUsage` (RFC 5280 §4.2.1.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyUsage {
    /// `digitalSignature`.
    pub digital_signature: bool,
    /// `keyCertSign`.
    pub key_cert_sign: bool,
    /// `cRLSign`.
    pub crl_sign: bool,
    /// Any other bit.
    pub others: bool,
}

/// `basicConstraints` (RFC 5280 §4.2.1.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BasicConstraints {
    /// Whether the subject is a CA.
    pub ca: bool,
    /// How many CA certificates may follow, not counting self-issued ones.
    pub path_len: Option<u8>,
}

/// The extensions this crate acts upon, decoded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownExtensions {
    /// `basicConstraints`.
    pub basic_constraints: Option<BasicConstraints>,
    /// `keyUsage`.
    pub key_usage: Option<KeyUsage>,
    /// `extKeyUsage`; never empty when present.
    pub extended_key_usage: Option<Vec<ObjectIdentifier>>,
    /// `subjectKeyIdentifier`.
    pub subject_key_id: Option<Vec<u8>>,
    /// `authorityKeyIdentifier`, its key identifier.
    pub authority_key_id: Option<Vec<u8>>,
    /// Whether `authorityKeyIdentifier` is present at all.
    pub has_authority_key_id: bool,
    /// `certificatePolicies`, the identifiers.
    pub policies: Option<Vec<ObjectIdentifier>>,
    /// `cRLDistributionPoints`, the URLs in full names.
    pub crl_urls: Option<Vec<String>>,
    /// `authorityInfoAccess`: method and URL.
    pub authority_info: Option<Vec<(ObjectIdentifier, String)>>,
}

impl Certificate {
    /// Reads one certificate that fills `der`.
    ///
    /// # Errors
    /// [`CertError`].
    pub fn from_der(der: &[u8]) -> Result<Self, CertError> {
        const F: &str = "Certificate";
        if der.len() > MAX_CERTIFICATE {
            return Err(Asn1Error::new(F, Problem::TooLarge).into());
        }
        let mut c = Cursor::new(Cursor::single(der, SEQUENCE, F)?.value);
        let tbs = c.expect(SEQUENCE, "tbsCertificate")?;
        let algorithm = c.expect(SEQUENCE, "signatureAlgorithm")?;
        let signature = c.bit_string("signatureValue")?;
        c.finish(F)?;

        let mut t = Cursor::new(tbs.value);
        let version = match t.optional(context(0), "version")? {
            None => 0,
            Some(v) => {
                let mut v = Cursor::new(v.value);
                let n = v.small_integer("version")?;
                v.finish("version")?;
                n
            }
        };
        let serial = t.expect(INTEGER, "serialNumber")?.value;
        // RFC 5280 §4.1.2.2: positive, at most 20 octets; 21 when the sign octet is counted.
        if serial.len() > 21 || serial.first().is_none_or(|b| b & 0x80 != 0) {
            return Err(Asn1Error::new("serialNumber", Problem::Value).into());
        }
        if t.expect(SEQUENCE, "signature")?.bytes != algorithm.bytes {
            return Err(CertError::AlgorithmsDiffer);
        }
        let issuer = t.expect(SEQUENCE, "issuer")?.bytes;
        let mut validity = t.enter(SEQUENCE, "validity")?;
        let not_before = time::read_time(&validity.any("notBefore")?, "notBefore")?;
        let not_after = time::read_time(&validity.any("notAfter")?, "notAfter")?;
        validity.finish("validity")?;
        let subject = t.expect(SEQUENCE, "subject")?.bytes;
        let spki = t.expect(SEQUENCE, "subjectPublicKeyInfo")?.bytes;
        t.optional(context_primitive(1), "issuerUniqueID")?;
        t.optional(context_primitive(2), "subjectUniqueID")?;
        let extensions = match t.optional(context(3), "extensions")? {
            None => Vec::new(),
            Some(e) if version == 2 => read_extensions(e.value)?,
            Some(_) => return Err(Asn1Error::new("version", Problem::Version).into()),
        };
        t.finish("tbsCertificate")?;
        name::to_text(issuer).map_err(|e| Asn1Error::new("issuer", e.problem))?;
        name::to_text(subject).map_err(|e| Asn1Error::new("subject", e.problem))?;

        let known = KnownExtensions::read(&extensions)?;
        Ok(Self {
            der: der.to_vec(),
            tbs: tbs.bytes.to_vec(),
            serial: serial.to_vec(),
            issuer: issuer.to_vec(),
            subject: subject.to_vec(),
            spki: spki.to_vec(),
            not_before,
            not_after,
            signature_algorithm: algorithm.bytes.to_vec(),
            signature: signature.to_vec(),
            extensions,
            known,
        })
    }

    /// Reads the one PEM block `CERTIFICATE` of a text.
    ///
    /// # Errors
    /// [`CertError`].
    pub fn from_pem(text: &str) -> Result<Self, CertError> {
        Self::from_der(&pem::decode_one(PEM_LABEL, text)?)
    }

    /// Reads all PEM blocks `CERTIFICATE` of a text, in order; at least one.
    ///
    /// # Errors
    /// [`CertError`].
    pub fn chain_from_pem(text: &str) -> Result<Vec<Self>, CertError> {
        let blocks = pem::decode_all(PEM_LABEL, text)?;
        if blocks.is_empty() {
            return Err(pem::PemError::Missing(PEM_LABEL.to_owned()).into());
        }
        blocks.iter().map(|der| Self::from_der(der)).collect()
    }

    /// The certificate.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The certificate in PEM armour.
    #[must_use]
    pub fn to_pem(&self) -> String {
        pem::encode(PEM_LABEL, &self.der)
    }

    /// SHA-256 of the whole certificate.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        hash::sha256(&self.der)
    }

    /// The bytes under the signature.
    #[must_use]
    pub fn tbs_der(&self) -> &[u8] {
        &self.tbs
    }

    /// The content octets of the serial number.
    #[must_use]
    pub fn serial(&self) -> &[u8] {
        &self.serial
    }

    /// The serial number in lower-case hex, without a sign octet.
    #[must_use]
    pub fn serial_hex(&self) -> String {
        match self.serial.as_slice() {
            [0, rest @ ..] if !rest.is_empty() => hex::encode(rest),
            all => hex::encode(all),
        }
    }

    /// The issuer's DER `Name`.
    #[must_use]
    pub fn issuer_der(&self) -> &[u8] {
        &self.issuer
    }

    /// The subject's DER `Name`.
    #[must_use]
    pub fn subject_der(&self) -> &[u8] {
        &self.subject
    }

    /// The issuer as RFC 4514 text.
    #[must_use]
    pub fn issuer_text(&self) -> String {
        name::to_text(&self.issuer).unwrap_or_default()
    }

    /// The subject as RFC 4514 text.
    #[must_use]
    pub fn subject_text(&self) -> String {
        name::to_text(&self.subject).unwrap_or_default()
    }

    /// First moment of validity.
    #[must_use]
    pub const fn not_before(&self) -> Micros {
        self.not_before
    }

    /// Last second of validity, inclusive (RFC 5280 §4.1.2.5).
    #[must_use]
    pub const fn not_after(&self) -> Micros {
        self.not_after
    }

    /// Whether `at` lies within the validity. The last second counts as a whole.
    #[must_use]
    pub const fn is_valid_at(&self, at: Micros) -> bool {
        at.0 >= self.not_before.0 && at.seconds() <= self.not_after.seconds()
    }

    /// The `SubjectPublicKeyInfo`, as it stands.
    #[must_use]
    pub fn spki_der(&self) -> &[u8] {
        &self.spki
    }

    /// The signature's `AlgorithmIdentifier`.
    #[must_use]
    pub fn signature_algorithm_der(&self) -> &[u8] {
        &self.signature_algorithm
    }

    /// All extensions, in their order.
    #[must_use]
    pub fn extensions(&self) -> &[Extension] {
        &self.extensions
    }

    /// The extension of one type.
    #[must_use]
    pub fn extension(&self, oid: &ObjectIdentifier) -> Option<&Extension> {
        self.extensions.iter().find(|e| e.oid == *oid)
    }

    /// The extensions this crate acts upon, decoded.
    #[must_use]
    pub const fn known(&self) -> &KnownExtensions {
        &self.known
    }

    /// Whether subject and issuer are the same name.
    #[must_use]
    pub fn is_self_issued(&self) -> bool {
        self.subject == self.issuer
    }

    /// Verifies this certificate's signature with the key of `issuer`. Names are not compared.
    ///
    /// # Errors
    /// [`VerifyError`].
    pub fn verify_issued_by(&self, issuer: &Self) -> Result<(), VerifyError> {
        verify::verify_signed(
            &issuer.spki,
            &self.signature_algorithm,
            &self.tbs,
            &self.signature,
        )
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Certificate({}, serial {})",
            self.subject_text(),
            self.serial_hex()
        )
    }
}

impl KnownExtensions {
    fn read(extensions: &[Extension]) -> Result<Self, CertError> {
        let mut k = Self::default();
        for e in extensions {
            let bad = CertError::MalformedExtension(e.oid);
            let v = e.value.as_slice();
            match e.oid {
                oid::BASIC_CONSTRAINTS => {
                    let b = decode::<pkix::BasicConstraints>(v).ok_or(bad)?;
                    k.basic_constraints = Some(BasicConstraints {
                        ca: b.ca,
                        path_len: b.path_len_constraint,
                    });
                }
                oid::KEY_USAGE => {
                    let u = decode::<pkix::KeyUsage>(v).ok_or(bad)?;
                    k.key_usage = Some(KeyUsage {
                        digital_signature: u.digital_signature(),
                        key_cert_sign: u.key_cert_sign(),
                        crl_sign: u.crl_sign(),
                        others: u.non_repudiation()
                            || u.key_encipherment()
                            || u.data_encipherment()
                            || u.key_agreement()
                            || u.encipher_only()
                            || u.decipher_only(),
                    });
                }
                oid::EXTENDED_KEY_USAGE => {
                    let u = decode::<pkix::ExtendedKeyUsage>(v).ok_or(bad.clone())?.0;
                    if u.is_empty() {
                        return Err(bad);
                    }
                    k.extended_key_usage = Some(u);
                }
                oid::SUBJECT_KEY_ID => {
                    let t = Cursor::single(v, OCTET_STRING, "subjectKeyIdentifier")?;
                    k.subject_key_id = Some(t.value.to_vec());
                }
                oid::AUTHORITY_KEY_ID => {
                    let a = decode::<pkix::AuthorityKeyIdentifier>(v).ok_or(bad)?;
                    k.has_authority_key_id = true;
                    k.authority_key_id = a.key_identifier.map(|i| i.as_bytes().to_vec());
                }
                oid::CERTIFICATE_POLICIES => {
                    let p = decode::<pkix::CertificatePolicies>(v).ok_or(bad)?.0;
                    k.policies = Some(p.into_iter().map(|p| p.policy_identifier).collect());
                }
                oid::CRL_DISTRIBUTION_POINTS => {
                    let d = decode::<pkix::CrlDistributionPoints>(v).ok_or(bad)?.0;
                    k.crl_urls = Some(
                        d.into_iter()
                            .filter_map(|p| match p.distribution_point {
                                Some(DistributionPointName::FullName(names)) => Some(names),
                                _ => None,
                            })
                            .flatten()
                            .filter_map(|n| url(&n))
                            .collect(),
                    );
                }
                oid::AUTHORITY_INFO_ACCESS => {
                    let a = decode::<pkix::AuthorityInfoAccessSyntax>(v).ok_or(bad)?.0;
                    k.authority_info = Some(
                        a.into_iter()
                            .filter_map(|d| url(&d.access_location).map(|u| (d.access_method, u)))
                            .collect(),
                    );
                }
                _ => {}
            }
        }
        Ok(k)
    }
}

fn url(n: &GeneralName) -> Option<String> {
    match n {
        GeneralName::UniformResourceIdentifier(u) => Some(u.as_str().to_owned()),
        _ => None,
    }
}

fn decode<T: for<'a> Decode<'a>>(bytes: &[u8]) -> Option<T> {
    T::from_der(bytes).ok()
}

fn read_extensions(content: &[u8]) -> Result<Vec<Extension>, CertError> {
    const F: &str = "extensions";
    let list =
        Cursor::new(Cursor::single(content, SEQUENCE, F)?.value).elements(MAX_EXTENSIONS, F)?;
    if list.is_empty() {
        return Err(Asn1Error::new(F, Problem::Value).into());
    }
    let mut out: Vec<Extension> = Vec::with_capacity(list.len());
    for t in list {
        let mut c = Cursor::new(Cursor::single(t.bytes, SEQUENCE, F)?.value);
        let oid = c.oid("extnID")?;
        let critical = match c.peek() {
            Some(crate::asn1::BOOLEAN) => c.boolean("critical")?,
            _ => false,
        };
        let value = c.expect(OCTET_STRING, "extnValue")?.value.to_vec();
        c.finish(F)?;
        if out.iter().any(|e| e.oid == oid) {
            return Err(CertError::DuplicateExtension(oid));
        }
        out.push(Extension {
            oid,
            critical,
            value,
        });
    }
    Ok(out)
}

const PEM_LABEL: &str = "CERTIFICATE";
const MAX_CERTIFICATE: usize = 64 * 1024;
const MAX_EXTENSIONS: usize = 64;

#[cfg(test)]
mod tests;
