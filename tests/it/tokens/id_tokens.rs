//! The exchange: which ID tokens count, and what the endpoint answers to the others.

use super::{job, now, tampered};
use crate::support::leaves::of_type;
use crate::support::raw::RawAnswer;
use crate::support::{JOB_AUDIENCE, PEOPLE_AUDIENCE, REPOSITORY, Stack, job_spec, text};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_testkit::issuer::{Algorithm, Issuer, ServeOptions, TokenSpec};
use serde_json::{Value, json};

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

fn stranger(stack: &Stack, name: &str) -> Issuer {
    Issuer::start(&stack.path(name), "127.0.0.1:0", ServeOptions::default()).expect("an issuer")
}

#[test]
fn id_tokens_that_must_not_count_are_refused_with_the_reason() {
    let stack = Stack::shared();
    let admin = stack.tenant("tok-bad");
    stack.let_in(&admin, "tok-bad", REPOSITORY);
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
    // What depends on the tenant's registrations is not told to whoever sends a token.
    let denied = |token: String| (token, "access-denied", "opens nothing here");
    let omitting = |name: &str| TokenSpec {
        omit: vec![name.to_owned()],
        ..job()
    };
    let with_alg = |alg| TokenSpec { alg, ..job() };

    let cases: Vec<(String, &str, &str)> = vec![
        denied(swapped),
        denied(tampered(&good, |c| c["repository_id"] = json!("666"))),
        // Signed by somebody else's key in the platform's name.
        denied(
            stranger
                .mint(&job().claim("iss", stack.platform.url()))
                .expect("a token"),
        ),
        denied(stranger.mint(&job()).expect("a token")),
        bad(
            job().claim("exp", now() - 61).claim("iat", now() - 361),
            "expired",
        ),
        denied(mint(job().claim("aud", PEOPLE_AUDIENCE))),
        bad(
            job().claim("aud", json!([JOB_AUDIENCE, "https://other.test"])),
            "several audiences",
        ),
        bad(job().claim("aud", json!([])), "no claim \"aud\""),
        bad(with_alg(Algorithm::None), "\"none\" is not accepted"),
        bad(with_alg(Algorithm::Hs256), "\"HS256\" is not accepted"),
        denied(with_header(&good, &rsa_name)),
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
        denied(mint(
            job().claim("iat", now() - 3600).claim("exp", now() + 300),
        )),
        // Within the skew of the clocks, but nothing of its life is left to give.
        bad(job().claim("exp", now() - 5), "expired"),
        bad(
            job().claim("padding", "x".repeat(9000)),
            "claims are larger",
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
        let error = match *code {
            "access-denied" => "access_denied",
            _ => "invalid_request",
        };
        assert_eq!(
            refused(&answer, error),
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
    stack.let_in(&stack.tenant("tok-once"), "tok-once", REPOSITORY);
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
    there.ok(&[
        "signers",
        "create",
        "tok-there/door",
        "--algorithm",
        "ec-p256",
    ]);
    there.ok(&[
        "grants",
        "add",
        "tok-there/door",
        "--issuer",
        theirs.url(),
        "--claim",
        &format!("repository_id={REPOSITORY}"),
        "--content",
        "cms",
        "--digest",
        "sha-256",
    ]);
    let raw = stack.raw();
    let mint = || theirs.mint(&job()).expect("a token");
    raw.exchanged("tok-there", &mint());
    let here = raw.exchange(Some("tok-here"), &mint());
    let nowhere = raw.exchange(Some("tok-nowhere"), &mint());
    assert_eq!(refused(&here, "access_denied"), "access-denied");
    // A tenant that does not exist and one that does not list the issuer: one answer.
    assert_eq!(but_for_its_id(&here), but_for_its_id(&nowhere));
}

#[test]
fn a_stranger_at_a_shared_issuer_learns_nothing_and_costs_no_leaf() {
    let stack = Stack::shared();
    let admin = stack.tenant("tok-shared");
    stack.let_in(&admin, "tok-shared", REPOSITORY);
    admin.ok(&[
        "members",
        "add",
        "--issuer",
        stack.people.url(),
        "--subject",
        "tok-shared-ada",
        "--role",
        "auditor",
    ]);
    // A tenant that trusts the same platform and has no grant at all.
    stack.tenant("tok-empty");
    let log = stack.path("tok-shared-log");
    let before = admin.tenant_leaves(&log).len();

    let raw = stack.raw();
    let job_of = |repository: &str| stack.platform.mint(&job_spec(repository)).expect("a token");
    let person = |sub: &str| {
        let spec = TokenSpec::new(sub, PEOPLE_AUDIENCE).mfa();
        stack.people.mint(&spec).expect("a token")
    };
    let nowhere = raw.exchange(Some("tok-nowhere"), &job_of("666"));
    assert_eq!(refused(&nowhere, "access_denied"), "access-denied");
    let guarded = job().claim("event_name", "pull_request");
    let mut strangers = Vec::new();
    for token in [
        job_of("666"),
        job_of("667"),
        stack.platform.mint(&guarded).expect("a token"),
        person("mallory"),
    ] {
        let answer = raw.exchange(Some("tok-shared"), &token);
        assert_eq!(but_for_its_id(&answer), but_for_its_id(&nowhere));
        // Byte for byte, but for the id.
        let text = |a: &RawAnswer| String::from_utf8_lossy(&a.body).replace(&a.request_id, "");
        assert_eq!(text(&answer), text(&nowhere));
        strangers.push(token);
    }
    // A grant for one signer is none for another.
    let scoped = raw.send(
        "POST",
        "/v1/token",
        None,
        Some(
            format!(
                "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&tenant=tok-shared\
                 &subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aid_token\
                 &scope=other&subject_token={}",
                stack.job_token(REPOSITORY)
            )
            .as_bytes(),
        ),
        &[("content-type", "application/x-www-form-urlencoded")],
    );
    assert_eq!(but_for_its_id(&scoped), but_for_its_id(&nowhere));
    for tenant in ["tok-empty", "tok-here-not"] {
        let answer = raw.exchange(Some(tenant), &job_of(REPOSITORY));
        assert_eq!(
            but_for_its_id(&answer),
            but_for_its_id(&nowhere),
            "{tenant}"
        );
    }
    // The operator's realm knows the platform's people alone, and of those the operator.
    for token in [job_of(REPOSITORY), person("mallory")] {
        assert_eq!(
            but_for_its_id(&raw.exchange(None, &token)),
            but_for_its_id(&nowhere)
        );
    }
    // Who has business here is let in; the strangers' tokens were not used up, nor are they later.
    raw.exchanged("tok-shared", &job_of(REPOSITORY));
    raw.exchanged("tok-shared", &person("tok-shared-ada"));
    stack.grant_to(&admin, "tok-shared/door", "666", &["cms"]);
    raw.exchanged("tok-shared", &strangers[0]);

    // One leaf counts them all, whatever their number; what came after it waits.
    let counts = |leaves: &[Value]| -> Vec<u64> {
        of_type(leaves, "denied")
            .iter()
            .filter(|l| l["reason"] == "no-role-or-grant")
            .map(|l| l["count"].as_u64().expect("count"))
            .collect()
    };
    admin.tenant_leaves_until(&log, "the strangers", |l| !counts(l).is_empty());
    for _ in 0..20 {
        raw.exchange(Some("tok-shared"), &job_of("668"));
    }
    let denied = admin.tenant_leaf(&log, "denied", |l| l["reason"] == "no-role-or-grant");
    assert!(denied.get("signer").is_none(), "{denied}");
    // Another kind of refusal goes into the log as ever, and no second leaf of strangers with it.
    raw.post(
        "/v1/tenants/tok-shared/signers",
        Some(&raw.exchanged("tok-shared", &person("tok-shared-ada"))),
        &json!({"signer": "x", "algorithm": "ec-p256"}),
    );
    let leaves = admin.tenant_leaves_until(&log, "the auditor's try", |l| {
        of_type(l, "denied")
            .iter()
            .any(|l| l["reason"] == "role-missing")
    });
    let counted = counts(&leaves);
    assert_eq!(counted.len(), 1, "{counted:?}");
    assert!((1..=5).contains(&counted[0]), "{counted:?}");
    // The exchanges of the four who were let in, a grant, two refusals, and checkpoints of no key.
    let exchanged = of_type(&leaves[before..], "token-exchanged").len();
    assert_eq!(exchanged, 4, "{:#?}", &leaves[before..]);
    assert_eq!(leaves.len() - before, 4 + 1 + 2, "{:#?}", &leaves[before..]);
}

/// The body without the one thing that may differ.
fn but_for_its_id(answer: &RawAnswer) -> Value {
    let mut body = answer.json();
    assert_eq!(
        body.as_object_mut().expect("object").remove("instance"),
        Some(answer.request_id.as_str().into())
    );
    body
}

#[test]
fn the_token_endpoint_answers_by_rfc_8693_and_rfc_6749() {
    let stack = Stack::shared();
    stack.let_in(&stack.tenant("tok-form"), "tok-form", REPOSITORY);
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
