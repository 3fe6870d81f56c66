//! `countersign-hsm-worker`: see the library's documentation.

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Holds one PKCS#11 token for countersignd and signs only what its log has authorised.
#[derive(Parser)]
#[command(name = "countersign-hsm-worker", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serves one token over a Unix socket in the state folder.
    Serve {
        /// The worker's own folder (made 0700 if absent).
        #[arg(long)]
        state: PathBuf,
        /// Its configuration (TOML).
        #[arg(long)]
        config: PathBuf,
        /// Stop when standard input closes: set by the supervisor, so that no worker outlives it.
        #[arg(long)]
        exit_with_parent: bool,
    },
}

fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_env("COUNTERSIGN_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,cryptoki=off"));
    tracing_subscriber::fmt()
        .json()
        .with_env_filter(filter)
        // It would be told on standard error, by a macro that panics; after a kill of countersignd
        // that pipe has no reader, and the last right edges must still be written.
        .log_internal_errors(false)
        .with_writer(std::io::stderr)
        .init();
    let Command::Serve {
        state,
        config,
        exit_with_parent,
    } = Cli::parse().command;
    match countersign_hsm_worker::run::serve(&state, &config, exit_with_parent) {
        Ok(code) => code,
        Err(e) => {
            tracing::error!(error = %e, "the worker cannot start");
            ExitCode::from(e.exit_code())
        }
    }
}
