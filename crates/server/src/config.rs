//! The configuration: one TOML file. Unknown keys are refused by name and line; secrets are paths
//! to files, never values; relative paths start at the file's own folder.

mod attestation;
mod ca;
mod limits;
mod named;
mod revocation;
mod token;

pub use self::attestation::Attestation;
pub use self::ca::{Ca, CaKind};
pub use self::limits::Limits;
pub use self::named::{FileOf, module_present};
pub use self::token::Token;
pub use revocation::{Mirror, Revocation};

use crate::ServerError;
use crate::database::is_postgres;
use crate::files;
use countersign_store::postgres::Settings;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

mod telemetry;

pub use telemetry::{Listen, Telemetry};

/// The whole file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address for HTTPS.
    pub listen: SocketAddr,
    /// The service's public name, `host` or `host:port`. It stands in the origin of every log and
    /// can never be changed.
    pub origin: String,
    /// Where database and token folders lie.
    pub data_dir: PathBuf,
    /// The deployment's sealing key: 32 bytes. Without it the database's secrets are lost.
    pub sealing_key_file: PathBuf,
    /// Development: issuers on loopback and private addresses, demo CAs that take software keys.
    #[serde(default)]
    pub development: bool,
    /// TLS.
    pub tls: Tls,
    /// The database.
    #[serde(default)]
    pub database: Database,
    /// This run among others on the same database.
    #[serde(default)]
    pub node: Node,
    /// The tokens.
    pub hsm: Hsm,
    /// Tokens that the operator's HSM already has.
    #[serde(default)]
    pub token: Vec<Token>,
    /// CAs with a connector.
    #[serde(default)]
    pub cas: Vec<Ca>,
    /// Whom to trust for device evidence, beyond the makers that are built in.
    #[serde(default)]
    pub attestation: Attestation,
    /// Certificates, looked up in their CAs' revocation lists.
    #[serde(default)]
    pub revocation: Revocation,
    /// OIDC issuers.
    #[serde(default)]
    pub oidc: Oidc,
    /// Limits.
    #[serde(default)]
    pub limits: Limits,
    /// Logs of the process (not of the keys).
    #[serde(default)]
    pub log: Log,
    /// Traces and metrics.
    #[serde(default)]
    pub telemetry: Telemetry,
}

/// `[tls]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Certificate chain, PEM, leaf first.
    pub cert_file: PathBuf,
    /// Its private key, PEM (PKCS#8).
    pub key_file: PathBuf,
}

/// `[database]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Database {
    /// `sqlite:PATH` or `postgres://USER@HOST/DATABASE`; `countersign.db` in `data_dir` if left out.
    pub url: Option<String>,
    /// PostgreSQL: the file with the password of the URL's user, in one line; that of PGPASSFILE if
    /// left out.
    pub password_file: Option<PathBuf>,
    /// PostgreSQL: this node alone uses the database, and no standby will ever take over from it.
    pub single_node: bool,
    /// PostgreSQL: most connections of this node.
    pub max_connections: u32,
}

impl Default for Database {
    fn default() -> Self {
        Self {
            url: None,
            password_file: None,
            single_node: false,
            max_connections: 20,
        }
    }
}

/// `[node]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Node {
    /// Name for people; the host's where absent.
    pub name: Option<String>,
    /// How long the node's lease lasts without a renewal, in seconds (3 to 300). A node that
    /// stalls longer is declared dead by the others, which then close what it left open.
    pub lease_s: u64,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            name: None,
            lease_s: 15,
        }
    }
}

impl Node {
    /// The name.
    #[must_use]
    pub fn name(&self) -> String {
        self.name.clone().unwrap_or_else(|| {
            std::fs::read_to_string("/proc/sys/kernel/hostname")
                .map_or_else(|_| "unnamed".to_owned(), |name| name.trim().to_owned())
        })
    }

    /// The lease.
    #[must_use]
    pub const fn lease(&self) -> Duration {
        Duration::from_secs(self.lease_s)
    }
}

