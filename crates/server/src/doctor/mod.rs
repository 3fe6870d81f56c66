//! `countersignd doctor`: looks at everything that signing needs on this machine, and says what it saw
//! and what to do. It changes nothing, disturbs no running service and never logs in to a token.
//!
//! | module | checks |
//! | --- | --- |
//! | here | `config`, `user`, key files |
//! | [`tls`] | `tls`: certificate, key, dates; `service`: whether it runs, what it says, what it serves |
//! | [`database`] | `database`, `schema`, `durability`, `clock`, `sealing-key`, `certificates`, `revocation` |
//! | [`tokens`] | `module`, `worker`, `token`, `sandbox` |
//! | [`disk`] | `disk` |

mod database;
mod disk;
mod tls;
mod tokens;

use crate::ServerError;
use crate::config::{Config, FileOf};
use crate::files;
use serde::Serialize;
use std::path::Path;

/// How a check ended, from good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Good.
    Ok,
    /// Works, and will not for long, or is weaker than it should be.
    Warn,
    /// Could not be looked at, because of another check that failed.
    Unknown,
    /// Bad.
    Fail,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its name.
    pub name: &'static str,
    /// Which of several: a token, a folder.
    pub about: Option<String>,
    /// How it ended.
    pub status: Status,
    /// What was seen.
    pub seen: String,
    /// What to do.
    pub advice: Option<String>,
}

/// All checks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The configuration.
    pub config: String,
    /// The worst of them.
    pub worst: Status,
    /// One after the other.
    pub checks: Vec<Check>,
}

impl Check {
    fn new(name: &'static str, status: Status, seen: impl Into<String>) -> Self {
        Self {
            name,
            about: None,
            status,
            seen: seen.into(),
            advice: None,
        }
    }

    fn ok(name: &'static str, seen: impl Into<String>) -> Self {
        Self::new(name, Status::Ok, seen)
    }

    fn warn(name: &'static str, seen: impl Into<String>) -> Self {
        Self::new(name, Status::Warn, seen)
    }

    fn fail(name: &'static str, seen: impl Into<String>) -> Self {
        Self::new(name, Status::Fail, seen)
    }

    fn unknown(name: &'static str, because: &str) -> Self {
        Self::new(name, Status::Unknown, format!("not looked at: {because}"))
    }

    fn about(mut self, what: impl Into<String>) -> Self {
        self.about = Some(what.into());
        self
    }

    fn advice(mut self, what: impl Into<String>) -> Self {
        self.advice = Some(what.into());
        self
    }
}

impl Report {
    fn new(config: &Path, checks: Vec<Check>) -> Self {
        let worst = checks.iter().map(|c| c.status).max();
        Self {
            config: config.display().to_string(),
            worst: worst.unwrap_or(Status::Ok),
            checks,
        }
    }

    /// 0, or 1 if a check failed or could not be made. Warnings are no failure.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self.worst {
            Status::Ok | Status::Warn => 0,
            Status::Unknown | Status::Fail => 1,
        }
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        for c in &self.checks {
            let status = match c.status {
                Status::Ok => "ok",
                Status::Warn => "WARN",
                Status::Unknown => "?",
                Status::Fail => "FAIL",
            };
            let about = c
                .about
                .as_ref()
                .map(|a| format!(" {}", printable(a)))
                .unwrap_or_default();
            let name = format!("{}{about}", c.name);
            out.push_str(&format!("{status:4}  {name}: {}\n", printable(&c.seen)));
            if let Some(advice) = &c.advice {
                out.push_str(&format!("      do: {}\n", printable(advice)));
            }
        }
        let count = |s: Status| self.checks.iter().filter(|c| c.status == s).count();
        out.push_str(&format!(
            "{} ok, {} warnings, {} failed, {} not looked at\n",
            count(Status::Ok),
            count(Status::Warn),
            count(Status::Fail),
            count(Status::Unknown)
        ));
        out
    }
}

