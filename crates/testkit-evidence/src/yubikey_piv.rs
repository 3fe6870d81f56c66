//! YubiKey PIV evidence.

use crate::cert::{Certificate, cn, root};
use crate::der;
use crate::hostile::Files;
use crate::keys::{Key, Kind};

const ARC: &str = "1.3.6.1.4.1.41482.3";

/// Everything a slot's attestation and the certificate in f9 say. `Default` is genuine: a YubiKey 5
/// whose f9 certificate a root signed.
#[derive(Clone)]
pub struct YubiKeyPiv {
    /// The attested key.
    pub key: Key,
    /// The key in f9.
    pub signer_key: Key,
    /// The key of the CA above f9: give [`YubiKeyPiv::root`] to the verifier.
    pub root_key: Key,
    /// The CA's common name.
    pub root_name: String,
    /// The attestation's common name.
    pub subject: String,
    /// The common name of the certificate in f9.
    pub signer_subject: String,
    /// Firmware in the attestation.
    pub firmware: Option<[u8; 3]>,
    /// Firmware in the certificate in f9.
    pub signer_firmware: Option<[u8; 3]>,
    /// Serial number.
    pub serial: Option<u64>,
    /// PIN policy, touch policy.
    pub policy: Option<[u8; 2]>,
    /// Form factor and series.
    pub form_factor: Option<u8>,
    /// FIPS mark in f9.
    pub fips: Option<u64>,
    /// CSPN mark in f9.
    pub cspn: Option<u64>,
    /// Raw values are wrapped in an OCTET STRING.
    pub wrapped: bool,
    /// basicConstraints of the certificate in f9: a CA, none, or not there.
    pub signer_ca: Option<bool>,
    /// More extensions of the attestation: type, critical, value.
    pub more: Vec<(String, bool, Vec<u8>)>,
    /// Validity of both certificates.
    pub validity: (String, String),
}

impl Default for YubiKeyPiv {
    fn default() -> Self {
        Self {
            key: Key::named(Kind::P384, "piv subject"),
            signer_key: Key::named(Kind::Rsa2048, "piv f9"),
            root_key: Key::named(Kind::Rsa2048, "piv root"),
            root_name: "Test PIV Root CA Serial 1".into(),
            subject: "YubiKey PIV Attestation 9c".into(),
            signer_subject: "Yubico PIV Attestation".into(),
            firmware: Some([5, 7, 4]),
            signer_firmware: Some([5, 7, 4]),
            serial: Some(12_345_678),
            policy: Some([3, 1]),
            form_factor: Some(3),
            fips: None,
            cspn: None,
            wrapped: false,
            signer_ca: Some(true),
            more: Vec::new(),
            validity: ("160314000000Z".into(), "20520417000000Z".into()),
        }
    }
}

impl YubiKeyPiv {
    /// The CA's certificate.
    #[must_use]
    pub fn root(&self) -> Vec<u8> {
        root(&self.root_name, &self.root_key)
    }

    fn raw(&self, bytes: &[u8]) -> Vec<u8> {
        if self.wrapped {
            der::octets(bytes)
        } else {
            bytes.to_vec()
        }
    }

    fn dated(&self, mut c: Certificate) -> Certificate {
        c.not_before = self.validity.0.clone();
        c.not_after = self.validity.1.clone();
        c
    }

    /// The certificate in f9, before it is signed.
    #[must_use]
    pub fn signer(&self) -> Certificate {
        let issuer = cn(&self.root_name);
        let mut c = Certificate::new(cn(&self.signer_subject), &self.signer_key, issuer);
        if let Some(f) = self.signer_firmware {
            c = c.with(&format!("{ARC}.3"), false, self.raw(&f));
        }
        for (n, mark) in [(10, self.fips), (11, self.cspn)] {
            if let Some(mark) = mark {
                c = c.with(&format!("{ARC}.{n}"), false, der::int(mark));
            }
        }
        self.dated(match self.signer_ca {
            Some(true) => c.ca(Some(0)),
            Some(false) => c.with("2.5.29.19", true, der::seq(&[])),
            None => c,
        })
    }

    /// The attestation, before it is signed.
    #[must_use]
    pub fn leaf(&self) -> Certificate {
        let mut c = Certificate::new(cn(&self.subject), &self.key, cn(&self.signer_subject));
        c.serial = vec![0x5a; 16];
        if let Some(f) = self.firmware {
            c = c.with(&format!("{ARC}.3"), false, self.raw(&f));
        }
        if let Some(n) = self.serial {
            c = c.with(&format!("{ARC}.7"), false, der::int(n));
        }
        if let Some(p) = self.policy {
            c = c.with(&format!("{ARC}.8"), false, self.raw(&p));
        }
        if let Some(f) = self.form_factor {
            c = c.with(&format!("{ARC}.9"), false, self.raw(&[f]));
        }
        for (oid, critical, value) in &self.more {
            c = c.with(oid, *critical, value.clone());
        }
        self.dated(c)
    }

    /// Attestation and certificate in f9.
    #[must_use]
    pub fn files(&self) -> Files {
        vec![
            self.leaf().sign(&self.signer_key),
            self.signer().sign(&self.root_key),
        ]
    }

    /// A look-alike: the owner of a key in a slot signs an attestation of another key with it, and
    /// gives that slot's own attestation as the certificate above.
    #[must_use]
    pub fn look_alike(&self) -> Files {
        let inner = Key::named(Kind::Rsa2048, "piv inner");
        let mut of_inner = self.clone();
        of_inner.key = inner.clone();
        of_inner.subject = "YubiKey PIV Attestation 9a".into();
        let mut forged = self.leaf();
        forged.issuer = cn(&of_inner.subject);
        vec![
            forged.sign(&inner),
            of_inner.leaf().sign(&self.signer_key),
            self.signer().sign(&self.root_key),
        ]
    }
}

/// SubjectPublicKeyInfo of an RSA key whose modulus is a power of 65537, so that it lies in every
/// subgroup that the generator of CVE-2017-15361 stays in. Nobody has the private key.
#[must_use]
pub fn roca_spki() -> Vec<u8> {
    let mut n = vec![1u8];
    for _ in 0..127 {
        // n * 65537 = (n << 16) + n, big-endian.
        let mut shifted = n.clone();
        shifted.extend([0, 0]);
        let mut carry = 0u16;
        for i in 0..shifted.len() {
            let at = shifted.len() - 1 - i;
            let low = n.len().checked_sub(1 + i).map_or(0, |j| n[j]);
            let sum = u16::from(shifted[at]) + u16::from(low) + carry;
            shifted[at] = (sum & 0xff) as u8;
            carry = sum >> 8;
        }
        assert_eq!(carry, 0, "grows by two bytes each time");
        n = shifted;
    }
    let key = der::seq(&[der::uint(&n), der::int(65537)]);
    der::seq(&[
        der::algorithm("1.2.840.113549.1.1.1", true),
        der::bits(&key),
    ])
}
