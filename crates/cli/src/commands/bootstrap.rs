//! `countersign bootstrap`: the first registration.

use crate::commands::issuers::{Kind, SettingsArgs};
use crate::commands::read_text;
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
    #[command(flatten)]
    settings: SettingsArgs,
    /// Whether the operator's acts want a second factor (default: true).
    #[arg(long, value_name = "true|false", action = clap::ArgAction::Set)]
    require_mfa: Option<bool>,
}

impl Bootstrap {
    pub(super) fn run(self, context: &Context) -> Result<Report> {
        let client = context.client()?;
        let issuer = self
            .settings
            .spec(Kind::People, self.issuer, self.audience)?;
        let mfa = (issuer.mfa_amr.is_some() || issuer.mfa_acr.is_some()).then_some(dto::Mfa {
            amr: issuer.mfa_amr,
            acr: issuer.mfa_acr,
        });
        let answer = client.bootstrap(&dto::Bootstrap {
            credential: read_text(&self.credential_file)?.trim().to_owned(),
            issuer: issuer.issuer,
            subject: self.subject.clone(),
            audience: issuer.audience,
            client_id: issuer.client_id,
            max_token_age_s: issuer.max_token_age_s,
            require_mfa: self.require_mfa,
            ca_pem: issuer.ca_pem,
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
