//! `countersignd doctor` and `countersign admin doctor`: everything good is said to be, each thing that is
//! broken is found by the check that is named for it, and nothing is changed or disturbed.

mod broken;
mod connect;
mod on_postgres;

use crate::support::{Stack, program, signal, text};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// What doctor said.
struct Said {
    report: Value,
}

impl Said {
    /// Looks.
    fn of(config: &Path) -> Self {
        let out = Command::new(program("countersignd"))
            .args(["doctor", "--json", "--config"])
            .arg(config)
            .output()
            .expect("countersignd runs");
        let report = serde_json::from_slice(&out.stdout).unwrap_or_else(|e| {
            panic!("{e}: {} {}", lossy(&out.stdout), lossy(&out.stderr));
        });
        let code = out.status.code().expect("an exit code");
        let said = Self { report };
        let bad = said
            .checks()
            .iter()
            .any(|c| c["status"] == "fail" || c["status"] == "unknown");
        assert_eq!(code, i32::from(bad), "{}", said.short());
        for check in said.checks() {
            let good = check["status"] == "ok" || check["status"] == "unknown";
            assert!(good || check["advice"].is_string(), "no advice: {check}");
        }
        said
    }

    fn checks(&self) -> &[Value] {
        self.report["checks"].as_array().expect("checks")
    }

    /// One line for each check.
    fn short(&self) -> String {
        let line = |c: &Value| {
            format!(
                "\n{} {} {}: {}",
                c["status"], c["name"], c["about"], c["seen"]
            )
        };
        self.checks().iter().map(line).collect()
    }

    /// The worst status of a check.
    fn status(&self, name: &str) -> &str {
        let all = self.checks().iter().filter(|c| c["name"] == name);
        let order = ["ok", "warn", "unknown", "fail"];
        all.filter_map(|c| c["status"].as_str())
            .max_by_key(|s| order.iter().position(|o| o == s))
            .unwrap_or_else(|| panic!("no check {name}: {}", self.short()))
    }

    /// The check has this status, and somewhere in what was seen stands this.
    fn is(&self, name: &str, status: &str, seen: &str) {
        assert_eq!(self.status(name), status, "{name}: {}", self.short());
        let told = self.checks().iter().any(|c| {
            c["name"] == name
                && c["status"] == status
                && c["seen"].as_str().is_some_and(|s| s.contains(seen))
        });
        assert!(told, "{name}: no \"{seen}\": {}", self.short());
    }

    /// No check but these failed or could not be made.
    fn only(&self, bad: &[&str]) {
        let others: Vec<_> = self
            .checks()
            .iter()
            .filter(|c| c["status"] == "fail" || c["status"] == "unknown")
            .filter(|c| !bad.contains(&c["name"].as_str().unwrap_or_default()))
            .collect();
        assert!(others.is_empty(), "not only {bad:?}: {others:#?}");
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// All names and contents below a folder, but for what SQLite writes for readers, too.
fn fingerprint(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).expect("a folder").flatten() {
            let path = entry.path();
            let name = text(&path);
            if path.is_dir() {
                folders.push(path);
            } else if path.is_file() && !name.ends_with("-shm") && !name.ends_with("-wal") {
                all.push((name, std::fs::read(&path).expect("readable")));
            }
        }
    }
    all.sort();
    all
}

/// The checks there are, each at least once.
const ALL: [&str; 17] = [
    "config",
    "user",
    "key-files",
    "tls",
    "service",
    "database",
    "schema",
    "durability",
    "clock",
    "sealing-key",
    "certificates",
    "revocation",
    "module",
    "worker",
    "token",
    "sandbox",
    "disk",
];

