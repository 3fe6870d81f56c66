//! Tokens that the operator's HSM already has, through the whole service: SoftHSM's, and a module that
//! nobody here wrote.

pub mod existing;
mod profiles;
mod proved;
mod stepca;
mod tpm2;

use crate::support::judges::openssl_cms;
use crate::support::{REPOSITORY, Stack, text};
use countersign_testkit::programs::wait_until;
use std::path::Path;
use std::time::Duration;

/// Puts a section before the CAs of the configuration.
fn configure(stack: &Stack, section: &str) {
    let path = stack.config();
    let old = std::fs::read_to_string(&path).expect("configuration");
    std::fs::write(&path, format!("{}\n{section}", without_tokens(&old))).expect("configuration");
}

fn without_tokens(text: &str) -> &str {
    text.split("\n[[token]]").next().unwrap_or(text)
}

/// How many tokens are in this state.
fn tokens(stack: &Stack, state: &str) -> u64 {
    let answer = stack.curl("/readyz", "", &[]);
    let body: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    body["tokens"][state].as_u64().unwrap_or(0)
}

fn wait_for(stack: &Stack, state: &str, count: u64) {
    wait_until("a token", Duration::from_secs(60), || {
        tokens(stack, state) == count
    })
    .unwrap_or_else(|e| panic!("{count} tokens {state}: {e:?}\n{}", stack.server_log()));
}

/// A job signs a file; openssl verifies the signature.
fn sign_and_verify(stack: &Stack, tenant: &str, file: &str) {
    sign_and_verify_under(stack, tenant, file, &stack.ca_roots());
}

/// The same for a certificate below these roots.
fn sign_and_verify_under(stack: &Stack, tenant: &str, file: &str, roots: &str) {
    let folder = stack.folder(&format!("{tenant}/files"));
    let path = folder.join(file);
    std::fs::write(&path, format!("release of {tenant}: {file}")).expect("file");
    let job = stack.job(&format!("{tenant}-{file}-job"), REPOSITORY);
    let signer = format!("{tenant}/release");
    job.ok(&["sign", "--signer", &signer, &text(&path)]);
    let signature = folder.join(format!("{file}.p7s"));
    openssl_cms(&path, &signature, roots)
        .unwrap_or_else(|e| panic!("{}: {e}", signature.display()));
}

/// All logs of a tenant, downloaded and audited.
fn audit(stack: &Stack, admin: &crate::support::cli::Cli, tenant: &str, key: &str) {
    let logs = stack.path(&format!("{tenant}/logs"));
    admin.ok(&["log", "download", "--all", "--out", &text(&logs)]);
    admin.ok(&["log", "audit", &text(&logs.join(key))]);
}

/// Mode 0600.
fn secret(path: &Path, content: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, content).expect("secret");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("mode");
}
