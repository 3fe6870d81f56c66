//! `countersign-testkit`: the issuer and the timestamp authority as programs, for the demo and for
//! tests written in other languages, and callers in numbers for `make bench`. Each server prints one
//! JSON line when it is ready.

use clap::{Args, Parser, Subcommand};
use countersign_testkit::error::{Error, Result};
use countersign_testkit::issuer::{Algorithm, Issuer, IssuerState, ServeOptions, TokenSpec};
use countersign_testkit::load;
use countersign_testkit::postgres::Postgres;
use countersign_testkit::tpm::{self, SoftwareTpm};
use countersign_testkit::tsa::Tsa;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};

/// An OpenID Connect issuer, a timestamp authority and load for tests. Never for production.
#[derive(Parser)]
#[command(name = "countersign-testkit", version)]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// The OpenID Connect issuer.
    #[command(subcommand)]
    Issuer(IssuerCommand),
    /// The timestamp authority (RFC 3161, on `openssl ts`).
    #[command(subcommand)]
    Tsa(TsaCommand),
    /// A software TPM with tpm2-pkcs11 above it and a resource manager before it, until this program ends.
    /// Its assurance is none.
    Tpm(TpmArgs),
    /// A PostgreSQL server on a socket, until this program ends; prints the URLs of a new database.
    Postgres(PostgresArgs),
    /// Sign as fast as some callers can, on this machine; prints rate and times as JSON.
    Load(load::Options),
}

#[derive(Subcommand)]
enum IssuerCommand {
    /// Serve discovery, keys, device logins and CI job tokens over HTTPS.
    Serve {
        #[command(flatten)]
        at: Listen,
        /// Approve every device login as this subject.
        #[arg(long)]
        auto_approve_sub: Option<String>,
        /// With these authentication methods (`amr`).
        #[arg(long, requires = "auto_approve_sub")]
        auto_approve_amr: Vec<String>,
        /// Its URL (`iss`), if not https://localhost:PORT; `ca.pem`, `server.pem` and
        /// `server-key.pem` for that name must lie in its folder already.
        #[arg(long)]
        public_url: Option<String>,
    },
    /// Print a token.
    Mint {
        #[command(flatten)]
        state: StateDir,
        #[command(flatten)]
        token: Token,
    },
    /// Register a CI job; prints the two variables GitHub gives its jobs, as JSON.
    Job {
        #[command(flatten)]
        state: StateDir,
        #[command(flatten)]
        token: Token,
    },
    /// Approve a device login.
    Approve {
        #[command(flatten)]
        state: StateDir,
        /// The code shown to the person.
        #[arg(long)]
        user_code: String,
        #[command(flatten)]
        token: Token,
    },
    /// New signing keys; the old ones stay published.
    Rotate {
        #[command(flatten)]
        state: StateDir,
    },
}

#[derive(Subcommand)]
enum TsaCommand {
    /// Serve over HTTP.
    Serve {
        #[command(flatten)]
        at: Listen,
    },
}

#[derive(Args)]
struct TpmArgs {
    /// An empty folder for its state; its path must be short (90 bytes).
    #[arg(long)]
    dir: PathBuf,
}

#[derive(Args)]
struct PostgresArgs {
    /// Folder of its data, its log and its socket. It stays; its path must be short (93 bytes).
    #[arg(long)]
    dir: PathBuf,
}

#[derive(Args)]
struct StateDir {
    /// Directory of keys and certificates.
    #[arg(long)]
    state: PathBuf,
}

#[derive(Args)]
struct Listen {
    #[command(flatten)]
    dir: StateDir,
    /// Address; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: String,
}

#[derive(Args)]
struct Token {
    /// Subject.
    #[arg(long)]
    sub: String,
    /// Audience (a device login or job request may name its own).
    #[arg(long, default_value = "")]
    aud: String,
    /// More claims: `name=text`, or `name:=json`.
    #[arg(long = "claim")]
    claims: Vec<String>,
    /// Authentication methods (`amr`), for example `mfa`.
    #[arg(long)]
    amr: Vec<String>,
    /// Leave a claim out.
    #[arg(long)]
    omit: Vec<String>,
    /// Seconds of life.
    #[arg(long, default_value_t = 300)]
    ttl: u32,
    /// Signature algorithm; `none` and `HS256` make bad tokens.
    #[arg(long, value_enum, default_value = "ES256")]
    alg: Algorithm,
}

