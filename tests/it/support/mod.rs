//! A whole Countersign of real parts for a test: countersignd with its workers on SoftHSM2, the demo
//! CA, two OIDC issuers (people, pipelines), a timestamp authority. Everything lives in a temporary
//! folder and dies with the value.

pub mod cli;
pub mod cluster;
pub mod disk;
pub mod judges;
pub mod leaves;
pub mod lists;
pub mod load;
pub mod node;
pub mod openssl;
pub mod proxy;
pub mod raw;
pub mod wire;

use cli::Cli;
use countersign_testkit::issuer::{Issuer, ServeOptions, TokenSpec};
use countersign_testkit::postgres::Postgres;
use countersign_testkit::programs::{ReadyProgram, find_program};
use countersign_testkit::tsa::Tsa;
use serde_json::Value;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;
use tempfile::TempDir;

/// Enough for a debug build on a busy machine.
const START: Duration = Duration::from_secs(60);
/// The audience people's tokens carry.
pub const PEOPLE_AUDIENCE: &str = "countersign";
/// The audience pipelines' tokens carry.
pub const JOB_AUDIENCE: &str = "https://sign.test";
/// The repository that grants name.
pub const REPOSITORY: &str = "4711";

/// What the service keeps its rows in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Database {
    /// A file, made by `init`.
    Sqlite,
    /// A database of its own on the PostgreSQL server that the tests of this process share, with an
    /// owner's role and a service's.
    Postgres,
}

/// The running whole.
pub struct Stack {
    dir: TempDir,
    port: u16,
    server: Option<ReadyProgram>,
    ca: Option<ReadyProgram>,
    /// Makes people's tokens.
    pub people: Issuer,
    /// Makes jobs' tokens.
    pub platform: Issuer,
    /// Timestamps.
    pub tsa: Tsa,
}

