//! A key whose origin is proved: made in a TPM through PKCS#11, certified by that TPM for one order,
//! believed by a CA that never saw our service, and signed with. The TPM is a program, and the token's
//! profile is told to take it for a chip: its assurance is none, the way is that of a chip.

use super::tpm2::section;
use super::{audit, configure, secret, sign_and_verify_under, wait_for};
use crate::support::cli::Cli;
use crate::support::leaves::of_type;
use crate::support::{SUBJECT, Stack, program, text};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_testkit::programs::ReadyProgram;
use countersign_testkit::tpm::{self, LABEL, PIN, SoftwareTpm};
use countersign_x509::csr::ParsedCsr;
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// Name of the CA that asks for proof, as its statements' audience too.
const STRICT: &str = "strict-ca.test";

/// A TPM behind a resource manager, as there is before a chip. `None`, and loudly, where it cannot be.
pub(super) fn start(stack: &Stack) -> Option<SoftwareTpm> {
    let mut missing = tpm::missing();
    missing.extend(tpm::missing_manager());
    if !worker_speaks_tpm() {
        missing.push("libtss2-dev when the worker was built (feature `tpm`)");
    }
    if !missing.is_empty() {
        eprintln!(
            "SKIPPED: no key's origin was proved: {missing:?} missing (scripts/need.sh test)"
        );
        return None;
    }
    let mut tpm = SoftwareTpm::start(&stack.folder("tpm"), stack.log("swtpm").into())
        .unwrap_or_else(|e| panic!("{e}"));
    tpm.manage(stack.log("abrmd").into())
        .unwrap_or_else(|e| panic!("{e}"));
    secret(&tpm.dir().join("pin"), PIN);
    Some(tpm)
}

/// Whether the worker that was built has the adapter.
fn worker_speaks_tpm() -> bool {
    let mut worker = Command::new(program("countersign-hsm-worker"));
    let said = worker.arg("--version").output();
    said.is_ok_and(|out| String::from_utf8_lossy(&out.stdout).contains("tpm2"))
}

/// Starts a CA that takes no key without proof, believes TPMs of this maker, and becomes the connector
/// `strict`. Gives its file with the CA for attestation keys.
pub(super) fn start_strict_ca(stack: &mut Stack, tpm: &SoftwareTpm) -> (ReadyProgram, PathBuf) {
    let mut command = stack.ca_command(STRICT, "strict");
    command.arg("--require-device-evidence");
    for certificate in tpm.maker() {
        command.arg("--trust-ek-root").arg(certificate);
    }
    command.stderr(stack.log("strict-ca"));
    let ca = ReadyProgram::start(command, Duration::from_secs(60)).expect("the strict CA");
    let section = format!(
        "\n[[cas]]\nname = \"strict\"\nurl = \"{}\"\nca_file = \"{}\"\n",
        ca.text("listening"),
        ca.text("ca_file"),
    );
    append(stack, &section);
    let attestation_ca = PathBuf::from(ca.text("attestation_ca"));
    (ca, attestation_ca)
}

pub(super) fn append(stack: &Stack, section: &str) {
    let path = stack.config();
    let old = std::fs::read_to_string(&path).expect("configuration");
    std::fs::write(&path, old + section).expect("configuration");
}

pub(super) fn restart(stack: &mut Stack) {
    stack.stop_server();
    stack.start_server(&[]);
}

pub(super) fn order(admin: &Cli, key: &str, ca: &str, code: i32) -> Value {
    let order = ["--json", "certificate", "order", key, "--ca", ca];
    let out = admin.ends(code, &[&order[..], &SUBJECT].concat());
    serde_json::from_str(&out.stdout).unwrap_or_else(|e| panic!("{e}: {out:?}"))
}

fn serial_of(admin: &Cli, key: &str) -> String {
    let shown = admin.json(&["keys", "show", key]);
    let serial = shown["certificate"]["serial"].as_str();
    serial.expect("serial").to_owned()
}

/// Keys in devices under several subscribers, as the operator is told.
fn shared(stack: &Stack) -> Vec<Value> {
    let said = stack.operator().json(&["admin", "devices"]);
    said.as_array().expect("rows").clone()
}

/// What the strict CA was told of it with a certificate that it issued.
fn stated(stack: &Stack, serial: &str) -> String {
    let path = stack
        .path("strict/reports")
        .join(serial)
        .join("result.json");
    let result: Value =
        serde_json::from_slice(&std::fs::read(path).expect("result")).expect("JSON");
    let claims = result["claims"].as_array().expect("claims");
    let claim = claims
        .iter()
        .find(|c| c["name"] == "device-under-other-subscribers");
    let claim = claim.unwrap_or_else(|| panic!("{claims:#?}"));
    claim["value"].as_str().expect("text").to_owned()
}

