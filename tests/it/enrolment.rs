//! From a key to its certificate, and every way that must not lead there: through the demo CA,
//! through somebody who changes what is on the way, with a CA that misbehaves, and by hand.

use crate::support::cli::Cli;
use crate::support::leaves::of_type;
use crate::support::{REPOSITORY, SUBJECT, Stack, program, text};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_client::Web;
use countersign_testkit::programs::ReadyProgram;
use countersign_x509::cert::Certificate;
use countersign_x509::csr::ParsedCsr;
use countersign_x509::hash::sha256;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

const AUDIENCE: &str = "demo-ca.test";

/// A stack with more connectors than the demo CA's: `relay` (an attacker on the way to it), `hard`
/// (the demo CA, but not for software keys), `gone` (nobody there).
struct Scene {
    stack: Stack,
    mode: PathBuf,
    _programs: Vec<ReadyProgram>,
}

fn scene() -> &'static Scene {
    static SCENE: OnceLock<Scene> = OnceLock::new();
    SCENE.get_or_init(|| {
        let mut stack = Stack::start();
        let folder = stack.folder("relay");
        let (ca, ca_file) = (stack.ca_says("listening"), stack.ca_says("ca_file"));

        let mut late = Command::new(program("countersign-demo-ca"));
        late.args(["serve", "--audience", AUDIENCE, "--allow-software", "--order-lifetime", "1", "--state"])
            .arg(stack.path("ca-late"))
            .arg("--trust-service-key")
            .arg(stack.path("service-key.pem"))
            .stderr(stack.log("late-ca"));
        let late = ReadyProgram::start(late, Duration::from_secs(60)).expect("second CA");

        let mode = folder.join("mode");
        set_mode(&mode, "pass");
        let tls = stack.people.state().tls();
        let mut relay = Command::new("python3");
        relay
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("it/support/relay_ca.py"))
            .args([tls.certificate_file(), tls.key_file(), mode.clone()])
            .arg(foreign_request(&folder))
            .arg(format!("ca={ca},{ca_file}"))
            .arg(format!("late={},{}", late.text("listening"), late.text("ca_file")))
            .stderr(stack.log("relay"));
        let relay = ReadyProgram::start(relay, Duration::from_secs(60)).expect("relay");

        let people_ca = text(&stack.people.ca_file());
        let mut config = std::fs::read_to_string(stack.config()).expect("configuration");
        for (name, url, ca_file, software) in [
            ("relay", relay.text("listening"), people_ca.as_str(), true),
            ("hard", &ca, &ca_file, false),
            ("gone", "https://localhost:1", &people_ca, true),
        ] {
            config.push_str(&format!(
                "\n[[cas]]\nname = \"{name}\"\nurl = \"{url}\"\nca_file = \"{ca_file}\"\ntakes_software = {software}\n"
            ));
        }
        std::fs::write(stack.config(), config).expect("configuration");
        stack.stop_server();
        stack.start_server(&[]);
        stack.end_with_the_tests(&[late.id(), relay.id()]);
        Scene { stack, mode, _programs: vec![late, relay] }
    })
}

fn set_mode(file: &Path, mode: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, mode)
        .and_then(|()| std::fs::rename(&new, file))
        .expect("mode");
}

