//! Keys and their lives: only an active key signs, a suspension is instant, an end is an end.

mod expired;

use crate::support::cli::Cli;
use crate::support::judges::{cms_request, leaves};
use crate::support::raw::{Raw, RawAnswer};
use crate::support::{PEOPLE_AUDIENCE, REPOSITORY, SUBJECT, Stack, copy_exe, text};
use countersign_core::HashAlgorithm;
use countersign_signing_log::LeafBody;
use countersign_signing_log::leaf::OutcomeResult;
use countersign_testkit::issuer::TokenSpec;
use countersign_testkit::programs::wait_until;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn micros() -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    i64::try_from(now.as_micros()).expect("a time")
}

/// A signature over anything, without our command line.
fn sign(raw: &Raw, tenant: &str, signer: &str, token: &str, what: &[u8]) -> RawAnswer {
    let body = cms_request(what, HashAlgorithm::Sha256);
    raw.sign(tenant, signer, token, &body)
}

fn event(admin: &Cli, code: i32, name: &str, key: &str) -> crate::support::cli::Output {
    let mut args = vec!["keys", name, key, "--reason", "a test"];
    if ["compromise", "destroy"].contains(&name) {
        args.push("--yes");
    }
    admin.ends(code, &args)
}

fn state(admin: &Cli, key: &str) -> String {
    admin.json(&["keys", "show", key])["state"]
        .as_str()
        .expect("state")
        .to_owned()
}

fn order(admin: &Cli, key: &str) {
    admin.ok(&[&["certificate", "order", key, "--ca", "demo"][..], &SUBJECT].concat());
}

#[test]
fn when_a_suspension_returns_no_later_use_exists() {
    let stack = Stack::shared();
    let admin = stack.tenant("key-suspend");
    let key = stack.signer(&admin, "key-suspend/release", "ec-p256");
    let token = stack.service_token("key-suspend", REPOSITORY);
    let (raw, stop) = (stack.raw(), AtomicBool::new(false));
    // When each request was sent and answered, and how.
    let answers: Mutex<Vec<(i64, i64, u16, String)>> = Mutex::new(Vec::new());
    let dir = stack.path("key-suspend/log");
    let own = stack.path("key-suspend/own");
    let mut suspended: Vec<(i64, i64)> = Vec::new();
    let authorisations = |dir: &Path| {
        admin.ok(&["log", "download", "--key", &key, "--out", &text(dir)]);
        let uses = leaves(dir).into_iter().enumerate();
        uses.filter(|(_, l)| matches!(l.body, LeafBody::Authorisation(_)))
            .map(|(i, l)| (i, l.time))
            .collect::<Vec<_>>()
    };
    std::thread::scope(|s| {
        for t in 0..4_u32 {
            let (raw, token, stop, answers) = (&raw, &token, &stop, &answers);
            s.spawn(move || {
                let mut n = 0_u32;
                while !stop.load(Ordering::Relaxed) {
                    n += 1;
                    let what = [t.to_be_bytes(), n.to_be_bytes()].concat();
                    let sent = micros();
                    let answer = sign(raw, "key-suspend", "release", token, &what);
                    let code = if answer.status == 200 {
                        String::new()
                    } else {
                        answer.problem()
                    };
                    answers
                        .lock()
                        .expect("lock")
                        .push((sent, micros(), answer.status, code));
                }
            });
        }
        for round in 0..3_usize {
            let signed = || {
                answers
                    .lock()
                    .expect("lock")
                    .iter()
                    .filter(|a| a.2 == 200)
                    .count()
            };
            let enough = signed() + 12;
            wait_until("signatures under load", Duration::from_secs(30), || {
                signed() >= enough
            })
            .expect("signatures");
            event(&admin, 0, "suspend", &key);
            let returned = micros();
            // What is in the log now is all there will be.
            let now = authorisations(&dir).len();
            std::thread::sleep(Duration::from_millis(150));
            let resumed = micros();
            assert_eq!(
                authorisations(&dir).len(),
                now,
                "round {round}: used after its suspension"
            );
            suspended.push((returned, resumed));
            event(&admin, 0, "resume", &key);
        }
        stop.store(true, Ordering::Relaxed);
    });
    let answers = answers.into_inner().expect("lock");
    let refused = answers.iter().filter(|a| a.3 == "key-not-active").count();
    assert!(refused > 0, "the load never met the suspension");
    for (sent, answered, status, code) in &answers {
        assert!(
            *status == 200 || code == "key-not-active" || code == "unavailable",
            "{status} {code}"
        );
        for (returned, resumed) in &suspended {
            if returned < sent && answered < resumed {
                assert_eq!(code, "key-not-active", "{status} while suspended");
            }
        }
    }
    // The logs tell the same: no authorisation has a time inside a suspension.
    let uses = authorisations(&dir);
    admin.ok(&["log", "download", "--out", &text(&own)]);
    let mut since = None;
    let mut spans = Vec::new();
    for leaf in leaves(&own) {
        if let LeafBody::KeyStateChanged(c) = &leaf.body {
            match (c.to.as_str(), since) {
                ("suspended", _) => since = Some(leaf.time),
                ("active", Some(from)) => {
                    spans.push((from, leaf.time));
                    since = None;
                }
                _ => {}
            }
        }
    }
    assert_eq!(spans.len(), 3);
    for (index, time) in &uses {
        for (from, to) in &spans {
            assert!(
                time <= from || to <= time,
                "authorisation {index} at {time}, suspended {from} to {to}"
            );
        }
    }
    // Each signature that left has its authorisation and outcome.
    let signed = answers.iter().filter(|a| a.2 == 200).count();
    wait_until("outcomes", Duration::from_secs(20), || {
        admin.ok(&["log", "download", "--key", &key, "--out", &text(&dir)]);
        let outcomes = leaves(&dir).into_iter().filter(
            |l| matches!(&l.body, LeafBody::Outcome(o) if o.result == OutcomeResult::Signed),
        );
        outcomes.count() == signed + 1
    })
    .expect("one outcome each, and one for the certificate request");
    admin.ok(&["log", "audit", &text(&dir), "--tenant-log", &text(&own)]);
}

