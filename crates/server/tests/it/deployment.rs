//! A deployment in a temporary folder, and a client that trusts it.

use countersign_testkit::issuer::{Issuer, ServeOptions, TokenSpec};
use countersign_testkit::programs::ReadyProgram;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

pub const AUDIENCE: &str = "countersign-test";
pub const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
pub const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";

pub fn countersignd() -> Command {
    Command::new(env!("CARGO_BIN_EXE_countersignd"))
}

/// A folder made by `countersignd init`.
pub struct Deployment {
    pub dir: TempDir,
}

impl Deployment {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let module = dir.path().join("libsofthsm2.so");
        std::fs::write(&module, b"").unwrap();
        let out = countersignd()
            .args(["init", "--dev", "--listen", "127.0.0.1:0", "--dir"])
            .arg(dir.path().join("d"))
            .arg("--hsm-module")
            .arg(&module)
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", text(&out));
        let this = Self { dir };
        // No tenant, no worker: any program that is there will do.
        this.edit("[hsm]\n", "[hsm]\nworker_binary = \"/bin/true\"\n");
        this
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("d").join(name)
    }

    pub fn config(&self) -> PathBuf {
        self.path("countersignd.toml")
    }

    pub fn edit(&self, from: &str, to: &str) {
        let old = std::fs::read_to_string(self.config()).unwrap();
        assert!(old.contains(from), "{from}");
        std::fs::write(self.config(), old.replacen(from, to, 1)).unwrap();
    }

    pub fn command(&self, name: &str) -> Command {
        let mut c = countersignd();
        c.arg(name).arg("--config").arg(self.config());
        c
    }

    pub fn serve(&self) -> Running {
        let mut command = self.command("serve");
        command.stderr(std::fs::File::create(self.path("log")).unwrap());
        let program = ReadyProgram::start(command, Duration::from_secs(60))
            .unwrap_or_else(|e| panic!("{e}: {}", read(&self.path("log"))));
        let base = format!("https://{}", program.text("listen"));
        Running {
            agent: agent(&self.path("tls/cert.pem")),
            base,
            program,
        }
    }
}

/// A running server.
pub struct Running {
    pub program: ReadyProgram,
    pub base: String,
    agent: ureq::Agent,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: ureq::http::HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|v| v.to_str().ok())
            .unwrap_or("")
    }
}

impl Running {
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut answer = self.agent.run(request.body(body).unwrap()).unwrap();
        Answer {
            status: answer.status().as_u16(),
            headers: answer.headers().clone(),
            body: answer.body_mut().read_to_vec().unwrap(),
        }
    }

    pub fn get(&self, path: &str, token: Option<&str>) -> Answer {
        let bearer = token.map(|t| format!("Bearer {t}"));
        let headers: Vec<_> = bearer
            .iter()
            .map(|b| ("authorization", b.as_str()))
            .collect();
        self.send("GET", path, &headers, b"")
    }

    pub fn post(&self, path: &str, token: Option<&str>, body: &Value) -> Answer {
        let bearer = token.map(|t| format!("Bearer {t}"));
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(bearer.iter().map(|b| ("authorization", b.as_str())));
        self.send("POST", path, &headers, body.to_string().as_bytes())
    }

    /// Exchanges an ID token for the operator's realm.
    pub fn exchange(&self, token: &str) -> Answer {
        let body =
            format!("grant_type={EXCHANGE}&subject_token_type={ID_TOKEN}&subject_token={token}");
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        self.send("POST", "/v1/token", &headers, body.as_bytes())
    }

    pub fn terminate(&self) {
        let id = self.program.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &id])
                .status()
                .unwrap()
                .success()
        );
    }
}

/// A server with an issuer, its operator registered.
pub struct WithOperator {
    pub server: Running,
    pub issuer: Issuer,
    pub deployment: Deployment,
}

impl WithOperator {
    pub fn new() -> Self {
        let deployment = Deployment::new();
        let issuer = Issuer::start(
            &deployment.path("issuer"),
            "127.0.0.1:0",
            ServeOptions::default(),
        )
        .unwrap();
        let server = deployment.serve();
        let this = Self {
            server,
            issuer,
            deployment,
        };
        let answer = this
            .server
            .post("/v1/bootstrap", None, &this.registration());
        assert_eq!(answer.status, 204, "{}", answer.json());
        this
    }

    pub fn registration(&self) -> Value {
        json!({
            "credential": read(&self.deployment.path("bootstrap-credential")).trim(),
            "issuer": self.issuer.url(),
            "subject": "olga",
            "audience": AUDIENCE,
            "ca_pem": read(&self.issuer.ca_file()),
            "mfa": {"amr": ["mfa"]},
        })
    }

    pub fn spec() -> TokenSpec {
        TokenSpec::new("olga", AUDIENCE).mfa()
    }

    /// A service token of the operator.
    pub fn token(&self) -> String {
        let answer = self
            .server
            .exchange(&self.issuer.mint(&Self::spec()).unwrap());
        assert_eq!(answer.status, 200, "{}", answer.json());
        answer.json()["access_token"].as_str().unwrap().to_owned()
    }
}

pub fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

pub fn text(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

fn agent(ca_file: &Path) -> ureq::Agent {
    let root = Certificate::from_pem(&std::fs::read(ca_file).unwrap()).unwrap();
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&[root]))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .build();
    ureq::Agent::config_builder()
        .tls_config(tls)
        .http_status_as_error(false)
        .allow_non_standard_methods(true)
        .timeout_global(Some(Duration::from_secs(60)))
        .build()
        .into()
}
