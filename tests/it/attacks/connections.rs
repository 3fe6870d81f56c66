//! Connections: resets without end, headers that never end, heads byte by byte, and as many of them as
//! somebody cares to open. Others are answered meanwhile.

use super::h2::{
    CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, Frame, H2, HEADERS,
    PING, RST_STREAM, SETTINGS, block, get,
};
use super::{Victim, problem};
use crate::support::Stack;
use crate::support::wire::{Wire, request};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Most of anything that is sent here: enough to pass every bound, little for a machine.
const MANY: u32 = 4000;

fn others_are_answered(v: &Victim) {
    let began = Instant::now();
    for _ in 0..5 {
        assert_eq!(v.raw.get("/healthz", None).status, 200);
        assert_eq!(v.raw.get("/v1/whoami", Some(&v.token)).status, 200);
    }
    let took = began.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
}

/// CVE-2023-44487: streams opened and reset at once, so that no bound on open ones is ever met.
#[test]
fn who_resets_streams_without_end_is_sent_away() {
    let v = Victim::new("att-reset");
    v.untouched(|| {
        let asked = block(&get("/readyz", None));
        let mut h2 = H2::new(v.stack);
        let began = Instant::now();
        for n in 0..MANY / 50 {
            let frames: Vec<Frame> = (0..50)
                .flat_map(|i| {
                    let stream = (n * 50 + i) * 2 + 1;
                    [
                        Frame::new(HEADERS, END_STREAM | END_HEADERS, stream, &asked),
                        Frame::new(RST_STREAM, 0, stream, &CANCEL.to_be_bytes()),
                    ]
                })
                .collect();
            if !h2.send(&frames) || !h2.listen() {
                break;
            }
        }
        assert_eq!(h2.sent_away(), Some(ENHANCE_YOUR_CALM));
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "{:?}",
            began.elapsed()
        );
        others_are_answered(&v);
    });
}

/// CVE-2024-27316: a header block that goes on and on.
#[test]
fn headers_that_never_end_are_not_kept() {
    let v = Victim::new("att-continued");
    v.untouched(|| {
        let mut h2 = H2::new(v.stack);
        let first = block(&get("/healthz", None));
        let more = block(&[("x-filler", &"a".repeat(8000))]);
        assert!(h2.send(&[Frame::new(HEADERS, END_STREAM, 1, &first)]));
        let taken = (0..MANY)
            .take_while(|_| h2.send(&[Frame::new(CONTINUATION, 0, 1, &more)]) && h2.listen())
            .count();
        assert!(taken < 100, "{taken} of 8 KB each were taken");
        assert_eq!(h2.sent_away(), Some(ENHANCE_YOUR_CALM));
        others_are_answered(&v);
    });
}

/// What a head of HTTP/2 may hold is bounded too, and what may be open at once.
#[test]
fn a_head_and_the_streams_of_http2_have_their_bounds() {
    let v = Victim::new("att-streams");
    v.untouched(|| {
        let mut h2 = H2::new(v.stack);
        let large = "a".repeat(6000);
        let mut fields = get("/healthz", None);
        fields.extend((0..4).map(|_| ("x-filler", large.as_str())));
        let whole = block(&fields);
        let mut frames = Vec::new();
        for (n, part) in whole.chunks(16_000).enumerate() {
            let last = (n + 1) * 16_000 >= whole.len();
            let flags = if last { END_HEADERS } else { 0 };
            frames.push(match n {
                0 => Frame::new(HEADERS, flags | END_STREAM, 1, part),
                _ => Frame::new(CONTINUATION, flags, 1, part),
            });
        }
        assert!(h2.send(&frames));
        // 431 by the library: the status stands in the static table (RFC 7541 appendix A) or as text.
        let answer = h2.answer(1).expect("an answer");
        let said = String::from_utf8_lossy(&answer.payload).into_owned();
        assert!(
            answer.kind == RST_STREAM || said.contains("431") || h2_status(&answer.payload, "431"),
            "{answer:?}"
        );
        others_are_answered(&v);

        // Bodies that never come: as many streams as are said in the settings, and not one more.
        let mut h2 = H2::new(v.stack);
        let bearer = format!("Bearer {}", v.token);
        let path = v.path("/signers");
        let mut fields = get(&path, Some(&bearer));
        fields[0] = (":method", "POST");
        fields.push(("content-type", "application/json"));
        let asked = block(&fields);
        let frames: Vec<Frame> = (0..600)
            .map(|n| Frame::new(HEADERS, END_HEADERS, n * 2 + 1, &asked))
            .collect();
        let _ = h2.send(&frames);
        let refused = (0..2000).find_map(|_| {
            let frame = h2.next()?;
            // REFUSED_STREAM (RFC 9113 §5.1.2).
            (frame.kind == RST_STREAM && frame.error() == 7).then_some(frame.stream)
        });
        assert!(refused.is_some(), "no stream was one too many");
        others_are_answered_by_strangers(&v);
    });
}

