//! Judging a list (RFC 5280 §6.3.3), and where a certificate says that its list lies.

use super::{CertificateList, CrlError};
use crate::asn1::{Asn1Error, Cursor, Problem, SEQUENCE, Tlv, context, context_primitive};
use crate::cert::Certificate;
use crate::verify::verify_signed;
use crate::{name, oid};
use countersign_core::Micros;
use der::Decode;
use std::cmp::Ordering;
use std::time::Duration;
use x509_cert::ext::pkix::CrlDistributionPoints;
use x509_cert::ext::pkix::name::{DistributionPointName, GeneralName};

/// How far a CA's clock may be ahead of ours.
const SKEW: Duration = Duration::from_secs(300);
/// The longest URL looked at, and how many.
const MAX_URL: usize = 1024;
const MAX_URLS: usize = 8;

/// `issuingDistributionPoint` of a list that is for subscribers' certificates and all reasons.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct IssuingDistributionPoint {
    /// URLs in its full name; `None` where it names no distribution point.
    urls: Option<Vec<String>>,
}

impl IssuingDistributionPoint {
    /// Reads it strictly (RFC 5280 §5.2.5).
    pub(super) fn read(value: &[u8]) -> Result<Self, CrlError> {
        const F: &str = "issuingDistributionPoint";
        let mut c = Cursor::new(Cursor::single(value, SEQUENCE, F)?.value);
        let point = c.optional(context(0), F)?;
        let users = flag(&mut c, 1)?;
        let cas = flag(&mut c, 2)?;
        // onlySomeReasons: a list for some reasons cannot say that a certificate is good.
        let some_reasons = c.optional(context_primitive(3), F)?.is_some();
        let indirect = flag(&mut c, 4)?;
        let attributes = flag(&mut c, 5)?;
        c.finish(F)?;
        if indirect {
            return Err(CrlError::Indirect);
        }
        if some_reasons {
            return Err(CrlError::Scope("it is for some reasons only"));
        }
        if cas {
            return Err(CrlError::Scope("it is for CA certificates only"));
        }
        if attributes {
            return Err(CrlError::Scope("it is for attribute certificates only"));
        }
        // Ours are subscribers' certificates: onlyContainsUserCerts covers them.
        let _ = users;
        let urls = match point {
            None => None,
            Some(point) => Some(full_name(&point)?),
        };
        Ok(Self { urls })
    }
}

/// `[n] BOOLEAN DEFAULT FALSE`: DER has it only when it is TRUE.
fn flag(c: &mut Cursor<'_>, n: u8) -> Result<bool, CrlError> {
    const F: &str = "issuingDistributionPoint";
    match c.optional(context_primitive(n), F)? {
        None => Ok(false),
        Some(t) if t.value == [0xff] => Ok(true),
        Some(_) => Err(Asn1Error::new(F, Problem::Value).into()),
    }
}

/// The URLs of `DistributionPointName`, which must be a full name.
fn full_name(point: &Tlv<'_>) -> Result<Vec<String>, CrlError> {
    const F: &str = "distributionPoint";
    let mut c = Cursor::new(point.value);
    let Some(names) = c.optional(context(0), F)? else {
        return Err(CrlError::Scope(
            "its distribution point is named relative to the CA",
        ));
    };
    c.finish(F)?;
    let mut urls = Vec::new();
    for general_name in Cursor::new(names.value).elements(64, F)? {
        if general_name.tag == context_primitive(6) {
            let url = std::str::from_utf8(general_name.value)
                .map_err(|_| Asn1Error::new(F, Problem::Value))?;
            urls.push(url.to_owned());
        }
    }
    Ok(urls)
}

/// The newest list seen from one place: a later one must not be older.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its `thisUpdate`.
    pub this_update: Micros,
    /// Its `cRLNumber`, big endian without leading zeros.
    pub number: Option<Vec<u8>>,
}

impl CertificateList {
    /// Checks the list for certificates of `issuer` that name it under `urls`: issuer, scope, key,
    /// signature, validity at `now`.
    ///
    /// # Errors
    /// [`CrlError`], the first thing that is wrong.
    pub fn check(
        &self,
        issuer: &Certificate,
        urls: &[String],
        now: Micros,
    ) -> Result<(), CrlError> {
        if self.issuer_der() != issuer.subject_der() {
            return Err(CrlError::OtherIssuer {
                found: name::to_text(self.issuer_der()).unwrap_or_default(),
                expected: issuer.subject_text(),
            });
        }
        if let (Some(ours), Some(theirs)) = (
            self.authority_key_id.as_deref(),
            issuer.known().subject_key_id.as_deref(),
        ) && ours != theirs
        {
            return Err(CrlError::OtherKey);
        }
        // RFC 5280 §6.3.3 b 2 i: one of the names must be one the certificate has.
        if let Some(named) = self.scope.as_ref().and_then(|s| s.urls.as_ref())
            && !named.iter().any(|n| urls.contains(n))
        {
            return Err(CrlError::Scope(
                "it names another distribution point than the certificate does",
            ));
        }
        if issuer.known().key_usage.is_some_and(|u| !u.crl_sign) {
            return Err(CrlError::IssuerMayNotSign);
        }
        verify_signed(
            issuer.spki_der(),
            self.part(&self.algorithm),
            self.part(&self.tbs),
            self.part(&self.signature),
        )
        .map_err(CrlError::Signature)?;
        let next = self.next_update.ok_or(CrlError::NoNextUpdate)?;
        if self.this_update > now.plus(SKEW) {
            return Err(CrlError::NotYet);
        }
        if now > next {
            return Err(CrlError::Expired);
        }
        Ok(())
    }

    /// Whether this list is older than one seen before: an earlier `thisUpdate`, or a smaller or
    /// missing `cRLNumber` (RFC 5280 §5.2.3: it only rises).
    #[must_use]
    pub fn older_than(&self, seen: &Seen) -> bool {
        let number = match (self.number(), seen.number.as_deref()) {
            (_, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Less,
            (Some(a), Some(b)) => a.len().cmp(&b.len()).then_with(|| a.cmp(b)),
        };
        self.this_update < seen.this_update || number == Ordering::Less
    }

    /// What to remember of it.
    #[must_use]
    pub fn seen(&self) -> Seen {
        Seen {
            this_update: self.this_update,
            number: self.number.clone(),
        }
    }
}

/// Where a certificate's complete list lies: the http and https URLs of its distribution points,
/// without those that are for some reasons only or name another list issuer (RFC 5280 §4.2.1.13).
/// Empty if there is none.
#[must_use]
pub fn distribution_urls(certificate: &Certificate) -> Vec<String> {
    let Some(extension) = certificate.extension(&oid::CRL_DISTRIBUTION_POINTS) else {
        return Vec::new();
    };
    let Ok(points) = CrlDistributionPoints::from_der(&extension.value) else {
        return Vec::new();
    };
    let mut urls = Vec::new();
    for point in points.0 {
        if point.reasons.is_some() || point.crl_issuer.is_some() {
            continue;
        }
        let Some(DistributionPointName::FullName(names)) = point.distribution_point else {
            continue;
        };
        for general_name in names {
            if let GeneralName::UniformResourceIdentifier(u) = general_name
                && u.as_str().len() <= MAX_URL
                && u.as_str().bytes().all(|b| b.is_ascii_graphic())
                && ["http://", "https://"]
                    .iter()
                    .any(|s| u.as_str().starts_with(s))
                && urls.len() < MAX_URLS
            {
                urls.push(u.as_str().to_owned());
            }
        }
    }
    urls
}
