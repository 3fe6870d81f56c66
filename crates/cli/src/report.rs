//! What a command that worked has to say.

use crate::exit::Exit;
use crate::table;
use serde::Serialize;
use serde_json::Value;

/// A result: for programs, for people, and the exit code (a check that worked may still have found
/// something bad).
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Exit code.
    pub exit: Exit,
    /// With `--json`.
    pub json: Value,
    /// Without.
    pub text: String,
}

impl Report {
    /// Done, with both forms.
    pub fn new(json: impl Serialize, text: impl Into<String>) -> Self {
        Self {
            exit: Exit::Done,
            json: serde_json::to_value(json).unwrap_or_default(),
            text: text.into(),
        }
    }

    /// Everything was printed already, line by line.
    #[must_use]
    pub const fn printed(exit: Exit) -> Self {
        Self {
            exit,
            json: Value::Null,
            text: String::new(),
        }
    }

    /// Done; people read one line for each member.
    #[must_use]
    pub fn facts(json: Value) -> Self {
        let text = table::facts(&json);
        Self::new(json, text)
    }

    /// Done; people read a table of these members.
    #[must_use]
    pub fn rows(json: Value, columns: &[&str]) -> Self {
        let text = table::rows(&json, columns);
        Self::new(json, text)
    }

    /// With another exit code.
    #[must_use]
    pub fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// With a line before.
    #[must_use]
    pub fn headed(mut self, line: impl AsRef<str>) -> Self {
        self.text = format!("{}\n{}", line.as_ref(), self.text);
        self
    }
}

/// Prints one line of JSON on standard output: one of many results.
pub fn line(json: &Value) {
    crate::out(&json.to_string());
}
