//! HTTPS with bounds: what every request of ours goes through.

use crate::error::{ApiError, Error, Result};
use serde::de::DeserializeOwned;
use std::fmt;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use ureq::http::{Method, Request, Uri, header};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

/// Where Debian, Ubuntu and Alpine keep the system's roots; the second is Fedora's.
const SYSTEM_ROOTS: [&str; 2] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
];

/// An HTTP agent with our rules: rustls on aws-lc, roots from one file, no redirects, time-outs.
#[derive(Debug, Clone)]
pub struct Web {
    agent: ureq::Agent,
}

/// An answer, read whole.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type` without parameters.
    pub content_type: String,
    /// `X-Request-Id`, or empty.
    pub request_id: String,
    /// `Retry-After` in seconds.
    pub retry_after_s: Option<u64>,
    /// The body.
    pub body: Vec<u8>,
    /// Who answered.
    pub host: String,
}

impl Web {
    /// An agent that trusts the certificates in `ca_file`, or the system's where none is given. On a
    /// system without any it trusts nobody: plain http still works.
    ///
    /// # Errors
    /// [`Error::Usage`] if the file cannot be read or holds no certificate.
    pub fn new(ca_file: Option<&Path>, timeout: Duration) -> Result<Self> {
        let roots = match ca_file {
            Some(path) => read_roots(path)?,
            None => SYSTEM_ROOTS
                .iter()
                .map(Path::new)
                .find(|p| p.exists())
                .map(read_roots)
                .transpose()?
                .unwrap_or_default(),
        };
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::new_with_certs(&roots))
            .unversioned_rustls_crypto_provider(Arc::new(
                rustls::crypto::aws_lc_rs::default_provider(),
            ))
            .build();
        let agent = ureq::Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .max_redirects(0)
            // Small requests that wait for each other: Nagle would add 40 ms to each.
            .no_delay(true)
            .timeout_connect(Some(Duration::from_secs(10).min(timeout)))
            .timeout_global(Some(timeout))
            .max_idle_connections_per_host(8)
            .user_agent(concat!("countersign/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        Ok(Self { agent })
    }

    /// One request, one answer of at most `limit` bytes, whatever its status.
    ///
    /// # Errors
    /// Everything but an HTTP status: [`Error::Unreachable`], [`Error::Timeout`], [`Error::Tls`],
    /// [`Error::TooLarge`], [`Error::Usage`] for a URL that is none.
    pub fn send(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
        limit: u64,
    ) -> Result<Answer> {
        self.send_within(None, method, url, headers, body, limit)
    }

    /// As [`Web::send`], with another time-out than the agent's.
    ///
    /// # Errors
    /// As [`Web::send`].
    pub(crate) fn send_within(
        &self,
        timeout: Option<Duration>,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
        limit: u64,
    ) -> Result<Answer> {
        let bad = |message: String| Error::Usage {
            field: "url",
            message: format!("{url}: {message}"),
        };
        let uri: Uri = url.parse().map_err(|e| bad(format!("{e}")))?;
        let host = uri
            .authority()
            .map_or_else(String::new, ToString::to_string);
        let method = Method::from_bytes(method.as_bytes()).map_err(|e| bad(e.to_string()))?;
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let run = match body {
            Some(bytes) => request
                .body(bytes)
                .map_err(|e| bad(e.to_string()))
                .map(|r| self.run(r, timeout)),
            None => request
                .body(())
                .map_err(|e| bad(e.to_string()))
                .map(|r| self.run(r, timeout)),
        }?;
        let mut response = run.map_err(|e| transport(&host, e))?;
        let text = |name: header::HeaderName| {
            response
                .headers()
                .get(name)
                .and_then(|v| v.to_str().ok())
                .unwrap_or("")
                .to_owned()
        };
        let content_type = text(header::CONTENT_TYPE);
        let mut answer = Answer {
            status: response.status().as_u16(),
            content_type: content_type
                .split(';')
                .next()
                .unwrap_or("")
                .trim()
                .to_owned(),
            request_id: text(header::HeaderName::from_static("x-request-id")),
            retry_after_s: text(header::RETRY_AFTER).parse().ok(),
            body: Vec::new(),
            host: host.clone(),
        };
        response
            .body_mut()
            .with_config()
            .limit(limit.saturating_add(1))
            .reader()
            .take(limit.saturating_add(1))
            .read_to_end(&mut answer.body)
            .map_err(|e| match e.get_ref().and_then(|i| i.downcast_ref()) {
                Some(ureq::Error::BodyExceedsLimit(_)) => Error::TooLarge {
                    host: host.clone(),
                    limit,
                },
                Some(ureq::Error::Timeout(_)) => Error::Timeout { host: host.clone() },
                _ => Error::Unreachable {
                    host: host.clone(),
                    message: e.to_string(),
                },
            })?;
        if answer.body.len() as u64 > limit {
            return Err(Error::TooLarge { host, limit });
        }
        Ok(answer)
    }

    fn run<S: ureq::AsSendBody>(
        &self,
        request: Request<S>,
        timeout: Option<Duration>,
    ) -> std::result::Result<ureq::http::Response<ureq::Body>, ureq::Error> {
        match timeout {
            None => self.agent.run(request),
            Some(_) => self.agent.run(
                self.agent
                    .configure_request(request)
                    .timeout_global(timeout)
                    .build(),
            ),
        }
    }

    /// A plain GET that wants a 200 (issuer documents).
    ///
    /// # Errors
    /// As [`Web::send`], and [`Error::Api`] for another status.
    pub fn get(&self, url: &str, limit: u64) -> Result<Answer> {
        self.send("GET", url, &[], None, limit)?.success()
    }

    /// A POST of bytes that wants a 200: RFC 3161 requests go this way. The URL may be plain http,
    /// since a timestamp proves itself.
    ///
    /// # Errors
    /// As [`Web::get`].
    pub fn post(&self, url: &str, content_type: &str, body: &[u8], limit: u64) -> Result<Answer> {
        self.send(
            "POST",
            url,
            &[("content-type", content_type)],
            Some(body),
            limit,
        )?
        .success()
    }
}

impl Answer {
    /// The answer itself where the status says success, else the problem.
    ///
    /// # Errors
    /// [`Error::Api`].
    pub fn success(self) -> Result<Self> {
        if (200..300).contains(&self.status) {
            return Ok(self);
        }
        let parsed = (self.content_type == "application/problem+json")
            .then(|| serde_json::from_slice::<ApiError>(&self.body).ok())
            .flatten();
        let mut error = parsed
            .unwrap_or_else(|| ApiError::without_document(self.status, self.request_id.clone()));
        // The status line is what the client acts on, whatever the document says.
        error.status = self.status;
        error.retry_after_s = self.retry_after_s.or(error.retry_after_s);
        Err(Error::Api(Box::new(error)))
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// [`Error::BadAnswer`].
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body).map_err(|e| self.bad(&e))
    }