impl Stack {
    /// The one that tests share which do no harm to it.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Stack> = OnceLock::new();
        SHARED.get_or_init(|| {
            let mut stack = Self::bare();
            // Evidence is appraised for anybody: the pages for CAs say how.
            stack.configure("\n[attestation]\nanyone_per_s = 100\n");
            stack.start_ca(&[]);
            stack.end_with_the_tests(&[]);
            stack
        })
    }

    /// A value in a static is never dropped: a shell that waits for the end of this process (its
    /// standard input closes) stops the programs (these and our own) and removes the folder.
    pub fn end_with_the_tests(&self, programs: &[u32]) {
        let ca = self.ca.as_ref().expect("the CA runs").id();
        let ids = programs
            .iter()
            .chain(&[self.server_pid(), ca])
            .map(u32::to_string)
            .collect::<Vec<_>>();
        let child = Command::new("sh")
            .args(["-c", "cat >/dev/null; kill \"$@\"; sleep 2; rm -rf \"$0\""])
            .arg(self.dir.path())
            .args(ids)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("sh runs");
        // Its end of the pipe stays open as long as we live.
        std::mem::forget(child);
    }

    /// One of a test's own, without a CA.
    pub fn bare() -> Self {
        Self::bare_on(Database::Sqlite)
    }

    /// The same on a database.
    pub fn bare_on(database: Database) -> Self {
        let (mut stack, service) = Self::initialised();
        if database == Database::Postgres {
            let server = Postgres::shared().expect("PostgreSQL starts (scripts/need.sh test)");
            let database = server.database().expect("a database");
            move_to_postgres(&service, &database.url, &database.owner_url);
        }
        stack.start_server(&[]);
        stack.bootstrap();
        stack
    }

    /// `countersignd init` has run, and nothing is started.
    pub fn initialised() -> (Self, PathBuf) {
        countersign_testkit::softhsm::module()
            .expect("SoftHSM2 is installed (scripts/need.sh test)");
        let dir = countersign_testkit::tempdir().expect("a temporary folder");
        let people = Issuer::start(
            &dir.path().join("people"),
            "127.0.0.1:0",
            ServeOptions::default(),
        )
        .expect("people's issuer");
        let platform = Issuer::start(
            &dir.path().join("platform"),
            "127.0.0.1:0",
            ServeOptions::default(),
        )
        .expect("platform's issuer");
        let tsa = Tsa::start(&dir.path().join("tsa"), "127.0.0.1:0").expect("timestamp authority");
        let port = free_port();
        let service = dir.path().join("service");
        let out = Command::new(program("countersignd"))
            .args(["init", "--dev", "--dir"])
            .arg(&service)
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .output()
            .expect("countersignd init runs");
        assert!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
        let stack = Self {
            dir,
            port,
            server: None,
            ca: None,
            people,
            platform,
            tsa,
        };
        (stack, service)
    }

    /// One of a test's own, with the demo CA behind the connector `demo`.
    pub fn start() -> Self {
        Self::on(Database::Sqlite)
    }

    /// The same on a database.
    pub fn on(database: Database) -> Self {
        let mut stack = Self::bare_on(database);
        stack.start_ca(&[]);
        stack
    }

    /// Starts (or restarts) the demo CA with further arguments and wires it as connector `demo`.
    pub fn start_ca(&mut self, more: &[&str]) {
        self.ca = None;
        let mut command = self.ca_command("demo-ca.test", "ca");
        command
            .arg("--allow-software")
            .args(more)
            .stderr(self.log("demo-ca"));
        let ca = ReadyProgram::start(command, START).expect("demo CA");
        let section = format!(
            "\n[[cas]]\nname = \"demo\"\nurl = \"{}\"\nca_file = \"{}\"\ntakes_software = true\n",
            ca.text("listening"),
            ca.text("ca_file")
        );
        let config = self.config();
        let text = std::fs::read_to_string(&config).expect("configuration");
        let text = text.split("\n[[cas]]").next().unwrap_or(&text).to_owned() + &section;
        std::fs::write(&config, text).expect("configuration");
        self.ca = Some(ca);
        self.stop_server();
        self.start_server(&[]);
    }

    /// `countersign-demo-ca serve` with a state folder of this name, and our statement key pinned.
    pub fn ca_command(&self, audience: &str, state: &str) -> Command {
        let keys: Value = self.cli("setup").json(&["service", "keys"]);
        let spki = keys["statement"]["spki"].as_str().expect("statement key");
        let pem = self.path("service-key.pem");
        std::fs::write(&pem, pem_of("PUBLIC KEY", spki)).expect("service-key.pem");
        let mut command = Command::new(program("countersign-demo-ca"));
        command
            .args(["serve", "--audience", audience, "--state"])
            .arg(self.path(state))
            .arg("--trust-service-key")
            .arg(&pem);
        command
    }

    /// Stops the CA.
    pub fn stop_ca(&mut self) {
        self.ca = None;
    }

    /// Starts countersignd, with further environment (failpoints).
    pub fn start_server(&mut self, env: &[(&str, &str)]) {
        assert!(self.try_start_server(env), "countersignd does not start");
    }

    /// Whether it starts.
    pub fn try_start_server(&mut self, env: &[(&str, &str)]) -> bool {
        let mut command = self.server_command();
        command
            .envs(env.iter().copied())
            .stderr(self.log("countersignd"));
        self.server = ReadyProgram::start(command, START).ok();
        self.server.is_some()
    }

    /// Starts it by a command of the test's own.
    pub fn start_server_by(&mut self, command: Command) {
        self.server = Some(ReadyProgram::start(command, START).expect("countersignd"));
    }

    /// `countersignd serve` with this stack's configuration.
    pub fn server_command(&self) -> Command {
        let mut command = Command::new(program("countersignd"));
        command.args(["serve", "--config"]).arg(self.config());
        command
    }

    /// SIGTERM and wait: a drain.
    pub fn stop_server(&mut self) -> Option<i32> {
        let mut server = self.server.take()?;
        signal(server.id(), "TERM");
        server.child().wait().expect("countersignd ends").code()
    }

    /// SIGKILL.
    pub fn kill_server(&mut self) {
        if let Some(mut server) = self.server.take() {
            signal(server.id(), "KILL");
            let _ = server.child().wait();
        }
    }

    /// Waits until countersignd has ended by itself (a failpoint).
    pub fn server_ended(&mut self, within: Duration) -> bool {
        let Some(server) = &mut self.server else {
            return true;
        };
        let start = std::time::Instant::now();
        while start.elapsed() < within {
            if matches!(server.child().try_wait(), Ok(Some(_))) {
                self.server = None;
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    /// Process id of countersignd.
    pub fn server_pid(&self) -> u32 {
        self.server.as_ref().expect("countersignd runs").id()
    }

    /// Process ids of the workers.
    pub fn worker_pids(&self) -> Vec<u32> {
        node::workers_of(self.server_pid())
    }

    /// Registers olga as the operator.
    pub fn bootstrap(&self) {
        let ca_file = self.people.ca_file();
        let out = self.cli("operator").run(&[
            "bootstrap",
            "--credential-file",
            &text(&self.path("service/bootstrap-credential")),
            "--issuer",
            self.people.url(),
            "--issuer-ca-file",
            &text(&ca_file),
            "--subject",
            "olga",
            "--audience",
            PEOPLE_AUDIENCE,
            "--mfa-amr",
            "mfa",
        ]);
        assert_eq!(out.code, 0, "{out:?}");
    }

    /// A command line with a home of its own.
    pub fn cli(&self, who: &str) -> Cli {
        Cli::new(self, who)
    }

    /// A person who has just logged in with a second factor. `None`: the operator's realm.
    pub fn person(&self, subject: &str, tenant: Option<&str>) -> Cli {
        self.person_with(TokenSpec::new(subject, PEOPLE_AUDIENCE).mfa(), tenant)
    }

    /// The same, with a token of the test's own making.
    pub fn person_with(&self, spec: TokenSpec, tenant: Option<&str>) -> Cli {
        let token = self.people.mint(&spec).expect("a token");
        let cli = self.cli(&format!("{}-{}", spec.sub, tenant.unwrap_or("operator")));
        let file = self.path(&format!("{}.jwt", countersign_core::RequestId::new()));
        std::fs::write(&file, token).expect("token file");
        let cli = match tenant {
            Some(t) => cli.of(t),
            None => cli,
        };
        let out = cli.run(&["login", "--token-file", &text(&file)]);
        assert_eq!(out.code, 0, "login of {} failed: {out:?}", spec.sub);
        cli
    }

    /// The operator, logged in.
    pub fn operator(&self) -> Cli {
        self.person("olga", None)
    }

    /// Makes a tenant with people's and pipelines' issuers; its admin, logged in.
    pub fn tenant(&self, name: &str) -> Cli {
        let admin = format!("{name}-admin");
        let people_ca = text(&self.people.ca_file());
        let platform_ca = text(&self.platform.ca_file());
        self.operator().ok(&[
            "admin",
            "tenant",
            "create",
            name,
            "--admin",
            self.people.url(),
            &admin,
            "--issuer",
            self.people.url(),
            "--audience",
            PEOPLE_AUDIENCE,
            "--issuer-ca-file",
            &people_ca,
            "--mfa-amr",
            "mfa",
            "--allow-software",
        ]);
        let admin = self.person(&admin, Some(name));
        admin.ok(&[
            "issuers",
            "add",
            "--kind",
            "pipelines",
            "--issuer",
            self.platform.url(),
            "--audience",
            JOB_AUDIENCE,
            "--issuer-ca-file",
            &platform_ca,
        ]);
        admin
    }

    /// A signer with a key and a certificate from the demo CA, and a grant for [`REPOSITORY`].
    /// Returns the key's id.
    pub fn signer(&self, admin: &Cli, name: &str, algorithm: &str) -> String {
        let key = self.key(admin, name, algorithm);
        admin.ok(&[
            &["certificate", "order", &key, "--ca", "demo"][..],
            &SUBJECT,
        ]
        .concat());
        self.grant(admin, name, &["authenticode", "cms"]);
        key
    }

    /// A signer with a key and no certificate. Returns the key's id.
    pub fn key(&self, admin: &Cli, name: &str, algorithm: &str) -> String {
        admin.ok(&["signers", "create", name, "--algorithm", algorithm]);
        let key = admin.json(&["keys", "create", name]);
        key["id"].as_str().expect("key id").to_owned()
    }

    /// Lets jobs of [`REPOSITORY`] use a signer for these contents.
    pub fn grant(&self, admin: &Cli, name: &str, contents: &[&str]) {
        self.grant_to(admin, name, REPOSITORY, contents);
    }

    /// Lets jobs of a repository exchange their tokens: a signer without a key, and a grant for it.
    pub fn let_in(&self, admin: &Cli, tenant: &str, repository: &str) {
        let door = format!("{tenant}/door");
        admin.ok(&["signers", "create", &door, "--algorithm", "ec-p256"]);
        self.grant_to(admin, &door, repository, &["cms"]);
    }

    /// Lets jobs of a repository use a signer for these contents.
    pub fn grant_to(&self, admin: &Cli, name: &str, repository: &str, contents: &[&str]) {
        let claim = format!("repository_id={repository}");
        let mut args = vec![
            "grants",
            "add",
            name,
            "--issuer",
            self.platform.url(),
            "--claim",
            &claim,
            "--claim",
            "environment=release",
            "--digest",
            "sha-256",
            "--digest",
            "sha-384",
        ];
        for content in contents {
            args.extend(["--content", content]);
        }
        admin.ok(&args);
    }

    /// The token of a job of this repository.
    pub fn job_token(&self, repository: &str) -> String {
        self.platform.mint(&job_spec(repository)).expect("a token")
    }

    /// A job's command line: nothing but its token.
    pub fn job(&self, who: &str, repository: &str) -> Cli {
        self.cli(who)
            .env("COUNTERSIGN_ID_TOKEN", &self.job_token(repository))
    }

    /// A path in the stack's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A new folder in it.
    pub fn folder(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(&path).expect("a folder");
        path
    }

    /// The port countersignd listens on.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The service's URL.
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// The service's own CA file.
    pub fn ca_file(&self) -> PathBuf {
        self.path("service/tls/cert.pem")
    }

    /// The demo CA's roots.
    pub fn ca_roots(&self) -> String {
        self.ca
            .as_ref()
            .expect("the CA runs")
            .text("roots")
            .to_owned()
    }

    /// A member of the line the demo CA printed when it was ready.
    pub fn ca_says(&self, name: &str) -> String {
        self.ca.as_ref().expect("the CA runs").text(name).to_owned()
    }

    /// Adds to the configuration file; the next start reads it.
    pub fn configure(&self, more: &str) {
        let mut text = std::fs::read_to_string(self.config()).expect("configuration");
        text.push_str(more);
        std::fs::write(self.config(), text).expect("configuration");
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.path("service/countersignd.toml")
    }

    /// What countersignd wrote to standard error so far.
    pub fn server_log(&self) -> String {
        std::fs::read_to_string(self.path("countersignd.log")).unwrap_or_default()
    }

    /// A file for the standard error of a program.
    pub fn log(&self, name: &str) -> std::fs::File {
        std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path(&format!("{name}.log")))
            .expect("log file")
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.server_log();
            let tail: Vec<_> = log.lines().rev().take(15).collect();
            let _ = writeln!(std::io::stderr(), "countersignd's last lines:");
            for line in tail.iter().rev() {
                let _ = writeln!(std::io::stderr(), "  {line}");
            }
        }
        self.stop_server();
    }
}

