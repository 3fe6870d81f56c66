//! `countersign keys`: keys and their lives.

mod evidence;

use crate::args::SignerArg;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::progress;
use crate::report::Report;
use crate::table;
use clap::{Args, Subcommand};
use countersign_client::dto;
use countersign_core::KeyId;
use serde_json::Value;

/// Subcommands of `keys`.
#[derive(Debug, Subcommand)]
pub enum Keys {
    /// Generate a key for a signer, inside the tenant's token.
    #[command(after_help = "Example:\n  countersign keys create acme/release")]
    Create {
        /// For which signer.
        signer: SignerArg,
    },
    /// List the tenant's keys.
    #[command(after_help = "Example:\n  countersign keys list --tenant acme")]
    List,
    /// Show a key: its state and what its token said about it.
    #[command(after_help = "Example:\n  countersign keys show --tenant acme 0190…")]
    Show {
        /// Key id.
        key: KeyId,
    },
    /// Appraise a key's evidence; `certificate order` does it by itself.
    #[command(after_help = "Example:\n  countersign keys appraise --tenant acme 0190…")]
    Appraise {
        /// Key id.
        key: KeyId,
    },
    /// What a vendor's tool says of a key.
    #[command(subcommand)]
    Evidence(evidence::Evidence),
    /// Stop a key at once: when this returns, no later signature exists.
    #[command(after_help = "\
Example:
  countersign keys suspend --tenant acme 0190… --reason 'laptop of the build team lost'")]
    Suspend(Event),
    /// Let a suspended key sign again.
    #[command(after_help = "\
Example:
  countersign keys resume --tenant acme 0190… --reason 'laptop found'")]
    Resume(Event),
    /// End a key's use; its log stays.
    #[command(after_help = "\
Example:
  countersign keys retire --tenant acme 0190… --reason 'renewed'")]
    Retire(Event),
    /// Declare a key compromised, for ever; tell your CA too.
    #[command(after_help = "\
Example:
  countersign keys compromise --tenant acme 0190… --reason 'see incident 12' --yes")]
    Compromise(FinalEvent),
    /// Delete a key from its token, for ever.
    #[command(after_help = "\
Example:
  countersign keys destroy --tenant acme 0190… --reason 'end of life' --yes")]
    Destroy(FinalEvent),
}

/// A step in a key's life.
#[derive(Debug, Args)]
pub struct Event {
    /// Key id.
    key: KeyId,
    /// Why; it stands in the tenant's log for ever.
    #[arg(long)]
    reason: String,
}

/// A step that cannot be taken back.
#[derive(Debug, Args)]
pub struct FinalEvent {
    #[command(flatten)]
    event: Event,
    /// Yes, I know that this cannot be taken back.
    #[arg(long)]
    yes: bool,
}

impl Keys {
    pub(super) fn run(self, context: &Context) -> Result<Report> {
        match self {
            Self::Create { signer } => {
                let (tenant, signer) = context.signer(&signer)?;
                let client = context.session(&tenant)?;
                // RSA-4096 takes an HSM many seconds.
                let bar = progress::spinner(context.global.json, "generating the key in its token");
                let answer = client.create_key(&tenant, &signer);
                bar.finish_and_clear();
                let answer = answer?;
                let mut head = format!("made a key for {tenant}/{signer}");
                if software(&answer) {
                    head.push_str("\nIt is in a SOFTWARE token and is marked so for ever.");
                }
                Ok(Report::facts(answer).headed(head))
            }
            Self::List => {
                let tenant = context.tenant()?;
                let answer = context.session(&tenant)?.keys(&tenant)?;
                let warnings: String = table::list(&answer)
                    .iter()
                    .flat_map(|key| {
                        let id = key.get("id").and_then(Value::as_str).unwrap_or("");
                        warnings(key).map(move |w| format!("! {id}: {w}\n"))
                    })
                    .collect();
                let mut report = Report::rows(
                    answer,
                    &[
                        "id",
                        "signer",
                        "algorithm",
                        "state",
                        "certificate_status.status",
                        "certificate_status.ends_in_days",
                    ],
                );
                report.text.push_str(&warnings);
                Ok(report)
            }
            Self::Show { key } => {
                let tenant = context.tenant()?;
                let answer = context.session(&tenant)?.key(&tenant, key)?;
                let head: Vec<_> = warnings(&answer).map(|w| format!("! {w}")).collect();
                let report = Report::facts(answer);
                Ok(if head.is_empty() {
                    report
                } else {
                    report.headed(head.join("\n"))
                })
            }
            Self::Appraise { key } => {
                let tenant = context.tenant()?;
                let answer = context.session(&tenant)?.appraise_key(&tenant, key)?;
                Ok(Report::facts(answer))
            }
            Self::Evidence(e) => e.run(context),
            Self::Suspend(e) => event(context, e, "suspend"),
            Self::Resume(e) => event(context, e, "resume"),
            Self::Retire(e) => event(context, e, "retire"),
            Self::Compromise(e) => final_event(context, e, "compromise"),
            Self::Destroy(e) => final_event(context, e, "destroy"),
        }
    }
}

fn event(context: &Context, event: Event, name: &str) -> Result<Report> {
    let tenant = context.tenant()?;
    let client = context.session(&tenant)?;
    let body = dto::KeyEvent {
        event: name.to_owned(),
        reason: event.reason,
    };
    let answer = client.key_event(&tenant, event.key, &body)?;
    let state = answer.get("state").and_then(Value::as_str).unwrap_or(name);
    let text = format!("key {} is {state}", event.key);
    Ok(Report::new(answer, text))
}

fn final_event(context: &Context, e: FinalEvent, name: &str) -> Result<Report> {
    if e.yes {
        event(context, e.event, name)
    } else {
        let message = format!("{name} cannot be taken back");
        Err(Failure::usage(message).hint("say --yes if you mean it"))
    }
}

/// What the owner of a key should know now.
pub(super) fn warnings(key: &Value) -> impl Iterator<Item = String> {
    key.get("warnings")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(table::printable)
}

/// Whether an answer speaks of a key in a software token.
fn software(key: &Value) -> bool {
    let at = |v: &Value| v.get("software").and_then(Value::as_bool);
    at(key).or_else(|| key.get("facts").and_then(at)) == Some(true)
}
