//! Bodies: JSON that can be read in two ways or never ends, numbers that are none, and types that
//! are not what they say.

use super::{Victim, problem, refused};
use crate::support::raw::RawAnswer;

const SIGNER: &str = r#"{"signer": "att", "algorithm": "ec-p256"}"#;

#[test]
fn json_that_is_deep_doubled_or_broken_is_refused() {
    let v = Victim::new("att-json");
    v.untouched(|| {
        let deep = |n: usize| "[".repeat(n);
        let inside = |text: &str| format!(r#"{{"signer": {text}, "algorithm": "ec-p256"}}"#);
        for body in [
            deep(127),
            deep(128),
            deep(60_000),
            format!("{}{}", deep(30_000), "]".repeat(30_000)),
            "{\"a\":".repeat(10_000),
            inside(&deep(50_000)),
            inside(&format!("{}1{}", deep(20_000), "]".repeat(20_000))),
            // Twice, also where an escape hides it.
            r#"{"signer": "one", "signer": "two", "algorithm": "ec-p256"}"#.into(),
            r#"{"signer": "one", "algorithm": "ec-p256", "\u0073igner": "two"}"#.into(),
            // What is not known is not ignored: nobody slips in another tenant or a state.
            r#"{"signer": "att", "algorithm": "ec-p256", "tenant": "other"}"#.into(),
            r#"{"signer": "att", "algorithm": "ec-p256", "__proto__": {"x": 1}}"#.into(),
            r#"{"Signer": "att", "algorithm": "ec-p256"}"#.into(),
            // One value and nothing behind it.
            format!("{SIGNER}{SIGNER}"),
            format!("{SIGNER}\0"),
            format!("{SIGNER},"),
            format!("\u{feff}{SIGNER}"),
            format!("// a comment\n{SIGNER}"),
            format!(")]}}',\n{SIGNER}"),
            SIGNER.replace('"', "'"),
            inside("NaN"),
            inside("Infinity"),
            inside("1e999999"),
            inside("null"),
            inside("[\"att\"]"),
            inside("{\"$ne\": null}"),
            inside("\"\\ud800\""),
            inside("\"a\nb\""),
            inside("\"\\x41\""),
            "null".into(),
            "[]".into(),
            "\"\"".into(),
            "{}".into(),
            String::new(),
        ] {
            let answer = v.post("/signers", body.as_bytes());
            let (status, code, _) = refused(&answer);
            let shown: String = body.chars().take(80).collect();
            assert_eq!((status, code.as_str()), (400, "bad-json"), "{shown}");
        }
        // Not UTF-8, and another encoding of it.
        let utf16: Vec<u8> = SIGNER.encode_utf16().flat_map(u16::to_be_bytes).collect();
        let latin = [SIGNER.as_bytes(), b"\xff"].concat();
        let overlong = SIGNER.replace("att", "x").into_bytes();
        let overlong: Vec<u8> = overlong
            .iter()
            .flat_map(|b| {
                if *b == b'x' {
                    vec![0xc1, 0xa1]
                } else {
                    vec![*b]
                }
            })
            .collect();
        for body in [utf16, latin, overlong] {
            let answer = v.post("/signers", &body);
            assert_eq!(answer.problem(), "bad-json", "{answer:?}");
        }
    });
}

/// Claims are an object whose names are the caller's: a doubled one would let a reviewer read another
/// grant than the service.
#[test]
fn a_claim_that_stands_twice_makes_no_grant() {
    let v = Victim::new("att-claims");
    let platform = v.stack.platform.url();
    v.untouched(|| {
        for claims in [
            r#"{"repository_id": "4711", "repository_id": "666"}"#,
            r#"{"repository_id": "4711", "repository\u005fid": "666"}"#,
        ] {
            let body = format!(
                r#"{{"signer": "door", "issuer": "{platform}", "claims": {claims},
                    "content_types": ["cms"], "digest_algorithms": ["sha-256"]}}"#
            );
            let answer = v.post("/grants", body.as_bytes());
            let (status, code, field) = refused(&answer);
            assert_eq!((status, code.as_str()), (400, "bad-json"), "{answer:?}");
            assert!(field.starts_with("claims"), "{field}");
            let detail = answer.json()["detail"].to_string();
            assert!(detail.contains("stands twice"), "{detail}");
        }
    });
}

