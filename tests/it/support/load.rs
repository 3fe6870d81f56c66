//! Signatures over the raw API, whose fate is followed: what was asked, what came back, what the
//! logs say of it afterwards.

use super::raw::{Raw, RawAnswer};
use super::{REPOSITORY, Stack, cli::Cli, text};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_client::Error;
use countersign_core::HashAlgorithm;
use countersign_signing_log::Receipt;
use countersign_x509::cert::Certificate;
use countersign_x509::key::PublicKey;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// One signer as a job sees it.
pub struct Signing {
    pub tenant: String,
    pub signer: String,
    pub certificate: Vec<u8>,
    pub key: PublicKey,
}

/// One thing to be signed, under one Idempotency-Key.
#[derive(Debug, Clone)]
pub struct Ask {
    pub signer: usize,
    pub idempotency_key: String,
    pub body: Vec<u8>,
    /// `sha-256:<hex>` of what is signed: how the details name it.
    pub tbs: String,
}

/// A signature that reached us.
#[derive(Debug, Clone)]
pub struct Released {
    pub tbs: String,
    pub signature_sha256: String,
    pub origin: String,
    pub index: u64,
    pub receipt: String,
}

impl Signing {
    /// The signer `tenant/name` with the certificate it has now.
    pub fn of(stack: &Stack, name: &str) -> Self {
        let (tenant, signer) = name.split_once('/').expect("tenant/signer");
        let token = stack.service_token(tenant, REPOSITORY);
        let path = format!("/v1/tenants/{tenant}/signers/{signer}/certificate");
        let answer = stack.raw().get(&path, Some(&token));
        assert_eq!(answer.status, 200, "{answer:?}");
        let chain = answer.json()["certificate_chain"][0]
            .as_str()
            .expect("a chain")
            .to_owned();
        let certificate = STANDARD.decode(chain).expect("base64");
        let parsed = Certificate::from_der(&certificate).expect("a certificate");
        let key = PublicKey::from_spki_der(parsed.spki_der()).expect("a key");
        Self {
            tenant: tenant.to_owned(),
            signer: signer.to_owned(),
            certificate,
            key,
        }
    }

    /// A detached CMS for a file with this content.
    pub fn ask(&self, content: &str) -> Ask {
        let file = countersign_content::digest_of(HashAlgorithm::Sha256, content.as_bytes());
        let attributes =
            countersign_content::cms::signed_attributes(&file, None, Some(&self.certificate), None)
                .expect("attributes");
        let tbs = countersign_content::digest_of(HashAlgorithm::Sha256, &attributes);
        let body = json!({
            "items": [{
                "id": "one",
                "content": {"type": "cms", "signed_attributes": STANDARD.encode(&attributes)},
                "digest_algorithm": "sha-256",
            }],
        });
        Ask {
            signer: 0,
            idempotency_key: format!("load-{content}"),
            body: body.to_string().into_bytes(),
            tbs: format!("sha-256:{}", hex(tbs.as_bytes())),
        }
    }

    /// Asks once.
    pub fn send(&self, raw: &Raw, token: &str, ask: &Ask) -> Result<RawAnswer, Error> {
        self.send_with(
            raw,
            token,
            &ask.body,
            &[("idempotency-key", &ask.idempotency_key)],
        )
    }

    /// Asks once, with these headers; the item's answer.
    pub fn send_with(
        &self,
        raw: &Raw,
        token: &str,
        body: &[u8],
        headers: &[(&str, &str)],
    ) -> Result<RawAnswer, Error> {
        self.send_whole(raw, token, body, headers)
            .map(RawAnswer::only)
    }

    /// The same; the whole answer as it came.
    pub fn send_whole(
        &self,
        raw: &Raw,
        token: &str,
        body: &[u8],
        headers: &[(&str, &str)],
    ) -> Result<RawAnswer, Error> {
        let path = format!(
            "/v1/tenants/{}/signers/{}/signatures",
            self.tenant, self.signer
        );
        raw.try_send("POST", &path, Some(token), Some(body), headers)
    }

