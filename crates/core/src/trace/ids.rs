//! The names of traces and spans, and the header that carries them.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A trace's id (W3C Trace Context §3.2.2.3). Not all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TraceId(pub [u8; 16]);

/// A span's id (W3C Trace Context §3.2.2.4). Not all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SpanId(pub [u8; 8]);

/// A span of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SpanRef {
    /// The trace.
    pub trace: TraceId,
    /// The span in it.
    pub span: SpanId,
}

fn hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|b| write!(f, "{b:02x}"))
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl SpanRef {
    /// Reads a `traceparent` header (W3C Trace Context §3.2). Only the two ids are taken: the
    /// caller's sampling flag decides nothing here, and `tracestate` is not read at all.
    #[must_use]
    pub fn from_traceparent(header: &str) -> Option<Self> {
        // §3.2.2: a later version may have more fields, after a further dash.
        let bytes = header.as_bytes();
        if !(55..=256).contains(&bytes.len()) {
            return None;
        }
        let mut fields = header.splitn(5, '-');
        let (version, trace, span, flags) = (
            fields.next()?,
            fields.next()?,
            fields.next()?,
            fields.next()?,
        );
        let lower_hex = |text: &str, len: usize| {
            text.len() == len
                && text
                    .bytes()
                    .all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'))
        };
        let known = lower_hex(version, 2) && version != "ff" && lower_hex(flags, 2);
        if !known || (version == "00" && bytes.len() != 55) {
            return None;
        }
        let found = Self {
            trace: TraceId(unhex(trace)?),
            span: SpanId(unhex(span)?),
        };
        (found.trace.0 != [0; 16] && found.span.0 != [0; 8]).then_some(found)
    }
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let mut out = [0; N];
    if text.len() != N.saturating_mul(2) {
        return None;
    }
    for (to, pair) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *to = (digit(*high)? << 4) | digit(*low)?;
    }
    Some(out)
}
