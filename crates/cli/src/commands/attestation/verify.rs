//! `countersign attestation verify`.

use super::device_log::DeviceLog;
use super::inputs;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::report::Report;
use clap::{ArgGroup, Args};
use countersign_attestation::verify::{Policy, Question, Requirement, SubjectFile, verify};
use countersign_attestation::{Anchors, UnixSeconds, Verdict, report};
use countersign_core::{Clock as _, SystemClock};
use std::path::{Path, PathBuf};

/// Arguments of `attestation verify`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("subject").required(true).args(["csr", "public_key"])))]
pub struct Verify {
    /// Evidence: files or folders, in any order.
    #[arg(long, value_name = "FILE|DIR", num_args = 1..)]
    evidence: Vec<PathBuf>,
    /// The certificate request, PEM or DER; its own signature is checked.
    #[arg(long, value_name = "FILE")]
    csr: Option<PathBuf>,
    /// The public key, PEM or DER.
    #[arg(long, value_name = "FILE")]
    public_key: Option<PathBuf>,
    /// The moment of appraisal, RFC 3339 (default: now). The same moment gives the same answer.
    #[arg(long, value_name = "TIME")]
    at: Option<jiff::Timestamp>,
    /// The nonce that was given to whoever made the evidence.
    #[arg(long, value_name = "HEX")]
    nonce: Option<String>,
    /// Tightens the policy.
    #[arg(long, value_name = "REQUIREMENT")]
    require: Vec<Requirement>,
    /// A policy in JSON or TOML instead of the default, origin.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Certificates or public keys to trust beside the pinned ones.
    #[arg(long, value_name = "FILE|DIR", num_args = 1..)]
    trust_anchors: Vec<PathBuf>,
    /// Your own log of devices: says whether this one was seen before, and under whom. Made where
    /// there is none.
    #[arg(long, value_name = "FILE")]
    device_log: Option<PathBuf>,
    /// Who the key is for: with an accepted key, noted in the device log.
    #[arg(long, value_name = "NAME", requires = "device_log")]
    subscriber: Option<String>,
    /// Also writes a page for the issuance record, complete in itself.
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
}

impl Verify {
    pub(super) fn run(self) -> Result<Report> {
        let path = match (&self.csr, &self.public_key) {
            (Some(p), None) | (None, Some(p)) => p,
            _ => return Err(Failure::usage("give one of --csr and --public-key")),
        };
        if self.public_key.is_some() && self.evidence.is_empty() {
            return Err(Failure::usage("a public key needs --evidence beside it"));
        }
        let subject = inputs::one(path)?;
        let evidence = inputs::all(&self.evidence, &[path])?;
        let evidence: Vec<_> = evidence.iter().map(inputs::Read::file).collect();
        let policy = self.require.iter().cloned().fold(
            match &self.policy {
                Some(p) => policy(p)?,
                None => Policy::origin(),
            },
            Policy::require,
        );
        let mut anchors = Anchors::pinned();
        for file in inputs::all(&self.trust_anchors, &[])? {
            anchors
                .add_file(&file.name, &file.bytes)
                .map_err(|e| Failure::usage(e.to_string()))?;
        }
        let nonce = self.nonce.as_deref().map(nonce).transpose()?;
        let device_log = self
            .device_log
            .as_deref()
            .map(DeviceLog::open)
            .transpose()?;
        let mut result = verify(&Question {
            subject: if self.csr.is_some() {
                SubjectFile::Csr(subject.file())
            } else {
                SubjectFile::PublicKey(subject.file())
            },
            evidence: &evidence,
            at: moment(self.at)?,
            nonce: nonce.as_deref(),
            policy: &policy,
            anchors: &anchors,
        });
        if let Some(mut log) = device_log {
            log.look(&mut result);
            if let (Some(name), Verdict::Accept) = (&self.subscriber, result.verdict) {
                log.note(&result, name)?;
            }
        }
        if let Some(path) = &self.report {
            std::fs::write(path, report::html(&result))
                .map_err(|e| Failure::usage(format!("{}: {e}", path.display())))?;
        }
        let exit = match result.verdict {
            Verdict::Accept => Exit::Done,
            Verdict::Reject => Exit::Bad,
            Verdict::Unverifiable => Exit::Undecided,
        };
        Ok(Report::new(&result, report::text(&result)).exit(exit))
    }
}

fn moment(given: Option<jiff::Timestamp>) -> Result<UnixSeconds> {
    match given {
        Some(t) => UnixSeconds::new(t.as_second()),
        None => UnixSeconds::from_micros(SystemClock.now().0),
    }
    .ok_or_else(|| Failure::usage("--at: the years 1970 to 9999 can be appraised at"))
}

fn nonce(text: &str) -> Result<Vec<u8>> {
    let bytes = hex::decode(text).map_err(|e| Failure::usage(format!("--nonce: {e}")))?;
    if bytes.is_empty() || bytes.len() > 64 {
        return Err(Failure::usage("--nonce: must have 1 to 64 bytes"));
    }
    Ok(bytes)
}

/// JSON if it starts like it, else TOML.
fn policy(path: &Path) -> Result<Policy> {
    let file = inputs::one(path)?;
    let said = |e: String| Failure::usage(format!("{}: {e}", file.name));
    let text = std::str::from_utf8(&file.bytes).map_err(|e| said(e.to_string()))?;
    if text.trim_start().starts_with('{') {
        Policy::from_json(text)
    } else {
        toml::from_str::<Policy>(text)
            .map_err(|e| said(e.message().to_owned()))?
            .checked()
    }
    .map_err(|e| said(e.to_string()))
}
