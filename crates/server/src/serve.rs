//! Start, serve, drain: each in the order that loses nothing.

use crate::ServerError;
use crate::config::{Config, SandboxMode, Token, WorkerMode};
use crate::connections::{self, Bounded, Connections};
use crate::database::Database;
use crate::telemetry::metrics::{self, Metrics};
use crate::telemetry::spans::{SpanCounts, Spans};
use crate::{files, telemetry, tls};
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use countersign_api::auth::FetchPolicy;
use countersign_api::{Api, ApiConfig, Limits};
use countersign_core::SystemClock;
use countersign_core::measure::Report;
use countersign_core::ports::ca::CertificateAuthority;
use countersign_core::ports::store::Store;
use countersign_hsm::{Connect, ExistingToken, PoolConfig, Sandbox, WorkerPool};
use countersign_signing::{Caps, Drained, Ports, SealingKey, Service, Settings};
use hyper_util::rt::TokioTimer;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// How often refusals and key-log checkpoints go into tenant logs.
const BOOKKEEPING: Duration = Duration::from_secs(3);
/// Longest a client may take for the TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Longest a client may take for a request's header, and so longest an idle connection is kept.
const HEADERS: Duration = Duration::from_secs(30);

/// What a stop gives the outcomes of signatures that are out, even if connections took all its time.
const LAST_OUTCOMES: Duration = Duration::from_secs(10);
/// Most bytes of a request's line and header: two of the longest tokens and much room. The library's
/// own bound is six times that, for each connection.
const HEADER_BYTES: usize = 64 * 1024;

/// What `check-config` checks beyond the file itself.
///
/// # Errors
/// [`ServerError`].
pub fn check(config: &Config) -> Result<(), ServerError> {
    tls::server_config(&config.tls.cert_file, &config.tls.key_file)?;
    config.connectors()?;
    config.revocation.fetcher(config.development)?;
    let worker = worker_binary(config)?;
    if !worker.is_file() {
        return Err(countersign_hsm::PoolError::NoWorkerProgram(worker).into());
    }
    Ok(())
}

/// Serves until SIGTERM or SIGINT, then drains.
///
/// # Errors
/// [`ServerError`]: why it did not start, or why it stopped by itself.
pub async fn serve(config: Config) -> Result<(), ServerError> {
    telemetry::start(&config.log)?;
    // The port first: a second server on this machine stops here and touches nothing.
    let listener = listen(config.listen)?;
    let address = listener.local_addr().map_err(|error| ServerError::Listen {
        address: config.listen,
        error,
    })?;
    connections::room_for(config.limits.connections)?;
    let tls = tls::server_config(&config.tls.cert_file, &config.tls.key_file)?;
    let cas = config.connectors()?;
    let sealing = SealingKey::new(files::read_key(&config.sealing_key_file)?);

    let database = Database::open(&config).await?;
    let pool = Arc::new(WorkerPool::start(pool_config(&config)?)?);
    let result = with_parts(
        &config,
        listener,
        address,
        tls,
        cas,
        &sealing,
        database.store(),
        &pool,
    )
    .await;
    // Whatever happened: workers write their last checkpoints, the database its log.
    pool.stop().await;
    drop(pool);
    database.close().await;
    tracing::info!("stopped");
    result
}

