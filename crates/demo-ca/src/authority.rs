//! The demo CA's keys and certificates: a root, an issuing CA, a CA of its own for attestation
//! keys, and what they sign.
//!
//! ECDSA P-384 with SHA-384 (CSBR §7.1.3.2; a real CA under CSBR §6.1.5.1 keeps its keys in an HSM).
//! Here they are files of mode 0600.

use crate::error::Error;
use crate::files;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use aws_lc_rs::signature::{ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use countersign_core::{HashAlgorithm, KeyAlgorithm, Micros, SignatureScheme};
use countersign_x509::build::{self, AttestationKeyTbs, Profile, TbsBuilder};
use countersign_x509::cert::Certificate;
use countersign_x509::chain::Purpose;
use countersign_x509::key::{PublicKey, signature_algorithm_der};
use countersign_x509::name::{TpmName, ca_name};
use std::path::Path;

const SCHEME: SignatureScheme = SignatureScheme::Ecdsa(HashAlgorithm::Sha384);
const DAY: i64 = 86_400;

/// A CA key with its certificate.
pub(crate) struct Issuer {
    pair: EcdsaKeyPair,
    certificate: Certificate,
}

/// The demo CA: root and issuing CA, and beside them the CA for attestation keys, which is below no
/// root: whoever trusts code-signing certificates trusts nothing it signs.
pub(crate) struct Authority {
    pub(crate) root: Issuer,
    pub(crate) issuing: Issuer,
    pub(crate) attestation: Issuer,
    url: String,
}

impl Authority {
    /// Opens the CA in `dir`, or makes one if the folder has none. `url` is the `http://` base for
    /// CRLs and CA certificates.
    pub(crate) fn open(dir: &Path, url: &str, now: Micros) -> Result<Self, Error> {
        files::make_dir(dir)?;
        let top = |spki: &[u8]| TbsBuilder {
            profile: Profile::Root,
            subject: Vec::new(),
            issuer: Vec::new(),
            serial: Vec::new(),
            issuer_spki: spki.to_vec(),
            spki: spki.to_vec(),
            not_before: now,
            not_after: after(now, 3650),
            signature_algorithm: algorithm(),
            crl_url: None,
            ca_issuers_url: None,
        };
        let root = Issuer::open(
            dir,
            "root",
            top,
            "Countersign DEMO Root CA - do not trust",
            None,
        )?;
        let attestation = Issuer::open(
            dir,
            "attestation",
            top,
            "Countersign DEMO Attestation Key CA - do not trust",
            None,
        )?;
        let issuing = Issuer::open(
            dir,
            "issuing",
            |spki| TbsBuilder {
                profile: Profile::Intermediate {
                    purpose: Purpose::CodeSigning,
                    path_len: 0,
                },
                subject: Vec::new(),
                issuer: Vec::new(),
                serial: Vec::new(),
                issuer_spki: Vec::new(),
                spki: spki.to_vec(),
                not_before: now,
                not_after: after(now, 1825),
                signature_algorithm: algorithm(),
                crl_url: Some(format!("{url}/root.crl")),
                ca_issuers_url: Some(format!("{url}/root.cer")),
            },
            "Countersign DEMO Code Signing CA - do not trust",
            Some(&root),
        )?;
        Ok(Self {
            root,
            issuing,
            attestation,
            url: url.to_owned(),
        })
    }

    /// What a subscriber's certificate will say, under the CSBR profile.
    pub(crate) fn leaf(
        &self,
        subject: &[u8],
        spki: &[u8],
        not_before: Micros,
        days: i64,
    ) -> Result<TbsBuilder, Error> {
        Ok(TbsBuilder {
            profile: Profile::CodeSigning,
            serial: random_serial()?,
            issuer: self.issuing.certificate.subject_der().to_vec(),
            issuer_spki: self.issuing.certificate.spki_der().to_vec(),
            subject: subject.to_vec(),
            spki: spki.to_vec(),
            not_before,
            not_after: after(not_before, days),
            signature_algorithm: algorithm(),
            crl_url: Some(format!("{}/issuing.crl", self.url)),
            ca_issuers_url: Some(format!("{}/issuing.cer", self.url)),
        })
    }
}

impl Authority {
    /// What an attestation key's certificate will say. 90 days: what counts is the order it names.
    pub(crate) fn attestation_key(
        &self,
        spki: &[u8],
        tpm: TpmName,
        device: String,
        order: &str,
        not_before: Micros,
    ) -> Result<AttestationKeyTbs, Error> {
        Ok(AttestationKeyTbs {
            serial: random_serial()?,
            issuer: self.attestation.certificate.subject_der().to_vec(),
            issuer_spki: self.attestation.certificate.spki_der().to_vec(),
            spki: spki.to_vec(),
            tpm,
            device,
            order: format!("urn:countersign-demo-ca:order:{order}"),
            not_before,
            not_after: after(not_before, 90),
            signature_algorithm: algorithm(),
        })
    }
}

impl Issuer {
    /// Opens key and certificate `name`, or makes both. The key is written first: a crash between
    /// the two leaves a key without a certificate, which the next start completes.
    fn open(
        dir: &Path,
        name: &str,
        profile: impl FnOnce(&[u8]) -> TbsBuilder,
        common_name: &str,
        signer: Option<&Self>,
    ) -> Result<Self, Error> {
        let key_file = dir.join(format!("{name}.key"));
        let cert_file = dir.join(format!("{name}.pem"));
        let pair = if key_file.exists() {
            let pkcs8 = files::read(&key_file, 4096)?;
            EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_ASN1_SIGNING, &pkcs8).map_err(|_| {
                Error::Content {
                    path: key_file.clone(),
                    problem: "is not a PKCS#8 ECDSA P-384 key".to_owned(),
                }
            })?
        } else {
            let pair = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING)
                .map_err(|_| Error::Crypto("no key could be generated"))?;
            let pkcs8 = pair
                .to_pkcs8v1()
                .map_err(|_| Error::Crypto("the key could not be written as PKCS#8"))?;
            files::write(&key_file, pkcs8.as_ref(), 0o600)?;
            pair
        };
        let spki = spki(&pair)?;
        if cert_file.exists() {
            let bytes = files::read(&cert_file, 65_536)?;
            let certificate = Certificate::from_pem(&String::from_utf8_lossy(&bytes))
                .ok()
                .filter(|c| c.spki_der() == spki)
                .ok_or_else(|| Error::Content {
                    path: cert_file,
                    problem: "is not the certificate of the key beside it".to_owned(),
                })?;
            return Ok(Self { pair, certificate });
        }
        let mut tbs = profile(&spki);
        tbs.serial = random_serial()?;
        tbs.subject = ca_name("XX", "Countersign DEMO", common_name).map_err(certificate_error)?;
        (tbs.issuer, tbs.issuer_spki) = match signer {
            Some(s) => (
                s.certificate.subject_der().to_vec(),
                s.certificate.spki_der().to_vec(),
            ),
            None => (tbs.subject.clone(), spki),
        };
        let bytes = tbs.build().map_err(certificate_error)?;
        let signature = match signer {
            Some(s) => s.sign(&bytes)?,
            None => sign(&pair, &bytes)?,
        };
        let certificate =
            build::assemble(&bytes, &algorithm(), &signature).map_err(certificate_error)?;
        files::write(&cert_file, certificate.to_pem().as_bytes(), 0o644)?;
        Ok(Self { pair, certificate })
    }

    pub(crate) const fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// An ECDSA P-384 SHA-384 signature, DER.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        sign(&self.pair, message)
    }

    /// Signs a TBSCertificate; the result verifies under this issuer or is not returned.
    pub(crate) fn issue(&self, tbs: &[u8]) -> Result<Certificate, Error> {
        let signature = self.sign(tbs)?;
        let certificate =
            build::assemble(tbs, &algorithm(), &signature).map_err(certificate_error)?;
        certificate
            .verify_issued_by(&self.certificate)
            .map_err(certificate_error)?;
        Ok(certificate)
    }
}

