//! The issuer and the timestamp authority, asked over the network by clients that are not ours.
#![allow(clippy::unwrap_used, clippy::panic)]

use countersign_testkit::issuer::{Algorithm, Issuer, ServeOptions, TokenSpec};
use countersign_testkit::tsa::Tsa;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{DecodingKey, Validation};
use serde_json::Value;
use std::process::Command;

fn agent(issuer: &Issuer) -> ureq::Agent {
    let pem = std::fs::read(issuer.ca_file()).unwrap();
    let root = ureq::tls::Certificate::from_pem(&pem).unwrap();
    let tls = ureq::tls::TlsConfig::builder()
        .root_certs(ureq::tls::RootCerts::new_with_certs(&[root]))
        .unversioned_rustls_crypto_provider(std::sync::Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ))
        .build();
    ureq::Agent::config_builder()
        .tls_config(tls)
        .http_status_as_error(false)
        .build()
        .new_agent()
}

fn get(agent: &ureq::Agent, url: &str) -> Value {
    let text = agent
        .get(url)
        .call()
        .unwrap()
        .body_mut()
        .read_to_string()
        .unwrap();
    serde_json::from_str(&text).unwrap()
}

fn post(agent: &ureq::Agent, url: &str, form: &[(&str, &str)]) -> Value {
    let mut answer = agent.post(url).send_form(form.iter().copied()).unwrap();
    serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap()
}

fn verify(agent: &ureq::Agent, issuer: &Issuer, token: &str, aud: &str) -> Option<Value> {
    let discovery = get(
        agent,
        &format!("{}/.well-known/openid-configuration", issuer.url()),
    );
    assert_eq!(discovery["issuer"], issuer.url());
    let jwks: JwkSet =
        serde_json::from_value(get(agent, discovery["jwks_uri"].as_str().unwrap())).unwrap();
    let header = jsonwebtoken::decode_header(token).ok()?;
    let jwk = jwks.find(&header.kid?)?;
    let mut rules = Validation::new(header.alg);
    rules.set_audience(&[aud]);
    rules.set_issuer(&[issuer.url()]);
    let key = DecodingKey::from_jwk(jwk).ok()?;
    Some(
        jsonwebtoken::decode::<Value>(token, &key, &rules)
            .ok()?
            .claims,
    )
}

#[test]
fn tokens_verify_against_the_published_keys_also_after_a_rotation() {
    let dir = countersign_testkit::tempdir().unwrap();
    let issuer = Issuer::start(dir.path(), "127.0.0.1:0", ServeOptions::default()).unwrap();
    let agent = agent(&issuer);
    let mut spec = TokenSpec::new("job", "me")
        .claim("repository_id", "7")
        .mfa();
    let old = issuer.mint(&spec).unwrap();
    issuer.state().rotate().unwrap();
    spec.alg = Algorithm::Rs256;
    let new = issuer.mint(&spec).unwrap();
    for token in [&old, &new] {
        let claims = verify(&agent, &issuer, token, "me").unwrap();
        assert_eq!(claims["repository_id"], "7");
        assert_eq!(claims["amr"][1], "mfa");
    }
    assert!(verify(&agent, &issuer, &old, "you").is_none());
    for alg in [Algorithm::None, Algorithm::Hs256] {
        spec.alg = alg;
        let bad = issuer.mint(&spec).unwrap();
        assert!(
            verify(&agent, &issuer, &bad, "me").is_none(),
            "{alg:?} is a bad token"
        );
    }
    spec.alg = Algorithm::Es256;
    spec.omit = vec!["exp".into()];
    assert!(verify(&agent, &issuer, &issuer.mint(&spec).unwrap(), "me").is_none());
}

#[test]
fn a_device_login_waits_and_then_yields_a_token() {
    let dir = countersign_testkit::tempdir().unwrap();
    let issuer = Issuer::start(dir.path(), "127.0.0.1:0", ServeOptions::default()).unwrap();
    let agent = agent(&issuer);
    let start = post(
        &agent,
        &format!("{}/device_authorization", issuer.url()),
        &[("client_id", "cli"), ("scope", "openid")],
    );
    let poll = || {
        post(
            &agent,
            &format!("{}/token", issuer.url()),
            &[
                ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
                ("device_code", start["device_code"].as_str().unwrap()),
                ("client_id", "cli"),
            ],
        )
    };
    assert_eq!(poll()["error"], "authorization_pending");
    assert_eq!(poll()["error"], "authorization_pending");
    let code = start["user_code"].as_str().unwrap();
    issuer
        .state()
        .approve(code, &TokenSpec::new("ada", "").mfa())
        .unwrap();
    let token = poll()["id_token"].as_str().unwrap().to_owned();
    assert_eq!(
        verify(&agent, &issuer, &token, "cli").unwrap()["sub"],
        "ada"
    );
    assert_eq!(
        poll()["error"],
        "expired_token",
        "a device code is used once"
    );
}

#[test]
fn a_ci_job_asks_for_its_own_audience() {
    let dir = countersign_testkit::tempdir().unwrap();
    let issuer = Issuer::start(dir.path(), "127.0.0.1:0", ServeOptions::default()).unwrap();
    let agent = agent(&issuer);
    let spec = TokenSpec::new("repo:a/b", "default").claim("event_name", "push");
    let (url, bearer) = issuer.state().add_job(&spec).unwrap();
    let mut answer = agent
        .get(format!("{url}&audience=sign"))
        .header("authorization", format!("Bearer {bearer}"))
        .call()
        .unwrap();
    let answer: Value = serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap();
    let claims = verify(&agent, &issuer, answer["value"].as_str().unwrap(), "sign").unwrap();
    assert_eq!(claims["event_name"], "push");
    let refused = agent
        .get(&url)
        .header("authorization", "Bearer ../keys")
        .call()
        .unwrap();
    assert_eq!(refused.status(), 401);
}

#[test]
fn openssl_verifies_the_timestamps() {
    let dir = countersign_testkit::tempdir().unwrap();
    let tsa = Tsa::start(dir.path(), "127.0.0.1:0").unwrap();
    let file = |name: &str| dir.path().join(name);
    std::fs::write(file("data"), b"released").unwrap();
    let openssl = |args: &[&str]| {
        let out = Command::new("openssl")
            .current_dir(dir.path())
            .args(args)
            .output()
            .unwrap();
        assert!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
    };
    for _ in 0..2 {
        openssl(&[
            "ts", "-query", "-data", "data", "-sha256", "-cert", "-out", "q",
        ]);
        let mut answer = ureq::post(tsa.url())
            .header("content-type", "application/timestamp-query")
            .send(&std::fs::read(file("q")).unwrap()[..])
            .unwrap();
        std::fs::write(file("r"), answer.body_mut().read_to_vec().unwrap()).unwrap();
        let root = tsa.root_file();
        openssl(&[
            "ts",
            "-verify",
            "-queryfile",
            "q",
            "-in",
            "r",
            "-CAfile",
            &root.to_string_lossy(),
        ]);
    }
}
