//! Command lines of our programs, wherever they stand on a page, given to the program's own parser.

use super::markdown::Page;
use crate::support::program;
use std::process::{Command, Output};

const PROGRAMS: [&str; 4] = [
    "countersign",
    "countersignd",
    "countersign-demo-ca",
    "countersign-testkit",
];
/// Takes the place of what a shell would fill in: it is an id, a name, a path and a text.
const FILLED: &str = "01900000-0000-7000-8000-000000000000";

/// One command line.
pub struct Line {
    /// Page and line.
    pub place: String,
    /// In a fenced block, not in prose.
    pub in_block: bool,
    /// Program first.
    pub words: Vec<String>,
}

/// All on a page.
pub fn of(page: &Page) -> Vec<Line> {
    let mut lines = Vec::new();
    for block in page
        .blocks
        .iter()
        .filter(|b| ["sh", "yaml"].contains(&b.language.as_str()))
    {
        // A backslash at the end of a line joins it with the next.
        for logical in block
            .text
            .replace("\\\n", " ")
            .lines()
            .filter(|l| !l.trim_start().starts_with('#'))
        {
            lines.extend(in_text(logical).into_iter().map(|words| Line {
                place: format!("{}:{}", page.path, block.line),
                in_block: true,
                words,
            }));
        }
    }
    for (number, span) in page.spans() {
        // In prose a program's name at the beginning makes it a command.
        if PROGRAMS.iter().any(|p| span.starts_with(&format!("{p} "))) {
            lines.extend(in_text(&span).into_iter().map(|words| Line {
                place: format!("{}:{number}", page.path),
                in_block: false,
                words,
            }));
        }
    }
    lines
}

impl Line {
    /// The program's parser, which stops at the first thing it does not know. With `--help` last,
    /// nothing is done.
    pub fn check(&self) -> Result<(), String> {
        let out = self.start(&["--help"]);
        if out.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&out.stderr).into_owned())
        }
    }

    /// The command itself, run by somebody who is not logged in, against no service.
    pub fn exit_code_of_nobody(&self) -> i32 {
        self.start(&[]).status.code().unwrap_or(-1)
    }

    fn start(&self, more: &[&str]) -> Output {
        let home = tempfile::tempdir().expect("a folder");
        let (name, args) = self.words.split_first().expect("a program");
        Command::new(program(name))
            .env_clear()
            .env("COUNTERSIGN_HOME", home.path())
            .env("COUNTERSIGN_SERVER", "https://127.0.0.1:9")
            .env("COUNTERSIGN_TENANT", "acme")
            .args(args)
            .args(more)
            .output()
            .expect("the program runs")
    }
}

/// What stands before a command, if not the line's beginning: of a shell, of YAML.
const BEFORE: [&str; 6] = ["(", "|", "&&", ";", "-", "run:"];

/// The commands in one line of text: wherever a program's name stands where a command does.
fn in_text(text: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for program in PROGRAMS {
        for (at, _) in text.match_indices(program) {
            let before = text[..at].trim_end();
            let rest = &text[at + program.len()..];
            let stands = before.is_empty() || BEFORE.iter().any(|b| before.ends_with(b));
            if stands && rest.starts_with(' ') && !text[..at].ends_with('-') {
                let mut line = vec![program.to_owned()];
                line.extend(words(rest));
                found.push(line);
            }
        }
    }
    found
}

/// The words up to where the command ends: an operator, a comment, a closing parenthesis.
fn words(text: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut depth = 0_u32;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '$') if chars.peek() == Some(&'(') => {
                depth += 1;
                word.get_or_insert_default().push('$');
                chars.next();
            }
            (None, ')') if depth > 0 => depth -= 1,
            (None, c) if depth > 0 => word.get_or_insert_default().push(c),
            (None, '|' | ';' | '&' | '>' | '<' | ')') => break,
            (None, '#') if word.is_none() => break,
            (None, c) if c.is_whitespace() => all.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    all.extend(word);
    all.retain(|w| w != "…");
    all.into_iter().map(filled).collect()
}

fn filled(word: String) -> String {
    if word.starts_with('$') || word == "ID" || word == "KEY" {
        FILLED.to_owned()
    } else {
        word
    }
}

#[test]
fn commands_are_found_where_a_shell_would() {
    let one = |text: &str| in_text(text).into_iter().next().map(|w| w.join(" "));
    assert_eq!(
        one("countersign keys list | wc -l").as_deref(),
        Some("countersign keys list")
    );
    assert_eq!(
        one("key=$(countersign --json keys create acme/x | cat)").as_deref(),
        Some("countersign --json keys create acme/x")
    );
    assert_eq!(
        one("  - countersign sign --url 'a b' x").as_deref(),
        Some("countersign sign --url a b x")
    );
    assert_eq!(
        one("countersign keys show \"$key\"").as_deref(),
        Some(&*format!("countersign keys show {FILLED}"))
    );
    assert_eq!(one("a --audience countersign --mfa-amr mfa"), None);
    assert_eq!(one("systemctl start countersignd"), None);
    assert_eq!(
        one("install target/release/countersignd /usr/local/bin/"),
        None
    );
}
