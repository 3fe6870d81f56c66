//! The command line.

use crate::misbehave::Misbehaviour;
use clap::{Args, Parser, Subcommand};
use countersign_attestation::UnixSeconds;
use countersign_x509::crl::Reason;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A DEMO certificate authority for Countersign. Its keys are plain files: never trust its root.
#[derive(Debug, Parser)]
#[command(name = "countersign-demo-ca", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the CA: orders over HTTPS, certificates and CRLs over HTTP.
    Serve(ServeArgs),
    /// Revoke a certificate, beside the running CA: it is on the list from the next fetch on.
    Revoke(RevokeArgs),
    /// Take a certificate that is on hold (`revoke --reason certificateHold`) off the list.
    Release(ReleaseArgs),
    /// Appraise a request and its service statement offline, and print the result as JSON.
    ///
    /// Exit code: 0 accepted, 1 rejected, 2 cannot be decided.
    Appraise(AppraiseArgs),
}

/// What both commands appraise by.
#[derive(Debug, Args)]
pub(crate) struct TrustArgs {
    /// A statement key to pin (PEM `PUBLIC KEY`, or DER). May be given several times. There is no
    /// default: `countersign service keys` shows a service's key.
    #[arg(long = "trust-service-key", value_name = "FILE", num_args = 1..)]
    pub(crate) trust_service_key: Vec<PathBuf>,
    /// This CA's name, which a statement must carry as its audience.
    #[arg(long, value_name = "NAME")]
    pub(crate) audience: String,
    /// Take keys from software tokens (SoftHSM).
    #[arg(long)]
    pub(crate) allow_software: bool,
    /// Take no key whose origin no device evidence proves.
    #[arg(long)]
    pub(crate) require_device_evidence: bool,
    /// A verification method of CSBR §6.2.7.4.2 that this CA accepts, with the last day (UTC) on which
    /// it does: `2`, or `7:2027-06-30`. May be given several times; a request must support one of
    /// them. Without it, methods are listed in the result and not asked for.
    #[arg(long = "accept-method", value_name = "N[:UNTIL]", value_parser = AcceptMethod::parse)]
    pub(crate) accept_method: Vec<AcceptMethod>,
}

/// A method and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AcceptMethod {
    pub(crate) method: u8,
    pub(crate) until: UnixSeconds,
}

impl AcceptMethod {
    fn parse(text: &str) -> Result<Self, String> {
        let (method, until) = match text.split_once(':') {
            None => (text, None),
            Some((method, day)) => (method, Some(day)),
        };
        let method = method
            .parse()
            .ok()
            .filter(|n| (1..=7).contains(n))
            .ok_or("the methods are 1 to 7")?;
        let until = match until {
            // The end of 9999.
            None => UnixSeconds::default().plus(u64::MAX),
            Some(day) => {
                let last = serde_json::Value::String(format!("{day}T23:59:59Z"));
                serde_json::from_value(last).map_err(|_| "UNTIL is a day such as 2027-06-30")?
            }
        };
        Ok(Self { method, until })
    }
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Folder for keys, certificates and orders; made if absent.
    #[arg(long, value_name = "DIR")]
    pub(crate) state: PathBuf,
    /// Address for orders, HTTPS. Port 0 takes a free one and prints it.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub(crate) listen: SocketAddr,
    /// Address for certificates and CRLs, plain HTTP as CSBR §7.1.2.3 wants them.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub(crate) listen_http: SocketAddr,
    /// Base of the URLs written into certificates, if not the plain HTTP address itself.
    #[arg(long, value_name = "URL")]
    pub(crate) public_url: Option<String>,
    #[command(flatten)]
    pub(crate) trust: TrustArgs,
    /// Roots of TPM makers' endorsement certificates (PEM or DER). May be given several times. There is
    /// no default: without it this CA certifies no attestation keys.
    #[arg(long = "trust-ek-root", value_name = "FILE", num_args = 1..)]
    pub(crate) trust_ek_root: Vec<PathBuf>,
    /// How long an order stays open, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, value_parser = clap::value_parser!(u32).range(1..=604_800))]
    pub(crate) order_lifetime: u32,
    /// FOR TESTS: do wrong on purpose.
    #[arg(long, value_name = "HOW", value_enum)]
    pub(crate) test_misbehave: Option<Misbehaviour>,
}

#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    /// The CA's folder.
    #[arg(long, value_name = "DIR")]
    pub(crate) state: PathBuf,
    /// Serial number, hex, as `countersign keys show` has it.
    #[arg(long, value_name = "HEX")]
    pub(crate) serial: String,
    /// Why, by its name in RFC 5280 §5.3.1: keyCompromise, superseded, certificateHold …
    #[arg(long, value_name = "REASON", default_value = "unspecified")]
    pub(crate) reason: Reason,
}

#[derive(Debug, Args)]
pub(crate) struct ReleaseArgs {
    /// The CA's folder.
    #[arg(long, value_name = "DIR")]
    pub(crate) state: PathBuf,
    /// Serial number, hex.
    #[arg(long, value_name = "HEX")]
    pub(crate) serial: String,
}

#[derive(Debug, Args)]
pub(crate) struct AppraiseArgs {
    /// The PKCS#10 request, DER or PEM.
    #[arg(long, value_name = "FILE")]
    pub(crate) csr: PathBuf,
    /// The service statement, DER or base64; without it, the one in the request is used.
    #[arg(long, value_name = "FILE")]
    pub(crate) statement: Option<PathBuf>,
    /// A piece of device evidence. May be given several times.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub(crate) evidence: Vec<PathBuf>,
    /// A CA for TPM attestation keys to pin (PEM or DER). May be given several times.
    #[arg(long = "trust-ak-ca", value_name = "FILE", num_args = 1..)]
    pub(crate) trust_ak_ca: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) trust: TrustArgs,
    /// Appraise as of this moment (RFC 3339, whole seconds, Z) instead of now.
    #[arg(long, value_name = "TIME")]
    pub(crate) at: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_accepted_to_the_end_of_its_last_day() {
        let parsed = AcceptMethod::parse("7:2027-06-30").unwrap();
        assert_eq!(parsed.method, 7);
        assert_eq!(parsed.until.to_string(), "2027-06-30T23:59:59Z");
        let always = AcceptMethod::parse("2").unwrap();
        assert_eq!(always.until.to_string(), "9999-12-31T23:59:59Z");
        for bad in [
            "",
            "0",
            "8",
            "x",
            "7:",
            "7:tomorrow",
            "7:2027-13-01",
            "7:2027-06-30T00:00:00Z",
        ] {
            assert!(AcceptMethod::parse(bad).is_err(), "{bad}");
        }
    }
}
