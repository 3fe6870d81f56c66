//! Structured logs on standard error; traces ([`spans`]) and metrics ([`metrics`]) where the
//! configuration asks for them. Standard output belongs to the one line that says ready.

pub mod metrics;
pub mod spans;

use crate::ServerError;
use crate::config::{Log, LogFormat};
use tracing_subscriber::EnvFilter;

/// Starts logging. Call it once.
///
/// # Errors
/// [`ServerError::Internal`] for a filter that cannot be read.
pub fn start(log: &Log) -> Result<(), ServerError> {
    let filter = EnvFilter::try_new(&log.filter)
        .map_err(|e| ServerError::Internal(format!("[log] filter: {e}")))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // It would be told on standard error, by a macro that panics: a full disk under the log
        // would end requests half-way.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    match log.format {
        LogFormat::Json => builder
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .try_init(),
        LogFormat::Text => builder.try_init(),
    }
    // A second start (tests) keeps the first.
    .or(Ok(()))
}
