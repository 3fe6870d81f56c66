//! What every command needs: where the service is, who we are, what we remember.

use crate::args::{Global, SignerArg};
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::home::{Home, Pin, Settings, TokenKey, sha256_hex};
use crate::token_words::explained;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_client::{Client, Options, Web, dto, oidc};
use countersign_core::ports::rows::OPERATOR_REALM_NAME;
use countersign_core::{Clock as _, SignerLabel, SystemClock, TenantName};
use countersign_signing_log::VerifierKey;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Time for one request to an issuer or timestamp authority.
const WEB_TIMEOUT: Duration = Duration::from_secs(20);

/// The surroundings of a command.
#[derive(Debug)]
pub struct Context {
    /// The options of every command.
    pub global: Global,
    /// What we remember.
    pub home: Home,
    settings: Settings,
}

/// Where an ID token comes from when nobody logged in by hand.
enum Identity {
    /// A token as it is: good for one exchange.
    Token(String),
    /// A GitHub job, which can ask for a fresh token each time.
    GitHub { url: String, bearer: String },
    /// The session that `login` left.
    Session,
}

impl Context {
    /// Reads what is remembered.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn new(global: Global) -> Result<Self> {
        let home = Home::at(global.home.clone())?;
        let settings = home.settings()?;
        Ok(Self {
            global,
            home,
            settings,
        })
    }

    /// The service's URL.
    ///
    /// # Errors
    /// Usage, if there is none.
    pub fn server(&self) -> Result<String> {
        self.global
            .server
            .clone()
            .or_else(|| self.settings.server.clone())
            .map(|s| s.trim_end_matches('/').to_owned())
            .ok_or_else(|| {
                Failure::usage("which service? Give --server, or set COUNTERSIGN_SERVER")
            })
    }

    /// The CA file for the service.
    #[must_use]
    pub fn ca_file(&self) -> Option<PathBuf> {
        let same = self.global.server.is_none() || self.global.server == self.settings.server;
        self.global
            .ca_file
            .clone()
            .or_else(|| self.settings.ca_file.clone().filter(|_| same))
    }

    /// A client without identity.
    ///
    /// # Errors
    /// Usage, for a URL or CA file that is none.
    pub fn client(&self) -> Result<Client> {
        let mut options = Options::new(self.server()?);
        options.ca_file = self.ca_file();
        Ok(Client::new(&options)?)
    }

    /// HTTP to issuers. They have certificates of their own, so the CA file of the service does not
    /// count here.
    ///
    /// # Errors
    /// Usage, for a CA file that is none.
    pub fn web(&self, ca_file: Option<&Path>) -> Result<Web> {
        let from_env = std::env::var_os("COUNTERSIGN_ISSUER_CA_FILE").map(PathBuf::from);
        let ca_file = ca_file.map(Path::to_owned).or(from_env);
        Ok(Web::new(ca_file.as_deref(), WEB_TIMEOUT)?)
    }

    /// The tenant that was named.
    ///
    /// # Errors
    /// Usage, if none was.
    pub fn tenant(&self) -> Result<TenantName> {
        self.global
            .tenant
            .clone()
            .ok_or_else(|| Failure::usage("which tenant? Give --tenant, or set COUNTERSIGN_TENANT"))
    }

    /// Tenant and signer of a signer's name.
    ///
    /// # Errors
    /// Usage, if no tenant was named, or two different ones.
    pub fn signer(&self, arg: &SignerArg) -> Result<(TenantName, SignerLabel)> {
        // The environment may name a default; a full name wins over it, a flag that contradicts it
        // cannot be told apart from that, so the full name wins over both.
        let tenant = match &arg.tenant {
            Some(t) => t.clone(),
            None => self.tenant()?,
        };
        Ok((tenant, arg.signer.clone()))
    }

    /// A client that acts in a tenant: for the CI job we run in, or for whoever logged in.
    ///
    /// # Errors
    /// Refused, if nobody is logged in or the service refuses the token.
    pub fn session(&self, tenant: &TenantName) -> Result<Client> {
        self.session_for(Some(tenant), None)
    }

    /// The same, bound to one signer where the identity can be had again for the next.
    ///
    /// # Errors
    /// As [`Context::session`].
    pub fn signing_session(&self, tenant: &TenantName, signer: &SignerLabel) -> Result<Client> {
        self.session_for(Some(tenant), Some(signer))
    }

    /// Forgets the session of the CI job we run in, when the service no longer knows it.
    ///
    /// # Errors
    /// If the identity cannot be read.
    pub fn forget_signing_session(&self, tenant: &TenantName, signer: &SignerLabel) -> Result<()> {
        let (who, scope) = match self.identity()? {
            Identity::Token(token) => (sha256_hex(token.as_bytes()), ""),
            Identity::GitHub { bearer, .. } => (sha256_hex(bearer.as_bytes()), signer.as_str()),
            Identity::Session => ("session".to_owned(), ""),
        };
        self.home
            .forget_token(&self.token_key(Some(tenant), &who, scope)?);
        Ok(())
    }

    /// A client that acts as operator.
    ///
    /// # Errors
    /// As [`Context::session`].
    pub fn operator(&self) -> Result<Client> {
        self.session_for(None, None)
    }

    /// Exchanges an ID token and remembers the session for the commands after this one.
    ///
    /// # Errors
    /// Refused, with the service's reason.
    pub fn log_in(&self, tenant: Option<&TenantName>, id_token: &str) -> Result<Client> {
        let client = self.client()?;
        let key = self.token_key(tenant, "session", "")?;
        let token = client
            .exchange(id_token.trim(), realm(tenant), &[])
            .map_err(|e| explained(e.into(), id_token))?;
        self.home
            .set_token(&key, &token.access_token, token.expires_in)?;
        self.home.set_settings(&Settings {
            server: Some(self.server()?),
            ca_file: absolute(self.ca_file()),
        })?;
        Ok(client.with_token(token.access_token.into()))
    }

    /// The ID token of the job we run in, if it has one: `COUNTERSIGN_ID_TOKEN`,
    /// `COUNTERSIGN_ID_TOKEN_FILE`, or GitHub's request endpoint.
    ///
    /// # Errors
    /// If the file cannot be read or the endpoint refuses.
    pub fn job_token(
        &self,
        audience: Option<&str>,
        ca_file: Option<&Path>,
    ) -> Result<Option<String>> {
        Ok(match self.identity()? {
            Identity::Token(token) => Some(token),
            Identity::GitHub { url, bearer } => {
                Some(self.github_token(&url, &bearer, audience, ca_file)?)
            }
            Identity::Session => None,
        })
    }

    fn session_for(
        &self,
        tenant: Option<&TenantName>,
        signer: Option<&SignerLabel>,
    ) -> Result<Client> {
        let client = self.client()?;
        let identity = self.identity()?;
        // A token that cannot be had again must serve for every signer of the job.
        let signers: &[SignerLabel] = match (&identity, signer) {
            (Identity::GitHub { .. }, Some(s)) => std::slice::from_ref(s),
            _ => &[],
        };
        let who = match &identity {
            Identity::Token(token) => sha256_hex(token.as_bytes()),
            Identity::GitHub { bearer, .. } => sha256_hex(bearer.as_bytes()),
            Identity::Session => "session".to_owned(),
        };
        let scope = signers.first().map_or("", SignerLabel::as_str);
        let key = self.token_key(tenant, &who, scope)?;
        if let Some(token) = self.home.token(&key)? {
            return Ok(client.with_token(token.into()));
        }
        let id_token = match &identity {
            Identity::Token(token) => token.clone(),
            Identity::GitHub { url, bearer } => self.github_token(url, bearer, None, None)?,
            Identity::Session => return Err(self.nobody(tenant)),
        };
        let token = client
            .exchange(&id_token, realm(tenant), signers)
            .map_err(|e| explained(e.into(), &id_token))?;
        self.home
            .set_token(&key, &token.access_token, token.expires_in)?;
        Ok(client.with_token(token.access_token.into()))
    }

    fn identity(&self) -> Result<Identity> {
        let var = |name: &str| std::env::var(name).ok().filter(|v| !v.trim().is_empty());
        if let Some(token) = var("COUNTERSIGN_ID_TOKEN") {
            return Ok(Identity::Token(token.trim().to_owned()));
        }
        if let Some(path) = var("COUNTERSIGN_ID_TOKEN_FILE") {
            return Ok(Identity::Token(read_token(Path::new(&path))?));
        }
        if let (Some(url), Some(bearer)) = (
            var("ACTIONS_ID_TOKEN_REQUEST_URL"),
            var("ACTIONS_ID_TOKEN_REQUEST_TOKEN"),
        ) {
            return Ok(Identity::GitHub { url, bearer });
        }
        Ok(Identity::Session)
    }

    fn github_token(
        &self,
        url: &str,
        bearer: &str,
        audience: Option<&str>,
        ca_file: Option<&Path>,
    ) -> Result<String> {
        let audience = match audience.map(str::to_owned) {
            Some(a) => a,
            None => std::env::var("COUNTERSIGN_AUDIENCE").or_else(|_| self.server())?,
        };
        let web = self.web(ca_file)?;
        Ok(oidc::github_token(&web, url, bearer, &audience)?)
    }

    fn token_key(&self, tenant: Option<&TenantName>, who: &str, scope: &str) -> Result<TokenKey> {
        Ok(TokenKey {
            server: self.server()?,
            tenant: realm(tenant).map_or("", TenantName::as_str).to_owned(),
            identity: who.to_owned(),
            scope: scope.to_owned(),
        })
    }

    fn nobody(&self, tenant: Option<&TenantName>) -> Failure {
        let (whose, flag) = match realm(tenant) {
            Some(t) => (format!("in tenant {t}"), format!(" --tenant {t}")),
            None => ("as operator".to_owned(), String::new()),
        };
        Failure::new(
            Exit::Refused,
            "not-logged-in",
            format!("nobody is logged in {whose}, or the session has ended"),
        )
        .hint(format!(
            "countersign login{flag} --issuer URL; in CI set COUNTERSIGN_ID_TOKEN"
        ))
    }

    /// The service's keys, checked against what was pinned; pinned now where nothing was.
    ///
    /// # Errors
    /// Bad, if the service shows another log key than it did: that may be an attack.
    pub fn pinned_keys(&self, client: &Client) -> Result<Pin> {
        let server = self.server()?;
        if let Some(pin) = self.home.pin(&server)? {
            return Ok(pin);
        }
        let pin = pin_of(&client.service_keys()?);
        eprintln!(
            "note: pinned the log key of {server} on first use: {}",
            pin.log_public_key
        );
        self.home.set_pin(&server, pin.clone())?;
        Ok(pin)
    }
}

