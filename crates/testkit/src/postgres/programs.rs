//! PostgreSQL's programs, and the user they run as: PostgreSQL refuses to be root.

use crate::error::{Error, Result, at, at_path};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where they are, and as whom they run.
#[derive(Debug, Clone)]
pub struct Programs {
    folder: PathBuf,
    /// `None`: as ourselves.
    user: Option<(u32, u32)>,
}

impl Programs {
    /// Finds them: `COUNTERSIGN_TEST_POSTGRES_BIN`, else where distributions put them, the newest
    /// version first.
    ///
    /// # Errors
    /// [`Error::Missing`] with the command that installs them.
    pub fn find() -> Result<Self> {
        let missing = Error::Missing {
            tool: "PostgreSQL",
            install: "scripts/need.sh test (apt-get install postgresql), or name the folder of its \
                      programs in COUNTERSIGN_TEST_POSTGRES_BIN",
        };
        let named = std::env::var_os("COUNTERSIGN_TEST_POSTGRES_BIN").map(PathBuf::from);
        let mut debian: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
            .into_iter()
            .flatten()
            .flatten()
            .map(|version| version.path().join("bin"))
            .collect();
        debian.sort_unstable();
        let folder = named
            .into_iter()
            .chain(debian.into_iter().rev())
            .chain([PathBuf::from("/usr/local/bin"), PathBuf::from("/usr/bin")])
            .find(|f| {
                ["initdb", "postgres", "psql"]
                    .iter()
                    .all(|p| f.join(p).is_file())
            });
        let Some(folder) = folder else {
            return Err(missing);
        };
        let root = std::fs::metadata("/proc/self")
            .map_err(at("/proc/self"))?
            .uid()
            == 0;
        let user = if root { Some(unprivileged()?) } else { None };
        Ok(Self { folder, user })
    }

    /// One of them, run in `dir` by the user they run as.
    #[must_use]
    pub fn command(&self, program: &str, dir: &Path) -> Command {
        let mut command = Command::new(self.folder.join(program));
        command.current_dir(dir).env("LC_ALL", "C");
        for name in [
            "PGHOST",
            "PGPORT",
            "PGUSER",
            "PGDATABASE",
            "PGDATA",
            "PGOPTIONS",
        ] {
            command.env_remove(name);
        }
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Makes `dir` the folder of that user, and of nobody else.
    pub(super) fn give(&self, dir: &Path) -> Result<()> {
        if let Some((uid, gid)) = self.user {
            chown(dir, Some(uid), Some(gid)).map_err(at_path(dir))?;
        }
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)).map_err(at_path(dir))
    }
}

/// Runs a program to its end; what it printed.
pub(super) fn run(command: &mut Command) -> Result<String> {
    let tool = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(at(tool.clone()))?;
    if !output.status.success() {
        return Err(Error::Tool {
            tool,
            message: String::from_utf8_lossy(&output.stderr).into_owned(),
        });
    }
    String::from_utf8(output.stdout).map_err(|e| Error::Tool {
        tool,
        message: e.to_string(),
    })
}

/// Sends a signal; processes that have ended are no trouble.
pub(super) fn signal(name: &str, pids: &[u32]) {
    if pids.is_empty() {
        return;
    }
    let pids = pids.iter().map(u32::to_string);
    let _ = Command::new("kill")
        .arg(format!("-{name}"))
        .args(pids)
        .stderr(std::process::Stdio::null())
        .status();
}

/// Processes whose parent is `parent`.
pub(super) fn children(parent: u32) -> Vec<u32> {
    let wanted = parent.to_string();
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            // The name, in parentheses, may hold anything; state and parent follow it.
            let after_name = stat.rsplit_once(") ")?.1;
            (after_name.split(' ').nth(1) == Some(wanted.as_str())).then_some(pid)
        })
        .collect()
}

/// Whether a process is there and is more than a zombie.
pub(super) fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, after_name)| !after_name.starts_with(['Z', 'X']))
}

/// Debian's package makes a user for it; elsewhere any user without rights will do.
fn unprivileged() -> Result<(u32, u32)> {
    let users = std::fs::read_to_string("/etc/passwd").map_err(at("/etc/passwd"))?;
    ["postgres", "nobody"]
        .into_iter()
        .find_map(|wanted| {
            let line = users
                .lines()
                .find(|l| l.split(':').next() == Some(wanted))?;
            let mut fields = line.split(':').skip(2);
            Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
        })
        .ok_or(Error::Missing {
            tool: "a user for PostgreSQL, which refuses to run as root",
            install: "adduser --system postgres",
        })
}