    /// Checks a signature as its receiver would.
    pub fn released(&self, ask: &Ask, answer: &RawAnswer) -> Released {
        assert_eq!(answer.status, 200, "{answer:?}");
        let body = answer.json();
        let get = |name: &str| {
            body[name]
                .as_str()
                .unwrap_or_else(|| panic!("{name} in {body}"))
                .to_owned()
        };
        let signature = STANDARD.decode(get("signature")).expect("base64");
        let sent: Value = serde_json::from_slice(&ask.body).expect("JSON");
        let attributes = STANDARD
            .decode(
                sent["items"][0]["content"]["signed_attributes"]
                    .as_str()
                    .expect("attributes"),
            )
            .expect("base64");
        let scheme = get("scheme").parse().expect("a scheme");
        self.key
            .verify_message(scheme, &attributes, &signature)
            .expect("the signature verifies");
        let receipt = get("receipt");
        Released {
            tbs: ask.tbs.clone(),
            signature_sha256: hex(countersign_content::digest_of(
                HashAlgorithm::Sha256,
                &signature,
            )
            .as_bytes()),
            origin: body["log"]["origin"].as_str().expect("origin").to_owned(),
            index: Receipt::parse(&receipt).expect("a receipt").index,
            receipt,
        }
    }
}

/// Asks that several callers work off at once, through whatever happens to the service.
pub struct Load {
    pub signers: Vec<Signing>,
    made: usize,
    waiting: Mutex<VecDeque<Ask>>,
    released: Mutex<Vec<Released>>,
    surprises: Mutex<Vec<String>>,
}

impl Load {
    pub fn new(signers: Vec<Signing>) -> Self {
        Self {
            signers,
            made: 0,
            waiting: Mutex::default(),
            released: Mutex::default(),
            surprises: Mutex::default(),
        }
    }

    /// Puts `n` more things to be signed into the queue.
    pub fn more(&mut self, n: usize) {
        for _ in 0..n {
            let signer = self.made % self.signers.len();
            let mut ask =
                self.signers[signer].ask(&format!("file {}", self.made).replace(' ', "-"));
            ask.signer = signer;
            self.made += 1;
            self.waiting.lock().expect("lock").push_back(ask);
        }
    }

    /// How many things were asked for in all.
    pub const fn made(&self) -> usize {
        self.made
    }

    /// Four callers work until the queue is empty or the service is gone. `true`: all is done.
    pub fn run(&self, stack: &Stack, within: Duration) -> bool {
        let gone = AtomicBool::new(false);
        let until = Instant::now() + within;
        let tenant = &self.signers[0].tenant;
        let id_token = stack
            .platform
            .mint(&super::job_spec(REPOSITORY))
            .expect("a token");
        let Some(token) = exchanged(&stack.raw(), tenant, &id_token) else {
            return false;
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| self.caller(&stack.raw(), &token, &gone, until));
            }
        });
        self.waiting.lock().expect("lock").is_empty()
    }

    fn caller(&self, raw: &Raw, token: &str, gone: &AtomicBool, until: Instant) {
        while !gone.load(Ordering::Relaxed) && Instant::now() < until {
            let Some(ask) = self.waiting.lock().expect("lock").pop_front() else {
                return;
            };
            let signing = &self.signers[ask.signer];
            match signing.send(raw, token, &ask) {
                Ok(answer) if answer.status == 200 => {
                    let released = signing.released(&ask, &answer);
                    self.released.lock().expect("lock").push(released);
                    continue;
                }
                Ok(answer) => {
                    // Nothing but "later": each of these promises that asking again is right.
                    let code = answer.problem();
                    if answer.json()["retryable"] != true {
                        self.surprises.lock().expect("lock").push(format!(
                            "{} {code}: {}",
                            answer.status,
                            answer.json()
                        ));
                    }
                    std::thread::sleep(Duration::from_millis(50));
                }
                // The connection broke: the service was killed.
                Err(_) => gone.store(true, Ordering::Relaxed),
            }
            self.waiting.lock().expect("lock").push_back(ask);
        }
    }

    /// What came, and nothing that should not have come.
    pub fn finish(self) -> Vec<Released> {
        let surprises = self.surprises.into_inner().expect("lock");
        assert!(
            surprises.is_empty(),
            "answers that say a retry cannot help: {surprises:#?}"
        );
        self.released.into_inner().expect("lock")
    }
}

