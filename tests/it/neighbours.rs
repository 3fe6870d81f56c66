//! No neighbour (ARCHITECTURE.md, invariant 4): another tenant's object is the same 404 as none, in
//! every operation of openapi.json, for every role; and on the machine no worker, file or log line
//! shows one to another.

mod machine;
mod rows;

use crate::support::cli::Cli;
use crate::support::judges::cms_request;
use crate::support::leaves::of_type;
use crate::support::raw::{Raw, RawAnswer};
use crate::support::wire::{Wire, WireAnswer};
use crate::support::{PEOPLE_AUDIENCE, REPOSITORY, Stack, text};
use countersign_core::{HashAlgorithm, RequestId};
use countersign_testkit::issuer::TokenSpec;
use rows::{Row, SIGNED};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    Nobody,
    Job,
    JobWithoutGrant,
    Auditor,
    Admin,
    Operator,
}

/// What the paths of the API name.
#[derive(Debug, Clone)]
pub struct Objects {
    tenant: String,
    signer: String,
    key: String,
    order: String,
    grant: String,
    log: String,
}

impl Objects {
    /// Names and ids that nobody has.
    fn made_up() -> Self {
        let id = || RequestId::new().to_string();
        Self {
            tenant: "nb-nobody".into(),
            signer: "nothing".into(),
            key: id(),
            order: id(),
            grant: id(),
            log: id(),
        }
    }

    /// The same objects under another tenant's name.
    fn under(&self, tenant: &str) -> Self {
        Self {
            tenant: tenant.into(),
            ..self.clone()
        }
    }

    /// Fills a path of the document; a parameter that this does not know fails.
    fn fill(&self, path: &str, tile: &str) -> String {
        let filled = path
            .replace("{tenant}", &self.tenant)
            .replace("{signer}", &self.signer)
            .replace("{key}", &self.key)
            .replace("{order}", &self.order)
            .replace("{grant}", &self.grant)
            .replace("{log}", &self.log)
            .replace("{path}", tile);
        assert!(!filled.contains('{'), "a new parameter: {filled}");
        filled
    }

    /// Where this tenant's certificate chain lies.
    fn chain_file(&self, stack: &Stack) -> PathBuf {
        stack.path(&format!("{}-chain.pem", self.tenant))
    }
}

/// The idempotency key that the neighbour's job has used.
const USED_KEY: &str = "the-neighbours-attempt";
/// Every request here has this id, so that equal answers are equal to the byte.
const ONE_ID: &str = "one-request-id-for-all";

/// All operations, as the handlers describe themselves.
fn operations() -> BTreeSet<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../openapi/openapi.json");
    let text = std::fs::read_to_string(file).expect("openapi.json");
    let spec: Value = serde_json::from_str(&text).expect("JSON");
    let mut all = BTreeSet::new();
    for (path, item) in spec["paths"].as_object().expect("paths") {
        for method in item.as_object().expect("operations").keys() {
            all.insert(format!("{} {path}", method.to_uppercase()));
        }
    }
    all
}

/// A tenant with one object of every kind.
fn tenant_objects(stack: &Stack, admin: &Cli, tenant: &str, signer: &str) -> Objects {
    let name = format!("{tenant}/{signer}");
    let key = stack.signer(admin, &name, "ec-p256");
    let shown = admin.json(&["keys", "show", &key]);
    let grants = admin.json(&["grants", "list"]);
    let text_at = |v: &Value| {
        v.as_str()
            .unwrap_or_else(|| panic!("{shown} {grants}"))
            .to_owned()
    };
    let objects = Objects {
        tenant: tenant.into(),
        signer: signer.into(),
        order: text_at(&shown["orders"][0]["id"]),
        grant: text_at(&grants[0]["id"]),
        log: key.clone(),
        key,
    };
    let chain = text(&objects.chain_file(stack));
    admin.ok(&["certificate", "show", &name, "--out", &chain]);
    objects
}

/// The id of the tenant's own log.
fn tenant_log(admin: &Cli) -> String {
    admin
        .json(&["log", "list"])
        .as_array()
        .expect("logs")
        .iter()
        .find(|l| l["kind"] == "tenant")
        .and_then(|l| l["id"].as_str())
        .expect("the tenant's log")
        .to_owned()
}

