//! Headers: two of what there must be one of, too many, too long, and those that proxies believe.

use super::{Victim, problem};
use crate::support::wire::request;

#[test]
fn two_of_a_header_that_counts_are_refused() {
    let v = Victim::new("att-twice");
    let other = "authorization: Bearer eyJhbGciOiJub25lIn0.e30.";
    let json = "content-type: application/json";
    let signer = br#"{"signer": "twice", "algorithm": "ec-p256"}"#;
    v.untouched(|| {
        let bearer = v.bearer();
        let field = |method: &str, path: &str, headers: &[&str], body: &[u8]| {
            let answer = v.send(method, path, headers, body);
            assert_eq!(
                problem(&answer),
                (400, "bad-request".into()),
                "{headers:?}: {answer:?}"
            );
            answer.json()["field"].as_str().unwrap_or("none").to_owned()
        };
        let path = v.path("/signers");
        for pair in [
            [bearer.as_str(), other],
            [other, bearer.as_str()],
            [bearer.as_str(), bearer.as_str()],
            [bearer.as_str(), "Authorization:"],
        ] {
            assert_eq!(field("GET", &path, &pair, b""), "Authorization");
        }
        let hosts = ["host: localhost", "host: evil.example", bearer.as_str()];
        assert_eq!(field("GET", &path, &hosts, b""), "Host");
        assert_eq!(field("GET", "/healthz", &hosts, b""), "Host");
        let types = [bearer.as_str(), json, "content-type: text/plain"];
        assert_eq!(field("POST", &path, &types, signer), "Content-Type");
        let keys = [
            bearer.as_str(),
            json,
            "idempotency-key: a",
            "idempotency-key: b",
        ];
        assert_eq!(field("POST", &path, &keys, signer), "Idempotency-Key");
        // None at all (RFC 9112 §3.2).
        let bytes = format!("GET /v1/whoami HTTP/1.1\r\n{bearer}\r\n\r\n");
        let answer = v.bytes("GET", bytes.as_bytes());
        assert_eq!(problem(&answer), (400, "bad-request".into()));
        assert_eq!(answer.json()["field"], "Host");
        // Two in one line are no token.
        let joined = format!("{bearer}, Bearer x");
        let answer = v.send("GET", &path, &[&joined], b"");
        assert_eq!(problem(&answer), (401, "unauthenticated".into()));
    });
}

#[test]
fn a_length_that_can_be_read_in_two_ways_is_not_read() {
    let v = Victim::new("att-length");
    v.untouched(|| {
        let bearer = v.bearer();
        let json = "content-type: application/json";
        let inner = format!("GET /smuggled HTTP/1.1\r\nhost: localhost\r\n{bearer}\r\n\r\n");
        let length = format!("content-length: {}", inner.len() + 5);
        // What hides behind the end of the first request is not answered as a second.
        let once = |headers: &[&str], body: &[u8], statuses: &[u16]| {
            let mut all = vec![bearer.clone(), json.to_owned()];
            all.extend(headers.iter().map(|h| (*h).to_owned()));
            let mut wire = v.stack.wire();
            wire.write(&request("POST", &v.path("/signers"), &all, body))
                .expect("sent");
            let first = wire.answer("POST").expect("an answer");
            assert!(statuses.contains(&first.status), "{headers:?}: {first:?}");
            if let Some(second) = wire.answer("GET") {
                panic!("{headers:?}: a second answer: {second:?}");
            }
        };
        let chunked = format!("0\r\n\r\n{inner}");
        let chunked = chunked.as_bytes();
        // RFC 9112 §6.1: both lengths; the connection ends behind the answer.
        once(&["transfer-encoding: chunked", &length], chunked, &[400]);
        once(&[&length, "transfer-encoding: chunked"], chunked, &[400]);
        for bad in [
            &["content-length: 0", length.as_str()][..],
            &["content-length: +5"],
            &["content-length: 5, 6"],
            &["content-length: -1"],
            &["content-length: 0x10"],
            &["content-length: 99999999999999999999999"],
            &["transfer-encoding: identity"],
            &["transfer-encoding: chunked, identity"],
            &["transfer-encoding: xchunked"],
            &["transfer-encoding : chunked"],
            &["transfer-encoding:\u{b}chunked"],
            &["x: y\r\n transfer-encoding: chunked"],
            &["x y: z"],
            &["x: a\0b"],
        ] {
            once(bad, chunked, &[400]);
        }
        for chunks in [
            "5;x=\r\nabc\r\n0\r\n\r\n",
            "fffffffffffffffff\r\n",
            "-1\r\nabc",
            "g\r\n",
            "1\nx\n0\n\n",
        ] {
            let all = [
                bearer.clone(),
                json.to_owned(),
                "transfer-encoding: chunked".to_owned(),
                "connection: close".to_owned(),
            ];
            let mut wire = v.stack.wire();
            wire.write(&request(
                "POST",
                &v.path("/signers"),
                &all,
                chunks.as_bytes(),
            ))
            .expect("sent");
            drop_the_rest(&mut wire, chunks);
        }
    });
}