/// What others wrote (a module, a token, a file's name) moves no cursor.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// Looks at everything.
pub async fn examine(path: &Path) -> Report {
    let read = files::read_text(path).and_then(|text| Config::parse(path, &text));
    let config = match read {
        Ok(config) => config,
        Err(e) => {
            let check = Check::fail("config", e.to_string())
                .advice("correct the file; nothing else can be looked at before");
            return Report::new(path, vec![check]);
        }
    };
    let mut checks = vec![settings(path, &config), user(&config)];
    checks.extend(key_files(&config));
    checks.push(tls::files(&config));
    let (service, runs) = tls::service(&config).await;
    checks.push(service);
    checks.extend(database::look(&config).await);
    checks.extend(tokens::look(&config, runs).await);
    checks.extend(disk::look(&config));
    Report::new(path, checks)
}

/// The file, and what it names beside keys: connectors, lists, telemetry.
fn settings(path: &Path, config: &Config) -> Check {
    let wrong = config
        .files()
        .into_iter()
        .filter(|(of, _)| *of == FileOf::Settings)
        .find_map(|(_, found)| found.err())
        .or_else(|| config.connectors().err())
        .or_else(|| config.revocation.fetcher(config.development).err());
    match wrong {
        Some(e) => {
            Check::fail("config", e.to_string()).advice("correct the file, or what it names")
        }
        None if config.development => Check::warn(
            "config",
            format!("{} is good, for development", path.display()),
        )
        .advice("never serve customers with `development = true`"),
        None => Check::ok("config", format!("{} is good", path.display())),
    }
}

/// Whether we see what the service sees.
fn user(config: &Config) -> Check {
    use std::os::unix::fs::MetadataExt as _;
    let ours = rustix::process::geteuid().as_raw();
    match std::fs::metadata(&config.data_dir) {
        Ok(meta) if meta.uid() == ours => {
            Check::ok("user", format!("user {ours}, who owns data_dir"))
        }
        Ok(meta) => Check::warn(
            "user",
            format!(
                "this is user {ours}, and data_dir belongs to user {}: what that user may do is not seen",
                meta.uid()
            ),
        )
        .advice("run it as the service's user: runuser -u countersign -- countersignd doctor …"),
        Err(e) => Check::fail("user", format!("{}: {e}", config.data_dir.display()))
            .advice("make the folder, for the service's user, 0700"),
    }
}

/// Files that hold keys, passwords and PINs.
fn key_files(config: &Config) -> Vec<Check> {
    let wrong: Vec<Check> = config
        .files()
        .into_iter()
        .filter(|(of, _)| *of == FileOf::Secret)
        .filter_map(|(_, found)| found.err())
        .map(|e| {
            let advice = match &e {
                ServerError::NotPrivate { .. } => "run that command, and find out who read it",
                _ => "put it back from the safe: docs/operators/backup.md",
            };
            Check::fail("key-files", e.to_string()).advice(advice)
        })
        .chain(accounts_to_be(config))
        .collect();
    if wrong.is_empty() {
        vec![Check::ok(
            "key-files",
            "all there, and private; are they in the safe, too?",
        )]
    } else {
        wrong
    }
}

/// Folders of ACME accounts that are made with the first order: the service must be able to put them there.
fn accounts_to_be(config: &Config) -> impl Iterator<Item = Check> {
    use rustix::fs::{Access, AtFlags, CWD, accessat};
    let files = config.cas.iter().filter_map(|c| c.account_file.as_deref());
    let folders = files.filter(|f| !f.exists()).filter_map(Path::parent);
    folders.filter_map(|folder| {
        let may = Access::WRITE_OK | Access::EXEC_OK;
        let wrong = match std::fs::metadata(folder) {
            Ok(found) if !found.is_dir() => Some("is no folder".to_owned()),
            Ok(_) => accessat(CWD, folder, may, AtFlags::EACCESS)
                .err()
                .map(|e| e.to_string()),
            Err(e) => Some(e.to_string()),
        };
        wrong.map(|problem| {
            let seen = format!(
                "account_file: it is not there yet, and cannot be made in {}: {problem}",
                folder.display()
            );
            Check::fail("key-files", seen).advice("make the folder, for the service's user, 0700")
        })
    })
}

