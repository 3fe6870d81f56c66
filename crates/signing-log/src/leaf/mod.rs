//! A leaf: the exact bytes of one JSON line, schema version 1.
//!
//! There is one way to write each leaf: fixed key order, no spaces, absent members left out. Reading
//! is strict: bytes that this crate would not have written are refused, so that two readers can
//! never see two meanings in one leaf.
//!
//! ```json
//! {"v":1,"type":"outcome","time":1764000000000000,"of":7,"result":"signed","signature_sha256":"…"}
//! ```
//!
//! `time` is microseconds since 1970. Leaves of the tenant log may say which `request` caused them
//! and `by` whom (a commitment under the label `caller`); an authorisation has members of its own
//! for that.

mod bodies;
mod bounds;
mod words;

pub use bodies::*;
pub use words::*;

use crate::commitment::{
    Commitment, LABEL_ARTIFACT, LABEL_CALLER, LABEL_DETAIL, LABEL_SUBJECT, LABEL_TBS,
};
use crate::merkle;
use std::io::Write as _;

/// The schema version written and read.
pub const VERSION: u8 = 1;
/// The longest leaf: an entry bundle counts in 16 bits (tlog-tiles).
pub const MAX_LEAF: usize = 65_535;
/// The longest string in a leaf, in bytes.
pub const MAX_STRING: usize = 1024;
/// The longest list in a leaf.
pub const MAX_LIST: usize = 256;

/// One record of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// When it was written, in microseconds since 1970; never less than in the leaf before.
    pub time: i64,
    /// The request that caused it: 1 to 64 of `A-Z a-z 0-9 . _ -`. Not with an authorisation, which
    /// has its own.
    pub request: Option<String>,
    /// Who caused it: a commitment under [`LABEL_CALLER`]. Not with an authorisation.
    pub by: Option<Commitment>,
    /// What happened.
    pub body: LeafBody,
}

impl Leaf {
    /// A leaf that nobody in particular caused.
    pub fn new(time: i64, body: impl Into<LeafBody>) -> Self {
        Self {
            time,
            request: None,
            by: None,
            body: body.into(),
        }
    }

    /// The same, caused by this request.
    #[must_use]
    pub fn with_request(mut self, request: impl Into<String>) -> Self {
        self.request = Some(request.into());
        self
    }

    /// The same, caused by this caller.
    #[must_use]
    pub fn with_by(mut self, by: Commitment) -> Self {
        self.by = Some(by);
        self
    }

    /// The exact bytes.
    ///
    /// # Errors
    /// [`LeafError`] names the member that breaks a bound.
    pub fn encode(&self) -> Result<Vec<u8>, LeafError> {
        self.check()?;
        self.write()
    }

    /// Reads the exact bytes.
    ///
    /// # Errors
    /// [`LeafError`]; any byte this crate would not have written is refused.
    pub fn decode(bytes: &[u8]) -> Result<Self, LeafError> {
        if bytes.len() > MAX_LEAF {
            return Err(LeafError::TooLong {
                length: bytes.len(),
            });
        }
        let header = Header::read(bytes)?;
        let mut object = Vec::with_capacity(bytes.len());
        object.push(b'{');
        object.extend_from_slice(header.members);
        let leaf = Self {
            time: header.time,
            request: header.request.map(str::to_owned),
            by: header.by,
            body: LeafBody::read(header.type_name, &object)?,
        };
        leaf.check()?;
        if leaf.write()? == bytes {
            Ok(leaf)
        } else {
            Err(LeafError::NotCanonical)
        }
    }

    /// The RFC 6962 leaf hash of the exact bytes.
    ///
    /// # Errors
    /// As [`Leaf::encode`].
    pub fn hash(&self) -> Result<crate::Hash, LeafError> {
        self.encode().map(|bytes| merkle::leaf_hash(&bytes))
    }

    /// The commitment that stands in this leaf under a label, if there is one.
    #[must_use]
    pub fn commitment(&self, label: &str) -> Option<Commitment> {
        match (label, &self.body) {
            (LABEL_TBS, LeafBody::Authorisation(a)) => Some(a.tbs),
            (LABEL_ARTIFACT, LeafBody::Authorisation(a)) => a.artifact,
            (LABEL_CALLER, LeafBody::Authorisation(a)) => Some(a.caller),
            (LABEL_CALLER, LeafBody::TokenExchanged(t)) => Some(t.caller),
            (LABEL_CALLER, _) => self.by,
            (LABEL_SUBJECT, LeafBody::MemberAdded(m)) => Some(m.subject),
            (LABEL_SUBJECT, LeafBody::MemberRemoved(m)) => Some(m.subject),
            (LABEL_DETAIL, LeafBody::Denied(d)) => d.detail,
            (LABEL_DETAIL, LeafBody::ContentRefused(c)) => c.detail,
            (LABEL_DETAIL, LeafBody::EvidenceAdded(e)) => e.detail,
            _ => None,
        }
    }

    fn check(&self) -> Result<(), LeafError> {
        if self.time < 0 {
            return Err(LeafError::Inconsistent { field: "time" });
        }
        if let Some(request) = &self.request {
            let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
            if request.is_empty() || request.len() > 64 || !request.bytes().all(allowed) {
                return Err(LeafError::Inconsistent { field: "request" });
            }
        }
        if self.body.has_own_caller() && (self.request.is_some() || self.by.is_some()) {
            return Err(LeafError::Inconsistent { field: "by" });
        }
        self.body.check()
    }

