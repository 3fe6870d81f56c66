//! `countersign admin`: what operators do.

use crate::commands::doctor::Doctor;
use crate::commands::issuers::{Kind, SettingsArgs};
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::report::Report;
use clap::{Args, Subcommand};
use countersign_client::dto;
use countersign_core::TenantName;
use serde_json::{Value, json};

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

/// The whole list.
fn devices(context: &Context) -> Result<Report> {
    let client = context.operator()?;
    let mut all: Vec<Value> = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = client.shared_devices(after.as_deref())?;
        let page = page.as_array().map(Vec::as_slice).unwrap_or_default();
        all.extend_from_slice(page);
        let last = page.last().and_then(|d| d["device"].as_str());
        // The list moves on with each page, or it is at its end.
        match last {
            Some(last) if after.as_deref() < Some(last) => after = Some(last.to_owned()),
            _ => break,
        }
    }
    Ok(device_rows(&all))
}

/// One row a key. The service shows some keys of each device, and says where there are more.
fn device_rows(devices: &[Value]) -> Report {
    let mut rows = Vec::new();
    let mut cut = 0_usize;
    for device in devices {
        let more = device["more_keys"] == true;
        cut = cut.saturating_add(usize::from(more));
        for key in device["keys"].as_array().into_iter().flatten() {
            rows.push(json!({
                "device": device["device"], "names": device["names"], "shared": device["shared"], "tenant": key["tenant"],
                "key": key["key"], "seen": key["seen"], "more_keys": more,
            }));
        }
    }
    let report = Report::rows(rows.into(), &["device", "names", "tenant", "key", "seen"]);
    match cut {
        0 => report,
        1 => report.headed("one device has more keys than are shown"),
        n => report.headed(format!("{n} devices have more keys than are shown")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: &str, more: bool) -> Value {
        let key = |tenant| json!({"tenant": tenant, "key": "k", "seen": "then"});
        json!({
            "device": name, "names": "batch", "shared": "since", "keys": [key("acme"), key("bolt")], "more_keys": more,
        })
    }

    #[test]
    fn a_device_with_more_keys_than_are_shown_says_so() {
        let whole = device_rows(&[device("d1", false)]);
        assert!(whole.text.contains("bolt") && !whole.text.contains("more keys"));
        assert_eq!(whole.json[1]["more_keys"], false);
        assert!(whole.text.contains("batch"));

        let one = device_rows(&[device("d1", false), device("d2", true)]);
        assert!(
            one.text
                .starts_with("one device has more keys than are shown\n"),
            "{}",
            one.text
        );
        let more = one.json.as_array().unwrap().iter();
        let more: Vec<_> = more.map(|r| (&r["device"], &r["more_keys"])).collect();
        let (d1, d2, no, yes) = (json!("d1"), json!("d2"), json!(false), json!(true));
        assert_eq!(more, [(&d1, &no), (&d1, &no), (&d2, &yes), (&d2, &yes)]);

        let two = device_rows(&[device("d1", true), device("d2", true)]);
        assert!(
            two.text
                .starts_with("2 devices have more keys than are shown\n")
        );
    }
}
