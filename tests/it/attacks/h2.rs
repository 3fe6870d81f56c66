//! HTTP/2 frame by frame (RFC 9113), and header blocks without a table (RFC 7541 §6.2.2): for what no
//! decent client does.

use crate::support::Stack;
use crate::support::wire::Wire;
use std::io::ErrorKind;
use std::time::Duration;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
/// RFC 9113 §7.
pub const ENHANCE_YOUR_CALM: u32 = 11;
pub const CANCEL: u32 = 8;

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn new(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Self {
        Self {
            kind,
            flags,
            stream,
            payload: payload.to_vec(),
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).expect("a short frame");
        let mut all = length.to_be_bytes()[1..].to_vec();
        all.extend([self.kind, self.flags]);
        all.extend(self.stream.to_be_bytes());
        all.extend(&self.payload);
        all
    }

    /// The error code of a GOAWAY or RST_STREAM.
    pub fn error(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        let code = self.payload[at..at + 4].try_into().expect("four bytes");
        u32::from_be_bytes(code)
    }
}

/// Header fields, each as a literal without indexing.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut all = Vec::new();
    for (name, value) in fields {
        all.push(0);
        for text in [name, value] {
            all.extend(length(text.len()));
            all.extend(text.as_bytes());
        }
    }
    all
}

/// An integer with a prefix of seven bits (RFC 7541 §5.1).
fn length(n: usize) -> Vec<u8> {
    if n < 127 {
        return vec![u8::try_from(n).expect("small")];
    }
    let mut all = vec![127];
    let mut rest = n - 127;
    while rest >= 128 {
        all.push(u8::try_from(rest % 128 + 128).expect("a byte"));
        rest /= 128;
    }
    all.push(u8::try_from(rest).expect("a byte"));
    all
}

/// The fields of a GET.
pub fn get<'a>(path: &'a str, bearer: Option<&'a str>) -> Vec<(&'a str, &'a str)> {
    let mut fields = vec![
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "localhost"),
        (":path", path),
    ];
    fields.extend(bearer.map(|b| ("authorization", b)));
    fields
}

/// A connection.
pub struct H2 {
    pub wire: Wire,
    got: Vec<u8>,
}

impl H2 {
    pub fn new(stack: &Stack) -> Self {
        let mut wire = stack.wire_with(&[b"h2"]);
        let mut hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        hello.extend(Frame::new(SETTINGS, 0, 0, &[]).bytes());
        wire.write(&hello).expect("sent");
        Self {
            wire,
            got: Vec::new(),
        }
    }

    /// Whether the service still took it.
    pub fn send(&mut self, frames: &[Frame]) -> bool {
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::bytes).collect();
        self.wire.write(&bytes).is_ok()
    }

    /// The next frame; `None` at the end.
    pub fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.take() {
                return Some(frame);
            }
            let more = self.wire.read_some().ok().filter(|m| !m.is_empty())?;
            self.got.extend(more);
        }
    }

    fn take(&mut self) -> Option<Frame> {
        let head: [u8; 9] = self.got.get(..9)?.try_into().ok()?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let payload = self.got.get(9..9 + length)?.to_vec();
        self.got.drain(..9 + length);
        Some(Frame {
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]),
            payload,
        })
    }

    /// Takes in what the service has said meanwhile. Whether it is still there.
    pub fn listen(&mut self) -> bool {
        self.wire.patience(Duration::from_millis(2));
        let more = self.wire.read_some();
        self.wire.patience(Duration::from_secs(30));
        match more {
            Ok(more) => {
                self.got.extend(&more);
                !more.is_empty()
            }
            Err(e) => matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        }
    }

    /// Reads until the end: the error code of the GOAWAY before it.
    pub fn sent_away(&mut self) -> Option<u32> {
        let mut code = None;
        // Bounded: what is on its way, and no more is asked for.
        for _ in 0..100_000 {
            let Some(frame) = self.next() else {
                return code;
            };
            if frame.kind == GOAWAY {
                code = Some(frame.error());
            }
        }
        panic!("frames without end")
    }

    /// Reads until this stream has its header block or its reset.
    pub fn answer(&mut self, stream: u32) -> Option<Frame> {
        for _ in 0..10_000 {
            let frame = self.next()?;
            if frame.stream == stream && [HEADERS, RST_STREAM].contains(&frame.kind) {
                return Some(frame);
            }
        }
        None
    }
}
