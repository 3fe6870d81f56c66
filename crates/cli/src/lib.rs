//! The command line `countersign`, as a library so that its manners can be tested.
//!
//! Every command is a function from arguments and a [`context::Context`] to a [`report::Report`]
//! or a [`failure::Failure`]; this file alone prints and [`exit::Exit`] alone knows numbers.
//! Standard output holds the result and nothing else (one JSON document with `--json`; `sign` has
//! one line of JSON for each file); notes,
//! warnings and progress go to standard error.
#![forbid(unsafe_code)]

pub mod args;
pub mod commands;
pub mod context;
pub mod exit;
pub mod failure;
pub mod folder;
pub mod heads;
pub mod home;
pub mod progress;
pub mod report;
pub mod table;
pub mod token_words;

use args::Cli;
use clap::Parser as _;
use exit::Exit;
use report::Report;
use std::ffi::OsString;
use std::io::Write as _;

/// Runs the program: parses, acts, prints. Never ends the process itself.
pub fn run<I, T>(arguments: I) -> Exit
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(e) => {
            // Help and version are not errors; everything else is wrong usage.
            let exit = if e.use_stderr() {
                Exit::Usage
            } else {
                Exit::Done
            };
            let _ = e.print();
            return exit;
        }
    };
    let json = cli.global.json;
    let lines = matches!(cli.command, args::Command::Sign(_));
    let result =
        context::Context::new(cli.global).and_then(|c| commands::dispatch(&c, cli.command));
    match result {
        Ok(report) => print_report(&report, json),
        Err(failure) => {
            eprintln!("{}", failure.for_people());
            if json && lines {
                report::line(&failure.document());
            } else if json {
                out(&pretty(&failure.document()));
            }
            failure.exit
        }
    }
}

fn print_report(report: &Report, json: bool) -> Exit {
    if json && report.json.is_null() {
        // Printed line by line.
    } else if json {
        out(&pretty(&report.json));
    } else if !report.text.is_empty() {
        out(report.text.trim_end());
    }
    report.exit
}

/// A reader that has gone away (`countersign … | head`) is not an error.
pub(crate) fn out(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn pretty(value: &serde_json::Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}
