//! Bounds: what one caller, one tenant, one stranger or one slow issuer can take of the service, and
//! that the others notice nothing of it.

use crate::attacks::unread::Refused;
use crate::support::cli::Cli;
use crate::support::leaves::of_type;
use crate::support::raw::RawAnswer;
use crate::support::wire::{Wire, request};
use crate::support::{JOB_AUDIENCE, PEOPLE_AUDIENCE, REPOSITORY, Stack, job_spec, text};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_testkit::issuer::{Issuer, ServeOptions, TokenSpec};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// A service of a test's own with these `[limits]`, and no CA.
fn limited(limits: &str) -> Stack {
    let mut stack = Stack::bare();
    set_limits(&mut stack, limits);
    stack
}

/// The service anew, with these `[limits]`.
pub fn set_limits(stack: &mut Stack, limits: &str) {
    let config = stack.config();
    let text = std::fs::read_to_string(&config).expect("configuration");
    let (before, rest) = text.split_once("[tls]").expect("a [tls] section");
    let before = before.split("[limits]").next().unwrap_or_default();
    let text = format!("{before}[limits]\n{limits}\n\n[tls]{rest}");
    std::fs::write(&config, text).expect("configuration");
    stack.stop_server();
    stack.start_server(&[]);
}

/// A person's service token.
fn person(stack: &Stack, subject: &str, tenant: &str) -> String {
    let spec = TokenSpec::new(subject, PEOPLE_AUDIENCE).mfa();
    let id = stack.people.mint(&spec).expect("a token");
    stack.raw().exchanged(tenant, &id)
}

fn auditor(stack: &Stack, admin: &Cli, tenant: &str) -> String {
    let subject = format!("{tenant}-auditor");
    let people = stack.people.url();
    admin.ok(&[
        "members",
        "add",
        "--issuer",
        people,
        "--subject",
        &subject,
        "--role",
        "auditor",
    ]);
    person(stack, &subject, tenant)
}

fn is_limited(answer: &RawAnswer) -> u64 {
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (429, "rate-limited"),
        "{answer:?}"
    );
    assert_eq!(answer.json()["retryable"], true);
    let wait = answer.retry_after_s.expect("Retry-After");
    assert!((1..=5).contains(&wait), "{wait}");
    wait
}

#[test]
fn a_caller_that_asks_too_much_slows_itself_down_and_a_tenant_its_own() {
    let mut stack = limited("principal_per_s = 1\ntenant_per_s = 1000");
    let one = stack.tenant("lim-one");
    let two = stack.tenant("lim-two");
    let auditor_token = auditor(&stack, &one, "lim-one");
    let (greedy, other) = (
        person(&stack, "lim-one-admin", "lim-one"),
        person(&stack, "lim-two-admin", "lim-two"),
    );
    let raw = stack.raw();
    let whoami = |token: &str| raw.get("/v1/whoami", Some(token));
    let flood = |token: &str| {
        for n in 0..400 {
            let answer = whoami(token);
            if answer.status != 200 {
                // The burst, and what a busy machine's seconds gave back.
                assert!(n >= 60, "{n}");
                return is_limited(&answer);
            }
        }
        panic!("400 requests and no end");
    };
    // Beyond its burst a caller waits; a colleague and another tenant do not.
    let wait = flood(&greedy);
    assert_eq!(whoami(&auditor_token).status, 200);
    assert_eq!(whoami(&other).status, 200);
    // Refused before anything is read or done, and said with the time of the next try.
    let change = raw.post(
        "/v1/tenants/lim-one/signers",
        Some(&greedy),
        &json!({"signer": "x", "algorithm": "ec-p256"}),
    );
    is_limited(&change);
    std::thread::sleep(Duration::from_secs(wait));
    assert_eq!(whoami(&greedy).status, 200, "after Retry-After");
    let signers = raw.get("/v1/tenants/lim-one/signers", Some(&auditor_token));
    assert_eq!(signers.json(), json!([]));

    // The tenant's rate is for all of its callers together.
    set_limits(&mut stack, "principal_per_s = 1000\ntenant_per_s = 1");
    let raw = stack.raw();
    for n in 0.. {
        let answer = raw.get("/v1/whoami", Some(&greedy));
        if answer.status != 200 {
            is_limited(&answer);
            break;
        }
        assert!(n < 400);
    }
    is_limited(&raw.get("/v1/whoami", Some(&auditor_token)));
    assert_eq!(raw.get("/v1/whoami", Some(&other)).status, 200);
    // Unknown callers have no rate to use up.
    assert_eq!(raw.get("/v1/whoami", None).problem(), "no-token");
    drop(two);
}