fn others_are_answered_by_strangers(v: &Victim) {
    for _ in 0..5 {
        assert_eq!(v.raw.get("/healthz", None).status, 200);
    }
}

/// Whether a header block carries this status in Huffman's code (RFC 7541 appendix B: digits 3, 1 and 4
/// have six, five and six bits).
fn h2_status(payload: &[u8], status: &str) -> bool {
    assert_eq!(status, "431");
    // 4 = 011010, 3 = 011001, 1 = 00001, padded with ones.
    payload
        .windows(3)
        .any(|w| w == [0b0110_1001, 0b1001_0000, 0b1111_1111])
}

/// Frames that cost their sender nothing.
#[test]
fn floods_of_empty_frames_keep_nobody_waiting() {
    let v = Victim::new("att-floods");
    v.untouched(|| {
        for flood in [
            Frame::new(PING, 0, 0, &[0; 8]),
            Frame::new(SETTINGS, 0, 0, &[]),
            Frame::new(DATA, 0, 1, &[]),
        ] {
            let mut h2 = H2::new(v.stack);
            let mut fields = get("/v1/token", None);
            fields[0] = (":method", "POST");
            h2.send(&[Frame::new(HEADERS, END_HEADERS, 1, &block(&fields))]);
            let many: Vec<Frame> = (0..100).map(|_| flood.clone()).collect();
            for _ in 0..MANY / 100 {
                if !h2.send(&many) {
                    break;
                }
            }
            others_are_answered(&v);
        }
    });
}

/// HTTP/2 names the same things in other places: none of them is believed more.
#[test]
fn pseudo_headers_are_as_they_must_be() {
    let v = Victim::new("att-pseudo");
    v.untouched(|| {
        let bearer = format!("Bearer {}", v.token);
        let path = v.path("/signers");
        let good = get(&path, Some(&bearer));
        let ask = |fields: &[(&str, &str)]| {
            let mut h2 = H2::new(v.stack);
            let head = Frame::new(HEADERS, END_STREAM | END_HEADERS, 1, &block(fields));
            h2.send(&[head]);
            h2.answer(1)
        };
        // 200 is number 8 of the static table: one byte.
        let answer = ask(&good).expect("an answer");
        assert_eq!(
            (answer.kind, answer.payload.first()),
            (HEADERS, Some(&0x88))
        );
        let with = |more: &[(&'static str, &'static str)]| {
            let mut fields = good.clone();
            fields.extend(more);
            fields
        };
        for bad in [
            with(&[(":path", "/v1/tenants")]),
            with(&[(":method", "DELETE")]),
            with(&[("transfer-encoding", "chunked")]),
            with(&[("connection", "close")]),
            with(&[("X-Upper", "a")]),
            with(&[("x-line", "a\r\nb: c")]),
            with(&[("x-nul", "a\0b")]),
            with(&[("", "a")]),
            with(&[("content-length", "5")]),
            good.iter().copied().filter(|f| f.0 != ":path").collect(),
            good.iter().copied().filter(|f| f.0 != ":method").collect(),
        ] {
            // RFC 9113 §8.1.1: malformed, a stream error.
            let answer = ask(&bad);
            let ok = match &answer {
                None => true,
                Some(a) => a.kind == RST_STREAM || a.payload.first() == Some(&0x8c),
            };
            assert!(ok, "{bad:?}: {answer:?}");
        }
        // Two of a header that counts: 400 is number 12 of the table.
        for twice in [("authorization", "Bearer x"), ("host", "a")] {
            let mut fields = good.clone();
            fields.extend([twice, twice]);
            let answer = ask(&fields).expect("an answer");
            assert_eq!(answer.payload.first(), Some(&0x8c), "{twice:?}: {answer:?}");
        }
    });
}

