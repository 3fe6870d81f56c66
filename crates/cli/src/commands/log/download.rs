//! `countersign log download`.

use crate::context::{Context, verifier_key};
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::folder::Folder;
use crate::heads;
use crate::home::Pin;
use crate::progress;
use crate::report::Report;
use clap::Args;
use countersign_client::{Client, dto};
use countersign_core::{KeyId, LogId, TenantName};
use countersign_signing_log::Checkpoint;
use countersign_signing_log::details::Details;
use countersign_signing_log::tile::{EntryBundle, TileKind, TilePath, tiles_for_size};
use serde::Serialize;
use std::path::{Path, PathBuf};

const DETAILS_PAGE: u64 = 1000;

/// Arguments of `log download`.
#[derive(Debug, Args)]
pub struct Download {
    /// The log of this key's uses.
    #[arg(long, value_name = "ID", conflicts_with = "all")]
    key: Option<KeyId>,
    /// Every log of the tenant, each in a folder named by its id.
    #[arg(long)]
    all: bool,
    /// Folder to write to.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// What was downloaded.
#[derive(Debug, Serialize)]
struct Done {
    log: String,
    kind: String,
    origin: String,
    size: u64,
    new_files: u64,
    details: u64,
    folder: PathBuf,
}

impl Download {
    pub(super) fn run(self, context: &Context) -> Result<Report> {
        let tenant = context.tenant()?;
        let client = context.session(&tenant)?;
        let pin = context.pinned_keys(&client)?;
        let logs = client.logs(&tenant)?;
        let wanted: Vec<(dto::Log, PathBuf)> = logs
            .into_iter()
            .filter(|log| match &self.key {
                _ if self.all => true,
                Some(key) => log.key.as_deref() == Some(&key.to_string()),
                None => log.kind == "tenant",
            })
            .map(|log| {
                let folder = if self.all {
                    self.out.join(&log.id)
                } else {
                    self.out.clone()
                };
                (log, folder)
            })
            .collect();
        if wanted.is_empty() {
            let message = "there is no such log, or it is not yours";
            return Err(Failure::new(Exit::Absent, "not-found", message));
        }
        let job = Job {
            context,
            client: &client,
            tenant: &tenant,
            pin: &pin,
        };
        let done = wanted
            .iter()
            .map(|(log, folder)| job.download(log, folder))
            .collect::<Result<Vec<_>>>()?;
        let mut text = String::new();
        for d in &done {
            text.push_str(&format!(
                "{} log {}: {} leaves, {} new files, in {}\n",
                d.kind,
                d.log,
                d.size,
                d.new_files,
                d.folder.display()
            ));
        }
        text.push_str(&format!(
            "Next: countersign log audit {}",
            self.out.display()
        ));
        Ok(Report::new(done, text))
    }
}

struct Job<'a> {
    context: &'a Context,
    client: &'a Client,
    tenant: &'a TenantName,
    pin: &'a Pin,
}

