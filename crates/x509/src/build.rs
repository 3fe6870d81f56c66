//! The bytes of a certificate, to be signed elsewhere: for the demo CA and for tests.
//!
//! The profiles follow CSBR §7.1.2, so that what the demo CA issues passes [`crate::profile`] and
//! the linters real CAs use. This is no CA: it takes whatever serial, names and times it is given.

mod attestation_key;

pub use attestation_key::AttestationKeyTbs;

use crate::asn1::{self, Asn1Error, ObjectIdentifier, context, context_primitive};
use crate::cert::{CertError, Certificate};
use crate::chain::Purpose;
use crate::verify::{Mechanism, VerifyError};
use crate::{hash, key, oid, time};
use countersign_core::Micros;

/// Which kind of certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// A self-signed root (CSBR §7.1.2.1): no path length, no extended key usage.
    Root,
    /// An issuing CA for one purpose (CSBR §7.1.2.2).
    Intermediate {
        /// What it issues for.
        purpose: Purpose,
        /// How many CAs may follow.
        path_len: u8,
    },
    /// A subscriber's certificate (CSBR §7.1.2.3), with the reserved policy of non-EV code signing.
    CodeSigning,
    /// A timestamp authority's certificate (CSBR §7.1.2.3, RFC 3161 §2.3).
    TimeStamping,
}

/// A certificate to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TbsBuilder {
    /// Which kind.
    pub profile: Profile,
    /// Big-endian serial number, 1 to 20 octets; CSBR §7.1 wants 64 bits from a CSPRNG in it.
    pub serial: Vec<u8>,
    /// The issuer's DER `Name`.
    pub issuer: Vec<u8>,
    /// The issuer's `SubjectPublicKeyInfo`, for the authority key identifier. A root's own.
    pub issuer_spki: Vec<u8>,
    /// The subject's DER `Name`.
    pub subject: Vec<u8>,
    /// The subject's `SubjectPublicKeyInfo`.
    pub spki: Vec<u8>,
    /// First second of validity; fractions are dropped.
    pub not_before: Micros,
    /// Last second of validity, inclusive. For 460 days from a start this is one second less than
    /// 460 × 86,400 later.
    pub not_after: Micros,
    /// DER `AlgorithmIdentifier` of the signature to come.
    pub signature_algorithm: Vec<u8>,
    /// `cRLDistributionPoints`: an `http://` URL. CSBR wants one in all but roots.
    pub crl_url: Option<String>,
    /// `authorityInfoAccess`, caIssuers: an `http://` URL.
    pub ca_issuers_url: Option<String>,
}

/// A certificate that cannot be built. Retrying cannot help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// The serial number is empty, zero or longer than 20 octets (RFC 5280 §4.1.2.2).
    #[error("serial: zero, empty or longer than 20 octets")]
    Serial,
    /// The last second lies before the first.
    #[error("not_after: lies before not_before")]
    Validity,
    /// A URL that is not `http://` (CSBR §7.1.2) or not ASCII.
    #[error("{field}: not an http:// URL in ASCII")]
    Url {
        /// Which field.
        field: &'static str,
    },
    /// A field that was given as DER is not the DER it should be.
    #[error(transparent)]
    Asn1(#[from] Asn1Error),
    /// The signature algorithm is not one this crate verifies.
    #[error("signature_algorithm: {0}")]
    SignatureAlgorithm(VerifyError),
    /// The result does not read back as a certificate.
    #[error(transparent)]
    Cert(#[from] CertError),
}

impl TbsBuilder {
    /// The bytes to be signed.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn build(&self) -> Result<Vec<u8>, BuildError> {
        self.build_with(&self.extensions()?)
    }

    pub(crate) fn build_with(&self, extensions: &[Vec<u8>]) -> Result<Vec<u8>, BuildError> {
        Frame {
            serial: &self.serial,
            issuer: &self.issuer,
            subject: &self.subject,
            spki: &self.spki,
            not_before: self.not_before,
            not_after: self.not_after,
            signature_algorithm: &self.signature_algorithm,
        }
        .write(extensions)
    }

    pub(crate) fn extensions(&self) -> Result<Vec<Vec<u8>>, BuildError> {
        let (ski, aki) = key_identifiers(&self.spki, &self.issuer_spki)?;
        let mut out = Vec::new();
        if self.profile != Profile::Root {
            out.push(aki);
        }
        out.push(ski);
        match self.profile {
            Profile::Root => out.push(basic_constraints(None)),
            Profile::Intermediate { path_len, .. } => out.push(basic_constraints(Some(path_len))),
            Profile::CodeSigning | Profile::TimeStamping => {}
        }
        // Bits are numbered from the left: digitalSignature is 0, keyCertSign 5, cRLSign 6.
        let usage: [u8; 2] = match self.profile {
            Profile::Root | Profile::Intermediate { .. } => [1, 0b0000_0110],
            Profile::CodeSigning | Profile::TimeStamping => [7, 0b1000_0000],
        };
        out.push(extension(
            &oid::KEY_USAGE,
            true,
            &asn1::tlv(asn1::BIT_STRING, &[&usage]),
        ));
        let eku = match self.profile {
            Profile::Root => None,
            Profile::Intermediate { purpose, .. } => Some((purpose, false)),
            Profile::CodeSigning => Some((Purpose::CodeSigning, false)),
            // RFC 3161 §2.3: critical in the authority's own certificate.
            Profile::TimeStamping => Some((Purpose::TimeStamping, true)),
        };
        if let Some((purpose, critical)) = eku {
            let (usage, policy) = match purpose {
                Purpose::CodeSigning => (oid::CODE_SIGNING, oid::POLICY_CODE_SIGNING),
                Purpose::TimeStamping => (oid::TIME_STAMPING, oid::POLICY_TIME_STAMPING),
            };
            let body = asn1::sequence(&[&asn1::oid(&usage)]);
            out.push(extension(&oid::EXTENDED_KEY_USAGE, critical, &body));
            let body = asn1::sequence(&[&asn1::sequence(&[&asn1::oid(&policy)])]);
            out.push(extension(&oid::CERTIFICATE_POLICIES, false, &body));
        }
        if let Some(url) = &self.crl_url {
            let uri = uri("crl_url", url)?;
            let point =
                asn1::sequence(&[&asn1::tlv(context(0), &[&asn1::tlv(context(0), &[&uri])])]);
            let body = asn1::sequence(&[&point]);
            out.push(extension(&oid::CRL_DISTRIBUTION_POINTS, false, &body));
        }
        if let Some(url) = &self.ca_issuers_url {
            let uri = uri("ca_issuers_url", url)?;
            let access = asn1::sequence(&[&asn1::oid(&oid::CA_ISSUERS), &uri]);
            let body = asn1::sequence(&[&access]);
            out.push(extension(&oid::AUTHORITY_INFO_ACCESS, false, &body));
        }
        Ok(out)
    }
}

