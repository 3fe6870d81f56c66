//! An OpenID Connect issuer for tests: discovery, JWKS, device authorisation (RFC 8628), and the
//! token request endpoint that GitHub Actions gives its jobs.
//!
//! All state is files in one directory, so that a second process (`countersign-testkit issuer
//! mint`) can mint, rotate and approve while the first serves.

mod http;
mod keys;
mod state;

pub use state::{Algorithm, IssuerState, TokenSpec};

use crate::error::{Error, Result, at};
use axum_server::Handle;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

/// How the issuer behaves.
#[derive(Debug, Clone, Default)]
pub struct ServeOptions {
    /// Approve each device login as this person at the second poll; without it, a login waits for
    /// [`IssuerState::approve`].
    pub auto_approve: Option<TokenSpec>,
    /// The `iss`, where others reach it by another name than localhost. The certificate in its
    /// folder must then be for that name.
    pub public_url: Option<String>,
}

/// A running issuer. It stops when dropped.
#[derive(Debug)]
pub struct Issuer {
    state: IssuerState,
    url: String,
    handle: Handle<SocketAddr>,
    thread: Option<JoinHandle<()>>,
}

impl Issuer {
    /// Starts an issuer over HTTPS with its state in `dir`. Port 0 takes a free one.
    ///
    /// # Errors
    /// [`Error::Io`] if the address is taken, [`Error::Tls`], [`Error::State`].
    pub fn start(dir: &Path, listen: &str, options: ServeOptions) -> Result<Self> {
        let listener = TcpListener::bind(listen).map_err(at(listen))?;
        listener.set_nonblocking(true).map_err(at(listen))?;
        let port = listener.local_addr().map_err(at(listen))?.port();
        let local = || format!("https://localhost:{port}");
        let url = options.public_url.clone().unwrap_or_else(local);
        let state = IssuerState::open_or_create(dir)?;
        state.set_url(&url)?;
        let tls = axum_server::tls_rustls::RustlsConfig::from_config(state.tls().server_config()?);
        let app = http::router(state.clone(), url.clone(), options);
        let handle = Handle::new();
        let serving = handle.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(at("runtime"))?;
        let thread = std::thread::spawn(move || {
            let served = runtime.block_on(async move {
                axum_server::from_tcp_rustls(listener, tls)?
                    .handle(serving)
                    .serve(app.into_make_service())
                    .await
            });
            if let Err(e) = served {
                eprintln!("issuer stopped: {e}");
            }
        });
        Ok(Self {
            state,
            url,
            handle,
            thread: Some(thread),
        })
    }

    /// The issuer's `iss`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What clients trust.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.state.tls().ca_file()
    }

    /// The state, to mint, rotate or approve.
    #[must_use]
    pub const fn state(&self) -> &IssuerState {
        &self.state
    }

    /// Mints a token.
    ///
    /// # Errors
    /// [`Error::Token`], [`Error::State`].
    pub fn mint(&self, spec: &TokenSpec) -> Result<String> {
        self.state.mint(spec)
    }

    /// Serves until the process ends.
    ///
    /// # Errors
    /// [`Error::Tool`] if the serving thread broke.
    pub fn wait(mut self) -> Result<()> {
        match self.thread.take().map(JoinHandle::join) {
            Some(Err(_)) => Err(Error::Tool {
                tool: "issuer".to_owned(),
                message: "its thread ended in a panic".to_owned(),
            }),
            _ => Ok(()),
        }
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.handle.shutdown();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
