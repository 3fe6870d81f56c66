//! Certificates and requests, with every oddity on request.

use crate::der;
use crate::keys::{Key, Scheme};

/// A name of single-valued RDNs: dotted type and UTF-8 text.
#[must_use]
pub fn dn(attributes: &[(&str, &str)]) -> Vec<u8> {
    let rdns: Vec<Vec<u8>> = attributes
        .iter()
        .map(|(kind, value)| der::set(&[der::seq(&[der::oid(kind), der::utf8(value)])]))
        .collect();
    der::seq(&rdns)
}

/// A name with one common name.
#[must_use]
pub fn cn(value: &str) -> Vec<u8> {
    dn(&[("2.5.4.3", value)])
}

/// A name of one multi-valued RDN, in the order given.
#[must_use]
pub fn dn_multi(attributes: &[(&str, &str)]) -> Vec<u8> {
    let all: Vec<Vec<u8>> = attributes
        .iter()
        .map(|(kind, value)| der::seq(&[der::oid(kind), der::utf8(value)]))
        .collect();
    der::seq(&[der::set(&all)])
}

/// A certificate to be signed. All values are public: a test changes what it likes.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// 1 or 3.
    pub version: u8,
    /// Content of the serial number.
    pub serial: Vec<u8>,
    /// DER name.
    pub issuer: Vec<u8>,
    /// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`.
    pub not_before: String,
    /// The same.
    pub not_after: String,
    /// DER name.
    pub subject: Vec<u8>,
    /// The key's SubjectPublicKeyInfo.
    pub spki: Vec<u8>,
    /// Dotted type, critical, content of `extnValue`.
    pub extensions: Vec<(String, bool, Vec<u8>)>,
    /// Writes `critical FALSE` out.
    pub explicit_false: bool,
    /// Leaves the NULL of RSA signature algorithms out.
    pub no_null: bool,
    /// Writes a NULL into ECDSA signature algorithms.
    pub ecdsa_null: bool,
}

impl Certificate {
    /// A version 3 certificate of `key` for `subject`, issued by `issuer`, 2020 to 2049.
    #[must_use]
    pub fn new(subject: Vec<u8>, key: &Key, issuer: Vec<u8>) -> Self {
        Self {
            version: 3,
            serial: vec![1],
            issuer,
            not_before: "200101000000Z".into(),
            not_after: "491231235959Z".into(),
            subject,
            spki: key.spki().to_vec(),
            extensions: Vec::new(),
            explicit_false: false,
            no_null: false,
            ecdsa_null: false,
        }
    }

    /// With one more extension.
    #[must_use]
    pub fn with(mut self, oid: &str, critical: bool, value: Vec<u8>) -> Self {
        self.extensions.push((oid.into(), critical, value));
        self
    }

    /// With basicConstraints, critical.
    #[must_use]
    pub fn ca(self, path: Option<u64>) -> Self {
        let mut parts = vec![der::boolean(true)];
        parts.extend(path.map(der::int));
        self.with("2.5.29.19", true, der::seq(&parts))
    }

    /// With extended key usages.
    #[must_use]
    pub fn eku(self, critical: bool, oids: &[&str]) -> Self {
        let list: Vec<_> = oids.iter().map(|o| der::oid(o)).collect();
        self.with("2.5.29.37", critical, der::seq(&list))
    }

    /// Signed by `key` in its usual way.
    #[must_use]
    pub fn sign(&self, key: &Key) -> Vec<u8> {
        self.sign_with(key, key.usual())
    }

    /// Signed by `key`.
    #[must_use]
    pub fn sign_with(&self, key: &Key, scheme: Scheme) -> Vec<u8> {
        let mut algorithm = key.algorithm(scheme);
        if self.no_null {
            algorithm = without_null(&algorithm);
        }
        if self.ecdsa_null && scheme == Scheme::Ecdsa {
            algorithm = der::tlv(0x30, &[&algorithm[2..], &[5, 0]].concat());
        }
        let mut parts = Vec::new();
        if self.version > 1 {
            parts.push(der::context(0, &der::int(u64::from(self.version) - 1)));
        }
        parts.push(der::tlv(0x02, &self.serial));
        parts.push(algorithm.clone());
        parts.push(self.issuer.clone());
        parts.push(der::seq(&[
            der::time(&self.not_before),
            der::time(&self.not_after),
        ]));
        parts.push(self.subject.clone());
        parts.push(self.spki.clone());
        if !self.extensions.is_empty() {
            let list: Vec<_> = self.extensions.iter().map(|e| self.extension(e)).collect();
            parts.push(der::context(3, &der::seq(&list)));
        }
        let tbs = der::seq(&parts);
        let signature = key.sign(scheme, &tbs);
        der::seq(&[tbs, algorithm, der::bits(&signature)])
    }

    fn extension(&self, (oid, critical, value): &(String, bool, Vec<u8>)) -> Vec<u8> {
        let mut parts = vec![der::oid(oid)];
        if *critical || self.explicit_false {
            parts.push(der::boolean(*critical));
        }
        parts.push(der::octets(value));
        der::seq(&parts)
    }
}

/// Drops the two bytes of a NULL at the end of an `AlgorithmIdentifier`.
fn without_null(algorithm: &[u8]) -> Vec<u8> {
    assert!(algorithm.ends_with(&[5, 0]), "no NULL to leave out");
    der::tlv(0x30, &algorithm[2..algorithm.len() - 2])
}

/// A self-signed CA certificate.
#[must_use]
pub fn root(name: &str, key: &Key) -> Vec<u8> {
    Certificate::new(cn(name), key, cn(name)).ca(None).sign(key)
}

/// A request for `key`, with attributes already written (`SEQUENCE { type, SET { value } }`).
#[must_use]
pub fn request(subject: &str, key: &Key, attributes: &[Vec<u8>]) -> Vec<u8> {
    let info = der::seq(&[
        der::int(0),
        cn(subject),
        key.spki().to_vec(),
        der::context(0, &attributes.concat()),
    ]);
    let signature = key.sign(key.usual(), &info);
    der::seq(&[info, key.algorithm(key.usual()), der::bits(&signature)])
}

/// An attribute of a request with one value.
#[must_use]
pub fn attribute(oid: &str, value: Vec<u8>) -> Vec<u8> {
    der::seq(&[der::oid(oid), der::set(&[value])])
}

/// The attestation attribute of a request (IETF lamps): statements of type and element, and
/// certificates.
#[must_use]
pub fn attestation_attribute(statements: &[(&str, Vec<u8>)], certs: &[Vec<u8>]) -> Vec<u8> {
    let list: Vec<_> = statements
        .iter()
        .map(|(kind, stmt)| der::seq(&[der::oid(kind), stmt.clone()]))
        .collect();
    let mut parts = vec![der::seq(&list)];
    if !certs.is_empty() {
        parts.push(der::seq(certs));
    }
    attribute("1.2.840.113549.1.9.16.2.59", der::seq(&parts))
}

/// A PKCS#7 `SignedData` of certificates alone.
#[must_use]
pub fn certs_only(certs: &[Vec<u8>]) -> Vec<u8> {
    let data = der::seq(&[
        der::int(1),
        der::set(&[]),
        der::seq(&[der::oid("1.2.840.113549.1.7.1")]),
        der::context(0, &certs.concat()),
        der::set(&[]),
    ]);
    der::seq(&[der::oid("1.2.840.113549.1.7.2"), der::context(0, &data)])
}
