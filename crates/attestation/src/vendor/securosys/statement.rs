//! The Primus HSM's key statement: XML to typed values, without judgement.
//!
//! The module signs the file's exact bytes, so they are read once and never written again. XML has
//! many ways to say a thing twice; none is taken: no DTD (hence no entities), no comments,
//! processing instructions or namespaces, no element or attribute twice, no text beside elements.

use crate::time::UnixSeconds;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use roxmltree::{Document, Node, ParsingOptions};
use std::collections::BTreeMap;

/// The largest statement read. A real one has 1.5 KB; a smart key's policy adds some.
pub const MAX_STATEMENT: usize = 256 * 1024;
/// The most XML nodes of a statement.
const MAX_NODES: u32 = 8192;
/// The root element.
const ROOT: &str = "private_key";

/// Why a statement could not be read. Retrying cannot help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    /// More than [`MAX_STATEMENT`].
    #[error("statement: {0} bytes, more than {MAX_STATEMENT}")]
    TooLarge(usize),
    /// Not UTF-8.
    #[error("statement: not UTF-8")]
    NotUtf8,
    /// Not well-formed XML, or with a DTD.
    #[error("statement: {0}")]
    NotXml(String),
    /// Another root element.
    #[error("statement: the root element is {0}, not {ROOT}")]
    Root(String),
    /// XML that says nothing or hides something.
    #[error("statement: {0} has no place in it")]
    NotPlain(&'static str),
    /// An element is missing.
    #[error("statement: {0} is missing")]
    Missing(&'static str),
    /// An element stands twice.
    #[error("statement: {0} stands twice")]
    Duplicate(String),
    /// An element's text is not of its type.
    #[error("statement: {0} is malformed")]
    Value(String),
}

/// A statement about one private key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// How the key came to be: `generated`, `imported` …
    pub creation: Option<String>,
    /// Attributes of the root element other than `creation`: name and value.
    pub root_attributes: BTreeMap<String, String>,
    /// The key's label.
    pub label: String,
    /// When the key was created.
    pub create_time: UnixSeconds,
    /// When this statement was made.
    pub attest_time: UnixSeconds,
    /// How often the key was used, where the key counts.
    pub key_use_count: Option<u64>,
    /// `RSA`, `EC`, `ED` …
    pub algorithm: String,
    /// The same, as the OID of the SubjectPublicKeyInfo, dotted.
    pub algorithm_oid: String,
    /// Of RSA keys, in bits.
    pub key_size: Option<u32>,
    /// Of EC keys, dotted.
    pub curve_oid: Option<String>,
    /// DER SubjectPublicKeyInfo.
    pub public_key: Vec<u8>,
    /// The flags under `attributes`, all of them.
    pub attributes: BTreeMap<String, bool>,
    /// The policy of a smart key.
    pub policy: Option<Policy>,
    /// Elements that this version does not know, by path.
    pub unknown: Vec<String>,
}

/// What the policy block of a smart key says, as far as a verdict needs it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// The rules that name approvals: `rule_use`, `rule_modify` …
    pub rules: Vec<String>,
}

/// Whether `bytes` begin as a key statement does: XML whose first element is `private_key`.
#[must_use]
pub fn looks_like(bytes: &[u8]) -> bool {
    let head = bytes.get(..1024).unwrap_or(bytes);
    let Some(start) = head.iter().position(|b| !b.is_ascii_whitespace()) else {
        return false;
    };
    let text = String::from_utf8_lossy(head.get(start..).unwrap_or_default());
    text.trim_start_matches('\u{feff}').starts_with('<') && text.contains(&format!("<{ROOT}"))
}