/// A chunk that is none: 400, or 408 where it could still become one.
fn drop_the_rest(wire: &mut crate::support::wire::Wire, chunks: &str) {
    let answer = wire.answer("POST").expect("an answer");
    assert!(
        [400, 408].contains(&answer.status),
        "{chunks:?}: {answer:?}"
    );
}

#[test]
fn a_head_has_its_bounds() {
    let v = Victim::new("att-large");
    v.untouched(|| {
        let path = v.path("/signers");
        let fits = format!("x-filler: {}", "a".repeat(30_000));
        assert_eq!(v.ask("GET", &path, &[&fits], b"").status, 200);
        let over = format!("x-filler: {}", "a".repeat(80_000));
        let many: Vec<String> = (0..300).map(|n| format!("x-{n}: a")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let token = format!("authorization: Bearer {}", "a".repeat(80_000));
        for headers in [&[over.as_str()][..], &many, &[token.as_str()]] {
            let mut wire = v.stack.wire();
            let all: Vec<String> = headers.iter().map(|h| (*h).to_owned()).collect();
            // The service may have said its word before all was sent.
            let _ = wire.write(&request("GET", &path, &all, b""));
            let answer = wire.answer("GET").expect("an answer");
            assert_eq!(answer.status, 431, "{answer:?}");
            assert!(wire.answer("GET").is_none(), "the connection ends");
        }
        // A token that is long and no token.
        let token = format!("authorization: Bearer {}", "a".repeat(20_000));
        let answer = v.send("GET", &path, &[&token], b"");
        assert_eq!(problem(&answer), (401, "unauthenticated".into()));
    });
}

/// Nobody in front of us is believed: no header says who asks, from where, for which host, by which
/// method or at which path.
#[test]
fn headers_that_proxies_believe_change_nothing() {
    let v = Victim::new("att-proxies");
    let but_for_its_id = |answer: &crate::support::wire::WireAnswer| {
        let mut body = answer.json();
        if let Some(members) = body.as_object_mut() {
            members.remove("instance");
        }
        (answer.status, body)
    };
    v.untouched(|| {
        let path = v.path("/signers");
        let plain = v.ask("GET", &path, &[], b"");
        let stranger = v.send("GET", &path, &[], b"");
        assert_eq!((plain.status, stranger.status), (200, 401));
        for header in [
            "x-forwarded-for: 127.0.0.1",
            "x-forwarded-host: evil.example",
            "x-forwarded-proto: http",
            "x-forwarded-prefix: /v1/token",
            "x-forwarded-user: att-proxies-admin",
            "x-forwarded-client-cert: Hash=00",
            "forwarded: for=127.0.0.1;host=evil.example;proto=http",
            "x-real-ip: 127.0.0.1",
            "x-client-ip: 127.0.0.1",
            "x-remote-user: att-proxies-admin",
            "remote-user: att-proxies-admin",
            "x-original-url: /v1/token",
            "x-rewrite-url: /healthz",
            "x-http-method-override: DELETE",
            "x-http-method: DELETE",
            "x-method-override: DELETE",
            "x-tenant: att-next",
            "x-request-id: a b",
            "x-request-id: 01234567890123456789012345678901234567890123456789012345678901234",
            "cookie: access_token=x; tenant=att-next",
            "origin: https://evil.example",
            "via: 1.1 evil",
            "upgrade: h2c",
            "connection: close, authorization",
            "expect: 200-ok",
            "range: bytes=0-1",
            "accept: text/html",
            "accept-encoding: gzip",
            "if-match: \"x\"",
            "traceparent: 00-00000000000000000000000000000000-0000000000000000-ff",
        ] {
            let told = v.ask("GET", &path, &[header], b"");
            assert_eq!(but_for_its_id(&told), but_for_its_id(&plain), "{header}");
            for answer in [told, v.send("GET", &path, &[header], b"")] {
                let text = answer.text().to_lowercase();
                assert!(!text.contains("evil"), "{header}: {answer:?}");
                assert!(
                    !text.contains("access-control-allow"),
                    "{header}: {answer:?}"
                );
                if answer.status != 200 {
                    assert_eq!(
                        but_for_its_id(&answer),
                        but_for_its_id(&stranger),
                        "{header}"
                    );
                }
            }
        }
        // The host is not looked at: the certificate says who we are.
        for host in [
            "host: evil.example",
            "host: localhost:1",
            "host: localhost@evil.example",
            "host:",
        ] {
            let told = v.ask("GET", &path, &[host], b"");
            assert_eq!(but_for_its_id(&told), but_for_its_id(&plain), "{host}");
        }
    });
}

#[test]
fn methods_are_what_the_description_says() {
    let v = Victim::new("att-methods");
    v.untouched(|| {
        let path = v.path("/signers");
        for method in [
            "TRACE", "OPTIONS", "PATCH", "PUT", "DELETE", "GETT", "get", "PROPFIND", "M-SEARCH",
        ] {
            let secret = "x-secret: the-callers-own";
            let answer = v.ask(method, &path, &[secret], b"");
            assert_eq!(
                problem(&answer),
                (405, "method-not-allowed".into()),
                "{method}"
            );
            // RFC 9110 §15.5.6.
            let head = answer.head.to_lowercase();
            assert!(head.contains("allow: "), "{method}: {head}");
            // TRACE would give a caller's token to a script (RFC 9110 §9.3.8).
            assert!(!answer.text().contains("the-callers-own"), "{answer:?}");
        }
        for query in [
            "?_method=DELETE",
            "?method=POST",
            "?X-HTTP-Method-Override=PUT",
        ] {
            let answer = v.ask("GET", &format!("{path}{query}"), &[], b"");
            assert_eq!(answer.status, 200, "{query}");
        }
        let head = v.ask("HEAD", &path, &[], b"");
        assert_eq!((head.status, head.body.len()), (200, 0));
        assert_eq!(v.send("HEAD", &path, &[], b"").status, 401);
    });
}

/// Nothing a caller sends breaks a line of an answer or of our log.
#[test]
fn no_line_is_broken_by_what_a_caller_sends() {
    let v = Victim::new("att-lines");
    v.untouched(|| {
        let marker = "x-att-lines-injected";
        for path in [
            format!("/v1/tenants/a%0d%0a{marker}:%201/signers"),
            format!("/log/%0d%0a{marker}:1/checkpoint"),
            format!("/v1/tenants/att-lines/issuers?issuer=%0d%0a{marker}:1"),
            format!("/v1/tenants/att-lines/logs/x%0d%0a{marker}/details?from=%0d%0a{marker}"),
        ] {
            for method in ["GET", "DELETE"] {
                let answer = v.ask(method, &path, &[], b"");
                assert!((400..500).contains(&answer.status) || answer.status == 200);
                let names: Vec<_> = answer
                    .head
                    .lines()
                    .filter_map(|l| l.split_once(':'))
                    .map(|(n, _)| n.to_lowercase())
                    .collect();
                assert!(!names.iter().any(|n| n == marker), "{answer:?}");
            }
        }
        let value = format!("x-request-id: a\u{85}{marker}");
        assert_eq!(
            v.ask("GET", &v.path("/signers"), &[&value], b"").status,
            200
        );
        for line in v.stack.server_log().lines() {
            assert!(line.starts_with('{') && line.ends_with('}'), "{line}");
            assert!(!line.contains(marker), "a caller's text in our log: {line}");
        }
    });
}