    fn write(&self) -> Result<Vec<u8>, LeafError> {
        let mut out = Vec::with_capacity(768);
        // Writing to a Vec cannot fail; a failure would be a bug of the serialiser, not of the leaf.
        let failed = |_| LeafError::NotCanonical;
        write!(
            out,
            "{{\"v\":{VERSION},\"type\":\"{}\",\"time\":{}",
            self.body.type_name(),
            self.time
        )
        .map_err(failed)?;
        if let Some(request) = &self.request {
            write!(out, ",\"request\":\"{request}\"").map_err(failed)?;
        }
        if let Some(by) = &self.by {
            write!(out, ",\"by\":\"{by}\"").map_err(failed)?;
        }
        self.body.write(&mut out)?;
        if out.len() > MAX_LEAF {
            Err(LeafError::TooLong { length: out.len() })
        } else {
            Ok(out)
        }
    }
}

/// Why bytes are not a leaf, or a leaf cannot be written. Retrying with the same input cannot help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeafError {
    /// Over [`MAX_LEAF`] bytes.
    #[error("a leaf of {length} bytes is longer than {MAX_LEAF}")]
    TooLong {
        /// Its length.
        length: usize,
    },
    /// The bytes do not begin as every leaf does.
    #[error("a leaf begins with {{\"v\":1,\"type\":\"…\",\"time\":…: \"{expected}\" is missing")]
    BadHeader {
        /// The member that was expected next.
        expected: &'static str,
    },
    /// A schema version this program does not know; a newer program may.
    #[error("leaf schema version {given} is not known, {VERSION} is")]
    UnknownVersion {
        /// The version, cut to 16 characters.
        given: String,
    },
    /// A leaf type this program does not know; a newer program may.
    #[error("leaf type \"{given}\" is not known")]
    UnknownType {
        /// The type, cut to 64 characters.
        given: String,
    },
    /// The members are not those of the type.
    #[error("malformed {type_name} leaf: {why}")]
    Malformed {
        /// The leaf's type.
        type_name: &'static str,
        /// What the JSON reader said, cut to 200 characters.
        why: String,
    },
    /// Readable, but not the bytes this leaf is written as: other order, spaces, escapes, nulls.
    #[error("the leaf is not written canonically")]
    NotCanonical,
    /// A string over [`MAX_STRING`] bytes.
    #[error("\"{field}\" is longer than {MAX_STRING} bytes")]
    StringTooLong {
        /// Which member.
        field: &'static str,
    },
    /// A list over [`MAX_LIST`] items.
    #[error("\"{field}\" has more than {MAX_LIST} items")]
    ListTooLong {
        /// Which member.
        field: &'static str,
    },
    /// A member contradicts the others or its own range.
    #[error("\"{field}\" is not allowed here, or not this value")]
    Inconsistent {
        /// Which member.
        field: &'static str,
    },
}

struct Header<'a> {
    type_name: &'a str,
    time: i64,
    request: Option<&'a str>,
    by: Option<Commitment>,
    /// What follows, up to and with the closing brace, without the separating comma.
    members: &'a [u8],
}

impl<'a> Header<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, LeafError> {
        let bad = |expected| LeafError::BadHeader { expected };
        let rest = bytes.strip_prefix(b"{\"v\":").ok_or(bad("v"))?;
        let (version, rest) = take_until(rest, b',').ok_or(bad("v"))?;
        if version != b"1" {
            let given = String::from_utf8_lossy(version).chars().take(16).collect();
            return Err(LeafError::UnknownVersion { given });
        }
        let rest = rest.strip_prefix(b",\"type\":\"").ok_or(bad("type"))?;
        let (type_name, rest) = take_until(rest, b'"').ok_or(bad("type"))?;
        let type_name = std::str::from_utf8(type_name).map_err(|_| bad("type"))?;
        let rest = rest.strip_prefix(b"\",\"time\":").ok_or(bad("time"))?;
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        let (time, rest) = rest.split_at_checked(digits).ok_or(bad("time"))?;
        let time = std::str::from_utf8(time).ok().and_then(|t| t.parse().ok());
        let time = time.ok_or(bad("time"))?;
        let (mut rest, mut request, mut by) = (rest, None, None);
        if type_name != Authorisation::TYPE {
            if let Some(after) = rest.strip_prefix(b",\"request\":\"") {
                let (text, after) = take_until(after, b'"').ok_or(bad("request"))?;
                request = Some(std::str::from_utf8(text).map_err(|_| bad("request"))?);
                rest = after.strip_prefix(b"\"").ok_or(bad("request"))?;
            }
            if let Some(after) = rest.strip_prefix(b",\"by\":\"") {
                let (text, after) = take_until(after, b'"').ok_or(bad("by"))?;
                let text = std::str::from_utf8(text).map_err(|_| bad("by"))?;
                by = Some(text.parse().map_err(|_| bad("by"))?);
                rest = after.strip_prefix(b"\"").ok_or(bad("by"))?;
            }
        }
        let members = match rest.split_first() {
            Some((b',', members)) => members,
            Some((b'}', [])) => rest,
            _ => return Err(bad("members")),
        };
        Ok(Self {
            type_name,
            time,
            request,
            by,
            members,
        })
    }
}

fn take_until(bytes: &[u8], end: u8) -> Option<(&[u8], &[u8])> {
    bytes
        .iter()
        .position(|b| *b == end)
        .and_then(|at| bytes.split_at_checked(at))
}
