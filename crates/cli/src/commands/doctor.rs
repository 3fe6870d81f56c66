//! `countersign admin doctor`: what is wrong on the service's own machine.

use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::report::Report;
use clap::Args;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The server's program, which looks.
const PROGRAM: &str = "countersignd";

/// Arguments of `admin doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// The configuration of countersignd. (`--config` is where this command line keeps its own things.)
    #[arg(long, value_name = "FILE", env = "COUNTERSIGND_CONFIG")]
    service_config: PathBuf,
    /// The program countersignd (default: the one beside this program, else that of PATH).
    #[arg(long, value_name = "FILE")]
    countersignd: Option<PathBuf>,
}

impl Doctor {
    pub(super) fn run(self, json: bool) -> Result<Report> {
        let program = self.countersignd.unwrap_or_else(found);
        let mut command = Command::new(&program);
        command
            .arg("doctor")
            .arg("--config")
            .arg(&self.service_config)
            .stdin(Stdio::null());
        if json {
            command.arg("--json");
        }
        let out = command.output().map_err(|e| missing(&program, &e))?;
        let exit = match out.status.code() {
            Some(0) => Exit::Done,
            Some(1) => Exit::Bad,
            _ => return Err(failed(&program, &out)),
        };
        let text = String::from_utf8_lossy(&out.stdout);
        let report = if json {
            let value: Value =
                serde_json::from_slice(&out.stdout).map_err(|_| failed(&program, &out))?;
            Report::new(value, "")
        } else {
            Report::new(Value::Null, text)
        };
        Ok(report.exit(exit))
    }
}

/// Beside ourselves: of the same release.
fn found() -> PathBuf {
    std::env::current_exe()
        .map(|own| own.with_file_name(PROGRAM))
        .ok()
        .filter(|beside| beside.is_file())
        .unwrap_or_else(|| PROGRAM.into())
}

fn missing(program: &Path, e: &std::io::Error) -> Failure {
    Failure::new(
        Exit::Absent,
        "no-countersignd",
        format!("{}: {e}", program.display()),
    )
    .hint("run it on the service's machine, or say where countersignd is with --countersignd")
}

fn failed(program: &Path, out: &Output) -> Failure {
    let said = String::from_utf8_lossy(&out.stderr);
    let said: String = said.trim().chars().take(2000).collect();
    let message = format!("{} ended with {}: {said}", program.display(), out.status);
    Failure::new(Exit::Internal, "doctor", message)
        .hint("is it of the same release as this program?")
}