/// A head that comes byte by byte, one that stops, and a handshake that stops: closed in their time.
#[test]
fn slow_heads_and_handshakes_are_cut() {
    let v = Victim::new("att-slow");
    v.untouched(|| {
        let head = request("GET", "/healthz", &[v.bearer()], b"");
        let (part, _) = head.split_at(40);
        let mut stopped: Vec<Wire> = (0..20)
            .map(|_| {
                let mut wire = v.stack.wire();
                wire.write(part).expect("sent");
                wire
            })
            .collect();
        let silent: Vec<TcpStream> = (0..20)
            .map(|_| {
                let mut tcp = TcpStream::connect(("127.0.0.1", v.stack.port())).expect("connected");
                tcp.write_all(&[0x16, 0x03, 0x01]).expect("sent");
                tcp.set_read_timeout(Some(Duration::from_secs(60)))
                    .expect("a time-out");
                tcp
            })
            .collect();
        let began = Instant::now();
        let dripping = std::thread::scope(|s| {
            let drip = s.spawn(|| {
                let mut wire = v.stack.wire();
                for (n, byte) in head.iter().cycle().enumerate() {
                    // A line that goes on, a byte every 200 ms, for twice the time there is.
                    let byte = if n < part.len() { *byte } else { b'a' };
                    if wire.write(&[byte]).is_err() || n > 350 {
                        return n;
                    }
                    if n >= part.len() {
                        std::thread::sleep(Duration::from_millis(200));
                    }
                }
                usize::MAX
            });
            others_are_answered(&v);
            for mut tcp in silent {
                let mut buffer = [0; 64];
                // An alert or nothing, and the end.
                while tcp.read(&mut buffer).is_ok_and(|n| n > 0) {}
            }
            let handshakes = began.elapsed();
            assert!(handshakes < Duration::from_secs(25), "{handshakes:?}");
            for wire in &mut stopped {
                assert!(wire.answer("GET").is_none_or(|a| a.status == 408));
            }
            let heads = began.elapsed();
            assert!(heads >= Duration::from_secs(20), "{heads:?}");
            assert!(heads < Duration::from_secs(55), "{heads:?}");
            drip.join().expect("no panic")
        });
        assert!(dripping < 350, "{dripping} bytes were waited for");
    });
}

/// `[limits] connections`: one more is closed before it costs anything; those that are there go on, and
/// one that goes makes room.
#[test]
fn connections_have_a_bound() {
    let mut stack = Stack::bare();
    let config = std::fs::read_to_string(stack.config()).expect("configuration");
    let metrics = stack.path("metrics.sock");
    let more = format!(
        "[limits]\nconnections = 16\n\n[telemetry]\nmetrics_listen = \"unix:{}\"\n\n[log]\n",
        metrics.display()
    );
    std::fs::write(stack.config(), config.replacen("[log]\n", &more, 1)).expect("configuration");
    stack.stop_server();
    stack.start_server(&[]);

    let healthz = request("GET", "/healthz", &[], b"");
    let answered = |wire: &mut Wire| {
        wire.write(&healthz).is_ok() && wire.answer("GET").is_some_and(|a| a.status == 200)
    };
    let mut held: Vec<Wire> = (0..16).map(|_| stack.wire()).collect();
    for wire in &mut held {
        assert!(answered(wire));
    }
    for _ in 0..40 {
        let mut tcp = TcpStream::connect(("127.0.0.1", stack.port())).expect("the kernel takes it");
        tcp.set_read_timeout(Some(Duration::from_secs(20)))
            .expect("a time-out");
        let began = Instant::now();
        let mut buffer = [0; 16];
        assert!(
            matches!(tcp.read(&mut buffer), Ok(0) | Err(_)),
            "closed without a word"
        );
        assert!(began.elapsed() < Duration::from_secs(10), "at once");
    }
    for wire in &mut held {
        assert!(answered(wire), "those that are there go on");
    }
    let scraped = scrape(&metrics);
    assert!(
        scraped.contains("\ncountersign_connections 16\n"),
        "{scraped}"
    );
    assert!(
        scraped.contains("\ncountersign_connections_refused_total 40\n"),
        "{scraped}"
    );
    // Told, and not forty times.
    let log = stack.server_log();
    let told = log.matches("as many connections are open as may").count();
    assert!((1..=5).contains(&told), "{told}");

    held.truncate(15);
    let began = Instant::now();
    let room = loop {
        let mut tcp = TcpStream::connect(("127.0.0.1", stack.port())).expect("the kernel takes it");
        tcp.set_read_timeout(Some(Duration::from_millis(200)))
            .expect("a time-out");
        // Not closed: it waits for our hello.
        match tcp.read(&mut [0; 1]) {
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => break true,
            _ if began.elapsed() > Duration::from_secs(20) => break false,
            _ => {}
        }
    };
    assert!(room, "one that goes makes room");
}

fn scrape(socket: &std::path::Path) -> String {
    let mut stream = std::os::unix::net::UnixStream::connect(socket).expect("the metrics' socket");
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    text
}

/// Pipelined requests are answered in their order, each by its own caller.
#[test]
fn requests_on_one_connection_are_nothing_to_each_other() {
    let v = Victim::new("att-pipe");
    v.untouched(|| {
        let path = v.path("/signers");
        let mut bytes = Vec::new();
        for n in 0..100 {
            let headers = if n % 2 == 0 { vec![v.bearer()] } else { vec![] };
            bytes.extend(request("GET", &path, &headers, b""));
        }
        let mut wire = v.stack.wire();
        wire.write(&bytes).expect("sent");
        for n in 0..100 {
            let answer = wire.answer("GET").expect("an answer");
            if n % 2 == 0 {
                assert_eq!(answer.status, 200, "{n}");
            } else {
                assert_eq!(problem(&answer), (401, "no-token".into()), "{n}");
            }
        }
    });
}