/// `[hsm]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hsm {
    /// The PKCS#11 module.
    pub module: PathBuf,
    /// Its profile: the name of one that comes with Countersign (hsm-config/), or a file.
    pub profile: PathBuf,
    /// Where the tokens' folders lie; `tokens` in `data_dir` if left out. Nodes on one token share it.
    #[serde(default)]
    pub token_dir: Option<PathBuf>,
    /// Where this node's workers keep what is theirs alone. If left out: with the tokens, or
    /// `workers` in `data_dir` where `token_dir` is given.
    #[serde(default)]
    pub state_dir: Option<PathBuf>,
    /// Who starts the workers.
    #[serde(default)]
    pub mode: WorkerMode,
    /// With `connect`: where the workers' sockets lie.
    #[serde(default)]
    pub socket_dir: Option<PathBuf>,
    /// With `connect`: the user they run as, a name or a number.
    #[serde(default)]
    pub worker_user: Option<String>,
    /// How workers are confined.
    #[serde(default)]
    pub sandbox: SandboxMode,
    /// The worker program; the one beside `countersignd` if left out.
    #[serde(default)]
    pub worker_binary: Option<PathBuf>,
    /// The file that seals the tokens' PINs: 32 bytes.
    pub worker_key_file: PathBuf,
    /// Sessions of each worker; as many as there are cores if left out.
    #[serde(default)]
    pub sessions: Option<usize>,
    /// Longest a signature may take in the token.
    #[serde(default)]
    pub call_deadline_ms: Option<u64>,
}

/// Who starts the workers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkerMode {
    /// This program, under its own user.
    #[default]
    Spawn,
    /// Others (the service manager), under a user of their own.
    Connect,
}

/// How workers are confined.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SandboxMode {
    /// Not at all.
    Off,
    /// The kernel logs system calls that would be refused.
    Report,
    /// As far as the module's profile and the kernel allow.
    #[default]
    Enforce,
}

/// `[oidc]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Oidc {
    /// Issuers at addresses of private networks may be asked. Only where they stand inside yours.
    #[serde(default)]
    pub allow_private_addresses: bool,
}

/// `[log]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `json` or `text`.
    pub format: LogFormat,
    /// What is logged, for example `info` or `info,countersign_hsm=debug`.
    pub filter: String,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::Json,
            filter: "info".to_owned(),
        }
    }
}

/// Form of the process's logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

impl Config {
    /// Reads and checks a configuration, with the files it names.
    ///
    /// # Errors
    /// [`ServerError`]; its text names file, line and key.
    pub fn load(path: &Path) -> Result<Self, ServerError> {
        let text = files::read_text(path)?;
        let config = Self::parse(path, &text)?;
        config.check_files()?;
        Ok(config)
    }

