//! Finding and starting our own programs.

use crate::error::{Error, Result, at};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// The directory with the built programs: `COUNTERSIGN_BIN_DIR`, else the one this program came
/// from (`target/<profile>`, also when called from its `deps`).
///
/// # Errors
/// [`Error::Io`] if this program does not know where it is.
pub fn bin_dir() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("COUNTERSIGN_BIN_DIR") {
        return Ok(dir.into());
    }
    let exe = std::env::current_exe().map_err(at("own path"))?;
    let mut dir = exe.parent().unwrap_or(Path::new(".")).to_owned();
    if dir.file_name().is_some_and(|n| n == "deps") {
        dir.pop();
    }
    Ok(dir)
}

/// Finds one of our programs (`countersignd`, `hsm-worker`, `countersign` …).
///
/// # Errors
/// [`Error::NotBuilt`] with the command that builds it.
pub fn find_program(name: &str, package: &str) -> Result<PathBuf> {
    let dir = bin_dir()?;
    let path = dir.join(name);
    if path.is_file() {
        Ok(path)
    } else {
        Err(Error::NotBuilt {
            name: name.to_owned(),
            package: package.to_owned(),
            dir,
        })
    }
}

/// A port that is free, as the next one is. Below the range that the kernel takes ports for connections from
/// (ip_local_port_range begins at 32768), so that they are still free in a moment.
///
/// # Errors
/// [`Error::Tool`] if there are none.
pub fn two_free_ports() -> Result<u16> {
    let free = |port: u16| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
    for _ in 0..1000 {
        let [high, low, ..] = *uuid::Uuid::new_v4().as_bytes();
        let port = 20_000 + u16::from_be_bytes([high, low]) % 12_000;
        if free(port) && free(port.saturating_add(1)) {
            return Ok(port);
        }
    }
    Err(Error::Tool {
        tool: "the kernel".to_owned(),
        message: "no two free ports".to_owned(),
    })
}

/// A program that printed one JSON line on standard output when it was ready. Killed on drop.
#[derive(Debug)]
pub struct ReadyProgram {
    child: Child,
    ready: Value,
}

impl ReadyProgram {
    /// Starts `command` and waits for its line. Standard error is inherited unless the caller has
    /// set it; what follows on standard output is read and dropped, so that the pipe never fills.
    ///
    /// # Errors
    /// [`Error::Io`] if it does not start, [`Error::NotReady`] if it ends or stays silent.
    pub fn start(mut command: Command, within: Duration) -> Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(at(program.clone()))?;
        let (send, receive) = mpsc::channel();
        if let Some(out) = child.stdout.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(out)
                    .lines()
                    .map_while(std::result::Result::ok)
                {
                    // The receiver is gone once the first line has come.
                    let _ = send.send(line);
                }
            });
        }
        let mut this = Self {
            child,
            ready: Value::Null,
        };
        let not_ready = |message: String| Error::NotReady {
            program: program.clone(),
            after: within,
            message,
        };
        let line = receive.recv_timeout(within).map_err(|e| match e {
            mpsc::RecvTimeoutError::Timeout => not_ready("it said nothing".to_owned()),
            mpsc::RecvTimeoutError::Disconnected => not_ready("it ended".to_owned()),
        })?;
        this.ready = serde_json::from_str(&line)
            .map_err(|_| not_ready(format!("its first line is not JSON: {line}")))?;
        Ok(this)
    }

    /// The line it printed.
    #[must_use]
    pub const fn ready(&self) -> &Value {
        &self.ready
    }

    /// A text member of the line, or the empty string.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        self.ready.get(name).and_then(Value::as_str).unwrap_or("")
    }

    /// The process, to signal it or to wait for it.
    pub const fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for ReadyProgram {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks `ready` every 20 ms until it says yes.
///
/// # Errors
/// [`Error::NotReady`] after `within`.
pub fn wait_until(what: &str, within: Duration, mut ready: impl FnMut() -> bool) -> Result<()> {
    let start = Instant::now();
    while !ready() {
        if start.elapsed() > within {
            return Err(Error::NotReady {
                program: what.to_owned(),
                after: within,
                message: "it did not come about".to_owned(),
            });
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
