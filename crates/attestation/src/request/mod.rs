//! What a CA does with a request: offline, and with a reason for each answer.
//!
//! A CA hands in what it received, the time, the statement keys it pins, the order it opened and
//! which orders were used already. Every check is made that can be made, also after a failure, so
//! that a refusal says all that is wrong at once.

mod listed;
mod policy;
mod rules;

pub use policy::{AcceptedMethods, CaPolicy};

use crate::anchors::Anchors;
use crate::bundle::{AttestationBundle, ID_AA_ATTESTATION};
use crate::key::PublicKey;
use crate::key_checks;
use crate::result::{
    AttestationResult, Check, Claim, Input, Known, Outcome, RESULT_VERSION, SubjectKey, Verdict,
};
use crate::signature::Work;
use crate::statement::{ServiceStatement, StatementError, StatementKey, StatementTbs, sha256};
use crate::time::UnixSeconds;
use crate::vendor;
use crate::verify::{Context, Devices, File, Format, Policy, Pool, appraise_devices, freshness};
use countersign_x509::csr::{CsrError, ParsedCsr};

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

/// The order as the CA opened it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpectedOrder<'a> {
    /// Its id.
    pub id: &'a str,
    /// The nonce the CA drew for it.
    pub nonce: &'a [u8],
    /// Who ordered.
    pub subscriber: &'a str,
    /// Whose statements count.
    pub attestation_key: AttestationKey<'a>,
}

/// Which attestation key may have signed the device evidence of an order (TPM).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttestationKey<'a> {
    /// Any that leads to an anchor: the CA certifies none itself.
    Any,
    /// The one whose certificate, DER, was issued in this order after its challenge.
    OfOrder(&'a [u8]),
    /// None: no challenge was answered in this order.
    NoneInOrder,
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
        subject: None,
    };
    let csr = a.request(submission.csr);
    a.subject = csr.as_ref().and_then(subject);
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
    a.finish(devices, listed::inputs(submission, bundle.as_ref()))
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
        nonce: ctx.order.map(|o| o.nonce),
        nonce_needed: false,
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
    subject: Option<SubjectKey>,
}

/// The key the request is for.
fn subject(csr: &ParsedCsr) -> Option<SubjectKey> {
    let key = PublicKey::from_spki(csr.public_key().spki_der()).ok()?;
    Some(SubjectKey {
        given_as: "csr".to_owned(),
        algorithm: key.kind(),
        spki_sha256: hex::encode(key.spki_sha256()),
        requested_name: Some(csr.subject_text()),
    })
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
        self.claims = listed::claims(tbs, self.verified);
    }

    /// A certificate this CA gave to one order's attestation key is no word for another order.
    fn attestation_key(&self, devices: &Devices) -> Option<Check> {
        let own = match self.ctx.order?.attestation_key {
            AttestationKey::Any => return None,
            AttestationKey::NoneInOrder => None,
            AttestationKey::OfOrder(der) => Some(hex::encode(sha256(der))),
        };
        let rule = rules::ATTESTATION_KEY;
        let Some(used) = &devices.facts.attestation_key_certificate else {
            // A bare key that the CA pinned: nothing says in which order it answered.
            let tpm = devices.formats.iter().any(|f| f == vendor::tpm2::ID)
                && devices.facts.genuine == Known::Yes;
            return tpm
                .then(|| rule.check(false, "an attestation key without a certificate signed"));
        };
        let (holds, seen) = match own {
            None => (
                false,
                format!("certificate {used} signed; this order has certified none"),
            ),
            Some(own) if own == *used => (true, own),
            Some(own) => (
                false,
                format!("certificate {used} signed; this order's is {own}"),
            ),
        };
        Some(rule.check(holds, seen))
    }

    fn finish(mut self, devices: Devices, inputs: Vec<Input>) -> AttestationResult {
        self.checks.extend(devices.checks.iter().cloned());
        self.checks.extend(self.attestation_key(&devices));
        let mut policy = None;
        if self.ctx.policy.require_device_evidence && !devices.formats.is_empty() {
            let origin = Policy::origin();
            self.checks
                .extend(origin.judge(&devices, &[], self.ctx.now));
            policy = Some(origin.applied());
        }
        let mut supports_methods = Vec::new();
        let refused = Verdict::over(&self.checks) == Verdict::Reject;
        if !refused && self.software != Known::Yes {
            supports_methods.extend(crate::verify::device_methods(&self.checks, &devices.facts));
            // Our word carries method 7 only for hardware: CSBR §6.2.7.3 is what the method refers
            // to, and a software token does not meet it.
            if self.verified && self.software == Known::No {
                supports_methods.push(7);
            }
        }
        let (methods, now) = (self.ctx.policy.methods, self.ctx.now);
        self.checks
            .extend(methods.judge(&supports_methods, self.software, refused, now));
        let verdict = Verdict::over(&self.checks);
        if verdict == Verdict::Reject {
            supports_methods.clear();
        }
        let mut claims = self.claims;
        claims.extend(devices.claims);
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
            freshness: freshness(&self.checks),
            checks: self.checks,
            inputs,
            anchor_set_version: anchor_set.join("; "),
            appraised_at: self.ctx.now,
            subject: self.subject,
            formats: devices.formats,
            policy,
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

#[cfg(test)]
mod tests;
