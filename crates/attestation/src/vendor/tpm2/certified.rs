//! What a TPM certified for one nonce, taken out of a request's attestation attribute again: whoever
//! handed it over once can do so a second time with nothing but the request.
//!
//! Nothing is judged here but what belongs together: whoever takes it appraises it.

use super::ak::{AK_USAGE, has_usage};
use super::attest::{Attest, Attested};
use super::container::{TCG_ATTEST_TPM_CERTIFY, tcg};
use super::signed;
use crate::bundle::{AttestationBundle, BundleError, ID_AA_ATTESTATION};
use crate::certificate::Certificate;
use crate::signature::Work;
use crate::verify::csr::{Csr, CsrError};

/// Most certificates from an attestation key's to its root.
const MAX_CHAIN: usize = 8;

/// What a TPM certified of a key, with the certificates of the attestation key that signed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certified {
    /// `TPMS_ATTEST`.
    pub attest: Vec<u8>,
    /// `TPMT_SIGNATURE`.
    pub signature: Vec<u8>,
    /// `TPMT_PUBLIC` of the certified key.
    pub public: Vec<u8>,
    /// The attestation key's certificate, then its issuers as far as they are in the request.
    pub chain: Vec<Vec<u8>>,
}

/// Why there is nothing to take out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotCertified {
    /// No request.
    #[error(transparent)]
    Csr(#[from] CsrError),
    /// No attestation attribute, or not one value in it.
    #[error("the request has not one attestation attribute of one value")]
    Attribute,
    /// The attribute's value cannot be read.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// No TPM certified a key with this nonce.
    #[error("the request holds no TPM's statement about a key with this nonce")]
    Statement,
    /// The signer's certificate is not among those of the request.
    #[error("the request holds no certificate of the attestation key that signed the statement")]
    Certificate,
}

/// Takes the statement with `nonce` out of a request (DER).
///
/// # Errors
/// [`NotCertified`].
pub fn in_request(csr: &[u8], nonce: &[u8]) -> Result<Certified, NotCertified> {
    let csr = Csr::from_der(csr)?;
    // Each type stands once: the reader sees to it.
    let mut attributes = csr.attributes().iter();
    let Some((_, values)) = attributes.find(|(kind, _)| *kind == ID_AA_ATTESTATION) else {
        return Err(NotCertified::Attribute);
    };
    let [value] = values.as_slice() else {
        return Err(NotCertified::Attribute);
    };
    let bundle = AttestationBundle::parse(value)?;
    let statement = bundle
        .attestations
        .iter()
        .filter(|a| a.kind == TCG_ATTEST_TPM_CERTIFY)
        .filter_map(|a| {
            let statement = tcg(&a.stmt).ok()?;
            Some((statement.attest, statement.signature?, statement.public?))
        })
        .find(|(attest, _, _)| is_for(attest, nonce));
    let (attest, signature, public) = statement.ok_or(NotCertified::Statement)?;
    let certificates: Vec<Certificate> = bundle
        .certs
        .iter()
        .filter_map(|c| Certificate::from_der(c).ok())
        .collect();
    let chain = chain(&certificates, attest, signature).ok_or(NotCertified::Certificate)?;
    Ok(Certified {
        attest: attest.to_vec(),
        signature: signature.to_vec(),
        public: public.to_vec(),
        chain,
    })
}

/// `TPM2_Certify` puts the caller's nonce into `extraData` (TPM 2.0 Library part 3 §18.2).
fn is_for(attest: &[u8], nonce: &[u8]) -> bool {
    Attest::parse(attest)
        .is_ok_and(|a| a.extra_data == nonce && matches!(a.attested, Attested::Certify { .. }))
}

