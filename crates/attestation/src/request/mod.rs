//! What a CA does with a request: offline, and with a reason for each answer.
//!
//! A CA hands in what it received, the time, the statement keys it pins, the order it opened and
//! which orders were used already. Every check is made that can be made, also after a failure, so
//! that a refusal says all that is wrong at once.

mod rules;

use crate::anchors::Anchors;
use crate::bundle::{AttestationBundle, ID_AA_ATTESTATION};
use crate::key::PublicKey;
use crate::key_checks;
use crate::result::{
    AttestationResult, Check, Claim, Input, Known, Outcome, RESULT_VERSION, Verdict,
};
use crate::signature::Work;
use crate::statement::{ServiceStatement, StatementError, StatementKey, StatementTbs, sha256};
use crate::time::UnixSeconds;
use crate::verify::{Context, Devices, File, Format, Pool, appraise_devices};
use countersign_x509::csr::{CsrError, ParsedCsr};
use std::borrow::Cow;

/// What was handed to the CA.
#[derive(Debug, Clone, Copy)]
pub struct Submission<'a> {
    /// The PKCS#10 request, DER.
    pub csr: &'a [u8],
    /// The service statement beside the request, DER. It may also stand in the request's
    /// attestation attribute; one of the two is needed.
    pub statement: Option<&'a [u8]>,
    /// Vendors' evidence, each in its own encoding.
    pub evidence: &'a [Vec<u8>],
}

/// What the CA's policy says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CaPolicy {
    /// Whether keys in software tokens are taken. For test and demo CAs.
    pub allow_software: bool,
    /// Whether device evidence that is missing or not understood leaves the request undecided.
    /// CSBR §6.2.7.4.2 method 7 does not ask for it.
    pub require_device_evidence: bool,
    /// Longest life of a statement, in seconds.
    pub max_lifetime_s: u64,
    /// How far in the future `issuedAt` may lie, in seconds. Expiry knows no skew.
    pub clock_skew_s: u64,
}

impl Default for CaPolicy {
    /// No software keys, no device evidence demanded, 30 days, 5 minutes.
    fn default() -> Self {
        Self {
            allow_software: false,
            require_device_evidence: false,
            max_lifetime_s: 30 * 86_400,
            clock_skew_s: 300,
        }
    }
}

/// The order as the CA opened it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpectedOrder<'a> {
    /// Its id.
    pub id: &'a str,
    /// The nonce the CA drew for it.
    pub nonce: &'a [u8],
    /// Who ordered.
    pub subscriber: &'a str,
}

/// What the CA knows and pins.
pub struct RequestContext<'a> {
    /// The CA's own name, as statements must carry it.
    pub audience: &'a str,
    /// Now.
    pub now: UnixSeconds,
    /// The statement keys this CA pins.
    pub statement_keys: &'a [StatementKey],
    /// A name for the set of keys and roots in use, for the result.
    pub anchor_set_version: &'a str,
    /// The order this answers; `None` for an appraisal without an order at hand.
    pub order: Option<ExpectedOrder<'a>>,
    /// Whether an order id was used already; `None` where there is no order book to ask.
    pub seen_orders: Option<&'a dyn Fn(&str) -> bool>,
    /// The CA's policy.
    pub policy: CaPolicy,
    /// Formats of device evidence understood, for example [`crate::vendor::DEVICES`].
    pub formats: &'a [&'a dyn Format],
    /// Whom to trust for device evidence.
    pub anchors: &'a Anchors,
}

/// Appraises a request with its statement and evidence.
#[must_use]
pub fn appraise_request(
    submission: &Submission<'_>,
    ctx: &RequestContext<'_>,
) -> AttestationResult {
    let mut a = Appraisal {
        ctx,
        checks: Vec::new(),
        claims: Vec::new(),
        software: Known::Unknown,
        verified: false,
    };
    let csr = a.request(submission.csr);
    let bundle = csr.as_ref().and_then(|csr| a.bundle(csr));
    if let Some(statement) = a.find_statement(submission.statement, bundle.as_ref()) {
        a.statement(&statement, csr.as_ref());
    }
    let names: Vec<String> = (0..submission.evidence.len())
        .map(|i| format!("evidence[{i}]"))
        .collect();
    let evidence: Vec<File<'_>> = names
        .iter()
        .zip(submission.evidence)
        .map(|(name, bytes)| File { name, bytes })
        .collect();
    let devices = match &csr {
        Some(csr) => device_evidence(csr, &evidence, ctx),
        None => Devices::default(),
    };
    a.finish(devices, inputs(submission, bundle.as_ref()))
}

