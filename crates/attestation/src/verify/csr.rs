//! Certificate requests as subscribers' tools write them (RFC 2986), read leniently and bound
//! strictly: the key in it, its own signature, its attributes.

use crate::der::{DerError, expect, tag};
use crate::key::{KeyError, PublicKey};
use crate::name::Name;
use crate::oid::Oid;
use crate::signature::{Algorithm, SignatureError, Work};
use spki::ObjectIdentifier;

/// extensionRequest (RFC 2985 §5.4.2).
const EXTENSION_REQUEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.14");
const MAX_ATTRIBUTES: usize = 64;

/// A request that cannot be read. Retrying cannot help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// Not the DER of a request.
    #[error("certificate request: {0}")]
    Der(#[from] DerError),
    /// Its key cannot be read.
    #[error("certificate request: {0}")]
    Key(#[from] KeyError),
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Csr {
    info: Vec<u8>,
    subject: Name,
    key: PublicKey,
    attributes: Vec<(Oid, Vec<Vec<u8>>)>,
    algorithm: Vec<u8>,
    signature: Vec<u8>,
}

impl Csr {
    /// Reads a request. Its signature is not verified here.
    ///
    /// # Errors
    /// [`CsrError`].
    pub fn from_der(der: &[u8]) -> Result<Self, CsrError> {
        const F: &str = "CertificationRequest";
        let mut outer = expect(der, tag::SEQUENCE, F)?.walk();
        let info = outer.expect(tag::SEQUENCE, "certificationRequestInfo")?;
        let algorithm = outer.expect(tag::SEQUENCE, "signatureAlgorithm")?;
        let signature = outer
            .expect(tag::BIT_STRING, "signature")?
            .whole_bits("signature")?;
        outer.finish(F)?;
        let mut w = info.walk();
        if w.next("version")?.small("version")? != 0 {
            return Err(DerError::value("version", "is not 0").into());
        }
        let subject = Name::from_der(w.expect(tag::SEQUENCE, "subject")?.raw())?;
        let key = PublicKey::from_spki(w.expect(tag::SEQUENCE, "subjectPKInfo")?.raw())?;
        let mut attributes = Vec::new();
        // The attributes are not OPTIONAL, but some tools leave an empty set out.
        if let Some(set) = w.optional(tag::context(0), "attributes")? {
            for one in set.walk().all(MAX_ATTRIBUTES, "attributes")? {
                let mut a = one.tagged(tag::SEQUENCE, "attributes")?.walk();
                let kind = a.next("attribute type")?.oid("attribute type")?;
                let values = a.expect(tag::SET, "attribute values")?;
                a.finish("attributes")?;
                if attributes.iter().any(|(k, _)| *k == kind) {
                    return Err(DerError::value("attributes", "hold a type twice").into());
                }
                let values = values.walk().all(MAX_ATTRIBUTES, "attribute values")?;
                attributes.push((kind, values.iter().map(|v| v.raw().to_vec()).collect()));
            }
        }
        w.finish("certificationRequestInfo")?;
        Ok(Self {
            info: info.raw().to_vec(),
            subject,
            key,
            attributes,
            algorithm: algorithm.raw().to_vec(),
            signature: signature.to_vec(),
        })
    }

    /// The key to be certified.
    #[must_use]
    pub const fn key(&self) -> &PublicKey {
        &self.key
    }

    /// The subject asked for.
    #[must_use]
    pub const fn subject(&self) -> &Name {
        &self.subject
    }

    /// Attributes: type and values, each value as its DER element. Each type stands once.
    #[must_use]
    pub fn attributes(&self) -> &[(Oid, Vec<Vec<u8>>)] {
        &self.attributes
    }

    /// The extensions asked for: type and content of `extnValue`.
    ///
    /// # Errors
    /// [`DerError`] if the attribute is malformed.
    pub fn extensions(&self) -> Result<Vec<(Oid, Vec<u8>)>, DerError> {
        const F: &str = "extensionRequest";
        let mut out = Vec::new();
        let asked = self
            .attributes
            .iter()
            .filter(|(k, _)| *k == EXTENSION_REQUEST);
        for value in asked.flat_map(|(_, values)| values) {
            let list = expect(value, tag::SEQUENCE, F)?;
            for one in list.walk().all(MAX_ATTRIBUTES, F)? {
                let mut w = one.tagged(tag::SEQUENCE, F)?.walk();
                let kind = w.next(F)?.oid(F)?;
                w.optional(tag::BOOLEAN, F)?;
                out.push((kind, w.next(F)?.octets(F)?.to_vec()));
                w.finish(F)?;
            }
        }
        Ok(out)
    }

    /// Verifies the request's own signature: proof of possession.
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn verify(&self, work: &Work) -> Result<Algorithm, SignatureError> {
        let algorithm = Algorithm::from_der(&self.algorithm)?;
        work.verify(&self.key, algorithm, &self.info, &self.signature)?;
        Ok(algorithm)
    }
}
