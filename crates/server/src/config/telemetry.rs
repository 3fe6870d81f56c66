//! `[telemetry]`: where traces go and where metrics are asked for. Off unless named.

use serde::Deserialize;
use std::net::SocketAddr;
use std::path::PathBuf;

/// `[telemetry]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Telemetry {
    /// Where traces are sent (OTLP, http/protobuf), for example `http://127.0.0.1:4318`. Without a
    /// path, `/v1/traces` is added. No traces if left out.
    pub otlp_endpoint: Option<String>,
    /// PEM roots for its TLS; the system's if left out.
    pub otlp_ca_file: Option<PathBuf>,
    /// Headers for it, one `Name: value` a line: a secret file.
    pub headers_file: Option<PathBuf>,
    /// Which part of the requests is traced, 0 to 1.
    pub sample_ratio: f64,
    /// Take the trace id of a caller's `traceparent`, so that its trace and ours are one.
    pub accept_traceparent: bool,
    /// Where Prometheus asks for metrics, without authentication: `127.0.0.1:9464`, or
    /// `unix:/run/countersign/metrics.sock`. No metrics if left out.
    pub metrics_listen: Option<Listen>,
    /// Let `metrics_listen` be an address that others than this machine reach.
    pub metrics_beyond_loopback: bool,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            otlp_endpoint: None,
            otlp_ca_file: None,
            headers_file: None,
            sample_ratio: 1.0,
            accept_traceparent: true,
            metrics_listen: None,
            metrics_beyond_loopback: false,
        }
    }
}

/// An address of TCP or a Unix socket.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Listen {
    /// An address.
    Tcp(SocketAddr),
    /// A socket file.
    Unix(PathBuf),
}

impl TryFrom<String> for Listen {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some("") => Err("unix: names no file".into()),
            Some(path) => Ok(Self::Unix(path.into())),
            None => text
                .parse()
                .map(Self::Tcp)
                .map_err(|_| format!("\"{text}\" is neither ADDRESS:PORT nor unix:PATH")),
        }
    }
}

impl Telemetry {
    /// The URL traces are sent to.
    #[must_use]
    pub fn traces_url(&self) -> Option<String> {
        let endpoint = self.otlp_endpoint.as_deref()?;
        let after_scheme = endpoint
            .split_once("://")
            .map_or(endpoint, |(_, rest)| rest);
        Some(match after_scheme.split_once('/') {
            None => format!("{endpoint}/v1/traces"),
            Some((_, "")) => format!("{endpoint}v1/traces"),
            Some(_) => endpoint.to_owned(),
        })
    }

    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        if !(0.0..=1.0).contains(&self.sample_ratio) {
            return Err(("sample_ratio", format!("0 to 1, not {}", self.sample_ratio)));
        }
        if let Some(endpoint) = &self.otlp_endpoint {
            self.check_endpoint(endpoint)
                .map_err(|problem| ("otlp_endpoint", problem))?;
        }
        if let Some(Listen::Tcp(address)) = &self.metrics_listen
            && !address.ip().is_loopback()
            && !self.metrics_beyond_loopback
        {
            return Err((
                "metrics_listen",
                format!(
                    "{address} can be reached from outside and metrics are given to whoever asks: take a loopback \
                     address or unix:PATH, or say metrics_beyond_loopback = true where a firewall stands before it"
                ),
            ));
        }
        Ok(())
    }

    fn check_endpoint(&self, endpoint: &str) -> Result<(), String> {
        let rest = endpoint
            .strip_prefix("https://")
            .or_else(|| endpoint.strip_prefix("http://"))
            .ok_or("http://HOST:PORT or https://HOST:PORT")?;
        let authority = rest.split('/').next().unwrap_or_default();
        if authority.is_empty() || authority.contains('@') {
            return Err("a host without user name; credentials belong into headers_file".into());
        }
        let host = authority.rsplit_once(':').map_or(authority, |(h, _)| h);
        let loopback = host == "localhost"
            || host
                .trim_matches(['[', ']'])
                .parse::<std::net::IpAddr>()
                .is_ok_and(|ip| ip.is_loopback());
        if self.headers_file.is_some() && endpoint.starts_with("http://") && !loopback {
            return Err("the headers of headers_file would travel in the clear: take https".into());
        }
        Ok(())
    }

    pub(super) fn check_files(&self) -> Result<(), crate::ServerError> {
        if let Some(path) = &self.headers_file {
            crate::telemetry::spans::headers(path)?;
        }
        if let Some(path) = &self.otlp_ca_file {
            crate::files::read_text(path)?;
        }
        Ok(())
    }

    pub(super) fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let socket = match &mut self.metrics_listen {
            Some(Listen::Unix(path)) => Some(path),
            _ => None,
        };
        self.otlp_ca_file
            .iter_mut()
            .chain(self.headers_file.iter_mut())
            .chain(socket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Telemetry, String> {
        let t: Telemetry = toml::from_str(text).map_err(|e| e.to_string())?;
        t.check()
            .map_err(|(key, problem)| format!("{key}: {problem}"))?;
        Ok(t)
    }

    #[test]
    fn it_is_off_by_default() {
        let t = read("").unwrap();
        assert!(t.otlp_endpoint.is_none() && t.metrics_listen.is_none());
    }

    #[test]
    fn the_url_of_traces_is_completed() {
        for (given, url) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("http://[::1]:4318/", "http://[::1]:4318/v1/traces"),
            ("https://otlp.example/own", "https://otlp.example/own"),
        ] {
            let t = read(&format!("otlp_endpoint = \"{given}\"")).unwrap();
            assert_eq!(t.traces_url().as_deref(), Some(url));
        }
    }

    #[test]
    fn metrics_stay_on_the_machine_unless_said_otherwise() {
        for (text, key) in [
            ("metrics_listen = \"0.0.0.0:9464\"", "metrics_listen"),
            ("metrics_listen = \"[::]:9464\"", "metrics_listen"),
            ("metrics_listen = \"10.0.0.1:9464\"", "metrics_listen"),
            ("metrics_listen = \"9464\"", "neither"),
            ("metrics_listen = \"unix:\"", "unix"),
            ("sample_ratio = 1.5", "sample_ratio"),
            ("sample_ratio = nan", "sample_ratio"),
            ("otlp_endpoint = \"127.0.0.1:4318\"", "otlp_endpoint"),
            ("otlp_endpoint = \"https://me:pw@host\"", "user name"),
            (
                "otlp_endpoint = \"http://collector:4318\"\nheaders_file = \"x\"",
                "in the clear",
            ),
            ("unknown = 1", "unknown"),
        ] {
            let e = read(text).unwrap_err();
            assert!(e.contains(key), "{text}: {e}");
        }
        for good in [
            "metrics_listen = \"127.0.0.1:9464\"",
            "metrics_listen = \"[::1]:9464\"",
            "metrics_listen = \"unix:/run/m.sock\"",
            "metrics_listen = \"0.0.0.0:9464\"\nmetrics_beyond_loopback = true",
            "otlp_endpoint = \"http://localhost:4318\"\nheaders_file = \"x\"",
            "otlp_endpoint = \"https://collector\"\nheaders_file = \"x\"",
        ] {
            assert!(read(good).is_ok(), "{good}: {:?}", read(good));
        }
    }
}