#[test]
fn token_exchanges_have_a_rate_and_refused_ones_use_nothing_up() {
    let stack = limited("exchanges_per_s = 1");
    let admin = stack.tenant("lim-exchange");
    stack.let_in(&admin, "lim-exchange", REPOSITORY);
    stack.let_in(&stack.tenant("lim-quiet"), "lim-quiet", REPOSITORY);
    let raw = stack.raw();
    // Strangers do not use the tenant's rate up.
    for _ in 0..20 {
        let answer = raw.exchange(Some("lim-exchange"), &stack.job_token("666"));
        assert_eq!(answer.problem(), "access-denied");
    }
    let (token, wait) = (0..400)
        .find_map(|_| {
            let token = stack.job_token(REPOSITORY);
            let answer = raw.exchange(Some("lim-exchange"), &token);
            (answer.status != 200).then(|| (token, is_limited(&answer)))
        })
        .expect("400 exchanges and no end");
    assert_eq!(
        raw.exchange(Some("lim-quiet"), &stack.job_token(REPOSITORY))
            .status,
        200
    );
    std::thread::sleep(Duration::from_secs(wait));
    raw.exchanged("lim-exchange", &token);
}

/// A request whose body stops in the middle.
fn slow(stack: &Stack, path: &str, headers: &[String]) -> Wire {
    let mut wire = stack.wire();
    let mut headers = headers.to_vec();
    headers.push("content-length: 500".into());
    wire.write(&request("POST", path, &headers, b"grant_type="))
        .expect("sent");
    wire
}

#[test]
fn bodies_that_never_end_keep_nobody_waiting() {
    let stack = limited(
        "concurrency = 4\ntenant_concurrency = 3\nexchanges = 2\nbody_timeout_s = 6\nrequest_timeout_s = 20",
    );
    let admin = stack.tenant("lim-slow");
    stack.tenant("lim-brisk");
    let token = person(&stack, "lim-slow-admin", "lim-slow");
    let brisk = person(&stack, "lim-brisk-admin", "lim-brisk");
    drop(admin);
    let raw = stack.raw();
    let began = Instant::now();

    // Strangers at the exchange, many times its places, and more at the bootstrap.
    let form = ["content-type: application/x-www-form-urlencoded".to_owned()];
    let mut strangers: Vec<Wire> = (0..40).map(|_| slow(&stack, "/v1/token", &form)).collect();
    strangers.extend((0..10).map(|_| slow(&stack, "/v1/bootstrap", &form)));
    // A tenant's own, as many as its share.
    let known = [
        format!("authorization: Bearer {token}"),
        "content-type: application/json".into(),
    ];
    let mut own: Vec<Wire> = (0..3)
        .map(|_| slow(&stack, "/v1/tenants/lim-slow/signers", &known))
        .collect();

    // The tenant waits for itself; another one, the exchange and the health routes do not.
    let refused = (0..50).any(|_| {
        let answer = raw.get("/v1/whoami", Some(&token));
        if answer.status == 200 {
            // Not all three were read yet.
            std::thread::sleep(Duration::from_millis(20));
            return false;
        }
        is_limited(&answer);
        true
    });
    assert!(refused, "the share is not full");
    for _ in 0..5 {
        assert_eq!(raw.get("/v1/whoami", Some(&brisk)).status, 200);
        assert_eq!(raw.get("/healthz", None).status, 200);
        person(&stack, "lim-brisk-admin", "lim-brisk");
    }
    // They are told in time, and then the tenant's places are free again.
    for wire in strangers.iter_mut().chain(&mut own) {
        let answer = wire.answer("POST").expect("an answer");
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (408, "body-timeout")
        );
    }
    assert!(
        began.elapsed() >= Duration::from_secs(6),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(raw.get("/v1/whoami", Some(&token)).status, 200);
}

