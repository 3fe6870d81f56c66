//! ID tokens through the whole of `POST /v1/token`, with a real issuer over HTTPS.

use crate::deployment::{AUDIENCE, ID_TOKEN, WithOperator};
use countersign_testkit::issuer::{Algorithm, Issuer, ServeOptions, TokenSpec};
use serde_json::json;

#[test]
fn a_good_token_becomes_a_short_service_token() {
    let t = WithOperator::new();
    let answer = t
        .server
        .exchange(&t.issuer.mint(&WithOperator::spec()).unwrap());
    assert_eq!(answer.status, 200, "{}", answer.json());
    assert_eq!(answer.header("cache-control"), "no-store");
    let body = answer.json();
    assert_eq!(body["token_type"], "Bearer");
    assert!(
        (1..=300).contains(&body["expires_in"].as_i64().unwrap()),
        "{body}"
    );
    let me = t
        .server
        .get("/v1/whoami", body["access_token"].as_str())
        .json();
    assert_eq!(me["roles"], json!(["operator"]));
    assert_eq!((&me["subject"], &me["mfa"]), (&json!("olga"), &json!(true)));

    // No longer than the ID token itself.
    let mut short = WithOperator::spec();
    short.ttl = 60;
    let answer = t.server.exchange(&t.issuer.mint(&short).unwrap()).json();
    assert!(answer["expires_in"].as_i64().unwrap() <= 60, "{answer}");
}

#[test]
fn each_bad_token_is_refused_and_says_why() {
    let t = WithOperator::new();
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let spec = WithOperator::spec;
    let alg = |alg: Algorithm| TokenSpec { alg, ..spec() };
    let without = |claim: &str| TokenSpec {
        omit: vec![claim.to_owned()],
        ..spec()
    };
    let cases = [
        ("no signature", alg(Algorithm::None), "algorithm"),
        ("hmac by the public key", alg(Algorithm::Hs256), "algorithm"),
        ("expired", spec().claim("exp", now - 61), "expired"),
        ("not yet", spec().claim("nbf", now + 120), "nbf"),
        ("from the future", spec().claim("iat", now + 120), "future"),
        (
            "several audiences",
            spec().claim("aud", json!([AUDIENCE, "x"])),
            "audiences",
        ),
        ("no exp", without("exp"), "\"exp\""),
        ("no iat", without("iat"), "\"iat\""),
        ("no aud", without("aud"), "\"aud\""),
        ("no sub", without("sub"), "\"sub\""),
    ];
    for (name, spec, word) in cases {
        let answer = t.server.exchange(&t.issuer.mint(&spec).unwrap());
        let body = answer.json();
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (400, "token-refused"),
            "{name}: {body}"
        );
        assert_eq!(body["error"], "invalid_request", "{name}");
        assert!(
            body["detail"].as_str().unwrap().contains(word),
            "{name}: {body}"
        );
    }
    // What depends on what is registered here is not told.
    let sigstore = TokenSpec {
        aud: "sigstore".into(),
        ..spec()
    };
    for spec in [spec().claim("iat", now - 3600), sigstore] {
        let answer = t.server.exchange(&t.issuer.mint(&spec).unwrap());
        let body = answer.json();
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (400, "access-denied"),
            "{body}"
        );
        assert_eq!(body["error"], "access_denied", "{body}");
    }
    let garbage = t.server.exchange("not.a.token");
    assert_eq!(
        (garbage.status, garbage.code().as_str()),
        (400, "token-refused")
    );
}

#[test]
fn a_token_counts_once_and_so_does_its_id() {
    let t = WithOperator::new();
    let token = t.issuer.mint(&WithOperator::spec()).unwrap();
    assert_eq!(t.server.exchange(&token).status, 200);
    assert_eq!(t.server.exchange(&token).code(), "token-replayed");
    let named = WithOperator::spec().claim("jti", "the-same");
    assert_eq!(
        t.server.exchange(&t.issuer.mint(&named).unwrap()).status,
        200
    );
    let again = named.claim("nonce", "other");
    assert_eq!(
        t.server.exchange(&t.issuer.mint(&again).unwrap()).code(),
        "token-replayed"
    );
}

#[test]
fn a_replay_is_known_after_a_restart() {
    let mut t = WithOperator::new();
    let token = t.issuer.mint(&WithOperator::spec()).unwrap();
    assert_eq!(t.server.exchange(&token).status, 200);
    t.server.terminate();
    t.server.program.child().wait().unwrap();
    t.server = t.deployment.serve();
    assert_eq!(t.server.exchange(&token).code(), "token-replayed");
}

#[test]
fn an_unknown_issuer_and_an_unknown_tenant_are_one_answer() {
    let t = WithOperator::new();
    let dir = tempfile::tempdir().unwrap();
    let other = Issuer::start(dir.path(), "127.0.0.1:0", ServeOptions::default()).unwrap();
    let unknown = t
        .server
        .exchange(&other.mint(&WithOperator::spec()).unwrap());
    assert_eq!(
        (unknown.status, unknown.code().as_str()),
        (400, "access-denied")
    );

    let token = t.issuer.mint(&WithOperator::spec()).unwrap();
    let body = format!(
        "grant_type={}&subject_token_type={ID_TOKEN}&subject_token={token}&tenant=nobody",
        crate::deployment::EXCHANGE
    );
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let tenant = t.server.send("POST", "/v1/token", &form, body.as_bytes());
    assert_eq!(tenant.json()["detail"], unknown.json()["detail"]);
    assert_eq!(tenant.code(), "access-denied");
    // Nothing was used up.
    assert_eq!(t.server.exchange(&token).status, 200);
}

#[test]
fn another_issuers_key_does_not_sign_for_this_one() {
    let t = WithOperator::new();
    let dir = tempfile::tempdir().unwrap();
    let other = Issuer::start(dir.path(), "127.0.0.1:0", ServeOptions::default()).unwrap();
    let forged = WithOperator::spec().claim("iss", t.issuer.url());
    let answer = t.server.exchange(&other.mint(&forged).unwrap());
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (400, "access-denied")
    );
}

#[test]
fn an_oauth_parameter_that_is_wrong_is_named() {
    let t = WithOperator::new();
    let form = [("content-type", "application/x-www-form-urlencoded")];
    for (body, error, field) in [
        (
            "grant_type=password&subject_token=x&subject_token_type=y",
            "unsupported_grant_type",
            "grant_type",
        ),
        (
            "grant_type=urn:ietf:params:oauth:grant-type:token-exchange&subject_token=x&subject_token_type=y",
            "invalid_request",
            "subject_token_type",
        ),
    ] {
        let answer = t.server.send("POST", "/v1/token", &form, body.as_bytes());
        assert_eq!(answer.status, 400);
        assert_eq!(
            (&answer.json()["error"], &answer.json()["field"]),
            (&json!(error), &json!(field))
        );
    }
    let answer = t.server.send("POST", "/v1/token", &form, b"grant_type=x");
    assert_eq!(
        (answer.status, &answer.json()["error"]),
        (400, &json!("invalid_request"))
    );
}
