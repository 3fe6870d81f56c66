//! Workers that a service manager starts, under a user of their own (`mode = "connect"`): doctor starts
//! none and asks those there are, of the user that is named.

use super::Said;
use crate::modules::existing::Hsm;
use crate::support::{Stack, program, signal, text};
use countersign_testkit::programs::wait_until;
use countersign_testkit::softhsm;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A worker as its unit starts it. It ends with the test.
struct Worker(Child);

impl Worker {
    fn start(config: &Path, state: &Path, socket: &Path) -> Self {
        let child = Command::new(program("countersign-hsm-worker"))
            .arg("serve")
            .arg("--state")
            .arg(state)
            .arg("--config")
            .arg(config)
            .arg("--socket")
            .arg(socket)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the worker runs");
        let worker = Self(child);
        wait_until("the worker's socket", Duration::from_secs(60), || {
            socket.exists()
        })
        .expect("a socket");
        worker
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn workers_of_a_service_manager_are_asked_and_none_is_started() {
    let mut stack = Stack::bare();
    assert_eq!(stack.stop_server(), Some(0));
    let hsm = Hsm::new(&stack);
    hsm.token("alone");
    let sockets = stack.folder("sockets");
    let state = stack.path("operator/worker");
    let dir = stack.path("operator");
    let uid = own_uid();
    let plain = std::fs::read_to_string(stack.config()).expect("configuration");
    let configure = |user: u32, tokens: &str| {
        let connect = format!(
            "[hsm]\nmode = \"connect\"\nsocket_dir = \"{}\"\nworker_user = \"{user}\"\n",
            text(&sockets)
        );
        let whole = plain.replacen("[hsm]\n", &connect, 1) + "\n" + tokens;
        std::fs::write(stack.config(), whole).expect("configuration");
    };
    let look = || Said::of(&stack.config());
    let asked = ["module", "worker", "token", "sandbox"];

    configure(uid, "");
    let said = look();
    said.is("worker", "warn", "no [[token]] is configured");
    said.only(&["sandbox"]);

    // The unit does not run. Nothing is started in its place, and so nothing is known.
    let token = hsm.section("alone", "[\"acme\"]");
    configure(uid, &token);
    let said = look();
    said.is("worker", "fail", "token-alone.sock");
    for name in ["module", "token", "sandbox"] {
        said.is(name, "unknown", "no worker");
    }
    said.only(&asked);
    assert!(!state.exists());

    let config = dir.join("worker.toml");
    let module = text(&softhsm::module().expect("SoftHSM"));
    let dir = text(&dir);
    let worker = format!(
        "module = \"{module}\"\nprofile = \"softhsm2\"\nthreads = 1\n\n\
         [token]\nlabel = \"alone\"\npin_file = \"{dir}/pin\"\nfiles = [\"{dir}\"]\n\n\
         [environment]\nSOFTHSM2_CONF = \"{dir}/softhsm2.conf\"\n"
    );
    std::fs::write(&config, worker).expect("configuration");
    let socket = sockets.join("token-alone.sock");
    let worker = Worker::start(&config, &state, &socket);
    let said = look();
    said.only(&[]);
    said.is("worker", "ok", &format!("process {}", worker.0.id()));
    said.is("token", "ok", "the PIN is right");
    said.is("module", "ok", "loaded");

    // Who serves the socket is what the kernel says.
    configure(uid + 1, &token);
    let said = look();
    let words = format!("user {uid} serves it, not the workers' user {}", uid + 1);
    said.is("worker", "fail", &words);
    said.only(&asked);
    configure(uid, &token);

    // It takes connections, and hangs.
    signal(worker.0.id(), "STOP");
    let said = look();
    signal(worker.0.id(), "CONT");
    said.is("worker", "fail", "does not say hello");
    said.only(&asked);
    look().only(&[]);

    // It is gone, and its socket is still there.
    drop(worker);
    let said = look();
    said.is("worker", "fail", "none answers");
    said.only(&asked);
}

fn own_uid() -> u32 {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").expect("our own").uid()
}
