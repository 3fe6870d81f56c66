//! `countersign sign`.

mod engine;
mod file;
mod journal;
mod session;
mod timestamp;

use crate::args::SignerArg;
use crate::context::{Context, verifier_key};
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::heads;
use crate::home::sha256_hex;
use crate::progress;
use crate::report::{Report, line};
use clap::Args;
use countersign_client::{Client, MAX_ITEMS, dto};
use countersign_core::{HashAlgorithm, SignerLabel, TenantName};
use countersign_formats::{Existing, Options};
use engine::{Outcome, Run};
use file::{Job, absolute};
use journal::Journal;
use serde_json::{Value, json};
use session::Session;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// Arguments of `sign`.
#[derive(Debug, Args)]
#[command(after_help = "\
Windows executables are signed in place (Authenticode); of any other file a detached signature
FILE.p7s is written. The file itself stays here: only its hash and the bytes around it are sent,
for many files in one request. A receipt FILE.tlog-proof lands beside each output. On any refusal
the file is as it was.

A run that was interrupted (Ctrl-C, a dead network, a lost machine) is finished by the same
command, or by the same options with --resume and no files. What was signed is not signed again:
not even a file whose answer was lost. A file that changed since is signed anew.

In CI no login is needed: set COUNTERSIGN_ID_TOKEN (GitLab id_tokens and others), or grant the
GitHub job the permission id-token: write.

Exit code: 0 all files are signed, 6 some are, else none: why, as with every command.

