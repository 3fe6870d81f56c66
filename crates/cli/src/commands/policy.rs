//! `countersign policy`: a tenant's own rules.

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::report::Report;
use clap::{Args, Subcommand};
use countersign_attestation::verify::{PolicyError, Requirement};
use countersign_client::dto;
use serde_json::Value;
use std::str::FromStr;

/// Subcommands of `policy`.
#[derive(Debug, Subcommand)]
pub enum Policy {
    /// Show the rules.
    #[command(after_help = "Example:\n  countersign policy show --tenant acme")]
    Show,
    /// Change them; what is not named stays.
    #[command(after_help = "\
Demands on evidence (--require, as often as you like; they take the place of those that were there):
  origin              nothing more: genuine device, generated in it, cannot leave it. Of keys in hardware
  sign-only           the key can sign and do nothing else
  not-recoverable     also no backup or recovery domain holds it
  method=2            this CSBR 6.2.7.4.2 method is supported in full
  fips=140-2:2        the module is certified at this level or higher (also 140-3:…, cc:…)
  vendor=NAME         the maker, as results name it
  format=NAME         the evidence is of this format
  serial=NUMBER       the device has this serial number
  fresh               the evidence carries the nonce of the order
  max-age=30d         the evidence is not older (also 12h, 90m, 600s)
Of vendors, formats, serial numbers and levels one of those named is enough; all else must hold. What is
demanded is demanded of every key: one in a software token has no evidence, and no request for it leaves.

Examples:
  countersign policy set --tenant acme --allow-software true
  countersign policy set --tenant acme --require sign-only --require vendor=Yubico")]
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
    /// What an order's evidence must show. May be given several times.
    #[arg(long, value_name = "DEMAND")]
    require: Vec<Demand>,
}

/// One demand on evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Demand {
    /// The default, and nothing beyond it.
    Origin,
    /// A word of the attestation crate's.
    More(String),
}

impl FromStr for Demand {
    type Err = PolicyError;
    fn from_str(text: &str) -> std::result::Result<Self, PolicyError> {
        if text == "origin" {
            return Ok(Self::Origin);
        }
        text.parse::<Requirement>()
            .map(|_| Self::More(text.to_owned()))
    }
}

/// The demands as the service takes them: nothing if none was named.
fn demands(given: Vec<Demand>) -> Result<Option<Vec<String>>> {
    if given.is_empty() {
        return Ok(None);
    }
    let origin = given.contains(&Demand::Origin);
    let more: Vec<String> = given
        .into_iter()
        .filter_map(|d| match d {
            Demand::Origin => None,
            Demand::More(word) => Some(word),
        })
        .collect();
    if origin && !more.is_empty() {
        return Err(Failure::usage(
            "--require origin means nothing more: it stands alone",
        ));
    }
    Ok(Some(more))
}

/// The rules in a tenant, as the service shows it.
fn policy_of(answer: &Value) -> Result<dto::Policy> {
    let rules = answer.get("policy").unwrap_or(answer);
    serde_json::from_value(rules.clone()).map_err(|_| {
        let message = "the service did not say what the rules are now";
        Failure::new(Exit::Internal, "bad-answer", message)
    })
}

impl Policy {
    pub(super) fn run(self, context: &Context) -> Result<Report> {
        let tenant = context.tenant()?;
        let client = context.session(&tenant)?;
        let now = || -> Result<dto::Policy> { policy_of(&client.tenant(&tenant)?) };
        match self {
            Self::Show => {
                let rules = serde_json::to_value(now()?).unwrap_or(Value::Null);
                Ok(Report::facts(rules))
            }
            Self::Set(set) => {
                let evidence = demands(set.require)?;
                let rules = match (set.allow_software, set.require_mfa) {
                    (Some(allow_software), Some(require_mfa)) => dto::Policy {
                        allow_software,
                        require_mfa,
                        evidence,
                    },
                    (software, mfa) => {
                        let now = now()?;
                        dto::Policy {
                            allow_software: software.unwrap_or(now.allow_software),
                            require_mfa: mfa.unwrap_or(now.require_mfa),
                            evidence,
                        }
                    }
                };
                let answer = client.set_policy(&tenant, &rules)?;
                let shown = policy_of(&answer)?;
                let shown = serde_json::to_value(shown).unwrap_or_default();
                let text = Report::facts(shown)
                    .headed(format!("rules of {tenant}"))
                    .text;
                Ok(Report::new(answer, text))
            }
        }
    }
}