fn exchanged(raw: &Raw, tenant: &str, id_token: &str) -> Option<String> {
    let form = format!(
        "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&subject_token={id_token}\
         &subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aid_token&tenant={tenant}"
    );
    let header = [("content-type", "application/x-www-form-urlencoded")];
    let answer = raw
        .try_send("POST", "/v1/token", None, Some(form.as_bytes()), &header)
        .ok()?;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["access_token"].as_str().map(str::to_owned)
}

/// A downloaded log, as `countersign log show` prints it.
pub struct Leaves {
    pub origin: String,
    pub folder: PathBuf,
    pub leaves: Vec<Value>,
    outcomes: HashMap<u64, Value>,
}

/// Downloads all logs of a tenant once no authorisation is open any more, and reads them.
pub fn logs(admin: &Cli, folder: &Path) -> Vec<Leaves> {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let all = downloaded(admin, folder);
        if all.iter().all(|l| l.open() == 0) {
            return all;
        }
        assert!(Instant::now() < until, "authorisations stay open");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Downloads all logs of a tenant as they are now, and reads them.
pub fn downloaded(admin: &Cli, folder: &Path) -> Vec<Leaves> {
    admin.ok(&["log", "download", "--all", "--out", &text(folder)]);
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).expect("logs") {
        let folder = entry.expect("entry").path();
        let shown = admin.json(&["log", "show", &text(&folder), "--limit", "1000000"]);
        let leaves = shown["leaves"].as_array().expect("leaves").clone();
        let outcomes = leaves
            .iter()
            .filter(|l| l["leaf"]["type"] == "outcome")
            .map(|l| (l["leaf"]["of"].as_u64().expect("of"), l["leaf"].clone()))
            .collect();
        let origin = std::fs::read_to_string(folder.join("origin"))
            .expect("origin")
            .trim()
            .to_owned();
        all.push(Leaves {
            origin,
            folder,
            leaves,
            outcomes,
        });
    }
    all
}

impl Leaves {
    /// The authorisations, with their index.
    pub fn authorisations(&self) -> impl Iterator<Item = (u64, &Value)> {
        self.leaves
            .iter()
            .filter(|l| l["leaf"]["type"] == "authorisation" && l["leaf"]["purpose"] == "signature")
            .map(|l| (l["index"].as_u64().expect("index"), l))
    }

    /// The outcome of an authorisation.
    pub fn outcome(&self, index: u64) -> &Value {
        self.outcomes.get(&index).unwrap_or(&Value::Null)
    }

    /// Authorisations of one thing to sign.
    pub fn of(&self, tbs: &str) -> Vec<(u64, &Value)> {
        self.authorisations()
            .filter(|(_, l)| l["details"]["tbs"] == tbs)
            .collect()
    }

    /// Outcomes with this result.
    pub fn results(&self, result: &str) -> usize {
        self.outcomes
            .values()
            .filter(|o| o["result"] == result)
            .count()
    }

    /// Authorisations without outcome.
    pub fn open(&self) -> usize {
        self.leaves
            .iter()
            .filter(|l| l["leaf"]["type"] == "authorisation")
            .filter(|l| {
                !self
                    .outcomes
                    .contains_key(&l["index"].as_u64().expect("index"))
            })
            .count()
    }

