//! `countersign sign`.

mod one;
mod timestamp;

use crate::args::SignerArg;
use crate::context::{Context, verifier_key};
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::heads;
use crate::progress;
use crate::report::Report;
use clap::Args;
use countersign_client::{Client, dto};
use countersign_core::{HashAlgorithm, SignerLabel, TenantName};
use countersign_formats::{Existing, Options};
use one::{Job, Signed};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Arguments of `sign`.
#[derive(Debug, Args)]
#[command(after_help = "\
Windows executables are signed in place (Authenticode); of any other file a detached signature
FILE.p7s is written. The file itself stays here: only its hash and the bytes around it are sent.
A receipt FILE.tlog-proof lands beside each output. On any refusal the file is as it was.

In CI no login is needed: set COUNTERSIGN_ID_TOKEN (GitLab id_tokens and others), or grant the
GitHub job the permission id-token: write.

Examples:
  countersign sign --signer acme/release app.exe setup.exe
  countersign sign --signer acme/release --timestamp http://tsa.example/ --out signed.exe app.exe
  countersign sign --signer acme/release --append --receipt-dir receipts/ dist/*.dll")]
pub struct Sign {
    /// Who signs, tenant/signer.
    #[arg(long, env = "COUNTERSIGN_SIGNER", value_name = "NAME")]
    signer: SignerArg,
    /// Hash of file and signature: sha-256, sha-384 or sha-512.
    #[arg(long, default_value = "sha-256", value_name = "ALGORITHM")]
    digest_algorithm: HashAlgorithm,
    /// Fetch an RFC 3161 timestamp here; several are tried in order.
    #[arg(long, value_name = "URL")]
    timestamp: Vec<String>,
    /// Refuse timestamps that do not lead to one of these certificates (PEM).
    #[arg(long, value_name = "FILE", requires = "timestamp")]
    timestamp_ca_file: Option<PathBuf>,
    /// Write here instead of in place.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Keep a signature that is there and add ours.
    #[arg(long, conflicts_with = "replace")]
    append: bool,
    /// Remove a signature that is there.
    #[arg(long)]
    replace: bool,
    /// A detached signature also for executables.
    #[arg(long)]
    detached: bool,
    /// Write receipts here instead of beside the output.
    #[arg(long, value_name = "DIR")]
    receipt_dir: Option<PathBuf>,
    /// Name of the program, shown by Windows when it asks for elevation.
    #[arg(long, value_name = "TEXT")]
    program_name: Option<String>,
    /// The publisher's link inside the signature.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Name this attempt: the same name and file again give the first signature, not a second one.
    /// Use one per build, for example the run id of the CI job.
    #[arg(long, env = "COUNTERSIGN_RETRY_ID", value_name = "TEXT")]
    retry_id: Option<String>,
    /// Files at once.
    #[arg(long, default_value_t = 4, value_name = "COUNT")]
    jobs: usize,
    /// What to sign.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

impl Sign {
    pub(super) fn run(self, context: &Context) -> Result<Report> {
        if self.out.is_some() && self.files.len() > 1 {
            return Err(Failure::usage(
                "--out takes one file; leave it out to sign in place",
            ));
        }
        let (tenant, signer) = context.signer(&self.signer)?;
        let timestamps =
            timestamp::Authorities::new(&self.timestamp, self.timestamp_ca_file.as_deref())?;
        let (client, certificate) = open(context, &tenant, &signer)?;
        let pin = context.pinned_keys(&client)?;
        let job = Job {
            client,
            tenant,
            signer,
            certificate: Mutex::new(certificate),
            options: Options {
                digest_algorithm: self.digest_algorithm,
                existing: match (self.append, self.replace) {
                    (true, _) => Existing::Append,
                    (_, true) => Existing::Replace,
                    _ => Existing::Refuse,
                },
                out: self.out,
                program_name: self.program_name,
                url: self.url,
                signing_time: None,
            },
            detached: self.detached,
            receipt_dir: self.receipt_dir,
            retry_id: self.retry_id,
            timestamps,
            pin,
        };
        let results = sign_all(context, &job, &self.files, self.jobs);
        let split = remember(context, &job, &results);
        report(&self.files, results, split)
    }
}

/// A session that the service accepts, and the certificate to sign with. A cached token that the
/// service no longer knows (it restarted with another token key) is exchanged anew once.
fn open(
    context: &Context,
    tenant: &TenantName,
    signer: &SignerLabel,
) -> Result<(Client, dto::SignerCertificate)> {
    let client = context.signing_session(tenant, signer)?;
    let first = client.signer_certificate(tenant, signer);
    match first {
        Err(e) if e.api().is_some_and(|a| a.code == "unauthenticated") => {
            context.forget_signing_session(tenant, signer)?;
            let client = context.signing_session(tenant, signer)?;
            let certificate = client.signer_certificate(tenant, signer)?;
            Ok((client, certificate))
        }
        other => Ok((client, other?)),
    }
}

/// Signs the files, some at once; the results are in the files' order.
fn sign_all(context: &Context, job: &Job, files: &[PathBuf], jobs: usize) -> Vec<Result<Signed>> {
    let bar = progress::bar(context.global.json, files.len() as u64, "signing");
    let next = AtomicUsize::new(0);
    let results: Vec<Mutex<Option<Result<Signed>>>> =
        files.iter().map(|_| Mutex::new(None)).collect();
    std::thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, 32).min(files.len()) {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    let (Some(file), Some(slot)) = (files.get(i), results.get(i)) else {
                        return;
                    };
                    let result = job.sign(file);
                    bar.inc(1);
                    if let Ok(mut slot) = slot.lock() {
                        *slot = Some(result);
                    }
                }
            });
        }
    });
    bar.finish_and_clear();
    let lost = || Failure::new(Exit::Internal, "lost", "the file was not worked on");
    results
        .into_iter()
        .map(|slot| {
            slot.into_inner()
                .ok()
                .flatten()
                .unwrap_or_else(|| Err(lost()))
        })
        .collect()
}

/// Keeps the latest head of each log that was used. A split view is what we came to find.
fn remember(context: &Context, job: &Job, results: &[Result<Signed>]) -> Option<Failure> {
    let mut latest: BTreeMap<&str, &Signed> = BTreeMap::new();
    for signed in results.iter().flatten() {
        let slot = latest.entry(&signed.origin).or_insert(signed);
        if signed.size > slot.size {
            *slot = signed;
        }
    }
    latest.into_iter().find_map(|(origin, signed)| {
        verifier_key(&job.pin, origin)
            .and_then(|key| {
                heads::remember(&context.home, &signed.checkpoint_note, &key, &job.client)
            })
            .err()
    })
}

fn report(
    files: &[PathBuf],
    results: Vec<Result<Signed>>,
    split: Option<Failure>,
) -> Result<Report> {
    // One file that failed is reported as any other command's failure is.
    if let ([_], None) = (files, &split) {
        let one = results.into_iter().next();
        return one
            .unwrap_or_else(|| Err(Failure::usage("no file")))
            .map(|s| {
                let text = s.line();
                Report::new(json!({"files": [s.json()]}), text)
            });
    }
    let mut exit = Exit::Done;
    let mut text = String::new();
    let mut list: Vec<Value> = Vec::new();
    for (file, result) in files.iter().zip(results) {
        match result {
            Ok(signed) => {
                text.push_str(&signed.line());
                text.push('\n');
                list.push(signed.json());
            }
            Err(f) => {
                exit = exit.worst(f.exit);
                eprintln!("{}: {}", file.display(), f.for_people());
                let mut json = f.document();
                if let Some(members) = json.as_object_mut() {
                    members.insert("file".to_owned(), json!(file));
                }
                list.push(json);
            }
        }
    }
    let mut json = json!({"files": list});
    if let Some(f) = split {
        exit = exit.worst(f.exit);
        eprintln!("{}", f.for_people());
        if let Some(members) = json.as_object_mut() {
            members.insert("log".to_owned(), f.document());
        }
    }
    Ok(Report::new(json, text).exit(exit))
}
