//! `countersign service`: the service's own keys.

use crate::context::{Context, pin_of};
use crate::failure::{Failure, Result};
use crate::report::Report;
use clap::Subcommand;
use serde_json::json;

/// Subcommands of `service`.
#[derive(Debug, Subcommand)]
pub enum Service {
    /// Show the keys that sign checkpoints and statements, and compare them with those pinned.
    #[command(after_help = "\
The first contact pins the keys. When they change, ask the operator by another way before you
pin the new ones.

Examples:
  countersign service keys
  countersign service keys --pin")]
    Keys {
        /// Pin what the service shows now, whatever was pinned before.
        #[arg(long)]
        pin: bool,
    },
}

impl Service {
    pub(super) fn run(self, context: &Context) -> Result<Report> {
        let Self::Keys { pin } = self;
        let server = context.server()?;
        let keys = context.client()?.service_keys()?;
        let shown = pin_of(&keys);
        let pinned = context.home.pin(&server)?;
        let same = pinned.as_ref().is_none_or(|p| {
            p.log_public_key == shown.log_public_key && p.statement_sha256 == shown.statement_sha256
        });
        if !same && !pin {
            let was = pinned.map(|p| p.log_public_key).unwrap_or_default();
            let message = format!(
                "the keys of {server} are not those pinned (log key was {was}, is {})",
                shown.log_public_key
            );
            return Err(Failure::bad("keys-changed", message)
                .hint("ask the operator by another way; then: countersign service keys --pin"));
        }
        if pinned.is_none() || !same {
            context.home.set_pin(&server, shown)?;
        }
        let state = match (&pinned, same) {
            (Some(_), true) => "as pinned",
            _ => "pinned now",
        };
        let json = json!({"service": keys.service, "statement": keys.statement, "log": keys.log,
            "pin": state});
        Ok(Report::facts(json))
    }
}
