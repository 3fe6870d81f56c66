//! step-ca, a CA that nobody here wrote, configured as docs/ca/step-ca.md says.

mod by_hand;
mod device;
mod refusals;

use crate::support::openssl::openssl;
use crate::support::{Stack, signal, text};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use countersign_client::Web;
use countersign_testkit::programs::{two_free_ports, wait_until};
use countersign_testkit_evidence::keys::{Key, Kind};
use serde_json::{Value, json};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The JWK provisioner's name, and of its key.
const COUNTER: &str = "counter";

/// A running step-ca. Killed on drop.
pub struct StepCa {
    program: PathBuf,
    folder: PathBuf,
    log: PathBuf,
    url: String,
    counter: Key,
    child: Child,
}

impl Drop for StepCa {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            let last = lines.iter().skip(lines.len().saturating_sub(8));
            last.for_each(|line| eprintln!("step-ca: {line}"));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `None`, and loudly, where it is not installed.
fn installed() -> Option<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/step-ca.sh");
    let said = Command::new(script).output().expect("step-ca.sh runs");
    assert!(said.status.success(), "{said:?}");
    let path = String::from_utf8(said.stdout).expect("a path");
    if path.trim().is_empty() {
        eprintln!(
            "SKIPPED: no other CA was tested: step-ca is missing (scripts/step-ca.sh install)"
        );
        return None;
    }
    Some(path.trim().into())
}

impl StepCa {
    /// Starts it in a folder of its own, with these roots for attestation keys (PEM).
    pub fn start(folder: &Path, log: &Path, attestation_roots: &str) -> Option<Self> {
        let program = installed()?;
        certificates(folder);
        let counter = Key::named(Kind::P256, "step-ca's counter");
        // Ports that are free now may be taken a moment later: then others.
        for _ in 0..5 {
            let port = two_free_ports().expect("ports");
            let plain = port + 1;
            configure(folder, port, plain, attestation_roots, &counter);
            let child = run(&program, folder, log);
            let mut ca = Self {
                program: program.clone(),
                log: log.to_path_buf(),
                folder: folder.to_path_buf(),
                url: format!("https://127.0.0.1:{port}"),
                counter: counter.clone(),
                child,
            };
            let up = wait_until("step-ca", Duration::from_secs(60), || {
                ca.healthy() || ca.child.try_wait().is_ok_and(|ended| ended.is_some())
            });
            if up.is_ok() && ca.healthy() {
                return Some(ca);
            }
        }
        panic!(
            "step-ca does not start: see its log in {}",
            folder.display()
        );
    }

    fn web(&self) -> Web {
        Web::new(Some(&self.root()), Duration::from_secs(30)).expect("web")
    }

    fn healthy(&self) -> bool {
        let answer = self
            .web()
            .send("GET", &format!("{}/health", self.url), &[], None, 1 << 16);
        answer.is_ok_and(|a| a.status == 200)
    }

    /// Its root, PEM.
    pub fn root(&self) -> PathBuf {
        self.folder.join("root.pem")
    }

    /// Its ACME directory.
    pub fn directory(&self) -> String {
        format!("{}/acme/devices/directory", self.url)
    }

    /// `[[cas]]` for it; `certifier` certifies attestation keys.
    pub fn section(&self, name: &str, certifier: &str) -> String {
        format!(
            "\n[[cas]]\nname = \"{name}\"\nkind = \"acme\"\nurl = \"{}\"\nca_file = \"{}\"\n\
             account_file = \"data/acme-{name}.json\"\ncontact = [\"mailto:signing@example.com\"]\n\
             attestation_ca = \"{certifier}\"\naudience = \"step-ca.test\"\n",
            self.directory(),
            text(&self.root()),
        )
    }

    /// What a person at the CA does with a request: makes a token for this very CSR, good for one use, and
    /// has it signed.
    pub fn sign(&self, csr_pem: &str, csr: &[u8], common_name: &str) -> (u16, Value) {
        let micros = crate::support::lists::micros();
        let now = micros / 1_000_000;
        let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let header = json!({"alg": "ES256", "typ": "JWT", "kid": COUNTER});
        let claims = json!({
            "iss": COUNTER,
            "sub": common_name,
            "aud": format!("{}/1.0/sign", self.url),
            "iat": now, "nbf": now, "exp": now + 300,
            // A token is good for one use.
            "jti": format!("{micros}"),
            "cnf": {"x5rt#S256": b64(&countersign_x509::hash::sha256(csr))},
        });
        let signed = format!(
            "{}.{}",
            b64(header.to_string().as_bytes()),
            b64(claims.to_string().as_bytes())
        );
        let token = format!(
            "{signed}.{}",
            b64(&self.counter.sign_fixed(signed.as_bytes()))
        );
        let body = json!({"csr": csr_pem, "ott": token}).to_string();
        let answer = self
            .web()
            .send(
                "POST",
                &format!("{}/1.0/sign", self.url),
                &[("content-type", "application/json")],
                Some(body.as_bytes()),
                1 << 20,
            )
            .expect("an answer");
        let said = serde_json::from_slice(&answer.body).expect("JSON");
        (answer.status, said)
    }

