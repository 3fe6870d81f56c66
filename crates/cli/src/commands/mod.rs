//! One file per command family: its arguments and what it does.

pub mod admin;
pub mod attestation;
pub mod bootstrap;
pub mod certificate;
pub mod csr;
pub mod doctor;
pub mod grants;
pub mod issuers;
pub mod keys;
pub mod log;
pub mod login;
pub mod members;
pub mod policy;
pub mod receipt;
pub mod service;
pub mod sign;
pub mod signers;

use crate::args::Command;
use crate::context::Context;
use crate::failure::Result;
use crate::report::Report;

/// Runs a command.
///
/// # Errors
/// Whatever went wrong, with its exit code.
pub fn dispatch(context: &Context, command: Command) -> Result<Report> {
    match command {
        Command::Bootstrap(c) => c.run(context),
        Command::Login(c) => c.run(context),
        Command::Whoami(c) => c.run(context),
        Command::Admin(c) => c.run(context),
        Command::Issuers(c) => c.run(context),
        Command::Members(c) => c.run(context),
        Command::Policy(c) => c.run(context),
        Command::Signers(c) => c.run(context),
        Command::Keys(c) => c.run(context),
        Command::Csr(c) => c.run(context),
        Command::Certificate(c) => c.run(context),
        Command::Grants(c) => c.run(context),
        Command::Sign(c) => c.run(context),
        Command::Log(c) => c.run(context),
        Command::Receipt(c) => c.run(context),
        Command::Attestation(c) => c.run(context),
        Command::Service(c) => c.run(context),
    }
}

/// Reads a text file.
pub(crate) fn read_text(path: &std::path::Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|e| crate::failure::Failure::file(path, &e))
}

/// A list that was given, or nothing: the service's default then holds.
pub(crate) fn some(list: Vec<String>) -> Option<Vec<String>> {
    (!list.is_empty()).then_some(list)
}
