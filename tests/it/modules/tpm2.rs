//! tpm2-pkcs11 on a software TPM: a PKCS#11 module that nobody here wrote.

use super::{audit, configure, secret, sign_and_verify, wait_for};
use crate::support::{Stack, text};
use countersign_testkit::programs::wait_until;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const MODULES: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/libtpm2_pkcs11.so.1",
    "/usr/lib/aarch64-linux-gnu/libtpm2_pkcs11.so.1",
    "/usr/lib64/pkcs11/libtpm2_pkcs11.so",
    "/usr/lib/libtpm2_pkcs11.so.1",
];
const PROGRAMS: [&str; 5] = [
    "swtpm",
    "swtpm_setup",
    "tpm2_flushcontext",
    "tpm2_dictionarylockout",
    "pkcs11-tool",
];
const PIN: &str = "user-pin-1234";

/// A software TPM with a token in it.
struct Tpm {
    dir: PathBuf,
    port: u16,
    module: &'static str,
    swtpm: Child,
}

impl Tpm {
    /// `None`, and loudly, where the programs are not installed.
    fn start(stack: &Stack) -> Option<Self> {
        let missing: Vec<_> = PROGRAMS
            .into_iter()
            .filter(|p| {
                !Command::new("sh")
                    .args(["-c", &format!("command -v {p} >/dev/null")])
                    .status()
                    .is_ok_and(|s| s.success())
            })
            .collect();
        let module = MODULES
            .into_iter()
            .find(|m| std::path::Path::new(m).exists());
        let (true, Some(module)) = (missing.is_empty(), module) else {
            eprintln!(
                "SKIPPED: no second PKCS#11 module was tested: {missing:?} or libtpm2_pkcs11 is missing \
                 (scripts/need.sh test)"
            );
            return None;
        };
        let dir = stack.folder("tpm");
        for sub in ["state", "store"] {
            std::fs::create_dir(dir.join(sub)).expect("folder");
        }
        let port = two_free_ports();
        ran(Command::new("swtpm_setup")
            .args(["--tpm2", "--lock-nvram", "--tpm-state"])
            .arg(dir.join("state"))
            .arg("--logfile")
            .arg(dir.join("setup.log")));
        let swtpm = Command::new("swtpm")
            .args(["socket", "--tpm2", "--tpmstate"])
            .arg(format!("dir={}", text(&dir.join("state"))))
            .arg("--server")
            .arg(format!("type=tcp,bindaddr=127.0.0.1,port={port}"))
            .arg("--ctrl")
            .arg(format!("type=tcp,bindaddr=127.0.0.1,port={}", port + 1))
            .args(["--flags", "not-need-init,startup-clear"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stack.log("swtpm"))
            .spawn()
            .expect("swtpm starts");
        let tpm = Self {
            dir,
            port,
            module,
            swtpm,
        };
        wait_until("swtpm", Duration::from_secs(20), || {
            tpm.tool("tpm2_flushcontext", &["-t"])
                .status()
                .is_ok_and(|s| s.success())
        })
        .expect("swtpm answers");
        // A wrong PIN, and a swtpm that is killed, count: three of them lock a TPM by default.
        ran(&mut tpm.tool(
            "tpm2_dictionarylockout",
            &[
                "--setup-parameters",
                "--max-tries=1000",
                "--recovery-time=1",
                "--lockout-recovery-time=1",
            ],
        ));
        let so = ["--so-pin", "so-pin-1234"];
        ran(tpm
            .tool("pkcs11-tool", &["--module", module, "--init-token"])
            .args(["--slot-index", "0", "--label", "codesign"])
            .args(so));
        ran(tpm
            .tool(
                "pkcs11-tool",
                &["--module", module, "--login", "--init-pin"],
            )
            .args([
                "--token-label",
                "codesign",
                "--login-type",
                "so",
                "--pin",
                PIN,
            ])
            .args(so));
        tpm.flush();
        Some(tpm)
    }

    fn environment(&self) -> [(&'static str, String); 2] {
        let tcti = format!("swtpm:host=127.0.0.1,port={}", self.port);
        [
            ("TPM2_PKCS11_STORE", text(&self.dir.join("store"))),
            ("TPM2_PKCS11_TCTI", tcti),
        ]
    }

    fn tool(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(args)
            .env("TPM2TOOLS_TCTI", &self.environment()[1].1)
            .envs(self.environment())
            .env("TSS2_LOG", "all+NONE");
        command
    }

    /// There is no resource manager before this TPM: what a program leaves in it stays.
    fn flush(&self) {
        for what in ["-t", "-l", "-s"] {
            let _ = self.tool("tpm2_flushcontext", &[what]).output();
        }
    }

    /// The profile that comes with us, for a TPM that is reached by TCP.
    fn profile(&self) -> PathBuf {
        let shipped = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../hsm-config/tpm2-pkcs11/profile.toml");
        let profile = std::fs::read_to_string(shipped).expect("profile");
        let tcp = profile.replace("network = false", "network = true");
        assert_ne!(tcp, profile);
        let path = self.dir.join("profile.toml");
        std::fs::write(&path, tcp).expect("profile");
        path
    }

    fn section(&self) -> String {
        let [(store, at), (tcti, to)] = self.environment();
        format!(
            "[[token]]\nlabel = \"codesign\"\nmodule = \"{}\"\nprofile = \"{}\"\n\
             pin_file = \"{}\"\ntenants = [\"tpm\"]\n\
             environment = {{ {store} = \"{at}\", {tcti} = \"{to}\", TSS2_LOG = \"all+NONE\" }}\n",
            self.module,
            text(&self.profile()),
            text(&self.dir.join("pin")),
        )
    }
}

impl Drop for Tpm {
    fn drop(&mut self) {
        let _ = self.swtpm.kill();
        let _ = self.swtpm.wait();
    }
}

#[test]
fn a_module_that_nobody_here_wrote_signs_end_to_end() {
    let mut stack = Stack::bare();
    let Some(tpm) = Tpm::start(&stack) else {
        return;
    };
    secret(&tpm.dir.join("pin"), PIN);
    configure(&stack, &tpm.section());
    stack.start_ca(&[]);
    wait_for(&stack, "up", 1);
    let admin = stack.tenant("tpm");
    let key = stack.signer(&admin, "tpm/release", "ec-p256");
    sign_and_verify(&stack, "tpm", "first.bin");

    // What is known of the key: the module's word, and the TPM's own.
    let shown = admin.json(&["keys", "show", &key]);
    let facts = &shown["facts"];
    assert_eq!(facts["profile"], "tpm2-pkcs11");
    assert_eq!(facts["isolation"], "exclusive-token");
    assert_eq!(facts["binding_mac"], false);
    assert_eq!(facts["software"], true, "swtpm is no chip: {shown}");
    let read = |name: &str| {
        facts["attributes"]
            .as_array()
            .expect("attributes")
            .iter()
            .find(|a| a["attribute"] == name)
            .and_then(|a| a["seen"].as_str())
            .unwrap_or_default()
            .to_owned()
    };
    assert_eq!(read("CKA_EXTRACTABLE"), "false");
    assert_eq!(read("CKA_SENSITIVE"), "true");
    assert_eq!(read("TPMA_OBJECT"), "00040072");
    audit(&stack, &admin, "tpm", &key);

    // The service stops and starts; then the worker alone is killed.
    stack.stop_server();
    tpm.flush();
    stack.start_server(&[]);
    sign_and_verify(&stack, "tpm", "second.bin");
    for pid in stack.worker_pids() {
        crate::support::signal(pid, "KILL");
    }
    tpm.flush();
    wait_until("a new worker", Duration::from_secs(60), || {
        !stack.worker_pids().is_empty() && super::tokens(&stack, "up") == 1
    })
    .expect("a new worker");
    sign_and_verify(&stack, "tpm", "third.bin");
    audit(&stack, &admin, "tpm", &key);

    // A wrong PIN is tried once, and not again after a restart.
    secret(&tpm.dir.join("pin"), "not-the-pin");
    for _ in 0..2 {
        stack.stop_server();
        tpm.flush();
        stack.start_server(&[]);
        wait_for(&stack, "latched", 1);
    }
    assert_eq!(stack.server_log().matches("PIN latched").count(), 1);
    let latch = stack.path("service/data/tokens/token-codesign/pin-latched");
    assert_eq!(
        std::fs::read_to_string(&latch).expect("latch"),
        "CKR_PIN_INCORRECT"
    );
    stack.stop_server();
    secret(&tpm.dir.join("pin"), PIN);
    std::fs::remove_file(latch).expect("the operator's remedy");
    tpm.flush();
    stack.start_server(&[]);
    sign_and_verify(&stack, "tpm", "fourth.bin");
    stack.stop_server();
}

fn ran(command: &mut Command) {
    let out = command.output().expect("it runs");
    assert!(out.status.success(), "{command:?}: {out:?}");
}

/// swtpm's control port is the next one.
fn two_free_ports() -> u16 {
    for _ in 0..100 {
        let first = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = first.local_addr().expect("address").port();
        if port < 65_000 && std::net::TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return port;
        }
    }
    panic!("no two free ports");
}
