//! How the API answers, whoever asks.

use crate::deployment::WithOperator;
use serde_json::{Value, json};

/// The body without its request id.
fn without_id(body: &[u8]) -> Value {
    let mut v: Value = serde_json::from_slice(body).unwrap();
    assert!(v.as_object_mut().unwrap().remove("instance").is_some());
    v
}

#[test]
fn the_public_routes_need_no_token_and_all_others_do() {
    let t = WithOperator::new();
    for path in ["/healthz", "/readyz", "/openapi.json", "/v1/service/keys"] {
        assert_eq!(t.server.get(path, None).status, 200, "{path}");
    }
    let keys = t.server.get("/v1/service/keys", None).json();
    assert_eq!(keys["statement"]["sha256"].as_str().unwrap().len(), 64);

    let spec = t.server.get("/openapi.json", None).json();
    let zero = "00000000-0000-0000-0000-000000000000";
    let mut asked = 0;
    for (path, item) in spec["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let public = |s: &serde_json::Value| s.as_array().is_some_and(Vec::is_empty);
            if operation.get("security").is_none_or(public) {
                continue;
            }
            let path = path
                .replace("{log}", zero)
                .replace("{key}", zero)
                .replace("{order}", zero)
                .replace("{grant}", zero)
                .replace("{path}", "0/000")
                .replace("{tenant}", "acme")
                .replace("{signer}", "release");
            for token in [None, Some("Bearer x.y.z"), Some("Basic b2xnYTpw")] {
                let headers: Vec<_> = token.iter().map(|t| ("authorization", *t)).collect();
                let answer = t.server.send(&method.to_uppercase(), &path, &headers, b"");
                assert_eq!(answer.status, 401, "{method} {path} {token:?}");
                assert!(answer.header("www-authenticate").starts_with("Bearer"));
            }
            asked += 1;
        }
    }
    assert!(asked > 30, "{asked}");
}

#[test]
fn what_is_absent_and_what_is_anothers_is_one_answer() {
    let t = WithOperator::new();
    let token = t.token();
    let zero = "01900000-0000-7000-8000-000000000000";
    let mut answers = Vec::new();
    for path in [
        "/v1/tenants/nobody".to_owned(),
        "/v1/tenants/Not%20A%20Name".to_owned(),
        "/v1/tenants/nobody/keys".to_owned(),
        format!("/v1/tenants/nobody/keys/{zero}"),
        "/v1/tenants/nobody/keys/no-uuid".to_owned(),
        "/v1/tenants/nobody/signers/release".to_owned(),
        format!("/v1/tenants/nobody/logs/{zero}/checkpoint"),
        format!("/log/{zero}/checkpoint"),
        format!("/log/{zero}/tile/0/000"),
        format!("/log/{zero}/tile/entries/000.p/1"),
        format!("/log/{zero}/tile/nonsense"),
        "/v2/anything".to_owned(),
        "/".to_owned(),
    ] {
        let answer = t.server.get(&path, Some(&token));
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(
            answer.header("content-type"),
            "application/problem+json",
            "{path}"
        );
        answers.push((path, without_id(&answer.body)));
    }
    for (path, body) in &answers {
        assert_eq!(*body, answers[0].1, "{path}");
    }
}

#[test]
fn every_answer_has_a_request_id_and_the_callers_is_taken_if_it_is_plain() {
    let t = WithOperator::new();
    let with = |id: &str| {
        let a = t
            .server
            .send("GET", "/v1/nothing", &[("x-request-id", id)], b"");
        assert_eq!(
            a.json()["instance"].as_str().unwrap(),
            a.header("x-request-id")
        );
        a.header("x-request-id").to_owned()
    };
    assert_eq!(with("build-42.a_B"), "build-42.a_B");
    for bad in ["a b", "a/b", "\"", &"x".repeat(65)] {
        let made = with(bad);
        assert!(made.len() == 32 && made != *bad, "{made}");
    }
}

#[test]
fn bad_bodies_are_told_apart_and_name_the_field() {
    let t = WithOperator::new();
    let token = t.token();
    let bearer = format!("Bearer {token}");
    let send = |kind: &str, body: &[u8]| {
        let headers = [("authorization", bearer.as_str()), ("content-type", kind)];
        let a = t.server.send("POST", "/v1/tenants", &headers, body);
        (
            a.status,
            a.code(),
            a.json()["field"].as_str().map(str::to_owned),
        )
    };
    let json = "application/json";
    let bad = |field: &str| (400, "bad-json".to_owned(), Some(field.to_owned()));
    assert_eq!(send(json, br#"{"name":"acme","colour":1}"#), bad("colour"));
    assert_eq!(send(json, br#"{"name":"Acme"}"#), bad("name"));
    assert_eq!(
        send(json, br#"{"name":"acme","admin":{"issuer":1}}"#),
        bad("admin.issuer")
    );
    assert_eq!(send(json, br#"{}"#), bad("name"));
    assert_eq!(send(json, b"{"), (400, "bad-json".into(), None));
    assert_eq!(
        send("text/plain", b"{}"),
        (415, "unsupported-media-type".into(), None)
    );
    assert_eq!(
        send(json, &vec![b' '; 65 * 1024]),
        (413, "too-large".into(), None)
    );
    let spec = br#"{"name":"acme","issuer":{"issuer":"https://x","kind":"cats","audience":"a"}}"#;
    assert_eq!(
        send(json, spec),
        (422, "invalid-field".into(), Some("kind".into()))
    );
}

#[test]
fn a_method_that_does_not_exist_is_a_problem_too() {
    let t = WithOperator::new();
    let answer = t.server.send("PATCH", "/v1/whoami", &[], b"");
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (405, "method-not-allowed")
    );
    assert!(answer.header("allow").contains("GET"), "{answer:?}");
}

#[test]
fn the_bootstrap_credential_works_once_and_a_wrong_one_never() {
    let t = WithOperator::new();
    let again = t.server.post("/v1/bootstrap", None, &t.registration());
    let mut wrong = t.registration();
    wrong["credential"] = json!("0".repeat(64));
    let wrong = t.server.post("/v1/bootstrap", None, &wrong);
    assert_eq!((again.status, wrong.status), (404, 404));
    assert_eq!(without_id(&again.body), without_id(&wrong.body));
}

#[test]
fn no_secret_reaches_the_log() {
    let t = WithOperator::new();
    let id_token = t.issuer.mint(&WithOperator::spec()).unwrap();
    let token = t.server.exchange(&id_token).json()["access_token"]
        .as_str()
        .unwrap()
        .to_owned();
    t.server.get("/v1/whoami", Some(&token));
    let log = crate::deployment::read(&t.deployment.path("log"));
    assert!(log.contains("\"route\":\"/v1/whoami\""), "{log}");
    let credential = crate::deployment::read(&t.deployment.path("bootstrap-credential"));
    for secret in [id_token.as_str(), token.as_str(), credential.trim(), "olga"] {
        assert!(!log.contains(secret), "{secret:.12}…");
    }
    for line in log.lines() {
        assert!(serde_json::from_str::<Value>(line).is_ok(), "{line}");
    }
}
