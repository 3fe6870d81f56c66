//! `countersign keys evidence`: what a vendor's tool says of a key.

use crate::commands::attestation::inputs;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::report::Report;
use crate::table;
use clap::{Args, Subcommand};
use countersign_attestation::AttestationResult;
use countersign_attestation::verify::parts::MAX_FILE;
use countersign_client::dto;
use countersign_core::KeyId;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Subcommands of `keys evidence`.
#[derive(Debug, Subcommand)]
pub enum Evidence {
    /// Add a vendor's evidence to a key. The service appraises it first, by the tenant's policy.
    #[command(after_help = "\
Evidence is recognised by what it is: files in any order or a folder, as the vendor's tool wrote them.
All of it goes in one command: it is appraised as a whole, and takes the place of what was there. What
is refused changes nothing (exit code 3, with each check that failed).

Examples:
  countersign keys evidence add --tenant acme 0190… evidence/
  countersign keys evidence add --tenant acme 0190… attestation.pem device.pem --nonce-file nonce")]
    Add(Add),
    /// Show the evidence kept for a key: files, hashes, and what its appraisal gave.
    #[command(after_help = "Example:\n  countersign keys evidence show --tenant acme 0190…")]
    Show {
        /// Key id.
        key: KeyId,
    },
}

/// Arguments of `keys evidence add`.
#[derive(Debug, Args)]
pub struct Add {
    /// Key id.
    key: KeyId,
    /// Files and folders.
    #[arg(required = true, value_name = "FILE|DIR")]
    evidence: Vec<PathBuf>,
    /// A file with the nonce that the evidence was made for, if it was made for one.
    #[arg(long, value_name = "FILE")]
    nonce_file: Option<PathBuf>,
}

impl Evidence {
    pub(super) fn run(self, context: &Context) -> Result<Report> {
        let tenant = context.tenant()?;
        match self {
            Self::Add(add) => {
                // What cannot be sent is told before anybody logs in.
                let evidence = add.read()?;
                let client = context.session(&tenant)?;
                let answer = client.add_evidence(&tenant, add.key, &evidence)?;
                let head = format!("evidence for key {} is accepted and kept", add.key);
                Ok(report(answer).headed(head))
            }
            Self::Show { key } => {
                let answer = context.session(&tenant)?.evidence(&tenant, key)?;
                if table::list(answer.get("files").unwrap_or(&Value::Null)).is_empty() {
                    let text = format!("key {key} has no evidence");
                    return Ok(Report::new(answer, text));
                }
                Ok(report(answer))
            }
        }
    }
}

impl Add {
    fn read(&self) -> Result<dto::Evidence> {
        let mut files = Vec::new();
        for read in inputs::all(&self.evidence, &[])? {
            if read.bytes.len() > MAX_FILE {
                return Err(Failure::usage(format!(
                    "{}: is longer than 1 MiB, which is not read",
                    read.name
                )));
            }
            // The file's own name: where it lies on this machine is nobody's business.
            let name = Path::new(&read.name)
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            files.push(dto::EvidenceFile {
                name,
                content: read.bytes.into(),
            });
        }
        if files.is_empty() {
            return Err(Failure::usage("there is no file in the folders named"));
        }
        let nonce = self.nonce_file.as_deref().map(inputs::one).transpose()?;
        Ok(dto::Evidence {
            files,
            nonce: nonce.map(|n| n.bytes.into()),
        })
    }
}

/// Files with their hashes, then the result as a validation officer reads it.
fn report(answer: Value) -> Report {
    let files = answer.get("files").cloned().unwrap_or_default();
    let mut said = table::rows(&files, &["name", "size", "sha256"]);
    let result = answer.get("result").cloned().unwrap_or_default();
    if let Ok(result) = serde_json::from_value::<AttestationResult>(result) {
        said.push('\n');
        said.push_str(&countersign_attestation::report::text(&result));
    }
    Report::new(answer, said)
}
