//! `countersignd`: see the library's documentation.
#![forbid(unsafe_code)]

use clap::Parser as _;
use countersign_server::cli::{Cli, Command, OwnerArgs};
use countersign_server::config::Config;
use countersign_server::database::{self, Place};
use countersign_server::{ServerError, doctor, init, serve};
use countersign_store::postgres::Settings;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            let code = if e.use_stderr() { 64 } else { 0 };
            // Nowhere to say that standard output is closed.
            let _ = e.print();
            return ExitCode::from(code);
        }
    };
    match run(cli.command) {
        Ok(code) => code,
        Err(e) => {
            eprintln!("countersignd: {e}");
            ExitCode::from(e.exit_code())
        }
    }
}

fn run(command: Command) -> Result<ExitCode, ServerError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| ServerError::Internal(format!("no runtime: {e}")))?;
    match command {
        Command::Serve(args) => {
            let config = Config::load(&args.config)?;
            runtime.block_on(serve::serve(config))?;
        }
        Command::Doctor(args) => {
            let report = runtime.block_on(doctor::examine(&args.config));
            if args.json {
                let text = serde_json::to_string_pretty(&report)
                    .map_err(|e| ServerError::Internal(e.to_string()))?;
                println!("{text}");
            } else {
                print!("{}", report.text());
            }
            return Ok(ExitCode::from(report.exit_code()));
        }
        Command::CheckConfig(args) => {
            let config = Config::load(&args.config)?;
            serve::check(&config)?;
            println!("{} is good", args.config.display());
        }
        Command::Init(args) => {
            let made = runtime.block_on(init::development(args))?;
            print!("{}", init::report(&made));
        }
        Command::CreateDatabase(args) => {
            let config = Config::load(&args.config)?;
            let owner = owner(&args.owner)?;
            runtime.block_on(init::database(
                &config,
                &args.credential_file,
                owner.as_ref(),
            ))?;
            println!(
                "{} and the one-time credential {} were made; now back up {} and {}",
                Place::of(&config)?.name(),
                args.credential_file.display(),
                config.sealing_key_file.display(),
                config.hsm.worker_key_file.display()
            );
        }
        Command::MigrateDatabase(args) => {
            let config = Config::load(&args.config)?;
            let owner = owner(&args.owner)?;
            runtime.block_on(init::migrate(&config, owner.as_ref()))?;
            println!("{} is up to date", Place::of(&config)?.name());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The owner of a PostgreSQL database, if the command names one.
fn owner(args: &OwnerArgs) -> Result<Option<Settings>, ServerError> {
    args.owner_url
        .as_deref()
        .map(|url| database::settings(url, args.owner_password_file.as_deref()))
        .transpose()
}