    /// Reads a configuration's text; paths are made absolute, files are not looked at.
    ///
    /// # Errors
    /// [`ServerError::Config`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, ServerError> {
        let mut config: Self = toml::from_str(text).map_err(|e| ServerError::Config {
            file: path.to_owned(),
            line: e.span().map(|s| line_at(text, s.start)),
            problem: e.message().to_owned(),
        })?;
        let spawned = config.hsm.mode == WorkerMode::Spawn;
        if let Err((at, problem)) = token::check(&config.token, spawned) {
            return Err(ServerError::Config {
                file: path.to_owned(),
                line: Some(line_at(text, at)),
                problem,
            });
        }
        if let Err((key, problem)) = config.check() {
            return Err(ServerError::Config {
                file: path.to_owned(),
                line: line_of(text, key),
                problem: format!("{key}: {problem}"),
            });
        }
        let dir = path.parent().filter(|d| !d.as_os_str().is_empty());
        config.anchor(dir.unwrap_or(Path::new(".")))?;
        Ok(config)
    }

    /// The database file, where it is one.
    #[must_use]
    pub fn database_file(&self) -> PathBuf {
        match &self.database.url {
            None => self.data_dir.join("countersign.db"),
            Some(url) => {
                let path = url.strip_prefix("sqlite:").unwrap_or(url);
                let path = path.strip_prefix("//").unwrap_or(path);
                self.data_dir.join(path)
            }
        }
    }

    /// Where token folders lie.
    #[must_use]
    pub fn token_dir(&self) -> PathBuf {
        let given = self.hsm.token_dir.clone();
        given.unwrap_or_else(|| self.data_dir.join("tokens"))
    }

    /// Where this node's workers keep what is theirs alone.
    #[must_use]
    pub fn worker_state_dir(&self) -> PathBuf {
        match (&self.hsm.state_dir, &self.hsm.token_dir) {
            (Some(dir), _) => dir.clone(),
            (None, Some(_)) => self.data_dir.join("workers"),
            (None, None) => self.token_dir(),
        }
    }

    /// Prefix of log origins.
    #[must_use]
    pub fn origin_prefix(&self) -> String {
        format!("{}/log", self.origin)
    }

    /// How long a shutdown waits.
    #[must_use]
    pub const fn drain(&self) -> Duration {
        Duration::from_secs(self.limits.drain_s)
    }

    fn check(&self) -> Result<(), (&'static str, String)> {
        let origin = &self.origin;
        let plain = origin
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']'));
        if !(1..=200).contains(&origin.len()) || !plain {
            // It becomes the name of a note's key: no scheme, no path, no space, no plus.
            return Err((
                "origin",
                "a host name, or host:port, without scheme and path".into(),
            ));
        }
        match self.database.url.as_deref() {
            Some(url) if is_postgres(url) => {
                Settings::new(url).map_err(|e| ("url", e.to_string()))?;
            }
            Some(url) if !url.starts_with("sqlite:") => {
                return Err((
                    "url",
                    "sqlite:PATH, or postgres://USER@HOST/DATABASE".into(),
                ));
            }
            _ if self.database.password_file.is_some() => {
                return Err(("password_file", "a SQLite file has no password".into()));
            }
            _ => {}
        }
        if self.hsm.mode == WorkerMode::Connect {
            if self.hsm.socket_dir.is_none() {
                return Err(("mode", "\"connect\" needs `socket_dir`".into()));
            }
            match &self.hsm.worker_user {
                None => return Err(("mode", "\"connect\" needs `worker_user`".into())),
                Some(user) => {
                    files::uid_of(user).map_err(|problem| ("worker_user", problem))?;
                }
            }
        }
        let bounds = [
            ("lease_s", self.node.lease_s, 3, 300),
            (
                "max_connections",
                u64::from(self.database.max_connections),
                6,
                500,
            ),
            ("sessions", self.hsm.sessions.unwrap_or(1) as u64, 1, 1024),
            (
                "call_deadline_ms",
                self.hsm.call_deadline_ms.unwrap_or(1000),
                10,
                600_000,
            ),
        ];
        let anyone = (
            "anyone_per_s",
            self.attestation.anyone_per_s.into(),
            0,
            1000,
        );
        let bounds = bounds.into_iter().chain(self.limits.bounds());
        for (key, value, low, high) in bounds.chain([anyone]) {
            if !(low..=high).contains(&value) {
                return Err((key, format!("{low} to {high}, not {value}")));
            }
        }
        self.telemetry.check()?;
        self.revocation.check(self.development)?;
        self.check_cas()
    }

    fn anchor(&mut self, dir: &Path) -> Result<(), ServerError> {
        let dir = std::path::absolute(dir).map_err(ServerError::file(dir))?;
        let all = [
            &mut self.data_dir,
            &mut self.sealing_key_file,
            &mut self.tls.cert_file,
            &mut self.tls.key_file,
            &mut self.hsm.module,
            &mut self.hsm.worker_key_file,
        ];
        let profile = &mut self.hsm.profile;
        let profile = (!token::is_shipped(profile)).then_some(profile);
        let optional = self
            .hsm
            .worker_binary
            .iter_mut()
            .chain(profile)
            .chain(&mut self.hsm.token_dir)
            .chain(&mut self.hsm.state_dir)
            .chain(&mut self.hsm.socket_dir)
            .chain(&mut self.database.password_file)
            .chain(self.token.iter_mut().flat_map(Token::paths));
        let cas = self.cas.iter_mut().flat_map(Ca::paths);
        let telemetry = self.telemetry.paths();
        let mirrors = self.revocation.mirror.iter_mut();
        let issuers = mirrors.map(|m| &mut m.issuer_file);
        let anchors = self.attestation.paths();
        let optional = optional.chain(cas).chain(telemetry).chain(issuers);
        let optional = optional.chain(anchors);
        for path in all.into_iter().chain(optional) {
            *path = dir.join(&*path);
        }
        Ok(())
    }

    fn check_files(&self) -> Result<(), ServerError> {
        self.files().into_iter().try_for_each(|(_, found)| found)
    }
}

fn line_at(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().get(..offset).unwrap_or_default();
    before
        .iter()
        .filter(|b| **b == b'\n')
        .count()
        .saturating_add(1)
}

/// The line a key stands on: good enough for keys whose name occurs once.
fn line_of(text: &str, key: &str) -> Option<usize> {
    text.lines()
        .position(|l| {
            l.trim_start()
                .strip_prefix(key)
                .is_some_and(|rest| rest.trim_start().starts_with('='))
        })
        .map(|n| n.saturating_add(1))
}

#[cfg(test)]
mod tests;
