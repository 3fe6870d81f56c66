//! `countersign receipt verify`: is this file what the key was used for?

use crate::context::{Context, verifier_key};
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::folder::{Folder, Trust, parse_keys};
use crate::report::Report;
use clap::{Args, Subcommand};
use countersign_content::ContentType;
use countersign_core::HashAlgorithm;
use countersign_formats::artifact_digest_of;
use countersign_signing_log::audit::LogSource as _;
use countersign_signing_log::checkpoint::CheckpointError;
use countersign_signing_log::commitment::digest_text;
use countersign_signing_log::leaf::{Authorisation, ContentKind};
use countersign_signing_log::note::{Note, NoteError};
use countersign_signing_log::receipt::ReceiptError;
use countersign_signing_log::{Checkpoint, Receipt as Proof, VerifiedReceipt, VerifierKey};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Subcommands of `receipt`.
#[derive(Debug, Subcommand)]
pub enum Receipt {
    /// Check, without the service, that a file's signature was recorded before it was made.
    #[command(after_help = "\
The log's key is the one given with --vkey, else the one in --log-dir (checked against the pin),
else the one pinned when you first used the service.

Examples:
  countersign receipt verify app.exe app.exe.tlog-proof
  countersign receipt verify app.exe app.exe.tlog-proof --log-dir logs/release")]
    Verify(Verify),
}

/// Arguments of `receipt verify`.
#[derive(Debug, Args)]
pub struct Verify {
    /// The file.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Its receipt.
    #[arg(value_name = "RECEIPT")]
    receipt: PathBuf,
    /// The log's key.
    #[arg(long, value_name = "KEY", conflicts_with = "log_dir")]
    vkey: Vec<String>,
    /// A downloaded log that must hold the receipt's leaf.
    #[arg(long, value_name = "DIR")]
    log_dir: Option<PathBuf>,
}

impl Receipt {
    pub(super) fn run(self, context: &Context) -> Result<Report> {
        let Self::Verify(v) = self;
        v.run(context)
    }
}

impl Verify {
    fn run(self, context: &Context) -> Result<Report> {
        // Bytes that are no text are no receipt either: bad, not wrong usage.
        let bytes = std::fs::read(&self.receipt).map_err(|e| Failure::file(&self.receipt, &e))?;
        let receipt = Proof::parse(&String::from_utf8_lossy(&bytes)).map_err(judge)?;
        let (keys, trust) = self.keys(context, &receipt)?;
        let verified = receipt.verify(&keys).map_err(judge)?;
        let authorisation = verified
            .authorisation()
            .ok_or_else(|| Failure::bad("receipt", "the leaf is not an authorisation"))?;
        let digest = file_digest(&self.file, &receipt, authorisation)?;
        receipt.opens_artifact(&verified, &digest).map_err(|e| {
            let mut f = judge(e);
            f.message = format!("{}: {}", self.file.display(), f.message);
            f
        })?;
        if let Some(dir) = &self.log_dir {
            in_folder(&Folder::at(dir), &receipt, &verified, &keys)?;
        }
        let when = jiff::Timestamp::from_microsecond(verified.leaf.time)
            .map_or_else(|_| verified.leaf.time.to_string(), |t| t.to_string());
        let json = json!({
            "file": self.file,
            "digest": digest,
            "log": verified.checkpoint.origin,
            "index": verified.index,
            "size": verified.checkpoint.size,
            "time": when,
            "signer": authorisation.signer,
            "key": authorisation.key,
            "request": authorisation.request,
            "trust": trust,
            "log_checked": self.log_dir,
        });
        Ok(Report::facts(json).headed("GOOD: the log authorised exactly this file"))
    }

