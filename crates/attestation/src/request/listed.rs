//! What a result lists beside its checks: the statement's claims, and the hash of every input.

use super::Submission;
use crate::bundle::AttestationBundle;
use crate::result::{Claim, Input};
use crate::statement::{StatementTbs, sha256};
use std::borrow::Cow;

pub(super) fn claims(tbs: &StatementTbs, verified: bool) -> Vec<Claim> {
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

pub(super) fn inputs(
    submission: &Submission<'_>,
    bundle: Option<&AttestationBundle>,
) -> Vec<Input> {
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
