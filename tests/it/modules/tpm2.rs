//! tpm2-pkcs11 on a software TPM: a PKCS#11 module that nobody here wrote.

use super::{audit, configure, secret, sign_and_verify, wait_for};
use crate::support::{Stack, text};
use countersign_testkit::programs::wait_until;
use countersign_testkit::tpm::{self, LABEL, PIN, SoftwareTpm};
use std::path::Path;
use std::time::Duration;

/// `None`, and loudly, where the programs are not installed.
fn start(stack: &Stack) -> Option<SoftwareTpm> {
    let missing = tpm::missing();
    if !missing.is_empty() {
        eprintln!(
            "SKIPPED: no second PKCS#11 module was tested: {missing:?} missing (scripts/need.sh test)"
        );
        return None;
    }
    let tpm = SoftwareTpm::start(&stack.folder("tpm"), stack.log("swtpm").into());
    Some(tpm.unwrap_or_else(|e| panic!("{e}")))
}

/// `[[token]]` for it, of these tenants.
pub fn section(tpm: &SoftwareTpm, label: &str, profile: &Path, tenants: &[&str]) -> String {
    let environment: Vec<_> = tpm
        .environment()
        .into_iter()
        .map(|(name, value)| format!("{name} = \"{value}\""))
        .collect();
    format!(
        "[[token]]\nlabel = \"{label}\"\nmodule = \"{}\"\nprofile = \"{}\"\n\
         pin_file = \"{}\"\ntenants = {tenants:?}\n\
         environment = {{ {}, TSS2_LOG = \"all+NONE\" }}\n",
        tpm.module(),
        text(profile),
        text(&tpm.dir().join("pin")),
        environment.join(", "),
    )
}

#[test]
fn a_module_that_nobody_here_wrote_signs_end_to_end() {
    let mut stack = Stack::bare();
    let Some(tpm) = start(&stack) else {
        return;
    };
    secret(&tpm.dir().join("pin"), PIN);
    let profile = tpm.profile().expect("profile");
    configure(&stack, &section(&tpm, LABEL, &profile, &["tpm"]));
    stack.start_ca(&[]);
    wait_for(&stack, "up", 1);
    let admin = stack.tenant("tpm");
    let key = stack.signer(&admin, "tpm/release", "ec-p256");
    sign_and_verify(&stack, "tpm", "first.bin");

    // What is known of the key: the module's word, and the TPM's own.
    let shown = admin.json(&["keys", "show", &key]);
    let facts = &shown["facts"];
    assert_eq!(facts["profile"], "tpm");
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
    secret(&tpm.dir().join("pin"), "not-the-pin");
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
    secret(&tpm.dir().join("pin"), PIN);
    std::fs::remove_file(latch).expect("the operator's remedy");
    tpm.flush();
    stack.start_server(&[]);
    sign_and_verify(&stack, "tpm", "fourth.bin");
    stack.stop_server();
}
