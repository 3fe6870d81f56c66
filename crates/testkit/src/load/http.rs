//! HTTP/1.1 over one TLS connection that is kept open: as little work as a caller can do, since
//! load and service share the machine's cores.

use crate::error::{Error, Result, at, at_path};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Longest answer, head and body.
const MAX_ANSWER: usize = 1024 * 1024;
/// A caller whose answer takes longer gives up, and the run with it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the service is, and whom to trust for it.
#[derive(Debug, Clone)]
pub struct Target {
    host: String,
    address: SocketAddr,
    tls: Arc<ClientConfig>,
}

impl Target {
    /// A service on this machine.
    ///
    /// # Errors
    /// [`Error::Load`] if the URL is not https on loopback, [`Error::Tls`] for bad roots.
    pub fn new(server: &str, ca_file: &Path) -> Result<Self> {
        let bad = |why: &str| Error::Load(format!("{server}: {why}"));
        let host = server
            .strip_prefix("https://")
            .map(|h| h.trim_end_matches('/'))
            .ok_or_else(|| bad("write it as https://host:port"))?;
        let address = host
            .to_socket_addrs()
            .map_err(at(host))?
            .find(|a| a.ip().is_loopback() && a.is_ipv4())
            .ok_or_else(|| bad("load is for a service on this machine's loopback address"))?;
        let mut roots = RootCertStore::empty();
        for cert in CertificateDer::pem_file_iter(ca_file)
            .map_err(|e| Error::Tls(format!("{}: {e}", ca_file.display())))?
        {
            let cert = cert.map_err(|e| Error::Tls(format!("{}: {e}", ca_file.display())))?;
            roots.add(cert).map_err(tls)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(tls)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            host: host.to_owned(),
            address,
            tls: Arc::new(tls),
        })
    }

    /// A connection, its handshake done with the first request.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Tls`].
    pub fn connect(&self) -> Result<Connection> {
        let stream = TcpStream::connect_timeout(&self.address, PATIENCE).map_err(at("connect"))?;
        stream.set_nodelay(true).map_err(at("connect"))?;
        stream
            .set_read_timeout(Some(PATIENCE))
            .map_err(at("connect"))?;
        let name = self.host.split(':').next().unwrap_or_default().to_owned();
        let name = ServerName::try_from(name).map_err(|e| Error::Tls(e.to_string()))?;
        let client = ClientConnection::new(Arc::clone(&self.tls), name).map_err(tls)?;
        Ok(Connection {
            host: self.host.clone(),
            stream: StreamOwned::new(client, stream),
            out: Vec::new(),
            input: Vec::new(),
        })
    }
}

/// One connection, one request at a time.
#[derive(Debug)]
pub struct Connection {
    host: String,
    stream: StreamOwned<ClientConnection, TcpStream>,
    out: Vec<u8>,
    input: Vec<u8>,
}

impl Connection {
    /// Posts `body`; status and body of the answer. `headers` are whole lines, each with its CRLF.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Load`] for an answer that is not HTTP/1.1 with a length.
    pub fn post(&mut self, path: &str, headers: &str, body: &[u8]) -> Result<(u16, &[u8])> {
        self.out.clear();
        write!(
            self.out,
            "POST {path} HTTP/1.1\r\nhost: {}\r\n{headers}content-length: {}\r\n\r\n",
            self.host,
            body.len()
        )
        .map_err(at("request"))?;
        self.out.extend_from_slice(body);
        self.stream
            .write_all(&self.out)
            .and_then(|()| self.stream.flush())
            .map_err(at("request"))?;
        self.answer()
    }

    fn answer(&mut self) -> Result<(u16, &[u8])> {
        self.input.clear();
        let mut piece = [0; 16 * 1024];
        let mut head = None;
        loop {
            if let Some((status, start, end)) = head
                && self.input.len() >= end
            {
                // Nothing may follow: one request is under way at a time.
                return match self.input.get(start..end) {
                    Some(body) if self.input.len() == end => Ok((status, body)),
                    _ => Err(odd("more bytes than the answer has")),
                };
            }
            let n = self.stream.read(&mut piece).map_err(at("answer"))?;
            if n == 0 {
                return Err(odd("the connection was closed"));
            }
            self.input
                .extend_from_slice(piece.get(..n).unwrap_or_default());
            if self.input.len() > MAX_ANSWER {
                return Err(odd("the answer is too long"));
            }
            if head.is_none() {
                head = read_head(&self.input)?;
            }
        }
    }
}

/// Status, start and end of the body, once the head is whole.
fn read_head(input: &[u8]) -> Result<Option<(u16, usize, usize)>> {
    let Some(at) = input.windows(4).position(|w| w == b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = input
        .get(..at)
        .and_then(|h| std::str::from_utf8(h).ok())
        .ok_or_else(|| odd("its head is not text"))?;
    let mut lines = text.split("\r\n");
    let status = lines
        .next()
        .and_then(|l| l.strip_prefix("HTTP/1.1 "))
        .and_then(|l| l.get(..3))
        .and_then(|s| s.parse().ok())
        .ok_or_else(|| odd("no status"))?;
    let length: usize = lines
        .filter_map(|l| l.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, v)| v.trim().parse().ok())
        .filter(|l| *l <= MAX_ANSWER)
        .ok_or_else(|| odd("no content-length"))?;
    let start = at.saturating_add(4);
    Ok(Some((status, start, start.saturating_add(length))))
}

fn odd(what: &str) -> Error {
    Error::Load(format!("the service's answer: {what}"))
}

fn tls(e: rustls::Error) -> Error {
    Error::Tls(e.to_string())
}

/// Reads a small text file.
pub(super) fn text_of(path: &Path) -> Result<String> {
    std::fs::read_to_string(path)
        .map(|t| t.trim().to_owned())
        .map_err(at_path(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_when_it_is_whole() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nx: y\r\n\r\nhello";
        assert_eq!(read_head(&whole[..20]).unwrap(), None);
        let (status, start, end) = read_head(whole).unwrap().unwrap();
        assert_eq!((status, &whole[start..end]), (200, b"hello".as_slice()));
        assert!(read_head(b"HTTP/1.1 200 OK\r\nx: y\r\n\r\n").is_err());
        assert!(read_head(b"nonsense\r\n\r\n").is_err());
        assert!(read_head(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n").is_err());
    }

    #[test]
    fn load_goes_to_this_machine_alone() {
        let none = Path::new("/nonexistent");
        for bad in ["http://localhost:1", "https://192.0.2.1:443", "localhost"] {
            assert!(
                matches!(Target::new(bad, none), Err(Error::Load(_))),
                "{bad}"
            );
        }
    }
}
