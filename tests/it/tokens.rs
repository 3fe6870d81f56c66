//! Who is let in, and as what: ID tokens that must not count, service tokens that are not ours or
//! not for this, roles, second factors, and the CLI's own keeping of tokens.

use crate::support::cli::Cli;
use crate::support::leaves::of_type;
use crate::support::raw::{Raw, RawAnswer};
use crate::support::{JOB_AUDIENCE, PEOPLE_AUDIENCE, REPOSITORY, Stack, job_spec, text};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_testkit::issuer::{Algorithm, Issuer, ServeOptions, TokenSpec};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_secs()
}

fn job() -> TokenSpec {
    job_spec(REPOSITORY)
}

/// A refused exchange: a problem document that is an OAuth error too (RFC 6749 §5.2). Its code.
fn refused(answer: &RawAnswer, error: &str) -> String {
    assert_eq!(answer.status, 400, "{answer:?}");
    let code = answer.problem();
    let body = answer.json();
    assert_eq!(body["error"], error, "{body}");
    assert_eq!(body["error_description"], body["detail"], "{body}");
    assert_eq!(
        body["type"],
        format!("urn:countersign:problem:{code}"),
        "{body}"
    );
    assert!(body.get("access_token").is_none(), "{body}");
    code
}

/// A token with its header replaced; payload and signature stay.
fn with_header(token: &str, header: &Value) -> String {
    let rest = token.split_once('.').expect("a JWT").1;
    format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header.to_string()))
}

fn header_of(token: &str) -> Value {
    let head = token.split('.').next().expect("a header");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(head).expect("base64url")).expect("JSON")
}

/// A token whose claims are changed after it was signed.
fn tampered(token: &str, change: impl FnOnce(&mut Value)) -> String {
    let parts: Vec<_> = token.split('.').collect();
    let mut claims: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).expect("base64url"))
            .expect("JSON");
    change(&mut claims);
    format!(
        "{}.{}.{}",
        parts[0],
        URL_SAFE_NO_PAD.encode(claims.to_string()),
        parts[2]
    )
}

fn whoami(raw: &Raw, token: &str) -> RawAnswer {
    raw.get("/v1/whoami", Some(token))
}

fn stranger(stack: &Stack, name: &str) -> Issuer {
    Issuer::start(&stack.path(name), "127.0.0.1:0", ServeOptions::default()).expect("an issuer")
}