/// Device evidence in the request's bundle and beside it. Evidence that is missing or not
/// understood decides nothing, or is no more than a remark, as the policy says (method 7 asks for
/// none).
fn device_evidence(csr: &ParsedCsr, evidence: &[File<'_>], ctx: &RequestContext<'_>) -> Devices {
    // The strict reader took the key, so this one does.
    let Ok(key) = PublicKey::from_spki(csr.public_key().spki_der()) else {
        return Devices::default();
    };
    let mut pool = Pool::of(&[File {
        name: "csr",
        bytes: csr.der(),
    }]);
    pool.add(evidence);
    let work = Work::default();
    let context = Context {
        pool: &pool,
        key: &key,
        csr: None,
        csr_der: Some(csr.der()),
        at: ctx.now,
        // An order's nonce stands in the statement; devices were not given it.
        nonce: None,
        anchors: ctx.anchors,
        work: &work,
    };
    let absent = if ctx.policy.require_device_evidence {
        Outcome::Unknown
    } else {
        Outcome::NotChecked
    };
    appraise_devices(ctx.formats, &context, absent)
}

struct Appraisal<'a> {
    ctx: &'a RequestContext<'a>,
    checks: Vec<Check>,
    claims: Vec<Claim>,
    software: Known,
    verified: bool,
}