/// Reads a statement.
///
/// # Errors
/// If it is not exactly the structure described above.
pub fn parse(bytes: &[u8]) -> Result<Statement, StatementError> {
    if bytes.len() > MAX_STATEMENT {
        return Err(StatementError::TooLarge(bytes.len()));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| StatementError::NotUtf8)?;
    let options = ParsingOptions {
        // No DTD, so no entity is ever defined: neither expanded nor fetched.
        allow_dtd: false,
        nodes_limit: MAX_NODES,
        ..ParsingOptions::default()
    };
    let document = Document::parse_with_options(text, options)
        .map_err(|e| StatementError::NotXml(e.to_string()))?;
    plain(&document)?;
    // Its text would be read as if it stood there without the wrapping.
    if text.contains("<![CDATA[") {
        return Err(StatementError::NotPlain("a CDATA section"));
    }
    let root = document.root_element();
    if root.tag_name().name() != ROOT {
        let name = root.tag_name().name().chars().take(64).collect();
        return Err(StatementError::Root(name));
    }
    statement(root)
}

/// Refuses what would let two readers see two statements.
fn plain(document: &Document<'_>) -> Result<(), StatementError> {
    for node in document.descendants() {
        if node.is_comment() {
            return Err(StatementError::NotPlain("a comment"));
        }
        if node.is_pi() {
            return Err(StatementError::NotPlain("a processing instruction"));
        }
        let named = |namespace: Option<&str>| namespace.is_some();
        if node.is_element()
            && (named(node.tag_name().namespace())
                || node.attributes().any(|a| named(a.namespace()))
                || node.namespaces().any(|n| n.name() != Some("xml")))
        {
            return Err(StatementError::NotPlain("a namespace"));
        }
        // Text belongs to elements that have nothing but text.
        let stray = |n: Node<'_, '_>| n.text().is_some_and(|t| !t.trim().is_empty());
        if node.is_text()
            && stray(node)
            && node
                .parent()
                .is_none_or(|p| p.children().any(|c| c.is_element()))
        {
            return Err(StatementError::NotPlain("text beside elements"));
        }
    }
    Ok(())
}

fn statement(root: Node<'_, '_>) -> Result<Statement, StatementError> {
    let mut fields = Fields::of(root, ROOT)?;
    let mut root_attributes: BTreeMap<String, String> = root
        .attributes()
        .map(|a| (a.name().to_owned(), a.value().to_owned()))
        .collect();
    let statement = Statement {
        creation: root_attributes.remove("creation"),
        root_attributes,
        label: fields.text("label")?.unwrap_or_default(),
        create_time: fields.time("create_time")?,
        attest_time: fields.time("attest_time")?,
        key_use_count: fields.number("key_use_count")?,
        algorithm: fields.required("algorithm")?,
        algorithm_oid: fields.required("algorithm_oid")?,
        key_size: fields.number("key_size")?,
        curve_oid: fields.text("curve_oid")?,
        public_key: base64(&fields.required("public_key")?)
            .ok_or_else(|| StatementError::Value("public_key".to_owned()))?,
        attributes: flags(
            fields
                .element("attributes")
                .ok_or(StatementError::Missing("attributes"))?,
        )?,
        policy: fields.element("policy").map(policy).transpose()?,
        unknown: {
            // Names of the key and of its derivation: neither says what may be done with it.
            fields.text("uuid")?;
            fields.derivation()?;
            fields.left()
        },
    };
    Ok(statement)
}

/// The elements under one, each taken once.
struct Fields<'a, 'i> {
    under: &'static str,
    elements: BTreeMap<String, Node<'a, 'i>>,
}

impl<'a, 'i> Fields<'a, 'i> {
    fn of(parent: Node<'a, 'i>, under: &'static str) -> Result<Self, StatementError> {
        let mut elements = BTreeMap::new();
        for child in parent.children().filter(Node::is_element) {
            let name = child.tag_name().name().to_owned();
            if elements.insert(name.clone(), child).is_some() {
                return Err(StatementError::Duplicate(name));
            }
        }
        Ok(Self { under, elements })
    }

    fn element(&mut self, name: &'static str) -> Option<Node<'a, 'i>> {
        self.elements.remove(name)
    }

    fn text(&mut self, name: &'static str) -> Result<Option<String>, StatementError> {
        self.element(name).map(|e| leaf(e, name)).transpose()
    }

    fn required(&mut self, name: &'static str) -> Result<String, StatementError> {
        self.text(name)?.ok_or(StatementError::Missing(name))
    }

