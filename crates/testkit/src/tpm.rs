//! A software TPM (swtpm) with a maker's certificate in it, and tpm2-pkcs11 above it: what a test needs to
//! run the code that is meant for a chip. Its assurance is none.

use crate::error::{Error, Result, at, at_path};
use crate::programs::{two_free_ports, wait_until};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

const MODULES: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/libtpm2_pkcs11.so.1",
    "/usr/lib/aarch64-linux-gnu/libtpm2_pkcs11.so.1",
    "/usr/lib64/pkcs11/libtpm2_pkcs11.so",
    "/usr/lib/libtpm2_pkcs11.so.1",
];
const PROGRAMS: [&str; 6] = [
    "swtpm",
    "swtpm_setup",
    "swtpm_localca",
    "tpm2_flushcontext",
    "tpm2_dictionarylockout",
    "pkcs11-tool",
];

/// And a resource manager before it.
const MANAGER: [&str; 2] = ["dbus-daemon", "tpm2-abrmd"];
const MANAGER_TCTI: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/libtss2-tcti-tabrmd.so.0",
    "/usr/lib/aarch64-linux-gnu/libtss2-tcti-tabrmd.so.0",
    "/usr/lib64/libtss2-tcti-tabrmd.so.0",
];

/// The label of its token.
pub const LABEL: &str = "codesign";
/// The token's user PIN.
pub const PIN: &str = "user-pin-1234";
const SO_PIN: &str = "so-pin-1234";
const TCTI: &str = "TPM2_PKCS11_TCTI";

/// A software TPM with a token in it. Killed on drop.
#[derive(Debug)]
pub struct SoftwareTpm {
    dir: PathBuf,
    port: u16,
    module: &'static str,
    /// The bus of its resource manager.
    bus: Option<String>,
    /// Ended from the last to the first.
    running: Vec<Child>,
}

/// What is not installed of what it needs; empty where it can be started.
#[must_use]
pub fn missing() -> Vec<&'static str> {
    let mut missing: Vec<_> = PROGRAMS
        .into_iter()
        .filter(|p| which(p).is_none())
        .collect();
    if module().is_none() {
        missing.push("libtpm2_pkcs11");
    }
    missing
}

/// What is not installed of what [`SoftwareTpm::manage`] needs besides.
#[must_use]
pub fn missing_manager() -> Vec<&'static str> {
    let mut missing: Vec<_> = MANAGER.into_iter().filter(|p| which(p).is_none()).collect();
    if !MANAGER_TCTI.iter().any(|path| Path::new(path).exists()) {
        missing.push("libtss2-tcti-tabrmd");
    }
    missing
}

fn module() -> Option<&'static str> {
    MODULES.into_iter().find(|m| Path::new(m).exists())
}

impl SoftwareTpm {
    /// Makes one in an empty folder: with endorsement keys (RSA-2048 and P-384) certified by a CA of its
    /// own, and a token [`LABEL`] with [`PIN`]. `log` takes what swtpm says.
    ///
    /// # Errors
    /// [`Error::Missing`] where a program is not installed, or what failed.
    pub fn start(dir: &Path, log: Stdio) -> Result<Self> {
        let (true, Some(module)) = (missing().is_empty(), module()) else {
            return Err(Error::Missing {
                tool: "a software TPM with tpm2-pkcs11",
                install: "scripts/need.sh test",
            });
        };
        for sub in ["state", "store", "ca"] {
            std::fs::create_dir(dir.join(sub)).map_err(at_path(dir))?;
        }
        manufacture(dir)?;
        let (swtpm, port) = listening(dir, log)?;
        let tpm = Self {
            dir: dir.to_path_buf(),
            port,
            module,
            bus: None,
            running: vec![swtpm],
        };
        // A wrong PIN, and a swtpm that is killed, count: three of them lock a TPM by default.
        ran(&mut tpm.tool(
            "tpm2_dictionarylockout",
            &[
                "--setup-parameters",
                "--max-tries=1000",
                "--recovery-time=1",
                "--lockout-recovery-time=1",
            ],
        ))?;
        tpm.token("0", LABEL)?;
        Ok(tpm)
    }

    /// One more token in the same TPM, with [`PIN`].
    ///
    /// # Errors
    /// What failed.
    pub fn add_token(&self, label: &str) -> Result<()> {
        // The first slot is [`LABEL`]'s; tpm2-pkcs11 has one empty slot after the last token.
        self.token("1", label)
    }

    fn token(&self, slot: &str, label: &str) -> Result<()> {
        let so = ["--so-pin", SO_PIN];
        ran(self
            .tool("pkcs11-tool", &["--module", self.module, "--init-token"])
            .args(["--slot-index", slot, "--label", label])
            .args(so))?;
        ran(self
            .tool("pkcs11-tool", &["--module", self.module, "--login"])
            .args(["--init-pin", "--token-label", label, "--login-type", "so"])
            .args(["--pin", PIN])
            .args(so))?;
        self.flush();
        Ok(())
    }

