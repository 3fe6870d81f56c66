//! A new deployment: its keys, certificate, configuration, database and bootstrap credential. A
//! database is made here and nowhere else: an empty one in place of a lost one would fork every log.

use crate::ServerError;
use crate::cli::InitArgs;
use crate::config::{Config, module_present};
use crate::database::{self, Database, Place, is_postgres};
use crate::files;
use countersign_core::ports::rows::OPERATOR_REALM;
use countersign_core::ports::store::{ServiceStore as _, TenantStore as _};
use countersign_store::postgres::{self, Settings};
use countersign_store::{PostgresStore, SqliteStore};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use sha2::{Digest as _, Sha256};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

/// Name of the configuration file.
pub const CONFIG: &str = "countersignd.toml";
/// Name of the one-time credential's file.
pub const CREDENTIAL: &str = "bootstrap-credential";
/// SoftHSM's profile, so that a deployment carries its own copy.
const PROFILE: &str = include_str!("../../../hsm-config/softhsm2/profile.toml");
/// Where distributions put SoftHSM.
const SOFTHSM: [&str; 6] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
];

/// What was made.
#[derive(Debug, Clone)]
pub struct Made {
    /// The configuration file.
    pub config: PathBuf,
    /// The certificate that clients trust.
    pub ca_file: PathBuf,
    /// SHA-256 of that certificate, hex.
    pub pin: String,
    /// The file of the one-time credential.
    pub credential: PathBuf,
    /// The sealing key.
    pub sealing_key: PathBuf,
    /// The key that seals the PINs.
    pub worker_key: PathBuf,
    /// Where it will listen.
    pub listen: SocketAddr,
}

/// Makes a development deployment.
///
/// # Errors
/// [`ServerError`]; an existing deployment is never touched.
pub async fn development(args: InitArgs) -> Result<Made, ServerError> {
    let InitArgs {
        dir,
        listen,
        hsm_module,
        ..
    } = args;
    let dir = dir.as_path();
    let module = match hsm_module {
        Some(m) => m,
        None => find_softhsm()?,
    };
    module_present(&module)?;
    let server = match args.database_url {
        Some(url) => Some(Server::of(url, args.database_password_file).await?),
        None => None,
    };
    files::make_private_dir(dir)?;
    let dir = dir.canonicalize().map_err(ServerError::file(dir))?;
    let config = dir.join(CONFIG);
    if config.exists() {
        return Err(ServerError::Exists(config));
    }
    for sub in ["tls", "data", "data/tokens"] {
        files::make_private_dir(&dir.join(sub))?;
    }
    let (cert, key) = self_signed(listen)?;
    let pin = hex::encode(Sha256::digest(&cert.der));
    let ca_file = dir.join("tls/cert.pem");
    files::create(&ca_file, 0o644, cert.pem.as_bytes())?;
    files::create(&dir.join("tls/key.pem"), 0o600, key.as_bytes())?;
    let sealing_key = dir.join("sealing.key");
    files::create(&sealing_key, 0o600, files::random32()?.as_ref())?;
    let worker_key = dir.join("worker.key");
    files::create(&worker_key, 0o600, files::random32()?.as_ref())?;
    files::create(
        &dir.join("softhsm2-profile.toml"),
        0o644,
        PROFILE.as_bytes(),
    )?;
    // The configuration comes last: a folder without one is no deployment yet.
    let text = configuration(listen, &module, server.as_ref());
    files::create(&config, 0o600, text.as_bytes())?;
    let loaded = Config::load(&config)?;
    let credential = dir.join(CREDENTIAL);
    database(&loaded, &credential, None).await?;
    Ok(Made {
        config,
        ca_file,
        pin,
        credential,
        sealing_key,
        worker_key,
        listen,
    })
}

