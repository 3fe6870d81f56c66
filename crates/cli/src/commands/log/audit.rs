//! `countersign log audit`.

use super::pairing::{self, Paired, Receipts};
use super::show::when;
use crate::commands::read_text;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::folder::{Folder, Trust};
use crate::heads::Seen;
use crate::progress;
use crate::report::Report;
use crate::table::printable;
use clap::Args;
use countersign_signing_log::audit::{AuditReport, LogSource as _, Verdict, audit, audit_with};
use countersign_signing_log::{Checkpoint, VerifierKey};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Arguments of `log audit`.
#[derive(Debug, Args)]
pub struct Audit {
    /// A folder made by `log download`.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Pair the log with all receipts (*.tlog-proof) below this folder.
    #[arg(long, value_name = "DIR")]
    receipts: Option<PathBuf>,
    /// Pair the log with released files: each must have been signed in it.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    files: Vec<PathBuf>,
    /// An earlier checkpoint that the log must continue, besides those remembered.
    #[arg(long, value_name = "FILE")]
    since: Vec<PathBuf>,
    /// The tenant's own log, which vouches for the heads of key logs.
    #[arg(long, value_name = "DIR")]
    tenant_log: Option<PathBuf>,
    /// The log's key, instead of the one pinned.
    #[arg(long, value_name = "KEY")]
    vkey: Vec<String>,
}

/// Everything an audit found out.
struct Findings {
    report: AuditReport,
    trust: Trust,
    bad_details: Vec<String>,
    details: u64,
    receipts: Receipts,
    files: Vec<Paired>,
}

impl Audit {
    pub(super) fn run(self, context: &Context) -> Result<Report> {
        let folder = Folder::at(&self.dir);
        let origin = folder.origin()?;
        let (keys, trust) = folder.keys(context, &self.vkey)?;
        let size = head_size(&folder, &origin, &keys);

        let mut receipts = match &self.receipts {
            Some(dir) => Receipts::read(dir, &origin, &keys)?,
            None => Receipts::default(),
        };
        let mut known = self.earlier(&origin, &keys)?;
        let seen = Seen::load(&context.home, &origin)?;
        // A folder older than what we have seen is old, not wrong; `log download` would have shouted.
        let remembered: Vec<_> = keys.iter().flat_map(|k| seen.checkpoints(k)).collect();
        let newer = remembered.iter().any(|c| c.size > size);
        known.extend(remembered.into_iter().filter(|c| c.size <= size));
        known.extend(receipts.heads(size).cloned());
        if let Some(dir) = &self.tenant_log {
            known.extend(vouched_for(context, dir, &origin, size)?);
        }

        let details = folder.details()?;
        let mut bad_details = Vec::new();
        let bar = progress::bar(context.global.json, size, "leaves");
        let report = audit_with(&folder, &origin, &keys, &known, |leaf| {
            bar.inc(1);
            receipts.visit(leaf);
            if let (Some(d), Some(l)) = (details.get(&leaf.index), leaf.leaf)
                && let Err(e) = d.check(l)
            {
                bad_details.push(format!("details of leaf {}: {e}", leaf.index));
            }
        });
        bar.finish_and_clear();
        let files = pairing::files(&self.files, &details)?;
        if newer {
            eprintln!("note: newer heads of this log have been seen: download it again");
        }
        let findings = Findings {
            report,
            trust,
            bad_details,
            details: details.len() as u64,
            receipts,
            files,
        };
        if trust != Trust::Folder {
            findings.remember(context, &folder, &keys, seen)?;
        }
        Ok(findings.report())
    }

    fn earlier(&self, origin: &str, keys: &[VerifierKey]) -> Result<Vec<Checkpoint>> {
        self.since
            .iter()
            .map(|path| {
                Checkpoint::open(&read_text(path)?, origin, keys)
                    .map_err(|e| Failure::bad("checkpoint", format!("{}: {e}", path.display())))
            })
            .collect()
    }
}

impl Findings {
    fn exit(&self) -> Exit {
        let log = match self.report.verdict {
            Verdict::Good => Exit::Done,
            Verdict::Undecided => Exit::Undecided,
            Verdict::Bad => Exit::Bad,
        };
        let details = if self.bad_details.is_empty() {
            Exit::Done
        } else {
            Exit::Bad
        };
        log.worst(details)
            .worst(self.receipts.exit())
            .worst(pairing::worst(&self.files))
    }

    /// A good log becomes what later runs compare with.
    fn remember(
        &self,
        context: &Context,
        folder: &Folder,
        keys: &[VerifierKey],
        mut seen: Seen,
    ) -> Result<()> {
        let (Verdict::Good, Some(head)) = (self.report.verdict, &self.report.checkpoint) else {
            return Ok(());
        };
        let Ok(note) = folder.checkpoint() else {
            return Ok(());
        };
        let _lock = context.home.lock()?;
        let size_of = |note: &str| {
            let open = |k| Checkpoint::open(note, &head.origin, std::slice::from_ref(k)).ok();
            keys.iter().find_map(open).map(|c| c.size)
        };
        let proved = seen.proved.as_deref().and_then(size_of).unwrap_or(0);
        if head.size >= proved {
            seen.proved = Some(note);
        }
        // Those up to here were given to the audit, which found them to be of this history.
        seen.unproved
            .retain(|n| size_of(n).is_none_or(|s| s > head.size));
        seen.store(&context.home)
    }

