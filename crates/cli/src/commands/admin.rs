//! `countersign admin`: what operators do.

use crate::commands::doctor::Doctor;
use crate::commands::issuers::{Kind, SettingsArgs};
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::report::Report;
use clap::{Args, Subcommand};
use countersign_client::dto;
use countersign_core::TenantName;
use serde_json::json;

/// Subcommands of `admin`.
#[derive(Debug, Subcommand)]
pub enum Admin {
    /// Tenants.
    #[command(subcommand)]
    Tenant(Tenant),
    /// List devices that several subscribers have keys in, by what their evidence proved.
    ///
    /// Devices stand there as keyed hashes. It is no proof of wrongdoing: a network HSM has many tenants.
    #[command(after_help = "Example:\n  countersign admin devices")]
    Devices,
    /// Look at everything that signing needs, on the service's own machine: what is bad, and what to do.
    ///
    /// It runs `countersignd doctor`, as the service's user. No session is needed. Exit code 1 if a check failed.
    #[command(after_help = "\
Example:
  countersign admin doctor --service-config /etc/countersign/countersignd.toml")]
    Doctor(Doctor),
}

/// Subcommands of `admin tenant`.
#[derive(Debug, Subcommand)]
pub enum Tenant {
    /// Make a tenant: its token, its log, its first administrator.
    #[command(after_help = "\
Example:
  countersign admin tenant create acme --admin https://login.example 7f3c… \\
    --issuer https://login.example --audience countersign --client-id countersign --mfa-amr mfa")]
    Create(Box<Create>),
    /// List all tenants.
    #[command(after_help = "Example:\n  countersign admin tenant list")]
    List,
}

/// Arguments of `admin tenant create`.
#[derive(Debug, Args)]
pub struct Create {
    /// The tenant's name, for ever.
    name: TenantName,
    /// Its first administrator: issuer and subject.
    #[arg(long, num_args = 2, value_names = ["ISSUER", "SUBJECT"], required = true)]
    admin: Vec<String>,
    /// Register this issuer of its people as well (default: the administrator's, as the operator's
    /// realm has it).
    #[arg(long, value_name = "URL", requires = "audience")]
    issuer: Option<String>,
    /// The one audience accepted of that issuer: make it this service's alone.
    #[arg(long, requires = "issuer")]
    audience: Option<String>,
    #[command(flatten)]
    settings: SettingsArgs,
    /// Keys in software tokens may be certified and sign (not for production).
    #[arg(long)]
    allow_software: bool,
    /// Whether administration wants a second factor (default: true).
    #[arg(long, value_name = "true|false", action = clap::ArgAction::Set)]
    require_mfa: Option<bool>,
}

impl Admin {
    pub(super) fn run(self, context: &Context) -> Result<Report> {
        let command = match self {
            Self::Tenant(command) => command,
            Self::Devices => return devices(context),
            Self::Doctor(doctor) => return doctor.run(context.global.json),
        };
        let client = context.operator()?;
        match command {
            Tenant::Create(c) => {
                let issuer = match (c.issuer, c.audience) {
                    (Some(i), Some(a)) => Some(c.settings.spec(Kind::People, i, a)?),
                    _ if c.settings.any() => {
                        return Err(Failure::usage(
                            "settings of an issuer are given without --issuer and --audience",
                        ));
                    }
                    _ => None,
                };
                let mut admin = c.admin.into_iter();
                let answer = client.create_tenant(&dto::NewTenant {
                    name: c.name.to_string(),
                    // Clap has made sure that there are two.
                    admin: dto::Person {
                        issuer: admin.next().unwrap_or_default(),
                        subject: admin.next().unwrap_or_default(),
                    },
                    issuer,
                    allow_software: c.allow_software.then_some(true),
                    require_mfa: c.require_mfa,
                })?;
                Ok(Report::facts(answer).headed(format!("made tenant {}", c.name)))
            }
            Tenant::List => Ok(Report::rows(client.tenants()?, &["name", "id"])),
        }
    }
}

/// The whole list, one row a key.
fn devices(context: &Context) -> Result<Report> {
    let client = context.operator()?;
    let mut rows = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = client.shared_devices(after.as_deref())?;
        let page = page.as_array().map(Vec::as_slice).unwrap_or_default();
        for device in page {
            for key in device["keys"].as_array().into_iter().flatten() {
                rows.push(json!({
                    "device": device["device"], "shared": device["shared"], "tenant": key["tenant"],
                    "key": key["key"], "seen": key["seen"],
                }));
            }
        }
        let last = page.last().and_then(|d| d["device"].as_str());
        // The list moves on with each page, or it is at its end.
        match last {
            Some(last) if after.as_deref() < Some(last) => after = Some(last.to_owned()),
            _ => break,
        }
    }
    Ok(Report::rows(
        rows.into(),
        &["device", "tenant", "key", "seen"],
    ))
}
