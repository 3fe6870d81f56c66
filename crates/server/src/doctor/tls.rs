//! The service's certificate, and the service itself if it runs.

use super::{Check, Status, spell};
use crate::config::{Config, FileOf};
use crate::files;
use countersign_core::{Clock as _, Micros, SystemClock};
use countersign_x509::Certificate;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A certificate that ends sooner should have been renewed, unless it lives for a few weeks only.
const SOON: Duration = Duration::from_secs(14 * 86_400);
/// A service that does not answer for so long hangs.
const WITHIN: Duration = Duration::from_secs(10);
/// Most of an answer that is read.
const MOST: u64 = 64 * 1024;

/// Certificate and key: they fit, and their time has come and is not over.
pub(super) fn files(config: &Config) -> Check {
    let name = "tls";
    let (cert, key) = (&config.tls.cert_file, &config.tls.key_file);
    let wrong = config
        .files()
        .into_iter()
        .filter(|(of, _)| *of == FileOf::Tls)
        .find_map(|(_, found)| found.err());
    if let Some(e) = wrong.or_else(|| crate::tls::server_config(cert, key).err()) {
        return Check::fail(name, e.to_string()).advice("put certificate chain and key in place");
    }
    match chain(cert) {
        Ok(chain) => dates(&chain, SystemClock.now()),
        Err(why) => Check::warn(
            name,
            format!("{}: its dates cannot be read: {why}", cert.display()),
        ),
    }
}

fn chain(path: &Path) -> Result<Vec<Certificate>, String> {
    let pem = files::read_text(path).map_err(|e| e.to_string())?;
    Certificate::chain_from_pem(&pem).map_err(|e| e.to_string())
}

fn dates(chain: &[Certificate], now: Micros) -> Check {
    let name = "tls";
    let renew = "renew the certificate, then restart the service";
    for (n, c) in chain.iter().enumerate() {
        let which = if n == 0 {
            "the certificate"
        } else {
            "a CA's certificate in the file"
        };
        if now > c.not_after() {
            let ago = spell(c.not_after().apart(now));
            return Check::fail(name, format!("{which} ended {ago} ago")).advice(renew);
        }
        if now < c.not_before() {
            let until = spell(c.not_before().apart(now));
            return Check::fail(name, format!("{which} begins in {until}"))
                .advice("is this machine's clock right?");
        }
        let left = c.not_after().apart(now);
        let life = c.not_after().apart(c.not_before());
        if left < SOON.min(life / 4) {
            return Check::warn(name, format!("{which} ends in {}", spell(left))).advice(renew);
        }
    }
    let Some(end) = chain.iter().map(Certificate::not_after).min() else {
        return Check::fail(name, "the file holds no certificate").advice(renew);
    };
    Check::ok(
        name,
        format!(
            "certificate and key fit; good for another {}",
            spell(end.apart(now))
        ),
    )
}

/// Whether the service runs, as its own route says; and that it runs.
pub(super) async fn service(config: &Config) -> (Check, bool) {
    let name = "service";
    let listen = config.listen;
    let expected = chain(&config.tls.cert_file)
        .ok()
        .and_then(|c| c.first().map(|c| c.der().to_vec()));
    let asked = tokio::task::spawn_blocking(move || ask(listen, expected)).await;
    match asked {
        Ok(Asked::Nobody) => (
            Check::ok(name, format!("does not run: nobody listens on {listen}")),
            false,
        ),
        Ok(Asked::Other(why)) => (
            Check::fail(name, format!("{listen}: {why}"))
                .advice("who listens there? Is it this service, and does it hang?"),
            true,
        ),
        Ok(Asked::OtherCertificate) => (
            Check::warn(
                name,
                format!("runs on {listen} with another certificate than the file's"),
            )
            .advice("restart it: a certificate is read at the start"),
            true,
        ),
        Ok(Asked::Said { status, body }) => (said(listen, status, &body), true),
        Err(e) => (Check::fail(name, e.to_string()), false),
    }
}

fn said(listen: SocketAddr, status: u16, body: &str) -> Check {
    let name = "service";
    let ready: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    let member = |m: &str| {
        ready
            .get(m)
            .and_then(|v| v.as_str())
            .unwrap_or("?")
            .to_owned()
    };
    match status {
        200 => Check::ok(name, format!("runs on {listen} and is ready")),
        503 => Check::new(
            name,
            Status::Fail,
            format!(
                "runs on {listen} and is not ready: database {}, node {}",
                member("database"),
                member("node")
            ),
        )
        .advice("docs/operators/incident.md"),
        other => Check::fail(name, format!("runs on {listen}; /readyz answers {other}"))
            .advice("is this Countersign?"),
    }
}

