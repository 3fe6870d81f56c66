//! The issuer's directory, and tokens.

use super::keys::{Keys, token};
use crate::error::{Error, Result, at_path};
use crate::tls::{LocalTls, write_secret};
use jsonwebtoken::Header;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// How a token is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "UPPERCASE")]
#[value(rename_all = "verbatim")]
pub enum Algorithm {
    /// ECDSA P-256.
    #[default]
    #[value(name = "ES256")]
    Es256,
    /// RSA 2048, as GitHub and GitLab do.
    #[value(name = "RS256")]
    Rs256,
    /// Not at all: a bad token.
    #[value(name = "none")]
    None,
    /// By HMAC with the public key as secret: the classic confusion, a bad token.
    #[value(name = "HS256")]
    Hs256,
}

/// What a token says. Anything can be overridden, so that bad tokens can be made too.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenSpec {
    /// `sub`.
    pub sub: String,
    /// `aud`.
    pub aud: String,
    /// More claims; they win over those made here (`iss`, `iat`, `exp`, `nbf`, `jti`).
    #[serde(default)]
    pub claims: Map<String, Value>,
    /// Claims to leave out.
    #[serde(default)]
    pub omit: Vec<String>,
    /// Seconds of life; 0 means 300.
    #[serde(default)]
    pub ttl: u32,
    /// How it is signed.
    #[serde(default)]
    pub alg: Algorithm,
    /// A certain key instead of the newest.
    #[serde(default)]
    pub kid: Option<String>,
}

impl TokenSpec {
    /// A good token for `sub` and `aud`.
    #[must_use]
    pub fn new(sub: &str, aud: &str) -> Self {
        Self {
            sub: sub.to_owned(),
            aud: aud.to_owned(),
            ..Self::default()
        }
    }

    /// With one more claim.
    #[must_use]
    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims.insert(name.to_owned(), value.into());
        self
    }

    /// As if the person had used a second factor: `amr` with `mfa` (RFC 8176).
    #[must_use]
    pub fn mfa(self) -> Self {
        self.claim("amr", json!(["pwd", "mfa"]))
    }
}

/// The issuer's directory: keys, TLS, jobs, approvals.
#[derive(Debug, Clone)]
pub struct IssuerState {
    dir: PathBuf,
    tls: LocalTls,
}

impl IssuerState {
    /// Opens the directory, filling it the first time.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Tls`], [`Error::Token`] if keys cannot be made.
    pub fn open_or_create(dir: &Path) -> Result<Self> {
        for d in [dir.to_owned(), dir.join("jobs"), dir.join("approvals")] {
            std::fs::create_dir_all(&d).map_err(at_path(&d))?;
        }
        let state = Self {
            dir: dir.to_owned(),
            tls: LocalTls::open_or_create(dir)?,
        };
        if !state.keys_file().exists() {
            state.store_keys(&Keys::new()?)?;
        }
        Ok(state)
    }

    /// The TLS files.
    #[must_use]
    pub const fn tls(&self) -> &LocalTls {
        &self.tls
    }

    /// The issuer's URL as last served.
    ///
    /// # Errors
    /// [`Error::Io`] if it was never served.
    pub fn url(&self) -> Result<String> {
        let path = self.dir.join("issuer.url");
        let text = std::fs::read_to_string(&path).map_err(at_path(&path))?;
        Ok(text.trim().to_owned())
    }

    pub(super) fn set_url(&self, url: &str) -> Result<()> {
        write_secret(&self.dir.join("issuer.url"), url.as_bytes())
    }