#[test]
fn a_key_whose_origin_is_proved_beside_one_that_says_software() {
    let mut stack = Stack::bare();
    let Some(tpm) = start(&stack) else {
        return;
    };
    eprintln!("the token's profile takes a software TPM for a chip: assurance none, for this test");
    let profile = tpm.profile_of_a_chip().expect("profile");
    tpm.add_token("second").expect("a second token");
    let sections = [(LABEL, "proved"), ("second", "second")]
        .map(|(label, tenant)| section(&tpm, label, &profile, &[tenant]));
    configure(&stack, &sections.concat());
    stack.start_ca(&[]);
    let (strict, attestation_ca) = start_strict_ca(&mut stack, &tpm);
    restart(&mut stack);
    wait_for(&stack, "up", 2);
    let proved = stack.tenant("proved");
    let claimed = stack.tenant("claimed");

    // A key in a software token: the CA that asks for nothing takes it, the strict one is not even asked.
    let software = stack.signer(&claimed, "claimed/release", "ec-p256");
    let said = order(&claimed, &software, "strict", 3);
    assert!(said.to_string().contains("software-key"), "{said}");

    // A key in the TPM. The service does not know the CA's CA for attestation keys yet: what the TPM
    // says is worth nothing, and nothing has changed.
    proved.ok(&[
        "policy",
        "set",
        "--require",
        "fresh",
        "--require",
        "sign-only",
    ]);
    let key = stack.key(&proved, "proved/release", "ec-p256");
    let said = order(&proved, &key, "strict", 3);
    assert_eq!(said["error"]["code"], "appraisal-refused", "{said}");
    assert!(said.to_string().contains("tpm-ak-chain"), "{said}");
    let show = ["keys", "evidence", "show", key.as_str()];
    assert_eq!(proved.json(&show)["files"], serde_json::json!([]));
    // At a CA without such steps there is nothing fresh to be had.
    let said = order(&proved, &key, "demo", 3);
    assert_eq!(said["error"]["code"], "appraisal-refused", "{said}");

    append(
        &stack,
        &format!("\n[attestation]\nattestation_key_cas = [{attestation_ca:?}]\n"),
    );
    restart(&mut stack);
    wait_for(&stack, "up", 3);
    let placed = order(&proved, &key, "strict", 0);
    assert_eq!(placed["state"], "installed", "{placed}");
    let facts = &proved.json(&["keys", "show", &key])["facts"];
    assert_eq!(facts["software"], false, "{facts}");
    let kept = proved.json(&show);
    assert_eq!(kept["result"]["verdict"], "accept");
    assert_eq!(kept["result"]["formats"], serde_json::json!(["tpm2"]));

    // A build is signed with it, and its log says all that was done.
    stack.grant(&proved, "proved/release", &["authenticode", "cms"]);
    let roots = strict.text("roots");
    sign_and_verify_under(&stack, "proved", "first.bin", roots);
    audit(&stack, &proved, "proved", &key);
    let leaves = proved.tenant_leaves(&stack.path("proved/tenant-log"));
    let added = of_type(&leaves, "evidence-added");
    assert_eq!(added.len(), 1, "{leaves:#?}");
    assert_eq!(added[0]["key"], key.as_str());

    // What the CA filed is enough for anybody: the request, with all evidence inside, says it again.
    let serial = serial_of(&proved, &key);
    let filed = stack.path("strict/reports").join(&serial);
    let record: Value =
        serde_json::from_slice(&std::fs::read(filed.join("record.json")).expect("record"))
            .expect("JSON");
    assert!(record["attestation_key"].is_object(), "{record}");
    let request = filed.join("request.csr");
    let csr = ParsedCsr::parse(&std::fs::read(&request).expect("request")).expect("request");
    let spki = proved.json(&["keys", "show", &key])["spki"].clone();
    assert_eq!(
        STANDARD.encode(csr.public_key().spki_der()),
        spki.as_str().expect("spki")
    );
    let nonce = STANDARD.decode(kept["nonce"].as_str().expect("nonce"));
    let nonce: String = nonce
        .expect("base64")
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let anchors = text(&attestation_ca);
    let (request, other) = (text(&request), "00".repeat(16));
    let verify = |nonce: &str, code| {
        let args = ["attestation", "verify", "--csr", &request, "--nonce", nonce];
        let demands = ["--require", "fresh", "--require", "sign-only"];
        let trust = ["--trust-anchors", &anchors];
        stack
            .cli("somebody")
            .ends(code, &[&args[..], &demands, &trust].concat())
    };
    assert!(verify(&nonce, 0).says("ACCEPT"));
    assert!(verify(&other, 1).says("REJECT"));

    // The next order has evidence of its own: another nonce, the same key and device.
    order(&proved, &key, "strict", 0);
    let again = proved.json(&show);
    assert_ne!(again["nonce"], kept["nonce"]);
    sign_and_verify_under(&stack, "proved", "second.bin", roots);
    assert_eq!(
        shared(&stack),
        Vec::<Value>::new(),
        "one subscriber, one TPM"
    );
    assert_eq!(stated(&stack, &serial), "false");

    // Another subscriber with a token of its own in the same TPM: the operator is told whose, the CA that it
    // is so, and the subscriber gets what it ordered.
    let second = stack.tenant("second");
    let other = stack.key(&second, "second/release", "ec-p256");
    order(&second, &other, "strict", 0);
    let told = shared(&stack);
    assert_eq!(told.len(), 2, "{told:#?}");
    assert_eq!(told[0]["device"], told[1]["device"]);
    for (row, tenant, key) in [(&told[0], "proved", &key), (&told[1], "second", &other)] {
        assert_eq!(
            (&row["tenant"], &row["key"]),
            (&tenant.into(), &key.as_str().into())
        );
    }
    assert_eq!(stated(&stack, &serial_of(&second, &other)), "true");
    stack.stop_server();
    drop(strict);
}
