//! Metrics in Prometheus' text format, on a listener of their own.
//!
//! The numbers live where they arise, on plain atomics; a scrape asks each part for its report and
//! writes it down. Nothing is kept here, and nothing is paid between scrapes.

use crate::ServerError;
use crate::config::Listen;
use axum_server::{Address, Handle, Server};
use countersign_api::Api;
use countersign_api::metrics::{Scrape, router};
use countersign_core::measure::{Distribution, Pair, Report, Sink, Type};
use countersign_signing::{Readiness, Service};
use hyper_util::rt::TokioTimer;
use prometheus::TextEncoder;
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Longest a scrape's request may take to come in.
const HEADERS: Duration = Duration::from_secs(10);
/// Longest the database may take to say that it is there.
const PROBE: Duration = Duration::from_secs(5);

/// The parts that report.
pub struct Metrics {
    service: Service,
    started: SystemTime,
    parts: Vec<Arc<dyn Report>>,
}

impl Metrics {
    /// Of a service and the parts around it.
    #[must_use]
    pub fn new(service: Service, api: &Api, others: Vec<Arc<dyn Report>>) -> Self {
        let mut parts: Vec<Arc<dyn Report>> = vec![
            Arc::clone(service.measures()) as _,
            Arc::clone(api.measures()) as _,
        ];
        parts.extend(others);
        Self {
            service,
            started: SystemTime::now(),
            parts,
        }
    }

    /// The text of one scrape.
    pub async fn text(&self) -> String {
        // A probe is made once a second at most, whoever asks.
        let ready = tokio::time::timeout(PROBE, self.service.readiness())
            .await
            .ok();
        let mut families = Families::default();
        self.process(ready.as_ref(), &mut families);
        for part in &self.parts {
            part.report(&mut families);
        }
        families.0.sort_by(|a, b| a.name().cmp(b.name()));
        TextEncoder::new()
            .encode_to_string(&families.0)
            .unwrap_or_else(|e| {
                tracing::error!(error = %e, "metrics cannot be written");
                String::new()
            })
    }

    fn process(&self, ready: Option<&Readiness>, to: &mut dyn Sink) {
        to.metric(
            "countersign_build_info",
            Type::Gauge,
            "Always 1; the label says which version runs.",
        );
        to.value(&[("version", env!("CARGO_PKG_VERSION"))], 1.0);
        let started = self.started.duration_since(UNIX_EPOCH).unwrap_or_default();
        to.gauge_value(
            "countersign_start_time_seconds",
            "When this process started to serve, in seconds since 1970.",
            started.as_secs_f64(),
        );
        let flag = |yes: bool| if yes { 1.0 } else { 0.0 };
        to.gauge_value(
            "countersign_database_up",
            "1 if the database took a durable write at the last probe (at most a second old).",
            flag(ready.is_some_and(|r| r.database.is_ok())),
        );
        to.gauge_value(
            "countersign_database_rewound",
            "1 if nothing is written because the database is older than the last signature.",
            flag(ready.is_some_and(|r| r.rewound.is_some())),
        );
        to.gauge_value(
            "countersign_node_good",
            "1 if this node may let signatures out: its lease is good and its clock is near the database's.",
            flag(ready.is_some_and(|r| r.standing.is_ok())),
        );
    }
}

impl Scrape for Metrics {
    fn text(&self) -> std::pin::Pin<Box<dyn Future<Output = String> + Send + '_>> {
        Box::pin(Self::text(self))
    }
}

/// Serves scrapes until `stop` is told. Returns when it listens.
///
/// # Errors
/// [`ServerError`]: the address is taken.
pub fn serve(listen: &Listen, metrics: Arc<Metrics>) -> Result<Stop, ServerError> {
    let app = router(metrics).into_make_service();
    match listen {
        Listen::Tcp(address) => {
            let failed = |error| ServerError::Listen {
                address: *address,
                error,
            };
            if !address.ip().is_loopback() {
                tracing::warn!(%address, "metrics are given to whoever reaches this address");
            }
            let listener = std::net::TcpListener::bind(address).map_err(failed)?;
            listener.set_nonblocking(true).map_err(failed)?;
            let server = axum_server::from_tcp(listener).map_err(failed)?;
            let handle = Handle::new();
            let server = guarded(server).handle(handle.clone());
            tokio::spawn(async move { ended(server.serve(app).await) });
            tracing::info!(%address, "metrics");
            Ok(Box::new(move || handle.shutdown()))
        }
        Listen::Unix(path) => {
            let listener = unix(path).map_err(ServerError::file(path))?;
            let server = axum_server::from_unix(listener).map_err(ServerError::file(path))?;
            let handle = Handle::new();
            let server = guarded(server).handle(handle.clone());
            tokio::spawn(async move { ended(server.serve(app).await) });
            tracing::info!(path = %path.display(), "metrics");
            let path = path.clone();
            Ok(Box::new(move || {
                handle.shutdown();
                let _ = std::fs::remove_file(&path);
            }))
        }
    }
}

/// Stops the listener.
pub type Stop = Box<dyn Fn() + Send + Sync>;

fn guarded<A: Address>(mut server: Server<A>) -> Server<A> {
    server
        .http_builder()
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS);
    server.http1_only()
}

fn ended(result: std::io::Result<()>) {
    if let Err(error) = result {
        tracing::error!(%error, "metrics are served no more");
    }
}

/// A socket that a monitoring user of our group can ask. One left by an earlier run is removed;
/// anything else at that path is not touched.
fn unix(path: &Path) -> std::io::Result<std::os::unix::net::UnixListener> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.file_type().is_socket() => std::fs::remove_file(path)?,
        Ok(_) => return Err(std::io::ErrorKind::AlreadyExists.into()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// A report as Prometheus' families.
#[derive(Debug, Default)]
struct Families(Vec<MetricFamily>);

impl Families {
    fn add(&mut self, labels: &[Pair], fill: impl FnOnce(&mut Metric, MetricType)) {
        let Some(family) = self.0.last_mut() else {
            return;
        };
        let labels = labels
            .iter()
            .map(|(name, value)| {
                let mut pair = LabelPair::default();
                pair.set_name((*name).to_owned());
                pair.set_value((*value).to_owned());
                pair
            })
            .collect();
        let mut metric = Metric::from_label(labels);
        fill(&mut metric, family.get_field_type());
        family.mut_metric().push(metric);
    }
}

impl Sink for Families {
    fn metric(&mut self, name: &'static str, of: Type, help: &'static str) {
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(match of {
            Type::Counter => MetricType::COUNTER,
            Type::Gauge => MetricType::GAUGE,
            Type::Histogram => MetricType::HISTOGRAM,
        });
        self.0.push(family);
    }

    fn value(&mut self, labels: &[Pair], value: f64) {
        self.add(labels, |metric, of| {
            if of == MetricType::COUNTER {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            } else {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
        });
    }

    fn distribution(&mut self, labels: &[Pair], value: &Distribution) {
        self.add(labels, |metric, _| {
            let buckets = value
                .buckets
                .iter()
                .map(|(bound, count)| {
                    let mut bucket = Bucket::default();
                    bucket.set_upper_bound(*bound);
                    bucket.set_cumulative_count(*count);
                    bucket
                })
                .collect();
            let mut histogram = Histogram::default();
            histogram.set_bucket(buckets);
            histogram.set_sample_count(value.count);
            histogram.set_sample_sum(value.sum);
            metric.set_histogram(histogram);
        });
    }
}
