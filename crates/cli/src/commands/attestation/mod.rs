//! `countersign attestation`: does this key live in genuine hardware? Offline, any vendor's
//! evidence.

mod anchors;
mod device_log;
pub(super) mod inputs;
mod inspect;
mod verify;

use crate::context::Context;
use crate::failure::Result;
use crate::report::Report;
use clap::Subcommand;

/// Subcommands of `attestation`.
#[derive(Debug, Subcommand)]
pub enum Attestation {
    /// Check a vendor's key attestation for a request or a public key, offline and with reasons.
    #[command(after_help = "\
Evidence is recognised by what it is: files in any order or a folder, PEM or DER, base64 or gzip as
vendors ship them. It may also be inside the request alone. The default policy, origin, demands a
genuine device, a key generated in it that cannot leave it, evidence about this very key, and no
disqualifying weakness.

Requirements (--require, as often as you like):
  sign-only         the key can sign and do nothing else
  not-recoverable   also no backup or recovery domain holds it
  serial=NUMBER     the device has this serial number
  fips=140-2:2      the module is certified at this level or higher (also 140-3:…, cc:…)
  method=2          CSBR 6.2.7.4.2 method 2 is supported in full
  format=NAME       the evidence is of this format
  vendor=NAME       the maker, as results name it
  fresh             the evidence carries the nonce given with --nonce
  max-age=30d       the evidence is not older: by the time it carries, else by the nonce given

Exit codes: 0 accept, 1 reject, 2 unverifiable, 64 wrong usage (a file that cannot be read, too).

Examples:
  countersign attestation verify --csr request.csr --evidence attestation.pem device.pem
  countersign attestation verify --csr request.csr --evidence evidence/ --require sign-only
  countersign attestation verify --public-key key.pem --evidence evidence/ --report record.html
  countersign attestation verify --csr request.csr --at 2026-11-22T12:00:00Z --json
  countersign attestation verify --csr request.csr --device-log devices.jsonl --subscriber acme")]
    Verify(Box<verify::Verify>),
    /// Print what evidence says, without judging it.
    #[command(after_help = "\
Nothing is verified: not a signature, not a chain, not a rule. Whoever made the files may have
written anything into them.

Examples:
  countersign attestation inspect attestation.pem device.pem
  countersign attestation inspect evidence/ --json")]
    Inspect(inspect::Inspect),
    /// The keys of makers that are trusted.
    #[command(subcommand)]
    Anchors(anchors::Anchors),
}

impl Attestation {
    pub(super) fn run(self, _: &Context) -> Result<Report> {
        match self {
            Self::Verify(v) => v.run(),
            Self::Inspect(i) => i.run(),
            Self::Anchors(a) => a.run(),
        }
    }
}
