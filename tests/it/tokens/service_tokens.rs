//! Our own tokens: ours, alive, of one tenant, for the signers they name.

use super::{job, now, tampered, whoami};
use crate::content::cms_attributes;
use crate::support::{REPOSITORY, Stack};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_testkit::issuer::TokenSpec;
use serde_json::json;
use std::time::{Duration, Instant};

#[test]
fn service_tokens_are_ours_alive_and_of_one_tenant() {
    let stack = Stack::shared();
    stack.let_in(&stack.tenant("tok-mine"), "tok-mine", REPOSITORY);
    let other = stack.tenant("tok-yours");
    let raw = stack.raw();
    let token = stack.service_token("tok-mine", REPOSITORY);
    assert_eq!(whoami(&raw, &token).json()["tenant"], "tok-mine");

    let parts: Vec<_> = token.split('.').collect();
    let unsigned = format!(
        "{}.{}.",
        URL_SAFE_NO_PAD
            .encode(json!({"alg": "none", "typ": "countersign-service+jwt"}).to_string()),
        parts[1]
    );
    let another = stack.service_token("tok-mine", REPOSITORY);
    for (name, bad) in [
        (
            "longer life",
            tampered(&token, |c| c["exp"] = json!(now() + 86_400)),
        ),
        (
            "expired by its own words",
            tampered(&token, |c| c["exp"] = json!(now() - 10)),
        ),
        (
            "another tenant's name",
            tampered(&token, |c| c["tenant_name"] = json!("tok-yours")),
        ),
        (
            "a second factor",
            tampered(&token, |c| c["mfa"] = json!(true)),
        ),
        ("unsigned", unsigned),
        (
            "another's signature",
            format!(
                "{}.{}.{}",
                parts[0],
                parts[1],
                another.rsplit_once('.').unwrap().1
            ),
        ),
        ("cut", token[..token.len() - 4].to_owned()),
        ("an ID token", stack.job_token(REPOSITORY)),
        ("no token at all", "x".to_owned()),
    ] {
        let answer = whoami(&raw, &bad);
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (401, "unauthenticated"),
            "{name}"
        );
    }
    let nobody = raw.get("/v1/whoami", None);
    assert_eq!(
        (nobody.status, nobody.problem().as_str()),
        (401, "no-token")
    );
    let basic = raw.send(
        "GET",
        "/v1/whoami",
        None,
        None,
        &[("authorization", "Basic eDp4")],
    );
    assert_eq!((basic.status, basic.problem().as_str()), (401, "no-token"));

    // Another tenant's signer and one that does not exist: the same 404.
    other.ok(&[
        "signers",
        "create",
        "tok-yours/release",
        "--algorithm",
        "ec-p256",
    ]);
    let there = raw.get(
        "/v1/tenants/tok-yours/signers/release/certificate",
        Some(&token),
    );
    let nowhere = raw.get(
        "/v1/tenants/tok-nowhere/signers/release/certificate",
        Some(&token),
    );
    assert_eq!(
        (there.status, there.problem()),
        (404, "not-found".to_owned())
    );
    assert_eq!(
        (nowhere.status, nowhere.problem()),
        (404, "not-found".to_owned())
    );
    assert_eq!(there.json()["detail"], nowhere.json()["detail"]);
}

#[test]
fn a_service_token_lives_no_longer_than_its_id_token() {
    let stack = Stack::shared();
    stack.let_in(&stack.tenant("tok-short"), "tok-short", REPOSITORY);
    let raw = stack.raw();
    let spec = TokenSpec { ttl: 4, ..job() };
    let id_token = stack.platform.mint(&spec).expect("a token");
    let answer = raw.exchange(Some("tok-short"), &id_token);
    assert_eq!(answer.status, 200, "{answer:?}");
    let body = answer.json();
    assert!(
        body["expires_in"]
            .as_i64()
            .is_some_and(|s| (1..=4).contains(&s)),
        "{body}"
    );
    let token = body["access_token"].as_str().expect("access_token");
    let start = Instant::now();
    let end = loop {
        let answer = whoami(&raw, token);
        if answer.status != 200 {
            break answer;
        }
        assert!(start.elapsed() < Duration::from_secs(15), "it never ends");
        std::thread::sleep(Duration::from_millis(200));
    };
    assert_eq!(
        (end.status, end.problem().as_str()),
        (401, "unauthenticated")
    );
    assert!(
        end.json()["detail"]
            .as_str()
            .is_some_and(|d| d.contains("expired")),
        "{end:?}"
    );
}

#[test]
fn a_token_bound_to_a_signer_is_refused_for_another() {
    let stack = Stack::shared();
    let admin = stack.tenant("tok-scope");
    stack.signer(&admin, "tok-scope/release", "ec-p256");
    admin.ok(&[
        "signers",
        "create",
        "tok-scope/nightly",
        "--algorithm",
        "ec-p256",
    ]);
    let raw = stack.raw();
    let form = format!(
        "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange\
         &subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Ajwt\
         &subject_token={}&tenant=tok-scope&scope=tok-scope%2Frelease",
        stack.job_token(REPOSITORY)
    );
    let answer = raw.send(
        "POST",
        "/v1/token",
        None,
        Some(form.as_bytes()),
        &[("content-type", "application/x-www-form-urlencoded")],
    );
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["scope"], "release");
    let token = answer.json()["access_token"]
        .as_str()
        .expect("access_token")
        .to_owned();
    assert_eq!(whoami(&raw, &token).json()["signers"], json!(["release"]));

    let sign = |signer: &str| {
        let body = json!({
            "items": [{
                "id": "one",
                "content": {"type": "cms", "signed_attributes": cms_attributes(b"a file")},
                "digest_algorithm": "sha-256",
            }],
        });
        raw.sign("tok-scope", signer, &token, &body)
    };
    let ours = sign("release");
    assert_eq!(ours.status, 200, "{ours:?}");
    let other = sign("nightly");
    assert_eq!(
        (other.status, other.problem().as_str()),
        (403, "token-not-for-signer")
    );
    let leaf = admin.tenant_leaf(&stack.path("tok-scope-log"), "denied", |l| {
        l["signer"] == "nightly"
    });
    assert_eq!(leaf["reason"], "token-not-for-signer");
    let exchanged = admin.tenant_leaf(&stack.path("tok-scope-log"), "token-exchanged", |l| {
        l["signers"] == json!(["release"])
    });
    assert_eq!(exchanged["issuer"], stack.platform.url());
}
