//! No neighbour (ARCHITECTURE.md, invariant 4): another tenant's object is the same 404 as none, in
//! every operation there is; and on the machine no worker, file or log line shows one to another.

use crate::support::cli::Cli;
use crate::support::judges::cms_request;
use crate::support::raw::{Raw, RawAnswer};
use crate::support::{PEOPLE_AUDIENCE, REPOSITORY, Stack, copy_exe, job_spec, text};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use countersign_core::{HashAlgorithm, RequestId};
use countersign_testkit::issuer::TokenSpec;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

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

/// All files and folders below.
fn walk(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("folder") {
        let path = entry.expect("entry").path();
        if path.is_dir() && !path.is_symlink() {
            walk(&path, out);
        }
        out.push(path);
    }
}

#[test]
fn the_machine_shows_no_tenant_to_another_and_no_secret_to_its_logs() {
    let mut stack = Stack::start();
    // Everything our own code would ever say.
    let config = stack.config();
    let configured = std::fs::read_to_string(&config).expect("configuration");
    let ours = [
        "api",
        "signing",
        "hsm",
        "hsm_worker",
        "store",
        "ca",
        "server",
        "core",
    ];
    let ours = ours.map(|c| format!("countersign_{c}=trace")).join(",");
    let talkative = configured.replacen("\"info\"", &format!("\"debug,{ours}\""), 1);
    assert_ne!(talkative, configured);
    std::fs::write(&config, talkative).expect("configuration");
    stack.stop_server();
    stack.start_server(&[]);

    let acme = stack.tenant("acme");
    let globex = stack.tenant("globex");
    let key = stack.signer(&acme, "acme/release", "ec-p256");
    stack.signer(&globex, "globex/release", "ec-p256");
    let folder = stack.folder("work");
    let exe = copy_exe(&folder, "app.exe", "t64.exe");
    let id_token = stack.job_token(REPOSITORY);
    let job = stack.cli("job").env("COUNTERSIGN_ID_TOKEN", &id_token);
    let signed = job.json(&[
        "sign",
        "--signer",
        "acme/release",
        "--timestamp",
        stack.tsa.url(),
        &text(&exe),
    ]);
    let refused_token = stack.platform.mint(&job_spec("666")).expect("a token");
    let thief = stack
        .cli("thief")
        .env("COUNTERSIGN_ID_TOKEN", &refused_token);
    thief.ends(3, &["sign", "--signer", "acme/release", &text(&exe)]);
    acme.ends(
        4,
        &[
            "keys",
            "show",
            "--tenant",
            "acme",
            &RequestId::new().to_string(),
        ],
    );

    // Each worker's configuration leads to one token, its own.
    let tokens = stack.path("service/data/tokens");
    let mut labels = BTreeSet::new();
    for dir in std::fs::read_dir(&tokens).expect("token folders") {
        let dir = dir.expect("entry").path();
        if !dir.is_dir() {
            continue;
        }
        let conf = dir.join("softhsm2.conf");
        let out = Command::new("softhsm2-util")
            .arg("--show-slots")
            .env("SOFTHSM2_CONF", &conf)
            .output()
            .expect("softhsm2-util runs");
        assert!(out.status.success(), "{out:?}");
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        let seen: Vec<_> = said
            .lines()
            .filter_map(|l| l.trim().strip_prefix("Label:"))
            .map(|l| l.trim().to_owned())
            .filter(|l| !l.is_empty())
            .collect();
        assert_eq!(seen.len(), 1, "{said}");
        let tokens_in = std::fs::read_to_string(&conf).expect("conf");
        assert!(
            tokens_in.contains(&text(&dir.join("tokens"))),
            "{tokens_in}"
        );
        assert!(labels.insert(seen[0].clone()), "two folders show one token");
    }
    assert_eq!(labels.len(), 2, "{labels:?}");

    // Folders are entered and files read by their owner alone.
    let service = stack.path("service");
    let mut paths = vec![service.clone()];
    walk(&service, &mut paths);
    let public = ["tls/cert.pem", "softhsm2-profile.toml"].map(|p| service.join(p));
    let mut open = Vec::new();
    for path in paths {
        // Sockets and journals come and go.
        let Ok(meta) = std::fs::symlink_metadata(&path) else {
            continue;
        };
        let wanted = if meta.is_dir() { 0o700 } else { 0o600 };
        let mode = meta.permissions().mode() & 0o777;
        if mode & !wanted != 0 && !public.contains(&path) {
            open.push(format!("{} {mode:o}", path.display()));
        }
    }
    assert!(open.is_empty(), "readable by others: {open:#?}");

    // What must never be logged.
    let mut secrets: Vec<(String, String)> = Vec::new();
    let mut secret = |what: &str, value: String| {
        assert!(value.len() >= 16, "{what}");
        secrets.push((what.to_owned(), value));
    };
    let mut files = Vec::new();
    walk(&stack.path("home"), &mut files);
    walk(&service, &mut files);
    for path in files.iter().filter(|p| p.is_file()) {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
        let bytes = std::fs::read(path).unwrap_or_default();
        if path.parent().is_some_and(|p| p.ends_with("tokens"))
            && path.starts_with(stack.path("home"))
        {
            let token: Value = serde_json::from_slice(&bytes).expect("a cached token");
            secret(
                "service token",
                token["access_token"].as_str().expect("token").to_owned(),
            );
        }
        match name {
            "so-pin.for-the-safe" => {
                let pin = String::from_utf8_lossy(&bytes);
                let pin = pin
                    .split_whitespace()
                    .find(|w| w.len() == 32 && w.bytes().all(|b| b.is_ascii_hexdigit()));
                secret("SO PIN", pin.expect("an SO PIN").to_owned());
            }
            "sealing.key" | "worker.key" | "user-pin.sealed" => {
                secret(name, STANDARD.encode(&bytes));
                secret(name, URL_SAFE_NO_PAD.encode(&bytes));
                secret(name, bytes.iter().map(|b| format!("{b:02x}")).collect());
                secret(
                    name,
                    format!("{:?}", &bytes[..16])
                        .trim_matches(['[', ']'])
                        .to_owned(),
                );
            }
            "bootstrap-credential" => {
                secret(name, String::from_utf8_lossy(&bytes).trim().to_owned())
            }
            _ => {}
        }
    }
    secret("ID token", id_token.clone());
    secret("ID token", refused_token);
    // A signature of a JWT is enough to complete a token whose claims are known.
    secret(
        "ID token's signature",
        id_token.rsplit('.').next().expect("a signature").to_owned(),
    );
    let digest = signed["files"][0]["digest"].as_str().expect("digest");
    let hex = digest.split(':').nth(1).expect("hex").to_owned();
    let raw: Vec<u8> = (0..hex.len() / 2)
        .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).expect("hex"))
        .collect();
    secret("file digest", STANDARD.encode(&raw));
    secret(
        "file digest",
        format!("{raw:?}").trim_matches(['[', ']']).to_owned(),
    );
    secret("file digest", hex);
    let kinds: BTreeSet<_> = secrets.iter().map(|(k, _)| k.as_str()).collect();
    for kind in [
        "service token",
        "SO PIN",
        "sealing.key",
        "worker.key",
        "user-pin.sealed",
    ] {
        assert!(
            kinds.contains(kind),
            "nothing found to look for: {kind} of {kinds:?}"
        );
    }

    stack.stop_server();
    let log = stack.server_log();
    assert!(
        log.contains("\"DEBUG\"") || log.contains("DEBUG"),
        "the log is not as talkative as wanted"
    );
    assert!(
        log.contains(&key) || log.contains("request_id"),
        "not the service's log"
    );
    let mut logs = vec![("countersignd.log".to_owned(), log)];
    for name in ["demo-ca.log"] {
        logs.push((
            name.to_owned(),
            std::fs::read_to_string(stack.path(name)).unwrap_or_default(),
        ));
    }
    for (name, log) in &logs {
        for (what, value) in &secrets {
            if let Some(line) = log.lines().find(|l| l.contains(value.as_str())) {
                panic!("{name} shows a {what}: {line}");
            }
        }
        for person in ["acme-admin", "Springfield"] {
            assert!(!log.contains(person), "{name} names {person}");
        }
    }
}
