//! The bytes of a list, to be signed elsewhere: for the demo CA and for tests.

use super::Reason;
use crate::asn1::{self, context, context_primitive};
use crate::build::extension;
use crate::{oid, time};
use countersign_core::Micros;

/// A list to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrlBuilder {
    /// The issuer's DER `Name`.
    pub issuer: Vec<u8>,
    /// The issuer's key identifier (RFC 5280 §5.2.1).
    pub authority_key_id: Vec<u8>,
    /// Big-endian `cRLNumber`: it only rises (RFC 5280 §5.2.3).
    pub number: Vec<u8>,
    /// When it is made.
    pub this_update: Micros,
    /// When the next is due; CSBR §4.9.7 wants at most 10 days.
    pub next_update: Micros,
    /// Who is on it.
    pub revoked: Vec<RevokedCertificate>,
    /// `AlgorithmIdentifier` of the signature to come, DER.
    pub signature_algorithm: Vec<u8>,
    /// Further extensions, DER, for tests.
    pub more: Vec<Vec<u8>>,
}

/// One on the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokedCertificate {
    /// Serial number, big endian.
    pub serial: Vec<u8>,
    /// Since when.
    pub at: Micros,
    /// Why.
    pub reason: Reason,
}

impl CrlBuilder {
    /// The `TBSCertList`.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        let entries: Vec<_> = self.revoked.iter().map(RevokedCertificate::der).collect();
        let entries: Vec<&[u8]> = entries.iter().map(Vec::as_slice).collect();
        let authority =
            asn1::sequence(&[&asn1::tlv(context_primitive(0), &[&self.authority_key_id])]);
        let mut extensions = vec![
            extension(&oid::AUTHORITY_KEY_ID, false, &authority),
            extension(&oid::CRL_NUMBER, false, &asn1::unsigned(&self.number)),
        ];
        extensions.extend(self.more.iter().cloned());
        let extensions: Vec<&[u8]> = extensions.iter().map(Vec::as_slice).collect();
        let list = asn1::sequence(&entries);
        asn1::sequence(&[
            &asn1::unsigned(&[1]),
            &self.signature_algorithm,
            &self.issuer,
            &time::write_time(self.this_update),
            &time::write_time(self.next_update),
            // RFC 5280 §5.1.2.6: absent where nobody is on it.
            if entries.is_empty() { &[] } else { &list },
            &asn1::tlv(context(0), &[&asn1::sequence(&extensions)]),
        ])
    }
}

impl RevokedCertificate {
    fn der(&self) -> Vec<u8> {
        let serial = asn1::unsigned(&self.serial);
        let at = time::write_time(self.at);
        // RFC 5280 §5.3.1: left out rather than said to be unspecified.
        if self.reason == Reason::Unspecified {
            return asn1::sequence(&[&serial, &at]);
        }
        let code = asn1::tlv(0x0a, &[&[self.reason.code()]]);
        let extensions = asn1::sequence(&[&extension(&oid::CRL_REASON, false, &code)]);
        asn1::sequence(&[&serial, &at, &extensions])
    }
}

/// Puts the signed bytes and their signature together.
#[must_use]
pub fn assemble_crl(tbs: &[u8], signature_algorithm: &[u8], signature: &[u8]) -> Vec<u8> {
    asn1::sequence(&[tbs, signature_algorithm, &asn1::bit_string(signature)])
}
