//! `countersign log`: download the logs and check them, without trusting the service.

mod audit;
mod download;
mod pairing;
mod show;

use crate::context::Context;
use crate::failure::Result;
use crate::report::Report;
use clap::Subcommand;

/// Subcommands of `log`.
#[derive(Debug, Subcommand)]
pub enum Log {
    /// List the logs you may read.
    #[command(after_help = "Example:\n  countersign log list --tenant acme")]
    List,
    /// Copy a log into a folder; again: what is new.
    #[command(after_help = "\
Without --key it is the tenant's own log: keys, certificates, grants, denials.

Examples:
  countersign log download --tenant acme --key 0190… --out logs/release
  countersign log download --tenant acme --all --out logs")]
    Download(download::Download),
    /// Print the leaves of a downloaded log, with the details that open them.
    #[command(after_help = "Example:\n  countersign log show logs/release --from 100 --limit 20")]
    Show(show::Show),
    /// Check a downloaded log: every leaf, hash, signature, and that history was not rewritten.
    #[command(after_help = "\
Works without the service. Heads seen earlier (by `sign`, `log download` and earlier audits) are
kept in COUNTERSIGN_HOME and the log must continue each of them. On another machine give the log's
key with --vkey, or compare the one in the folder with the one you pinned.

Examples:
  countersign log audit logs/release
  countersign log audit logs/release --receipts dist/ --files dist/app.exe")]
    Audit(audit::Audit),
}

impl Log {
    pub(super) fn run(self, context: &Context) -> Result<Report> {
        match self {
            Self::List => {
                let tenant = context.tenant()?;
                let logs = context.session(&tenant)?.logs(&tenant)?;
                let json = serde_json::to_value(logs).unwrap_or_default();
                Ok(Report::rows(json, &["kind", "id", "size", "origin"]))
            }
            Self::Download(c) => c.run(context),
            Self::Show(c) => c.run(),
            Self::Audit(c) => c.run(context),
        }
    }
}