#[test]
fn id_tokens_that_must_not_count_are_refused_with_the_reason() {
    let stack = Stack::shared();
    let admin = stack.tenant("tok-bad");
    let raw = stack.raw();
    let mint = |spec: TokenSpec| stack.platform.mint(&spec).expect("a token");
    let stranger = stranger(stack, "tok-bad-stranger");

    let good = mint(job());
    let other = mint(job().claim("run_id", "43"));
    let mut no_kid = header_of(&good);
    no_kid.as_object_mut().expect("object").remove("kid");
    let mut critical = header_of(&good);
    critical["crit"] = json!(["exp"]);
    let mut rsa_name = header_of(&good);
    rsa_name["alg"] = json!("RS256");
    let swapped = format!(
        "{}.{}",
        good.rsplit_once('.').expect("a JWT").0,
        other.rsplit_once('.').expect("a JWT").1
    );
    let bad = |spec: TokenSpec, says: &'static str| (mint(spec), "token-refused", says);
    let omitting = |name: &str| TokenSpec {
        omit: vec![name.to_owned()],
        ..job()
    };
    let with_alg = |alg| TokenSpec { alg, ..job() };

    let cases: Vec<(String, &str, &str)> = vec![
        (
            swapped,
            "token-refused",
            "signature is not by the issuer's key",
        ),
        (
            tampered(&good, |c| c["repository_id"] = json!("666")),
            "token-refused",
            "signature is not by the issuer's key",
        ),
        (
            // Signed by somebody else's key in the platform's name.
            stranger
                .mint(&job().claim("iss", stack.platform.url()))
                .expect("a token"),
            "token-refused",
            "key",
        ),
        (
            stranger.mint(&job()).expect("a token"),
            "issuer-unknown",
            "lists the token's issuer",
        ),
        bad(
            job().claim("exp", now() - 61).claim("iat", now() - 361),
            "expired",
        ),
        bad(job().claim("aud", PEOPLE_AUDIENCE), "audience is not"),
        bad(
            job().claim("aud", json!([JOB_AUDIENCE, "https://other.test"])),
            "several audiences",
        ),
        bad(job().claim("aud", json!([])), "no claim \"aud\""),
        bad(with_alg(Algorithm::None), "\"none\" is not accepted"),
        bad(with_alg(Algorithm::Hs256), "\"HS256\" is not accepted"),
        (
            with_header(&good, &rsa_name),
            "token-refused",
            "does not fit the issuer's key",
        ),
        (
            with_header(&good, &no_kid),
            "token-refused",
            "names no key (kid)",
        ),
        (with_header(&good, &critical), "token-refused", "(crit)"),
        bad(omitting("exp"), "no claim \"exp\""),
        bad(omitting("iat"), "no claim \"iat\""),
        bad(omitting("aud"), "no claim \"aud\""),
        bad(omitting("sub"), "no claim \"sub\""),
        bad(omitting("iss"), "no claim \"iss\""),
        bad(
            job().claim("exp", "tomorrow"),
            "\"exp\" is not what it must be",
        ),
        bad(
            job().claim("iat", now() - 3600).claim("exp", now() + 300),
            "accepted for 600 s",
        ),
        bad(job().claim("nbf", now() + 600), "(nbf)"),
        bad(
            job().claim("iat", now() + 600).claim("exp", now() + 900),
            "(iat)",
        ),
        (
            "not.a.jwt".into(),
            "token-refused",
            "not a signed JSON Web Token",
        ),
        (
            String::new(),
            "token-refused",
            "not a signed JSON Web Token",
        ),
        (
            format!("a.{}.c", "A".repeat(20_000)),
            "token-refused",
            "longer than",
        ),
    ];
    for (i, (token, code, says)) in cases.iter().enumerate() {
        let answer = raw.exchange(Some("tok-bad"), token);
        assert_eq!(
            refused(&answer, "invalid_request"),
            *code,
            "case {i} ({says}): {answer:?}"
        );
        let detail = answer.json()["detail"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        assert!(
            detail.contains(says),
            "case {i}: \"{says}\" in \"{detail}\""
        );
    }

    // None of that used the good one up, and either algorithm of the platform is fine.
    raw.exchanged("tok-bad", &good);
    raw.exchanged("tok-bad", &mint(with_alg(Algorithm::Rs256)));
    // A list of one audience is that audience (RFC 7519 §4.1.3).
    raw.exchanged("tok-bad", &mint(job().claim("aud", json!([JOB_AUDIENCE]))));

    let leaves = admin.tenant_leaves(&stack.path("tok-bad-log"));
    let exchanged = of_type(&leaves, "token-exchanged")
        .into_iter()
        .filter(|l| l["issuer"] == stack.platform.url())
        .count();
    assert_eq!(exchanged, 3, "only what was let in stands as exchanged");
}

#[test]
fn each_id_token_counts_once() {
    let stack = Stack::shared();
    stack.tenant("tok-once");
    let raw = stack.raw();
    let token = stack.job_token(REPOSITORY);
    raw.exchanged("tok-once", &token);
    let again = raw.exchange(Some("tok-once"), &token);
    assert_eq!(refused(&again, "invalid_request"), "token-replayed");
    // The same id, signed anew: the same token.
    let spec = job().claim("jti", "build-42");
    raw.exchanged("tok-once", &stack.platform.mint(&spec).expect("a token"));
    let twin = stack
        .platform
        .mint(&spec.claim("run_id", "44"))
        .expect("a token");
    let again = raw.exchange(Some("tok-once"), &twin);
    assert_eq!(refused(&again, "invalid_request"), "token-replayed");

    // Many at once: one wins.
    let token = stack.job_token(REPOSITORY);
    let answers: Vec<_> = std::thread::scope(|s| {
        let runs: Vec<_> = (0..8)
            .map(|_| s.spawn(|| stack.raw().exchange(Some("tok-once"), &token).status))
            .collect();
        runs.into_iter().map(|r| r.join().expect("a run")).collect()
    });
    assert_eq!(
        answers.iter().filter(|s| **s == 200).count(),
        1,
        "{answers:?}"
    );
    assert_eq!(
        answers.iter().filter(|s| **s == 400).count(),
        7,
        "{answers:?}"
    );
}

#[test]
fn another_tenants_issuer_is_nobody_here() {
    let stack = Stack::shared();
    stack.tenant("tok-here");
    let there = stack.tenant("tok-there");
    let theirs = stranger(stack, "tok-theirs");
    there.ok(&[
        "issuers",
        "add",
        "--kind",
        "pipelines",
        "--issuer",
        theirs.url(),
        "--audience",
        JOB_AUDIENCE,
        "--issuer-ca-file",
        &text(&theirs.ca_file()),
    ]);
    let raw = stack.raw();
    let mint = || theirs.mint(&job()).expect("a token");
    raw.exchanged("tok-there", &mint());
    let here = raw.exchange(Some("tok-here"), &mint());
    let nowhere = raw.exchange(Some("tok-nowhere"), &mint());
    assert_eq!(refused(&here, "invalid_request"), "issuer-unknown");
    assert_eq!(refused(&nowhere, "invalid_request"), "issuer-unknown");
    // A tenant that does not exist and one that does not list the issuer: one answer.
    let without_id = |a: &RawAnswer| {
        let mut body = a.json();
        body.as_object_mut().expect("object").remove("instance");
        body
    };
    assert_eq!(without_id(&here), without_id(&nowhere));
}

#[test]
fn the_token_endpoint_answers_by_rfc_8693_and_rfc_6749() {
    let stack = Stack::shared();
    stack.tenant("tok-form");
    let raw = stack.raw();
    const GRANT: &str = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange";
    const ID_TOKEN: &str = "subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aid_token";
    let post = |body: String, kind: &str| {
        raw.send(
            "POST",
            "/v1/token",
            None,
            Some(body.as_bytes()),
            &[("content-type", kind)],
        )
    };
    let form = |body: String| post(body, "application/x-www-form-urlencoded");
    let token = stack.job_token(REPOSITORY);

    let answer = form(format!(
        "{GRANT}&{ID_TOKEN}&subject_token={token}&tenant=tok-form"
    ));
    assert_eq!(answer.status, 200, "{answer:?}");
    let body = answer.json();
    assert_eq!(body["token_type"], "Bearer");
    assert_eq!(
        body["issued_token_type"],
        "urn:ietf:params:oauth:token-type:access_token"
    );
    let life = body["expires_in"].as_i64().expect("expires_in");
    assert!((1..=300).contains(&life), "{life}");

    let token = stack.job_token(REPOSITORY);
    for (body, error, field) in [
        (
            format!(
                "grant_type=authorization_code&{ID_TOKEN}&subject_token={token}&tenant=tok-form"
            ),
            "unsupported_grant_type",
            Some("grant_type"),
        ),
        (
            format!(
                "{GRANT}&subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Asaml2\
                 &subject_token={token}&tenant=tok-form"
            ),
            "invalid_request",
            Some("subject_token_type"),
        ),
        (
            format!(
                "{GRANT}&{ID_TOKEN}&subject_token={token}&tenant=tok-form\
                 &requested_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Arefresh_token"
            ),
            "invalid_request",
            Some("requested_token_type"),
        ),
        (
            format!("{GRANT}&{ID_TOKEN}&tenant=tok-form"),
            "invalid_request",
            None,
        ),
        (
            format!("{GRANT}&{ID_TOKEN}&subject_token={token}&tenant=tok-form&actor_token=x"),
            "invalid_request",
            None,
        ),
        (
            format!("{GRANT}&{ID_TOKEN}&subject_token={token}&tenant=No+Name"),
            "invalid_request",
            None,
        ),
        (
            format!(
                "{GRANT}&{ID_TOKEN}&subject_token={token}&tenant=tok-form&scope=tok-once%2Frelease"
            ),
            "invalid_request",
            None,
        ),
    ] {
        let answer = form(body);
        assert_eq!(refused(&answer, error), "token-request", "{answer:?}");
        if let Some(field) = field {
            assert_eq!(answer.json()["field"], field, "{answer:?}");
        }
    }
    let json = post(json!({"grant_type": "x"}).to_string(), "application/json");
    assert_eq!(
        (json.status, json.problem().as_str()),
        (415, "unsupported-media-type")
    );
    // Whatever was wrong with the request did not use the token up.
    raw.exchanged("tok-form", &token);
}

#[test]
fn service_tokens_are_ours_alive_and_of_one_tenant() {
    let stack = Stack::shared();
    stack.tenant("tok-mine");
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
    stack.tenant("tok-short");
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
            "content": {"type": "cms", "signed_attributes": crate::content::cms_attributes(b"a file")},
            "digest_algorithm": "sha-256",
        });
        raw.post(
            &format!("/v1/tenants/tok-scope/signers/{signer}/signatures"),
            Some(&token),
            &body,
        )
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

