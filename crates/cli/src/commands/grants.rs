//! `countersign grants`: who may sign what.

use crate::args::SignerArg;
use crate::context::{Context, read_token};
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::report::Report;
use crate::table::printable;
use clap::{Args, Subcommand};
use countersign_client::dto;
use countersign_core::{GrantId, HashAlgorithm};
use countersign_grants::{CONTENT_TYPES, Decision, Grant, GrantReason, StepOutcome};
use serde_json::Value;
use std::path::PathBuf;

/// Subcommands of `grants`.
#[derive(Debug, Subcommand)]
pub enum Grants {
    /// Let tokens with exactly these claims use a signer.
    #[command(after_help = "\
Claims are compared exactly, and at least one must be an id that never changes hands.

Examples:
  countersign grants add acme/release --issuer https://token.actions.githubusercontent.com \\
    --claim repository_id=4711 --claim environment=release --content authenticode
  countersign grants add acme/release --issuer https://gitlab.com \\
    --claim project_id=815 --claim ref=main --content cms --digest sha-256 --digest sha-384")]
    Add(Box<Add>),
    /// List the tenant's grants.
    #[command(after_help = "Example:\n  countersign grants list --tenant acme")]
    List,
    /// Remove a grant; signatures under it stop at once.
    #[command(after_help = "Example:\n  countersign grants remove --tenant acme 0190…")]
    Remove {
        /// Grant id.
        grant: GrantId,
    },
    /// Say claim by claim why a token would be allowed or refused.
    #[command(after_help = "\
Example:
  countersign grants explain acme/release --token-file token.jwt --content authenticode")]
    Explain(Explain),
}

/// Arguments of `grants add`.
#[derive(Debug, Args)]
pub struct Add {
    /// The signer, tenant/signer.
    signer: SignerArg,
    /// The issuer, exactly as in `iss`; it must be registered.
    #[arg(long, value_name = "URL")]
    issuer: String,
    /// A claim and its exact value; all must hold. `/a/b` reaches inside an object.
    #[arg(long = "claim", value_name = "NAME=VALUE", required = true, value_parser = name_value)]
    claims: Vec<(String, String)>,
    /// What may be signed: authenticode, cms, raw-digest.
    #[arg(long, value_name = "TYPE", required = true, value_parser = CONTENT_TYPES)]
    content: Vec<String>,
    /// With which digests.
    #[arg(long, value_name = "ALGORITHM", default_value = "sha-256")]
    digest: Vec<HashAlgorithm>,
    /// Not before (RFC 3339).
    #[arg(long, value_name = "TIME")]
    not_before: Option<String>,
    /// Not at or after (RFC 3339).
    #[arg(long, value_name = "TIME")]
    not_after: Option<String>,
    /// Why it exists.
    #[arg(long)]
    note: Option<String>,
}

/// Arguments of `grants explain`.
#[derive(Debug, Args)]
pub struct Explain {
    /// The signer, tenant/signer.
    signer: SignerArg,
    /// The ID token in question (`-`: standard input). It is not used up.
    #[arg(long, value_name = "FILE")]
    token_file: PathBuf,
    /// For this content type.
    #[arg(long, value_name = "TYPE", value_parser = CONTENT_TYPES)]
    content: Option<String>,
    /// With this digest.
    #[arg(long, value_name = "ALGORITHM")]
    digest: Option<HashAlgorithm>,
}

impl Grants {
    pub(super) fn run(self, context: &Context) -> Result<Report> {
        match self {
            Self::Add(a) => add(context, *a),
            Self::List => {
                let tenant = context.tenant()?;
                let answer = context.session(&tenant)?.grants(&tenant)?;
                Ok(Report::rows(
                    answer,
                    &[
                        "id",
                        "signer",
                        "issuer",
                        "claims",
                        "content_types",
                        "digest_algorithms",
                    ],
                ))
            }
            Self::Remove { grant } => {
                let tenant = context.tenant()?;
                let answer = context.session(&tenant)?.remove_grant(&tenant, grant)?;
                Ok(Report::new(answer, format!("removed grant {grant}")))
            }
            Self::Explain(e) => explain(context, e),
        }
    }
}