#[allow(
    clippy::too_many_arguments,
    reason = "the parts, in the order of their making"
)]
async fn with_parts(
    config: &Config,
    listener: TcpListener,
    address: SocketAddr,
    tls: Arc<rustls::ServerConfig>,
    cas: Vec<Arc<dyn CertificateAuthority>>,
    sealing: &SealingKey,
    store: Arc<dyn Store>,
    pool: &Arc<WorkerPool>,
) -> Result<(), ServerError> {
    check_tenants(config, &*store, pool).await?;
    let clock = Arc::new(SystemClock);
    let lists = config.revocation.fetcher(config.development)?;
    let service = Service::start(
        Settings {
            service_name: config.origin.clone(),
            origin_prefix: config.origin_prefix(),
            node_name: config.node.name(),
            lease: config.node.lease(),
            bookkeeping: BOOKKEEPING,
            loopback_issuers: config.development,
            revocation: config.revocation.settings()?,
            caps: Caps {
                signers: config.limits.signers_per_tenant,
                keys: config.limits.keys_per_tenant,
                grants_per_signer: config.limits.grants_per_signer,
                issuers: config.limits.issuers_per_tenant,
                members: config.limits.members_per_tenant,
            },
            anchors: Arc::new(config.attestation.anchors()?),
        },
        Ports {
            store,
            hsm: Arc::clone(pool) as _,
            cas,
            lists,
            clock: Arc::clone(&clock) as _,
        },
        sealing,
    )
    .await?;
    let counts = Arc::new(SpanCounts::default());
    let spans = Spans::start(&config.telemetry, &service.node().to_string(), &counts)?;
    let spans = spans.map(Arc::new);
    let api = Api::new(
        service.clone(),
        clock,
        &ApiConfig {
            name: config.origin.clone(),
            origin_prefix: config.origin_prefix(),
            fetch: FetchPolicy {
                loopback_http: config.development,
                private_addresses: config.development || config.oidc.allow_private_addresses,
            },
            signatures: config.limits.signatures,
            tracer: spans.clone().map(|spans| spans as _),
            limits: limits(config),
        },
    );
    let connections = Arc::new(Connections::new(config.limits.connections));
    let metrics = match &config.telemetry.metrics_listen {
        Some(listen) => {
            let others: Vec<Arc<dyn Report>> =
                vec![Arc::clone(pool) as _, Arc::clone(&connections) as _, counts];
            let metrics = Arc::new(Metrics::new(service.clone(), &api, others));
            Some(metrics::serve(listen, metrics)?)
        }
        None => None,
    };

    let handle = Handle::new();
    let mut server = axum_server::from_tcp_rustls(listener, RustlsConfig::from_config(tls))
        .map_err(ServerError::Http)?
        .map(|acceptor| {
            acceptor
                .handshake_timeout(HANDSHAKE)
                .acceptor(Bounded(connections))
        })
        .handle(handle.clone());
    // A connection that sends its header byte by byte, or nothing, is closed.
    server
        .http_builder()
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_buf_size(HEADER_BYTES);
    server
        .http_builder()
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(HEADERS)
        .keep_alive_timeout(HANDSHAKE);
    let app = countersign_api::router(&api).into_make_service();
    let mut serving = tokio::spawn(server.serve(app));
    // Before anybody is told that we are ready: a stop that comes at once is heard, too.
    let asked = asked_to_stop();
    ready(address);

    let stopped = tokio::select! {
        () = asked => Stopped::Asked,
        () = service.buried() => Stopped::Buried,
        ended = &mut serving => Stopped::Ended(ended),
    };
    let stopping = tokio::time::Instant::now();
    let result = match stopped {
        Stopped::Ended(ended) => Err(ServerError::Http(match ended {
            Ok(Err(e)) => e,
            Ok(Ok(())) => std::io::Error::other("without an error"),
            Err(e) => std::io::Error::other(e),
        })),
        // Nothing is left for a node that was declared dead: a new run starts clean.
        Stopped::Buried => {
            handle.graceful_shutdown(Some(config.drain()));
            let _ = tokio::time::timeout(config.drain(), &mut serving).await;
            Err(ServerError::Buried)
        }
        Stopped::Asked => {
            tracing::info!("draining");
            let until = stopping + config.drain();
            handle.graceful_shutdown(Some(config.drain()));
            if tokio::time::timeout_at(until, &mut serving).await.is_err() {
                tracing::warn!("connections were still open at the deadline");
                handle.shutdown();
            }
            if tokio::time::timeout_at(until, api.drain()).await.is_err() {
                tracing::warn!("requests were still under way at the deadline");
            }
            Ok(())
        }
    };
    if let Some(stop) = metrics {
        stop();
    }
    // What the connections took is gone from the time; outcomes get some in any case.
    let left = config.drain().saturating_sub(stopping.elapsed());
    let drained = service
        .drain(left.max(config.drain().min(LAST_OUTCOMES)))
        .await;
    // A node that was declared dead leaves nothing of its own to write.
    let result = match result {
        Ok(()) => drained_wholly(drained),
        error => error,
    };
    if let Some(spans) = spans {
        // It blocks until the last spans are sent, or its time is over.
        let _ = tokio::task::spawn_blocking(move || spans.stop()).await;
    }
    result
}

/// An end that others must hear of: a stop is clean only if the logs say what became of everything.
fn drained_wholly(drained: Drained) -> Result<(), ServerError> {
    if drained.open == 0 && drained.rest {
        return Ok(());
    }
    tracing::error!(
        open = drained.open,
        bookkeeping = drained.rest,
        "stopped with records that could not be written: authorisations without outcome are closed as unknown by the \
         next run"
    );
    Err(ServerError::Undrained { open: drained.open })
}