/// Somebody with a home of their own, logged in with this token.
fn logged_in(home: &str, spec: TokenSpec, tenant: Option<&str>) -> Cli {
    let stack = Stack::shared();
    let file = stack.path(&format!("{home}.jwt"));
    std::fs::write(&file, stack.people.mint(&spec).expect("a token")).expect("token file");
    let cli = stack.cli(home);
    let cli = match tenant {
        Some(t) => cli.of(t),
        None => cli,
    };
    cli.ok(&["login", "--token-file", &text(&file)]);
    cli
}

#[test]
fn administration_wants_a_second_factor_and_the_role() {
    let stack = Stack::shared();
    let admin = stack.tenant("tok-roles");
    let create = [
        "signers",
        "create",
        "tok-roles/release",
        "--algorithm",
        "ec-p256",
    ];

    // The admin, but without a second factor.
    let weak = logged_in(
        "tok-roles-weak",
        TokenSpec::new("tok-roles-admin", PEOPLE_AUDIENCE),
        Some("tok-roles"),
    );
    weak.ok(&["keys", "list"]);
    let out = weak.ends(3, &[&["--json"][..], &create].concat());
    let told: Value = serde_json::from_str(&out.stdout).expect("JSON");
    assert_eq!(told["error"]["code"], "mfa-required", "{told}");
    assert!(
        weak.ends(3, &create)
            .says("log in again with a second factor")
    );
    // An `amr` that is not one of the issuer's second factors is none.
    let otherwise = TokenSpec::new("tok-roles-admin", PEOPLE_AUDIENCE).claim("amr", json!(["pwd"]));
    logged_in("tok-roles-pwd", otherwise, Some("tok-roles")).ends(3, &create);
    // The operator's own actions want it too.
    let operator = logged_in(
        "tok-roles-olga",
        TokenSpec::new("olga", PEOPLE_AUDIENCE),
        None,
    );
    operator.ends(3, &["admin", "tenant", "list"]);

    // An auditor reads all and changes nothing.
    admin.ok(&[
        "members",
        "add",
        "--issuer",
        stack.people.url(),
        "--subject",
        "ada",
        "--role",
        "auditor",
    ]);
    let ada = stack.person("ada", Some("tok-roles"));
    assert_eq!(ada.json(&["whoami"])["roles"], json!(["auditor"]));
    admin.ok(&create);
    let key = admin.json(&["keys", "create", "tok-roles/release"])["id"]
        .as_str()
        .unwrap()
        .to_owned();
    for read in [
        &["keys", "list"][..],
        &["keys", "show", &key],
        &["signers", "list"],
        &["grants", "list"],
        &["members", "list"],
        &["issuers", "list"],
        &["policy", "show"],
        &["log", "list"],
    ] {
        ada.ok(read);
    }
    let log = text(&stack.path("tok-roles-ada"));
    ada.ok(&["log", "download", "--all", "--out", &log]);
    let claim = format!("repository_id={REPOSITORY}");
    for change in [
        &[
            "signers",
            "create",
            "tok-roles/other",
            "--algorithm",
            "ec-p256",
        ][..],
        &["keys", "create", "tok-roles/release"],
        &["keys", "retire", &key, "--reason", "no"],
        &["policy", "set", "--require-mfa", "false"],
        &[
            "members",
            "add",
            "--issuer",
            stack.people.url(),
            "--subject",
            "ada",
            "--role",
            "admin",
        ],
        &[
            "grants",
            "add",
            "tok-roles/release",
            "--issuer",
            stack.platform.url(),
            "--claim",
            &claim,
            "--claim",
            "environment=release",
            "--content",
            "cms",
        ],
        &[
            "csr",
            "export",
            &key,
            "--ca-audience",
            "x",
            "--common-name",
            "A",
            "--organization",
            "A",
            "--country",
            "US",
            "--out",
            &log,
        ],
    ] {
        let out = ada.ends(3, change);
        assert!(out.says("admin"), "it says which role is missing: {out:?}");
    }
    assert_eq!(
        admin.json(&["members", "list"]).as_array().map(Vec::len),
        Some(2)
    );

    // No role: no reading. A role that was taken is gone at once, whatever session is open.
    let nobody = stack.person("mallory", Some("tok-roles"));
    nobody.ends(3, &["keys", "list"]);
    admin.ok(&[
        "members",
        "remove",
        "--issuer",
        stack.people.url(),
        "--subject",
        "ada",
        "--role",
        "auditor",
    ]);
    ada.ends(3, &["keys", "list"]);
    // A pipeline has no role, and no grant gives it one.
    stack
        .job("tok-roles-job", REPOSITORY)
        .of("tok-roles")
        .ends(3, &["keys", "list"]);

    // The tenant may do without a second factor, by a decision in its log.
    admin.ok(&["policy", "set", "--require-mfa", "false"]);
    weak.ok(&[
        "signers",
        "create",
        "tok-roles/weak",
        "--algorithm",
        "ec-p256",
    ]);
    let leaves = admin.tenant_leaves(&stack.path("tok-roles-log"));
    assert_eq!(
        of_type(&leaves, "policy-set").last().expect("policy")["require_mfa"],
        false
    );
}

