//! `countersign-demo-ca`: a certificate authority for trying Countersign out. **Not a CA to trust.**
//!
//! It shows the other side of the counter: a CA that takes no naked request, appraises what the
//! signing service states with the `attestation` crate, offline, under statement keys it pins, and
//! says why it refuses. Its keys are files, its subscribers are whoever asks. The protocol is in
//! `docs/ca/demo-ca-protocol.md`.
#![forbid(unsafe_code)]

mod api;
mod appraise;
mod authority;
mod cli;
mod crl;
mod device;
mod error;
mod files;
mod issuance;
mod misbehave;
mod orders;
mod reports;
mod serve;
mod tls;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            // Exit code 64 for usage, as `countersign` itself has it; help and version are no error.
            let code = if e.use_stderr() { 64 } else { 0 };
            let _ = e.print();
            return ExitCode::from(code);
        }
    };
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env()
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info")),
        )
        .with_writer(std::io::stderr)
        .init();
    let done = match cli.command {
        cli::Command::Serve(args) => serve::run(&args).map(|()| 0),
        cli::Command::Revoke(args) => serve::revoke(&args).map(|()| 0),
        cli::Command::Release(args) => serve::release(&args).map(|()| 0),
        cli::Command::Appraise(args) => appraise::run(&args),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            eprintln!("countersign-demo-ca: {e}");
            ExitCode::from(e.exit_code())
        }
    }
}
