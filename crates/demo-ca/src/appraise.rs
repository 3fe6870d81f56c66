//! Appraising offline: what a CA without a connector does with the output of `csr export`.

use crate::cli::AppraiseArgs;
use crate::error::Error;
use crate::files;
use crate::serve::{pinned, policy};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use countersign_attestation::request::{RequestContext, Submission, appraise_request};
use countersign_attestation::{Anchors, UnixSeconds, Verdict};
use countersign_core::{Clock, SystemClock};
use countersign_x509::csr::ParsedCsr;
use std::path::{Path, PathBuf};

const MAX_INPUT: u64 = 1024 * 1024;

/// Prints the result as JSON. Gives 0 for accepted, 1 for rejected, 2 for undecided.
pub(crate) fn run(args: &AppraiseArgs) -> Result<u8, Error> {
    let now = match &args.at {
        Some(text) => {
            serde_json::from_value(serde_json::Value::String(text.clone())).map_err(|e| {
                Error::Argument {
                    argument: "at",
                    problem: e.to_string(),
                }
            })?
        }
        None => UnixSeconds::from_micros(SystemClock.now().0).unwrap_or_default(),
    };
    let csr = request(&args.csr)?;
    let statement = args.statement.as_deref().map(statement).transpose()?;
    let evidence = args
        .evidence
        .iter()
        .map(|p| files::read(p, MAX_INPUT))
        .collect::<Result<Vec<_>, _>>()?;
    let anchors = anchors(&args.trust_ak_ca)?;
    let result = appraise_request(
        &Submission {
            csr: &csr,
            statement: statement.as_deref(),
            evidence: &evidence,
        },
        &RequestContext {
            audience: &args.trust.audience,
            now,
            statement_keys: &pinned(&args.trust)?,
            anchor_set_version: "pinned by --trust-service-key",
            order: None,
            seen_orders: None,
            policy: policy(&args.trust)?,
            formats: countersign_attestation::vendor::FORMATS,
            anchors: &anchors,
        },
    );
    let json = serde_json::to_string_pretty(&result).map_err(|e| Error::Content {
        path: args.csr.clone(),
        problem: e.to_string(),
    })?;
    println!("{json}");
    Ok(match result.verdict {
        Verdict::Accept => 0,
        Verdict::Reject => 1,
        Verdict::Unverifiable => 2,
    })
}

/// The makers' pinned roots, and the CAs for attestation keys that the arguments add.
fn anchors(ak_cas: &[PathBuf]) -> Result<Anchors, Error> {
    let mut anchors = Anchors::pinned();
    for path in ak_cas {
        anchors
            .add_attestation_key_cas(&path.to_string_lossy(), &files::read(path, MAX_INPUT)?)
            .map_err(|e| Error::Argument {
                argument: "trust-ak-ca",
                problem: e.to_string(),
            })?;
    }
    Ok(anchors)
}

fn request(path: &Path) -> Result<Vec<u8>, Error> {
    let bytes = files::read(path, MAX_INPUT)?;
    match std::str::from_utf8(&bytes) {
        Ok(text) if text.contains("-----BEGIN") => ParsedCsr::parse_pem(text)
            .map(|c| c.der().to_vec())
            .map_err(|e| Error::Content {
                path: path.to_owned(),
                problem: e.to_string(),
            }),
        // Whatever else it is, the appraisal says what is wrong with it.
        _ => Ok(bytes),
    }
}

fn statement(path: &Path) -> Result<Vec<u8>, Error> {
    let bytes = files::read(path, MAX_INPUT)?;
    let text: Vec<u8> = bytes
        .iter()
        .copied()
        .filter(|b| !b.is_ascii_whitespace())
        .collect();
    // A DER SEQUENCE starts with '0', a base64 letter too, but holds bytes that are none.
    Ok(STANDARD.decode(&text).unwrap_or(bytes))
}