    /// Mints a token.
    ///
    /// # Errors
    /// [`Error::Token`] if it cannot be signed, [`Error::Io`] if the issuer was never served.
    pub fn mint(&self, spec: &TokenSpec) -> Result<String> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let ttl = if spec.ttl == 0 { 300 } else { spec.ttl };
        let mut claims = Map::new();
        claims.insert("iss".into(), json!(self.url()?));
        claims.insert("sub".into(), json!(spec.sub));
        claims.insert("aud".into(), json!(spec.aud));
        claims.insert("iat".into(), json!(now));
        claims.insert("nbf".into(), json!(now));
        claims.insert("exp".into(), json!(now.saturating_add(ttl.into())));
        claims.insert("jti".into(), json!(uuid::Uuid::new_v4()));
        claims.extend(spec.claims.clone());
        for name in &spec.omit {
            claims.remove(name);
        }
        let keys = self.keys()?;
        let kid = spec.kid.as_deref();
        match spec.alg {
            Algorithm::Es256 => sign(jsonwebtoken::Algorithm::ES256, &keys, kid, &claims),
            Algorithm::Rs256 => sign(jsonwebtoken::Algorithm::RS256, &keys, kid, &claims),
            Algorithm::Hs256 => {
                let (kid, _) = keys.signing_key(jsonwebtoken::Algorithm::RS256, kid)?;
                let mut header = Header::new(jsonwebtoken::Algorithm::HS256);
                header.kid = Some(kid);
                let secret = keys.jwks()?.to_string();
                let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
                jsonwebtoken::encode(&header, &claims, &key).map_err(token)
            }
            Algorithm::None => {
                let (kid, _) = keys.signing_key(jsonwebtoken::Algorithm::ES256, kid)?;
                let header = json!({"alg": "none", "typ": "JWT", "kid": kid});
                let signed = sign(jsonwebtoken::Algorithm::ES256, &keys, None, &claims)?;
                let payload = signed.split('.').nth(1).unwrap_or_default();
                Ok(format!(
                    "{}.{payload}.",
                    base64url(header.to_string().as_bytes())
                ))
            }
        }
    }

    /// New signing keys; the old ones stay in the JWKS.
    ///
    /// # Errors
    /// [`Error::Token`], [`Error::Io`].
    pub fn rotate(&self) -> Result<()> {
        let mut keys = self.keys()?;
        keys.rotate()?;
        self.store_keys(&keys)
    }

    /// The public keys.
    ///
    /// # Errors
    /// [`Error::State`], [`Error::Token`].
    pub fn jwks(&self) -> Result<Value> {
        self.keys()?.jwks()
    }

    /// Registers a CI job: its environment for the GitHub-shaped token request, as
    /// (`ACTIONS_ID_TOKEN_REQUEST_URL`, `ACTIONS_ID_TOKEN_REQUEST_TOKEN`).
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn add_job(&self, spec: &TokenSpec) -> Result<(String, String)> {
        let bearer = uuid::Uuid::new_v4().simple().to_string();
        self.write_json(&self.dir.join("jobs").join(&bearer), spec)?;
        let url = format!("{}/actions/idtoken?api-version=2.0", self.url()?);
        Ok((url, bearer))
    }

    pub(super) fn job(&self, bearer: &str) -> Option<TokenSpec> {
        let plain = !bearer.is_empty() && bearer.bytes().all(|b| b.is_ascii_alphanumeric());
        plain.then(|| self.read_json(&self.dir.join("jobs").join(bearer)).ok())?
    }

    /// Approves a device login as this person.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn approve(&self, user_code: &str, person: &TokenSpec) -> Result<()> {
        self.write_json(&self.dir.join("approvals").join(user_code), person)
    }

    pub(super) fn approval(&self, user_code: &str) -> Option<TokenSpec> {
        self.read_json(&self.dir.join("approvals").join(user_code))
            .ok()
    }

    fn keys_file(&self) -> PathBuf {
        self.dir.join("keys.json")
    }

    fn keys(&self) -> Result<Keys> {
        self.read_json(&self.keys_file())
    }

    fn store_keys(&self, keys: &Keys) -> Result<()> {
        self.write_json(&self.keys_file(), keys)
    }

    fn read_json<T: DeserializeOwned>(&self, path: &Path) -> Result<T> {
        let bytes = std::fs::read(path).map_err(at_path(path))?;
        serde_json::from_slice(&bytes).map_err(|e| Error::State {
            path: path.to_owned(),
            message: e.to_string(),
        })
    }

    fn write_json(&self, path: &Path, value: &impl Serialize) -> Result<()> {
        write_secret(path, &serde_json::to_vec(value).map_err(token)?)
    }
}

fn sign(
    alg: jsonwebtoken::Algorithm,
    keys: &Keys,
    kid: Option<&str>,
    claims: &Map<String, Value>,
) -> Result<String> {
    let (kid, key) = keys.signing_key(alg, kid)?;
    let mut header = Header::new(alg);
    header.kid = Some(kid);
    jsonwebtoken::encode(&header, claims, &key).map_err(token)
}

/// base64url without padding (RFC 7515 §2), for the one header jsonwebtoken will not write.
fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk
            .iter()
            .chain([&0, &0])
            .take(3)
            .fold(0u32, |w, b| (w << 8) | u32::from(*b));
        for i in 0..=chunk.len() {
            let index = (word >> (18 - 6 * i)) & 63;
            out.extend(ALPHABET.get(index as usize).map(|b| char::from(*b)));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn base64url_has_the_vectors_of_rfc_4648() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg"),
            ("fo", "Zm8"),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg"),
        ] {
            assert_eq!(super::base64url(bytes.as_bytes()), text);
        }
    }
}
