//! A shell that outlives us by a moment: it reads until its standard input closes, which the
//! kernel does for us however we end, and then ends the server.

use crate::error::{Result, at};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// What becomes of the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AtTheEnd {
    /// The server is shut down at once and the folder removed.
    Remove,
    /// The server writes everything out, and the folder stays.
    Keep,
}

/// Ends the server when it is dropped, or when this process is gone.
#[derive(Debug)]
pub(super) struct Guard(Child);

/// `$0` is the folder, `$1` the signal, `$2` says whether the folder goes. Whether the server
/// still runs is asked of its own file: it may have been stopped or started anew meanwhile.
const SCRIPT: &str = r#"
cat >/dev/null
if read -r pid <"$0/data/postmaster.pid" && [ "$(cat "/proc/$pid/comm")" = postgres ]; then
    kill "-$1" "$pid"
    for _ in $(seq 100); do kill -0 "$pid" || break; sleep 0.1; done
    kill -9 "$pid"
fi
[ "$2" = keep ] || rm -rf "$0"
"#;

impl Guard {
    pub(super) fn new(dir: &Path, at_the_end: AtTheEnd) -> Result<Self> {
        let (signal, folder) = match at_the_end {
            AtTheEnd::Remove => ("QUIT", "remove"),
            AtTheEnd::Keep => ("INT", "keep"),
        };
        let child = Command::new("sh")
            .args(["-c", SCRIPT])
            .arg(dir)
            .args([signal, folder])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // An interrupt from the terminal is not for it: it must survive us.
            .process_group(0)
            .spawn()
            .map_err(at("sh"))?;
        Ok(Self(child))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