fn openssl(folder: &Path, args: &[&str]) -> String {
    let out = Command::new("openssl")
        .current_dir(folder)
        .args(args)
        .output()
        .expect("openssl runs");
    assert!(
        out.status.success(),
        "openssl {args:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}

/// A request for a key that is not ours, with a subject the CA would take. DER; PEM lies beside it.
fn foreign_request(folder: &Path) -> PathBuf {
    openssl(
        folder,
        &[
            "req",
            "-new",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-keyout",
            "foreign.key",
            "-subj",
            "/C=US/L=Springfield/O=Acme Inc./CN=Acme Inc.",
            "-out",
            "foreign.pem",
        ],
    );
    openssl(
        folder,
        &[
            "req",
            "-in",
            "foreign.pem",
            "-outform",
            "DER",
            "-out",
            "foreign.der",
        ],
    );
    folder.join("foreign.der")
}

/// Orders a certificate; how it ended and what `--json` said.
fn order(admin: &Cli, key: &str, ca: &str) -> (i32, Value) {
    let out = admin.run(
        &[
            &["--json", "certificate", "order", key, "--ca", ca][..],
            &SUBJECT,
        ]
        .concat(),
    );
    let said =
        serde_json::from_str(&out.stdout).unwrap_or_else(|e| panic!("not JSON ({e}): {out:?}"));
    (out.code, said)
}

fn reasons(said: &Value) -> Vec<&str> {
    said["error"]["reasons"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

fn state(admin: &Cli, key: &str) -> String {
    admin.json(&["keys", "show", key])["state"]
        .as_str()
        .expect("state")
        .to_owned()
}

/// The order asked for last, as the service keeps it.
fn last_order(admin: &Cli, key: &str) -> Value {
    admin.json(&["keys", "show", key])["orders"][0].clone()
}

/// `csr export` to a new folder.
fn export(admin: &Cli, key: &str, folder: &Path, more: &[&str]) -> Value {
    let out = text(folder);
    let mut args = vec!["csr", "export", key, "--out", &out];
    args.extend(SUBJECT);
    if !more.contains(&"--ca-audience") {
        args.extend(["--ca-audience", AUDIENCE]);
    }
    args.extend(more);
    admin.json(&args)
}

/// A job signs a small file; openssl accepts it under these roots.
fn signs(stack: &Stack, admin: &Cli, signer: &str, roots: &str) {
    stack.grant(admin, signer, &["cms"]);
    let name = signer.replace('/', "-");
    let file = stack.folder(&name).join("release.txt");
    std::fs::write(&file, "a release").expect("a file");
    stack
        .job(&format!("{name}-job"), REPOSITORY)
        .ok(&["sign", "--signer", signer, &text(&file)]);
    let judged = Command::new("openssl")
        .args([
            "cms", "-verify", "-binary", "-inform", "DER", "-purpose", "any", "-CAfile", roots,
            "-content",
        ])
        .arg(&file)
        .args(["-in", &format!("{}.p7s", text(&file)), "-out", "/dev/null"])
        .output()
        .expect("openssl runs");
    assert!(
        judged.status.success(),
        "{}",
        String::from_utf8_lossy(&judged.stderr)
    );
}

#[test]
fn a_key_of_each_algorithm_is_enrolled_and_signs() {
    let stack = &scene().stack;
    let admin = stack.tenant("enrol-all");
    let folder = stack.folder("enrol-all");
    for algorithm in ["ec-p256", "ec-p384", "rsa-3072", "rsa-4096"] {
        let signer = format!("enrol-all/{algorithm}");
        let key = stack.key(&admin, &signer, algorithm);
        assert_eq!(state(&admin, &key), "generated");
        let (code, ordered) = order(&admin, &key, "demo");
        assert_eq!(
            (code, &ordered["state"]),
            (0, &json!("installed")),
            "{algorithm}: {ordered}"
        );
        assert_eq!(state(&admin, &key), "active");

        // The certificate is for the key that was born in the token, and openssl takes it.
        let chain = text(&folder.join(format!("{algorithm}.pem")));
        admin.ok(&["certificate", "show", &signer, "--out", &chain]);
        let shown = admin.json(&["keys", "show", &key]);
        assert_eq!(shown["algorithm"], algorithm);
        assert_eq!(shown["software"], true, "a SoftHSM key says so for ever");
        let leaf = &Certificate::chain_from_pem(&std::fs::read_to_string(&chain).expect("chain"))
            .expect("chain")[0];
        assert_eq!(
            STANDARD.encode(leaf.spki_der()),
            shown["spki"].as_str().expect("spki")
        );
        openssl(
            &folder,
            &[
                "verify",
                "-purpose",
                "any",
                "-CAfile",
                &stack.ca_roots(),
                "-untrusted",
                &chain,
                &chain,
            ],
        );
        signs(stack, &admin, &signer, &stack.ca_roots());

        // Each step stands in a log: the request's own signature among the key's uses.
        let leaves = admin.tenant_leaves(&stack.path("enrol-all-log"));
        let of_key = |kind: &str| {
            of_type(&leaves, kind)
                .into_iter()
                .filter(|l| l["key"] == key.as_str())
                .count()
        };
        for kind in [
            "key-generated",
            "key-appraised",
            "certificate-requested",
            "certificate-installed",
        ] {
            assert_eq!(of_key(kind), 1, "{kind} of {algorithm}");
        }
        let uses = admin.key_leaves(&key, &stack.path(&format!("enrol-all-{algorithm}-log")));
        assert_eq!(uses[0]["type"], "log-opened");
        let purposes: Vec<_> = of_type(&uses, "authorisation")
            .iter()
            .map(|l| l["purpose"].clone())
            .collect();
        assert_eq!(purposes, ["certificate-request", "signature"]);
    }
}

#[test]
fn what_is_changed_on_the_way_is_refused_with_reasons_in_the_cli_and_the_log() {
    let Scene { stack, mode, .. } = scene();
    let admin = stack.tenant("enrol-relay");
    let used = stack.key(&admin, "enrol-relay/used", "ec-p256");
    let (code, ordered) = order(&admin, &used, "relay");
    assert_eq!(code, 0, "unchanged it goes through: {ordered}");
    let used_order = ordered["reference"].as_str().expect("reference").to_owned();

    let key = stack.key(&admin, "enrol-relay/release", "ec-p256");
    let log = stack.path("enrol-relay-log");
    for (how, checks) in [
        ("tampered", &["csr-signature", "statement-signature"][..]),
        ("beside", &["statement-one"]),
        ("other-key", &["statement-request", "statement-key"]),
        ("naked", &["statement-present"]),
        ("audience", &["statement-audience"]),
        (&format!("replay:{used_order}"), &["order-unused"]),
        ("late:late", &["order-unexpired"]),
    ] {
        set_mode(mode, how);
        let (code, said) = order(&admin, &key, "relay");
        assert_eq!(code, 3, "{how}: {said}");
        assert_eq!(said["error"]["code"], "ca-refused", "{how}: {said}");
        let told = reasons(&said);
        let names: Vec<_> = told
            .iter()
            .filter_map(|r| r.split_once(':'))
            .map(|(n, _)| n)
            .collect();
        assert_eq!(names, checks, "{how}: {told:#?}");
        assert!(
            told.iter().all(|r| r.contains("rule: ")),
            "each names its rule: {told:#?}"
        );
        assert_eq!(state(&admin, &key), "appraised", "{how}");
        let kept = last_order(&admin, &key);
        assert_eq!(kept["state"], "refused", "{how}: {kept}");
        let leaf = admin.tenant_leaf(&log, "order-failed", |l| l["order"] == kept["id"]);
        for check in checks {
            let reason = leaf["reason"].as_str().unwrap_or_default();
            assert!(reason.contains(check), "{how}: {check} in {reason}");
        }
    }
    // A person sees the same without --json.
    set_mode(mode, "naked");
    let out = admin.ends(
        3,
        &[
            &["certificate", "order", &key, "--ca", "relay"][..],
            &SUBJECT,
        ]
        .concat(),
    );
    assert!(
        out.stderr.contains("statement-present: a naked request"),
        "{out:?}"
    );
    // No certificate, no signing.
    stack.grant(&admin, "enrol-relay/release", &["cms"]);
    let file = stack.folder("enrol-relay").join("a.txt");
    std::fs::write(&file, "a").expect("a file");
    let sign = ["sign", "--signer", "enrol-relay/release", &text(&file)];
    stack.job("enrol-relay-early", REPOSITORY).ends(3, &sign);
    // And nothing of that has hurt the key.
    set_mode(mode, "pass");
    let (code, said) = order(&admin, &key, "relay");
    assert_eq!(
        (code, state(&admin, &key).as_str()),
        (0, "active"),
        "{said}"
    );
    stack.job("enrol-relay-job", REPOSITORY).ok(&sign);
    admin.ok(&["log", "audit", &text(&log)]);
}

/// The CA's order protocol, spoken by the test itself.
struct Counter {
    web: Web,
    url: String,
}

impl Counter {
    fn new(stack: &Stack) -> Self {
        let web = Web::new(
            Some(Path::new(&stack.ca_says("ca_file"))),
            Duration::from_secs(30),
        )
        .expect("web");
        Self {
            web,
            url: stack.ca_says("listening"),
        }
    }

    fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let answer = self
            .web
            .send(
                "POST",
                &format!("{}{path}", self.url),
                &[("content-type", "application/json")],
                Some(body.to_string().as_bytes()),
                1 << 20,
            )
            .expect("an answer");
        (
            answer.status,
            serde_json::from_slice(&answer.body).expect("JSON"),
        )
    }

    fn open(&self, subscriber: &str) -> Value {
        let (status, order) = self.post("/orders", &json!({ "subscriber": subscriber }));
        assert_eq!(status, 201, "{order}");
        order
    }

    fn submit(&self, order: &Value, csr: &[u8], statement: Option<&[u8]>) -> (u16, Value) {
        let mut body = json!({"csr": STANDARD.encode(csr)});
        if let Some(s) = statement {
            body["statement"] = json!(STANDARD.encode(s));
        }
        self.post(
            &format!(
                "/orders/{}/request",
                order["order"].as_str().expect("order")
            ),
            &body,
        )
    }
}

/// CSR and statement as exported for an order at the CA's counter.
fn exported_for(
    admin: &Cli,
    key: &str,
    folder: &Path,
    order: &Value,
    more: &[&str],
) -> (Vec<u8>, Vec<u8>) {
    let nonce = folder.with_extension("nonce");
    std::fs::write(
        &nonce,
        STANDARD
            .decode(order["nonce"].as_str().expect("nonce"))
            .expect("base64"),
    )
    .expect("nonce");
    let reference = order["order"].as_str().expect("order");
    export(
        admin,
        key,
        folder,
        &[
            &["--reference", reference, "--nonce-file", &text(&nonce)],
            more,
        ]
        .concat(),
    );
    read_export(folder)
}

fn read_export(folder: &Path) -> (Vec<u8>, Vec<u8>) {
    let pem = std::fs::read_to_string(folder.join("request.csr.pem")).expect("request");
    let csr = ParsedCsr::parse_pem(&pem)
        .expect("a request")
        .der()
        .to_vec();
    (
        csr,
        std::fs::read(folder.join("statement.der")).expect("statement"),
    )
}

#[test]
fn the_ca_appraises_what_was_exported_and_a_person_carries_back_the_certificate() {
    let stack = &scene().stack;
    let admin = stack.tenant("enrol-hand");
    let key = stack.key(&admin, "enrol-hand/release", "ec-p384");
    let other = stack.key(&admin, "enrol-hand/other", "ec-p256");
    let counter = Counter::new(stack);
    let order = counter.open("enrol-hand");
    let at = |name: &str| stack.path(&format!("enrol-hand-{name}"));
    let (csr, statement) = exported_for(&admin, &key, &at("good"), &order, &[]);
    let refused = |order: &Value, csr: &[u8], statement: Option<&[u8]>, checks: &[&str]| {
        let (status, said) = counter.submit(order, csr, statement);
        assert_eq!(
            (status, &said["code"]),
            (422, &json!("request-refused")),
            "{checks:?}: {said}"
        );
        let names: Vec<_> = said["reasons"]
            .as_array()
            .expect("reasons")
            .iter()
            .map(|r| r["check"].clone())
            .collect();
        assert_eq!(names, checks, "{said}");
    };
    // Every byte of the statement counts, wherever it is changed.
    for place in [
        4,
        statement.len() / 3,
        statement.len() / 2,
        statement.len() - 1,
    ] {
        let mut lie = statement.clone();
        lie[place] ^= 1;
        refused(&order, &csr, Some(&lie), &["statement-one"]);
    }
    // Another key of the very same subscriber, under a good statement of ours.
    let (other_csr, other_statement) = exported_for(&admin, &other, &at("other"), &order, &[]);
    refused(&order, &csr, Some(&other_statement), &["statement-one"]);
    let naked = ParsedCsr::parse(&other_csr).expect("a request");
    assert_eq!(
        naked.attributes().len(),
        1,
        "the attestation, and nothing else"
    );
    let foreign = std::fs::read(stack.path("relay/foreign.der")).expect("request");
    refused(
        &order,
        &foreign,
        Some(&statement),
        &["statement-request", "statement-key"],
    );
    refused(&order, &foreign, None, &["statement-present"]);
    // A statement for another CA, for another order, for another subscriber's order.
    let (c, s) = exported_for(
        &admin,
        &key,
        &at("elsewhere"),
        &order,
        &["--ca-audience", "another-ca.test"],
    );
    refused(&order, &c, Some(&s), &["statement-audience"]);
    refused(
        &counter.open("enrol-hand"),
        &csr,
        Some(&statement),
        &["order-matches"],
    );
    let globex = counter.open("globex");
    let (c, s) = exported_for(&admin, &key, &at("globex"), &globex, &[]);
    refused(&globex, &c, Some(&s), &["order-matches"]);

    // The good one; once.
    let (status, issued) = counter.submit(&order, &csr, Some(&statement));
    assert_eq!(
        (status, &issued["status"]),
        (200, &json!("issued")),
        "{issued}"
    );
    refused(&order, &csr, Some(&statement), &["order-unused"]);
    refused(
        &order,
        &other_csr,
        Some(&other_statement),
        &["order-unused"],
    );

    let pem: String = issued["chain"]
        .as_array()
        .expect("chain")
        .iter()
        .map(|c| crate::support::pem_of("CERTIFICATE", c.as_str().expect("base64")))
        .collect();
    let chain = at("chain.pem");
    std::fs::write(&chain, pem).expect("chain");
    admin.ok(&["certificate", "install", &key, "--chain", &text(&chain)]);
    assert_eq!(state(&admin, &key), "active");
    signs(stack, &admin, "enrol-hand/release", &stack.ca_roots());
}

#[test]
fn no_evidence_no_csr_and_a_software_key_needs_the_tenants_word() {
    let stack = &scene().stack;
    let admin = stack.tenant("enrol-policy");
    admin.ok(&["policy", "set", "--allow-software", "false"]);
    let key = stack.key(&admin, "enrol-policy/release", "ec-p256");
    let folder = stack.path("enrol-policy-request");
    let out_dir = text(&folder);
    let log = stack.path("enrol-policy-log");
    let tries: [Vec<&str>; 3] = [
        [
            &["certificate", "order", &key, "--ca", "demo"][..],
            &SUBJECT,
        ]
        .concat(),
        [
            &[
                "csr",
                "export",
                &key,
                "--ca-audience",
                AUDIENCE,
                "--out",
                &out_dir,
            ][..],
            &SUBJECT,
        ]
        .concat(),
        vec!["keys", "appraise", &key],
    ];
    for args in &tries {
        let out = admin.ends(3, args);
        assert!(
            out.says("software-key-policy") && out.says("allow-software is off"),
            "{out:?}"
        );
    }
    assert!(!folder.exists(), "nothing was written");
    assert_eq!(state(&admin, &key), "generated");
    // The key was never used, no CA was asked, and the refusals stand in the tenant's log.
    let uses = admin.key_leaves(&key, &stack.path("enrol-policy-key-log"));
    assert_eq!(uses.len(), 1, "{uses:#?}");
    let denied = admin.tenant_leaf(&log, "denied", |l| l["signer"] == "release");
    assert!(
        denied["reason"]
            .as_str()
            .is_some_and(|r| r.contains("software-key-policy")),
        "{denied}"
    );
    assert!(of_type(&admin.tenant_leaves(&log), "certificate-requested").is_empty());

    // The tenant may say otherwise, and take it back: a key that was appraised before is asked again.
    admin.ok(&["policy", "set", "--allow-software", "true"]);
    admin.ok(&["keys", "appraise", &key]);
    assert_eq!(state(&admin, &key), "appraised");
    admin.ok(&["policy", "set", "--allow-software", "false"]);
    admin.ends(3, &tries[0]);
    admin.ends(3, &tries[1]);
    assert!(!folder.exists());

    // A connector that takes no software keys gets none, whatever the tenant says.
    admin.ok(&["policy", "set", "--allow-software", "true"]);
    let (code, said) = order(&admin, &key, "hard");
    assert_eq!(code, 3, "{said}");
    assert!(reasons(&said)[0].starts_with("software-key:"), "{said}");
    assert_eq!(
        admin
            .key_leaves(&key, &stack.path("enrol-policy-key-log"))
            .len(),
        1
    );
    admin.tenant_leaf(&log, "denied", |l| {
        l["reason"]
            .as_str()
            .is_some_and(|r| r.contains("software-key:") || r.ends_with("software-key"))
    });
    // A connector that there is not.
    admin.ends(
        64,
        &[
            &["certificate", "order", &key, "--ca", "nobody"][..],
            &SUBJECT,
        ]
        .concat(),
    );
}

#[test]
fn a_ca_that_misbehaves_is_noticed_and_one_that_is_down_is_waited_for() {
    let mut stack = Stack::start();
    let admin = stack.tenant("enrol-bad-ca");
    let key = stack.key(&admin, "enrol-bad-ca/release", "ec-p256");
    let log = stack.path("enrol-bad-ca-log");
    for (how, finding) in [
        ("wrong-key", "public-key: "),
        ("too-long", "validity-period: "),
        ("no-policy", "reserved-policy: "),
    ] {
        stack.start_ca(&["--test-misbehave", how]);
        let admin = stack.person("enrol-bad-ca-admin", Some("enrol-bad-ca"));
        let (code, said) = order(&admin, &key, "demo");
        assert_eq!(
            (code, &said["error"]["code"]),
            (3, &json!("certificate-rejected")),
            "{how}: {said}"
        );
        assert!(
            reasons(&said).iter().any(|r| r.starts_with(finding)),
            "{how}: {said}"
        );
        assert_eq!(state(&admin, &key), "appraised", "{how}: not installed");
        admin.ends(4, &["certificate", "show", "enrol-bad-ca/nobody"]);
        assert_eq!(last_order(&admin, &key)["state"], "refused", "{how}");
        admin.tenant_leaf(&log, "certificate-refused", |l| {
            l["key"] == key.as_str() && l["reason"].as_str().is_some_and(|r| r.contains(finding))
        });
        assert!(
            of_type(&admin.tenant_leaves(&log), "certificate-installed").is_empty(),
            "{how}"
        );
    }
    // Down by its own word, and not there at all.
    stack.start_ca(&["--test-misbehave", "down"]);
    let admin = stack.person("enrol-bad-ca-admin", Some("enrol-bad-ca"));
    let (code, said) = order(&admin, &key, "demo");
    assert_eq!(
        (code, &said["error"]["code"]),
        (5, &json!("ca-unavailable")),
        "{said}"
    );
    let kept = last_order(&admin, &key);
    assert_eq!(
        (&kept["state"], &kept["ca"]),
        (&json!("opened"), &json!("demo")),
        "{kept}"
    );
    assert!(
        kept["problem"].as_str().is_some_and(|p| p.contains("503")),
        "{kept}"
    );
    stack.stop_ca();
    let (code, said) = order(&admin, &key, "demo");
    assert_eq!(code, 5, "{said}");
    let gone = last_order(&admin, &key);
    assert_ne!(gone["id"], kept["id"]);
    admin.tenant_leaf(&log, "order-failed", |l| l["order"] == gone["id"]);

    // Later it is back: an order goes through, and the old ones stand as they were.
    stack.start_ca(&[]);
    let admin = stack.person("enrol-bad-ca-admin", Some("enrol-bad-ca"));
    let (code, said) = order(&admin, &key, "demo");
    assert_eq!((code, &said["state"]), (0, &json!("installed")), "{said}");
    assert_eq!(state(&admin, &key), "active");
    let shown = admin.json(&["keys", "show", &key]);
    let states: Vec<_> = shown["orders"]
        .as_array()
        .expect("orders")
        .iter()
        .map(|o| o["state"].clone())
        .collect();
    assert_eq!(
        states,
        [
            "installed",
            "opened",
            "opened",
            "refused",
            "refused",
            "refused"
        ]
    );
    signs(&stack, &admin, "enrol-bad-ca/release", &stack.ca_roots());
    admin.ok(&["log", "audit", &text(&log)]);
}

/// A CA of openssl alone.
struct OpensslCa {
    folder: PathBuf,
}

impl OpensslCa {
    fn new(folder: PathBuf) -> Self {
        const COMMON: &str = "keyUsage=critical,digitalSignature\nsubjectKeyIdentifier=hash\n\
            authorityKeyIdentifier=keyid\ncrlDistributionPoints=URI:http://crl.test/ca.crl\n";
        let config = format!(
            "[req]\ndistinguished_name=dn\nprompt=no\nx509_extensions=root\n[dn]\nC=XX\nO=Test\nCN=Test Root\n\
             [root]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n\
             subjectKeyIdentifier=hash\n\
             [good]\n{COMMON}extendedKeyUsage=codeSigning\ncertificatePolicies=2.23.140.1.4.1\n\
             [no-eku]\n{COMMON}certificatePolicies=2.23.140.1.4.1\n\
             [two-policies]\n{COMMON}extendedKeyUsage=codeSigning\ncertificatePolicies=2.23.140.1.4.1,2.23.140.1.3\n"
        );
        std::fs::write(folder.join("ca.cnf"), config).expect("ca.cnf");
        for root in ["root", "stranger"] {
            openssl(
                &folder,
                &[
                    "req",
                    "-x509",
                    "-config",
                    "ca.cnf",
                    "-newkey",
                    "ec",
                    "-pkeyopt",
                    "ec_paramgen_curve:P-384",
                    "-nodes",
                    "-days",
                    "3650",
                    "-keyout",
                    &format!("{root}.key"),
                    "-out",
                    &format!("{root}.pem"),
                ],
            );
        }
        Self { folder }
    }

    /// A certificate for a request; the chain's file.
    fn issue(&self, request: &Path, name: &str, profile: &str, days: u32, with: &[&str]) -> String {
        let leaf = format!("{name}.leaf.pem");
        openssl(
            &self.folder,
            &[
                "x509",
                "-req",
                "-in",
                &text(request),
                "-CA",
                "root.pem",
                "-CAkey",
                "root.key",
                "-sha384",
                "-days",
                &days.to_string(),
                "-set_serial",
                "0x4f6e65206f6620746865",
                "-extfile",
                "ca.cnf",
                "-extensions",
                profile,
                "-out",
                &leaf,
            ],
        );
        let mut chain = std::fs::read_to_string(self.folder.join(leaf)).expect("leaf");
        for more in with {
            chain.push_str(&std::fs::read_to_string(self.folder.join(more)).expect("issuer"));
        }
        let path = self.folder.join(format!("{name}.pem"));
        std::fs::write(&path, chain).expect("chain");
        text(&path)
    }
}

fn appraise(stack: &Stack, request: &Path, more: &[&str]) -> (i32, Value) {
    let pin = text(&stack.path("service-key.pem"));
    let mut args = vec!["appraise"];
    if !more.contains(&"--audience") {
        args.extend(["--audience", AUDIENCE]);
    }
    if !more.contains(&"--no-pin") {
        args.extend(["--trust-service-key", &pin]);
    }
    let out = Command::new(program("countersign-demo-ca"))
        .args(args)
        .arg("--csr")
        .arg(request.join("request.csr.pem"))
        .args(more.iter().filter(|a| **a != "--no-pin"))
        .output()
        .expect("appraise runs");
    let result = serde_json::from_slice(&out.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&out.stderr)));
    (out.status.code().unwrap_or(-1), result)
}

/// Names of the checks that did not pass.
fn failed(result: &Value) -> Vec<String> {
    let checks = result["checks"].as_array().expect("checks");
    let bad = checks
        .iter()
        .filter(|c| matches!(c["outcome"].as_str(), Some("fail" | "unknown")));
    bad.map(|c| c["name"].as_str().expect("name").to_owned())
        .collect()
}

#[test]
fn a_ca_without_a_connector_appraises_offline_and_its_certificate_is_checked() {
    let stack = &scene().stack;
    let admin = stack.tenant("enrol-offline");
    let key = stack.key(&admin, "enrol-offline/release", "rsa-3072");
    let request = stack.path("enrol-offline-request");
    let exported = export(&admin, &key, &request, &[]);
    let statement = text(&request.join("statement.der"));

    // Offline: what is there is enough, and what is wrong has a name.
    let software = ["--allow-software"];
    let (code, result) = appraise(
        stack,
        &request,
        &[&software[..], &["--statement", &statement]].concat(),
    );
    assert_eq!((code, failed(&result)), (0, vec![]), "{result}");
    assert_eq!(
        appraise(stack, &request, &software).0,
        0,
        "the copy in the request does"
    );
    for (more, exit, check) in [
        (&[][..], 1, "software-key-policy"),
        (
            &["--allow-software", "--audience", "real-ca.test"],
            1,
            "statement-audience",
        ),
        (
            &["--allow-software", "--at", "2099-01-01T00:00:00Z"],
            1,
            "statement-unexpired",
        ),
        (
            &["--allow-software", "--at", "2020-01-01T00:00:00Z"],
            1,
            "statement-issued",
        ),
        (&["--allow-software", "--no-pin"], 2, "statement-signature"),
    ] {
        let (code, result) = appraise(stack, &request, more);
        assert_eq!(
            (code, failed(&result)),
            (exit, vec![check.to_owned()]),
            "{more:?}"
        );
    }

    let ca = OpensslCa::new(stack.folder("enrol-offline-ca"));
    let csr = request.join("request.csr.pem");
    foreign_request(&ca.folder);
    let foreign = ca.folder.join("foreign.pem");
    let log = stack.path("enrol-offline-log");
    for (chain, finding) in [
        (
            ca.issue(&foreign, "other-key", "good", 90, &["root.pem"]),
            "public-key: ",
        ),
        (ca.issue(&csr, "alone", "good", 90, &[]), "chain: "),
        (
            ca.issue(&csr, "stranger-chain", "good", 90, &["stranger.pem"]),
            "chain: ",
        ),
        (
            ca.issue(&csr, "no-eku", "no-eku", 90, &["root.pem"]),
            "extended-key-usage: ",
        ),
        (
            ca.issue(&csr, "500-days", "good", 500, &["root.pem"]),
            "validity-period: ",
        ),
        (
            ca.issue(&csr, "two-policies", "two-policies", 90, &["root.pem"]),
            "reserved-policy: ",
        ),
    ] {
        let out = admin.ends(3, &["certificate", "install", &key, "--chain", &chain]);
        assert!(out.stderr.contains(finding), "{finding} in {out:?}");
        assert_eq!(state(&admin, &key), "appraised", "{finding}");
        admin.tenant_leaf(&log, "certificate-refused", |l| {
            l["key"] == key.as_str() && l["reason"].as_str().is_some_and(|r| r.contains(finding))
        });
    }
    let nonsense = text(&csr);
    admin.ends(64, &["certificate", "install", &key, "--chain", &nonsense]);
    // A wrong file by hand ends no order: the right one may still come.
    let kept = last_order(&admin, &key);
    assert_eq!(
        (&kept["state"], &kept["id"]),
        (&json!("exported"), &exported["order"]),
        "{kept}"
    );

    let good = ca.issue(&csr, "good", "good", 90, &["root.pem"]);
    admin.ok(&["certificate", "install", &key, "--chain", &good]);
    assert_eq!(state(&admin, &key), "active");
    assert_eq!(last_order(&admin, &key)["state"], "installed");
    let installed = of_type(&admin.tenant_leaves(&log), "certificate-installed").len();
    assert_eq!(installed, 1);
    signs(
        stack,
        &admin,
        "enrol-offline/release",
        &text(&ca.folder.join("root.pem")),
    );
}

#[test]
fn independent_decoders_agree_with_what_the_statement_says() {
    let stack = &scene().stack;
    let admin = stack.tenant("enrol-decode");
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    for algorithm in ["ec-p256", "rsa-3072"] {
        let key = stack.key(&admin, &format!("enrol-decode/{algorithm}"), algorithm);
        let request = stack.path(&format!("enrol-decode-{algorithm}"));
        let exported = export(&admin, &key, &request, &[]);
        let shown = admin.json(&["keys", "show", &key]);
        let spki_sha256 = shown["spki_sha256"].as_str().expect("spki_sha256");
        let order_id = exported["order"].as_str().expect("order");

        // openssl: the request's own signature, and every value in the dump.
        let said = openssl(
            &request,
            &["req", "-in", "request.csr.pem", "-verify", "-noout"],
        );
        assert!(
            said.to_lowercase().contains("verify ok") || said.contains("verify OK"),
            "{said}"
        );
        let subject = openssl(
            &request,
            &["req", "-in", "request.csr.pem", "-noout", "-subject"],
        );
        assert!(
            subject.contains("Acme Inc.") && subject.contains("Springfield"),
            "{subject}"
        );
        let expires = exported["expires"].as_str().expect("expires");
        let generalized: String = expires[..19]
            .chars()
            .filter(char::is_ascii_digit)
            .chain(['Z'])
            .collect();
        for dump in [
            openssl(&request, &["asn1parse", "-in", "request.csr.pem", "-i"]),
            openssl(
                &request,
                &["asn1parse", "-inform", "DER", "-in", "statement.der", "-i"],
            ),
        ] {
            for value in [
                format!("[HEX DUMP]:{}", spki_sha256.to_uppercase()),
                format!(":{AUDIENCE}"),
                ":enrol-decode".to_owned(),
                format!(":{order_id}"),
                format!(":{generalized}"),
                ":2.25.108418024523661256655688543902536148121".to_owned(),
            ] {
                assert!(
                    dump.lines().any(|l| l.ends_with(&value)),
                    "{value} in {dump}"
                );
            }
        }

        // Python's standard library: the request taken apart, the statement found in it, both compared.
        let python = |script: &Path, args: &[PathBuf]| -> Value {
            let out = Command::new("python3")
                .arg(script)
                .args(args)
                .output()
                .expect("python3 runs");
            assert!(
                out.status.success(),
                "{}",
                String::from_utf8_lossy(&out.stderr)
            );
            serde_json::from_slice(&out.stdout).expect("JSON")
        };
        let inside = request.join("inside.der");
        let walked = python(
            &tests.join("it/support/walk_request.py"),
            &[request.join("request.csr.pem"), inside.clone()],
        );
        assert_eq!(walked["attributes"], 1);
        let beside = std::fs::read(request.join("statement.der")).expect("statement");
        assert_eq!(
            std::fs::read(&inside).expect("statement"),
            beside,
            "one statement, in the request and beside it"
        );
        let decoder = tests.join("../crates/attestation/src/statement/decode_statement.py");
        let stated = python(&decoder, &[inside]);
        assert_eq!(stated["spki_hash"], walked["spki_sha256"]);
        assert_eq!(stated["spki_hash"], spki_sha256);
        assert_eq!(
            stated["csr_info_hash"],
            walked["info_without_attestation_sha256"]
        );
        assert_eq!(stated["audience"], AUDIENCE);
        assert_eq!(stated["subscriber"], "enrol-decode");
        assert_eq!(stated["order_id"], order_id);
        assert_eq!(
            stated["expires_at"].as_str().map(|t| &t[..19]),
            Some(&expires[..19])
        );
        assert_eq!(
            stated["key_id"].as_str().expect("key id"),
            key.replace('-', "")
        );
        assert_eq!(stated["software"], true);
        assert_eq!(stated["isolation"], shown["isolation"]);
        let attributes = stated["attributes"].as_array().expect("attributes");
        for wanted in [
            json!(["CKA_EXTRACTABLE", "false"]),
            json!(["CKA_SENSITIVE", "true"]),
        ] {
            assert!(attributes.contains(&wanted), "{wanted} in {attributes:?}");
        }
        // The statement key is the one the service shows, and the log anchor the log's own first leaf.
        let keys = admin.json(&["service", "keys"]);
        assert_eq!(stated["signer_key_hash"], keys["statement"]["sha256"]);
        assert_eq!(stated["log_origin"], shown["log"]["origin"]);
        assert_eq!(stated["log_verifier_key"], shown["log"]["vkey"]);
        assert_eq!(stated["log_size"], 1);
        // And the tenant's log holds the hashes of both.
        let leaf = admin.tenant_leaf(
            &stack.path("enrol-decode-log"),
            "certificate-requested",
            |l| l["order"] == order_id,
        );
        let (csr, statement) = read_export(&request);
        let hex = |b: &[u8]| {
            sha256(b)
                .iter()
                .map(|x| format!("{x:02x}"))
                .collect::<String>()
        };
        assert_eq!(leaf["csr_sha256"], hex(&csr));
        assert_eq!(leaf["statement_sha256"], hex(&statement));
    }
}