#[test]
fn a_caller_over_its_share_with_a_large_body_gets_the_whole_answer() {
    let stack = limited("tenant_concurrency = 1\nbody_timeout_s = 120\nrequest_timeout_s = 130");
    stack.tenant("lim-large");
    let bearer = format!("Bearer {}", person(&stack, "lim-large-admin", "lim-large"));
    let path = "/v1/tenants/lim-large/signers";
    let known = [
        format!("authorization: {bearer}"),
        "content-type: application/json".into(),
    ];
    // One body that does not come takes the whole share, until its connection ends.
    let own = slow(&stack, path, &known);
    let full = (0..500).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        let token = bearer.trim_start_matches("Bearer ");
        stack.raw().get("/v1/whoami", Some(token)).status == 429
    });
    assert!(full, "the share is not full");
    Refused {
        method: "POST",
        path,
        headers: vec![
            ("content-type", "application/json"),
            ("authorization", &bearer),
        ],
        length: 3 * 1024 * 1024,
        status: 429,
        code: "rate-limited",
    }
    .is_told(&stack);
    drop(own);
}

#[test]
fn an_issuer_that_does_not_answer_keeps_only_its_own_jobs_waiting() {
    let stack = limited("exchanges = 4");
    let admin = stack.tenant("lim-tarpit");
    stack.let_in(&stack.tenant("lim-fine"), "lim-fine", REPOSITORY);
    // It takes connections and says nothing.
    let tarpit = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let issuer = format!("http://{}", tarpit.local_addr().expect("an address"));
    admin.ok(&[
        "issuers",
        "add",
        "--kind",
        "pipelines",
        "--issuer",
        &issuer,
        "--audience",
        JOB_AUDIENCE,
    ]);
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970")
        .as_secs();
    let part = |v: Value| URL_SAFE_NO_PAD.encode(v.to_string());
    let token = format!(
        "{}.{}.AAAA",
        part(json!({"alg": "ES256", "kid": "k"})),
        part(json!({"iss": issuer, "aud": JOB_AUDIENCE, "sub": "x", "iat": now, "exp": now + 300}))
    );
    std::thread::scope(|s| {
        let stuck: Vec<_> = (0..8)
            .map(|_| {
                s.spawn(|| {
                    (
                        Instant::now(),
                        stack.raw().exchange(Some("lim-tarpit"), &token),
                    )
                })
            })
            .collect();
        // Others' jobs get in meanwhile, each at once.
        for _ in 0..5 {
            let began = Instant::now();
            stack
                .raw()
                .exchanged("lim-fine", &stack.job_token(REPOSITORY));
            let took = began.elapsed();
            assert!(took < Duration::from_secs(4), "{took:?}");
        }
        for run in stuck {
            let (began, answer) = run.join().expect("a run");
            assert_eq!(
                (answer.status, answer.problem().as_str()),
                (502, "issuer-unavailable")
            );
            assert_eq!(answer.json()["error"], "temporarily_unavailable");
            // Whom to ask stands in the operator's log alone.
            assert!(
                !String::from_utf8_lossy(&answer.body).contains("127.0.0.1"),
                "{answer:?}"
            );
            assert!(
                began.elapsed() < Duration::from_secs(25),
                "{:?}",
                began.elapsed()
            );
        }
    });
}

