//! The JSON of the order protocol. Answers may carry members that are not read here.

use serde::{Deserialize, Serialize};

#[derive(Serialize)]
pub(crate) struct Open<'a> {
    pub(crate) subscriber: &'a str,
}

#[derive(Deserialize)]
pub(crate) struct Opened {
    pub(crate) order: String,
    pub(crate) nonce: String,
    pub(crate) audience: String,
}

#[derive(Serialize)]
pub(crate) struct Submit {
    pub(crate) csr: String,
    pub(crate) statement: String,
    pub(crate) evidence: Vec<String>,
}

#[derive(Serialize)]
pub(crate) struct Identify {
    pub(crate) endorsement: Vec<String>,
    pub(crate) attestation_key: String,
}

#[derive(Deserialize)]
pub(crate) struct Challenge {
    pub(crate) id_object: String,
    pub(crate) encrypted_secret: String,
}

#[derive(Serialize)]
pub(crate) struct Secret {
    pub(crate) secret: String,
}

#[derive(Deserialize)]
pub(crate) struct Certified {
    pub(crate) chain: Vec<String>,
}

#[derive(Deserialize)]
pub(crate) struct Step {
    pub(crate) status: String,
    #[serde(default)]
    pub(crate) chain: Vec<String>,
}

/// The stable code of a problem document, if it has one.
pub(crate) fn code(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Coded {
        code: String,
    }
    serde_json::from_slice::<Coded>(body).ok().map(|c| c.code)
}

#[derive(Default, Deserialize)]
pub(crate) struct Problem {
    #[serde(default)]
    pub(crate) title: Option<String>,
    #[serde(default)]
    pub(crate) detail: Option<String>,
    #[serde(default)]
    pub(crate) reasons: Vec<Reason>,
}

/// A failed check, or plain text.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum Reason {
    Check {
        check: String,
        seen: String,
        #[serde(default)]
        rule: String,
        #[serde(default)]
        source: String,
    },
    Text(String),
    Other(serde_json::Value),
}

impl Reason {
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Check {
                check,
                seen,
                rule,
                source,
            } => {
                let mut text = format!("{check}: {seen}");
                if !rule.is_empty() {
                    text.push_str(&format!("; rule: {rule}"));
                }
                if !source.is_empty() {
                    text.push_str(&format!(" ({source})"));
                }
                text
            }
            Self::Text(t) => t.clone(),
            Self::Other(v) => v.to_string(),
        }
    }
}