    fn number<N: std::str::FromStr>(
        &mut self,
        name: &'static str,
    ) -> Result<Option<N>, StatementError> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        // `from_str` takes a sign; the module writes none.
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let number = digits.then(|| text.parse().ok()).flatten();
        number
            .map(Some)
            .ok_or_else(|| StatementError::Value(name.to_owned()))
    }

    fn time(&mut self, name: &'static str) -> Result<UnixSeconds, StatementError> {
        let text = self.required(name)?;
        let time = text.parse::<der::DateTime>();
        time.map(UnixSeconds::from_der)
            .map_err(|_| StatementError::Value(name.to_owned()))
    }

    /// `derivation_value` may say with an attribute by which method it is to be derived.
    fn derivation(&mut self) -> Result<(), StatementError> {
        let Some(element) = self.element("derivation_value") else {
            return Ok(());
        };
        let plain = element.attributes().all(|a| a.name() == "type")
            && !element.children().any(|c| c.is_element());
        plain
            .then_some(())
            .ok_or_else(|| StatementError::Value("derivation_value".to_owned()))
    }

    fn left(self) -> Vec<String> {
        let Self { under, elements } = self;
        let name = |n: String| format!("{under}/{}", n.chars().take(64).collect::<String>());
        elements.into_keys().map(name).collect()
    }
}

/// The text of an element that has nothing else.
fn leaf(element: Node<'_, '_>, name: &str) -> Result<String, StatementError> {
    if element.attributes().len() > 0 || element.children().any(|c| c.is_element()) {
        return Err(StatementError::Value(name.to_owned()));
    }
    Ok(element.text().unwrap_or_default().to_owned())
}

/// `true` and `false`, in these letters.
fn flags(element: Node<'_, '_>) -> Result<BTreeMap<String, bool>, StatementError> {
    if element.attributes().len() > 0 {
        return Err(StatementError::Value("attributes".to_owned()));
    }
    let fields = Fields::of(element, "attributes")?;
    let flag = |(name, e): (String, Node<'_, '_>)| {
        let value = match leaf(e, &name)?.as_str() {
            "true" => true,
            "false" => false,
            _ => return Err(StatementError::Value(name)),
        };
        Ok((name, value))
    };
    fields.elements.into_iter().map(flag).collect()
}

/// The elements a policy has, each with those that may stand in it.
const POLICY: &[(&str, &[&str])] = &[
    (
        "policy",
        &[
            "key_status",
            "rule_use",
            "rule_block",
            "rule_unblock",
            "rule_modify",
        ],
    ),
    ("key_status", &["blocked"]),
    ("rule_use", &["token"]),
    ("rule_block", &["token"]),
    ("rule_unblock", &["token"]),
    ("rule_modify", &["token"]),
    ("token", &["timelock", "timeout", "group"]),
    ("group", &["quorum", "approval"]),
];

/// A policy can only hinder a key's use, so it is checked for form and its rules are named.
fn policy(element: Node<'_, '_>) -> Result<Policy, StatementError> {
    for node in element.descendants().filter(Node::is_element) {
        let name = node.tag_name().name();
        let allowed = POLICY
            .iter()
            .find(|(n, _)| *n == name)
            .map_or(&[][..], |(_, c)| c);
        for child in node.children().filter(Node::is_element) {
            let child = child.tag_name().name();
            if !allowed.contains(&child) {
                let path: String = format!("{name}/{child}").chars().take(128).collect();
                return Err(StatementError::Value(path));
            }
        }
    }
    let rules = Fields::of(element, "policy")?.elements.into_keys();
    Ok(Policy {
        rules: rules.filter(|n| n.starts_with("rule_")).collect(),
    })
}

/// Standard base64 with padding, in one line or several.
fn base64(text: &str) -> Option<Vec<u8>> {
    let text: String = text.split_ascii_whitespace().collect();
    STANDARD.decode(text).ok()
}

#[cfg(test)]
#[path = "statement_tests.rs"]
mod tests;
