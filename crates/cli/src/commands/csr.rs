//! `countersign csr export`: for a CA that has no connector.

use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::report::Report;
use clap::{Args, Subcommand};
use countersign_client::dto;
use countersign_core::KeyId;
use serde_json::json;
use std::path::PathBuf;

/// Subcommands of `csr`.
#[derive(Debug, Subcommand)]
pub enum Csr {
    /// Write a certificate request with our statement and the vendor's evidence.
    #[command(after_help = "\
Example:
  countersign csr export --tenant acme 0190… --ca-audience ca.example --common-name 'Acme Inc.' \\
    --organization 'Acme Inc.' --country US --out request/")]
    Export(Export),
}

/// Arguments of `csr export`.
#[derive(Debug, Args)]
pub struct Export {
    /// Key id.
    key: KeyId,
    /// The CA that the statement is addressed to; another CA refuses it.
    #[arg(long, value_name = "NAME")]
    ca_audience: String,
    /// The CA's own name of the order, if it gave one.
    #[arg(long)]
    reference: Option<String>,
    /// A file with the CA's nonce, if it gave one.
    #[arg(long, value_name = "FILE")]
    nonce_file: Option<PathBuf>,
    #[command(flatten)]
    subject: SubjectArgs,
    /// Directory to write to.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Who a certificate is for, as several commands take it.
#[derive(Debug, Args)]
pub struct SubjectArgs {
    /// Legal name of the subscriber.
    #[arg(long, value_name = "NAME")]
    common_name: String,
    /// Organisation.
    #[arg(long, value_name = "NAME")]
    organization: String,
    /// Two-letter country.
    #[arg(long, value_name = "CC")]
    country: String,
    /// Locality.
    #[arg(long, value_name = "NAME")]
    locality: Option<String>,
    /// State or province.
    #[arg(long, value_name = "NAME")]
    state: Option<String>,
}

impl From<SubjectArgs> for dto::Subject {
    fn from(a: SubjectArgs) -> Self {
        Self {
            common_name: a.common_name,
            organization: a.organization,
            country: a.country,
            locality: a.locality,
            state: a.state,
        }
    }
}

impl Csr {
    pub(super) fn run(self, context: &Context) -> Result<Report> {
        let Self::Export(e) = self;
        let tenant = context.tenant()?;
        let client = context.session(&tenant)?;
        let read = |p: PathBuf| std::fs::read(&p).map_err(|x| Failure::file(&p, &x));
        let request = dto::CsrRequest {
            ca_audience: e.ca_audience.clone(),
            reference: e.reference,
            nonce: e.nonce_file.map(read).transpose()?.map(dto::Base64),
            subject: e.subject.into(),
        };
        let answer = client.export_csr(&tenant, e.key, &request)?;

        std::fs::create_dir_all(&e.out).map_err(|x| Failure::file(&e.out, &x))?;
        let mut files = Vec::new();
        let mut write = |name: String, bytes: &[u8]| {
            let path = e.out.join(name);
            std::fs::write(&path, bytes).map_err(|x| Failure::file(&path, &x))?;
            files.push(path);
            Ok::<_, Failure>(())
        };
        write("request.csr.pem".to_owned(), answer.csr_pem.as_bytes())?;
        write("statement.der".to_owned(), &answer.statement.0)?;
        for (i, evidence) in answer.evidence.iter().enumerate() {
            write(format!("evidence-{i}.bin"), &evidence.0)?;
        }
        let order = json!({"order": answer.order, "expires": answer.expires, "key": e.key});
        write("order.json".to_owned(), order.to_string().as_bytes())?;
        let listed: String = files
            .iter()
            .map(|f| format!("  {}\n", f.display()))
            .collect();
        let text = format!(
            "wrote\n{listed}Hand all of it to {} before {}: the request is nothing without the \
             statement.\nNext: countersign certificate install --tenant {tenant} {} --chain FILE",
            e.ca_audience, answer.expires, e.key
        );
        let json = json!({"order": answer.order, "expires": answer.expires, "files": files});
        Ok(Report::new(json, text))
    }
}
