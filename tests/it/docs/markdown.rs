//! Just enough of Markdown: pages, fenced blocks, code spans.

use std::path::{Path, PathBuf};

/// A page.
pub struct Page {
    /// Relative to the source tree.
    pub path: String,
    pub text: String,
    pub blocks: Vec<Block>,
}

/// A fenced block. Its info string is the language and then tags of ours, which no reader sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Line of its first line, from 1.
    pub line: usize,
    pub language: String,
    /// Not run, because.
    pub skip: Option<String>,
    /// Runs beside what follows; ready when it has printed a line.
    pub background: bool,
    /// As whom.
    pub role: Option<String>,
    /// A device login, which this person approves.
    pub approve: Option<String>,
    /// The exit code it must end with.
    pub exit: i32,
    /// Not commands, but the content of this file.
    pub file: Option<String>,
    pub text: String,
}

/// README.md and all pages below docs/.
pub fn documentation(root: &Path) -> Vec<Page> {
    let mut paths = vec!["README.md".to_owned()];
    paths.extend(below(root, "docs"));
    paths.iter().map(|p| Page::read(root, p)).collect()
}

/// All Markdown files below a folder, relative to the tree, sorted.
pub fn below(root: &Path, folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::from(folder)];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(root.join(&dir)).expect("a folder") {
            let entry = entry.expect("an entry");
            let path = dir.join(entry.file_name());
            let name = path
                .to_str()
                .expect("UTF-8")
                .trim_start_matches("./")
                .to_owned();
            let kind = entry.file_type().expect("its type");
            if kind.is_dir() && !ignored(&name) {
                open.push(path);
            } else if kind.is_file() && name.ends_with(".md") {
                found.push(name);
            }
        }
    }
    found.sort();
    found
}

fn ignored(name: &str) -> bool {
    let top = name.split('/').next().unwrap_or_default();
    top == "target" || top == "demo-out" || top.starts_with('.') || name.ends_with("/target")
}

impl Page {
    pub fn read(root: &Path, path: &str) -> Self {
        let text =
            std::fs::read_to_string(root.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
        Self::parse(path, &text)
    }

    pub fn parse(path: &str, text: &str) -> Self {
        let mut blocks: Vec<Block> = Vec::new();
        let mut open: Option<Block> = None;
        for (i, line) in text.lines().enumerate() {
            match (&mut open, line.strip_prefix("```")) {
                (Some(block), None) => {
                    block.text.push_str(line);
                    block.text.push('\n');
                }
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (None, Some(info)) => open = Some(Block::opened(path, i + 2, info)),
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{path}: the last block has no end");
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            blocks,
        }
    }

    /// Lines outside of blocks, with their numbers.
    pub fn prose(&self) -> impl Iterator<Item = (usize, &str)> {
        let mut inside = false;
        self.text.lines().enumerate().filter_map(move |(i, line)| {
            if line.starts_with("```") {
                inside = !inside;
                return None;
            }
            (!inside).then_some((i + 1, line))
        })
    }

    /// Paragraphs of the prose, each as one line, with the number of its first.
    pub fn paragraphs(&self) -> Vec<(usize, String)> {
        let mut all: Vec<(usize, String)> = Vec::new();
        let mut next = 0;
        for (number, line) in self.prose().filter(|(_, l)| !l.trim().is_empty()) {
            match all.last_mut() {
                Some((_, text)) if number == next => {
                    text.push(' ');
                    text.push_str(line.trim());
                }
                _ => all.push((number, line.trim().to_owned())),
            }
            next = number + 1;
        }
        all
    }

    /// Code spans of the prose, with the lines of their paragraphs.
    pub fn spans(&self) -> Vec<(usize, String)> {
        let mut spans = Vec::new();
        for (number, text) in self.paragraphs() {
            let parts: Vec<_> = text.split('`').collect();
            assert!(
                parts.len() % 2 == 1,
                "{}:{number}: a code span has no end",
                self.path
            );
            spans.extend(
                parts
                    .into_iter()
                    .skip(1)
                    .step_by(2)
                    .map(|s| (number, s.to_owned())),
            );
        }
        spans
    }
}

impl Block {
    fn opened(path: &str, line: usize, info: &str) -> Self {
        let mut words = info.split_whitespace();
        let mut block = Self {
            line,
            language: words.next().unwrap_or_default().to_owned(),
            skip: None,
            background: false,
            role: None,
            approve: None,
            exit: 0,
            file: None,
            text: String::new(),
        };
        for word in words {
            match word.split_once('=') {
                Some(("skip", why)) if !why.is_empty() => block.skip = Some(why.to_owned()),
                Some(("as", who)) => block.role = Some(who.to_owned()),
                Some(("approve", who)) => block.approve = Some(who.to_owned()),
                Some(("file", name)) => block.file = Some(name.to_owned()),
                Some(("exit", code)) => block.exit = code.parse().expect("an exit code"),
                None if word == "background" => block.background = true,
                _ => panic!("{path}:{line}: unknown tag {word}"),
            }
        }
        block
    }
}

#[test]
fn blocks_have_lines_and_tags() {
    let page = Page::parse(
        "x.md",
        "a `b c`\n```sh as=job exit=3\nfalse\n```\n```yaml\nx: `y`\n```\n`d`\n",
    );
    assert_eq!(page.blocks.len(), 2);
    assert_eq!((page.blocks[0].line, page.blocks[0].exit), (3, 3));
    assert_eq!(page.blocks[0].role.as_deref(), Some("job"));
    let spans: Vec<_> = page.spans().into_iter().map(|(_, s)| s).collect();
    assert_eq!(spans, ["b c", "d"]);
    let page = Page::parse("x.md", "a `b\nc` d\n\n`e`\n");
    assert_eq!(page.spans(), [(1, "b c".to_owned()), (4, "e".to_owned())]);
}