#[test]
fn a_good_stack_is_good_while_it_runs_and_while_it_does_not() {
    let mut stack = Stack::start();
    let admin = stack.tenant("acme");
    stack.signer(&admin, "acme/release", "ec-p256");
    let workers = stack.worker_pids();
    assert_eq!(workers.len(), 1);

    let said = Said::of(&stack.config());
    said.only(&[]);
    for name in ALL {
        // A kernel without Landlock, a disk that is nearly full: this machine's, not ours.
        if !["config", "sandbox", "disk", "durability"].contains(&name) {
            assert_eq!(said.status(name), "ok", "{name}: {}", said.short());
        }
    }
    said.is("config", "warn", "for development");
    said.is("service", "ok", "is ready");
    said.is("worker", "ok", &format!("process {}", workers[0]));
    said.is("token", "ok", "logged in");
    said.is("sealing-key", "ok", "opens all 4 keys");
    said.is("revocation", "ok", "1 lists");
    assert_eq!(stack.worker_pids(), workers, "they were not disturbed");

    // Nobody runs: the worker program looks, and changes nothing.
    assert_eq!(stack.stop_server(), Some(0));
    let before = fingerprint(&stack.path("service"));
    let said = Said::of(&stack.config());
    said.only(&[]);
    said.is("service", "ok", "does not run");
    said.is("worker", "ok", "none runs");
    said.is("module", "ok", "SoftHSM");
    said.is("token", "ok", "no login was made");
    said.is("sealing-key", "ok", "opens all 4 keys");
    let after = fingerprint(&stack.path("service"));
    let changed: Vec<_> = before
        .iter()
        .filter(|f| !after.contains(f))
        .chain(after.iter().filter(|f| !before.contains(f)))
        .map(|(name, bytes)| (name, bytes.len()))
        .collect();
    assert!(changed.is_empty(), "{changed:?}");

    // By the operator's command line, for people and for programs.
    let cli = stack.cli("nobody");
    let config = text(&stack.config());
    let args = ["admin", "doctor", "--service-config", &config];
    let out = cli.ends(0, &args);
    assert!(
        out.stdout.contains("ok    sealing-key: opens all 4"),
        "{out:?}"
    );
    assert!(out.stdout.contains("0 failed, 0 not looked at"), "{out:?}");
    let report = cli.json(&args);
    assert_eq!(report["worst"], "warn", "{report}");
    let nowhere = text(&stack.path("nowhere.toml"));
    let out = cli.ends(1, &["admin", "doctor", "--service-config", &nowhere]);
    assert!(out.stdout.contains("FAIL  config: "), "{out:?}");
    let args = [&args[..], &["--countersignd", "/nowhere/countersignd"]].concat();
    let out = cli.ends(4, &args);
    assert!(out.stderr.contains("/nowhere/countersignd"), "{out:?}");

    // And the service goes on with all of it.
    stack.start_server(&[]);
    let said = Said::of(&stack.config());
    said.only(&[]);
    said.is("token", "ok", "logged in");
}

#[test]
fn a_worker_that_hangs_and_a_certificate_that_was_not_loaded_are_seen() {
    let stack = Stack::bare();
    stack.tenant("acme");
    let worker = stack.worker_pids()[0];
    signal(worker, "STOP");
    let said = Said::of(&stack.config());
    signal(worker, "CONT");
    said.is("worker", "fail", "does not say hello");
    said.is("token", "unknown", "");
    said.only(&["worker", "token", "module", "sandbox"]);

    // Renewed, and the service was not started again.
    broken::certificate(&stack, (2020, 2999));
    let said = Said::of(&stack.config());
    said.is("service", "warn", "another certificate");
    said.is("tls", "ok", "fit");
}

#[test]
fn readiness_says_how_many_tokens_lack_which_measure() {
    let mut stack = Stack::bare();
    stack.tenant("acme");
    let gaps = |stack: &Stack| stack.raw().get("/readyz", None).json()["sandbox_gaps"].clone();
    let before = gaps(&stack);
    assert!(before.is_object(), "{before}");
    broken::edit(&stack, "[hsm]\n", "[hsm]\nsandbox = \"off\"\n");
    stack.stop_server();
    stack.start_server(&[]);
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while stack.raw().get("/readyz", None).json()["tokens"]["up"] != 1 {
        assert!(std::time::Instant::now() < end, "the token is not up");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let after = gaps(&stack);
    for measure in ["files", "network", "system-calls", "no-new-privileges"] {
        assert_eq!(after[measure], 1, "{after}");
    }
    assert!(
        after.get("no-core-dump").is_none(),
        "holds also with `off`: {after}"
    );
    let said = Said::of(&stack.config());
    said.is("sandbox", "warn", "system-calls: the configuration says");
    said.only(&[]);
}
