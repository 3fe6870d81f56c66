//! The command line's shape. Each command's own arguments live beside its code.

use crate::commands::{
    admin, attestation, bootstrap, certificate, csr, grants, issuers, keys, log, login, members,
    policy, receipt, service, sign, signers,
};
use clap::{Args, Parser, Subcommand};
use countersign_core::{SignerLabel, SignerName, TenantName};
use std::path::PathBuf;

const EXIT_CODES: &str = "\
Exit codes:
  0   done, or what was checked is good
  1   what was checked is bad
  2   cannot be decided
  3   refused by policy (the reasons are shown)
  4   absent, or not yours
  5   unavailable: retry
  6   sign: some of the files are signed, others are not
  64  wrong usage
  70  internal error
  130 stopped by Ctrl-C; `sign` goes on with the same command
Of several results the worst counts: 70, 64, 1, 2, 3, 4, 5, 0.";

/// Sign code with keys that never leave their HSM, and check what they were used for.
#[derive(Debug, Parser)]
#[command(name = "countersign", version, after_help = EXIT_CODES, propagate_version = true)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// The service, https://host[:port] (default: that of the last login).
    #[arg(long, global = true, env = "COUNTERSIGN_SERVER", value_name = "URL")]
    pub server: Option<String>,
    /// CA certificates (PEM) to trust for the service, instead of the system's.
    #[arg(long, global = true, env = "COUNTERSIGN_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Which tenant; a signer written as tenant/signer names its own.
    #[arg(long, global = true, env = "COUNTERSIGN_TENANT", value_name = "NAME")]
    pub tenant: Option<TenantName>,
    /// JSON on standard output: one document; one line for each file with `sign`.
    #[arg(long, global = true)]
    pub json: bool,
    /// Where tokens, pins and checkpoints are kept (default: ~/.countersign).
    #[arg(
        long = "config",
        global = true,
        env = "COUNTERSIGN_HOME",
        value_name = "DIR"
    )]
    pub home: Option<PathBuf>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Register the operator with the one-time credential of a new service.
    Bootstrap(bootstrap::Bootstrap),
    /// Exchange an ID token (device login, file or CI job) for a short session.
    Login(login::Login),
    /// Who the service thinks you are.
    Whoami(login::Whoami),
    /// What operators do.
    #[command(subcommand)]
    Admin(admin::Admin),
    /// Whose tokens a tenant accepts.
    #[command(subcommand)]
    Issuers(issuers::Issuers),
    /// People and their roles.
    #[command(subcommand)]
    Members(members::Members),
    /// A tenant's own rules.
    #[command(subcommand)]
    Policy(policy::Policy),
    /// Stable names that keys sign under.
    #[command(subcommand)]
    Signers(signers::Signers),
    /// Keys and their lives.
    #[command(subcommand)]
    Keys(keys::Keys),
    /// Certificate requests for a CA without a connector.
    #[command(subcommand)]
    Csr(csr::Csr),
    /// Certificates.
    #[command(subcommand)]
    Certificate(certificate::Certificate),
    /// Who may sign what.
    #[command(subcommand)]
    Grants(grants::Grants),
    /// Sign files.
    Sign(Box<sign::Sign>),
    /// Download and check the logs.
    #[command(subcommand)]
    Log(log::Log),
    /// Check a receipt.
    #[command(subcommand)]
    Receipt(receipt::Receipt),
    /// Check vendors' key attestations, offline: does this key live in genuine hardware?
    #[command(subcommand)]
    Attestation(attestation::Attestation),
    /// The service's own keys.
    #[command(subcommand)]
    Service(service::Service),
}

/// A signer as people write it: `acme/release`, or `release` where the tenant is given otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignerArg {
    /// The tenant, if the name has one.
    pub tenant: Option<TenantName>,
    /// The signer.
    pub signer: SignerLabel,
}

impl std::str::FromStr for SignerArg {
    type Err = countersign_core::names::BadName;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        if s.contains('/') {
            let name: SignerName = s.parse()?;
            Ok(Self {
                tenant: Some(name.tenant),
                signer: name.signer,
            })
        } else {
            Ok(Self {
                tenant: None,
                signer: s.parse()?,
            })
        }
    }
}