#[test]
fn a_person_logs_in_with_a_code_on_another_device() {
    let stack = Stack::shared();
    let admin = stack.tenant("tok-device");
    let person = TokenSpec::new("dora", "").mfa();
    let options = ServeOptions {
        auto_approve: Some(person),
    };
    let issuer =
        Issuer::start(&stack.path("tok-device-issuer"), "127.0.0.1:0", options).expect("an issuer");
    let ca = text(&issuer.ca_file());
    let login = [
        "login",
        "--issuer",
        issuer.url(),
        "--issuer-ca-file",
        &ca,
        "--audience",
        "tok-device",
    ];
    let dora = stack.cli("tok-device-dora").of("tok-device");
    // The issuer says yes, the tenant does not know it.
    let out = dora.ends(3, &login);
    assert!(out.says("not registered for this tenant"), "{out:?}");
    admin.ok(&[
        "issuers",
        "add",
        "--kind",
        "people",
        "--issuer",
        issuer.url(),
        "--audience",
        "tok-device",
        "--issuer-ca-file",
        &ca,
        "--mfa-amr",
        "mfa",
        "--client-id",
        "countersign",
    ]);
    admin.ok(&[
        "members",
        "add",
        "--issuer",
        issuer.url(),
        "--subject",
        "dora",
        "--role",
        "admin",
    ]);
    let out = dora.ok(&login);
    assert!(
        out.stderr.contains("/device?user_code="),
        "it shows where to approve: {out:?}"
    );
    let me = dora.json(&["whoami"]);
    assert_eq!(me["subject"], "dora", "{me}");
    assert_eq!(me["issuer"], issuer.url(), "{me}");
    assert_eq!(
        (&me["roles"], &me["mfa"]),
        (&json!(["admin"]), &json!(true)),
        "{me}"
    );
    dora.ok(&[
        "signers",
        "create",
        "tok-device/release",
        "--algorithm",
        "ec-p256",
    ]);
}