#[test]
fn the_life_of_a_key_has_these_steps_and_no_others() {
    let stack = Stack::shared();
    let admin = stack.tenant("key-life");
    let raw = stack.raw();
    stack.let_in(&admin, "key-life", REPOSITORY);
    let token = stack.service_token("key-life", REPOSITORY);
    let refusal = |signer: &str| sign(&raw, "key-life", signer, &token, b"x").problem();
    let steps = ["suspend", "resume", "retire", "compromise", "destroy"];
    // From each state: what is allowed; everything else is refused and changes nothing.
    let check = |key: &str, allowed: &[&str]| {
        let before = state(&admin, key);
        for step in steps.iter().filter(|s| !allowed.contains(s)) {
            let out = event(&admin, 3, step, key);
            assert!(out.says(&before), "{step} from {before}: {out:?}");
            assert_eq!(state(&admin, key), before, "{step}");
        }
    };
    // Born, and not certified: does not sign.
    admin.ok(&["signers", "create", "key-life/none"]);
    stack.grant(&admin, "key-life/none", &["cms"]);
    assert_eq!(refusal("none"), "no-key");
    let key = stack.key(&admin, "key-life/one", "ec-p256");
    stack.grant(&admin, "key-life/one", &["cms"]);
    assert_eq!(state(&admin, &key), "generated");
    assert_eq!(refusal("one"), "key-not-active");
    check(&key, &["retire", "compromise", "destroy"]);
    admin.ok(&["keys", "appraise", &key]);
    assert_eq!(state(&admin, &key), "appraised");
    assert_eq!(refusal("one"), "key-not-active");
    check(&key, &["retire", "compromise", "destroy"]);
    order(&admin, &key);
    assert_eq!(state(&admin, &key), "active");
    assert_eq!(sign(&raw, "key-life", "one", &token, b"x").status, 200);
    check(&key, &["suspend", "retire", "compromise"]);
    event(&admin, 0, "suspend", &key);
    assert_eq!(refusal("one"), "key-not-active");
    check(&key, &["resume", "retire", "compromise"]);
    // No certificate awakes a suspended key.
    admin.ends(
        3,
        &[
            &["certificate", "order", &key, "--ca", "demo"][..],
            &SUBJECT,
        ]
        .concat(),
    );
    event(&admin, 0, "resume", &key);
    assert_eq!(sign(&raw, "key-life", "one", &token, b"y").status, 200);
    event(&admin, 0, "retire", &key);
    assert_eq!(refusal("one"), "key-not-active");
    check(&key, &["compromise", "destroy"]);
    // What cannot be taken back wants to be meant.
    admin.ends(64, &["keys", "compromise", &key, "--reason", "x"]);
    admin.ends(64, &["keys", "compromise", &key, "--yes"]);
    admin.ends(64, &["keys", "compromise", &key, "--reason", "", "--yes"]);
    assert_eq!(state(&admin, &key), "retired");
    event(&admin, 0, "compromise", &key);
    assert_eq!(refusal("one"), "key-not-active");
    check(&key, &["destroy"]);
    admin.ends(
        3,
        &[
            &["certificate", "order", &key, "--ca", "demo"][..],
            &SUBJECT,
        ]
        .concat(),
    );
    event(&admin, 0, "destroy", &key);
    assert_eq!(state(&admin, &key), "destroyed");
    check(&key, &["compromise", "destroy"]);
    // Again: it finishes what a crash between record and act would have left.
    event(&admin, 0, "destroy", &key);
    assert_eq!(state(&admin, &key), "destroyed");
    // Its log stays, and is good.
    let dir = text(&stack.path("key-life/log"));
    admin.ok(&["log", "download", "--key", &key, "--out", &dir]);
    admin.ok(&["log", "audit", &dir]);
    event(
        &admin,
        4,
        "suspend",
        &countersign_core::KeyId::new().to_string(),
    );
    admin.ends(64, &["keys", "show", "not-an-id"]);

    // The command line says the same to whoever signs with it.
    let exe = text(&copy_exe(&stack.folder("key-life"), "app.exe", "t64.exe"));
    let before = std::fs::read(&exe).expect("bytes");
    let out = stack
        .job("key-life-job", REPOSITORY)
        .ends(3, &["sign", "--signer", "key-life/one", &exe]);
    assert!(out.says("destroyed"), "{out:?}");
    assert_eq!(std::fs::read(&exe).expect("bytes"), before);
    // An auditor reads and changes nothing.
    admin.ok(&[
        "members",
        "add",
        "--issuer",
        stack.people.url(),
        "--subject",
        "key-auditor",
        "--role",
        "auditor",
    ]);
    let auditor = stack.person("key-auditor", Some("key-life"));
    assert_eq!(state(&auditor, &key), "destroyed");
    event(&auditor, 3, "compromise", &key);
    // Nor does an admin without a second factor.
    let weak = stack.person_with(
        TokenSpec::new("key-life-admin", PEOPLE_AUDIENCE),
        Some("key-life"),
    );
    let out = event(&weak, 3, "compromise", &key);
    assert!(out.says("second factor"), "{out:?}");
}

