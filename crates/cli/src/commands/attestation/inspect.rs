//! `countersign attestation inspect`.

use super::inputs;
use crate::failure::Result;
use crate::report::Report;
use crate::table::printable;
use clap::Args;
use countersign_attestation::verify::{Inspection, Said, inspect};
use std::path::PathBuf;

/// Arguments of `attestation inspect`.
#[derive(Debug, Args)]
pub struct Inspect {
    /// Files or folders: evidence, requests, certificates.
    #[arg(value_name = "FILE|DIR", required = true)]
    files: Vec<PathBuf>,
}

impl Inspect {
    pub(super) fn run(self) -> Result<Report> {
        let files = inputs::all(&self.files, &[])?;
        let files: Vec<_> = files.iter().map(inputs::Read::file).collect();
        let found = inspect(&files);
        let text = page(&found);
        Ok(Report::new(&found, text))
    }
}

fn page(found: &Inspection) -> String {
    let mut out = String::from("NOT VERIFIED: this is what the files say, whoever wrote them.\n");
    section(&mut out, "Evidence that is recognised", &found.evidence);
    section(&mut out, "Parts", &found.parts);
    if !found.problems.is_empty() {
        out.push_str("\nCould not be read\n");
        for p in &found.problems {
            out.push_str(&format!("  {}\n", printable(p)));
        }
    }
    out
}

fn section(out: &mut String, title: &str, items: &[Said]) {
    out.push_str(&format!("\n{title}\n"));
    if items.is_empty() {
        out.push_str("  none\n");
    }
    for item in items {
        out.push_str(&format!(
            "  {}: {}\n",
            printable(&item.name),
            printable(&item.what)
        ));
        let names = item.says.iter().map(|(n, _)| n.chars().count());
        let width = names.max().unwrap_or(0).min(40);
        for (name, value) in &item.says {
            let name = printable(name);
            out.push_str(&format!("    {name:width$}  {}\n", printable(value)));
        }
    }
}
