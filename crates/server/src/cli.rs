//! The command line.

use clap::{Args, Parser, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Countersign's server: remote code signing with a record of each use of each key.
#[derive(Debug, Parser)]
#[command(
    name = "countersignd",
    version,
    propagate_version = true,
    after_help = "\
Examples:
  countersignd init --dev --dir ./service
  countersignd check-config --config ./service/countersignd.toml
  countersignd serve --config ./service/countersignd.toml

Exit codes: 0 done · 1 a check of `doctor` failed · 5 a part is away, the port is taken, or a stop
could not write everything: retry · 64 the command or the configuration is wrong · 70 internal"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve. Prints one JSON line on standard output when ready; logs go to standard error.
    ///
    /// SIGTERM or SIGINT drains: no new connections, what is under way ends, then exit 0; exit 5 if something
    /// could not be written.
    Serve(ConfigArgs),
    /// Read a configuration and the files it names, and say what is wrong.
    CheckConfig(ConfigArgs),
    /// Look at everything that signing needs on this machine: whether it is good, and what to do.
    ///
    /// It changes nothing, and works while the service runs and while it does not. Run it as the service's user. No
    /// login to a token is made. Exit code 1 if a check failed.
    #[command(after_help = "\
Example:
  countersignd doctor --config /etc/countersign/countersignd.toml")]
    Doctor(DoctorArgs),
    /// Make a development deployment: keys, certificate, configuration, database, credential.
    #[command(after_help = "\
Example:
  countersignd init --dev --dir ./service --listen 127.0.0.1:8443
  countersignd init --dev --dir ./service --database-url postgres://me@db.example/countersign")]
    Init(InitArgs),
    /// Make the database of a configuration, and the one-time credential for the first operator.
    ///
    /// `init` does this too. A lost database is restored, never made anew.
    #[command(after_help = "\
Example:
  countersignd create-database --config /etc/countersign/countersignd.toml \\
    --credential-file /root/bootstrap-credential")]
    CreateDatabase(CreateDatabaseArgs),
    /// Bring the schema of a PostgreSQL database up to this release, as the role that owns it.
    ///
    /// Needed only where the service's own role does not own the tables; nodes that run go on running.
    #[command(after_help = "\
Example:
  countersignd migrate-database --config /etc/countersign/countersignd.toml \\
    --owner-url postgres://countersign_owner@db.example/countersign --owner-password-file /root/owner.password")]
    MigrateDatabase(MigrateDatabaseArgs),
}

/// Names a configuration.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// The configuration file.
    #[arg(long, value_name = "FILE", env = "COUNTERSIGND_CONFIG")]
    pub config: PathBuf,
}

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// The configuration file.
    #[arg(long, value_name = "FILE", env = "COUNTERSIGND_CONFIG")]
    pub config: PathBuf,
    /// One JSON document.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Folder to make it in.
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// Yes, for development: a certificate of its own, SoftHSM, issuers on loopback.
    #[arg(long, required = true)]
    pub dev: bool,
    /// Address for HTTPS.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8443")]
    pub listen: SocketAddr,
    /// The PKCS#11 module, if SoftHSM is not found by itself.
    #[arg(long, value_name = "PATH")]
    pub hsm_module: Option<PathBuf>,
    /// PostgreSQL: the URL of an empty database, for a role that may make tables; a file in `--dir` if left out.
    #[arg(long, value_name = "URL")]
    pub database_url: Option<String>,
    /// The file with that role's password, in one line; that of PGPASSFILE if left out.
    #[arg(long, value_name = "FILE", requires = "database_url")]
    pub database_password_file: Option<PathBuf>,
}

/// Arguments of `create-database`.
#[derive(Debug, Args)]
pub struct CreateDatabaseArgs {
    /// The configuration file.
    #[arg(long, value_name = "FILE", env = "COUNTERSIGND_CONFIG")]
    pub config: PathBuf,
    /// Where the one-time credential is written (mode 0600).
    #[arg(long, value_name = "FILE")]
    pub credential_file: PathBuf,
    /// The role that is to own the tables.
    #[command(flatten)]
    pub owner: OwnerArgs,
}

/// Arguments of `migrate-database`.
#[derive(Debug, Args)]
pub struct MigrateDatabaseArgs {
    /// The configuration file.
    #[arg(long, value_name = "FILE", env = "COUNTERSIGND_CONFIG")]
    pub config: PathBuf,
    /// The role that owns the tables.
    #[command(flatten)]
    pub owner: OwnerArgs,
}

/// The owner of a PostgreSQL database's tables.
#[derive(Debug, Args)]
pub struct OwnerArgs {
    /// PostgreSQL: the URL for the role that owns the tables; the service's own if left out.
    #[arg(long, value_name = "URL")]
    pub owner_url: Option<String>,
    /// The file with that role's password, in one line; that of PGPASSFILE if left out.
    #[arg(long, value_name = "FILE", requires = "owner_url")]
    pub owner_password_file: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_holds_together() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
        assert!(Cli::try_parse_from(["countersignd", "init", "--dir", "x"]).is_err());
        assert!(Cli::try_parse_from(["countersignd", "init", "--dev", "--dir", "x"]).is_ok());
    }
}
