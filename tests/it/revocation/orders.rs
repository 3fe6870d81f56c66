//! Orders at a CA that takes its time: nobody waits, countersignd is restarted, and the certificate is
//! installed.

use super::{configure, show, sign, until};
use crate::support::leaves::of_type;
use crate::support::openssl::foreign_request;
use crate::support::{REPOSITORY, SUBJECT, Stack, text};
use countersign_testkit::programs::ReadyProgram;
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

#[test]
fn an_order_that_nobody_waits_for_ends_installed_after_a_restart() {
    let mut stack = Stack::start();
    let folder = stack.folder("relay");
    let mode = folder.join("mode");
    let set_mode = |word: &str| {
        let new = folder.join("mode.new");
        std::fs::write(&new, word)
            .and_then(|()| std::fs::rename(&new, &mode))
            .expect("mode");
    };
    set_mode("slow");
    let tls = stack.people.state().tls();
    let mut relay = Command::new("python3");
    relay
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("it/support/relay_ca.py"))
        .args([tls.certificate_file(), tls.key_file(), mode.clone()])
        .arg(foreign_request(&folder))
        .arg(format!(
            "ca={},{}",
            stack.ca_says("listening"),
            stack.ca_says("ca_file")
        ))
        .stderr(stack.log("relay"));
    let relay = ReadyProgram::start(relay, Duration::from_secs(60)).expect("relay");
    stack.stop_server();
    configure(
        &stack,
        &format!(
            "\n[[cas]]\nname = \"relay\"\nurl = \"{}\"\nca_file = \"{}\"\ntakes_software = true\n",
            relay.text("listening"),
            text(&stack.people.ca_file())
        ),
    );
    stack.start_server(&[]);
    let admin = stack.tenant("waiting");
    let key = stack.key(&admin, "waiting/release", "ec-p256");
    stack.grant(&admin, "waiting/release", &["cms"]);
    let out = admin.ends(
        5,
        &[
            &["certificate", "order", &key, "--ca", "relay", "--wait", "1"][..],
            &SUBJECT,
        ]
        .concat(),
    );
    assert!(out.says("certificate wait"), "{out:?}");
    let order = |of: &Value| of["orders"][0].clone();
    assert_eq!(order(&show(&admin, &key))["state"], "submitted");
    stack.kill_server();
    set_mode("pass");
    stack.start_server(&[]);
    until("the certificate", || {
        show(&admin, &key)["state"] == "active"
    });
    assert_eq!(order(&show(&admin, &key))["state"], "installed");
    let token = stack.service_token("waiting", REPOSITORY);
    assert_eq!(sign(&stack.raw(), "waiting/release", &token).status, 200);
    // Asked for by a person, installed by nobody in particular.
    let leaves = admin.tenant_leaves(&stack.path("waiting-log"));
    for (kind, by) in [
        ("certificate-requested", true),
        ("certificate-installed", false),
    ] {
        let found = of_type(&leaves, kind);
        assert_eq!(found.len(), 1, "{kind}");
        assert_eq!(found[0]["by"].is_string(), by, "{kind}: {}", found[0]);
    }
    // Who waits now finds it done.
    let id = order(&show(&admin, &key))["id"].clone();
    admin.ok(&["certificate", "wait", id.as_str().expect("id")]);
}
