//! The verifier for anybody's keys, over HTTP: the same answer as the command's, bounded, and without
//! a token only where the operator allows it.

use crate::enrolment::evidence;
use crate::limits::set_limits;
use crate::support::raw::{Raw, RawAnswer};
use crate::support::wire::{Wire, request};
use crate::support::{PEOPLE_AUDIENCE, Stack, text};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_testkit::issuer::TokenSpec;
use countersign_testkit_evidence::cert;
use countersign_testkit_evidence::keys::{Key, Kind};
use countersign_testkit_evidence::yubihsm2::YubiHsm2;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

const VERIFY: &str = "/v1/attestations/verify";
/// In the life of every test certificate.
const AT: &str = "2026-01-02T03:04:05Z";

/// A service that trusts the test root, with these further lines of `[attestation]` and `[limits]`.
fn service(attestation: &str, limits: &str) -> Stack {
    let mut stack = Stack::bare();
    stack.configure(&evidence::trusted(&stack.folder("anchors")));
    stack.configure(&format!("{attestation}\n"));
    set_limits(&mut stack, limits);
    stack
}

/// A line of the configuration is replaced, and the service started anew.
fn reconfigure(stack: &mut Stack, old: &str, new: &str) {
    let config = std::fs::read_to_string(stack.config()).expect("configuration");
    assert!(config.contains(old), "{old}: {config}");
    std::fs::write(stack.config(), config.replace(old, new)).expect("configuration");
    stack.stop_server();
    stack.start_server(&[]);
}

/// The service token of a tenant's administrator.
fn known(stack: &Stack, tenant: &str) -> String {
    stack.tenant(tenant);
    let spec = TokenSpec::new(&format!("{tenant}-admin"), PEOPLE_AUDIENCE).mfa();
    let id = stack.people.mint(&spec).expect("a token");
    stack.raw().exchanged(tenant, &id)
}

fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// A body about a subject, with files.
fn body(subject: &str, bytes: &[u8], files: &[(String, Vec<u8>)]) -> Value {
    let files: Vec<_> = files
        .iter()
        .map(|(name, bytes)| json!({"name": name, "content": base64(bytes)}))
        .collect();
    json!({subject: base64(bytes), "evidence": files, "at": AT})
}

/// Asked without a token: it must be answered.
fn asked(raw: &Raw, body: &Value) -> Value {
    let answer = raw.post(VERIFY, None, body);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// Member and bytes of the subject, files, requirements; verdict, and the command's exit code.
type Case<'a> = (
    &'a str,
    &'a [u8],
    &'a [(String, Vec<u8>)],
    &'a [&'a str],
    &'a str,
    i32,
);

/// Names of the checks that stand in the way.
fn failing(result: &Value) -> Vec<&str> {
    let checks = result["checks"].as_array().expect("checks");
    let bad = |c: &&Value| c["outcome"] == "fail" || c["outcome"] == "unknown";
    let names = checks.iter().filter(bad);
    names.map(|c| c["name"].as_str().expect("a name")).collect()
}

/// One refusal: status, code, field.
fn refused(answer: &RawAnswer) -> (u16, String, String) {
    let code = answer.problem();
    let field = answer.json()["field"].as_str().unwrap_or_default().into();
    (answer.status, code, field)
}

