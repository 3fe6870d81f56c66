//! From a key to its certificate, and every way that must not lead there: through the demo CA,
//! through somebody who changes what is on the way, with a CA that misbehaves, and by hand.

mod by_hand;
mod connectors;
mod decoders;
mod devices;
pub mod evidence;

use crate::support::cli::Cli;
use crate::support::openssl::foreign_request;
use crate::support::{REPOSITORY, SUBJECT, Stack, program, text};
use countersign_testkit::programs::ReadyProgram;
use countersign_x509::csr::ParsedCsr;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

const AUDIENCE: &str = "demo-ca.test";

/// A stack with more connectors than the demo CA's: `relay` (an attacker on the way to it), `hard`
/// (the demo CA, but not for software keys), `gone` (nobody there).
struct Scene {
    stack: Stack,
    mode: PathBuf,
    _programs: Vec<ReadyProgram>,
}

fn scene() -> &'static Scene {
    static SCENE: OnceLock<Scene> = OnceLock::new();
    SCENE.get_or_init(|| {
        let mut stack = Stack::start();
        let folder = stack.folder("relay");
        let (ca, ca_file) = (stack.ca_says("listening"), stack.ca_says("ca_file"));

        let mut late = Command::new(program("countersign-demo-ca"));
        late.args(["serve", "--audience", AUDIENCE, "--allow-software", "--order-lifetime", "1", "--state"])
            .arg(stack.path("ca-late"))
            .arg("--trust-service-key")
            .arg(stack.path("service-key.pem"))
            .stderr(stack.log("late-ca"));
        let late = ReadyProgram::start(late, Duration::from_secs(60)).expect("second CA");

        let mode = folder.join("mode");
        set_mode(&mode, "pass");
        let tls = stack.people.state().tls();
        let mut relay = Command::new("python3");
        relay
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("it/support/relay_ca.py"))
            .args([tls.certificate_file(), tls.key_file(), mode.clone()])
            .arg(foreign_request(&folder))
            .arg(format!("ca={ca},{ca_file}"))
            .arg(format!("late={},{}", late.text("listening"), late.text("ca_file")))
            .stderr(stack.log("relay"));
        let relay = ReadyProgram::start(relay, Duration::from_secs(60)).expect("relay");

        let people_ca = text(&stack.people.ca_file());
        let mut config = std::fs::read_to_string(stack.config()).expect("configuration");
        for (name, url, ca_file, software) in [
            ("relay", relay.text("listening"), people_ca.as_str(), true),
            ("hard", &ca, &ca_file, false),
            ("gone", "https://localhost:1", &people_ca, true),
        ] {
            config.push_str(&format!(
                "\n[[cas]]\nname = \"{name}\"\nurl = \"{url}\"\nca_file = \"{ca_file}\"\ntakes_software = {software}\n"
            ));
        }
        config.push_str(&evidence::trusted(&folder));
        std::fs::write(stack.config(), config).expect("configuration");
        stack.stop_server();
        stack.start_server(&[]);
        stack.end_with_the_tests(&[late.id(), relay.id()]);
        Scene { stack, mode, _programs: vec![late, relay] }
    })
}

fn set_mode(file: &Path, mode: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, mode)
        .and_then(|()| std::fs::rename(&new, file))
        .expect("mode");
}

/// Orders a certificate; how it ended and what `--json` said.
fn order(admin: &Cli, key: &str, ca: &str) -> (i32, Value) {
    let out = admin.run(
        &[
            &["--json", "certificate", "order", key, "--ca", ca][..],
            &SUBJECT,
        ]
        .concat(),
    );
    let said =
        serde_json::from_str(&out.stdout).unwrap_or_else(|e| panic!("not JSON ({e}): {out:?}"));
    (out.code, said)
}

fn reasons(said: &Value) -> Vec<&str> {
    said["error"]["reasons"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

fn state(admin: &Cli, key: &str) -> String {
    admin.json(&["keys", "show", key])["state"]
        .as_str()
        .expect("state")
        .to_owned()
}

/// The order asked for last, as the service keeps it.
fn last_order(admin: &Cli, key: &str) -> Value {
    admin.json(&["keys", "show", key])["orders"][0].clone()
}

/// `csr export` to a new folder.
fn export(admin: &Cli, key: &str, folder: &Path, more: &[&str]) -> Value {
    let out = text(folder);
    let mut args = vec!["csr", "export", key, "--out", &out];
    args.extend(SUBJECT);
    if !more.contains(&"--ca-audience") {
        args.extend(["--ca-audience", AUDIENCE]);
    }
    args.extend(more);
    admin.json(&args)
}

/// A job signs a small file; openssl accepts it under these roots.
fn signs(stack: &Stack, admin: &Cli, signer: &str, roots: &str) {
    stack.grant(admin, signer, &["cms"]);
    let name = signer.replace('/', "-");
    let file = stack.folder(&name).join("release.txt");
    std::fs::write(&file, "a release").expect("a file");
    stack
        .job(&format!("{name}-job"), REPOSITORY)
        .ok(&["sign", "--signer", signer, &text(&file)]);
    let judged = Command::new("openssl")
        .args([
            "cms", "-verify", "-binary", "-inform", "DER", "-purpose", "any", "-CAfile", roots,
            "-content",
        ])
        .arg(&file)
        .args(["-in", &format!("{}.p7s", text(&file)), "-out", "/dev/null"])
        .output()
        .expect("openssl runs");
    assert!(
        judged.status.success(),
        "{}",
        String::from_utf8_lossy(&judged.stderr)
    );
}

/// CSR and statement, DER.
fn read_export(folder: &Path) -> (Vec<u8>, Vec<u8>) {
    let pem = std::fs::read_to_string(folder.join("request.csr.pem")).expect("request");
    let csr = ParsedCsr::parse_pem(&pem)
        .expect("a request")
        .der()
        .to_vec();
    (
        csr,
        std::fs::read(folder.join("statement.der")).expect("statement"),
    )
}