/// Makes the database of a configuration, and the one-time credential that registers the operator.
/// On PostgreSQL the schema is made by `owner`, where that is not the service's own role.
///
/// # Errors
/// [`ServerError::Exists`] if there is a database, and what opening it says.
pub async fn database(
    config: &Config,
    credential: &Path,
    owner: Option<&Settings>,
) -> Result<(), ServerError> {
    if credential.exists() {
        return Err(ServerError::Exists(credential.to_owned()));
    }
    let place = Place::of(config)?;
    if let Place::Sqlite(path) = &place
        && path.exists()
    {
        return Err(ServerError::Exists(path.clone()));
    }
    files::make_private_dir(&config.data_dir)?;
    let database = match place {
        Place::Sqlite(path) => Database::Sqlite(Arc::new(SqliteStore::open(&path, true).await?)),
        Place::Postgres(settings) => {
            // Before anything is made: whether it could be used.
            PostgresStore::check(&settings).await?;
            let made = PostgresStore::create(owner.unwrap_or(&settings)).await;
            let store = match made {
                Ok(()) => PostgresStore::open(settings).await?,
                // An earlier call may have ended in between.
                Err(e @ postgres::OpenError::Exists { .. }) => unused(settings).await?.ok_or(e)?,
                Err(e) => return Err(e.into()),
            };
            Database::Postgres(Arc::new(store))
        }
    };
    let secret = Zeroizing::new(hex::encode(files::random32()?.as_ref()));
    let hash: [u8; 32] = Sha256::digest(secret.as_bytes()).into();
    database
        .store()
        .offer_bootstrap(hash)
        .await
        .map_err(|e| ServerError::Internal(format!("the credential was not stored: {e}")))?;
    database.close().await;
    let line = Zeroizing::new(format!("{}\n", *secret));
    files::create(credential, 0o600, line.as_bytes())
}

/// The database if nothing was ever done with it, not even a credential offered.
async fn unused(settings: Settings) -> Result<Option<PostgresStore>, ServerError> {
    let store = PostgresStore::open(settings).await?;
    let read = |e| ServerError::Internal(format!("the database cannot be read: {e}"));
    let offered = store.bootstrap().await.map_err(read)?.is_some();
    let used = store.tenant(OPERATOR_REALM).await.map_err(read)?.is_some();
    Ok((!offered && !used).then_some(store))
}

/// Brings the schema of a PostgreSQL database up to this release, as its owner.
///
/// # Errors
/// [`ServerError::Url`] where the database is a SQLite file, which is brought up to date at start.
pub async fn migrate(config: &Config, owner: Option<&Settings>) -> Result<(), ServerError> {
    match Place::of(config)? {
        Place::Sqlite(_) => Err(ServerError::Url(
            "the database is a SQLite file: it is brought up to date at start".to_owned(),
        )),
        Place::Postgres(settings) => Ok(PostgresStore::migrate(owner.unwrap_or(&settings)).await?),
    }
}

/// What `init` tells, loudly where it matters.
#[must_use]
pub fn report(made: &Made) -> String {
    let Made {
        config,
        ca_file,
        pin,
        credential,
        sealing_key,
        worker_key,
        listen,
    } = made;
    let (config, ca_file) = (config.display(), ca_file.display());
    let (credential, sealing, worker) = (
        credential.display(),
        sealing_key.display(),
        worker_key.display(),
    );
    let port = listen.port();
    format!(
        "A development deployment of Countersign was made.

  configuration        {config}
  certificate (trust)  {ca_file}
  its SHA-256 pin      {pin}
  one-time credential  {credential}

  !! BACK UP THE KEY FILES NOW. Losing {sealing}
  !! loses every secret that is sealed under it (log key, statement key, service tokens), and losing
  !! {worker}
  !! loses every PIN, and so every key in every token. Neither is in the database or its backup.
  !!
  !!   install -m 0600 {sealing} {worker} /a/safe/place/

Next:
  countersignd serve --config {config}
  countersign bootstrap --server https://localhost:{port} --ca-file {ca_file} \\
    --credential-file {credential} \\
    --issuer https://YOUR-ISSUER --subject YOUR-SUBJECT --audience YOUR-AUDIENCE
"
    )
}