#[test]
fn what_is_handed_in_is_appraised_as_the_command_does_for_anybody() {
    let stack = service("anyone_per_s = 1000", "");
    let raw = stack.raw();
    let device = YubiHsm2::default();
    let (spki, files) = (device.key.spki().to_vec(), device.files());
    let folder = stack.folder("handed-in");
    let write = |name: &str, bytes: &[u8]| -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, bytes).expect("written");
        path
    };
    let named: Vec<(String, Vec<u8>)> = files
        .iter()
        .enumerate()
        .map(|(i, b)| (text(&write(&format!("{i}.der"), b)), b.clone()))
        .collect();
    let csr = cert::request("Acme Inc.", &device.key, &[]);
    let other = Key::named(Kind::P256, "somebody else's key");
    let root = text(&stack.path("anchors/test-root.der"));

    // Accepted, refused, undecided, demanded: what the command says of the same files.
    let cases: [Case<'_>; 5] = [
        ("public_key", &spki, &named, &[], "accept", 0),
        ("csr", &csr, &named, &["sign-only"], "accept", 0),
        ("public_key", other.spki(), &named, &[], "reject", 1),
        ("csr", &csr, &named, &["fips=140-2:3"], "unverifiable", 2),
        ("csr", &csr, &[], &[], "unverifiable", 2),
    ];
    for (subject, bytes, files, require, verdict, code) in cases {
        let mut body = body(subject, bytes, files);
        body["require"] = json!(require);
        let result = asked(&raw, &body);
        assert_eq!(result["verdict"], verdict, "{:?}", failing(&result));
        let flag = format!("--{}", subject.replace('_', "-"));
        let file = text(&write(subject, bytes));
        let mut args = vec!["--json", "attestation", "verify", &flag, &file, "--at", AT];
        args.extend(["--trust-anchors", &root]);
        args.extend(require.iter().flat_map(|r| ["--require", r]));
        if !files.is_empty() {
            args.push("--evidence");
            args.extend(files.iter().map(|(name, _)| name.as_str()));
        }
        let said = stack.cli("nobody").ends(code, &args).stdout;
        // What was a file has the name of the member here; anchors have their names without their place.
        let said = said.replace(&file, subject).replace(&root, "test-root.der");
        let said: Value = serde_json::from_str(&said).expect("JSON");
        assert_eq!(result, said, "{subject} {require:?}");
    }
    // The command calls this a wrong call; here it is a question with an answer.
    let bare = asked(&raw, &body("public_key", &spki, &[]));
    assert_eq!(bare["verdict"], "unverifiable");
    let result = asked(&raw, &body("public_key", other.spki(), &named));
    assert!(failing(&result).contains(&"key-bound"), "{result}");

    // A nonce that the evidence does not carry proves nothing, and is demanded where it is said.
    let mut fresh = body("csr", &csr, &named);
    fresh["nonce"] = base64(&[7; 16]).into();
    fresh["require"] = json!(["fresh"]);
    assert_ne!(asked(&raw, &fresh)["verdict"], "accept");
    // Now, if no moment is given; what is not yet or no more valid then is said.
    let mut now = body("csr", &csr, &named);
    now.as_object_mut().expect("object").remove("at");
    assert_ne!(asked(&raw, &now)["appraised_at"], AT);

    // With a token the same; with a token that is none, a refusal.
    let token = known(&stack, "handing-in");
    let accepted = body("csr", &csr, &named);
    let answer = raw.post(VERIFY, Some(&token), &accepted);
    assert_eq!(answer.json(), asked(&raw, &accepted));
    let forged = raw.post(VERIFY, Some("forged"), &accepted);
    assert_eq!(
        (forged.status, forged.problem()),
        (401, "unauthenticated".into())
    );

    // What is wrong is named.
    let with = |member: &str, value: Value| {
        let mut body = body("csr", &csr, &named[..1]);
        body[member] = value;
        body
    };
    let file = |name: &str, content: &str| json!([{"name": name, "content": content}]);
    let both = with("public_key", base64(&spki).into());
    let mut none = with("at", AT.into());
    none.as_object_mut().expect("object").remove("csr");
    let large = base64(&vec![0; 640 * 1024]);
    let many: Vec<_> = (0..65)
        .map(|_| json!({"name": "x", "content": "AAAA"}))
        .collect();
    for (body, status, field) in [
        (both, 422, "csr"),
        (none, 422, "csr"),
        (with("csr", "".into()), 422, "csr"),
        (with("csr", "not base64!".into()), 400, "csr"),
        (
            with("evidence", file("x", "AAA")),
            400,
            "evidence[0].content",
        ),
        (with("evidence", file("x", "")), 422, "evidence[0].content"),
        (
            with("evidence", file("x", &large)),
            422,
            "evidence[0].content",
        ),
        (with("evidence", file("", "AAAA")), 422, "evidence[0].name"),
        (
            with("evidence", file("a\u{202e}b", "AAAA")),
            422,
            "evidence[0].name",
        ),
        (with("evidence", many.into()), 422, "evidence"),
        (
            with("evidence", json!([{"name": "x"}])),
            400,
            "evidence[0].content",
        ),
        (with("nonce", "".into()), 422, "nonce"),
        (with("nonce", base64(&[1; 65]).into()), 422, "nonce"),
        (with("require", json!(["sign-onyl"])), 422, "require[0]"),
        (
            with("require", json!(["sign-only", "x".repeat(257)])),
            422,
            "require[1]",
        ),
        (
            with("require", vec!["sign-only"; 33].into()),
            422,
            "require",
        ),
        (with("at", "yesterday".into()), 400, "at"),
        (with("at", "1969-12-31T23:59:59Z".into()), 422, "at"),
        (with("tenant", "acme".into()), 400, "tenant"),
    ] {
        let answer = raw.post(VERIFY, None, &body);
        let (got, code, named) = refused(&answer);
        assert_eq!((got, named.as_str()), (status, field), "{answer:?}");
        let codes = ["invalid-field", "bad-json"];
        assert!(codes.contains(&code.as_str()), "{code}");
    }
    let too_large = "x".repeat(1024 * 1024 + 1).into_bytes();
    for token in [None, Some(token.as_str())] {
        let answer = raw.send("POST", VERIFY, token, Some(&too_large), &[]);
        assert_eq!((answer.status, answer.problem()), (413, "too-large".into()));
    }
    // A key that is none is no wrong request: it is judged.
    let result = asked(&raw, &body("public_key", b"no key", &named));
    assert_eq!(result["verdict"], "reject");
}

