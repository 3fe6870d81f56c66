//! `countersign login` and `whoami`.

use crate::context::{Context, read_token};
use crate::failure::{Failure, Result};
use crate::progress;
use crate::report::Report;
use clap::Args;
use countersign_client::oidc;
use std::path::PathBuf;

/// Arguments of `login`.
#[derive(Debug, Args)]
#[command(after_help = "\
Without --issuer and --token-file the ID token comes from COUNTERSIGN_ID_TOKEN,
COUNTERSIGN_ID_TOKEN_FILE, or the job's ACTIONS_ID_TOKEN_REQUEST_URL (GitHub Actions).
In CI no login is needed: `sign` finds the same variables by itself.

Examples:
  countersign login --tenant acme --issuer https://login.example --client-id countersign
  countersign login --tenant acme --token-file token.jwt")]
pub struct Login {
    /// Log in at this issuer with a code on another device (RFC 8628).
    #[arg(long, value_name = "URL", conflicts_with = "token_file")]
    issuer: Option<String>,
    /// The public OAuth client to log in as.
    #[arg(long, default_value = "countersign", value_name = "ID")]
    client_id: String,
    /// The audience to ask the issuer for.
    #[arg(long, env = "COUNTERSIGN_AUDIENCE")]
    audience: Option<String>,
    /// CA certificates (PEM) to trust for the issuer.
    #[arg(long, env = "COUNTERSIGN_ISSUER_CA_FILE", value_name = "FILE")]
    issuer_ca_file: Option<PathBuf>,
    /// An ID token in a file (`-`: standard input).
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl Login {
    pub(super) fn run(self, context: &Context) -> Result<Report> {
        let ca_file = self.issuer_ca_file.as_deref();
        let id_token = match (&self.token_file, &self.issuer) {
            (Some(path), _) => read_token(path)?,
            (None, Some(issuer)) => {
                let web = context.web(ca_file)?;
                let json = context.global.json;
                let mut waiting = None;
                let audience = self.audience.as_deref();
                let token = oidc::device_login(&web, issuer, &self.client_id, audience, |p| {
                    let url = p.verification_uri_complete.as_ref();
                    eprintln!("To log in, open {}", url.unwrap_or(&p.verification_uri));
                    eprintln!("and check that it shows the code {}", p.user_code);
                    waiting = Some(progress::spinner(json, "waiting for your approval"));
                });
                if let Some(bar) = waiting {
                    bar.finish_and_clear();
                }
                token?
            }
            (None, None) => context
                .job_token(self.audience.as_deref(), ca_file)?
                .ok_or_else(|| {
                    Failure::usage("give --issuer or --token-file, or set COUNTERSIGN_ID_TOKEN")
                })?,
        };
        let client = context.log_in(context.global.tenant.as_ref(), &id_token)?;
        context.pinned_keys(&client)?;
        Ok(Report::facts(client.whoami()?).headed("logged in"))
    }
}

/// Arguments of `whoami`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  countersign whoami --tenant acme")]
pub struct Whoami {}

impl Whoami {
    pub(super) fn run(self, context: &Context) -> Result<Report> {
        let client = match &context.global.tenant {
            Some(tenant) => context.session(tenant)?,
            None => context.operator()?,
        };
        Ok(Report::facts(client.whoami()?))
    }
}