    /// Two judges: our own audit, with the receipts below a folder, and the Python verifier, with
    /// those of them that are of this log.
    pub fn audited(&self, admin: &Cli, receipts: &Path) {
        let folder = text(&self.folder);
        let out = admin.ok(&[
            "--json",
            "log",
            "audit",
            &folder,
            "--receipts",
            &text(receipts),
        ]);
        let report: Value = serde_json::from_str(&out.stdout).expect("JSON");
        assert_eq!(report["log"]["counts"]["open"], 0, "{report}");
        assert_ne!(report["trust"], "folder", "{report}");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("verify_log.py");
        let mut python = Command::new("python3");
        python.arg(script).args([&folder, "--json"]);
        for entry in std::fs::read_dir(receipts).expect("receipts") {
            let path = entry.expect("an entry").path();
            let receipt = std::fs::read_to_string(&path).expect("a receipt");
            if receipt.contains(&format!("\n{}\n", self.origin)) {
                python.arg("--receipts").arg(path);
            }
        }
        let out = python.output().expect("python3 runs");
        let said = String::from_utf8_lossy(&out.stdout);
        assert_eq!(
            out.status.code(),
            Some(0),
            "verify_log.py {folder}: {said} {}",
            String::from_utf8_lossy(&out.stderr)
        );
    }
}

/// Judges everything that a load brought: each released signature has exactly one authorisation
/// leaf, and each thing was signed at most once unless a crash hid the outcome.
pub fn judge(admin: &Cli, logs: &[Leaves], released: &[Released], receipts: &Path) {
    let mut seen = HashSet::new();
    let mut of_log: HashMap<&str, &Leaves> = HashMap::new();
    for log in logs {
        of_log.insert(&log.origin, log);
        let mut indices = HashSet::new();
        for (index, _) in log.authorisations() {
            assert!(indices.insert(index));
            assert_ne!(
                log.outcome(index)["result"],
                Value::Null,
                "leaf {index} of {} has no outcome",
                log.origin
            );
        }
    }
    for r in released {
        assert!(
            seen.insert((r.origin.as_str(), r.index)),
            "one authorisation, two signatures: {r:?}"
        );
        let log = of_log
            .get(r.origin.as_str())
            .unwrap_or_else(|| panic!("no log {}", r.origin));
        let attempts = log.of(&r.tbs);
        assert_eq!(
            attempts.iter().filter(|(i, _)| *i == r.index).count(),
            1,
            "{r:?}: {attempts:#?}"
        );
        let outcome = log.outcome(r.index);
        match outcome["result"].as_str() {
            Some("signed") => assert_eq!(outcome["signature_sha256"], r.signature_sha256, "{r:?}"),
            // The process died between the answer and the outcome's commit.
            Some("unknown") => assert_eq!(outcome["reason"], "node-stopped", "{r:?}"),
            _ => panic!("released, and the log says {outcome}: {r:?}"),
        }
        for (n, (index, leaf)) in attempts.iter().enumerate() {
            assert_eq!(leaf["leaf"]["attempt"], n + 1, "{attempts:#?}");
            if n > 0 {
                assert_eq!(
                    leaf["leaf"]["repeats"], attempts[0].0,
                    "the first attempt is named: {attempts:#?}"
                );
            }
            if *index != r.index {
                let result = &log.outcome(*index)["result"];
                assert!(
                    result == "unknown" || result == "failed",
                    "a second signature of {}: {attempts:#?}",
                    r.tbs
                );
            }
        }
    }
    for r in released {
        let name = r.origin.rsplit('/').next().unwrap_or("log");
        std::fs::write(
            receipts.join(format!("{name}-{}.tlog-proof", r.index)),
            &r.receipt,
        )
        .expect("receipt");
    }
    for log in logs {
        log.audited(admin, receipts);
    }
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
