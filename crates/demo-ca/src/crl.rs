//! Empty certificate revocation lists (RFC 5280 §5). The demo CA revokes nothing yet, but
//! verifiers fetch the list that a certificate points to, and must find one.

use crate::authority::{Issuer, algorithm, certificate_error};
use crate::error::Error;
use countersign_attestation::UnixSeconds;
use countersign_x509::ObjectIdentifier;
use countersign_x509::asn1::{self, context_primitive};
use countersign_x509::oid;

const CRL_NUMBER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.20");
/// CSBR §4.9.7: `nextUpdate` at most 10 days after `thisUpdate`.
const LIFETIME_S: u64 = 7 * 86_400;

/// An empty CRL of `issuer`, good from `now` for a week.
pub(crate) fn empty(issuer: &Issuer, now: UnixSeconds) -> Result<Vec<u8>, Error> {
    let key_id = issuer
        .certificate()
        .extension(&oid::SUBJECT_KEY_ID)
        .and_then(|e| asn1::Cursor::single(&e.value, asn1::OCTET_STRING, "keyIdentifier").ok())
        .map(|t| t.value.to_vec())
        .ok_or_else(|| certificate_error("the CA certificate has no subjectKeyIdentifier"))?;
    let authority = asn1::sequence(&[&asn1::tlv(context_primitive(0), &[&key_id])]);
    // Rises with time, also over restarts (RFC 5280 §5.2.3).
    let number = asn1::unsigned(&now.get().to_be_bytes());
    let extensions = asn1::sequence(&[
        &extension(&oid::AUTHORITY_KEY_ID, &authority),
        &extension(&CRL_NUMBER, &number),
    ]);
    let tbs = asn1::sequence(&[
        &asn1::unsigned(&[1]),
        &algorithm(),
        issuer.certificate().subject_der(),
        &time(now),
        &time(now.plus(LIFETIME_S)),
        &asn1::tlv(asn1::context(0), &[&extensions]),
    ]);
    let signature = issuer.sign(&tbs)?;
    Ok(asn1::sequence(&[
        &tbs,
        &algorithm(),
        &asn1::bit_string(&signature),
    ]))
}

fn extension(id: &ObjectIdentifier, value: &[u8]) -> Vec<u8> {
    asn1::sequence(&[&asn1::oid(id), &asn1::octet_string(value)])
}

/// UTCTime until 2049, GeneralizedTime after (RFC 5280 §5.1.2.4).
fn time(t: UnixSeconds) -> Vec<u8> {
    let text: String = t
        .to_string()
        .chars()
        .filter(|c| c.is_ascii_digit() || *c == 'Z')
        .collect();
    match text.strip_prefix("20") {
        Some(short) if text.as_str() < "2050" => asn1::tlv(asn1::UTC_TIME, &[short.as_bytes()]),
        _ => asn1::tlv(asn1::GENERALIZED_TIME, &[text.as_bytes()]),
    }
}
