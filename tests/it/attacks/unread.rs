//! Large bodies that nobody wants: whoever sends one is told why in a whole answer, up to a bound, and
//! is not cut off in the middle of writing it.

use super::h2::{DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, H2, HEADERS, RST_STREAM, SETTINGS};
use super::h2::{block, get};
use super::{Victim, problem};
use crate::support::Stack;
use crate::support::wire::{WireAnswer, request};
use serde_json::Value;
use std::time::{Duration, Instant};

/// More than any route takes, less than is swallowed.
const LARGE: usize = 3 * 1024 * 1024;
/// What a route does not take, of a size that the door lets in.
const MEDIUM: usize = 900 * 1024;
/// More than is swallowed, and than buffers of sockets hold besides.
const ENDLESS: usize = 64 * 1024 * 1024;
/// Less than a caller without a bound would wait: one stops in the middle, and a body has ten seconds.
const SOON: Duration = Duration::from_secs(50);

/// A request that is refused before its body is read, or because of it.
pub struct Refused<'a> {
    pub method: &'static str,
    pub path: &'a str,
    pub headers: Vec<(&'static str, &'a str)>,
    pub length: usize,
    pub status: u16,
    pub code: &'static str,
}

impl Refused<'_> {
    fn lines(&self) -> Vec<String> {
        let line = |(name, value): &(&str, &str)| format!("{name}: {value}");
        self.headers.iter().map(line).collect()
    }

    fn is(&self, answer: &WireAnswer) {
        let what = format!("{} {} {:?}", self.method, self.path, self.headers);
        assert_eq!(
            problem(answer),
            (self.status, self.code.to_owned()),
            "{what}"
        );
    }

    /// On each way that a body can come.
    pub fn is_told(&self, stack: &Stack) {
        let body = vec![b'x'; self.length];
        // The length is said; the connection serves on.
        let mut one = stack.wire();
        let whole = request(self.method, self.path, &self.lines(), &body);
        one.write(&whole).expect("all of it is taken");
        self.is(&one.answer(self.method).expect("an answer"));
        one.write(&request("GET", "/healthz", &[], b""))
            .expect("sent");
        assert_eq!(one.answer("GET").expect("an answer").status, 200);

        // The length is not said.
        let mut one = stack.wire();
        let mut lines = self.lines();
        lines.push("transfer-encoding: chunked".into());
        let mut whole = request(self.method, self.path, &lines, b"");
        for part in body.chunks(64 * 1024) {
            whole.extend(chunk(part));
        }
        whole.extend(chunk(b""));
        one.write(&whole).expect("all of it is taken");
        self.is(&one.answer(self.method).expect("an answer"));

        // Asked first, and waited for (RFC 9110 §10.1.1): told to go on, or why not.
        let mut lines = self.lines();
        lines.push("expect: 100-continue".into());
        lines.push(format!("content-length: {}", self.length));
        let head = request(self.method, self.path, &lines, b"");
        let mut one = stack.wire();
        one.write(&head).expect("sent");
        let mut answer = one.answer(self.method).expect("an answer");
        if answer.status == 100 {
            one.write(&body).expect("all of it is taken");
            answer = one.answer(self.method).expect("an answer");
        }
        self.is(&answer);

        // Asked first, and not waited for.
        let mut one = stack.wire();
        one.write(&head).expect("sent");
        one.write(&body).expect("all of it is taken");
        let mut answer = one.answer(self.method).expect("an answer");
        if answer.status == 100 {
            answer = one.answer(self.method).expect("an answer");
        }
        self.is(&answer);

        for expect in [None, Some("100-continue")] {
            let mut one = H2::new(stack);
            let mut fields = get(self.path, None);
            fields[0].1 = self.method;
            fields.extend(&self.headers);
            fields.extend(expect.map(|e| ("expect", e)));
            let told = one.post(1, &fields, self.length);
            let what = format!("{} {} by HTTP/2", self.method, self.path);
            assert_eq!(told.reset, None, "{what}");
            assert_eq!(told.sent, self.length, "{what}");
            assert_eq!(told.json()["status"], self.status, "{what}");
            assert_eq!(told.json()["code"], self.code, "{what}");
        }
    }
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    let mut all = format!("{:x}\r\n", bytes.len()).into_bytes();
    all.extend_from_slice(bytes);
    all.extend_from_slice(b"\r\n");
    all
}

