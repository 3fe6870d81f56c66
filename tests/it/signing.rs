//! The main job: a job with nothing but its platform's token signs, and strangers' tools agree.

use crate::support::{Stack, copy_exe, text};
use std::process::Command;

#[test]
fn a_job_signs_a_windows_executable_that_osslsigncode_accepts() {
    let stack = Stack::shared();
    let admin = stack.tenant("sign-pe");
    stack.signer(&admin, "sign-pe/release", "ec-p256");
    let folder = stack.folder("sign-pe");
    let exe = copy_exe(&folder, "app.exe", "t64.exe");
    stack
        .job("sign-pe-job", crate::support::REPOSITORY)
        .ok(&["sign", "--signer", "sign-pe/release", "--timestamp", stack.tsa.url(), &text(&exe)]);
    let out = Command::new("osslsigncode")
        .args(["verify", "-CAfile", &stack.ca_roots(), "-TSA-CAfile", &text(&stack.tsa.root_file())])
        .arg(&exe)
        .output()
        .expect("osslsigncode runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
}