    /// Puts a resource manager before it, as the kernel's is before a chip: what a program leaves in it is
    /// cleared away when the program ends, and more than three objects fit. It has a bus of its own.
    ///
    /// # Errors
    /// What failed.
    pub fn manage(&mut self, log: Stdio) -> Result<()> {
        let bus = format!("unix:path={}/bus", self.dir.display());
        let name = |program: &str| which(program).unwrap_or_else(|| program.into());
        let daemon = Command::new(name("dbus-daemon"))
            .args(["--session", "--nofork", "--nopidfile", "--address"])
            .arg(&bus)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(at_path(Path::new("dbus-daemon")))?;
        self.running.push(daemon);
        let socket = self.dir.join("bus");
        wait_until("dbus-daemon", Duration::from_secs(60), || socket.exists())?;
        self.flush();
        let manager = Command::new(name("tpm2-abrmd"))
            .args(["--session", "--allow-root", "--tcti"])
            .arg(self.direct())
            .env("DBUS_SESSION_BUS_ADDRESS", &bus)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(at_path(Path::new("tpm2-abrmd")))?;
        self.running.push(manager);
        self.bus = Some(bus);
        wait_until("tpm2-abrmd", Duration::from_secs(60), || {
            self.tool("tpm2_getcap", &["properties-fixed"])
                .output()
                .is_ok_and(|out| out.status.success())
        })
    }

    /// Serves until SIGTERM or an interrupt, and ends its programs then.
    ///
    /// # Errors
    /// [`Error::Tool`] when one of them has ended by itself.
    pub fn serve(mut self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(at("tokio"))?;
        runtime.block_on(async {
            let mut term = signal(SignalKind::terminate()).map_err(at("SIGTERM"))?;
            let mut interrupt = signal(SignalKind::interrupt()).map_err(at("SIGINT"))?;
            let mut look = tokio::time::interval(Duration::from_millis(200));
            loop {
                tokio::select! {
                    _ = term.recv() => return Ok(()),
                    _ = interrupt.recv() => return Ok(()),
                    _ = look.tick() => {}
                }
                let runs = |child: &mut Child| matches!(child.try_wait(), Ok(None));
                if !self.running.iter_mut().all(runs) {
                    return Err(Error::Tool {
                        tool: "the software TPM".to_owned(),
                        message: "one of its programs ended".to_owned(),
                    });
                }
            }
        })
    }

    fn direct(&self) -> String {
        format!("swtpm:host=127.0.0.1,port={}", self.port)
    }

    /// The folder it was made in.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The PKCS#11 module.
    #[must_use]
    pub const fn module(&self) -> &'static str {
        self.module
    }

    /// What the module needs in its environment: the store, and the way to the TPM.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let mut all = vec![(
            "TPM2_PKCS11_STORE",
            self.dir.join("store").display().to_string(),
        )];
        match &self.bus {
            None => all.push((TCTI, self.direct())),
            Some(bus) => {
                all.push((TCTI, "tabrmd:bus_type=session".to_owned()));
                all.push(("DBUS_SESSION_BUS_ADDRESS", bus.clone()));
            }
        }
        all
    }

    /// The certificates of its maker's CA, the root first: PEM files.
    #[must_use]
    pub fn maker(&self) -> [PathBuf; 2] {
        let ca = self.dir.join("ca");
        [
            ca.join("swtpm-localca-rootca-cert.pem"),
            ca.join("issuercert.pem"),
        ]
    }

    /// A command that speaks to it.
    #[must_use]
    pub fn tool(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).env("TSS2_LOG", "all+NONE");
        for (name, value) in self.environment() {
            if name == TCTI {
                command.env("TPM2TOOLS_TCTI", &value);
            }
            command.env(name, value);
        }
        command
    }

    /// Without a resource manager what a program leaves in this TPM stays.
    pub fn flush(&self) {
        if self.bus.is_some() {
            return;
        }
        for what in ["-t", "-l", "-s"] {
            let _ = self.tool("tpm2_flushcontext", &[what]).output();
        }
    }

    /// The profile that comes with us; without a resource manager a copy of it, in the TPM's folder, for
    /// one that is reached by TCP.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::State`] if the profile's text is not as expected.
    pub fn profile(&self) -> Result<PathBuf> {
        let shipped =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../hsm-config/tpm/profile.toml");
        if self.bus.is_some() {
            return Ok(shipped);
        }
        let profile = std::fs::read_to_string(&shipped).map_err(at_path(&shipped))?;
        let tcp = profile.replace("network = false", "network = true");
        if tcp == profile {
            return Err(Error::State {
                path: shipped,
                message: "it does not say network = false".to_owned(),
            });
        }
        let path = self.dir.join("profile.toml");
        std::fs::write(&path, tcp).map_err(at_path(&path))?;
        Ok(path)
    }

    /// A profile that does not know a software TPM when it sees one: the token passes for a chip. With
    /// it the tests take the way of a key in hardware. **Its assurance is none**: never outside tests.
    ///
    /// # Errors
    /// As [`SoftwareTpm::profile`].
    pub fn profile_of_a_chip(&self) -> Result<PathBuf> {
        let profile = self.profile()?;
        let text = std::fs::read_to_string(&profile).map_err(at_path(&profile))?;
        let blind = text.replace("software_models = [\"SW TPM\"]\n", "");
        if blind == text {
            return Err(Error::State {
                path: profile,
                message: "it does not name software_models".to_owned(),
            });
        }
        let path = self.dir.join("profile-of-a-chip.toml");
        std::fs::write(&path, blind).map_err(at_path(&path))?;
        Ok(path)
    }
}