/// What came of a request by HTTP/2.
#[derive(Debug, Default)]
struct Told {
    body: Vec<u8>,
    /// Bytes of the request's body that the service gave us room for.
    sent: usize,
    ended: bool,
    reset: Option<u32>,
}

impl Told {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a whole document")
    }
}

const WINDOW_UPDATE: u8 = 8;
/// RFC 9113 §6.9.2.
const FIRST_WINDOW: i64 = 65_535;
/// SETTINGS_INITIAL_WINDOW_SIZE (§6.5.2).
const INITIAL_WINDOW_SIZE: u16 = 4;
const ACK: u8 = 1;
/// §4.2: the largest frame that everybody takes.
const FRAME: i64 = 16_384;

impl H2 {
    /// Sends a head and `length` bytes, as fast as the service gives room, until all is sent and
    /// answered, or the stream or connection has ended. To be asked first on a connection.
    fn post(&mut self, stream: u32, fields: &[(&str, &str)], length: usize) -> Told {
        let mut told = Told::default();
        let (mut whole, mut own, mut initial) = (FIRST_WINDOW, FIRST_WINDOW, FIRST_WINDOW);
        let head = Frame::new(HEADERS, END_HEADERS, stream, &block(fields));
        assert!(self.send(&[head]));
        loop {
            let left = i64::try_from(length - told.sent).expect("small");
            let room = left.min(whole).min(own).min(FRAME);
            if room > 0 && !told.ended {
                let last = if room == left { END_STREAM } else { 0 };
                let bytes = vec![b'x'; usize::try_from(room).expect("positive")];
                if !self.send(&[Frame::new(DATA, last, stream, &bytes)]) {
                    return told;
                }
                told.sent += bytes.len();
                (whole, own) = (whole - room, own - room);
                continue;
            }
            if told.ended && left == 0 {
                return told;
            }
            let Some(frame) = self.next() else {
                return told;
            };
            let number = |at: usize| {
                let four = frame.payload[at..at + 4].try_into().expect("four");
                i64::from(u32::from_be_bytes(four) & 0x7fff_ffff)
            };
            match frame.kind {
                SETTINGS if frame.flags == 0 => {
                    for (n, entry) in frame.payload.chunks_exact(6).enumerate() {
                        if u16::from_be_bytes([entry[0], entry[1]]) == INITIAL_WINDOW_SIZE {
                            own += number(n * 6 + 2) - initial;
                            initial = number(n * 6 + 2);
                        }
                    }
                    // Until we say so, the service holds us to the window there was (§6.5.3).
                    if !self.send(&[Frame::new(SETTINGS, ACK, 0, &[])]) {
                        return told;
                    }
                }
                WINDOW_UPDATE if frame.stream == 0 => whole += number(0),
                WINDOW_UPDATE if frame.stream == stream => own += number(0),
                DATA if frame.stream == stream => {
                    told.body.extend(&frame.payload);
                    told.ended |= frame.flags & END_STREAM != 0;
                }
                RST_STREAM if frame.stream == stream => {
                    told.reset = Some(frame.error());
                    return told;
                }
                GOAWAY => return told,
                _ => {}
            }
        }
    }
}