fn add(context: &Context, a: Add) -> Result<Report> {
    let (tenant, signer) = context.signer(&a.signer)?;
    let grant = dto::NewGrant {
        signer: signer.to_string(),
        issuer: a.issuer,
        claims: a.claims.into_iter().collect(),
        content_types: a.content.into_iter().collect(),
        digest_algorithms: a.digest.into_iter().collect(),
        not_before: a.not_before,
        not_after: a.not_after,
        note: a.note,
    };
    // The same rules as the service's, so that most mistakes are told without a login.
    let checked = Grant {
        id: GrantId::new(),
        signer,
        issuer: grant.issuer.clone(),
        claims: grant.claims.clone(),
        content_types: grant.content_types.clone(),
        digest_algorithms: grant.digest_algorithms.clone(),
        not_before: None,
        not_after: None,
        note: grant.note.clone(),
    };
    let warnings = checked
        .validate()
        .map_err(|e| Failure::usage(e.to_string()))?;
    for w in &warnings {
        eprintln!("warning: {}: {}", w.field, w.message);
    }
    let answer = context.session(&tenant)?.add_grant(&tenant, &grant)?;
    Ok(Report::facts(answer).headed(format!("added a grant for {tenant}/{}", grant.signer)))
}

fn explain(context: &Context, e: Explain) -> Result<Report> {
    let (tenant, signer) = context.signer(&e.signer)?;
    let client = context.session(&tenant)?;
    let answer = client.explain_grants(
        &tenant,
        &dto::ExplainGrant {
            token: read_token(&e.token_file)?,
            signer: signer.to_string(),
            content: e.content,
            digest_algorithm: e.digest,
        },
    )?;
    let decision: Decision = serde_json::from_value(answer.clone())
        .map_err(|x| Failure::new(Exit::Internal, "bad-answer", x.to_string()))?;
    let mut text = match decision.by {
        Some(grant) => format!("allowed, by grant {grant}\n"),
        None if decision.reasons.is_empty() => {
            format!("refused: {tenant}/{signer} has no grants\n")
        }
        None => "refused\n".to_owned(),
    };
    for r in &decision.reasons {
        text.push_str(&reason(r));
    }
    // A token with the right claims may still be expired, or for another audience.
    let problem = answer.pointer("/token/problem").and_then(Value::as_str);
    if let Some(problem) = problem {
        text.push_str(&format!(
            "but the token itself is not accepted: {}\n",
            printable(problem)
        ));
    }
    let exit = if decision.allowed && problem.is_none() {
        Exit::Done
    } else {
        Exit::Refused
    };
    Ok(Report::new(answer, text).exit(exit))
}

/// One grant's view of a token, claim by claim.
#[must_use]
pub fn reason(r: &GrantReason) -> String {
    let verdict = if r.allowed {
        "allows"
    } else {
        "does not allow"
    };
    let mut text = format!("grant {} {verdict} it:\n", r.grant);
    for s in &r.steps {
        let seen = s
            .seen
            .as_deref()
            .map_or("nothing".to_owned(), |v| format!("\"{}\"", printable(v)));
        let wanted = printable(&s.wanted);
        let claim = printable(&s.claim);
        let line = match s.outcome {
            StepOutcome::Holds => format!("  ok  {claim} is \"{wanted}\""),
            StepOutcome::Differs => format!("  NO  {claim}: wants \"{wanted}\", is {seen}"),
            StepOutcome::DiffersInCase => {
                format!("  NO  {claim}: wants \"{wanted}\", is {seen} (case counts)")
            }
            StepOutcome::Absent => format!("  NO  {claim}: wants \"{wanted}\", the token has none"),
            StepOutcome::NotComparable => {
                format!("  NO  {claim}: wants \"{wanted}\", but the claim is no plain value")
            }
            StepOutcome::Guarded => format!("  NO  {claim} is {seen}: must be {wanted}"),
            StepOutcome::OutsideWindow => format!("  NO  {claim}: {wanted}, it is {seen}"),
            StepOutcome::InvalidGrant => format!("  NO  the grant breaks the rules: {wanted}"),
        };
        text.push_str(&line);
        text.push('\n');
    }
    text
}

fn name_value(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .map(|(n, v)| (n.to_owned(), v.to_owned()))
        .ok_or_else(|| "write it as name=value".to_owned())
}
