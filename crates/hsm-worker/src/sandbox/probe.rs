//! Tries from inside what the sandbox must stop: for tests, and for operators who want to see it
//! (`countersign-hsm-worker try-sandbox`). Nothing is changed, whatever succeeds.
#![allow(unsafe_code)]

use serde::Serialize;
use std::io;
use std::net::{TcpStream, UdpSocket};
use std::path::Path;

/// One thing tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Attempt {
    /// What.
    pub attempt: String,
    /// Whether it was stopped.
    pub stopped: bool,
    /// What the system said.
    pub detail: String,
}

/// Tries to read `file`, to reach the network, to execute a program, to trace and to signal another
/// process.
#[must_use]
pub fn attempts(file: &Path) -> Vec<Attempt> {
    vec![
        attempt(&format!("read {}", file.display()), || {
            std::fs::File::open(file).map(drop)
        }),
        attempt("write /tmp", || {
            let path = format!("/tmp/countersign-sandbox-{}", std::process::id());
            std::fs::File::create_new(&path).and_then(|_| std::fs::remove_file(&path))
        }),
        attempt("connect by TCP", || {
            // Refused by nobody there is no sandbox.
            match TcpStream::connect("127.0.0.1:9") {
                Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
                other => other.map(drop),
            }
        }),
        attempt("open a UDP socket", || {
            UdpSocket::bind("127.0.0.1:0").map(drop)
        }),
        attempt("execute a program", || {
            std::process::Command::new("/bin/true").status().map(drop)
        }),
        attempt("trace", || {
            // SAFETY: ptrace(2) PTRACE_TRACEME ignores its other arguments and touches no memory; if
            // it succeeds our parent may trace us until we exit, which is next.
            let result = unsafe {
                libc::ptrace(
                    libc::PTRACE_TRACEME,
                    0,
                    std::ptr::null_mut::<libc::c_void>(),
                    std::ptr::null_mut::<libc::c_void>(),
                )
            };
            if result == 0 {
                Ok(())
            } else {
                Err(io::Error::last_os_error())
            }
        }),
    ]
}

fn attempt(name: &str, f: impl FnOnce() -> io::Result<()>) -> Attempt {
    let result = f();
    Attempt {
        attempt: name.to_owned(),
        stopped: result.is_err(),
        detail: result.map_or_else(|e| e.to_string(), |()| "it succeeded".into()),
    }
}