/// `AlgorithmIdentifier` of the CA's signatures.
pub(crate) fn algorithm() -> Vec<u8> {
    signature_algorithm_der(SCHEME)
}

/// A new P-384 key's SubjectPublicKeyInfo; the private key is dropped.
pub(crate) fn stranger_spki() -> Result<Vec<u8>, Error> {
    let pair = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING)
        .map_err(|_| Error::Crypto("no key could be generated"))?;
    spki(&pair)
}

pub(crate) fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut out = [0; N];
    SystemRandom::new()
        .fill(&mut out)
        .map_err(|_| Error::Crypto("the system gives no random bytes"))?;
    Ok(out)
}

/// 127 random bits (CSBR §7.1 wants 64), never zero and never with a leading zero octet.
fn random_serial() -> Result<Vec<u8>, Error> {
    let mut serial = random::<16>()?;
    if let Some(first) = serial.first_mut() {
        *first = (*first & 0x7f) | 0x40;
    }
    Ok(serial.to_vec())
}

fn sign(pair: &EcdsaKeyPair, message: &[u8]) -> Result<Vec<u8>, Error> {
    let signature = pair
        .sign(&SystemRandom::new(), message)
        .map_err(|_| Error::Crypto("the CA key does not sign"))?;
    Ok(signature.as_ref().to_vec())
}

fn spki(pair: &EcdsaKeyPair) -> Result<Vec<u8>, Error> {
    PublicKey::from_ec_point(KeyAlgorithm::EcP384, pair.public_key().as_ref())
        .map(|k| k.spki_der().to_vec())
        .map_err(certificate_error)
}

/// The last second of `days` days from `from` (both ends count: RFC 5280 §4.1.2.5).
fn after(from: Micros, days: i64) -> Micros {
    Micros::from_seconds(from.seconds().saturating_add(days * DAY - 1))
}

pub(crate) fn certificate_error(e: impl std::fmt::Display) -> Error {
    Error::Certificate(e.to_string())
}