impl Appraisal<'_> {
    fn request(&mut self, der: &[u8]) -> Option<ParsedCsr> {
        let csr = match ParsedCsr::parse(der) {
            Ok(csr) => csr,
            // A well-formed request for a key nobody may have fails by the key's rule.
            Err(CsrError::Key(e)) => {
                self.checks.push(key_checks::refused(&e));
                return None;
            }
            Err(e) => {
                self.checks
                    .push(rules::CSR_WELL_FORMED.check(false, e.to_string()));
                return None;
            }
        };
        self.checks.push(rules::CSR_WELL_FORMED.check(
            true,
            format!("{} bytes, subject {}", der.len(), csr.subject_text()),
        ));
        let signature = csr.verify_self_signature();
        self.checks.push(rules::CSR_SIGNATURE.check(
            signature.is_ok(),
            match signature {
                Ok(()) => "verifies".to_owned(),
                Err(e) => e.to_string(),
            },
        ));
        self.checks.extend(key_checks::check(csr.public_key()));
        Some(csr)
    }

    fn bundle(&mut self, csr: &ParsedCsr) -> Option<AttestationBundle> {
        let attribute = csr.attribute(&ID_AA_ATTESTATION)?;
        let parsed = match attribute.values.as_slice() {
            [value] => AttestationBundle::parse(value).map_err(|e| e.to_string()),
            values => Err(format!("the attribute has {} values", values.len())),
        };
        match parsed {
            Ok(bundle) => {
                let n = bundle.attestations.len();
                self.checks
                    .push(rules::BUNDLE.check(true, format!("one bundle of {n} attestations")));
                Some(bundle)
            }
            Err(seen) => {
                self.checks.push(rules::BUNDLE.check(false, seen));
                None
            }
        }
    }

    fn find_statement(
        &mut self,
        beside: Option<&[u8]>,
        bundle: Option<&AttestationBundle>,
    ) -> Option<Vec<u8>> {
        let inside: Vec<&[u8]> = bundle
            .map(|b| b.service_statements().collect())
            .unwrap_or_default();
        let mut copies = inside.iter().copied().chain(beside);
        let Some(first) = copies.next() else {
            self.checks.push(rules::PRESENT.check(
                false,
                "a naked request: no statement in its attestation attribute and none beside it",
            ));
            return None;
        };
        let place = match (inside.is_empty(), beside.is_some()) {
            (false, true) => "in the request and beside it",
            (false, false) => "in the request",
            _ => "beside the request",
        };
        self.checks.push(rules::PRESENT.check(true, place));
        let same = copies.all(|c| c == first);
        self.checks.push(rules::ONE.check(
            same,
            if same {
                "all copies agree"
            } else {
                "the copies differ"
            },
        ));
        same.then(|| first.to_vec())
    }

    fn statement(&mut self, der: &[u8], csr: Option<&ParsedCsr>) {
        let statement = match ServiceStatement::parse(der) {
            Ok(s) => s,
            Err(e) => {
                self.checks
                    .push(rules::WELL_FORMED.check(false, e.to_string()));
                return;
            }
        };
        let tbs = statement.tbs();
        self.checks.push(rules::WELL_FORMED.check(
            true,
            format!("version 1, {} bytes, by {}", der.len(), tbs.service),
        ));
        self.signature(&statement);
        self.bindings(tbs, csr);
        self.times(tbs);
        self.order(tbs);
        self.device(tbs);
    }

    fn signature(&mut self, statement: &ServiceStatement) {
        let (outcome, seen) = match statement.verify(self.ctx.statement_keys) {
            Ok(key) => (
                Outcome::Pass,
                format!("verifies under {}", hex::encode(key.sha256())),
            ),
            Err(e @ StatementError::NoPinnedKey) => (Outcome::Unknown, e.to_string()),
            Err(e) => (Outcome::Fail, e.to_string()),
        };
        self.verified = outcome == Outcome::Pass;
        self.checks.push(rules::SIGNATURE.outcome(outcome, seen));
    }

    fn bindings(&mut self, tbs: &StatementTbs, csr: Option<&ParsedCsr>) {
        if let Some(csr) = csr {
            let info = sha256(&csr.info_without_attribute(&ID_AA_ATTESTATION));
            self.checks.push(
                rules::REQUEST.check(tbs.csr_info_hash == info, both(tbs.csr_info_hash, info)),
            );
            let spki = csr.public_key().spki_sha256();
            self.checks
                .push(rules::KEY.check(tbs.key.spki_hash == spki, both(tbs.key.spki_hash, spki)));
        }
        let audience = self.ctx.audience;
        self.checks.push(rules::AUDIENCE.check(
            tbs.audience == audience,
            format!("for \"{}\", this is \"{audience}\"", tbs.audience),
        ));
    }

    fn times(&mut self, tbs: &StatementTbs) {
        let (now, policy) = (self.ctx.now, self.ctx.policy);
        self.checks.push(rules::ISSUED.check(
            tbs.issued_at <= now.plus(policy.clock_skew_s),
            format!("issued {}, now {now}", tbs.issued_at),
        ));
        self.checks.push(rules::UNEXPIRED.check(
            now < tbs.expires_at,
            format!("expires {}, now {now}", tbs.expires_at),
        ));
        let lives = tbs.expires_at.since(tbs.issued_at);
        self.checks.push(rules::LIFETIME.check(
            lives <= policy.max_lifetime_s,
            format!("lives {lives} s, allowed {} s", policy.max_lifetime_s),
        ));
    }

    fn order(&mut self, tbs: &StatementTbs) {
        let check = match self.ctx.order {
            None => rules::ORDER.outcome(
                Outcome::NotChecked,
                format!("order \"{}\": no order at hand to compare", tbs.order.id),
            ),
            Some(o) if o.id != tbs.order.id => rules::ORDER.check(
                false,
                format!("for order \"{}\", this is \"{}\"", tbs.order.id, o.id),
            ),
            Some(o) if o.nonce != tbs.order.nonce => {
                rules::ORDER.check(false, "the nonce is not the one of this order")
            }
            Some(o) if o.subscriber != tbs.subscriber => rules::ORDER.check(
                false,
                format!(
                    "subscriber \"{}\", ordered by \"{}\"",
                    tbs.subscriber, o.subscriber
                ),
            ),
            Some(o) => rules::ORDER.check(true, format!("order \"{}\" and its nonce", o.id)),
        };
        self.checks.push(check);
        let id = &tbs.order.id;
        self.checks.push(match self.ctx.seen_orders {
            None => rules::UNUSED.outcome(
                Outcome::NotChecked,
                format!("order \"{id}\": no order book at hand"),
            ),
            Some(seen) if seen(id) => {
                rules::UNUSED.check(false, format!("order \"{id}\" was used before"))
            }
            Some(_) => rules::UNUSED.check(true, format!("order \"{id}\" is unused")),
        });
    }

    fn device(&mut self, tbs: &StatementTbs) {
        // That it is software is believed at once; that it is not, only under a good signature.
        self.software = match (tbs.device.software, self.verified) {
            (true, _) => Known::Yes,
            (false, true) => Known::No,
            (false, false) => Known::Unknown,
        };
        let allowed = self.ctx.policy.allow_software;
        self.checks.push(rules::SOFTWARE.check(
            !tbs.device.software || allowed,
            match (tbs.device.software, allowed) {
                (false, _) => "the statement says: not a software token",
                (true, true) => "a software token, which this CA's policy allows",
                (true, false) => "a software token, which this CA's policy does not allow",
            },
        ));
        self.claims = claims(tbs, self.verified);
    }

    fn finish(mut self, devices: Devices, inputs: Vec<Input>) -> AttestationResult {
        self.checks.extend(devices.checks.iter().cloned());
        let verdict = Verdict::over(&self.checks);
        let mut supports_methods = Vec::new();
        let mut claims = self.claims;
        claims.extend(devices.claims);
        if verdict != Verdict::Reject && self.software != Known::Yes {
            supports_methods.extend(crate::verify::device_methods(&self.checks, &devices.facts));
            // Our word carries method 7 only for hardware: CSBR §6.2.7.3 is what the method refers
            // to, and a software token does not meet it.
            if self.verified && self.software == Known::No {
                supports_methods.push(7);
            }
        }
        let mut anchor_set = vec![self.ctx.anchor_set_version.to_owned()];
        if !devices.formats.is_empty() {
            anchor_set.push(self.ctx.anchors.version());
        }
        AttestationResult {
            version: RESULT_VERSION,
            verdict,
            software: self.software,
            facts: devices.facts,
            supports_methods,
            weaknesses: devices.weaknesses,
            claims,
            checks: self.checks,
            inputs,
            anchor_set_version: anchor_set.join("; "),
            appraised_at: self.ctx.now,
            subject: None,
            formats: devices.formats,
            freshness: None,
            policy: None,
            unused: Vec::new(),
            seen_before: None,
        }
    }
}

