//! Fetching an issuer's documents without being led anywhere: https only, no redirects, no private
//! addresses, small answers, a deadline. The URL comes from a registered issuer, never from a token.

use countersign_core::address::is_public;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, Url, redirect};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Largest document taken.
pub const MAX_DOCUMENT: usize = 256 * 1024;

/// What may be fetched beyond https at public addresses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FetchPolicy {
    /// Plain http to loopback: development only.
    pub loopback_http: bool,
    /// Addresses of private networks: development, and installations whose issuers stand inside.
    pub private_addresses: bool,
}

/// Why a document was not fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The URL is not one we fetch. No retry.
    #[error("{url}: {reason}")]
    Url {
        /// The URL.
        url: String,
        /// Why.
        reason: &'static str,
    },
    /// The issuer's CA certificates cannot be read. No retry.
    #[error("ca_pem holds no readable certificate")]
    CaPem,
    /// No connection, a time-out, a refused certificate. A retry can help.
    #[error("{url}: {detail}")]
    Transport {
        /// The URL.
        url: String,
        /// What happened.
        detail: String,
    },
    /// Another status than 200. A retry can help.
    #[error("{url} answered {status}")]
    Status {
        /// The URL.
        url: String,
        /// The status.
        status: u16,
    },
    /// Not JSON, or too large. A retry cannot help.
    #[error("{url}: {reason}")]
    Document {
        /// The URL.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// A document and how long its server says it may be kept.
#[derive(Debug)]
pub struct Fetched {
    /// The document.
    pub json: Value,
    /// `Cache-Control: max-age`.
    pub max_age: Option<Duration>,
}

/// An HTTP client for one issuer.
#[derive(Debug)]
pub struct Fetcher {
    client: Client,
    policy: FetchPolicy,
}

impl Fetcher {
    /// A client that trusts `ca_pem` alone, or the system's roots where it is `None`.
    ///
    /// # Errors
    /// [`FetchError::CaPem`], or [`FetchError::Transport`] if no client can be made.
    pub fn new(ca_pem: Option<&str>, policy: FetchPolicy) -> Result<Self, FetchError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut builder = Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .connect_timeout(Duration::from_secs(3))
            .timeout(Duration::from_secs(8))
            .pool_max_idle_per_host(1)
            .user_agent(concat!("countersignd/", env!("CARGO_PKG_VERSION")));
        if !policy.private_addresses {
            builder = builder.dns_resolver(PublicOnly);
        }
        if let Some(pem) = ca_pem {
            let mut roots = rustls::RootCertStore::empty();
            for cert in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                let cert = cert.map_err(|_| FetchError::CaPem)?;
                roots.add(cert).map_err(|_| FetchError::CaPem)?;
            }
            if roots.is_empty() {
                return Err(FetchError::CaPem);
            }
            let tls = rustls::ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .map_err(|e| transport("TLS", &e))?
                .with_root_certificates(roots)
                .with_no_client_auth();
            builder = builder.tls_backend_preconfigured(tls);
        } else {
            // For the system's roots the HTTP library asks for the process's provider. A second
            // installation changes nothing and is no error.
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        }
        let client = builder.build().map_err(|e| transport("client", &e))?;
        Ok(Self { client, policy })
    }

    /// Fetches a JSON document.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn json(&self, url: &str) -> Result<Fetched, FetchError> {
        let parsed = check_url(url, self.policy)?;
        let mut response = self
            .client
            .get(parsed)
            .header("accept", "application/json")
            .send()
            .await
            .map_err(|e| transport(url, &e))?;
        if response.status() != http::StatusCode::OK {
            return Err(FetchError::Status {
                url: url.to_owned(),
                status: response.status().as_u16(),
            });
        }
        let max_age = response
            .headers()
            .get(http::header::CACHE_CONTROL)
            .and_then(|v| v.to_str().ok())
            .and_then(max_age);
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| transport(url, &e))? {
            if body.len().saturating_add(chunk.len()) > MAX_DOCUMENT {
                return Err(FetchError::Document {
                    url: url.to_owned(),
                    reason: "larger than 256 KiB",
                });
            }
            body.extend_from_slice(&chunk);
        }
        let json = serde_json::from_slice(&body).map_err(|_| FetchError::Document {
            url: url.to_owned(),
            reason: "not JSON",
        })?;
        Ok(Fetched { json, max_age })
    }
}

fn transport(url: &str, e: &dyn std::error::Error) -> FetchError {
    // The outer error says "error sending request"; the cause below says why.
    let mut detail = e.to_string();
    let mut cause = e.source();
    while let Some(c) = cause {
        detail = c.to_string();
        cause = c.source();
    }
    FetchError::Transport {
        url: url.to_owned(),
        detail,
    }
}

fn max_age(cache_control: &str) -> Option<Duration> {
    cache_control
        .split(',')
        .find_map(|d| d.trim().strip_prefix("max-age="))
        .and_then(|s| s.parse().ok())
        .map(Duration::from_secs)
}

/// Whether a URL is one we fetch at all; addresses behind names are checked when they are resolved.
fn check_url(url: &str, policy: FetchPolicy) -> Result<Url, FetchError> {
    let refuse = |reason| FetchError::Url {
        url: url.chars().take(200).collect(),
        reason,
    };
    let parsed = Url::parse(url).map_err(|_| refuse("not a URL"))?;
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err(refuse("a URL with a user name is not fetched"));
    }
    let host = parsed.host_str().ok_or_else(|| refuse("no host"))?;
    let literal = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>()
        .ok();
    let loopback = host == "localhost" || literal.is_some_and(|ip| ip.is_loopback());
    match parsed.scheme() {
        "https" => {}
        "http" if policy.loopback_http && loopback => {}
        "http" => {
            return Err(refuse(
                "plain http is fetched from loopback in development only",
            ));
        }
        _ => return Err(refuse("only https is fetched")),
    }
    if !policy.private_addresses && (loopback || literal.is_some_and(|ip| !is_public(ip))) {
        return Err(refuse("an address of a private network is not fetched"));
    }
    Ok(parsed)
}

/// Resolves names to public addresses only, so that an issuer's name cannot point us inside.
#[derive(Debug)]
struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0))
                .await?
                .filter(|a| is_public(a.ip()))
                .collect();
            if found.is_empty() {
                return Err("no public address behind this name".into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_to_public_hosts_is_fetched_in_production() {
        let policy = FetchPolicy::default();
        for bad in [
            "http://issuer.example",
            "file:///etc/passwd",
            "https://127.0.0.1/x",
            "https://[::1]/x",
            "https://[::ffff:10.0.0.1]/x",
            "https://localhost/x",
            "https://2130706433/x",
            "https://user:pw@issuer.example",
            "no url",
        ] {
            assert!(check_url(bad, policy).is_err(), "{bad}");
        }
        assert!(check_url("https://issuer.example/.well-known/x", policy).is_ok());
    }

    #[test]
    fn plain_http_is_for_loopback_in_development() {
        let policy = FetchPolicy {
            loopback_http: true,
            private_addresses: true,
        };
        assert!(check_url("http://127.0.0.1:1/x", policy).is_ok());
        assert!(check_url("http://localhost:1/x", policy).is_ok());
        assert!(check_url("http://issuer.example/x", policy).is_err());
        assert!(check_url("http://10.0.0.1/x", policy).is_err());
    }

    #[test]
    fn max_age_is_read() {
        assert_eq!(
            max_age("public, max-age=300, must-revalidate"),
            Some(Duration::from_secs(300))
        );
        assert_eq!(max_age("no-store"), None);
    }
}