/// A person's service token.
fn person(stack: &Stack, raw: &Raw, subject: &str, tenant: Option<&str>) -> String {
    let id = stack
        .people
        .mint(&TokenSpec::new(subject, PEOPLE_AUDIENCE).mfa())
        .expect("a token");
    let answer = raw.exchange(tenant, &id);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["access_token"]
        .as_str()
        .expect("access_token")
        .to_owned()
}

/// One connection, made anew when the service closed it.
struct Asker<'a> {
    stack: &'a Stack,
    wire: Wire,
}

impl<'a> Asker<'a> {
    fn new(stack: &'a Stack) -> Self {
        let wire = stack.wire();
        Self { stack, wire }
    }

    fn ask(
        &mut self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<&Value>,
    ) -> WireAnswer {
        let mut headers = vec![
            format!("x-request-id: {ONE_ID}"),
            format!("idempotency-key: {USED_KEY}"),
        ];
        headers.extend(token.map(|t| format!("authorization: Bearer {t}")));
        headers.extend(body.map(|_| "content-type: application/json".to_owned()));
        let body = body.map(Value::to_string).unwrap_or_default();
        let bytes = crate::support::wire::request(method, path, &headers, body.as_bytes());
        for _ in 0..3 {
            if self.wire.write(&bytes).is_ok()
                && let Some(answer) = self.wire.answer(method)
            {
                return answer;
            }
            // A refusal may come before the body was read, and the connection closes behind it.
            self.wire = self.stack.wire();
        }
        panic!("{method} {path}: no answer");
    }
}

/// Every text in a JSON value that could tell one tenant from another.
fn texts(value: &Value, out: &mut BTreeSet<String>) {
    match value {
        Value::String(s) if s.len() >= 8 => {
            out.insert(s.clone());
        }
        Value::Array(all) => all.iter().for_each(|v| texts(v, out)),
        Value::Object(members) => members.values().for_each(|v| texts(v, out)),
        _ => {}
    }
}

/// What a tenant's admin is shown of its own objects: one answer for each GET of the table, and
/// all texts in them.
fn own_view(
    asker: &mut Asker<'_>,
    rows: &[Row],
    objects: &[&Objects],
    token: &str,
) -> (Vec<String>, BTreeSet<String>) {
    let mut answers = Vec::new();
    let mut words = BTreeSet::new();
    for row in rows.iter().filter(|r| r.own.is_some()) {
        let ("GET", path) = row.parts() else { continue };
        for of in objects {
            for tile in ["entries/000.p/1", "0/000.p/1"] {
                let answer = asker.ask("GET", &of.fill(path, tile), Some(token), None);
                assert_eq!(answer.status, 200, "{} {answer:?}", row.operation);
                for line in String::from_utf8_lossy(&answer.body).lines() {
                    texts(&serde_json::from_str(line).unwrap_or_default(), &mut words);
                }
                texts(&answer.json(), &mut words);
                answers.push(format!("{} {}", row.operation, answer.text()));
                if !path.contains("{path}") {
                    break;
                }
            }
        }
    }
    (answers, words)
}

#[test]
fn every_operation_has_its_row_and_every_row_its_operation() {
    let stack = Stack::shared();
    let nobody = Objects::made_up();
    std::fs::write(nobody.chain_file(stack), "").expect("a file");
    let rows = rows::rows(stack, &nobody);
    let known: BTreeSet<String> = rows.iter().map(|r| r.operation.to_owned()).collect();
    assert_eq!(known.len(), rows.len(), "a row stands twice");
    let all = operations();
    let without: Vec<_> = all.difference(&known).collect();
    assert!(
        without.is_empty(),
        "say in neighbours/rows.rs what a neighbour may see of {without:?}"
    );
    let gone: Vec<_> = known.difference(&all).collect();
    assert!(gone.is_empty(), "no such operation any more: {gone:?}");
    for row in &rows {
        let names = row.operation.contains('{');
        assert_eq!(
            row.own.is_some(),
            names,
            "{} names an object",
            row.operation
        );
    }
}