fn both(stated: [u8; 32], computed: [u8; 32]) -> String {
    if stated == computed {
        hex::encode(stated)
    } else {
        format!(
            "stated {}, computed {}",
            hex::encode(stated),
            hex::encode(computed)
        )
    }
}

fn claims(tbs: &StatementTbs, verified: bool) -> Vec<Claim> {
    let by = if verified {
        "the service, signed"
    } else {
        "an unverified statement"
    };
    let claim = |name: &str, value: &str| Claim {
        name: name.to_owned(),
        value: value.to_owned(),
        by: Cow::Borrowed(by),
    };
    let mut out = vec![
        claim("service", &tbs.service),
        claim("subscriber", &tbs.subscriber),
        claim("key.isolation", tbs.key.isolation.as_str()),
        claim("key.mechanism", &tbs.key.mechanism),
        claim("device.manufacturer", &tbs.device.manufacturer),
        claim("device.model", &tbs.device.model),
        claim("device.serial", &tbs.device.serial),
        claim("device.firmware", &tbs.device.firmware),
        claim("log.origin", &tbs.log.origin),
        claim("log.verifier-key", &tbs.log.verifier_key),
    ];
    if let Some(hash) = &tbs.practice_statement_hash {
        out.push(claim("practice-statement.sha256", &hex::encode(hash)));
    }
    if let Some(audit) = &tbs.audit {
        let period = format!("{}, {} to {}", audit.scheme, audit.from, audit.to);
        out.push(claim("audit", &period));
    }
    out.extend(
        tbs.key
            .attributes
            .iter()
            .map(|a| claim(&a.attribute, &a.seen)),
    );
    out
}

fn inputs(submission: &Submission<'_>, bundle: Option<&AttestationBundle>) -> Vec<Input> {
    let input = |name: &str, bytes: &[u8]| Input {
        name: name.to_owned(),
        sha256: hex::encode(sha256(bytes)),
    };
    let mut out = vec![input("csr", submission.csr)];
    out.extend(submission.statement.map(|s| input("statement", s)));
    let service = crate::statement::service_statement_oid();
    let inside = bundle.map(|b| b.attestations.as_slice());
    for (i, a) in inside.unwrap_or_default().iter().enumerate() {
        if a.kind != service {
            out.push(input(&format!("bundle[{i}]"), &a.stmt));
        }
    }
    for (i, bytes) in submission.evidence.iter().enumerate() {
        out.push(input(&format!("evidence[{i}]"), bytes));
    }
    out
}

#[cfg(test)]
mod tests;
