//! HTTP/1.1 byte by byte over TLS: for requests that no decent client sends, and for answers
//! compared to the last byte.

use super::Stack;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

/// Longest wait for the service: what hangs longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection.
pub struct Wire {
    stream: StreamOwned<ClientConnection, TcpStream>,
    /// Read, and of the next answer.
    rest: Vec<u8>,
}

/// An answer as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireAnswer {
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    pub body: Vec<u8>,
}

impl Stack {
    /// A new connection.
    pub fn wire(&self) -> Wire {
        self.wire_with(&[])
    }

    /// A new connection that offers these protocols (ALPN).
    pub fn wire_with(&self, protocols: &[&[u8]]) -> Wire {
        let pem = std::fs::read(self.ca_file()).expect("the service's certificate");
        let mut roots = RootCertStore::empty();
        for cert in CertificateDer::pem_slice_iter(&pem) {
            roots.add(cert.expect("PEM")).expect("a certificate");
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("TLS versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
        let name = ServerName::try_from("localhost").expect("a name");
        let tls = ClientConnection::new(Arc::new(config), name).expect("TLS");
        let tcp = TcpStream::connect(("127.0.0.1", self.port)).expect("a connection");
        tcp.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        tcp.set_write_timeout(Some(PATIENCE)).expect("a time-out");
        tcp.set_nodelay(true).expect("no delay");
        Wire {
            stream: StreamOwned::new(tls, tcp),
            rest: Vec::new(),
        }
    }
}

impl Wire {
    /// Bytes.
    pub fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// How long the service is waited for from now on.
    pub fn patience(&mut self, time: Duration) {
        let tcp = &self.stream.sock;
        tcp.set_read_timeout(Some(time)).expect("a time-out");
    }

    /// Whatever comes next; empty at the end.
    pub fn read_some(&mut self) -> std::io::Result<Vec<u8>> {
        if !self.rest.is_empty() {
            return Ok(std::mem::take(&mut self.rest));
        }
        let mut buffer = [0; 16 * 1024];
        let n = match self.stream.read(&mut buffer) {
            // The peer did not say good-bye in TLS's words.
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => 0,
            other => other?,
        };
        Ok(buffer[..n].to_vec())
    }

    /// The next answer. `None`: the connection ended.
    pub fn answer(&mut self, method: &str) -> Option<WireAnswer> {
        let mut got = Vec::new();
        let end = loop {
            if let Some(at) = got.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            let more = self.read_some().ok().filter(|m| !m.is_empty())?;
            got.extend(more);
        };
        let head = String::from_utf8(got[..end].to_vec()).expect("headers are text");
        let status = head.split(' ').nth(1)?.parse().expect("a status");
        let length = head
            .lines()
            .filter_map(|l| l.split_once(':'))
            .find(|(n, _)| n.eq_ignore_ascii_case("content-length"))
            .map_or(0, |(_, v)| v.trim().parse().expect("a length"));
        let length = if method == "HEAD" { 0 } else { length };
        assert!(!head.to_lowercase().contains("transfer-encoding"), "{head}");
        let mut body = got.split_off(end);
        while body.len() < length {
            let more = self.read_some().ok().filter(|m| !m.is_empty())?;
            body.extend(more);
        }
        self.rest = body.split_off(length);
        Some(WireAnswer { status, head, body })
    }
}

impl WireAnswer {
    /// All of it but the date: what two answers to one question share.
    pub fn text(&self) -> String {
        let head: Vec<_> = self
            .head
            .lines()
            .filter(|l| !l.to_lowercase().starts_with("date:"))
            .collect();
        format!(
            "{}\n{}",
            head.join("\n"),
            String::from_utf8_lossy(&self.body)
        )
    }

    /// The body as JSON, or null.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The problem's code; empty if it is none.
    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }
}

/// The bytes of a request. The content length is given, unless a header line says how long.
pub fn request(method: &str, path: &str, headers: &[String], body: &[u8]) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\n");
    let has = |name: &str| {
        headers
            .iter()
            .any(|h| h.to_lowercase().starts_with(&format!("{name}:")))
    };
    if !has("host") {
        text.push_str("host: localhost\r\n");
    }
    if !has("content-length") && !has("transfer-encoding") && !body.is_empty() {
        text.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    for header in headers {
        text.push_str(header);
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}
