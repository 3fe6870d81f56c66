//! The question a CA asks, and its answer.

use super::csr::Csr;
use super::devices::{Devices, appraise_devices};
use super::format::{Context, FRESHNESS};
use super::parts::{Content, File, Part, Pool};
use super::policy::Policy;
use crate::anchors::Anchors;
use crate::key::PublicKey;
use crate::result::{
    AttestationResult, Check, Exportable, Facts, Input, Known, Outcome, RESULT_VERSION, Rule,
    SubjectKey, Unused, Verdict,
};
use crate::signature::{Hash, Work};
use crate::time::UnixSeconds;

const SUBJECT: Rule = Rule::documented(
    "subject-well-formed",
    "the key in question is one certificate request or one public key, PEM or DER",
    "RFC 2986 §4; RFC 5280 §4.1.2.7",
);
const CSR_SIGNATURE: Rule = Rule::confirmed(
    "csr-signature",
    "the request is signed by the key inside it (proof of possession)",
    "RFC 2986 §4.2; CSBR §3.2.1",
);
const READABLE: Rule = Rule::documented(
    "inputs-well-formed",
    "every input can be read, within bounds",
    "RFC 7468; X.690",
);
const ROCA: Rule = Rule::confirmed(
    "key-roca",
    "an RSA modulus does not come from the flawed generator of CVE-2017-15361",
    "CSBR §6.1.1.3 (3), CVE-2017-15361",
);

/// Where the key in question comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubjectFile<'a> {
    /// A certificate request. Evidence may be inside it.
    Csr(File<'a>),
    /// A public key.
    PublicKey(File<'a>),
}

/// The question: is this key, by this evidence, one that cannot leave genuine hardware?
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The key.
    pub subject: SubjectFile<'a>,
    /// The evidence, in any order. May be empty if it is inside the request.
    pub evidence: &'a [File<'a>],
    /// The moment of appraisal.
    pub at: UnixSeconds,
    /// The nonce that was given to whoever made the evidence.
    pub nonce: Option<&'a [u8]>,
    /// What is demanded.
    pub policy: &'a Policy,
    /// Whom to trust.
    pub anchors: &'a Anchors,
}

/// Answers: separate facts, every check with its reason, and a verdict under the policy.
#[must_use]
pub fn verify(question: &Question<'_>) -> AttestationResult {
    let work = Work::default();
    let mut checks = Vec::new();
    let (file, given_as) = match question.subject {
        SubjectFile::Csr(f) => (f, "csr"),
        SubjectFile::PublicKey(f) => (f, "public-key"),
    };
    let subject_pool = Pool::of(&[file]);
    let subject = read_subject(&subject_pool, question.subject, &mut checks);
    // A request's own evidence and what lies beside it are one pool; the request is its file 0.
    let mut pool = match question.subject {
        SubjectFile::Csr(_) => subject_pool,
        SubjectFile::PublicKey(_) => Pool::default(),
    };
    pool.add(question.evidence);
    if !pool.problems().is_empty() {
        checks.push(READABLE.check(false, pool.problems().join("; ")));
    }

    let mut devices = Devices::default();
    let mut subject_key = None;
    if let Some(subject) = &subject {
        if let Some((csr, _)) = &subject.csr {
            checks.push(match csr.verify(&work) {
                Ok(a) => CSR_SIGNATURE.check(true, format!("verifies, {}", a.name())),
                Err(e) => CSR_SIGNATURE.check(false, e.to_string()),
            });
        }
        checks.extend(roca(&subject.key));
        let context = Context {
            pool: &pool,
            key: &subject.key,
            csr: subject.csr.as_ref().map(|(c, _)| c),
            csr_der: subject.csr.as_ref().map(|(_, der)| der.as_slice()),
            at: question.at,
            nonce: question.nonce,
            nonce_needed: true,
            anchors: question.anchors,
            work: &work,
        };
        devices = appraise_devices(&crate::vendor::all(), &context, Outcome::Unknown);
        subject_key = Some(SubjectKey {
            given_as: given_as.to_owned(),
            algorithm: subject.key.kind(),
            spki_sha256: hex::encode(subject.key.spki_sha256()),
            requested_name: subject.csr.as_ref().map(|(c, _)| c.subject().to_string()),
        });
    }
    checks.extend(devices.checks.iter().cloned());
    let own: &[usize] = if given_as == "csr" { &[0] } else { &[] };
    let mut unused = pool.unused(&devices.used, own);
    name_anchors(&mut unused, &pool, question.anchors);
    let supports = methods(&checks, &devices);
    checks.extend(question.policy.judge(&devices, &supports, question.at));
    let verdict = Verdict::over(&checks);
    AttestationResult {
        version: RESULT_VERSION,
        verdict,
        software: Known::Unknown,
        facts: devices.facts,
        supports_methods: if verdict == Verdict::Reject {
            Vec::new()
        } else {
            supports
        },
        weaknesses: devices.weaknesses,
        claims: devices.claims,
        freshness: freshness(&checks),
        checks,
        inputs: inputs(file, given_as, question.evidence),
        anchor_set_version: question.anchors.version(),
        appraised_at: question.at,
        subject: subject_key,
        formats: devices.formats,
        policy: Some(question.policy.applied()),
        unused,
        seen_before: None,
    }
}

