//! Running the CA.

use crate::api::{self, Ca};
use crate::authority::{Authority, certificate_error};
use crate::cli::{ReleaseArgs, RevokeArgs, ServeArgs, TrustArgs};
use crate::crl::Revocations;
use crate::error::Error;
use crate::files;
use crate::issuance::Counter;
use crate::orders::OrderBook;
use crate::reports::Reports;
use crate::tls;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use countersign_attestation::request::{AcceptedMethods, CaPolicy};
use countersign_attestation::{Anchors, StatementKey, UnixSeconds};
use countersign_core::{Clock, SystemClock};
use serde_json::json;
use std::fs::{File, TryLockError};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Serves until SIGTERM or SIGINT.
pub(crate) fn run(args: &ServeArgs) -> Result<(), Error> {
    let statement_keys = pinned(&args.trust)?;
    if statement_keys.is_empty() {
        return Err(Error::Argument {
            argument: "trust-service-key",
            problem: "at least one is needed: there is no default anchor".to_owned(),
        });
    }
    let ek_roots = endorsement_roots(&args.trust_ek_root)?;
    files::make_dir(&args.state)?;
    let _lock = only_one(&args.state)?;
    let https = listen(args.listen)?;
    let http = listen(args.listen_http)?;
    let (https_addr, http_addr) = (
        address(&https, args.listen)?,
        address(&http, args.listen_http)?,
    );
    let url = args
        .public_url
        .clone()
        .unwrap_or_else(|| format!("http://{http_addr}"));
    let url = url.trim_end_matches('/').to_owned();
    if !url.starts_with("http://") {
        return Err(Error::Argument {
            argument: "public-url",
            problem: "must start with http:// (CSBR §7.1.2.3)".to_owned(),
        });
    }
    let (tls, ca_file) = tls::open(&args.state, https_addr.ip())?;
    let authority = Authority::open(&args.state.join("ca"), &url, SystemClock.now())?;
    let roots = args.state.join("roots.pem");
    files::write(
        &roots,
        authority.root.certificate().to_pem().as_bytes(),
        0o644,
    )?;
    let ak_ca = authority.attestation.certificate().to_pem();
    let ak_ca_file = args.state.join("attestation-ca.pem");
    files::write(&ak_ca_file, ak_ca.as_bytes(), 0o644)?;
    let ca = Arc::new(Ca {
        counter: Counter {
            anchors: own_anchors(&authority)?,
            ek_roots,
            reports: Reports::new(&args.state),
            authority,
            audience: args.trust.audience.clone(),
            statement_keys,
            policy: policy(&args.trust)?,
            misbehave: args.test_misbehave,
        },
        book: Mutex::new(OrderBook::open(&args.state.join("orders"))?),
        revocations: Revocations::new(&args.state),
        order_lifetime_s: args.order_lifetime,
        clock: Box::new(SystemClock),
    });
    banner(args);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Error::Server)?;
    runtime.block_on(async move {
        let handle = Handle::new();
        let orders = axum_server::from_tcp_rustls(https, RustlsConfig::from_config(tls))
            .map_err(Error::Server)?
            .handle(handle.clone())
            .serve(api::orders(Arc::clone(&ca)).into_make_service());
        let repository = axum_server::from_tcp(http)
            .map_err(Error::Server)?
            .handle(handle.clone())
            .serve(api::repository(ca).into_make_service());
        // One line that a script can read, and the only one on standard output.
        println!(
            "{}",
            json!({
                "listening": format!("https://{https_addr}"),
                "http": url,
                "ca_file": ca_file,
                "roots": roots,
                "attestation_ca": ak_ca_file,
            })
        );
        tokio::spawn(async move {
            terminated().await;
            handle.graceful_shutdown(Some(Duration::from_secs(5)));
        });
        tokio::try_join!(orders, repository)
            .map(|_| ())
            .map_err(Error::Server)
    })
}

/// Puts a certificate on the list. The running CA serves it from the next fetch on.
pub(crate) fn revoke(args: &RevokeArgs) -> Result<(), Error> {
    let book = issued(&args.state)?;
    let now = UnixSeconds::from_micros(SystemClock.now().0).unwrap_or_default();
    Revocations::new(&args.state).revoke(&book, &args.serial, args.reason, now)?;
    eprintln!("revoked {} ({})", args.serial, args.reason);
    Ok(())
}

/// Takes a certificate that is on hold off the list.
pub(crate) fn release(args: &ReleaseArgs) -> Result<(), Error> {
    let book = issued(&args.state)?;
    Revocations::new(&args.state).release(&book, &args.serial)?;
    eprintln!("released {}", args.serial);
    Ok(())
}