Examples:
  countersign sign --signer acme/release app.exe setup.exe
  countersign sign --signer acme/release --timestamp http://tsa.example/ --out signed.exe app.exe
  countersign sign --signer acme/release --append --receipt-dir receipts/ dist/*.dll
  countersign sign --signer acme/release --resume")]
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
    /// Keep a signature that is there and add ours; its receipt is kept too, ours is
    /// FILE.2.tlog-proof then.
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
    /// Name this attempt: the same name and file again give the first signature, not a second one,
    /// also from another machine. Use one per build, for example the run id of the CI job.
    #[arg(long, env = "COUNTERSIGN_RETRY_ID", value_name = "TEXT")]
    retry_id: Option<String>,
    /// Finish the last run with this signer and these options that was interrupted: its files need
    /// not be named. (The same command with the same files goes on by itself.)
    #[arg(long)]
    resume: bool,
    /// Files hashed, timestamped and written at once.
    #[arg(long, default_value_t = 4, value_name = "COUNT")]
    jobs: usize,
    /// Files in one request, 1 to 100.
    #[arg(long, default_value_t = MAX_ITEMS, value_name = "COUNT", value_parser = batch_size)]
    batch: usize,
    /// What to sign.
    #[arg(required_unless_present = "resume", value_name = "FILE")]
    files: Vec<PathBuf>,
}

fn batch_size(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|n| (1..=MAX_ITEMS).contains(n))
        .ok_or_else(|| format!("1 to {MAX_ITEMS}"))
}

impl Sign {
    pub(super) fn run(self, context: &Context) -> Result<Report> {
        let (tenant, signer) = context.signer(&self.signer)?;
        one_is_there(&self.files)?;
        let options = self.fingerprint(&context.server()?, &tenant, &signer);
        let files = if self.files.is_empty() {
            Journal::left_behind(&context.home, &options)?
        } else {
            once_each(&self.files)?
        };
        if self.out.is_some() && files.len() > 1 {
            return Err(Failure::usage(
                "--out takes one file; leave it out to sign in place",
            ));
        }
        let timestamps =
            timestamp::Authorities::new(&self.timestamp, self.timestamp_ca_file.as_deref())?;
        let session = Session::new(context, &tenant, &signer);
        let (client, certificate) = open(&session, &tenant, &signer)?;
        let pin = context.pinned_keys(&client)?;
        let names: Vec<_> = files.iter().map(|f| absolute(f)).collect();
        let key = match &self.retry_id {
            Some(id) => sha256_hex(format!("retry-id\0{id}").as_bytes()),
            None => Client::idempotency_key(),
        };
        let journal = Journal::open(&context.home, &options, &names, key)?;
        going_on(&journal, files.len());
        let job = Job::new(
            (tenant.clone(), signer.clone()),
            Options {
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
            self.detached,
            self.receipt_dir,
            (timestamps, pin),
            &certificate,
            &journal,
        )?;
        let began = Instant::now();
        let outcomes = {
            let screen = Screen::new(context.global.json, &files);
            Run {
                job: &job,
                session: &session,
                journal: &journal,
                files: &files,
                batch: self.batch,
                jobs: self.jobs,
                stop: &interruptible(),
                report: &|file, outcome| screen.show(file, outcome),
            }
            .go()
        };
        // The session may have been renewed since.
        let client = session.client().map_or(client, |(c, _)| c);
        let split = remember(context, &job, &client, &outcomes);
        let summary = Summary::of(&outcomes);
        if context.global.json {
            not_reached(&files, &outcomes);
        } else if files.len() > 1 {
            eprintln!("{}", summary.text(began));
        }
        if summary.is_complete() {
            journal.end();
        }
        let mut exit = summary.exit();
        if let Some(f) = split {
            // An alarm, whatever became of the files.
            exit = f.exit;
            eprintln!("{}", f.for_people());
            if context.global.json {
                line(&f.document());
            }
        }
        Ok(Report::printed(exit))
    }

    /// What a run must have in common with one that it goes on with.
    fn fingerprint(&self, server: &str, tenant: &TenantName, signer: &SignerLabel) -> String {
        let path = |p: &Option<PathBuf>| p.as_deref().map(absolute);
        let all = json!({
            "server": server,
            "signer": format!("{tenant}/{signer}"),
            "digest_algorithm": self.digest_algorithm,
            "timestamp": self.timestamp,
            "out": path(&self.out),
            "append": self.append,
            "replace": self.replace,
            "detached": self.detached,
            "receipt_dir": path(&self.receipt_dir),
            "program_name": self.program_name,
            "url": self.url,
            "retry_id": self.retry_id,
        });
        sha256_hex(all.to_string().as_bytes())
    }
}

/// A session that the service accepts, and the certificate to sign with. A cached token that the
/// service no longer knows (it restarted with another token key) is exchanged anew once.
fn open(
    session: &Session<'_>,
    tenant: &TenantName,
    signer: &SignerLabel,
) -> Result<(Client, dto::SignerCertificate)> {
    let (client, which) = session.client()?;
    match client.signer_certificate(tenant, signer) {
        Err(e) if e.api().is_some_and(|a| a.code == "unauthenticated") => {
            let (client, _) = session.renew(which)?;
            let certificate = client.signer_certificate(tenant, signer)?;
            Ok((client, certificate))
        }
        other => Ok((client, other?)),
    }
}

/// Of many files each fails by itself; where none is there, nobody needs to log in to learn it.
fn one_is_there(files: &[PathBuf]) -> Result<()> {
    let mut first = None;
    for file in files {
        match std::fs::metadata(file) {
            Ok(_) => return Ok(()),
            Err(e) => first = first.or(Some(Failure::file(file, &e))),
        }
    }
    first.map_or(Ok(()), Err)
}

/// A file named twice would be signed twice at once.
fn once_each(files: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut seen = std::collections::HashSet::new();
    match files.iter().find(|f| !seen.insert(absolute(f))) {
        Some(twice) => Err(Failure::usage(format!(
            "{} is named twice",
            twice.display()
        ))),
        None => Ok(files.to_vec()),
    }
}

/// Ctrl-C lets what is answered be written; the second one ends the program at once.
fn interruptible() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    #[cfg(unix)]
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // In this order: the second signal finds the flag set. Without them a signal ends the
        // program at any moment, which a run survives as well.
        let ends = i32::from(Exit::Interrupted.code());
        let _ = signal_hook::flag::register_conditional_shutdown(signal, ends, Arc::clone(&stop));
        let _ = signal_hook::flag::register(signal, Arc::clone(&stop));
    }
    stop
}

fn going_on(journal: &Journal, files: usize) {
    if journal.begun.is_none() {
        return;
    }
    eprintln!(
        "note: going on with a run that was not finished: {} of {files} files were signed",
        journal.count()
    );
    if journal.too_old() {
        eprintln!(
            "note: it began more than a day ago: where an answer was lost, the file gets another \
             signature"
        );
    }
}

/// Tells of files as they are done.
struct Screen<'a> {
    json: bool,
    files: &'a [PathBuf],
    bar: indicatif::ProgressBar,
    failed: AtomicU64,
}

impl<'a> Screen<'a> {
    fn new(json: bool, files: &'a [PathBuf]) -> Self {
        Self {
            json,
            files,
            bar: progress::bar(json, files.len() as u64, "signing"),
            failed: AtomicU64::new(0),
        }
    }

    fn show(&self, file: usize, outcome: &Outcome) {
        let Some(name) = self.files.get(file) else {
            return;
        };
        match outcome {
            Outcome::Signed(signed) if self.json => line(&signed.line),
            Outcome::Before(before) if self.json => line(before),
            Outcome::Signed(signed) => self.bar.suspend(|| crate::out(&signed.text)),
            Outcome::Before(_) => {
                let text = format!("signed before: {}", name.display());
                self.bar.suspend(|| crate::out(&text));
            }
            Outcome::Failed(f) => {
                let failed = self
                    .failed
                    .fetch_add(1, Ordering::Relaxed)
                    .saturating_add(1);
                self.bar.set_message(format!("signing, {failed} failed,"));
                self.bar.suspend(|| match self.files.len() {
                    1 => eprintln!("{}", f.for_people()),
                    _ => eprintln!("{}: {}", name.display(), f.for_people()),
                });
                if self.json {
                    line(&failed_line(name, f));
                }
            }
            Outcome::NotReached => return,
        }
        self.bar.inc(1);
    }
}

impl Drop for Screen<'_> {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn failed_line(file: &std::path::Path, f: &Failure) -> Value {
    let mut json = f.document();
    if let Some(members) = json.as_object_mut() {
        members.insert("file".to_owned(), json!(file));
    }
    json
}

/// With `--json` each file has its line, also one that was not reached.
fn not_reached(files: &[PathBuf], outcomes: &[Outcome]) {
    let f = Failure::new(Exit::Interrupted, "interrupted", "not reached");
    for (file, outcome) in files.iter().zip(outcomes) {
        if matches!(outcome, Outcome::NotReached) {
            line(&failed_line(file, &f));
        }
    }
}

#[derive(Default)]
struct Summary {
    signed: usize,
    before: usize,
    failed: usize,
    not_reached: usize,
    worst: Option<Exit>,
}

impl Summary {
    fn of(outcomes: &[Outcome]) -> Self {
        let mut all = Self::default();
        for outcome in outcomes {
            match outcome {
                Outcome::Signed(_) => all.signed += 1,
                Outcome::Before(_) => all.before += 1,
                Outcome::NotReached => all.not_reached += 1,
                Outcome::Failed(f) => {
                    all.failed += 1;
                    all.worst = Some(all.worst.map_or(f.exit, |w| w.worst(f.exit)));
                }
            }
        }
        all
    }

    const fn is_complete(&self) -> bool {
        self.failed == 0 && self.not_reached == 0
    }

    fn exit(&self) -> Exit {
        match self.worst {
            _ if self.not_reached > 0 => Exit::Interrupted,
            None => Exit::Done,
            Some(_) if self.signed + self.before > 0 => Exit::Partly,
            Some(worst) => worst,
        }
    }

    fn text(&self, began: Instant) -> String {
        let seconds = began.elapsed().as_secs_f64();
        #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = self.signed as f64 / seconds.max(0.001);
        let mut text = format!("{} signed in {seconds:.1} s ({rate:.0}/s)", self.signed);
        for (count, what) in [
            (self.before, "signed before"),
            (self.failed, "failed"),
            (self.not_reached, "not reached"),
        ] {
            if count > 0 {
                text.push_str(&format!(", {count} {what}"));
            }
        }
        if !self.is_complete() {
            text.push_str("\n  hint: the same command signs the rest, and nothing twice");
        }
        text
    }
}

/// Keeps the latest head of each log that was used. A split view is what we came to find.
fn remember(
    context: &Context,
    job: &Job,
    client: &Client,
    outcomes: &[Outcome],
) -> Option<Failure> {
    let mut latest: BTreeMap<&str, &file::Signed> = BTreeMap::new();
    for outcome in outcomes {
        if let Outcome::Signed(signed) = outcome {
            let slot = latest.entry(&signed.origin).or_insert(signed);
            if signed.size > slot.size {
                *slot = signed;
            }
        }
    }
    latest.into_iter().find_map(|(origin, signed)| {
        verifier_key(&job.pin, origin)
            .and_then(|key| heads::remember(&context.home, &signed.checkpoint_note, &key, client))
            .err()
    })
}