struct Subject {
    key: PublicKey,
    csr: Option<(Csr, Vec<u8>)>,
}

fn read_subject(pool: &Pool, given: SubjectFile<'_>, checks: &mut Vec<Check>) -> Option<Subject> {
    let wants_csr = matches!(given, SubjectFile::Csr(_));
    let mut found: Vec<Subject> = Vec::new();
    for (_, part) in pool.parts() {
        match &part.content {
            Content::Csr(c) if wants_csr => found.push(Subject {
                key: c.key().clone(),
                csr: Some(((**c).clone(), part.bytes.clone())),
            }),
            Content::PublicKey(k) if !wants_csr => found.push(Subject {
                key: (**k).clone(),
                csr: None,
            }),
            _ => {}
        }
    }
    let what = if wants_csr {
        "certificate request"
    } else {
        "public key"
    };
    if found.len() != 1 {
        let mut seen = format!("{} of a {what} found", found.len());
        for problem in pool.problems() {
            seen.push_str("; ");
            seen.push_str(problem);
        }
        checks.push(SUBJECT.check(false, seen));
        return None;
    }
    let subject = found.pop()?;
    checks.push(SUBJECT.check(true, format!("one {what}, {}", subject.key.kind())));
    Some(subject)
}

fn roca(key: &PublicKey) -> Option<Check> {
    let PublicKey::Rsa { n, .. } = key else {
        return None;
    };
    let found = countersign_x509::weak::roca(n);
    let sound = found.outcome != countersign_x509::weak::Outcome::Failed;
    Some(ROCA.check(sound, found.detail))
}

/// CSBR §6.2.7.4.2: method 2 wants generation in a suitable module, whose certification is known,
/// in non-exportable form. A level that evidence states is no certificate: only a row with a number
/// says that the module is certified.
pub(crate) fn device_methods(checks: &[Check], facts: &Facts) -> Option<u8> {
    let certified = facts.certification.as_ref().is_some_and(|c| {
        // A historical certificate is a question for the CA, not an answer.
        c.number.is_some()
            && c.status == "active"
            && c.level.as_ref().is_some_and(|l| match l.standard.as_str() {
                // CSBR §6.2.7.4.1.
                "140-2" | "140-3" => l.level >= 2,
                "cc" => l.level >= 4,
                _ => false,
            })
    });
    let kept = matches!(
        facts.exportable,
        Exportable::Never | Exportable::Recoverable
    );
    let holds = Verdict::over(checks) != Verdict::Reject
        && facts.genuine == Known::Yes
        && facts.generated_in_device == Known::Yes
        && kept
        && certified;
    holds.then_some(2)
}

/// A copy of an anchor in evidence is nothing to worry about, and nothing that counts.
fn name_anchors(unused: &mut [Unused], pool: &Pool, anchors: &Anchors) {
    for (id, certificate) in pool.certificates() {
        let Ok(key) = certificate.key() else {
            continue;
        };
        if anchors.iter().any(|a| *a.key() == key) {
            let what = pool.get(id).map(Part::what).unwrap_or_default();
            let here = |u: &&mut Unused| u.what == what && u.name == pool.name(id);
            for u in unused.iter_mut().filter(here) {
                u.what.push_str(", a copy of a trusted anchor");
            }
        }
    }
}

/// The worst of all evidence: one stale piece is not made fresh by another.
pub(crate) fn freshness(checks: &[Check]) -> Option<Outcome> {
    let seen = |o: Outcome| {
        checks
            .iter()
            .any(|c| c.name == FRESHNESS && c.outcome == o)
            .then_some(o)
    };
    seen(Outcome::Fail)
        .or(seen(Outcome::Unknown))
        .or(seen(Outcome::NotChecked))
        .or(seen(Outcome::Pass))
}

fn methods(checks: &[Check], devices: &Devices) -> Vec<u8> {
    let mut out = devices.methods.clone();
    out.extend(device_methods(checks, &devices.facts));
    out.sort_unstable();
    out.dedup();
    out
}

fn inputs(subject: File<'_>, given_as: &str, evidence: &[File<'_>]) -> Vec<Input> {
    let input = |name: String, bytes: &[u8]| Input {
        name,
        sha256: hex::encode(Hash::Sha256.of(bytes)),
    };
    let mut out = vec![input(
        format!("{given_as}: {}", subject.name),
        subject.bytes,
    )];
    out.extend(
        evidence
            .iter()
            .map(|f| input(format!("evidence: {}", f.name), f.bytes)),
    );
    out
}
