//! `countersign members`: people and their roles.

use crate::context::Context;
use crate::failure::Result;
use crate::report::Report;
use clap::{Args, Subcommand, ValueEnum};
use countersign_client::dto;

/// Subcommands of `members`.
#[derive(Debug, Subcommand)]
pub enum Members {
    /// Give somebody a role.
    #[command(after_help = "\
Example:
  countersign members add --tenant acme --issuer https://login.example --subject 9a1d… --role auditor")]
    Add(Member),
    /// Take a role from somebody.
    #[command(after_help = "\
Example:
  countersign members remove --tenant acme --issuer https://login.example --subject 9a1d… --role auditor")]
    Remove(Member),
    /// List them.
    #[command(after_help = "Example:\n  countersign members list --tenant acme")]
    List,
}

/// A person with a role.
#[derive(Debug, Args)]
pub struct Member {
    /// The person's issuer, exactly as in `iss`.
    #[arg(long, value_name = "URL")]
    issuer: String,
    /// The person, exactly as in `sub`.
    #[arg(long)]
    subject: String,
    /// As what.
    #[arg(long, value_enum)]
    role: Role,
}

/// Roles of a tenant.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Role {
    /// Signers, keys, certificates, grants, members.
    Admin,
    /// Reads everything, changes nothing.
    Auditor,
}

impl Member {
    fn dto(self) -> dto::Member {
        dto::Member {
            issuer: self.issuer,
            subject: self.subject,
            role: match self.role {
                Role::Admin => "admin",
                Role::Auditor => "auditor",
            }
            .to_owned(),
        }
    }
}

impl Members {
    pub(super) fn run(self, context: &Context) -> Result<Report> {
        let tenant = context.tenant()?;
        let client = context.session(&tenant)?;
        match self {
            Self::Add(m) => {
                let m = m.dto();
                let text = format!("{} is {} of {tenant}", m.subject, m.role);
                Ok(Report::new(client.add_member(&tenant, &m)?, text))
            }
            Self::Remove(m) => {
                let m = m.dto();
                let text = format!("{} is no longer {} of {tenant}", m.subject, m.role);
                Ok(Report::new(client.remove_member(&tenant, &m)?, text))
            }
            Self::List => Ok(Report::rows(
                client.members(&tenant)?,
                &["role", "subject", "issuer"],
            )),
        }
    }
}
