//! Getting ID tokens from a running issuer.
#![allow(clippy::unwrap_used, clippy::panic)]

use countersign_client::{Error, Web, oidc};
use countersign_testkit::issuer::{Issuer, ServeOptions, TokenSpec};
use std::time::Duration;

fn start(options: ServeOptions) -> (countersign_testkit::TempDir, Issuer, Web) {
    let dir = countersign_testkit::tempdir().unwrap();
    let issuer = Issuer::start(dir.path(), "127.0.0.1:0", options).unwrap();
    let web = Web::new(Some(&issuer.ca_file()), Duration::from_secs(5)).unwrap();
    (dir, issuer, web)
}

fn claims(token: &str) -> String {
    use base64::Engine as _;
    let payload = token.split('.').nth(1).unwrap();
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(payload)
        .unwrap();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_person_logs_in_on_another_device() {
    let ada = TokenSpec::new("ada", "").mfa();
    let (_dir, issuer, web) = start(ServeOptions {
        auto_approve: Some(ada),
        ..ServeOptions::default()
    });
    let mut shown = String::new();
    let token = oidc::device_login(&web, issuer.url(), "countersign", None, |p| {
        shown.clone_from(&p.user_code);
    })
    .unwrap();
    assert_eq!(shown.len(), 8);
    let claims = claims(&token);
    assert!(
        claims.contains(r#""sub":"ada""#) && claims.contains(r#""aud":"countersign""#),
        "{claims}"
    );
}

#[test]
fn a_job_gets_a_token_for_the_audience_it_names() {
    let (_dir, issuer, web) = start(ServeOptions::default());
    let job = TokenSpec::new("repo:a/b", "default").claim("repository_id", "7");
    let (url, bearer) = issuer.state().add_job(&job).unwrap();
    let token = oidc::github_token(&web, &url, &bearer, "https://sign.example/a b").unwrap();
    assert!(claims(&token).contains(r#""aud":"https://sign.example/a b""#));
    let refused = oidc::github_token(&web, &url, "wrong", "x").unwrap_err();
    assert_eq!(refused.api().unwrap().status, 401);
}

#[test]
fn an_issuer_by_another_name_is_not_asked() {
    let (_dir, issuer, web) = start(ServeOptions::default());
    let alias = issuer.url().replace("localhost", "127.0.0.1");
    let e = oidc::device_login(&web, &alias, "countersign", None, |_| {}).unwrap_err();
    assert!(matches!(e, Error::BadAnswer { .. }), "{e}");
    let plain = alias.replace("https", "http");
    let e = oidc::device_login(&web, &plain, "countersign", None, |_| {}).unwrap_err();
    assert!(matches!(e, Error::Usage { .. }), "{e}");
}
