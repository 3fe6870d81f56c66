//! `countersign issuers`: whose tokens a tenant accepts.

use crate::commands::{read_text, some};
use crate::context::Context;
use crate::failure::Result;
use crate::report::Report;
use clap::{Args, Subcommand, ValueEnum};
use countersign_client::dto;
use std::path::PathBuf;

/// Subcommands of `issuers`.
#[derive(Debug, Subcommand)]
pub enum Issuers {
    /// Register an issuer of people's or pipelines' tokens.
    #[command(after_help = "\
Examples:
  countersign issuers add --tenant acme --kind pipelines \\
    --issuer https://token.actions.githubusercontent.com --audience https://sign.example
  countersign issuers add --tenant acme --kind people --issuer https://login.example \\
    --audience countersign --client-id countersign --mfa-amr mfa")]
    Add(Box<Add>),
    /// Take no more of an issuer's tokens, at once.
    #[command(after_help = "\
Its people lose their roles and its grants allow nothing until it is registered again.

Example:
  countersign issuers remove --tenant acme --issuer https://token.actions.githubusercontent.com")]
    Remove(Remove),
    /// List them.
    #[command(after_help = "Example:\n  countersign issuers list --tenant acme")]
    List,
}

/// Arguments of `issuers add`.
#[derive(Debug, Args)]
pub struct Add {
    /// Whose tokens it makes.
    #[arg(long, value_enum)]
    kind: Kind,
    #[command(flatten)]
    spec: SpecArgs,
}

/// Arguments of `issuers remove`.
#[derive(Debug, Args)]
pub struct Remove {
    /// The issuer, exactly as in `iss`.
    #[arg(long, value_name = "URL")]
    issuer: String,
    /// Also if no administrator could log in any more.
    #[arg(long)]
    force: bool,
}

/// Whose tokens an issuer makes.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Kind {
    /// People: what they may do comes from their role.
    People,
    /// Pipelines: what they may do comes from grants alone.
    Pipelines,
}

/// An issuer, as several commands take it.
#[derive(Debug, Args)]
pub struct SpecArgs {
    /// The issuer, exactly as in `iss`.
    #[arg(long, value_name = "URL")]
    issuer: String,
    /// The one audience accepted: make it this service's alone.
    #[arg(long)]
    audience: String,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// What may be set for an issuer; every setting has a default.
#[derive(Debug, Args)]
pub struct SettingsArgs {
    /// Oldest token accepted, in seconds since it was issued.
    #[arg(long, value_name = "SECONDS")]
    max_token_age: Option<u32>,
    /// Public OAuth client for device logins.
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// CA certificates (PEM) the service trusts for the issuer.
    #[arg(long, value_name = "FILE")]
    issuer_ca_file: Option<PathBuf>,
    /// `amr` values that count as a second factor.
    #[arg(long, value_delimiter = ',')]
    mfa_amr: Vec<String>,
    /// `acr` values that count as a second factor.
    #[arg(long, value_delimiter = ',')]
    mfa_acr: Vec<String>,
}

impl SettingsArgs {
    /// Whether there is any.
    pub(super) const fn any(&self) -> bool {
        self.max_token_age.is_some()
            || self.client_id.is_some()
            || self.issuer_ca_file.is_some()
            || !self.mfa_amr.is_empty()
            || !self.mfa_acr.is_empty()
    }

    /// As the API takes it.
    pub(super) fn spec(
        self,
        kind: Kind,
        issuer: String,
        audience: String,
    ) -> Result<dto::IssuerSpec> {
        Ok(dto::IssuerSpec {
            issuer,
            kind: match kind {
                Kind::People => "people",
                Kind::Pipelines => "pipelines",
            }
            .to_owned(),
            audience,
            max_token_age_s: self.max_token_age,
            mfa_amr: some(self.mfa_amr),
            mfa_acr: some(self.mfa_acr),
            ca_pem: self.issuer_ca_file.as_deref().map(read_text).transpose()?,
            client_id: self.client_id,
        })
    }
}

impl Issuers {
    pub(super) fn run(self, context: &Context) -> Result<Report> {
        let tenant = context.tenant()?;
        let client = context.session(&tenant)?;
        match self {
            Self::Add(add) => {
                let spec = add
                    .spec
                    .settings
                    .spec(add.kind, add.spec.issuer, add.spec.audience)?;
                let text = format!("tokens of {} are accepted now", spec.issuer);
                Ok(Report::new(client.add_issuer(&tenant, &spec)?, text))
            }
            Self::Remove(which) => {
                let text = format!("tokens of {} are refused now", which.issuer);
                let done = client.remove_issuer(&tenant, &which.issuer, which.force)?;
                Ok(Report::new(done, text))
            }
            Self::List => Ok(Report::rows(
                client.issuers(&tenant)?,
                &["issuer", "kind", "audience", "max_token_age_s"],
            )),
        }
    }
}
