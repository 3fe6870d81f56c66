//! TLS: rustls on aws-lc, versions 1.2 and 1.3, HTTP/2 and HTTP/1.1.

use crate::ServerError;
use crate::files;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::Path;
use std::sync::Arc;

/// The server's side of TLS from its certificate and key files.
///
/// # Errors
/// [`ServerError`]; the text names the file.
pub fn server_config(cert_file: &Path, key_file: &Path) -> Result<Arc<ServerConfig>, ServerError> {
    let content = |path: &Path, problem: String| ServerError::Content {
        path: path.to_owned(),
        problem,
    };
    let pem = files::read_text(cert_file)?;
    let chain = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| content(cert_file, e.to_string()))?;
    if chain.is_empty() {
        return Err(content(cert_file, "holds no certificate (PEM)".into()));
    }
    let key = files::read_secret(key_file)?;
    let key = PrivateKeyDer::from_pem_slice(&key)
        .map_err(|_| content(key_file, "holds no private key (PEM)".into()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| ServerError::Tls(e.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|e| content(cert_file, format!("certificate and key: {e}")))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