#[test]
fn a_tenant_may_have_so_many_of_each_and_not_one_more() {
    let stack = limited(
        "signers_per_tenant = 2\nkeys_per_tenant = 1\ngrants_per_signer = 1\nissuers_per_tenant = 3\n\
         members_per_tenant = 2",
    );
    let admin = stack.tenant("lim-caps");
    let token = person(&stack, "lim-caps-admin", "lim-caps");
    let raw = stack.raw();
    let post = |path: &str, body: &Value| {
        raw.post(&format!("/v1/tenants/lim-caps{path}"), Some(&token), body)
    };
    let signer = |name: &str| post("/signers", &json!({"signer": name, "algorithm": "ec-p256"}));
    let issuer = |url: &str| {
        post(
            "/issuers",
            &json!({"issuer": url, "kind": "pipelines", "audience": "x"}),
        )
    };
    let member = |subject: &str| {
        post(
            "/members",
            &json!({"issuer": stack.people.url(), "subject": subject, "role": "auditor"}),
        )
    };
    let full = |answer: &RawAnswer, says: &str| {
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (409, "limit-reached"),
            "{answer:?}"
        );
        let body = answer.json();
        assert!(
            body["detail"].as_str().is_some_and(|d| d.contains(says)),
            "{says} in {body}"
        );
        assert_eq!(body["retryable"], false);
    };
    // Many at one moment: as many as there is room for.
    let made: Vec<u16> = std::thread::scope(|s| {
        let runs: Vec<_> = (0..6)
            .map(|n| {
                let (stack, token) = (&stack, &token);
                s.spawn(move || {
                    let body = json!({"signer": format!("s{n}"), "algorithm": "ec-p256"});
                    let raw = stack.raw();
                    let path = "/v1/tenants/lim-caps/signers";
                    loop {
                        let answer = raw.post(path, Some(token), &body);
                        // The tenant was being changed by the others.
                        if answer.status != 503 {
                            return answer.status;
                        }
                    }
                })
            })
            .collect();
        runs.into_iter().map(|r| r.join().expect("a run")).collect()
    });
    assert_eq!(made.iter().filter(|s| **s == 201).count(), 2, "{made:?}");
    assert_eq!(made.iter().filter(|s| **s == 409).count(), 4, "{made:?}");
    full(&signer("one-more"), "2 signers for each tenant");

    let there = raw.get("/v1/tenants/lim-caps/signers", Some(&token)).json();
    let name = there[0]["signer"].as_str().expect("a signer").to_owned();
    let keys = format!("/signers/{name}/keys");
    // Pairs are made side by side; the one that is recorded first takes the place.
    let asked: Vec<RawAnswer> = std::thread::scope(|s| {
        let runs: Vec<_> = (0..4)
            .map(|_| s.spawn(|| post(&keys, &json!({}))))
            .collect();
        runs.into_iter().map(|r| r.join().expect("a run")).collect()
    });
    let (made, refused): (Vec<_>, Vec<_>) = asked.into_iter().partition(|a| a.status == 201);
    let [key] = made.as_slice() else {
        panic!("{} keys were made", made.len());
    };
    for answer in &refused {
        full(answer, "1 keys for each tenant");
    }
    let there = raw.get("/v1/tenants/lim-caps/keys", Some(&token)).json();
    assert_eq!(there.as_array().map(Vec::len), Some(1), "{there}");
    full(&post(&keys, &json!({})), "1 keys for each tenant");
    // What was destroyed makes room.
    let id = key.json()["id"].as_str().expect("id").to_owned();
    for event in ["retire", "destroy"] {
        let done = post(
            &format!("/keys/{id}/events"),
            &json!({"event": event, "reason": "room"}),
        );
        assert_eq!(done.status, 200, "{done:?}");
    }
    assert_eq!(post(&keys, &json!({})).status, 201);

    // People's and the platform's are there already.
    assert_eq!(issuer("https://one.example").status, 204);
    full(&issuer("https://two.example"), "3 issuers for each tenant");
    assert_eq!(
        issuer("https://one.example").status,
        204,
        "a change is no new one"
    );
    admin.ok(&["issuers", "remove", "--issuer", "https://one.example"]);
    assert_eq!(issuer("https://two.example").status, 204);

    assert_eq!(member("ada").status, 204);
    full(&member("bob"), "2 members for each tenant");

    let name = &name;
    let grant = || {
        let mut body: Value = json!({"issuer": stack.platform.url(), "claims": {"repository_id": "1"},
            "content_types": ["cms"], "digest_algorithms": ["sha-256"]});
        body["signer"] = name.as_str().into();
        post("/grants", &body)
    };
    let first = grant();
    assert_eq!(first.status, 201, "{first:?}");
    full(&grant(), "1 grants for each signer");
    let id = first.json()["id"].as_str().expect("id").to_owned();
    admin.ok(&["grants", "remove", &id]);
    assert_eq!(grant().status, 201);
}