#[test]
fn who_is_refused_with_a_large_body_gets_the_whole_answer() {
    let v = Victim::new("att-unread");
    v.untouched(|| {
        let (bearer, signers) = (format!("Bearer {}", v.token), v.path("/signers"));
        let (bearer, signers) = (bearer.as_str(), signers.as_str());
        let json = ("content-type", "application/json");
        let known = ("authorization", bearer);
        let case = |method, path, headers: &[(&'static str, _)], length, status, code| {
            Refused {
                method,
                path,
                headers: headers.to_vec(),
                length,
                status,
                code,
            }
            .is_told(v.stack);
        };
        case("POST", signers, &[json], LARGE, 401, "no-token");
        let other = ("authorization", "Bearer eyJhbGciOiJub25lIn0.e30.");
        case(
            "POST",
            signers,
            &[json, other],
            LARGE,
            401,
            "unauthenticated",
        );
        case("POST", signers, &[json, known], LARGE, 413, "too-large");
        case("POST", signers, &[json, known], MEDIUM, 413, "too-large");
        let text = ("content-type", "text/plain");
        case(
            "POST",
            signers,
            &[text, known],
            MEDIUM,
            415,
            "unsupported-media-type",
        );
        case(
            "PUT",
            signers,
            &[json, known],
            LARGE,
            405,
            "method-not-allowed",
        );
        case("POST", "/nowhere", &[json], LARGE, 404, "not-found");
        case(
            "POST",
            signers,
            &[json, json, known],
            LARGE,
            400,
            "bad-request",
        );
        // A stranger's.
        let form = ("content-type", "application/x-www-form-urlencoded");
        case("POST", "/v1/token", &[form], LARGE, 413, "too-large");
    });
}

/// A body that does not end is not swallowed for ever: the connection is closed, of HTTP/2 the stream.
#[test]
fn what_is_swallowed_has_a_bound() {
    let v = Victim::new("att-swallowed");
    v.untouched(|| {
        let signers = v.path("/signers");
        let json = || "content-type: application/json".to_owned();
        let began = Instant::now();

        // More than is swallowed, and said so: the answer comes at once, before any of it.
        for expect in [true, false] {
            let mut lines = vec![json(), format!("content-length: {ENDLESS}")];
            lines.extend(expect.then(|| "expect: 100-continue".to_owned()));
            let mut one = v.stack.wire();
            one.write(&request("POST", &signers, &lines, b""))
                .expect("sent");
            let answer = one.answer("POST").expect("an answer");
            assert_eq!(problem(&answer), (401, "no-token".to_owned()));
            assert_eq!(one.read_some().unwrap_or_default(), b"", "it is closed");
        }

        // Without a length: taken for a while, then the connection is closed.
        let mut one = v.stack.wire();
        let lines = [json(), "transfer-encoding: chunked".into()];
        one.write(&request("POST", &signers, &lines, b""))
            .expect("sent");
        let part = chunk(&[b'x'; 64 * 1024]);
        let taken = (0..ENDLESS / part.len())
            .take_while(|_| one.write(&part).is_ok())
            .count();
        assert!(taken < ENDLESS / part.len(), "all of it was taken");
        assert!(taken * part.len() >= LARGE, "{taken} parts alone");

        // One that stops in the middle is waited for as long as any body.
        let mut one = v.stack.wire();
        let lines = [json(), format!("content-length: {LARGE}")];
        one.write(&request("POST", &signers, &lines, b"{"))
            .expect("sent");
        let answer = one.answer("POST").expect("an answer");
        assert_eq!(problem(&answer), (401, "no-token".to_owned()));

        // HTTP/2: the answer is whole, the stream ends without an error (RFC 9113 §8.1), and the
        // connection serves on.
        let mut one = H2::new(v.stack);
        let mut fields = get(&signers, None);
        fields[0].1 = "POST";
        fields.push(("content-type", "application/json"));
        let told = one.post(1, &fields, ENDLESS);
        assert_eq!(told.json()["code"], "no-token");
        assert_eq!(told.reset, Some(0), "NO_ERROR");
        assert!((LARGE..ENDLESS / 2).contains(&told.sent), "{}", told.sent);
        let asked = block(&get("/healthz", None));
        let frame = Frame::new(HEADERS, END_STREAM | END_HEADERS, 3, &asked);
        assert!(one.send(&[frame]));
        assert_eq!(one.answer(3).expect("an answer").kind, HEADERS);

        let took = began.elapsed();
        assert!(took < SOON, "{took:?}");
    });
}
