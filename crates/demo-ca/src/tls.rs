//! A certificate of the demo CA's own for HTTPS, made once and kept in the state folder. Clients
//! take it as their `--ca-file`.

use crate::error::Error;
use crate::files;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The TLS configuration, and where the certificate lies.
pub(crate) fn open(dir: &Path, ip: IpAddr) -> Result<(Arc<ServerConfig>, PathBuf), Error> {
    files::make_dir(dir)?;
    let (cert_file, key_file) = (dir.join("tls.pem"), dir.join("tls.key"));
    if !cert_file.exists() {
        let mut names = vec![
            "localhost".to_owned(),
            "127.0.0.1".to_owned(),
            "::1".to_owned(),
        ];
        if !ip.is_unspecified() && !ip.is_loopback() {
            names.push(ip.to_string());
        }
        let made = rcgen::generate_simple_self_signed(names)
            .map_err(|_| Error::Crypto("no TLS certificate could be made"))?;
        files::write(
            &key_file,
            made.signing_key.serialize_pem().as_bytes(),
            0o600,
        )?;
        files::write(&cert_file, made.cert.pem().as_bytes(), 0o644)?;
    }
    let content = |path: &Path, problem: String| Error::Content {
        path: path.to_owned(),
        problem,
    };
    let cert = CertificateDer::from_pem_slice(&files::read(&cert_file, 65_536)?)
        .map_err(|e| content(&cert_file, e.to_string()))?;
    let key = PrivateKeyDer::from_pem_slice(&files::read(&key_file, 65_536)?)
        .map_err(|e| content(&key_file, e.to_string()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| Error::Crypto("rustls has no protocol version in common with its provider"))?
        .with_no_client_auth()
        .with_single_cert(vec![cert], key)
        .map_err(|e| content(&cert_file, e.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok((Arc::new(config), cert_file))
}