    fn keys(&self, context: &Context, receipt: &Proof) -> Result<(Vec<VerifierKey>, Trust)> {
        if !self.vkey.is_empty() {
            return Ok((parse_keys(&self.vkey)?, Trust::Given));
        }
        if let Some(dir) = &self.log_dir {
            return Folder::at(dir).keys(context, &[]);
        }
        // The name is not proved yet, but the key is: it signs nothing but this service's logs.
        let origin = Note::parse(&receipt.checkpoint_note)
            .ok()
            .and_then(|n| Checkpoint::parse(n.unverified_text()).ok())
            .map(|c| c.origin)
            .ok_or_else(|| Failure::bad("receipt", "the receipt's checkpoint cannot be read"))?;
        let pins = context.home.pins()?;
        let keys = pins.values().map(|p| verifier_key(p, &origin));
        let keys = keys.collect::<Result<Vec<_>>>()?;
        if keys.is_empty() {
            return Err(Failure::new(
                Exit::Undecided,
                "no-key",
                "no log key is pinned here, so nothing can be said",
            )
            .hint("give --vkey or --log-dir"));
        }
        Ok((keys, Trust::Pinned))
    }
}

/// The file's digest as the leaf's content type takes it, with the hash that the receipt names.
fn file_digest(file: &Path, receipt: &Proof, a: &Authorisation) -> Result<String> {
    let content = match a.content {
        ContentKind::Authenticode => ContentType::Authenticode,
        ContentKind::Cms => ContentType::Cms,
        ContentKind::RawDigest | ContentKind::CertificateRequest => {
            return Err(judge(ReceiptError::NoArtifact));
        }
    };
    let hash: HashAlgorithm = receipt
        .artifact
        .as_ref()
        .and_then(|o| o.text())
        .and_then(|t| t.split_once(':'))
        .and_then(|(name, _)| name.parse().ok())
        .ok_or_else(|| judge(ReceiptError::NoArtifact))?;
    let digest = artifact_digest_of(file, content, hash)?;
    Ok(digest_text(hash.as_str(), digest.as_bytes()))
}

/// The downloaded log must hold this very leaf, and its head must be of the receipt's history as far
/// as can be seen without a proof: `log audit --receipts` proves the rest.
fn in_folder(
    folder: &Folder,
    receipt: &Proof,
    verified: &VerifiedReceipt,
    keys: &[VerifierKey],
) -> Result<()> {
    let note = folder
        .checkpoint()
        .map_err(|e| Failure::bad("checkpoint", e))?;
    let head = Checkpoint::open(&note, &folder.origin()?, keys)
        .map_err(|e| Failure::bad("checkpoint", e.to_string()))?;
    if head.origin != verified.checkpoint.origin {
        let message = format!(
            "the receipt is of {}, the folder of {}",
            verified.checkpoint.origin, head.origin
        );
        return Err(Failure::usage(message));
    }
    if verified.index >= head.size {
        return Err(Failure::new(
            Exit::Undecided,
            "log-too-old",
            "the downloaded log does not reach the receipt's leaf",
        )
        .hint("download it again"));
    }
    if head.size == verified.checkpoint.size && head.root != verified.checkpoint.root {
        return Err(Failure::bad(
            "split-view",
            "SPLIT VIEW: receipt and folder are of two histories",
        ));
    }
    if folder.leaf(verified.index, head.size)? != receipt.leaf {
        return Err(Failure::bad(
            "other-leaf",
            "the log holds another leaf at the receipt's index",
        ));
    }
    Ok(())
}

/// Bad, or not to be decided: an unknown key proves nothing either way.
fn judge(e: ReceiptError) -> Failure {
    let undecided = matches!(
        e,
        ReceiptError::NoArtifact
            | ReceiptError::Checkpoint(
                CheckpointError::NotSignedByLog { .. }
                    | CheckpointError::Note(NoteError::NoKnownKey)
            )
    );
    if undecided {
        Failure::new(Exit::Undecided, "receipt-undecided", e.to_string())
    } else {
        Failure::bad("receipt-bad", e.to_string())
    }
}