/// The certificate of the key that signed, and its issuers. An attestation key that was certified more
/// than once, as for each order, has several: the newest counts.
fn chain(certificates: &[Certificate], attest: &[u8], signature: &[u8]) -> Option<Vec<Vec<u8>>> {
    // The budget of signature checks is its own; the bundle has MAX_CERTS certificates at most.
    let work = Work::default();
    // A CA for attestation keys has the usage as well: what signed is what counts.
    let signed = |c: &&Certificate| {
        has_usage(c, AK_USAGE).unwrap_or(false)
            && c.key()
                .is_ok_and(|key| signed::verify(&work, &key, None, attest, signature).is_ok())
    };
    let leaf = certificates
        .iter()
        .filter(signed)
        .max_by_key(|c| c.not_before())?;
    let mut chain = vec![leaf];
    let mut last = leaf;
    while chain.len() < MAX_CHAIN && !last.is_self_issued() {
        let above = certificates
            .iter()
            .filter(|c| c.subject() == last.issuer())
            .find(|c| c.key().is_ok_and(|key| last.verify(&work, &key).is_ok()));
        let Some(above) = above else { break };
        chain.push(above);
        last = above;
    }
    Some(chain.into_iter().map(|c| c.der().to_vec()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_testkit_evidence::cert::{self, attestation_attribute, request};
    use countersign_testkit_evidence::keys::{Key, Kind};
    use countersign_testkit_evidence::tpm2::Tpm2;

    const CERTIFY: &str = "2.23.133.20.1";
    const NONCE: &[u8] = b"this order's";

    fn tpm() -> Tpm2 {
        Tpm2 {
            extra_data: NONCE.to_vec(),
            ..Tpm2::default()
        }
    }

    fn csr(statements: &[(&str, Vec<u8>)], certs: &[Vec<u8>]) -> Vec<u8> {
        request("x", &tpm().key, &[attestation_attribute(statements, certs)])
    }

    #[test]
    fn the_statement_of_the_nonce_is_found_among_others_with_its_own_chain() {
        let tpm = tpm();
        let other = Tpm2 {
            ak: Key::named(Kind::P256, "another ak"),
            extra_data: b"another order's".to_vec(),
            ..tpm.clone()
        };
        let creation = Tpm2 {
            tag: 0x801a,
            ..tpm.clone()
        };
        let statements = [
            (CERTIFY, other.tcg_statement(false)),
            (CERTIFY, creation.tcg_statement(false)),
            ("1.2.3", tpm.tcg_statement(false)),
            (CERTIFY, tpm.tcg_statement(false)),
        ];
        let own = tpm.certificates();
        let mut certs = vec![
            cert::root("somebody", &Key::named(Kind::P256, "somebody")),
            vec![0xa3, 0x02, 0x05, 0x00],
        ];
        // Of the same CA. What is signed anew each time is made once.
        certs.push(other.ak_certificate().sign(&other.ca_key));
        let root = tpm.root();
        // Issuers may stand before what they issued.
        certs.extend([root.clone(), own[1].clone(), own[0].clone()]);
        let found = in_request(&csr(&statements, &certs), NONCE).unwrap();
        let attest = tpm.attest();
        assert_eq!(found.attest, attest);
        assert_eq!(found.public, tpm.public());
        assert_eq!(found.chain, [own[0].clone(), own[1].clone(), root]);
        let leaf = Certificate::from_der(&own[0]).unwrap();
        let work = Work::default();
        let verified = signed::verify(&work, &leaf.key().unwrap(), None, &attest, &found.signature);
        assert!(verified.is_ok(), "{verified:?}");
    }

    #[test]
    fn what_is_missing_is_named() {
        let tpm = tpm();
        let statement = [(CERTIFY, tpm.tcg_statement(false))];
        let certs = tpm.certificates();
        let good = csr(&statement, &certs);
        assert!(in_request(&good, NONCE).is_ok());
        assert_eq!(in_request(&good, b"other"), Err(NotCertified::Statement));
        let without = csr(&statement, &certs[1..]);
        assert_eq!(in_request(&without, NONCE), Err(NotCertified::Certificate));
        // A look-alike: the same names, another key.
        let alike = Tpm2 {
            ak: Key::named(Kind::P256, "a look-alike"),
            ..tpm.clone()
        };
        let alike = csr(&statement, &alike.certificates());
        assert_eq!(in_request(&alike, NONCE), Err(NotCertified::Certificate));
        let bare = request("x", &tpm.key, &[]);
        assert_eq!(in_request(&bare, NONCE), Err(NotCertified::Attribute));
        for n in 0..good.len() {
            let cut = in_request(&good[..n], NONCE);
            assert!(matches!(cut, Err(NotCertified::Csr(_))), "{n}: {cut:?}");
        }
    }
}