    /// The body as text.
    ///
    /// # Errors
    /// [`Error::BadAnswer`].
    pub fn text(self) -> Result<String> {
        let bad = |e: &dyn fmt::Display| self.bad(e);
        match std::str::from_utf8(&self.body) {
            Ok(_) => Ok(String::from_utf8_lossy(&self.body).into_owned()),
            Err(e) => Err(bad(&e)),
        }
    }

    fn bad(&self, e: &dyn fmt::Display) -> Error {
        Error::BadAnswer {
            host: self.host.clone(),
            message: e.to_string(),
        }
    }
}

fn read_roots(path: &Path) -> Result<Vec<ureq::tls::Certificate<'static>>> {
    let pem = std::fs::read(path).map_err(|e| usage(&format!("{}: {e}", path.display())))?;
    let roots: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(c)) => Some(c),
            _ => None,
        })
        .collect();
    if roots.is_empty() {
        return Err(usage(&format!("{}: no certificate in it", path.display())));
    }
    Ok(roots)
}

fn usage(message: &str) -> Error {
    Error::Usage {
        field: "ca_file",
        message: message.to_owned(),
    }
}

/// Sorts the agent's errors by what a caller can do about them.
fn transport(host: &str, error: ureq::Error) -> Error {
    let host = host.to_owned();
    match error {
        ureq::Error::Timeout(_) => Error::Timeout { host },
        ureq::Error::Rustls(e) => Error::Tls {
            host,
            message: e.to_string(),
        },
        ureq::Error::Tls(e) => Error::Tls {
            host,
            message: e.to_owned(),
        },
        ureq::Error::Io(e) => match e.get_ref().and_then(|i| i.downcast_ref::<rustls::Error>()) {
            // A handshake that fails surfaces as an I/O error around the TLS one.
            Some(tls) => Error::Tls {
                host,
                message: tls.to_string(),
            },
            None => Error::Unreachable {
                host,
                message: e.to_string(),
            },
        },
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => Error::Unreachable {
            host,
            message: error.to_string(),
        },
        other => Error::BadAnswer {
            host,
            message: other.to_string(),
        },
    }
}