impl Job<'_> {
    fn download(&self, log: &dto::Log, dir: &Path) -> Result<Done> {
        let id: LogId = log.id.parse().map_err(|_| odd("a log's id is no UUID"))?;
        let folder = Folder::at(dir);
        if let Ok(there) = folder.origin()
            && there != log.origin
        {
            let message = format!("{} holds another log, {there}", dir.display());
            return Err(Failure::usage(message));
        }
        let key = verifier_key(self.pin, &log.origin)?;
        let note = self.client.checkpoint(id)?;
        let head = Checkpoint::open(&note, &log.origin, std::slice::from_ref(&key))
            .map_err(|e| Failure::bad("checkpoint", format!("{}: {e}", log.origin)))?;
        // Shouts on a split view, and on a log that shrank, before anything is overwritten.
        self.check_grown(&folder, &head, &key)?;
        heads::remember(&self.context.home, &note, &key, self.client)?;

        folder.write("origin", format!("{}\n", log.origin).as_bytes())?;
        folder.write("vkey", format!("{key}\n").as_bytes())?;
        let new_files = self.tiles(id, &folder, head.size)?;
        let details = self.details(id, &folder, head.size)?;
        // Last: a folder with a checkpoint is complete up to it.
        folder.write("checkpoint", note.as_bytes())?;
        Ok(Done {
            log: log.id.clone(),
            kind: log.kind.clone(),
            origin: log.origin.clone(),
            size: head.size,
            new_files,
            details,
            folder: dir.to_owned(),
        })
    }

    /// The head must not be older than the one in the folder or the one remembered.
    fn check_grown(
        &self,
        folder: &Folder,
        head: &Checkpoint,
        key: &countersign_signing_log::VerifierKey,
    ) -> Result<()> {
        let in_folder = folder
            .read("checkpoint")?
            .and_then(|b| String::from_utf8(b).ok())
            .and_then(|n| Checkpoint::open(&n, &head.origin, std::slice::from_ref(key)).ok());
        let remembered = heads::Seen::load(&self.context.home, &head.origin)?.checkpoints(key);
        for known in remembered.iter().chain(&in_folder) {
            if known.size > head.size {
                return Err(Failure::bad(
                    "log-shrank",
                    format!(
                        "{} had {} leaves and is now served with {}",
                        head.origin, known.size, head.size
                    ),
                )
                .hint("keep the folder and COUNTERSIGN_HOME as evidence, and ask the operator"));
            }
        }
        Ok(())
    }

    fn tiles(&self, id: LogId, folder: &Folder, size: u64) -> Result<u64> {
        let total = tiles_for_size(size).count() as u64;
        let bar = progress::bar(self.context.global.json, total, "tiles");
        let mut new = 0;
        for path in tiles_for_size(size) {
            bar.inc(1);
            let name = path.to_string();
            // Tiles never change, so one that is there is the one.
            if folder.dir().join(&name).is_file() {
                continue;
            }
            let bytes = self.fetch(id, path)?;
            folder.write(&name, &bytes)?;
            new += 1;
        }
        bar.finish_and_clear();
        Ok(new)
    }

    /// A tile; where a partial one is gone, the beginning of the full one (tlog-tiles).
    fn fetch(&self, id: LogId, path: TilePath) -> Result<Vec<u8>> {
        let e = match self.client.tile(id, &path.to_string()) {
            Ok(bytes) => return Ok(bytes),
            Err(e) => e,
        };
        if path.is_full() || e.api().is_none_or(|a| a.status != 404) {
            return Err(e.into());
        }
        let bytes = self.client.tile(id, &path.full().to_string())?;
        let width = usize::from(path.width);
        match path.kind {
            TileKind::Hashes { .. } => Ok(bytes.into_iter().take(width * 32).collect()),
            TileKind::Entries => {
                let mut bundle = EntryBundle::decode(&bytes, path.full().width)
                    .map_err(|e| odd(&e.to_string()))?;
                bundle.entries.truncate(width);
                bundle.encode().map_err(|e| odd(&e.to_string()))
            }
        }
    }

    /// Details are added to those there: lines already downloaded stay, also after the service has
    /// erased them.
    fn details(&self, id: LogId, folder: &Folder, size: u64) -> Result<u64> {
        let mut all = folder.details()?;
        let mut next = all.keys().next_back().map_or(0, |i| i.saturating_add(1));
        while next < size {
            let page = match self.client.details(self.tenant, id, next, DETAILS_PAGE) {
                Ok(page) => page,
                Err(e) if e.api().is_some_and(|a| matches!(a.status, 403 | 404)) => {
                    eprintln!("warning: no access to the details of {id}: {e}");
                    break;
                }
                Err(e) => return Err(e.into()),
            };
            let before = next;
            for line in page.lines().filter(|l| !l.is_empty()) {
                let details = Details::parse_line(line).map_err(|e| odd(&e.to_string()))?;
                next = next.max(details.index.saturating_add(1));
                all.insert(details.index, details);
            }
            if next == before {
                break;
            }
        }
        let mut text = String::new();
        for details in all.values().filter(|d| d.index < size) {
            text.push_str(&details.to_line());
            text.push('\n');
        }
        folder.write("details.ndjson", text.as_bytes())?;
        Ok(text.lines().count() as u64)
    }
}

fn odd(what: &str) -> Failure {
    Failure::new(Exit::Internal, "bad-answer", what)
}
