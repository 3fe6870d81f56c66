//! `countersign certificate`: order, install, show.

use crate::args::SignerArg;
use crate::commands::csr::SubjectArgs;
use crate::commands::keys::warnings;
use crate::commands::read_text;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::progress;
use crate::report::Report;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use countersign_client::Client;
use countersign_core::{KeyId, OrderId, TenantName};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Subcommands of `certificate`.
#[derive(Debug, Subcommand)]
pub enum Certificate {
    /// Order a certificate from a CA that the service is connected to, and wait for it.
    #[command(after_help = "\
Example:
  countersign certificate order --tenant acme 0190… --ca demo --common-name 'Acme Inc.' \\
    --organization 'Acme Inc.' --country US")]
    Order(Order),
    /// Wait on for an order that was still open, and install what comes.
    #[command(after_help = "\
Example:
  countersign certificate wait --tenant acme 0190…")]
    Wait {
        /// Order id, as `certificate order` said or `keys show` says.
        order: OrderId,
        /// How long to wait for the CA.
        #[arg(long, default_value_t = 300, value_name = "SECONDS")]
        wait: u64,
    },
    /// Install a certificate that came back by another way (see `csr export`).
    #[command(after_help = "\
Example:
  countersign certificate install --tenant acme 0190… --chain chain.pem")]
    Install {
        /// Key id.
        key: KeyId,
        /// The certificate, then its intermediates (PEM).
        #[arg(long, value_name = "FILE")]
        chain: PathBuf,
    },
    /// Show the certificate a signer signs with.
    #[command(after_help = "\
Example:
  countersign certificate show acme/release --out chain.pem")]
    Show {
        /// The signer, tenant/signer.
        signer: SignerArg,
        /// Write the chain there (PEM).
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

/// Arguments of `certificate order`.
#[derive(Debug, Args)]
pub struct Order {
    /// Key id.
    key: KeyId,
    /// The connector's name.
    #[arg(long, value_name = "NAME")]
    ca: String,
    #[command(flatten)]
    subject: SubjectArgs,
    /// How long to wait for the CA.
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    wait: u64,
}

impl Certificate {
    pub(super) fn run(self, context: &Context) -> Result<Report> {
        match self {
            Self::Order(o) => order(context, o),
            Self::Wait { order, wait } => {
                let tenant = context.tenant()?;
                let client = context.session(&tenant)?;
                let bar = progress::spinner(context.global.json, "asking the CA");
                let answer = client
                    .order(&tenant, order)
                    .map_err(Failure::from)
                    .and_then(|first| follow(&client, &tenant, first, Duration::from_secs(wait)));
                bar.finish_and_clear();
                ended(&client, &tenant, answer?)
            }
            Self::Install { key, chain } => {
                let tenant = context.tenant()?;
                let client = context.session(&tenant)?;
                let answer = client.install_certificate(&tenant, key, &read_text(&chain)?)?;
                let head = ready(&client, &tenant, &key.to_string());
                Ok(Report::facts(answer).headed(format!("installed; {head}")))
            }
            Self::Show { signer, out } => {
                let (tenant, signer) = context.signer(&signer)?;
                let client = context.signing_session(&tenant, &signer)?;
                let answer = client.signer_certificate(&tenant, &signer)?;
                let chain: String = answer.certificate_chain.iter().map(|c| pem(&c.0)).collect();
                let json = json!({
                    "key": answer.key,
                    "algorithm": answer.algorithm,
                    "certificate_chain": answer.certificate_chain,
                    "warnings": answer.warnings,
                });
                let mut head = format!("key {} ({})", answer.key, answer.algorithm);
                for warning in &answer.warnings {
                    head.push_str(&format!("\n! {}", crate::table::printable(warning)));
                }
                Ok(match out {
                    Some(path) => {
                        std::fs::write(&path, chain).map_err(|e| Failure::file(&path, &e))?;
                        Report::new(json, format!("{head}\nwrote {}", path.display()))
                    }
                    None => Report::new(json, format!("{head}\n{chain}")),
                })
            }
        }
    }
}

fn order(context: &Context, o: Order) -> Result<Report> {
    let tenant = context.tenant()?;
    let client = context.session(&tenant)?;
    let bar = progress::spinner(context.global.json, format!("ordering from {}", o.ca));
    let opened = client.order_certificate(&tenant, o.key, &o.ca, &o.subject.into());
    let answer = opened
        .map_err(Failure::from)
        .and_then(|first| follow(&client, &tenant, first, Duration::from_secs(o.wait)));
    bar.finish_and_clear();
    ended(&client, &tenant, answer?)
}

/// What became of an order.
fn ended(client: &Client, tenant: &TenantName, answer: Value) -> Result<Report> {
    match text(&answer, "state") {
        "installed" => {
            let head = ready(client, tenant, text(&answer, "key"));
            Ok(Report::facts(answer).headed(head))
        }
        "refused" => {
            let mut f = Failure::new(
                Exit::Refused,
                "ca-refused",
                format!("the order was refused: {}", text(&answer, "problem")),
            );
            f.reasons = answer
                .get("reasons")
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default();
            Err(f)
        }
        state => {
            let order = text(&answer, "id");
            Err(Failure::new(
                Exit::Unavailable,
                "order-open",
                format!("order {order} is still {state}"),
            )
            .hint(format!(
                "the order is kept: countersign certificate wait --tenant {tenant} {order}"
            )))
        }
    }
}

/// Whether a key can sign now, or what stands in its way (its CA's revocation list, say).
fn ready(client: &Client, tenant: &TenantName, key: &str) -> String {
    let known = key.parse().ok().and_then(|id| client.key(tenant, id).ok());
    let warnings: Vec<_> = known.iter().flat_map(warnings).collect();
    if warnings.is_empty() {
        format!("key {key} can sign now")
    } else {
        format!("key {key}:\n! {}", warnings.join("\n! "))
    }
}

/// Asks until the order is decided, or the time is up.
fn follow(
    client: &Client,
    tenant: &TenantName,
    mut answer: Value,
    wait: Duration,
) -> Result<Value> {
    let begun = Instant::now();
    let mut pause = Duration::from_millis(200);
    while !matches!(text(&answer, "state"), "installed" | "refused") && begun.elapsed() < wait {
        let Ok(order) = text(&answer, "id").parse::<OrderId>() else {
            break;
        };
        std::thread::sleep(pause);
        pause = pause.saturating_mul(2).min(Duration::from_secs(5));
        answer = client.order(tenant, order)?;
    }
    Ok(answer)
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or("")
}

/// PEM armour (RFC 7468 §2).
fn pem(der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    for (i, c) in body.chars().enumerate() {
        if i > 0 && i % 64 == 0 {
            out.push('\n');
        }
        out.push(c);
    }
    out.push_str("\n-----END CERTIFICATE-----\n");
    out
}