impl Token {
    fn spec(self) -> Result<TokenSpec> {
        let mut spec = TokenSpec::new(&self.sub, &self.aud);
        spec.ttl = self.ttl;
        spec.alg = self.alg;
        spec.omit = self.omit;
        for claim in &self.claims {
            let (name, value) = parse_claim(claim)?;
            spec = spec.claim(&name, value);
        }
        if !self.amr.is_empty() {
            spec = spec.claim("amr", json!(self.amr));
        }
        Ok(spec)
    }
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("countersign-testkit: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    match cli.what {
        What::Issuer(IssuerCommand::Serve {
            at,
            auto_approve_sub,
            auto_approve_amr,
            public_url,
        }) => {
            let auto_approve = auto_approve_sub.map(|sub| {
                let person = TokenSpec::new(&sub, "");
                if auto_approve_amr.is_empty() {
                    person
                } else {
                    person.claim("amr", json!(auto_approve_amr))
                }
            });
            let options = ServeOptions {
                auto_approve,
                public_url,
            };
            let issuer = Issuer::start(&at.dir.state, &at.listen, options)?;
            ready(json!({"ready": true, "url": issuer.url(), "ca_file": issuer.ca_file()}));
            issuer.wait()
        }
        What::Issuer(IssuerCommand::Mint { state, token }) => {
            println!("{}", open(&state)?.mint(&token.spec()?)?);
            Ok(())
        }
        What::Issuer(IssuerCommand::Job { state, token }) => {
            let (url, bearer) = open(&state)?.add_job(&token.spec()?)?;
            let env = json!({
                "ACTIONS_ID_TOKEN_REQUEST_URL": url,
                "ACTIONS_ID_TOKEN_REQUEST_TOKEN": bearer,
            });
            println!("{env}");
            Ok(())
        }
        What::Issuer(IssuerCommand::Approve {
            state,
            user_code,
            token,
        }) => open(&state)?.approve(&user_code, &token.spec()?),
        What::Issuer(IssuerCommand::Rotate { state }) => open(&state)?.rotate(),
        What::Postgres(args) => {
            let server = Postgres::serve(&args.dir)?;
            let database = server.database()?;
            ready(json!({
                "ready": true,
                "url": database.url,
                "owner_url": database.owner_url,
                "pid": server.pid(),
            }));
            server.wait()
        }
        What::Tpm(args) => {
            let mut tpm = SoftwareTpm::start(&args.dir, Stdio::inherit())?;
            tpm.manage(Stdio::inherit())?;
            let environment: serde_json::Map<_, _> = tpm
                .environment()
                .into_iter()
                .map(|(name, value)| (name.to_owned(), Value::from(value)))
                .collect();
            ready(json!({
                "ready": true,
                "module": tpm.module(),
                "label": tpm::LABEL,
                "pin": tpm::PIN,
                "profile": tpm.profile()?,
                "profile_of_a_chip": tpm.profile_of_a_chip()?,
                "environment": environment,
                "maker": tpm.maker(),
            }));
            tpm.serve()
        }
        What::Load(options) => {
            ready(load::run(&options)?);
            Ok(())
        }
        What::Tsa(TsaCommand::Serve { at }) => {
            let tsa = Tsa::start(&at.dir.state, &at.listen)?;
            ready(json!({"ready": true, "url": tsa.url(), "root_file": tsa.root_file()}));
            tsa.wait()
        }
    }
}

fn open(state: &StateDir) -> Result<IssuerState> {
    IssuerState::open_or_create(&state.state)
}

/// The one line that says: ask me now. A reader that has gone away is not our trouble.
fn ready(line: Value) {
    use std::io::Write as _;
    let mut out = std::io::stdout();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

fn parse_claim(text: &str) -> Result<(String, Value)> {
    let bad = || Error::Token(format!("claim \"{text}\": write name=text or name:=json"));
    let (name, value) = text.split_once('=').ok_or_else(bad)?;
    match name.strip_suffix(':') {
        Some(name) => Ok((
            name.to_owned(),
            serde_json::from_str(value).map_err(|_| bad())?,
        )),
        None => Ok((name.to_owned(), Value::from(value))),
    }
}
