//! A certificate authority of one's own for localhost servers.

use crate::error::{Error, Result, at_path};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Files of a server on localhost: `ca.pem` is what clients trust, the rest is the server's.
#[derive(Debug, Clone)]
pub struct LocalTls {
    dir: PathBuf,
}

impl LocalTls {
    /// Opens the files in `dir`, making them the first time.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Tls`].
    pub fn open_or_create(dir: &Path) -> Result<Self> {
        let tls = Self {
            dir: dir.to_owned(),
        };
        if !tls.ca_file().exists() {
            std::fs::create_dir_all(dir).map_err(at_path(dir))?;
            tls.create()?;
        }
        Ok(tls)
    }

    /// What clients trust.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// The server's chain.
    #[must_use]
    pub fn certificate_file(&self) -> PathBuf {
        self.dir.join("server.pem")
    }

    /// The server's private key.
    #[must_use]
    pub fn key_file(&self) -> PathBuf {
        self.dir.join("server-key.pem")
    }

    /// A rustls configuration with an explicit provider (none is installed for the process).
    ///
    /// # Errors
    /// [`Error::Tls`] if the files are not ours.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>> {
        let chain = CertificateDer::pem_file_iter(self.certificate_file())
            .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>)
            .map_err(|e| Error::Tls(e.to_string()))?;
        let key =
            PrivateKeyDer::from_pem_file(self.key_file()).map_err(|e| Error::Tls(e.to_string()))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(tls_error)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(tls_error)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    fn create(&self) -> Result<()> {
        let mut ca = CertificateParams::default();
        ca.distinguished_name
            .push(DnType::CommonName, "Countersign testkit localhost CA");
        ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca_key = KeyPair::generate().map_err(tls_error)?;
        let ca_cert = ca.self_signed(&ca_key).map_err(tls_error)?;
        let issuer = rcgen::Issuer::from_params(&ca, &ca_key);

        let mut server = CertificateParams::new(vec![
            "localhost".to_owned(),
            "127.0.0.1".to_owned(),
            "::1".to_owned(),
        ])
        .map_err(tls_error)?;
        server
            .distinguished_name
            .push(DnType::CommonName, "localhost");
        server.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(tls_error)?;
        let cert = server.signed_by(&key, &issuer).map_err(tls_error)?;

        write_secret(&self.key_file(), key.serialize_pem().as_bytes())?;
        let chain = self.certificate_file();
        std::fs::write(&chain, cert.pem()).map_err(at_path(&chain))?;
        // Last, since its presence says that all are there.
        std::fs::write(self.ca_file(), ca_cert.pem()).map_err(at_path(&self.ca_file()))
    }
}

/// Writes a file that only its owner reads, all of it or nothing.
pub(crate) fn write_secret(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write as _;
    let dir = path.parent().unwrap_or(Path::new("."));
    // NamedTempFile is made with mode 0600.
    let mut file = tempfile::NamedTempFile::new_in(dir).map_err(at_path(dir))?;
    file.write_all(bytes).map_err(at_path(path))?;
    file.persist(path)
        .map(|_| ())
        .map_err(|e| at_path(path)(e.error))
}

fn tls_error(e: impl std::fmt::Display) -> Error {
    Error::Tls(e.to_string())
}