#[test]
fn an_issuer_is_removed_at_once_and_the_last_way_in_only_by_force() {
    let stack = Stack::shared();
    let admin = stack.tenant("lim-issuers");
    stack.signer(&admin, "lim-issuers/release", "ec-p256");
    let other = Issuer::start(
        &stack.path("lim-idp"),
        "127.0.0.1:0",
        ServeOptions::default(),
    )
    .expect("an issuer");
    let (idp, ca) = (other.url(), text(&other.ca_file()));
    let register = || {
        admin.ok(&[
            "issuers",
            "add",
            "--kind",
            "people",
            "--issuer",
            idp,
            "--audience",
            PEOPLE_AUDIENCE,
            "--issuer-ca-file",
            &ca,
            "--mfa-amr",
            "mfa",
        ]);
    };
    register();
    admin.ok(&[
        "members",
        "add",
        "--issuer",
        idp,
        "--subject",
        "zoe",
        "--role",
        "auditor",
    ]);
    let raw = stack.raw();
    let job = stack.service_token("lim-issuers", REPOSITORY);
    let sign = |n: &[u8]| {
        let body = crate::support::judges::cms_request(n, countersign_core::HashAlgorithm::Sha256);
        raw.sign("lim-issuers", "release", &job, &body)
    };
    assert_eq!(sign(b"1").status, 200);
    let zoe = other
        .mint(&TokenSpec::new("zoe", PEOPLE_AUDIENCE).mfa())
        .expect("a token");
    let zoe = raw.exchanged("lim-issuers", &zoe);
    let keys = |token: &str| raw.get("/v1/tenants/lim-issuers/keys", Some(token));
    assert_eq!(keys(&zoe).status, 200);

    // Sessions that are open end with their issuer: people lose their roles, grants allow nothing.
    admin.ok(&["issuers", "remove", "--issuer", idp]);
    assert_eq!(keys(&zoe).problem(), "forbidden");
    admin.ok(&["issuers", "remove", "--issuer", stack.platform.url()]);
    let refused = sign(b"2");
    assert!(
        String::from_utf8_lossy(&refused.body).contains("denied"),
        "{refused:?}"
    );
    let again = raw.exchange(
        Some("lim-issuers"),
        &stack.platform.mint(&job_spec(REPOSITORY)).expect("token"),
    );
    assert_eq!(again.problem(), "access-denied");
    // Absent, or another tenant's: one answer.
    for issuer in [idp, "https://never.example"] {
        let out = admin.ends(4, &["issuers", "remove", "--issuer", issuer]);
        assert!(out.says("no such thing here"), "{out:?}");
    }
    // Registered again, all is as it was.
    register();
    assert_eq!(keys(&zoe).status, 200);

    // The admin's own issuer: not by accident, in no way.
    let people = stack.people.url();
    let out = admin.ends(64, &["issuers", "remove", "--issuer", people]);
    assert!(out.says("force"), "{out:?}");
    let out = admin.ends(
        64,
        &[
            "issuers",
            "add",
            "--kind",
            "pipelines",
            "--issuer",
            people,
            "--audience",
            PEOPLE_AUDIENCE,
        ],
    );
    assert!(out.says("no administrator could log in"), "{out:?}");
    // Another way in makes it possible; then its last admin cannot be removed.
    admin.ok(&[
        "members",
        "add",
        "--issuer",
        idp,
        "--subject",
        "zoe",
        "--role",
        "admin",
    ]);
    admin.ok(&["issuers", "remove", "--issuer", people]);
    let member = json!({"issuer": idp, "subject": "zoe", "role": "admin"});
    let path = "/v1/tenants/lim-issuers/members";
    let last = raw.send(
        "DELETE",
        path,
        Some(&zoe),
        Some(member.to_string().as_bytes()),
        &[],
    );
    assert_eq!(
        (last.status, last.problem().as_str()),
        (409, "conflict"),
        "{last:?}"
    );
    // By force, with the second factor and the role, as every change.
    let path = format!("/v1/tenants/lim-issuers/issuers?issuer={idp}&force=true");
    let gone = raw.send("DELETE", &path, Some(&zoe), None, &[]);
    assert_eq!(gone.status, 204, "{gone:?}");
    assert_eq!(keys(&zoe).problem(), "forbidden");
}

/// The log tells who removed which issuer.
#[test]
fn a_removed_issuer_stands_in_the_tenants_log() {
    let stack = Stack::shared();
    let admin = stack.tenant("lim-told");
    admin.ok(&["issuers", "remove", "--issuer", stack.platform.url()]);
    let leaves = admin.tenant_leaves(&stack.path("lim-told-log"));
    let removed = of_type(&leaves, "issuer-removed");
    assert_eq!(removed.len(), 1, "{leaves:#?}");
    assert_eq!(removed[0]["issuer"], stack.platform.url());
}
