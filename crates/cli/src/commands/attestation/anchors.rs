//! `countersign attestation anchors list`.

use crate::failure::Result;
use crate::report::Report;
use clap::Subcommand;
use countersign_attestation::anchors::{Row, anchor_set_version, rows};
use serde_json::json;

/// Subcommands of `attestation anchors`.
#[derive(Debug, Subcommand)]
pub enum Anchors {
    /// Every key that is pinned, with where it was published.
    #[command(after_help = "\
A key is trusted for its maker's product line and no other. The set's version is a hash over every
row; it is in every result.

Examples:
  countersign attestation anchors list
  countersign attestation anchors list --json")]
    List,
}

impl Anchors {
    pub(super) fn run(self) -> Result<Report> {
        let Self::List = self;
        let version = anchor_set_version();
        let json: Vec<_> = rows()
            .map(|row| {
                let mut row_json = serde_json::to_value(row).unwrap_or_default();
                if let Some(members) = row_json.as_object_mut() {
                    members.insert("spki_sha256".to_owned(), row.spki_sha256().into());
                }
                row_json
            })
            .collect();
        let mut text = format!("{} anchors, set {version}\n", json.len());
        for row in rows() {
            text.push_str(&one(row));
        }
        let json = json!({"anchor_set_version": version, "anchors": json});
        Ok(Report::new(json, text))
    }
}

fn one(row: &Row) -> String {
    let mut lines = vec![
        (
            "name",
            match row.name {
                "" => "(a bare key)".to_owned(),
                n => n.to_owned(),
            },
        ),
        ("role", row.role.as_str().to_owned()),
        ("key", format!("SHA-256 of SPKI {}", row.spki_sha256())),
    ];
    for c in row.certificates {
        lines.push(("certificate", format!("SHA-256 {c}")));
    }
    if !row.not_before.is_empty() {
        lines.push((
            "validity",
            format!("{} to {}", row.not_before, row.not_after),
        ));
    }
    lines.push(("published", row.published.to_owned()));
    let second = if row.second_source {
        "agrees"
    } else {
        "none was found"
    };
    lines.push(("second source", second.to_owned()));
    if !row.note.is_empty() {
        lines.push(("note", row.note.to_owned()));
    }
    let body: String = lines
        .iter()
        .map(|(n, v)| format!("  {n:13}  {v}\n"))
        .collect();
    format!("\n{}, {}\n{body}", row.vendor, row.line)
}
