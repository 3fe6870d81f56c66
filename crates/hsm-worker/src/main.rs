//! `countersign-hsm-worker`: see the library's documentation.

use clap::{Parser, Subcommand};
use countersign_hsm_worker::look;
use countersign_hsm_worker::run::{self, Places};
use std::path::PathBuf;
use std::process::ExitCode;

/// With what this build can have devices say of their keys.
const VERSION: &str = if cfg!(feature = "tpm") {
    concat!(env!("CARGO_PKG_VERSION"), " (evidence adapters: tpm2)")
} else {
    concat!(env!("CARGO_PKG_VERSION"), " (evidence adapters: none)")
};

/// Holds one PKCS#11 token for countersignd and signs only what its log has authorised.
#[derive(Parser)]
#[command(name = "countersign-hsm-worker", version = VERSION)]
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
        /// The token's folder, which workers of other nodes may share; the state folder if left out.
        #[arg(long)]
        token: Option<PathBuf>,
        /// Its configuration (TOML).
        #[arg(long)]
        config: PathBuf,
        /// The socket; worker.sock in the state folder if left out.
        #[arg(long)]
        socket: Option<PathBuf>,
        /// A user beside our own that may connect: a name or a number.
        #[arg(long, value_parser = user)]
        client_user: Option<u32>,
        /// Stop when standard input closes: set by the supervisor, so that no worker outlives it.
        #[arg(long)]
        exit_with_parent: bool,
    },
    /// Looks at module and token without a login, beside a worker or without one, and prints what it
    /// found. Nothing is changed.
    #[command(hide = true)]
    Look {
        /// The token's folder; the module alone is looked at if left out.
        #[arg(long)]
        token: Option<PathBuf>,
        /// An empty folder, 0700, in place of a worker's own.
        #[arg(long)]
        scratch: PathBuf,
        /// As of `serve`.
        #[arg(long)]
        config: PathBuf,
    },
    /// Confines itself as `serve` does, tries what must not succeed, and prints what came of it.
    #[command(hide = true)]
    TrySandbox {
        /// As of `serve`.
        #[arg(long)]
        state: PathBuf,
        /// As of `serve`.
        #[arg(long)]
        config: PathBuf,
        /// A file that the worker has no business with.
        #[arg(long, default_value = "/etc/shadow")]
        file: PathBuf,
    },
}

fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_env("COUNTERSIGN_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,cryptoki=off,tss_esapi=off"));
    tracing_subscriber::fmt()
        .json()
        .with_env_filter(filter)
        // It would be told on standard error, by a macro that panics; after a kill of countersignd
        // that pipe has no reader, and the last right edges must still be written.
        .log_internal_errors(false)
        .with_writer(std::io::stderr)
        .init();
    let result = match Cli::parse().command {
        Command::Serve {
            state,
            token,
            config,
            socket,
            client_user,
            exit_with_parent,
        } => {
            let places = Places {
                token: token.unwrap_or_else(|| state.clone()),
                state,
                config,
                socket,
                client_uid: client_user,
            };
            run::serve(&places, exit_with_parent)
        }
        Command::Look {
            token,
            scratch,
            config,
        } => look::look(&config, token.as_deref(), &scratch).map(|report| {
            println!("{report}");
            ExitCode::SUCCESS
        }),
        Command::TrySandbox {
            state,
            config,
            file,
        } => {
            let places = Places {
                token: state.clone(),
                state,
                config,
                socket: None,
                client_uid: None,
            };
            run::try_sandbox(&places, &file).map(|report| {
                println!("{report}");
                ExitCode::SUCCESS
            })
        }
    };
    match result {
        Ok(code) => code,
        Err(e) => {
            tracing::error!(error = %e, "the worker cannot start");
            ExitCode::from(e.exit_code())
        }
    }
}

/// A user's number, from a number or from a name in /etc/passwd.
fn user(text: &str) -> Result<u32, String> {
    if let Ok(uid) = text.parse() {
        return Ok(uid);
    }
    std::fs::read_to_string("/etc/passwd")
        .map_err(|e| format!("/etc/passwd: {e}"))?
        .lines()
        .find_map(|l| {
            let mut fields = l.split(':');
            (fields.next() == Some(text))
                .then(|| fields.nth(1)?.parse().ok())
                .flatten()
        })
        .ok_or_else(|| format!("/etc/passwd has no user {text}: give the number"))
}