/// A duration for people: days, hours, minutes or seconds.
fn spell(d: std::time::Duration) -> String {
    let s = d.as_secs();
    match s {
        172_800.. => format!("{} days", s / 86_400),
        7200.. => format!("{} hours", s / 3600),
        120.. => format!("{} minutes", s / 60),
        _ => format!("{s} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_check_decides() {
        let report = |all: &[Status]| {
            let checks = all.iter().map(|s| Check::new("x", *s, "")).collect();
            Report::new(Path::new("c"), checks)
        };
        for (all, code) in [
            (&[][..], 0),
            (&[Status::Ok, Status::Warn], 0),
            (&[Status::Ok, Status::Unknown], 1),
            (&[Status::Fail, Status::Warn], 1),
        ] {
            assert_eq!(report(all).exit_code(), code, "{all:?}");
        }
    }

    #[test]
    fn people_read_what_was_seen_and_what_to_do() {
        let checks = vec![
            Check::fail("token", "latched\u{1b}[2J")
                .about("acme")
                .advice("look"),
            Check::ok("disk", "much"),
        ];
        let text = Report::new(Path::new("c"), checks).text();
        assert!(
            text.starts_with(
                "FAIL  token acme: latched\u{fffd}[2J\n      do: look\nok    disk: much\n"
            ),
            "{text}"
        );
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_read_ends_it() {
        let t = tempfile::tempdir().unwrap();
        let path = t.path().join("countersignd.toml");
        let report = examine(&path).await;
        assert_eq!((report.worst, report.checks.len()), (Status::Fail, 1));
        std::fs::write(&path, "listen = 5").unwrap();
        let report = examine(&path).await;
        assert_eq!(report.exit_code(), 1);
        assert!(report.checks[0].seen.contains("line 1"), "{report:?}");
    }

    #[test]
    fn an_account_that_could_not_be_kept_is_told_before_it_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let text = "listen = \"127.0.0.1:1\"\norigin = \"x\"\ndata_dir = \"data\"\nsealing_key_file = \"s\"\n\
                    [tls]\ncert_file = \"c\"\nkey_file = \"k\"\n\
                    [hsm]\nmodule = \"/m.so\"\nprofile = \"p.toml\"\nworker_key_file = \"w\"\n\
                    [[cas]]\nname = \"ak\"\nurl = \"https://x\"\n\
                    [[cas]]\nname = \"step\"\nkind = \"acme\"\nurl = \"https://y\"\n\
                    account_file = \"later/account.json\"\nattestation_ca = \"ak\"\n";
        let config = Config::parse(&dir.path().join("c.toml"), text).unwrap();
        let seen = || -> Vec<String> { accounts_to_be(&config).map(|c| c.seen).collect() };
        let folder = dir.path().join("later");
        assert!(seen()[0].contains("cannot be made in"), "{:?}", seen());
        std::fs::write(&folder, "").unwrap();
        assert!(seen()[0].contains("is no folder"), "{:?}", seen());
        std::fs::remove_file(&folder).unwrap();
        std::fs::create_dir(&folder).unwrap();
        assert!(seen().is_empty(), "{:?}", seen());
        // Once it is there, it is looked at itself.
        std::fs::write(folder.join("account.json"), "{}").unwrap();
        assert!(seen().is_empty(), "{:?}", seen());
    }

    #[test]
    fn durations_are_spelt() {
        let spell = |s| super::spell(std::time::Duration::from_secs(s));
        assert_eq!(spell(1), "1 s");
        assert_eq!(spell(600), "10 minutes");
        assert_eq!(spell(90_000), "25 hours");
        assert_eq!(spell(864_000), "10 days");
    }
}
