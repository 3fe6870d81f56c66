//! From a submitted request to a certificate, or to reasons.

use crate::authority::{Authority, certificate_error, stranger_spki};
use crate::error::Error;
use crate::misbehave::{Misbehaviour, without_extension};
use crate::orders::{Issued, Order, OrderBook};
use crate::reports::{Issuance, Reports};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use countersign_attestation::request::{
    AttestationKey, CaPolicy, ExpectedOrder, RequestContext, Submission, appraise_request,
};
use countersign_attestation::result::{Check, Outcome, Rule, Verdict};
use countersign_attestation::{Anchors, AttestationResult, StatementKey, UnixSeconds};
use countersign_core::Micros;
use countersign_x509::cert::Certificate;
use countersign_x509::csr::ParsedCsr;
use countersign_x509::profile::{self, ProfileFinding};
use countersign_x509::{name, oid};

/// Days a certificate lives; CSBR §6.3.2 allows 460.
const DAYS: i64 = 90;
const DAYS_TOO_LONG: i64 = 500;
/// Certificates start a little in the past, for clocks that are behind.
pub(crate) const BACKDATE_S: i64 = 300;

pub(crate) const ORDER_UNEXPIRED: Rule = Rule::documented(
    "order-unexpired",
    "the order is still open",
    "docs/ca/demo-ca-protocol.md",
);
const SUBJECT: Rule = Rule::documented(
    "subject",
    "the subject has one each of CN, O and C, and L or ST",
    "CSBR §7.1.4.2",
);

/// The CA's counter: what it issues with, and what it demands.
pub(crate) struct Counter {
    pub(crate) authority: Authority,
    pub(crate) audience: String,
    pub(crate) statement_keys: Vec<StatementKey>,
    pub(crate) policy: CaPolicy,
    /// Whom it trusts for device evidence: the makers' pinned roots, and its own CA for attestation
    /// keys.
    pub(crate) anchors: Anchors,
    /// The roots it pins for endorsement keys; without any, its orders have no device steps.
    pub(crate) ek_roots: Option<Anchors>,
    pub(crate) reports: Reports,
    pub(crate) misbehave: Option<Misbehaviour>,
}

/// The answer to a submitted request.
pub(crate) enum Answer {
    /// A chain, base64 DER, leaf first, without the root.
    Issued(Vec<String>),
    /// Why not.
    Refused(Vec<Check>),
}

impl Counter {
    /// Appraises what was submitted for `order` and issues, or says why not. The order book holds
    /// the outcome durably before this returns.
    pub(crate) fn submit(
        &self,
        book: &mut OrderBook,
        order: &Order,
        submission: &Submission<'_>,
        now: UnixSeconds,
    ) -> Result<Answer, Error> {
        let mut result = self.appraise(book, order, submission, now);
        result.checks.push(ORDER_UNEXPIRED.check(
            now < order.expires,
            format!("open until {}, now {now}", order.expires),
        ));
        let csr = ParsedCsr::parse(submission.csr).ok();
        if let Some(csr) = &csr {
            result.checks.push(subject_check(csr));
        }
        result.verdict = Verdict::over(&result.checks);
        let Some(csr) = csr.filter(|_| result.verdict == Verdict::Accept) else {
            let reasons: Vec<_> = result.reasons().cloned().collect();
            // The record of an order that was used is not touched by a replay.
            if order.issued.is_none() {
                book.save(Order {
                    appraisal: Some(result),
                    ..order.clone()
                })?;
            }
            return Ok(Answer::Refused(reasons));
        };
        let (leaf, lint) = self.issue(&csr, now)?;
        self.reports.file(&Issuance {
            order,
            submission,
            result: &result,
            certificate: &leaf,
            lint: &lint,
            at: now,
        })?;
        let chain = vec![
            STANDARD.encode(leaf.der()),
            STANDARD.encode(self.authority.issuing.certificate().der()),
        ];
        book.save(Order {
            issued: Some(Issued {
                serial: leaf.serial_hex(),
                at: now,
                chain: chain.clone(),
            }),
            appraisal: Some(result),
            ..order.clone()
        })?;
        Ok(Answer::Issued(chain))
    }

    fn appraise(
        &self,
        book: &OrderBook,
        order: &Order,
        submission: &Submission<'_>,
        now: UnixSeconds,
    ) -> AttestationResult {
        let nonce = order.nonce_bytes();
        let attestation_key = order.attestation_key();
        appraise_request(
            submission,
            &RequestContext {
                audience: &self.audience,
                now,
                statement_keys: &self.statement_keys,
                anchor_set_version: "pinned by --trust-service-key",
                order: Some(ExpectedOrder {
                    id: &order.id,
                    nonce: &nonce,
                    subscriber: &order.subscriber,
                    attestation_key: match &attestation_key {
                        Some(der) => AttestationKey::OfOrder(der),
                        None => AttestationKey::NoneInOrder,
                    },
                }),
                seen_orders: Some(&|id| book.is_used(id)),
                policy: self.policy,
                formats: countersign_attestation::vendor::FORMATS,
                anchors: &self.anchors,
            },
        )
    }

    fn issue(
        &self,
        csr: &ParsedCsr,
        now: UnixSeconds,
    ) -> Result<(Certificate, Vec<ProfileFinding>), Error> {
        let now = Micros::from_seconds(i64::try_from(now.get()).unwrap_or(i64::MAX));
        let from = Micros::from_seconds(now.seconds().saturating_sub(BACKDATE_S));
        let spki = csr.public_key().spki_der();
        let wrong = self.misbehave;
        let certified = match wrong {
            Some(Misbehaviour::WrongKey) => stranger_spki()?,
            _ => spki.to_vec(),
        };
        let days = match wrong {
            Some(Misbehaviour::TooLong) => DAYS_TOO_LONG,
            _ => DAYS,
        };
        let mut tbs = self
            .authority
            .leaf(csr.subject_der(), &certified, from, days)?
            .build()
            .map_err(certificate_error)?;
        if wrong == Some(Misbehaviour::NoPolicy) {
            tbs = without_extension(&tbs, &oid::CERTIFICATE_POLICIES).map_err(certificate_error)?;
        }
        let leaf = self.authority.issuing.issue(&tbs)?;
        let chain = [leaf.clone(), self.authority.issuing.certificate().clone()];
        let lint = profile::check_issued(&leaf, &chain, spki, now)
            .err()
            .unwrap_or_default();
        if !lint.is_empty() && wrong.is_none() {
            // Never hand out what a careful subscriber would refuse.
            let findings: Vec<_> = lint.iter().map(ToString::to_string).collect();
            return Err(certificate_error(findings.join("; ")));
        }
        Ok((leaf, lint))
    }
}

fn subject_check(csr: &ParsedCsr) -> Check {
    let count = |attribute| name::values(csr.subject_der(), attribute).map_or(0, |v| v.len());
    let place = count(&name::LOCALITY) + count(&name::STATE);
    let holds = [name::COMMON_NAME, name::ORGANIZATION, name::COUNTRY]
        .iter()
        .all(|a| count(a) == 1)
        && place > 0;
    let outcome = if holds { Outcome::Pass } else { Outcome::Fail };
    SUBJECT.outcome(outcome, csr.subject_text())
}
