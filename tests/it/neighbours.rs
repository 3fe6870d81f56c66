//! No neighbour (ARCHITECTURE.md, invariant 4): another tenant's object is the same 404 as none, in
//! every operation there is; and on the machine no worker, file or log line shows one to another.

mod machine;

use crate::support::cli::Cli;
use crate::support::judges::cms_request;
use crate::support::raw::{Raw, RawAnswer};
use crate::support::{PEOPLE_AUDIENCE, REPOSITORY, Stack};
use countersign_core::{HashAlgorithm, RequestId};
use countersign_testkit::issuer::TokenSpec;
use serde_json::{Value, json};
use std::path::Path;

/// What the paths of the API name.
#[derive(Clone)]
struct Objects {
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

    fn fill(&self, path: &str, tile: &str) -> String {
        path.replace("{tenant}", &self.tenant)
            .replace("{signer}", &self.signer)
            .replace("{key}", &self.key)
            .replace("{order}", &self.order)
            .replace("{grant}", &self.grant)
            .replace("{log}", &self.log)
            .replace("{path}", tile)
    }
}

/// The idempotency key that the neighbour's job has used.
const USED_KEY: &str = "the-neighbours-attempt";
/// What the neighbour's job has signed.
const SIGNED: &[u8] = b"the neighbour's release";

/// Operations that name no object of a tenant. One that begins to must move to [`body_of`].
const NO_OBJECT: [&str; 9] = [
    "GET /healthz",
    "GET /openapi.json",
    "GET /readyz",
    "POST /v1/bootstrap",
    "GET /v1/service/keys",
    "GET /v1/tenants",
    "POST /v1/tenants",
    "POST /v1/token",
    "GET /v1/whoami",
];

/// The body of each operation that names an object: one that would be accepted, so that nothing but
/// the border refuses it. `None`: an operation that this table does not know.
fn body_of(operation: &str, stack: &Stack) -> Option<Option<Value>> {
    let subject = json!({"common_name": "Acme Inc.", "organization": "Acme Inc.", "country": "US",
        "locality": "Springfield"});
    let member = json!({"issuer": stack.people.url(), "subject": "mallory", "role": "admin"});
    Some(Some(match operation {
        "GET /log/{log}/checkpoint"
        | "GET /log/{log}/tile/{path}"
        | "GET /v1/tenants/{tenant}"
        | "GET /v1/tenants/{tenant}/grants"
        | "DELETE /v1/tenants/{tenant}/grants/{grant}"
        | "GET /v1/tenants/{tenant}/issuers"
        | "GET /v1/tenants/{tenant}/keys"
        | "GET /v1/tenants/{tenant}/keys/{key}"
        | "POST /v1/tenants/{tenant}/keys/{key}/appraise"
        | "GET /v1/tenants/{tenant}/logs"
        | "GET /v1/tenants/{tenant}/logs/{log}/checkpoint"
        | "GET /v1/tenants/{tenant}/logs/{log}/details"
        | "GET /v1/tenants/{tenant}/logs/{log}/tile/{path}"
        | "GET /v1/tenants/{tenant}/members"
        | "GET /v1/tenants/{tenant}/orders/{order}"
        | "GET /v1/tenants/{tenant}/signers"
        | "GET /v1/tenants/{tenant}/signers/{signer}"
        | "GET /v1/tenants/{tenant}/signers/{signer}/certificate"
        | "POST /v1/tenants/{tenant}/signers/{signer}/keys" => return Some(None),
        "POST /v1/tenants/{tenant}/grants" => json!({"signer": "release",
            "issuer": stack.platform.url(), "claims": {"repository_id": "666"},
            "content_types": ["cms"], "digest_algorithms": ["sha-256"]}),
        "POST /v1/tenants/{tenant}/grants/explain" => {
            json!({"token": stack.job_token(REPOSITORY), "signer": "release"})
        }
        "POST /v1/tenants/{tenant}/issuers" => json!({"issuer": "https://evil.example",
            "kind": "people", "audience": "x"}),
        "POST /v1/tenants/{tenant}/keys/{key}/certificate" => {
            json!({"chain_pem": std::fs::read_to_string(stack.ca_roots()).expect("roots")})
        }
        "POST /v1/tenants/{tenant}/keys/{key}/csr" => {
            json!({"ca_audience": "ca.example", "subject": subject})
        }
        "POST /v1/tenants/{tenant}/keys/{key}/events" => {
            json!({"event": "suspend", "reason": "a neighbour was here"})
        }
        "POST /v1/tenants/{tenant}/keys/{key}/orders" => json!({"ca": "demo", "subject": subject}),
        "POST /v1/tenants/{tenant}/members" | "DELETE /v1/tenants/{tenant}/members" => member,
        "PUT /v1/tenants/{tenant}/policy" => json!({"allow_software": true, "require_mfa": false}),
        "POST /v1/tenants/{tenant}/signers" => json!({"signer": "evil", "algorithm": "ec-p256"}),
        "POST /v1/tenants/{tenant}/signers/{signer}/signatures" => {
            cms_request(SIGNED, HashAlgorithm::Sha256)
        }
        _ => return None,
    }))
}