/// Files of all objects in a tenant's token.
fn objects(stack: &Stack, tenant_id: &str) -> Vec<PathBuf> {
    fn walk(dir: &Path, out: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).expect("folder") {
            let path = entry.expect("entry").path();
            if path.is_dir() {
                walk(&path, out);
            } else if path.extension().is_some_and(|e| e == "object") {
                out.push(path);
            }
        }
    }
    let mut out = Vec::new();
    let tokens = stack.path("service/data/tokens");
    let dir = std::fs::read_dir(&tokens)
        .expect("tokens")
        .map(|e| e.expect("entry").path())
        .find(|p| {
            text(p)
                .replace('-', "")
                .ends_with(&tenant_id.replace('-', ""))
        })
        .unwrap_or_else(|| panic!("no folder of tenant {tenant_id}"));
    walk(&dir.join("tokens"), &mut out);
    out.sort();
    out
}

#[test]
fn destroying_a_key_removes_it_from_its_token() {
    let stack = Stack::shared();
    let admin = stack.tenant("key-destroy");
    let tenants = stack.operator().json(&["admin", "tenant", "list"]);
    let tenants = tenants.as_array().expect("tenants");
    let tenant = tenants
        .iter()
        .find(|t| t["name"] == "key-destroy")
        .expect("the tenant");
    let id = tenant["id"].as_str().expect("id");
    let empty = objects(stack, id);
    let keep = stack.key(&admin, "key-destroy/keep", "ec-p256");
    let kept = objects(stack, id);
    assert!(
        kept.len() >= empty.len() + 2,
        "a private and a public object"
    );
    let key = stack.key(&admin, "key-destroy/end", "rsa-3072");
    assert!(objects(stack, id).len() > kept.len());
    event(&admin, 0, "destroy", &key);
    assert_eq!(
        objects(stack, id),
        kept,
        "what the key was made of is gone, and nothing else"
    );
    assert_eq!(state(&admin, &keep), "generated");
    // Asked again it is done already.
    event(&admin, 0, "destroy", &key);
    assert_eq!(objects(stack, id), kept);
}