/// Why serving ended.
enum Stopped {
    /// By a signal.
    Asked,
    /// Another node declared this one dead.
    Buried,
    /// The listener failed.
    Ended(Result<std::io::Result<()>, tokio::task::JoinError>),
}

fn limits(config: &Config) -> Limits {
    let anyone_per_s = NonZeroU32::new(config.attestation.anyone_per_s);
    let config = &config.limits;
    let rate = |n: u32| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
    Limits {
        concurrency: config.concurrency,
        tenant_concurrency: config.tenant_concurrency,
        exchanges: config.exchanges,
        timeout: Duration::from_secs(config.request_timeout_s),
        body_timeout: Duration::from_secs(config.body_timeout_s),
        tenant_per_s: rate(config.tenant_per_s),
        principal_per_s: rate(config.principal_per_s),
        exchanges_per_s: rate(config.exchanges_per_s),
        anyone_per_s,
    }
}

/// The one line on standard output.
fn ready(address: SocketAddr) {
    tracing::info!(listen = %address, version = env!("CARGO_PKG_VERSION"), "ready");
    println!(
        "{}",
        serde_json::json!({"event": "ready", "listen": address.to_string()})
    );
}

/// Ends with SIGTERM or SIGINT. Signals are heard from the call on, not only once it is awaited.
fn asked_to_stop() -> impl Future<Output = ()> {
    let heard = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    );
    async move {
        let (Ok(mut term), Ok(mut int)) = heard else {
            tracing::error!("signals cannot be heard; stop me by SIGKILL");
            return std::future::pending().await;
        };
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    }
}

fn listen(address: SocketAddr) -> Result<TcpListener, ServerError> {
    let bind = || {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    bind().map_err(|error| ServerError::Listen { address, error })
}

fn worker_binary(config: &Config) -> Result<PathBuf, ServerError> {
    if let Some(path) = &config.hsm.worker_binary {
        return Ok(path.clone());
    }
    let own = std::env::current_exe()
        .map_err(|e| ServerError::Internal(format!("own program's place: {e}")))?;
    Ok(own.with_file_name("countersign-hsm-worker"))
}

pub(crate) fn pool_config(config: &Config) -> Result<PoolConfig, ServerError> {
    let hsm = &config.hsm;
    let mut pool = PoolConfig::new(
        worker_binary(config)?,
        hsm.module.clone(),
        hsm.profile.clone(),
        config.worker_state_dir(),
        hsm.worker_key_file.clone(),
    );
    pool.token_root = config.token_dir();
    pool.threads = hsm.sessions;
    pool.sandbox = match hsm.sandbox {
        SandboxMode::Off => Sandbox::Off,
        SandboxMode::Report => Sandbox::Report,
        SandboxMode::Enforce => Sandbox::Enforce,
    };
    pool.existing = config.token.iter().map(existing).collect();
    if let (WorkerMode::Connect, Some(dir), Some(user)) =
        (hsm.mode, &hsm.socket_dir, &hsm.worker_user)
    {
        pool.connect = Some(Connect {
            socket_dir: dir.clone(),
            worker_uid: files::uid_of(user).map_err(ServerError::Internal)?,
        });
    }
    if let Some(ms) = hsm.call_deadline_ms {
        pool.call_deadline = Duration::from_millis(ms);
    }
    Ok(pool)
}

fn existing(token: &Token) -> ExistingToken {
    ExistingToken {
        name: token.name().to_owned(),
        module: token.module.clone(),
        profile: token.profile.get_ref().clone(),
        label: token.label.get_ref().clone(),
        serial: token.serial.clone(),
        slot: token.slot,
        pin_file: token.pin_file.clone().unwrap_or_default(),
        tenants: token.tenants(),
        files: token.files.clone(),
        environment: token
            .environment
            .as_ref()
            .map(|e| e.get_ref().clone())
            .unwrap_or_default(),
        threads: token.sessions.as_ref().map(|s| *s.get_ref()),
    }
}

/// A tenant that has keys in one token cannot be given another.
async fn check_tenants(
    config: &Config,
    store: &dyn Store,
    pool: &WorkerPool,
) -> Result<(), ServerError> {
    for name in config.token.iter().flat_map(Token::tenants) {
        let found = store
            .tenant_by_name(&name)
            .await
            .map_err(|e| ServerError::Internal(format!("looking for tenant {name}: {e}")))?;
        if let Some(tenant) = found {
            pool.check_tenant(tenant.id, &name)?;
        }
    }
    Ok(())
}