/// All operations, as the handlers describe themselves.
fn operations() -> Vec<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../openapi/openapi.json");
    let text = std::fs::read_to_string(file).expect("openapi.json");
    let spec: Value = serde_json::from_str(&text).expect("JSON");
    let mut all = Vec::new();
    for (path, item) in spec["paths"].as_object().expect("paths") {
        for method in item.as_object().expect("operations").keys() {
            all.push(format!("{} {path}", method.to_uppercase()));
        }
    }
    all
}

fn tenant_objects(stack: &Stack, admin: &Cli, tenant: &str) -> Objects {
    let key = stack.signer(admin, &format!("{tenant}/release"), "ec-p256");
    let shown = admin.json(&["keys", "show", &key]);
    let grants = admin.json(&["grants", "list"]);
    let text_at = |v: &Value| {
        v.as_str()
            .unwrap_or_else(|| panic!("{shown} {grants}"))
            .to_owned()
    };
    Objects {
        tenant: tenant.into(),
        signer: "release".into(),
        order: text_at(&shown["orders"][0]["id"]),
        grant: text_at(&grants[0]["id"]),
        log: key.clone(),
        key,
    }
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

fn send(
    raw: &Raw,
    operation: &str,
    path: &str,
    token: Option<&str>,
    body: Option<&Value>,
) -> (u16, Value) {
    let method = operation.split(' ').next().expect("a method");
    let bytes = body.map(|b| b.to_string().into_bytes());
    let answer = raw.send(
        method,
        path,
        token,
        bytes.as_deref(),
        &[("idempotency-key", USED_KEY)],
    );
    (answer.status, but_for_its_id(&answer))
}

/// The body without the one thing that may differ.
fn but_for_its_id(answer: &RawAnswer) -> Value {
    let mut json: Value = serde_json::from_slice(&answer.body)
        .unwrap_or_else(|_| String::from_utf8_lossy(&answer.body).into_owned().into());
    if let Some(members) = json.as_object_mut() {
        assert_eq!(
            members.remove("instance"),
            Some(answer.request_id.as_str().into())
        );
    }
    json
}

#[test]
fn every_operation_has_its_row() {
    let stack = Stack::shared();
    let unknown: Vec<_> = operations()
        .into_iter()
        .filter(|o| body_of(o, stack).is_none() && !NO_OBJECT.contains(&o.as_str()))
        .collect();
    assert!(
        unknown.is_empty(),
        "say in body_of or NO_OBJECT what a neighbour may see of {unknown:?}"
    );
    for operation in NO_OBJECT {
        assert!(!operation.contains('{'), "{operation} names an object");
    }
}

#[test]
fn a_neighbours_object_is_the_same_404_as_none_for_everybody() {
    let stack = Stack::shared();
    let raw = stack.raw();
    let mine = stack.tenant("nb-mine");
    let theirs = stack.tenant("nb-theirs");
    let objects = tenant_objects(stack, &theirs, "nb-theirs");
    let own = tenant_objects(stack, &mine, "nb-mine");
    mine.ok(&[
        "members",
        "add",
        "--issuer",
        stack.people.url(),
        "--subject",
        "nb-auditor",
        "--role",
        "auditor",
    ]);

    // The neighbour's job signs, under an idempotency key that everybody here will use.
    let their_job = stack.service_token("nb-theirs", REPOSITORY);
    let sign = |tenant: &str, token: &str| {
        let path = format!("/v1/tenants/{tenant}/signers/release/signatures");
        let body = cms_request(SIGNED, HashAlgorithm::Sha256).to_string();
        raw.send(
            "POST",
            &path,
            Some(token),
            Some(body.as_bytes()),
            &[("idempotency-key", USED_KEY)],
        )
    };
    let first = sign("nb-theirs", &their_job);
    assert_eq!(first.status, 200, "{first:?}");
    let mut tenant_log = objects.clone();
    let logs = theirs.json(&["log", "list"]);
    tenant_log.log = logs
        .as_array()
        .expect("logs")
        .iter()
        .find(|l| l["kind"] == "tenant")
        .and_then(|l| l["id"].as_str())
        .expect("the tenant's log")
        .to_owned();

    let my_job = stack.service_token("nb-mine", REPOSITORY);
    let roles = [
        (
            "admin",
            Some(person(stack, &raw, "nb-mine-admin", Some("nb-mine"))),
        ),
        (
            "auditor",
            Some(person(stack, &raw, "nb-auditor", Some("nb-mine"))),
        ),
        ("job", Some(my_job.clone())),
        ("operator", Some(person(stack, &raw, "olga", None))),
        ("nobody", None),
    ];
    let made_up = Objects::made_up();
    let mut asked = 0;
    for operation in operations() {
        let Some(body) = body_of(&operation, stack) else {
            continue;
        };
        let path = operation.split(' ').nth(1).expect("a path");
        for (role, token) in &roles {
            // What an operator may see: that a tenant is there.
            if *role == "operator" && operation == "GET /v1/tenants/{tenant}" {
                continue;
            }
            let ask = |o: &Objects, tile: &str| {
                send(
                    &raw,
                    &operation,
                    &o.fill(path, tile),
                    token.as_deref(),
                    body.as_ref(),
                )
            };
            for tile in ["entries/000.p/1", "0/000.p/1"] {
                let none = ask(&made_up, tile);
                let wanted = if token.is_none() { 401 } else { 404 };
                assert_eq!(none.0, wanted, "{role} {operation}: {}", none.1);
                for real in [&objects, &tenant_log] {
                    assert_eq!(ask(real, tile), none, "{role} {operation} of a neighbour");
                    asked += 1;
                }
                // One's own tenant in the path, the neighbour's object behind it.
                if path.matches('{').count() > 1 && path.contains("{tenant}") {
                    let none = ask(&made_up.under("nb-mine"), tile);
                    // A name can stand in both tenants; an id cannot.
                    if !path.contains("{signer}") {
                        assert_eq!(
                            ask(&objects.under("nb-mine"), tile),
                            none,
                            "{role} {operation}, own tenant"
                        );
                        assert_eq!(
                            ask(&tenant_log.under("nb-mine"), tile),
                            none,
                            "{role} {operation}, own tenant"
                        );
                    }
                    if *role == "admin" {
                        assert_eq!(none.0, 404, "{operation}: {}", none.1);
                    }
                }
                if !path.contains("{path}") {
                    break;
                }
            }
        }
    }
    assert!(asked > 200, "{asked}");

    // Nothing of it left a trace at the neighbour's.
    let now = theirs.json(&["keys", "show", &objects.key]);
    assert_eq!(now["state"], "active");
    assert_eq!(now["orders"].as_array().map(Vec::len), Some(1));
    assert_eq!(
        theirs.json(&["signers", "list"]).as_array().map(Vec::len),
        Some(1)
    );
    assert_eq!(
        theirs.json(&["members", "list"]).as_array().map(Vec::len),
        Some(1)
    );
    assert_eq!(
        theirs.json(&["grants", "list"]).as_array().map(Vec::len),
        Some(1)
    );

    // The same subject, key and bytes in two tenants: each gets its own signature, and its own again.
    let ours = sign("nb-mine", &my_job);
    assert_eq!(ours.status, 200, "{ours:?}");
    assert_ne!(ours.json()["key"], first.json()["key"]);
    assert_eq!(ours.json()["key"], own.key.as_str());
    assert_eq!(
        sign("nb-theirs", &their_job).json()["receipt"],
        first.json()["receipt"]
    );

    // A person of one tenant, logged in at the other, is nobody there.
    let stranger = person(stack, &raw, "nb-mine-admin", Some("nb-theirs"));
    for path in ["keys", "logs", "members", "grants", "signers"] {
        let answer = raw.get(&format!("/v1/tenants/nb-theirs/{path}"), Some(&stranger));
        assert_eq!(answer.problem(), "forbidden", "{path}");
    }
    let path = format!("/log/{}/checkpoint", objects.log);
    assert_eq!(raw.get(&path, Some(&stranger)).problem(), "forbidden");
    // A job reads no log, not even its own tenant's.
    assert_eq!(
        raw.get(&format!("/log/{}/checkpoint", own.log), Some(&my_job))
            .problem(),
        "forbidden"
    );
}

#[test]
fn a_token_of_one_tenant_is_not_one_of_another() {
    let stack = Stack::shared();
    let raw = stack.raw();
    stack.tenant("nb-one");
    let id_token = stack.job_token(REPOSITORY);
    raw.exchanged("nb-one", &id_token);
    // Used up, also at another tenant's door.
    let missing = raw.exchange(Some("nb-missing"), &stack.job_token(REPOSITORY));
    assert_eq!(missing.problem(), "issuer-unknown");
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
