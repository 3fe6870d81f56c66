//! Requests that a person carries to a CA without a connector, and what it gives back.

use super::{AUDIENCE, export, last_order, read_export, scene, signs, state};
use crate::support::cli::Cli;
use crate::support::leaves::of_type;
use crate::support::lists::{Answer, ListServer};
use crate::support::openssl::{foreign_request, openssl};
use crate::support::{Stack, pem_of, program, text};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_client::Web;
use countersign_x509::csr::ParsedCsr;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

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
        .map(|c| pem_of("CERTIFICATE", c.as_str().expect("base64")))
        .collect();
    let chain = at("chain.pem");
    std::fs::write(&chain, pem).expect("chain");
    admin.ok(&["certificate", "install", &key, "--chain", &text(&chain)]);
    assert_eq!(state(&admin, &key), "active");
    signs(stack, &admin, "enrol-hand/release", &stack.ca_roots());
}

/// A CA of openssl alone.
struct OpensslCa {
    folder: PathBuf,
}

impl OpensslCa {
    fn new(folder: PathBuf) -> Self {
        let server = ListServer::start();
        let common = format!(
            "keyUsage=critical,digitalSignature\nsubjectKeyIdentifier=hash\n\
             authorityKeyIdentifier=keyid\ncrlDistributionPoints=URI:{}\n",
            server.url("ca.crl")
        );
        let config = format!(
            "[ca]\ndefault_ca=list\n[list]\ndatabase=index\ncrlnumber=number\ndefault_md=sha384\n\
             default_crl_days=7\n\
             [req]\ndistinguished_name=dn\nprompt=no\nx509_extensions=root\n[dn]\nC=XX\nO=Test\nCN=Test Root\n\
             [root]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n\
             subjectKeyIdentifier=hash\n\
             [good]\n{common}extendedKeyUsage=codeSigning\ncertificatePolicies=2.23.140.1.4.1\n\
             [no-eku]\n{common}certificatePolicies=2.23.140.1.4.1\n\
             [two-policies]\n{common}extendedKeyUsage=codeSigning\ncertificatePolicies=2.23.140.1.4.1,2.23.140.1.3\n"
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
        // Nobody is on its list.
        for (name, content) in [("index", ""), ("number", "01\n")] {
            std::fs::write(folder.join(name), content).expect(name);
        }
        openssl(
            &folder,
            &[
                "ca", "-gencrl", "-config", "ca.cnf", "-cert", "root.pem", "-keyfile", "root.key",
                "-out", "list.pem",
            ],
        );
        openssl(
            &folder,
            &[
                "crl", "-in", "list.pem", "-outform", "DER", "-out", "list.der",
            ],
        );
        let list = std::fs::read(folder.join("list.der")).expect("list");
        server.set("ca.crl", Answer::List(list));
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

/// What the demonstration CA's command says of a request: exit code and result.
pub fn appraise(stack: &Stack, request: &Path, more: &[&str]) -> (i32, Value) {
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