/// What every certificate has around its extensions.
struct Frame<'a> {
    serial: &'a [u8],
    issuer: &'a [u8],
    subject: &'a [u8],
    spki: &'a [u8],
    not_before: Micros,
    not_after: Micros,
    signature_algorithm: &'a [u8],
}

impl Frame<'_> {
    fn write(&self, extensions: &[Vec<u8>]) -> Result<Vec<u8>, BuildError> {
        let serial = asn1::strip_zeros(self.serial);
        if serial.is_empty() || serial.len() > 20 {
            return Err(BuildError::Serial);
        }
        if self.not_after < self.not_before {
            return Err(BuildError::Validity);
        }
        Mechanism::from_der(self.signature_algorithm).map_err(BuildError::SignatureAlgorithm)?;
        for (der, field) in [(self.issuer, "issuer"), (self.subject, "subject")] {
            asn1::Cursor::single(der, asn1::SEQUENCE, field)?;
        }
        let parts: Vec<&[u8]> = extensions.iter().map(Vec::as_slice).collect();
        Ok(asn1::sequence(&[
            &asn1::tlv(context(0), &[&asn1::unsigned(&[2])]),
            &asn1::unsigned(serial),
            self.signature_algorithm,
            self.issuer,
            &asn1::sequence(&[
                &time::write_time(self.not_before),
                &time::write_time(self.not_after),
            ]),
            self.subject,
            self.spki,
            &asn1::tlv(context(3), &[&asn1::sequence(&parts)]),
        ]))
    }
}

/// Puts the signed bytes and their signature together. The result is read back; whether the
/// signature verifies is for the caller to check ([`Certificate::verify_issued_by`]).
///
/// # Errors
/// [`BuildError::Cert`].
pub fn assemble(
    tbs: &[u8],
    signature_algorithm: &[u8],
    signature: &[u8],
) -> Result<Certificate, BuildError> {
    let der = asn1::sequence(&[tbs, signature_algorithm, &asn1::bit_string(signature)]);
    Ok(Certificate::from_der(&der)?)
}

/// The extensions that name the key and the issuer's key by hash (RFC 5280 §4.2.1.2 (1)).
fn key_identifiers(spki: &[u8], issuer_spki: &[u8]) -> Result<(Vec<u8>, Vec<u8>), BuildError> {
    let ski = hash::sha1(key::subject_public_key(spki)?);
    let aki = hash::sha1(key::subject_public_key(issuer_spki)?);
    let issuer = asn1::sequence(&[&asn1::tlv(context_primitive(0), &[&aki])]);
    Ok((
        extension(&oid::SUBJECT_KEY_ID, false, &asn1::octet_string(&ski)),
        extension(&oid::AUTHORITY_KEY_ID, false, &issuer),
    ))
}

fn basic_constraints(path_len: Option<u8>) -> Vec<u8> {
    let ca = asn1::boolean_true();
    let body = match path_len {
        None => asn1::sequence(&[&ca]),
        Some(n) => asn1::sequence(&[&ca, &asn1::unsigned(&[n])]),
    };
    extension(&oid::BASIC_CONSTRAINTS, true, &body)
}

pub(crate) fn extension(id: &ObjectIdentifier, critical: bool, body: &[u8]) -> Vec<u8> {
    let value = asn1::octet_string(body);
    if critical {
        asn1::sequence(&[&asn1::oid(id), &asn1::boolean_true(), &value])
    } else {
        asn1::sequence(&[&asn1::oid(id), &value])
    }
}

fn uri(field: &'static str, url: &str) -> Result<Vec<u8>, BuildError> {
    if url.starts_with("http://") && url.bytes().all(|b| b.is_ascii_graphic()) {
        Ok(asn1::tlv(context_primitive(6), &[url.as_bytes()]))
    } else {
        Err(BuildError::Url { field })
    }
}