/// A database on a PostgreSQL server.
struct Server {
    url: String,
    password_file: Option<PathBuf>,
}

impl Server {
    /// That of a URL, if it could be used.
    async fn of(url: String, password_file: Option<PathBuf>) -> Result<Self, ServerError> {
        if !is_postgres(&url) {
            return Err(ServerError::Url(format!(
                "`{url}` is no URL of PostgreSQL, such as postgres://me@db.example/countersign"
            )));
        }
        let absolute = |p: PathBuf| p.canonicalize().map_err(ServerError::file(&p));
        let password_file = password_file.map(absolute).transpose()?;
        let settings = database::settings(&url, password_file.as_deref())?;
        // Before anything is made.
        PostgresStore::check(&settings).await?;
        Ok(Self { url, password_file })
    }
}

fn find_softhsm() -> Result<PathBuf, ServerError> {
    SOFTHSM
        .iter()
        .map(Path::new)
        .find(|p| p.is_file())
        .map(Path::to_owned)
        .ok_or_else(|| ServerError::ModuleMissing {
            module: "SoftHSM (libsofthsm2.so)".into(),
            advice: "run: apt-get install softhsm2, or say where it is with --hsm-module",
        })
}

struct Certificate {
    pem: String,
    der: Vec<u8>,
}

/// A certificate for this machine alone. It is its own trust anchor: there is no CA key that could
/// make others.
fn self_signed(listen: SocketAddr) -> Result<(Certificate, Zeroizing<String>), ServerError> {
    let made = || -> Result<_, rcgen::Error> {
        let mut params =
            CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into(), "::1".into()])?;
        if !listen.ip().is_loopback() && !listen.ip().is_unspecified() {
            params
                .subject_alt_names
                .push(SanType::IpAddress(listen.ip()));
        }
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, "Countersign development");
        params.distinguished_name = name;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let cert = params.self_signed(&key)?;
        let der = cert.der().to_vec();
        Ok((
            Certificate {
                pem: cert.pem(),
                der,
            },
            Zeroizing::new(key.serialize_pem()),
        ))
    };
    made().map_err(|e| ServerError::Tls(e.to_string()))
}

fn configuration(listen: SocketAddr, module: &Path, server: Option<&Server>) -> String {
    let quoted = |text: String| toml::Value::String(text).to_string();
    let module = quoted(module.display().to_string());
    let database = match server {
        None => String::new(),
        Some(Server { url, password_file }) => {
            let file = password_file.as_ref().map_or_else(String::new, |f| {
                format!("password_file = {}\n", quoted(f.display().to_string()))
            });
            format!("[database]\nurl = {}\n{file}\n", quoted(url.clone()))
        }
    };
    format!(
        r#"# A development deployment of Countersign. `countersignd check-config` reads it and says what is wrong.

listen = "{listen}"

# Stands in the origin of every log, for ever: it must not change once a tenant exists.
origin = "localhost:{port}"

data_dir = "data"

# Losing this file loses every secret sealed under it. It is never in the database or its backup.
sealing_key_file = "sealing.key"

# Issuers on loopback, demo CAs that take software keys. Never in production.
development = true

[tls]
cert_file = "tls/cert.pem"
key_file = "tls/key.pem"

[hsm]
module = {module}
profile = "softhsm2-profile.toml"
# Seals the tokens' PINs.
worker_key_file = "worker.key"

{database}[log]
format = "json"
filter = "info"

# Certificates are looked up in their CAs' revocation lists: docs/operators/revocation.md.
#
# [revocation]
# poll = "15m"
# max_age = "24h"
# warn_before = "30d"

# A CA with a connector:
#
# [[cas]]
# name = "demo"
# url = "https://127.0.0.1:9443"
# ca_file = "/path/to/ca.pem"
# takes_software = true
"#,
        port = listen.port(),
    )
}

#[cfg(test)]
mod tests;
