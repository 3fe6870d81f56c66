//! `countersign log show`.

use crate::failure::{Failure, Result};
use crate::folder::Folder;
use crate::report::Report;
use crate::table::printable;
use clap::Args;
use countersign_signing_log::Leaf;
use countersign_signing_log::audit::LogSource as _;
use countersign_signing_log::checkpoint::Checkpoint;
use countersign_signing_log::details::Details;
use countersign_signing_log::note::Note;
use serde_json::{Map, Value, json};
use std::path::PathBuf;

/// Arguments of `log show`.
#[derive(Debug, Args)]
pub struct Show {
    /// A folder made by `log download`.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// First leaf.
    #[arg(long, default_value_t = 0, value_name = "INDEX")]
    from: u64,
    /// Most leaves.
    #[arg(long, default_value_t = 1000, value_name = "COUNT")]
    limit: u64,
}

impl Show {
    pub(super) fn run(self) -> Result<Report> {
        let folder = Folder::at(&self.dir);
        folder.origin()?;
        let note = folder
            .checkpoint()
            .map_err(|e| Failure::bad("checkpoint", e))?;
        // Showing is not checking: the head's size is believed here, `log audit` proves it.
        let size = Note::parse(&note)
            .ok()
            .and_then(|n| Checkpoint::parse(n.unverified_text()).ok())
            .ok_or_else(|| Failure::bad("checkpoint", "the checkpoint cannot be read"))?
            .size;
        let details = folder.details()?;
        let mut leaves = Vec::new();
        let mut text = String::new();
        let end = size.min(self.from.saturating_add(self.limit));
        for index in self.from..end {
            let bytes = folder.leaf(index, size)?;
            let opened = details.get(&index);
            let shown = shown(index, &bytes, opened);
            text.push_str(&line(&shown));
            leaves.push(shown);
        }
        if end < size {
            text.push_str(&format!("… {} more leaves\n", size - end));
        }
        Ok(Report::new(json!({"size": size, "leaves": leaves}), text))
    }
}

fn shown(index: u64, bytes: &[u8], details: Option<&Details>) -> Value {
    let leaf: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let mut out = Map::new();
    out.insert("index".to_owned(), index.into());
    let time = leaf.get("time").and_then(Value::as_i64).unwrap_or(0);
    out.insert("when".to_owned(), when(time).into());
    if let (Some(details), Ok(decoded)) = (details, Leaf::decode(bytes)) {
        let state = match details.check(&decoded) {
            Ok(()) => {
                let mut opened = Map::new();
                for (label, opening) in details.openings() {
                    let value = opening
                        .text()
                        .map_or_else(|| hex::encode(&opening.value), str::to_owned);
                    opened.insert(label.to_owned(), value.into());
                }
                Value::Object(opened)
            }
            Err(e) => format!("these details are not this leaf's: {e}").into(),
        };
        out.insert("details".to_owned(), state);
    }
    out.insert("leaf".to_owned(), leaf);
    Value::Object(out)
}

/// One line for a leaf; members that details open are shown open.
fn line(shown: &Value) -> String {
    let leaf = shown.get("leaf");
    let get = |name: &str| leaf.and_then(|l| l.get(name));
    let opened = shown.get("details").and_then(Value::as_object);
    let mut parts = Vec::new();
    for (name, value) in leaf.and_then(Value::as_object).into_iter().flatten() {
        if matches!(name.as_str(), "v" | "type" | "time" | "node" | "epoch") {
            continue;
        }
        let label = if name == "by" { "caller" } else { name };
        let value = opened.and_then(|o| o.get(label)).unwrap_or(value);
        let value = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        parts.push(format!("{name}={}", printable(&value)));
    }
    let warning = match shown.get("details") {
        Some(Value::String(s)) => format!("  ({s})"),
        _ => String::new(),
    };
    format!(
        "{:>6}  {}  {:<14}  {}{warning}\n",
        shown.get("index").and_then(Value::as_u64).unwrap_or(0),
        shown.get("when").and_then(Value::as_str).unwrap_or(""),
        printable(get("type").and_then(Value::as_str).unwrap_or("?")),
        parts.join(" ")
    )
}

/// RFC 3339 of microseconds since 1970.
pub(super) fn when(micros: i64) -> String {
    jiff::Timestamp::from_microsecond(micros).map_or_else(|_| micros.to_string(), |t| t.to_string())
}