#[test]
fn numbers_are_what_the_field_takes() {
    let v = Victim::new("att-numbers");
    let issuer = |age: &str| {
        format!(
            r#"{{"issuer": "https://one.example", "kind": "pipelines", "audience": "x", "max_token_age_s": {age}}}"#
        )
    };
    v.untouched(|| {
        for age in [
            "1e400",
            "-1e400",
            "99999999999999999999999999999999999999999",
            "18446744073709551616",
            "4294967296",
            "-1",
            "-0.5",
            "600.5",
            "6e2",
            "0x258",
            "\"600\"",
            "true",
            "[600]",
            "+600",
            "0600",
        ] {
            let answer = v.post("/issuers", issuer(age).as_bytes());
            let (status, code, _) = refused(&answer);
            assert_eq!(
                (status, code.as_str()),
                (400, "bad-json"),
                "{age}: {answer:?}"
            );
        }
        // A number of the right type and no sense.
        for age in ["0", "4294967295"] {
            let answer = v.post("/issuers", issuer(age).as_bytes());
            assert_eq!(
                refused(&answer),
                (422, "invalid-field".into(), "max_token_age_s".into()),
                "{age}"
            );
        }
        for query in [
            "from=-1",
            "from=18446744073709551616",
            "from=1e3",
            "from=0x10",
            "from=%200",
            "limit=99999999999999999999",
            "limit=NaN",
            "from=0&from=1",
            "from[]=0",
        ] {
            let key = "00000000000000000000000000000000";
            let path = v.path(&format!("/logs/{key}/details?{query}"));
            let answer = v.raw.get(&path, Some(&v.token));
            assert!(
                [(400, "bad-request".to_owned()), (404, "not-found".into())]
                    .contains(&(answer.status, answer.problem())),
                "{query}: {answer:?}"
            );
        }
    });
}

#[test]
fn a_body_is_of_the_type_that_belongs_here() {
    let v = Victim::new("att-types");
    let send = |kind: &str, body: &[u8]| -> RawAnswer {
        let path = v.path("/signers");
        v.raw.send(
            "POST",
            &path,
            Some(&v.token),
            Some(body),
            &[("content-type", kind)],
        )
    };
    v.untouched(|| {
        for kind in [
            "text/plain",
            "text/json",
            "text/html",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "application/json-patch+json",
            "application/merge-patch+json",
            "application/jsonp",
            "application/jso",
            "application/json, text/plain",
            "application/json/x",
            "application/xml",
            "application/cbor",
            "*/*",
            "json",
        ] {
            let answer = send(kind, SIGNER.as_bytes());
            assert_eq!(
                (answer.status, answer.problem().as_str()),
                (415, "unsupported-media-type"),
                "{kind}"
            );
        }
        let answer = v.ask("POST", &v.path("/signers"), &[], SIGNER.as_bytes());
        assert_eq!(problem(&answer), (415, "unsupported-media-type".into()));
        // The type is right and the bytes are of another: read as what they were said to be.
        let xml = b"<?xml version=\"1.0\"?><!DOCTYPE a [<!ENTITY b SYSTEM \"file:///etc/passwd\">]><a>&b;</a>";
        for body in [&xml[..], b"signer=att&algorithm=ec-p256", b"\x1f\x8b\x08\x00"] {
            assert_eq!(send("application/json", body).problem(), "bad-json");
        }
        // RFC 9110 §8.4: a coding that we do not undo makes it another body.
        let answer = v.raw.send(
            "POST",
            &v.path("/signers"),
            Some(&v.token),
            Some(b"\x1f\x8b\x08\x00"),
            &[("content-encoding", "gzip")],
        );
        assert_eq!(answer.problem(), "bad-json");
        // The token endpoint takes a form and nothing else (RFC 6749 §4).
        for kind in ["application/json", "text/plain", "multipart/form-data; boundary=x"] {
            let answer = v.raw.send(
                "POST",
                "/v1/token",
                None,
                Some(b"{}"),
                &[("content-type", kind)],
            );
            assert_eq!(
                (answer.status, answer.problem().as_str()),
                (415, "unsupported-media-type"),
                "{kind}"
            );
        }
    });
    // JSON has one character set, whatever its parameters say (RFC 8259 §8.1, §11).
    let made = send("Application/JSON; charset=utf-7", SIGNER.as_bytes());
    assert_eq!(made.status, 201, "{made:?}");
}