#[test]
fn a_neighbours_object_is_the_same_404_as_none_for_everybody() {
    let stack = Stack::shared();
    let raw = stack.raw();
    let mine = stack.tenant("nb-mine");
    let theirs = stack.tenant("zq-theirs");
    let own = tenant_objects(stack, &mine, "nb-mine", "release");
    let objects = tenant_objects(stack, &theirs, "zq-theirs", "zq-release");
    for (admin, auditor) in [(&mine, "nb-auditor"), (&theirs, "zq-auditor")] {
        let people = stack.people.url();
        admin.ok(&[
            "members",
            "add",
            "--issuer",
            people,
            "--subject",
            auditor,
            "--role",
            "auditor",
        ]);
    }

    // The neighbour's job signs, under an idempotency key that everybody here will use.
    let their_job = stack.service_token("zq-theirs", REPOSITORY);
    let sign = |tenant: &str, signer: &str, token: &str| {
        let path = format!("/v1/tenants/{tenant}/signers/{signer}/signatures");
        let body = cms_request(SIGNED, HashAlgorithm::Sha256).to_string();
        raw.send(
            "POST",
            &path,
            Some(token),
            Some(body.as_bytes()),
            &[("idempotency-key", USED_KEY)],
        )
        .only()
    };
    let first = sign("zq-theirs", "zq-release", &their_job);
    assert_eq!(first.status, 200, "{first:?}");
    let their_tenant_log = Objects {
        log: tenant_log(&theirs),
        ..objects.clone()
    };

    let my_job = stack.service_token("nb-mine", REPOSITORY);
    // A job whose grant was taken away after its exchange: no other job without one has a token.
    stack.let_in(&mine, "nb-mine", "4712");
    let without = stack.service_token("nb-mine", "4712");
    let grants = mine.json(&["grants", "list"]);
    let door = grants
        .as_array()
        .expect("grants")
        .iter()
        .find(|g| g["signer"] == "door");
    mine.ok(&[
        "grants",
        "remove",
        door.and_then(|g| g["id"].as_str()).expect("an id"),
    ]);
    let roles = [
        (Role::Nobody, None),
        (Role::Job, Some(my_job.clone())),
        (Role::JobWithoutGrant, Some(without)),
        (
            Role::Auditor,
            Some(person(stack, &raw, "nb-auditor", Some("nb-mine"))),
        ),
        (
            Role::Admin,
            Some(person(stack, &raw, "nb-mine-admin", Some("nb-mine"))),
        ),
        (Role::Operator, Some(person(stack, &raw, "olga", None))),
    ];
    let token_of = |role: Role| {
        let (_, token) = roles.iter().find(|(r, _)| *r == role).expect("a role");
        token.as_deref()
    };
    let their_admin = person(stack, &raw, "zq-theirs-admin", Some("zq-theirs"));
    // From here on nothing is written at the neighbour's by itself: the outcome of the signature
    // and the key log's checkpoint have reached the logs.
    quiet(stack, &theirs, &objects.key);

    let rows = rows::rows(stack, &objects);
    let mut asker = Asker::new(stack);
    let real = [&objects, &their_tenant_log];
    let (before, mut words) = own_view(&mut asker, &rows, &real, &their_admin);
    let admin = token_of(Role::Admin).expect("a token");
    let (_, common) = own_view(&mut asker, &rows, &[&own], admin);
    words.extend([
        objects.tenant.clone(),
        objects.signer.clone(),
        "zq-auditor".into(),
    ]);
    // A moment to the second may be another's too.
    let moment = |w: &str| w.len() == 20 && w.ends_with('Z') && w.contains("T");
    words.retain(|w| !common.contains(w) && w != USED_KEY && !moment(w));
    // Ids, names, subjects, digests, certificates, checkpoints, salts: all that is theirs alone.
    for word in [
        &objects.key,
        &objects.order,
        &objects.grant,
        &their_tenant_log.log,
    ] {
        assert!(words.contains(word), "{word} of {words:#?}");
    }
    assert!(words.len() > 30, "{words:#?}");
    let no_word = |what: &str, answer: &WireAnswer| {
        let all = answer.text();
        if let Some(word) = words.iter().find(|w| all.contains(w.as_str())) {
            panic!("{what} shows the neighbour's {word}: {all}");
        }
    };

    let made_up = Objects::made_up();
    let mut asked = 0;
    for row in &rows {
        let (method, path) = row.parts();
        for (role, token) in &roles {
            let what = format!("{role:?} {}", row.operation);
            let token = token.as_deref();
            let shown = row.shown.iter().find(|(r, _)| r == role).map(|(_, s)| *s);
            let mut ask = |o: &Objects, tile: &str| {
                asked += 1;
                let path = o.fill(path, tile) + &row.query;
                asker.ask(method, &path, token, row.body.as_ref())
            };
            if let Some(status) = shown {
                let answer = ask(&objects, "");
                assert_eq!(answer.status, status, "{what}: {}", answer.text());
                if *role != Role::Operator {
                    no_word(&what, &answer);
                }
                continue;
            }
            for tile in ["entries/000.p/1", "0/000.p/1"] {
                let none = ask(&made_up, tile);
                let (status, code) = match token {
                    None => (401, "no-token"),
                    Some(_) => (404, "not-found"),
                };
                assert_eq!(
                    (none.status, none.code().as_str()),
                    (status, code),
                    "{what}"
                );
                no_word(&what, &none);
                for object in real {
                    assert_eq!(
                        ask(object, tile).text(),
                        none.text(),
                        "{what} of a neighbour"
                    );
                }
                // One's own tenant in the path, the neighbour's object behind it.
                if path.matches('{').count() > 1 && path.contains("{tenant}") {
                    let none = ask(&made_up.under("nb-mine"), tile);
                    no_word(&what, &none);
                    for object in real {
                        let answer = ask(&object.under("nb-mine"), tile);
                        assert_eq!(answer.text(), none.text(), "{what}, own tenant");
                    }
                    if *role == Role::Admin {
                        assert_eq!(none.status, 404, "{what}: {}", none.text());
                    }
                }
                if !path.contains("{path}") {
                    break;
                }
            }
            // Other methods on the same path tell as little.
            for method in ["HEAD", "PATCH", "OPTIONS"] {
                let mut ask = |o: &Objects| asker.ask(method, &o.fill(path, "0/000"), token, None);
                let none = ask(&made_up);
                assert_eq!(
                    ask(&objects).text(),
                    none.text(),
                    "{role:?} {method} {path}"
                );
                no_word(&what, &none);
            }
            // An object named in the body.
            if let (Some(member), Some(body)) = (row.names, &row.body) {
                let mut ask = |name: &str| {
                    let mut body = body.clone();
                    body[member] = name.into();
                    asker.ask(method, &own.fill(path, ""), token, Some(&body))
                };
                let none = ask("zq-nothing");
                assert!(none.status >= 400, "{what}: {}", none.text());
                assert_eq!(
                    ask(&objects.signer).text(),
                    none.text(),
                    "{what}, in the body"
                );
            }
        }
    }
    assert!(asked > 600, "{asked}");

    // Nothing of it left a trace at the neighbour's: neither state nor log.
    let (after, _) = own_view(&mut asker, &rows, &real, &their_admin);
    assert_eq!(before.len(), after.len());
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before, after);
    }
    // The same subject, key and bytes in two tenants: each gets its own signature, and its own again.
    let ours = sign("nb-mine", "release", &my_job);
    assert_eq!(ours.status, 200, "{ours:?}");
    let said = String::from_utf8_lossy(&ours.body);
    assert!(
        said.contains(&own.key) && !said.contains(&objects.key),
        "{said}"
    );
    assert_eq!(sign("zq-theirs", "zq-release", &their_job).body, first.body);
    // A job reads no log, not even its own tenant's.
    assert_eq!(
        raw.get(&format!("/log/{}/checkpoint", own.log), Some(&my_job))
            .problem(),
        "forbidden"
    );

    // The same requests, by the neighbour's own people: nothing but the border had refused them.
    for row in &rows {
        let Some((role, status)) = row.own else {
            continue;
        };
        let (method, path) = row.parts();
        let token = if role == Role::Job {
            &their_job
        } else {
            &their_admin
        };
        let path = objects.fill(path, "0/000.p/1") + &row.query;
        let answer = asker.ask(method, &path, Some(token), row.body.as_ref());
        assert_eq!(
            answer.status,
            status,
            "{}: {}",
            row.operation,
            answer.text()
        );
    }
}