impl Drop for SoftwareTpm {
    fn drop(&mut self) {
        while let Some(mut child) = self.running.pop() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// By a CA in the folder, not the machine's.
fn manufacture(dir: &Path) -> Result<()> {
    let at = dir.display();
    let write = |name: &str, text: String| {
        let path = dir.join(name);
        std::fs::write(&path, text).map_err(at_path(&path))
    };
    write(
        "localca.conf",
        format!(
            "statedir = {at}/ca\nsigningkey = {at}/ca/signkey.pem\nissuercert = {at}/ca/issuercert.pem\n\
             certserial = {at}/ca/certserial\n"
        ),
    )?;
    write(
        "localca.options",
        "--platform-manufacturer Test\n--platform-version 1\n--platform-model Test\n".to_owned(),
    )?;
    write(
        "setup.conf",
        format!(
            "create_certs_tool = {}\ncreate_certs_tool_config = {at}/localca.conf\n\
             create_certs_tool_options = {at}/localca.options\nactive_pcr_banks = sha256\n",
            which("swtpm_localca").unwrap_or_default().display()
        ),
    )?;
    ran(Command::new("swtpm_setup")
        .args(["--tpm2", "--create-ek-cert", "--lock-nvram"])
        .args(["--vmid", "test-tpm", "--tpm-state"])
        .arg(dir.join("state"))
        .arg("--config")
        .arg(dir.join("setup.conf"))
        .arg("--logfile")
        .arg(dir.join("setup.log")))
}

fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Daemons are not on everybody's path.
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|folder| folder.join(program))
        .find(|p| p.is_file())
}

fn ran(command: &mut Command) -> Result<()> {
    let tool = command.get_program().to_string_lossy().into_owned();
    let out = command.output().map_err(at_path(Path::new(&tool)))?;
    if out.status.success() {
        return Ok(());
    }
    Err(Error::Tool {
        tool,
        message: format!(
            "{}{}",
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        ),
    })
}

/// swtpm on two ports that are its own. What is free now may be taken a moment later: then others.
fn listening(dir: &Path, log: Stdio) -> Result<(Child, u16)> {
    let mut log = Some(log);
    for _ in 0..10 {
        // Its control port is the next one.
        let port = two_free_ports()?;
        let mut swtpm = Command::new("swtpm")
            .args(["socket", "--tpm2", "--tpmstate"])
            .arg(format!("dir={}", dir.join("state").display()))
            .arg("--server")
            .arg(format!("type=tcp,bindaddr=127.0.0.1,port={port}"))
            .arg("--ctrl")
            .arg(format!(
                "type=tcp,bindaddr=127.0.0.1,port={}",
                port.saturating_add(1)
            ))
            .args(["--flags", "not-need-init,startup-clear"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.take().unwrap_or_else(Stdio::null))
            .spawn()
            .map_err(at_path(Path::new("swtpm")))?;
        let answers = || {
            let mut flush = Command::new("tpm2_flushcontext");
            flush.arg("-t").env("TSS2_LOG", "all+NONE");
            flush.env(
                "TPM2TOOLS_TCTI",
                format!("swtpm:host=127.0.0.1,port={port}"),
            );
            flush.output().is_ok_and(|out| out.status.success())
        };
        let mut ended = false;
        let up = wait_until("swtpm", Duration::from_secs(60), || {
            ended = !matches!(swtpm.try_wait(), Ok(None));
            ended || answers()
        });
        // Somebody else's, if ours has ended.
        if !ended && matches!(swtpm.try_wait(), Ok(None)) {
            return match up {
                Ok(()) => Ok((swtpm, port)),
                Err(e) => {
                    let _ = swtpm.kill();
                    let _ = swtpm.wait();
                    Err(e)
                }
            };
        }
    }
    Err(Error::Tool {
        tool: "swtpm".to_owned(),
        message: "it ends on all ports that were tried".to_owned(),
    })
}
