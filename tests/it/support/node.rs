//! One countersignd among others: its process, its configuration, the wires that lead to it.

use super::proxy::Wire;
use super::{Stack, program, signal};
use countersign_client::Web;
use countersign_testkit::programs::ReadyProgram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Longest a debug build takes to start on a busy machine.
const START: Duration = Duration::from_secs(60);

/// A node.
pub struct Node {
    /// For people.
    pub name: String,
    config: PathBuf,
    log: PathBuf,
    ca_file: PathBuf,
    /// Where it listens.
    pub port: u16,
    /// Clients reach it here.
    pub front: Wire,
    /// It reaches PostgreSQL here.
    pub back: Option<Wire>,
    process: Option<ReadyProgram>,
    /// Runs that ended: when, and with which code (`None`: by a signal).
    pub ends: Vec<(Instant, Option<i32>)>,
}

impl Node {
    /// The node of a configuration; not running yet.
    pub fn new(stack: &Stack, name: &str, config: &Path, port: u16) -> Self {
        Self {
            name: name.to_owned(),
            config: config.to_owned(),
            log: stack.path(&format!("countersignd-{name}.log")),
            ca_file: stack.ca_file(),
            port,
            front: Wire::tcp(port),
            back: None,
            process: None,
            ends: Vec::new(),
        }
    }

    /// URL by the wire.
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.front.port())
    }

    /// URL past the wire.
    pub fn direct(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// Starts it; again and again while what it needs is away. `false`: it does not start.
    pub fn start(&mut self, env: &[(&str, &str)]) -> bool {
        let until = Instant::now() + START;
        while Instant::now() < until {
            if self.try_start(env) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(300));
        }
        false
    }

    /// Starts it once.
    pub fn try_start(&mut self, env: &[(&str, &str)]) -> bool {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .expect("a log");
        let mut command = Command::new(program("countersignd"));
        command
            .args(["serve", "--config"])
            .arg(&self.config)
            .envs(env.iter().copied())
            .stderr(log);
        self.process = ReadyProgram::start(command, START).ok();
        self.process.is_some()
    }

    /// Whether its process is there.
    pub fn runs(&mut self) -> bool {
        let Some(process) = &mut self.process else {
            return false;
        };
        match process.child().try_wait() {
            Ok(None) => true,
            Ok(Some(status)) => {
                self.ends.push((Instant::now(), status.code()));
                self.process = None;
                false
            }
            Err(e) => panic!("{}: {e}", self.name),
        }
    }

    /// Waits for its end.
    pub fn ended(&mut self, within: Duration) -> bool {
        let until = Instant::now() + within;
        while self.runs() {
            if Instant::now() >= until {
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        true
    }

    /// Its process.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(ReadyProgram::id)
    }

    /// Its workers.
    pub fn workers(&self) -> Vec<u32> {
        self.pid().map(workers_of).unwrap_or_default()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.end("KILL");
    }

    /// SIGTERM, and its exit code.
    pub fn stop(&mut self) -> Option<i32> {
        self.end("TERM");
        self.ends.last().and_then(|(_, code)| *code)
    }

    fn end(&mut self, how: &str) {
        if self.runs()
            && let Some(pid) = self.pid()
        {
            signal(pid, how);
            if !self.ended(START) {
                panic!("{} does not end by SIG{how}", self.name);
            }
        }
    }

    /// SIGSTOP or SIGCONT; `false` if it is gone.
    pub fn signal(&mut self, how: &str) -> bool {
        let runs = self.runs();
        if let (true, Some(pid)) = (runs, self.pid()) {
            signal_if_there(pid, how);
        }
        runs
    }

    /// Whether it says that it can serve.
    pub fn ready(&self) -> bool {
        let Ok(web) = Web::new(Some(&self.ca_file), Duration::from_secs(5)) else {
            return false;
        };
        let url = format!("{}/readyz", self.direct());
        let answer = web.send("GET", &url, &[], None, 1 << 16);
        answer.is_ok_and(|a| a.status == 200)
    }

    /// What it wrote to its log.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // A stopped process does not hear SIGTERM.
        self.signal("CONT");
        if self.runs()
            && let Some(pid) = self.pid()
        {
            signal(pid, "TERM");
            self.ended(Duration::from_secs(10));
        }
        if std::thread::panicking() {
            let said = self.said();
            let tail: Vec<_> = said.lines().rev().take(15).collect();
            eprintln!("{}'s last lines:", self.name);
            for line in tail.iter().rev() {
                eprintln!("  {line}");
            }
        }
    }
}

/// The workers of a countersignd.
pub fn workers_of(server: u32) -> Vec<u32> {
    children(server, Some("countersign-hsm-worker"))
}

/// The children of a process.
pub fn children(parent: u32, named: Option<&str>) -> Vec<u32> {
    let mut command = Command::new("pgrep");
    command.args(["-P", &parent.to_string()]);
    if let Some(name) = named {
        command.args(["-f", name]);
    }
    let out = command.output().expect("pgrep runs");
    String::from_utf8_lossy(&out.stdout)
        .lines()
        .filter_map(|l| l.trim().parse().ok())
        .collect()
}

/// SIGKILL, SIGSTOP … to whom may be gone already.
pub fn signal_if_there(pid: u32, how: &str) {
    let _ = Command::new("kill")
        .args([&format!("-{how}"), &pid.to_string()])
        .stderr(std::process::Stdio::null())
        .status();
}