/// Waits until nothing is written at a tenant's any more.
fn quiet(stack: &Stack, admin: &Cli, key: &str) {
    let start = Instant::now();
    let folder = stack.path("nb-quiet");
    loop {
        let size = admin.json(&["keys", "show", key])["log_size"].clone();
        let leaves = admin.tenant_leaves(&folder);
        let copied = of_type(&leaves, "key-checkpoint")
            .last()
            .map(|l| l["size"].clone());
        // log-opened, the certificate request and the signature, each with its outcome.
        if size == 5 && copied.as_ref() == Some(&size) {
            return;
        }
        assert!(
            start.elapsed() < Duration::from_secs(40),
            "{size} {copied:?}"
        );
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// A neighbour's object takes no longer to refuse than one that never was: pairs in turn, medians
/// compared, so that a busy machine slows both.
#[test]
fn the_time_of_a_404_tells_nothing() {
    let stack = Stack::shared();
    let raw = stack.raw();
    let theirs = stack.tenant("nb-clocked");
    let objects = tenant_objects(stack, &theirs, "nb-clocked", "release");
    stack.tenant("nb-clock");
    let token = person(stack, &raw, "nb-clock-admin", Some("nb-clock"));
    let made_up = Objects::made_up();
    let mut asker = Asker::new(stack);
    for path in [
        "/v1/tenants/{tenant}/keys/{key}",
        "/log/{log}/checkpoint",
        "/v1/tenants/{tenant}/signers/{signer}/certificate",
    ] {
        for own in [false, true] {
            let of = |o: &Objects| match own {
                true => o.under("nb-clock").fill(path, ""),
                false => o.fill(path, ""),
            };
            let (real, none) = (of(&objects), of(&made_up));
            let mut rounds = Vec::new();
            let even = (0..4).any(|_| {
                let mut times = [Vec::new(), Vec::new()];
                for round in 0..200 {
                    for i in 0..2 {
                        let which = (round + i) % 2;
                        let path = [&real, &none][which];
                        let began = Instant::now();
                        let answer = asker.ask("GET", path, Some(&token), None);
                        times[which].push(began.elapsed());
                        assert_eq!(answer.status, 404, "{path}");
                    }
                }
                let [a, b] = times.map(|mut t| {
                    t.sort_unstable();
                    t[t.len() / 2].as_secs_f64()
                });
                rounds.push((a, b));
                // A read of the database more would be some 100 µs of a debug build's 1 ms.
                (a - b).abs() < 0.06 * a.max(b)
            });
            assert!(even, "{path} (own tenant: {own}): {rounds:?}");
        }
    }
}

/// The body without the one thing that may differ.
fn but_for_its_id(answer: &RawAnswer) -> Value {
    let mut json = answer.json();
    assert_eq!(
        json.as_object_mut().expect("object").remove("instance"),
        Some(answer.request_id.as_str().into())
    );
    json
}

#[test]
fn a_token_of_one_tenant_is_not_one_of_another() {
    let stack = Stack::shared();
    let raw = stack.raw();
    stack.let_in(&stack.tenant("nb-one"), "nb-one", REPOSITORY);
    let id_token = stack.job_token(REPOSITORY);
    raw.exchanged("nb-one", &id_token);
    // Used up, also at another tenant's door.
    let missing = raw.exchange(Some("nb-missing"), &stack.job_token(REPOSITORY));
    assert_eq!(missing.problem(), "access-denied");
    // A tenant without this issuer looks like no tenant.
    // The short form: an administrator whom the operator's own identity provider knows.
    let operator = stack.operator();
    operator.ok(&[
        "admin",
        "tenant",
        "create",
        "nb-closed",
        "--admin",
        stack.people.url(),
        "carla",
    ]);
    let carla = stack.person("carla", Some("nb-closed")).json(&["whoami"]);
    assert_eq!(carla["roles"], json!(["admin"]));
    let out = operator.ends(
        64,
        &[
            "admin",
            "tenant",
            "create",
            "nb-dead",
            "--admin",
            "https://else.example",
            "x",
        ],
    );
    assert!(out.says("issuer"), "{out:?}");
    let closed = raw.exchange(Some("nb-closed"), &stack.job_token(REPOSITORY));
    assert_eq!(but_for_its_id(&closed), but_for_its_id(&missing));
}