/// The subject every certificate order here asks for.
pub const SUBJECT: [&str; 8] = [
    "--common-name",
    "Acme Inc.",
    "--organization",
    "Acme Inc.",
    "--country",
    "US",
    "--locality",
    "Springfield",
];

/// What a platform says of a job of this repository.
pub fn job_spec(repository: &str) -> TokenSpec {
    TokenSpec::new("repo:any/app:environment:release", JOB_AUDIENCE)
        .claim("repository_id", repository)
        .claim("environment", "release")
        .claim("event_name", "push")
        .claim("ref", "refs/tags/v1.0")
}

/// One of our programs.
pub fn program(name: &str) -> PathBuf {
    let package = match name {
        "countersignd" => "countersign-server",
        "countersign" => "countersign-cli",
        other => other,
    };
    find_program(name, package).expect("built before the tests (make test)")
}

/// Sends a signal.
pub fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .status();
    assert!(sent.is_ok_and(|s| s.success()), "kill -{name} {pid}");
}

/// A path as text.
pub fn text(path: &Path) -> String {
    path.to_str().expect("UTF-8 path").to_owned()
}

/// PEM around base64.
pub fn pem_of(label: &str, base64: &str) -> String {
    let lines: Vec<_> = base64
        .as_bytes()
        .chunks(64)
        .map(String::from_utf8_lossy)
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}