#[test]
fn a_grant_removed_is_gone_at_once() {
    let stack = Stack::shared();
    let admin = stack.tenant("key-grant");
    stack.signer(&admin, "key-grant/release", "ec-p256");
    let raw = stack.raw();
    let token = stack.service_token("key-grant", REPOSITORY);
    let sign = |what: &[u8]| sign(&raw, "key-grant", "release", &token, what);
    assert_eq!(sign(b"1").status, 200);
    let grants = admin.json(&["grants", "list"]);
    let grant = grants[0]["id"].as_str().expect("id");
    admin.ok(&["grants", "remove", grant]);
    let answer = sign(b"2");
    assert_eq!(answer.problem(), "denied");
    assert_eq!(
        raw.get(
            "/v1/tenants/key-grant/signers/release/certificate",
            Some(&token)
        )
        .problem(),
        "denied"
    );
    admin.ends(4, &["grants", "remove", grant]);
    // A grant for other content is none for this.
    stack.grant(&admin, "key-grant/release", &["authenticode"]);
    let answer = sign(b"3");
    assert_eq!(answer.problem(), "denied");
    assert!(
        answer.json()["reasons"].to_string().contains("cms"),
        "{}",
        answer.json()
    );
    stack.grant(&admin, "key-grant/release", &["cms"]);
    assert_eq!(sign(b"4").status, 200);
}

#[test]
fn a_signer_outlives_its_keys() {
    let stack = Stack::shared();
    let admin = stack.tenant("key-renew");
    let first = stack.signer(&admin, "key-renew/release", "ec-p256");
    let raw = stack.raw();
    let token = stack.service_token("key-renew", REPOSITORY);
    let signs = |what: &str| {
        let answer = sign(&raw, "key-renew", "release", &token, what.as_bytes());
        assert_eq!(answer.status, 200, "{what}: {answer:?}");
        answer.json()["key"].as_str().expect("key").to_owned()
    };
    assert_eq!(signs("before"), first);
    // The next key is born and certified while the first one signs.
    let second = admin.json(&["keys", "create", "key-renew/release"]);
    let second = second["id"].as_str().expect("id").to_owned();
    assert_eq!(signs("second is generated"), first);
    admin.ok(&["keys", "appraise", &second]);
    assert_eq!(signs("second is appraised"), first);
    order(&admin, &second);
    assert_eq!(signs("both are active"), second, "the newest signs");
    // One that is stopped is stood in for by the other.
    event(&admin, 0, "suspend", &second);
    assert_eq!(signs("second is suspended"), first);
    event(&admin, 0, "resume", &second);
    event(&admin, 0, "retire", &first);
    assert_eq!(signs("first is retired"), second);
    // The command line follows, with the certificate of the key that signs.
    let folder = stack.folder("key-renew");
    let exe = copy_exe(&folder, "app.exe", "t64.exe");
    let job = stack.job("key-renew-job", REPOSITORY);
    let answer = job.json(&["sign", "--signer", "key-renew/release", &text(&exe)]);
    assert_eq!(answer["files"][0]["key"], second.as_str());
    stack.osslsigncode(&exe).expect("signed");
    let shown = admin.json(&["signers", "show", "key-renew/release"]);
    let keys: Vec<_> = shown["keys"]
        .as_array()
        .expect("keys")
        .iter()
        .map(|k| (k["id"].as_str(), k["state"].as_str()))
        .collect();
    assert_eq!(
        keys,
        [
            (Some(second.as_str()), Some("active")),
            (Some(first.as_str()), Some("retired"))
        ]
    );
    event(&admin, 0, "retire", &second);
    assert_eq!(
        sign(&raw, "key-renew", "release", &token, b"x").problem(),
        "key-not-active"
    );
}

