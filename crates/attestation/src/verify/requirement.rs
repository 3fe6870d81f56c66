//! Single demands, as `--require` and a tenant's policy write them.

use crate::result::CertifiedLevel;
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// Longest maximum age, in seconds: longer than any certificate lives.
pub(super) const LONGEST_AGE_S: u64 = 100 * 365 * 86_400;

/// A certified level, written `140-2:2`, `140-3:2` or `cc:4`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Level(pub CertifiedLevel);

impl From<Level> for String {
    fn from(l: Level) -> Self {
        l.0.to_string()
    }
}

impl TryFrom<String> for Level {
    type Error = PolicyError;
    fn try_from(text: String) -> Result<Self, PolicyError> {
        let bad = || PolicyError::Level(text.clone());
        let (standard, level) = text.split_once(':').ok_or_else(bad)?;
        let level: u8 = level.parse().map_err(|_| bad())?;
        let range = match standard {
            "140-2" | "140-3" => 1..=4,
            "cc" => 1..=7,
            _ => return Err(bad()),
        };
        if !range.contains(&level) {
            return Err(bad());
        }
        Ok(Self(CertifiedLevel {
            standard: standard.to_owned(),
            level,
        }))
    }
}

/// A policy or requirement that cannot be applied. Retrying cannot help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Not a requirement.
    #[error(
        "\"{0}\" is no requirement; there are sign-only, not-recoverable, serial=…, fips=140-2:2, method=2, format=…, vendor=…, fresh, max-age=30d"
    )]
    Requirement(String),
    /// Not a certified level.
    #[error("\"{0}\" is no certified level; write 140-2:2, 140-3:2 or cc:4")]
    Level(String),
    /// Not a policy.
    #[error("policy: {0}")]
    Malformed(String),
    /// A version that is not known.
    #[error("policy version {0} is not known; this build reads version 1")]
    Version(u8),
}

/// One requirement, as `--require` takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requirement {
    /// `sign-only`.
    SignOnly,
    /// `not-recoverable`: export is `never`.
    NotRecoverable,
    /// `serial=…`.
    Serial(String),
    /// `fips=140-2:2`, also `140-3:…` and `cc:…`.
    Certified(Level),
    /// `method=2`.
    Method(u8),
    /// `format=…`.
    Format(String),
    /// `vendor=…`.
    Vendor(String),
    /// `fresh`.
    Fresh,
    /// `max-age=30d`, in seconds; also `12h`, `90m`, `600s`.
    MaxAge(u64),
}

impl FromStr for Requirement {
    type Err = PolicyError;
    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let bad = || PolicyError::Requirement(text.to_owned());
        Ok(match text.split_once('=') {
            None => match text {
                "sign-only" => Self::SignOnly,
                "not-recoverable" => Self::NotRecoverable,
                "fresh" => Self::Fresh,
                _ => return Err(bad()),
            },
            Some(("serial", v)) if !v.is_empty() => Self::Serial(v.to_owned()),
            Some(("fips" | "certified", v)) => Self::Certified(Level::try_from(v.to_owned())?),
            Some(("method", v)) => match v.parse() {
                Ok(n @ 1..=7) => Self::Method(n),
                _ => return Err(bad()),
            },
            Some(("format", v)) if !v.is_empty() => Self::Format(v.to_owned()),
            Some(("vendor", v)) if !v.is_empty() => Self::Vendor(v.to_owned()),
            Some(("max-age", v)) => Self::MaxAge(seconds(v).ok_or_else(bad)?),
            Some(_) => return Err(bad()),
        })
    }
}

/// `30d`, `12h`, `90m` or `600s`: at least a second.
fn seconds(text: &str) -> Option<u64> {
    let unit = text.chars().next_back()?;
    let each = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return None,
    };
    let number = text.strip_suffix(unit)?;
    if !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let all = number.parse::<u64>().ok()?.checked_mul(each)?;
    (1..=LONGEST_AGE_S).contains(&all).then_some(all)
}

/// As [`seconds`] reads it, in the largest unit that says it exactly.
pub(super) fn age(s: u64) -> String {
    match s {
        s if s.is_multiple_of(86_400) => format!("{}d", s / 86_400),
        s if s.is_multiple_of(3600) => format!("{}h", s / 3600),
        s if s.is_multiple_of(60) => format!("{}m", s / 60),
        s => format!("{s}s"),
    }
}
