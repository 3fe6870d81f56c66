//! `countersign policy`: a tenant's own rules.

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::report::Report;
use clap::{Args, Subcommand};
use countersign_client::dto;
use serde_json::Value;

/// Subcommands of `policy`.
#[derive(Debug, Subcommand)]
pub enum Policy {
    /// Show the rules.
    #[command(after_help = "Example:\n  countersign policy show --tenant acme")]
    Show,
    /// Change them; what is not named stays.
    #[command(
        after_help = "Example:\n  countersign policy set --tenant acme --allow-software true"
    )]
    Set(Set),
}

/// Arguments of `policy set`.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct Set {
    /// Keys in software tokens may be certified and sign (not for production).
    #[arg(long, value_name = "true|false", action = clap::ArgAction::Set)]
    allow_software: Option<bool>,
    /// Administration wants a second factor in the login.
    #[arg(long, value_name = "true|false", action = clap::ArgAction::Set)]
    require_mfa: Option<bool>,
}

impl Policy {
    pub(super) fn run(self, context: &Context) -> Result<Report> {
        let tenant = context.tenant()?;
        let client = context.session(&tenant)?;
        let now = || -> Result<dto::Policy> {
            let answer = client.tenant(&tenant)?;
            let rules = answer.get("policy").unwrap_or(&answer);
            serde_json::from_value(rules.clone()).map_err(|_| {
                let message = "the service did not say what the rules are now";
                Failure::new(Exit::Internal, "bad-answer", message)
            })
        };
        match self {
            Self::Show => {
                let rules = serde_json::to_value(now()?).unwrap_or(Value::Null);
                Ok(Report::facts(rules))
            }
            Self::Set(set) => {
                let rules = match (set.allow_software, set.require_mfa) {
                    (Some(allow_software), Some(require_mfa)) => dto::Policy {
                        allow_software,
                        require_mfa,
                    },
                    (software, mfa) => {
                        let now = now()?;
                        dto::Policy {
                            allow_software: software.unwrap_or(now.allow_software),
                            require_mfa: mfa.unwrap_or(now.require_mfa),
                        }
                    }
                };
                let answer = client.set_policy(&tenant, &rules)?;
                let shown = serde_json::to_value(rules).unwrap_or_default();
                let text = Report::facts(shown)
                    .headed(format!("rules of {tenant}"))
                    .text;
                Ok(Report::new(answer, text))
            }
        }
    }
}