/// The token files of a home.
fn token_files(cli: &Cli) -> Vec<std::path::PathBuf> {
    let dir = cli.home.join("tokens");
    assert_eq!(mode(&dir), 0o700);
    std::fs::read_dir(&dir)
        .expect("tokens")
        .map(|e| e.expect("entry").path())
        .collect()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path)
        .expect("metadata")
        .permissions()
        .mode()
        & 0o777
}

#[test]
fn a_jobs_second_sign_uses_the_kept_service_token() {
    let stack = Stack::shared();
    let admin = stack.tenant("tok-cache");
    stack.signer(&admin, "tok-cache/release", "ec-p256");
    let folder = stack.folder("tok-cache");
    let file = |name: &str| {
        let path = folder.join(name);
        std::fs::write(&path, name).expect("a file");
        text(&path)
    };
    let token = stack.job_token(REPOSITORY);
    let job = stack
        .cli("tok-cache-job")
        .env("COUNTERSIGN_ID_TOKEN", &token);
    let sign =
        |cli: &Cli, name: &str| cli.run(&["sign", "--signer", "tok-cache/release", &file(name)]);
    let first = sign(&job, "a.txt");
    assert_eq!(first.code, 0, "{first:?}");
    let files = token_files(&job);
    assert_eq!(files.len(), 1, "{files:?}");
    assert_eq!(mode(&files[0]), 0o600);
    let kept = std::fs::read_to_string(&files[0]).expect("token file");
    assert!(!kept.contains(&token), "the ID token itself is not kept");
    let second = sign(&job, "b.txt");
    assert_eq!(second.code, 0, "{second:?}");
    assert_eq!(token_files(&job), files);

    // Elsewhere, without that file, the token is used up.
    let thief = sign(
        &stack
            .cli("tok-cache-thief")
            .env("COUNTERSIGN_ID_TOKEN", &token),
        "c.txt",
    );
    assert_eq!(thief.code, 3, "{thief:?}");
    assert!(
        thief.says("used before") && thief.says("keep COUNTERSIGN_HOME"),
        "{thief:?}"
    );
    assert!(!folder.join("c.txt.p7s").exists());

    let leaves = admin.tenant_leaves(&stack.path("tok-cache-log"));
    let exchanged = of_type(&leaves, "token-exchanged");
    let by_job = exchanged
        .iter()
        .filter(|l| l["issuer"] == stack.platform.url())
        .count();
    assert_eq!(by_job, 1, "{exchanged:#?}");
}

