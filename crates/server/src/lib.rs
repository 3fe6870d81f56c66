//! `countersignd`: configuration, wiring, telemetry, shutdown. It decides nothing about keys or
//! callers; it puts the parts together and takes them apart in order.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`cli`] | the command line |
//! | [`config`] | the TOML file: unknown keys refused by name and line |
//! | [`connections`] | how many connections are open at once |
//! | [`database`] | the SQLite file or the PostgreSQL server of a configuration |
//! | [`doctor`] | what signing needs on this machine, looked at |
//! | [`files`] | secrets as files, private or refused |
//! | [`init`] | a new deployment: keys, certificate, database, bootstrap credential |
//! | [`tls`] | rustls with one provider |
//! | [`telemetry`] | structured logs on standard error, traces by OTLP, metrics for Prometheus |
//! | [`serve`] | start, serve, drain |
#![forbid(unsafe_code)]

pub mod cli;
pub mod config;
pub mod connections;
pub mod database;
pub mod doctor;
pub mod error;
pub mod files;
pub mod init;
pub mod serve;
pub mod telemetry;
pub mod tls;

pub use error::ServerError;
