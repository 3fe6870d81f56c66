//! Links and names of files.

use super::markdown::{Page, below};
use std::path::{Component, Path, PathBuf};

/// Folders whose files the pages name in code spans.
const FOLDERS: [&str; 9] = [
    "crates/",
    "docs/",
    "fuzz/",
    "hsm-config/",
    "migrations/",
    "openapi/",
    "packaging/",
    "scripts/",
    "tests/",
];

/// Relative links of all Markdown files that lead nowhere.
pub fn broken(root: &Path) -> Vec<String> {
    let mut broken = Vec::new();
    for path in below(root, ".") {
        let page = Page::read(root, &path);
        for (line, link) in links(&page) {
            if let Err(why) = follow(root, &page, &link) {
                broken.push(format!("{path}:{line}: {link}: {why}"));
            }
        }
    }
    broken
}

/// Files that code spans name.
pub fn named_files(page: &Page) -> Vec<String> {
    let spans = page.spans().into_iter().map(|(_, s)| s);
    spans
        .filter(|s| FOLDERS.iter().any(|f| s.starts_with(f)) && !s.contains([' ', '*', '<', '{']))
        .collect()
}

fn links(page: &Page) -> Vec<(usize, String)> {
    let mut all = Vec::new();
    for (number, paragraph) in page.paragraphs() {
        // Outside of code spans.
        let text: String = paragraph
            .split('`')
            .step_by(2)
            .collect::<Vec<_>>()
            .join("x");
        for part in text.split("](").skip(1) {
            let link = part.split(')').next().unwrap_or_default();
            if !link.contains("://") && !link.starts_with("mailto:") {
                all.push((number, link.to_owned()));
            }
        }
    }
    all
}

fn follow(root: &Path, page: &Page, link: &str) -> Result<(), String> {
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = if path.is_empty() {
        page.path.clone()
    } else {
        let folder = Path::new(&page.path).parent().unwrap_or(Path::new(""));
        tidy(&folder.join(path)).ok_or("leads out of the tree")?
    };
    if !path.is_empty() && !root.join(&target).exists() {
        return Err("is not there".to_owned());
    }
    if anchor.is_empty() {
        return Ok(());
    }
    let read;
    let other = if path.is_empty() {
        page
    } else {
        read = Page::read(root, &target);
        &read
    };
    let found = other
        .prose()
        .any(|(_, l)| l.starts_with('#') && slug(l) == anchor);
    if found {
        Ok(())
    } else {
        Err(format!("has no heading #{anchor}"))
    }
}

/// Without `..`, which must not lead out.
fn tidy(path: &Path) -> Option<String> {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(p) => out.push(p),
            Component::CurDir => {}
            Component::ParentDir if out.pop() => {}
            _ => return None,
        }
    }
    out.to_str().map(str::to_owned)
}

/// The anchor that Markdown renderers give a heading.
fn slug(heading: &str) -> String {
    heading
        .trim_start_matches('#')
        .trim()
        .to_lowercase()
        .chars()
        .filter_map(|c| match c {
            ' ' => Some('-'),
            c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
            _ => None,
        })
        .collect()
}

#[test]
fn a_broken_link_is_found() {
    let root = super::root();
    let page = Page::parse(
        "docs/x.md",
        "# A b's c\n[a](../README.md) [b](#a-bs-c) [c](nothing.md) [d](#no) `[e](f)`\n",
    );
    let found: Vec<_> = links(&page)
        .into_iter()
        .map(|(_, l)| follow(&root, &page, &l).is_ok())
        .collect();
    assert_eq!(found, [true, true, false, false]);
    assert_eq!(slug("## A b's `c`, d"), "a-bs-c-d");
}