/// Somebody else's Windows executables.
pub fn third_party_exe(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folder = FOLDER.get_or_init(|| {
        let out = Command::new(root.join("scripts/third-party.sh"))
            .output()
            .expect("third-party.sh runs");
        assert!(
            out.status.success(),
            "no third-party executables to sign: {}",
            String::from_utf8_lossy(&out.stderr)
        );
        root.join(String::from_utf8_lossy(&out.stdout).trim())
    });
    folder.join(name)
}

/// A writable copy of one in `folder`.
pub fn copy_exe(folder: &Path, name: &str, third_party: &str) -> PathBuf {
    let to = folder.join(name);
    std::fs::write(
        &to,
        std::fs::read(third_party_exe(third_party)).expect("executable"),
    )
    .expect("copy");
    to
}

/// Gives a deployment that `init` made a database on PostgreSQL instead of its file.
pub fn move_to_postgres(service: &Path, url: &str, owner_url: &str) {
    let config = service.join("countersignd.toml");
    let text = std::fs::read_to_string(&config).expect("configuration");
    let section = format!("\n[database]\nurl = \"{url}\"\n\n[log]\n");
    std::fs::write(&config, text.replacen("\n[log]\n", &section, 1)).expect("configuration");
    let credential = service.join("bootstrap-credential");
    for entry in std::fs::read_dir(service.join("data"))
        .expect("data")
        .flatten()
    {
        if entry
            .file_name()
            .to_string_lossy()
            .starts_with("countersign.db")
        {
            std::fs::remove_file(entry.path()).expect("the file's database");
        }
    }
    std::fs::remove_file(&credential).expect("its credential");
    let out = Command::new(program("countersignd"))
        .args(["create-database", "--config"])
        .arg(&config)
        .args(["--owner-url", owner_url, "--credential-file"])
        .arg(&credential)
        .output()
        .expect("countersignd runs");
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|l| l.local_addr())
        .expect("a free port")
        .port()
}