#[test]
fn grants_explain_says_why_claim_by_claim() {
    let stack = Stack::shared();
    let admin = stack.tenant("tok-explain");
    stack.signer(&admin, "tok-explain/release", "ec-p256");
    let file = |name: &str, token: &str| {
        let path = stack.path(&format!("tok-explain-{name}.jwt"));
        std::fs::write(&path, token).expect("token file");
        text(&path)
    };
    let good = stack.job_token(REPOSITORY);
    let explain = |token: &str, more: &[&str]| {
        let args = [
            "grants",
            "explain",
            "tok-explain/release",
            "--token-file",
            token,
        ];
        admin.run(&[&args[..], more].concat())
    };

    let allowed = file("good", &good);
    let out = explain(&allowed, &["--content", "cms", "--digest", "sha-256"]);
    assert_eq!(out.code, 0, "{out:?}");
    assert!(out.stdout.starts_with("allowed, by grant "), "{out:?}");
    for line in [
        "ok  repository_id is \"4711\"",
        "ok  environment is \"release\"",
        "ok  (content type) is \"authenticode, cms\"",
    ] {
        assert!(out.stdout.contains(line), "{line} in {}", out.stdout);
    }

    let stranger = file("stranger", &stack.job_token("666"));
    let out = explain(&stranger, &[]);
    assert_eq!(out.code, 3, "{out:?}");
    assert!(
        out.stdout
            .contains("NO  repository_id: wants \"4711\", is \"666\""),
        "{out:?}"
    );
    assert!(
        out.stdout.contains("ok  environment is \"release\""),
        "{out:?}"
    );

    let content = explain(&allowed, &["--content", "raw-digest"]);
    assert_eq!(content.code, 3, "{content:?}");
    assert!(content.stdout.contains("NO  (content type)"), "{content:?}");

    let cased = stack
        .platform
        .mint(&job().claim("environment", "Release"))
        .expect("a token");
    let out = explain(&file("cased", &cased), &[]);
    assert_eq!(out.code, 3, "{out:?}");
    assert!(out.stdout.contains("(case counts)"), "{out:?}");

    // Right claims, wrong token.
    let old = stack
        .platform
        .mint(&job().claim("exp", now() - 100).claim("iat", now() - 400))
        .expect("a token");
    let out = explain(&file("old", &old), &[]);
    assert_eq!(out.code, 3, "{out:?}");
    assert!(
        out.stdout.contains("the token itself is not accepted") && out.says("expired"),
        "{out:?}"
    );

    let told = admin.run(&[
        "--json",
        "grants",
        "explain",
        "tok-explain/release",
        "--token-file",
        &stranger,
    ]);
    let told: Value = serde_json::from_str(&told.stdout).expect("JSON");
    assert_eq!(
        (&told["allowed"], &told["token"]["accepted"]),
        (&json!(false), &json!(true)),
        "{told}"
    );
    let steps = told["reasons"][0]["steps"].as_array().expect("steps");
    let step = steps
        .iter()
        .find(|s| s["claim"] == "repository_id")
        .expect("the claim");
    assert_eq!(
        (&step["wanted"], &step["seen"]),
        (&json!("4711"), &json!("666")),
        "{step}"
    );

    // Explaining used nothing up.
    stack.raw().exchanged("tok-explain", &good);
    // What is refused there is refused at the signer, with the same words.
    let out = stack
        .job("tok-explain-stranger", "666")
        .ends(3, &["sign", "--signer", "tok-explain/release", &allowed]);
    assert!(
        out.says("NO  repository_id: wants \"4711\", is \"666\""),
        "{out:?}"
    );
}