    /// Stops it as an operator does, and starts it again on the same database.
    pub fn restart(&mut self) {
        signal(self.child.id(), "TERM");
        self.child.wait().expect("step-ca ends");
        self.child = run(&self.program, &self.folder, &self.log);
        wait_until("step-ca", Duration::from_secs(60), || self.healthy()).expect("step-ca");
    }
}

fn run(program: &Path, folder: &Path, log: &Path) -> Child {
    let log = File::options()
        .create(true)
        .append(true)
        .open(log)
        .expect("log");
    Command::new(program)
        .arg(folder.join("ca.json"))
        .env("STEPPATH", folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("log"))
        .stderr(log.try_clone().expect("log"))
        .spawn()
        .expect("step-ca starts")
}

/// A root, and below it the CA that issues: as an operator makes them with openssl.
fn certificates(folder: &Path) {
    let ec = [
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
    ];
    let run = |args: &[&str]| openssl(folder, args);
    run(&[
        &[
            "req",
            "-x509",
            "-days",
            "30",
            "-subj",
            "/O=Test/CN=Step Root",
        ][..],
        &ec,
        &["-addext", "keyUsage=critical,keyCertSign,cRLSign"],
        &["-keyout", "root.key", "-out", "root.pem"],
    ]
    .concat());
    run(&[
        &["req", "-new", "-subj", "/O=Test/CN=Step Issuing CA"][..],
        &ec,
        &["-keyout", "issuing.key", "-out", "issuing.csr"],
    ]
    .concat());
    std::fs::write(
        folder.join("issuing.cnf"),
        "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\n\
         subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n",
    )
    .expect("issuing.cnf");
    run(&[
        "x509",
        "-req",
        "-days",
        "20",
        "-in",
        "issuing.csr",
        "-CA",
        "root.pem",
        "-CAkey",
        "root.key",
        "-extfile",
        "issuing.cnf",
        "-out",
        "issuing.pem",
    ]);
}

/// The configuration of the document, with this test's places in it.
fn configure(folder: &Path, port: u16, plain: u16, attestation_roots: &str, counter: &Key) {
    let [mut ca, mut template] = documented();
    let at = |name: &str| json!(text(&folder.join(name)));
    let list = format!("http://127.0.0.1:{plain}/crl");
    ca["root"] = at("root.pem");
    ca["crt"] = at("issuing.pem");
    ca["key"] = at("issuing.key");
    ca["address"] = json!(format!("127.0.0.1:{port}"));
    ca["insecureAddress"] = json!(format!("127.0.0.1:{plain}"));
    ca["dnsNames"] = json!(["127.0.0.1"]);
    ca["db"]["dataSource"] = at("db");
    ca["crl"]["idpURL"] = json!(list);
    let provisioners = ca["authority"]["provisioners"]
        .as_array_mut()
        .expect("provisioners");
    for provisioner in provisioners.iter_mut() {
        provisioner["options"]["x509"]["templateFile"] = at("code-signing.tpl");
        match provisioner["type"].as_str() {
            Some("ACME") => {
                provisioner["attestationRoots"] = json!(STANDARD.encode(attestation_roots));
            }
            Some("JWK") => {
                // An uncompressed point.
                let point = counter.public();
                let [x, y] = [&point[1..33], &point[33..]].map(|c| URL_SAFE_NO_PAD.encode(c));
                provisioner["key"]["x"] = json!(x);
                provisioner["key"]["y"] = json!(y);
            }
            other => panic!("{other:?}"),
        }
    }
    template["crlDistributionPoints"] = json!([list]);
    std::fs::write(folder.join("ca.json"), ca.to_string()).expect("ca.json");
    std::fs::write(folder.join("code-signing.tpl"), template.to_string()).expect("template");
}

/// The two blocks of JSON in docs/ca/step-ca.md: `ca.json` and the template.
fn documented() -> [Value; 2] {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/ca/step-ca.md");
    let document = std::fs::read_to_string(file).expect("docs/ca/step-ca.md");
    let blocks: Vec<Value> = document
        .split("\n```json\n")
        .skip(1)
        .map(|rest| rest.split("\n```").next().unwrap_or_default())
        .map(|block| serde_json::from_str(block).expect("a block of JSON"))
        .collect();
    blocks.try_into().expect("two blocks of JSON")
}

/// Starts it in the stack's folder.
fn start(stack: &Stack, attestation_roots: &str) -> Option<StepCa> {
    StepCa::start(
        &stack.folder("step-ca"),
        &stack.path("step-ca.log"),
        attestation_roots,
    )
}
