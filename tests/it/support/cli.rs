//! The command line, as its user runs it.

use super::{Stack, program, text};
use serde_json::Value;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

/// Runs `countersign` with a home, a server and perhaps a tenant of its own.
#[derive(Clone)]
pub struct Cli {
    env: Vec<(String, String)>,
    /// Where its tokens, pins and checkpoints lie.
    pub home: PathBuf,
}

/// What a run gave.
#[derive(Debug)]
pub struct Output {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Cli {
    pub(super) fn new(stack: &Stack, who: &str) -> Self {
        let home = stack.path(&format!("home/{who}"));
        Self {
            env: vec![
                ("COUNTERSIGN_HOME".into(), text(&home)),
                ("COUNTERSIGN_SERVER".into(), stack.url()),
                ("COUNTERSIGN_CA_FILE".into(), text(&stack.ca_file())),
            ],
            home,
        }
    }

    /// With one more variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// For a tenant.
    pub fn of(self, tenant: &str) -> Self {
        self.env("COUNTERSIGN_TENANT", tenant)
    }

    fn command<S: AsRef<str>>(&self, args: &[S]) -> Command {
        let mut command = Command::new(program("countersign"));
        command
            .env_clear()
            .env("PATH", std::env::var("PATH").unwrap_or_default())
            .args(args.iter().map(AsRef::as_ref));
        for (name, value) in &self.env {
            command.env(name, value);
        }
        command
    }

    /// Starts it, what it says on both streams in files: a full pipe would stop it.
    pub fn spawn<S: AsRef<str>>(&self, args: &[S], stdout: &Path, stderr: &Path) -> Child {
        let file = |path: &Path| File::create(path).expect("a file for its words");
        self.command(args)
            .stdout(file(stdout))
            .stderr(file(stderr))
            .spawn()
            .expect("countersign runs")
    }

    /// Runs it.
    pub fn run<S: AsRef<str>>(&self, args: &[S]) -> Output {
        let out = self.command(args).output().expect("countersign runs");
        Output {
            code: out.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
        }
    }

    /// Runs it; it must succeed.
    pub fn ok<S: AsRef<str>>(&self, args: &[S]) -> Output {
        self.ends(0, args)
    }

    /// Runs it; it must end with this exit code.
    pub fn ends<S: AsRef<str>>(&self, code: i32, args: &[S]) -> Output {
        let out = self.run(args);
        let line: Vec<_> = args.iter().map(AsRef::as_ref).collect();
        assert_eq!(
            out.code,
            code,
            "countersign {}\n{}\n{}",
            line.join(" "),
            out.stdout,
            out.stderr
        );
        out
    }

    /// Runs it with `--json`; it must succeed. Of `sign` the lines, in the files' order.
    pub fn json<S: AsRef<str>>(&self, args: &[S]) -> Value {
        let mut all = vec!["--json"];
        all.extend(args.iter().map(AsRef::as_ref));
        let out = self.ok(&all);
        if all.get(1) == Some(&"sign") {
            return serde_json::json!({"files": out.files(&all)});
        }
        serde_json::from_str(&out.stdout)
            .unwrap_or_else(|e| panic!("not JSON ({e}): {}", out.stdout))
    }
}

impl Output {
    /// The lines of `sign --json`, in the order of the files in the arguments.
    pub fn files(&self, args: &[&str]) -> Vec<Value> {
        let mut lines: Vec<Value> = self
            .stdout
            .lines()
            .map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("not JSON ({e}): {l}")))
            .collect();
        lines.sort_by_key(|l| args.iter().rposition(|a| l["file"] == *a));
        lines
    }

    /// Whether either stream says it.
    pub fn says(&self, what: &str) -> bool {
        self.stdout.contains(what) || self.stderr.contains(what)
    }
}