/// A pin of what the service shows now.
#[must_use]
pub fn pin_of(keys: &dto::ServiceKeys) -> Pin {
    Pin {
        log_public_key: keys.log.public_key.clone(),
        statement_sha256: keys.statement.sha256.clone(),
        since: SystemClock.now().seconds(),
    }
}

/// The verifier key of one log: the deployment's log key under the log's own name.
///
/// # Errors
/// If the pinned key or the origin could not be one.
pub fn verifier_key(pin: &Pin, origin: &str) -> Result<VerifierKey> {
    let bad = |what: String| Failure::new(Exit::Internal, "pin", what);
    let key = STANDARD
        .decode(&pin.log_public_key)
        .ok()
        .and_then(|k| <[u8; 32]>::try_from(k).ok())
        .ok_or_else(|| bad("the pinned log key is not 32 bytes of base64".to_owned()))?;
    VerifierKey::new(origin, key).map_err(|e| bad(e.to_string()))
}

/// Reads an ID token from a file, or from standard input where it is called `-`.
///
/// # Errors
/// If it cannot be read.
pub fn read_token(path: &Path) -> Result<String> {
    let text = if path == Path::new("-") {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(path)
    };
    let text = text.map_err(|e| Failure::file(path, &e))?;
    Ok(text.trim().to_owned())
}

/// The operator's realm is what you get without naming a tenant.
fn realm(tenant: Option<&TenantName>) -> Option<&TenantName> {
    tenant.filter(|t| t.as_str() != OPERATOR_REALM_NAME)
}

fn absolute(path: Option<PathBuf>) -> Option<PathBuf> {
    path.map(|p| std::path::absolute(&p).unwrap_or(p))
}