    fn report(self) -> Report {
        let exit = self.exit();
        let unpaired = self.receipts.signed_without_receipt();
        let json = json!({
            "exit": exit.code(),
            "log": self.report,
            "trust": self.trust,
            "details": {"lines": self.details, "bad": self.bad_details},
            "receipts": {
                "paired": self.receipts.results,
                "of_other_logs": self.receipts.other_logs,
                "signed_without_receipt": unpaired,
            },
            "files": self.files,
            "device_counter": "no device counter",
        });
        Report::new(json, self.text(exit, &unpaired)).exit(exit)
    }

    fn text(&self, exit: Exit, unpaired: &[u64]) -> String {
        let r = &self.report;
        let c = &r.counts;
        let mut lines = vec![format!("log        {}", r.origin)];
        if let Some(head) = &r.checkpoint {
            lines.push(format!(
                "head       {} leaves, root {}",
                head.size, head.root
            ));
        }
        let trust = match self.trust {
            Trust::Given => "given on the command line",
            Trust::Pinned => "the one pinned",
            Trust::Folder => "came with the folder: compare it with the one you were given",
        };
        lines.push(format!("key        {trust}"));
        if let (Some(first), Some(last)) = (r.first_time, r.last_time) {
            lines.push(format!("time       {} to {}", when(first), when(last)));
        }
        lines.push(format!(
            "history    continues {} earlier heads",
            r.consistent_with.len()
        ));
        if c.authorisations > 0 {
            lines.push(format!(
                "uses       {} authorised: {} signed, {} failed, {} unknown, {} open",
                c.authorisations, c.signed, c.failed, c.unknown, c.open
            ));
            lines.push("device     no device counter".to_owned());
        }
        lines.push(format!("details    {} lines", self.details));
        if self.receipts.given() {
            let good = self.receipts.results.iter().filter(|p| p.exit == 0).count();
            let all = self.receipts.results.len();
            let other = self.receipts.other_logs;
            lines.push(format!(
                "receipts   {good} of {all} have their leaf here ({other} of other logs)"
            ));
            if !unpaired.is_empty() {
                let some: Vec<_> = unpaired.iter().take(20).map(u64::to_string).collect();
                let dots = if unpaired.len() > 20 { ", …" } else { "" };
                lines.push(format!(
                    "           {} signatures without a receipt given: leaves {}{dots}",
                    unpaired.len(),
                    some.join(", ")
                ));
            }
        }
        if !self.files.is_empty() {
            let good = self.files.iter().filter(|p| p.exit == 0).count();
            lines.push(format!(
                "files      {good} of {} were signed here",
                self.files.len()
            ));
        }
        for f in &r.findings {
            lines.push(format!("{:?}: {}", f.severity, printable(&f.to_string())).to_lowercase());
        }
        if r.suppressed > 0 {
            lines.push(format!("… and {} findings like these", r.suppressed));
        }
        lines.extend(self.bad_details.iter().map(|b| format!("bad: {b}")));
        for p in self
            .receipts
            .results
            .iter()
            .chain(&self.files)
            .filter(|p| p.exit != 0)
        {
            lines.push(format!("{}: {}", p.path.display(), p.finding));
        }
        lines.push(
            match exit {
                Exit::Done => "GOOD: everything was checked and holds",
                Exit::Undecided => {
                    "UNDECIDED: nothing is proved wrong, but not all could be checked"
                }
                _ => "BAD: see above",
            }
            .to_owned(),
        );
        lines.join("\n")
    }
}

fn head_size(folder: &Folder, origin: &str, keys: &[VerifierKey]) -> u64 {
    let note = folder.checkpoint().unwrap_or_default();
    Checkpoint::open(&note, origin, keys).map_or(0, |c| c.size)
}

/// The heads of this key's log in the tenant's log, which must be good itself.
fn vouched_for(context: &Context, dir: &Path, origin: &str, size: u64) -> Result<Vec<Checkpoint>> {
    let folder = Folder::at(dir);
    let (keys, _) = folder.keys(context, &[])?;
    let report = audit(&folder, &folder.origin()?, &keys, None);
    if report.verdict == Verdict::Bad {
        let message = format!(
            "the tenant's log in {} is bad: audit it by itself",
            dir.display()
        );
        return Err(Failure::bad("tenant-log", message));
    }
    let heads = report.key_heads.into_values();
    Ok(heads
        .filter(|h| h.origin == origin && h.size <= size)
        .map(|h| Checkpoint {
            origin: h.origin,
            size: h.size,
            root: h.root.0,
        })
        .collect())
}
