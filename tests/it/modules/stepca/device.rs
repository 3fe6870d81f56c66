//! A key in a TPM, certified by that TPM, believed by another maker's CA: ACME with device-attest-01.

use super::super::proved::{append, order, restart, start as start_tpm, start_strict_ca};
use super::super::tpm2::section;
use super::super::{audit, configure, sign_and_verify_under, wait_for};
use super::start;
use crate::support::{Stack, text};
use countersign_testkit::tpm::LABEL;

#[test]
fn a_ca_that_nobody_here_wrote_believes_the_tpm() {
    let mut stack = Stack::bare();
    if super::installed().is_none() {
        return;
    }
    let Some(tpm) = start_tpm(&stack) else {
        return;
    };
    eprintln!("the token's profile takes a software TPM for a chip: assurance none, for this test");
    let profile = tpm.profile_of_a_chip().expect("profile");
    configure(&stack, &section(&tpm, LABEL, &profile, &["proved"]));
    let (strict, attestation_ca) = start_strict_ca(&mut stack, &tpm);
    let roots = std::fs::read_to_string(&attestation_ca).expect("attestation CA");
    let Some(step) = start(&stack, &roots) else {
        return;
    };
    append(&stack, &step.section("step", "strict"));
    append(
        &stack,
        &format!("\n[attestation]\nattestation_key_cas = [{attestation_ca:?}]\n"),
    );
    restart(&mut stack);
    wait_for(&stack, "up", 1);
    let proved = stack.tenant("proved");
    let key = stack.key(&proved, "proved/release", "ec-p256");

    let placed = order(&proved, &key, "step", 0);
    assert_eq!(placed["state"], "installed", "{placed}");
    let kept = proved.json(&["keys", "evidence", "show", &key]);
    assert_eq!(kept["result"]["verdict"], "accept");

    // The account is a file that nobody else reads; the key signs, and the CA's list was asked.
    let account = stack.path("service/data/acme-step.json");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(&account).expect("account").permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    stack.grant(&proved, "proved/release", &["authenticode", "cms"]);
    sign_and_verify_under(&stack, "proved", "first.bin", &text(&step.root()));
    audit(&stack, &proved, "proved", &key);

    // After a restart the account is the same, and the next order has a nonce of its own.
    let before = std::fs::read(&account).expect("account");
    restart(&mut stack);
    wait_for(&stack, "up", 1);
    order(&proved, &key, "step", 0);
    assert_eq!(std::fs::read(&account).expect("account"), before);
    let again = proved.json(&["keys", "evidence", "show", &key]);
    assert_ne!(again["nonce"], kept["nonce"]);
    stack.stop_server();
    drop((strict, step));
}
