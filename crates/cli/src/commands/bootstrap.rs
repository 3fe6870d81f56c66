//! `countersign bootstrap`: the first registration.

use crate::commands::{read_text, some};
use crate::context::Context;
use crate::failure::Result;
use crate::report::Report;
use clap::Args;
use countersign_client::dto;
use std::path::PathBuf;

/// Arguments of `bootstrap`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  countersign bootstrap --server https://sign.example --ca-file ca.pem \\
    --credential-file /var/lib/countersign/bootstrap-credential \\
    --issuer https://login.example --subject 7f3c… --audience countersign")]
pub struct Bootstrap {
    /// The one-time credential that the service wrote at its first start.
    #[arg(long, value_name = "FILE")]
    credential_file: PathBuf,
    /// The operator's issuer, exactly as in `iss`.
    #[arg(long, value_name = "URL")]
    issuer: String,
    /// The operator, exactly as in `sub`.
    #[arg(long)]
    subject: String,
    /// The audience that the operator's tokens carry.
    #[arg(long)]
    audience: String,
    /// Public OAuth client for device logins.
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// Oldest token accepted, in seconds since it was issued.
    #[arg(long, value_name = "SECONDS")]
    max_token_age: Option<u32>,
    /// CA certificates (PEM) the service trusts for the issuer.
    #[arg(long, value_name = "FILE")]
    issuer_ca_file: Option<PathBuf>,
    /// `amr` values that count as a second factor.
    #[arg(long, value_delimiter = ',')]
    mfa_amr: Vec<String>,
    /// `acr` values that count as a second factor.
    #[arg(long, value_delimiter = ',')]
    mfa_acr: Vec<String>,
    /// Whether the operator's acts want a second factor (default: true).
    #[arg(long, value_name = "true|false", action = clap::ArgAction::Set)]
    require_mfa: Option<bool>,
}

impl Bootstrap {
    pub(super) fn run(self, context: &Context) -> Result<Report> {
        let client = context.client()?;
        let mfa = (!self.mfa_amr.is_empty() || !self.mfa_acr.is_empty()).then(|| dto::Mfa {
            amr: some(self.mfa_amr),
            acr: some(self.mfa_acr),
        });
        let answer = client.bootstrap(&dto::Bootstrap {
            credential: read_text(&self.credential_file)?.trim().to_owned(),
            issuer: self.issuer,
            subject: self.subject.clone(),
            audience: self.audience,
            client_id: self.client_id,
            max_token_age_s: self.max_token_age,
            require_mfa: self.require_mfa,
            ca_pem: self.issuer_ca_file.as_deref().map(read_text).transpose()?,
            mfa,
        })?;
        context.pinned_keys(&client)?;
        let text = format!(
            "{} is the operator. The credential is used up.\nNext: countersign login --issuer …",
            self.subject
        );
        Ok(Report::new(answer, text))
    }
}