/// Somebody's request whose body does not come.
fn slow(stack: &Stack) -> Wire {
    let mut wire = stack.wire();
    let headers = ["content-type: application/json", "content-length: 500"].map(str::to_owned);
    wire.write(&request("POST", VERIFY, &headers, b"{"))
        .expect("sent");
    wire
}

#[test]
fn strangers_wait_for_each_other_and_nobody_for_them() {
    let mut stack = service(
        "anyone_per_s = 1000",
        "body_timeout_s = 120\nrequest_timeout_s = 130",
    );
    let token = known(&stack, "not-starved");
    let raw = stack.raw();
    let device = YubiHsm2::default();
    let files = device.files().into_iter().map(|f| ("x".to_owned(), f));
    let good = body("public_key", device.key.spki(), &files.collect::<Vec<_>>());
    let ask = |raw: &Raw, token: Option<&str>| raw.post(VERIFY, token, &good);

    // Bodies that never come take all places of strangers; those are not the places of others.
    let held: Vec<Wire> = (0..16).map(|_| slow(&stack)).collect();
    let full = (0..3000).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        let answer = ask(&raw, None);
        if answer.status == 200 {
            // Not all were read yet.
            return false;
        }
        assert_eq!(
            (answer.status, answer.problem()),
            (503, "overloaded".into())
        );
        assert!(answer.retry_after_s.is_some(), "{answer:?}");
        true
    });
    assert!(full, "16 bodies under way and room for more");
    for _ in 0..3 {
        assert_eq!(ask(&raw, Some(&token)).json()["verdict"], "accept");
    }
    drop(held);

    // Beyond the rate strangers are told when to come again; an account's rate is its own.
    reconfigure(&mut stack, "anyone_per_s = 1000", "anyone_per_s = 1");
    let raw = stack.raw();
    let told = (0..400)
        .map(|_| raw.post(VERIFY, None, &json!({})))
        .find(|answer| answer.status != 422)
        .expect("400 in a row at one a second");
    assert_eq!(
        (told.status, told.problem()),
        (429, "rate-limited".into()),
        "{told:?}"
    );
    let wait = told.retry_after_s.expect("Retry-After");
    assert!((1..=2).contains(&wait), "{wait}");
    assert_eq!(ask(&raw, Some(&token)).json()["verdict"], "accept");
    std::thread::sleep(Duration::from_secs(wait));
    assert_eq!(ask(&raw, None).status, 200, "after Retry-After");

    // Said to be for nobody, and not said at all.
    for (old, new) in [
        ("anyone_per_s = 1\n", "anyone_per_s = 0\n"),
        ("anyone_per_s = 0\n", "\n"),
    ] {
        reconfigure(&mut stack, old, new);
        let raw = stack.raw();
        let answer = ask(&raw, None);
        assert_eq!((answer.status, answer.problem()), (401, "no-token".into()));
        assert_eq!(ask(&raw, Some(&token)).status, 200);
    }
}
