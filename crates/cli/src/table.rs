//! JSON for people: facts one to a line, lists as tables.

use countersign_core::text::disguises;
use serde_json::Value;

/// One line for each member; objects inside become `outer.inner`.
#[must_use]
pub fn facts(value: &Value) -> String {
    let mut lines = Vec::new();
    flatten("", value, &mut lines);
    let width = lines
        .iter()
        .map(|(k, _)| k.chars().count())
        .max()
        .unwrap_or(0);
    lines
        .into_iter()
        .map(|(k, v)| format!("{k:width$}  {v}\n"))
        .collect()
}

/// A table with one row for each object of a list (or of the only list in an object).
#[must_use]
pub fn rows(value: &Value, columns: &[&str]) -> String {
    let items = list(value);
    if items.is_empty() {
        return "none\n".to_owned();
    }
    let cells: Vec<Vec<String>> = items
        .iter()
        .map(|item| columns.iter().map(|c| cell(lookup(item, c))).collect())
        .collect();
    let heads = columns.iter().map(|c| c.replace(['_', '.'], " "));
    let table: Vec<Vec<String>> = std::iter::once(heads.collect()).chain(cells).collect();
    let widths: Vec<usize> = (0..columns.len())
        .map(|i| {
            let lengths = table
                .iter()
                .filter_map(|row| row.get(i))
                .map(|c| c.chars().count());
            lengths.max().unwrap_or(0)
        })
        .collect();
    let mut out = String::new();
    for row in table {
        let line: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(c, w)| format!("{c:w$}"))
            .collect();
        out.push_str(line.join("  ").trim_end());
        out.push('\n');
    }
    out
}

/// The list that an answer holds: itself, or its only list member.
#[must_use]
pub fn list(value: &Value) -> &[Value] {
    match value {
        Value::Array(items) => items,
        Value::Object(members) => members
            .values()
            .find_map(Value::as_array)
            .map_or(&[], Vec::as_slice),
        _ => &[],
    }
}

fn lookup<'a>(item: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(item, |v, name| v.get(name))
}

fn flatten(prefix: &str, value: &Value, lines: &mut Vec<(String, String)>) {
    match value {
        Value::Object(members) => {
            for (k, v) in members {
                let name = if prefix.is_empty() {
                    k.clone()
                } else {
                    format!("{prefix}.{k}")
                };
                flatten(&name, v, lines);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (i, v) in items.iter().enumerate() {
                flatten(&format!("{prefix}[{i}]"), v, lines);
            }
        }
        other => lines.push((prefix.to_owned(), cell(Some(other)))),
    }
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(s)) => printable(s),
        Some(Value::Array(items)) => {
            let items: Vec<_> = items.iter().map(|v| cell(Some(v))).collect();
            items.join(", ")
        }
        Some(other) => printable(&other.to_string()),
    }
}

/// Text from elsewhere: a name must not move the cursor, nor turn the line round.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if disguises(c) { '\u{fffd}' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tables_line_up_and_hold_no_control_characters() {
        let v = json!({"signers": [{"signer": "a", "key": {"state": "active"}}, {"signer": "long\u{1b}[2J"}]});
        assert_eq!(
            rows(&v, &["signer", "key.state"]),
            "signer    key state\na         active\nlong\u{fffd}[2J  -\n"
        );
        assert_eq!(rows(&json!([]), &["x"]), "none\n");
    }

    #[test]
    fn facts_reach_inside() {
        let v = json!({"name": "acme", "log": {"size": 3}, "roles": ["admin"]});
        assert_eq!(facts(&v), "log.size  3\nname      acme\nroles     admin\n");
    }
}