/// The orders of a state folder, which must be one: a mistyped path makes none.
fn issued(state: &Path) -> Result<OrderBook, Error> {
    let orders = state.join("orders");
    if !orders.is_dir() {
        return Err(Error::Content {
            path: orders,
            problem: "is not a folder: no CA was served from there".to_owned(),
        });
    }
    OrderBook::open(&orders)
}

/// The statement keys the arguments pin.
pub(crate) fn pinned(trust: &TrustArgs) -> Result<Vec<StatementKey>, Error> {
    trust
        .trust_service_key
        .iter()
        .map(|path| {
            let bytes = files::read(path, 65_536)?;
            StatementKey::from_pem(&bytes)
                .or_else(|_| StatementKey::from_spki_der(&bytes))
                .map_err(|e| Error::Content {
                    path: path.clone(),
                    problem: e.to_string(),
                })
        })
        .collect()
}

/// The policy the arguments set.
pub(crate) fn policy(trust: &TrustArgs) -> Result<CaPolicy, Error> {
    let wrong = |problem: String| Error::Argument {
        argument: "accept-method",
        problem,
    };
    let mut methods = AcceptedMethods::unrestricted();
    for (i, m) in trust.accept_method.iter().enumerate() {
        let before = trust.accept_method.get(..i).unwrap_or_default();
        if before.iter().any(|b| b.method == m.method) {
            return Err(wrong(format!("method {} stands twice", m.method)));
        }
        methods = methods
            .and(m.method, m.until)
            .ok_or_else(|| wrong(format!("there is no method {}", m.method)))?;
    }
    Ok(CaPolicy {
        allow_software: trust.allow_software,
        require_device_evidence: trust.require_device_evidence,
        methods,
        ..CaPolicy::default()
    })
}

/// The makers' pinned roots, and this CA's own for attestation keys.
pub(crate) fn own_anchors(authority: &Authority) -> Result<Anchors, Error> {
    let mut anchors = Anchors::pinned();
    anchors
        .add_attestation_key_cas(
            "this CA's own attestation key CA",
            authority.attestation.certificate().der(),
        )
        .map_err(certificate_error)?;
    Ok(anchors)
}

/// The endorsement roots the arguments pin, and no others.
pub(crate) fn endorsement_roots(paths: &[PathBuf]) -> Result<Option<Anchors>, Error> {
    if paths.is_empty() {
        return Ok(None);
    }
    let mut anchors = Anchors::none();
    for path in paths {
        anchors
            .add_endorsement_roots(&path.to_string_lossy(), &files::read(path, 1024 * 1024)?)
            .map_err(|e| Error::Argument {
                argument: "trust-ek-root",
                problem: e.to_string(),
            })?;
    }
    Ok(Some(anchors))
}

/// One process to a state folder: two would each let an order be used once.
fn only_one(state: &Path) -> Result<File, Error> {
    let path = state.join("lock");
    let file = File::create(&path).map_err(Error::file(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Content {
            path,
            problem: "another countersign-demo-ca serves from this folder".to_owned(),
        }),
        Err(TryLockError::Error(e)) => Err(Error::file(path)(e)),
    }
}

fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    let refused = |source| Error::Listen { address, source };
    let listener = TcpListener::bind(address).map_err(refused)?;
    listener.set_nonblocking(true).map_err(refused)?;
    Ok(listener)
}

fn address(listener: &TcpListener, address: SocketAddr) -> Result<SocketAddr, Error> {
    listener
        .local_addr()
        .map_err(|source| Error::Listen { address, source })
}

fn banner(args: &ServeArgs) {
    eprintln!("****************************************************************************");
    eprintln!("*  DEMO CA. Its keys are plain files, it identifies nobody.                *");
    eprintln!("*  Never install its root anywhere but in a test.                          *");
    eprintln!("****************************************************************************");
    if args.trust.allow_software {
        eprintln!("It takes keys from software tokens (--allow-software).");
    }
    if let Some(how) = args.test_misbehave {
        eprintln!("It misbehaves on purpose: {how:?} (--test-misbehave).");
    }
}

async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut term) => {
            tokio::select! {
                _ = term.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        }
        Err(_) => {
            let _ = tokio::signal::ctrl_c().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_process_on_the_same_folder_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let first = only_one(dir.path()).unwrap();
        assert!(matches!(only_one(dir.path()), Err(Error::Content { .. })));
        drop(first);
        assert!(only_one(dir.path()).is_ok());
    }
}