#[test]
fn everybody_is_told_who_they_are() {
    let stack = Stack::shared();
    let admin = stack.tenant("key-who");
    stack.signer(&admin, "key-who/release", "ec-p256");
    admin.ok(&[
        "members",
        "add",
        "--issuer",
        stack.people.url(),
        "--subject",
        "who-auditor",
        "--role",
        "auditor",
    ]);
    let people = stack.people.url();
    let me = admin.json(&["whoami"]);
    assert_eq!(
        (&me["issuer"], &me["subject"], &me["tenant"]),
        (&people.into(), &"key-who-admin".into(), &"key-who".into())
    );
    assert_eq!(
        (&me["roles"], &me["mfa"], &me["kind"]),
        (&["admin"].as_slice().into(), &true.into(), &"people".into())
    );
    let me = stack
        .person("who-auditor", Some("key-who"))
        .json(&["whoami"]);
    assert_eq!(
        (&me["roles"], &me["tenant"]),
        (&["auditor"].as_slice().into(), &"key-who".into())
    );
    // No second factor: said, so that nobody wonders why administration is refused.
    let weak = stack.person_with(
        TokenSpec::new("who-auditor", PEOPLE_AUDIENCE),
        Some("key-who"),
    );
    assert_eq!(weak.json(&["whoami"])["mfa"], false);
    let me = stack.operator().json(&["whoami"]);
    assert_eq!(
        (&me["roles"], &me["subject"], &me["mfa"]),
        (
            &["operator"].as_slice().into(),
            &"olga".into(),
            &true.into()
        )
    );
    assert!(
        me.get("tenant").is_none_or(serde_json::Value::is_null),
        "{me}"
    );
    let job = stack.job("who-job", REPOSITORY).of("key-who");
    let me = job.json(&["whoami"]);
    assert_eq!(
        (&me["issuer"], &me["kind"]),
        (&stack.platform.url().into(), &"pipelines".into())
    );
    assert_eq!(
        (&me["roles"], &me["mfa"]),
        (&serde_json::json!([]), &false.into())
    );
    assert!(
        me["expires"].as_str().is_some_and(|e| e.ends_with('Z')),
        "{me}"
    );
    // A token bound to a signer says so, and is of no use for another.
    let raw = stack.raw();
    let form = format!(
        "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&subject_token={}\
         &subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aid_token&tenant=key-who&scope=release",
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
    let bound = answer.json()["access_token"]
        .as_str()
        .expect("token")
        .to_owned();
    assert_eq!(
        raw.get("/v1/whoami", Some(&bound)).json()["signers"],
        serde_json::json!(["release"])
    );
    assert_eq!(sign(&raw, "key-who", "release", &bound, b"x").status, 200);
    admin.ok(&["signers", "create", "key-who/other"]);
    stack.grant(&admin, "key-who/other", &["cms"]);
    assert_eq!(
        sign(&raw, "key-who", "other", &bound, b"x").problem(),
        "token-not-for-signer"
    );
    // Nobody logged in.
    stack.cli("who-nobody").of("key-who").ends(3, &["whoami"]);
}