enum Asked {
    Nobody,
    Other(String),
    OtherCertificate,
    Said { status: u16, body: String },
}

/// `GET /readyz`, from the certificate of our own file and no other.
fn ask(listen: SocketAddr, expected: Option<Vec<u8>>) -> Asked {
    let address = if listen.ip().is_unspecified() {
        let loopback: IpAddr = match listen.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        SocketAddr::new(loopback, listen.port())
    } else {
        listen
    };
    let stream = match TcpStream::connect_timeout(&address, WITHIN) {
        Ok(stream) => stream,
        Err(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => return Asked::Nobody,
        Err(e) => return Asked::Other(e.to_string()),
    };
    let Some(expected) = expected else {
        return Asked::Other(
            "somebody listens; it was not asked, since our certificate cannot be read".into(),
        );
    };
    match talk(stream, address, expected) {
        Ok(asked) => asked,
        Err(e) => Asked::Other(e.to_string()),
    }
}

fn talk(stream: TcpStream, address: SocketAddr, expected: Vec<u8>) -> std::io::Result<Asked> {
    stream.set_read_timeout(Some(WITHIN))?;
    stream.set_write_timeout(Some(WITHIN))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let only = Arc::new(OnlyOurs {
        expected,
        another: Mutex::new(false),
        provider: Arc::clone(&provider),
    });
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(std::io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&only) as _)
        .with_no_client_auth();
    let name = ServerName::IpAddress(address.ip().into());
    let connection =
        ClientConnection::new(Arc::new(client), name).map_err(std::io::Error::other)?;
    let mut tls = StreamOwned::new(connection, stream);
    let request = b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    if let Err(e) = tls.write_all(request) {
        if *only.another.lock().unwrap_or_else(PoisonError::into_inner) {
            return Ok(Asked::OtherCertificate);
        }
        return Err(e);
    }
    let mut answer = Vec::new();
    match tls.take(MOST).read_to_end(&mut answer) {
        Ok(_) => {}
        // Closed without a goodbye, with the answer in hand.
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof && !answer.is_empty() => {}
        Err(e) => return Err(e),
    }
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|s| s.parse().ok())
        .ok_or_else(|| std::io::Error::other("the answer is no HTTP"))?;
    Ok(Asked::Said {
        status,
        body: body.to_owned(),
    })
}

/// Takes the certificate of our own file, whose key the other side must have, and no other; its dates
/// are checked elsewhere.
#[derive(Debug)]
struct OnlyOurs {
    expected: Vec<u8>,
    /// Another one was shown.
    another: Mutex<bool>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for OnlyOurs {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if end_entity.as_ref() == self.expected {
            return Ok(ServerCertVerified::assertion());
        }
        *self.another.lock().unwrap_or_else(PoisonError::into_inner) = true;
        Err(rustls::Error::General("another certificate".into()))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    fn certificate(from: (i32, u8, u8), to: (i32, u8, u8)) -> Certificate {
        let mut params = CertificateParams::new(vec!["localhost".into()]).unwrap();
        params.not_before = date_time_ymd(from.0, from.1, from.2);
        params.not_after = date_time_ymd(to.0, to.1, to.2);
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        Certificate::from_der(made.der()).unwrap()
    }

    #[test]
    fn the_dates_of_the_whole_chain_count() {
        let day = |n: i64| Micros::from_seconds(1_767_225_600 + n * 86_400); // 2026-01-01 and n days
        let year = certificate((2026, 1, 1), (2027, 1, 1));
        let ca = certificate((2020, 1, 1), (2026, 3, 1));
        for (n, chain, status, seen) in [
            (-1, vec![&year], Status::Fail, "begins in 24 hours"),
            (10, vec![&year], Status::Ok, "another 355 days"),
            (352, vec![&year], Status::Warn, "ends in 13 days"),
            (366, vec![&year], Status::Fail, "ended 24 hours ago"),
            (20, vec![&year, &ca], Status::Ok, "another 39 days"),
            (
                55,
                vec![&year, &ca],
                Status::Warn,
                "a CA's certificate in the file ends in 4 days",
            ),
            (60, vec![&year, &ca], Status::Fail, "a CA's certificate"),
        ] {
            let chain: Vec<_> = chain.into_iter().cloned().collect();
            let check = dates(&chain, day(n));
            assert_eq!(check.status, status, "{n}: {check:?}");
            assert!(check.seen.contains(seen), "{n}: {check:?}");
        }
        // One that lives for a week only is not warned of from its first day on.
        let week = certificate((2026, 1, 1), (2026, 1, 8));
        assert_eq!(
            dates(std::slice::from_ref(&week), day(1)).status,
            Status::Ok
        );
        assert_eq!(dates(&[week], day(6)).status, Status::Warn);
    }
}
